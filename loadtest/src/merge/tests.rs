//! What two reports come to: counts and histograms added, times on one clock, what is wrong with
//! them said.

#![allow(clippy::unwrap_used)]
use super::*;
use crate::histogram;
use crate::json::tests::made_up;

/// Two generators of 100 and 50 machines; the second begins so many milliseconds later.
fn two(after_ms: u64) -> ReportDocument {
    let (mut a, mut b) = (made_up(100), made_up(50));
    a.run.started_ms = 1_700_000_000_000;
    b.run.started_ms = a.run.started_ms + after_ms;
    b.run.seed = 2;
    merge_named_reports(&[("north".into(), a), ("south".into(), b)]).unwrap()
}

#[test]
fn counts_and_histograms_are_added() {
    let report = two(2000);
    let summary = &report.summary;
    assert_eq!(
        (summary.machines, summary.booted, summary.failed, summary.retries),
        (150, 135, 15, 24)
    );
    assert_eq!(
        (report.boot.count, report.stages["dhcp"].count, report.stages["dhcp"].retransmits),
        (150, 150, Some(4))
    );
    assert_eq!(report.boot.max_us, made_up(100).boot.max_us);
    let all = histogram::decode_histogram(report.boot.histogram.as_ref().unwrap()).unwrap();
    assert_eq!(all.value_at_quantile(0.5), report.boot.p50_us);
    assert!(
        report.boot.p50_us < made_up(100).boot.p50_us
            && report.boot.p50_us > made_up(50).boot.p50_us
    );
    assert_eq!(
        (report.failures.len(), report.failures[0].machines, report.oddities[0].times),
        (1, 15, 6)
    );
    assert_eq!(report.parts.iter().map(|part| part.machines).collect::<Vec<_>>(), [100, 50]);
}

#[test]
fn times_are_those_of_one_clock() {
    let report = two(2000);
    assert!((report.summary.wall_s - 7.0).abs() < 1e-9, "{}", report.summary.wall_s);
    assert!((report.summary.bytes_per_s - 4e9 / 7.0).abs() < 1.0);
    assert_eq!(report.series.iter().map(|point| point.bytes).sum::<u64>(), 2 * 50 * 40_000_000);
    assert!(
        report.series.is_sorted_by_key(|point| point.t_ms)
            && report.series.last().unwrap().t_ms == 7000
    );
    assert_eq!(report.series.iter().find(|point| point.t_ms == 2100).unwrap().bytes, 80_000_000);
    assert!(report.machines.is_sorted_by_key(|machine| machine.0));
    assert_eq!(report.machines.iter().filter(|machine| machine.0 >= 2_000_000).count(), 50);
    assert!(
        report
            .limits
            .iter()
            .all(|limit| limit.starts_with("north: ") || limit.starts_with("south: "))
    );
}

#[test]
fn runs_that_were_no_load_together_are_told() {
    let said = two(6000).limits;
    assert!(
        said[0].starts_with("the runs did not overlap: one ended 1.0 s before another began"),
        "{said:?}"
    );
    let mut same = made_up(5);
    same.run.started_ms = 1;
    let said =
        merge_named_reports(&[("north".into(), same.clone()), ("south".into(), same.clone())])
            .unwrap()
            .limits;
    assert!(said[0].starts_with("north and south have the same seed"), "{said:?}");
    same.boot.histogram = None;
    let error = merge_named_reports(&[("north".into(), same.clone()), ("south".into(), same)])
        .unwrap_err()
        .to_string();
    assert!(error.contains("of an older loadtest"), "{error}");
}
