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
