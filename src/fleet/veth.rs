//! A link between two network namespaces of this host: a private server on one side, the machines
//! on the other.
//!
//! Unlike loopback, a link cuts the windows of TFTP into packets when they leave, has a queue that
//! may be full, and, if it is shaped, a rate. The namespaces have no name, so nothing of them is
//! left however the process ends.

use std::fmt;
use std::io;
use std::net::Ipv4Addr;
use std::process::{Command, Stdio};
use std::str::FromStr;

use ringboot_io::engine::namespace::NetworkNamespace;
use ringboot_protocol::model::network::Ipv4Network;

/// The rate of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkRate {
    /// As fast as the host's processors move packets.
    Unshaped,
    /// Megabits a second, both ways: from 1 to 100,000.
    Megabits(u32),
}

/// Of [`LinkRate::Megabits`]: no host moves packets faster between two namespaces.
const MEGABITS_MAX: u32 = 100_000;

impl FromStr for LinkRate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |digits: &str, factor: u32| digits.parse::<u32>().ok()?.checked_mul(factor);
        let megabits = match (text.strip_suffix("mbit"), text.strip_suffix("gbit")) {
            _ if text == "unshaped" => return Ok(Self::Unshaped),
            (Some(digits), _) => number(digits, 1),
            (_, Some(digits)) => number(digits, 1000),
            _ => None,
        };
        megabits.filter(|rate| (1..=MEGABITS_MAX).contains(rate)).map(Self::Megabits).ok_or_else(
            || format!("{text:?} is no rate: 1gbit, 10gbit, 100mbit, or unshaped; 100gbit at most"),
        )
    }
}

impl fmt::Display for LinkRate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unshaped => f.write_str("unshaped"),
            Self::Megabits(rate) if rate % 1000 == 0 => write!(f, "{}gbit", rate / 1000),
            Self::Megabits(rate) => write!(f, "{rate}mbit"),
        }
    }
}

/// Why there is no link.
#[derive(Debug, thiserror::Error)]
pub enum NoLink {
    /// The kernel makes no namespace.
    #[error("cannot make a network namespace: {0}; a link needs root")]
    Namespace(io::Error),
    /// A program is missing.
    #[error("cannot start {program}: {error}; it is in the Debian package {package}")]
    Program {
        /// The name of the program.
        program: &'static str,
        /// The package that has it.
        package: &'static str,
        /// The error of the host.
        error: io::Error,
    },
    /// A program refused its task.
    #[error("{command}: {said}")]
    Command {
        /// The command line.
        command: String,
        /// Its standard error.
        said: String,
    },
}

/// The addresses of a private server and its machines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PrivateNetwork {
    /// The server's only address.
    pub(crate) server: Ipv4Addr,
    /// The first relay agent; the pool of the same subnet begins far above any rack.
    pub(crate) relay: Ipv4Addr,
    /// The machines' subnet: all of it belongs to their side.
    pub(crate) machines: Ipv4Network,
    /// The pool, as the configuration has it.
    pub(crate) pool: &'static str,
}

/// The network of a server and machines on loopback.
pub(crate) const LOOPBACK: PrivateNetwork = PrivateNetwork {
    server: Ipv4Addr::LOCALHOST,
    relay: Ipv4Addr::new(127, 77, 0, 2),
    machines: Ipv4Network { address: Ipv4Addr::new(127, 77, 0, 0), prefix: 16 },
    pool: "127.77.16.1-127.77.255.250",
};

/// The network of a link. The machines are behind their end of it, as behind a router: no address
/// needs ARP, and a leased one is at home at once.
pub(crate) const LINK: PrivateNetwork = PrivateNetwork {
    server: Ipv4Addr::new(10, 76, 0, 1),
    relay: Ipv4Addr::new(10, 77, 0, 2),
    machines: Ipv4Network { address: Ipv4Addr::new(10, 77, 0, 0), prefix: 16 },
    pool: "10.77.16.1-10.77.255.250",
};

/// The machines' end of the link, a neighbour of [`LINK`]'s server.
const ROUTER: Ipv4Addr = Ipv4Addr::new(10, 76, 0, 2);
/// The name of both ends, each in its namespace.
const INTERFACE: &str = "veth0";
/// Frames that wait in front of a shaped link, full ones: what a port of a switch has room for.
const QUEUE_FRAMES: u64 = 1000;
/// Bytes of a full frame, without its checksum.
const FRAME_BYTES: u64 = 1514;
/// A burst at full speed lasts so long, seconds: tc(8) wants the bucket to hold what arrives
/// between two ticks of the kernel, or the link does not reach its rate.
const BURST_S: f64 = 0.001;
/// The smallest bucket, bytes.
const BURST_BYTES_MIN: u64 = 16 * 1024;

/// Programs, each with its Debian package.
const IP: (&str, &str) = ("ip", "iproute2");
const TC: (&str, &str) = ("tc", "iproute2");
const ETHTOOL: (&str, &str) = ("ethtool", "ethtool");

/// Two network namespaces with a veth pair between them. The kernel removes all of it when this
/// value is dropped and no process is inside.
#[derive(Debug)]
pub struct VethLink {
    server: NetworkNamespace,
    machines: NetworkNamespace,
}

/// One end of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LinkEnd {
    Server,
    Machines,
}

impl VethLink {
    /// Makes both namespaces with their interfaces, addresses and queues. Needs root, `ip` and `tc`
    /// (iproute2) and `ethtool`.
    pub fn make(rate: LinkRate) -> Result<Self, NoLink> {
        let link = Self {
            server: NetworkNamespace::make().map_err(NoLink::Namespace)?,
            machines: NetworkNamespace::make().map_err(NoLink::Namespace)?,
        };
        let other = link.machines.path().display().to_string();
        link.ip(
            LinkEnd::Server,
            &[
                "link", "add", "name", INTERFACE, "type", "veth", "peer", "name", INTERFACE,
                "netns", &other,
            ],
        )?;
        for (end, address) in [(LinkEnd::Server, LINK.server), (LinkEnd::Machines, ROUTER)] {
            link.ip(end, &["link", "set", "dev", "lo", "up"])?;
            link.ip(end, &["addr", "add", &format!("{address}/30"), "dev", INTERFACE])?;
            // As on a card that cuts TCP alone: else a window crosses the link in one piece, and is
            // cut for its receiver (docs/scaling.md).
            link.run(end, ETHTOOL, &["-K", INTERFACE, "tx-udp-segmentation", "off"])?;
            link.ip(end, &["link", "set", "dev", INTERFACE, "up"])?;
            if let LinkRate::Megabits(megabits) = rate {
                link.shape(end, megabits)?;
            }
        }

        // With this address on its loopback interface the whole subnet belongs to the machines'
        // side.
        let machines = LINK.machines;
        let at_home = format!("{}/{}", LINK.relay, machines.prefix);
        link.ip(LinkEnd::Machines, &["addr", "add", &at_home, "dev", "lo"])?;
        let router = ROUTER.to_string();
        link.ip(LinkEnd::Server, &["route", "add", &machines.to_string(), "via", &router])?;
        Ok(link)
    }

    /// Moves the calling thread to the machines' side, and with it all that it starts from now on.
    pub fn enter(&self) -> Result<(), NoLink> {
        self.machines.enter().map_err(NoLink::Namespace)
    }

    /// Packets for which the queues had no room since the link was made, both ends together.
    pub fn count_drops(&self) -> Result<u64, NoLink> {
        let mut drops = 0;
        for end in [LinkEnd::Server, LinkEnd::Machines] {
            let shown = self.run(end, TC, &["-s", "qdisc", "show", "dev", INTERFACE])?;
            drops += shown.lines().filter_map(read_dropped).sum::<u64>();
        }
        Ok(drops)
    }

    /// Makes the process that `command` starts begin on the server's side.
    pub(crate) fn contain_server(&self, command: &mut Command) {
        self.server.contain_process(command);
    }

    /// A token bucket with a queue of [`QUEUE_FRAMES`] in front of one end.
    fn shape(&self, end: LinkEnd, megabits: u32) -> Result<(), NoLink> {
        let bytes_per_s = f64::from(megabits) * 1e6 / 8.0;
        // A bucket of at most 12.5 MB.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let burst = ((bytes_per_s * BURST_S) as u64).max(BURST_BYTES_MIN);
        let (rate, burst) = (format!("{megabits}mbit"), burst.to_string());
        let limit = (QUEUE_FRAMES * FRAME_BYTES).to_string();
        let bucket = ["rate", &rate, "burst", &burst, "limit", &limit];
        let qdisc = ["qdisc", "add", "dev", INTERFACE, "root", "tbf"];
        self.run(end, TC, &[&qdisc[..], &bucket].concat()).map(|_| ())
    }

    fn ip(&self, end: LinkEnd, arguments: &[&str]) -> Result<(), NoLink> {
        self.run(end, IP, arguments).map(|_| ())
    }

    /// Runs a program of a Debian package on one side, and returns its output.
    fn run(
        &self,
        end: LinkEnd,
        (program, package): (&'static str, &'static str),
        arguments: &[&str],
    ) -> Result<String, NoLink> {
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::null());
        match end {
            LinkEnd::Server => self.server.contain_process(&mut command),
            LinkEnd::Machines => self.machines.contain_process(&mut command),
        }
        let output =
            command.output().map_err(|error| NoLink::Program { program, package, error })?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        Err(NoLink::Command { command: format!("{program} {}", arguments.join(" ")), said })
    }
}

/// 7 of ` Sent 0 bytes 0 pkt (dropped 7, overlimits 0 requeues 0)`.
fn read_dropped(line: &str) -> Option<u64> {
    line.split_once("(dropped ")?.1.split_once(',')?.0.parse().ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_drops_of_a_queue_are_read_out_of_what_tc_prints() {
        let line = " Sent 180 bytes 2 pkt (dropped 7, overlimits 4 requeues 0) ";
        assert_eq!(read_dropped(line), Some(7));
        assert_eq!(read_dropped("qdisc noqueue 0: root refcnt 2"), None);
    }

    #[test]
    fn a_rate_is_written_as_it_is_read() {
        for (text, rate) in [
            ("unshaped", LinkRate::Unshaped),
            ("1gbit", LinkRate::Megabits(1000)),
            ("2500mbit", LinkRate::Megabits(2500)),
            ("100gbit", LinkRate::Megabits(100_000)),
        ] {
            assert_eq!(text.parse(), Ok(rate));
            assert_eq!(rate.to_string(), text);
        }
        for wrong in ["", "fast", "1", "1Gbit", "0mbit", "101gbit", "5000000gbit", "-1mbit"] {
            let said = wrong.parse::<LinkRate>().unwrap_err();
            assert!(said.contains("is no rate: 1gbit"), "{said}");
        }
    }
}
