//! The names of all template variables.

/// The names of all variables, in the order of the documentation.
pub const VARIABLES: [&str; 11] = [
    "ip",
    "server",
    "http_port",
    "http",
    "subnet",
    "mac",
    "mac_dashed",
    "hostname",
    "uuid",
    "arch",
    "firmware",
];
