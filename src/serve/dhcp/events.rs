//! What the log and the timeline are told of a DHCP decision.

use std::net::{IpAddr, Ipv4Addr};

use crate::dhcp::decide::{Decision, Silence, Told};
use crate::dhcp::subnet::Held;
use crate::model::machine::{Firmware, Mac, Role};
use crate::observe::events::{Event, Kind, Stage, Why};

/// The log's line: what was decided, with its reasons.
pub(super) fn dhcp_event(decision: &Decision) -> Option<Event> {
    let event = decision.event.as_ref()?;
    let kind = kind_of(&event.told, decision);
    Some(Event::new(
        Some(event.mac),
        event.address.map(IpAddr::V4),
        Stage::Dhcp,
        kind,
        event.text.clone(),
    ))
}

/// The decision in the terms of the timeline.
fn kind_of(told: &Told, decision: &Decision) -> Kind {
    let to = decision.firmware.unwrap_or(Firmware { role: Role::System, arch: None });
    match told {
        Told::Offered => Kind::Offered { to },
        Told::Leased => Kind::Leased { to, twin: false },
        Told::Twin => Kind::Leased { to, twin: true },
        Told::Renewed => Kind::Renewed,
        Told::Parameters => Kind::Other,
        Told::NoLoader(why) => Kind::NoLoader { to, why: why.clone() },
        Told::Refused => Kind::Nak,
        Told::Silent(silence) => silent(silence, decision),
    }
}

fn silent(silence: &Silence, decision: &Decision) -> Kind {
    let (why, about, other) = match silence {
        Silence::NoAddressFree(_) => return Kind::NoAddressFree,
        Silence::OtherServer(server) => return Kind::OtherServer { server: *server },
        Silence::Declined => return Kind::Declined,
        Silence::Released => return Kind::Released,
        // The answer is on its way.
        Silence::CommitPending => return Kind::Other,
        Silence::NoSubnet(at) => (Why::NoSubnet, at.to_string(), None),
        Silence::NoSubnetBehind(at) => (Why::NoSubnetBehind, at.to_string(), None),
        Silence::NotForRelays(network) => (Why::NotForRelays, network.to_string(), None),
        Silence::SubnetOff(network) => (Why::SubnetOff, network.to_string(), None),
        Silence::NotPxe(network) => (Why::NotPxe, network.to_string(), None),
        Silence::NotReserved(network) => (Why::NotReserved, network.to_string(), None),
        Silence::Held(network, held) => {
            let (why, other) = held_back(*held);
            (why, network.to_string(), other)
        }
        silence => (
            unanswered(silence),
            decision.network.map(|network| network.to_string()).unwrap_or_default(),
            None,
        ),
    };
    Kind::Unanswered { why, about, other }
}

fn held_back(held: Held) -> (Why, Option<(Ipv4Addr, Mac)>) {
    match held {
        Held::NoInterface => (Why::NoInterface, None),
        Held::Looking => (Why::Looking, None),
        Held::OtherServer(other) => (Why::OtherServer, Some((other.address, other.mac))),
    }
}

/// What is about the message, and not about its subnet.
fn unanswered(silence: &Silence) -> Why {
    match silence {
        Silence::UnknownClient => Why::UnknownClient,
        Silence::NoReservation => Why::Bootp,
        // That a limit is reached is said beside the declines before it.
        Silence::LastDecline | Silence::DeclineNotKept(true) => Why::LastDecline,
        Silence::DeclinedTooMuch => Why::DeclinedTooMuch,
        Silence::DoesNotFit(_) => Why::TooLarge,
        _ => Why::Odd,
    }
}
