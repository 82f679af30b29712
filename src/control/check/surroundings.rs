//! Checks the rest of this machine: busy ports, the firewall, limits of the kernel, and what a
//! running server reports.

use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;

use socket2::{Domain, Socket, Type};

use super::firewall::{WantedPort, find_shut_ports};
use super::{CheckFinding, CheckSubject, FileReader, HeardSubnet, RunningServer};
use super::{interfaces, memory, state};
use crate::config::{Config, DatapathChoice};
use crate::engine::limits::SOCKET_RECEIVE_BYTES;
use crate::engine::net;
use crate::engine::ring::{self, NoRing};
use crate::images::{MemoryCeiling, runs_as_root};
use crate::model::network::Ipv4Network;
use crate::observe::finding::CheckSeverity;
use crate::observe::port_holder::{SocketProtocol, find_port_holder};

/// The port of ProxyDHCP, where firmware requests its boot file.
const PXE_PORT: u16 = 4011;

/// Checks ports, firewall and kernel limits as they are now, the state of an earlier run, and what
/// a running server reports.
pub fn check_surroundings(
    subject: CheckSubject<'_>,
    running: Option<&RunningServer>,
) -> Vec<CheckFinding> {
    let mut findings = check_ports(subject, running);
    if subject.wants_dhcp {
        findings.extend(interfaces::find_unreachable_interfaces(
            subject.config,
            &net::list_interfaces().unwrap_or_default(),
        ));
        findings.extend(state::check_lease_database(subject, running.is_some()));
    }
    match running {
        Some(running) => {
            findings.extend(
                running
                    .heard
                    .iter()
                    .flat_map(|heard| check_heard_subnet(subject.config, running.pid, heard)),
            );
            findings.extend(report_unserved_changes(running));
        }
        // A running server has chosen its datapath, which its status names.
        None => findings.extend(check_ring(subject)),
    }
    findings.extend(check_firewall(subject));
    findings.extend(check_receive_buffer(subject, running));
    let budget = MemoryCeiling::read().budget(subject.config.tuning.image_memory);
    findings.extend(memory::check_memory_locking(budget, subject.reader, running));
    findings
}

/// Binds every address of the configuration once and closes it again. Addresses of the running
/// server are fine.
fn check_ports(subject: CheckSubject<'_>, running: Option<&RunningServer>) -> Vec<CheckFinding> {
    let config = subject.config;
    let tftp =
        config.tftp.listen.iter().map(|address| ("tftp", "TFTP", SocketProtocol::Udp, *address));
    let http =
        config.http.listen.iter().map(|address| ("http", "HTTP", SocketProtocol::Tcp, *address));
    let mut held = Vec::new();
    let mut findings = Vec::new();
    for (table, what, protocol, address) in tftp.chain(http) {
        match probe_port(what, protocol, address, running) {
            PortState::Free => {}
            PortState::Ours(program) => held.push((program, address.to_string())),
            PortState::Wrong(finding) => {
                findings.push(finding.at_position(config.places.find_listen(table, address)))
            }
        }
    }
    if subject.wants_dhcp {
        let on = SocketAddr::from((
            config.dhcp.listen_address.unwrap_or(Ipv4Addr::UNSPECIFIED),
            config.dhcp.listen_port,
        ));
        match probe_port("DHCP", SocketProtocol::Udp, on, running) {
            PortState::Free => {}
            PortState::Ours(program) => held.push((program, on.to_string())),
            // On one interface each: another program on the same port may be on another interface.
            PortState::Wrong(finding)
                if finding.severity == CheckSeverity::Fatal
                    && config.dhcp.listen_address.is_none() =>
            {
                findings.push(CheckFinding::warning(finding.what, finding.hint));
            }
            PortState::Wrong(finding) => {
                findings.push(finding.at_position(config.places.find_key("dhcp", "listen-address")))
            }
        }
    }
    if let Some((program, _)) = held.first() {
        let addresses: Vec<&str> = held.iter().map(|(_, address)| address.as_str()).collect();
        findings.push(CheckFinding::note(format!(
            "{program} runs here, and this command cannot ask it; it holds {}",
            addresses.join(", ")
        )));
    }
    findings
}

/// The report of the running server about a subnet.
fn check_heard_subnet(config: &Config, pid: u64, heard: &HeardSubnet) -> Vec<CheckFinding> {
    let HeardSubnet { subnet, silent_because, other_servers, pool } = heard;
    let network = subnet.parse::<Ipv4Network>().ok();

    let others = other_servers.join(", ");
    let answers = match silent_because {
        Some(why) => {
            let what = format!("the running server (pid {pid}) offers nothing on {subnet}: {why}");
            // This hint fits no other reason for silence.
            let hint = "switch the other server off there (`ringboot look --again` then asks at \
                        once), or serve beside it with `allow-other-servers = true`";
            Some(CheckFinding::warning(what, if others.is_empty() { "" } else { hint }))
        }
        None => (!others.is_empty()).then(|| {
            CheckFinding::note(format!(
                "the running server (pid {pid}) serves {subnet}, and {others} answered there too"
            ))
        }),
    };
    let pool = pool.as_ref().zip(network).and_then(|(pool, network)| {
        state::check_pool_use(config, network, &pool.said, pool.is_full, pool.is_nearly_full)
    });
    let answers = answers.map(|finding| {
        // The file may be another than that of the server, and may not have the subnet.
        let place = network.and_then(|network| config.places.find_subnet(network, "subnet"));
        finding.at_position(place)
    });
    answers.into_iter().chain(pool).collect()
}

/// Changes that the running server has not applied, and leases that it cannot store.
fn report_unserved_changes(running: &RunningServer) -> Vec<CheckFinding> {
    let pid = running.pid;
    let store = running.store_fault.as_ref().map(|why| {
        CheckFinding::error(
            format!("the running server (pid {pid}) gives no new leases: {why}"),
            "`ringboot status` has the details",
        )
    });
    let pending = running.after_restart.iter().map(|table| {
        let what = format!(
            "changes in {table} take effect after a restart of the running server (pid {pid})"
        );
        CheckFinding::warning(what, "systemctl restart ringboot")
    });
    store.into_iter().chain(pending).collect()
}

/// The state of an address on which the server is to listen.
pub(super) enum PortState {
    Free,
    /// Another ringboot has it: its name and pid.
    Ours(String),
    Wrong(CheckFinding),
}

pub(super) fn probe_port(
    what: &str,
    protocol: SocketProtocol,
    address: SocketAddr,
    running: Option<&RunningServer>,
) -> PortState {
    if running.is_some_and(|running| running.holds(protocol, address)) {
        return PortState::Free;
    }
    let Err(error) = try_to_bind(protocol, address) else { return PortState::Free };
    let at = format!("{what} cannot listen on {address}");
    PortState::Wrong(match error.kind() {
        io::ErrorKind::AddrInUse => match find_port_holder(protocol, address.port()) {
            Some(program) if program.starts_with("ringboot ") => return PortState::Ours(program),
            Some(program) => CheckFinding::fatal(
                format!("{at}: {program} holds this port"),
                "stop it, or use another port",
            ),
            // Only root sees the sockets of other users in /proc.
            None => CheckFinding::fatal(
                format!("{at}: another program holds this port"),
                "`ss -lnp` as root shows it; stop it, or use another port",
            ),
        },
        io::ErrorKind::AddrNotAvailable => CheckFinding::fatal(
            format!("{at}: no interface of this machine has that address"),
            "`ip address` shows those it has",
        ),
        // The service has this capability, so a refusal here says nothing about `serve`.
        io::ErrorKind::PermissionDenied => CheckFinding::note(format!(
            "{address} ({what}): not checked, ports below 1024 need root or CAP_NET_BIND_SERVICE"
        )),
        _ => CheckFinding::fatal(format!("{at}: {error}"), ""),
    })
}

fn try_to_bind(protocol: SocketProtocol, address: SocketAddr) -> io::Result<()> {
    let kind = if protocol == SocketProtocol::Udp { Type::DGRAM } else { Type::STREAM };
    let socket = Socket::new(Domain::for_address(address), kind, None)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    if protocol == SocketProtocol::Tcp {
        // As the server does: lingering connections of an earlier server do not block the port.
        socket.set_reuse_address(true)?;
    }
    socket.bind(&address.into())?;
    // With SO_REUSEADDR two sockets can bind an address, but only one of them can listen.
    if protocol == SocketProtocol::Tcp { socket.listen(1) } else { Ok(()) }
}

/// Whether the kernel allows a ring. Not asked of a running server: its status says what it uses.
fn check_ring(subject: CheckSubject<'_>) -> Option<CheckFinding> {
    let wanted = subject.config.tuning.datapath;
    if wanted == DatapathChoice::Epoll {
        return None;
    }
    let disabled = fs::read_to_string("/proc/sys/kernel/io_uring_disabled").unwrap_or_default();
    // At 1 only root may open a ring, and the service gives its rights away.
    let user_has_none = disabled.trim() == "1" && matches!(subject.reader, FileReader::User { .. });
    let why = ring::probe_ring().err().or(user_has_none.then_some(NoRing::Refused))?;
    Some(match wanted {
        DatapathChoice::IoUring => {
            CheckFinding::fatal(why.to_string(), "or set `datapath = \"auto\"` in [tuning]")
                .at_position(subject.config.places.find_key("tuning", "datapath"))
        }
        _ => CheckFinding::note(format!(
            "the server will use epoll, recvmmsg and sendmmsg, because {why}"
        )),
    })
}

fn check_firewall(subject: CheckSubject<'_>) -> Vec<CheckFinding> {
    if !runs_as_root() {
        return vec![CheckFinding::note(
            "the firewall was not checked: only root may read its rules",
        )];
    }

    // `nft` does not list the rules of iptables-legacy, so both programs are asked.
    let listings: Vec<String> = [("nft", &["list", "ruleset"][..]), ("iptables-save", &[])]
        .into_iter()
        .filter_map(|(program, arguments)| {
            let output = Command::new(program).args(arguments).output().ok()?;
            output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
        })
        .collect();
    if listings.is_empty() {
        return vec![CheckFinding::note(
            "the firewall was not checked: neither nft nor iptables-save works here",
        )];
    }
    let config = subject.config;
    let mut wanted =
        [list_ports("udp", &config.tftp.listen), list_ports("tcp", &config.http.listen)].concat();
    if subject.wants_dhcp {
        wanted.extend(
            [config.dhcp.listen_port, PXE_PORT].map(|port| WantedPort { protocol: "udp", port }),
        );
    }
    // IPv4 and IPv6 usually listen on the same port: one finding is enough.
    wanted.dedup();
    listings
        .iter()
        .flat_map(|listing| find_shut_ports(listing, &wanted))
        .map(report_shut_port)
        .collect()
}

fn list_ports(protocol: &'static str, listen: &[SocketAddr]) -> Vec<WantedPort> {
    listen.iter().map(|address| WantedPort { protocol, port: address.port() }).collect()
}

pub(super) fn report_shut_port(WantedPort { protocol, port }: WantedPort) -> CheckFinding {
    let what = format!(
        "the firewall drops unknown packets, and no rule seems to accept {protocol} port {port}"
    );
    CheckFinding::warning(
        what,
        format!("nft add rule inet filter input {protocol} dport {port} accept (or your own way)"),
    )
}

/// A receive buffer too small for the burst of a rack's requests. A running server reports the size
/// that it got.
fn check_receive_buffer(
    subject: CheckSubject<'_>,
    running: Option<&RunningServer>,
) -> Option<CheckFinding> {
    if let Some((pid, bytes)) =
        running.and_then(|running| Some((running.pid, running.receive_buffer?)))
    {
        let what = format!(
            "the running server (pid {pid}) has receive buffers of {bytes} bytes, less than the \
             {SOCKET_RECEIVE_BYTES} that a rack's requests need"
        );
        let hint = format!("sysctl net.core.rmem_max={SOCKET_RECEIVE_BYTES}, and a restart");
        return (bytes < SOCKET_RECEIVE_BYTES).then(|| CheckFinding::warning(what, hint));
    }
    let maximum = fs::read_to_string("/proc/sys/net/core/rmem_max").ok()?.trim().parse().ok()?;
    report_small_buffer(maximum, runs_as_root() && !subject.is_service)
}

/// Root may exceed the limit; the packaged service may not, also where root runs the check.
pub(super) fn report_small_buffer(maximum: usize, as_root: bool) -> Option<CheckFinding> {
    (maximum < SOCKET_RECEIVE_BYTES && !as_root).then(|| {
        let what = format!(
            "net.core.rmem_max = {maximum} is less than the {SOCKET_RECEIVE_BYTES} bytes that a \
             rack's requests need"
        );
        CheckFinding::warning(what, format!("sysctl net.core.rmem_max={SOCKET_RECEIVE_BYTES}"))
    })
}
