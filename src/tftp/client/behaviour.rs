//! The manners of each firmware as numbers: what it asks, how it answers trouble, how long it waits.

use super::super::Tick;
use super::super::limits::{MILLISECOND, SECOND};
use super::super::packet::ErrorCode;

/// How a client asks and answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Behaviour {
    /// For reports.
    pub name: &'static str,
    /// Options of a request, in the order sent.
    pub asks: Vec<Ask>,
    /// A first request only learns the size and is ended with this code (T-52); the second has no `tsize`.
    pub probe: Option<ErrorCode>,
    /// DATA without an OACK is ignored (T-22).
    pub needs_oack: bool,
    pub unexpected: Unexpected,
    /// A datagram from a foreign port is answered with an ERROR (RFC 1350 section 4); no firmware does so.
    pub refuses_strays: bool,
    /// The timer repeats the last ACK, not only the request (T-43).
    pub repeats_acks: bool,
    pub patience: Patience,
}

/// An option asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {
    Tsize,
    /// Seconds.
    Timeout(u8),
    /// Octets.
    Blksize(u16),
    /// Blocks.
    Windowsize(u16),
}

/// The answer to a block that is not the next one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unexpected {
    /// Acknowledges the last block in order, for each one: EDK2, iPXE, pxelinux.
    AckLast,
    /// Acknowledges old blocks by their number, ignores future ones: GRUB.
    AckOldOnly,
    /// Acknowledges the last block in order once for each gap, then waits: U-Boot.
    AckGapOnce,
}

/// How long a client waits for the next packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    pub first: Tick,
    /// Each wait is so many per cent of the one before.
    pub growth_percent: u64,
    pub most: Tick,
    /// Waits that pass before it gives up.
    pub tries: u16,
}

/// U-Boot compares block numbers as signed 16-bit, so beyond this block it tells of no gap (T-39).
pub(super) const UBOOT_GAPS_TOLD_TO: u64 = 32767;

impl Behaviour {
    /// UEFI PXE on Ethernet (OVMF and most servers): size probe, then windows of 4.
    pub fn edk2() -> Self {
        Self {
            name: "edk2",
            asks: vec![Ask::Tsize, Ask::Blksize(1468), Ask::Windowsize(4)],
            probe: Some(ErrorCode::OptionsRefused),
            ..Self::plain()
        }
    }

    /// shim through UEFI PXE: always 512-octet blocks, no probe (seen with OVMF).
    pub fn shim() -> Self {
        Self { name: "shim", asks: vec![Ask::Blksize(512), Ask::Windowsize(4)], ..Self::plain() }
    }

    /// iPXE on Ethernet.
    pub fn ipxe() -> Self {
        Self {
            name: "ipxe",
            asks: vec![Ask::Blksize(1432), Ask::Tsize],
            patience: Patience { first: 250 * MILLISECOND, growth_percent: 200, most: 10 * SECOND, tries: 7 },
            ..Self::plain()
        }
    }

    /// GRUB's own TFTP. It needs an OACK and never repeats an ACK.
    pub fn grub() -> Self {
        Self {
            name: "grub",
            asks: vec![Ask::Blksize(1024), Ask::Tsize],
            needs_oack: true,
            unexpected: Unexpected::AckOldOnly,
            repeats_acks: false,
            patience: Patience { first: 400 * MILLISECOND, growth_percent: 104, most: 2 * SECOND, tries: 40 },
            ..Self::plain()
        }
    }

    /// PXELINUX: waits from two BIOS ticks on.
    pub fn pxelinux() -> Self {
        Self {
            name: "pxelinux",
            asks: vec![Ask::Tsize, Ask::Blksize(1408)],
            patience: Patience { first: 110 * MILLISECOND, growth_percent: 120, most: 26 * SECOND, tries: 30 },
            ..Self::plain()
        }
    }

    /// U-Boot; `window` above 1 where `tftpwindowsize` is set.
    pub fn uboot(window: u16) -> Self {
        let mut asks = vec![Ask::Timeout(5), Ask::Tsize, Ask::Blksize(1468)];
        if window > 1 {
            asks.push(Ask::Windowsize(window));
        }
        Self {
            name: "uboot",
            asks,
            unexpected: Unexpected::AckGapOnce,
            patience: Patience { first: 5 * SECOND, growth_percent: 100, most: 5 * SECOND, tries: 10 },
            ..Self::plain()
        }
    }

    /// Boot ROM of a Raspberry Pi 3: no options at all. Only its 30 s per file are known; the waits are a guess.
    pub fn pi3() -> Self {
        Self {
            name: "pi3",
            patience: Patience { first: SECOND, growth_percent: 100, most: SECOND, tries: 30 },
            ..Self::plain()
        }
    }

    /// EEPROM of a Raspberry Pi 4.
    pub fn pi4() -> Self {
        Self { name: "pi4", asks: vec![Ask::Blksize(1024)], ..Self::pi3() }
    }

    /// A well-behaved client of RFC 2348 and RFC 7440, for load.
    pub fn generic(block_size: u16, window: u16) -> Self {
        Self {
            name: "generic",
            asks: vec![Ask::Blksize(block_size), Ask::Windowsize(window)],
            refuses_strays: true,
            ..Self::plain()
        }
    }

    /// No options, EDK2's patience: the base that the others change.
    fn plain() -> Self {
        Self {
            name: "plain",
            asks: Vec::new(),
            probe: None,
            needs_oack: false,
            unexpected: Unexpected::AckLast,
            refuses_strays: false,
            repeats_acks: true,
            patience: Patience { first: 4 * SECOND, growth_percent: 100, most: 4 * SECOND, tries: 6 },
        }
    }
}

impl Ask {
    /// As it is spelt on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tsize => "tsize",
            Self::Timeout(_) => "timeout",
            Self::Blksize(_) => "blksize",
            Self::Windowsize(_) => "windowsize",
        }
    }

    pub(super) fn value(self) -> u64 {
        match self {
            Self::Tsize => 0,
            Self::Timeout(seconds) => seconds.into(),
            Self::Blksize(value) | Self::Windowsize(value) => value.into(),
        }
    }
}

impl Patience {
    /// All waits until it gives up.
    pub fn whole(&self) -> Tick {
        (0..self.tries).map(|passed| self.interval(passed)).sum()
    }

    /// The wait after so many that have passed.
    pub(super) fn interval(&self, passed: u16) -> Tick {
        (0..passed).fold(self.first, |wait, _| (wait * self.growth_percent / 100).min(self.most))
    }
}
