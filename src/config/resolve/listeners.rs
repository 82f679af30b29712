//! The DHCP sockets: interfaces of served subnets, interfaces for relays, or one address.

use super::values::{parse_text, read_interface, read_number};
use crate::config::file;
use crate::config::problem::ConfigComplaints;
use crate::config::settings::DhcpSettings;
use crate::dhcp::subnet::{AnsweringMode, Subnet};

const DHCP_PORT: u16 = 67;

/// Chooses the DHCP sockets: on the interfaces of served subnets, on those of `[server]` for
/// relays, or on one address.
pub(super) fn resolve_listeners(
    written: &file::DhcpTable,
    server: &file::ServerTable,
    subnets: &[Subnet],
    complaints: &mut ConfigComplaints<'_>,
) -> DhcpSettings {
    let allowed: Vec<String> =
        server.interfaces.iter().flatten().map(|name| read_interface(name, complaints)).collect();
    let address = written
        .listen_address
        .as_ref()
        .and_then(|text| parse_text(text, "an IPv4 address", complaints));

    // Subnets behind relays are reached by every interface of `[server]`.
    let served: Vec<&Subnet> =
        subnets.iter().filter(|subnet| subnet.mode == AnsweringMode::Server).collect();
    let mut interfaces: Vec<String> = Vec::new();
    for name in served.iter().filter_map(|subnet| subnet.interface.clone()) {
        if !interfaces.contains(&name) {
            interfaces.push(name);
        }
    }
    if served.iter().any(|subnet| subnet.relay) {
        for name in &allowed {
            if !interfaces.contains(name) {
                interfaces.push(name.clone());
            }
        }
    }

    if !allowed.is_empty() {
        for name in written.subnet.iter().flatten().filter_map(|subnet| subnet.interface.as_ref()) {
            if !allowed.contains(name.get_ref()) {
                let what =
                    format!("interface {:?} is not among [server] interfaces", name.get_ref());
                complaints.add(&name.span(), what, format!("it lists: {}", allowed.join(", ")));
            }
        }
    }
    if !served.is_empty() && interfaces.is_empty() && address.is_none() {
        let hint = "list the interfaces that relay agents reach in [server], or set \
                    `listen-address` in [dhcp]";
        complaints.add(
            &written.span,
            "these subnets are behind relay agents, and no interface is named",
            hint,
        );
    }

    let port = written
        .listen_port
        .as_ref()
        .and_then(|at| read_number(at, "listen-port", 1..=65_535, complaints));
    DhcpSettings {
        interfaces: if address.is_some() { Vec::new() } else { interfaces },
        listen_address: address.filter(|_| !served.is_empty()),
        listen_port: port.unwrap_or(DHCP_PORT),
    }
}
