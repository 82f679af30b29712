//! One line that says how far several runs are: a spinner on a terminal, a line now and then
//! elsewhere.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// How often a line is written where there is no terminal.
const LINE_PAUSE: Duration = Duration::from_secs(10);

/// The line. Dropping it takes it away.
#[derive(Debug)]
pub(crate) struct RunTicker {
    begun: Instant,
    told: Option<Instant>,
    bar: Option<ProgressBar>,
}

impl RunTicker {
    pub(crate) fn new() -> anyhow::Result<Self> {
        let bar = io::stderr().is_terminal().then(ProgressBar::new_spinner);
        if let Some(bar) = &bar {
            bar.set_style(ProgressStyle::with_template("  {spinner} {wide_msg}")?);
            bar.enable_steady_tick(Duration::from_millis(200));
        }
        Ok(Self { begun: Instant::now(), told: None, bar })
    }

    /// Since it was made.
    pub(crate) fn elapsed(&self) -> Duration {
        self.begun.elapsed()
    }

    /// What goes on now.
    pub(crate) fn tell(&mut self, words: &str) {
        let line = format!("{} s, {words}", self.elapsed().as_secs());
        match &self.bar {
            Some(bar) => bar.set_message(line),
            None if self.told.is_none_or(|told| told.elapsed() >= LINE_PAUSE) => {
                self.told = Some(Instant::now());
                // Nobody reads it where it cannot be written.
                let _ = writeln!(io::stderr(), "  {line}");
            }
            None => {}
        }
    }

    /// Takes the line away, so that something lasting can be written.
    pub(crate) fn in_front<T>(&self, write: impl FnOnce() -> T) -> T {
        match &self.bar {
            Some(bar) => bar.suspend(write),
            None => write(),
        }
    }

    pub(crate) fn finish(&self) {
        self.bar.iter().for_each(ProgressBar::finish_and_clear);
    }
}

impl Drop for RunTicker {
    fn drop(&mut self) {
        self.finish();
    }
}
