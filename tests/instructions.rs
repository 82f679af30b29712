//! The check of instruction counts bites: what it fails on, what it only warns of, and that its
//! baseline can be read.
//!
//! The counting itself is `cargo bench --profile counting --bench instructions`, which tests/run.sh
//! runs after the tests.
#![allow(clippy::unwrap_used)]

#[path = "../benches/instructions/baseline.rs"]
mod baseline;

use baseline::{
    Baseline, CHEAPER_PERCENT, Compiler, DEARER_PERCENT_MAX,
    DEARER_PERCENT_MAX_OTHER_COMPILER as OTHER, Report,
};

const HOST: &str = "x86_64-unknown-linux-gnu";

fn counts(release: &str, host: &str, counts: &[(&str, u64)]) -> Baseline {
    let counts = counts.iter().map(|&(name, count)| (name.to_owned(), count)).collect();
    Baseline { compiler: Compiler { release: release.to_owned(), host: host.to_owned() }, counts }
}

/// One operation of 1000 instructions in the baseline, and now.
fn judged(now: u64, release: &str, host: &str) -> Report {
    counts("1.95.0", HOST, &[("tftp: parse", 1000)]).judge(&counts(
        release,
        host,
        &[("tftp: parse", now)],
    ))
}

#[test]
fn an_operation_that_became_dearer_than_the_limit_fails_and_says_how_to_accept_it() {
    let limit = 1000 + 10 * DEARER_PERCENT_MAX;
    let report = judged(limit, "1.95.0", HOST);
    assert!(report.failures.is_empty() && report.warnings.is_empty(), "{report}");
    let report = judged(limit + 1, "1.95.0", HOST);
    assert_eq!(
        report.failures,
        ["\"tftp: parse\" takes 1101 instructions, +10.1 % of 1000; the limit is +10 %. If it \
             must \
          be so: RINGBOOT_BLESS=1 cargo bench --profile counting --bench instructions"]
    );
}

#[test]
fn an_operation_that_became_cheaper_asks_for_a_new_baseline() {
    assert!(judged(1000 - 10 * CHEAPER_PERCENT, "1.95.0", HOST).warnings.is_empty());
    let report = judged(999 - 10 * CHEAPER_PERCENT, "1.95.0", HOST);
    assert!(report.failures.is_empty(), "{report}");
    assert!(report.warnings[0].contains("cheaper (-10.1 %)"), "{report}");
}

#[test]
fn another_compiler_is_compared_too_with_a_wider_limit_and_a_warning() {
    let report = judged(1000 + 10 * OTHER, "1.96.0", HOST);
    assert!(report.failures.is_empty(), "{report}");
    assert!(report.warnings[0].contains("the limit is +30 % in place of +10 %"), "{report}");
    assert_eq!(judged(1001 + 10 * OTHER, "1.96.0", HOST).failures.len(), 1);
}

#[test]
fn another_processor_is_not_compared_and_that_is_said() {
    let report = judged(5000, "1.95.0", "aarch64-unknown-linux-gnu");
    assert!(report.failures.is_empty(), "{report}");
    assert!(report.warnings[0].starts_with("NOTHING IS COMPARED"), "{report}");
}

#[test]
fn the_baseline_and_the_operations_are_the_same() {
    let report = counts("1.95.0", HOST, &[("a", 1), ("b", 2)]).judge(&counts(
        "1.95.0",
        HOST,
        &[("b", 2), ("c", 3)],
    ));
    assert!(report.failures[0].starts_with("\"c\" is not in the baseline"), "{report}");
    assert!(
        report.failures[1].starts_with("\"a\" is in the baseline and was not counted"),
        "{report}"
    );
}

#[test]
fn the_committed_baseline_is_what_blessing_writes() {
    let text = include_str!("../benches/instructions.txt");
    let baseline = Baseline::parse(text).unwrap();
    assert_eq!(baseline.to_string(), text);
    assert!(baseline.counts.len() > 10 && baseline.counts.iter().all(|(_, count)| *count > 0));
}
