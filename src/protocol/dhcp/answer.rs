//! The reply of a decision: its header, its boot file, its options, its route, and the event that
//! describes it.

use std::fmt;
use std::net::Ipv4Addr;

use super::classify::MessageKind;
use super::context::MessageContext;
use super::decision::{AnswerDatagram, AnswerKind, Decision, DhcpEvent, DhcpEventKind};
use super::lease::LeaseChange;
use super::limits::{FILE_FIELD_BYTES_MAX, OPTION_BYTES_MAX};
use super::options::{self, ReplyTerms};
use super::packet::FLAG_BROADCAST;
use super::reply::{ReplyMessage, ReplyOptions};
use super::route::{RouteInputs, choose_reply_route};
use super::silence::DhcpSilence;
use crate::boot::loader_choice::{self, LoaderChoice, UrlOrigin};
use crate::model::machine::{Arch, Firmware, FirmwareRole};

/// Bytes of an event's text before its reasons, for most events.
const EVENT_HEAD_BYTES: usize = 64;

impl MessageContext<'_, '_> {
    /// An OFFER, an ACK or a BOOTP reply, with its event.
    pub(super) fn compose_reply(
        &self,
        kind: AnswerKind,
        yiaddr: Ipv4Addr,
        decision: &mut Decision,
    ) -> Result<(), DhcpSilence> {
        let choice = self.choose_boot_file(decision);
        let file = choice.file.as_deref();
        let terms = ReplyTerms {
            subnet: self.subnet,
            message_type: match kind {
                AnswerKind::Offer => Some(options::OFFER),
                AnswerKind::Bootp => None,
                AnswerKind::Ack | AnswerKind::Parameters | AnswerKind::Nak => Some(options::ACK),
            },
            server: self.server_identifier(),
            next_server: self.next_server(),
            times: matches!(kind, AnswerKind::Offer | AnswerKind::Ack).then(|| self.lease_times()),
            file,
            host_name: self.reserved_host_name(),
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
            ..self.copy_request_header()
        };
        let dropped = self.encode_answer(&reply, kind, yiaddr, decision)?;
        if !dropped.is_empty() {
            decision.reasons.push(format_args!("options {dropped:?} left out, they do not fit"));
        }

        // A missing boot file matters more to the operator than the lease.
        let event_kind = match kind {
            _ if choice.missing => DhcpEventKind::NoLoader(choice.reason),
            AnswerKind::Offer => DhcpEventKind::Offered,
            AnswerKind::Ack if self.facts.kind == MessageKind::Renewing => DhcpEventKind::Renewed,
            AnswerKind::Ack | AnswerKind::Bootp => DhcpEventKind::Leased,
            AnswerKind::Parameters | AnswerKind::Nak => DhcpEventKind::Parameters,
        };
        let is_renewal = event_kind == DhcpEventKind::Renewed;
        let what: &dyn fmt::Display = if is_renewal { &"renewal" } else { &kind };
        self.record_event(format_args!("{what}"), Some(yiaddr), event_kind, decision);
        Ok(())
    }

    /// The loader of this client's class, within the limits of the header field and of the option
    /// (D-41, D-42).
    fn choose_boot_file(&self, decision: &mut Decision) -> LoaderChoice {
        let (facts, boot) = (self.facts, &self.policy.boot);
        let origin = UrlOrigin { server: self.next_server(), http_port: self.policy.http_port };
        // BOOTP has no option 93: a client that speaks it is a BIOS ROM (D-31).
        let bootp = Firmware { role: FirmwareRole::Pxe, arch: Some(Arch::Bios) };
        let mut choice = match (facts.kind, facts.firmware.role) {
            (MessageKind::Bootp, FirmwareRole::System) => {
                loader_choice::choose_loader(bootp, "BOOTP", true, boot, origin)
            }
            _ => loader_choice::choose_loader(
                facts.firmware,
                &facts.evidence,
                facts.speaks_http,
                boot,
                origin,
            ),
        };

        let octets = choice.file.as_ref().map_or(0, String::len);
        if octets > OPTION_BYTES_MAX {
            choice = LoaderChoice {
                file: None,
                reason: format!("no boot file because its name has {octets} bytes"),
                missing: true,
            };
        }
        decision.reasons.push(format_args!("{}", choice.reason));
        if (FILE_FIELD_BYTES_MAX + 1..=OPTION_BYTES_MAX).contains(&octets) {
            decision.reasons.push(format_args!(
                "the name has {octets} bytes: it goes into option 67 only, which shim does not read"
            ));
        }
        choice
    }

    /// A NAK that gives `why` in option 56 (D-26).
    pub(super) fn compose_nak(
        &self,
        address: Ipv4Addr,
        why: &'static str,
        decision: &mut Decision,
    ) -> Result<(), DhcpSilence> {
        decision.reasons.push(format_args!("{address} refused: {why}"));
        // The relay must broadcast it: the client has no address yet (RFC 2131 section 4.3.2).
        let relayed = !self.packet.giaddr.is_unspecified();
        let flags = if relayed { self.packet.flags | FLAG_BROADCAST } else { self.packet.flags };
        let reply = ReplyMessage {
            flags,
            options: options::compose_nak_options(self.server_identifier(), why, self.facts),
            ..self.copy_request_header()
        };
        self.encode_answer(&reply, AnswerKind::Nak, Ipv4Addr::UNSPECIFIED, decision)?;
        self.record_event(
            format_args!("{} of {address}", AnswerKind::Nak),
            Some(address),
            DhcpEventKind::Refused,
            decision,
        );
        Ok(())
    }

    /// The fields that every reply copies from its request (D-2).
    fn copy_request_header(&self) -> ReplyMessage {
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

    /// Puts the encoded reply and its route into the decision. Returns the options that did not
    /// fit.
    fn encode_answer(
        &self,
        reply: &ReplyMessage,
        kind: AnswerKind,
        yiaddr: Ipv4Addr,
        decision: &mut Decision,
    ) -> Result<Vec<u8>, DhcpSilence> {
        let (bytes, dropped) = reply.encode(self.facts.payload_bytes_max)?;
        let inputs = RouteInputs {
            nak: kind == AnswerKind::Nak,
            yiaddr,
            network: self.subnet.network,
            source: self.arrival.source,
            off_link: self.selected.off_link,
        };
        let route = choose_reply_route(self.packet, self.facts, inputs);
        decision.answer =
            Some(AnswerDatagram { bytes, route, source: self.source_address(), kind });
        Ok(dropped)
    }

    fn record_event(
        &self,
        what: fmt::Arguments<'_>,
        address: Option<Ipv4Addr>,
        kind: DhcpEventKind,
        decision: &mut Decision,
    ) {
        // One allocation for the whole text: an event is written for each reply.
        let reasons = decision.reasons.as_str();
        let mut text = String::with_capacity(reasons.len() + EVENT_HEAD_BYTES);
        let _ = fmt::write(&mut text, what); // a String takes all
        if !reasons.is_empty() {
            text.push_str(": ");
            text.push_str(reasons);
        }
        let address = address.filter(|address| !address.is_unspecified());
        decision.event = Some(DhcpEvent { mac: self.facts.mac, address, kind, text });
    }

    /// Records why no reply leaves, for an operator who asks (D-5, D-19, D-27). A client that
    /// releases or declines an address expects no reply, so that text does not begin with "no
    /// answer".
    pub(super) fn explain_silence(&self, silence: &DhcpSilence, decision: &mut Decision) {
        decision.answer = None;
        let address = decision.changes.first().map(LeaseChange::address);
        let kind = DhcpEventKind::Silent(silence.clone());
        match silence {
            DhcpSilence::Released | DhcpSilence::Declined => {
                self.record_event(format_args!("{silence}"), address, kind, decision)
            }
            _ => self.record_event(format_args!("no answer, {silence}"), address, kind, decision),
        }
    }
}
