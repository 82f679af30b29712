//! Chooses the next number of machines: twice as many until a run misses, then the middle of the
//! rest. It knows no process, file or clock.
//!
//! On the way up each number has one run. Once a run has missed, the search confirms the number
//! below, then brings the ends together. The answer has held in all of its runs, and the least
//! number that missed has as many runs.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

/// The bounds of a search.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct LimitQuestion {
    /// The least number of machines that the search tries.
    pub(super) least: u32,
    /// The greatest number.
    pub(super) most: u32,
    /// The number with which it begins.
    pub(super) first: u32,
    /// Runs in which a number must hold.
    pub(super) repeat: u32,
    /// The search ends when its two ends are no further apart than this share of the number that
    /// held.
    pub(super) precision: f64,
    pub(super) budget: Duration,
}

/// The next step of a search.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LimitStep {
    Run(u32),
    Done(LimitSearchEnd),
}

/// Why a search has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum LimitSearchEnd {
    /// The two ends are close enough.
    Narrow,
    /// The greatest allowed number has held.
    AtMost,
    /// The least number missed.
    AtLeast,
    TimeIsOver,
}

/// The runs with one number of machines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct MachineLevel {
    pub(super) held: u32,
    pub(super) missed: u32,
    #[serde(skip)]
    took: Duration,
}

/// A search with the runs so far.
#[derive(Clone, Debug)]
pub(super) struct LimitSearch {
    question: LimitQuestion,
    levels: BTreeMap<u32, MachineLevel>,
}

impl LimitSearch {
    pub(super) fn new(question: LimitQuestion) -> Self {
        Self { question, levels: BTreeMap::new() }
    }

    /// Records a run with this number of machines.
    pub(super) fn record_run(&mut self, machines: u32, held: bool, took: Duration) {
        let level = self.levels.entry(machines).or_default();
        *(if held { &mut level.held } else { &mut level.missed }) += 1;
        level.took += took;
    }

    /// `elapsed`: since the search began.
    pub(super) fn next_step(&self, elapsed: Duration) -> LimitStep {
        let next = self.choose_step();
        let LimitStep::Run(machines) = next else { return next };
        if self.levels.is_empty()
            || elapsed + self.time_of(machines) + self.time_to_confirm(machines)
                <= self.question.budget
        {
            return next;
        }
        // Use the remaining time to confirm the best number of the way up.
        self.find_affordable(elapsed)
            .map_or(LimitStep::Done(LimitSearchEnd::TimeIsOver), LimitStep::Run)
    }

    /// The greatest number that has held so far and whose missing runs fit into the budget, if it
    /// is greater than the confirmed one.
    fn find_affordable(&self, elapsed: Duration) -> Option<u32> {
        let (sure, below) = (self.held().unwrap_or(0), self.missed().unwrap_or(u32::MAX));
        self.levels
            .range(..below)
            .rev()
            .map(|(machines, _)| *machines)
            .find(|machines| elapsed + self.time_to_be_sure(*machines) <= self.question.budget)
            .filter(|machines| *machines > sure)
    }

    /// The next step without regard to the budget.
    fn choose_step(&self) -> LimitStep {
        let LimitQuestion { least, most, first, repeat, .. } = self.question;
        match (self.greatest_held_once(), self.missed()) {
            (None, None) => LimitStep::Run(first),
            (None, Some(high)) if high <= least => {
                self.finish_search(high, LimitSearchEnd::AtLeast)
            }
            (None, Some(high)) => LimitStep::Run((high / 2).max(least)),
            (Some(low), None) if low < most => LimitStep::Run(low.saturating_mul(2).min(most)),
            (Some(low), None) if self.runs(low) < repeat => LimitStep::Run(low),
            (Some(_), None) => LimitStep::Done(LimitSearchEnd::AtMost),
            // Confirm one number before the ends come together: then there is an answer whenever
            // the budget ends.
            (Some(low), Some(_)) if self.held().is_none() && self.runs(low) < repeat => {
                LimitStep::Run(low)
            }
            (Some(low), Some(high)) if high - low > self.step(low) => {
                LimitStep::Run(low.midpoint(high))
            }
            (Some(low), Some(_)) if self.runs(low) < repeat => LimitStep::Run(low),
            (Some(_), Some(high)) => self.finish_search(high, LimitSearchEnd::Narrow),
        }
    }

    /// The end, once the least number that missed has as many runs as the others.
    fn finish_search(&self, high: u32, end: LimitSearchEnd) -> LimitStep {
        if self.runs(high) < self.question.repeat {
            LimitStep::Run(high)
        } else {
            LimitStep::Done(end)
        }
    }

    /// The greatest number below all that missed which has held in every run, and has all of
    /// `repeat`.
    pub(super) fn held(&self) -> Option<u32> {
        let below = self.missed().unwrap_or(u32::MAX);
        self.levels
            .range(..below)
            .rev()
            .find(|(_, level)| level.missed == 0 && level.held >= self.question.repeat)
            .map(|(machines, _)| *machines)
    }

    /// The least number that missed in any run.
    pub(super) fn missed(&self) -> Option<u32> {
        self.levels.iter().find(|(_, level)| level.missed > 0).map(|(machines, _)| *machines)
    }

    /// The greatest number below all that missed which has held, however often.
    fn greatest_held_once(&self) -> Option<u32> {
        let below = self.missed().unwrap_or(u32::MAX);
        self.levels.range(..below).next_back().map(|(machines, _)| *machines)
    }

    pub(super) fn level(&self, machines: u32) -> MachineLevel {
        self.levels.get(&machines).copied().unwrap_or_default()
    }

    fn runs(&self, machines: u32) -> u32 {
        self.level(machines).runs()
    }

    /// The number that has held, but does not yet have all its runs.
    fn find_unconfirmed(&self) -> Option<u32> {
        self.greatest_held_once().filter(|low| self.runs(*low) < self.question.repeat)
    }

    /// The allowed distance of the two ends.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    fn step(&self, low: u32) -> u32 {
        ((f64::from(low) * self.question.precision) as u32).max(1)
    }

    /// The expected time of a run with this number of machines: in proportion to the runs of the
    /// next number below.
    fn time_of(&self, machines: u32) -> Duration {
        let known =
            self.levels.range(..=machines).next_back().or_else(|| self.levels.iter().next());
        let Some((known, level)) = known else { return Duration::ZERO };
        let each = level.took / level.runs().max(1);
        each.mul_f64(f64::from(machines) / f64::from((*known).max(1)))
    }

    /// The time of the runs that the held number still needs, if the next run is of another number.
    fn time_to_confirm(&self, machines: u32) -> Duration {
        self.find_unconfirmed()
            .filter(|low| *low != machines)
            .map_or(Duration::ZERO, |low| self.time_to_be_sure(low))
    }

    /// The time of the runs that a number still needs.
    fn time_to_be_sure(&self, machines: u32) -> Duration {
        self.time_of(machines) * self.question.repeat.saturating_sub(self.runs(machines))
    }
}

impl MachineLevel {
    pub(super) fn runs(self) -> u32 {
        self.held + self.missed
    }

    /// With 95 % confidence at least this share of such runs hold (the lower bound of Clopper and
    /// Pearson).
    pub(super) fn holds_at_least(self) -> f64 {
        compute_share_bound(self.held, self.runs())
    }

    /// The same for those that miss.
    pub(super) fn misses_at_least(self) -> f64 {
        compute_share_bound(self.missed, self.runs())
    }
}

/// The probability that a bound is wrong.
const DOUBT: f64 = 0.05;
/// Halvings that give a share more digits than the report prints.
const HALVINGS: u32 = 40;

/// The share for which `hits` of `runs` or more would come up in one of twenty trials.
fn compute_share_bound(hits: u32, runs: u32) -> f64 {
    if hits == 0 {
        return 0.0;
    }
    let (mut low, mut high) = (0.0, 1.0);
    for _ in 0..HALVINGS {
        let share = f64::midpoint(low, high);
        if compute_tail_probability(hits, runs, share) < DOUBT { low = share } else { high = share }
    }
    low
}

/// The probability of `hits` or more in `runs` runs, each of which hits with probability `share`.
fn compute_tail_probability(hits: u32, runs: u32, share: f64) -> f64 {
    let exactly = (hits..=runs).map(|k| {
        count_orders(k, runs) * raise_share(share, k) * raise_share(1.0 - share, runs - k)
    });
    exactly.sum()
}

/// The number of orders in which `hits` of `runs` runs can hit.
fn count_orders(hits: u32, runs: u32) -> f64 {
    (1..=hits).fold(1.0, |orders, i| orders * f64::from(runs - hits + i) / f64::from(i))
}

fn raise_share(share: f64, exponent: u32) -> f64 {
    share.powi(i32::try_from(exponent).unwrap_or(i32::MAX))
}

#[cfg(test)]
mod tests;
