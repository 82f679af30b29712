//! Everything that is never on a packet's path: the store of leases, the rendering of templates.

pub mod admin;
pub mod store;
pub mod templates;
