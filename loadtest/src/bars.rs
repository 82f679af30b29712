//! Runs a fleet and shows its progress: bars on a terminal, else a line every few seconds, or
//! nothing with --quiet.

use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::anyhow;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use ringboot_fleet::{Fleet, FleetPlan, FleetProgress, FleetReport, RoleTask};

use crate::interrupt;

/// How often bars move.
const TICK: Duration = Duration::from_millis(100);
/// How often a line is written if there is no terminal.
const LINE_PAUSE: Duration = Duration::from_secs(5);

/// No trouble is written before this, so that early troubles share one line.
const TROUBLE_PAUSE: Duration = Duration::from_millis(1500);

/// Runs a fleet on its own thread and returns when its last machine is done.
pub(crate) fn play_fleet(plan: FleetPlan, quiet: bool) -> anyhow::Result<FleetReport> {
    // With a duration, machines boot again and again: their number is not known before.
    let again = plan.duration.is_some()
        && plan.roles.iter().any(|role| matches!(role.does, RoleTask::Boot(_)));
    let machines = (!again).then_some(plan.machines);
    let firmware = plan.roles.iter().any(|role| matches!(role.does, RoleTask::Boot(_)));
    let fleet = Fleet::new(plan);
    let progress = Arc::new(FleetProgress::default());
    let face = ProgressFace::new(machines, quiet)?;
    interrupt::watch_interrupts(&progress)?;
    thread::scope(|scope| {
        let (alive, ended) = channel::<()>();
        let counts = &progress;
        let fleet = &fleet;
        let running = scope.spawn(move || {
            let _alive = alive;
            fleet.run(counts)
        });
        let begun = Instant::now();
        let mut lines = PrintedLines::default();
        while ended.recv_timeout(TICK) == Err(RecvTimeoutError::Timeout) {
            let glance =
                RunGlance { firmware, ..RunGlance::new(begun.elapsed(), machines, &progress) };
            face.show(&glance, &mut lines);
        }
        face.clear();
        Ok(running.join().map_err(|_| anyhow!("the fleet ended without a report"))??)
    })
}

enum ProgressFace {
    Bars { machines: ProgressBar, octets: ProgressBar },
    Lines,
    Silent,
}

/// The state of a run at one moment.
struct RunGlance {
    elapsed: Duration,
    /// None if machines boot again and again.
    machines: Option<u32>,
    booted: u32,
    failed: u32,
    retries: u64,
    octets: u64,
    firmware: bool,
    /// Troubles with a server, each a sentence.
    troubles: Vec<String>,
}

/// The lines that were written without a terminal.
#[derive(Default)]
struct PrintedLines {
    /// Number of the periodic lines.
    written: u32,
    /// Troubles that a line has named.
    named: Vec<String>,
}

impl PrintedLines {
    /// Whether a line is due: every few seconds, and at once with the first failure, retry or other
    /// trouble.
    fn is_due(&mut self, glance: &RunGlance) -> bool {
        let is_time = glance.elapsed >= LINE_PAUSE * (self.written + 1);
        self.written += u32::from(is_time);
        let mut is_news = false;
        for trouble in glance.list_trouble_kinds().filter(|_| glance.elapsed >= TROUBLE_PAUSE) {
            if !self.named.contains(&trouble) {
                self.named.push(trouble);
                is_news = true;
            }
        }
        is_time || is_news
    }
}

impl ProgressFace {
    fn new(machines: Option<u32>, quiet: bool) -> anyhow::Result<Self> {
        if quiet {
            return Ok(Self::Silent);
        }

        // Bars write over their own lines, which a file or a pipe cannot show.
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

    fn show(&self, glance: &RunGlance, lines: &mut PrintedLines) {
        match self {
            Self::Bars { machines, octets } => {
                machines.set_position(u64::from(glance.booted + glance.failed));
                machines.set_message(glance.format_counts());
                octets.set_message(glance.format_traffic() + &glance.format_troubles());
            }
            Self::Lines if lines.is_due(glance) => {
                let seconds = glance.elapsed.as_secs();
                // A line that cannot be written has no reader: ignore the error.
                let (counts, traffic, trouble) =
                    (glance.format_counts(), glance.format_traffic(), glance.format_troubles());
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

impl RunGlance {
    fn new(elapsed: Duration, machines: Option<u32>, progress: &FleetProgress) -> Self {
        let (booted, failed, octets) = (progress.booted(), progress.failed(), progress.octets());
        let (retries, troubles) = (progress.retries(), progress.list_troubles());
        Self { elapsed, machines, booted, failed, retries, octets, firmware: true, troubles }
    }

    fn format_counts(&self) -> String {
        let mut text = match self.machines {
            Some(machines) => format!("{} of {machines}", self.booted),
            None => self.booted.to_string(),
        };
        text += if self.firmware { " booted" } else { " done" };
        if self.failed > 0 {
            text += &format!(", {} failed", self.failed);
        }
        if self.retries > 0 {
            text += &format!(", {} retries", self.retries);
        }
        text
    }

    /// The troubles, each after a semicolon.
    fn format_troubles(&self) -> String {
        self.troubles.iter().map(|trouble| format!("; {trouble}")).collect()
    }

    /// Each trouble without its time, which changes: a line names each trouble once.
    fn list_trouble_kinds(&self) -> impl Iterator<Item = String> {
        let counted = [("failed", self.failed > 0), ("retries", self.retries > 0)];
        let counted =
            counted.into_iter().filter(|(_, is_some)| *is_some).map(|(what, _)| what.to_owned());
        counted.chain(
            self.troubles
                .iter()
                .map(|trouble| trouble.split(" for ").next().unwrap_or_default().to_owned()),
        )
    }

    /// Bytes and rate since the start, as in the report.
    fn format_traffic(&self) -> String {
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
        let mut glance = RunGlance {
            elapsed: Duration::from_secs(4),
            machines: Some(500),
            booted: 37,
            failed: 0,
            retries: 0,
            octets: 8_000_000_000,
            firmware: true,
            troubles: Vec::new(),
        };
        assert_eq!(glance.format_counts(), "37 of 500 booted");
        assert_eq!(glance.format_traffic(), "8000 MB, 2000 MB/s, 4 s");
        glance.failed = 3;
        assert_eq!(glance.format_counts(), "37 of 500 booted, 3 failed");
        glance.machines = None;
        assert_eq!(glance.format_counts(), "37 booted, 3 failed");
        (glance.retries, glance.firmware) = (9, false);
        glance.troubles =
            vec!["TFTP: nothing answers at 127.0.0.1:69 (port unreachable)".to_owned()];
        assert_eq!(glance.format_counts(), "37 done, 3 failed, 9 retries");
        assert_eq!(
            glance.format_troubles(),
            "; TFTP: nothing answers at 127.0.0.1:69 (port unreachable)"
        );
    }

    #[test]
    fn trouble_is_told_at_once_and_each_kind_once() {
        let glance = |ms, retries, troubles: &[&str]| RunGlance {
            elapsed: Duration::from_millis(ms),
            machines: Some(5),
            booted: 0,
            failed: 0,
            retries,
            octets: 0,
            firmware: true,
            troubles: troubles.iter().map(|text| (*text).to_owned()).collect(),
        };
        let mut lines = PrintedLines::default();
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
