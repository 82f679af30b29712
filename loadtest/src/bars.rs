//! Runs a fleet and shows how it goes: bars on a terminal, a line every few seconds elsewhere,
//! nothing where silence is wanted.

use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::anyhow;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use ringboot_fleet::{Does, Fleet, Plan, Progress, Report};

use crate::interrupt;

/// How often bars move.
const TICK: Duration = Duration::from_millis(100);
/// How often a line is written where there is no terminal.
const LINE_PAUSE: Duration = Duration::from_secs(5);

/// Trouble is told no sooner: what comes in the beginning comes in one line.
const TROUBLE_PAUSE: Duration = Duration::from_millis(1500);

/// Runs a fleet on a thread of its own and returns when its last machine is done.
pub(crate) fn run(plan: Plan, quiet: bool) -> anyhow::Result<Report> {
    // How many times machines that boot again will be switched on, nobody knows.
    let again =
        plan.duration.is_some() && plan.roles.iter().any(|role| matches!(role.does, Does::Boot(_)));
    let machines = (!again).then_some(plan.machines);
    let firmware = plan.roles.iter().any(|role| matches!(role.does, Does::Boot(_)));
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
        let mut lines = Lines::default();
        while ended.recv_timeout(TICK) == Err(RecvTimeoutError::Timeout) {
            let glance = Glance { firmware, ..Glance::new(begun.elapsed(), machines, &progress) };
            face.show(&glance, &mut lines);
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
    retries: u64,
    octets: u64,
    firmware: bool,
    /// What is wrong with a server, in words.
    troubles: Vec<String>,
}

/// What was written where there is no terminal.
#[derive(Default)]
struct Lines {
    /// How many of those that come every few seconds.
    written: u32,
    /// Troubles that were told.
    told: Vec<String>,
}

impl Lines {
    /// Whether it is time for a line: every few seconds, and at once with the first failure, retry
    /// or other trouble.
    fn is_due(&mut self, glance: &Glance) -> bool {
        let is_time = glance.elapsed >= LINE_PAUSE * (self.written + 1);
        self.written += u32::from(is_time);
        let mut is_news = false;
        for trouble in glance.kinds_of_trouble().filter(|_| glance.elapsed >= TROUBLE_PAUSE) {
            if !self.told.contains(&trouble) {
                self.told.push(trouble);
                is_news = true;
            }
        }
        is_time || is_news
    }
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
        let style =
            ProgressStyle::with_template("  machines [{bar:20}] {wide_msg}")?.progress_chars("=> ");
        let machines = both.add(
            machines
                .map_or_else(ProgressBar::no_length, |machines| ProgressBar::new(machines.into()))
                .with_style(style),
        );
        let octets = both.add(
            ProgressBar::no_length()
                .with_style(ProgressStyle::with_template("  octets   {wide_msg}")?),
        );
        Ok(Self::Bars { machines, octets })
    }

    fn show(&self, glance: &Glance, lines: &mut Lines) {
        match self {
            Self::Bars { machines, octets } => {
                machines.set_position(u64::from(glance.booted + glance.failed));
                machines.set_message(glance.counts());
                octets.set_message(glance.traffic() + &glance.trouble());
            }
            Self::Lines if lines.is_due(glance) => {
                let seconds = glance.elapsed.as_secs();
                // Nobody reads it where it cannot be written.
                let (counts, traffic, trouble) =
                    (glance.counts(), glance.traffic(), glance.trouble());
                let _ = writeln!(io::stderr(), "  {seconds:>4} s: {counts}; {traffic}{trouble}");
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
        let (retries, troubles) = (progress.retries(), progress.troubles());
        Self { elapsed, machines, booted, failed, retries, octets, firmware: true, troubles }
    }

    fn counts(&self) -> String {
        let mut said = match self.machines {
            Some(machines) => format!("{} of {machines}", self.booted),
            None => self.booted.to_string(),
        };
        said += if self.firmware { " booted" } else { " done" };
        if self.failed > 0 {
            said += &format!(", {} failed", self.failed);
        }
        if self.retries > 0 {
            said += &format!(", {} retries", self.retries);
        }
        said
    }

    /// What is wrong with a server, after all that is right.
    fn trouble(&self) -> String {
        self.troubles.iter().map(|trouble| format!("; {trouble}")).collect()
    }

    /// Without what changes from look to look: each is news once.
    fn kinds_of_trouble(&self) -> impl Iterator<Item = String> {
        let counted = [("failed", self.failed > 0), ("retries", self.retries > 0)];
        let counted =
            counted.into_iter().filter(|(_, is_some)| *is_some).map(|(what, _)| what.to_owned());
        counted.chain(
            self.troubles
                .iter()
                .map(|trouble| trouble.split(" for ").next().unwrap_or_default().to_owned()),
        )
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
            retries: 0,
            octets: 8_000_000_000,
            firmware: true,
            troubles: Vec::new(),
        };
        assert_eq!(glance.counts(), "37 of 500 booted");
        assert_eq!(glance.traffic(), "8000 MB, 2000 MB/s, 4 s");
        glance.failed = 3;
        assert_eq!(glance.counts(), "37 of 500 booted, 3 failed");
        glance.machines = None;
        assert_eq!(glance.counts(), "37 booted, 3 failed");
        (glance.retries, glance.firmware) = (9, false);
        glance.troubles =
            vec!["TFTP: nothing answers at 127.0.0.1:69 (port unreachable)".to_owned()];
        assert_eq!(glance.counts(), "37 done, 3 failed, 9 retries");
        assert_eq!(glance.trouble(), "; TFTP: nothing answers at 127.0.0.1:69 (port unreachable)");
    }

    #[test]
    fn trouble_is_told_at_once_and_each_kind_once() {
        let glance = |ms, retries, troubles: &[&str]| Glance {
            elapsed: Duration::from_millis(ms),
            machines: Some(5),
            booted: 0,
            failed: 0,
            retries,
            octets: 0,
            firmware: true,
            troubles: troubles.iter().map(|text| (*text).to_owned()).collect(),
        };
        let mut lines = Lines::default();
        let due: Vec<bool> = [
            glance(1000, 3, &[]),
            glance(1500, 3, &[]),
            glance(1600, 9, &[]),
            glance(1900, 9, &["TFTP: no answer for 1 s, 5 requests wait"]),
            glance(2900, 9, &["TFTP: no answer for 2 s, 5 requests wait"]),
            glance(5000, 9, &[]),
            glance(5100, 9, &[]),
        ]
        .iter()
        .map(|glance| lines.is_due(glance))
        .collect();
        assert_eq!(due, [false, true, false, true, false, true, false]);
    }
}
