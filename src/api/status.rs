//! The status of the running server.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::SystemTime;

use axum::extract::State;

use super::error::{ApiError, ServerFault};
use super::extract::Json;
use super::quirks::quirk_counts;
use super::state::{ApiState, in_background};
use super::types::{
    CopiesStatus, CoreStatus, DhcpStatus, DropCounts, HealthReport, HttpStatus, ImageMemoryStatus,
    InterfaceStatus, OtherDhcpServer, PoolStatus, QuirkCounts, ServerStatus, SocketList,
    StoreStatus, StormStatus, SubnetStatus, TftpStatus, ThreadStatus, UserIds, WaitingQuestions,
};
use super::values::{format_span, whole_ms};
use super::words::finding_entries;
use super::{health, looks};
use crate::dhcp::pool_use::PoolReport;
use crate::dhcp::subnet::{AnsweringMode, HoldReason, Subnet};
use crate::engine::{clock, datapath, net, netlink, privileges, ring};
use crate::observe::{sink, threads};
use crate::serve::dhcp::DhcpCounters;
use crate::serve::dhcp::other_servers::{KnownSegments, SegmentFinding};
use crate::serve::health::StoreReport;
use crate::serve::overview::{CoreView, ServerOverview};
use crate::serve::storm::StormEstimate;

/// Shows the status of the server: sockets, subnets, cores, counters and health.
///
/// Counters begin with the start of the server.
#[utoipa::path(
    get,
    path = "/v1/status",
    tag = "status",
    responses((status = 200, description = "The status.", body = ServerStatus), ServerFault),
)]
pub async fn get_status(State(api): State<Arc<ApiState>>) -> Result<Json<ServerStatus>, ApiError> {
    in_background(move || {
        let quirks = quirk_counts(&api.learnt_quirks());
        Ok(server_status(&*api.overview()?, quirks))
    })
    .await
}

/// The status of a server: what an operator would collect with `ss`, `ps` and /proc, and its
/// health.
pub fn server_status(overview: &ServerOverview, quirks: QuirkCounts) -> ServerStatus {
    let known = overview.findings.as_ref().map(|findings| findings.read()).unwrap_or_default();
    let generation = overview.generation();
    let subnets = generation.snapshot.dhcp.subnets.iter();
    let copies = overview.images.copies().usage();
    let memory = overview.images.memory().usage();
    let user = privileges::read_own_ids();
    let [names, made, pieces] = overview.images.workers().queued();
    let up = SystemTime::now().duration_since(overview.started).unwrap_or_default();
    let mut status = ServerStatus {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        pid: std::process::id(),
        up_s: up.as_secs(),
        generation: generation.number,
        after_restart: overview.after_restart.load().to_vec(),
        user: UserIds { uid: user.uid, gid: user.gid },
        receive_buffer: overview.receive_buffer,
        root: overview.images.root().to_string_lossy().into_owned(),
        sockets: SocketList {
            tftp: overview.tftp.clone(),
            http: overview.http.clone(),
            dhcp: dhcp_sockets(overview, &known),
        },
        findings: finding_entries(&overview.remarks.load()),
        interfaces: net::list_interfaces()
            .unwrap_or_default()
            .iter()
            .map(interface_status)
            .collect(),
        subnets: subnets.map(|subnet| subnet_status(overview, &known, subnet)).collect(),
        datapath: overview.datapath.to_string(),
        no_ring_because: overview.no_ring.clone(),
        cores_without_ring: datapath::count_ringless_cores(),
        control_cpu: overview.control_cpu,
        cores: overview.cores.iter().map(core_status).collect(),
        storm: overview.measure_storm().as_ref().map(storm_status),
        dhcp: overview.dhcp_counters.as_ref().map(|counters| DhcpStatus {
            store: overview.store.as_ref().map(|store| store_status(&store.report())),
            ..dhcp_status(counters, dhcp_sockets(overview, &known))
        }),
        mappings: overview.images.count_loaded(),
        copies: CopiesStatus { budget: copies.budget, held: copies.held, refused: copies.refused },
        image_memory: ImageMemoryStatus {
            budget: memory.budget,
            resident: memory.resident,
            unlocked: memory.unlocked,
            evictions: memory.evictions,
            expired: memory.expired,
        },
        questions_waiting: WaitingQuestions { names, made, pieces },
        threads: threads::list_threads().iter().map(thread_status).collect(),
        drops: DropCounts {
            sockets: socket_drops(overview),
            events: overview.events.count_dropped(),
            log_lines: sink::count_lost_lines(),
            kernel_shortages: ring::count_shortages(),
        },
        quirks,
        health: HealthReport::default(),
    };

    // The health follows from all other fields, so it is filled in last.
    status.health = health::judge(&status);
    status
}

/// The sockets of DHCP: interfaces with ports, then addresses with ports.
pub fn dhcp_sockets(overview: &ServerOverview, known: &KnownSegments) -> Vec<String> {
    let addresses = overview.dhcp.iter().map(SocketAddr::to_string);
    known.sockets.iter().cloned().chain(addresses).collect()
}

fn interface_status(interface: &netlink::NetworkInterface) -> InterfaceStatus {
    InterfaceStatus {
        name: interface.name.clone(),
        mtu: interface.mtu,
        link: interface.link().into(),
        addresses: interface.addresses.clone(),
    }
}

/// One subnet of the configuration, with the result of the look on its segment.
pub fn subnet_status(
    overview: &ServerOverview,
    known: &KnownSegments,
    subnet: &Subnet,
) -> SubnetStatus {
    let finding = known.segments.iter().find(|finding| finding.network == subnet.network);
    // The DHCP core counts the pools and publishes the result: its table of leases is its own.
    let pools = overview.dhcp_counters.as_ref().map(|counters| counters.pools.load_full());
    let pools = pools.unwrap_or_default();
    let pool = pools.iter().find(|report| report.network == subnet.network);
    SubnetStatus {
        subnet: subnet.network.to_string(),
        interface: subnet.interface.clone(),
        relay: subnet.relay,
        silent_because: explain_silence(overview, subnet, finding),
        looking: finding.is_some_and(|finding| finding.held == Some(HoldReason::Looking)),
        other_servers: finding.map(other_servers).unwrap_or_default(),
        mode: subnet.mode.into(),
        install_by_default: subnet.install_by_default,
        pool: pool.map(pool_status),
    }
}

/// Why the server offers nothing on a subnet.
fn explain_silence(
    overview: &ServerOverview,
    subnet: &Subnet,
    finding: Option<&SegmentFinding>,
) -> Option<String> {
    // A reload starts no DHCP core, so a subnet that it brings waits for a restart.
    if overview.dhcp_control.is_none() {
        let pending = overview.after_restart.load();
        let waits = pending.iter().any(|table| table.starts_with("[dhcp]"));
        let why = if waits {
            "takes effect after a restart"
        } else {
            "this server was started with --no-dhcp"
        };
        return (subnet.mode == AnsweringMode::Server).then(|| why.to_owned());
    }

    let finding = finding?;
    let since = match finding.held {
        Some(HoldReason::OtherServer(_)) => looks::describe_age(finding),
        _ => String::new(),
    };
    // The sentence about a misplaced interface names the line to correct, so it goes first.
    finding.misplaced.clone().or_else(|| finding.held.map(|held| format!("{held}{since}")))
}

fn other_servers(finding: &SegmentFinding) -> Vec<OtherDhcpServer> {
    let answered_s = finding.answered.map(|at| at.elapsed().as_secs());
    let others = finding.others.iter();
    others
        .map(|other| OtherDhcpServer {
            mac: other.mac.to_string(),
            address: other.address,
            answered_s,
        })
        .collect()
}

fn dhcp_status(counters: &DhcpCounters, sockets: Vec<String>) -> DhcpStatus {
    DhcpStatus {
        sockets,
        received: counters.received.read(),
        discovers: counters.discovers.read(),
        requests: counters.requests.read(),
        declines: counters.declines.read(),
        releases: counters.releases.read(),
        informs: counters.informs.read(),
        others: counters.others.read(),
        answered: counters.answered.read(),
        offers: counters.offers.read(),
        acks: counters.acks.read(),
        naks: counters.naks.read(),
        exhausted: counters.exhausted.read(),
        dropped: counters.dropped.read(),
        dropped_commits: counters.dropped_commits.read(),
        unsent: counters.unsent.read(),
        failed: counters.failed.read(),
        leases: counters.leases.read(),
        bound: counters.bound.read(),
        offered: counters.offered.read(),
        ended: counters.ended.read(),
        kept_back: counters.kept_back.read(),
        commits_pending: counters.pending.read(),
        store: None,
    }
}

/// The use of the pools of a subnet.
fn pool_status(report: &PoolReport) -> PoolStatus {
    let used = &report.used;
    let full_since_s = report.full_since_s;
    PoolStatus {
        addresses: used.addresses,
        free: used.free,
        bound: used.bound,
        offered: used.offered,
        ended: used.ended,
        kept_back: used.kept_back,
        said: used.to_string(),
        nearly_full: used.is_nearly_full(),
        full_since_s: full_since_s.map(|since_s| clock::now_s().saturating_sub(since_s)),
    }
}

fn storm_status(storm: &StormEstimate) -> StormStatus {
    let StormEstimate { at_full_speed, in_line, bytes_left, bytes_per_s, time_left } = storm;
    let left_s = time_left.map(|left| whole_ms(left).div_ceil(1000));
    let end = match left_s {
        Some(left_s) => format!("the last has all in about {}", format_span(left_s)),
        None => "nothing moves".to_owned(),
    };
    let said = format!(
        "large files for {at_full_speed} machines at full speed, for {in_line} in line behind \
         them; {} MB left at {} MB/s: {end}",
        bytes_left / 1_000_000,
        bytes_per_s / 1_000_000
    );
    StormStatus {
        at_full_speed: *at_full_speed,
        in_line: *in_line,
        bytes_left: *bytes_left,
        bytes_per_s: *bytes_per_s,
        left_s,
        said,
    }
}

fn store_status(report: &StoreReport) -> StoreStatus {
    StoreStatus {
        state: report.trust.into(),
        why: report.why.as_ref().map(|(why, _)| why.clone()),
        since_s: report.why.as_ref().map(|(_, since)| since.as_secs()),
        failed_commits: report.failed,
        offers_withheld: report.withheld,
        queued: report.queued,
        oldest_ms: report.waiting.map(whole_ms),
    }
}

fn thread_status(thread: &threads::ThreadView) -> ThreadStatus {
    ThreadStatus {
        name: thread.name.clone(),
        busy_ms: thread.busy.map(whole_ms),
        panics: thread.panics,
    }
}

fn core_status(core: &CoreView) -> CoreStatus {
    let (tftp, http) = (&core.tftp, &core.http);
    CoreStatus {
        cpu: core.cpu,
        tftp: TftpStatus {
            transfers: tftp.transfers.read(),
            requests: tftp.requests.read(),
            not_served: tftp.not_served.read(),
            waited: tftp.waited.read(),
            dropped: tftp.dropped.read(),
            full: tftp.full.read(),
            displaced: tftp.displaced.read(),
            guessed: tftp.guessed.read(),
            busy: tftp.busy.read(),
            events_left_out: tftp.events_left_out.read(),
        },
        http: HttpStatus {
            connections: http.connections.read(),
            requests: http.requests.read(),
            refused: http.refused_requests.read(),
            bytes_sent: http.bytes_sent.read(),
            aborted: http.aborted.read(),
            timed_out: http.timed_out.read(),
            queued: http.queued.read(),
            turned_away: http.turned_away.read(),
            given_up: http.given_up.read(),
            accept_failed: http.accept_failed.read(),
            at_full_speed: http.at_full_speed.read(),
            in_line: http.in_line.read(),
            events_left_out: http.events_left_out.read(),
        },
    }
}

/// Datagrams that the kernel dropped because a receive buffer was full, on the ports of this
/// server.
fn socket_drops(overview: &ServerOverview) -> u64 {
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
