//! Converts enums and findings of other rooms into the types of the admin API.

use super::types::{
    BootStage, FindingEntry, FindingSeverity, LeaseState, LinkState, MachineStanding,
    ServedClients, StoreTrust, SubnetMode, WalkFirmware,
};
use crate::dhcp::listing;
use crate::dhcp::subnet::{AnsweringMode, ClientAdmission};
use crate::engine::netlink::CarrierState;
use crate::fleet::walk;
use crate::model::machine::Firmware;
use crate::observe::events::MachineStage;
use crate::observe::finding::{CheckFinding, CheckSeverity};
use crate::observe::standing;
use crate::serve::health::LeaseTrust;

impl From<CheckSeverity> for FindingSeverity {
    fn from(severity: CheckSeverity) -> Self {
        match severity {
            CheckSeverity::Fatal => Self::Fatal,
            CheckSeverity::Error => Self::Error,
            CheckSeverity::Warning => Self::Warning,
            CheckSeverity::Note => Self::Note,
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

/// The findings in their order.
pub fn finding_entries(findings: &[CheckFinding]) -> Vec<FindingEntry> {
    findings.iter().map(FindingEntry::from).collect()
}

impl From<AnsweringMode> for SubnetMode {
    fn from(mode: AnsweringMode) -> Self {
        match mode {
            AnsweringMode::Server => Self::Server,
            AnsweringMode::Off => Self::Off,
        }
    }
}

impl From<ClientAdmission> for ServedClients {
    fn from(clients: ClientAdmission) -> Self {
        match clients {
            ClientAdmission::Pxe => Self::Pxe,
            ClientAdmission::Known => Self::Known,
            ClientAdmission::Any => Self::Any,
        }
    }
}

impl From<CarrierState> for LinkState {
    fn from(link: CarrierState) -> Self {
        match link {
            CarrierState::Up => Self::Up,
            CarrierState::Down => Self::Down,
            CarrierState::NoCarrier => Self::NoCarrier,
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

impl From<standing::BootStanding> for MachineStanding {
    fn from(standing: standing::BootStanding) -> Self {
        match standing {
            standing::BootStanding::Failed => Self::Failed,
            standing::BootStanding::Booting => Self::Booting,
            standing::BootStanding::Menu => Self::Menu,
            standing::BootStanding::Booted => Self::Booted,
            standing::BootStanding::Unseen => Self::Unseen,
        }
    }
}

impl From<MachineStage> for BootStage {
    fn from(stage: MachineStage) -> Self {
        match stage {
            MachineStage::Dhcp => Self::Dhcp,
            MachineStage::Loader => Self::Loader,
            MachineStage::Menu => Self::Menu,
            MachineStage::Kernel => Self::Kernel,
            MachineStage::Initrd => Self::Initrd,
            MachineStage::AnswerFile => Self::AnswerFile,
            MachineStage::File => Self::File,
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
    /// The firmware with this name; None for another text.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|known| known.as_str() == name)
    }

    /// The name of a firmware; None for one that no walk has.
    pub fn from_firmware(firmware: Firmware) -> Option<Self> {
        walk::spell_firmware_kind(firmware).and_then(Self::parse)
    }

    /// The firmware of a name. Every name is one of [`walk::KINDS`], as a test of this file checks.
    pub fn to_firmware(self) -> Firmware {
        let known = walk::KINDS.iter().find(|(name, ..)| *name == self.as_str());
        known.map_or(walk::KINDS[0].1, |(_, firmware, _)| *firmware)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_those_of_the_rooms_that_they_come_from() {
        let severities = [
            CheckSeverity::Fatal,
            CheckSeverity::Error,
            CheckSeverity::Warning,
            CheckSeverity::Note,
        ];
        for severity in severities {
            assert_eq!(FindingSeverity::from(severity).as_str(), severity.as_str());
        }
        for standing in standing::BootStanding::ALL {
            assert_eq!(MachineStanding::from(standing).as_str(), standing.as_str());
        }
        for stage in MachineStage::ALL {
            assert_eq!(BootStage::from(stage).as_str(), stage.as_str());
        }
        for link in [CarrierState::Up, CarrierState::Down, CarrierState::NoCarrier] {
            assert_eq!(LinkState::from(link).as_str(), link.as_str());
        }
        for standing in listing::AddressStatus::ALL {
            let state = LeaseState::from(standing);
            assert_eq!(
                (state.to_string(), listing::AddressStatus::from(state)),
                (standing.to_string(), standing)
            );
        }
        let names = WalkFirmware::ALL.iter().map(|firmware| firmware.as_str());
        assert_eq!(names.collect::<Vec<_>>(), walk::KINDS.map(|(name, ..)| name));
        for (_, firmware, _) in walk::KINDS {
            assert_eq!(
                WalkFirmware::from_firmware(firmware).map(WalkFirmware::to_firmware),
                Some(firmware)
            );
        }
    }
}
