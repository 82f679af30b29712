//! Which machine boots what, and the text of the menus. Pure: names, facts and numbers in,
//! decisions and text out.

pub mod loader_choice;
pub mod loaders;
pub mod menu;
pub mod names;
pub mod pe;
pub mod quirks;
pub mod script;
pub mod static_menu;
