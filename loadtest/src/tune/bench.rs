//! Real runs for a search: each is a process with its own private server, and a line shows the
//! progress.

use std::time::{Duration, Instant};

use ringboot::config::Config;
use ringboot_fleet::PrettyMicroseconds;
use serde::Serialize;

use super::goal::TuneGoal;
use super::knobs::KNOBS;
use super::search::{KnobValues, TuneBench, TuneStop};
use crate::child::{self, ChildOutcome};
use crate::interrupt::InterruptFlag;
use crate::json::ReportDocument;
use crate::ticker::RunTicker;

/// Runs of one scenario against private servers, with their results.
pub(super) struct TuneRuns {
    /// The arguments of every run, before its settings.
    arguments: Vec<String>,
    /// The settings of the private server, unless a run changes them.
    now: Config,
    goal: TuneGoal,
    /// The scenario has a set duration.
    timed: bool,
    ticker: RunTicker,
    interrupted: InterruptFlag,
    done: Vec<TuneRun>,
}

/// One run.
#[derive(Clone, Debug, Serialize)]
pub(super) struct TuneRun {
    /// The settings that differed from the present ones.
    pub(super) values: KnobValues,
    /// In the order of [`TuneGoal::ALL`], seconds; None for a failed run.
    pub(super) goals: Option<[Option<f64>; TuneGoal::ALL.len()]>,
    /// Why it failed.
    pub(super) failure: Option<String>,
    pub(super) generator_was_limit: bool,
}

impl TuneRuns {
    /// The first Ctrl-C also reaches the present run, and ends the search after it; the second ends
    /// the search at once.
    pub(super) fn new(
        arguments: Vec<String>,
        now: Config,
        goal: TuneGoal,
        timed: bool,
    ) -> anyhow::Result<Self> {
        let (ticker, interrupted) = (RunTicker::new()?, InterruptFlag::watch()?);
        Ok(Self { arguments, now, goal, timed, ticker, interrupted, done: Vec::new() })
    }

    /// The first run, which finds cold caches and does not count; returns its report.
    pub(super) fn warm_up(&mut self) -> anyhow::Result<(ReportDocument, Duration)> {
        let begun = Instant::now();
        let report = match child::run_child_process(&self.build_arguments(&KnobValues::new()))? {
            ChildOutcome::Report(report) => *report,
            ChildOutcome::Interrupted => return Err(TuneStop::Interrupted.into()),
            ChildOutcome::Failed(why) => return Err(TuneStop::Broken(why).into()),
        };
        if let Some(failure) = find_run_failure(&report) {
            return Err(TuneStop::Broken(format!(
                "the server fails with the present values: {failure}"
            ))
            .into());
        }
        self.measure_goals(&report)?;
        Ok((report, begun.elapsed()))
    }

    /// The runs in their order.
    pub(super) fn finished_runs(&self) -> &[TuneRun] {
        &self.done
    }

    /// Hides the line while `write` writes a table.
    pub(super) fn print_above<T>(&self, write: impl FnOnce() -> T) -> T {
        self.ticker.print_above(write)
    }

    pub(super) fn finish(&self) {
        self.ticker.finish();
    }

    /// The arguments of a run: settings that differ from the private server's defaults.
    fn build_arguments(&self, values: &KnobValues) -> Vec<String> {
        let plain = Config::for_root("/");
        let mut arguments = self.arguments.clone();
        for spec in &KNOBS {
            let value =
                values.get(spec.name).copied().unwrap_or_else(|| spec.read_value(&self.now));
            if value != spec.read_value(&plain) {
                arguments
                    .extend(["--set".to_owned(), format!("{}.{}={value}", spec.table, spec.name)]);
            }
        }
        arguments
    }

    fn measure_goals(
        &self,
        report: &ReportDocument,
    ) -> Result<[Option<f64>; TuneGoal::ALL.len()], TuneStop> {
        if self.goal.measure_report(report, self.timed).is_none() {
            let words = self.goal.describe(self.timed);
            return Err(TuneStop::Broken(format!(
                "a run is too short to measure the {words}: give it more --clients"
            )));
        }
        Ok(TuneGoal::ALL.map(|goal| goal.measure_report(report, self.timed)))
    }

    fn show_progress(&mut self, values: &KnobValues) {
        let values: Vec<String> =
            values.iter().map(|(name, value)| format!("{name} = {value}")).collect();
        let values =
            if values.is_empty() { "the present values".to_owned() } else { values.join(", ") };
        let last = self.done.iter().rev().find_map(|run| run.goals?[self.goal as usize]);
        let last =
            last.map_or(String::new(), |last| format!("; the last took {}", format_seconds(last)));
        self.ticker.show_step(&format!("run {}: {values}{last}", self.done.len() + 1));
    }
}

impl TuneBench for TuneRuns {
    fn run(&mut self, values: &KnobValues) -> Result<Option<f64>, TuneStop> {
        self.show_progress(values);
        let ended = child::run_child_process(&self.build_arguments(values))
            .map_err(|error| TuneStop::Broken(format!("{error:#}")))?;
        if self.interrupted.is_set() {
            return Err(TuneStop::Interrupted);
        }
        let (goals, failure, generator_was_limit) = match ended {
            ChildOutcome::Interrupted => return Err(TuneStop::Interrupted),
            ChildOutcome::Failed(why) => (None, Some(why), false),
            ChildOutcome::Report(report) => {
                let failure = find_run_failure(&report);
                let goals =
                    if failure.is_none() { Some(self.measure_goals(&report)?) } else { None };
                (goals, failure, report.summary.client_was_limit)
            }
        };
        self.done.push(TuneRun { values: values.clone(), goals, failure, generator_was_limit });
        Ok(goals.and_then(|goals| goals[self.goal as usize]))
    }

    fn elapsed(&self) -> Duration {
        self.ticker.elapsed()
    }
}

/// Why a run does not measure a server's speed.
fn find_run_failure(report: &ReportDocument) -> Option<String> {
    let summary = &report.summary;
    let first = report
        .failures
        .first()
        .map_or(String::new(), |failed| format!(", most of them: {}", failed.describe()));
    (summary.failed > 0)
        .then(|| format!("{} of {} machines failed{first}", summary.failed, summary.machines))
}

/// A time in the unit that a person would choose.
pub(super) fn format_seconds(seconds: f64) -> PrettyMicroseconds {
    // A clock gives no negative and no immense times.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    PrettyMicroseconds((seconds * 1e6).round() as u64)
}
