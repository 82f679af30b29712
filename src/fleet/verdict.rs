//! What was the limit of a run, in words: the generator's own thread, or a server that lets in only so many.

use std::time::Duration;

use hdrhistogram::Histogram;

use super::limits::SILENCE_TOLD;
use super::line::{Nobody, Protocol};
use super::progress::{Progress, Refusal, TftpQueue};
use super::report::{Pretty, Report};
use super::series::Bucket;
use super::silence::Silence;
use super::watch::{Seen, ThreadTime};

/// What a run has seen of limits, its own and the server's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pressure {
    /// Processor time of the thread that all machines ran on.
    pub busy: Duration,
    /// How long that thread was ready and another program had its processor.
    pub waiting: Duration,
    /// Source addresses that the machines spoke from.
    pub sources: u32,
    /// How often servers refused, in the order of [`Refusal::ALL`].
    pub refusals: [u64; Refusal::ALL.len()],
    pub tftp: TftpQueue,
    /// The longest time without any answer, in the order of [`Protocol::ALL`].
    pub silences: [Silence; Protocol::ALL.len()],
    /// Receives that brought anything, in the same order.
    pub(super) heard: [u64; Protocol::ALL.len()],
    /// Where the network said that nobody is there, in the same order.
    pub(super) nobody: [Option<Nobody>; Protocol::ALL.len()],
    /// The generator's thread did nothing for so long at most, although it was to: its program was stopped.
    pub away_max: Duration,
    /// Requests that were due at moments of their own and were never made, for lack of a free machine.
    pub never_begun: u64,
    /// Such requests that found no machine free when they were due.
    pub waited: u64,
}

/// A thread busy for more than this share of the time is what the run had to wait for.
const BUSY_SHARE_MAX: f64 = 0.9;
/// A thread that waited for its processor for more than this share of the time measured its own machine as well.
const WAITING_SHARE_MAX: f64 = 0.2;
/// The share of the octets by which the load is over: what follows are a few machines that wait for a timer.
const LOADED_SHARE: f64 = 0.9;

/// Late by this is what nobody would call noise.
const LATE_US_MAX: u64 = 250_000;
/// So is half of them late by this, and by this share of what they measure.
const LATE_US_NOTED: u64 = 1000;
const LATE_SHARE_MAX: f64 = 0.25;

/// Requests that wait for a free machine are what this load is about, unless they are more than this share.
const WAITED_SHARE_MAX: f64 = 0.1;

/// Fewer refusals than one for so many machines tell of an accident, not of a limit.
const MACHINES_PER_REFUSAL_MAX: u64 = 10;
/// A limit is believed where so many times as many transfers went through it.
const TURNS_MIN: u32 = 3;

impl Pressure {
    pub(super) fn read(progress: &Progress, seen: &Seen, sources: u32) -> Self {
        let ThreadTime { busy, waiting } = seen.spent;
        Self {
            busy,
            waiting,
            sources,
            refusals: Refusal::ALL.map(|refusal| progress.refusals(refusal)),
            tftp: progress.tftp_queue(),
            silences: seen.silences,
            nobody: Protocol::ALL.map(|protocol| progress.line(protocol).nobody()),
            away_max: seen.away_max,
            heard: Protocol::ALL.map(|protocol| progress.line(protocol).heard()),
            never_begun: 0,
            waited: 0,
        }
    }

    /// Servers that said nothing to anybody: never, or for a while.
    fn of_silence(&self, machines: u32, hides: &str) -> Vec<String> {
        let mut sentences = Vec::new();
        for protocol in Protocol::ALL {
            let (name, place) = (protocol.name(), protocol as usize);
            let Silence { lasted, at, waiting } = self.silences[place];
            let is_told =
                lasted >= SILENCE_TOLD && u64::from(waiting) * MACHINES_PER_REFUSAL_MAX >= u64::from(machines);
            if let Some(nobody) = self.nobody[place] {
                sentences.push(format!("{name}: {nobody}"));
            } else if is_told && self.heard[place] == 0 {
                sentences
                    .push(format!("{name}: no answer at all in {:.2} s, to {waiting} requests", lasted.as_secs_f64()));
            } else if is_told {
                sentences.push(format!(
                    "{name}: no answer to anybody for {:.2} s, from {:.2} s on, while {waiting} requests waited{hides}",
                    lasted.as_secs_f64(),
                    at.as_secs_f64()
                ));
            }
        }
        sentences
    }

    /// What the server did, in words; one sentence for each sign of a limit.
    fn of_the_server(&self, machines: u32) -> Vec<String> {
        let mut sentences = Vec::new();
        let shared = self.sources < machines;
        let whose = if shared {
            let addresses = if self.sources == 1 { "address" } else { "addresses" };
            format!(
                "a limit of the server was the limit: {machines} machines spoke from {} source {addresses}, and a server that \
                 limits by source address sees only that many clients",
                self.sources
            )
        } else {
            "a limit of the server was the limit, and not one for each source address: every machine had its own"
                .to_owned()
        };
        for (refusal, count) in Refusal::ALL.into_iter().zip(self.refusals) {
            // Where nobody listens there is no limit.
            let is_nobody = refusal == Refusal::NoConnection && self.nobody[Protocol::Http as usize].is_some();
            if count * MACHINES_PER_REFUSAL_MAX >= u64::from(machines) && count > 1 && !is_nobody {
                sentences.push(format!("{count} {}: {whose}", refusal.words()));
            }
        }
        let TftpQueue { transfers, at_once_max, begun_at_max, waiting_at_max } = self.tftp;
        let many = transfers >= at_once_max.saturating_mul(TURNS_MIN) && waiting_at_max >= at_once_max;
        if at_once_max > 0 && many && begun_at_max >= transfers / 2 {
            sentences.push(format!(
                "never more than {at_once_max} TFTP transfers at once while up to {waiting_at_max} requests waited, each answered \
                 only after another ended: {whose}"
            ));
        }
        sentences
    }
}

impl Report {
    /// Share of the time that the generator's thread was busy: of the whole run, or while it was loaded, whichever is more.
    pub fn generator_busy(&self) -> f64 {
        let whole = share(self.pressure.busy, self.wall);
        // The thread's clock and the wall's are read one after the other.
        loaded(self.series.buckets()).map_or(whole, |(busy, wall)| share(busy, wall).max(whole)).min(1.0)
    }

    /// Share of the time that the generator's thread was ready and another program had its processor.
    pub fn generator_waiting(&self) -> f64 {
        share(self.pressure.waiting, self.wall).min(1.0)
    }

    /// True where the machines had to wait for the generator, so that the server may be faster than the figures say: its thread
    /// was busy, or ready without a processor, nearly all the time.
    pub fn generator_was_limit(&self) -> bool {
        self.generator_busy() + self.generator_waiting() > BUSY_SHARE_MAX
    }

    /// What was the limit, in words; empty where nothing was seen of one.
    pub fn limits(&self) -> Vec<String> {
        let mut sentences = Vec::new();
        let percent = |share: f64| share * 100.0;
        let (busy, waiting) = (percent(self.generator_busy()), percent(self.generator_waiting()));
        let waited = self.generator_waiting() > WAITING_SHARE_MAX;
        if self.generator_was_limit() && waited {
            sentences.push(format!(
                "the load generator was the limit, or the processor that it shared: it was busy {busy:.0} % of the time, and waited \
                 {waiting:.0} % for a processor that other programs used"
            ));
        } else if self.generator_was_limit() {
            sentences.push(format!("the load generator was the limit (its core was busy {busy:.0} % of the time)"));
        } else if waited {
            sentences.push(format!(
                "the load generator waited for a processor {waiting:.0} % of the time, because other programs used it: times are \
                 longer than the server made them"
            ));
        }
        sentences.extend(self.lateness());
        let hides = if self.is_open || self.firmware {
            ""
        } else {
            ". Machines asked no more meanwhile, so percentiles hardly show it: --rate does"
        };
        sentences.extend(self.pressure.of_silence(self.clients, hides));
        sentences.extend(self.pressure.of_the_server(self.clients));
        sentences
    }

    /// What the generator itself did too late, and what it did not do at all.
    fn lateness(&self) -> Vec<String> {
        let mut sentences = Vec::new();
        let median = |times: &Histogram<u64>| times.value_at_quantile(0.5);
        let answers = self.stages.values().map(|seen| median(&seen.times)).max().unwrap_or(0);
        let power_ons = (&self.late_power_ons, median(&self.boots), "power-ons");
        for (times, took, what) in [power_ons, (&self.late_requests, answers, "requests")] {
            let (p50, max) = (median(times), times.max());
            if max >= LATE_US_MAX || (p50 >= LATE_US_NOTED && p50 as f64 > took as f64 * LATE_SHARE_MAX) {
                sentences.push(format!(
                    "the load generator was late: {what} up to {} after their moment, half of them {} or more; that is in their times",
                    Pretty(max),
                    Pretty(p50)
                ));
            }
        }
        let Pressure { never_begun, waited, .. } = self.pressure;
        let made: u64 = self.stages.values().map(|seen| seen.times.len()).sum();
        if waited as f64 > made as f64 * WAITED_SHARE_MAX {
            sentences.push(format!(
                "{waited} of {made} requests found no machine free when they were due: their wait is in their times. Either the server was \
                 slower than the rate asked for, or --clients are too few"
            ));
        }
        if never_begun > 0 {
            sentences.push(format!(
                "{never_begun} requests that were due were never made, for lack of a free machine: no figure has them. Use more --clients, \
                 or a lower rate"
            ));
        }
        sentences
    }
}

fn share(part: Duration, wall: Duration) -> f64 {
    part.as_secs_f64() / wall.as_secs_f64().max(f64::EPSILON)
}

/// Busy time and length of the part of the run in which most octets came.
fn loaded(buckets: &[Bucket]) -> Option<(Duration, Duration)> {
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
    #![allow(clippy::unwrap_used)]
    use std::time::Instant;

    use super::*;
    use crate::observe::events::Stage;

    const SECOND: Duration = Duration::from_secs(1);

    fn pressure(sources: u32, refusals: [u64; 3], tftp: TftpQueue) -> Vec<String> {
        Pressure { sources, refusals, tftp, ..Pressure::default() }.of_the_server(500)
    }

    #[test]
    fn a_busy_generator_is_called_the_limit_and_an_idle_one_is_not() {
        let mut report = Report::new(500, Instant::now());
        (report.wall, report.pressure) = (10 * SECOND, Pressure { sources: 500, ..Pressure::default() });
        report.pressure.busy = 9 * SECOND;
        assert_eq!(report.limits(), Vec::<String>::new());
        report.pressure.busy = Duration::from_millis(9700);
        assert_eq!(report.limits(), ["the load generator was the limit (its core was busy 97 % of the time)"]);
    }

    #[test]
    fn a_generator_without_a_processor_says_so() {
        let mut report = Report::new(500, Instant::now());
        (report.wall, report.pressure) = (10 * SECOND, Pressure { sources: 500, ..Pressure::default() });
        report.pressure.waiting = 4 * SECOND;
        let said = report.limits();
        assert!(said.len() == 1 && said[0].starts_with("the load generator waited for a processor 40 %"), "{said:?}");
    }

    #[test]
    fn a_generator_that_was_never_idle_was_the_limit_whoever_had_its_processor() {
        let mut report = Report::new(500, Instant::now());
        (report.wall, report.pressure) = (10 * SECOND, Pressure { sources: 500, ..Pressure::default() });
        (report.pressure.busy, report.pressure.waiting) = (5 * SECOND, Duration::from_millis(4800));
        let said = report.limits();
        assert!(
            said.len() == 1 && said[0].starts_with("the load generator was the limit, or the processor"),
            "{said:?}"
        );
        assert!(report.generator_was_limit());
    }

    #[test]
    fn one_late_machine_does_not_hide_that_the_generator_was_busy() {
        let progress = Progress::default();
        let mut report = Report::new(500, Instant::now());
        (report.wall, report.pressure.busy, report.pressure.sources) = (10 * SECOND, SECOND, 500);
        progress.add_octets(99);
        report.series.add(SECOND, &progress, Duration::from_millis(950));
        progress.add_octets(1);
        report.series.add(10 * SECOND, &progress, SECOND);
        assert_eq!(report.limits(), ["the load generator was the limit (its core was busy 95 % of the time)"]);
    }

    #[test]
    fn silence_is_told_where_many_waited_and_absence_is_no_limit() {
        let silent = |waiting| Silence { lasted: 2 * SECOND, at: SECOND, waiting };
        let mut pressure = Pressure { sources: 500, heard: [9; 3], ..Pressure::default() };
        pressure.silences[1] = silent(49);
        assert_eq!(pressure.of_silence(500, ""), Vec::<String>::new(), "a straggler that waits for its timer");
        pressure.silences[1] = silent(50);
        let said = "TFTP: no answer to anybody for 2.00 s, from 1.00 s on, while 50 requests waited.";
        assert_eq!(pressure.of_silence(500, "."), [said]);
        pressure.heard[1] = 0;
        assert_eq!(pressure.of_silence(500, "."), ["TFTP: no answer at all in 2.00 s, to 50 requests"]);
        let at = "127.0.0.1:80".parse().unwrap();
        (pressure.nobody[2], pressure.refusals) = (Some(Nobody { at, why: "connection refused" }), [0, 0, 93]);
        assert_eq!(pressure.of_silence(500, "")[1], "HTTP: nothing answers at 127.0.0.1:80 (connection refused)");
        assert_eq!(pressure.of_the_server(500), Vec::<String>::new());
    }

    #[test]
    fn what_the_generator_did_late_or_not_at_all_is_told() {
        let ms = Duration::from_millis;
        let mut report = Report::new(500, Instant::now());
        (report.wall, report.pressure.sources) = (10 * SECOND, 500);
        for _ in 0..100 {
            report.add_late_power_on(ms(1));
            report.boots.saturating_record(1_000_000);
            report.add_late_request(ms(4));
            report.add_step(Stage::File, Instant::now(), ms(20), 0);
        }
        assert_eq!(report.lateness(), Vec::<String>::new());
        (0..101).for_each(|_| report.add_late_request(ms(6)));
        report.add_late_power_on(2 * SECOND);
        (report.pressure.never_begun, report.pressure.waited) = (7, 11);
        let said = report.lateness();
        let begins = [
            "the load generator was late: power-ons up to 2.00 s after their moment",
            "the load generator was late: requests up to 6.00 ms after their moment, half of them 6.00 ms or more",
            "11 of 100 requests found no machine free when they were due",
            "7 requests that were due were never made",
        ];
        let fits = said.iter().zip(begins).all(|(said, begin)| said.starts_with(begin));
        assert!(fits && said.len() == begins.len(), "{said:?}");
    }

    #[test]
    fn refusals_of_one_source_address_are_called_a_limit_per_source() {
        let queue = TftpQueue::default();
        assert_eq!(pressure(1, [0, 49, 0], queue), Vec::<String>::new());
        let said = pressure(1, [0, 480, 0], queue);
        assert!(said.len() == 1 && said[0].starts_with("480 HTTP answers 503"), "{said:?}");
        assert!(said[0].contains("500 machines spoke from 1 source address,"), "{said:?}");
        let said = pressure(500, [77, 0, 0], queue);
        assert!(said[0].contains("not one for each source address"), "{said:?}");
    }

    #[test]
    fn transfers_that_begin_only_when_others_end_are_called_a_limit() {
        let limited = TftpQueue { transfers: 500, at_once_max: 20, begun_at_max: 481, waiting_at_max: 480 };
        let said = pressure(1, [0; 3], limited);
        assert!(said.len() == 1 && said[0].starts_with("never more than 20 TFTP transfers at once"), "{said:?}");
        // All were let in; then the fleet had no more to ask.
        let open = TftpQueue { transfers: 2000, at_once_max: 498, begun_at_max: 1, waiting_at_max: 2 };
        assert_eq!(pressure(1, [0; 3], open), Vec::<String>::new());
    }
}
