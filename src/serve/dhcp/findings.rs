//! What is known of other DHCP servers on served subnets, with one sentence for the log, the
//! command and the admin socket.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::dhcp::subnet::{HoldReason, OtherServer};
use crate::model::network::Ipv4Network;

/// What is known of the segments of served subnets. The thread that looks for other servers writes
/// it, control reads it; the data path never touches it.
#[derive(Debug, Default)]
pub struct SegmentFindings {
    known: Mutex<KnownSegments>,
    /// An operator asked to forget the findings and to look again.
    pub(super) again: AtomicBool,
    /// The configuration was read again: subnets that are silent are looked at at once.
    pub(super) now: AtomicBool,
}

/// Everything that the thread that looks for other servers knows.
#[derive(Clone, Debug, Default)]
pub struct KnownSegments {
    /// One entry for each subnet that is served by broadcast on an interface.
    pub segments: Vec<SegmentFinding>,
    /// Interfaces that DHCP listens on now, as `interface:port`.
    pub sockets: Vec<String>,
}

/// One served subnet on an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentFinding {
    /// The subnet, as the configuration names it.
    pub network: Ipv4Network,
    /// The interface that the configuration gives to the subnet.
    pub interface: String,
    /// Why ringboot is silent on the subnet now; None: it answers.
    pub held: Option<HoldReason>,
    /// Where the interface exists, but has no address in the subnet: a sentence that names the
    /// line of the configuration.
    pub misplaced: Option<String>,
    /// The servers that answered the last look, whether ringboot serves beside them or not.
    pub others: Vec<OtherServer>,
    /// Served beside other servers (`allow-other-servers`).
    pub(super) beside: bool,
    /// When another server last answered.
    pub answered: Option<Instant>,
    /// When the last look began.
    pub looked: Option<Instant>,
    /// When the next look begins; None: now.
    pub next_look: Option<Instant>,
}

impl SegmentFinding {
    /// The finding in one sentence, the same in the log, in `ringboot look` and on the admin
    /// socket. `since` says how old it is, as a clause; it is empty for a fresh finding.
    pub fn sentence(&self, since: &str) -> String {
        let Self { network, interface, .. } = self;
        // The reason to be silent decides: while a look runs, `others` may still name the servers
        // of the look before.
        match (self.held, self.others.first()) {
            (Some(HoldReason::NoInterface), _) => self.misplaced.clone().unwrap_or_else(|| {
                format!(
                    "{interface} is not there, or has no address in {network}: DHCP waits for it"
                )
            }),
            (Some(HoldReason::Looking), _) => {
                format!(
                    "looking for other DHCP servers on {interface}: no address of {network} is \
                     offered yet"
                )
            }
            (Some(HoldReason::OtherServer(server)), _) => format!(
                "{server} answered on {interface}{since}: ringboot is silent on {network}, except \
                 to clients that lease from ringboot. Stop that server (`ringboot look --again` \
                 then asks at once), or serve beside it with `allow-other-servers = true`"
            ),
            (None, Some(server)) if self.beside => {
                format!(
                    "{server} answered on {interface}{since}; {network} is served beside it \
                     (allow-other-servers)"
                )
            }
            // The server goes on after one answer (`LookVerdict::Doubt`), and beside a ringboot
            // that yields.
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
    /// A copy of everything that is known now.
    pub fn read(&self) -> KnownSegments {
        self.lock().clone()
    }

    /// Has the thread forget its findings within a second, and look again.
    pub fn look_again(&self) {
        self.again.store(true, Ordering::Relaxed);
    }

    /// Whether the thread has yet to carry out [`SegmentFindings::look_again`].
    pub fn is_to_look_again(&self) -> bool {
        self.again.load(Ordering::Acquire)
    }

    /// Has the thread look on every segment within a second. Subnets that are silent beside another
    /// server are looked at as at the first start, the others while they are served.
    pub fn look_now(&self) {
        self.now.store(true, Ordering::Relaxed);
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, KnownSegments> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
