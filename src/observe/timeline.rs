//! The last boot of a machine as a story: what happened when, where the boot stopped, one sentence
//! about the cause and one with advice.

use std::net::IpAddr;

use super::cause::{self, CauseContext};
use super::entry::join_text_lines;
use super::events::{EventKind, MachineStage};
use super::stop::StopCause;
use ringboot_protocol::model::machine::{Firmware, FirmwareRole};

pub use super::entry::JournalEntry;

/// Silence after which the next event belongs to another boot, in milliseconds: longer than any
/// installer pauses between two files.
pub const SILENCE_MS: u64 = 600_000;

/// The last boot of one machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MachineStory {
    /// The last address that the machine got or sent a request from.
    pub address: Option<IpAddr>,
    /// The first program of this boot that requested an address.
    pub firmware: Option<Firmware>,
    /// When the boot began, in Unix milliseconds; 0 where nothing is known.
    pub began_ms: u64,
    /// Milliseconds since the last event of the machine.
    pub quiet_ms: u64,
    /// The events of the boot, oldest first.
    pub lines: Vec<TimelineLine>,
    /// Where the boot stopped, or what the machine does now. None: the server sees nothing wrong.
    pub code: Option<StopCause>,
    /// The same as a sentence.
    pub cause: Option<String>,
    /// What the operator does next; Some where `cause` is.
    pub next_step: Option<String>,
}

/// One line of the timeline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimelineLine {
    /// Milliseconds since the boot began.
    pub after_ms: u64,
    /// The step of the boot to which the event belongs.
    pub stage: MachineStage,
    /// The sentence of the log, on one line.
    pub text: String,
    /// How many equal events in a row this line stands for.
    pub times: usize,
}

/// The story of the last boot in `entries` (oldest first). `now_ms`: unix milliseconds.
pub fn build_boot_story(
    entries: &[JournalEntry],
    known: &CauseContext<'_>,
    now_ms: u64,
) -> MachineStory {
    let boot = find_last_boot(entries);
    let stop = cause::judge_boot(boot, known);
    let began_ms = boot.first().map_or(0, |first| first.at_ms);
    MachineStory {
        address: entries.iter().rev().find_map(|entry| entry.address),
        firmware: boot.iter().find_map(|entry| find_asking_firmware(&entry.kind)),
        began_ms,
        quiet_ms: boot.last().map_or(0, |last| now_ms.saturating_sub(last.at_ms)),
        lines: build_story_lines(boot, began_ms),
        code: stop.as_ref().map(|stop| stop.code),
        cause: stop.as_ref().map(|stop| stop.cause.clone()),
        next_step: stop.map(|stop| stop.next_step),
    }
}

// --- where the last boot begins ---

/// The entries of the last boot. A boot begins after a long silence, or where firmware requests an
/// address although the boot before already had one and went on.
fn find_last_boot(entries: &[JournalEntry]) -> &[JournalEntry] {
    let (mut start, mut rank, mut went_on) = (0, 0, false);
    for (at, entry) in entries.iter().enumerate() {
        let quiet = at > 0 && entry.at_ms.saturating_sub(entries[at - 1].at_ms) >= SILENCE_MS;
        let asks = rank_address_request(&entry.kind);
        let again = asks.is_some_and(|asks| went_on && asks <= rank && asks < SYSTEM_RANK);
        // A renewal begins no boot, however long the machine was quiet before.
        if again || quiet && entry.kind != EventKind::Renewed {
            (start, rank, went_on) = (at, 0, false);
        }
        rank = rank.max(asks.unwrap_or(0));
        went_on |= !matches!(entry.stage, MachineStage::Dhcp)
            || matches!(entry.kind, EventKind::Leased { .. });
    }

    // Renewals long after the last step of a boot are no part of it.
    let boot = entries.get(start..).unwrap_or_default();
    let renewals = boot.iter().rev().take_while(|entry| entry.kind == EventKind::Renewed).count();
    if renewals < boot.len() { &boot[..boot.len() - renewals] } else { boot }
}

/// The programs of a boot come in this order: firmware, iPXE that the firmware loads, the system.
const SYSTEM_RANK: u8 = 2;

/// The rank of a program that has just been offered an address.
fn rank_address_request(kind: &EventKind) -> Option<u8> {
    let (EventKind::Offered { to } | EventKind::NoLoader { to, .. }) = kind else { return None };
    Some(match to.role {
        FirmwareRole::Pxe
        | FirmwareRole::HttpBoot
        | FirmwareRole::RaspberryPi
        | FirmwareRole::UBoot => 0,
        FirmwareRole::Ipxe => 1,
        FirmwareRole::System => SYSTEM_RANK,
    })
}

fn find_asking_firmware(kind: &EventKind) -> Option<Firmware> {
    match kind {
        EventKind::Offered { to }
        | EventKind::Leased { to, .. }
        | EventKind::NoLoader { to, .. } => Some(*to),
        _ => None,
    }
}

// --- what is printed ---

fn build_story_lines(boot: &[JournalEntry], began_ms: u64) -> Vec<TimelineLine> {
    let mut lines: Vec<TimelineLine> = Vec::new();
    for entry in boot {
        let text = join_text_lines(&entry.text);
        match lines.last_mut().filter(|line| line.stage == entry.stage && line.text == text) {
            Some(line) => line.times += 1,
            None => {
                let after_ms = entry.at_ms.saturating_sub(began_ms);
                lines.push(TimelineLine { after_ms, stage: entry.stage, text, times: 1 });
            }
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::events::{FileDenial, UnansweredReason};
    use super::*;
    use ringboot_protocol::model::machine::Arch;
    use std::net::Ipv4Addr;

    const PXE: Firmware = Firmware { role: FirmwareRole::Pxe, arch: Some(Arch::UefiX64) };
    const IPXE: Firmware = Firmware { role: FirmwareRole::Ipxe, arch: Some(Arch::UefiX64) };
    const LINUX: Firmware = Firmware { role: FirmwareRole::System, arch: None };

    /// A running server that answers DHCP.
    fn known() -> CauseContext<'static> {
        CauseContext { has_dhcp: true, flights: Some(Vec::new()), ..CauseContext::default() }
    }

    fn at(at_ms: u64, stage: MachineStage, kind: EventKind, text: &str) -> JournalEntry {
        JournalEntry {
            at_ms,
            address: Some(IpAddr::from([192, 168, 4, 26])),
            stage,
            kind,
            text: text.into(),
        }
    }

    fn dhcp(at_ms: u64, kind: EventKind) -> JournalEntry {
        at(at_ms, MachineStage::Dhcp, kind, "no answer, because")
    }

    fn file(at_ms: u64, kind: EventKind) -> JournalEntry {
        at(at_ms, MachineStage::File, kind, "TFTP refused because")
    }

    fn sent(at_ms: u64, stage: MachineStage, name: &str) -> JournalEntry {
        at(at_ms, stage, EventKind::Sent { name: name.into(), bytes: 1 }, &format!("{name} sent"))
    }

    fn missing(at_ms: u64, name: &str, rule: Option<&str>) -> JournalEntry {
        file(at_ms, EventKind::Missing { name: name.into(), rule: rule.map(str::to_owned) })
    }

    fn leased(to: Firmware) -> EventKind {
        EventKind::Leased { to, twin: false }
    }

    fn unanswered(why: UnansweredReason) -> EventKind {
        EventKind::Unanswered { why, about: "192.168.4.0/24".into(), other: None }
    }

    /// As far as the loader.
    fn loaded() -> Vec<JournalEntry> {
        vec![
            dhcp(0, EventKind::Offered { to: PXE }),
            dhcp(4000, leased(PXE)),
            file(4100, EventKind::SizeProbe),
            sent(4200, MachineStage::Loader, "shimx64.efi"),
        ]
    }

    fn cause(entries: &[JournalEntry]) -> String {
        build_boot_story(entries, &known(), 0).cause.unwrap_or_default()
    }

    fn after_loading(more: Vec<JournalEntry>) -> String {
        cause(&[loaded(), more].concat())
    }

    #[test]
    fn a_machine_that_nobody_heard_of() {
        let story = build_boot_story(&[], &known(), 5);
        assert!(story.lines.is_empty() && story.cause.unwrap().contains("no DISCOVER"));
        assert!(story.next_step.unwrap().contains("PortFast"));
    }

    #[test]
    fn every_stop_in_dhcp_has_its_sentence() {
        let offered = dhcp(0, EventKind::Offered { to: PXE });
        assert_eq!(
            cause(&[offered.clone(), offered.clone()]),
            "It was offered 192.168.4.26 (2 x) and never requested it."
        );
        let arm = Firmware { role: FirmwareRole::Pxe, arch: Some(Arch::UefiArm64) };
        let no_loader = EventKind::NoLoader {
            to: arm,
            why: "no boot file because [boot] uefi-arm64 is not set".into(),
        };
        let said = cause(&[dhcp(0, no_loader)]);
        assert!(
            said.contains("architecture 11") && said.contains("uefi-arm64 is not set"),
            "{said}"
        );
        let nak = |at_ms| dhcp(at_ms, EventKind::Nak);
        assert!(
            cause(&[offered.clone(), nak(1)])
                .starts_with("Its request for 192.168.4.26 was refused: because")
        );
        let loops = [offered.clone(), nak(1), offered.clone(), nak(2), offered.clone()];
        assert!(cause(&loops).contains("may not have (2 NAKs)"));
        let leased_after = [&loops[..], &[dhcp(3, leased(PXE))]].concat();
        assert!(cause(&leased_after).contains("requested no file"));
        for (kind, words) in [
            (EventKind::NoAddressFree, "The pool is full: because."),
            (
                EventKind::OtherServer { server: Ipv4Addr::new(10, 0, 0, 1) },
                "It chose another DHCP server, 10.0.0.1.",
            ),
            (unanswered(UnansweredReason::NotPxe), "It is not admitted: because."),
            (EventKind::Declined, "It declined 192.168.4.26"),
            (unanswered(UnansweredReason::Odd), "Its last message was not answered: because."),
            (EventKind::Failed, "The server could not serve it: because."),
        ] {
            let said = cause(&[offered.clone(), dhcp(1, kind)]);
            assert!(said.starts_with(words), "{said}");
        }
    }

    #[test]
    fn every_stop_at_a_file_has_its_sentence() {
        let name = || "grubx64.efi".to_owned();
        for (kind, words) in [
            (
                EventKind::Denied { name: name(), why: FileDenial::Unreadable },
                "grubx64.efi was not served: because.",
            ),
            (EventKind::TemplateFailed, "A template failed: because."),
            (
                EventKind::Stalled { name: name(), block: 1 },
                "grubx64.efi stalled at block 1: it acknowledged no block",
            ),
            (
                EventKind::Stalled { name: name(), block: 70_000 },
                "grubx64.efi stalled at block 70000: it fell silent",
            ),
            (
                EventKind::ClientAborted { name: name(), code: 3 },
                "It ended the transfer of grubx64.efi by itself",
            ),
            (EventKind::Changed { name: name() }, "grubx64.efi was changed in place"),
            (EventKind::TooSlow, "The server closed its HTTP connection"),
        ] {
            let said = after_loading(vec![file(5000, kind)]);
            assert!(said.starts_with(words), "{said}");
        }
        let said = after_loading(vec![missing(5000, "grubx64.efi", None)]);
        assert!(said.starts_with("grubx64.efi is missing; no line"), "{said}");
    }

    #[test]
    fn a_missing_file_is_told_with_the_line_that_asks_for_it_and_not_by_its_other_spellings() {
        let rule = "kernel of the menu entry `install`";
        let tries = vec![
            sent(5000, MachineStage::Menu, "pxelinux.cfg/default"),
            missing(6000, "linux", Some(rule)),
            missing(6010, "linux.cbt", None),
            missing(6020, "linux.0", None),
        ];
        assert_eq!(
            after_loading(tries),
            "linux is missing; kernel of the menu entry `install` asks for it."
        );
    }

    #[test]
    fn what_loaders_can_do_without_is_no_cause() {
        let said = after_loading(vec![
            missing(5000, "revocations_sku.efi", None),
            sent(6000, MachineStage::Kernel, "linux"),
        ]);
        assert_eq!(said, "");
        let said = after_loading(vec![
            sent(5000, MachineStage::Menu, "grub.cfg"),
            missing(6000, "x/command.lst", None),
        ]);
        assert!(said.starts_with("It waits at the menu"), "{said}");
        assert!(
            after_loading(vec![missing(5000, "revocations.efi", None)])
                .starts_with("shimx64.efi was sent completely")
        );
        let said = after_loading(vec![missing(5000, "pxelinux.cfg/default", None)]);
        assert_eq!(said, "shimx64.efi found no menu.");
    }

    #[test]
    fn a_boot_that_came_to_its_end_has_no_cause() {
        let end = vec![
            sent(5000, MachineStage::Menu, "grub.cfg"),
            sent(6000, MachineStage::Initrd, "initrd.gz"),
            dhcp(7000, EventKind::Offered { to: LINUX }),
            dhcp(7100, leased(LINUX)),
        ];
        assert_eq!(after_loading(end), "");
    }

    #[test]
    fn a_lease_asked_for_once_more_after_the_files_is_no_stop_but_that_of_a_chained_loader_is() {
        let again = dhcp(7000, leased(PXE));
        assert_eq!(after_loading(vec![sent(6000, MachineStage::Kernel, "linux"), again]), "");
        let chained = vec![dhcp(7000, EventKind::Offered { to: IPXE }), dhcp(7100, leased(IPXE))];
        assert!(after_loading(chained).contains("requested no file"));
    }

    #[test]
    fn a_boot_begins_when_firmware_asks_anew_and_not_when_its_own_ipxe_or_system_asks() {
        let chained = [
            loaded(),
            vec![dhcp(5000, EventKind::Offered { to: IPXE }), dhcp(6000, leased(IPXE))],
            vec![dhcp(7000, EventKind::Offered { to: LINUX }), dhcp(8000, leased(LINUX))],
        ]
        .concat();
        assert_eq!(find_last_boot(&chained).len(), 8);
        let again = [chained.clone(), vec![dhcp(9000, EventKind::Offered { to: PXE })]].concat();
        assert_eq!(find_last_boot(&again).len(), 1);
        assert_eq!(
            (
                build_boot_story(&again, &known(), 9500).began_ms,
                build_boot_story(&again, &known(), 9500).quiet_ms
            ),
            (9000, 500)
        );
        let ipxe_again =
            [chained.clone(), vec![dhcp(9000, EventKind::Offered { to: IPXE })]].concat();
        assert_eq!(
            find_last_boot(&ipxe_again).len(),
            1,
            "after the system only a restart brings iPXE back"
        );
    }

    #[test]
    fn ten_minutes_of_silence_part_two_boots_but_renewals_are_neither_a_boot_nor_part_of_one() {
        let later =
            [loaded(), vec![sent(4200 + SILENCE_MS, MachineStage::Kernel, "linux")]].concat();
        assert_eq!(find_last_boot(&later).len(), 1);
        let renewed = [loaded(), vec![dhcp(4200 + SILENCE_MS, EventKind::Renewed)]].concat();
        assert_eq!(find_last_boot(&renewed).len(), 4);
        assert_eq!(find_last_boot(&[dhcp(0, EventKind::Renewed)]).len(), 1);
    }

    #[test]
    fn repeats_are_merged_and_a_sentence_stays_on_its_line() {
        let offer = |at_ms| {
            at(at_ms, MachineStage::Dhcp, EventKind::Offered { to: PXE }, "offer:\n  hint: x")
        };
        let story = build_boot_story(&[offer(10), offer(20), offer(40)], &known(), 40);
        assert_eq!(
            story.lines,
            [TimelineLine {
                after_ms: 0,
                stage: MachineStage::Dhcp,
                text: "offer:; hint: x".into(),
                times: 3
            }]
        );
        assert_eq!(story.firmware, Some(PXE));
    }
}
