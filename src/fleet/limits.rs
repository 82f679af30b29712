//! The fleet's named limits: the resources of one simulated machine, and its patience.

use std::time::Duration;

/// Bytes of one read from a socket. One buffer serves the whole fleet, so a machine needs no memory
/// of its own for data.
pub const READ_BYTES: usize = 256 * 1024;

/// Bytes of an HTTP response head; no boot server sends a longer one.
pub const HEAD_BYTES_MAX: usize = 16 * 1024;

/// Bytes of a menu or script that a machine reads. iPXE and PXELINUX read far less.
pub const MENU_BYTES_MAX: usize = 256 * 1024;

/// Bytes of one DHCP answer: those of an Ethernet frame (D-4).
pub const DHCP_BYTES_MAX: usize = 1500;

/// Machines behind one relay agent: a rack. More of them at the same instant overflow the default
/// receive buffer of a socket.
pub const MACHINES_PER_RELAY: u32 = 48;

/// Queued answers of one machine; a retransmission at most doubles the two of an exchange.
pub const ANSWERS_QUEUED_MAX: usize = 8;

/// DHCP messages of one read or send.
pub const DHCP_BATCH: usize = 64;

/// DHCP servers that the fleet distinguishes on one segment; it does not release leases of further
/// ones.
pub const LINK_SERVERS_MAX: usize = 64;

/// The least rate of RELEASEs, a second. A RELEASE has no answer, so none must get lost: the fleet
/// sends them no faster than leases were acknowledged in the run, except for this. (The slowest
/// measured server, dnsmasq on a slow disk, took 90 a second.)
pub const RELEASES_PER_SECOND_MIN: u32 = 100;
/// The longest time to release all addresses: with more of them the rate rises, and some may get
/// lost.
pub const RELEASE_TIME_MAX: Duration = Duration::from_secs(10);
/// RELEASEs that are due within this time leave together.
pub const RELEASE_PAUSE: Duration = Duration::from_millis(10);

/// An address of this host with a longer prefix does not show the machines' network.
pub const HOST_NETWORK_PREFIX_MAX: u8 = 30;

/// Pause after a NAK: dhclient begins again at once, and would ask a server that refuses every
/// REQUEST without end.
pub const DHCP_NAK_PAUSE: Duration = Duration::from_millis(100);

/// EDK2 tries a broken HTTP transfer again after 2 s (H-10); iPXE scripts with `|| goto retry` do
/// it at once.
pub const HTTP_RETRY: Duration = Duration::from_secs(2);

/// Silence after which a client closes a connection. EDK2 waits 5 s for a first byte, iPXE for
/// ever.
pub const HTTP_SILENCE_MAX: Duration = Duration::from_secs(10);

/// Pause before a client repeats a TFTP transfer that ended without a file.
pub const TFTP_RETRY: Duration = Duration::from_secs(1);

/// Time without progress in one step after which the machine counts as failed.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Chained scripts (`chain`, `CONFIG`) that a machine follows: a loop of menus must end.
pub const CHAINED_SCRIPTS_MAX: u32 = 4;

/// Loaders that load another one: more are a loop of DHCP answers (D-69).
pub const CHAINED_LOADERS_MAX: u32 = 4;

/// Silence after which a transfer begins again, as a person at the console would restart it:
/// PXELINUX by itself waits for minutes.
pub const TFTP_SILENCE_MAX: Duration = Duration::from_secs(16);
/// Datagrams of one read; another system call sends the answers.
pub const TFTP_BATCH: usize = 64;
/// Bytes for each of them: joined datagrams (UDP_GRO) fill an IP packet.
pub const TFTP_DATAGRAM_BYTES_MAX: usize = 65_536;
/// Generations of sockets that machines with their own addresses share. Successive requests of a
/// machine use each of them in turn, so that a server never takes a new request for a
/// retransmission of the previous one.
pub const TFTP_GENERATIONS: usize = 4;
/// How long a reordered datagram waits.
pub const REORDER_HOLD: Duration = Duration::from_millis(2);

/// The longest time until a private server is READY.
pub const READY_WAIT: Duration = Duration::from_secs(30);
/// Starts of a private server, each on other ports.
pub const START_TRIES_MAX: u32 = 3;

/// Open files of a machine at once: a TCP connection, which it may keep while it uses TFTP on
/// shared sockets.
pub const FILES_PER_MACHINE: u64 = 1;
/// The same if machines share one address: two TFTP sockets after a size probe, and a kept
/// connection.
pub const FILES_PER_MACHINE_WITHOUT_ADDRESS: u64 = 3;
/// Open files of the process itself, of the relay agents and of the shared sockets.
pub const FILES_RESERVED: u64 = 512;

/// Bytes of one file that a walk fetches at most, unless it reads the file itself: all of a loader,
/// the beginning of an initrd. Lockstep TFTP takes about a second for it.
pub const SAMPLE_BYTES: u64 = 8 << 20;
/// Bytes at the end of a longer file that a walk fetches over HTTP.
pub const SAMPLE_TAIL_BYTES: u64 = 64 << 10;
/// Longest silence in a step of a walk: firmware waits longer, but a person at the prompt does not.
pub const WALK_PATIENCE: Duration = Duration::from_secs(3);
/// The divisor of firmware's waits in a walk.
pub const WALK_HASTE: u32 = 8;
/// Width of a bucket of the throughput over time; doubled whenever all buckets are in use.
pub const SERIES_WIDTH: Duration = Duration::from_millis(100);
/// Buckets of the throughput over time: 100 s at their first width.
pub const SERIES_BUCKETS_MAX: usize = 1000;

/// Boots that the report keeps one by one, 64 bytes each; the histograms have all of them.
pub const RECORDS_MAX: usize = 20_000;

/// Machines of one run.
pub const MACHINES_MAX: u32 = 100_000;
/// The greatest weight of a role.
pub const WEIGHT_MAX: u32 = 1000;
/// The most repetitions of one step.
pub const REPEAT_MAX: u32 = 1_000_000;
/// Pause before a machine with a duration begins again after a failed boot, as a person would need
/// to switch it on.
pub const AGAIN_AFTER_FAILURE: Duration = Duration::from_secs(1);

/// The least rate of power-ons or exchanges, a second: the next one comes within the day.
pub const RATE_MIN: f64 = 1e-4;
/// The greatest rate of power-ons or exchanges, a second.
pub const RATE_MAX: f64 = 1e6;
/// Time after the end of a run in which exchanges that were due before it may still begin.
pub const OVERTIME_MAX: Duration = Duration::from_secs(30);

/// How often a fleet checks for answers. A silence is exact to two of these.
pub const LISTEN_PAUSE: Duration = Duration::from_millis(25);

/// Silence of an asked server that the fleet reports: most firmware repeats a lost packet sooner.
pub const SILENCE_TOLD: Duration = Duration::from_secs(1);

/// Failed machines that the report lists one by one.
pub const FAILED_LISTED_MAX: usize = 10_000;
