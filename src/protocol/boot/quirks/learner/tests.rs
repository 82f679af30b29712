//! Tests of what is learnt, when, and how it ages.

#![allow(clippy::unwrap_used)]

use super::super::parse_class;
use super::*;
use crate::model::machine::Machine;

const DAY: u64 = 24 * 3600;

fn mac(last: u8) -> Mac {
    Mac([0x52, 0x54, 0, 0, 0, last])
}

/// A long transfer by a client that asked for windows of 4 and blocks of 1468, and got them.
fn fine() -> TransferAttempt {
    TransferAttempt {
        class: parse_class("pxe+uefi-x64"),
        name: "shimx64.efi".into(),
        window: 4,
        blksize: 1468,
        size_asked: false,
        confirmed: true,
        acked_blocks: 600,
        least_burst: 4,
        end: AttemptEnd::Complete,
    }
}

/// It ended the transfer when it saw the OACK.
fn refused() -> TransferAttempt {
    TransferAttempt { acked_blocks: 0, confirmed: false, end: AttemptEnd::Aborted, ..fine() }
}

fn probe() -> TransferAttempt {
    TransferAttempt { size_asked: true, ..refused() }
}

/// It took the OACK and no block.
fn deaf() -> TransferAttempt {
    TransferAttempt { acked_blocks: 0, least_burst: 1, end: AttemptEnd::GaveUp, ..fine() }
}

/// As the server would grant it next.
fn next(learner: &QuirkLearner, mac: Mac, attempt: &TransferAttempt) -> TransferAttempt {
    let machine = Machine { mac, uuid: None, firmware: attempt.class };
    let QuirkAllowance { window, blksize, .. } = learner.active_limits().allowance(&[], &machine);
    let window = window.map_or(attempt.window, |most| most.min(attempt.window));
    let blksize = blksize.map_or(attempt.blksize, |most| most.min(attempt.blksize));
    TransferAttempt {
        window,
        least_burst: attempt.least_burst.min(window),
        blksize,
        ..attempt.clone()
    }
}

/// What is granted after each of these attempts, as (window, blksize).
fn granted(learner: &mut QuirkLearner, attempts: &[TransferAttempt]) -> Vec<(u16, u16)> {
    let one = |attempt: &TransferAttempt| {
        let attempt = next(learner, mac(1), attempt);
        learner.learn(mac(1), &attempt, 0);
        let then = next(learner, mac(1), &fine());
        (then.window, then.blksize)
    };
    attempts.iter().map(one).collect()
}

#[test]
fn two_refusals_take_the_window_away_and_the_third_try_has_none() {
    let learnt = granted(&mut QuirkLearner::default(), &[refused(), refused(), refused()]);
    assert_eq!(learnt, [(4, 1468), (1, 1468), (1, 1468)]);
    // Firmware that always asks for the size.
    assert_eq!(granted(&mut QuirkLearner::default(), &[probe(), probe()]), [(4, 1468), (1, 1468)]);
    // EDK2: it looks at the size, asks for the file and refuses; and once more.
    let learnt = granted(&mut QuirkLearner::default(), &[probe(), refused(), probe()]);
    assert_eq!(learnt, [(4, 1468), (4, 1468), (1, 1468)]);
    // Refused without a word, and without a window.
    let silent = TransferAttempt { end: AttemptEnd::GaveUp, ..refused() };
    assert_eq!(
        granted(&mut QuirkLearner::default(), &[silent.clone(), silent]).pop(),
        Some((1, 1468))
    );
    assert_eq!(
        granted(&mut QuirkLearner::default(), &[refused(), refused(), refused(), refused()]).pop(),
        Some((1, 1024))
    );
}

#[test]
fn t52_looks_at_the_size_teach_nothing() {
    let mut learner = QuirkLearner::default();
    for _ in 0..5 {
        assert_eq!(granted(&mut learner, &[probe(), fine()]), [(4, 1468); 2]);
    }
    let other = |name: &str| TransferAttempt { name: name.into(), ..probe() };
    assert_eq!(
        granted(&mut learner, &[other("a"), other("b"), other("c"), other("d")]),
        [(4, 1468); 4]
    );
    let grub = TransferAttempt { window: 1, blksize: 1024, least_burst: 1, ..probe() };
    for _ in 0..5 {
        assert_eq!(learner.learn(mac(1), &grub, 0), []);
    }
}

#[test]
fn blocks_that_never_arrive_become_smaller_step_by_step() {
    let learnt =
        granted(&mut QuirkLearner::default(), &[deaf(), deaf(), deaf(), deaf(), deaf(), deaf()]);
    assert_eq!(learnt, [(4, 1468), (4, 1024), (4, 1024), (4, 512), (4, 512), (1, 512)]);
    // A lockstep client that vanishes in the middle was switched off.
    let gone = TransferAttempt { window: 1, least_burst: 1, end: AttemptEnd::GaveUp, ..fine() };
    assert_eq!(
        granted(&mut QuirkLearner::default(), &[gone.clone(), gone.clone(), gone]),
        [(4, 1468); 3]
    );
}

#[test]
fn t40_what_worked_is_what_is_granted() {
    let halved = TransferAttempt { window: 32, least_burst: 8, ..fine() };
    let mut learner = QuirkLearner::default();
    assert_eq!(learner.learn(mac(1), &halved, 7), []);
    let changes = learner.learn(mac(1), &halved, 8);
    let [QuirkChange::Put(quirk)] = &changes[..] else { panic!("{changes:?}") };
    assert_eq!((quirk.allowance.window, quirk.since_s, quirk.works_s), (Some(8), 8, None));
    assert_eq!(
        quirk.why,
        "two transfers with windows lost blocks in every burst, the last of shimx64.efi"
    );
    let fits = TransferAttempt { window: 8, least_burst: 8, ..halved };
    let changes = learner.learn(mac(1), &fits, 9);
    assert!(
        matches!(&changes[..], [QuirkChange::Put(quirk)] if quirk.works_s == Some(9)),
        "{changes:?}"
    );
    assert_eq!(learner.learn(mac(1), &fits, 10), [], "once is enough");
    let stuck = TransferAttempt {
        window: 8,
        least_burst: 1,
        acked_blocks: 9,
        end: AttemptEnd::GaveUp,
        ..fine()
    };
    learner.learn(mac(1), &stuck, 11);
    assert_eq!(learner.learn(mac(1), &stuck, 12).len(), 1);
    assert_eq!(learner.active_limits().0[&QuirkSubject::Machine(mac(1))].allowance.window, Some(1));
}

#[test]
fn failures_between_successes_are_chance() {
    let stuck =
        TransferAttempt { acked_blocks: 9, least_burst: 1, end: AttemptEnd::GaveUp, ..fine() };
    let all = [
        stuck.clone(),
        fine(),
        stuck.clone(),
        deaf(),
        fine(),
        deaf(),
        refused(),
        fine(),
        refused(),
    ];
    assert_eq!(granted(&mut QuirkLearner::default(), &all), [(4, 1468); 9]);
    // A file of one block says nothing of windows.
    let tiny = TransferAttempt { acked_blocks: 1, ..fine() };
    assert_eq!(
        granted(&mut QuirkLearner::default(), &[stuck.clone(), tiny.clone(), stuck]).pop(),
        Some((1, 1468))
    );
    assert_eq!(
        granted(&mut QuirkLearner::default(), &[deaf(), tiny, deaf()]).pop(),
        Some((4, 1024)),
        "nor of blocks"
    );
}

#[test]
fn new_machines_of_a_maker_begin_where_three_ended() {
    let mut learner = QuirkLearner::default();
    let fails = |learner: &mut QuirkLearner, last: u8| {
        (0..2).flat_map(|_| learner.learn(mac(last), &refused(), 5)).collect::<Vec<_>>()
    };
    assert_eq!([fails(&mut learner, 1).len(), fails(&mut learner, 2).len()], [1, 1]);
    assert_eq!(next(&learner, mac(9), &fine()).window, 4, "two may be a coincidence");
    let changes = fails(&mut learner, 3);
    let [QuirkChange::Put(own), QuirkChange::Put(group)] = &changes[..] else {
        panic!("{changes:?}")
    };
    assert_eq!(
        (own.subject, group.subject.to_string().as_str()),
        (QuirkSubject::Machine(mac(3)), "52:54:00")
    );
    assert_eq!(group.why, "3 machines or more of 52:54:00 needed it");
    assert_eq!(next(&learner, mac(9), &fine()).window, 1);
    assert_eq!(next(&learner, Mac([2; 6]), &fine()).window, 4, "another maker");
    assert_eq!(fails(&mut learner, 4).len(), 1, "the fourth says nothing new of them");
    (5..=8).for_each(|last| drop(fails(&mut learner, last)));
    assert_eq!(next(&learner, Mac([2; 6]), &fine()).window, 1, "eight of a class are the class");
}

#[test]
fn new_machines_of_a_maker_begin_with_the_blocks_where_three_ended() {
    let mut learner = QuirkLearner::default();
    for last in 1..=3 {
        assert_eq!(next(&learner, mac(9), &fine()).blksize, 1468);
        (0..2).for_each(|_| drop(learner.learn(mac(last), &deaf(), 5)));
    }
    assert_eq!(next(&learner, mac(9), &fine()).blksize, 1024);
}

#[test]
fn a_machine_that_is_forgotten_speaks_for_no_other_and_the_rest_still_do() {
    let mut learner = QuirkLearner::default();
    let fails = |learner: &mut QuirkLearner, last| {
        (0..2).for_each(|_| drop(learner.learn(mac(last), &refused(), 5)));
        next(learner, mac(9), &fine()).window
    };
    assert_eq!([fails(&mut learner, 1), fails(&mut learner, 2)], [4, 4]);
    assert_eq!(learner.forget(QuirkSubject::Machine(mac(2))).len(), 1);
    assert_eq!([fails(&mut learner, 3), fails(&mut learner, 4)], [4, 1]);
}

#[test]
fn machines_that_can_do_it_speak_for_the_others() {
    let mut learner = QuirkLearner::default();
    (10..13).for_each(|last| drop(learner.learn(mac(last), &fine(), 0)));
    for last in 1..=5 {
        (0..2).for_each(|_| drop(learner.learn(mac(last), &refused(), 0)));
    }
    assert_eq!(learner.quirks().count(), 5, "five bad ones of many");
    assert_eq!(next(&learner, mac(99), &fine()).window, 4);
}

#[test]
fn after_a_week_it_is_tried_without_and_one_failure_brings_it_back() {
    let mut learner = QuirkLearner::default();
    let window = |learner: &QuirkLearner| next(learner, mac(1), &fine()).window;
    (0..2).for_each(|_| drop(learner.learn(mac(1), &refused(), DAY)));
    assert_eq!(learner.age(8 * DAY - 1), []);
    assert_eq!(window(&learner), 1);
    assert!(matches!(&learner.age(8 * DAY)[..], [QuirkChange::Put(quirk)] if quirk.on_trial));
    assert_eq!(window(&learner), 4);
    assert_eq!(learner.learn(mac(1), &refused(), 8 * DAY).len(), 1);
    assert_eq!((window(&learner), learner.age(15 * DAY - 1)), (1, vec![]));
    learner.age(15 * DAY);
    assert_eq!(
        learner.learn(mac(1), &fine(), 15 * DAY),
        [QuirkChange::Gone(QuirkSubject::Machine(mac(1)))],
        "it was the cable"
    );
    assert_eq!((window(&learner), learner.quirks().count()), (4, 0));
}

#[test]
fn what_a_maker_needed_ages_as_well() {
    let mut learner = QuirkLearner::default();
    for last in 1..=3 {
        (0..2).for_each(|_| drop(learner.learn(mac(last), &refused(), 0)));
    }
    assert_eq!(learner.age(GROUP_RETRY_AFTER_S - 1), []);
    assert!(matches!(
        &learner.age(GROUP_RETRY_AFTER_S)[..],
        [QuirkChange::Gone(QuirkSubject::Oui(_))]
    ));
    assert_eq!(next(&learner, mac(9), &fine()).window, 4, "one that needs nothing can show it");
    // The next machine that needs it brings it back for the others.
    (0..2).for_each(|_| drop(learner.learn(mac(4), &refused(), GROUP_RETRY_AFTER_S)));
    assert_eq!(next(&learner, mac(9), &fine()).window, 1);
    assert_eq!(learner.age(RETRY_AFTER_S).len(), 4);
    assert_eq!(next(&learner, mac(9), &fine()).window, 4);
}

#[test]
fn stalls_of_http_slow_down_nobody_but_the_machine_itself() {
    let mut learner = QuirkLearner::default();
    for last in 1..=6 {
        (0..6).for_each(|time| {
            drop(learner.learn_http_stall(mac(last), None, time * HTTP_STALLS_APART_S))
        });
    }
    assert_eq!(learner.quirks().count(), 6);
    let other = Machine { mac: mac(99), uuid: None, firmware: None };
    assert_eq!(learner.active_limits().allowance(&[], &other), QuirkAllowance::default());
}

#[test]
fn a_few_machines_do_not_speak_for_those_that_were_seen_to_be_fine() {
    let mut learner = QuirkLearner::default();
    (10..12).for_each(|last| drop(learner.learn(mac(last), &fine(), 0)));
    for last in 1..=3 {
        (0..2).for_each(|_| drop(learner.learn(mac(last), &refused(), 0)));
    }
    assert_eq!(next(&learner, mac(99), &fine()).window, 4, "three of five");
    (0..2).for_each(|_| drop(learner.learn(mac(4), &refused(), 0)));
    assert_eq!(next(&learner, mac(99), &fine()).window, 1, "four of six");
    // Invented makers do not make it forget a real one that was seen to be fine.
    let mut learner = QuirkLearner::default();
    (10..13).for_each(|last| drop(learner.learn(mac(last), &fine(), 0)));
    for number in 0..5000u32 {
        let [_, a, b, c] = number.to_be_bytes();
        learner.learn(Mac([2, a, b, c, 0, 0]), &TransferAttempt { class: None, ..fine() }, 0);
        learner.learn(Mac([b, c, 2, 0, 0, 0]), &TransferAttempt { class: None, ..fine() }, 0);
    }
    for last in 1..=6 {
        (0..2).for_each(|_| drop(learner.learn(mac(last), &refused(), 0)));
    }
    assert_eq!(next(&learner, mac(99), &TransferAttempt { class: None, ..fine() }).window, 4);
}

#[test]
fn what_sixteen_thousand_machines_teach_takes_no_walk_over_all_of_them() {
    let mut learner = QuirkLearner::default();
    let began = std::time::Instant::now();
    for number in 0..16_000u16 {
        let [a, b] = number.to_be_bytes();
        let mac = Mac([0x52, 0x54, 0, 0, a, b]);
        (0..2).for_each(|_| drop(learner.learn(mac, &refused(), 0)));
    }
    assert_eq!(learner.needs.values().flat_map(BTreeMap::values).sum::<usize>(), 2 * 16_000);
    assert!(began.elapsed() < std::time::Duration::from_secs(20), "{:?}", began.elapsed());
    learner.age(RETRY_AFTER_S);
    assert!(learner.needs.is_empty() && learner.active_limits().0.is_empty(), "all are on trial");
}

#[test]
fn a_pin_stands_until_it_is_forgotten() {
    let mut learner = QuirkLearner::default();
    let subject = QuirkSubject::Machine(mac(1));
    learner.pin(subject, QuirkAllowance { window: Some(3), ..QuirkAllowance::default() }, 0);
    for attempt in [refused(), deaf(), fine()] {
        (0..4).for_each(|_| assert_eq!(learner.learn(mac(1), &attempt, 0), []));
    }
    assert_eq!(learner.age(100 * DAY), []);
    assert_eq!(next(&learner, mac(1), &fine()).window, 3);
    assert_eq!(learner.forget(subject), [QuirkChange::Gone(subject)]);
    assert_eq!((learner.forget(subject), next(&learner, mac(1), &fine()).window), (vec![], 4));
}

#[test]
fn what_was_kept_is_in_force_again() {
    let mut learner = QuirkLearner::default();
    (0..2).for_each(|_| drop(learner.learn(mac(1), &refused(), 5)));
    let again = QuirkLearner::load(learner.quirks().cloned());
    assert_eq!(again.active_limits(), learner.active_limits());
}

#[test]
fn http_that_stalls_gets_slower_step_by_step() {
    let mut learner = QuirkLearner::default();
    let rate = |learner: &QuirkLearner| {
        let limit = learner.active_limits().0.get(&QuirkSubject::Machine(mac(1))).copied();
        limit.and_then(|limit| limit.allowance.http_rate).map(NonZeroU64::get)
    };
    let mut now_s = 0;
    let mut seen = Vec::new();
    for _ in 0..8 {
        // All connections of a machine stall at once: one failure.
        (0..3).for_each(|_| drop(learner.learn_http_stall(mac(1), None, now_s)));
        now_s += HTTP_STALLS_APART_S;
        seen.push(rate(&learner));
    }
    let [fast, slower, slowest] = HTTP_RATES.map(Some);
    assert_eq!(seen, [None, fast, fast, slower, slower, slowest, slowest, slowest]);
    assert_eq!(learner.note_http_success(mac(1), 1000, now_s), [], "a small file proves nothing");
    assert_eq!(learner.note_http_success(mac(1), HTTP_PROOF_BYTES, now_s).len(), 1);
    assert!(learner.quirks().all(|quirk| quirk.works_s == Some(now_s)));
    assert_eq!(
        (learner.age(now_s + RETRY_AFTER_S).len(), rate(&learner)),
        (1, None),
        "tried without"
    );
    assert_eq!(
        learner.note_http_success(mac(1), HTTP_PROOF_BYTES, 0),
        [QuirkChange::Gone(QuirkSubject::Machine(mac(1)))]
    );
    let mut learner = QuirkLearner::default();
    learner.learn_http_stall(mac(1), None, 0);
    learner.note_http_success(mac(1), HTTP_PROOF_BYTES, 1);
    learner.learn_http_stall(mac(1), None, 2);
    assert_eq!(rate(&learner), None, "one stall between successes");
}

#[test]
fn what_is_remembered_is_bounded() {
    let mut learner = QuirkLearner::default();
    for number in 0..=u32::try_from(MACHINES_WATCHED_MAX).unwrap() {
        let [a, b, c, d] = number.to_be_bytes();
        learner.learn(Mac([2, a, b, c, d, 0]), &refused(), 0);
        learner.learn(Mac([2, a, b, c, d, 0]), &fine(), 0);
    }
    assert!(
        learner.failures.len() <= MACHINES_WATCHED_MAX
            && learner.fine.len() <= 2 * GROUPS_WATCHED_MAX
    );
}
