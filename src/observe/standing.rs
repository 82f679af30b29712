//! The state of a machine in one word, for the list of machines; `why` has the whole story.

use super::entry::JournalEntry;
use super::events::{EventKind, MachineStage};
use super::stop::StopCause;
use super::timeline::MachineStory;

/// How long a machine may take between two steps of its boot, in milliseconds: firmware that waits
/// for a link, a loader with a countdown, a kernel that unpacks itself.
const NEXT_STEP_MS: u64 = 60_000;
/// A machine that got everything it requested and then sent nothing for this long has booted. In
/// milliseconds.
const SETTLED_MS: u64 = 10_000;

/// The state of a machine. The order is that of the list: what needs a person goes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum BootStanding {
    /// The boot stopped, and `why` has the cause.
    Failed,
    /// The last step was a moment ago, and the next one may follow.
    Booting,
    /// The machine got its menu and requested nothing since: a person chooses, or it booted its
    /// disk.
    Menu,
    /// The machine got everything it requested.
    Booted,
    /// A reservation whose machine sent nothing so far.
    Unseen,
}

impl BootStanding {
    /// Every state, in the order of the list.
    pub const ALL: [Self; 5] =
        [Self::Failed, Self::Booting, Self::Menu, Self::Booted, Self::Unseen];

    /// The word in the list and in the admin API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::Booting => "booting",
            Self::Menu => "menu",
            Self::Booted => "booted",
            Self::Unseen => "unseen",
        }
    }
}

/// The judgement of `why` in one word. `entries` are those of the story, oldest first.
pub fn judge_standing(entries: &[JournalEntry], story: &MachineStory) -> BootStanding {
    if story.code.is_some_and(StopCause::is_under_way) {
        return BootStanding::Booting;
    }
    let last = entries.iter().rev().find(|entry| is_boot_step(&entry.kind));
    let Some(last) = last else { return BootStanding::Unseen };
    if story.cause.is_none() {
        return if story.quiet_ms < SETTLED_MS {
            BootStanding::Booting
        } else {
            BootStanding::Booted
        };
    }
    // After a step that went well only time shows that the next step does not come.
    let is_between = matches!(
        last.kind,
        EventKind::Offered { .. } | EventKind::Leased { .. } | EventKind::Sent { .. }
    );
    match (is_between, last.stage) {
        (false, _) => BootStanding::Failed,
        (true, _) if story.quiet_ms < NEXT_STEP_MS => BootStanding::Booting,
        (true, MachineStage::Menu) => BootStanding::Menu,
        (true, _) => BootStanding::Failed,
    }
}

fn is_boot_step(kind: &EventKind) -> bool {
    !matches!(
        kind,
        EventKind::Renewed | EventKind::Released | EventKind::SizeProbe | EventKind::Other
    )
}

#[cfg(test)]
mod tests {
    use super::super::cause::CauseContext;
    use super::super::flight::{ActiveTransfer, TransferProgress};
    use super::super::timeline::build_boot_story;
    use super::*;
    use ringboot_protocol::model::machine::{Arch, Firmware, FirmwareRole};

    const PXE: Firmware = Firmware { role: FirmwareRole::Pxe, arch: Some(Arch::UefiX64) };

    fn at(at_ms: u64, stage: MachineStage, kind: EventKind) -> JournalEntry {
        JournalEntry { at_ms, address: None, stage, kind, text: String::new() }
    }

    fn sent(at_ms: u64, stage: MachineStage, name: &str) -> JournalEntry {
        at(at_ms, stage, EventKind::Sent { name: name.into(), bytes: 1 })
    }

    /// As far as the loader, which came at 4,200 ms.
    fn loaded(more: &[JournalEntry]) -> Vec<JournalEntry> {
        let first = [
            at(0, MachineStage::Dhcp, EventKind::Offered { to: PXE }),
            at(4000, MachineStage::Dhcp, EventKind::Leased { to: PXE, twin: false }),
            sent(4200, MachineStage::Loader, "shimx64.efi"),
        ];
        first.into_iter().chain(more.iter().cloned()).collect()
    }

    fn stands(entries: &[JournalEntry], now_ms: u64) -> BootStanding {
        judge_standing(entries, &build_boot_story(entries, &CauseContext::default(), now_ms))
    }

    #[test]
    fn a_machine_between_two_steps_boots_until_the_next_one_is_overdue() {
        let offered = [at(0, MachineStage::Dhcp, EventKind::Offered { to: PXE })];
        assert_eq!(
            (stands(&offered, 59_999), stands(&offered, 60_000)),
            (BootStanding::Booting, BootStanding::Failed)
        );
        assert_eq!(
            (stands(&loaded(&[]), 60_000), stands(&loaded(&[]), 70_000)),
            (BootStanding::Booting, BootStanding::Failed)
        );
        let menu = loaded(&[sent(5000, MachineStage::Menu, "grub.cfg")]);
        assert_eq!(
            (stands(&menu, 60_000), stands(&menu, 70_000)),
            (BootStanding::Booting, BootStanding::Menu)
        );
    }

    #[test]
    fn a_machine_that_loads_a_large_file_boots_however_long_it_takes() {
        let way = TransferProgress::Tftp { block: 4, blocks: 70_000 };
        let flight =
            ActiveTransfer { name: "initrd.gz".into(), began_ms: 4300, quiet_ms: 20_000, way };
        let known = CauseContext { flights: Some(vec![flight]), ..CauseContext::default() };
        let entries = loaded(&[]);
        assert_eq!(
            judge_standing(&entries, &build_boot_story(&entries, &known, 500_000)),
            BootStanding::Booting
        );
        assert_eq!(stands(&entries, 500_000), BootStanding::Failed);
    }

    #[test]
    fn what_cannot_go_on_by_itself_has_failed_at_once() {
        let rule = Some("kernel of the menu entry `install`".to_owned());
        let missing = at(
            5000,
            MachineStage::Kernel,
            EventKind::Missing { name: "debian/linux".into(), rule },
        );
        assert_eq!(stands(&loaded(&[missing]), 5001), BootStanding::Failed);
        assert_eq!(
            stands(&[at(0, MachineStage::Dhcp, EventKind::NoAddressFree)], 1),
            BootStanding::Failed
        );
    }

    #[test]
    fn a_machine_that_has_all_has_booted_and_stays_so_while_it_renews_its_lease() {
        let mut entries = loaded(&[
            sent(5000, MachineStage::Kernel, "linux"),
            sent(6000, MachineStage::Initrd, "initrd.gz"),
        ]);
        assert_eq!(
            (stands(&entries, 7000), stands(&entries, 16_000)),
            (BootStanding::Booting, BootStanding::Booted)
        );
        entries.push(at(900_000, MachineStage::Dhcp, EventKind::Renewed));
        assert_eq!(stands(&entries, 900_001), BootStanding::Booted);
    }

    #[test]
    fn nothing_is_known_of_a_machine_that_was_never_heard_of() {
        assert_eq!(stands(&[], 0), BootStanding::Unseen);
    }
}
