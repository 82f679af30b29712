//! A few threads that may wait for a disk, so that no core ever waits.
//!
//! Lookups, slow work, and pieces of images have separate threads: a machine that requests its menu
//! waits neither behind reads of images nor behind templates and listings. Within each kind sources
//! take turns, and a part of the tree that does not answer (a dead file server) blocks few threads
//! and no other part.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::limits::{
    DEAD_WAIT, JOBS_OF_ONE_MAX, LOOK_STUCK, MAKE_STUCK, MAKERS_NICE, QUESTIONS_QUEUED_MAX,
    STUCK_IN_ONE_PLACE, THREADS_MAX, WORKERS,
};
use ringboot_observe::threads::{self, WatchedThread};

type WorkerJob = Box<dyn FnOnce() + Send>;

/// Every worker is busy and the queue is full, or the file is in a part of the tree that does not
/// answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WorkersBusy;

/// The source of a job, and the part of the tree that the job needs.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct JobAsker {
    /// A host owns all addresses of its IPv6 network (/64).
    source: IpAddr,
    /// The first component of the path: file servers are mounted there or below.
    place: Box<[u8]>,
}

impl JobAsker {
    /// `path` is relative to the root.
    pub fn new(source: IpAddr, path: &[u8]) -> Self {
        let source = match source.to_canonical() {
            IpAddr::V6(v6) => Ipv6Addr::from(u128::from(v6) >> 64 << 64).into(),
            v4 => v4,
        };
        let place = path.split(|&byte| byte == b'/').next().unwrap_or_default().into();
        Self { source, place }
    }
}

/// How soon a piece of an image is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PieceUrgency {
    /// A loader, a small file: its client gives up within seconds.
    Soon,
    /// A piece of a large file.
    InTurn,
}

/// Bounded queues of jobs, and the threads that run them. Every core has a clone.
#[derive(Clone)]
pub struct DiskWorkers(Arc<WorkerPools>);

struct WorkerPools {
    names: Arc<JobPool>,
    makers: Arc<JobPool>,
    readers: Arc<PieceReaders>,
}

impl fmt::Debug for DiskWorkers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Workers")
    }
}

impl DiskWorkers {
    /// Starts the threads. They end when the last clone is dropped.
    pub fn start() -> std::io::Result<Self> {
        let names =
            JobPool::start("rb-worker", 0, StuckTimes { stuck: LOOK_STUCK, given_up: DEAD_WAIT })?;
        let makers = JobPool::start(
            "rb-maker",
            MAKERS_NICE,
            StuckTimes { stuck: MAKE_STUCK, given_up: DEAD_WAIT },
        )?;
        Ok(Self(Arc::new(WorkerPools { names, makers, readers: PieceReaders::start()? })))
    }

    /// Queues a job that looks a name up, opens a file, or reads a small one; without waiting. The
    /// pool drops a job that waits too long for a part of the tree that does not answer: see
    /// [`OwedAnswer`].
    pub fn submit_quick_job(
        &self,
        asker: JobAsker,
        job: impl FnOnce() + Send + 'static,
    ) -> Result<(), WorkersBusy> {
        self.0.names.submit(asker, Box::new(job))
    }

    /// Queues a job that takes longer, such as a template, a listing, a translated file; without
    /// waiting.
    pub fn submit_slow_job(
        &self,
        asker: JobAsker,
        job: impl FnOnce() + Send + 'static,
    ) -> Result<(), WorkersBusy> {
        self.0.makers.submit(asker, Box::new(job))
    }

    /// Queues a job that makes pieces of images resident; without waiting.
    pub fn submit_read(
        &self,
        urgency: PieceUrgency,
        job: impl FnOnce() + Send + 'static,
    ) -> Result<(), WorkersBusy> {
        self.0.readers.submit(urgency, Box::new(job))
    }

    /// Waiting jobs of each kind: quick, slow, reads.
    pub fn queued(&self) -> [usize; 3] {
        [self.0.names.lock().queued, self.0.makers.lock().queued, self.0.readers.lock().queued()]
    }
}

impl Drop for WorkerPools {
    fn drop(&mut self) {
        self.names.close();
        self.makers.close();
        self.readers.close();
    }
}

/// An answer that a job owes to its asker. The job delivers its result; otherwise the drop delivers
/// the value of `instead`: the job has panicked (true), or never began (false).
pub struct OwedAnswer<T, F: FnOnce(T)> {
    to: Option<F>,
    instead: fn(bool) -> T,
}

impl<T, F: FnOnce(T)> OwedAnswer<T, F> {
    /// An answer that goes to `to`.
    pub fn new(to: F, instead: fn(bool) -> T) -> Self {
        Self { to: Some(to), instead }
    }

    /// Delivers the job's result.
    pub fn deliver(mut self, found: T) {
        if let Some(to) = self.to.take() {
            to(found);
        }
    }
}

impl<T, F: FnOnce(T)> Drop for OwedAnswer<T, F> {
    fn drop(&mut self) {
        if let Some(to) = self.to.take() {
            to((self.instead)(std::thread::panicking()));
        }
    }
}

impl<T, F: FnOnce(T)> fmt::Debug for OwedAnswer<T, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OwedAnswer").finish_non_exhaustive()
    }
}

/// Threads whose jobs come from many sources.
struct JobPool {
    name: &'static str,
    nice: i32,
    times: StuckTimes,
    state: Mutex<JobQueues>,
    changed: Condvar,
}

#[derive(Clone, Copy, Debug)]
struct StuckTimes {
    /// A job that takes longer counts as stuck: another thread takes over.
    stuck: Duration,
    /// How long a job waits for a part of the tree in which others are stuck.
    given_up: Duration,
}

#[derive(Default)]
struct JobQueues {
    /// Sources with jobs that wait, the next one first.
    order: VecDeque<IpAddr>,
    waiting: HashMap<IpAddr, VecDeque<WaitingJob>>,
    queued: usize,
    active: Vec<ActiveJob>,
    threads: usize,
    started: usize,
    /// Parts of the tree that the log already calls dead.
    dead: Vec<Box<[u8]>>,
    is_closed: bool,
}

struct WaitingJob {
    asker: JobAsker,
    since: Instant,
    job: WorkerJob,
}

/// A running job.
struct ActiveJob {
    number: usize,
    asker: JobAsker,
    since: Instant,
}

/// The running jobs that are stuck.
struct StuckJobs(Vec<JobAsker>);

impl StuckJobs {
    /// Whether so many threads are stuck there that no other job may begin there.
    fn is_dead(&self, place: &[u8]) -> bool {
        self.0.iter().filter(|asker| asker.place[..] == *place).count() >= STUCK_IN_ONE_PLACE
    }
}

impl JobPool {
    fn start(name: &'static str, nice: i32, times: StuckTimes) -> std::io::Result<Arc<Self>> {
        let pool =
            Arc::new(Self { name, nice, times, state: Mutex::default(), changed: Condvar::new() });
        // One more thread than may work: it takes over when another is stuck.
        for _ in 0..=WORKERS {
            pool.spawn(&mut pool.lock())?;
        }
        Ok(pool)
    }

    fn spawn(self: &Arc<Self>, state: &mut JobQueues) -> std::io::Result<()> {
        let (pool, number) = (Arc::clone(self), state.started);
        std::thread::Builder::new()
            .name(format!("{}-{number}", self.name))
            .spawn(move || pool.work(number))?;
        state.started += 1;
        state.threads += 1;
        Ok(())
    }

    fn submit(&self, asker: JobAsker, job: WorkerJob) -> Result<(), WorkersBusy> {
        let now = Instant::now();
        let mut state = self.lock();
        let own = state.waiting.get(&asker.source).map_or(0, VecDeque::len);
        if state.queued >= QUESTIONS_QUEUED_MAX || own >= JOBS_OF_ONE_MAX {
            return Err(WorkersBusy);
        }

        // A dead part of the tree may not fill the queue on behalf of many sources.
        if state.stuck(now, self.times).is_dead(&asker.place) {
            let there = state
                .waiting
                .values()
                .flatten()
                .filter(|waiting| waiting.asker.place == asker.place);
            if there.count() >= JOBS_OF_ONE_MAX {
                return Err(WorkersBusy);
            }
        }

        if own == 0 {
            state.order.push_back(asker.source);
        }
        state.waiting.entry(asker.source).or_default().push_back(WaitingJob {
            asker,
            since: now,
            job,
        });
        state.queued += 1;
        drop(state);
        self.changed.notify_one();
        Ok(())
    }

    fn work(self: Arc<Self>, number: usize) {
        if self.nice != 0 {
            lower_thread_priority(self.nice);
        }
        let thread = threads::watch_thread(&format!("{}-{number}", self.name));
        while let Some(job) = self.take(number) {
            run_worker_job(job, &thread);
            let mut state = self.lock();
            state.active.retain(|active| active.number != number);
            drop(state);
            self.changed.notify_all();
        }
        self.lock().threads -= 1;
    }

    /// The next job; None: this thread is not needed any more.
    fn take(self: &Arc<Self>, number: usize) -> Option<WorkerJob> {
        let mut state = self.lock();
        loop {
            if state.is_closed && state.queued == 0 {
                return None;
            }
            let now = Instant::now();
            let stuck = state.stuck(now, self.times);
            if state.threads > WORKERS + 1 + stuck.0.len() {
                return None;
            }
            state.log_dead_places(&stuck);
            let given_up = state.give_up(now, &stuck, self.times);
            if !given_up.is_empty() {
                drop(state);
                drop(given_up); // the drop delivers the answer that each of them owes
                state = self.lock();
                continue;
            }
            if state.active.len() - stuck.0.len() < WORKERS
                && let Some(next) = state.next(&stuck)
            {
                state.active.push(ActiveJob { number, asker: next.asker, since: now });
                if state.threads == state.active.len() && state.threads < THREADS_MAX {
                    // If no thread can start, the existing ones go on.
                    let _ = self.spawn(&mut state);
                }
                return Some(next.job);
            }
            state = if state.queued == 0 {
                self.changed.wait(state).unwrap_or_else(PoisonError::into_inner)
            } else {
                // Jobs wait for a thread: check again when a running job counts as stuck, or a
                // waiting one is given up.
                self.changed
                    .wait_timeout(state, self.times.stuck / 4)
                    .unwrap_or_else(PoisonError::into_inner)
                    .0
            };
        }
    }

    fn close(&self) {
        self.lock().is_closed = true;
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, JobQueues> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl JobQueues {
    fn stuck(&self, now: Instant, times: StuckTimes) -> StuckJobs {
        let stuck = self
            .active
            .iter()
            .filter(|active| now.saturating_duration_since(active.since) >= times.stuck);
        StuckJobs(stuck.map(|active| active.asker.clone()).collect())
    }

    /// Logs each dead part of the tree once, and its recovery.
    fn log_dead_places(&mut self, stuck: &StuckJobs) {
        // A place that answers leaves the list, so the log names its next failure too.
        self.dead.retain(|place| {
            let is_dead = stuck.is_dead(place);
            if !is_dead {
                tracing::info!("{} under the root answers again", place.escape_ascii());
            }
            is_dead
        });

        for JobAsker { place, .. } in &stuck.0 {
            if stuck.is_dead(place) && !self.dead.contains(place) {
                tracing::warn!(
                    "{} under the root does not answer (a file server?): {STUCK_IN_ONE_PLACE} \
                     threads wait for it. Other requests for it wait too, and are refused as busy \
                     after {} s; check its mount",
                    place.escape_ascii(),
                    DEAD_WAIT.as_secs()
                );
                self.dead.push(place.clone());
            }
        }
    }

    /// Removes jobs that have waited too long for a part of the tree that does not answer.
    fn give_up(&mut self, now: Instant, stuck: &StuckJobs, times: StuckTimes) -> Vec<WorkerJob> {
        let mut given_up = Vec::new();
        // With fewer stuck threads no place is dead: almost every call ends here.
        if stuck.0.len() < STUCK_IN_ONE_PLACE {
            return given_up;
        }

        for jobs in self.waiting.values_mut() {
            for waiting in std::mem::take(jobs) {
                let is_old = now.saturating_duration_since(waiting.since) >= times.given_up;
                if is_old && stuck.is_dead(&waiting.asker.place) {
                    given_up.push(waiting.job);
                } else {
                    jobs.push_back(waiting);
                }
            }
        }

        // `order` names each source with jobs once, and no other: `next` relies on it.
        self.waiting.retain(|_, jobs| !jobs.is_empty());
        let Self { order, waiting, .. } = self;
        order.retain(|source| waiting.contains_key(source));
        self.queued -= given_up.len();
        given_up
    }

    /// The oldest job of the next source whose part of the tree answers. A source that occupies
    /// half of the threads waits.
    fn next(&mut self, stuck: &StuckJobs) -> Option<WaitingJob> {
        let (at, job) = self.order.iter().enumerate().find_map(|(at, source)| {
            let jobs = self.waiting.get(source).filter(|_| self.may_occupy_more(*source, stuck))?;
            Some((at, jobs.iter().position(|waiting| !stuck.is_dead(&waiting.asker.place))?))
        })?;

        // The source goes to the end of the order, so that sources take turns.
        let source = self.order.remove(at)?;
        let jobs = self.waiting.get_mut(&source)?;
        let next = jobs.remove(job);
        if jobs.is_empty() {
            self.waiting.remove(&source);
        } else {
            self.order.push_back(source);
        }
        self.queued -= usize::from(next.is_some());
        next
    }

    /// Whether this source occupies less than half of the threads. A stuck thread does not count,
    /// because another one has taken over its work.
    fn may_occupy_more(&self, source: IpAddr, stuck: &StuckJobs) -> bool {
        let active = self.active.iter().filter(|active| active.asker.source == source).count();
        let stuck = stuck.0.iter().filter(|asker| asker.source == source).count();
        active.saturating_sub(stuck) < WORKERS.div_ceil(2)
    }
}

/// Runs a job. The panic hook logs a panic; the thread goes on with the next job.
fn run_worker_job(job: WorkerJob, thread: &WatchedThread) {
    let _busy = thread.busy();
    if catch_unwind(AssertUnwindSafe(job)).is_err() {
        thread.note_panic();
    }
}

/// Threads that read pieces of images: urgent ones go first, and one thread reads only those.
struct PieceReaders {
    queues: Mutex<ReadQueues>,
    changed: Condvar,
}

#[derive(Default)]
struct ReadQueues {
    soon: VecDeque<WorkerJob>,
    in_turn: VecDeque<WorkerJob>,
    is_closed: bool,
}

impl ReadQueues {
    fn queued(&self) -> usize {
        self.soon.len() + self.in_turn.len()
    }
}

impl PieceReaders {
    fn start() -> std::io::Result<Arc<Self>> {
        let readers = Arc::new(Self { queues: Mutex::default(), changed: Condvar::new() });
        for number in 0..=WORKERS {
            let readers = Arc::clone(&readers);
            std::thread::Builder::new()
                .name(format!("rb-reader-{number}"))
                .spawn(move || readers.work(number))?;
        }
        Ok(readers)
    }

    fn submit(&self, urgency: PieceUrgency, job: WorkerJob) -> Result<(), WorkersBusy> {
        let mut queues = self.lock();
        let queue = match urgency {
            PieceUrgency::Soon => &mut queues.soon,
            PieceUrgency::InTurn => &mut queues.in_turn,
        };
        if queue.len() >= QUESTIONS_QUEUED_MAX {
            return Err(WorkersBusy);
        }
        queue.push_back(job);
        drop(queues);
        // Wake all: a single woken thread may be the one that reads only urgent pieces.
        self.changed.notify_all();
        Ok(())
    }

    fn work(&self, number: usize) {
        let thread = threads::watch_thread(&format!("rb-reader-{number}"));
        // The last thread reads only urgent pieces, so no loader waits for a slow read of an image.
        let only_soon = number == WORKERS;
        loop {
            let mut queues = self.lock();
            let job = loop {
                let next = queues.soon.pop_front();
                let next =
                    if only_soon { next } else { next.or_else(|| queues.in_turn.pop_front()) };
                match next {
                    Some(job) => break job,
                    None if queues.is_closed => return,
                    None => {
                        queues = self.changed.wait(queues).unwrap_or_else(PoisonError::into_inner)
                    }
                }
            };
            drop(queues);
            run_worker_job(job, &thread);
        }
    }

    fn close(&self) {
        self.lock().is_closed = true;
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, ReadQueues> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Lowers the priority of this thread and of the processes that it starts, so that busy boot cores
/// go first.
fn lower_thread_priority(nice: i32) {
    // SAFETY: setpriority takes numbers. Of Linux's threads each has a priority of its own, and 0
    // is the calling one.
    unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, nice) };
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use std::sync::mpsc::{Sender, channel};

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(30);

    fn from(last: u8) -> JobAsker {
        JobAsker::new(IpAddr::from([10, 0, 0, last]), b"a/b")
    }

    /// A job that ends when the sender that comes with it is dropped.
    fn held() -> (Sender<()>, impl FnOnce() + Send + 'static) {
        let (hold, held) = channel::<()>();
        (hold, move || assert!(held.recv().is_err()))
    }

    #[test]
    fn a_job_that_panics_takes_no_worker_with_it_and_pays_what_it_owes() {
        let workers = DiskWorkers::start().unwrap();
        let (paid, is_paid) = channel();
        for _ in 0..3 * WORKERS {
            let paid = paid.clone();
            let owed = OwedAnswer::new(
                move |found: u8| paid.send(found).unwrap(),
                |panicked| u8::from(panicked) + 10,
            );
            let job = move || {
                let _owed = owed;
                panic!("a job of this test");
            };
            workers.submit_quick_job(from(1), job).unwrap();
            assert_eq!(is_paid.recv_timeout(PATIENCE), Ok(11));
        }
        let owed = OwedAnswer::new(move |found| paid.send(found).unwrap(), |_| 0);
        workers.submit_slow_job(from(1), move || owed.deliver(7)).unwrap();
        assert_eq!(is_paid.recv_timeout(PATIENCE), Ok(7));
    }

    #[test]
    fn one_source_holds_half_of_the_workers_and_waits_for_its_turn() {
        let workers = DiskWorkers::start().unwrap();
        let mut holds = Vec::new();
        for _ in 0..JOBS_OF_ONE_MAX {
            let (hold, job) = held();
            workers.submit_slow_job(from(1), job).unwrap();
            holds.push(hold);
        }
        let (done, is_done) = channel();
        for n in 2..20 {
            let done = done.clone();
            workers.submit_slow_job(from(n), move || done.send(n).unwrap()).unwrap();
        }
        for _ in 2..20 {
            assert!(
                is_done.recv_timeout(MAKE_STUCK / 2).is_ok(),
                "before anything counts as stuck"
            );
        }
        drop(holds);
    }

    #[test]
    fn names_are_looked_up_while_every_reader_and_every_maker_waits() {
        let workers = DiskWorkers::start().unwrap();
        let mut holds = Vec::new();
        for n in 0..20 {
            let [(one, job), (two, other)] = [held(), held()];
            workers.submit_read(PieceUrgency::InTurn, job).unwrap();
            workers.submit_slow_job(from(n), other).unwrap();
            holds.extend([one, two]);
        }
        let (done, is_done) = channel();
        let other = done.clone();
        workers.submit_quick_job(from(1), move || done.send(()).unwrap()).unwrap();
        assert_eq!(is_done.recv_timeout(PATIENCE), Ok(()));
        workers.submit_read(PieceUrgency::Soon, move || other.send(()).unwrap()).unwrap();
        assert_eq!(is_done.recv_timeout(PATIENCE), Ok(()), "and what is needed soon is read");
        drop(holds);
    }

    #[test]
    fn a_place_that_does_not_answer_holds_few_threads_and_what_waits_for_it_is_told() {
        let times =
            StuckTimes { stuck: Duration::from_millis(300), given_up: Duration::from_secs(2) };
        let pool = JobPool::start("test-worker", 0, times).unwrap();
        let asker = |n, path: &[u8]| JobAsker::new(IpAddr::from([10, 0, 1, n]), path);
        let (told, is_told) = channel();
        let mut holds = Vec::new();
        for n in 0..40 {
            let (hold, wait) = held();
            let told = told.clone();
            let owed = OwedAnswer::new(move |found| told.send(found).unwrap(), |_| "busy");
            let job = move || {
                wait();
                owed.deliver("found");
            };
            pool.submit(asker(n, b"dead/file"), Box::new(job)).unwrap();
            holds.push(hold);
        }
        // Four were begun before anybody could know; the others are told, and the living part of
        // the tree is looked up.
        for _ in 0..40 - WORKERS {
            assert_eq!(is_told.recv_timeout(PATIENCE), Ok("busy"));
        }
        let (done, is_done) = channel();
        for n in 0..40 {
            let done = done.clone();
            pool.submit(asker(n, b"alive/file"), Box::new(move || done.send(()).unwrap())).unwrap();
        }
        (0..40).for_each(|_| assert_eq!(is_done.recv_timeout(PATIENCE), Ok(())));
        assert!(pool.lock().threads <= 2 * WORKERS + 1);
        drop(holds);
        pool.submit(asker(1, b"dead/file"), Box::new(move || done.send(()).unwrap())).unwrap();
        assert_eq!(is_done.recv_timeout(PATIENCE), Ok(()), "it answers again");
        pool.close();
    }

    #[test]
    fn the_addresses_of_an_ipv6_network_are_one_source() {
        let asker = |text: &str| JobAsker::new(text.parse().unwrap(), b"");
        assert_eq!(asker("2001:db8::1"), asker("2001:db8::ffff"));
        assert_ne!(asker("2001:db8::1"), asker("2001:db8:0:1::1"));
        assert_eq!(asker("::ffff:10.0.0.1"), asker("10.0.0.1"));
    }
}
