//! Open load: the moments at which exchanges are due, even if the server has not answered the
//! earlier ones.
//!
//! A free machine takes the next moment. If none is free, the moment passes, and its exchange
//! begins late. Its time still counts from the moment; otherwise a stalled server would get fewer
//! requests and look fast.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::rc::Rc;
use std::str::FromStr;
use std::time::{Duration, Instant};

use tokio::sync::{Notify, oneshot};

use super::arrival::draw_exponential_time;
use super::limits::{OVERTIME_MAX, RATE_MAX, RATE_MIN};
use ringboot_io::engine::timer::TaskTimer;
use ringboot_protocol::model::random::SeededRandom;

/// The number of exchanges a second.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ArrivalRate {
    /// Exchanges a second, on average if random.
    pub per_second: f64,
    /// At random and independent of each other; else evenly.
    pub is_random: bool,
}

impl FromStr for ArrivalRate {
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

/// The moments of machines of one role, each given out once and in order.
#[derive(Debug)]
pub(super) struct ExchangeSchedule {
    moments: RefCell<DueMoments>,
    /// No exchange is due from then on; None: machines end by themselves.
    until: Option<Instant>,
    /// Free machines, each with the moment for which it waits.
    waiting: RefCell<VecDeque<(Instant, oneshot::Sender<()>)>>,
    /// Another machine has begun to wait.
    queued: Notify,
    timer: TaskTimer,
    /// Moments that had passed before a machine was free.
    late: Cell<u64>,
}

#[derive(Debug)]
struct DueMoments {
    rate: ArrivalRate,
    begun: Instant,
    given: u64,
    next: Instant,
    random: SeededRandom,
}

/// A moment for which a machine has waited, or which it has missed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ExchangeTurn {
    pub(super) due: Instant,
    /// The machine was free in time: if the exchange begins late, only the generator is late.
    pub(super) was_free: bool,
}

impl ExchangeSchedule {
    /// Moments from `begun` until the end.
    pub(super) fn new(
        rate: ArrivalRate,
        begun: Instant,
        until: Option<Instant>,
        seed: u64,
    ) -> io::Result<Self> {
        let moments =
            DueMoments { rate, begun, given: 0, next: begun, random: SeededRandom::new(seed) };
        Ok(Self {
            moments: RefCell::new(moments),
            until,
            waiting: RefCell::default(),
            queued: Notify::new(),
            timer: TaskTimer::new()?,
            late: Cell::default(),
        })
    }

    /// Returns the next moment when it has come, at once if it has passed; None if no exchange is
    /// due any more.
    pub(super) async fn wait_for_turn(&self) -> Option<ExchangeTurn> {
        let due = self.take_moment()?;
        if due <= Instant::now() {
            self.late.set(self.late.get() + 1);
            return Some(ExchangeTurn { due, was_free: false });
        }
        let (bell, rung) = oneshot::channel();
        self.waiting.borrow_mut().push_back((due, bell));
        self.queued.notify_one();
        // The sender is gone: the run is over.
        rung.await.ok()?;
        Some(ExchangeTurn { due, was_free: true })
    }

    fn take_moment(&self) -> Option<Instant> {
        let mut moments = self.moments.borrow_mut();
        if let Some(until) = self.until
            && (moments.next >= until || Instant::now() >= until + OVERTIME_MAX)
        {
            return None;
        }
        Some(moments.draw_moment())
    }

    /// Wakes machines when their moments have come; never ends.
    pub(super) async fn keep_time(self: Rc<Self>) {
        loop {
            let next = self.waiting.borrow().front().map(|(due, _)| *due);
            match next {
                None => self.queued.notified().await,
                Some(due) => {
                    self.timer.wait_until(due).await;
                    self.wake_machines(Instant::now());
                }
            }
        }
    }

    fn wake_machines(&self, now: Instant) {
        let mut waiting = self.waiting.borrow_mut();
        let come = waiting.iter().take_while(|(due, _)| *due <= now).count();
        // A machine that has ended needs no waking.
        for (_, bell) in waiting.drain(..come) {
            let _ = bell.send(());
        }
    }

    /// Exchanges that found no machine free.
    pub(super) fn count_late(&self) -> u64 {
        self.late.get()
    }

    /// Exchanges that were due by `now` and never begun.
    pub(super) fn never_begun(&self, now: Instant) -> u64 {
        let Some(until) = self.until else { return 0 };
        let mut moments = self.moments.borrow_mut();
        let mut left = 0;
        while moments.next < until.min(now) {
            moments.draw_moment();
            left += 1;
        }
        left
    }
}

impl DueMoments {
    fn draw_moment(&mut self) -> Instant {
        let due = self.next;
        self.given += 1;
        self.next = if self.rate.is_random {
            due + draw_exponential_time(&mut self.random, self.rate.per_second)
        } else {
            // Count from the first moment each time, so that rounding does not add up.
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

    fn rate(text: &str) -> ArrivalRate {
        text.parse().unwrap()
    }

    fn with_schedule<T>(
        rate: ArrivalRate,
        lasts: Option<Duration>,
        work: impl AsyncFnOnce(Rc<ExchangeSchedule>, Instant) -> T,
    ) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        LocalSet::new().block_on(&runtime, async {
            let begun = Instant::now();
            let schedule =
                ExchangeSchedule::new(rate, begun, lasts.map(|lasts| begun + lasts), 1).unwrap();
            let schedule = Rc::new(schedule);
            spawn_local(Rc::clone(&schedule).keep_time());
            work(schedule, begun).await
        })
    }

    #[test]
    fn a_rate_is_even_or_at_random() {
        assert_eq!(rate("5000/s"), ArrivalRate { per_second: 5000.0, is_random: false });
        assert_eq!(rate("poisson:0.5/s"), ArrivalRate { per_second: 0.5, is_random: true });
        for wrong in ["", "5000", "/s", "0/s", "-1/s", "NaN/s", "1e9/s", "even:5/s"] {
            assert!(wrong.parse::<ArrivalRate>().is_err(), "{wrong}");
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
                        while let Some(turn) = schedule.wait_for_turn().await {
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
            // The first one is due at once.
            assert_eq!(
                schedule.wait_for_turn().await,
                Some(ExchangeTurn { due: begun, was_free: false })
            );
            assert_eq!(
                schedule.wait_for_turn().await,
                Some(ExchangeTurn { due: begun + MS, was_free: false })
            );
            assert_eq!(schedule.never_begun(begun + 12 * MS), 10);
        });
    }

    #[test]
    fn moments_at_random_keep_their_rate() {
        let begun = Instant::now();
        let rate = rate("poisson:1000/s");
        let mut moments =
            DueMoments { rate, begun, given: 0, next: begun, random: SeededRandom::new(3) };
        for _ in 0..10_000 {
            moments.draw_moment();
        }
        let mean = (moments.next - begun).as_secs_f64() / 10_000.0;
        assert!((0.00095..0.00105).contains(&mean), "{mean}");
    }
}
