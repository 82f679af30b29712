//! What the fuzzers run and `tests/corpus.rs` replays: for each target a function of bytes that
//! panics where a promise is broken.
#![allow(clippy::unwrap_used, clippy::cast_possible_truncation)]

mod config;
mod dhcp;
mod http;
mod menus;
mod names;
mod network;
mod tftp;

/// Panics where the product breaks a promise on this input.
pub(crate) type Target = fn(&[u8]);

/// Every target by its name, which is also the directory of its corpus.
pub(crate) const ALL: &[(&str, Target)] = &[
    ("config_file", config::file),
    ("dhcp_leases", dhcp::leases),
    ("dhcp_message", dhcp::message),
    ("http_connection", http::connection),
    ("http_range", http::range),
    ("http_request", http::request),
    ("menu_static", menus::written_by_hand),
    ("name_clean", names::clean),
    ("name_menu", names::menu),
    ("network_frame", network::frame),
    ("network_solicitation", network::solicitation),
    ("pe_head", menus::program),
    ("tftp_client", tftp::client),
    ("tftp_packet", tftp::packet),
    ("tftp_table", tftp::table),
];
