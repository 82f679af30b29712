//! What else on this machine could keep clients away: a busy port, the firewall, a small receive buffer.

use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;

use socket2::{Domain, Socket, Type};

use super::firewall::{Wanted, shut};
use super::{Finding, Heard, Reader, Running, Subject};
use super::{interfaces, memory};
use crate::config::{Config, Datapath};
use crate::control::store::{DATABASE, SqliteStore, StateDirectory};
use crate::dhcp::neighbours::Look;
use crate::dhcp::subnet::{Mode, Subnet};
use crate::engine::limits::SOCKET_RECEIVE_BYTES;
use crate::engine::net;
use crate::engine::ring::{self, NoRing};
use crate::images::Ceiling;
use crate::observe::finding::Severity;
use crate::observe::port_holder::{Protocol, holder};

/// ProxyDHCP's port: firmware asks there for its boot file.
const PXE_PORT: u16 = 4011;

/// Ports, firewall and kernel limits, as they are at this moment, and what a server that runs here has found out.
pub fn surroundings(subject: Subject<'_>, running: Option<&Running>) -> Vec<Finding> {
    let mut findings = ports(subject, running);
    if subject.wants_dhcp {
        findings.extend(interfaces::unreachable(subject.config, &net::interfaces().unwrap_or_default()));
    }
    match running {
        Some(running) => findings.extend(heard(running)),
        None => findings.extend(other_servers(subject)),
    }
    findings.extend(running.is_none().then(|| ring(subject)).flatten());
    findings.extend(firewall(subject));
    let maximum = fs::read_to_string("/proc/sys/net/core/rmem_max").ok().and_then(|text| text.trim().parse().ok());
    findings.extend(maximum.and_then(|maximum| receive_buffer(maximum, subject.reader != Reader::Caller)));
    let budget = Ceiling::read().budget(subject.config.tuning.image_memory);
    findings.extend(memory::locking(budget, subject.reader, running));
    findings
}

/// What the server's last looks found: it keeps them in its state directory.
fn other_servers(subject: Subject<'_>) -> Vec<Finding> {
    let database = subject.config.state.join(DATABASE);
    if !subject.wants_dhcp || !database.exists() {
        return Vec::new();
    }
    let looks = SqliteStore::looks_in(&database);
    // SQLite lays files beside a database that is only read, and the service must be able to open them.
    let given = StateDirectory::give_all_to_owner(&subject.config.state);
    match looks.map_err(|error| error.to_string()).and_then(|looks| given.map(|()| looks).map_err(|e| e.to_string())) {
        Ok(looks) => looks.iter().filter_map(|look| other_server(subject.config, look)).collect(),
        Err(error) => vec![Finding::note(format!("whether other DHCP servers were seen is not known: {error}"))],
    }
}

pub(super) fn other_server(config: &Config, look: &Look) -> Option<Finding> {
    let is_its = |subnet: &&Subnet| subnet.network == look.network && subnet.mode == Mode::Server;
    let (subnet, server) = config.snapshot.subnets.iter().find(is_its).zip(look.server)?;
    let seen = format!("{server} answered on {} when ringboot last looked", subnet.network);
    Some(match subnet.allow_other_servers {
        true => Finding::note(format!("{seen}; the subnet is served beside it (allow-other-servers)")),
        false => Finding::warning(
            format!("{seen}: it is silent there"),
            "stop that server, or serve beside it with `allow-other-servers = true`",
        ),
    })
}

/// Every address that the configuration listens on, tried and let go.
fn ports(subject: Subject<'_>, running: Option<&Running>) -> Vec<Finding> {
    let port = |what, protocol, address| match running.filter(|running| running.holds(protocol, address)) {
        Some(running) => {
            Some(Finding::note(format!("{address} is held by ringboot (pid {}): the server runs", running.pid)))
        }
        None => port(what, protocol, address),
    };
    let config = subject.config;
    let tftp = config.tftp.listen.iter().map(|address| ("TFTP", Protocol::Udp, *address));
    let http = config.http.listen.iter().map(|address| ("HTTP", Protocol::Tcp, *address));
    let mut findings: Vec<Finding> =
        tftp.chain(http).filter_map(|(what, protocol, address)| port(what, protocol, address)).collect();
    if subject.wants_dhcp {
        let on =
            SocketAddr::from((config.dhcp.listen_address.unwrap_or(Ipv4Addr::UNSPECIFIED), config.dhcp.listen_port));
        // On one interface each: another program on the same port may be on another interface.
        findings.extend(port("DHCP", Protocol::Udp, on).map(|finding| match config.dhcp.listen_address {
            None if finding.severity == Severity::Fatal => Finding::warning(finding.what, finding.hint),
            _ => finding,
        }));
    }
    findings
}

/// Other DHCP servers, which take two seconds of listening to find: the server has done that.
fn heard(running: &Running) -> impl Iterator<Item = Finding> {
    let pid = running.pid;
    running.heard.iter().filter_map(move |Heard { subnet, silent_because, other_servers }| {
        let others = other_servers.join(", ");
        match silent_because {
            Some(why) => {
                let what = format!("the running server (pid {pid}) offers nothing on {subnet}: {why}");
                let hint = "switch the other server off there (`ringboot look --again` then asks at once), or serve beside it with \
                            `allow-other-servers = true`";
                Some(Finding::warning(what, if others.is_empty() { "" } else { hint }))
            }
            None => (!others.is_empty()).then(|| {
                Finding::note(format!(
                    "the running server (pid {pid}) serves {subnet}, and {others} answered there too"
                ))
            }),
        }
    })
}

pub(super) fn port(what: &str, protocol: Protocol, address: SocketAddr) -> Option<Finding> {
    let error = try_to_bind(protocol, address).err()?;
    let at = format!("{what} cannot listen on {address}");
    Some(match error.kind() {
        io::ErrorKind::AddrInUse => match holder(protocol, address.port()) {
            Some(program) if program.starts_with("ringboot ") => {
                Finding::note(format!("{address} is held by {program}: the server runs"))
            }
            Some(program) => {
                Finding::fatal(format!("{at}: {program} holds this port"), "stop it, or take another port")
            }
            None => Finding::fatal(
                format!("{at}: another program holds this port"),
                "`ss -lnp` as root tells which; stop it, or take another port",
            ),
        },
        io::ErrorKind::AddrNotAvailable => Finding::fatal(
            format!("{at}: no interface of this machine has that address"),
            "`ip address` shows those it has",
        ),
        io::ErrorKind::PermissionDenied => Finding::note(format!(
            "{address} ({what}): not checked, ports below 1024 need root or CAP_NET_BIND_SERVICE"
        )),
        _ => Finding::fatal(format!("{at}: {error}"), ""),
    })
}

fn try_to_bind(protocol: Protocol, address: SocketAddr) -> io::Result<()> {
    let kind = if protocol == Protocol::Udp { Type::DGRAM } else { Type::STREAM };
    let socket = Socket::new(Domain::for_address(address), kind, None)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    if protocol == Protocol::Tcp {
        // As the server does: connections that linger from an earlier one are no listener.
        socket.set_reuse_address(true)?;
    }
    socket.bind(&address.into())?;
    // Two sockets that may share an address may be bound to it; only one of them can listen.
    if protocol == Protocol::Tcp { socket.listen(1) } else { Ok(()) }
}

/// A running server has chosen already, and says in its status what it has.
fn ring(subject: Subject<'_>) -> Option<Finding> {
    let wanted = subject.config.tuning.datapath;
    if wanted == Datapath::Epoll {
        return None;
    }
    let disabled = fs::read_to_string("/proc/sys/kernel/io_uring_disabled").unwrap_or_default();
    // At 1 a ring is for root, whose rights the service gives away.
    let user_has_none = disabled.trim() == "1" && matches!(subject.reader, Reader::User { .. });
    let why = ring::probe().err().or(user_has_none.then_some(NoRing::Refused))?;
    Some(match wanted {
        Datapath::IoUring => Finding::fatal(why.to_string(), "or take `datapath = \"auto\"` in [tuning]"),
        _ => Finding::note(format!("serving will go by epoll, recvmmsg and sendmmsg, because {why}")),
    })
}

fn firewall(subject: Subject<'_>) -> Vec<Finding> {
    if subject.reader == Reader::Caller {
        return vec![Finding::note("the firewall was not checked: only root may read its rules")];
    }
    let listings: Vec<String> = [("nft", &["list", "ruleset"][..]), ("iptables-save", &[])]
        .into_iter()
        .filter_map(|(program, arguments)| {
            let output = Command::new(program).args(arguments).output().ok()?;
            output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
        })
        .collect();
    if listings.is_empty() {
        return vec![Finding::note("the firewall was not checked: neither nft nor iptables-save answers here")];
    }
    let config = subject.config;
    let ports = |protocol, listen: &[SocketAddr]| {
        listen.iter().map(|address| Wanted { protocol, port: address.port() }).collect::<Vec<_>>()
    };
    let mut wanted = [ports("udp", &config.tftp.listen), ports("tcp", &config.http.listen)].concat();
    if subject.wants_dhcp {
        wanted.extend([config.dhcp.listen_port, PXE_PORT].map(|port| Wanted { protocol: "udp", port }));
    }
    wanted.dedup();
    listings.iter().flat_map(|listing| shut(listing, &wanted)).map(shut_port).collect()
}

pub(super) fn shut_port(Wanted { protocol, port }: Wanted) -> Finding {
    let what = format!("the firewall drops what it does not know, and no rule seems to accept {protocol} port {port}");
    Finding::warning(what, format!("nft add rule inet filter input {protocol} dport {port} accept (or your own way)"))
}

/// A burst of a rack's requests is lost where the socket cannot hold it. Root may go past the limit.
pub(super) fn receive_buffer(maximum: usize, as_root: bool) -> Option<Finding> {
    (maximum < SOCKET_RECEIVE_BYTES && !as_root).then(|| {
        let what = format!(
            "net.core.rmem_max = {maximum} is less than the {SOCKET_RECEIVE_BYTES} bytes that a rack's requests need"
        );
        Finding::warning(what, format!("sysctl net.core.rmem_max={SOCKET_RECEIVE_BYTES}"))
    })
}
