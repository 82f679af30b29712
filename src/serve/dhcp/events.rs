//! What the log and the timeline are told of a DHCP decision.

use std::net::{IpAddr, Ipv4Addr};

use crate::dhcp::decide::{Decision, DhcpEventKind, DhcpSilence};
use crate::dhcp::subnet::HoldReason;
use crate::model::machine::{Firmware, FirmwareRole, Mac};
use crate::observe::events::{EventKind, MachineEvent, MachineStage, UnansweredReason};

/// The log's line: what was decided, with its reasons.
pub(super) fn dhcp_event(decision: &Decision) -> Option<MachineEvent> {
    let event = decision.event.as_ref()?;
    let kind = kind_of(&event.told, decision);
    Some(MachineEvent::new(
        Some(event.mac),
        event.address.map(IpAddr::V4),
        MachineStage::Dhcp,
        kind,
        event.text.clone(),
    ))
}

/// The decision in the terms of the timeline.
fn kind_of(told: &DhcpEventKind, decision: &Decision) -> EventKind {
    let to = decision.firmware.unwrap_or(Firmware { role: FirmwareRole::System, arch: None });
    match told {
        DhcpEventKind::Offered => EventKind::Offered { to },
        DhcpEventKind::Leased => EventKind::Leased { to, twin: false },
        DhcpEventKind::Twin => EventKind::Leased { to, twin: true },
        DhcpEventKind::Renewed => EventKind::Renewed,
        DhcpEventKind::Parameters => EventKind::Other,
        DhcpEventKind::NoLoader(why) => EventKind::NoLoader { to, why: why.clone() },
        DhcpEventKind::Refused => EventKind::Nak,
        DhcpEventKind::Silent(silence) => silent(silence, decision),
    }
}

fn silent(silence: &DhcpSilence, decision: &Decision) -> EventKind {
    let (why, about, other) = match silence {
        DhcpSilence::NoAddressFree(_) => return EventKind::NoAddressFree,
        DhcpSilence::OtherServer(server) => return EventKind::OtherServer { server: *server },
        DhcpSilence::Declined => return EventKind::Declined,
        DhcpSilence::Released => return EventKind::Released,
        // The answer is on its way.
        DhcpSilence::CommitPending => return EventKind::Other,
        DhcpSilence::NoSubnet(at) => (UnansweredReason::NoSubnet, at.to_string(), None),
        DhcpSilence::NoSubnetBehind(at) => (UnansweredReason::NoSubnetBehind, at.to_string(), None),
        DhcpSilence::NotForRelays(network) => {
            (UnansweredReason::NotForRelays, network.to_string(), None)
        }
        DhcpSilence::SubnetOff(network) => (UnansweredReason::SubnetOff, network.to_string(), None),
        DhcpSilence::NotPxe(network) => (UnansweredReason::NotPxe, network.to_string(), None),
        DhcpSilence::NotReserved(network) => {
            (UnansweredReason::NotReserved, network.to_string(), None)
        }
        DhcpSilence::Held(network, held) => {
            let (why, other) = held_back(*held);
            (why, network.to_string(), other)
        }
        silence => (
            unanswered(silence),
            decision.network.map(|network| network.to_string()).unwrap_or_default(),
            None,
        ),
    };
    EventKind::Unanswered { why, about, other }
}

fn held_back(held: HoldReason) -> (UnansweredReason, Option<(Ipv4Addr, Mac)>) {
    match held {
        HoldReason::NoInterface => (UnansweredReason::NoInterface, None),
        HoldReason::Looking => (UnansweredReason::Looking, None),
        HoldReason::OtherServer(other) => {
            (UnansweredReason::OtherServer, Some((other.address, other.mac)))
        }
    }
}

/// What is about the message, and not about its subnet.
fn unanswered(silence: &DhcpSilence) -> UnansweredReason {
    match silence {
        DhcpSilence::UnknownClient => UnansweredReason::UnknownClient,
        DhcpSilence::NoReservation => UnansweredReason::Bootp,
        // That a limit is reached is said beside the declines before it.
        DhcpSilence::LastDecline | DhcpSilence::DeclineNotKept(true) => {
            UnansweredReason::LastDecline
        }
        DhcpSilence::DeclinedTooMuch => UnansweredReason::DeclinedTooMuch,
        DhcpSilence::DoesNotFit(_) => UnansweredReason::TooLarge,
        _ => UnansweredReason::Odd,
    }
}
