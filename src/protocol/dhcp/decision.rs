//! What the server decides about one message: the reply, the changes of leases, the reasons and
//! the event.

use std::fmt;
use std::net::Ipv4Addr;

use super::lease::LeaseChange;
use super::reasons::Reasons;
use super::route::ReplyRoute;
use super::silence::DhcpSilence;
use crate::model::machine::{Firmware, Mac};
use crate::model::network::Ipv4Network;

/// What to do about one datagram.
///
/// The caller hands `changes` to `LeaseTable::begin_commit`. If one of the changes is durable, the
/// caller gives them to the store and sends `answer` only after the commit; otherwise it sends
/// `answer` at once.
#[derive(Clone, Debug, Default)]
pub struct Decision {
    /// The reply; None where the server stays silent.
    pub answer: Option<AnswerDatagram>,
    /// Changes of the lease table, in the order in which to apply them.
    pub changes: Vec<LeaseChange>,
    /// Short clauses, in the order in which they were found.
    pub reasons: Reasons,
    /// What to log; None for messages that are only counted.
    pub event: Option<DhcpEvent>,
    /// Why there is no reply; None where there is one.
    pub silence: Option<DhcpSilence>,
    /// Transaction ID of the request; 0 where the request is malformed.
    pub xid: u32,
    /// `chaddr` of the request; None where the request is malformed.
    pub mac: Option<Mac>,
    /// What the request says of the firmware or system that sent it.
    pub firmware: Option<Firmware>,
    /// The offered address, where the client never had it and the subnet detects conflicts: send
    /// the OFFER only after a probe of the address got no answer (D-36).
    pub unproven: Option<Ipv4Addr>,
    /// The subnet that the message belongs to; None where no subnet matches.
    pub network: Option<Ipv4Network>,
}

/// A reply, ready for the wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AnswerDatagram {
    /// The UDP payload.
    pub bytes: Vec<u8>,
    /// Where the reply goes, and how it gets there.
    pub route: ReplyRoute,
    /// Source address: ours on the receiving interface; the source port is 67 (D-16).
    pub source: Ipv4Addr,
    /// What the reply grants or refuses, for the counters.
    pub kind: AnswerKind,
}

/// What a reply grants or refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AnswerKind {
    /// DHCPOFFER.
    Offer,
    /// DHCPACK that binds or renews a lease.
    Ack,
    /// DHCPACK to an INFORM: parameters without a lease (D-29).
    Parameters,
    /// DHCPNAK.
    Nak,
    /// BOOTREPLY to a client without option 53 (D-31).
    Bootp,
}

/// One sentence about one machine, for the log and the timeline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DhcpEvent {
    /// `chaddr` of the request.
    pub mac: Mac,
    /// The address that the event is about; None where it is about none.
    pub address: Option<Ipv4Addr>,
    /// What happened, for the level of the line and the timeline.
    pub kind: DhcpEventKind,
    /// The whole sentence, with the reasons behind a colon.
    pub text: String,
}

/// What an event is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DhcpEventKind {
    /// An OFFER leaves.
    Offered,
    /// A client gets a lease.
    Leased,
    /// A client gets a lease, and another machine with the same hardware address had one before.
    Twin,
    /// A client extends its lease.
    Renewed,
    /// A client gets parameters for an address that it did not get from this server.
    Parameters,
    /// A client gets an offer or a lease, but its firmware needs a boot file and there is none; the
    /// clause says why.
    NoLoader(String),
    /// A NAK leaves.
    Refused,
    /// No reply leaves.
    Silent(DhcpSilence),
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
