//! The writer thread: takes work from a queue, commits in groups, and reports each ticket only
//! after its sync.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::{LeaseStore, RememberedState, StoreError, StoredRows};
use crate::dhcp::lease::LeaseChange;
use crate::engine::privileges;
use crate::observe::threads::{self, WatchedThread};

/// The caller's number for one piece of work.
pub type WorkTicket = u64;

/// Work that may wait for the writer. Beyond it the disk is hopelessly behind: the core drops the
/// request, and the client retransmits it.
pub const QUEUED_MAX: usize = 65_536;

/// Most changes in one transaction: about 3 ms of SQLite, so that the first ACK of a storm does not
/// wait for the last.
pub const BATCH_CHANGES_MAX: usize = 1024;

/// The least time from the begin of one commit to that of the next, for each piece of work in the
/// first: each commit costs as much as a dozen rows. Below 11,000 pieces a second, little waits for
/// it: a commit lasts longer.
const PIECES_APART: Duration = Duration::from_micros(90);

/// The most that a commit waits for that.
const COMMITS_APART_MAX: Duration = Duration::from_millis(1);

/// How often the writer checks the store, idle or busy.
const LOOKED_EVERY: Duration = Duration::from_secs(1);

/// The result of one batch.
#[derive(Debug)]
pub struct BatchOutcome {
    /// The tickets in the order of their submission.
    pub tickets: Vec<WorkTicket>,
    /// An error: nothing of the batch is durable, and no ACK may leave.
    pub result: Result<(), StoreError>,
}

/// Why work was not queued. The caller treats it as failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotQueued {
    /// The queue is full, because the disk is too slow.
    #[error("the lease store is {QUEUED_MAX} changes behind")]
    Full,
    /// The writer's thread is gone.
    #[error("the thread of the lease store has ended")]
    Gone,
}

/// The DHCP core's end of the writer.
#[derive(Debug)]
pub struct StoreWriter {
    queue: SyncSender<QueuedWork>,
    thread: JoinHandle<()>,
}

#[derive(Debug)]
struct QueuedWork {
    ticket: WorkTicket,
    changes: Vec<LeaseChange>,
}

/// The owner of the leases in memory, as the writer sees it. The writer's thread calls it.
pub trait WriterOwner: Send + 'static {
    /// Receives the result of each batch, after it is synced or has failed.
    fn report(&mut self, outcome: BatchOutcome);

    /// Receives the result of each check, with rows that could not be read before.
    fn looked(&mut self, found: Result<Option<StoredRows>, StoreError>);

    /// Returns everything that memory knows; None: the DHCP core does not answer.
    fn recall(&mut self) -> Option<RememberedState>;
}

impl StoreWriter {
    /// Starts the thread.
    pub fn start(store: Box<dyn LeaseStore>, owner: impl WriterOwner) -> io::Result<Self> {
        let (queue, work) = sync_channel(QUEUED_MAX);
        let thread = std::thread::Builder::new().name("rb-store".into()).spawn(move || {
            let thread = threads::watch_thread("rb-store");
            privileges::give_up_capabilities();
            run_store_writer(store, &work, owner, &thread);
        })?;
        Ok(Self { queue, thread })
    }

    /// Queues the changes of one decision without waiting.
    pub fn submit(&self, ticket: WorkTicket, changes: Vec<LeaseChange>) -> Result<(), NotQueued> {
        self.queue.try_send(QueuedWork { ticket, changes }).map_err(|error| match error {
            TrySendError::Full(_) => NotQueued::Full,
            TrySendError::Disconnected(_) => NotQueued::Gone,
        })
    }

    /// Commits and reports what is queued, then ends the thread.
    pub fn close(self) {
        drop(self.queue);
        // If the thread has panicked, it has logged that, and there is nothing left to save.
        let _ = self.thread.join();
    }
}

fn run_store_writer(
    mut store: Box<dyn LeaseStore>,
    work: &Receiver<QueuedWork>,
    mut owner: impl WriterOwner,
    thread: &WatchedThread,
) {
    let mut next_look = Instant::now() + LOOKED_EVERY;
    let mut has_failed = false;
    // When the next commit may begin. The next batch is everything that arrived since the last one
    // began. A lone lease does not wait: only a commit of several keeps the next one off.
    let mut next_commit = Instant::now();
    loop {
        let first = match work.recv_timeout(next_look.saturating_duration_since(Instant::now())) {
            Ok(first) => Some(first),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => return,
        };
        let _busy = thread.busy();
        if let Some(first) = first {
            std::thread::sleep(next_commit.saturating_duration_since(Instant::now()));
            let begun = Instant::now();
            let (mut tickets, mut changes) = (vec![first.ticket], first.changes);
            while changes.len() < BATCH_CHANGES_MAX {
                let Ok(next) = work.try_recv() else { break };
                tickets.push(next.ticket);
                changes.extend(next.changes);
            }
            let result = guard_store_work(thread, || store.commit(&changes));
            // After the first failure of a series, check the store at once.
            if !std::mem::replace(&mut has_failed, result.is_err()) && result.is_err() {
                next_look = Instant::now();
            }
            next_commit = begun + find_commit_distance(tickets.len());
            owner.report(BatchOutcome { tickets, result });
        }
        if Instant::now() >= next_look {
            let found = guard_store_work(thread, || store.look(&mut || owner.recall()));
            owner.looked(found);
            next_look = Instant::now() + LOOKED_EVERY;
        }
    }
}

/// How long after the begin of a commit of so many pieces of work the next one begins.
fn find_commit_distance(pieces: usize) -> Duration {
    let pieces = if pieces > 1 { u32::try_from(pieces).unwrap_or(u32::MAX) } else { 0 };
    PIECES_APART.saturating_mul(pieces).min(COMMITS_APART_MAX)
}

/// Turns a panic of the store into an error, like that of a full disk.
fn guard_store_work<T>(
    thread: &WatchedThread,
    work: impl FnOnce() -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| {
        thread.note_panic();
        Err(StoreError::Fault)
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::cast_possible_truncation)]
    use std::net::Ipv4Addr;
    use std::sync::mpsc::{Sender, TryRecvError, channel};

    use super::*;
    use crate::dhcp::lease::Lease;
    use crate::model::machine::Mac;

    /// A store whose sync ends when the test says so, and as it says.
    struct HeldBack {
        entered: Sender<usize>,
        go_on: Receiver<bool>,
    }

    impl LeaseStore for HeldBack {
        fn load(&mut self) -> Result<Vec<Lease>, StoreError> {
            Ok(Vec::new())
        }
        fn commit(&mut self, changes: &[LeaseChange]) -> Result<(), StoreError> {
            // Both ends are gone when a test has seen enough.
            let _ = self.entered.send(changes.len());
            if self.go_on.recv().unwrap_or(false) {
                Ok(())
            } else {
                Err(StoreError::Other("disk full".into()))
            }
        }
    }

    struct Told(Sender<BatchOutcome>);

    impl WriterOwner for Told {
        fn report(&mut self, outcome: BatchOutcome) {
            drop(self.0.send(outcome));
        }
        fn looked(&mut self, _: Result<Option<StoredRows>, StoreError>) {}
        fn recall(&mut self) -> Option<RememberedState> {
            None
        }
    }

    struct Bench {
        writer: StoreWriter,
        entered: Receiver<usize>,
        go_on: Sender<bool>,
        reports: Receiver<BatchOutcome>,
    }

    fn bench() -> Bench {
        let ((in_commit, entered), (go_on, gate), (reporter, reports)) =
            (channel(), channel(), channel());
        let store = HeldBack { entered: in_commit, go_on: gate };
        let writer = StoreWriter::start(Box::new(store), Told(reporter)).unwrap();
        Bench { writer, entered, go_on, reports }
    }

    fn change() -> Vec<LeaseChange> {
        vec![LeaseChange::Release { address: Ipv4Addr::LOCALHOST, mac: Mac([2; 6]), end_s: 1 }]
    }

    #[test]
    fn a_commit_of_one_lease_delays_none_and_one_of_many_a_millisecond_at_most() {
        let distances = [0, 1, 2, 11, 12, 1024, usize::MAX].map(find_commit_distance);
        assert_eq!(
            distances.map(|distance| distance.as_micros()),
            [0, 0, 180, 990, 1000, 1000, 1000]
        );
    }

    #[test]
    fn no_ticket_is_reported_before_its_sync() {
        let bench = bench();
        bench.writer.submit(7, change()).unwrap();
        assert_eq!(bench.entered.recv().unwrap(), 1);
        assert_eq!(bench.reports.try_recv().map(|_| ()).unwrap_err(), TryRecvError::Empty);
        bench.go_on.send(true).unwrap();
        let outcome = bench.reports.recv().unwrap();
        assert!(outcome.result.is_ok());
        assert_eq!(outcome.tickets, [7]);
    }

    #[test]
    fn what_comes_in_during_a_sync_shares_the_next_one() {
        let bench = bench();
        bench.writer.submit(0, change()).unwrap();
        assert_eq!(bench.entered.recv().unwrap(), 1);
        (1..=500).for_each(|ticket| bench.writer.submit(ticket, change()).unwrap());
        bench.go_on.send(true).unwrap();
        assert_eq!(bench.entered.recv().unwrap(), 500, "one commit for all");
        bench.go_on.send(true).unwrap();
        assert_eq!(bench.reports.recv().unwrap().tickets, [0]);
        assert_eq!(bench.reports.recv().unwrap().tickets, (1..=500).collect::<Vec<_>>());
    }

    #[test]
    fn a_batch_is_bounded() {
        let bench = bench();
        bench.writer.submit(0, change()).unwrap();
        assert_eq!(bench.entered.recv().unwrap(), 1);
        (0..BATCH_CHANGES_MAX as u64 + 10)
            .for_each(|ticket| bench.writer.submit(ticket, change()).unwrap());
        bench.go_on.send(true).unwrap();
        assert_eq!(bench.entered.recv().unwrap(), BATCH_CHANGES_MAX);
        bench.go_on.send(true).unwrap();
        assert_eq!(bench.entered.recv().unwrap(), 10);
    }

    #[test]
    fn a_failed_commit_fails_its_tickets_and_the_next_is_tried() {
        let bench = bench();
        bench.writer.submit(1, change()).unwrap();
        bench.go_on.send(false).unwrap();
        let failed = bench.reports.recv().unwrap();
        assert_eq!(failed.tickets, [1]);
        assert_eq!(failed.result.unwrap_err().to_string(), "disk full");
        bench.writer.submit(2, change()).unwrap();
        bench.go_on.send(true).unwrap();
        assert!(bench.reports.recv().unwrap().result.is_ok());
    }

    #[test]
    fn closing_commits_what_is_queued() {
        let bench = bench();
        (0..3).for_each(|ticket| bench.writer.submit(ticket, change()).unwrap());
        (0..3).for_each(|_| bench.go_on.send(true).unwrap());
        bench.writer.close();
        let reported: Vec<WorkTicket> =
            bench.reports.iter().flat_map(|outcome| outcome.tickets).collect();
        assert_eq!(reported, [0, 1, 2]);
    }

    #[test]
    fn a_full_queue_refuses_and_never_waits() {
        let bench = bench();
        bench.writer.submit(0, Vec::new()).unwrap();
        bench.entered.recv().unwrap();
        (0..QUEUED_MAX as u64).for_each(|ticket| bench.writer.submit(ticket, Vec::new()).unwrap());
        assert_eq!(bench.writer.submit(1, Vec::new()), Err(NotQueued::Full));
    }
}
