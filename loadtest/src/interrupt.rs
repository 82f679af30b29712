//! Ctrl-C and SIGTERM: the first ends the run and releases its addresses, the second ends the
//! program.

use std::io::{self, Write};
use std::process;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use anyhow::Context;
use ringboot_fleet::FleetProgress;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;
use signal_hook::iterator::Signals;

/// The exit code of an interrupted run: the shells' code for Ctrl-C.
pub(crate) const EXIT: u8 = 130;

/// The run that a signal interrupts.
static RUNNING: Mutex<Option<Arc<FleetProgress>>> = Mutex::new(None);

/// Lets signals interrupt this run from now on.
pub(crate) fn watch_interrupts(progress: &Arc<FleetProgress>) -> anyhow::Result<()> {
    // With --repeat each run comes here. The thread of the first one interrupts whichever run is
    // the present one.
    if lock_running().replace(Arc::clone(progress)).is_some() {
        return Ok(());
    }
    let mut signals = Signals::new([SIGINT, SIGTERM]).context("cannot listen for Ctrl-C")?;
    thread::spawn(move || {
        let mut signals = signals.forever();
        if signals.next().is_some() {
            let _ = writeln!(
                io::stderr(),
                "loadtest: ending (a second Ctrl-C ends at once and keeps addresses)"
            );
            lock_running().iter().for_each(|progress| progress.interrupt());
        }
        if signals.next().is_some() {
            process::exit(EXIT.into());
        }
    });
    Ok(())
}

fn lock_running() -> MutexGuard<'static, Option<Arc<FleetProgress>>> {
    RUNNING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The same for runs in their own processes, which Ctrl-C ends by itself: the first Ctrl-C ends the
/// search after the present run, the second ends the program.
#[derive(Debug)]
pub(crate) struct InterruptFlag(Arc<AtomicBool>);

impl InterruptFlag {
    pub(crate) fn watch() -> anyhow::Result<Self> {
        let interrupted = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM] {
            flag::register_conditional_shutdown(signal, EXIT.into(), Arc::clone(&interrupted))
                .and_then(|_| flag::register(signal, Arc::clone(&interrupted)))
                .context("cannot listen for Ctrl-C")?;
        }
        Ok(Self(interrupted))
    }

    pub(crate) fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}
