//! Another server's DHCP: how machines reach it, what a run would take from it, and the word that
//! lets the run begin.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::net::{IpAddr, SocketAddrV4};

use anyhow::{bail, ensure};
use ringboot_fleet::{Does, Lessor, Plan, Request, Way};
use ringboot_protocol::model::network::Network;

use crate::host::Host;

/// Where DHCP servers listen (RFC 2131 section 4.1).
const SERVER_PORT: u16 = 67;

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Another server's DHCP")]
pub(crate) struct Dhcp {
    /// Ask it for addresses: with --interface or with --relay, at ADDR:PORT [default: port 67 of
    /// --server]
    #[arg(
        long,
        value_name = "ADDR:PORT",
        num_args = 0..=1,
        requires = "server",
        conflicts_with = "no_dhcp"
    )]
    dhcp: Option<Option<SocketAddrV4>>,
    /// As machines on the network of this Ethernet interface, each with a hardware address of its
    /// own (needs CAP_NET_RAW)
    #[arg(long, value_name = "IF", requires = "dhcp", conflicts_with = "relay")]
    interface: Option<String>,
    /// As machines behind a relay agent at this address, one of this host in the machines' subnet.
    /// Port 67 suits every server, but needs the privilege to bind it; any other, or 0, asks for
    /// the answers there (RFC 8357)
    #[arg(long, value_name = "ADDR:PORT", requires = "dhcp")]
    relay: Option<SocketAddrV4>,
    /// Do not give addresses back at the end
    #[arg(long, requires = "dhcp")]
    keep_leases: bool,
    /// Load a server off loopback, as the plan says that is printed
    #[arg(long, requires = "server")]
    yes: bool,
}

impl Dhcp {
    /// None without --dhcp.
    pub(crate) fn lessor(&self, server: &Host) -> anyhow::Result<Option<Lessor>> {
        let Some(at) = self.dhcp else { return Ok(None) };
        let IpAddr::V4(address) = server.address else {
            bail!(
                "--dhcp asks for addresses of IPv4, and firmware then boots by IPv4: name the \
                 server by its IPv4 address instead of {server}, or say --no-dhcp"
            );
        };
        let way = match (&self.interface, self.relay) {
            (Some(interface), None) => {
                ensure!(
                    at.is_none(),
                    "with --interface the server is found by broadcast: --dhcp takes no address"
                );
                Way::Link { interface: interface.clone() }
            }
            (None, Some(agent)) => {
                Way::Relay { agent, server: at.unwrap_or(SocketAddrV4::new(address, SERVER_PORT)) }
            }
            _ => bail!(
                "say from where to ask for addresses: --dhcp --interface IF, or --dhcp --relay \
                 ADDR:PORT"
            ),
        };
        Ok(Some(Lessor { way, keeps_leases: self.keep_leases }))
    }

    /// Off loopback, says what the run will take, and goes on only with --yes.
    pub(crate) fn ask_leave(&self, server: &Host, plan: &Plan, quiet: bool) -> anyhow::Result<()> {
        let files = [plan.tftp, plan.http].iter().all(|at| at.ip().is_loopback());
        let leases = plan.lessor.as_ref().is_none_or(|lessor| lessor.way.is_loopback());
        if server.address.is_loopback() && files && leases {
            return Ok(());
        }
        let networks = plan
            .lessor
            .as_ref()
            .map(|lessor| lessor.way.networks())
            .transpose()?
            .unwrap_or_default();
        if !quiet || !self.yes {
            io::stderr().write_all(described(server, plan, &networks).as_bytes())?;
        }
        ensure!(
            self.yes,
            "{server} is not on loopback, others may use it: add --yes to load it so"
        );
        Ok(())
    }
}

/// What a run takes from a server that others may use.
fn described(server: &Host, plan: &Plan, networks: &[Network]) -> String {
    let mut text = format!("loads {server}:\n");
    let mut line = |what: &str, how: String| {
        // A String takes whatever is written to it.
        let _ = writeln!(text, "  {what:<8}{how}");
    };
    if let Some(Lessor { way, keeps_leases }) = &plan.lessor {
        let machines = plan.machines;
        let end = if *keeps_leases {
            "kept (--keep-leases)"
        } else {
            "given back at the end and on Ctrl-C"
        };
        let from = match way {
            Way::Relay { agent, server } => {
                format!("from {server} through the relay agent {agent}")
            }
            Way::Link { interface } => {
                format!(
                    "by broadcast on {interface}, which hears all frames meanwhile; any DHCP \
                     server there may answer"
                )
            }
        };
        line("leases", format!("{machines}, {from}; {end}"));
        line("pool", pool(machines, networks));
    }
    line("bytes", octets(plan));
    text
}

/// The part of the machines' network that leases take. Only the server knows its pool.
fn pool(machines: u32, networks: &[Network]) -> String {
    // Neither the network's own address nor its broadcast.
    let usable = |network: &Network| u64::from(!u32::from(network.mask())).saturating_sub(1);
    let all: u64 = networks.iter().map(usable).sum();
    if all == 0 {
        return "not known: this host has no address in the machines' network".to_owned();
    }
    let share = f64::from(machines) * 100.0 / all as f64;
    let names: Vec<String> = networks.iter().map(Network::to_string).collect();
    let more = if u64::from(machines) > all { " - more than there are" } else { "" };
    format!(
        "{share:.1} % of the {all} addresses of {}, if its pool has them all{more}",
        names.join(", ")
    )
}

/// What all machines together will fetch.
fn octets(plan: &Plan) -> String {
    let weights: u64 = plan.roles.iter().map(|role| u64::from(role.weight)).sum();
    let known: Option<Vec<u64>> = plan
        .roles
        .iter()
        .map(|role| Some(u64::from(role.weight) * each(&role.does, plan)?))
        .collect();
    let machines = plan.machines;
    let again = plan
        .duration
        .map_or(String::new(), |time| format!(", again and again for {} s", time.as_secs()));
    match known {
        Some(known) => {
            let all = known.iter().sum::<u64>() * u64::from(machines) / weights.max(1);
            format!("{:.1} MB in all for {machines} machines{again}", all as f64 / 1e6)
        }
        None => format!("all that {machines} machines fetch, of sizes that are not known{again}"),
    }
}

/// Octets that one machine fetches; None where that is not known before.
fn each(does: &Does, plan: &Plan) -> Option<u64> {
    let size = |name: &str| plan.contents.find(name).map(|content| content.octets());
    let Does::Steps(steps) = does else { return None };
    let octets = steps.iter().map(|step| {
        let once = match &step.request {
            Request::Dhcp => 0,
            Request::Tftp { name, .. } => size(name)?,
            Request::Http { path, range, .. } => range.map_or_else(|| size(path), Some)?,
        };
        Some(once * u64::from(step.repeat))
    });
    octets.sum()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn dhcp(relay: Option<&str>, interface: Option<&str>) -> Dhcp {
        let relay = relay.map(|relay| relay.parse().unwrap());
        Dhcp {
            dhcp: Some(None),
            interface: interface.map(str::to_owned),
            relay,
            keep_leases: false,
            yes: false,
        }
    }

    #[test]
    fn addresses_are_asked_for_from_a_place_that_was_named() {
        let server: Host = "10.0.0.1".parse().unwrap();
        let way = |dhcp: Dhcp| dhcp.lessor(&server).unwrap().map(|lessor| lessor.way);
        assert_eq!(way(dhcp(None, Some("eth0"))), Some(Way::Link { interface: "eth0".into() }));
        let agent = "10.0.0.2:67".parse().unwrap();
        let relay = Way::Relay { agent, server: "10.0.0.1:67".parse().unwrap() };
        assert_eq!(way(dhcp(Some("10.0.0.2:67"), None)), Some(relay));
        assert!(dhcp(None, None).lessor(&server).is_err());
        let error =
            dhcp(None, Some("eth0")).lessor(&"::1".parse().unwrap()).unwrap_err().to_string();
        assert!(error.contains("name the server by its IPv4 address instead of ::1"), "{error}");
        assert_eq!(way(Dhcp { dhcp: None, ..dhcp(None, None) }), None);
    }

    #[test]
    fn the_plan_says_what_part_of_the_network_leases_take() {
        let networks = ["10.0.0.0/24".parse().unwrap()];
        assert_eq!(
            pool(127, &networks),
            "50.0 % of the 254 addresses of 10.0.0.0/24, if its pool has them all"
        );
        assert!(pool(300, &networks).ends_with(
            "118.1 % of the 254 addresses of 10.0.0.0/24, if its pool has them all - more than \
                 there are"
        ));
        assert!(pool(300, &[]).starts_with("not known"));
    }
}
