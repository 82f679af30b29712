//! The queue of log lines: every thread pushes without waiting, and one thread writes the lines to
//! their destination.
//!
//! The destination may be slow, full or gone. Then this queue drops and counts lines, and the
//! server goes on.

use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::threads;

/// Lines that may wait for the log thread. One more is dropped and counted.
const LINES_QUEUED_MAX: usize = 8192;
/// Bytes of all waiting lines: a line may have a long name that a client sent.
const BYTES_QUEUED_MAX: usize = 4 << 20;
/// How often the log says that lines were lost.
const LOSS_LOGGED_EVERY: Duration = Duration::from_secs(1);
/// How often the end of the process checks whether a full queue has room again.
const ROOM_CHECKED_EVERY: Duration = Duration::from_millis(10);

/// Where the log thread writes lines.
pub(super) trait LogDestination: Send {
    /// Writes a message of one or more lines, each with its line feed.
    fn write(&mut self, message: &[u8]) -> io::Result<()>;
}

enum LogItem {
    /// For the destination.
    Line(Vec<u8>),
    /// For standard error, whatever the destination is.
    Words(Vec<u8>),
    /// Answered when everything before it is written.
    Written(SyncSender<()>),
}

/// What the thread reads from, and writes to.
type LogWork = (Receiver<LogItem>, Box<dyn LogDestination>);

/// The sending end of the queue, with the counts of waiting and lost lines.
pub(super) struct LogQueue {
    queue: SyncSender<LogItem>,
    count: Arc<LogBacklog>,
    /// Some until the thread starts.
    unstarted: Mutex<Option<LogWork>>,
}

#[derive(Default)]
struct LogBacklog {
    bytes: AtomicUsize,
    lost: AtomicU64,
}

impl LogQueue {
    pub(super) fn new(destination: Box<dyn LogDestination>) -> Self {
        let (queue, items) = sync_channel(LINES_QUEUED_MAX);
        Self { queue, count: Arc::default(), unstarted: Mutex::new(Some((items, destination))) }
    }

    /// Starts the thread that writes; it begins with the lines that wait already.
    pub(super) fn start(&self) {
        let unstarted = self.unstarted.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some((items, mut destination)) = unstarted else { return };
        let count = Arc::clone(&self.count);
        let builder = std::thread::Builder::new().name("rb-log".into());
        let started = builder.spawn(move || {
            let thread = threads::watch_thread("rb-log");
            thread.keep_running(|| write_log_items(&items, destination.as_mut(), &count, &thread));
        });
        // Without the thread the log loses its lines, and the server still serves.
        drop(started);
    }

    /// Pushes a message for the destination.
    pub(super) fn push(&self, line: &[u8]) {
        self.push_item(line, LogItem::Line);
    }

    /// Pushes a message for standard error.
    pub(super) fn push_words(&self, words: &[u8]) {
        self.push_item(words, LogItem::Words);
    }

    fn push_item(&self, text: &[u8], item: fn(Vec<u8>) -> LogItem) {
        let waiting = self.count.bytes.fetch_add(text.len(), Ordering::Relaxed);
        if waiting + text.len() > BYTES_QUEUED_MAX
            || self.queue.try_send(item(text.to_vec())).is_err()
        {
            self.count.bytes.fetch_sub(text.len(), Ordering::Relaxed);
            self.count.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Lines lost since the start.
    pub(super) fn count_lost(&self) -> u64 {
        self.count.lost.load(Ordering::Relaxed)
    }

    /// Waits until everything that was pushed is written. False where that takes longer than
    /// `limit`.
    pub(super) fn wait_until_written(&self, limit: Duration) -> bool {
        let until = Instant::now() + limit;
        let (written, is_written) = sync_channel(1);
        let mut item = LogItem::Written(written);
        while let Err(TrySendError::Full(back)) = self.queue.try_send(item) {
            if Instant::now() >= until {
                return false;
            }
            item = back;
            std::thread::sleep(ROOM_CHECKED_EVERY);
        }
        is_written.recv_timeout(until.saturating_duration_since(Instant::now())).is_ok()
    }
}

/// Writes until every sender is gone. A write that fails loses its line only.
fn write_log_items(
    items: &Receiver<LogItem>,
    destination: &mut dyn LogDestination,
    count: &LogBacklog,
    thread: &threads::WatchedThread,
) {
    let mut logged = Instant::now();
    let mut lost_logged = count.lost.load(Ordering::Relaxed);
    loop {
        // The loss of lines is logged after the next successful write, or after this timeout.
        let item = items.recv_timeout(LOSS_LOGGED_EVERY);
        if matches!(item, Err(RecvTimeoutError::Disconnected)) {
            return;
        }
        let written = {
            let _busy = thread.busy();
            match item {
                Ok(LogItem::Line(line)) => {
                    count.bytes.fetch_sub(line.len(), Ordering::Relaxed);
                    destination.write(&line)
                }
                Ok(LogItem::Words(words)) => {
                    count.bytes.fetch_sub(words.len(), Ordering::Relaxed);
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
        if lost > lost_logged && logged.elapsed() >= LOSS_LOGGED_EVERY {
            logged = Instant::now();
            // This line goes into the queue like every other.
            tracing::warn!(
                "{} log lines were lost: they came too fast, or could not be written",
                lost - lost_logged
            );
            lost_logged = lost;
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
        assert!((999..=1000).contains(&lines.count_lost()), "{}", lines.count_lost());
        assert!(!lines.wait_until_written(Duration::from_millis(50)), "nobody has read a line");
        drop(go);
        assert!(lines.wait_until_written(Duration::from_secs(10)));
        assert!(seen.try_iter().count() >= LINES_QUEUED_MAX);
    }

    #[test]
    fn long_lines_are_bounded_by_their_octets() {
        let (lines, _seen, _go) = gate();
        let long = vec![b'x'; BYTES_QUEUED_MAX / 4];
        (0..5).for_each(|_| lines.push(&long));
        assert_eq!(lines.count_lost(), 1);
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
        assert!(lines.wait_until_written(Duration::from_secs(10)));
        assert_eq!((seen.try_iter().count(), lines.count_lost()), (4, 2));
    }
}
