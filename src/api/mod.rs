//! What the admin socket answers: one file for each resource, and the form of each in JSON.

pub mod admin_socket;
pub mod backup;
pub mod checks;
pub mod configuration;
pub mod findings;
pub mod health;
pub mod leases;
pub mod loaders;
pub mod looks;
pub mod machine_list;
pub mod machines;
pub mod now;
pub mod quirks;
pub mod routes;
pub mod state;
pub mod status;
pub mod values;
pub mod walks;
