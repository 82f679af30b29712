//! Where a machine stands, in one word: what `why` tells in a story, for a list of hundreds.

use super::entry::Entry;
use super::events::{Kind, Stage};
use super::stop::Cause;
use super::timeline::Story;

/// A machine that is between two steps of its boot is given so long for the next one. Milliseconds:
/// firmware that looks for a link, a loader with a countdown, a kernel that is unpacked.
const NEXT_STEP_MS: u64 = 60_000;
/// A machine that has all that it asked for, and has been quiet for so long, has booted.
/// Milliseconds.
const SETTLED_MS: u64 = 10_000;

/// Where a machine stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// It stopped, and `why` has the cause.
    Failed,
    /// Between two steps, a moment ago.
    Booting,
    /// It got its menu and has asked for nothing since: a person chooses, or it booted its disk.
    Menu,
    /// It got what it asked for.
    Booted,
    /// A reservation whose machine was never heard of.
    Unseen,
}

impl Standing {
    pub const ALL: [Self; 5] =
        [Self::Failed, Self::Booting, Self::Menu, Self::Booted, Self::Unseen];

    pub fn word(self) -> &'static str {
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
pub fn standing(entries: &[Entry], story: &Story) -> Standing {
    if story.code.is_some_and(Cause::is_under_way) {
        return Standing::Booting;
    }
    let steps = || entries.iter().rev().filter(|entry| is_step(&entry.kind));
    let Some(last) = steps().next() else { return Standing::Unseen };
    if story.cause.is_none() {
        return if story.quiet_ms < SETTLED_MS { Standing::Booting } else { Standing::Booted };
    }
    // Only time tells that the next step does not come.
    let is_between =
        matches!(last.kind, Kind::Offered { .. } | Kind::Leased { .. } | Kind::Sent { .. });
    match (is_between, last.stage) {
        (false, _) => Standing::Failed,
        (true, _) if story.quiet_ms < NEXT_STEP_MS => Standing::Booting,
        (true, Stage::Menu) => Standing::Menu,
        (true, _) => Standing::Failed,
    }
}

fn is_step(kind: &Kind) -> bool {
    !matches!(kind, Kind::Renewed | Kind::Released | Kind::SizeProbe | Kind::Other)
}

#[cfg(test)]
mod tests {
    use super::super::cause::Known;
    use super::super::flight::{Flight, Way};
    use super::super::timeline::story;
    use super::*;
    use ringboot_protocol::model::machine::{Arch, Firmware, Role};

    const PXE: Firmware = Firmware { role: Role::Pxe, arch: Some(Arch::UefiX64) };

    fn at(at_ms: u64, stage: Stage, kind: Kind) -> Entry {
        Entry { at_ms, address: None, stage, kind, text: String::new() }
    }

    fn sent(at_ms: u64, stage: Stage, name: &str) -> Entry {
        at(at_ms, stage, Kind::Sent { name: name.into(), bytes: 1 })
    }

    /// As far as the loader, which came at 4,200 ms.
    fn loaded(more: &[Entry]) -> Vec<Entry> {
        let first = [
            at(0, Stage::Dhcp, Kind::Offered { to: PXE }),
            at(4000, Stage::Dhcp, Kind::Leased { to: PXE, twin: false }),
            sent(4200, Stage::Loader, "shimx64.efi"),
        ];
        first.into_iter().chain(more.iter().cloned()).collect()
    }

    fn stands(entries: &[Entry], now_ms: u64) -> Standing {
        standing(entries, &story(entries, &Known::default(), now_ms))
    }

    #[test]
    fn a_machine_between_two_steps_boots_until_the_next_one_is_overdue() {
        let offered = [at(0, Stage::Dhcp, Kind::Offered { to: PXE })];
        assert_eq!(
            (stands(&offered, 59_999), stands(&offered, 60_000)),
            (Standing::Booting, Standing::Failed)
        );
        assert_eq!(
            (stands(&loaded(&[]), 60_000), stands(&loaded(&[]), 70_000)),
            (Standing::Booting, Standing::Failed)
        );
        let menu = loaded(&[sent(5000, Stage::Menu, "grub.cfg")]);
        assert_eq!(
            (stands(&menu, 60_000), stands(&menu, 70_000)),
            (Standing::Booting, Standing::Menu)
        );
    }

    #[test]
    fn a_machine_that_loads_a_large_file_boots_however_long_it_takes() {
        let way = Way::Tftp { block: 4, blocks: 70_000 };
        let flight = Flight { name: "initrd.gz".into(), began_ms: 4300, quiet_ms: 20_000, way };
        let known = Known { flights: Some(vec![flight]), ..Known::default() };
        let entries = loaded(&[]);
        assert_eq!(standing(&entries, &story(&entries, &known, 500_000)), Standing::Booting);
        assert_eq!(stands(&entries, 500_000), Standing::Failed);
    }

    #[test]
    fn what_cannot_go_on_by_itself_has_failed_at_once() {
        let rule = Some("kernel of the menu entry `install`".to_owned());
        let missing = at(5000, Stage::Kernel, Kind::Missing { name: "debian/linux".into(), rule });
        assert_eq!(stands(&loaded(&[missing]), 5001), Standing::Failed);
        assert_eq!(stands(&[at(0, Stage::Dhcp, Kind::NoAddressFree)], 1), Standing::Failed);
    }

    #[test]
    fn a_machine_that_has_all_has_booted_and_stays_so_while_it_renews_its_lease() {
        let mut entries =
            loaded(&[sent(5000, Stage::Kernel, "linux"), sent(6000, Stage::Initrd, "initrd.gz")]);
        assert_eq!(
            (stands(&entries, 7000), stands(&entries, 16_000)),
            (Standing::Booting, Standing::Booted)
        );
        entries.push(at(900_000, Stage::Dhcp, Kind::Renewed));
        assert_eq!(stands(&entries, 900_001), Standing::Booted);
    }

    #[test]
    fn nothing_is_known_of_a_machine_that_was_never_heard_of() {
        assert_eq!(stands(&[], 0), Standing::Unseen);
    }
}
