//! Another server's DHCP: how machines reach it, the plan of a run, and the consent by --yes.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::net::{IpAddr, SocketAddrV4};

use anyhow::{bail, ensure};
use ringboot_fleet::{DhcpAccess, DhcpRoute, FleetPlan, RoleTask, StepRequest};
use ringboot_protocol::model::network::Ipv4Network;

use crate::host::ServerHost;

/// Where DHCP servers listen (RFC 2131 section 4.1).
const SERVER_PORT: u16 = 67;

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Another server's DHCP")]
pub(crate) struct DhcpFlags {
    /// Ask the server for addresses, with --interface or with --relay, at ADDR:PORT [default: port
    /// 67 of --server]
    #[arg(
        long,
        value_name = "ADDR:PORT",
        num_args = 0..=1,
        requires = "server",
        conflicts_with = "no_dhcp"
    )]
    dhcp: Option<Option<SocketAddrV4>>,
    /// Be machines on the network of this Ethernet interface, each with its own hardware address
    /// (needs CAP_NET_RAW)
    #[arg(long, value_name = "IF", requires = "dhcp", conflicts_with = "relay")]
    interface: Option<String>,
    /// Be machines behind a relay agent at this address, an address of this host in the machines'
    /// subnet. Port 67 works with every server, but needs the privilege to bind it; another one, or
    /// 0, needs a server that answers there (RFC 8357)
    #[arg(long, value_name = "ADDR:PORT", requires = "dhcp")]
    relay: Option<SocketAddrV4>,
    /// Do not release addresses at the end
    #[arg(long, requires = "dhcp")]
    keep_leases: bool,
    /// Load a server that is not on loopback, by the printed plan; or make the network namespaces
    /// of --link
    #[arg(long)]
    yes: bool,
}

impl DhcpFlags {
    /// None without --dhcp.
    pub(crate) fn build_access(&self, server: &ServerHost) -> anyhow::Result<Option<DhcpAccess>> {
        let Some(at) = self.dhcp else { return Ok(None) };
        let IpAddr::V4(address) = server.address else {
            bail!(
                "--dhcp asks for IPv4 addresses, and firmware then boots by IPv4: name the server \
                 by its IPv4 address instead of {server}, or use --no-dhcp"
            );
        };

        // clap has refused --interface beside --relay: only neither of them is left as an error.
        let way = match (&self.interface, self.relay) {
            (Some(interface), None) => {
                ensure!(
                    at.is_none(),
                    "with --interface machines find the server by broadcast: --dhcp takes no \
                     address"
                );
                DhcpRoute::Link { interface: interface.clone() }
            }
            (None, Some(agent)) => DhcpRoute::Relay {
                agent,
                server: at.unwrap_or(SocketAddrV4::new(address, SERVER_PORT)),
            },
            _ => bail!(
                "name the place of the machines: --dhcp --interface IF, or --dhcp --relay ADDR:PORT"
            ),
        };
        Ok(Some(DhcpAccess { way, keeps_leases: self.keep_leases }))
    }

    /// Whether the command line has --yes.
    pub(crate) fn has_consent(&self) -> bool {
        self.yes
    }

    /// If the server is not on loopback, prints the plan of the run, and goes on only with --yes.
    pub(crate) fn require_consent(
        &self,
        server: &ServerHost,
        plan: &FleetPlan,
        quiet: bool,
    ) -> anyhow::Result<()> {
        // --tftp, --http and --dhcp may name other hosts than --server: each of them must be on
        // loopback.
        let files = [plan.tftp, plan.http].iter().all(|at| at.ip().is_loopback());
        let leases = plan.lessor.as_ref().is_none_or(|lessor| lessor.way.is_loopback());
        if server.address.is_loopback() && files && leases {
            return Ok(());
        }
        let networks = match &plan.lessor {
            Some(lessor) => lessor.way.list_networks()?,
            None => Vec::new(),
        };

        // --quiet hides the plan only from a person who has agreed to it.
        if !quiet || !self.yes {
            io::stderr().write_all(describe_dhcp_run(server, plan, &networks).as_bytes())?;
        }
        ensure!(self.yes, "{server} is not on loopback, others may use it: add --yes to load it");
        Ok(())
    }
}

/// The plan of a run: what it takes from a server that others may use.
fn describe_dhcp_run(server: &ServerHost, plan: &FleetPlan, networks: &[Ipv4Network]) -> String {
    let mut text = format!("loads {server}:\n");
    let mut line = |what: &str, how: String| {
        // A String takes whatever is written to it.
        let _ = writeln!(text, "  {what:<8}{how}");
    };
    if let Some(DhcpAccess { way, keeps_leases }) = &plan.lessor {
        let machines = plan.machines;
        let end = if *keeps_leases {
            "kept (--keep-leases)"
        } else {
            "released at the end and on Ctrl-C"
        };
        let from = match way {
            DhcpRoute::Relay { agent, server } => {
                format!("from {server} through the relay agent {agent}")
            }
            DhcpRoute::Link { interface } => {
                format!(
                    "by broadcast on {interface}, which receives all frames meanwhile; any DHCP \
                     server there may answer"
                )
            }
        };
        line("leases", format!("{machines}, {from}; {end}"));
        line("pool", describe_pool_share(machines, networks));
    }
    line("bytes", describe_planned_bytes(plan));
    text
}

/// The share of the machines' network that the leases take. Only the server knows its pool.
fn describe_pool_share(machines: u32, networks: &[Ipv4Network]) -> String {
    // Neither the network's own address nor its broadcast.
    let usable =
        networks.iter().map(|network| u64::from(!u32::from(network.mask())).saturating_sub(1));
    let all: u64 = usable.sum();
    if all == 0 {
        return "unknown: this host has no address in the machines' network".to_owned();
    }
    let share = f64::from(machines) * 100.0 / all as f64;
    let names: Vec<String> = networks.iter().map(Ipv4Network::to_string).collect();
    let more = if u64::from(machines) > all { " - more than exist" } else { "" };
    format!(
        "{share:.1} % of the {all} addresses of {}, if the pool has all of them{more}",
        names.join(", ")
    )
}

/// The bytes that all machines together will fetch.
fn describe_planned_bytes(plan: &FleetPlan) -> String {
    let weights: u64 = plan.roles.iter().map(|role| u64::from(role.weight)).sum();
    let known: Option<Vec<u64>> = plan
        .roles
        .iter()
        .map(|role| Some(u64::from(role.weight) * count_machine_bytes(&role.does, plan)?))
        .collect();
    let machines = plan.machines;
    let again =
        plan.duration.map_or(String::new(), |time| format!(", repeated for {} s", time.as_secs()));
    match known {
        Some(known) => {
            let all = known.iter().sum::<u64>() * u64::from(machines) / weights.max(1);
            format!("{:.1} MB in all for {machines} machines{again}", all as f64 / 1e6)
        }
        None => format!("all files that {machines} machines fetch, of unknown sizes{again}"),
    }
}

/// Bytes that one machine fetches; None if that is unknown before the run.
fn count_machine_bytes(does: &RoleTask, plan: &FleetPlan) -> Option<u64> {
    let size = |name: &str| plan.contents.find(name).map(|content| content.octets());
    let RoleTask::Steps(steps) = does else { return None };
    let octets = steps.iter().map(|step| {
        let once = match &step.request {
            StepRequest::Dhcp => 0,
            StepRequest::Tftp { name, .. } => size(name)?,
            StepRequest::Http { path, range, .. } => range.map_or_else(|| size(path), Some)?,
        };
        Some(once * u64::from(step.repeat))
    });
    octets.sum()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn dhcp(relay: Option<&str>, interface: Option<&str>) -> DhcpFlags {
        let relay = relay.map(|relay| relay.parse().unwrap());
        DhcpFlags {
            dhcp: Some(None),
            interface: interface.map(str::to_owned),
            relay,
            keep_leases: false,
            yes: false,
        }
    }

    #[test]
    fn addresses_are_asked_for_from_a_place_that_was_named() {
        let server: ServerHost = "10.0.0.1".parse().unwrap();
        let way = |dhcp: DhcpFlags| dhcp.build_access(&server).unwrap().map(|lessor| lessor.way);
        assert_eq!(
            way(dhcp(None, Some("eth0"))),
            Some(DhcpRoute::Link { interface: "eth0".into() })
        );
        let agent = "10.0.0.2:67".parse().unwrap();
        let relay = DhcpRoute::Relay { agent, server: "10.0.0.1:67".parse().unwrap() };
        assert_eq!(way(dhcp(Some("10.0.0.2:67"), None)), Some(relay));
        assert!(dhcp(None, None).build_access(&server).is_err());
        let error =
            dhcp(None, Some("eth0")).build_access(&"::1".parse().unwrap()).unwrap_err().to_string();
        assert!(error.contains("name the server by its IPv4 address instead of ::1"), "{error}");
        assert_eq!(way(DhcpFlags { dhcp: None, ..dhcp(None, None) }), None);
    }

    #[test]
    fn the_plan_says_what_part_of_the_network_leases_take() {
        let networks = ["10.0.0.0/24".parse().unwrap()];
        assert_eq!(
            describe_pool_share(127, &networks),
            "50.0 % of the 254 addresses of 10.0.0.0/24, if the pool has all of them"
        );
        assert!(describe_pool_share(300, &networks).ends_with(
            "118.1 % of the 254 addresses of 10.0.0.0/24, if the pool has all of them - more than \
                 exist"
        ));
        assert!(describe_pool_share(300, &[]).starts_with("unknown"));
    }
}
