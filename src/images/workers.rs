//! A few threads that may wait for a disk, so that no core ever does.
//!
//! Names and small files have threads of their own: a machine that asks for its menu does not wait behind images that are read.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

use super::limits::{QUESTIONS_QUEUED_MAX, WORKERS};

type Job = Box<dyn FnOnce() + Send>;

/// Every worker is busy and the queue is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Busy;

/// Two bounded queues of jobs and the threads that do them. Cloned to every core.
#[derive(Clone)]
pub struct Workers {
    names: SyncSender<Job>,
    pieces: SyncSender<Job>,
}

impl fmt::Debug for Workers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Workers")
    }
}

impl Workers {
    /// Starts the threads. They end when the last clone is gone.
    pub fn start() -> std::io::Result<Self> {
        Ok(Self { names: start("rb-worker")?, pieces: start("rb-reader")? })
    }

    /// Queues a job that looks names up, opens, or reads what is small; without waiting.
    pub fn run(&self, job: impl FnOnce() + Send + 'static) -> Result<(), Busy> {
        self.names.try_send(Box::new(job)).map_err(|_| Busy)
    }

    /// Queues a job that makes pieces of images resident; without waiting.
    pub fn read(&self, job: impl FnOnce() + Send + 'static) -> Result<(), Busy> {
        self.pieces.try_send(Box::new(job)).map_err(|_| Busy)
    }
}

fn start(name: &str) -> std::io::Result<SyncSender<Job>> {
    let (queue, jobs) = sync_channel::<Job>(QUESTIONS_QUEUED_MAX);
    let jobs = Arc::new(Mutex::new(jobs));
    for n in 0..WORKERS {
        let jobs = Arc::clone(&jobs);
        std::thread::Builder::new().name(format!("{name}-{n}")).spawn(move || work(&jobs))?;
    }
    Ok(queue)
}

fn work(jobs: &Mutex<Receiver<Job>>) {
    loop {
        let job = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
        match job {
            // Its panic has been printed; the thread is for the next job as well.
            Ok(job) => drop(catch_unwind(AssertUnwindSafe(job))),
            Err(_) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;

    #[test]
    fn a_job_that_panics_takes_no_worker_with_it() {
        let workers = Workers::start().unwrap();
        for _ in 0..2 * WORKERS {
            workers.run(|| panic!("a job of this test")).unwrap();
        }
        let (done, is_done) = std::sync::mpsc::channel();
        workers.run(move || done.send(()).unwrap()).unwrap();
        assert_eq!(is_done.recv_timeout(std::time::Duration::from_secs(10)), Ok(()));
    }

    #[test]
    fn names_are_looked_up_while_every_reader_waits_for_a_disk() {
        let workers = Workers::start().unwrap();
        let disk = Arc::new(std::sync::RwLock::new(()));
        let slow = disk.write().unwrap();
        for _ in 0..2 * WORKERS {
            let disk = Arc::clone(&disk);
            workers.read(move || drop(disk.read())).unwrap();
        }
        let (done, is_done) = std::sync::mpsc::channel();
        workers.run(move || done.send(()).unwrap()).unwrap();
        assert_eq!(is_done.recv_timeout(std::time::Duration::from_secs(10)), Ok(()));
        drop(slow);
    }
}
