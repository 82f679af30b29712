//! Everything that is never on a packet's path: loaders and menus that are found, limits that are
//! learnt, checks.

pub mod check;
pub mod examine;
pub mod load;
pub mod loaders;
pub mod quirks;
pub mod static_menus;
