//! Words and findings of other rooms, as the admin API has them.

use super::types::{
    BootStage, FindingEntry, FindingSeverity, LeaseState, LinkState, MachineStanding,
    ServedClients, StoreTrust, SubnetMode, WalkFirmware,
};
use crate::dhcp::listing;
use crate::dhcp::subnet::{Clients, Mode};
use crate::engine::netlink::Link;
use crate::fleet::walk;
use crate::model::machine::Firmware;
use crate::observe::events::Stage;
use crate::observe::finding::{Finding, Severity};
use crate::observe::standing;
use crate::serve::health::LeaseTrust;

impl From<Severity> for FindingSeverity {
    fn from(severity: Severity) -> Self {
        match severity {
            Severity::Fatal => Self::Fatal,
            Severity::Error => Self::Error,
            Severity::Warning => Self::Warning,
            Severity::Note => Self::Note,
        }
    }
}

impl From<&Finding> for FindingEntry {
    fn from(finding: &Finding) -> Self {
        let position = finding.position.as_ref();
        Self {
            severity: finding.severity.into(),
            file: position.map(|position| position.file.clone()),
            line: position.and_then(|position| position.line),
            column: position.and_then(|position| position.column),
            text: finding.what.clone(),
            hint: Some(&finding.hint).filter(|hint| !hint.is_empty()).cloned(),
        }
    }
}

/// All of them in their order.
pub fn finding_entries(findings: &[Finding]) -> Vec<FindingEntry> {
    findings.iter().map(FindingEntry::from).collect()
}

impl From<Mode> for SubnetMode {
    fn from(mode: Mode) -> Self {
        match mode {
            Mode::Server => Self::Server,
            Mode::Off => Self::Off,
        }
    }
}

impl From<Clients> for ServedClients {
    fn from(clients: Clients) -> Self {
        match clients {
            Clients::Pxe => Self::Pxe,
            Clients::Known => Self::Known,
            Clients::Any => Self::Any,
        }
    }
}

impl From<Link> for LinkState {
    fn from(link: Link) -> Self {
        match link {
            Link::Up => Self::Up,
            Link::Down => Self::Down,
            Link::NoCarrier => Self::NoCarrier,
        }
    }
}

impl From<LeaseTrust> for StoreTrust {
    fn from(trust: LeaseTrust) -> Self {
        match trust {
            LeaseTrust::Sound => Self::Sound,
            LeaseTrust::Broken => Self::Broken,
            LeaseTrust::Unread => Self::Unread,
        }
    }
}

impl From<standing::Standing> for MachineStanding {
    fn from(standing: standing::Standing) -> Self {
        match standing {
            standing::Standing::Failed => Self::Failed,
            standing::Standing::Booting => Self::Booting,
            standing::Standing::Menu => Self::Menu,
            standing::Standing::Booted => Self::Booted,
            standing::Standing::Unseen => Self::Unseen,
        }
    }
}

impl From<Stage> for BootStage {
    fn from(stage: Stage) -> Self {
        match stage {
            Stage::Dhcp => Self::Dhcp,
            Stage::Loader => Self::Loader,
            Stage::Menu => Self::Menu,
            Stage::Kernel => Self::Kernel,
            Stage::Initrd => Self::Initrd,
            Stage::AnswerFile => Self::AnswerFile,
            Stage::File => Self::File,
        }
    }
}

impl From<listing::Standing> for LeaseState {
    fn from(standing: listing::Standing) -> Self {
        match standing {
            listing::Standing::Bound => Self::Bound,
            listing::Standing::Offered => Self::Offered,
            listing::Standing::Ended => Self::Ended,
            listing::Standing::Released => Self::Released,
            listing::Standing::Declined => Self::Declined,
            listing::Standing::InUse => Self::InUse,
        }
    }
}

impl From<LeaseState> for listing::Standing {
    fn from(state: LeaseState) -> Self {
        match state {
            LeaseState::Bound => Self::Bound,
            LeaseState::Offered => Self::Offered,
            LeaseState::Ended => Self::Ended,
            LeaseState::Released => Self::Released,
            LeaseState::Declined => Self::Declined,
            LeaseState::InUse => Self::InUse,
        }
    }
}

impl WalkFirmware {
    /// The name that a walk has for this firmware.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|known| known.word() == name)
    }

    pub fn of(firmware: Firmware) -> Option<Self> {
        walk::kind_of(firmware).and_then(Self::named)
    }

    /// Every word is one of [`walk::KINDS`], as a test of this file holds.
    pub fn firmware(self) -> Firmware {
        let known = walk::KINDS.iter().find(|(name, ..)| *name == self.word());
        known.map_or(walk::KINDS[0].1, |(_, firmware, _)| *firmware)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_those_of_the_rooms_that_they_come_from() {
        let severities = [Severity::Fatal, Severity::Error, Severity::Warning, Severity::Note];
        for severity in severities {
            assert_eq!(FindingSeverity::from(severity).word(), severity.word());
        }
        for standing in standing::Standing::ALL {
            assert_eq!(MachineStanding::from(standing).word(), standing.word());
        }
        for stage in Stage::ALL {
            assert_eq!(BootStage::from(stage).word(), stage.word());
        }
        for link in [Link::Up, Link::Down, Link::NoCarrier] {
            assert_eq!(LinkState::from(link).word(), link.word());
        }
        for standing in listing::Standing::ALL {
            let state = LeaseState::from(standing);
            assert_eq!(
                (state.to_string(), listing::Standing::from(state)),
                (standing.to_string(), standing)
            );
        }
        let names = WalkFirmware::ALL.iter().map(|firmware| firmware.word());
        assert_eq!(names.collect::<Vec<_>>(), walk::KINDS.map(|(name, ..)| name));
        for (_, firmware, _) in walk::KINDS {
            assert_eq!(WalkFirmware::of(firmware).map(WalkFirmware::firmware), Some(firmware));
        }
    }
}
