//! What the log and the timeline are told of a DHCP decision.

use std::net::{IpAddr, Ipv4Addr};

use crate::dhcp::decide::{Decision, DhcpEventKind, SilenceReason};
use crate::dhcp::subnet::HoldReason;
use crate::model::machine::{Firmware, FirmwareRole, Mac};
use crate::observe::events::{BootStage, EventKind, MachineEvent, UnansweredReason};

/// The log's line: what was decided, with its reasons.
pub(super) fn dhcp_event(decision: &Decision) -> Option<MachineEvent> {
    let event = decision.event.as_ref()?;
    let kind = kind_of(&event.told, decision);
    Some(MachineEvent::new(
        Some(event.mac),
        event.address.map(IpAddr::V4),
        BootStage::Dhcp,
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

fn silent(silence: &SilenceReason, decision: &Decision) -> EventKind {
    let (why, about, other) = match silence {
        SilenceReason::NoAddressFree(_) => return EventKind::NoAddressFree,
        SilenceReason::OtherServer(server) => return EventKind::OtherServer { server: *server },
        SilenceReason::Declined => return EventKind::Declined,
        SilenceReason::Released => return EventKind::Released,
        // The answer is on its way.
        SilenceReason::CommitPending => return EventKind::Other,
        SilenceReason::NoSubnet(at) => (UnansweredReason::NoSubnet, at.to_string(), None),
        SilenceReason::NoSubnetBehind(at) => {
            (UnansweredReason::NoSubnetBehind, at.to_string(), None)
        }
        SilenceReason::NotForRelays(network) => {
            (UnansweredReason::NotForRelays, network.to_string(), None)
        }
        SilenceReason::SubnetOff(network) => {
            (UnansweredReason::SubnetOff, network.to_string(), None)
        }
        SilenceReason::NotPxe(network) => (UnansweredReason::NotPxe, network.to_string(), None),
        SilenceReason::NotReserved(network) => {
            (UnansweredReason::NotReserved, network.to_string(), None)
        }
        SilenceReason::Held(network, held) => {
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
fn unanswered(silence: &SilenceReason) -> UnansweredReason {
    match silence {
        SilenceReason::UnknownClient => UnansweredReason::UnknownClient,
        SilenceReason::NoReservation => UnansweredReason::Bootp,
        // That a limit is reached is said beside the declines before it.
        SilenceReason::LastDecline | SilenceReason::DeclineNotKept(true) => {
            UnansweredReason::LastDecline
        }
        SilenceReason::DeclinedTooMuch => UnansweredReason::DeclinedTooMuch,
        SilenceReason::DoesNotFit(_) => UnansweredReason::TooLarge,
        _ => UnansweredReason::Odd,
    }
}
