//! The state that the DHCP core decides from: the leases in memory, and the published generation.
//! The core takes a new generation over piece by piece.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::letters::{ConfigProposal, LeasePiece, TAKEN};
use super::plan::DhcpCounters;
use crate::dhcp::lease::{ClockSeconds, Lease, LeaseRowState, LeaseTable};
use crate::dhcp::listing::LeaseFilter;
use crate::dhcp::pool_use::{PoolCrossing, PoolWatch};
use crate::dhcp::subnet::AnsweringMode;
use crate::dhcp::subnets::SubnetTable;
use crate::engine::clock;
use crate::model::machine::{FirmwareRole, Mac};
use crate::observe::events::{EventKind, EventSender, MachineEvent, MachineStage};
use crate::snapshot::{PublishedGeneration, PublishedState};

/// How much of a turn the core spends on taking over a new configuration.
const MOVE_IN_A_TURN: Duration = Duration::from_millis(1);
/// Rows that the core moves between two looks at the clock.
const MOVE_ROWS: usize = 256;
/// Leases that the core copies for the store's writer in one turn.
const RECALLED_AT_ONCE: usize = 8192;
/// Rows that the core examines for a listing in one turn.
const LISTED_AT_ONCE: usize = 4096;

/// The leases of the core, with the generation whose pools they are in.
pub(super) struct CoreLeases {
    pub(super) leases: LeaseTable,
    published: Arc<PublishedState>,
    /// The generation that the core decides from. This core publishes the next one.
    generation: Arc<PublishedGeneration>,
    /// The next generation, while the core moves leases into its pools.
    moving: Option<Box<ConfigProposal>>,
}

impl CoreLeases {
    pub(super) fn new(leases: LeaseTable, published: Arc<PublishedState>) -> Self {
        let state = Self { leases, generation: published.get(), published, moving: None };
        state.fill_bindings();
        state
    }

    pub(super) fn generation(&self) -> &PublishedGeneration {
        &self.generation
    }

    pub(super) fn subnets(&self) -> &SubnetTable {
        &self.generation.snapshot.dhcp.subnets
    }

    pub(super) fn is_moving(&self) -> bool {
        self.moving.is_some()
    }

    /// Writes the binding of an address for the boot cores, in this generation and in the next one.
    pub(super) fn write_binding(&self, address: Ipv4Addr) {
        let binding = self.leases.binding(address);
        self.generation.bindings.write(address, binding);
        if let Some(proposal) = &self.moving {
            proposal.next.bindings.write(address, binding);
        }
    }

    pub(super) fn fill_bindings(&self) {
        for lease in self.leases.iter() {
            self.generation.bindings.write(lease.address, self.leases.binding(lease.address));
        }
    }

    /// Begins to take over a new configuration.
    pub(super) fn begin_takeover(&mut self, mut proposal: Box<ConfigProposal>) {
        self.leases.begin_takeover(std::mem::take(&mut proposal.layout));
        self.moving = Some(proposal);
    }

    #[cfg(test)]
    pub(super) fn resume_move(&mut self, proposal: ConfigProposal) {
        self.moving = Some(Box::new(proposal));
    }

    /// Takes over a bounded piece of a new configuration: first the leases into its pools and
    /// binding slots, at the end the generation itself. So boot cores never see an empty slot of a
    /// leased address. Returns whether the new generation is published now.
    pub(super) fn continue_takeover(&mut self) -> bool {
        let Some(proposal) = self.moving.take() else { return false };
        if proposal.fate.is_withdrawn() {
            let _ = proposal.done.try_send(self.leases.drop_move());
            return false;
        }

        let until = Instant::now() + MOVE_IN_A_TURN;
        let slots = &proposal.next.bindings;
        loop {
            let has_moved_all = self.leases.move_rows(MOVE_ROWS, |leases, address| {
                let _ = slots.write(address, leases.binding(address));
            });
            if has_moved_all {
                break;
            }
            if Instant::now() >= until {
                self.moving = Some(proposal);
                return false;
            }
        }

        // From here on control can no longer withdraw the proposal.
        if !proposal.fate.claim(TAKEN) {
            let _ = proposal.done.try_send(self.leases.drop_move());
            return false;
        }
        let before = self.leases.finish_move();
        self.generation = Arc::clone(&proposal.next);
        self.published.publish(Arc::clone(&proposal.next));
        let _ = proposal.done.try_send(before);
        true
    }

    /// A piece of the table for control, beginning at row `from`.
    pub(super) fn list_piece(&self, from: usize, filter: LeaseFilter) -> LeasePiece {
        let now = clock::now_s();
        let (listed, next) = self.leases.list_piece(from, LISTED_AT_ONCE, now);
        let listed = listed.filter(|listed| filter.matches(listed)).collect();
        // Limited machines come with the last piece.
        let limited = if next.is_none() { self.leases.decline_limits(now) } else { Vec::new() };
        LeasePiece { listed, limited, now, next }
    }

    /// A piece of the leases that the store should hold, and the row where the next piece begins.
    pub(super) fn recall_piece(&self, from: usize) -> (Vec<Lease>, Option<usize>) {
        let (leases, next) = self.leases.lease_piece(from, RECALLED_AT_ONCE);
        let kept = leases.filter(|lease| lease.state != LeaseRowState::Offered).cloned().collect();
        (kept, next)
    }

    /// Whether a machine is booting by iPXE: it holds a lease that its iPXE asked for.
    pub(super) fn is_booting_ipxe(&self, mac: Mac) -> bool {
        let now = clock::now_s();
        self.leases.leases_of(mac).any(|lease| {
            let is_ipxe =
                lease.firmware.is_some_and(|firmware| firmware.role == FirmwareRole::Ipxe);
            is_ipxe && lease.state == LeaseRowState::Bound && lease.end_s > now
        })
    }

    pub(super) fn show_counts(&self, counters: &DhcpCounters) {
        let counts = self.leases.counts();
        counters.leases.set(self.leases.len() as u64);
        counters.bound.set(counts.bound as u64);
        counters.offered.set(counts.offered as u64);
        counters.ended.set(counts.ended as u64);
        counters.kept_back.set(counts.kept_back as u64);
    }
}

/// Watches how full the pools are.
#[derive(Debug, Default)]
pub(super) struct PoolLooks {
    watch: PoolWatch,
    /// When the pools were looked at last.
    looked_s: ClockSeconds,
}

impl PoolLooks {
    /// Looks at the pools at most once a second, because the cost grows with the subnets.
    pub(super) fn check(
        &mut self,
        state: &CoreLeases,
        counters: &DhcpCounters,
        events: &EventSender,
        now: ClockSeconds,
    ) {
        if std::mem::replace(&mut self.looked_s, now) == now {
            return;
        }

        // A subnet that is off gives no address, so its pools need no watch. The watch names a
        // crossing once, however often it sees the pool behind it.
        let served = state.subnets().iter().filter(|subnet| subnet.mode == AnsweringMode::Server);
        let pools = served.map(|subnet| (subnet.network, state.leases.pool_use(subnet.network)));
        let (reports, said) = self.watch.update(pools, now);
        if **counters.pools.load() != reports {
            counters.pools.store(Arc::new(reports));
        }
        for (network, used, crossing) in said {
            let kind = if crossing == PoolCrossing::RoomAgain {
                EventKind::PoolHasRoom
            } else {
                EventKind::PoolFills
            };
            let text = crossing.sentence(network, &used);
            events.push(MachineEvent::new(None, None, MachineStage::Dhcp, kind, text));
        }
    }
}
