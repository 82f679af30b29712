//! What the running server's control side is made of: reading the configuration again, and the admin socket's resources.

use std::any::Any;
use std::collections::HashMap;
use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::{DirBuilderExt, lchown};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use http::StatusCode;
use serde_json::{Value, json};

use super::{serve, walks};
use crate::config::Config;
use crate::control::admin::{self, Answer, Routes};
use crate::dhcp::subnet::Mode;
use crate::engine::net;
use crate::guard::Account;
use crate::images::CleanPath;
use crate::serve::overview::{CoreView, Overview};
use crate::serve::supervisor::{Control, Handle, Reread};

/// The control side of a server that runs with this configuration.
pub(super) fn control(config: Config, borrowed: HashMap<CleanPath, PathBuf>, arguments: &serve::Arguments) -> Control {
    let socket = config.server.admin_socket.clone();
    let arguments = arguments.clone();
    Control {
        read_again: Box::new(move || {
            let (mut next, _) = serve::read(&arguments).map_err(|error| format!("{error:#}"))?;
            keeps_segments(&config, &next)?;
            let mut after_restart = after_restart(&config, &next);
            // Who we are now is who reads: the account of the start has been taken by then.
            let found = serve::examine(&mut next, arguments.no_dhcp, None).map_err(|error| format!("{error:#}"))?;
            if found.files != borrowed {
                after_restart.push("the loaders of packages that [boot] names".to_owned());
            }
            Ok(Reread { snapshot: next.snapshot, after_restart })
        }),
        start: Box::new(move |handle, account| -> Box<dyn Any> {
            let Some(path) = socket else { return Box::new(()) };
            let started = make_directory(&path, account).and_then(|()| admin::start(&path, routes(handle)));
            match started.and_then(|socket| give(&path, account).map(|()| socket)) {
                Ok(socket) => Box::new(socket),
                Err(error) => {
                    tracing::warn!(
                        "no admin socket at {}: {error}; `status` and `reload` cannot reach this server",
                        path.display()
                    );
                    Box::new(())
                }
            }
        }),
    }
}

/// The socket's own directory is made where its parent is there: /run/ringboot goes with every boot.
fn make_directory(socket: &Path, account: Option<&Account>) -> io::Result<()> {
    const DIRECTORY_MODE: u32 = 0o755;
    let Some(directory) = socket.parent() else { return Ok(()) };
    match DirBuilder::new().mode(DIRECTORY_MODE).create(directory) {
        Ok(()) => give(directory, account),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}

/// Whom the process becomes must be able to remove it again, and the group of that user may use it.
fn give(path: &Path, account: Option<&Account>) -> io::Result<()> {
    account.map_or(Ok(()), |account| lchown(path, Some(account.ids.uid), Some(account.ids.gid)))
}

/// Before anything is offered on a segment, other servers are looked for there: that happens at the start. So a reload may change
/// what is given on a segment, and not which segments are served.
fn keeps_segments(old: &Config, new: &Config) -> Result<(), String> {
    let segments = |config: &Config| {
        let served = config.snapshot.subnets.iter().filter(|subnet| subnet.interface.is_some());
        served.map(|one| (one.network, one.interface.clone(), one.mode, one.allow_other_servers)).collect::<Vec<_>>()
    };
    if segments(old) == segments(new) {
        return Ok(());
    }
    Err("the subnets on interfaces are others, or served otherwise: that takes a restart, and nothing was changed"
        .to_owned())
}

/// The tables whose changes a reload does not carry: sockets, threads and limits are made once.
fn after_restart(old: &Config, new: &Config) -> Vec<String> {
    let interfaces = (&old.dhcp.interfaces, old.dhcp.listen_address, old.dhcp.listen_port)
        != (&new.dhcp.interfaces, new.dhcp.listen_address, new.dhcp.listen_port);
    let changed = [
        ("root", old.root != new.root),
        ("state", old.state != new.state),
        ("[server]", old.server != new.server),
        ("[tftp]", old.tftp != new.tftp),
        ("[http]", old.http != new.http),
        ("the interfaces and addresses of [dhcp]", interfaces),
        ("[log]", old.log != new.log),
        ("[tuning]", old.tuning != new.tuning),
    ];
    changed.into_iter().filter(|(_, changed)| *changed).map(|(name, _)| name.to_owned()).collect()
}

fn routes(handle: Handle) -> Routes {
    let looking = handle.clone();
    walks::routes(Routes::default(), &handle)
        .get("/v1/status", move |_| match looking.overview() {
            Some(overview) => Answer::ok(overview.generation().number, status(&overview)),
            None => Answer::problem(StatusCode::SERVICE_UNAVAILABLE, "starting or stopping", "ask again in a moment"),
        })
        .post("/v1/reload", move |_| match handle.reload() {
            Ok(done) => {
                let body = json!({ "generation": done.generation, "after_restart": done.after_restart });
                Answer::ok(done.generation, body)
            }
            Err(why) => Answer::problem(StatusCode::CONFLICT, "not reloaded, the old configuration stays", &why),
        })
}

/// What `ss`, `ps` and a look into /proc were for.
fn status(overview: &Overview) -> Value {
    let generation = overview.generation();
    let since = |time: SystemTime| SystemTime::now().duration_since(time).map_or(0, |since| since.as_secs());
    let interfaces: Vec<Value> = net::interfaces()
        .unwrap_or_default()
        .iter()
        .map(|one| json!({ "name": one.name, "mtu": one.mtu, "addresses": one.addresses }))
        .collect();
    let findings = overview.findings.as_ref().map(|findings| findings.read()).unwrap_or_default();
    let held = |network| {
        let finding = findings.iter().find(|finding| finding.network == network)?;
        finding.held.map(|held| held.to_string())
    };
    let subnets: Vec<Value> = generation
        .snapshot
        .subnets
        .iter()
        .map(|subnet| {
            json!({
                "subnet": subnet.network.to_string(),
                "interface": subnet.interface,
                "relay": subnet.relay,
                "silent_because": held(subnet.network),
                "mode": match subnet.mode { Mode::Server => "server", Mode::Off => "off" },
                "install_by_default": subnet.install_by_default,
            })
        })
        .collect();
    let dhcp = overview.dhcp_counters.as_ref().map(|counters| {
        json!({
            "sockets": overview.dhcp,
            "received": counters.received.read(),
            "answered": counters.answered.read(),
            "leases": counters.leases.read(),
            "commits_pending": counters.pending.read(),
        })
    });
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "pid": std::process::id(),
        "up_s": since(overview.started),
        "generation": generation.number,
        "root": overview.images.root(),
        "sockets": { "tftp": overview.tftp, "http": overview.http, "dhcp": overview.dhcp },
        "interfaces": interfaces,
        "subnets": subnets,
        "datapath": "io_uring",
        "control_cpu": overview.control_cpu,
        "cores": overview.cores.iter().map(core).collect::<Vec<_>>(),
        "dhcp": dhcp,
        "mappings": overview.images.loaded(),
        "drops": { "sockets": socket_drops(overview), "events": overview.events.dropped() },
    })
}

fn core(core: &CoreView) -> Value {
    let (tftp, http) = (&core.tftp, &core.http);
    json!({
        "cpu": core.cpu,
        "tftp": {
            "transfers": tftp.transfers.read(),
            "requests": tftp.requests.read(),
            "not_served": tftp.not_served.read(),
            "waited": tftp.waited.read(),
            "dropped": tftp.dropped.read(),
        },
        "http": {
            "connections": http.connections.read(),
            "requests": http.requests.read(),
            "refused": http.refused_requests.read(),
            "bytes_sent": http.bytes_sent.read(),
            "aborted": http.aborted.read(),
            "timed_out": http.timed_out.read(),
            "queued": http.queued.read(),
            "turned_away": http.turned_away.read(),
        },
    })
}

/// Datagrams that the kernel dropped because a socket's receive buffer was full, on the ports that we listen on.
fn socket_drops(overview: &Overview) -> u64 {
    let ports: Vec<u16> = overview.tftp.iter().map(std::net::SocketAddr::port).collect();
    ["/proc/net/udp", "/proc/net/udp6"]
        .iter()
        .filter_map(|table| std::fs::read_to_string(table).ok())
        .flat_map(|text| text.lines().skip(1).map(str::to_owned).collect::<Vec<_>>())
        .filter_map(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let port = u16::from_str_radix(fields.get(1)?.rsplit_once(':')?.1, 16).ok()?;
            let drops = fields.last()?.parse::<u64>().ok()?;
            (port == 67 && !overview.dhcp.is_empty() || ports.contains(&port)).then_some(drops)
        })
        .sum()
}
