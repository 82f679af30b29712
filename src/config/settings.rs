//! The configuration once it is checked: one type for each table of the file, with the defaults
//! filled in.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZeroU16;
use std::path::PathBuf;
use std::sync::Arc;

use super::places::ConfigPlaces;
use crate::model::machine::{Arch, Mac, Machine};
use crate::model::network::Ipv4Network;
use crate::snapshot::Snapshot;

/// The configuration, checked: whatever is in here can be run as it is.
#[derive(Clone, Debug)]
pub struct Config {
    /// The tree that TFTP and HTTP serve. Nobody has looked yet whether it is there.
    pub root: PathBuf,
    /// Directory of what must outlive the process: leases.
    pub state: PathBuf,
    pub server: ServerSettings,
    pub tftp: TftpSettings,
    pub http: HttpSettings,
    pub dhcp: DhcpSettings,
    pub log: LogSettings,
    pub tuning: TuningSettings,
    /// What the cores need: subnets, loaders, menu, the address and port in our URLs.
    pub snapshot: Snapshot,
    /// Where each key stands.
    pub places: Arc<ConfigPlaces>,
}

/// `[server]`
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServerSettings {
    /// Threads that answer TFTP and HTTP; None = one for each CPU that the process may use.
    pub workers: Option<usize>,
    /// Where `status` and `reload` find the server; None = nowhere.
    pub admin_socket: Option<PathBuf>,
    /// Who the process becomes when it was started as root; None = `ringboot` where that user
    /// exists.
    pub user: Option<String>,
}

/// `[tftp]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TftpSettings {
    pub listen: Vec<SocketAddr>,
    /// Transfers at a time for one client address; None = no limit.
    pub per_source: Option<u32>,
    /// Requests a second from one client address; None = no limit.
    pub requests_per_second: Option<u32>,
    /// Requests that may wait on one core when a client is over its limit.
    pub queue: u32,
    /// Blocks that may leave for one transfer in a millisecond (T-40); None = a whole window at
    /// once.
    pub packets_per_ms: Option<NonZeroU16>,
    /// Ports that transfers answer from, both ends included; None = the system's ephemeral ports.
    pub port_range: Option<(u16, u16)>,
    /// T-60: on a miss look once more without regard to case.
    pub case_insensitive: bool,
    /// T-57: prefixes of absolute names that clients of an old set-up ask for, such as `/tftpboot`.
    pub strip_prefixes: Vec<String>,
    /// What clients may negotiate where no rule below says otherwise.
    pub options: TftpOptions,
    /// `[[tftp.client]]`, in the order of the file.
    pub clients: Vec<TftpClient>,
}

impl TftpSettings {
    /// T-23: what this client may negotiate, by the first rule that fits it.
    pub fn options_for(&self, address: IpAddr, machine: Option<&Machine>) -> TftpOptions {
        self.clients
            .iter()
            .find(|rule| rule.fits(address, machine))
            .map_or(self.options, |rule| rule.options)
    }
}

/// What is granted in option negotiation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TftpOptions {
    /// Blocks in one window, 1..=65535 (T-20).
    pub windowsize_max: u16,
    /// Octets in one block, 8..=65464; None = what the way's MTU allows (T-17).
    pub blksize_max: Option<u16>,
    pub refuse_blksize: bool,
    pub refuse_timeout: bool,
    pub refuse_tsize: bool,
    pub refuse_windowsize: bool,
}

impl TftpOptions {
    /// True where no option at all is ever granted: such a client gets DATA at once, never an OACK.
    pub fn refuses_all(self) -> bool {
        self.refuse_blksize && self.refuse_timeout && self.refuse_tsize && self.refuse_windowsize
    }
}

/// A rule for clients that negotiate what they then cannot do (T-23). All that is given must fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TftpClient {
    pub network: Option<Ipv4Network>,
    pub mac: Option<Mac>,
    pub arch: Option<Arch>,
    pub options: TftpOptions,
}

impl TftpClient {
    fn fits(&self, address: IpAddr, machine: Option<&Machine>) -> bool {
        let network = self
            .network
            .is_none_or(|n| matches!(address.to_canonical(), IpAddr::V4(v4) if n.contains(v4)));
        let mac = self.mac.is_none_or(|mac| machine.is_some_and(|m| m.mac == mac));
        let asked = machine.and_then(|m| m.firmware).and_then(|firmware| firmware.arch);
        let arch = self.arch.is_none_or(|arch| asked == Some(arch));
        network && mac && arch
    }
}

/// `[http]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpSettings {
    pub listen: Vec<SocketAddr>,
    /// Directories that show what is in them: `centos/os/` covers everything below it, `` the whole
    /// tree.
    pub index: Vec<String>,
    /// The file that answers for its directory, such as `index.html` (H-28).
    pub index_file: Option<String>,
    /// Connections at a time from one client address; None = no limit (H-34).
    pub per_source: Option<u32>,
    /// Connections at a time in all.
    pub connections: u32,
}

/// `[dhcp]`, without the subnets: those are in the snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DhcpSettings {
    /// The interfaces that are listened on; empty (and no `listen_address`) = no DHCP at all.
    pub interfaces: Vec<String>,
    /// One socket on this address in the place of one on each interface: behind relays, or on
    /// loopback.
    pub listen_address: Option<Ipv4Addr>,
    pub listen_port: u16,
}

impl DhcpSettings {
    /// True where a DHCP socket is wanted at all.
    pub fn is_wanted(&self) -> bool {
        self.listen_address.is_some() || !self.interfaces.is_empty()
    }
}

/// `[log]`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogSettings {
    pub level: tracing::Level,
    /// Lines go to the system's log under this facility number (RFC 5424 section 6.2.1); None =
    /// standard error.
    pub facility: Option<u8>,
}

/// `[tuning]`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TuningSettings {
    pub datapath: DatapathChoice,
    /// Microseconds that a boot core polls before it sleeps while transfers are in flight.
    pub spin_us: u32,
    /// Sockets per core that transfers answer from (T-46).
    pub tid_sockets: u16,
    /// Octets of a file handed to one sendfile call.
    pub http_chunk: u32,
    /// Large bodies of a core at full speed (`http::schedule`); None = all at once.
    pub http_slots: Option<u16>,
    /// Congestion control of HTTP connections (tcp(7), TCP_CONGESTION); None = the system's own.
    pub tcp_congestion: Option<&'static str>,
    /// Octets of memory in which boot images are kept; None = a share of what there is.
    pub image_memory: Option<u64>,
    /// Blocks of a window that leave in one send, 1..=64.
    pub gso_segments: u32,
    /// Datagrams that may wait for a TFTP core in its ring's own buffers; a power of two.
    pub receive_buffers: u16,
}

/// How cores speak to the kernel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DatapathChoice {
    /// io_uring where the kernel gives a ring, else epoll.
    #[default]
    Auto,
    /// io_uring, and no start without it.
    IoUring,
    /// recvmmsg, sendmmsg and epoll, even where there is a ring.
    Epoll,
}
