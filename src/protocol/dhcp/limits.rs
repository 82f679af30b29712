//! Every limit of the DHCP room, with its reason: sizes in bytes, times in seconds unless the name
//! says otherwise.

/// Fixed BOOTP header and magic cookie: a shorter datagram is no DHCP message (RFC 2131 section 2).
pub const MESSAGE_BYTES_MIN: usize = 240;

/// Longest request that is read. EDK2 announces 65,280, but no client sends more than one Ethernet
/// frame, and a relay adds at most one option 82. Longer datagrams are dropped.
pub const MESSAGE_BYTES_MAX: usize = 2048;

/// `chaddr` is sixteen bytes: a longer `hlen` is malformed (D-1).
pub const HARDWARE_BYTES_MAX: u8 = 16;

/// Relay agents between client and server. A message with more hops runs in a circle (D-51).
pub const HOPS_MAX: u8 = 16;

/// BOOTP's message size: old ROMs drop shorter replies (D-3).
pub const REPLY_BYTES_MIN: usize = 300;

/// One Ethernet frame without fragments; EDK2 drops longer offers (D-4).
pub const REPLY_BYTES_MAX: usize = 1472;

/// The IP datagram that each client takes, with or without option 57, whose smallest value this is
/// (D-4).
pub const DATAGRAM_BYTES_DEFAULT: usize = 576;

/// IPv4 and UDP headers, which option 57 counts (D-4).
pub const IP_UDP_HEADER_BYTES: usize = 28;

/// Longest name in the header's `file` field: 128 bytes with the closing NUL (D-42).
pub const FILE_FIELD_BYTES_MAX: usize = 127;

/// Longest value of one option. A longer boot file would need two pieces, which EDK2 and GRUB do
/// not join (D-41).
pub const OPTION_BYTES_MAX: usize = 255;

/// Longest host name that is kept (RFC 1035 section 2.3.4).
pub const HOST_NAME_BYTES_MAX: usize = 253;

/// How long an offered address is held. EDK2 chooses an OFFER only after 4, 12, 28 or 60 s (D-19).
pub const OFFER_HOLD_S: u64 = 120;

/// The same for a Raspberry Pi 3, which uses the address without a REQUEST: one boot.
pub const OFFER_HOLD_RASPBERRY_PI_S: u64 = 600;

/// How long a declined address is kept back: an hour (D-27).
pub const DECLINE_HOLD_S: u64 = 3600;

/// Addresses in all pools: a /8. Each takes a bit and a half of memory before a client has it.
pub const POOL_ADDRESSES_MAX: u64 = 1 << 24;

/// From this number of pool addresses on, the check warns: leases of all of them would take more
/// memory than an operator may expect.
pub const POOL_ADDRESSES_MANY: u64 = 1 << 20;

/// Bytes of memory for each lease, estimated: its row (144), two hash tables, its timer, and its
/// slot for the boot cores (48).
pub const LEASE_BYTES: u64 = 300;

/// Rows that a table reserves at most: 300 MB of address space, and no memory before a row is
/// used.
pub const TABLE_ROOM_MAX: usize = 1 << 21;

/// Addresses that one machine may decline within an hour. A machine that finds each of them in use
/// has a broken ARP check, or a switch that answers every ARP request: further declines would only
/// take addresses from others.
pub const DECLINES_PER_MACHINE_MAX: u32 = 4;

/// The same for all machines behind one circuit of a relay agent, behind one relay agent that names
/// no circuit, or on one directly connected segment.
pub const DECLINES_PER_CIRCUIT_MAX: u32 = 32;

/// The same for all machines.
pub const DECLINES_IN_ALL_MAX: u32 = 1024;

/// Machines and circuits whose declines are counted at a time.
pub const STRIKES_MAX: usize = 16_384;

/// Age from which an unconfirmed offer may go to the next machine, where nothing is free. The first
/// machine sends DISCOVER again if it still needs an address.
pub const OFFER_SAFE_S: u64 = 10;

/// From this number of unconfirmed offers in one subnet on, younger offers may go as well: so many,
/// with nothing free, are a flood.
pub const OFFERS_CROWD: usize = 8;

/// Unconfirmed offers that a search for an old one reads at most.
pub const OFFERS_LOOKED_AT: usize = 32;

/// Unconfirmed offers behind one circuit of a relay agent: a port with a rack behind it. The next
/// offer reuses the oldest of them.
pub const OFFERS_PER_CIRCUIT_MAX: usize = 128;

/// The same behind one relay agent that names no circuit.
pub const OFFERS_PER_RELAY_MAX: usize = 4096;

/// Ended leases that are remembered for one machine. Each message of the machine walks the list.
pub const ENDED_PER_MACHINE_MAX: usize = 8;

/// Rows that one call of `LeaseTable::advance` handles at most, so that a million leases that end
/// within an hour cause no pause.
pub const LAPSE_ROWS_MAX: usize = 256;

/// Shortest lease that option 51 can ask for: with less, a client would renew faster than it boots.
pub const LEASE_REQUESTED_S_MIN: u32 = 60;

/// The end of a lease without end (BOOTP, D-31): fits a signed 64-bit column.
pub const FOREVER_S: u64 = i64::MAX as u64;

/// Machines that booted from the network and are remembered, those seen last: a thousand racks or
/// more.
pub const MACHINES_MAX: usize = 65_536;

/// Default lease of a system, as in dhcpd: 12 hours.
pub const DEFAULT_LEASE_S: u32 = 12 * 60 * 60;
/// Default of the longest lease that a client can ask for, as in dhcpd: a day.
pub const MAX_LEASE_S: u32 = 24 * 60 * 60;

/// Default lease of firmware and boot loaders: long enough for a loader's menu and a slow kernel,
/// short enough that a rack whose boot stops in the menu does not hold its addresses for half a
/// day.
pub const FIRMWARE_LEASE_S: u32 = 600;

/// How long the first look for other DHCP servers waits for replies before the server offers an
/// address. Clients retransmit meanwhile.
pub const LOOK_FIRST_MS: u64 = 2_000;

/// The same where a client sent DISCOVER before the look: dnsmasq reads no message for 3 s while it
/// pings an address for that client.
pub const LOOK_BUSY_MS: u64 = 4_000;

/// Other servers of one segment that are remembered for `ringboot status`.
pub const OTHER_SERVERS_MAX: usize = 8;

/// How long a later look waits for replies, while the server answers or stands by: dnsmasq pings an
/// address for 3 s before it offers it, ISC dhcpd for 1 s.
pub const LOOK_LISTENS_MS: u64 = 10_000;

/// The same before the first offer, where a recent look found no server: before a restart, or
/// before the link went down. A ringboot that serves answers within a millisecond.
pub const LOOK_KNOWN_MS: u64 = 500;

/// The first pause between two looks. It is short, because a switch port may forward nothing for
/// its first half minute, and because another server may have started at the same moment. Each
/// further pause is twice as long.
pub const LOOK_AGAIN_MS: u64 = 15_000;
/// The longest pause between two looks of a server that answers.
pub const LOOK_EVERY_MS: u64 = 300_000;
/// The longest pause between two looks of a standby, which must take over soon.
pub const LOOK_BESIDE_MS: u64 = 60_000;

/// Each pause grows by up to one part in this number, so that two servers do not look at the same
/// moment.
pub const LOOK_SPREAD: u64 = 8;

/// The pause before a second look, when another server answered where this one serves: one packet
/// alone does not silence a server.
pub const LOOK_ASK_AGAIN_MS: u64 = 2_000;

/// The shortest time between two looks that packets of another server cause.
pub const LOOK_APART_MS: u64 = 15_000;

/// The pause before a DISCOVER that could not be sent is tried again.
pub const LOOK_RETRY_MS: u64 = 1_000;

/// How long an offer waits for the answer to the probe of its address. Hosts answer within a few
/// milliseconds; sleeping hosts take longer.
pub const PROBE_WAIT_MS: u64 = 200;

/// Offers that may wait for a probe at once; further offers leave without one.
pub const PROBES_MAX: usize = 4096;

/// How long an address that a probe found in use is kept back, unless nothing else is left.
pub const CONFLICT_HOLD_S: u64 = 600;

/// Addresses that one host may answer for. A host that answers for more is a router with proxy ARP,
/// or an attacker.
pub const CONFLICTS_PER_HOST_MAX: usize = 4;
/// Conflicts of all hosts within `CONFLICTS_WITHIN_MS`; further ones are not believed.
pub const CONFLICTS_MAX: usize = 16;
/// The time within which `CONFLICTS_MAX` counts: a minute.
pub const CONFLICTS_WITHIN_MS: u64 = 60_000;

/// How long a conflict counts against its host: an hour.
pub const CONFLICTS_REMEMBERED_MS: u64 = 3_600_000;

/// How long an address counts as free after a probe without an answer.
pub const PROVEN_MS: u64 = 60_000;
/// Addresses with such a probe that are remembered.
pub const PROVEN_MAX: usize = 65_536;
