//! What the server's kernel dropped during a run, where the server is on this host: counters of
//! /proc before and after.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::IpAddr;

use ringboot_io::engine::net::interfaces;
use serde::{Deserialize, Serialize};

use crate::meter::family;

/// Looks at the counters of a network namespace from now on.
#[derive(Debug)]
pub(crate) struct Watch {
    /// The server, where it is known; else the namespace is this process's own.
    pid: Option<u32>,
    before: Counters,
}

/// What was dropped. Counters of the kernel are those of a whole network namespace: of the load
/// generator as well where both share it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Drops {
    /// Datagrams for which a receive buffer had no room (/proc/net/snmp, Udp RcvbufErrors).
    pub(crate) udp_receive_buffer: u64,
    /// All datagrams that came and were not delivered (Udp InErrors), those too.
    pub(crate) udp_errors: u64,
    /// Of them, those at the server's own sockets; None where its process is not known.
    pub(crate) server_sockets: Option<u64>,
    /// Connections for which a listen queue had no room (/proc/net/netstat, TcpExt
    /// ListenOverflows).
    pub(crate) listen_overflows: u64,
    /// All connections that a listener dropped (TcpExt ListenDrops), those too.
    pub(crate) listen_drops: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Counters {
    drops: Drops,
    /// Of each of the server's UDP sockets, by inode.
    sockets: BTreeMap<u64, u64>,
}

impl Watch {
    /// None where the server is not on this host, as far as is known.
    pub(crate) fn begin(pid: Option<u32>, server: IpAddr) -> Option<Self> {
        let is_here = || server.is_loopback() || is_of_this_host(server);
        (pid.is_some() || is_here()).then_some(())?;
        Some(Self { pid, before: Counters::read(pid)? })
    }

    /// None where the server's process has ended meanwhile.
    pub(crate) fn end(&self) -> Option<Drops> {
        Some(Counters::read(self.pid)?.since(&self.before))
    }
}

impl Drops {
    /// Datagrams and connections together.
    pub(crate) fn all(&self) -> u64 {
        self.udp_errors + self.listen_drops
    }

    /// What there is to say of it.
    pub(crate) fn sentences(&self) -> Vec<String> {
        let own = self.server_sockets.unwrap_or(0);
        let others = self.udp_receive_buffer.saturating_sub(own);
        let mut sentences = Vec::new();
        let mut say = |count: u64, what: &str| {
            if count > 0 {
                sentences.push(format!("{count} {what}"));
            }
        };
        say(
            own,
            "datagrams were dropped at the server's own sockets, for lack of room: \
             net.core.rmem_max, or a server too slow to read",
        );
        if self.server_sockets.is_some() {
            say(
                others,
                "datagrams found no room in receive buffers of other sockets of this host, perhaps \
                 of loadtest's own",
            );
        } else {
            say(
                others,
                "datagrams found no room in a receive buffer of this host, the server's or \
                 loadtest's own (Udp RcvbufErrors)",
            );
        }
        let damaged = self.udp_errors.saturating_sub(self.udp_receive_buffer);
        say(damaged, "datagrams came and were not delivered (Udp InErrors without RcvbufErrors)");
        say(
            self.listen_overflows,
            "connections found a listen queue full (TcpExt ListenOverflows): net.core.somaxconn, \
             or a server too slow to accept",
        );
        let dropped = self.listen_drops.saturating_sub(self.listen_overflows);
        say(
            dropped,
            "connections were dropped by a listener (TcpExt ListenDrops without ListenOverflows)",
        );
        sentences
    }
}

impl Counters {
    fn read(pid: Option<u32>) -> Option<Self> {
        let net = pid.map_or("/proc/self/net".to_owned(), |pid| format!("/proc/{pid}/net"));
        let file = |name: &str| fs::read_to_string(format!("{net}/{name}"));
        let (snmp, netstat) = (file("snmp").ok()?, file("netstat").ok()?);
        let inodes = pid.map(sockets_of);
        let mut sockets = BTreeMap::new();
        for name in ["udp", "udp6"] {
            // Without IPv6 there is no such file.
            let rows = file(name).unwrap_or_default();
            let ours = |inode: &u64| inodes.as_ref().is_some_and(|inodes| inodes.contains(inode));
            sockets.extend(rows.lines().filter_map(socket).filter(|(inode, _)| ours(inode)));
        }
        let drops = Drops {
            udp_receive_buffer: counter(&snmp, "Udp:", "RcvbufErrors")?,
            udp_errors: counter(&snmp, "Udp:", "InErrors")?,
            server_sockets: inodes.map(|_| 0),
            listen_overflows: counter(&netstat, "TcpExt:", "ListenOverflows")?,
            listen_drops: counter(&netstat, "TcpExt:", "ListenDrops")?,
        };
        Some(Self { drops, sockets })
    }

    /// Of sockets that were closed meanwhile nothing is known.
    fn since(&self, before: &Self) -> Drops {
        let (now, then) = (&self.drops, &before.drops);
        let of_socket = |(inode, drops): (&u64, &u64)| {
            drops.saturating_sub(*before.sockets.get(inode).unwrap_or(&0))
        };
        Drops {
            udp_receive_buffer: now.udp_receive_buffer.saturating_sub(then.udp_receive_buffer),
            udp_errors: now.udp_errors.saturating_sub(then.udp_errors),
            server_sockets: now.server_sockets.map(|_| self.sockets.iter().map(of_socket).sum()),
            listen_overflows: now.listen_overflows.saturating_sub(then.listen_overflows),
            listen_drops: now.listen_drops.saturating_sub(then.listen_drops),
        }
    }
}

/// A number of /proc/net/snmp or netstat: a line of names, and under it the line of their numbers.
fn counter(text: &str, group: &str, name: &str) -> Option<u64> {
    let mut lines = text.lines().filter(|line| line.starts_with(group));
    let (names, numbers) = (lines.next()?, lines.next()?);
    let place = names.split_whitespace().position(|word| word == name)?;
    numbers.split_whitespace().nth(place)?.parse().ok()
}

/// Inode and drops of a row of /proc/net/udp: its tenth and last words.
fn socket(row: &str) -> Option<(u64, u64)> {
    let mut words = row.split_whitespace();
    let inode = words.nth(9)?.parse().ok()?;
    Some((inode, words.next_back()?.parse().ok()?))
}

/// Inodes of the sockets that a process and its children have open.
fn sockets_of(pid: u32) -> BTreeSet<u64> {
    let inodes = |pid: u32| {
        let files = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten();
        files.filter_map(|file| {
            let leads_to = fs::read_link(file.ok()?.path()).ok()?;
            leads_to.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
        })
    };
    family(pid).into_iter().flat_map(inodes).collect()
}

/// Addresses of IPv6 are not looked for: a server on this host is named by --pid then.
fn is_of_this_host(server: IpAddr) -> bool {
    let IpAddr::V4(server) = server else { return false };
    let interfaces = interfaces().unwrap_or_default();
    interfaces.iter().any(|interface| interface.addresses.contains(&server.into()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::net::{Ipv4Addr, UdpSocket};

    use super::*;

    #[test]
    fn a_counter_is_found_by_its_name() {
        let text = "Ip: Forwarding\nIp: 1\nUdp: InDatagrams InErrors RcvbufErrors\nUdp: 27 3 \
                    2\nUdpLite: InErrors\nUdpLite: 9\n";
        assert_eq!(counter(text, "Udp:", "RcvbufErrors"), Some(2));
        assert_eq!(counter(text, "Udp:", "InErrors"), Some(3));
        assert_eq!(counter(text, "Udp:", "Nothing"), None);
    }

    #[test]
    fn a_socket_that_nobody_reads_drops_and_its_process_is_named_for_it() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let watch = Watch::begin(Some(std::process::id()), Ipv4Addr::LOCALHOST.into()).unwrap();
        let (sender, to) = (UdpSocket::bind("127.0.0.1:0").unwrap(), socket.local_addr().unwrap());
        let mut drops = Drops::default();
        // A default buffer holds some hundred of these.
        for _ in 0..100_000 {
            sender.send_to(&[0; 1400], to).unwrap();
            drops = watch.end().unwrap();
            if drops.server_sockets > Some(0) {
                break;
            }
        }
        assert!(drops.server_sockets > Some(0) && drops.udp_receive_buffer > 0, "{drops:?}");
        assert!(
            drops.sentences()[0].ends_with("or a server too slow to read"),
            "{:?}",
            drops.sentences()
        );
    }

    #[test]
    fn a_server_elsewhere_is_not_looked_at() {
        assert!(Watch::begin(None, Ipv4Addr::new(203, 0, 113, 9).into()).is_none());
        assert!(Watch::begin(None, Ipv4Addr::LOCALHOST.into()).is_some());
    }

    #[test]
    fn only_what_was_dropped_is_told() {
        assert_eq!(Drops::default().sentences(), Vec::<String>::new());
        let drops = Drops {
            udp_receive_buffer: 7,
            udp_errors: 9,
            server_sockets: Some(5),
            listen_overflows: 2,
            listen_drops: 3,
        };
        let said = drops.sentences();
        let begins = [
            "5 datagrams were dropped at",
            "2 datagrams found no",
            "2 datagrams came",
            "2 connections found",
            "1 connections were",
        ];
        assert!(
            said.len() == begins.len()
                && said.iter().zip(begins).all(|(said, begin)| said.starts_with(begin)),
            "{said:?}"
        );
    }
}
