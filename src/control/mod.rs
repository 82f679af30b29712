//! Everything that is never on a packet's path: the store of leases, the rendering of templates.

pub mod store;
pub mod templates;
