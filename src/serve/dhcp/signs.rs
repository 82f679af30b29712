//! The DHCP core's side of the search for other servers: the signs that the core sends, and the
//! subnets on which it must be silent.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::interfaces::watched_subnets;
use super::letters::{SegmentSign, SegmentStatus};
use super::messages::ReceivedMessage;
use crate::dhcp::decide::{Decision, DhcpSilence};
use crate::dhcp::subnet::{HoldReason, Subnet};
use crate::engine::mailbox::MailboxSender;
use crate::model::network::Ipv4Network;

/// Shortest time between two signs of one kind: a flood of packets must not fill the mailbox of
/// that thread.
const SIGNS_APART: Duration = Duration::from_millis(2);
/// The `secs` field: for how long a client has been asking (RFC 2131 section 2).
const SECS: std::ops::Range<usize> = 8..10;

/// The core's way to the thread that looks for other servers.
#[derive(Debug)]
pub(super) struct SignSender {
    /// None: there is no such thread.
    letters: Option<MailboxSender<SegmentSign>>,
    /// When each kind of sign was sent last.
    sent: [Option<Instant>; 3],
}

impl SignSender {
    pub(super) fn new(letters: Option<MailboxSender<SegmentSign>>) -> Self {
        Self { letters, sent: [None; 3] }
    }

    pub(super) fn has_listener(&self) -> bool {
        self.letters.is_some()
    }

    /// Sends a sign without the limit.
    pub(super) fn send_at_once(&self, sign: SegmentSign) {
        if let Some(letters) = &self.letters {
            letters.send(sign);
        }
    }

    /// Sends a sign, unless one of its kind was sent just now: the client retransmits, and so the
    /// sign comes again.
    pub(super) fn send(&mut self, sign: SegmentSign) {
        let Some(letters) = &self.letters else { return };
        let sent = match sign {
            SegmentSign::OtherServer(_) => &mut self.sent[0],
            SegmentSign::ClientAsks { .. } => &mut self.sent[1],
            SegmentSign::Looked { .. } | SegmentSign::Offers { .. } => &mut self.sent[2],
        };
        if sent.is_none_or(|at| at.elapsed() >= SIGNS_APART) {
            *sent = Some(Instant::now());
            letters.send(sign);
        }
    }
}

/// What an unanswered message shows about other servers.
pub(super) fn sign_of(decision: &Decision, message: &ReceivedMessage) -> Option<SegmentSign> {
    let interface = message.way.interface;
    match decision.silence {
        Some(DhcpSilence::OtherServer(_)) => Some(SegmentSign::OtherServer(interface)),
        Some(DhcpSilence::Held(_, HoldReason::Looking)) => {
            let secs = message.bytes.get(SECS)?.try_into().ok()?;
            Some(SegmentSign::ClientAsks { interface, since_s: u16::from_be_bytes(secs) })
        }
        _ => None,
    }
}

/// Subnets on which the core must be silent now: their interface is missing, another server answers
/// there, or the look for one still runs.
#[derive(Debug, Default)]
pub(super) struct SilentSubnets {
    /// The last statuses from the thread that looks for other servers.
    watched: Vec<SegmentStatus>,
    held: Vec<(Ipv4Network, HoldReason)>,
}

impl SilentSubnets {
    pub(super) fn subnets(&self) -> &[(Ipv4Network, HoldReason)] {
        &self.held
    }

    pub(super) fn set_watched(&mut self, watched: Vec<SegmentStatus>) {
        self.watched = watched;
    }

    /// Computes the list again. A subnet without a valid status, at the start or after a reload, is
    /// silent until the look is over.
    pub(super) fn update(&mut self, subnets: &[Subnet], port: u16) {
        let statuses: HashMap<Ipv4Network, &SegmentStatus> =
            self.watched.iter().map(|status| (status.network, status)).collect();
        self.held.clear();
        for (subnet, interface) in watched_subnets(subnets, port) {
            let status =
                statuses.get(&subnet.network).filter(|status| status.applies_to(subnet, interface));
            let held = status.map_or(Some(HoldReason::Looking), |status| status.held);
            self.held.extend(held.map(|reason| (subnet.network, reason)));
        }
        self.held.sort_unstable_by_key(|(network, _)| *network);
    }
}
