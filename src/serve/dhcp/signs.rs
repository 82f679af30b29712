//! What passes between the DHCP core and the thread that looks for other servers: the signs that it
//! gets, and the subnets that it keeps silent.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::interfaces::watched_subnets;
use super::letters::{SegmentSign, SegmentStatus};
use super::messages::ReceivedMessage;
use crate::dhcp::decide::{Decision, DhcpSilence};
use crate::dhcp::subnet::{HoldReason, Subnet};
use crate::engine::mailbox::MailboxSender;
use crate::model::network::Ipv4Network;

/// Between signs of one kind: whoever sends packets must not fill the mailbox of that thread.
const SIGNS_APART: Duration = Duration::from_millis(2);
/// Where a client says in its message for how long it has been asking (RFC 2131 section 2).
const SECS: std::ops::Range<usize> = 8..10;

/// The core's way to the thread that looks for other servers.
#[derive(Debug)]
pub(super) struct SignSender {
    /// None: nobody looks.
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

    /// Sends a sign at once, however many there are.
    pub(super) fn send_at_once(&self, sign: SegmentSign) {
        if let Some(letters) = &self.letters {
            letters.send(sign);
        }
    }

    /// Sends a sign, unless one of its kind was sent just now: what is left out comes once more.
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

/// What a message that is not answered shows of other servers.
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

/// Subnets on which nothing may leave now: their interfaces are waited for, or other servers are.
#[derive(Debug, Default)]
pub(super) struct SilentSubnets {
    /// The last word of the thread that looks for other servers.
    watched: Vec<SegmentStatus>,
    held: Vec<(Ipv4Network, HoldReason)>,
}

impl SilentSubnets {
    pub(super) fn held(&self) -> &[(Ipv4Network, HoldReason)] {
        &self.held
    }

    pub(super) fn take(&mut self, watched: Vec<SegmentStatus>) {
        self.watched = watched;
    }

    /// Finds them anew. A subnet that nobody has looked at yet, at the start or after a reload, is
    /// silent.
    pub(super) fn find(&mut self, subnets: &[Subnet], port: u16) {
        let words: HashMap<Ipv4Network, &SegmentStatus> =
            self.watched.iter().map(|word| (word.network, word)).collect();
        let held = |(subnet, interface): (&Subnet, &String)| {
            let word =
                words.get(&subnet.network).filter(|standing| standing.is_of(subnet, interface));
            Some((
                subnet.network,
                word.map_or(Some(HoldReason::Looking), |standing| standing.held)?,
            ))
        };
        self.held = watched_subnets(subnets, port).filter_map(held).collect();
        self.held.sort_unstable_by_key(|(network, _)| *network);
    }
}
