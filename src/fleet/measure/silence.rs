//! The longest time in which an asked server sent nothing: closed load hides such a stop, because
//! machines send no further requests meanwhile.

use std::time::Duration;

use super::line::ProtocolLine;

/// The longest time without any answer to any machine by one protocol.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LongestSilence {
    /// Its length; zero if every answer came in time.
    pub lasted: Duration,
    /// Its start, since the run began.
    pub at: Duration,
    /// Requests that waited meanwhile.
    pub waiting: u32,
}

/// Watches one protocol, a few dozen times a second.
#[derive(Debug, Default)]
pub(super) struct SilenceListener {
    /// No answer has come since then, and a request waited all the time.
    since: Duration,
    heard: u64,
    longest: LongestSilence,
}

impl SilenceListener {
    /// Checks at `now` since the run began. `away` is the time by which the watch itself was late
    /// because its program was stopped: that time is not the server's silence.
    pub(crate) fn check_line(&mut self, now: Duration, away: Duration, line: &ProtocolLine) {
        let (heard, waiting) = (line.count_answers(), line.count_waiting());
        if heard != self.heard || waiting == 0 {
            (self.heard, self.since) = (heard, now);
        }
        self.since = (self.since + away).min(now);
        let lasted = now.saturating_sub(self.since);
        line.set_silent(lasted);
        if lasted > self.longest.lasted {
            self.longest = LongestSilence { lasted, at: self.since, waiting };
        }
    }

    pub(crate) fn longest(&self) -> LongestSilence {
        self.longest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// The result of a watch at these moments: milliseconds, delay of the watch, answers, waiting
    /// requests.
    fn listen(looks: &[(u32, u32, u64, u32)]) -> LongestSilence {
        let (mut listener, line) = (SilenceListener::default(), ProtocolLine::default());
        for &(at, away, answers, waiting) in looks {
            (line.count_waiting()..waiting).for_each(|_| line.note_request());
            (waiting..line.count_waiting()).for_each(|_| line.note_request_end());
            (0..answers).for_each(|_| line.note_answer());
            listener.check_line(MS * at, MS * away, &line);
        }
        listener.longest()
    }

    #[test]
    fn the_longest_silence_is_that_in_which_somebody_waited() {
        let silence =
            |lasted, at, waiting| LongestSilence { lasted: MS * lasted, at: MS * at, waiting };
        assert_eq!(
            listen(&[(100, 0, 5, 3), (200, 0, 0, 3), (2100, 0, 0, 7), (2200, 0, 1, 7)]),
            silence(2000, 100, 7)
        );
        assert_eq!(
            listen(&[(100, 0, 5, 0), (2100, 0, 0, 0), (2200, 0, 1, 2)]),
            LongestSilence::default()
        );
        // A dead server: from the first request on.
        assert_eq!(listen(&[(25, 0, 0, 5), (50, 0, 0, 5)]), silence(50, 0, 5));
    }

    #[test]
    fn a_listener_that_was_stopped_itself_blames_nobody() {
        assert_eq!(listen(&[(100, 0, 5, 3), (2100, 1975, 0, 3)]).lasted, MS * 25);
    }
}
