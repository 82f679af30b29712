//! The DHCP core's events: what goes to the log and to the timelines of machines.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Instant;

use crate::dhcp::decide::{Decision, DhcpEventKind, DhcpSilence};
use crate::dhcp::limits::CONFLICT_HOLD_S;
use crate::dhcp::subnet::HoldReason;
use crate::engine::clock;
use crate::model::machine::{Firmware, FirmwareRole, Mac};
use crate::model::network::Ipv4Network;
use crate::observe::events::{
    EventKind, EventSender, EventWeight, MachineEvent, MachineStage, UnansweredReason,
};
use crate::observe::pace::{EventSource, LogGate, append_left_out_count};

/// Log lines of one kind and subnet in a second: about trouble, which any client can cause, and
/// about steps of boots.
const LINES_OF_TROUBLE: u32 = 1;
const LINES_OF_BOOTS: u32 = 200;
/// A step of the wall clock against the clock of the leases is logged from this many seconds on;
/// less is drift.
const STEP_S: u64 = 2;

/// The core's way to the log and the timeline.
#[derive(Debug)]
pub(super) struct DhcpJournal {
    events: EventSender,
    gate: LogGate,
    said_no_address: bool,
    /// How far the wall clock is ahead of the clock of the leases.
    wall_ahead_s: i64,
}

impl DhcpJournal {
    pub(super) fn new(events: EventSender) -> Self {
        Self {
            events,
            gate: LogGate::new(LINES_OF_TROUBLE, LINES_OF_BOOTS),
            said_no_address: false,
            wall_ahead_s: clock::wall_ahead_s(),
        }
    }

    pub(super) fn events(&self) -> &EventSender {
        &self.events
    }

    /// Hands an event to the queue. A client can send messages without end: the timeline of its
    /// machine gets every event, the log a few lines with a count.
    pub(super) fn push_event(&mut self, network: Option<Ipv4Network>, mut event: MachineEvent) {
        if event.weight != EventWeight::Detail {
            let place = network.map(|network| IpAddr::V4(network.address));
            match self.gate.admit(
                &event.kind,
                place,
                EventSource::from_event(&event),
                Instant::now(),
            ) {
                Some(unsaid) => event.text = append_left_out_count(event.text, unsaid),
                None => event.weight = EventWeight::Detail,
            }
        }
        self.events.push(event);
    }

    /// Logs an OFFER that is withheld: no lease could follow it, and another server may be able to
    /// give one.
    pub(super) fn log_withheld(&mut self, decision: &Decision) {
        let text = "no offer: the lease store is broken, and no lease could follow (`ringboot \
                    status` says why)";
        self.log_failed(decision, text);
    }

    /// Logs a lease that the store could not keep.
    pub(super) fn log_not_kept(&mut self, decision: &Decision) {
        let text = "the store could not keep the lease: no answer, the client asks again";
        self.log_failed(decision, text);
    }

    fn log_failed(&mut self, decision: &Decision, text: &str) {
        let event = MachineEvent::new(
            decision.mac,
            None,
            MachineStage::Dhcp,
            EventKind::Failed,
            text.to_owned(),
        );
        self.push_event(decision.network, event);
    }

    /// Logs an address that a host has without a lease.
    pub(super) fn log_in_use(&mut self, address: Ipv4Addr, host: Option<Mac>) {
        let text = format!(
            "{address} is in use by {} without a lease: it is not offered for {} minutes",
            name_host(host),
            CONFLICT_HOLD_S / 60
        );
        let address = Some(IpAddr::V4(address));
        self.push_event(
            None,
            MachineEvent::new(None, address, MachineStage::Dhcp, EventKind::Conflict, text),
        );
    }

    /// Logs a host that answers for more addresses than one host has. The caller does so once an
    /// hour; the event goes past the gate, so that lines about single addresses do not push it out.
    pub(super) fn log_disbelieved(&self, address: Ipv4Addr, host: Option<Mac>) {
        let text = format!(
            "{} answers for {address}, and for more addresses than one host has: its answers are \
             ignored for an hour, and the addresses are offered",
            name_host(host)
        );
        self.events.push(MachineEvent::new(
            None,
            None,
            MachineStage::Dhcp,
            EventKind::Conflict,
            text,
        ));
    }

    /// Logs that an interface has no address: an answer would name 0.0.0.0 as its server. Only
    /// once, because every client on that segment retransmits.
    pub(super) fn log_no_address(&mut self, interface: Option<&str>) {
        if std::mem::replace(&mut self.said_no_address, true) {
            return;
        }
        let name = interface.unwrap_or("a listening address");
        let text = format!(
            "{name} has no IPv4 address: messages that arrive there stay unanswered until it \
             has one"
        );
        self.events.push(MachineEvent::new(
            None,
            None,
            MachineStage::Dhcp,
            EventKind::Failed,
            text,
        ));
    }

    /// Logs a step of the wall clock. It changes no lease, only the times in the log.
    pub(super) fn log_clock_step(&mut self) {
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

/// The event of a decision, with its reasons as text. None: there is nothing to log.
pub(super) fn dhcp_event(decision: &Decision) -> Option<MachineEvent> {
    let event = decision.event.as_ref()?;
    let kind = describe_told(&event.kind, decision);
    Some(MachineEvent::new(
        Some(event.mac),
        event.address.map(IpAddr::V4),
        MachineStage::Dhcp,
        kind,
        event.text.clone(),
    ))
}

/// The kind of event that the timeline and the log get for a decision.
fn describe_told(told: &DhcpEventKind, decision: &Decision) -> EventKind {
    let to = decision.firmware.unwrap_or(Firmware { role: FirmwareRole::System, arch: None });
    match told {
        DhcpEventKind::Offered => EventKind::Offered { to },
        DhcpEventKind::Leased => EventKind::Leased { to, twin: false },
        DhcpEventKind::Twin => EventKind::Leased { to, twin: true },
        DhcpEventKind::Renewed => EventKind::Renewed,
        DhcpEventKind::Parameters => EventKind::Other,
        DhcpEventKind::NoLoader(why) => EventKind::NoLoader { to, why: why.clone() },
        DhcpEventKind::Refused => EventKind::Nak,
        DhcpEventKind::Silent(silence) => describe_silence(silence, decision),
    }
}

fn describe_silence(silence: &DhcpSilence, decision: &Decision) -> EventKind {
    let (why, about, other) = match silence {
        DhcpSilence::NoAddressFree(_) => return EventKind::NoAddressFree,
        DhcpSilence::OtherServer(server) => return EventKind::OtherServer { server: *server },
        DhcpSilence::Declined => return EventKind::Declined,
        DhcpSilence::Released => return EventKind::Released,
        // The answer to the first copy of this request is on its way.
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
            let (why, other) = describe_held(*held);
            (why, network.to_string(), other)
        }
        silence => (
            describe_unanswered(silence),
            decision.network.map(|network| network.to_string()).unwrap_or_default(),
            None,
        ),
    };
    EventKind::Unanswered { why, about, other }
}

fn describe_held(held: HoldReason) -> (UnansweredReason, Option<(Ipv4Addr, Mac)>) {
    match held {
        HoldReason::NoInterface => (UnansweredReason::NoInterface, None),
        HoldReason::Looking => (UnansweredReason::Looking, None),
        HoldReason::OtherServer(other) => {
            (UnansweredReason::OtherServer, Some((other.address, other.mac)))
        }
    }
}

/// The reason of a silence that is due to the message and not to its subnet.
fn describe_unanswered(silence: &DhcpSilence) -> UnansweredReason {
    match silence {
        DhcpSilence::UnknownClient => UnansweredReason::UnknownClient,
        DhcpSilence::NoReservation => UnansweredReason::Bootp,
        // The line says that the limit is reached, beside the count of DECLINEs.
        DhcpSilence::LastDecline | DhcpSilence::DeclineNotKept(true) => {
            UnansweredReason::LastDecline
        }
        DhcpSilence::DeclinedTooMuch => UnansweredReason::DeclinedTooMuch,
        DhcpSilence::DoesNotFit(_) => UnansweredReason::TooLarge,
        _ => UnansweredReason::Odd,
    }
}
