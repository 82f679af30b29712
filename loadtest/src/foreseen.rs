//! Warnings before a run: the limits of this host and of the plan that will bound it.

use std::fs;

use ringboot_fleet::{ArrivalPattern, DhcpRoute, FleetPlan, RoleTask, StepRequest};
use ringboot_io::engine::limits::SOCKET_RECEIVE_BYTES;
use ringboot_protocol::http::limits::CONNECTIONS_PER_ADDRESS_MAX;

/// The limits of this host.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HostLimits {
    processors: usize,
    /// net.core.rmem_max, bytes.
    receive_buffer_max: u64,
    /// net.ipv4.ip_local_port_range.
    local_ports: u32,
    /// The first port that needs no privilege.
    unprivileged_port: u16,
    /// CapEff of this process.
    capabilities: u64,
    /// RLIMIT_NOFILE of the server; None if its process is not known.
    server_files: Option<u64>,
}

/// Bits of capabilities(7).
const NET_BIND_SERVICE: u64 = 1 << 10;
const NET_ADMIN: u64 = 1 << 12;
const NET_RAW: u64 = 1 << 13;

/// The kernel's memory for one DHCP message, bytes.
const DATAGRAM_BYTES: u64 = 2304;
/// ringboot's default of `[tftp] per-source`; the lower one of its two limits.
const PER_ADDRESS: u32 = 8;
/// Seconds before a client's port is used again after its connection has ended (TIME_WAIT).
const PORT_REST_S: u32 = 60;
/// Seconds within which an idle server answers.
const ANSWER_S: f64 = 0.02;
/// Open files of a server that are no connections.
const SERVER_FILES: u64 = 64;

impl HostLimits {
    pub(crate) fn read(server: Option<u32>) -> Self {
        let range: Vec<u32> = read_host_file("/proc/sys/net/ipv4/ip_local_port_range")
            .split_whitespace()
            .filter_map(|port| port.parse().ok())
            .collect();
        let status = read_host_file("/proc/self/status");
        let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
        let files = server.map(|pid| read_host_file(&format!("/proc/{pid}/limits")));

        // A number that cannot be read counts as no limit (for the port, as the kernel's default):
        // a warning must not rest on a guess.
        Self {
            processors: std::thread::available_parallelism().map_or(1, usize::from),
            receive_buffer_max: read_host_number("/proc/sys/net/core/rmem_max").unwrap_or(u64::MAX),
            local_ports: if let [first, last] = range[..] {
                last.saturating_sub(first) + 1
            } else {
                u32::MAX
            },
            unprivileged_port: read_host_number("/proc/sys/net/ipv4/ip_unprivileged_port_start")
                .and_then(|port| port.try_into().ok())
                .unwrap_or(1024),
            capabilities: effective
                .and_then(|bits| u64::from_str_radix(bits.trim(), 16).ok())
                .unwrap_or(0),
            server_files: files.as_deref().and_then(read_open_files_limit),
        }
    }

    /// A sentence for each limit that this plan will reach on this host.
    pub(crate) fn list_warnings(&self, plan: &FleetPlan) -> Vec<String> {
        let is_here = plan.tftp.ip().is_loopback();
        let parts = [
            self.warn_of_shared_addresses(plan),
            self.warn_of_local_ports(plan),
            self.warn_of_server_files(plan),
            self.warn_of_receive_buffer(plan),
            (is_here && self.processors < 2)
                .then(|| "the server and the load generator share one processor".to_owned()),
            self.warn_of_privileges(plan),
            describe_rate_slots(plan),
        ];
        parts.into_iter().flatten().collect()
    }

    fn warn_of_shared_addresses(&self, plan: &FleetPlan) -> Option<String> {
        let addresses = count_shared_sources(plan)?;
        let machines = plan.machines;
        let each = machines.div_ceil(addresses);
        (has_fetches(plan) && each > PER_ADDRESS).then(|| {
            let from = if addresses == 1 {
                "1 source address".to_owned()
            } else {
                format!("{addresses} source addresses")
            };
            format!(
                "{machines} machines will use {from}: a server with limits per address (ringboot: \
                 {PER_ADDRESS} TFTP transfers, {CONNECTIONS_PER_ADDRESS_MAX} connections) serves \
                 only a few of them at once. --source-addresses gives each machine its own"
            )
        })
    }

    /// A new connection for each request uses up the ports of an address.
    fn warn_of_local_ports(&self, plan: &FleetPlan) -> Option<String> {
        let addresses = count_shared_sources(plan)?;
        let connections: u64 =
            plan.roles.iter().map(|role| count_role_connections(&role.does)).sum::<u64>()
                * u64::from(plan.machines);
        let ports = u64::from(self.local_ports) * u64::from(addresses);
        (connections > 0 && (plan.duration.is_some() || connections > ports)).then(|| {
            format!(
                "a connection for each request: {ports} local ports, each closed for \
                 {PORT_REST_S} s after its use, allow {} connections a second",
                ports / u64::from(PORT_REST_S)
            )
        })
    }

    fn warn_of_server_files(&self, plan: &FleetPlan) -> Option<String> {
        let (files, machines) = (self.server_files?, u64::from(plan.machines));
        (has_fetches(plan) && files < machines + SERVER_FILES).then(|| {
            format!(
                "the server may have {files} open files (RLIMIT_NOFILE), and {machines} \
                     machines may each have a connection"
            )
        })
    }

    /// The receive buffer of the one socket that machines share behind a relay agent, or as
    /// stations.
    fn warn_of_receive_buffer(&self, plan: &FleetPlan) -> Option<String> {
        let lessor = plan.lessor.as_ref()?;
        let at_once = match plan.arrival {
            ArrivalPattern::All => plan.machines,
            ArrivalPattern::Racks { machines, .. } => machines.min(plan.machines),
            // These machines start one by one.
            ArrivalPattern::Ramp(_) | ArrivalPattern::Poisson { .. } => return None,
        };
        let is_shared = match &lessor.way {
            DhcpRoute::Relay { agent, .. } => !agent.ip().is_loopback(),
            DhcpRoute::Link { .. } => true,
        };
        let needed = u64::from(at_once) * DATAGRAM_BYTES;
        let most = SOCKET_RECEIVE_BYTES as u64;
        // The kernel doubles the requested size. CAP_NET_ADMIN exceeds the limit.
        let room = 2 * if self.capabilities & NET_ADMIN != 0 {
            most
        } else {
            most.min(self.receive_buffer_max)
        };
        (is_shared && needed > room).then(|| {
            format!(
                "{at_once} machines will ask for an address at once through one socket: the \
                 answers need {needed} bytes of receive buffer, and it has {room} \
                 (net.core.rmem_max)"
            )
        })
    }

    fn warn_of_privileges(&self, plan: &FleetPlan) -> Option<String> {
        let lacks = |capability: u64| self.capabilities & capability == 0;
        match &plan.lessor.as_ref()?.way {
            DhcpRoute::Relay { agent, .. } => {
                let port = agent.port();
                let is_privileged =
                    port != 0 && port < self.unprivileged_port && lacks(NET_BIND_SERVICE);
                is_privileged.then(|| {
                    format!(
                        "the relay agent's port {port} needs CAP_NET_BIND_SERVICE, which loadtest \
                         lacks"
                    )
                })
            }
            DhcpRoute::Link { interface } => lacks(NET_RAW)
                .then(|| format!("stations on {interface} need CAP_NET_RAW, which loadtest lacks")),
        }
    }
}

/// Source addresses that machines share; None if each has its own.
fn count_shared_sources(plan: &FleetPlan) -> Option<u32> {
    match plan.wire.sources {
        // Neither the network's own address nor its broadcast.
        Some(network) => Some((!u32::from(network.mask())).saturating_sub(1).max(1))
            .filter(|all| *all < plan.machines),
        None if [plan.tftp, plan.http].iter().all(|at| at.is_ipv4() && at.ip().is_loopback()) => {
            None
        }
        None => Some(1),
    }
}

/// A warning if there are too few machines for the rate.
fn describe_rate_slots(plan: &FleetPlan) -> Option<String> {
    let rate: f64 =
        plan.roles.iter().filter_map(|role| role.rate).map(|rate| rate.per_second).sum();
    let machines = plan.machines;
    let bears_s = f64::from(machines) / rate;
    (rate > 0.0 && bears_s < ANSWER_S).then(|| {
        format!(
            "{machines} machines can make {rate}/s only while a request takes less than {:.1} ms: \
             --clients {:.0} allows {:.0} ms",
            bears_s * 1e3,
            (rate * ANSWER_S).ceil(),
            ANSWER_S * 1e3
        )
    })
}

fn has_fetches(plan: &FleetPlan) -> bool {
    plan.roles.iter().any(|role| match &role.does {
        RoleTask::Boot(_) => true,
        RoleTask::Steps(steps) => steps.iter().any(|step| step.request != StepRequest::Dhcp),
    })
}

/// Connections of one machine that carry a single request.
fn count_role_connections(does: &RoleTask) -> u64 {
    let RoleTask::Steps(steps) = does else { return 0 };
    steps
        .iter()
        .filter(|step| matches!(step.request, StepRequest::Http { keep: false, .. }))
        .map(|step| u64::from(step.repeat))
        .sum()
}

/// Empty if the file cannot be read.
fn read_host_file(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

fn read_host_number(path: &str) -> Option<u64> {
    read_host_file(path).trim().parse().ok()
}

/// The soft limit of a process (proc(5), limits).
fn read_open_files_limit(limits: &str) -> Option<u64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::net::{Ipv4Addr, SocketAddrV4};
    use std::time::Duration;

    use ringboot_fleet::{
        ContentMap, DhcpAccess, FleetPace, MachineRole, Scenario, WireSettings, limits,
    };

    use super::*;

    const ROOMY: HostLimits = HostLimits {
        processors: 8,
        receive_buffer_max: 16 << 20,
        local_ports: 28_232,
        unprivileged_port: 1024,
        capabilities: u64::MAX,
        server_files: None,
    };

    fn roles(step: &str) -> Vec<MachineRole> {
        Scenario::parse("test.toml", &format!("[[machine]]\nsteps = [{step}]\n")).unwrap().roles
    }

    /// 500 machines that fetch a file from a server elsewhere.
    fn plan(server: [u8; 4], step: &str) -> FleetPlan {
        let at = SocketAddrV4::new(Ipv4Addr::from(server), 80);
        FleetPlan {
            machines: 500,
            roles: roles(step),
            arrival: ArrivalPattern::All,
            duration: None,
            warm_up: Duration::ZERO,
            within: None,
            lessor: None,
            tftp: at.into(),
            http: at.into(),
            pick: String::new(),
            contents: ContentMap::default(),
            pace: FleetPace {
                haste: 1,
                idle_waits: false,
                gives_up: true,
                patience: limits::PATIENCE,
            },
            wire: WireSettings::default(),
            seed: 1,
        }
    }

    #[track_caller]
    fn assert_foresees(host: HostLimits, plan: &FleetPlan, begins: &[&str]) {
        let said = host.list_warnings(plan);
        let fits = said.len() == begins.len()
            && said.iter().zip(begins).all(|(said, begin)| said.starts_with(begin));
        assert!(fits, "{said:?}");
    }

    #[test]
    fn machines_with_addresses_of_their_own_on_a_roomy_host_meet_nothing() {
        assert_foresees(ROOMY, &plan([127, 0, 0, 1], "{ http = \"a\" }"), &[]);
        let sources = Some("10.9.0.0/16".parse().unwrap());
        let far = plan([10, 0, 0, 1], "{ http = \"a\" }");
        assert_foresees(
            ROOMY,
            &FleetPlan { wire: WireSettings { sources, ..WireSettings::default() }, ..far.clone() },
            &[],
        );
        assert_foresees(ROOMY, &FleetPlan { machines: 8, ..far }, &[]);
    }

    #[test]
    fn shared_addresses_are_told_with_what_they_mean() {
        let far = plan([10, 0, 0, 1], "{ tftp = \"a\" }");
        assert_foresees(ROOMY, &far, &["500 machines will use 1 source address: "]);
        let sources = Some("10.9.0.0/27".parse().unwrap());
        let shared = FleetPlan { wire: WireSettings { sources, ..WireSettings::default() }, ..far };
        assert_foresees(ROOMY, &shared, &["500 machines will use 30 source addresses: "]);
        let closing = plan([10, 0, 0, 1], "{ http = \"a\", connection = \"close\", repeat = 100 }");
        let ports = "a connection for each request: 28232 local ports, each closed for 60 s after \
                     its use, allow 470 connections";
        assert_foresees(ROOMY, &closing, &["500 machines will", ports]);
    }

    #[test]
    fn a_host_that_gives_too_little_is_told_of() {
        let near = plan([127, 0, 0, 1], "{ http = \"a\" }");
        assert_foresees(
            HostLimits { processors: 1, ..ROOMY },
            &near,
            &["the server and the load generator share one processor"],
        );
        assert_foresees(
            HostLimits { server_files: Some(256), ..ROOMY },
            &near,
            &["the server may have 256 open files"],
        );
        let leasing = |way| FleetPlan {
            lessor: Some(DhcpAccess::new(way)),
            ..plan([10, 0, 0, 1], "{ dhcp = true }")
        };
        let agent = SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 2), 67);
        let relay = leasing(DhcpRoute::Relay {
            agent,
            server: SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 1), 67),
        });
        let small = HostLimits { receive_buffer_max: 212_992, capabilities: 0, ..ROOMY };
        let port = "the relay agent's port 67 needs CAP_NET_BIND_SERVICE";
        assert_foresees(
            small,
            &relay,
            &["500 machines will ask for an address at once through one socket", port],
        );
        assert_foresees(ROOMY, &relay, &[]);
        let station = leasing(DhcpRoute::Link { interface: "eth0".into() });
        assert_foresees(
            HostLimits { capabilities: NET_ADMIN, ..ROOMY },
            &station,
            &["stations on eth0 need CAP_NET_RAW"],
        );
    }

    #[test]
    fn a_rate_that_few_machines_cannot_bear_is_told_with_how_many_could() {
        let mut near = plan([127, 0, 0, 1], "{ http = \"a\" }");
        near.machines = 64;
        near.roles[0].rate = Some("5000/s".parse().unwrap());
        let warning = "64 machines can make 5000/s only while a request takes less than 12.8 ms: \
                       --clients 100 allows 20 ms";
        assert_foresees(ROOMY, &near, &[warning]);
        near.machines = 100;
        assert_foresees(ROOMY, &near, &[]);
    }

    #[test]
    fn this_host_can_be_read() {
        let host = HostLimits::read(Some(std::process::id()));
        assert!(
            host.processors > 0 && host.receive_buffer_max > 0 && host.local_ports > 0,
            "{host:?}"
        );
        assert!(host.server_files > Some(0), "{host:?}");
    }
}
