//! The admin API: one file for each resource, the types that server and commands share, and the
//! socket.

pub mod admin_socket;
pub mod backup;
pub mod checks;
pub mod configuration;
pub mod error;
pub mod extract;
pub mod health;
pub mod leases;
pub mod loaders;
pub mod looks;
pub mod machine;
pub mod machine_list;
pub mod now;
pub mod quirks;
pub mod reload;
pub mod router;
pub mod state;
pub mod status;
pub mod types;
pub mod values;
pub mod walks;
pub mod words;
