//! Limits for firmware that fails with what it asks for: how ringboot learns them, and how they
//! age.
//!
//! Pure: ends of transfers and the time go in, changes come out. Cores read [`ActiveLimits`];
//! control keeps the [`QuirkLearner`].

mod learner;

use std::collections::HashMap;
use std::fmt;
use std::num::NonZeroU64;
use std::str::FromStr;

pub use learner::{FirmwareQuirk, QuirkChange, QuirkLearner};

use crate::model::machine::{Arch, Firmware, FirmwareRole, Mac, Machine};

/// Transfers of a machine that must fail in the same way before it gets a limit.
pub const FAILURES_TO_LEARN: u8 = 2;
/// Machines of one maker (the first half of the hardware address) that must need a limit before new
/// machines of that maker begin with it.
pub const OUI_MACHINES: usize = 3;
/// The same for a vendor class, which is wider: all UEFI machines of one architecture are one
/// class.
pub const CLASS_MACHINES: usize = 8;
/// Seconds within which stalls of HTTP are one failure: a machine that is switched off stalls on
/// every connection.
pub const HTTP_STALLS_APART_S: u64 = 60;
/// Seconds (a week) after which a machine is tried without its learnt limit, so that a bad cable
/// does not count without end.
pub const RETRY_AFTER_S: u64 = 7 * 24 * 3600;
/// Seconds (an hour) after which the limit of a maker or a class ends: while it is in force, no
/// machine can show that it does not need it.
pub const GROUP_RETRY_AFTER_S: u64 = 3600;
/// Machines whose failures are counted at once. One more clears all counts.
pub const MACHINES_WATCHED_MAX: usize = 16_384;
/// Machines, makers and classes with a limit. At this number, learning stops.
pub const QUIRKS_MAX: usize = 16_384;
/// Block sizes that are tried in turn, bytes. The last is the size without the option.
pub const BLKSIZES: [u16; 2] = [1024, 512];
/// Rates of one HTTP connection that are tried in turn, bytes a second: 100, 20 and 5 Mbit/s.
pub const HTTP_RATES: [u64; 3] = [12_500_000, 2_500_000, 625_000];

/// The most that a client is granted; None = no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QuirkAllowance {
    /// Blocks in a window; 1 = the option is not granted.
    pub window: Option<u16>,
    /// Bytes in a block; 512 = the option is not granted.
    pub blksize: Option<u16>,
    /// Bytes a second on one HTTP connection.
    pub http_rate: Option<NonZeroU64>,
}

impl QuirkAllowance {
    /// These limits, and those of `wider` where this has none.
    #[must_use]
    pub fn or(self, wider: Self) -> Self {
        Self {
            window: self.window.or(wider.window),
            blksize: self.blksize.or(wider.blksize),
            http_rate: self.http_rate.or(wider.http_rate),
        }
    }

    /// True where nothing is limited.
    pub fn is_empty(self) -> bool {
        self == Self::default()
    }
}

impl fmt::Display for QuirkAllowance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let window = self.window.map(|blocks| format!("windowsize {blocks}"));
        let blksize = self.blksize.map(|octets| format!("blksize {octets}"));
        let rate = self.http_rate.map(|rate| format!("HTTP at {rate} bytes/s"));
        let all: Vec<String> = [window, blksize, rate].into_iter().flatten().collect();
        f.write_str(if all.is_empty() { "no limit" } else { "" })?;
        f.write_str(&all.join(", "))
    }
}

/// The machines that a limit applies to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum QuirkSubject {
    /// One machine.
    Machine(Mac),
    /// All machines of one maker: the first half of the hardware address.
    Oui([u8; 3]),
    /// A vendor class: the program of options 60 and 77, and the architecture of option 93. Without
    /// an architecture it is the program on any.
    Class(Firmware),
}

impl QuirkSubject {
    /// All subjects that include this machine, the narrowest first.
    pub fn iter_including(mac: Mac, firmware: Option<Firmware>) -> impl Iterator<Item = Self> {
        let [a, b, c, ..] = mac.0;
        let exact = firmware.filter(|firmware| firmware.arch.is_some()).map(Self::Class);
        let any = firmware.map(|firmware| Self::Class(Firmware { arch: None, ..firmware }));
        [Self::Machine(mac), Self::Oui([a, b, c])].into_iter().chain(exact).chain(any)
    }
}

/// The text names neither a machine, nor a maker, nor a class.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "neither a hardware address (52:54:00:12:34:10), nor the first half of one (52:54:00), nor a \
     vendor class (pxe, http-boot, ipxe, raspberry-pi, u-boot, with +bios, +uefi-ia32, +uefi-x64, \
     +uefi-arm64 or +NUMBER behind it)"
)]
pub struct NoSubject;

const ROLES: [(&str, FirmwareRole); 6] = [
    ("pxe", FirmwareRole::Pxe),
    ("http-boot", FirmwareRole::HttpBoot),
    ("ipxe", FirmwareRole::Ipxe),
    ("raspberry-pi", FirmwareRole::RaspberryPi),
    ("u-boot", FirmwareRole::UBoot),
    ("system", FirmwareRole::System),
];

const ARCHES: [(&str, Arch); 4] = [
    ("bios", Arch::Bios),
    ("uefi-ia32", Arch::UefiIa32),
    ("uefi-x64", Arch::UefiX64),
    ("uefi-arm64", Arch::UefiArm64),
];

/// The name of a class: `pxe+uefi-x64`, `u-boot`.
pub fn format_class(class: Firmware) -> String {
    let role = ROLES.iter().find(|(_, role)| *role == class.role).map_or("", |(name, _)| name);
    let Some(arch) = class.arch else { return role.to_owned() };
    match ARCHES.iter().find(|(_, known)| *known == arch) {
        Some((name, _)) => format!("{role}+{name}"),
        None => format!("{role}+{}", arch.number()),
    }
}

/// The class with this name.
pub fn parse_class(name: &str) -> Option<Firmware> {
    let (role, arch) = name.split_once('+').map_or((name, None), |(role, arch)| (role, Some(arch)));
    let role = ROLES.iter().find(|(name, _)| *name == role)?.1;
    let Some(arch) = arch else { return Some(Firmware { role, arch: None }) };
    let known = ARCHES.iter().find(|(name, _)| *name == arch).map(|(_, arch)| *arch);
    let arch = known.or_else(|| arch.parse().ok().map(Arch::from_number))?;
    Some(Firmware { role, arch: Some(arch) })
}

/// Parses the first half of a hardware address: `52:54:00` or `52-54-00`.
pub fn parse_oui(text: &str) -> Option<[u8; 3]> {
    let Mac([a, b, c, ..]) = format!("{text}:00:00:00").parse().ok()?;
    Some([a, b, c])
}

impl fmt::Display for QuirkSubject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Machine(mac) => mac.fmt(f),
            Self::Oui([a, b, c]) => write!(f, "{a:02x}:{b:02x}:{c:02x}"),
            Self::Class(class) => f.write_str(&format_class(*class)),
        }
    }
}

impl FromStr for QuirkSubject {
    type Err = NoSubject;

    fn from_str(text: &str) -> Result<Self, NoSubject> {
        if let Ok(mac) = text.parse() {
            return Ok(Self::Machine(mac));
        }
        if let Some(oui) = parse_oui(text) {
            return Ok(Self::Oui(oui));
        }
        parse_class(text).map(Self::Class).ok_or(NoSubject)
    }
}

/// A learnt or pinned limit, as cores see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QuirkLimit {
    /// The most that is granted.
    pub allowance: QuirkAllowance,
    /// True for a limit that an operator set: it overrides the configuration.
    pub pinned: bool,
}

/// Every limit that is in force, published to the cores.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ActiveLimits(pub HashMap<QuirkSubject, QuirkLimit>);

/// `[[quirk]]`: a limit of the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FixedQuirk {
    /// The machines that it applies to.
    pub subject: QuirkSubject,
    /// The most that they are granted.
    pub allowance: QuirkAllowance,
}

/// Limits that ship with ringboot, from measurements of firmware, each with its reason.
pub const SHIPPED: [(FixedQuirk, &str); 1] = [(
    // Under QEMU with virtio-net: windows of 16, 24 and 32 arrived whole; with 48 and 64, U-Boot
    // lost packets in every window, never ended, and read no packet until its reset (two runs
    // each).
    FixedQuirk {
        subject: QuirkSubject::Class(Firmware { role: FirmwareRole::UBoot, arch: None }),
        allowance: QuirkAllowance { window: Some(32), blksize: None, http_rate: None },
    },
    "U-Boot loses packets of every larger window and never ends such a transfer",
)];

impl ActiveLimits {
    /// The limits of this machine. For each kind of limit, the narrowest subject that has one
    /// decides; of one subject, first the pinned limit, then the configuration, then the learnt
    /// one.
    pub fn allowance(&self, fixed: &[FixedQuirk], machine: &Machine) -> QuirkAllowance {
        let mut all = QuirkAllowance::default();
        for subject in QuirkSubject::iter_including(machine.mac, machine.firmware) {
            let (pinned, learnt) = match self.0.get(&subject) {
                Some(limit) if limit.pinned => (limit.allowance, QuirkAllowance::default()),
                Some(limit) => (QuirkAllowance::default(), limit.allowance),
                None => Default::default(),
            };
            all = all.or(pinned).or(find_fixed_allowance(fixed, subject)).or(learnt);
        }
        let shipped = QuirkSubject::iter_including(machine.mac, machine.firmware)
            .flat_map(|subject| SHIPPED.iter().filter(move |(known, _)| known.subject == subject));
        shipped.fold(all, |all, (known, _)| all.or(known.allowance))
    }
}

fn find_fixed_allowance(fixed: &[FixedQuirk], subject: QuirkSubject) -> QuirkAllowance {
    fixed
        .iter()
        .find(|one| one.subject == subject)
        .map_or_else(QuirkAllowance::default, |one| one.allowance)
}

/// The end of a TFTP transfer with a known machine, with everything that learning needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransferAttempt {
    /// The program that asked for the file.
    pub class: Option<Firmware>,
    /// Name of the file.
    pub name: String,
    /// Blocks in the window that was granted; 1 = none.
    pub window: u16,
    /// Bytes in the blocks that were granted.
    pub blksize: u16,
    /// True where the client sent `tsize`, and perhaps wanted only the size.
    pub size_asked: bool,
    /// True where the client acknowledged anything, at least the OACK.
    pub confirmed: bool,
    /// Blocks that the client acknowledged.
    pub acked_blocks: u64,
    /// Blocks back to back that the client could take: less than the window where the server had to
    /// send shorter bursts (T-40).
    pub least_burst: u16,
    /// How the transfer ended.
    pub end: AttemptEnd,
}

/// How a TFTP transfer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttemptEnd {
    /// The client acknowledged the last block.
    Complete,
    /// The client sent an ERROR.
    Aborted,
    /// The client stopped answering.
    GaveUp,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn subjects_are_read_as_they_are_written() {
        let uefi = Firmware { role: FirmwareRole::Pxe, arch: Some(Arch::UefiX64) };
        for (text, subject) in [
            ("52:54:00:12:34:10", QuirkSubject::Machine(Mac([0x52, 0x54, 0, 0x12, 0x34, 0x10]))),
            ("52:54:00", QuirkSubject::Oui([0x52, 0x54, 0])),
            ("pxe+uefi-x64", QuirkSubject::Class(uefi)),
            (
                "u-boot+22",
                QuirkSubject::Class(Firmware {
                    role: FirmwareRole::UBoot,
                    arch: Some(Arch::Other(22)),
                }),
            ),
            (
                "raspberry-pi",
                QuirkSubject::Class(Firmware { role: FirmwareRole::RaspberryPi, arch: None }),
            ),
        ] {
            assert_eq!(text.parse(), Ok(subject));
            assert_eq!(subject.to_string(), text);
        }
        assert_eq!("52-54-00".parse(), Ok(QuirkSubject::Oui([0x52, 0x54, 0])));
        for text in ["", "52:54", "52:54:0g", "pxe+", "pxe+riscv", "PXEClient", "52:54:00:12"] {
            assert_eq!(text.parse::<QuirkSubject>(), Err(NoSubject), "{text}");
        }
    }

    fn allowance(window: u16) -> QuirkAllowance {
        QuirkAllowance { window: Some(window), ..QuirkAllowance::default() }
    }

    #[test]
    fn t23_the_narrowest_subject_counts_and_a_pin_before_the_file_before_what_was_learnt() {
        let machine = Machine {
            mac: Mac([2, 0, 0, 1, 2, 3]),
            uuid: None,
            firmware: Some(Firmware { role: FirmwareRole::Pxe, arch: Some(Arch::UefiX64) }),
        };
        let [own, oui, exact, any] =
            QuirkSubject::iter_including(machine.mac, machine.firmware).collect::<Vec<_>>()[..]
        else {
            panic!("four subjects")
        };
        let learnt =
            |subject, window| (subject, QuirkLimit { allowance: allowance(window), pinned: false });
        let mut limited = ActiveLimits(HashMap::from([
            learnt(own, 2),
            learnt(oui, 3),
            learnt(exact, 4),
            learnt(any, 5),
        ]));
        let expect = |limited: &mut ActiveLimits, fixed: &[FixedQuirk], window: Option<u16>| {
            assert_eq!(limited.allowance(fixed, &machine).window, window);
        };
        expect(&mut limited, &[], Some(2));
        expect(&mut limited, &[FixedQuirk { subject: own, allowance: allowance(9) }], Some(9));
        expect(&mut limited, &[FixedQuirk { subject: oui, allowance: allowance(9) }], Some(2));
        limited.0.insert(own, QuirkLimit { allowance: allowance(7), pinned: true });
        expect(&mut limited, &[FixedQuirk { subject: own, allowance: allowance(9) }], Some(7));
        for (subject, next) in [(own, Some(3)), (oui, Some(4)), (exact, Some(5)), (any, None)] {
            limited.0.remove(&subject);
            expect(&mut limited, &[], next);
        }
        // A pin that says nothing of a window leaves it to the wider ones.
        let slow = QuirkAllowance { http_rate: NonZeroU64::new(9), ..QuirkAllowance::default() };
        limited.0.extend([(own, QuirkLimit { allowance: slow, pinned: true }), learnt(oui, 3)]);
        assert_eq!(limited.allowance(&[], &machine), slow.or(allowance(3)));
    }

    #[test]
    fn an_allowance_is_told_in_the_words_of_its_options() {
        let all = QuirkAllowance {
            window: Some(8),
            blksize: Some(1024),
            http_rate: NonZeroU64::new(625_000),
        };
        let slow = QuirkAllowance { http_rate: all.http_rate, ..QuirkAllowance::default() };
        for (allowance, said) in [
            (all, "windowsize 8, blksize 1024, HTTP at 625000 bytes/s"),
            (allowance(1), "windowsize 1"),
            (slow, "HTTP at 625000 bytes/s"),
            (QuirkAllowance::default(), "no limit"),
        ] {
            assert_eq!(
                (allowance.to_string().as_str(), allowance.is_empty()),
                (said, said == "no limit")
            );
        }
    }

    #[test]
    fn t20_uboot_never_gets_the_windows_that_kill_it() {
        let firmware = Some(Firmware { role: FirmwareRole::UBoot, arch: Some(Arch::Other(22)) });
        let machine = Machine { mac: Mac([2; 6]), uuid: None, firmware };
        assert_eq!(ActiveLimits::default().allowance(&[], &machine), allowance(32));
        let pxe = Machine {
            firmware: Some(Firmware { role: FirmwareRole::Pxe, arch: Some(Arch::Bios) }),
            ..machine
        };
        assert!(ActiveLimits::default().allowance(&[], &pxe).is_empty());
    }
}
