//! The decision: one message, the leases, the configuration, a time and a seed in; the reply, its
//! changes and its reasons out.

pub use super::arrival::IncomingMessage;
use super::classify::{MessageFacts, MessageKind};
use super::context::MessageContext;
pub use super::decision::{AnswerDatagram, AnswerKind, Decision, DhcpEvent, DhcpEventKind};
use super::lease::{ClockSeconds, LeaseTable};
use super::limits::HOPS_MAX;
use super::packet::Packet;
use super::reasons::Reasons;
use super::select::{SelectedLink, select_link};
pub use super::silence::DhcpSilence;
use crate::dhcp::policy::DhcpPolicy;

/// Decides what to reply to a datagram. A pure function: the same input gives the same bytes. Call
/// `LeaseTable::advance(now)` first.
pub fn decide_answer(
    arrival: &IncomingMessage<'_>,
    leases: &LeaseTable,
    policy: &DhcpPolicy,
    now: ClockSeconds,
    seed: u64,
) -> Decision {
    // The decision searches both lists by bisection.
    debug_assert!(
        arrival.ours.is_sorted() && arrival.held.is_sorted_by_key(|(network, _)| *network),
        "{arrival:?}"
    );
    let packet = match Packet::parse_request(arrival.bytes) {
        Ok(packet) => packet,
        Err(malformed) => {
            return Decision { silence: Some(malformed.into()), ..Decision::default() };
        }
    };
    let facts = MessageFacts::from_packet(&packet);
    let mut decision = Decision {
        xid: packet.xid,
        mac: Some(facts.mac),
        firmware: Some(facts.firmware),
        reasons: Reasons::with_room(),
        ..Decision::default()
    };
    decision.reasons.push(format_args!("{} ({})", facts.firmware, facts.evidence));

    // A message that no subnet serves never reaches the lease table.
    let selected = match admit_message(&packet, &facts, arrival, policy) {
        Ok(selected) => selected,
        Err(silence) => {
            decision.event = build_refusal_event(&facts, &silence, &decision.reasons);
            decision.silence = Some(silence);
            return decision;
        }
    };
    decision.reasons.push(format_args!("{}", selected.reason));
    let subnet = selected.subnet;
    let context = MessageContext {
        arrival,
        packet: &packet,
        facts: &facts,
        selected: &selected,
        subnet,
        leases,
        policy,
        now,
        seed,
    };

    // Several subnets may share the client's link: the address in question decides between them.
    let context = MessageContext { subnet: context.choose_subnet_of_link(), ..context };
    if context.subnet.network != subnet.network {
        decision.reasons.push(format_args!("subnet {} of the same link", context.subnet.network));
    }
    decision.network = Some(context.subnet.network);
    if let Err(silence) = context.answer_message(&mut decision) {
        context.explain_silence(&silence, &mut decision);
        decision.silence = Some(silence);
    }
    decision
}

fn admit_message<'s>(
    packet: &Packet<'_>,
    facts: &MessageFacts<'_>,
    arrival: &IncomingMessage<'_>,
    policy: &'s DhcpPolicy,
) -> Result<SelectedLink<'s>, DhcpSilence> {
    if packet.hops > HOPS_MAX {
        return Err(DhcpSilence::Hops);
    }
    if !facts.is_station() {
        return Err(DhcpSilence::NotAStation);
    }
    if let MessageKind::Other(number) = facts.kind {
        return Err(DhcpSilence::NotServed(number));
    }
    select_link(packet, facts, arrival, &policy.subnets)
}

/// Logs a refusal only when an operator is likely to ask: no subnet matches, or the subnet is off.
/// Other refusals are only counted.
fn build_refusal_event(
    facts: &MessageFacts<'_>,
    silence: &DhcpSilence,
    reasons: &Reasons,
) -> Option<DhcpEvent> {
    let is_logged = matches!(
        silence,
        DhcpSilence::NoSubnet(_)
            | DhcpSilence::NoSubnetBehind(_)
            | DhcpSilence::NotForRelays(_)
            | DhcpSilence::SubnetOff(_)
    );
    if !is_logged {
        return None;
    }
    Some(DhcpEvent {
        mac: facts.mac,
        address: None,
        kind: DhcpEventKind::Silent(silence.clone()),
        text: format!("no answer, {silence}: {}", reasons.as_str()),
    })
}
