//! Compares the table of docs/log.md with the level of every kind of event.
#![allow(clippy::unwrap_used)]

use std::net::Ipv4Addr;

use super::events::{EventKind, EventWeight, FileDenial, UnansweredReason};
use ringboot_protocol::model::machine::{Arch, Firmware, FirmwareRole, Mac};

const TABLE: &str = include_str!("../../docs/log.md");

const PXE: Firmware = Firmware { role: FirmwareRole::Pxe, arch: Some(Arch::UefiArm64) };

/// One event of each kind. A new kind does not compile before it has its line in [`line`].
fn kinds() -> Vec<EventKind> {
    let name = || "debian/linux".to_owned();
    let missing = |name: &str, rule: Option<&str>| EventKind::Missing {
        name: name.into(),
        rule: rule.map(str::to_owned),
    };
    let mut kinds = vec![
        EventKind::Offered { to: PXE },
        EventKind::Leased { to: PXE, twin: false },
        EventKind::Leased { to: PXE, twin: true },
        EventKind::Renewed,
        EventKind::NoLoader { to: PXE, why: String::new() },
        EventKind::Nak,
        EventKind::NoAddressFree,
        EventKind::OtherServer { server: Ipv4Addr::LOCALHOST },
        EventKind::Declined,
        EventKind::Released,
        EventKind::Conflict,
        EventKind::PoolFills,
        EventKind::PoolHasRoom,
        EventKind::SizeProbe,
        EventKind::Sent { name: name(), bytes: 8 },
        missing("debian/linux", Some("kernel of the menu entry `install`")),
        missing("debian/linux", None),
        missing("pxelinux.cfg/C0A8", None),
        EventKind::TemplateFailed,
        EventKind::WriteRefused,
        EventKind::BadRequest,
        EventKind::Stalled { name: name(), block: 4 },
        EventKind::ClientAborted { name: name(), code: 3 },
        EventKind::ClientAborted { name: name(), code: 8 },
        EventKind::Changed { name: name() },
        EventKind::Forged { name: name() },
        EventKind::TooSlow,
        EventKind::Failed,
        EventKind::Short,
        EventKind::Other,
    ];
    let other = Some((Ipv4Addr::LOCALHOST, Mac([2; 6])));
    kinds.extend(UnansweredReason::ALL.iter().map(|why| EventKind::Unanswered {
        why: *why,
        about: "10.0.0.0/24".into(),
        other,
    }));
    kinds.extend(FileDenial::ALL.iter().map(|why| EventKind::Denied { name: name(), why: *why }));
    kinds
}

/// The sentence that the log has for a kind.
fn line(kind: &EventKind) -> &'static str {
    match kind {
        EventKind::Offered { .. } => {
            "offer: PXE firmware on x64 UEFI (option 93 = 7); address 10.0.0.9 from the pool"
        }
        EventKind::Leased { twin: false, .. } => {
            "lease: a system (no boot options); no boot file because the client says nothing"
        }
        EventKind::Leased { twin: true, .. } => {
            "lease: PXE firmware; machines 1 and 2 have one hardware address; loader a"
        }
        EventKind::Renewed => "renewal: a system (no boot options)",
        EventKind::NoLoader { .. } => {
            "offer: PXE firmware; no boot file because [boot] uefi-arm64 is not set (option 93 = \
             11)"
        }
        EventKind::Nak => "refusal of 10.0.0.9: a system; 10.0.0.9 refused: wrong network",
        EventKind::NoAddressFree => {
            "no answer, no address is free in subnet 10.0.0.0/24: PXE firmware"
        }
        EventKind::OtherServer { .. } => {
            "no answer, the client chose server 10.0.0.2: PXE firmware"
        }
        EventKind::Declined => "the client found its address in use: PXE firmware",
        EventKind::Released => "the client gave its address back: a system",
        EventKind::Conflict => {
            "10.0.0.9 is in use by 02:00:00:00:00:01 without a lease: it is not \
             offered"
        }
        EventKind::PoolFills => {
            "the pools of subnet 10.0.0.0/24 are nearly full: 9 of 10 addresses"
        }
        EventKind::PoolHasRoom => {
            "the pools of subnet 10.0.0.0/24 have room again: 7 of 10 addresses"
        }
        EventKind::SizeProbe => "shimx64.efi: size probe",
        EventKind::Sent { .. } => "debian/linux sent by TFTP, 8 bytes in 0.001 s",
        EventKind::Missing { rule: Some(_), .. } => {
            "TFTP refused debian/linux: no such file; kernel of the menu entry `install` asks for \
             it"
        }
        EventKind::Missing { name, .. } if name.starts_with("pxelinux.cfg") => {
            "TFTP refused pxelinux.cfg/C0A8: no such file"
        }
        EventKind::Missing { .. } => "TFTP refused debian/linux: no such file",
        EventKind::TemplateFailed => "TFTP refused ks.cfg: ks.cfg.j2:2:4: there is no variable `x`",
        EventKind::WriteRefused => "TFTP refused to take a file: nothing is written here",
        EventKind::BadRequest => "HTTP refused a request: only GET and HEAD are served: /x",
        EventKind::Stalled { .. } => {
            "linux: the client fell silent at block 4 after 2048 bytes and 30 s"
        }
        EventKind::ClientAborted { code: 8, .. } => {
            "linux: the client ended the transfer with ERROR 8 after 0 bytes"
        }
        EventKind::ClientAborted { .. } => {
            "linux: the client ended the transfer with ERROR 3 after 0 bytes"
        }
        EventKind::Changed { .. } => {
            "linux: the file was changed in place while it was being sent: transfer ended"
        }
        EventKind::Forged { .. } => {
            "linux: ended, because forged ACKs arrive for it: their sender does not know its port"
        }
        EventKind::TooSlow => "HTTP connection cut after 4096 bytes: too slow",
        EventKind::Failed => "the store could not keep the lease: no answer, the client asks again",
        EventKind::Short => {
            "TFTP leaves requests without an answer for now (busy; 1 times so far): clients ask \
             again"
        }
        EventKind::Other => "linux: the client began anew",
        EventKind::Unanswered { why, .. } => unanswered(*why),
        EventKind::Denied { why, .. } => denied(*why),
    }
}

fn unanswered(why: UnansweredReason) -> &'static str {
    match why {
        UnansweredReason::NoSubnet => "no answer, no subnet is configured for 10.9.0.1: a system",
        UnansweredReason::NoSubnetBehind => {
            "no answer, no subnet is configured for 10.9.0.1, and this message came from \
             beyond a router: a system"
        }
        UnansweredReason::NotForRelays => {
            "no answer, subnet 10.0.0.0/24 serves only its own link, and this message came from \
             beyond a router ("
        }
        UnansweredReason::SubnetOff => "no answer, subnet 10.0.0.0/24 is switched off: a system",
        UnansweredReason::NotPxe => {
            "no answer, the client says nothing of network boot, and never did (`clients = \"pxe\"`"
        }
        UnansweredReason::NotReserved => {
            "no answer, the client has no reservation (`clients = \"known\"`"
        }
        UnansweredReason::OtherServer => {
            "no answer, subnet 10.0.0.0/24 is silent: the DHCP server 10.0.0.2 (02) answered \
             there: a system"
        }
        UnansweredReason::Looking => {
            "no answer, subnet 10.0.0.0/24 is silent: looking for other DHCP servers: a system"
        }
        UnansweredReason::NoInterface => {
            "no answer, subnet 10.0.0.0/24 is silent: its interface is not there, or has no \
             address in it"
        }
        UnansweredReason::UnknownClient => {
            "no answer, this server has no record of the client, and another server may have one: \
             a system"
        }
        UnansweredReason::Bootp => "no answer, BOOTP without a reservation: a system",
        UnansweredReason::DeclinedTooMuch => {
            "no answer, the client declined 4 addresses within an hour, and gets none from the \
             pools"
        }
        UnansweredReason::LastDecline => {
            "no answer, the client has declined 4 addresses within an hour: until the hour is over"
        }
        UnansweredReason::TooLarge => {
            "no answer, the options that cannot be left out do not fit 548 bytes: a system"
        }
        UnansweredReason::Odd => "no answer, the request names no address: a system",
    }
}

fn denied(why: FileDenial) -> &'static str {
    match why {
        FileDenial::Unreadable => {
            "TFTP refused a: not every user may read the file: `chmod o+r` lets ringboot serve it"
        }
        FileDenial::OutsideRoot => "TFTP refused a: the name leads outside the root",
        FileDenial::NotAFile => "TFTP refused a: a directory",
        FileDenial::Hidden => {
            "TFTP refused .env: ringboot hides files of version control, editors and passwords"
        }
        FileDenial::Private => {
            "TFTP refused a: ringboot never serves its own configuration and state"
        }
        FileDenial::BadName => "HTTP refused ../a: the name leads above the root with `..`",
        FileDenial::TooLarge => {
            "TFTP refused a: as netascii: the file is too large for this kind of request"
        }
    }
}

/// The patterns of the table with their levels.
fn rows() -> Vec<(&'static str, &'static str)> {
    let mut rows = Vec::new();
    for row in TABLE.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<&str> = row.split(" | ").collect();
        // In quotes: every second piece.
        rows.extend(cells[0].split('`').skip(1).step_by(2).map(|pattern| (pattern, cells[1])));
    }
    rows
}

/// The length of the literal part of the pattern; None where the line does not match.
fn matches(pattern: &str, line: &str) -> Option<usize> {
    let mut parts = pattern.split("...").map(str::trim_start);
    let mut rest = line.strip_prefix(parts.next()?)?;
    for part in parts {
        rest = &rest[rest.find(part.trim_end())? + part.trim_end().len()..];
    }
    Some(pattern.replace("...", "").len())
}

#[test]
fn every_kind_of_event_is_as_loud_as_its_row_in_the_docs_says() {
    let rows = rows();
    assert!(rows.len() > 50, "{rows:?}");
    for kind in kinds() {
        let line = line(&kind);
        let best = rows
            .iter()
            .filter_map(|row| Some((matches(row.0, line)?, row)))
            .max_by_key(|(literal, _)| *literal);
        let (_, (pattern, level)) =
            best.unwrap_or_else(|| panic!("docs/log.md has no row for {line:?}"));
        let is = match kind.weight() {
            EventWeight::Detail => "DEBUG",
            EventWeight::Step => "INFO",
            EventWeight::Warning => "WARN",
        };
        assert_eq!(is, *level, "{line:?} by the row `{pattern}`");
    }
}
