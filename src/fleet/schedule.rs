//! Open load: the moments at which exchanges are due, whether or not the server has answered the
//! ones before.
//!
//! A machine that is free takes the next moment. Where none is free, the moment passes, and the
//! exchange that it was meant for begins late: its time counts from the moment all the same, or a
//! server that stands still would be asked less and look fast.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::rc::Rc;
use std::str::FromStr;
use std::time::{Duration, Instant};

use tokio::sync::{Notify, oneshot};

use super::arrival::exponential;
use super::limits::{OVERTIME_MAX, RATE_MAX, RATE_MIN};
use ringboot_io::engine::timer::Timer;
use ringboot_protocol::model::random::Random;

/// How many exchanges are due a second.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rate {
    pub per_second: f64,
    /// At random, each without regard for the others; else evenly.
    pub is_random: bool,
}

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (is_random, number) =
            text.strip_prefix("poisson:").map_or((false, text), |number| (true, number));
        let per_second = number.strip_suffix("/s").and_then(|number| number.parse().ok());
        let per_second: f64 =
            per_second.ok_or_else(|| format!("{text:?} is no rate: 5000/s or poisson:5000/s"))?;
        if !(RATE_MIN..=RATE_MAX).contains(&per_second) {
            return Err(format!("a rate is from {RATE_MIN}/s to {RATE_MAX}/s"));
        }
        Ok(Self { per_second, is_random })
    }
}

/// The moments of one kind of machines, each given out once and in order.
#[derive(Debug)]
pub(super) struct Schedule {
    moments: RefCell<Moments>,
    /// Nothing is due from then on; None: machines end by themselves.
    until: Option<Instant>,
    /// Machines that are free, each with the moment that it waits for.
    waiting: RefCell<VecDeque<(Instant, oneshot::Sender<()>)>>,
    /// There is one more of them.
    queued: Notify,
    timer: Timer,
    /// Moments that had passed when a machine came for them.
    late: Cell<u64>,
}

#[derive(Debug)]
struct Moments {
    rate: Rate,
    begun: Instant,
    given: u64,
    next: Instant,
    random: Random,
}

/// A moment that a machine has waited for, or has come to late.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Turn {
    pub(super) due: Instant,
    /// The machine was there in time: if it begins late, that is nobody's fault but the
    /// generator's.
    pub(super) was_free: bool,
}

impl Schedule {
    /// From `begun` on, and until then.
    pub(super) fn new(
        rate: Rate,
        begun: Instant,
        until: Option<Instant>,
        seed: u64,
    ) -> io::Result<Self> {
        let moments = Moments { rate, begun, given: 0, next: begun, random: Random::new(seed) };
        Ok(Self {
            moments: RefCell::new(moments),
            until,
            waiting: RefCell::default(),
            queued: Notify::new(),
            timer: Timer::new()?,
            late: Cell::default(),
        })
    }

    /// The next moment, when it has come; None when nothing is due any more. A moment that has
    /// passed is given at once.
    pub(super) async fn turn(&self) -> Option<Turn> {
        let due = self.take()?;
        if due <= Instant::now() {
            self.late.set(self.late.get() + 1);
            return Some(Turn { due, was_free: false });
        }
        let (bell, rung) = oneshot::channel();
        self.waiting.borrow_mut().push_back((due, bell));
        self.queued.notify_one();
        // Without an answer the run is over.
        rung.await.ok()?;
        Some(Turn { due, was_free: true })
    }

    fn take(&self) -> Option<Instant> {
        let mut moments = self.moments.borrow_mut();
        let is_over = |until| moments.next >= until || Instant::now() >= until + OVERTIME_MAX;
        if self.until.is_some_and(is_over) { None } else { Some(moments.take()) }
    }

    /// Wakes machines when their moments have come; never ends.
    pub(super) async fn keep_time(self: Rc<Self>) {
        loop {
            let next = self.waiting.borrow().front().map(|(due, _)| *due);
            match next {
                None => self.queued.notified().await,
                Some(due) => {
                    self.timer.wait_until(due).await;
                    self.ring(Instant::now());
                }
            }
        }
    }

    fn ring(&self, now: Instant) {
        let mut waiting = self.waiting.borrow_mut();
        let come = waiting.iter().take_while(|(due, _)| *due <= now).count();
        // A machine that is gone needs no waking.
        for (_, bell) in waiting.drain(..come) {
            let _ = bell.send(());
        }
    }

    /// Exchanges that found no machine free.
    pub(super) fn late(&self) -> u64 {
        self.late.get()
    }

    /// Exchanges that were due by `now` and never begun.
    pub(super) fn never_begun(&self, now: Instant) -> u64 {
        let Some(until) = self.until else { return 0 };
        let mut moments = self.moments.borrow_mut();
        let mut left = 0;
        while moments.next < until.min(now) {
            moments.take();
            left += 1;
        }
        left
    }
}

impl Moments {
    fn take(&mut self) -> Instant {
        let due = self.next;
        self.given += 1;
        self.next = if self.rate.is_random {
            due + exponential(&mut self.random, self.rate.per_second)
        } else {
            // From the first one each time: gaps that are rounded do not add up.
            self.begun + Duration::from_secs_f64(self.given as f64 / self.rate.per_second)
        };
        due
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use tokio::task::{LocalSet, spawn_local};

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn rate(text: &str) -> Rate {
        text.parse().unwrap()
    }

    fn with_schedule<T>(
        rate: Rate,
        lasts: Option<Duration>,
        work: impl AsyncFnOnce(Rc<Schedule>, Instant) -> T,
    ) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        LocalSet::new().block_on(&runtime, async {
            let begun = Instant::now();
            let schedule = Schedule::new(rate, begun, lasts.map(|lasts| begun + lasts), 1).unwrap();
            let schedule = Rc::new(schedule);
            spawn_local(Rc::clone(&schedule).keep_time());
            work(schedule, begun).await
        })
    }

    #[test]
    fn a_rate_is_even_or_at_random() {
        assert_eq!(rate("5000/s"), Rate { per_second: 5000.0, is_random: false });
        assert_eq!(rate("poisson:0.5/s"), Rate { per_second: 0.5, is_random: true });
        for wrong in ["", "5000", "/s", "0/s", "-1/s", "NaN/s", "1e9/s", "even:5/s"] {
            assert!(wrong.parse::<Rate>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn each_moment_is_given_once_and_nobody_gets_it_early() {
        with_schedule(rate("1000/s"), Some(20 * MS), async |schedule, begun| {
            let machines: Vec<_> = (0..4)
                .map(|_| {
                    let schedule = Rc::clone(&schedule);
                    spawn_local(async move {
                        let mut met = Vec::new();
                        while let Some(turn) = schedule.turn().await {
                            assert!(Instant::now() >= turn.due);
                            met.push(turn.due);
                        }
                        met
                    })
                })
                .collect();
            let mut met = Vec::new();
            for machine in machines {
                met.extend(machine.await.unwrap());
            }
            met.sort_unstable();
            let expected: Vec<_> = (0..20).map(|number| begun + MS * number).collect();
            assert_eq!(met, expected);
            assert_eq!(schedule.never_begun(Instant::now()), 0);
        });
    }

    #[test]
    fn who_comes_late_gets_the_moment_that_has_passed_and_what_nobody_came_for_is_counted() {
        with_schedule(rate("1000/s"), Some(20 * MS), async |schedule, begun| {
            while begun.elapsed() < 10 * MS {
                std::hint::spin_loop();
            }
            // The first is due at once.
            assert_eq!(schedule.turn().await, Some(Turn { due: begun, was_free: false }));
            assert_eq!(schedule.turn().await, Some(Turn { due: begun + MS, was_free: false }));
            assert_eq!(schedule.never_begun(begun + 12 * MS), 10);
        });
    }

    #[test]
    fn moments_at_random_keep_their_rate() {
        let begun = Instant::now();
        let rate = rate("poisson:1000/s");
        let mut moments = Moments { rate, begun, given: 0, next: begun, random: Random::new(3) };
        for _ in 0..10_000 {
            moments.take();
        }
        let mean = (moments.next - begun).as_secs_f64() / 10_000.0;
        assert!((0.00095..0.00105).contains(&mean), "{mean}");
    }
}
