//! The decision: one message, the leases, the configuration, a time and a seed in; the answer, its
//! changes and its reasons out.

use std::fmt;
use std::net::Ipv4Addr;

pub use super::arrival::IncomingMessage;
use super::classify::{MessageFacts, MessageKind, hash_bytes, is_boot_firmware};
use super::lease::{
    AddressAvailability, AddressRequest, Circuit, ClientIdentity, ClockSeconds, Lease, LeaseChange,
    LeaseRowState, LeaseTable, offer_hold_s,
};
use super::limits::{
    DECLINE_HOLD_S, FILE_FIELD_OCTETS_MAX, FOREVER_S, HOPS_MAX, OPTION_OCTETS_MAX,
};
use super::options::{self, ReplyTerms};
use super::packet::{FLAG_BROADCAST, Packet};
use super::reply::{ReplyMessage, ReplyOptions};
use super::route::{ReplyRoute, RouteInputs, choose_reply_route};
use super::select::{SelectedLink, select_link};
pub use super::silence::DhcpSilence;
use super::strikes::DeclineVerdict;
use super::subnet::{ClientAdmission, HoldReason, Reservation, Subnet};
use super::times::LeaseTimes;
use crate::boot::plan::{self, LoaderChoice, UrlOrigin};
use crate::dhcp::policy::DhcpPolicy;
use crate::model::machine::{Arch, Firmware, FirmwareRole, Mac, Machine};
use crate::model::network::Ipv4Network;

/// What to do about one datagram.
///
/// The caller hands `changes` to `LeaseTable::begin_commit`; where one of them is durable it gives
/// them to the store and sends `answer` only after the commit, else it sends at once.
#[derive(Clone, Debug, Default)]
pub struct Decision {
    pub answer: Option<AnswerDatagram>,
    pub changes: Vec<LeaseChange>,
    /// Short clauses, in the order in which they were found.
    pub reasons: Vec<String>,
    pub event: Option<DhcpEvent>,
    /// Why there is no answer; None where there is one.
    pub silence: Option<DhcpSilence>,
    pub xid: u32,
    pub mac: Option<Mac>,
    pub firmware: Option<Firmware>,
    /// The address of an OFFER of which nothing is known: the OFFER should leave only when nobody
    /// has answered for it (D-36).
    pub unproven: Option<Ipv4Addr>,
    /// The subnet that the message is of; None where none is for it.
    pub network: Option<Ipv4Network>,
}

/// A reply, ready for the wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AnswerDatagram {
    pub bytes: Vec<u8>,
    pub route: ReplyRoute,
    /// Source address: ours on the receiving interface; the source port is 67 (D-16).
    pub source: Ipv4Addr,
    pub kind: AnswerKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AnswerKind {
    Offer,
    Ack,
    /// ACK to INFORM: no lease.
    Parameters,
    Nak,
    Bootp,
}

/// One sentence about one machine, for the log and the timeline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DhcpEvent {
    pub mac: Mac,
    pub address: Option<Ipv4Addr>,
    pub told: DhcpEventKind,
    pub text: String,
}

/// What an event is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DhcpEventKind {
    Offered,
    Leased,
    /// Leased, and another machine with this hardware address was there before.
    Twin,
    /// A lease that the client holds was made longer.
    Renewed,
    /// Parameters for an address that the client has from elsewhere.
    Parameters,
    /// Offered or leased, but the firmware wants a boot file and there is none; the clause that
    /// says why.
    NoLoader(String),
    Refused,
    /// No answer.
    Silent(DhcpSilence),
}

/// Octets of what an event says before its reasons, as most do.
const ROOM_FOR_WHAT: usize = 64;

/// The answer to a datagram. A pure function: the same input gives the same bytes. Call
/// `LeaseTable::advance(now)` before.
pub fn decide_answer(
    arrival: &IncomingMessage<'_>,
    leases: &LeaseTable,
    policy: &DhcpPolicy,
    now: ClockSeconds,
    seed: u64,
) -> Decision {
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
    let facts = MessageFacts::of(&packet);
    let mut decision = Decision {
        xid: packet.xid,
        mac: Some(facts.mac),
        firmware: Some(facts.firmware),
        reasons: Vec::with_capacity(8),
        ..Decision::default()
    };
    decision.reasons.push(format!("{} ({})", facts.firmware, facts.evidence));
    let mut selected = match admit_message(&packet, &facts, arrival, policy) {
        Ok(selected) => selected,
        Err(silence) => {
            decision.event = build_refusal_event(&facts, &silence, &decision.reasons);
            decision.silence = Some(silence);
            return decision;
        }
    };
    decision.reasons.push(std::mem::take(&mut selected.reason));
    let subnet = selected.subnet;
    let case = MessageContext {
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
    let case = MessageContext { subnet: case.subnet_of_link(), ..case };
    if case.subnet.network != subnet.network {
        decision.reasons.push(format!("subnet {} of the same link", case.subnet.network));
    }
    decision.network = Some(case.subnet.network);
    if let Err(silence) = case.answer(&mut decision) {
        case.explain_silence(&silence, &mut decision);
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

/// A machine that the configuration has no place for is one that somebody will ask about; noise is
/// not.
fn build_refusal_event(
    facts: &MessageFacts<'_>,
    silence: &DhcpSilence,
    reasons: &[String],
) -> Option<DhcpEvent> {
    let is_told = matches!(
        silence,
        DhcpSilence::NoSubnet(_)
            | DhcpSilence::NoSubnetBehind(_)
            | DhcpSilence::NotForRelays(_)
            | DhcpSilence::SubnetOff(_)
    );
    let told = is_told.then(|| DhcpEventKind::Silent(silence.clone()))?;
    let text = format!("no answer, {silence}: {}", reasons.join("; "));
    Some(DhcpEvent { mac: facts.mac, address: None, told, text })
}

/// One message with all that is known of it.
#[derive(Clone, Copy)]
struct MessageContext<'a, 's> {
    arrival: &'a IncomingMessage<'a>,
    packet: &'a Packet<'a>,
    facts: &'a MessageFacts<'a>,
    selected: &'a SelectedLink<'s>,
    /// The one of the link that this message is about.
    subnet: &'s Subnet,
    leases: &'a LeaseTable,
    policy: &'a DhcpPolicy,
    now: ClockSeconds,
    seed: u64,
}

impl<'a, 's> MessageContext<'a, 's> {
    /// Where several subnets share the client's link: that of the address which the message names,
    /// else of a reservation, of what the client has, of what it asks for, of a pool that is not
    /// empty.
    fn subnet_of_link(&self) -> &'s Subnet {
        if self.selected.others.is_empty() {
            return self.subnet;
        }
        let named = match self.facts.kind {
            MessageKind::Discover | MessageKind::Bootp => None,
            MessageKind::Inform => Some(self.informing()),
            MessageKind::Renewing | MessageKind::Release => Some(self.packet.ciaddr),
            _ => self.facts.requested.or(Some(self.packet.ciaddr)),
        };
        if let Some(subnet) =
            named.and_then(|named| self.link().find(|subnet| subnet.network.contains(named)))
        {
            return subnet;
        }
        let all = self.link().map(|subnet| Self { subnet, ..*self });
        let serving: Vec<Self> =
            all.filter(|at| at.may_speak().is_ok() && at.admitted().is_ok()).collect();
        let own = self.own().map(|lease| lease.address);
        let asked = self.facts.requested;
        let by_reservation =
            |at: &&Self| at.reservation().is_some_and(|reserved| at.may_hold(reserved.address));
        let by_own = |at: &&Self| own.is_some_and(|own| at.gives(own));
        let by_wish = |at: &&Self| asked.is_some_and(|asked| at.is_free(asked));
        let found = serving.iter().find(by_reservation).or_else(|| serving.iter().find(by_own));
        let found = found.or_else(|| serving.iter().find(by_wish));
        let found =
            found.or_else(|| serving.iter().find(|at| at.choose().is_some())).or(serving.first());
        found.map_or(self.subnet, |at| at.subnet)
    }

    fn link(&self) -> impl Iterator<Item = &'s Subnet> {
        std::iter::once(self.selected.subnet).chain(self.selected.others.iter().copied())
    }

    fn answer(&self, decision: &mut Decision) -> Result<(), DhcpSilence> {
        // What a client gives back, or takes from another server, is never answered: heard from
        // everybody and at any time.
        let is_never_answered =
            matches!(self.facts.kind, MessageKind::Decline | MessageKind::Release)
                || self.chose_another().is_some();
        if !is_never_answered {
            self.may_speak()?;
            self.admitted()?;
        }
        match self.facts.kind {
            MessageKind::Discover => self.discover(decision),
            MessageKind::Selecting => self.selecting(decision),
            MessageKind::InitReboot => self.init_reboot(decision),
            MessageKind::Renewing => self.renewing(decision),
            MessageKind::Empty => Err(DhcpSilence::NoAddressNamed),
            MessageKind::Decline => self.decline(decision),
            MessageKind::Release => self.release(decision),
            MessageKind::Inform => self.inform(decision),
            MessageKind::Bootp => self.bootp(decision),
            MessageKind::Other(number) => Err(DhcpSilence::NotServed(number)),
        }
    }

    fn may_speak(&self) -> Result<(), DhcpSilence> {
        let network = self.subnet().network;
        let held = self.arrival.held;
        let place = held.binary_search_by_key(&network, |(held, _)| *held).ok();
        match place.map(|place| held[place].1) {
            Some(HoldReason::Looking | HoldReason::OtherServer(_)) if self.is_for_us_alone() => {
                Ok(())
            }
            Some(why) => Err(DhcpSilence::Held(network, why)),
            None => Ok(()),
        }
    }

    /// No other server may answer this: it names us, or a lease that is ours. RFC 2131 is made for
    /// several servers (sections 3.1 and 4.3.2): one that withholds its offers goes on with the
    /// leases that it has given.
    fn is_for_us_alone(&self) -> bool {
        let holds = |address: Ipv4Addr| {
            let lease = self.leases.get(address).filter(|lease| lease.mac == self.facts.mac);
            lease.is_some_and(|lease| lease.state == LeaseRowState::Bound && lease.end_s > self.now)
        };
        let is_sent_to_us = self.arrival.is_unicast() && self.packet.giaddr.is_unspecified();
        match self.facts.kind {
            MessageKind::Selecting => {
                self.facts.server_id.is_some_and(|server| self.is_ours(server))
            }
            MessageKind::InitReboot => self.facts.requested.is_some_and(holds),
            MessageKind::Renewing => is_sent_to_us || holds(self.packet.ciaddr),
            MessageKind::Inform => is_sent_to_us,
            _ => false,
        }
    }

    /// Who is served here. GRUB and an installed system say nothing of booting: they come with what
    /// their firmware said.
    fn admitted(&self) -> Result<(), DhcpSilence> {
        let (subnet, facts) = (self.subnet(), self.facts);
        let reserved = self.reservation().is_some();
        match subnet.clients {
            ClientAdmission::Any => Ok(()),
            ClientAdmission::Known if reserved => Ok(()),
            ClientAdmission::Known => Err(DhcpSilence::NotReserved(subnet.network)),
            ClientAdmission::Pxe if reserved || facts.boots_from_network() => Ok(()),
            ClientAdmission::Pxe if self.leases.has_booted(facts.mac) => Ok(()),
            ClientAdmission::Pxe => Err(DhcpSilence::NotPxe(subnet.network)),
        }
    }

    /// D-19: reservation, current or previous binding, the address asked for, the pool.
    fn discover(&self, decision: &mut Decision) -> Result<(), DhcpSilence> {
        let network = self.subnet().network;
        let nothing = || match self.is_silenced() {
            true => DhcpSilence::DeclinedTooMuch,
            false => DhcpSilence::NoAddressFree(network),
        };
        let (address, why) = self.address_to_offer(decision).ok_or_else(nothing)?;
        decision.reasons.push(format!("address {address} {why}"));
        let machine = Machine {
            mac: self.facts.mac,
            uuid: self.facts.uuid,
            firmware: Some(self.facts.firmware),
        };
        self.reply(AnswerKind::Offer, address, decision)?;
        let until_s = self.now.saturating_add(offer_hold_s(machine.firmware));
        let client_id = self.client().system.map(<[u8]>::to_vec);
        decision.changes.push(LeaseChange::Offer {
            address,
            machine,
            client_id,
            until_s,
            circuit: self.circuit(),
        });
        let is_known = matches!(
            self.leases.standing(address, self.client(), self.now),
            AddressAvailability::Own(_)
        );
        decision.unproven = Some(address).filter(|_| self.subnet().conflict_detection && !is_known);
        Ok(())
    }

    fn address_to_offer(&self, decision: &mut Decision) -> Option<(Ipv4Addr, &'static str)> {
        if let Some(reservation) = self.reservation() {
            if self.may_hold(reservation.address) {
                return Some((reservation.address, "by reservation"));
            }
            let infrastructure = self.is_infrastructure(reservation.address);
            let why = if infrastructure {
                "the server's or the relay's own"
            } else {
                "taken or declined"
            };
            decision.reasons.push(format!("the reserved address {} is {why}", reservation.address));
        }
        if let Some(lease) = self.own().filter(|lease| self.gives(lease.address)) {
            let live = lease.state == LeaseRowState::Bound && lease.end_s > self.now;
            return Some((
                lease.address,
                if live { "by its lease" } else { "by what it had before" },
            ));
        }
        if self.is_silenced() {
            return None;
        }
        if let Some(address) = self.facts.requested.filter(|address| self.is_free(*address)) {
            return Some((address, "because the client asked for it"));
        }
        self.choose().map(|address| (address, "from the pool"))
    }

    fn is_free(&self, address: Ipv4Addr) -> bool {
        self.gives(address) && self.standing(address) == AddressAvailability::Free
    }

    fn choose(&self) -> Option<Ipv4Addr> {
        let mut ours = self.arrival.ours.to_vec();
        ours.extend([self.arrival.interface_address, self.packet.giaddr, self.server()]);
        ours.extend(self.policy.advertise);
        let (network, mac) = (self.subnet().network, self.facts.mac);
        let wanted =
            AddressRequest { network, mac, circuit: self.circuit(), seed: self.seed, ours: &ours };
        self.leases.choose(&wanted, self.now)
    }

    /// D-22, D-23.
    fn selecting(&self, decision: &mut Decision) -> Result<(), DhcpSilence> {
        if let Some(chosen) = self.chose_another() {
            let (mac, held) = (self.facts.mac, self.own());
            decision
                .changes
                .extend(held.map(|lease| LeaseChange::Forget { address: lease.address, mac }));
            return Err(DhcpSilence::OtherServer(chosen));
        }
        let named = self
            .facts
            .requested
            .or(Some(self.packet.ciaddr))
            .filter(|address| !address.is_unspecified());
        let address = named.ok_or(DhcpSilence::NoAddressNamed)?;
        self.not_committing(address)?;
        match self.refusal(address) {
            Some(why) => self.refuse(address, why, decision),
            None => self.bind(address, self.times(), decision),
        }
    }

    fn chose_another(&self) -> Option<Ipv4Addr> {
        self.facts
            .server_id
            .filter(|server| self.facts.kind == MessageKind::Selecting && !self.is_ours(*server))
    }

    /// Why this client may not have this address; None where it may.
    fn refusal(&self, address: Ipv4Addr) -> Option<&'static str> {
        if !self.subnet().network.contains(address) {
            return Some("wrong network");
        }
        if self.is_infrastructure(address) {
            return Some("the address is the server's or the relay's own");
        }
        let mut reserved =
            self.reservations().filter(|reserved| self.may_hold(reserved.address)).peekable();
        if reserved.peek().is_some() && reserved.all(|reserved| reserved.address != address) {
            return Some("another address is reserved for this client");
        }
        if !self.gives(address) {
            return Some("not an address that is given here");
        }
        match self.standing(address) {
            AddressAvailability::Own(_) => None,
            AddressAvailability::Remembered if self.is_known_at(address) => None,
            AddressAvailability::Taken | AddressAvailability::Remembered => {
                Some("the address belongs to another client")
            }
            // Our offer lapsed, or was forgotten by a restart: nobody else has the address, so it
            // may have it.
            AddressAvailability::Free => {
                self.holds_another(address).then_some("another address was offered")
            }
        }
    }

    /// D-24.
    fn init_reboot(&self, decision: &mut Decision) -> Result<(), DhcpSilence> {
        let address = self.facts.requested.ok_or(DhcpSilence::NoAddressNamed)?;
        if !self.subnet().network.contains(address) {
            return self.refuse(address, "wrong network", decision);
        }
        self.not_committing(address)?;
        if self.is_known_at(address) && self.refusal(address).is_none() {
            return self.bind(address, self.times(), decision);
        }
        if self.own().is_some() || self.reservations().next().is_some() {
            return self.refuse(address, "wrong address for this client", decision);
        }
        if self.subnet().authoritative {
            return self.refuse(address, "no record of this client", decision);
        }
        Err(DhcpSilence::UnknownClient)
    }

    /// D-25. A lease is kept until its machine restarts, even where a reservation now names another
    /// address.
    fn renewing(&self, decision: &mut Decision) -> Result<(), DhcpSilence> {
        let address = self.packet.ciaddr;
        self.not_committing(address)?;
        if self.is_known_at(address) {
            if self.gives(address) {
                return self.bind(address, self.times(), decision);
            }
            return self.refuse(address, "not an address that is given here", decision);
        }
        if self.arrival.is_unicast() && self.packet.giaddr.is_unspecified() {
            return self.refuse(address, "no lease on this address for this client", decision);
        }
        Err(DhcpSilence::UnknownClient)
    }

    /// D-27. Only who holds an address may decline it, and a few within an hour: else one client
    /// could empty the pool.
    fn decline(&self, decision: &mut Decision) -> Result<(), DhcpSilence> {
        self.for_us()?;
        let (mac, address) =
            (self.facts.mac, self.facts.requested.ok_or(DhcpSilence::NoAddressNamed)?);
        let standing = self.standing(address);
        if !matches!(standing, AddressAvailability::Own(_)) {
            return Err(DhcpSilence::NotHeld(address));
        }
        if self.leases.is_written(address) {
            return Err(DhcpSilence::CommitPending);
        }
        let circuit = self.circuit();
        let verdict = self.leases.weigh_decline(mac, circuit, self.now);
        decision.changes.push(match verdict {
            DeclineVerdict::KeepBack { .. } => LeaseChange::Decline {
                address,
                mac,
                until_s: self.now.saturating_add(DECLINE_HOLD_S),
            },
            _ if standing == AddressAvailability::Own(LeaseRowState::Offered) => {
                LeaseChange::Forget { address, mac }
            }
            _ => LeaseChange::Free { address },
        });
        decision.changes.push(LeaseChange::Struck { address, mac, circuit });
        Err(match verdict {
            DeclineVerdict::KeepBack { last: false } => DhcpSilence::Declined,
            DeclineVerdict::KeepBack { last: true } => DhcpSilence::LastDecline,
            DeclineVerdict::Silenced => DhcpSilence::DeclinedTooMuch,
            DeclineVerdict::TooMany { first } => DhcpSilence::DeclineNotKept(first),
        })
    }

    /// D-28: free, but remembered for the same client.
    fn release(&self, decision: &mut Decision) -> Result<(), DhcpSilence> {
        self.for_us()?;
        let (mac, address) = (self.facts.mac, self.packet.ciaddr);
        if self.standing(address) != AddressAvailability::Own(LeaseRowState::Bound) {
            return Err(DhcpSilence::NotHeld(address));
        }
        if self.leases.is_written(address) {
            return Err(DhcpSilence::CommitPending);
        }
        decision.changes.push(LeaseChange::Release { address, mac, end_s: self.now });
        Err(DhcpSilence::Released)
    }

    /// D-29: parameters only; nothing is allocated.
    fn inform(&self, decision: &mut Decision) -> Result<(), DhcpSilence> {
        let own = self.informing();
        if !self.subnet().network.contains(own) {
            return Err(DhcpSilence::OutsideSubnet(own));
        }
        self.reply(AnswerKind::Parameters, Ipv4Addr::UNSPECIFIED, decision)
    }

    /// Who has an address from elsewhere.
    fn informing(&self) -> Ipv4Addr {
        if self.packet.ciaddr.is_unspecified() {
            *self.arrival.source.ip()
        } else {
            self.packet.ciaddr
        }
    }

    /// D-31: only for machines with a reservation, without end.
    fn bootp(&self, decision: &mut Decision) -> Result<(), DhcpSilence> {
        let reservation = self.reservation().ok_or(DhcpSilence::NoReservation)?;
        if !self.may_hold(reservation.address) {
            return Err(DhcpSilence::NotHeld(reservation.address));
        }
        self.not_committing(reservation.address)?;
        decision.reasons.push(format!("address {} by reservation", reservation.address));
        self.reply(AnswerKind::Bootp, reservation.address, decision)?;
        decision.changes.push(self.lease(reservation.address, FOREVER_S));
        Ok(())
    }

    fn bind(
        &self,
        address: Ipv4Addr,
        times: LeaseTimes,
        decision: &mut Decision,
    ) -> Result<(), DhcpSilence> {
        decision.reasons.push(format!("address {address} for {} s", times.lease_s));
        let known = self.leases.get(address).and_then(|lease| lease.uuid);
        let twin = known.zip(self.facts.uuid).filter(|(known, uuid)| known != uuid);
        if let Some((known, uuid)) = twin {
            decision.reasons.push(format!("machines {uuid} and {known} have one hardware address"));
        }
        self.reply(AnswerKind::Ack, address, decision)?;
        if let (Some(event), Some(_)) = (&mut decision.event, twin) {
            event.told = DhcpEventKind::Twin;
        }
        decision
            .changes
            .push(self.lease(address, self.now.saturating_add(u64::from(times.lease_s))));
        Ok(())
    }

    /// The row of a binding. A booted system does not wipe out what the firmware said of the
    /// machine.
    fn lease(&self, address: Ipv4Addr, end_s: ClockSeconds) -> LeaseChange {
        let facts = self.facts;
        let is_own = matches!(self.standing(address), AddressAvailability::Own(_));
        let before = self.leases.get(address).filter(|_| is_own).or_else(|| self.own());
        let is_system = facts.firmware.role == FirmwareRole::System;
        let firmware =
            before.and_then(|lease| lease.firmware).filter(|_| is_system).or(Some(facts.firmware));
        LeaseChange::Bind(Box::new(Lease {
            address,
            mac: facts.mac,
            client_id: self.system().map(<[u8]>::to_vec),
            uuid: facts.uuid.or_else(|| before?.uuid),
            firmware,
            host_name: self
                .host_name()
                .or(facts.host_name)
                .map(str::to_owned)
                .or_else(|| before?.host_name.clone()),
            state: LeaseRowState::Bound,
            start_s: self.now,
            end_s,
        }))
    }

    /// Who the lease is for. While machines are provisioned, all that runs on one is one client
    /// (D-38). Where everybody is served, systems that name themselves differently are several,
    /// whatever hardware address they share (D-37).
    fn client(&self) -> ClientIdentity<'a> {
        let system = self.system().filter(|_| self.subnet().clients == ClientAdmission::Any);
        ClientIdentity { mac: self.facts.mac, system }
    }

    /// The system by its option 61, empty where that is type and hardware address alone. None for
    /// what boots the machine, and for GRUB, which says nothing of itself: before and after it
    /// others speak.
    fn system(&self) -> Option<&'a [u8]> {
        let facts = self.facts;
        let says_nothing = facts.client_id.is_none() && facts.wanted.is_none();
        if is_boot_firmware(facts.firmware) || says_nothing {
            return None;
        }
        let is_plain = |id: &[u8]| id.split_first() == Some((&1, &facts.mac.0[..]));
        Some(facts.client_id.filter(|id| !is_plain(id)).unwrap_or_default())
    }

    /// The same request waits for the store, or that of another system behind this hardware address
    /// may.
    fn not_committing(&self, address: Ipv4Addr) -> Result<(), DhcpSilence> {
        let is_the_same = self.leases.is_committing(address, self.facts.mac, self.packet.xid);
        let holder = self
            .leases
            .get(address)
            .map(|lease| lease.mac)
            .filter(|_| self.leases.is_written(address));
        let may_be_anothers = self.client().system.is_some() && holder == Some(self.facts.mac);
        if is_the_same || may_be_anothers { Err(DhcpSilence::CommitPending) } else { Ok(()) }
    }

    fn standing(&self, address: Ipv4Addr) -> AddressAvailability {
        self.leases.standing(address, self.client(), self.now)
    }

    fn reply(
        &self,
        kind: AnswerKind,
        yiaddr: Ipv4Addr,
        decision: &mut Decision,
    ) -> Result<(), DhcpSilence> {
        let choice = self.boot_file(decision);
        let file = choice.file.as_deref();
        let terms = ReplyTerms {
            subnet: self.subnet(),
            message_type: match kind {
                AnswerKind::Offer => Some(options::OFFER),
                AnswerKind::Bootp => None,
                AnswerKind::Ack | AnswerKind::Parameters | AnswerKind::Nak => Some(options::ACK),
            },
            server: self.server(),
            next_server: self.next_server(),
            times: matches!(kind, AnswerKind::Offer | AnswerKind::Ack).then(|| self.times()),
            file,
            host_name: self.host_name(),
        };
        let reply = ReplyMessage {
            ciaddr: if kind == AnswerKind::Offer {
                Ipv4Addr::UNSPECIFIED
            } else {
                self.packet.ciaddr
            },
            yiaddr,
            siaddr: self.next_server(),
            file: file.map(|name| name.as_bytes().to_vec()).unwrap_or_default(),
            options: options::compose_options(&terms, self.packet, self.facts),
            ..self.header()
        };
        let dropped = self.send(&reply, kind, yiaddr, decision)?;
        if !dropped.is_empty() {
            decision.reasons.push(format!("options {dropped:?} left out, they do not fit"));
        }
        let told = match kind {
            _ if choice.missing => DhcpEventKind::NoLoader(choice.reason),
            AnswerKind::Offer => DhcpEventKind::Offered,
            AnswerKind::Ack if self.facts.kind == MessageKind::Renewing => DhcpEventKind::Renewed,
            AnswerKind::Ack | AnswerKind::Bootp => DhcpEventKind::Leased,
            AnswerKind::Parameters | AnswerKind::Nak => DhcpEventKind::Parameters,
        };
        let is_renewal = told == DhcpEventKind::Renewed;
        let what = if is_renewal { "renewal".to_owned() } else { kind.to_string() };
        self.tell(format_args!("{what}"), Some(yiaddr), told, decision);
        Ok(())
    }

    /// The loader of this client's class, with the limits of header field and option (D-41, D-42).
    fn boot_file(&self, decision: &mut Decision) -> LoaderChoice {
        let (facts, boot) = (self.facts, &self.policy.boot);
        let origin = UrlOrigin { server: self.next_server(), http_port: self.policy.http_port };
        // BOOTP has no option 93: who speaks it is a BIOS ROM (D-31).
        let bootp = Firmware { role: FirmwareRole::Pxe, arch: Some(Arch::Bios) };
        let mut choice = match (facts.kind, facts.firmware.role) {
            (MessageKind::Bootp, FirmwareRole::System) => {
                plan::choose_loader(bootp, "BOOTP", true, boot, origin)
            }
            _ => plan::choose_loader(
                facts.firmware,
                &facts.evidence,
                facts.speaks_http,
                boot,
                origin,
            ),
        };
        let octets = choice.file.as_ref().map_or(0, String::len);
        if octets > OPTION_OCTETS_MAX {
            choice = LoaderChoice {
                file: None,
                reason: format!("no boot file because its name has {octets} octets"),
                missing: true,
            };
        }
        decision.reasons.push(choice.reason.clone());
        if (FILE_FIELD_OCTETS_MAX + 1..=OPTION_OCTETS_MAX).contains(&octets) {
            decision.reasons.push(format!(
                "the name has {octets} octets: in option 67 only, which shim does not read"
            ));
        }
        choice
    }

    fn refuse(
        &self,
        address: Ipv4Addr,
        why: &'static str,
        decision: &mut Decision,
    ) -> Result<(), DhcpSilence> {
        decision.reasons.push(format!("{address} refused: {why}"));
        let relayed = !self.packet.giaddr.is_unspecified();
        let flags = if relayed { self.packet.flags | FLAG_BROADCAST } else { self.packet.flags };
        let reply = ReplyMessage {
            flags,
            options: options::compose_nak_options(self.server(), why, self.facts),
            ..self.header()
        };
        self.send(&reply, AnswerKind::Nak, Ipv4Addr::UNSPECIFIED, decision)?;
        self.tell(
            format_args!("{} of {address}", AnswerKind::Nak),
            Some(address),
            DhcpEventKind::Refused,
            decision,
        );
        Ok(())
    }

    /// What every reply copies from its request (D-2).
    fn header(&self) -> ReplyMessage {
        ReplyMessage {
            htype: self.packet.htype,
            hlen: self.packet.hlen,
            xid: self.packet.xid,
            flags: self.packet.flags,
            ciaddr: Ipv4Addr::UNSPECIFIED,
            yiaddr: Ipv4Addr::UNSPECIFIED,
            siaddr: Ipv4Addr::UNSPECIFIED,
            giaddr: self.packet.giaddr,
            chaddr: self.packet.chaddr,
            file: Vec::new(),
            options: ReplyOptions::default(),
        }
    }

    fn send(
        &self,
        reply: &ReplyMessage,
        kind: AnswerKind,
        yiaddr: Ipv4Addr,
        decision: &mut Decision,
    ) -> Result<Vec<u8>, DhcpSilence> {
        let (bytes, dropped) = reply.encode(self.facts.payload_octets_max)?;
        let ask = RouteInputs {
            nak: kind == AnswerKind::Nak,
            yiaddr,
            network: self.subnet().network,
            source: self.arrival.source,
            off_link: self.selected.off_link,
        };
        let route = choose_reply_route(self.packet, self.facts, ask);
        decision.answer = Some(AnswerDatagram { bytes, route, source: self.own_address(), kind });
        Ok(dropped)
    }

    fn tell(
        &self,
        what: fmt::Arguments<'_>,
        address: Option<Ipv4Addr>,
        told: DhcpEventKind,
        decision: &mut Decision,
    ) {
        let octets: usize = decision.reasons.iter().map(|reason| reason.len() + "; ".len()).sum();
        let mut text = String::with_capacity(octets + ROOM_FOR_WHAT);
        let _ = fmt::write(&mut text, what); // a String takes all
        for (reason, before) in
            decision.reasons.iter().zip(std::iter::once(": ").chain(std::iter::repeat("; ")))
        {
            text.push_str(before);
            text.push_str(reason);
        }
        let address = address.filter(|address| !address.is_unspecified());
        decision.event = Some(DhcpEvent { mac: self.facts.mac, address, told, text });
    }

    /// What an operator may ask about (D-19, D-27, D-5). Who gives an address back, or declines it,
    /// expects no answer.
    fn explain_silence(&self, silence: &DhcpSilence, decision: &mut Decision) {
        decision.answer = None;
        let address = decision.changes.first().map(LeaseChange::address);
        let told = DhcpEventKind::Silent(silence.clone());
        match silence {
            DhcpSilence::Released | DhcpSilence::Declined => {
                self.tell(format_args!("{silence}"), address, told, decision)
            }
            _ => self.tell(format_args!("no answer, {silence}"), address, told, decision),
        }
    }

    fn subnet(&self) -> &'s Subnet {
        self.subnet
    }

    fn times(&self) -> LeaseTimes {
        LeaseTimes::new(
            self.facts.lease_time_s,
            self.facts.firmware.role,
            self.subnet(),
            hash_bytes(&self.facts.mac.0),
        )
    }

    fn reservation(&self) -> Option<&'s Reservation> {
        self.subnet().reserved_for(self.facts.mac)
    }

    /// In all subnets of the link.
    fn reservations(&self) -> impl Iterator<Item = &'s Reservation> {
        self.link().filter_map(|subnet| subnet.reserved_for(self.facts.mac))
    }

    fn circuit(&self) -> Circuit {
        Circuit::new(self.subnet().network, self.packet.giaddr, self.facts.relay.circuit)
    }

    fn is_silenced(&self) -> bool {
        self.leases.is_silenced(self.facts.mac, self.now)
    }

    fn host_name(&self) -> Option<&str> {
        self.reservation()?.hostname.as_deref()
    }

    /// What it has on this link.
    fn own(&self) -> Option<&Lease> {
        let client = self.client();
        let leases =
            self.link().filter_map(|subnet| self.leases.own(client, subnet.network, self.now));
        leases.max_by_key(|lease| client.rank(lease, self.now))
    }

    fn holds_another(&self, address: Ipv4Addr) -> bool {
        let live =
            |lease: &&Lease| lease.state != LeaseRowState::Released && lease.end_s > self.now;
        self.own().filter(live).is_some_and(|lease| lease.address != address)
    }

    /// A lease or an offer of this client on the address, over or not; or its reservation.
    fn is_known_at(&self, address: Ipv4Addr) -> bool {
        let standing = self.standing(address);
        let reserved = self.reservation().is_some_and(|reservation| reservation.address == address);
        matches!(standing, AddressAvailability::Own(_))
            || (reserved && standing != AddressAvailability::Taken)
    }

    /// True where the configuration lets this client have the address, from a pool or reserved for
    /// it, and no server or relay has it itself: an old lease counts less than that.
    fn gives(&self, address: Ipv4Addr) -> bool {
        self.subnet().network.contains(address)
            && !self.is_infrastructure(address)
            && (self.leases.is_in_pool(address)
                || self.reservation().is_some_and(|r| r.address == address))
    }

    fn may_hold(&self, address: Ipv4Addr) -> bool {
        !self.is_infrastructure(address) && self.standing(address) != AddressAvailability::Taken
    }

    /// D-27, D-28: a message for another server changes nothing here. Without option 54 it is taken
    /// as for us.
    fn for_us(&self) -> Result<(), DhcpSilence> {
        self.facts
            .server_id
            .filter(|server| !self.is_ours(*server))
            .map_or(Ok(()), |other| Err(DhcpSilence::OtherServer(other)))
    }

    /// Our identity on the client's segment, unless the relay wants to stand in for us (D-20,
    /// D-50).
    fn server(&self) -> Ipv4Addr {
        self.facts.relay.server_override.unwrap_or(self.own_address())
    }

    /// Ours on the receiving interface: where that has several, the one in the client's subnet.
    fn own_address(&self) -> Ipv4Addr {
        let main = self.arrival.interface_address;
        let is_direct = self.packet.giaddr.is_unspecified() && !self.selected.off_link;
        let nearer = |address: &Ipv4Addr| is_direct && self.subnet.network.contains(*address);
        if nearer(&main) {
            return main;
        }
        self.arrival.here.iter().map(|(address, _)| *address).find(nearer).unwrap_or(main)
    }

    /// Where files come from.
    fn next_server(&self) -> Ipv4Addr {
        self.subnet().next_server.or(self.policy.advertise).unwrap_or(self.own_address())
    }

    /// An address of this host, or of the relay agent that stands between us and the client: never
    /// a client's.
    fn is_infrastructure(&self, address: Ipv4Addr) -> bool {
        self.is_ours(address) || address == self.packet.giaddr
    }

    fn is_ours(&self, address: Ipv4Addr) -> bool {
        address == self.server()
            || address == self.arrival.interface_address
            || self.arrival.ours.binary_search(&address).is_ok()
            || self.policy.advertise == Some(address)
    }
}

impl fmt::Display for AnswerKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Offer => "offer",
            Self::Ack => "lease",
            Self::Parameters => "parameters",
            Self::Nak => "refusal",
            Self::Bootp => "BOOTP reply",
        })
    }
}
