//! The search itself: one knob at a time, each value beside the present one in the same rounds. It
//! knows no process, file or clock.
//!
//! The rounds of all values choose the one with the best median, which is often the luckiest. So it
//! runs again, with only the present value beside it, and is taken only if it was better by more
//! than [`MARGIN`] in nearly every round ([`WON_AFTER`]). A knob without any effect passes that
//! with 1 in 28 at most, however large the noise, and other load that disturbs a round or two hides
//! no large gain.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

/// A value must need less than the present one by more than this share.
pub(super) const MARGIN: f64 = 0.03;
/// Rounds of a confirmation, and the rounds that a value may lose in them and still win. The same
/// decides on all winners together.
pub(super) const WON_AFTER: [(usize, usize); 3] = [(6, 0), (9, 1), (12, 2)];
/// Runs of a confirmation without a lost round.
const CONFIRMATION_RUNS: usize = 2 * WON_AFTER[0].0;
/// The most tries of a knob: a second one if another knob has changed since.
const PASSES_MAX: usize = 2;
/// Rounds that are repeated because the server failed with the present values; one more ends the
/// search.
const VOID_ROUNDS_MAX: usize = 2;

/// A number of the configuration that the search changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TuneKnob {
    pub(super) name: &'static str,
    /// The present value.
    pub(super) now: u64,
    /// Values to try, rising. The present one need not be among them.
    pub(super) ladder: Vec<u64>,
}

/// Knobs that differ from their present values, by name.
pub(super) type KnobValues = BTreeMap<&'static str, u64>;

/// Makes the runs of a search.
pub(super) trait TuneBench {
    /// One run of a server with these values: the goal, of which less is better. None: machines
    /// failed, or there was no server.
    fn run(&mut self, values: &KnobValues) -> Result<Option<f64>, TuneStop>;
    /// The time since the search began.
    fn elapsed(&self) -> Duration;
}

/// Why a search ends early.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum TuneStop {
    #[error("interrupted")]
    Interrupted,
    #[error("the budget is used up")]
    TimeIsOver,
    #[error("{0}")]
    Broken(String),
}

/// The bounds of a search.
#[derive(Clone, Copy, Debug)]
pub(super) struct TuneBounds {
    /// Rounds of each knob; 3 at least.
    pub(super) rounds: usize,
    pub(super) budget: Duration,
    /// The time of the first run, used until there are others.
    pub(super) run: Duration,
}

/// A search with its winners so far.
#[derive(Debug)]
pub(super) struct KnobSearch {
    knobs: Vec<TuneKnob>,
    bounds: TuneBounds,
    /// Winners so far.
    best: KnobValues,
    /// Knobs tried since the last winner, itself included, and in all.
    since_change: usize,
    visits: usize,
    runs: u32,
    void_rounds: usize,
    tried: Vec<&'static str>,
}

/// One knob's values, measured.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct TriedKnob {
    pub(super) knob: &'static str,
    /// The value to which the ratios refer, and the goals of its runs.
    pub(super) reference: u64,
    pub(super) reference_runs: Vec<f64>,
    pub(super) values: Vec<TriedValue>,
    pub(super) verdict: KnobVerdict,
}

/// One value beside the present one.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct TriedValue {
    pub(super) value: u64,
    /// The goals of the rounds in which it did not fail.
    pub(super) runs: Vec<f64>,
    pub(super) ratios: RoundRatios,
    /// Machines failed with this value: the search does not try it again.
    pub(super) failed: bool,
}

/// The ratios of two values, one for each round.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(super) struct RoundRatios(pub(super) Vec<f64>);

#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum KnobVerdict {
    /// The confirmation proves the value better.
    Won { value: u64, confirmation: RoundRatios },
    /// The value is the best of the rounds, but not in the confirmation.
    NotConfirmed { value: u64, confirmation: RoundRatios },
    /// No value's median is better by more than the margin.
    LeftAlone,
    /// The budget ended before the verdict.
    TimeIsOver,
}

impl KnobSearch {
    pub(super) fn new(knobs: Vec<TuneKnob>, bounds: TuneBounds) -> Self {
        let best = KnobValues::new();
        Self {
            knobs,
            bounds,
            best,
            since_change: 0,
            visits: 0,
            runs: 0,
            void_rounds: 0,
            tried: Vec::new(),
        }
    }

    /// Tries the next knob; None if no other knob fits into the budget, or no value has changed
    /// since every knob was tried.
    pub(super) fn try_next_knob(
        &mut self,
        bench: &mut impl TuneBench,
    ) -> Result<Option<TriedKnob>, TuneStop> {
        while self.since_change < self.knobs.len() && self.visits < PASSES_MAX * self.knobs.len() {
            let knob = self.knobs[self.visits % self.knobs.len()].clone();
            self.visits += 1;
            self.since_change += 1;

            // A later knob may have fewer values and still fit.
            if bench.elapsed() + self.time_of(self.runs_for(&knob), bench) > self.bounds.budget {
                continue;
            }
            let tried = self.try_knob(&knob, bench)?;

            // A winner changes the ground for all other knobs, so their count begins again. A value
            // that won back its original one is no change and leaves `best`.
            if let KnobVerdict::Won { value, .. } = tried.verdict {
                self.since_change = 1;
                self.best.insert(knob.name, value);
                self.best.retain(|name, value| {
                    self.knobs.iter().any(|knob| knob.name == *name && knob.now != *value)
                });
            }
            if tried.verdict != KnobVerdict::TimeIsOver {
                self.tried.push(knob.name);
            }
            return Ok(Some(tried));
        }
        Ok(None)
    }

    /// All winners together beside the present values, in new rounds. None: there is no winner.
    pub(super) fn confirm_together(
        &mut self,
        bench: &mut impl TuneBench,
    ) -> Result<Option<RoundRatios>, TuneStop> {
        if self.best.is_empty() {
            return Ok(None);
        }
        let best = self.best.clone();
        self.compare_in_turns(&KnobValues::new(), &best, bench).map(Some)
    }

    /// Winners so far.
    pub(super) fn best(&self) -> &KnobValues {
        &self.best
    }

    /// Knobs that did not fit into the budget.
    pub(super) fn left_out(&self) -> Vec<&'static str> {
        self.knobs.iter().map(|knob| knob.name).filter(|name| !self.tried.contains(name)).collect()
    }

    /// The time of all knobs if each is tried once and one of them wins.
    pub(super) fn time_needed(&self, bench: &impl TuneBench) -> Duration {
        let rounds = self.knobs.iter().map(|knob| self.runs_for(knob) - 2 * CONFIRMATION_RUNS);
        self.time_of(rounds.sum::<usize>() + 2 * CONFIRMATION_RUNS, bench)
    }

    /// The time of the knob with the fewest values.
    pub(super) fn time_of_least(&self, bench: &impl TuneBench) -> Duration {
        self.time_of(self.knobs.iter().map(|knob| self.runs_for(knob)).min().unwrap_or(0), bench)
    }

    /// Its rounds, its confirmation, and the rounds of all winners together.
    fn runs_for(&self, knob: &TuneKnob) -> usize {
        self.bounds.rounds * (1 + list_candidates(knob, knob.now).len()) + 2 * CONFIRMATION_RUNS
    }

    fn time_of(&self, runs: usize, bench: &impl TuneBench) -> Duration {
        let one = if self.runs == 0 { self.bounds.run } else { bench.elapsed() / self.runs };
        one.saturating_mul(u32::try_from(runs).unwrap_or(u32::MAX))
    }

    fn try_knob(
        &mut self,
        knob: &TuneKnob,
        bench: &mut impl TuneBench,
    ) -> Result<TriedKnob, TuneStop> {
        let reference = self.best.get(knob.name).copied().unwrap_or(knob.now);
        let mut tried = TriedKnob {
            knob: knob.name,
            reference,
            reference_runs: Vec::new(),
            values: list_candidates(knob, reference).into_iter().map(TriedValue::new).collect(),
            verdict: KnobVerdict::LeftAlone,
        };

        // If the budget ends in the middle, the rounds so far are still worth printing.
        tried.verdict = match self
            .run_rounds(knob, &mut tried, bench)
            .and_then(|()| self.judge_knob(knob, &tried, bench))
        {
            Err(TuneStop::TimeIsOver) => KnobVerdict::TimeIsOver,
            other => other?,
        };
        Ok(tried)
    }

    /// Each round runs the present value and all others once; every other round backwards, so that
    /// a drift of the machine favours no value in all of them.
    fn run_rounds(
        &mut self,
        knob: &TuneKnob,
        tried: &mut TriedKnob,
        bench: &mut impl TuneBench,
    ) -> Result<(), TuneStop> {
        while tried.reference_runs.len() < self.bounds.rounds {
            let mut order: Vec<Option<usize>> =
                [None].into_iter().chain((0..tried.values.len()).map(Some)).collect();
            if tried.reference_runs.len() % 2 == 1 {
                order.reverse();
            }
            let (mut now, mut others) = (None, vec![None; tried.values.len()]);
            for place in order {
                match place {
                    None => now = self.run(&self.best.clone(), bench)?,
                    Some(place) if tried.values[place].failed => {}
                    Some(place) => {
                        let mut values = self.best.clone();
                        values.insert(knob.name, tried.values[place].value);
                        others[place] = Some(self.run(&values, bench)?);
                    }
                }
            }

            // Without the present value nothing in this round has a ratio: the whole round is
            // repeated.
            let Some(now) = now else {
                self.count_void_round()?;
                continue;
            };
            tried.reference_runs.push(now);
            for (tries, run) in tried.values.iter_mut().zip(others) {
                tries.record_run(run.flatten(), now);
            }
        }
        Ok(())
    }

    fn judge_knob(
        &mut self,
        knob: &TuneKnob,
        tried: &TriedKnob,
        bench: &mut impl TuneBench,
    ) -> Result<KnobVerdict, TuneStop> {
        let Some(value) = pick_winner(&tried.values, tried.reference, self.bounds.rounds) else {
            return Ok(KnobVerdict::LeftAlone);
        };
        let (reference, mut values) = (self.best.clone(), self.best.clone());
        values.insert(knob.name, value);
        let confirmation = self.compare_in_turns(&reference, &values, bench)?;
        Ok(match confirmation.have_won() {
            true => KnobVerdict::Won { value, confirmation },
            false => KnobVerdict::NotConfirmed { value, confirmation },
        })
    }

    /// Runs two settings in turns, each first in every other round, until the rule decides.
    fn compare_in_turns(
        &mut self,
        now: &KnobValues,
        other: &KnobValues,
        bench: &mut impl TuneBench,
    ) -> Result<RoundRatios, TuneStop> {
        let mut ratios = RoundRatios::default();
        while ratios.decide().is_none() {
            let (now, other) = if ratios.0.len() % 2 == 0 {
                let now = self.run(now, bench)?;
                (now, self.run(other, bench)?)
            } else {
                let other = self.run(other, bench)?;
                (self.run(now, bench)?, other)
            };

            // A failure with the present values proves nothing about the others. A failure of the
            // others is a lost round.
            match (now, other) {
                (None, _) => self.count_void_round()?,
                (Some(_), None) => ratios.0.push(f64::INFINITY),
                (Some(now), Some(other)) => ratios.0.push(other / now),
            }
        }
        Ok(ratios)
    }

    fn run(
        &mut self,
        values: &KnobValues,
        bench: &mut impl TuneBench,
    ) -> Result<Option<f64>, TuneStop> {
        if bench.elapsed() >= self.bounds.budget {
            return Err(TuneStop::TimeIsOver);
        }
        self.runs += 1;
        Ok(bench.run(values)?.filter(|goal| *goal > 0.0))
    }

    fn count_void_round(&mut self) -> Result<(), TuneStop> {
        self.void_rounds += 1;
        if self.void_rounds > VOID_ROUNDS_MAX {
            let times = self.void_rounds;
            return Err(TuneStop::Broken(format!(
                "machines failed {times} times with the present values"
            )));
        }
        Ok(())
    }
}

/// The ladder and the present value, without the reference.
fn list_candidates(knob: &TuneKnob, reference: u64) -> Vec<u64> {
    let mut values: Vec<u64> =
        knob.ladder.iter().copied().chain([knob.now]).filter(|value| *value != reference).collect();
    values.sort_unstable();
    values.dedup();
    values
}

/// The best of the values whose median is better; among those within [`MARGIN`] of it, the one
/// nearest to the present value.
fn pick_winner(values: &[TriedValue], reference: u64, rounds: usize) -> Option<u64> {
    let better = |tries: &&TriedValue| {
        tries.ratios.0.len() >= rounds && is_better_ratio(tries.ratios.median())
    };
    let best =
        values.iter().filter(better).map(|tries| tries.ratios.median()).min_by(f64::total_cmp)?;
    let near =
        values.iter().filter(better).filter(|tries| tries.ratios.median() * (1.0 - MARGIN) <= best);
    near.map(|tries| tries.value).min_by_key(|value| value.abs_diff(reference))
}

fn is_better_ratio(ratio: f64) -> bool {
    ratio < 1.0 - MARGIN
}

impl TriedValue {
    fn new(value: u64) -> Self {
        Self { value, runs: Vec::new(), ratios: RoundRatios::default(), failed: false }
    }

    fn record_run(&mut self, run: Option<f64>, now: f64) {
        match run {
            Some(run) => {
                self.runs.push(run);
                self.ratios.0.push(run / now);
            }
            None => self.failed = true,
        }
    }
}

impl RoundRatios {
    /// Whether the value has won; None while the rule needs more rounds.
    fn decide(&self) -> Option<bool> {
        let (rounds, lost) = (self.0.len(), self.0.len() - self.count_won());
        let (rounds_max, lost_max) = WON_AFTER[WON_AFTER.len() - 1];
        if WON_AFTER.iter().any(|(after, most)| rounds == *after && lost <= *most) {
            return Some(true);
        }
        (rounds >= rounds_max || lost > lost_max).then_some(false)
    }

    pub(super) fn have_won(&self) -> bool {
        self.decide() == Some(true)
    }

    /// Rounds that were better by more than the margin.
    pub(super) fn count_won(&self) -> usize {
        self.0.iter().filter(|ratio| is_better_ratio(**ratio)).count()
    }

    /// 1 of none.
    pub(super) fn median(&self) -> f64 {
        compute_median(&self.0).unwrap_or(1.0)
    }

    /// The least and the greatest.
    pub(super) fn range(&self) -> (f64, f64) {
        let least = self.0.iter().copied().fold(f64::INFINITY, f64::min);
        (least, self.0.iter().copied().fold(0.0, f64::max))
    }
}

/// None of nothing.
pub(super) fn compute_median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let (low, high) =
        (sorted.get(sorted.len().checked_sub(1)? / 2)?, sorted.get(sorted.len() / 2)?);
    Some(f64::midpoint(*low, *high))
}

#[cfg(test)]
mod tests;
