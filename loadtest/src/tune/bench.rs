//! Real runs for a search: each a process with a private server of its own, and a line that says
//! how far it is.

use std::time::{Duration, Instant};

use ringboot::config::Config;
use ringboot_fleet::Pretty;
use serde::Serialize;

use super::goal::Goal;
use super::knobs::KNOBS;
use super::search::{Bench, Stop, Values};
use crate::child::{self, Ended};
use crate::interrupt::Interrupted;
use crate::json::Document;
use crate::ticker::Ticker;

/// Runs of one scenario against private servers, with all that they told.
pub(super) struct Runs {
    /// Of every run, before its settings.
    arguments: Vec<String>,
    /// What the private server is set to where a run says nothing else.
    now: Config,
    goal: Goal,
    /// Machines begin again until the time is over.
    timed: bool,
    ticker: Ticker,
    interrupted: Interrupted,
    done: Vec<Run>,
}

/// One run.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Run {
    /// What differed from now.
    pub(super) values: Values,
    /// In the order of [`Goal::ALL`], seconds; None of a run that failed.
    pub(super) goals: Option<[Option<f64>; Goal::ALL.len()]>,
    /// Why it failed.
    pub(super) failure: Option<String>,
    pub(super) generator_was_limit: bool,
}

impl Runs {
    /// The first Ctrl-C ends the search after the run that goes on, which ends by itself; the
    /// second ends it at once.
    pub(super) fn new(
        arguments: Vec<String>,
        now: Config,
        goal: Goal,
        timed: bool,
    ) -> anyhow::Result<Self> {
        let (ticker, interrupted) = (Ticker::new()?, Interrupted::watch()?);
        Ok(Self { arguments, now, goal, timed, ticker, interrupted, done: Vec::new() })
    }

    /// A run whose report is wanted: the first, which finds nothing in any cache.
    pub(super) fn warm_up(&mut self) -> anyhow::Result<(Document, Duration)> {
        let begun = Instant::now();
        let report = match child::run(&self.arguments_of(&Values::new()))? {
            Ended::Report(report) => *report,
            Ended::Interrupted => return Err(Stop::Interrupted.into()),
            Ended::Failed(why) => return Err(Stop::Broken(why).into()),
        };
        if let Some(failure) = failure(&report) {
            return Err(Stop::Broken(format!(
                "the server as it is now, before anything is changed: {failure}"
            ))
            .into());
        }
        self.measured(&report)?;
        Ok((report, begun.elapsed()))
    }

    /// In the order in which they were made.
    pub(super) fn done(&self) -> &[Run] {
        &self.done
    }

    /// Takes the line away, so that a table can be written.
    pub(super) fn in_front<T>(&self, write: impl FnOnce() -> T) -> T {
        self.ticker.in_front(write)
    }

    pub(super) fn finish(&self) {
        self.ticker.finish();
    }

    /// Settings that the private server would not have by itself.
    fn arguments_of(&self, values: &Values) -> Vec<String> {
        let plain = Config::for_root("/");
        let mut arguments = self.arguments.clone();
        for spec in &KNOBS {
            let value = values.get(spec.name).copied().unwrap_or_else(|| spec.value_in(&self.now));
            if value != spec.value_in(&plain) {
                arguments
                    .extend(["--set".to_owned(), format!("{}.{}={value}", spec.table, spec.name)]);
            }
        }
        arguments
    }

    fn measured(&self, report: &Document) -> Result<[Option<f64>; Goal::ALL.len()], Stop> {
        if self.goal.of(report, self.timed).is_none() {
            let words = self.goal.words(self.timed);
            return Err(Stop::Broken(format!(
                "a run is too short to measure the {words}: give it more --clients"
            )));
        }
        Ok(Goal::ALL.map(|goal| goal.of(report, self.timed)))
    }

    fn tell(&mut self, values: &Values) {
        let values: Vec<String> =
            values.iter().map(|(name, value)| format!("{name} = {value}")).collect();
        let values = if values.is_empty() { "as it is now".to_owned() } else { values.join(", ") };
        let last = self.done.iter().rev().find_map(|run| run.goals?[self.goal as usize]);
        let last = last.map_or(String::new(), |last| format!("; the last took {}", seconds(last)));
        self.ticker.tell(&format!("run {}: {values}{last}", self.done.len() + 1));
    }
}

impl Bench for Runs {
    fn run(&mut self, values: &Values) -> Result<Option<f64>, Stop> {
        self.tell(values);
        let ended = child::run(&self.arguments_of(values))
            .map_err(|error| Stop::Broken(format!("{error:#}")))?;
        if self.interrupted.is() {
            return Err(Stop::Interrupted);
        }
        let (goals, failure, generator_was_limit) = match ended {
            Ended::Interrupted => return Err(Stop::Interrupted),
            Ended::Failed(why) => (None, Some(why), false),
            Ended::Report(report) => {
                let failure = failure(&report);
                let goals = if failure.is_none() { Some(self.measured(&report)?) } else { None };
                (goals, failure, report.summary.client_was_limit)
            }
        };
        self.done.push(Run { values: values.clone(), goals, failure, generator_was_limit });
        Ok(goals.and_then(|goals| goals[self.goal as usize]))
    }

    fn elapsed(&self) -> Duration {
        self.ticker.elapsed()
    }
}

/// Why a run says nothing of how fast a server is.
fn failure(report: &Document) -> Option<String> {
    let summary = &report.summary;
    let first = report
        .failures
        .first()
        .map_or(String::new(), |failed| format!(", first of all: {}", failed.shown()));
    (summary.failed > 0)
        .then(|| format!("{} of {} machines failed{first}", summary.failed, summary.machines))
}

/// A time in the unit that a person would choose.
pub(super) fn seconds(seconds: f64) -> Pretty {
    // Negative and immense times do not come from clocks.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    Pretty((seconds * 1e6).round() as u64)
}
