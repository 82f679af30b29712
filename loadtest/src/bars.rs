//! Runs a fleet and shows how it goes: bars on a terminal, a line every few seconds elsewhere, nothing where silence is wanted.

use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::anyhow;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use ringboot::fleet::{Does, Fleet, Plan, Progress, Report};

use crate::interrupt;

/// How often bars move.
const TICK: Duration = Duration::from_millis(100);
/// How often a line is written where there is no terminal.
const LINE_PAUSE: Duration = Duration::from_secs(5);

/// Runs a fleet on a thread of its own and returns when its last machine is done.
pub(crate) fn run(plan: Plan, quiet: bool) -> anyhow::Result<Report> {
    // How many times machines that boot again will be switched on, nobody knows.
    let again = plan.duration.is_some() && plan.roles.iter().any(|role| matches!(role.does, Does::Boot(_)));
    let machines = (!again).then_some(plan.machines);
    let fleet = Fleet::new(plan);
    let progress = Arc::new(Progress::default());
    let face = Face::new(machines, quiet)?;
    interrupt::watch(&progress)?;
    thread::scope(|scope| {
        let (alive, ended) = channel::<()>();
        let counts = &progress;
        let fleet = &fleet;
        let running = scope.spawn(move || {
            let _alive = alive;
            fleet.run(counts)
        });
        let begun = Instant::now();
        let mut next_line = LINE_PAUSE;
        while ended.recv_timeout(TICK) == Err(RecvTimeoutError::Timeout) {
            face.show(&Glance::new(begun.elapsed(), machines, &progress), &mut next_line);
        }
        face.clear();
        Ok(running.join().map_err(|_| anyhow!("the fleet ended without a report"))??)
    })
}

enum Face {
    Bars { machines: ProgressBar, octets: ProgressBar },
    Lines,
    Silent,
}

/// One look at a run.
struct Glance {
    elapsed: Duration,
    /// None where they boot again and again.
    machines: Option<u32>,
    booted: u32,
    failed: u32,
    octets: u64,
}

impl Face {
    fn new(machines: Option<u32>, quiet: bool) -> anyhow::Result<Self> {
        if quiet {
            return Ok(Self::Silent);
        }
        if !io::stderr().is_terminal() {
            return Ok(Self::Lines);
        }
        let both = MultiProgress::new();
        let style = ProgressStyle::with_template("  machines [{bar:32}] {msg}")?.progress_chars("=> ");
        let machines = both.add(
            machines
                .map_or_else(ProgressBar::no_length, |machines| ProgressBar::new(machines.into()))
                .with_style(style),
        );
        let octets = both.add(ProgressBar::no_length().with_style(ProgressStyle::with_template("  octets   {msg}")?));
        Ok(Self::Bars { machines, octets })
    }

    fn show(&self, glance: &Glance, next_line: &mut Duration) {
        match self {
            Self::Bars { machines, octets } => {
                machines.set_position(u64::from(glance.booted + glance.failed));
                machines.set_message(glance.counts());
                octets.set_message(glance.traffic());
            }
            Self::Lines if glance.elapsed >= *next_line => {
                *next_line += LINE_PAUSE;
                let seconds = glance.elapsed.as_secs();
                // Nobody reads it where it cannot be written.
                let _ = writeln!(io::stderr(), "  {seconds:>4} s: {}; {}", glance.counts(), glance.traffic());
            }
            Self::Lines | Self::Silent => {}
        }
    }

    fn clear(&self) {
        if let Self::Bars { machines, octets } = self {
            machines.finish_and_clear();
            octets.finish_and_clear();
        }
    }
}

impl Glance {
    fn new(elapsed: Duration, machines: Option<u32>, progress: &Progress) -> Self {
        let (booted, failed, octets) = (progress.booted(), progress.failed(), progress.octets());
        Self { elapsed, machines, booted, failed, octets }
    }

    fn counts(&self) -> String {
        let failed = if self.failed > 0 { format!(", {} failed", self.failed) } else { String::new() };
        match self.machines {
            Some(machines) => format!("{} of {machines} booted{failed}", self.booted),
            None => format!("{} booted{failed}", self.booted),
        }
    }

    /// Since the start, as everywhere in the report.
    fn traffic(&self) -> String {
        let megabytes = self.octets as f64 / 1e6;
        let rate = megabytes / self.elapsed.as_secs_f64().max(f64::EPSILON);
        format!("{megabytes:.0} MB, {rate:.0} MB/s, {} s", self.elapsed.as_secs())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_glance_says_what_there_is_to_say() {
        let mut glance = Glance {
            elapsed: Duration::from_secs(4),
            machines: Some(500),
            booted: 37,
            failed: 0,
            octets: 8_000_000_000,
        };
        assert_eq!(glance.counts(), "37 of 500 booted");
        assert_eq!(glance.traffic(), "8000 MB, 2000 MB/s, 4 s");
        glance.failed = 3;
        assert_eq!(glance.counts(), "37 of 500 booted, 3 failed");
        glance.machines = None;
        assert_eq!(glance.counts(), "37 booted, 3 failed");
    }
}
