//! What a run came to: machines, times of each step, failures by cause; and the few lines that say so.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use hdrhistogram::Histogram;

use super::Lease;
use super::machine::Outcome;
use crate::observe::events::Stage;

/// The figures of one run.
#[derive(Clone, Debug)]
pub struct Report {
    /// Machines switched on.
    pub machines: u32,
    /// Machines that have their kernel and initial disk.
    pub booted: u32,
    /// From the first machine's power-on to the last one's end.
    pub wall: Duration,
    /// Octets of files received.
    pub octets: u64,
    /// Every octet was compared with what the file contains, menus apart.
    pub checked: bool,
    /// Messages repeated, transfers resumed or begun again.
    pub retries: u64,
    /// Microseconds of each step, by machine.
    pub stages: BTreeMap<Stage, Histogram<u64>>,
    /// Microseconds from power-on to the end of the last step, of machines that booted.
    pub boots: Histogram<u64>,
    /// Machines that did not boot, by cause (the sentence of a [`super::Failure`]).
    pub failures: BTreeMap<String, u32>,
    /// What each machine was given last.
    pub leases: Vec<Lease>,
}

/// Octets of a megabyte, as network people count.
const MEGABYTE: f64 = 1e6;

/// The longest step that a histogram tells apart: an hour, in microseconds.
const STEP_US_MAX: u64 = 3_600_000_000;
/// Significant decimal digits of a histogram: 2 keep a figure within 1 % at 40 KiB a stage.
const STEP_DIGITS: u8 = 2;

impl Report {
    pub(super) fn new(machines: u32) -> Self {
        Self {
            machines,
            booted: 0,
            wall: Duration::ZERO,
            octets: 0,
            checked: false,
            retries: 0,
            stages: BTreeMap::new(),
            boots: histogram(),
            failures: BTreeMap::new(),
            leases: Vec::new(),
        }
    }

    pub(super) fn add(&mut self, outcome: Outcome) {
        self.leases.extend(outcome.lease);
        for (stage, took) in &outcome.steps {
            self.stages.entry(*stage).or_insert_with(histogram).saturating_record(microseconds(*took));
        }
        match outcome.end {
            Ok(()) => {
                self.booted += 1;
                self.boots.saturating_record(microseconds(outcome.steps.iter().map(|(_, took)| *took).sum()));
            }
            Err(failure) => *self.failures.entry(failure.to_string()).or_default() += 1,
        }
    }

    /// Every step with the microseconds that machines took for it, and the whole boot last.
    pub fn steps(&self) -> impl Iterator<Item = (&'static str, &Histogram<u64>)> {
        let steps = self.stages.iter().map(|(stage, times)| (step_name(*stage), times));
        steps.chain([("whole boot", &self.boots)])
    }

    /// Machines that did not boot.
    pub fn failed(&self) -> u32 {
        self.machines - self.booted
    }

    /// Megabytes a second over the whole run.
    pub fn megabytes_per_second(&self) -> f64 {
        self.megabytes() / self.wall.as_secs_f64().max(f64::EPSILON)
    }

    /// Megabytes received.
    pub fn megabytes(&self) -> f64 {
        // 2^53 octets are nine petabytes: nothing is lost.
        self.octets as f64 / MEGABYTE
    }
}

impl fmt::Display for Report {
    /// The table of steps and the failures, without a final newline.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "  {:<10}{:>10}{:>12}{:>12}{:>12}", "step", "count", "p50", "p99", "max")?;
        for (name, times) in self.steps() {
            let [p50, p99, max] =
                [times.value_at_quantile(0.5), times.value_at_quantile(0.99), times.max()].map(Pretty);
            writeln!(f, "  {name:<10}{:>10}{p50:>12}{p99:>12}{max:>12}", times.len())?;
        }
        write!(
            f,
            "\n  {} of {} machines booted in {:.2} s: {:.0} MB, {:.0} MB/s, {}, {} retries",
            self.booted,
            self.machines,
            self.wall.as_secs_f64(),
            self.megabytes(),
            self.megabytes_per_second(),
            if self.checked { "every octet checked" } else { "contents not checked" },
            self.retries
        )?;
        let mut causes: Vec<_> = self.failures.iter().collect();
        causes.sort_by_key(|(_, machines)| std::cmp::Reverse(**machines));
        for (failure, machines) in causes.iter().take(CAUSES_SHOWN_MAX) {
            write!(f, "\n  {machines:>6} failed: {failure}")?;
        }
        Ok(())
    }
}

/// Causes of failure that are listed: the report stays on one screen.
const CAUSES_SHOWN_MAX: usize = 6;

/// Microseconds in the unit that a person would choose.
struct Pretty(u64);

impl fmt::Display for Pretty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let milliseconds = self.0 as f64 / 1000.0;
        let text = match self.0 {
            ..10_000 => format!("{milliseconds:.2} ms"),
            10_000..1_000_000 => format!("{milliseconds:.0} ms"),
            _ => format!("{:.2} s", milliseconds / 1000.0),
        };
        f.pad(&text)
    }
}

fn step_name(stage: Stage) -> &'static str {
    match stage {
        Stage::Dhcp => "DHCP",
        Stage::Loader => "loader",
        Stage::Menu => "menu",
        Stage::Kernel => "kernel",
        Stage::Initrd => "initrd",
        Stage::AnswerFile => "answers",
        Stage::File => "file",
    }
}

fn histogram() -> Histogram<u64> {
    Histogram::new_with_max(STEP_US_MAX, STEP_DIGITS).expect("a bound of at least 2 and at most 5 digits")
}

fn microseconds(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_counts_boots_and_failures_by_cause() {
        let mut report = Report::new(3);
        let steps = vec![(Stage::Dhcp, Duration::from_millis(3)), (Stage::Kernel, Duration::from_secs(2))];
        report.add(Outcome { lease: None, steps, end: Ok(()) });
        for _ in 0..2 {
            report.add(Outcome { lease: None, steps: vec![], end: Err(crate::fleet::Failure::NoMenu) });
        }
        report.wall = Duration::from_secs(2);
        report.octets = 4_000_000;
        let text = report.to_string();
        assert_eq!((report.booted, report.failed()), (1, 2));
        assert!(text.contains("1 of 3 machines booted in 2.00 s: 4 MB, 2 MB/s"), "{text}");
        assert!(text.contains("2 failed: no menu found"), "{text}");
    }

    #[test]
    fn times_are_written_in_the_unit_a_person_would_choose() {
        let written: Vec<_> = [70, 9_999, 12_345, 2_340_000].into_iter().map(|us| Pretty(us).to_string()).collect();
        assert_eq!(written, ["0.07 ms", "10.00 ms", "12 ms", "2.34 s"]);
    }
}
