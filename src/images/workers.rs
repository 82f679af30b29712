//! A few threads that may wait for a disk, so that no core ever does.

use std::fmt;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

use super::limits::{QUESTIONS_QUEUED_MAX, WORKERS};

type Job = Box<dyn FnOnce() + Send>;

/// Every worker is busy and the queue is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Busy;

/// A bounded queue of jobs and the threads that do them. Cloned to every core.
#[derive(Clone)]
pub struct Workers {
    queue: SyncSender<Job>,
}

impl fmt::Debug for Workers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Workers")
    }
}

impl Workers {
    /// Starts the threads. They end when the last clone is gone.
    pub fn start() -> std::io::Result<Self> {
        let (queue, jobs) = sync_channel::<Job>(QUESTIONS_QUEUED_MAX);
        let jobs = Arc::new(Mutex::new(jobs));
        for n in 0..WORKERS {
            let jobs = Arc::clone(&jobs);
            std::thread::Builder::new().name(format!("rb-worker-{n}")).spawn(move || work(&jobs))?;
        }
        Ok(Self { queue })
    }

    /// Queues a job without waiting.
    pub fn run(&self, job: impl FnOnce() + Send + 'static) -> Result<(), Busy> {
        self.queue.try_send(Box::new(job)).map_err(|_| Busy)
    }
}

fn work(jobs: &Mutex<Receiver<Job>>) {
    loop {
        let job = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
        match job {
            Ok(job) => job(),
            Err(_) => return,
        }
    }
}
