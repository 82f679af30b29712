//! The progress of a running fleet: counts that only rise, read from another thread.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use tokio::sync::Notify;

use super::line::{AskedProtocol, NobodyThere, PendingRequest, ProtocolLine};
use crate::limits::SILENCE_TOLD;

/// Written by the fleet, read by a progress bar. Each counter changes at most once for a read of
/// bytes.
#[derive(Debug, Default)]
pub struct FleetProgress {
    octets: AtomicU64,
    unchecked_bytes: AtomicU64,
    booted: AtomicU32,
    failed: AtomicU32,
    retries: AtomicU64,
    refusals: [AtomicU64; ServerRefusal::ALL.len()],
    oddities: [AtomicU64; ClientOddity::ALL.len()],
    lines: [ProtocolLine; AskedProtocol::ALL.len()],
    queue: TftpQueueCounts,
    interruption: Notify,
}

/// A refusal by which a server says that it cannot serve now. The machine tries again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ServerRefusal {
    /// TFTP: an ERROR other than "no such file" instead of a file.
    TftpError,
    /// HTTP: status 503 or 429.
    HttpBusy,
    /// TCP: a refused connection.
    NoConnection,
}

/// A fault that a client tolerates, and that a sound server on a sound network does not cause.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ClientOddity {
    /// TFTP: DATA that had arrived before.
    BlockAgain,
    /// TFTP: DATA beyond a gap.
    BlockOutOfOrder,
    /// TFTP: a packet from another port than the transfer's, or one that no server sends.
    Stray,
    /// HTTP: the connection ended or fell silent in the middle of a file.
    CutOff,
    /// HTTP: 200 instead of the requested rest of a file.
    WholeForRest,
}

/// TFTP requests that wait for their first block, and running transfers: they show whether the
/// server admits only a certain number at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TftpQueue {
    /// Transfers with more than one answer.
    pub transfers: u32,
    /// The most that ran at once.
    pub at_once_max: u32,
    /// Transfers that began as the last one of that many: with a limit nearly all do, one for each
    /// that ends.
    pub begun_at_max: u32,
    /// The most requests that waited while that many ran.
    pub waiting_at_max: u32,
}

impl FleetProgress {
    /// Asks the fleet to end: machines stop at once and release their addresses.
    pub fn interrupt(&self) {
        self.interruption.notify_one();
    }

    /// Returns when the fleet is asked to end.
    pub(crate) async fn wait_for_interrupt(&self) {
        self.interruption.notified().await;
    }

    /// Bytes of files received.
    pub fn octets(&self) -> u64 {
        self.octets.load(Ordering::Relaxed)
    }

    /// Bytes of files with unknown contents, without menus.
    pub fn unchecked_bytes(&self) -> u64 {
        self.unchecked_bytes.load(Ordering::Relaxed)
    }

    /// Machines that have finished all their steps.
    pub fn booted(&self) -> u32 {
        self.booted.load(Ordering::Relaxed)
    }

    /// Machines that gave up.
    pub fn failed(&self) -> u32 {
        self.failed.load(Ordering::Relaxed)
    }

    /// Repeated messages, and transfers that were resumed or started again.
    pub fn retries(&self) -> u64 {
        self.retries.load(Ordering::Relaxed)
    }

    /// The number of these refusals.
    pub fn count_refusals(&self, refusal: ServerRefusal) -> u64 {
        self.refusals[refusal as usize].load(Ordering::Relaxed)
    }

    /// The number of these faults.
    pub fn count_oddities(&self, oddity: ClientOddity) -> u64 {
        self.oddities[oddity as usize].load(Ordering::Relaxed)
    }

    /// How the TFTP server admitted transfers.
    pub fn tftp_queue(&self) -> TftpQueue {
        self.queue.read()
    }

    /// The present troubles with a server, each a sentence: no server listens, or no answer has
    /// come for a while. Empty if there are none.
    pub fn list_troubles(&self) -> Vec<String> {
        AskedProtocol::ALL.into_iter().filter_map(|protocol| self.find_trouble(protocol)).collect()
    }

    fn find_trouble(&self, protocol: AskedProtocol) -> Option<String> {
        let line = self.line(protocol);
        let silent = line.measure_silence();
        match (line.find_absent_server(), protocol.name()) {
            (Some(nobody), name) => Some(format!("{name}: {nobody}")),
            (_, name) if silent >= SILENCE_TOLD => {
                let waiting = line.count_waiting();
                Some(format!(
                    "{name}: no answer for {:.0} s, {waiting} requests wait",
                    silent.as_secs_f64()
                ))
            }
            _ => None,
        }
    }

    pub(crate) fn line(&self, protocol: AskedProtocol) -> &ProtocolLine {
        &self.lines[protocol as usize]
    }

    /// A request is sent; the drop of the returned value means that it has its answer.
    pub(crate) fn begin_request(&self, protocol: AskedProtocol) -> PendingRequest<'_> {
        PendingRequest::new(self.line(protocol))
    }

    pub(crate) fn add_bytes(&self, octets: u64) {
        self.octets.fetch_add(octets, Ordering::Relaxed);
    }

    pub(crate) fn add_unchecked_bytes(&self, octets: u64) {
        self.unchecked_bytes.fetch_add(octets, Ordering::Relaxed);
    }

    pub(crate) fn add_retry(&self) {
        self.add_retries(1);
    }

    /// Counts for the fleet, and for the step of the machine in whose task this is called.
    pub(crate) fn add_retries(&self, retries: u64) {
        self.retries.fetch_add(retries, Ordering::Relaxed);
        add_step_retries(retries);
    }

    pub(crate) fn add_refusal(&self, refusal: ServerRefusal) {
        self.refusals[refusal as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn add_oddities(&self, oddity: ClientOddity, times: u64) {
        self.oddities[oddity as usize].fetch_add(times, Ordering::Relaxed);
    }

    pub(crate) fn add_machine(&self, booted: bool) {
        let count = if booted { &self.booted } else { &self.failed };
        count.fetch_add(1, Ordering::Relaxed);
    }

    /// A TFTP request is sent: its state until the returned value is dropped.
    pub(crate) fn tftp_request(self: &Arc<Self>) -> TftpRequest {
        self.queue.waiting.fetch_add(1, Ordering::Relaxed);
        self.line(AskedProtocol::Tftp).note_request();
        TftpRequest { progress: Arc::clone(self), begun: false }
    }
}

impl ServerRefusal {
    /// The order of arrays with an element for each refusal.
    pub const ALL: [Self; 3] = [Self::TftpError, Self::HttpBusy, Self::NoConnection];

    /// The plural, as in the report.
    pub fn spell_plural(self) -> &'static str {
        match self {
            Self::TftpError => "TFTP errors instead of a file",
            Self::HttpBusy => "HTTP answers 503 or 429",
            Self::NoConnection => "refused connections",
        }
    }
}

impl ClientOddity {
    /// The order of arrays with an element for each fault.
    pub const ALL: [Self; 5] =
        [Self::BlockAgain, Self::BlockOutOfOrder, Self::Stray, Self::CutOff, Self::WholeForRest];

    /// The plural, as in the report.
    pub fn spell_plural(self) -> &'static str {
        match self {
            Self::BlockAgain => "TFTP blocks that came again",
            Self::BlockOutOfOrder => "TFTP blocks out of order",
            Self::Stray => "TFTP packets that belong to no transfer of their receiver",
            Self::CutOff => "HTTP connections that broke in the middle of a file",
            Self::WholeForRest => {
                "HTTP answers 200 instead of 206: the whole file instead of its rest"
            }
        }
    }
}

/// One TFTP request from its first datagram to the end of its transfer.
#[derive(Debug)]
pub(crate) struct TftpRequest {
    progress: Arc<FleetProgress>,
    begun: bool,
}

impl TftpRequest {
    /// The first block has arrived, and more will follow. A second call changes nothing.
    pub(crate) fn note_first_block(&mut self) {
        if !std::mem::replace(&mut self.begun, true) {
            self.progress.queue.begin();
        }
    }

    /// Counts for the whole fleet at once; the step of the machine counts a transfer's retries at
    /// its end.
    pub(crate) fn add_retries(&self, retries: u64) {
        self.progress.retries.fetch_add(retries, Ordering::Relaxed);
    }

    /// A packet has arrived.
    pub(crate) fn is_answered(&self) {
        self.progress.line(AskedProtocol::Tftp).note_answer();
    }

    pub(crate) fn note_absent_server(&self, nobody: NobodyThere) {
        self.progress.line(AskedProtocol::Tftp).note_absent_server(nobody);
    }
}

impl Drop for TftpRequest {
    fn drop(&mut self) {
        let TftpQueueCounts { at_once, waiting, .. } = &self.progress.queue;
        let left = if self.begun { at_once } else { waiting };
        left.fetch_sub(1, Ordering::Relaxed);
        self.progress.line(AskedProtocol::Tftp).note_request_end();
    }
}

/// The counts behind a [`TftpQueue`]. Only one thread writes them.
#[derive(Debug, Default)]
struct TftpQueueCounts {
    waiting: AtomicU32,
    at_once: AtomicU32,
    transfers: AtomicU32,
    at_once_max: AtomicU32,
    begun_at_max: AtomicU32,
    waiting_at_max: AtomicU32,
}

impl TftpQueueCounts {
    fn begin(&self) {
        self.transfers.fetch_add(1, Ordering::Relaxed);
        let waiting = self.waiting.fetch_sub(1, Ordering::Relaxed).saturating_sub(1);
        let at_once = self.at_once.fetch_add(1, Ordering::Relaxed) + 1;
        let most = self.at_once_max.load(Ordering::Relaxed);
        if at_once > most {
            self.at_once_max.store(at_once, Ordering::Relaxed);
            self.begun_at_max.store(1, Ordering::Relaxed);
            self.waiting_at_max.store(waiting, Ordering::Relaxed);
        } else if at_once == most {
            self.begun_at_max.fetch_add(1, Ordering::Relaxed);
            self.waiting_at_max.fetch_max(waiting, Ordering::Relaxed);
        }
    }

    fn read(&self) -> TftpQueue {
        let [transfers, at_once_max, begun_at_max, waiting_at_max] =
            [&self.transfers, &self.at_once_max, &self.begun_at_max, &self.waiting_at_max]
                .map(|count| count.load(Ordering::Relaxed));
        TftpQueue { transfers, at_once_max, begun_at_max, waiting_at_max }
    }
}

tokio::task_local! {
    /// Retries in the present step of this task's machine.
    static STEP_RETRIES: Cell<u64>;
}

/// Runs a machine so that its retries count step by step.
pub(crate) async fn run_counting_retries<T>(machine: impl Future<Output = T>) -> T {
    STEP_RETRIES.scope(Cell::new(0), machine).await
}

/// Counts for the step of the machine in whose task this is called.
pub(crate) fn add_step_retries(retries: u64) {
    // Outside a machine's task (the audit) there is no step.
    let _ = STEP_RETRIES.try_with(|count| count.set(count.get() + retries));
}

/// Retries in this task since the last call.
pub(crate) fn take_step_retries() -> u64 {
    STEP_RETRIES.try_with(Cell::take).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn retries_count_for_the_task_that_adds_them() {
        let progress = FleetProgress::default();
        let machine = |number: u64| {
            let progress = &progress;
            run_counting_retries(async move {
                progress.add_retries(number);
                tokio::task::yield_now().await;
                progress.add_retry();
                take_step_retries()
            })
        };
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let counted = runtime.block_on(async { tokio::join!(machine(1), machine(10)) });
        assert_eq!((counted, progress.retries()), ((2, 11), 13));
        progress.add_retry();
        assert_eq!(take_step_retries(), 0);
    }

    #[test]
    fn the_queue_shows_a_server_that_lets_in_two_at_once() {
        let progress = Arc::new(FleetProgress::default());
        let mut waiting: Vec<_> = (0..10).map(|_| progress.tftp_request()).collect();
        let mut served = Vec::new();
        while let Some(mut request) = waiting.pop() {
            if served.len() == 2 {
                served.remove(0);
            }
            request.note_first_block();
            request.note_first_block();
            served.push(request);
        }
        drop(served);
        let queue = TftpQueue { transfers: 10, at_once_max: 2, begun_at_max: 9, waiting_at_max: 8 };
        assert_eq!(progress.tftp_queue(), queue);
        // Answered in one message: neither running nor waiting afterwards.
        drop(progress.tftp_request());
        assert_eq!(progress.tftp_queue(), queue);
        assert_eq!(progress.queue.waiting.load(Ordering::Relaxed), 0);
    }
}
