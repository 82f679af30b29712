//! Searches over servers that are made up: what they find, in how many runs, and what they say when
//! the time is over.

#![allow(clippy::unwrap_used, clippy::panic)]
use super::*;

const QUESTION: LimitQuestion = LimitQuestion {
    least: 10,
    most: 2000,
    first: 10,
    repeat: 3,
    precision: 0.05,
    budget: Duration::from_secs(3600),
};

/// Runs a search to its end; each machine costs a run 10 ms.
fn searched(
    question: LimitQuestion,
    mut holds: impl FnMut(u32) -> bool,
) -> (LimitSearch, LimitSearchEnd, Vec<u32>) {
    let mut search = LimitSearch::new(question);
    let (mut elapsed, mut runs) = (Duration::ZERO, Vec::new());
    loop {
        match search.next_step(elapsed) {
            LimitStep::Done(end) => return (search, end, runs),
            LimitStep::Run(machines) => {
                assert!(runs.len() < 200, "{runs:?}");
                let took = Duration::from_millis(10) * machines;
                elapsed += took;
                runs.push(machines);
                search.record_run(machines, holds(machines), took);
            }
        }
    }
}

#[test]
fn the_limit_of_a_server_that_never_wavers_lies_between_the_two_ends() {
    for limit in [10, 11, 39, 40, 41, 500, 777, 1999] {
        let (search, end, runs) = searched(QUESTION, |machines| machines <= limit);
        let (held, missed) = (search.held().unwrap(), search.missed().unwrap());
        assert!(held <= limit && limit < missed, "{limit}: {held} to {missed}");
        assert!(missed - held <= (held / 20).max(1), "{limit}: {held} to {missed}");
        assert_eq!(
            (end, search.level(held)),
            (LimitSearchEnd::Narrow, MachineLevel { held: 3, missed: 0, ..search.level(held) })
        );
        assert_eq!(search.level(missed).missed, 3, "{limit}");
        assert!(runs.len() <= 22, "{limit}: {runs:?}");
    }
}

#[test]
fn on_the_way_up_one_run_each_is_enough_and_what_held_is_made_sure_at_once() {
    let (_, _, runs) = searched(QUESTION, |machines| machines <= 100);
    assert_eq!(runs[..8], [10, 20, 40, 80, 160, 80, 80, 120], "{runs:?}");
}

#[test]
fn a_server_that_holds_all_is_measured_as_often_as_was_asked_and_no_more() {
    let (search, end, runs) =
        searched(LimitQuestion { first: 500, most: 500, ..QUESTION }, |_| true);
    assert_eq!((end, search.held(), search.missed()), (LimitSearchEnd::AtMost, Some(500), None));
    assert_eq!(runs, [500, 500, 500]);
}

#[test]
fn a_server_that_misses_the_least_has_no_answer() {
    let (search, end, runs) = searched(QUESTION, |_| false);
    assert_eq!((end, search.held(), search.missed()), (LimitSearchEnd::AtLeast, None, Some(10)));
    assert_eq!(runs, [10, 10, 10]);
}

#[test]
fn a_search_that_begins_too_high_goes_down() {
    let (search, end, runs) =
        searched(LimitQuestion { first: 500, ..QUESTION }, |machines| machines <= 33);
    assert_eq!(runs[..5], [500, 250, 125, 62, 31], "{runs:?}");
    assert_eq!((end, search.held(), search.missed()), (LimitSearchEnd::Narrow, Some(33), Some(34)));
}

#[test]
fn a_number_that_holds_now_and_then_is_not_the_answer() {
    // Above 100 every third run misses.
    let mut number = 0;
    let (search, end, _) = searched(QUESTION, |machines| {
        number += 1;
        machines <= 100 || machines <= 400 && number % 3 != 0
    });
    let held = search.held().unwrap();
    assert_eq!(
        (end, search.level(held).held, search.level(held).missed),
        (LimitSearchEnd::Narrow, 3, 0)
    );
    assert!((100..=400).contains(&held) && search.missed().unwrap() > held, "{held}");
}

#[test]
fn the_time_is_kept_and_what_was_found_is_confirmed_within_it() {
    for budget in [1, 2, 5, 10, 20, 40] {
        let question = LimitQuestion { budget: Duration::from_secs(budget), ..QUESTION };
        let (search, end, runs) = searched(question, |machines| machines <= 700);
        let took: u32 = runs.iter().sum();
        // A run is as long as was to be expected here.
        assert!(u64::from(took) <= budget * 100, "{budget} s: {runs:?}");
        assert_eq!(end, LimitSearchEnd::TimeIsOver, "{budget} s");
        assert!(
            search.held().is_some_and(|held| search.level(held).held >= 3),
            "{budget} s: {runs:?}"
        );
    }
    let (search, end, runs) =
        searched(LimitQuestion { budget: Duration::ZERO, ..QUESTION }, |_| true);
    assert_eq!((end, search.held(), runs), (LimitSearchEnd::TimeIsOver, None, vec![10]));
}

#[test]
fn few_runs_prove_little_and_the_bound_says_how_little() {
    let level = |held, missed| MachineLevel { held, missed, took: Duration::ZERO };
    let percent = |share: f64| (share * 1000.0).round() / 10.0;
    // 0.05 to the power of 1/3, 1/10 and 1/59.
    assert_eq!(
        [level(3, 0), level(10, 0), level(59, 0)].map(|level| percent(level.holds_at_least())),
        [36.8, 74.1, 95.0]
    );
    // Tables of Clopper and Pearson, one-sided: 2 of 3 and 9 of 10.
    assert_eq!(
        [level(2, 1), level(9, 1)].map(|level| percent(level.holds_at_least())),
        [13.5, 60.6]
    );
    assert_eq!(
        [level(0, 3), level(2, 1)].map(|level| percent(level.misses_at_least())),
        [36.8, 1.7]
    );
    assert_eq!(level(0, 5).holds_at_least(), 0.0);
}
