//! Control's way to the DHCP core: listings, dry runs, freed addresses, and the next configuration.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::Duration;

use super::letters::{ConfigProposal, DhcpLetter, DryRun, ProposalFate, WITHDRAWN};
use crate::dhcp::layout::PoolLayout;
use crate::dhcp::lease::ClockSeconds;
use crate::dhcp::listing::{DeclineLimit, LeaseFilter, ListedAddress};
use crate::engine::mailbox::MailboxSender;
use crate::model::machine::Mac;
use crate::model::network::Ipv4Network;
use crate::snapshot::PublishedGeneration;

/// How long control waits for an answer of the core.
const ANSWERED_MAX: Duration = Duration::from_secs(5);
/// How long control waits for a new generation to be taken; then it withdraws it. Less than what a
/// command waits for the answer.
const RECONFIGURED_MAX: Duration = Duration::from_secs(20);
/// Addresses that are freed in one turn of the core.
pub(super) const FREED_AT_ONCE: usize = 256;

/// Why a new configuration was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotTaken {
    #[error(
        "the DHCP core did not take the new configuration within {waited_s} s: it is withdrawn"
    )]
    Late { waited_s: u64 },
    #[error("the DHCP core has ended")]
    CoreEnded,
}

/// The table of leases, or what was asked for of it.
#[derive(Debug, Default)]
pub struct LeaseListing {
    pub listed: Vec<ListedAddress>,
    pub limited: Vec<DeclineLimit>,
    /// By the clock of the leases.
    pub now: ClockSeconds,
}

/// Control's way to the core.
#[derive(Clone, Debug)]
pub struct DhcpControl(MailboxSender<DhcpLetter>);

impl DhcpControl {
    pub(super) fn new(core: MailboxSender<DhcpLetter>) -> Self {
        Self(core)
    }

    /// A dry run of a client's message, as if it had come in on that subnet. None: the core did not
    /// answer.
    pub fn try_out(&self, packet: Vec<u8>, network: Ipv4Network) -> Option<DryRun> {
        let (done, is_done) = sync_channel(1);
        self.0.send(DhcpLetter::Tried { packet, network, done });
        is_done.recv_timeout(ANSWERED_MAX).ok()
    }

    /// The addresses that the filter takes, and who is limited: piece by piece, so that nobody
    /// waits meanwhile. None: the core did not answer.
    pub fn list(&self, filter: LeaseFilter) -> Option<LeaseListing> {
        let mut listing = LeaseListing::default();
        let mut from = Some(0);
        while let Some(at) = from {
            let (done, is_done) = sync_channel(1);
            self.0.send(DhcpLetter::Listed { from: at, filter, done });
            let piece = is_done.recv_timeout(ANSWERED_MAX).ok()?;
            listing.listed.extend(piece.listed);
            (listing.limited, listing.now, from) = (piece.limited, piece.now, piece.next);
        }
        Some(listing)
    }

    /// Forgets what is known of these addresses, durably; those of machines that have them now with
    /// `force` alone. How many were freed; None: the store could not keep it, or the core did not
    /// answer.
    pub fn free(&self, addresses: &[Ipv4Addr], force: bool) -> Option<usize> {
        let mut freed = 0;
        for some in addresses.chunks(FREED_AT_ONCE) {
            let (done, is_done) = sync_channel(1);
            self.0.send(DhcpLetter::Freed { addresses: some.to_vec(), force, done });
            freed += is_done.recv_timeout(ANSWERED_MAX).ok()??;
        }
        Some(freed)
    }

    /// What this machine declined counts no more; None: nobody's.
    pub fn pardon(&self, mac: Option<Mac>) {
        self.0.send(DhcpLetter::Pardoned { mac });
    }

    /// Hands the next generation over and waits until the core has published it. On an error the
    /// core never will.
    pub fn reconfigure(&self, next: Arc<PublishedGeneration>) -> Result<(), NotTaken> {
        self.reconfigure_within(next, RECONFIGURED_MAX)
    }

    pub(super) fn reconfigure_within(
        &self,
        next: Arc<PublishedGeneration>,
        limit: Duration,
    ) -> Result<(), NotTaken> {
        let (done, is_done) = sync_channel(1);
        let fate = Arc::new(ProposalFate::default());
        let layout = PoolLayout::new(&next.snapshot.dhcp.subnets);
        self.0.send(DhcpLetter::Reconfigured(Box::new(ConfigProposal {
            next,
            layout,
            fate: Arc::clone(&fate),
            done,
        })));
        let taken = match is_done.recv_timeout(limit) {
            Err(RecvTimeoutError::Timeout) if fate.settle(WITHDRAWN) => {
                let waited = limit.as_secs();
                return Err(NotTaken::Late { waited_s: waited });
            }
            // The core was first, and publishes it now.
            Err(RecvTimeoutError::Timeout) => is_done.recv().ok(),
            taken => taken.ok(),
        };
        // The pools of before are freed here, not on the core's thread.
        taken.map(drop).ok_or(NotTaken::CoreEnded)
    }
}
