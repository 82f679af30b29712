//! What the admin socket tells of the running server, each resource as JSON; commands read the same
//! objects.

use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use super::configuration::mode;
use super::findings::finding_json;
use super::looks;
use crate::dhcp::pool_use::PoolReport;
use crate::dhcp::subnet::{HoldReason, OtherServer, Subnet, SubnetMode};
use crate::engine::{clock, datapath, net, privileges, ring};
use crate::images::{CopiesUse, ImageMemoryUse};
use crate::observe::{sink, threads};
use crate::serve::dhcp::other_servers::Finding;
use crate::serve::health::{Report, Trust};
use crate::serve::overview::{CoreView, Overview};

/// What `ss`, `ps` and a look into /proc were for.
pub fn status(overview: &Overview) -> Value {
    let generation = overview.generation();
    let since = |time: SystemTime| {
        SystemTime::now().duration_since(time).map_or(0, |since| since.as_secs())
    };
    let interfaces: Vec<Value> = net::list_interfaces()
        .unwrap_or_default()
        .iter()
        .map(|one| {
            json!({ "name": one.name, "mtu": one.mtu, "link": one.link().word(),
            "addresses": one.addresses })
        })
        .collect();
    let known = overview.findings.as_ref().map(|findings| findings.read()).unwrap_or_default();
    let addresses = overview.dhcp.iter().map(SocketAddr::to_string);
    let dhcp_sockets: Vec<String> = known.sockets.iter().cloned().chain(addresses).collect();
    let finding = |network| known.segments.iter().find(|finding| finding.network == network);
    let after_restart = overview.after_restart.load();
    let not_begun = || {
        let waits = after_restart.iter().any(|table| table.starts_with("[dhcp]"));
        if waits {
            "takes effect after a restart"
        } else {
            "this server was started to answer no DHCP"
        }
        .to_owned()
    };
    let silent = |subnet: &Subnet| {
        if overview.dhcp_control.is_none() {
            return (subnet.mode == SubnetMode::Server).then(not_begun);
        }
        let finding = finding(subnet.network)?;
        let since = if matches!(finding.held, Some(HoldReason::OtherServer(_))) {
            looks::since(finding)
        } else {
            String::new()
        };
        finding.misplaced.clone().or_else(|| finding.held.map(|held| format!("{held}{since}")))
    };
    let others = |network| {
        let of = |finding: &Finding| {
            let answered_s = finding.answered.map(|at| at.elapsed().as_secs());
            let one = |other: &OtherServer| {
                json!({ "mac": other.mac.to_string(),
                "address": other.address, "answered_s": answered_s })
            };
            finding.others.iter().map(one).collect::<Vec<_>>()
        };
        finding(network).map(of).unwrap_or_default()
    };
    let pools = overview
        .dhcp_counters
        .as_ref()
        .map(|counters| counters.pools.load_full())
        .unwrap_or_default();
    let pool = |network| pools.iter().find(|report| report.network == network).map(pool_use);
    let subnets: Vec<Value> = generation
        .snapshot
        .dhcp
        .subnets
        .iter()
        .map(|subnet| {
            json!({
                "subnet": subnet.network.to_string(),
                "interface": subnet.interface,
                "relay": subnet.relay,
                "silent_because": silent(subnet),
                "looking": finding(subnet.network).is_some_and(|finding| finding.held == Some(
                    HoldReason::Looking)),
                "other_servers": others(subnet.network),
                "mode": mode(subnet.mode),
                "install_by_default": subnet.install_by_default,
                "pool": pool(subnet.network),
            })
        })
        .collect();
    let dhcp = overview.dhcp_counters.as_ref().map(|counters| {
        json!({
            "sockets": dhcp_sockets,
            "received": counters.received.read(),
            "discovers": counters.discovers.read(),
            "requests": counters.requests.read(),
            "declines": counters.declines.read(),
            "releases": counters.releases.read(),
            "informs": counters.informs.read(),
            "others": counters.others.read(),
            "answered": counters.answered.read(),
            "offers": counters.offers.read(),
            "acks": counters.acks.read(),
            "naks": counters.naks.read(),
            "exhausted": counters.exhausted.read(),
            "dropped": counters.dropped.read(),
            "dropped_commits": counters.dropped_commits.read(),
            "unsent": counters.unsent.read(),
            "failed": counters.failed.read(),
            "leases": counters.leases.read(),
            "bound": counters.bound.read(),
            "offered": counters.offered.read(),
            "ended": counters.ended.read(),
            "kept_back": counters.kept_back.read(),
            "commits_pending": counters.pending.read(),
            "store": overview.store.as_ref().map(|store| store_health(&store.report())),
        })
    });
    let user = privileges::read_own_ids();
    let [names, made, pieces] = overview.images.workers().queued();
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "pid": std::process::id(),
        "up_s": since(overview.started),
        "generation": generation.number,
        "after_restart": **after_restart,
        "user": { "uid": user.uid, "gid": user.gid },
        "receive_buffer": overview.receive_buffer,
        "root": overview.images.root().to_string_lossy(),
        "sockets": { "tftp": overview.tftp, "http": overview.http, "dhcp": dhcp_sockets },
        "findings": overview.remarks.load().iter().map(finding_json).collect::<Vec<_>>(),
        "interfaces": interfaces,
        "subnets": subnets,
        "datapath": overview.datapath.to_string(),
        "no_ring_because": overview.no_ring,
        "cores_without_ring": datapath::count_ringless_cores(),
        "control_cpu": overview.control_cpu,
        "cores": overview.cores.iter().map(core).collect::<Vec<_>>(),
        "dhcp": dhcp,
        "mappings": overview.images.loaded(),
        "copies": copies(&overview.images.copies().usage()),
        "image_memory": image_memory(&overview.images.memory().usage()),
        "questions_waiting": { "names": names, "made": made, "pieces": pieces },
        "threads": threads::list_threads().iter().map(thread).collect::<Vec<_>>(),
        "drops": {
            "sockets": socket_drops(overview),
            "events": overview.events.dropped(),
            "log_lines": sink::count_lost_lines(),
            "kernel_shortages": ring::count_shortages(),
        },
    })
}

/// Addresses that any machine may get. `full_since_s`: null while one is left.
fn pool_use(report: &PoolReport) -> Value {
    let used = &report.used;
    json!({
        "addresses": used.addresses,
        "free": used.free,
        "bound": used.bound,
        "offered": used.offered,
        "ended": used.ended,
        "kept_back": used.kept_back,
        "said": used.to_string(),
        "nearly_full": used.is_nearly_full(),
        "full_since_s": report.full_since_s.map(|since_s| clock::now_s().saturating_sub(since_s)),
    })
}

fn store_health(report: &Report) -> Value {
    let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    json!({
        "state": match report.trust { Trust::Sound => "sound", Trust::Broken => "broken",
            Trust::Unread => "unread" },
        "why": report.why.as_ref().map(|(why, _)| why),
        "since_s": report.why.as_ref().map(|(_, since)| since.as_secs()),
        "failed_commits": report.failed,
        "offers_withheld": report.withheld,
        "queued": report.queued,
        "oldest_ms": report.waiting.map(ms),
    })
}

/// `busy_ms`: for how long it has been at one thing; null while it waits for something to do.
fn thread(thread: &threads::ThreadView) -> Value {
    json!({
        "name": thread.name,
        "busy_ms": thread.busy.map(|busy| u64::try_from(busy.as_millis()).unwrap_or(u64::MAX)),
        "panics": thread.panics,
    })
}

/// Bytes, and requests that found no room.
fn copies(usage: &CopiesUse) -> Value {
    json!({ "budget": usage.budget, "held": usage.held, "refused": usage.refused })
}

/// All in bytes but the last two, which are pieces.
fn image_memory(usage: &ImageMemoryUse) -> Value {
    json!({
        "budget": usage.budget,
        "resident": usage.resident,
        "unlocked": usage.unlocked,
        "evictions": usage.evictions,
        "expired": usage.expired,
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
            "full": tftp.full.read(),
            "displaced": tftp.displaced.read(),
            "guessed": tftp.guessed.read(),
            "busy": tftp.busy.read(),
            "events_left_out": tftp.events_left_out.read(),
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
            "given_up": http.given_up.read(),
            "accept_failed": http.accept_failed.read(),
            "at_full_speed": http.at_full_speed.read(),
            "in_line": http.in_line.read(),
        },
    })
}

/// Datagrams that the kernel dropped because a socket's receive buffer was full, on the ports that
/// we listen on.
fn socket_drops(overview: &Overview) -> u64 {
    let ports: Vec<u16> = overview.tftp.iter().map(SocketAddr::port).collect();
    ["/proc/net/udp", "/proc/net/udp6"]
        .iter()
        .filter_map(|table| std::fs::read_to_string(table).ok())
        .flat_map(|text| text.lines().skip(1).map(str::to_owned).collect::<Vec<_>>())
        .filter_map(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let port = u16::from_str_radix(fields.get(1)?.rsplit_once(':')?.1, 16).ok()?;
            let drops = fields.last()?.parse::<u64>().ok()?;
            (port == 67 && overview.findings.is_some() || ports.contains(&port)).then_some(drops)
        })
        .sum()
}
