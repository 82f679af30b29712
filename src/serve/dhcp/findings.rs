//! What is known of other DHCP servers on served subnets, in the same words for the log, the
//! command and the admin socket.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::dhcp::subnet::{HoldReason, OtherServer};
use crate::model::network::Ipv4Network;

/// What is known of the segments of served subnets: written by this thread, read by control. Never
/// on a packet's path.
#[derive(Debug, Default)]
pub struct SegmentFindings {
    known: Mutex<KnownSegments>,
    /// An operator wants what was found forgotten.
    pub(super) again: AtomicBool,
    /// The configuration was read again: who is silent looks at once.
    pub(super) now: AtomicBool,
}

/// All that this thread knows.
#[derive(Clone, Debug, Default)]
pub struct KnownSegments {
    pub segments: Vec<SegmentFinding>,
    /// Interfaces that DHCP listens on now, with the port.
    pub sockets: Vec<String>,
}

/// One served subnet on an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentFinding {
    pub network: Ipv4Network,
    pub interface: String,
    /// Why nothing leaves now; None = served.
    pub held: Option<HoldReason>,
    /// The interface is there, but not in the subnet: in words, with the place of the subnet in the
    /// configuration.
    pub misplaced: Option<String>,
    /// Who has answered the last look, served beside or not.
    pub others: Vec<OtherServer>,
    /// Served beside other servers (`allow-other-servers`).
    pub(super) beside: bool,
    /// When another server last answered, when the last look began, and when the next one does;
    /// None for the last: now.
    pub answered: Option<Instant>,
    pub looked: Option<Instant>,
    pub next_look: Option<Instant>,
}

impl SegmentFinding {
    /// What is known, in the same words for the log, for `ringboot look` and for the admin socket.
    /// `since` is how old it is, as a clause: it is empty for what has just been found.
    pub fn sentence(&self, since: &str) -> String {
        let Self { network, interface, .. } = self;
        match (self.held, self.others.first()) {
            (Some(HoldReason::NoInterface), _) => {
                let waiting = || {
                    format!(
                        "{interface} is not there, or has no address in {network}: it is waited for"
                    )
                };
                self.misplaced.clone().unwrap_or_else(waiting)
            }
            (Some(HoldReason::Looking), _) => {
                format!(
                    "other DHCP servers are looked for on {interface}: {network} offers no address \
                     yet"
                )
            }
            (Some(HoldReason::OtherServer(server)), _) => format!(
                "{server} answered on {interface}{since}: ringboot is silent on {network}, but for \
                 those who have their lease from it. Stop that server (`ringboot look --again` \
                 then asks at once), or serve beside it with `allow-other-servers = true`"
            ),
            (None, Some(server)) if self.beside => {
                format!(
                    "{server} answered on {interface}{since}; {network} is served beside it \
                     (allow-other-servers)"
                )
            }
            (None, Some(server)) => {
                format!("{server} has answered on {interface}{since}, where {network} is served")
            }
            (None, None) => {
                format!("no other DHCP server answers on {interface}{since}: {network} is served")
            }
        }
    }
}

impl SegmentFindings {
    pub fn read(&self) -> KnownSegments {
        self.lock().clone()
    }

    /// What was found is forgotten within a second, and looked for again.
    pub fn look_again(&self) {
        self.again.store(true, Ordering::Relaxed);
    }

    /// What was found is still to be forgotten.
    pub fn is_to_look_again(&self) -> bool {
        self.again.load(Ordering::Acquire)
    }

    /// Subnets that are silent beside another server are looked at within a second as at the first
    /// start, the others while they are served.
    pub fn look_now(&self) {
        self.now.store(true, Ordering::Relaxed);
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, KnownSegments> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
