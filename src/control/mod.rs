//! Work outside the data path: checks of a configuration, the search for loaders and static menus,
//! and the firmware quirks that the server learns.

pub mod check;
pub mod examine;
pub mod load;
pub mod loaders;
pub mod quirks;
pub mod served;
pub mod static_menus;
