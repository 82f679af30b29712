//! How the control thread reaches the DHCP core: listings, dry runs, freed addresses, and the next
//! configuration.

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

/// How long control waits for the core's answer.
const ANSWERED_MAX: Duration = Duration::from_secs(5);
/// How long control waits until the core takes a new generation; then control withdraws it. It is
/// less than a command waits for the admin socket's answer.
const RECONFIGURED_MAX: Duration = Duration::from_secs(20);
/// Addresses that the core frees in one turn.
pub(super) const FREED_AT_ONCE: usize = 256;

/// Why the core did not take a new configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotTaken {
    /// The core did not answer in time, and will never publish this generation.
    #[error(
        "the DHCP core did not take the new configuration within {waited_s} s: it is withdrawn"
    )]
    Late {
        /// How long control waited, in seconds.
        waited_s: u64,
    },
    /// The core's thread is gone: the server is stopping, or the core has failed.
    #[error("the DHCP core has ended")]
    CoreEnded,
}

/// The rows of the lease table that a filter selects.
#[derive(Debug, Default)]
pub struct LeaseListing {
    /// The rows, in the order of the table.
    pub listed: Vec<ListedAddress>,
    /// Machines that get no address for now because they declined too many.
    pub limited: Vec<DeclineLimit>,
    /// When the core listed them, by the clock of the leases.
    pub now: ClockSeconds,
}

/// The control thread's way to the core.
#[derive(Clone, Debug)]
pub struct DhcpControl(MailboxSender<DhcpLetter>);

impl DhcpControl {
    pub(super) fn new(core: MailboxSender<DhcpLetter>) -> Self {
        Self(core)
    }

    /// Decides on a client's message as if it had come in on that subnet, and sends nothing. None:
    /// the core did not answer.
    pub fn try_out(&self, packet: Vec<u8>, network: Ipv4Network) -> Option<DryRun> {
        let (done, is_done) = sync_channel(1);
        self.0.send(DhcpLetter::Tried { packet, network, done });
        is_done.recv_timeout(ANSWERED_MAX).ok()
    }

    /// The addresses that the filter selects, and the machines that are limited. The core lists
    /// them piece by piece, so that clients do not wait meanwhile. None: the core did not answer.
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

    /// Durably forgets what is known of these addresses; an address with a running lease only with
    /// `force`. Returns how many were freed; None: the store could not keep it, or the core did
    /// not answer.
    pub fn free(&self, addresses: &[Ipv4Addr], force: bool) -> Option<usize> {
        let mut freed = 0;
        for some in addresses.chunks(FREED_AT_ONCE) {
            let (done, is_done) = sync_channel(1);
            self.0.send(DhcpLetter::Freed { addresses: some.to_vec(), force, done });
            freed += is_done.recv_timeout(ANSWERED_MAX).ok()??;
        }
        Some(freed)
    }

    /// Forgets the DECLINEs of this machine; None: of every machine.
    pub fn pardon(&self, mac: Option<Mac>) {
        self.0.send(DhcpLetter::Pardoned { mac });
    }

    /// Hands the next generation to the core and waits until the core has published it. After an
    /// error the core never publishes it.
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
            Err(RecvTimeoutError::Timeout) if fate.claim(WITHDRAWN) => {
                let waited = limit.as_secs();
                return Err(NotTaken::Late { waited_s: waited });
            }
            // The core took the proposal before control could withdraw it, and publishes it now.
            Err(RecvTimeoutError::Timeout) => is_done.recv().ok(),
            taken => taken.ok(),
        };
        // Dropping the old pools takes long: control does it, not the core.
        taken.map(drop).ok_or(NotTaken::CoreEnded)
    }
}
