//! All that a template can name.

/// All that a template can name, in the order of the documentation.
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
