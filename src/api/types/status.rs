//! The status of a running server: sockets, subnets, cores, counters.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{FindingEntry, HealthReport, SubnetMode};

words! {
    /// The link state of an interface.
    LinkState {
        /// The interface is up and has a carrier.
        Up => "up",
        /// The interface is down.
        Down => "down",
        /// The interface is up, without a carrier.
        NoCarrier => "no carrier",
    }
}

words! {
    /// Whether the server can store leases.
    StoreTrust {
        /// It can.
        Sound => "sound",
        /// The last commit failed: the server gives no new leases.
        Broken => "broken",
        /// The server could not read the database: it answers no DHCP.
        Unread => "unread",
    }
}

/// The status of a running server.
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
    /// The user of the process.
    pub user: UserIds,
    /// Receive buffer of a TFTP socket in bytes. Null: there is no TFTP.
    pub receive_buffer: Option<usize>,
    /// Directory that TFTP and HTTP serve.
    pub root: String,
    /// Its sockets.
    pub sockets: SocketList,
    /// Findings about the configuration at the time when it was read.
    pub findings: Vec<FindingEntry>,
    /// Network interfaces of this machine.
    pub interfaces: Vec<InterfaceStatus>,
    /// Subnets in the order of the configuration file.
    pub subnets: Vec<SubnetStatus>,
    /// The interface of the cores to the kernel: io_uring or epoll.
    pub datapath: String,
    /// Why the cores do not use io_uring. Null: they do, or epoll is configured.
    pub no_ring_because: Option<String>,
    /// Cores that got no ring and use epoll.
    pub cores_without_ring: u64,
    /// Processor on which everything except the boot cores runs.
    pub control_cpu: usize,
    /// Boot cores.
    pub cores: Vec<CoreStatus>,
    /// The storm that the server is in. Null: large files are on their way to no more than one
    /// machine. During a storm the answer takes half a second longer, in which the server measures.
    #[serde(default)]
    pub storm: Option<StormStatus>,
    /// Counters of DHCP. Null: the server answers no DHCP.
    pub dhcp: Option<DhcpStatus>,
    /// Boot images that are mapped into memory.
    pub mappings: usize,
    /// Memory for rendered files and copies.
    pub copies: CopiesStatus,
    /// Memory for boot images.
    pub image_memory: ImageMemoryStatus,
    /// Work that waits for a worker thread.
    pub questions_waiting: WaitingQuestions,
    /// Threads in the order of their start.
    pub threads: Vec<ThreadStatus>,
    /// Losses since the start.
    pub drops: DropCounts,
    /// Limits of firmware.
    pub quirks: QuirkCounts,
    /// The health of the server.
    pub health: HealthReport,
}

/// Files of more than 1 MiB on their way to more than one machine, by TFTP and HTTP together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StormStatus {
    /// Machines that receive such a file as fast as they can.
    pub at_full_speed: usize,
    /// Machines that wait, with a trickle, because others came first.
    pub in_line: usize,
    /// Bytes of these files that the machines do not have yet. Files that they have not asked for
    /// are not in it.
    pub bytes_left: u64,
    /// Bytes that the machines received in a second, measured over half a second.
    pub bytes_per_s: u64,
    /// Seconds until the last of these files is there, at this rate. Null: nothing moves.
    pub left_s: Option<u64>,
    /// All of it in a sentence.
    pub said: String,
}

/// The user of the server process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UserIds {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
}

/// The sockets of the server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SocketList {
    /// Addresses that receive TFTP requests.
    #[schema(value_type = Vec<SocketAddress>)]
    pub tftp: Vec<SocketAddr>,
    /// Addresses that accept HTTP connections.
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
    /// Name of the interface.
    pub name: String,
    /// Largest packet in bytes.
    pub mtu: u32,
    /// Its link state.
    pub link: LinkState,
    /// Its addresses.
    #[schema(value_type = Vec<IpAddress>)]
    pub addresses: Vec<IpAddr>,
}

/// One subnet of the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SubnetStatus {
    /// Network in CIDR form.
    pub subnet: String,
    /// Interface on which the server answers. Null: only relay agents reach the subnet.
    pub interface: Option<String>,
    /// Whether the server answers relay agents.
    pub relay: bool,
    /// Why the server offers nothing there now. Null: it offers, or the mode is `off`.
    pub silent_because: Option<String>,
    /// Whether the server still looks for other DHCP servers before its first offer.
    pub looking: bool,
    /// Other DHCP servers that answered the last look.
    pub other_servers: Vec<OtherDhcpServer>,
    /// Whether the server answers there.
    pub mode: SubnetMode,
    /// Whether machines boot the default entry of the menu without a question.
    pub install_by_default: bool,
    /// The use of its pools. Null: not counted yet, or the server answers no DHCP.
    pub pool: Option<PoolStatus>,
}

/// Another DHCP server on a subnet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OtherDhcpServer {
    /// Hardware address.
    pub mac: String,
    /// Its address.
    #[schema(value_type = String, format = Ipv4)]
    pub address: Ipv4Addr,
    /// Seconds since its last answer. Null: unknown.
    pub answered_s: Option<u64>,
}

/// The use of a subnet's pools.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PoolStatus {
    /// All addresses of the pools.
    pub addresses: usize,
    /// Of these, those that no machine has or had.
    pub free: usize,
    /// Of these, leased ones.
    pub bound: usize,
    /// Of these, offered ones.
    pub offered: usize,
    /// Of these, those whose lease expired: kept for their machine while others are free.
    pub ended: usize,
    /// Of these, those that were declined or found in use.
    pub kept_back: usize,
    /// The use as a clause.
    pub said: String,
    /// Whether 80 % are in use.
    pub nearly_full: bool,
    /// Seconds since the pools became full. Null: addresses are free.
    pub full_since_s: Option<u64>,
}

/// One boot core.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CoreStatus {
    /// Processor on which it runs.
    pub cpu: usize,
    /// Its TFTP counters.
    pub tftp: TftpStatus,
    /// Its HTTP counters.
    pub http: HttpStatus,
}

/// TFTP on one core. Counts begin with the start, except `transfers`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TftpStatus {
    /// Open transfers now.
    pub transfers: u64,
    /// Received requests.
    pub requests: u64,
    /// Requests of clients that the server does not serve, and requests to a broadcast address.
    pub not_served: u64,
    /// Requests that waited for other transfers.
    pub waited: u64,
    /// Requests that found the queue full.
    pub dropped: u64,
    /// Requests that found the table of transfers full.
    pub full: u64,
    /// Transfers that a newer one displaced.
    pub displaced: u64,
    /// Transfers that the server ended because another host guessed at their port.
    pub guessed: u64,
    /// How often work was postponed for want of workers, files, descriptors or memory.
    pub busy: u64,
    /// Events that the log left out because there were too many.
    pub events_left_out: u64,
}

/// HTTP on one core. Counts begin with the start, except `connections`, `at_full_speed` and
/// `in_line`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HttpStatus {
    /// Open connections now.
    pub connections: u64,
    /// Received requests.
    pub requests: u64,
    /// Requests that got 4xx or 5xx.
    pub refused: u64,
    /// Bytes of heads and bodies that the kernel accepted.
    pub bytes_sent: u64,
    /// Responses that ended early because the file changed or the client left.
    pub aborted: u64,
    /// Connections that the server closed because the client was too slow.
    pub timed_out: u64,
    /// Connections that waited for a free place.
    pub queued: u64,
    /// Connections that found the queue full.
    pub turned_away: u64,
    /// Still connections that the server closed for a client with fewer connections.
    pub given_up: u64,
    /// Connections that the kernel could not accept for want of descriptors or memory.
    pub accept_failed: u64,
    /// Large files that the core sends at full speed now.
    pub at_full_speed: u64,
    /// Large files that wait for their turn now.
    pub in_line: u64,
    /// Events that the log left out because there were too many.
    pub events_left_out: u64,
}

/// Counters of DHCP, from the start of the server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DhcpStatus {
    /// Interfaces or addresses with ports.
    pub sockets: Vec<String>,
    /// Received messages.
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
    /// Of these, BOOTP and datagrams that are no DHCP message.
    pub others: u64,
    /// Replies to send.
    pub answered: u64,
    /// Of the replies, OFFER.
    pub offers: u64,
    /// Of the replies, ACK.
    pub acks: u64,
    /// Of the replies, NAK.
    pub naks: u64,
    /// Messages without a reply because no address was free.
    pub exhausted: u64,
    /// Messages that the server dropped because too many came at once.
    pub dropped: u64,
    /// Requests that the server dropped because the store was behind.
    pub dropped_commits: u64,
    /// Replies that the server dropped because the send buffer was full.
    pub unsent: u64,
    /// Replies that the kernel refused to send.
    pub failed: u64,
    /// Known addresses now, in any state.
    pub leases: u64,
    /// Of these, leased ones.
    pub bound: u64,
    /// Of these, offered ones.
    pub offered: u64,
    /// Of these, those whose lease expired.
    pub ended: u64,
    /// Of these, those that were declined or found in use.
    pub kept_back: u64,
    /// ACKs that wait for the commit of their lease.
    pub commits_pending: u64,
    /// The lease database. Null: there is none.
    pub store: Option<StoreStatus>,
}

/// The lease database.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StoreStatus {
    /// Whether the server can store leases.
    pub state: StoreTrust,
    /// Why it cannot. Null: it can.
    pub why: Option<String>,
    /// Seconds since when it cannot. Null: it can.
    pub since_s: Option<u64>,
    /// Commits that failed since the start.
    pub failed_commits: u64,
    /// Offers that the server withheld because no lease could have followed.
    pub offers_withheld: u64,
    /// Waiting commits.
    pub queued: u64,
    /// Milliseconds since the last commit ended while others wait. Null: none waits.
    pub oldest_ms: Option<u64>,
}

/// Memory for rendered files and copies of small ones.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CopiesStatus {
    /// Limit in bytes.
    pub budget: u64,
    /// Bytes in use.
    pub held: u64,
    /// Requests that found no memory.
    pub refused: u64,
}

/// Memory for boot images.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ImageMemoryStatus {
    /// Limit in bytes.
    pub budget: u64,
    /// Bytes in use.
    pub resident: u64,
    /// Of these, bytes that the server could not lock.
    pub unlocked: u64,
    /// Pieces that were evicted for others.
    pub evictions: u64,
    /// Unlocked pieces that were dropped because no transfer used them.
    pub expired: u64,
}

/// Work that waits for a worker thread.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WaitingQuestions {
    /// Names to look up.
    pub names: usize,
    /// Files to render.
    pub made: usize,
    /// Pieces of boot images to read.
    pub pieces: usize,
}

/// One thread of the server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ThreadStatus {
    /// Name of the thread.
    pub name: String,
    /// Milliseconds for which it has been busy with one task. Null: it waits for work.
    pub busy_ms: Option<u64>,
    /// How often it was restarted after a panic.
    pub panics: u64,
}

/// Losses since the start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DropCounts {
    /// Datagrams that the kernel dropped because a receive buffer was full.
    pub sockets: u64,
    /// Events that the journal lost because too many came at once.
    pub events: u64,
    /// Log lines that could not be written.
    pub log_lines: u64,
    /// System calls of all cores that failed because the kernel was short of memory.
    pub kernel_shortages: u64,
}

/// The number of learnt and pinned limits.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct QuirkCounts {
    /// Limited machines.
    pub machines: usize,
    /// Limited makers and vendor classes.
    pub groups: usize,
    /// Of both, those that an operator pinned.
    pub pinned: usize,
    /// Limits that the server does not apply for now, to see whether they are still needed.
    pub on_trial: usize,
}
