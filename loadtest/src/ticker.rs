//! The progress of several runs on one line: a spinner on a terminal, else a line every few
//! seconds.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// How often a line is written if there is no terminal.
const LINE_PAUSE: Duration = Duration::from_secs(10);

/// The line. Dropping it removes the line from the terminal.
#[derive(Debug)]
pub(crate) struct RunTicker {
    begun: Instant,
    /// When the last line was written.
    written: Option<Instant>,
    bar: Option<ProgressBar>,
}

impl RunTicker {
    pub(crate) fn new() -> anyhow::Result<Self> {
        let bar = io::stderr().is_terminal().then(ProgressBar::new_spinner);
        if let Some(bar) = &bar {
            bar.set_style(ProgressStyle::with_template("  {spinner} {wide_msg}")?);
            bar.enable_steady_tick(Duration::from_millis(200));
        }
        Ok(Self { begun: Instant::now(), written: None, bar })
    }

    /// The time since the ticker was made.
    pub(crate) fn elapsed(&self) -> Duration {
        self.begun.elapsed()
    }

    /// Shows the present step.
    pub(crate) fn show_step(&mut self, words: &str) {
        let line = format!("{} s, {words}", self.elapsed().as_secs());
        match &self.bar {
            Some(bar) => bar.set_message(line),
            None if self.written.is_none_or(|written| written.elapsed() >= LINE_PAUSE) => {
                self.written = Some(Instant::now());
                // A line that cannot be written has no reader: ignore the error.
                let _ = writeln!(io::stderr(), "  {line}");
            }
            None => {}
        }
    }

    /// Hides the line while `write` writes lasting text.
    pub(crate) fn print_above<T>(&self, write: impl FnOnce() -> T) -> T {
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
