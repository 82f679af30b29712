//! Everything that is never on a packet's path: the store of leases, templates, loaders and menus that are found, limits that are learnt, checks.

pub mod admin;
pub mod check;
pub mod loaders;
pub mod quirks;
pub mod static_menus;
pub mod store;
pub mod templates;
