//! Words and findings of other rooms, as the admin API has them.

use super::types::{
    BootStage, FindingEntry, FindingSeverity, LeaseState, LinkState, MachineStanding,
    ServedClients, StoreTrust, SubnetMode, WalkFirmware,
};
use crate::dhcp::listing;
use crate::dhcp::subnet::{ServedClients, SubnetMode};
use crate::engine::netlink::LinkState;
use crate::fleet::walk;
use crate::model::machine::Firmware;
use crate::observe::events::BootStage;
use crate::observe::finding::{CheckFinding, FindingSeverity};
use crate::observe::standing;
use crate::serve::health::Trust;

impl From<FindingSeverity> for FindingSeverity {
    fn from(severity: FindingSeverity) -> Self {
        match severity {
            FindingSeverity::Fatal => Self::Fatal,
            FindingSeverity::Error => Self::Error,
            FindingSeverity::Warning => Self::Warning,
            FindingSeverity::Note => Self::Note,
        }
    }
}

impl From<&CheckFinding> for FindingEntry {
    fn from(finding: &CheckFinding) -> Self {
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
pub fn finding_entries(findings: &[CheckFinding]) -> Vec<FindingEntry> {
    findings.iter().map(FindingEntry::from).collect()
}

impl From<SubnetMode> for SubnetMode {
    fn from(mode: SubnetMode) -> Self {
        match mode {
            SubnetMode::Server => Self::Server,
            SubnetMode::Off => Self::Off,
        }
    }
}

impl From<ServedClients> for ServedClients {
    fn from(clients: ServedClients) -> Self {
        match clients {
            ServedClients::Pxe => Self::Pxe,
            ServedClients::Known => Self::Known,
            ServedClients::Any => Self::Any,
        }
    }
}

impl From<LinkState> for LinkState {
    fn from(link: LinkState) -> Self {
        match link {
            LinkState::Up => Self::Up,
            LinkState::Down => Self::Down,
            LinkState::NoCarrier => Self::NoCarrier,
        }
    }
}

impl From<Trust> for StoreTrust {
    fn from(trust: Trust) -> Self {
        match trust {
            Trust::Sound => Self::Sound,
            Trust::Broken => Self::Broken,
            Trust::Unread => Self::Unread,
        }
    }
}

impl From<standing::MachineStanding> for MachineStanding {
    fn from(standing: standing::MachineStanding) -> Self {
        match standing {
            standing::MachineStanding::Failed => Self::Failed,
            standing::MachineStanding::Booting => Self::Booting,
            standing::MachineStanding::Menu => Self::Menu,
            standing::MachineStanding::Booted => Self::Booted,
            standing::MachineStanding::Unseen => Self::Unseen,
        }
    }
}

impl From<BootStage> for BootStage {
    fn from(stage: BootStage) -> Self {
        match stage {
            BootStage::Dhcp => Self::Dhcp,
            BootStage::Loader => Self::Loader,
            BootStage::Menu => Self::Menu,
            BootStage::Kernel => Self::Kernel,
            BootStage::Initrd => Self::Initrd,
            BootStage::AnswerFile => Self::AnswerFile,
            BootStage::File => Self::File,
        }
    }
}

impl From<listing::AddressStatus> for LeaseState {
    fn from(standing: listing::AddressStatus) -> Self {
        match standing {
            listing::AddressStatus::Bound => Self::Bound,
            listing::AddressStatus::Offered => Self::Offered,
            listing::AddressStatus::Ended => Self::Ended,
            listing::AddressStatus::Released => Self::Released,
            listing::AddressStatus::Declined => Self::Declined,
            listing::AddressStatus::InUse => Self::InUse,
        }
    }
}

impl From<LeaseState> for listing::AddressStatus {
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
        walk::spell_firmware_kind(firmware).and_then(Self::named)
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
        let severities = [FindingSeverity::Fatal, FindingSeverity::Error, FindingSeverity::Warning, FindingSeverity::Note];
        for severity in severities {
            assert_eq!(FindingSeverity::from(severity).word(), severity.word());
        }
        for standing in standing::MachineStanding::ALL {
            assert_eq!(MachineStanding::from(standing).word(), standing.word());
        }
        for stage in BootStage::ALL {
            assert_eq!(BootStage::from(stage).word(), stage.word());
        }
        for link in [LinkState::Up, LinkState::Down, LinkState::NoCarrier] {
            assert_eq!(LinkState::from(link).word(), link.word());
        }
        for standing in listing::AddressStatus::ALL {
            let state = LeaseState::from(standing);
            assert_eq!(
                (state.to_string(), listing::AddressStatus::from(state)),
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
