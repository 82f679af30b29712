//! The checked configuration: one type for each table of the file, with the defaults filled in.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZeroU16;
use std::path::PathBuf;
use std::sync::Arc;

use super::places::ConfigPlaces;
use crate::model::machine::{Arch, Mac, Machine};
use crate::model::network::Ipv4Network;
use crate::snapshot::Snapshot;

/// The checked configuration: the server can run with every value of this type.
#[derive(Clone, Debug)]
pub struct Config {
    /// The tree that TFTP and HTTP serve. It may not exist: `check` and `serve` look.
    pub root: PathBuf,
    /// Directory of leases, history and quirks, which must outlive the process.
    pub state: PathBuf,
    /// `[links]`: directories outside the root into which links under the root may lead (T-59).
    pub links: Vec<PathBuf>,
    /// `[server]`
    pub server: ServerSettings,
    /// `[tftp]`
    pub tftp: TftpSettings,
    /// `[http]`
    pub http: HttpSettings,
    /// `[dhcp]`
    pub dhcp: DhcpSettings,
    /// `[log]`
    pub log: LogSettings,
    /// `[tuning]`
    pub tuning: TuningSettings,
    /// The part that a reload can replace: subnets, loaders, menu, the address and port in URLs.
    pub snapshot: Snapshot,
    /// The position of each key.
    pub places: Arc<ConfigPlaces>,
}

/// `[server]`
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServerSettings {
    /// Threads that answer TFTP and HTTP. None: one for each CPU that the process may use.
    pub workers: Option<usize>,
    /// The Unix socket of the admin API. None: the server has none.
    pub admin_socket: Option<PathBuf>,
    /// The user that the process becomes after a start as root. None: `ringboot` where that user
    /// exists.
    pub user: Option<String>,
}

/// `[tftp]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TftpSettings {
    /// Addresses that receive requests.
    pub listen: Vec<SocketAddr>,
    /// Transfers at a time for one client address. None: no limit.
    pub per_source: Option<u32>,
    /// Requests a second from one client address. None: no limit.
    pub requests_per_second: Option<u32>,
    /// Requests that may wait on one core while their client is over its limit.
    pub queue: u32,
    /// Blocks that one transfer may send in a millisecond (T-40). None: a whole window at once.
    pub packets_per_ms: Option<NonZeroU16>,
    /// Server ports of transfers, both ends included. None: the system's ephemeral ports.
    pub port_range: Option<(u16, u16)>,
    /// Look a missing file up once more without regard to case (T-60).
    pub case_insensitive: bool,
    /// Prefixes of absolute names that clients of an old set-up request, such as `/tftpboot`
    /// (T-57).
    pub strip_prefixes: Vec<String>,
    /// What clients may negotiate where no rule of `clients` matches.
    pub options: TftpOptions,
    /// `[[tftp.client]]`, in the order of the file.
    pub clients: Vec<TftpClient>,
}

impl TftpSettings {
    /// What this client may negotiate, by the first rule that matches it (T-23).
    pub fn options_for(&self, address: IpAddr, machine: Option<&Machine>) -> TftpOptions {
        self.clients
            .iter()
            .find(|rule| rule.matches(address, machine))
            .map_or(self.options, |rule| rule.options)
    }
}

/// What the server grants in option negotiation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TftpOptions {
    /// Blocks in one window, 1..=65535 (T-20).
    pub windowsize_max: u16,
    /// Bytes in one block, 8..=65464. None: what the MTU of the path allows (T-17).
    pub blksize_max: Option<u16>,
    /// Leave `blksize` out of every OACK (RFC 2348).
    pub refuse_blksize: bool,
    /// Leave `timeout` out of every OACK (RFC 2349).
    pub refuse_timeout: bool,
    /// Leave `tsize` out of every OACK (RFC 2349).
    pub refuse_tsize: bool,
    /// Leave `windowsize` out of every OACK (RFC 7440).
    pub refuse_windowsize: bool,
}

impl TftpOptions {
    /// True where the server grants no option: such a client gets DATA at once, never an OACK.
    pub fn refuses_all(self) -> bool {
        self.refuse_blksize && self.refuse_timeout && self.refuse_tsize && self.refuse_windowsize
    }
}

/// A rule for clients that negotiate options and then fail (T-23). Every condition must match.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TftpClient {
    /// The network of the client's address. None: any.
    pub network: Option<Ipv4Network>,
    /// The hardware address of the machine. None: any.
    pub mac: Option<Mac>,
    /// The architecture that the machine sent in DHCP (option 93). None: any.
    pub arch: Option<Arch>,
    /// What the server grants to such a client.
    pub options: TftpOptions,
}

impl TftpClient {
    fn matches(&self, address: IpAddr, machine: Option<&Machine>) -> bool {
        let arch = machine.and_then(|machine| machine.firmware?.arch);
        self.network.is_none_or(|network| contains_client(network, address))
            && self.mac.is_none_or(|mac| machine.is_some_and(|machine| machine.mac == mac))
            && self.arch.is_none_or(|wanted| arch == Some(wanted))
    }
}

fn contains_client(network: Ipv4Network, address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => network.contains(address),
        IpAddr::V6(_) => false,
    }
}

/// `[http]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpSettings {
    /// Addresses that accept connections.
    pub listen: Vec<SocketAddr>,
    /// Directories that list their files: `centos/os/` covers everything below it, the empty string
    /// the whole tree.
    pub index: Vec<String>,
    /// The file that answers for its directory, such as `index.html` (H-28).
    pub index_file: Option<String>,
    /// Connections at a time from one client address (H-34). None: no limit.
    pub per_source: Option<u32>,
    /// Connections at a time from all clients.
    pub connections: u32,
}

/// `[dhcp]` without the subnets, which are in the snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DhcpSettings {
    /// The interfaces with a DHCP socket. Empty without a `listen_address`: no DHCP.
    pub interfaces: Vec<String>,
    /// One socket on this address instead of one on each interface: behind relays, or on loopback.
    pub listen_address: Option<Ipv4Addr>,
    /// The UDP port; 67 but for tests.
    pub listen_port: u16,
}

impl DhcpSettings {
    /// True where the server opens a DHCP socket.
    pub fn is_wanted(&self) -> bool {
        self.listen_address.is_some() || !self.interfaces.is_empty()
    }
}

/// `[log]`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogSettings {
    /// Lines of this level and above are printed.
    pub level: tracing::Level,
    /// Lines go to syslog with this facility number (RFC 5424 section 6.2.1). None: to standard
    /// error.
    pub facility: Option<u8>,
}

/// `[tuning]`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TuningSettings {
    /// io_uring or epoll.
    pub datapath: DatapathChoice,
    /// Microseconds that a boot core polls before it sleeps while transfers are in flight.
    pub spin_us: u32,
    /// Sockets per core from which transfers answer (T-46).
    pub tid_sockets: u16,
    /// Bytes of a file in one sendfile call.
    pub http_chunk: u32,
    /// Large bodies that one core sends at full speed (`http::schedule`). None: no limit.
    pub http_slots: Option<u16>,
    /// Congestion control of HTTP connections (tcp(7), TCP_CONGESTION). None: the system's default.
    pub tcp_congestion: Option<&'static str>,
    /// Bytes of memory for boot images. None: a share of the machine's memory.
    pub image_memory: Option<u64>,
    /// Blocks of a window in one send, 1..=64.
    pub gso_segments: u32,
    /// Datagrams that may wait for a TFTP core in the buffers of its ring; a power of two.
    pub receive_buffers: u16,
}

/// How cores speak to the kernel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DatapathChoice {
    /// io_uring where the kernel allows a ring, else epoll.
    #[default]
    Auto,
    /// io_uring; the server does not start without it.
    IoUring,
    /// recvmmsg, sendmmsg and epoll, even where the kernel allows a ring.
    Epoll,
}
