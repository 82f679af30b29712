//! What the log and the timeline say of DHCP.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Instant;

use crate::dhcp::decide::{Decision, Silence, Told};
use crate::dhcp::limits::CONFLICT_HOLD_S;
use crate::dhcp::subnet::Held;
use crate::engine::clock;
use crate::model::machine::{Firmware, Mac, Role};
use crate::model::network::Network;
use crate::observe::events::{Event, Events, Kind, Stage, Weight, Why};
use crate::observe::pace::{Gate, Source, with_count};

/// Lines of one kind and subnet in a second: of trouble that anybody can cause, and of steps of
/// boots.
const LINES_OF_TROUBLE: u32 = 1;
const LINES_OF_BOOTS: u32 = 200;
/// A wall clock that has moved by less against the clock of the leases was not set.
const STEP_S: u64 = 2;

/// The core's way to the log and the timeline.
#[derive(Debug)]
pub(super) struct DhcpJournal {
    events: Events,
    gate: Gate,
    said_no_address: bool,
    /// By how much the wall clock is ahead of the clock of the leases.
    wall_ahead_s: i64,
}

impl DhcpJournal {
    pub(super) fn new(events: Events) -> Self {
        Self {
            events,
            gate: Gate::new(LINES_OF_TROUBLE, LINES_OF_BOOTS),
            said_no_address: false,
            wall_ahead_s: clock::wall_ahead_s(),
        }
    }

    pub(super) fn events(&self) -> &Events {
        &self.events
    }

    /// Hands an event over. Anybody can send messages without end: what they cause is in the
    /// machine's own timeline, and in the log as a few lines with a count.
    pub(super) fn say(&mut self, network: Option<Network>, mut event: Event) {
        if event.weight != Weight::Detail {
            let place = network.map(|network| IpAddr::V4(network.address));
            match self.gate.admit(&event.kind, place, Source::of(&event), Instant::now()) {
                Some(unsaid) => event.text = with_count(event.text, unsaid),
                None => event.weight = Weight::Detail,
            }
        }
        self.events.push(event);
    }

    /// Logs an offer that is withheld: no lease could follow, and another server may have what this
    /// one has not.
    pub(super) fn say_withheld(&mut self, decision: &Decision) {
        let text = "no offer: the lease store is broken, and no lease could follow (`ringboot \
                    status` says why)";
        self.say_failed(decision, text);
    }

    /// Logs a lease that the store could not keep.
    pub(super) fn say_not_kept(&mut self, decision: &Decision) {
        let text = "the store could not keep the lease: no answer, the client asks again";
        self.say_failed(decision, text);
    }

    fn say_failed(&mut self, decision: &Decision, text: &str) {
        let event = Event::new(decision.mac, None, Stage::Dhcp, Kind::Failed, text.to_owned());
        self.say(decision.network, event);
    }

    /// Logs an address that a host has without a lease.
    pub(super) fn say_in_use(&mut self, address: Ipv4Addr, host: Option<Mac>) {
        let text = format!(
            "{address} is in use by {}, to whom nobody has leased it: it is not offered for {} \
             minutes",
            name_host(host),
            CONFLICT_HOLD_S / 60
        );
        let address = Some(IpAddr::V4(address));
        self.say(None, Event::new(None, address, Stage::Dhcp, Kind::Conflict, text));
    }

    /// Logs a host that answers for more addresses than a host has. The caller does so once an
    /// hour, so no line of an address takes its place.
    pub(super) fn say_disbelieved(&self, address: Ipv4Addr, host: Option<Mac>) {
        let text = format!(
            "{} answers for {address}, as for more addresses than a host has: it is not believed \
             for an hour, and they are offered",
            name_host(host)
        );
        self.events.push(Event::new(None, None, Stage::Dhcp, Kind::Conflict, text));
    }

    /// Logs that an interface has no address: an answer would name 0.0.0.0 as its server. Once:
    /// every client on that segment asks again and again.
    pub(super) fn say_no_address(&mut self, interface: Option<&str>) {
        if std::mem::replace(&mut self.said_no_address, true) {
            return;
        }
        let name = interface.unwrap_or("a listening address");
        let text = format!(
            "{name} has no IPv4 address: what comes in there is not answered until it has one"
        );
        self.events.push(Event::new(None, None, Stage::Dhcp, Kind::Failed, text));
    }

    /// Logs a step of the wall clock. It changes nothing here, but times in the log.
    pub(super) fn say_steps(&mut self) {
        let ahead_s = clock::wall_ahead_s();
        let by_s = ahead_s.saturating_sub(self.wall_ahead_s);
        if by_s.unsigned_abs() < STEP_S {
            return;
        }
        self.wall_ahead_s = ahead_s;
        let how = if by_s < 0 { "back" } else { "forward" };
        tracing::warn!(
            "the clock was set {how} by {} s: leases last as long as they were given",
            by_s.unsigned_abs()
        );
    }
}

fn name_host(host: Option<Mac>) -> String {
    host.map_or("a host".to_owned(), |host| host.to_string())
}

/// The line of the log: what was decided, with its reasons.
pub(super) fn dhcp_event(decision: &Decision) -> Option<Event> {
    let event = decision.event.as_ref()?;
    let kind = describe_told(&event.told, decision);
    Some(Event::new(
        Some(event.mac),
        event.address.map(IpAddr::V4),
        Stage::Dhcp,
        kind,
        event.text.clone(),
    ))
}

/// The decision in the terms of the timeline.
fn describe_told(told: &Told, decision: &Decision) -> Kind {
    let to = decision.firmware.unwrap_or(Firmware { role: Role::System, arch: None });
    match told {
        Told::Offered => Kind::Offered { to },
        Told::Leased => Kind::Leased { to, twin: false },
        Told::Twin => Kind::Leased { to, twin: true },
        Told::Renewed => Kind::Renewed,
        Told::Parameters => Kind::Other,
        Told::NoLoader(why) => Kind::NoLoader { to, why: why.clone() },
        Told::Refused => Kind::Nak,
        Told::Silent(silence) => describe_silence(silence, decision),
    }
}

fn describe_silence(silence: &Silence, decision: &Decision) -> Kind {
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
            let (why, other) = describe_held(*held);
            (why, network.to_string(), other)
        }
        silence => (
            describe_unanswered(silence),
            decision.network.map(|network| network.to_string()).unwrap_or_default(),
            None,
        ),
    };
    Kind::Unanswered { why, about, other }
}

fn describe_held(held: Held) -> (Why, Option<(Ipv4Addr, Mac)>) {
    match held {
        Held::NoInterface => (Why::NoInterface, None),
        Held::Looking => (Why::Looking, None),
        Held::OtherServer(other) => (Why::OtherServer, Some((other.address, other.mac))),
    }
}

/// The reason that is about the message, and not about its subnet.
fn describe_unanswered(silence: &Silence) -> Why {
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
