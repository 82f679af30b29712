//! The DHCP core as the lease store's writer sees it: it receives the outcome of commits, and
//! returns the leases in memory to a store that has lost them.

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

/// How often the log reports a store that stays broken.
const BROKEN_TOLD_EVERY: Duration = Duration::from_secs(60);

/// How long the store's writer waits for an answer of the core.
const RECALLED_MAX: Duration = Duration::from_secs(5);

/// The writer's way to the leases in memory: it reads them for a store that has lost them, and
/// loads them from a store that could not be read before.
#[derive(Debug)]
struct CoreMemory(MailboxSender<DhcpLetter>);

impl CoreMemory {
    /// Every lease that the store should hold, and the machines that booted from the network. The
    /// core copies a few thousand at a time and answers clients in between. None: the core does not
    /// answer.
    fn recall(&self) -> Option<(Vec<Lease>, BootTimes)> {
        let (mut leases, mut from) = (Vec::new(), Some(0));
        while let Some(at) = from {
            let (some, next) = self.ask_core(|done| DhcpLetter::Recalled { from: at, done })?;
            leases.extend(some);
            from = next;
        }
        Some((leases, self.ask_core(|done| DhcpLetter::Booted { done })?))
    }

    /// Hands the core the leases of an earlier run that could not be read at the start.
    fn load(&self, leases: Vec<Lease>, machines: BootTimes) {
        self.0.send(DhcpLetter::Loaded { leases, machines });
    }

    fn ask_core<T>(&self, letter: impl FnOnce(SyncSender<T>) -> DhcpLetter) -> Option<T> {
        let (done, is_done) = sync_channel(1);
        self.0.send(letter(done));
        is_done.recv_timeout(RECALLED_MAX).ok()
    }
}

/// The DHCP core as the store's writer sees it.
pub(super) struct StoreOwner {
    core: MailboxSender<DhcpLetter>,
    memory: CoreMemory,
    health: Arc<StoreHealth>,
    database: PathBuf,
    /// When the log last reported that the store is broken.
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

    /// Notes that the store has failed, and logs it when that is news or a minute has passed.
    fn report_broken(&mut self, error: &StoreError) {
        let was = self.health.trust();
        // As long as the leases of an earlier run are unknown, no client may be answered.
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
                self.report_broken(error);
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
            // Either the core has yet to load the leases, or the store was sound all the time.
            Ok(None) if self.health.trust() != LeaseTrust::Broken => {}
            Ok(None) => {
                self.health.set(LeaseTrust::Sound, "");
                self.told = None;
                tracing::warn!("the lease store is sound again: leases are given");
            }
            Err(error) => self.report_broken(&error),
        }
    }

    fn recall(&mut self) -> Option<RememberedState> {
        self.memory.recall().map(|(leases, machines)| RememberedState { leases, machines })
    }
}
