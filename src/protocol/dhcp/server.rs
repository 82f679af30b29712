//! What the server does about each DHCP message type: D-19 to D-31.

use std::net::Ipv4Addr;

use super::classify::MessageKind;
use super::context::MessageContext;
use super::decision::{AnswerKind, Decision, DhcpEventKind};
use super::lease::{
    AddressAvailability, ClockSeconds, Lease, LeaseChange, LeaseRowState, offer_hold_s,
};
use super::limits::{DECLINE_HOLD_S, FOREVER_S};
use super::silence::DhcpSilence;
use super::strikes::DeclineVerdict;
use crate::model::machine::{FirmwareRole, Machine};

impl MessageContext<'_, '_> {
    /// Fills the decision with the reply and its changes. Err: no reply leaves.
    pub(super) fn answer_message(&self, decision: &mut Decision) -> Result<(), DhcpSilence> {
        // DECLINE, RELEASE and the choice of another server get no reply, so the server accepts
        // them from every client and at any time.
        let is_never_answered =
            matches!(self.facts.kind, MessageKind::Decline | MessageKind::Release)
                || self.chosen_other_server().is_some();
        if !is_never_answered {
            self.check_not_held()?;
            self.check_admission()?;
        }
        match self.facts.kind {
            MessageKind::Discover => self.answer_discover(decision),
            MessageKind::Selecting => self.answer_selecting(decision),
            MessageKind::InitReboot => self.answer_init_reboot(decision),
            MessageKind::Renewing => self.answer_renewing(decision),
            MessageKind::Empty => Err(DhcpSilence::NoAddressNamed),
            MessageKind::Decline => self.accept_decline(decision),
            MessageKind::Release => self.accept_release(decision),
            MessageKind::Inform => self.answer_inform(decision),
            MessageKind::Bootp => self.answer_bootp(decision),
            MessageKind::Other(number) => Err(DhcpSilence::NotServed(number)),
        }
    }

    /// D-19: the reservation, the current or previous binding, the requested address, the pool.
    fn answer_discover(&self, decision: &mut Decision) -> Result<(), DhcpSilence> {
        let Some((address, why)) = self.choose_offer(decision) else {
            return Err(match self.is_silenced() {
                true => DhcpSilence::DeclinedTooMuch,
                false => DhcpSilence::NoAddressFree(self.subnet.network),
            });
        };
        decision.reasons.push(format_args!("address {address} {why}"));
        self.compose_reply(AnswerKind::Offer, address, decision)?;

        let machine = Machine {
            mac: self.facts.mac,
            uuid: self.facts.uuid,
            firmware: Some(self.facts.firmware),
        };
        decision.changes.push(LeaseChange::Offer {
            address,
            machine,
            client_id: self.client_identity().system.map(<[u8]>::to_vec),
            until_s: self.now.saturating_add(offer_hold_s(machine.firmware)),
            circuit: self.circuit(),
        });

        // A client that had the address is likely to have it still: only others need a probe.
        let is_known = matches!(self.availability(address), AddressAvailability::Own(_));
        decision.unproven = Some(address).filter(|_| self.subnet.conflict_detection && !is_known);
        Ok(())
    }

    /// The address to offer, and the clause that says why.
    fn choose_offer(&self, decision: &mut Decision) -> Option<(Ipv4Addr, &'static str)> {
        if let Some(reservation) = self.reservation() {
            if self.may_hold(reservation.address) {
                return Some((reservation.address, "by reservation"));
            }
            let why = match self.is_infrastructure(reservation.address) {
                true => "the server's or the relay's own",
                false => "taken or declined",
            };
            decision
                .reasons
                .push(format_args!("the reserved address {} is {why}", reservation.address));
        }
        if let Some(lease) = self.find_own_lease().filter(|lease| self.may_give(lease.address)) {
            let is_live = lease.state == LeaseRowState::Bound && lease.end_s > self.now;
            return Some((
                lease.address,
                if is_live { "by its lease" } else { "because the client had it before" },
            ));
        }

        // A client that declined too many addresses keeps its own, and gets no other.
        if self.is_silenced() {
            return None;
        }
        if let Some(address) = self.facts.requested.filter(|address| self.is_free(*address)) {
            return Some((address, "because the client asked for it"));
        }
        self.choose_address().map(|address| (address, "from the pool"))
    }

    /// D-22, D-23: a REQUEST with option 54, or one after an OFFER.
    fn answer_selecting(&self, decision: &mut Decision) -> Result<(), DhcpSilence> {
        if let Some(chosen) = self.chosen_other_server() {
            let mac = self.facts.mac;
            decision.changes.extend(
                self.find_own_lease()
                    .map(|lease| LeaseChange::Forget { address: lease.address, mac }),
            );
            return Err(DhcpSilence::OtherServer(chosen));
        }
        let address = self.facts.requested.unwrap_or(self.packet.ciaddr);
        if address.is_unspecified() {
            return Err(DhcpSilence::NoAddressNamed);
        }
        self.check_not_committing(address)?;
        match self.find_nak_reason(address) {
            Some(why) => self.compose_nak(address, why, decision),
            None => self.grant_lease(address, decision),
        }
    }

    /// Why this client may not have this address; None where it may.
    fn find_nak_reason(&self, address: Ipv4Addr) -> Option<&'static str> {
        if !self.subnet.network.contains(address) {
            return Some("wrong network");
        }
        if self.is_infrastructure(address) {
            return Some("the address is the server's or the relay's own");
        }

        // A reservation that another client has taken is no claim to a different address.
        let mut reserved =
            self.link_reservations().filter(|reserved| self.may_hold(reserved.address)).peekable();
        if reserved.peek().is_some() && reserved.all(|reserved| reserved.address != address) {
            return Some("another address is reserved for this client");
        }
        if !self.may_give(address) {
            return Some("not an address that is given here");
        }
        match self.availability(address) {
            AddressAvailability::Own(_) => None,
            AddressAvailability::Remembered if self.is_known_at(address) => None,
            AddressAvailability::Taken | AddressAvailability::Remembered => {
                Some("the address belongs to another client")
            }
            // Our offer lapsed, or a restart lost it. No other client has the address, so this one
            // may have it.
            AddressAvailability::Free => {
                self.holds_another(address).then_some("another address was offered")
            }
        }
    }

    /// D-24: a client that restarts and asks for the address that it had.
    fn answer_init_reboot(&self, decision: &mut Decision) -> Result<(), DhcpSilence> {
        let address = self.facts.requested.ok_or(DhcpSilence::NoAddressNamed)?;
        if !self.subnet.network.contains(address) {
            return self.compose_nak(address, "wrong network", decision);
        }
        self.check_not_committing(address)?;
        if self.is_known_at(address) && self.find_nak_reason(address).is_none() {
            return self.grant_lease(address, decision);
        }
        if self.find_own_lease().is_some() || self.link_reservations().next().is_some() {
            return self.compose_nak(address, "wrong address for this client", decision);
        }
        if self.subnet.authoritative {
            return self.compose_nak(address, "no record of this client", decision);
        }
        Err(DhcpSilence::UnknownClient)
    }

    /// D-25. A running machine keeps its lease, even where a reservation now names another address:
    /// it changes the address when it restarts.
    fn answer_renewing(&self, decision: &mut Decision) -> Result<(), DhcpSilence> {
        let address = self.packet.ciaddr;
        self.check_not_committing(address)?;
        if self.is_known_at(address) {
            if self.may_give(address) {
                return self.grant_lease(address, decision);
            }
            return self.compose_nak(address, "not an address that is given here", decision);
        }
        if self.arrival.is_unicast() && self.packet.giaddr.is_unspecified() {
            return self.compose_nak(address, "no lease on this address for this client", decision);
        }
        Err(DhcpSilence::UnknownClient)
    }

    /// D-27. Only the client that holds an address may decline it, and only a few within an hour:
    /// otherwise one client could empty the pool.
    fn accept_decline(&self, decision: &mut Decision) -> Result<(), DhcpSilence> {
        self.check_server_identifier()?;
        let mac = self.facts.mac;
        let address = self.facts.requested.ok_or(DhcpSilence::NoAddressNamed)?;
        let availability = self.availability(address);
        if !matches!(availability, AddressAvailability::Own(_)) {
            return Err(DhcpSilence::NotHeld(address));
        }
        if self.leases.is_written(address) {
            return Err(DhcpSilence::CommitPending);
        }

        // A lease whose decline does not count is freed durably: otherwise the client would get the
        // same address again.
        let circuit = self.circuit();
        let verdict = self.leases.weigh_decline(mac, circuit, self.now);
        decision.changes.push(match verdict {
            DeclineVerdict::KeepBack { .. } => LeaseChange::Decline {
                address,
                mac,
                until_s: self.now.saturating_add(DECLINE_HOLD_S),
            },
            _ if availability == AddressAvailability::Own(LeaseRowState::Offered) => {
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

    /// D-28: the address becomes free, and stays remembered for the same client.
    fn accept_release(&self, decision: &mut Decision) -> Result<(), DhcpSilence> {
        self.check_server_identifier()?;
        let (mac, address) = (self.facts.mac, self.packet.ciaddr);
        if self.availability(address) != AddressAvailability::Own(LeaseRowState::Bound) {
            return Err(DhcpSilence::NotHeld(address));
        }
        if self.leases.is_written(address) {
            return Err(DhcpSilence::CommitPending);
        }
        decision.changes.push(LeaseChange::Release { address, mac, end_s: self.now });
        Err(DhcpSilence::Released)
    }

    /// D-29: parameters only; the server allocates nothing.
    fn answer_inform(&self, decision: &mut Decision) -> Result<(), DhcpSilence> {
        let address = self.inform_address();
        if !self.subnet.network.contains(address) {
            return Err(DhcpSilence::OutsideSubnet(address));
        }
        self.compose_reply(AnswerKind::Parameters, Ipv4Addr::UNSPECIFIED, decision)
    }

    /// D-31: BOOTP is for machines with a reservation, and its lease has no end.
    fn answer_bootp(&self, decision: &mut Decision) -> Result<(), DhcpSilence> {
        let reservation = self.reservation().ok_or(DhcpSilence::NoReservation)?;
        if !self.may_hold(reservation.address) {
            return Err(DhcpSilence::NotHeld(reservation.address));
        }
        self.check_not_committing(reservation.address)?;
        decision.reasons.push(format_args!("address {} by reservation", reservation.address));
        self.compose_reply(AnswerKind::Bootp, reservation.address, decision)?;
        decision.changes.push(self.build_binding(reservation.address, FOREVER_S));
        Ok(())
    }

    /// Binds the address to the client, or extends its lease.
    fn grant_lease(&self, address: Ipv4Addr, decision: &mut Decision) -> Result<(), DhcpSilence> {
        let times = self.lease_times();
        decision.reasons.push(format_args!("address {address} for {} s", times.lease_s));

        // Two UUIDs on one hardware address are two machines, which DHCP cannot tell apart: the
        // operator gets an event (D-38).
        let known = self.leases.get(address).and_then(|lease| lease.uuid);
        let twin = known.zip(self.facts.uuid).filter(|(known, uuid)| known != uuid);
        if let Some((known, uuid)) = twin {
            decision
                .reasons
                .push(format_args!("machines {uuid} and {known} have one hardware address"));
        }
        self.compose_reply(AnswerKind::Ack, address, decision)?;
        if let (Some(event), Some(_)) = (&mut decision.event, twin) {
            event.kind = DhcpEventKind::Twin;
        }
        let end_s = self.now.saturating_add(u64::from(times.lease_s));
        decision.changes.push(self.build_binding(address, end_s));
        Ok(())
    }

    /// The row of a binding. A booted system does not overwrite what the firmware said of the
    /// machine.
    fn build_binding(&self, address: Ipv4Addr, end_s: ClockSeconds) -> LeaseChange {
        let facts = self.facts;
        // The client's lease of this address, or else its other lease on the link, has facts that a
        // system does not send again.
        let is_own = matches!(self.availability(address), AddressAvailability::Own(_));
        let before = self.leases.get(address).filter(|_| is_own).or_else(|| self.find_own_lease());

        let known_firmware = before.and_then(|lease| lease.firmware);
        let firmware = match known_firmware {
            Some(known) if facts.firmware.role == FirmwareRole::System => known,
            _ => facts.firmware,
        };
        let host_name = match self.reserved_host_name().or(facts.host_name) {
            Some(name) => Some(name.to_owned()),
            None => before.and_then(|lease| lease.host_name.clone()),
        };
        LeaseChange::Bind(Box::new(Lease {
            address,
            mac: facts.mac,
            client_id: self.system_id().map(<[u8]>::to_vec),
            uuid: facts.uuid.or_else(|| before?.uuid),
            firmware: Some(firmware),
            host_name,
            state: LeaseRowState::Bound,
            start_s: self.now,
            end_s,
        }))
    }
}
