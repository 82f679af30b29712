//! The way of log lines: every thread hands them over without waiting, and one thread writes them
//! where the log goes.
//!
//! Whoever reads the log may be slow, full or gone. Then lines are dropped and counted, and nothing
//! else happens.

use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::threads;

/// Lines that may wait for the log thread; one more is dropped and counted.
const LINES_QUEUED_MAX: usize = 8192;
/// Octets of all waiting lines: a line may hold a long name that a client has sent.
const OCTETS_QUEUED_MAX: usize = 4 << 20;
/// How often lost lines are told of.
const LOST_TOLD_EVERY: Duration = Duration::from_secs(1);
/// How often the end of the process looks whether a full queue has room again.
const ROOM_LOOKED_EVERY: Duration = Duration::from_millis(10);

/// What the log thread does with a line.
pub(super) trait LogDestination: Send {
    /// Writes a message of one or more lines, each with its line feed.
    fn write(&mut self, message: &[u8]) -> io::Result<()>;
}

enum LogItem {
    Line(Vec<u8>),
    /// For standard error, whatever the destination is.
    Words(Vec<u8>),
    Written(SyncSender<()>),
}

/// What the thread is to read from, and to write to.
type LogWork = (Receiver<LogItem>, Box<dyn LogDestination>);

/// The queue to the log thread, and what was lost on the way.
pub(super) struct LogQueue {
    queue: SyncSender<LogItem>,
    count: Arc<LogBacklog>,
    /// Until the thread is started.
    unstarted: Mutex<Option<LogWork>>,
}

#[derive(Default)]
struct LogBacklog {
    octets: AtomicUsize,
    lost: AtomicU64,
}

impl LogQueue {
    pub(super) fn new(destination: Box<dyn LogDestination>) -> Self {
        let (queue, items) = sync_channel(LINES_QUEUED_MAX);
        Self { queue, count: Arc::default(), unstarted: Mutex::new(Some((items, destination))) }
    }

    /// Starts the thread that writes; what waits already is written first.
    pub(super) fn start(&self) {
        let unstarted = self.unstarted.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some((items, mut destination)) = unstarted else { return };
        let count = Arc::clone(&self.count);
        let body = move || {
            let thread = threads::watch_thread("rb-log");
            thread.keep_running(|| write_log_items(&items, destination.as_mut(), &count, &thread));
        };
        // Without the thread lines are lost, which is no reason to serve nobody.
        drop(std::thread::Builder::new().name("rb-log".into()).spawn(body));
    }

    pub(super) fn push(&self, line: &[u8]) {
        self.queue(line, LogItem::Line);
    }

    /// For standard error in any case.
    pub(super) fn push_words(&self, words: &[u8]) {
        self.queue(words, LogItem::Words);
    }

    fn queue(&self, text: &[u8], item: fn(Vec<u8>) -> LogItem) {
        let waiting = self.count.octets.fetch_add(text.len(), Ordering::Relaxed);
        if waiting + text.len() > OCTETS_QUEUED_MAX
            || self.queue.try_send(item(text.to_vec())).is_err()
        {
            self.count.octets.fetch_sub(text.len(), Ordering::Relaxed);
            self.count.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Lines that nobody will read, since the start.
    pub(super) fn lost(&self) -> u64 {
        self.count.lost.load(Ordering::Relaxed)
    }

    /// Waits until everything that was pushed is written; false where that takes longer than
    /// `limit`.
    pub(super) fn finish(&self, limit: Duration) -> bool {
        let until = Instant::now() + limit;
        let (written, is_written) = sync_channel(1);
        let mut item = LogItem::Written(written);
        while let Err(TrySendError::Full(back)) = self.queue.try_send(item) {
            if Instant::now() >= until {
                return false;
            }
            item = back;
            std::thread::sleep(ROOM_LOOKED_EVERY);
        }
        is_written.recv_timeout(until.saturating_duration_since(Instant::now())).is_ok()
    }
}

/// Writes until every sender is gone. A write that fails loses its line and no more.
fn write_log_items(
    items: &Receiver<LogItem>,
    destination: &mut dyn LogDestination,
    count: &LogBacklog,
    thread: &threads::WatchedThread,
) {
    let mut told = Instant::now();
    let mut lost_told = count.lost.load(Ordering::Relaxed);
    loop {
        // Lost lines are told of when the next one could be written, or a moment later.
        let item = items.recv_timeout(LOST_TOLD_EVERY);
        if matches!(item, Err(RecvTimeoutError::Disconnected)) {
            return;
        }
        let written = {
            let _busy = thread.busy();
            match item {
                Ok(LogItem::Line(line)) => {
                    count.octets.fetch_sub(line.len(), Ordering::Relaxed);
                    destination.write(&line)
                }
                Ok(LogItem::Words(words)) => {
                    count.octets.fetch_sub(words.len(), Ordering::Relaxed);
                    io::stderr().write_all(&words)
                }
                Ok(LogItem::Written(asked)) => {
                    let _ = asked.try_send(());
                    continue;
                }
                Err(_) => Ok(()),
            }
        };
        if written.is_err() {
            count.lost.fetch_add(1, Ordering::Relaxed);
            continue;
        }
        let lost = count.lost.load(Ordering::Relaxed);
        if lost > lost_told && told.elapsed() >= LOST_TOLD_EVERY {
            told = Instant::now();
            // Into the queue like every other line.
            tracing::warn!(
                "{} lines of the log are lost: they came too fast, or could not be written",
                lost - lost_told
            );
            lost_told = lost;
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::mpsc::{Sender, channel};

    use super::*;

    /// Takes a line when the test says so; `false` refuses it.
    struct Gate {
        seen: Sender<Vec<u8>>,
        go_on: Receiver<bool>,
    }

    impl LogDestination for Gate {
        fn write(&mut self, message: &[u8]) -> io::Result<()> {
            let _ = self.seen.send(message.to_vec());
            if self.go_on.recv().unwrap_or(true) {
                Ok(())
            } else {
                Err(io::ErrorKind::StorageFull.into())
            }
        }
    }

    fn gate() -> (LogQueue, Receiver<Vec<u8>>, Sender<bool>) {
        let ((seen, lines), (go, go_on)) = (channel(), channel());
        (LogQueue::new(Box::new(Gate { seen, go_on })), lines, go)
    }

    #[test]
    fn a_destination_that_blocks_costs_lines_and_no_time() {
        let (lines, seen, go) = gate();
        lines.start();
        let begun = Instant::now();
        for _ in 0..LINES_QUEUED_MAX + 1000 {
            lines.push(b"x\n");
        }
        assert!(begun.elapsed() < Duration::from_secs(5));
        assert!((999..=1000).contains(&lines.lost()), "{}", lines.lost());
        assert!(!lines.finish(Duration::from_millis(50)), "nobody has read a line");
        drop(go);
        assert!(lines.finish(Duration::from_secs(10)));
        assert!(seen.try_iter().count() >= LINES_QUEUED_MAX);
    }

    #[test]
    fn long_lines_are_bounded_by_their_octets() {
        let (lines, _seen, _go) = gate();
        let long = vec![b'x'; OCTETS_QUEUED_MAX / 4];
        (0..5).for_each(|_| lines.push(&long));
        assert_eq!(lines.lost(), 1);
    }

    #[test]
    fn a_write_that_fails_loses_its_line_alone() {
        let (lines, seen, go) = gate();
        for (line, taken) in
            [("one\n", false), ("two\n", true), ("three\n", false), ("four\n", true)]
        {
            lines.push(line.as_bytes());
            go.send(taken).unwrap();
        }
        lines.start();
        assert!(lines.finish(Duration::from_secs(10)));
        assert_eq!((seen.try_iter().count(), lines.lost()), (4, 2));
    }
}
