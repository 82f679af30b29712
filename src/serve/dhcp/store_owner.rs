//! The DHCP core as the thread of the lease store sees it: who is told of commits, and who knows
//! the leases in memory.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::{Duration, Instant};

use super::letters::DhcpLetter;
use crate::dhcp::lease::{BootTimes, Lease};
use crate::engine::clock;
use crate::engine::mailbox::MailboxSender;
use crate::serve::health::{LeaseTrust, StoreHealth};
use crate::store::{
    BatchOutcome, RememberedState, StoreError, StoredRows, WriterOwner, recover_odd_leases,
};

/// How often a store that stays broken is told of.
const BROKEN_TOLD_EVERY: Duration = Duration::from_secs(60);

/// How long the store's writer waits for the core.
const RECALLED_MAX: Duration = Duration::from_secs(5);

/// The writer's way to the leases in memory, for a store that lost them, and for one that found
/// them late.
#[derive(Debug)]
struct CoreMemory(MailboxSender<DhcpLetter>);

impl CoreMemory {
    /// Every lease that the store should have, and the machines that booted from the network. A few
    /// thousand at a time, so that the core goes on in between. None: the core does not answer.
    fn recall(&self) -> Option<(Vec<Lease>, BootTimes)> {
        let (mut leases, mut from) = (Vec::new(), Some(0));
        while let Some(at) = from {
            let (some, next) = self.ask(|done| DhcpLetter::Recalled { from: at, done })?;
            leases.extend(some);
            from = next;
        }
        Some((leases, self.ask(|done| DhcpLetter::Booted { done })?))
    }

    /// What an earlier run has left, which could not be read at the start.
    fn load(&self, leases: Vec<Lease>, machines: BootTimes) {
        self.0.send(DhcpLetter::Loaded { leases, machines });
    }

    fn ask<T>(&self, letter: impl FnOnce(SyncSender<T>) -> DhcpLetter) -> Option<T> {
        let (done, is_done) = sync_channel(1);
        self.0.send(letter(done));
        is_done.recv_timeout(RECALLED_MAX).ok()
    }
}

/// The DHCP core as the store's thread sees it.
pub(super) struct StoreOwner {
    core: MailboxSender<DhcpLetter>,
    memory: CoreMemory,
    health: Arc<StoreHealth>,
    database: PathBuf,
    /// When it was last said that the store is broken.
    told: Option<Instant>,
}

impl StoreOwner {
    pub(super) fn new(
        core: MailboxSender<DhcpLetter>,
        health: Arc<StoreHealth>,
        database: PathBuf,
    ) -> Self {
        Self { memory: CoreMemory(core.clone()), core, health, database, told: None }
    }

    fn broken(&mut self, error: &StoreError) {
        let was = self.health.trust();
        // What an earlier run has promised is still not known.
        let trust = if was == LeaseTrust::Unread { was } else { LeaseTrust::Broken };
        let (what, way_out) = error.told(&self.database);
        let is_news = self.health.set(trust, &what);
        if is_news || self.told.is_none_or(|told| told.elapsed() >= BROKEN_TOLD_EVERY) {
            self.told = Some(Instant::now());
            match trust {
                LeaseTrust::Unread => {
                    tracing::error!("NO DHCP IS ANSWERED, files are: {what}; {way_out}")
                }
                _ => tracing::error!(
                    "THE LEASE STORE IS BROKEN: {what}. No lease is given and none is offered \
                     until it is mended; files are served. It is tried again every second, and \
                     nothing of what memory knows is lost"
                ),
            }
        }
    }
}

impl WriterOwner for StoreOwner {
    fn report(&mut self, outcome: BatchOutcome) {
        self.health.note_finished(outcome.tickets.len());
        match &outcome.result {
            Ok(()) => {}
            Err(error) => {
                self.health.note_failed();
                self.broken(error);
            }
        }
        self.core.send(DhcpLetter::Committed {
            tickets: outcome.tickets,
            durable: outcome.result.is_ok(),
        });
    }

    fn looked(&mut self, found: Result<Option<StoredRows>, StoreError>) {
        match found {
            Ok(Some(rows)) => {
                tracing::warn!(
                    "the lease store can be read: {} leases, DHCP is answered from now on",
                    rows.leases.len()
                );
                // The core knows no lease yet.
                clock::set_clock_ahead(rows.ahead_s);
                let mut leases = rows.leases;
                leases.extend(recover_odd_leases(&rows.odd, clock::now_s()));
                self.memory.load(leases, rows.machines);
            }
            // The core has not taken them in yet, or nothing was wrong.
            Ok(None) if self.health.trust() != LeaseTrust::Broken => {}
            Ok(None) => {
                self.health.set(LeaseTrust::Sound, "");
                self.told = None;
                tracing::warn!("the lease store is sound again: leases are given");
            }
            Err(error) => self.broken(&error),
        }
    }

    fn recall(&mut self) -> Option<RememberedState> {
        self.memory.recall().map(|(leases, machines)| RememberedState { leases, machines })
    }
}
