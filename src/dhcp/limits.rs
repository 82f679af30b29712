//! Every limit of the DHCP room: sizes in octets, times in seconds, each with why it is what it is.

/// Fixed BOOTP header and the magic cookie: nothing shorter is a DHCP message (RFC 2131 section 2).
pub const MESSAGE_OCTETS_MIN: usize = 240;

/// Longest request that is read: EDK2 says it takes 65,280 but no client sends more than one Ethernet frame, and a
/// relay adds at most one option 82. Longer datagrams are dropped.
pub const MESSAGE_OCTETS_MAX: usize = 2048;

/// `chaddr` is sixteen octets; a longer `hlen` is a lie (D-1).
pub const HARDWARE_OCTETS_MAX: u8 = 16;

/// Relay agents between client and us; a message that passed more goes round in a circle (D-51).
pub const HOPS_MAX: u8 = 16;

/// BOOTP's message size: old ROMs drop shorter replies (D-3).
pub const REPLY_OCTETS_MIN: usize = 300;

/// One Ethernet frame without fragments; EDK2 drops longer offers (D-4).
pub const REPLY_OCTETS_MAX: usize = 1472;

/// The smallest value that option 57 may have, and what a client takes that does not send it: an IP datagram (D-4).
pub const DATAGRAM_OCTETS_DEFAULT: usize = 576;

/// IPv4 and UDP headers, which option 57 counts (D-4).
pub const IP_UDP_HEADER_OCTETS: usize = 28;

/// Longest name in the header's `file` field: 128 octets with the closing NUL (D-42).
pub const FILE_FIELD_OCTETS_MAX: usize = 127;

/// Longest value of one option. A longer boot file would have to be split, which EDK2 and GRUB do not join (D-41).
pub const OPTION_OCTETS_MAX: usize = 255;

/// Longest host name that is kept (RFC 1035 section 2.3.4).
pub const HOST_NAME_OCTETS_MAX: usize = 253;

/// How long an offered address is held. EDK2 takes its pick only after 4, 12, 28 or 60 s (section 2.4 of the wire rules).
pub const OFFER_HOLD_S: u64 = 120;

/// A Raspberry Pi 3 uses an offered address without ever sending REQUEST: held for one boot.
pub const OFFER_HOLD_RASPBERRY_PI_S: u64 = 600;

/// A declined address is not given for an hour (D-27).
pub const DECLINE_HOLD_S: u64 = 3600;

/// Shortest lease that a client can ask for with option 51: less would make it renew faster than it boots.
pub const LEASE_REQUESTED_S_MIN: u32 = 60;

/// End of a lease without end (BOOTP, D-31), in unix seconds: fits a signed 64-bit column.
pub const FOREVER_S: u64 = i64::MAX as u64;

/// Machines that are remembered to have booted from the network, the freshest of the store: a thousand racks or more.
pub const MACHINES_MAX: usize = 65_536;

/// Lease of firmware and boot loaders where no time is configured: long enough for a loader's menu and a slow kernel, short
/// enough that a rack that only looks round does not hold its addresses for half a day.
pub const FIRMWARE_LEASE_S: u32 = 600;

/// How long the first look for other DHCP servers listens before anything is offered, milliseconds. Clients repeat themselves.
pub const LOOK_FIRST_MS: u64 = 2_000;

/// The same where a client has been asking since before the look: dnsmasq hears nothing while it pings an address for it, 3 s.
pub const LOOK_BUSY_MS: u64 = 4_000;

/// Other servers of one segment that are remembered and shown.
pub const OTHER_SERVERS_MAX: usize = 8;

/// How long a look listens while the answer is not waited for, milliseconds: dnsmasq pings an address for 3 s before it
/// offers it, ISC dhcpd for 1 s.
pub const LOOK_LISTENS_MS: u64 = 10_000;

/// From one look to the next, milliseconds; the spread keeps two ringboots from looking at the same moment.
pub const LOOK_EVERY_MS: u64 = 300_000;
pub const LOOK_SPREAD_MS: u64 = 30_000;

/// Between looks that another server's packets ask for, milliseconds.
pub const LOOK_APART_MS: u64 = 15_000;

/// Before a DISCOVER that could not leave is tried again, milliseconds.
pub const LOOK_RETRY_MS: u64 = 1_000;
