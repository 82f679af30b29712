//! The moments at which the machines of a run start: all at once, one after the other, at random,
//! or rack by rack.

use std::str::FromStr;
use std::time::Duration;

use super::limits::{RATE_MAX, RATE_MIN};
use ringboot_protocol::model::random::SeededRandom;

/// How machines arrive.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum ArrivalPattern {
    /// `all`: at once.
    #[default]
    All,
    /// `ramp:30s`: evenly over this time.
    Ramp(Duration),
    /// `poisson:50/s`: this many a second on average, independent of each other.
    Poisson {
        /// Power-ons a second on average.
        per_second: f64,
    },
    /// `racks:20x40s`: this many at once, the next ones after this time.
    Racks {
        /// Machines that start together.
        machines: u32,
        /// Time between two racks.
        apart: Duration,
    },
}

impl ArrivalPattern {
    /// The moments of power-on since the start of the run, in order. The same seed gives the same
    /// moments.
    pub(super) fn times(self, machines: u32, seed: u64) -> impl Iterator<Item = Duration> {
        let mut random = SeededRandom::new(seed);
        let mut last = Duration::ZERO;
        (0..machines).map(move |number| match self {
            Self::All => Duration::ZERO,
            Self::Ramp(whole) => whole.mul_f64(f64::from(number) / f64::from(machines)),
            Self::Poisson { per_second } => {
                let at = last;
                last += draw_exponential_time(&mut random, per_second);
                at
            }
            Self::Racks { machines, apart } => apart * (number / machines.max(1)),
        })
    }
}

/// The time to the next of so many independent events a second.
pub(super) fn draw_exponential_time(random: &mut SeededRandom, per_second: f64) -> Duration {
    Duration::from_secs_f64(-draw_share(random).ln() / per_second)
}

/// Above 0 and at most 1.
fn draw_share(random: &mut SeededRandom) -> f64 {
    /// Numbers that a double holds exactly.
    const STEPS: u64 = 1 << 53;
    (random.below(STEPS) + 1) as f64 / STEPS as f64
}

impl FromStr for ArrivalPattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong =
            || format!("{text:?} is no arrival: all, ramp:30s, poisson:50/s or racks:20x40s");
        match text.split_once(':') {
            None if text == "all" => Ok(Self::All),
            Some(("ramp", time)) => Ok(Self::Ramp(parse_duration(time)?)),
            Some(("poisson", rate)) => {
                let per_second =
                    rate.strip_suffix("/s").and_then(|rate| rate.parse().ok()).ok_or_else(wrong)?;

                // `parse` accepts 0 and NaN as well, for which `draw_exponential_time` would panic.
                if !(RATE_MIN..=RATE_MAX).contains(&per_second) {
                    return Err(format!("a rate is from {RATE_MIN}/s to {RATE_MAX}/s"));
                }
                Ok(Self::Poisson { per_second })
            }
            Some(("racks", racks)) => {
                let (machines, apart) = racks.split_once('x').ok_or_else(wrong)?;
                let machines =
                    machines.parse().ok().filter(|machines| *machines > 0).ok_or_else(wrong)?;
                Ok(Self::Racks { machines, apart: parse_duration(apart)? })
            }
            _ => Err(wrong()),
        }
    }
}

/// The longest duration of a run: a week.
const DURATION_MAX: Duration = Duration::from_secs(7 * 24 * 3600);

/// A time as people write it: `500ms`, `30s`, `1.5m`, `2h`.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is no time: 500ms, 30s, 10m or 2h");
    let (number, unit) =
        text.split_at(text.find(|c: char| c.is_ascii_alphabetic()).ok_or_else(wrong)?);
    let unit_s = match unit {
        "ms" => 0.001,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return Err(wrong()),
    };
    let seconds = number.parse::<f64>().map_err(|_| wrong())? * unit_s;
    let time = Duration::try_from_secs_f64(seconds).map_err(|_| wrong())?;
    if time > DURATION_MAX { Err(format!("{text} is longer than a week")) } else { Ok(time) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn times(text: &str, machines: u32) -> Vec<f64> {
        text.parse::<ArrivalPattern>()
            .unwrap()
            .times(machines, 7)
            .map(|time| time.as_secs_f64())
            .collect()
    }

    #[test]
    fn machines_arrive_as_they_were_asked_to() {
        assert_eq!(times("all", 3), [0.0; 3]);
        assert_eq!(times("ramp:30s", 3), [0.0, 10.0, 20.0]);
        assert_eq!(times("racks:2x40s", 5), [0.0, 0.0, 40.0, 40.0, 80.0]);
    }

    #[test]
    fn a_poisson_stream_has_its_rate_and_its_spread_and_can_be_repeated() {
        let at = times("poisson:50/s", 10_000);
        assert!(at.is_sorted() && at == times("poisson:50/s", 10_000));
        let mean = at[9_999] / 10_000.0;
        assert!((0.019..0.021).contains(&mean), "{mean}");
        // Of independent gaps, 63 % are shorter than the mean.
        let short = at.windows(2).filter(|pair| pair[1] - pair[0] < mean).count();
        assert!((6_100..6_500).contains(&short), "{short}");
    }

    #[test]
    fn what_is_no_arrival_and_no_time_is_refused() {
        for wrong in [
            "",
            "none",
            "ramp",
            "ramp:30",
            "poisson:50",
            "poisson:0/s",
            "poisson:NaN/s",
            "racks:20",
            "racks:0x4s",
        ] {
            assert!(wrong.parse::<ArrivalPattern>().is_err(), "{wrong}");
        }
        for wrong in ["", "s", "5", "-1s", "1 s", "5 days", "200h", "infs"] {
            assert!(parse_duration(wrong).is_err(), "{wrong}");
        }
        assert_eq!(parse_duration("1.5m"), Ok(Duration::from_secs(90)));
    }
}
