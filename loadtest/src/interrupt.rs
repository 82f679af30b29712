//! Ctrl-C and SIGTERM: the first ends the run and gives its addresses back, the second ends the program.

use std::io::{self, Write};
use std::process;
use std::sync::Arc;
use std::thread;

use anyhow::Context;
use ringboot::fleet::Progress;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// The exit code of a run that was interrupted: as shells have it for Ctrl-C.
pub(crate) const EXIT: u8 = 130;

/// From now on signals reach this run.
pub(crate) fn watch(progress: &Arc<Progress>) -> anyhow::Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM]).context("cannot listen for Ctrl-C")?;
    let progress = Arc::clone(progress);
    thread::spawn(move || {
        let mut signals = signals.forever();
        if signals.next().is_some() {
            let _ = writeln!(io::stderr(), "loadtest: ending (a second Ctrl-C ends at once and keeps addresses)");
            progress.interrupt();
        }
        if signals.next().is_some() {
            process::exit(EXIT.into());
        }
    });
    Ok(())
}
