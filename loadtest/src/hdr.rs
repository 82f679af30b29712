//! Writes a run's histograms as a log for the tools of HdrHistogram.

use std::time::{Duration, UNIX_EPOCH};

use anyhow::{Context, anyhow};
use hdrhistogram::serialization::V2DeflateSerializer;
use hdrhistogram::serialization::interval_log::{IntervalLogWriterBuilder, Tag};

use crate::histogram::decode_histogram;
use crate::json::{ReportDocument, spell_stage_name};

/// Microseconds of a millisecond, the unit of the log's readable column.
const US_PER_MS: f64 = 1000.0;

/// A line for each stage with its name as the tag, and one for whole boots without a tag, which
/// tools show by default.
pub(crate) fn write_hdr_log(report: &ReportDocument) -> anyhow::Result<Vec<u8>> {
    let started = UNIX_EPOCH + Duration::from_millis(report.run.started_ms);
    let length = Duration::from_secs_f64(report.summary.wall_s);
    let (mut out, mut serializer) = (Vec::new(), V2DeflateSerializer::new());

    // Times of intervals count from the base time, so each interval here begins at 0 and lasts the
    // whole run.
    let mut log = IntervalLogWriterBuilder::new()
        .add_comment(&format!("[Logged with loadtest {}]", report.run.loadtest))
        .add_comment("[Histogram log format version 1.3]")
        .with_start_time(started)
        .with_base_time(started)
        .with_max_value_divisor(US_PER_MS)
        .begin_log_with(&mut out, &mut serializer)?;
    log.write_comment(
        "Values are microseconds. No tag: from power-on to the end of the boot; a tag: that stage.",
    )?;
    let stages =
        report.stages_in_order().map(|(stage, times)| (Some(spell_stage_name(stage)), times));
    let spans = [(None, &report.boot), (Some("to_kernel".to_owned()), &report.to_kernel)];

    // A report has no histogram of what no machine finished.
    for (tag, times) in spans.into_iter().chain(stages).filter(|(_, times)| times.count > 0) {
        let of = tag.as_deref().unwrap_or("boot");
        let histogram = times
            .histogram
            .as_deref()
            .with_context(|| format!("the report has no histogram of {of}"))?;
        let tag = tag.as_deref().and_then(Tag::new);
        log.write_histogram(&decode_histogram(histogram)?, Duration::ZERO, length, tag)
            .map_err(|error| anyhow!("{error}"))?;
    }
    drop(log);
    Ok(out)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};

    use super::*;
    use crate::json::tests::made_up;

    #[test]
    fn the_log_is_one_that_readers_of_such_logs_take() {
        let report = made_up(100);
        let log = write_hdr_log(&report).unwrap();
        let text = String::from_utf8(log.clone()).unwrap();
        assert!(
            text.starts_with("#[Logged with loadtest ")
                && text.contains("#[Histogram log format version 1.3]\n"),
            "{text}"
        );
        assert!(text.contains("#[BaseTime: 0.000 (seconds since epoch)]\n"), "{text}");
        let mut seen = Vec::new();
        for entry in IntervalLogIterator::new(&log) {
            let LogEntry::Interval(interval) = entry.unwrap() else { continue };
            let histogram = decode_histogram(interval.encoded_histogram()).unwrap();
            assert_eq!(
                (interval.start_timestamp(), interval.duration()),
                (Duration::ZERO, Duration::from_secs(5))
            );
            assert!(
                (interval.max() - histogram.max() as f64 / 1000.0).abs() < 0.01,
                "{}",
                interval.max()
            );
            seen.push((interval.tag().map(|tag| tag.as_str().to_owned()), histogram.len()));
        }
        let tag = |name: &str| (Some(name.to_owned()), 100);
        assert_eq!(
            seen,
            [(None, 100), tag("to_kernel"), tag("dhcp"), tag("loader"), tag("kernel")]
        );
    }
}
