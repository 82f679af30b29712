//! The behaviour of each firmware as numbers: its options, its reaction to loss, its timers.

use super::super::Tick;
use super::super::limits::{MILLISECOND, SECOND};
use super::super::packet::ErrorCode;

/// How a client requests a file and reacts to packets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientBehaviour {
    /// Name, for reports.
    pub name: &'static str,
    /// Options of a request, in the order sent.
    pub asks: Vec<AskedOption>,
    /// The first request only learns the size, and the client ends it with this code (T-52); the
    /// second has no `tsize`.
    pub probe: Option<ErrorCode>,
    /// The client ignores DATA without an OACK (T-22).
    pub needs_oack: bool,
    /// The reaction to a block that is not the next one.
    pub unexpected: OutOfOrderPolicy,
    /// The client answers a datagram from a foreign port with an ERROR (RFC 1350 section 4); no
    /// firmware does.
    pub refuses_strays: bool,
    /// The timer retransmits the last ACK, not only the request (T-43).
    pub repeats_acks: bool,
    /// The timers.
    pub patience: ClientPatience,
}

/// An option of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AskedOption {
    /// The size of the file.
    Tsize,
    /// The retransmission interval, seconds.
    Timeout(u8),
    /// The block size, bytes.
    Blksize(u16),
    /// The window size, blocks.
    Windowsize(u16),
}

/// The reaction to a block that is not the next one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutOfOrderPolicy {
    /// Acknowledges the last block in order, for each one: EDK2, iPXE, pxelinux.
    AckLast,
    /// Acknowledges old blocks by their number, ignores future ones: GRUB.
    AckOldOnly,
    /// Acknowledges the last block in order once for each gap, then waits: U-Boot.
    AckGapOnce,
}

/// How long a client waits for the next packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientPatience {
    /// The first wait.
    pub first: Tick,
    /// Each wait as a percentage of the one before.
    pub growth_percent: u64,
    /// The longest wait.
    pub most: Tick,
    /// Number of waits before the client gives up.
    pub tries: u16,
}

/// U-Boot compares block numbers as signed 16-bit, so it reports no gap beyond this block (T-39).
pub(super) const UBOOT_GAPS_TOLD_TO: u64 = 32767;

impl ClientBehaviour {
    /// UEFI PXE on Ethernet (OVMF and most servers): size probe, then windows of 4.
    pub fn edk2() -> Self {
        Self {
            name: "edk2",
            asks: vec![AskedOption::Tsize, AskedOption::Blksize(1468), AskedOption::Windowsize(4)],
            probe: Some(ErrorCode::OptionsRefused),
            ..Self::plain()
        }
    }

    /// shim through UEFI PXE: always 512-byte blocks, no probe (seen with OVMF).
    pub fn shim() -> Self {
        Self {
            name: "shim",
            asks: vec![AskedOption::Blksize(512), AskedOption::Windowsize(4)],
            ..Self::plain()
        }
    }

    /// iPXE on Ethernet.
    pub fn ipxe() -> Self {
        Self {
            name: "ipxe",
            asks: vec![AskedOption::Blksize(1432), AskedOption::Tsize],
            patience: ClientPatience {
                first: 250 * MILLISECOND,
                growth_percent: 200,
                most: 10 * SECOND,
                tries: 7,
            },
            ..Self::plain()
        }
    }

    /// GRUB's own TFTP. It needs an OACK and never repeats an ACK.
    pub fn grub() -> Self {
        Self {
            name: "grub",
            asks: vec![AskedOption::Blksize(1024), AskedOption::Tsize],
            needs_oack: true,
            unexpected: OutOfOrderPolicy::AckOldOnly,
            repeats_acks: false,
            patience: ClientPatience {
                first: 400 * MILLISECOND,
                growth_percent: 104,
                most: 2 * SECOND,
                tries: 40,
            },
            ..Self::plain()
        }
    }

    /// PXELINUX: waits from two BIOS ticks on.
    pub fn pxelinux() -> Self {
        Self {
            name: "pxelinux",
            asks: vec![AskedOption::Tsize, AskedOption::Blksize(1408)],
            patience: ClientPatience {
                first: 110 * MILLISECOND,
                growth_percent: 120,
                most: 26 * SECOND,
                tries: 30,
            },
            ..Self::plain()
        }
    }

    /// U-Boot; `window` above 1 where `tftpwindowsize` is set.
    pub fn uboot(window: u16) -> Self {
        let mut asks =
            vec![AskedOption::Timeout(5), AskedOption::Tsize, AskedOption::Blksize(1468)];
        if window > 1 {
            asks.push(AskedOption::Windowsize(window));
        }
        Self {
            name: "uboot",
            asks,
            unexpected: OutOfOrderPolicy::AckGapOnce,
            patience: ClientPatience {
                first: 5 * SECOND,
                growth_percent: 100,
                most: 5 * SECOND,
                tries: 10,
            },
            ..Self::plain()
        }
    }

    /// Boot ROM of a Raspberry Pi 3: no options at all. Only its 30 s per file are known; the waits
    /// are a guess.
    pub fn pi3() -> Self {
        Self {
            name: "pi3",
            patience: ClientPatience {
                first: SECOND,
                growth_percent: 100,
                most: SECOND,
                tries: 30,
            },
            ..Self::plain()
        }
    }

    /// EEPROM of a Raspberry Pi 4.
    pub fn pi4() -> Self {
        Self { name: "pi4", asks: vec![AskedOption::Blksize(1024)], ..Self::pi3() }
    }

    /// A well-behaved client of RFC 2348 and RFC 7440, for load.
    pub fn generic(block_size: u16, window: u16) -> Self {
        Self {
            name: "generic",
            asks: vec![AskedOption::Blksize(block_size), AskedOption::Windowsize(window)],
            refuses_strays: true,
            ..Self::plain()
        }
    }

    /// No options, EDK2's timers: the base for the others.
    fn plain() -> Self {
        Self {
            name: "plain",
            asks: Vec::new(),
            probe: None,
            needs_oack: false,
            unexpected: OutOfOrderPolicy::AckLast,
            refuses_strays: false,
            repeats_acks: true,
            patience: ClientPatience {
                first: 4 * SECOND,
                growth_percent: 100,
                most: 4 * SECOND,
                tries: 6,
            },
        }
    }
}

impl AskedOption {
    /// The name on the wire.
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

impl ClientPatience {
    /// The sum of all waits until the client gives up.
    pub fn total_time(&self) -> Tick {
        (0..self.tries).map(|passed| self.interval(passed)).sum()
    }

    /// The wait after this many waits.
    pub(super) fn interval(&self, passed: u16) -> Tick {
        (0..passed).fold(self.first, |wait, _| (wait * self.growth_percent / 100).min(self.most))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What each firmware was seen to do (T-22, T-39, T-43, T-52): a load test is worth as much as
    /// these lines.
    #[test]
    fn t43_each_firmware_asks_and_waits_as_it_was_seen() {
        let manners = |behaviour: ClientBehaviour| {
            let asks: Vec<String> = behaviour
                .asks
                .iter()
                .map(|ask| format!("{} {}", ask.name(), ask.value()))
                .collect();
            let ClientBehaviour {
                name,
                probe,
                needs_oack,
                unexpected,
                refuses_strays,
                repeats_acks,
                patience,
                ..
            } = behaviour;
            let marks = [
                (probe.is_some(), "probe"),
                (needs_oack, "needs-oack"),
                (refuses_strays, "refuses-strays"),
                (!repeats_acks, "silent"),
            ];
            let marks: Vec<&str> =
                marks.into_iter().filter_map(|(is_so, word)| is_so.then_some(word)).collect();
            let ms = |wait: Tick| wait / MILLISECOND;
            let waits = (ms(patience.first), ms(patience.interval(1)), ms(patience.total_time()));
            format!("{name}: {} | {unexpected:?} {} | {waits:?}", asks.join(", "), marks.join(" "))
        };
        let all = [
            ClientBehaviour::edk2(),
            ClientBehaviour::shim(),
            ClientBehaviour::ipxe(),
            ClientBehaviour::grub(),
            ClientBehaviour::pxelinux(),
            ClientBehaviour::uboot(1),
            ClientBehaviour::uboot(2),
            ClientBehaviour::pi3(),
            ClientBehaviour::pi4(),
            ClientBehaviour::generic(1468, 64),
        ];
        let seen = all.map(manners);
        let expected = [
            "edk2: tsize 0, blksize 1468, windowsize 4 | AckLast probe | (4000, 4000, 24000)",
            "shim: blksize 512, windowsize 4 | AckLast  | (4000, 4000, 24000)",
            "ipxe: blksize 1432, tsize 0 | AckLast  | (250, 500, 25750)",
            "grub: blksize 1024, tsize 0 | AckOldOnly needs-oack silent | (400, 416, 38010)",
            "pxelinux: tsize 0, blksize 1408 | AckLast  | (110, 132, 130006)",
            "uboot: timeout 5, tsize 0, blksize 1468 | AckGapOnce  | (5000, 5000, 50000)",
            "uboot: timeout 5, tsize 0, blksize 1468, windowsize 2 | AckGapOnce  | (5000, 5000, \
             50000)",
            "pi3:  | AckLast  | (1000, 1000, 30000)",
            "pi4: blksize 1024 | AckLast  | (1000, 1000, 30000)",
            "generic: blksize 1468, windowsize 64 | AckLast refuses-strays | (4000, 4000, 24000)",
        ];
        assert_eq!(seen, expected);
    }
}
