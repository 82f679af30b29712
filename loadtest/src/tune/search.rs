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
            if bench.elapsed() + self.time_of(self.runs_for(&knob), bench) > self.bounds.budget {
                continue;
            }
            let tried = self.try_knob(&knob, bench)?;
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
        let rounds = |knob| self.runs_for(knob) - 2 * CONFIRMATION_RUNS;
        let runs = self.knobs.iter().map(rounds).sum::<usize>() + 2 * CONFIRMATION_RUNS;
        self.time_of(runs, bench)
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
        tried.verdict = match self
            .run_rounds(knob, &mut tried, bench)
            .and_then(|()| self.judge_knob(knob, &tried, bench))
        {
            Err(TuneStop::TimeIsOver) => KnobVerdict::TimeIsOver,
            other => other?,
        };
        Ok(tried)
    }

    /// Each round runs the present value and all others once; every other round backwards, so that a
    /// drift of the machine favours no value in all of them.
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
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;

    /// A machine that is made up: what a run takes is a function of the values, times noise.
    struct MadeUp<F> {
        effect: F,
        noise: Noise,
        seed: u64,
        runs: u32,
        /// Each run by so much longer than the one before.
        drift: f64,
        interrupted_after: u32,
    }

    #[derive(Clone, Copy, Debug)]
    enum Noise {
        /// Normal, of this deviation.
        Even(f64),
        /// One run of so many takes three times as long; the others have one of 2 %.
        Bursts(u64),
    }

    const RUN: Duration = Duration::from_secs(2);

    impl<F: Fn(&KnobValues) -> Option<f64>> MadeUp<F> {
        fn new(effect: F, noise: Noise, seed: u64) -> Self {
            Self { effect, noise, seed, runs: 0, drift: 0.0, interrupted_after: u32::MAX }
        }

        /// From 0 to 1 (splitmix64).
        fn even(&mut self) -> f64 {
            self.seed = self.seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut mixed = (self.seed ^ (self.seed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            ((mixed ^ (mixed >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
        }

        fn normal(&mut self) -> f64 {
            (0..12).map(|_| self.even()).sum::<f64>() - 6.0
        }
    }

    impl<F: Fn(&KnobValues) -> Option<f64>> TuneBench for MadeUp<F> {
        fn run(&mut self, values: &KnobValues) -> Result<Option<f64>, TuneStop> {
            if self.runs >= self.interrupted_after {
                return Err(TuneStop::Interrupted);
            }
            self.runs += 1;
            let even = self.even();
            let factor = match self.noise {
                Noise::Even(deviation) => (1.0 + deviation * self.normal()).max(0.05),
                Noise::Bursts(one_of) if even * (one_of as f64) < 1.0 => 3.0,
                Noise::Bursts(_) => 1.0 + 0.02 * self.normal(),
            };
            let drift = 1.0 + self.drift * f64::from(self.runs);
            Ok((self.effect)(values).map(|goal| goal * factor * drift))
        }

        fn elapsed(&self) -> Duration {
            RUN * self.runs
        }
    }

    const HOURS: TuneBounds =
        TuneBounds { rounds: 3, budget: Duration::from_secs(100 * 3600), run: RUN };

    fn knob(name: &'static str, ladder: &[u64]) -> TuneKnob {
        TuneKnob { name, now: 32, ladder: ladder.to_vec() }
    }

    fn windows() -> TuneKnob {
        knob("window", &[4, 8, 16, 32, 64])
    }

    fn of(values: &KnobValues, name: &str) -> f64 {
        values.get(name).copied().unwrap_or(32) as f64
    }

    fn searched(
        knobs: Vec<TuneKnob>,
        bounds: TuneBounds,
        bench: &mut impl TuneBench,
    ) -> (KnobSearch, Vec<TriedKnob>) {
        let mut search = KnobSearch::new(knobs, bounds);
        let mut all = Vec::new();
        while let Some(tried) = search.try_next_knob(bench).unwrap() {
            all.push(tried);
        }
        (search, all)
    }

    #[test]
    fn the_best_value_of_a_ladder_is_found_through_noise() {
        for seed in 0..50 {
            let best_at_8 =
                |values: &KnobValues| Some(1.0 + 0.2 * (of(values, "window").log2() - 3.0).abs());
            let mut bench = MadeUp::new(best_at_8, Noise::Even(0.02), seed);
            let (mut search, _) = searched(vec![windows()], HOURS, &mut bench);
            assert_eq!(search.best(), &KnobValues::from([("window", 8)]), "seed {seed}");
            let together = search.confirm_together(&mut bench).unwrap().unwrap();
            assert!(
                together.have_won() && (together.median() - 1.0 / 1.4).abs() < 0.05,
                "{together:?}"
            );
        }
    }

    #[test]
    fn a_knob_without_effect_wins_in_less_than_5_of_100_searches_whatever_the_noise() {
        let kinds = [
            Noise::Even(0.005),
            Noise::Even(0.05),
            Noise::Even(0.3),
            Noise::Bursts(4),
            Noise::Bursts(2),
        ];
        for (noise, drift) in kinds.into_iter().flat_map(|noise| [(noise, 0.0), (noise, 0.02)]) {
            let searches = 2_000;
            let won = (0..searches).filter(|seed| {
                let mut bench = MadeUp { drift, ..MadeUp::new(|_| Some(1.0), noise, seed * 7919) };
                !searched(vec![windows()], HOURS, &mut bench).0.best().is_empty()
            });
            let won = won.count();
            assert!(won * 100 < 5 * 2_000, "{won} of {searches} with {noise:?}, drift {drift}");
        }
    }

    #[test]
    fn a_value_that_wins_every_other_round_by_chance_is_confirmed_in_less_than_1_of_28() {
        let (rounds_max, _) = WON_AFTER[WON_AFTER.len() - 1];
        let confirmed = |coins: u32| {
            let coin = |round| if coins >> round & 1 == 1 { 0.5 } else { 1.5 };
            let decided = (0..=rounds_max)
                .find_map(|rounds| RoundRatios((0..rounds).map(coin).collect()).decide());
            decided.unwrap()
        };
        let all = 1 << rounds_max;
        let lucky = (0..all).filter(|coins| confirmed(*coins)).count();
        assert!(lucky * 28 < all as usize, "{lucky} of {all}");
    }

    #[test]
    fn neighbours_that_disturb_a_run_in_ten_hide_no_large_gain() {
        let effect =
            |values: &KnobValues| Some(if of(values, "window") > 32.0 { 0.62 } else { 1.0 });
        let found = (0..200).filter(|seed| {
            let mut bench = MadeUp::new(effect, Noise::Bursts(10), seed * 104_729);
            let (mut search, _) = searched(vec![windows()], HOURS, &mut bench);
            search.confirm_together(&mut bench).unwrap().is_some_and(|together| together.have_won())
        });
        let found = found.count();
        assert!(found > 120, "{found} of 200");
    }

    #[test]
    fn a_gain_inside_the_margin_is_left_alone_and_one_beyond_it_taken() {
        let gain = |percent: f64| {
            let effect = move |values: &KnobValues| {
                Some(if of(values, "window") > 32.0 { 1.0 - percent / 100.0 } else { 1.0 })
            };
            let mut bench = MadeUp::new(effect, Noise::Even(0.0), 1);
            searched(vec![windows()], HOURS, &mut bench).0.best().clone()
        };
        assert_eq!(gain(2.5), KnobValues::new());
        assert_eq!(gain(3.5), KnobValues::from([("window", 64)]));
    }

    #[test]
    fn of_values_that_are_equally_good_the_one_nearest_to_now_is_taken() {
        let effect =
            |values: &KnobValues| Some(if of(values, "window") < 32.0 { 0.8 } else { 1.0 });
        let (search, _) =
            searched(vec![windows()], HOURS, &mut MadeUp::new(effect, Noise::Even(0.005), 1));
        assert_eq!(search.best(), &KnobValues::from([("window", 16)]));
    }

    #[test]
    fn knobs_are_tried_again_where_another_one_has_changed_since() {
        // `a` matters only once `b` is 64.
        let effect = |values: &KnobValues| {
            let (a, b) = (of(values, "a"), of(values, "b"));
            Some(if b > 32.0 { 0.8 + a / 100.0 } else { 1.2 })
        };
        let mut bench = MadeUp::new(effect, Noise::Even(0.005), 3);
        let (search, tried) =
            searched(vec![knob("a", &[8, 32]), knob("b", &[32, 64])], HOURS, &mut bench);
        assert_eq!(search.best(), &KnobValues::from([("a", 8), ("b", 64)]));
        assert_eq!(tried.iter().map(|tried| tried.knob).collect::<Vec<_>>(), ["a", "b", "a", "b"]);
    }

    #[test]
    fn a_value_with_which_machines_fail_cannot_win_and_is_not_tried_again() {
        let effect = |values: &KnobValues| (of(values, "window") < 64.0).then_some(1.0);
        let mut bench = MadeUp::new(effect, Noise::Even(0.0), 1);
        let (search, tried) = searched(vec![windows()], HOURS, &mut bench);
        let failed = tried[0].values.last().unwrap();
        assert!(search.best().is_empty() && failed.failed && failed.runs.is_empty(), "{tried:?}");
        assert_eq!(bench.runs, 3 * 4 + 1);
    }

    #[test]
    fn a_server_that_fails_as_it_is_now_ends_the_search() {
        let mut bench = MadeUp::new(|_| None, Noise::Even(0.0), 1);
        let broken = KnobSearch::new(vec![windows()], HOURS).try_next_knob(&mut bench).unwrap_err();
        assert_eq!(broken.to_string(), "machines failed 3 times with the present values");
    }

    #[test]
    fn a_search_keeps_to_its_time_and_says_what_it_left_out() {
        for minutes in [0, 1, 2, 3, 4] {
            let bounds = TuneBounds { budget: Duration::from_secs(60 * minutes), ..HOURS };
            let knobs = vec![windows(), knob("short", &[16]), knob("last", &[1, 2, 3, 4, 5, 6, 7])];
            let effect = |values: &KnobValues| {
                Some(1.0 / of(values, "short").sqrt() + 0.01 * of(values, "window"))
            };
            let mut bench = MadeUp::new(effect, Noise::Even(0.01), minutes);
            let (mut search, tried) = searched(knobs, bounds, &mut bench);
            let together = search.confirm_together(&mut bench);
            assert!(bench.elapsed() <= bounds.budget, "{minutes} minutes: {:?}", bench.elapsed());
            assert!(
                search.best().is_empty() || together.is_ok(),
                "winners were not tried together"
            );
            let names: Vec<_> = tried.iter().map(|tried| tried.knob).collect();
            assert!(search.left_out().iter().all(|name| !names.contains(name)), "{names:?}");
            assert_eq!(minutes < 1, names.is_empty(), "{minutes} minutes: {names:?}");
        }
    }

    #[test]
    fn runs_that_grow_longer_than_they_were_end_the_search_at_its_time() {
        let bounds = TuneBounds { budget: RUN * 20, run: Duration::from_millis(1), ..HOURS };
        let mut bench = MadeUp::new(|_| Some(1.0), Noise::Even(0.0), 1);
        let (search, tried) = searched(vec![windows(), windows()], bounds, &mut bench);
        assert_eq!((tried.len(), search.left_out().len()), (1, 0));
        let mut bench = MadeUp::new(|_| Some(1.0), Noise::Even(0.0), 1);
        let bounds = TuneBounds { budget: RUN * 10, ..bounds };
        let (search, tried) = searched(vec![windows()], bounds, &mut bench);
        assert_eq!(
            (&tried[0].verdict, search.left_out()),
            (&KnobVerdict::TimeIsOver, vec!["window"])
        );
        assert_eq!(bench.runs, 10);
    }

    #[test]
    fn an_interrupted_search_has_no_result() {
        for after in [0, 7, 16, 20] {
            let effect = |values: &KnobValues| Some(of(values, "window"));
            let mut bench =
                MadeUp { interrupted_after: after, ..MadeUp::new(effect, Noise::Even(0.01), 1) };
            let mut search = KnobSearch::new(vec![windows()], HOURS);
            assert_eq!(
                search.try_next_knob(&mut bench),
                Err(TuneStop::Interrupted),
                "after {after} runs"
            );
            assert!(search.best().is_empty());
        }
    }

    #[test]
    fn a_middle_is_the_mean_of_two_where_there_is_none() {
        assert_eq!(
            (compute_median(&[]), compute_median(&[2.0]), compute_median(&[4.0, 1.0, 2.0])),
            (None, Some(2.0), Some(2.0))
        );
        assert_eq!(compute_median(&[1.0, 2.0, 4.0, 8.0]), Some(3.0));
    }
}
