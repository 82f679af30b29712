//! The fleet's named numbers: what one simulated machine may use, and how long it keeps trying.

use std::time::Duration;

/// Octets read from a socket in one go. One buffer serves the whole fleet, so a machine costs no
/// memory of its own for data.
pub const READ_OCTETS: usize = 256 * 1024;

/// Octets of an HTTP response head; a longer one is not a boot server's.
pub const HEAD_OCTETS_MAX: usize = 16 * 1024;

/// Octets of a menu or script that a machine reads. iPXE and PXELINUX manage far less.
pub const MENU_OCTETS_MAX: usize = 256 * 1024;

/// Octets of one DHCP answer: an Ethernet frame's worth (D-4).
pub const DHCP_OCTETS_MAX: usize = 1500;

/// Machines behind one relay agent: a rack. More than this in one instant overflow the default
/// receive buffer of a socket.
pub const MACHINES_PER_RELAY: u32 = 48;

/// Answers that wait for one machine; a retransmission at most doubles the two of an exchange.
pub const ANSWERS_QUEUED_MAX: usize = 8;

/// DHCP messages read or sent in one go.
pub const DHCP_BATCH: usize = 64;

/// DHCP servers on one segment whose frames are told apart; leases of further ones are not given
/// back.
pub const LINK_SERVERS_MAX: usize = 64;

/// Addresses given back a second at least. Nobody answers a RELEASE, so none must get lost: they
/// leave no faster than leases were acknowledged in the run, but for this. (The slowest server that
/// was measured, dnsmasq on a slow disk, took 90 a second.)
pub const RELEASES_PER_SECOND_MIN: u32 = 100;
/// Giving back all addresses takes no longer: with more of them it goes faster, and some may get
/// lost.
pub const RELEASE_TIME_MAX: Duration = Duration::from_secs(10);
/// RELEASEs due within so long leave together.
pub const RELEASE_PAUSE: Duration = Duration::from_millis(10);

/// An address of this host with a longer prefix says nothing of the machines' network.
pub const HOST_NETWORK_PREFIX_MAX: u8 = 30;

/// Pause after a NAK: dhclient begins again at once, and a server that refuses every REQUEST would
/// be asked without end.
pub const DHCP_NAK_PAUSE: Duration = Duration::from_millis(100);

/// EDK2 tries a broken HTTP transfer again after 2 s (H-10); iPXE scripts with `|| goto retry` do
/// it at once.
pub const HTTP_RETRY: Duration = Duration::from_secs(2);

/// A connection that brings nothing for this long is given up. EDK2 waits 5 s for a first byte,
/// iPXE for ever.
pub const HTTP_SILENCE_MAX: Duration = Duration::from_secs(10);

/// Pause before a TFTP transfer that ended without a file is asked for again.
pub const TFTP_RETRY: Duration = Duration::from_secs(1);

/// How long one step may go on without any progress before the machine counts as failed.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Chained scripts (`chain`, `CONFIG`) that a machine follows: a loop of menus must end.
pub const CHAINED_SCRIPTS_MAX: u32 = 4;

/// Loaders that load another one: more are a loop of DHCP answers (D-69).
pub const CHAINED_LOADERS_MAX: u32 = 4;

/// A transfer that has brought nothing for so long is begun again, as a person at the console would
/// do: PXELINUX by itself waits for minutes.
pub const TFTP_SILENCE_MAX: Duration = Duration::from_secs(16);
/// Datagrams read with one system call; the answers to them leave with another.
pub const TFTP_BATCH: usize = 64;
/// Room for each of them: joined datagrams (UDP_GRO) fill an IP packet.
pub const TFTP_DATAGRAM_OCTETS_MAX: usize = 65_536;
/// Generations of sockets that machines with addresses of their own share. Successive requests of
/// one machine come from each of them in turn, so that a server never takes a new request for an
/// old one's repetition.
pub const TFTP_GENERATIONS: usize = 4;
/// How long a datagram that is to be overtaken is held back.
pub const REORDER_HOLD: Duration = Duration::from_millis(2);

/// How long a private server may take until it says READY.
pub const READY_WAIT: Duration = Duration::from_secs(30);
/// How often a private server is started, each time on other ports.
pub const START_TRIES_MAX: u32 = 3;

/// Files that a machine has open at once at most: a TCP connection, kept perhaps while it speaks
/// TFTP on shared sockets.
pub const FILES_PER_MACHINE: u64 = 1;
/// The same where machines have no addresses of their own: two TFTP sockets after a size probe, and
/// a kept connection.
pub const FILES_PER_MACHINE_WITHOUT_ADDRESS: u64 = 3;
/// Files of the process itself, of the relay agents and of the shared sockets.
pub const FILES_RESERVED: u64 = 512;

/// Octets of one file that a walk fetches at most, where it does not read the file itself: all of a
/// loader, the beginning of an initial disk. Lockstep TFTP takes about a second for it.
pub const SAMPLE_OCTETS: u64 = 8 << 20;
/// Octets at the end of a longer file that a walk asks for over HTTP.
pub const SAMPLE_TAIL_OCTETS: u64 = 64 << 10;
/// A walk's steps may be silent for so long: firmware waits longer, a person at the prompt does
/// not.
pub const WALK_PATIENCE: Duration = Duration::from_secs(3);
/// Firmware's waits are cut by this in a walk.
pub const WALK_HASTE: u32 = 8;
/// Width of a bucket of the throughput over time; doubled whenever all buckets are in use.
pub const SERIES_WIDTH: Duration = Duration::from_millis(100);
/// Buckets of the throughput over time: 100 s at their first width.
pub const SERIES_BUCKETS_MAX: usize = 1000;

/// Boots that are kept one by one, 64 bytes each; all are in the histograms.
pub const RECORDS_MAX: usize = 20_000;

/// Machines of one run.
pub const MACHINES_MAX: u32 = 100_000;
/// The greatest weight of a role.
pub const WEIGHT_MAX: u32 = 1000;
/// How often one step may be repeated.
pub const REPEAT_MAX: u32 = 1_000_000;
/// A machine that begins again until the time is over waits so long after a boot that failed:
/// somebody has to switch it on.
pub const AGAIN_AFTER_FAILURE: Duration = Duration::from_secs(1);

/// The least rate of power-ons or exchanges, a second: the next one comes within the day.
pub const RATE_MIN: f64 = 1e-4;
/// The greatest.
pub const RATE_MAX: f64 = 1e6;
/// Exchanges that were due before the end of a run and found no machine free are made up for, no
/// longer than this.
pub const OVERTIME_MAX: Duration = Duration::from_secs(30);

/// How often a fleet looks whether anything has come. A silence is known to within two of these.
pub const LISTEN_PAUSE: Duration = Duration::from_millis(25);

/// A server that has said nothing for so long while it was asked is told of: a packet that was lost
/// is repeated sooner by most firmware.
pub const SILENCE_TOLD: Duration = Duration::from_secs(1);

/// Machines that failed and are listed one by one.
pub const FAILED_LISTED_MAX: usize = 10_000;
