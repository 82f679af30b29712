//! The configuration that runs, as JSON.

use std::time::SystemTime;

use serde_json::{Value, json};

use super::admin_socket::Answer;
use crate::control::loaders;
use crate::dhcp::subnet::{ServedClients, Subnet, SubnetMode};
use crate::serve::overview::Overview;

/// What the current generation says. Nothing in it changes without the generation, so it has a tag:
/// the start of the process goes before the number, because numbers begin again with every start.
pub fn configuration(overview: &Overview) -> Answer {
    let generation = overview.generation();
    let snapshot = &generation.snapshot;
    let started =
        overview.started.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_millis();
    let boot: Value = loaders::list_boot_keys(&snapshot.dhcp.boot)
        .into_iter()
        .map(|(key, value)| (key.to_owned(), json!(value)))
        .collect();
    let entries = snapshot.menu.iter().flat_map(|menu| &menu.entries);
    let body = json!({
        "generation": generation.number,
        "root": overview.images.root().to_string_lossy(),
        "advertise": snapshot.dhcp.advertise,
        "http_port": snapshot.dhcp.http_port,
        "subnets": snapshot.dhcp.subnets.iter().map(subnet).collect::<Vec<_>>(),
        "boot": boot,
        "menu": entries.map(|entry| json!({ "label": entry.label,
            "kernel": entry.kernel })).collect::<Vec<_>>(),
    });
    Answer::ok(body).tagged(&format!("{started:x}-{}", generation.number))
}

fn subnet(subnet: &Subnet) -> Value {
    let pools: Vec<String> =
        subnet.pools.iter().map(|pool| format!("{}-{}", pool.first, pool.last)).collect();
    json!({
        "subnet": subnet.network.to_string(),
        "interface": subnet.interface,
        "relay": subnet.relay,
        "shared_network": subnet.shared_network,
        "mode": mode(subnet.mode),
        "clients": match subnet.clients { ServedClients::Pxe => "pxe", ServedClients::Known => "known",
            ServedClients::Any => "any" },
        "pools": pools,
        "reservations": subnet.reservations.len(),
        "install_by_default": subnet.install_by_default,
    })
}

pub fn mode(mode: SubnetMode) -> &'static str {
    match mode {
        SubnetMode::Server => "server",
        SubnetMode::Off => "off",
    }
}
