//! Tests of the search with simulated servers and noise.
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
    let effect = |values: &KnobValues| Some(if of(values, "window") > 32.0 { 0.62 } else { 1.0 });
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
    let effect = |values: &KnobValues| Some(if of(values, "window") < 32.0 { 0.8 } else { 1.0 });
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
        assert!(search.best().is_empty() || together.is_ok(), "winners were not tried together");
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
    assert_eq!((&tried[0].verdict, search.left_out()), (&KnobVerdict::TimeIsOver, vec!["window"]));
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
