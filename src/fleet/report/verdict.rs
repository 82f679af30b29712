//! Names the limit of a run: the generator's own thread, or a server that admits only a certain
//! number of requests at once.

use std::time::Duration;

use hdrhistogram::Histogram;

use crate::measure::pressure::RunPressure;
use crate::measure::series::SeriesBucket;
use crate::report::{FleetReport, PrettyMicroseconds};

/// A thread that is busy for more than this share of the time limits the run.
const BUSY_SHARE_MAX: f64 = 0.9;
/// A thread that waits for its processor for more than this share of the time measures the other
/// programs as well.
const WAITING_SHARE_MAX: f64 = 0.2;
/// The share of the bytes after which the load is over: then only a few machines wait for a timer.
const LOADED_SHARE: f64 = 0.9;

/// Microseconds: a delay of this length is no noise.
const LATE_US_MAX: u64 = 250_000;
/// Microseconds: neither is a median delay of this length that is also this share of the measured
/// time.
const LATE_US_NOTED: u64 = 1000;
const LATE_SHARE_MAX: f64 = 0.25;

/// With open load some requests wait for a free machine; a larger share than this is noted.
const WAITED_SHARE_MAX: f64 = 0.1;

impl FleetReport {
    /// The share of the time that the generator's thread was busy: of the whole run, or while it
    /// was loaded, whichever is more.
    pub fn generator_busy(&self) -> f64 {
        let whole = compute_busy_share(self.pressure.busy, self.wall);
        // The two clocks are read one after the other, so the share may exceed 1.
        find_loaded_part(self.series.buckets())
            .map_or(whole, |(busy, wall)| compute_busy_share(busy, wall).max(whole))
            .min(1.0)
    }

    /// The share of the time that the generator's thread was ready while another program had its
    /// processor.
    pub fn generator_waiting(&self) -> f64 {
        compute_busy_share(self.pressure.waiting, self.wall).min(1.0)
    }

    /// True if the machines had to wait for the generator, so that the server may be faster than
    /// the figures: its thread was busy, or ready without a processor, nearly all the time.
    pub fn generator_was_limit(&self) -> bool {
        self.generator_busy() + self.generator_waiting() > BUSY_SHARE_MAX
    }

    /// The signs of a limit, each a sentence; empty if there are none.
    pub fn list_limits(&self) -> Vec<String> {
        let mut sentences = Vec::new();
        let (busy, waiting) = (self.generator_busy() * 100.0, self.generator_waiting() * 100.0);
        let waited = self.generator_waiting() > WAITING_SHARE_MAX;

        // Busy and waiting time together decide whether the generator was the limit. The share of
        // waiting decides whether the reader needs a faster processor or fewer other programs.
        if self.generator_was_limit() && waited {
            sentences.push(format!(
                "the load generator was the limit, or the processor that it shared: it was busy \
                 {busy:.0} % of the time, and waited {waiting:.0} % for a processor that other \
                 programs used"
            ));
        } else if self.generator_was_limit() {
            sentences.push(format!(
                "the load generator was the limit (its core was busy {busy:.0} % of the time)"
            ));
        } else if waited {
            sentences.push(format!(
                "the load generator waited for a processor {waiting:.0} % of the time, because \
                 other programs used it: times are longer than the server's"
            ));
        }
        sentences.extend(self.list_lateness());

        // With closed load a silent server gets no requests, so its silence is missing from the
        // percentiles. `--rate` is not for boots, so runs with firmware get no such advice.
        let hides = if self.is_open || self.firmware {
            ""
        } else {
            ". Machines sent no further requests meanwhile, so percentiles hardly show it: use \
             --rate"
        };
        sentences.extend(self.pressure.describe_silence(self.clients, hides));
        sentences.extend(self.pressure.describe_server_limits(self.clients));
        sentences
    }

    /// What the generator itself did too late, or did not do at all.
    fn list_lateness(&self) -> Vec<String> {
        let mut sentences = Vec::new();

        // Requests of all stages share one histogram of delays, so the slowest stage is the measure
        // for them.
        let answers = self.stages.values().map(|seen| find_median(&seen.times)).max().unwrap_or(0);
        let power_ons = (&self.late_power_ons, find_median(&self.boots), "power-ons");
        for (times, took, what) in [power_ons, (&self.late_requests, answers, "requests")] {
            let (p50, max) = (find_median(times), times.max());
            if max >= LATE_US_MAX
                || (p50 >= LATE_US_NOTED && p50 as f64 > took as f64 * LATE_SHARE_MAX)
            {
                sentences.push(format!(
                    "the load generator was late: {what} up to {} after their moment, half of them \
                     {} or more; their times include it",
                    PrettyMicroseconds(max),
                    PrettyMicroseconds(p50)
                ));
            }
        }
        let RunPressure { never_begun, waited, .. } = self.pressure;
        let made: u64 = self.stages.values().map(|seen| seen.times.len()).sum();
        if waited as f64 > made as f64 * WAITED_SHARE_MAX {
            sentences.push(format!(
                "{waited} of {made} requests found no machine free when they were due: their times \
                 include the wait. Either the server was slower than the rate, or --clients is too \
                 small"
            ));
        }
        if never_begun > 0 {
            sentences.push(format!(
                "{never_begun} requests that were due were never made, because no machine was \
                 free: no figure has them. Use more --clients, or a lower rate"
            ));
        }
        sentences
    }
}

fn find_median(times: &Histogram<u64>) -> u64 {
    times.value_at_quantile(0.5)
}

fn compute_busy_share(part: Duration, wall: Duration) -> f64 {
    part.as_secs_f64() / wall.as_secs_f64().max(f64::EPSILON)
}

/// Busy time and length of the part of the run in which most bytes came.
fn find_loaded_part(buckets: &[SeriesBucket]) -> Option<(Duration, Duration)> {
    let all: u64 = buckets.iter().map(|bucket| bucket.octets).sum();
    let mut octets = 0;
    let mut busy = Duration::ZERO;
    for bucket in buckets {
        octets += bucket.octets;
        busy += bucket.busy;
        if octets as f64 >= all as f64 * LOADED_SHARE {
            return Some((busy, bucket.end));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::measure::progress::FleetProgress;
    use ringboot_observe::events::MachineStage;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_busy_generator_is_called_the_limit_and_an_idle_one_is_not() {
        let mut report = FleetReport::new(500, Instant::now());
        (report.wall, report.pressure) =
            (10 * SECOND, RunPressure { sources: 500, ..RunPressure::default() });
        report.pressure.busy = 9 * SECOND;
        assert_eq!(report.list_limits(), Vec::<String>::new());
        report.pressure.busy = Duration::from_millis(9700);
        assert_eq!(
            report.list_limits(),
            ["the load generator was the limit (its core was busy 97 % of the time)"]
        );
    }

    #[test]
    fn a_generator_without_a_processor_says_so() {
        let mut report = FleetReport::new(500, Instant::now());
        (report.wall, report.pressure) =
            (10 * SECOND, RunPressure { sources: 500, ..RunPressure::default() });
        report.pressure.waiting = 4 * SECOND;
        let said = report.list_limits();
        assert!(
            said.len() == 1
                && said[0].starts_with("the load generator waited for a processor 40 %"),
            "{said:?}"
        );
    }

    #[test]
    fn a_generator_that_was_never_idle_was_the_limit_whoever_had_its_processor() {
        let mut report = FleetReport::new(500, Instant::now());
        (report.wall, report.pressure) =
            (10 * SECOND, RunPressure { sources: 500, ..RunPressure::default() });
        (report.pressure.busy, report.pressure.waiting) = (5 * SECOND, Duration::from_millis(4800));
        let said = report.list_limits();
        assert!(
            said.len() == 1
                && said[0].starts_with("the load generator was the limit, or the processor"),
            "{said:?}"
        );
        assert!(report.generator_was_limit());
    }

    #[test]
    fn one_late_machine_does_not_hide_that_the_generator_was_busy() {
        let progress = FleetProgress::default();
        let mut report = FleetReport::new(500, Instant::now());
        (report.wall, report.pressure.busy, report.pressure.sources) = (10 * SECOND, SECOND, 500);
        progress.add_bytes(99);
        report.series.add(SECOND, &progress, Duration::from_millis(950));
        progress.add_bytes(1);
        report.series.add(10 * SECOND, &progress, SECOND);
        assert_eq!(
            report.list_limits(),
            ["the load generator was the limit (its core was busy 95 % of the time)"]
        );
    }

    #[test]
    fn what_the_generator_did_late_or_not_at_all_is_told() {
        let ms = Duration::from_millis;
        let mut report = FleetReport::new(500, Instant::now());
        (report.wall, report.pressure.sources) = (10 * SECOND, 500);
        for _ in 0..100 {
            report.add_late_power_on(ms(1));
            report.boots.saturating_record(1_000_000);
            report.add_late_request(ms(4));
            report.add_step(MachineStage::File, Instant::now(), ms(20), 0);
        }
        assert_eq!(report.list_lateness(), Vec::<String>::new());
        (0..101).for_each(|_| report.add_late_request(ms(6)));
        report.add_late_power_on(2 * SECOND);
        (report.pressure.never_begun, report.pressure.waited) = (7, 11);
        let said = report.list_lateness();
        let begins = [
            "the load generator was late: power-ons up to 2.00 s after their moment",
            "the load generator was late: requests up to 6.00 ms after their moment, half of them \
             6.00 ms or more",
            "11 of 100 requests found no machine free when they were due",
            "7 requests that were due were never made",
        ];
        let fits = said.iter().zip(begins).all(|(said, begin)| said.starts_with(begin));
        assert!(fits && said.len() == begins.len(), "{said:?}");
    }
}
