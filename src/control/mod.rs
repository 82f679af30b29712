//! Everything that is never on a packet's path: loaders and menus that are found, limits that are learnt, checks.

pub mod admin;
pub mod check;
pub mod loaders;
pub mod quirks;
pub mod static_menus;
