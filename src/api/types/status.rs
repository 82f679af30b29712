//! What a running server does: sockets, subnets, cores, counters.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{FindingEntry, HealthReport, SubnetMode};

words! {
    /// State of an interface.
    LinkState {
        /// It is up and has a carrier.
        Up => "up",
        /// It is switched off.
        Down => "down",
        /// It is up, and nothing is at the other end of the wire.
        NoCarrier => "no carrier",
    }
}

words! {
    /// Whether leases can be written to the disk.
    StoreTrust {
        /// They can.
        Sound => "sound",
        /// The last commit failed: no new leases.
        Broken => "broken",
        /// The database could not be read: no DHCP is answered.
        Unread => "unread",
    }
}

/// What a running server does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ServerStatus {
    /// Version of the server.
    pub version: String,
    /// Process id.
    pub pid: u32,
    /// Seconds since the start.
    pub up_s: u64,
    /// Number of the configuration in force: counts from 1 with every start, each reload adds 1.
    pub generation: u64,
    /// Tables of the configuration whose changes take effect after a restart.
    pub after_restart: Vec<String>,
    pub user: UserIds,
    /// Bytes that a receive buffer of TFTP holds. Null: there is no TFTP.
    pub receive_buffer: Option<usize>,
    /// Directory that is served by TFTP and HTTP.
    pub root: String,
    pub sockets: SocketList,
    /// What was wrong with the configuration when it was read.
    pub findings: Vec<FindingEntry>,
    pub interfaces: Vec<InterfaceStatus>,
    pub subnets: Vec<SubnetStatus>,
    /// How the cores speak to the kernel.
    pub datapath: String,
    /// Why that is not io_uring, where io_uring was wanted.
    pub no_ring_because: Option<String>,
    /// Cores that got no ring and run by epoll.
    pub cores_without_ring: u64,
    /// Processor on which everything but the boot cores runs.
    pub control_cpu: usize,
    pub cores: Vec<CoreStatus>,
    /// Counters of DHCP. Null: no DHCP is answered.
    pub dhcp: Option<DhcpStatus>,
    /// Boot images that are mapped into memory.
    pub mappings: usize,
    pub copies: CopiesStatus,
    pub image_memory: ImageMemoryStatus,
    pub questions_waiting: WaitingQuestions,
    pub threads: Vec<ThreadStatus>,
    pub drops: DropCounts,
    pub quirks: QuirkCounts,
    pub health: HealthReport,
}

/// The user as whom the server runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UserIds {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
}

/// What the server listens on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SocketList {
    #[schema(value_type = Vec<SocketAddress>)]
    pub tftp: Vec<SocketAddr>,
    #[schema(value_type = Vec<SocketAddress>)]
    pub http: Vec<SocketAddr>,
    /// Interfaces or addresses with ports: `eth0:67`, `192.0.2.1:67`.
    pub dhcp: Vec<String>,
}

/// An address with its port: `192.0.2.1:69`, `[2001:db8::1]:69`.
#[derive(Debug, ToSchema)]
#[schema(value_type = String, format = "socket-address")]
pub struct SocketAddress(pub String);

/// An IPv4 or IPv6 address.
#[derive(Debug, ToSchema)]
#[schema(value_type = String, format = "ip-address")]
pub struct IpAddress(pub String);

/// One network interface of the server's machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct InterfaceStatus {
    pub name: String,
    /// Largest packet in bytes.
    pub mtu: u32,
    pub link: LinkState,
    #[schema(value_type = Vec<IpAddress>)]
    pub addresses: Vec<IpAddr>,
}

/// One subnet of the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SubnetStatus {
    /// Network in CIDR form.
    pub subnet: String,
    /// Interface on which it is served. Null: by relay agents alone.
    pub interface: Option<String>,
    /// Whether relay agents are answered.
    pub relay: bool,
    /// Why nothing is offered there now. Null: it is served, or off.
    pub silent_because: Option<String>,
    /// Whether other DHCP servers are looked for before the first offer.
    pub looking: bool,
    /// DHCP servers that answered the last look, beside ours.
    pub other_servers: Vec<OtherDhcpServer>,
    pub mode: SubnetMode,
    /// Whether machines boot the default entry of the menu without being asked.
    pub install_by_default: bool,
    /// How full its pools are. Null: not counted yet, or no DHCP is answered.
    pub pool: Option<PoolStatus>,
}

/// A DHCP server of somebody else.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OtherDhcpServer {
    /// Hardware address.
    pub mac: String,
    #[schema(value_type = String, format = Ipv4)]
    pub address: Ipv4Addr,
    /// Seconds since its last answer.
    pub answered_s: Option<u64>,
}

/// Addresses of a subnet's pools, which any machine may get.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PoolStatus {
    /// All of them.
    pub addresses: usize,
    /// Of these, those that no machine has or had.
    pub free: usize,
    /// Of these, leased ones.
    pub bound: usize,
    /// Of these, offered ones.
    pub offered: usize,
    /// Of these, those whose lease is over: kept for their machine while others are free.
    pub ended: usize,
    /// Of these, those that were declined or found in use.
    pub kept_back: usize,
    /// How full the pools are, in words.
    pub said: String,
    /// Whether 80 % are given.
    pub nearly_full: bool,
    /// Seconds since the last free address was given. Null: some are free.
    pub full_since_s: Option<u64>,
}

/// One boot core.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CoreStatus {
    /// Processor on which it runs.
    pub cpu: usize,
    pub tftp: TftpStatus,
    pub http: HttpStatus,
}

/// TFTP on one core. Counted from the start, but for `transfers`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TftpStatus {
    /// Transfers that run now.
    pub transfers: u64,
    /// Requests that came in.
    pub requests: u64,
    /// Requests of clients that are not served, or that were sent to a broadcast address.
    pub not_served: u64,
    /// Requests that waited for their turn.
    pub waited: u64,
    /// Requests that found no room to wait.
    pub dropped: u64,
    /// Requests that found the table of transfers full.
    pub full: u64,
    /// Transfers that gave their place to a newer one.
    pub displaced: u64,
    /// Transfers that were ended because somebody guessed at their port.
    pub guessed: u64,
    /// Times that work was put off because workers, files, descriptors or memory were short.
    pub busy: u64,
    /// Events that were left out of the log because there were too many.
    pub events_left_out: u64,
}

/// HTTP on one core. Counted from the start, but for `connections`, `at_full_speed` and `in_line`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HttpStatus {
    /// Connections that are open now.
    pub connections: u64,
    /// Requests that came in.
    pub requests: u64,
    /// Requests that were answered with 4xx or 5xx.
    pub refused: u64,
    /// Bytes of heads and bodies that the kernel took.
    pub bytes_sent: u64,
    /// Answers that were cut short because the file changed or the client went away.
    pub aborted: u64,
    /// Connections that were closed because the client was too slow.
    pub timed_out: u64,
    /// Connections that had to wait for room.
    pub queued: u64,
    /// Connections that found no room to wait.
    pub turned_away: u64,
    /// Connections that stood still and gave their place to one of a client that had less.
    pub given_up: u64,
    /// Connections that the kernel could not hand over for want of descriptors or memory.
    pub accept_failed: u64,
    /// Large files that are sent at full speed now.
    pub at_full_speed: u64,
    /// Large files that wait for their turn now.
    pub in_line: u64,
    /// Events that were left out of the log because there were too many.
    pub events_left_out: u64,
}

/// Counters of DHCP, from the start of the server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DhcpStatus {
    /// Interfaces or addresses with ports.
    pub sockets: Vec<String>,
    /// Messages that came in.
    pub received: u64,
    /// Of these, DISCOVER.
    pub discovers: u64,
    /// Of these, REQUEST.
    pub requests: u64,
    /// Of these, DECLINE.
    pub declines: u64,
    /// Of these, RELEASE.
    pub releases: u64,
    /// Of these, INFORM.
    pub informs: u64,
    /// Of these, BOOTP and what is no message at all.
    pub others: u64,
    /// Answers that were to leave.
    pub answered: u64,
    /// Of the answers, OFFER.
    pub offers: u64,
    /// Of the answers, ACK.
    pub acks: u64,
    /// Of the answers, NAK.
    pub naks: u64,
    /// Messages without an answer because no address was free.
    pub exhausted: u64,
    /// Messages that were dropped because too many came at once.
    pub dropped: u64,
    /// Requests that were dropped because the store is behind.
    pub dropped_commits: u64,
    /// Answers that were dropped because their way out is full.
    pub unsent: u64,
    /// Answers that the kernel refused to send.
    pub failed: u64,
    /// Addresses that are known now, in whatever state.
    pub leases: u64,
    /// Of these, leased ones.
    pub bound: u64,
    /// Of these, offered ones.
    pub offered: u64,
    /// Of these, those whose lease is over.
    pub ended: u64,
    /// Of these, those that were declined or found in use.
    pub kept_back: u64,
    /// ACKs that wait until their lease is on the disk.
    pub commits_pending: u64,
    /// The lease database. Null: there is none.
    pub store: Option<StoreStatus>,
}

/// The lease database.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StoreStatus {
    pub state: StoreTrust,
    /// Why it is not sound.
    pub why: Option<String>,
    /// Seconds for which it has not been sound.
    pub since_s: Option<u64>,
    /// Commits that failed since the start.
    pub failed_commits: u64,
    /// Offers that were not made, because no lease could have followed.
    pub offers_withheld: u64,
    /// Commits that wait.
    pub queued: u64,
    /// Milliseconds for which commits have waited while none was finished.
    pub oldest_ms: Option<u64>,
}

/// Memory for rendered files and copies of small ones.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CopiesStatus {
    /// Bytes that may be held.
    pub budget: u64,
    /// Bytes that are held.
    pub held: u64,
    /// Requests that found no room.
    pub refused: u64,
}

/// Memory for boot images.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ImageMemoryStatus {
    /// Bytes that may be held.
    pub budget: u64,
    /// Bytes that are held.
    pub resident: u64,
    /// Of these, bytes that could not be locked.
    pub unlocked: u64,
    /// Pieces that gave their place to others.
    pub evictions: u64,
    /// Pieces that could not be locked and went because nobody used them.
    pub expired: u64,
}

/// Questions that wait for a worker thread.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WaitingQuestions {
    /// Names that are looked up.
    pub names: usize,
    /// Files that are rendered.
    pub made: usize,
    /// Pieces of boot images that are read.
    pub pieces: usize,
}

/// One thread of the server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ThreadStatus {
    pub name: String,
    /// Milliseconds for which it has been at one thing. Null: it waits for something to do.
    pub busy_ms: Option<u64>,
    /// How often it was begun again after a fault of its own.
    pub panics: u64,
}

/// What was lost since the start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DropCounts {
    /// Datagrams that the kernel dropped because a receive buffer was full.
    pub sockets: u64,
    /// Events that were not remembered because there were too many at once.
    pub events: u64,
    /// Lines of the log that nobody took.
    pub log_lines: u64,
    /// Calls of all cores that failed because the kernel was short of memory.
    pub kernel_shortages: u64,
}

/// Limits that were learnt or pinned.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct QuirkCounts {
    /// Machines that get less than they ask for.
    pub machines: usize,
    /// Makers and vendor classes of which every machine does.
    pub groups: usize,
    /// Of both, those that an operator pinned.
    pub pinned: usize,
    /// Limits that are not applied for now, to see whether they are still needed.
    pub on_trial: usize,
}
