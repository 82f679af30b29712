//! Every limit of the DHCP room: sizes in bytes, times in seconds, each with why it is what it is.

/// Fixed BOOTP header and the magic cookie: nothing shorter is a DHCP message (RFC 2131 section 2).
pub const MESSAGE_OCTETS_MIN: usize = 240;

/// Longest request that is read: EDK2 says it takes 65,280 but no client sends more than one
/// Ethernet frame, and a relay adds at most one option 82. Longer datagrams are dropped.
pub const MESSAGE_OCTETS_MAX: usize = 2048;

/// `chaddr` is sixteen bytes; a longer `hlen` is a lie (D-1).
pub const HARDWARE_OCTETS_MAX: u8 = 16;

/// Relay agents between client and us; a message that passed more goes round in a circle (D-51).
pub const HOPS_MAX: u8 = 16;

/// BOOTP's message size: old ROMs drop shorter replies (D-3).
pub const REPLY_OCTETS_MIN: usize = 300;

/// One Ethernet frame without fragments; EDK2 drops longer offers (D-4).
pub const REPLY_OCTETS_MAX: usize = 1472;

/// The smallest value that option 57 may have, and what a client takes that does not send it: an IP
/// datagram (D-4).
pub const DATAGRAM_OCTETS_DEFAULT: usize = 576;

/// IPv4 and UDP headers, which option 57 counts (D-4).
pub const IP_UDP_HEADER_OCTETS: usize = 28;

/// Longest name in the header's `file` field: 128 bytes with the closing NUL (D-42).
pub const FILE_FIELD_OCTETS_MAX: usize = 127;

/// Longest value of one option. A longer boot file would have to be split, which EDK2 and GRUB do
/// not join (D-41).
pub const OPTION_OCTETS_MAX: usize = 255;

/// Longest host name that is kept (RFC 1035 section 2.3.4).
pub const HOST_NAME_OCTETS_MAX: usize = 253;

/// How long an offered address is held. EDK2 takes its pick only after 4, 12, 28 or 60 s (D-19).
pub const OFFER_HOLD_S: u64 = 120;

/// A Raspberry Pi 3 uses an offered address without ever sending REQUEST: held for one boot.
pub const OFFER_HOLD_RASPBERRY_PI_S: u64 = 600;

/// A declined address is not given for an hour (D-27).
pub const DECLINE_HOLD_S: u64 = 3600;

/// Addresses in all pools: a /8. A bit and a half of memory for each, before anybody has one.
pub const POOL_ADDRESSES_MAX: u64 = 1 << 24;

/// From so many on, leases of all of them would take more memory than an operator may expect.
pub const POOL_ADDRESSES_MANY: u64 = 1 << 20;

/// Octets of memory for each lease, reckoned: its row (144), two hash tables, its timer, and its
/// slot for the boot cores (48).
pub const LEASE_OCTETS: u64 = 300;

/// Rows that a table has room for before it grows, where the pools have so many addresses: 300 MB
/// of address space, and no memory before a row is there.
pub const TABLE_ROOM_MAX: usize = 1 << 21;

/// Addresses that one machine may decline within an hour. Whoever finds all of them in use has a
/// broken ARP check, or a switch that answers for everybody: more of them would only be lost to
/// others.
pub const DECLINES_PER_MACHINE_MAX: u32 = 4;

/// The same for all machines behind one circuit of a relay agent, one relay agent that names no
/// circuit, or on one segment of ours.
pub const DECLINES_PER_CIRCUIT_MAX: u32 = 32;

/// The same for all machines.
pub const DECLINES_IN_ALL_MAX: u32 = 1024;

/// Machines and places whose declines are counted at a time.
pub const STRIKES_MAX: usize = 16_384;

/// Where nothing is free, an offer that was not confirmed for so long goes to the next machine: who
/// still wants it asks again.
pub const OFFER_SAFE_S: u64 = 10;

/// From so many unconfirmed offers of one subnet on, younger ones go as well: that many at a time
/// and nothing free is a flood.
pub const OFFERS_CROWD: usize = 8;

/// Unconfirmed offers that are looked through for one that is old.
pub const OFFERS_LOOKED_AT: usize = 32;

/// Unconfirmed offers behind one circuit of a relay agent: a port with a rack behind it. The next
/// one takes the oldest of them.
pub const OFFERS_PER_CIRCUIT_MAX: usize = 128;

/// The same behind one relay agent that names no circuit.
pub const OFFERS_PER_RELAY_MAX: usize = 4096;

/// Leases that are over and remembered for one machine; more would be a list that each of its
/// messages goes through.
pub const ENDED_PER_MACHINE_MAX: usize = 8;

/// Rows that one call lets lapse at most, so that an hour in which a million leases end is no
/// pause.
pub const LAPSE_ROWS_MAX: usize = 256;

/// Shortest lease that a client can ask for with option 51: less would make it renew faster than it
/// boots.
pub const LEASE_REQUESTED_S_MIN: u32 = 60;

/// End of a lease without end (BOOTP, D-31), in unix seconds: fits a signed 64-bit column.
pub const FOREVER_S: u64 = i64::MAX as u64;

/// Machines that are remembered to have booted from the network, the freshest of the store: a
/// thousand racks or more.
pub const MACHINES_MAX: usize = 65_536;

/// Leases of systems where no time is configured, as dhcpd has them: 12 hours, and a day for a
/// client that asks for more.
pub const DEFAULT_LEASE_S: u32 = 12 * 60 * 60;
pub const MAX_LEASE_S: u32 = 24 * 60 * 60;

/// Lease of firmware and boot loaders where no time is configured: long enough for a loader's menu
/// and a slow kernel, short enough that a rack that only looks round does not hold its addresses
/// for half a day.
pub const FIRMWARE_LEASE_S: u32 = 600;

/// How long the first look for other DHCP servers listens before anything is offered, milliseconds.
/// Clients repeat themselves.
pub const LOOK_FIRST_MS: u64 = 2_000;

/// The same where a client has been asking since before the look: dnsmasq hears nothing while it
/// pings an address for it, 3 s.
pub const LOOK_BUSY_MS: u64 = 4_000;

/// Other servers of one segment that are remembered and shown.
pub const OTHER_SERVERS_MAX: usize = 8;

/// How long a look listens while the answer is not waited for, milliseconds: dnsmasq pings an
/// address for 3 s before it offers it, ISC dhcpd for 1 s.
pub const LOOK_LISTENS_MS: u64 = 10_000;

/// The same before the first offer where nobody was found a moment ago: by the run before this one,
/// or before the wire was lost. A ringboot that serves answers within a millisecond.
pub const LOOK_KNOWN_MS: u64 = 500;

/// From one look to the next, milliseconds: at first soon, because a switch port may pass nothing
/// for its first half minute and another server may have started at the same moment; then twice as
/// long each time, up to one of the others. A standby looks more often.
pub const LOOK_AGAIN_MS: u64 = 15_000;
pub const LOOK_EVERY_MS: u64 = 300_000;
pub const LOOK_BESIDE_MS: u64 = 60_000;

/// Each pause is longer by up to this part of it, so that two servers do not look at the same
/// moment.
pub const LOOK_SPREAD: u64 = 8;

/// Before the second question to a server that has answered where this one serves, milliseconds:
/// one packet alone silences nobody.
pub const LOOK_ASK_AGAIN_MS: u64 = 2_000;

/// Between looks that another server's packets ask for, milliseconds.
pub const LOOK_APART_MS: u64 = 15_000;

/// Before a DISCOVER that could not leave is tried again, milliseconds.
pub const LOOK_RETRY_MS: u64 = 1_000;

/// How long an offer waits while it is asked whether its address is in use, milliseconds. Hosts
/// answer within a few; those that sleep take longer.
pub const PROBE_WAIT_MS: u64 = 200;

/// Offers that may wait for that at once; one more leaves without.
pub const PROBES_MAX: usize = 4096;

/// How long an address that was found in use is not given, seconds, unless nothing else is left.
pub const CONFLICT_HOLD_S: u64 = 600;

/// Addresses that one host may be found to use, and conflicts of all hosts within a minute
/// (milliseconds): who answers for more is a router with proxy ARP, or means harm.
pub const CONFLICTS_PER_HOST_MAX: usize = 4;
pub const CONFLICTS_MAX: usize = 16;
pub const CONFLICTS_WITHIN_MS: u64 = 60_000;

/// How long what a host was found to use counts against it, milliseconds.
pub const CONFLICTS_REMEMBERED_MS: u64 = 3_600_000;

/// How long an address that nobody has answered for is taken to be free without another question,
/// milliseconds, and how many such addresses are remembered.
pub const PROVEN_MS: u64 = 60_000;
pub const PROVEN_MAX: usize = 65_536;
