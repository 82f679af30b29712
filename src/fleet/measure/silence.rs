//! How long a server said nothing at all while it was asked: a stop that closed load hides, because
//! nobody asks meanwhile.

use std::time::Duration;

use super::line::Line;

/// The longest time without any answer by one protocol, to whatever machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Silence {
    pub lasted: Duration,
    /// When it began, since the run did.
    pub at: Duration,
    /// Requests that waited.
    pub waiting: u32,
}

/// Listens to one protocol, a few dozen times a second.
#[derive(Debug, Default)]
pub(super) struct Listener {
    /// Nothing has come since then, and something was waited for all the time.
    since: Duration,
    heard: u64,
    longest: Silence,
}

impl Listener {
    /// One look at `now` since the run began. A listener that was away for so long longer than it
    /// meant to be (its whole program was stopped) does not know what would have come: that time is
    /// nobody's silence.
    pub(crate) fn look(&mut self, now: Duration, away: Duration, line: &Line) {
        let (heard, waiting) = (line.heard(), line.waiting());
        if heard != self.heard || waiting == 0 {
            (self.heard, self.since) = (heard, now);
        }
        self.since = (self.since + away).min(now);
        let lasted = now.saturating_sub(self.since);
        line.set_silent(lasted);
        if lasted > self.longest.lasted {
            self.longest = Silence { lasted, at: self.since, waiting };
        }
    }

    pub(crate) fn longest(&self) -> Silence {
        self.longest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// What a listener has heard that looks at these moments: milliseconds, how much longer it was
    /// away, answers, requests that wait.
    fn listen(looks: &[(u32, u32, u64, u32)]) -> Silence {
        let (mut listener, line) = (Listener::default(), Line::default());
        for &(at, away, answers, waiting) in looks {
            (line.waiting()..waiting).for_each(|_| line.asks());
            (waiting..line.waiting()).for_each(|_| line.asks_no_more());
            (0..answers).for_each(|_| line.hears());
            listener.look(MS * at, MS * away, &line);
        }
        listener.longest()
    }

    #[test]
    fn the_longest_silence_is_that_in_which_somebody_waited() {
        let silence = |lasted, at, waiting| Silence { lasted: MS * lasted, at: MS * at, waiting };
        assert_eq!(
            listen(&[(100, 0, 5, 3), (200, 0, 0, 3), (2100, 0, 0, 7), (2200, 0, 1, 7)]),
            silence(2000, 100, 7)
        );
        assert_eq!(listen(&[(100, 0, 5, 0), (2100, 0, 0, 0), (2200, 0, 1, 2)]), Silence::default());
        // A dead server: from the first request on.
        assert_eq!(listen(&[(25, 0, 0, 5), (50, 0, 0, 5)]), silence(50, 0, 5));
    }

    #[test]
    fn a_listener_that_was_stopped_itself_blames_nobody() {
        assert_eq!(listen(&[(100, 0, 5, 3), (2100, 1975, 0, 3)]).lasted, MS * 25);
    }
}
