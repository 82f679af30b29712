//! Drops of the server's kernel during a run, if the server is on this host: counters of /proc
//! before and after.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::IpAddr;
use std::path::Path;

use ringboot_fleet::VethLink;
use ringboot_io::engine::net::list_interfaces;
use serde::{Deserialize, Serialize};

use crate::meter::list_process_tree;

/// Compares the counters of a network namespace with those at its beginning.
#[derive(Debug)]
pub(crate) struct DropWatch {
    /// The server's process, if it is known; else the namespace is this process's own.
    pid: Option<u32>,
    before: DropCounters,
}

/// Drops of the kernel. It counts for a whole network namespace, so the load generator's own drops
/// count if it shares the server's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct KernelDrops {
    /// Datagrams for which a receive buffer had no room (/proc/net/snmp, Udp RcvbufErrors).
    pub(crate) udp_receive_buffer: u64,
    /// All datagrams that arrived and were not delivered (Udp InErrors), with those above.
    pub(crate) udp_errors: u64,
    /// Those of them at the server's own sockets; None if its process is not known.
    pub(crate) server_sockets: Option<u64>,
    /// Connections for which a listen queue had no room (/proc/net/netstat, TcpExt
    /// ListenOverflows).
    pub(crate) listen_overflows: u64,
    /// All connections that a listener dropped (TcpExt ListenDrops), with those above.
    pub(crate) listen_drops: u64,
    /// Packets for which the queues of a private link (--link) had no room, both ways.
    #[serde(default)]
    pub(crate) link_queue: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct DropCounters {
    drops: KernelDrops,
    /// Drops of each UDP socket of the server, by inode.
    sockets: BTreeMap<u64, u64>,
}

impl DropWatch {
    /// None if the server is not known to be on this host.
    pub(crate) fn begin(pid: Option<u32>, server: IpAddr) -> Option<Self> {
        if pid.is_none() && !server.is_loopback() && !is_local_server(server) {
            return None;
        }
        Some(Self { pid, before: DropCounters::read(pid)? })
    }

    /// With the drops of the link, if the run made one. None if the server's process has ended
    /// meanwhile.
    pub(crate) fn end(&self, link: Option<&VethLink>) -> Option<KernelDrops> {
        let link_queue = link.map_or(Some(0), |link| link.count_drops().ok())?;
        let drops = DropCounters::read(self.pid)?.since(&self.before);
        Some(KernelDrops { link_queue, ..drops })
    }
}

impl KernelDrops {
    /// The sum of datagrams, connections and packets.
    pub(crate) fn count_total(&self) -> u64 {
        self.udp_errors + self.listen_drops + self.link_queue
    }

    /// A sentence for each counter that is not zero.
    pub(crate) fn describe(&self) -> Vec<String> {
        // The counters of the kernel include each other: RcvbufErrors has the drops of the server's
        // sockets, InErrors has RcvbufErrors, ListenDrops has ListenOverflows. Each sentence names
        // only what the one before it does not.
        let own = self.server_sockets.unwrap_or(0);
        let others = self.udp_receive_buffer.saturating_sub(own);
        let damaged = self.udp_errors.saturating_sub(self.udp_receive_buffer);
        let dropped = self.listen_drops.saturating_sub(self.listen_overflows);

        // Without the server's process nobody knows whose sockets dropped these datagrams.
        let of_others = if self.server_sockets.is_some() {
            "datagrams found a full receive buffer at other sockets of this host, perhaps \
             loadtest's own"
        } else {
            "datagrams found a full receive buffer on this host, the server's or loadtest's own \
             (Udp RcvbufErrors)"
        };
        let counts = [
            (
                own,
                "datagrams were dropped at the server's own sockets because their receive buffers \
                 were full: net.core.rmem_max, or a server too slow to read",
            ),
            (others, of_others),
            (
                damaged,
                "datagrams arrived and were not delivered (Udp InErrors without RcvbufErrors)",
            ),
            (
                self.listen_overflows,
                "connections found a listen queue full (TcpExt ListenOverflows): \
                 net.core.somaxconn, or a server too slow to accept",
            ),
            (self.link_queue, "packets found the queue of the link full (--link)"),
            (
                dropped,
                "connections were dropped by a listening socket (TcpExt ListenDrops without \
                 ListenOverflows)",
            ),
        ];
        let seen = counts.into_iter().filter(|(count, _)| *count > 0);
        seen.map(|(count, what)| format!("{count} {what}")).collect()
    }
}

impl DropCounters {
    fn read(pid: Option<u32>) -> Option<Self> {
        let net = pid.map_or("/proc/self/net".to_owned(), |pid| format!("/proc/{pid}/net"));
        let file = |name: &str| fs::read_to_string(format!("{net}/{name}"));
        let (snmp, netstat) = (file("snmp").ok()?, file("netstat").ok()?);
        let inodes = pid.map(list_process_sockets);
        let mut sockets = BTreeMap::new();
        for name in ["udp", "udp6"] {
            // A kernel without IPv6 has no udp6.
            let rows = file(name).unwrap_or_default();
            if let Some(ours) = &inodes {
                let all = rows.lines().filter_map(read_socket_drops);
                sockets.extend(all.filter(|(inode, _)| ours.contains(inode)));
            }
        }
        let drops = KernelDrops {
            udp_receive_buffer: read_kernel_counter(&snmp, "Udp:", "RcvbufErrors")?,
            udp_errors: read_kernel_counter(&snmp, "Udp:", "InErrors")?,
            server_sockets: inodes.map(|_| 0),
            listen_overflows: read_kernel_counter(&netstat, "TcpExt:", "ListenOverflows")?,
            listen_drops: read_kernel_counter(&netstat, "TcpExt:", "ListenDrops")?,
            link_queue: 0,
        };
        Some(Self { drops, sockets })
    }

    /// A socket that was closed meanwhile does not count.
    fn since(&self, before: &Self) -> KernelDrops {
        let (now, then) = (&self.drops, &before.drops);
        let of_sockets = self
            .sockets
            .iter()
            .map(|(inode, drops)| drops.saturating_sub(*before.sockets.get(inode).unwrap_or(&0)));
        KernelDrops {
            udp_receive_buffer: now.udp_receive_buffer.saturating_sub(then.udp_receive_buffer),
            udp_errors: now.udp_errors.saturating_sub(then.udp_errors),
            server_sockets: now.server_sockets.map(|_| of_sockets.sum()),
            listen_overflows: now.listen_overflows.saturating_sub(then.listen_overflows),
            listen_drops: now.listen_drops.saturating_sub(then.listen_drops),
            link_queue: 0,
        }
    }
}

/// A counter of /proc/net/snmp or netstat: a line of names, and below it the line of numbers.
fn read_kernel_counter(text: &str, group: &str, name: &str) -> Option<u64> {
    let mut lines = text.lines().filter(|line| line.starts_with(group));
    let (names, numbers) = (lines.next()?, lines.next()?);
    let place = names.split_whitespace().position(|word| word == name)?;
    numbers.split_whitespace().nth(place)?.parse().ok()
}

/// Inode and drops of a row of /proc/net/udp: its tenth and last fields.
fn read_socket_drops(row: &str) -> Option<(u64, u64)> {
    let mut words = row.split_whitespace();
    let inode = words.nth(9)?.parse().ok()?;
    Some((inode, words.next_back()?.parse().ok()?))
}

/// Inodes of the sockets that a process and its children have open.
fn list_process_sockets(pid: u32) -> BTreeSet<u64> {
    let mut inodes = BTreeSet::new();
    for pid in list_process_tree(pid) {
        let Ok(files) = fs::read_dir(format!("/proc/{pid}/fd")) else { continue };
        inodes.extend(files.flatten().filter_map(|file| read_socket_inode(&file.path())));
    }
    inodes
}

/// None if this open file is no socket.
fn read_socket_inode(file: &Path) -> Option<u64> {
    let leads_to = fs::read_link(file).ok()?;
    leads_to.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
}

/// Only IPv4: --pid names an IPv6 server on this host.
fn is_local_server(server: IpAddr) -> bool {
    let IpAddr::V4(server) = server else { return false };
    let interfaces = list_interfaces().unwrap_or_default();
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
        assert_eq!(read_kernel_counter(text, "Udp:", "RcvbufErrors"), Some(2));
        assert_eq!(read_kernel_counter(text, "Udp:", "InErrors"), Some(3));
        assert_eq!(read_kernel_counter(text, "Udp:", "Nothing"), None);
    }

    #[test]
    fn a_socket_that_nobody_reads_drops_and_its_process_is_named_for_it() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let watch = DropWatch::begin(Some(std::process::id()), Ipv4Addr::LOCALHOST.into()).unwrap();
        let (sender, to) = (UdpSocket::bind("127.0.0.1:0").unwrap(), socket.local_addr().unwrap());
        let mut drops = KernelDrops::default();
        // A default buffer holds some hundred of these.
        for _ in 0..100_000 {
            sender.send_to(&[0; 1400], to).unwrap();
            drops = watch.end(None).unwrap();
            if drops.server_sockets > Some(0) {
                break;
            }
        }
        assert!(drops.server_sockets > Some(0) && drops.udp_receive_buffer > 0, "{drops:?}");
        assert!(
            drops.describe()[0].ends_with("or a server too slow to read"),
            "{:?}",
            drops.describe()
        );
    }

    #[test]
    fn a_server_elsewhere_is_not_looked_at() {
        assert!(DropWatch::begin(None, Ipv4Addr::new(203, 0, 113, 9).into()).is_none());
        assert!(DropWatch::begin(None, Ipv4Addr::LOCALHOST.into()).is_some());
    }

    #[test]
    fn only_what_was_dropped_is_told() {
        assert_eq!(KernelDrops::default().describe(), Vec::<String>::new());
        let drops = KernelDrops {
            udp_receive_buffer: 7,
            udp_errors: 9,
            server_sockets: Some(5),
            listen_overflows: 2,
            listen_drops: 3,
            link_queue: 4,
        };
        let said = drops.describe();
        let begins = [
            "5 datagrams were dropped at",
            "2 datagrams found a full",
            "2 datagrams arrived",
            "2 connections found",
            "4 packets found the queue",
            "1 connections were",
        ];
        assert!(
            said.len() == begins.len()
                && said.iter().zip(begins).all(|(said, begin)| said.starts_with(begin)),
            "{said:?}"
        );
    }
}
