//! When the log reports that a link is lost or has come back: a loss at once, a flapping link every
//! ten seconds.

use crate::dhcp::other_servers::MonotonicMillis;
use crate::engine::net::CarrierState;

/// Shortest time between two log lines about a flapping link, in milliseconds.
const LINK_SAID_EVERY_MS: MonotonicMillis = 10_000;

/// The state of a link that was logged last, and its changes since.
pub(super) struct LinkNews {
    said: CarrierState,
    said_ms: MonotonicMillis,
    seen: CarrierState,
    /// Changes that were not logged.
    unsaid: u32,
}

impl LinkNews {
    /// Before the first look the link counts as logged to be up: a link that is up at the start
    /// needs no line.
    pub(super) const NONE: Self =
        Self { said: CarrierState::Up, said_ms: 0, seen: CarrierState::Up, unsaid: 0 };

    /// Notes the state of the link. Some: log it now, with this number of changes that were not
    /// logged before. A lost link is logged at once, a flapping one every ten seconds, even if it
    /// is back in the state that was logged last.
    pub(super) fn follow(&mut self, link: CarrierState, now: MonotonicMillis) -> Option<u32> {
        self.unsaid += u32::from(link != self.seen);
        self.seen = link;
        let is_early =
            self.said != CarrierState::Up && now.saturating_sub(self.said_ms) < LINK_SAID_EVERY_MS;
        if self.unsaid == 0 || is_early {
            return None;
        }
        (self.said, self.said_ms) = (link, now);
        Some(std::mem::take(&mut self.unsaid).saturating_sub(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use CarrierState::{Down, NoCarrier, Up};

    /// Every line that the log gets for these states, `(state, milliseconds)`.
    fn said(
        states: &[(CarrierState, MonotonicMillis)],
    ) -> Vec<(CarrierState, MonotonicMillis, u32)> {
        let mut news = LinkNews::NONE;
        let line = |&(link, at)| news.follow(link, at).map(|unsaid| (link, at, unsaid));
        states.iter().filter_map(line).collect()
    }

    #[test]
    fn a_loss_is_said_at_once_and_a_return_when_it_has_lasted() {
        assert_eq!(said(&[(Up, 0), (Up, 50)]), []);
        let states = [
            (Up, 0),
            (Down, 50),
            (Down, 60),
            (Up, 900),
            (Up, 10_049),
            (Up, 10_050),
            (Down, 10_060),
        ];
        assert_eq!(said(&states), [(Down, 50, 0), (Up, 10_050, 0), (Down, 10_060, 0)]);
    }

    /// An administrator raises the interface before its cable is plugged in; the cable comes, and
    /// is pulled out again.
    #[test]
    fn a_link_that_is_as_it_was_said_to_be_is_said_again_when_it_was_otherwise_meanwhile() {
        let states = [
            (NoCarrier, 50),
            (Up, 100),
            (NoCarrier, 200),
            (NoCarrier, 10_050),
            (NoCarrier, 60_000),
        ];
        assert_eq!(said(&states), [(NoCarrier, 50, 0), (NoCarrier, 10_050, 1)]);
        let raised = [(Down, 50), (NoCarrier, 60), (Up, 70), (NoCarrier, 80), (NoCarrier, 10_050)];
        assert_eq!(said(&raised), [(Down, 50, 0), (NoCarrier, 10_050, 2)]);
    }

    #[test]
    fn a_link_that_flaps_for_a_minute_is_said_seldom_and_every_change_is_counted() {
        let states: Vec<_> = (0..600)
            .map(|i: u32| {
                (if i.is_multiple_of(2) { Down } else { Up }, MonotonicMillis::from(i) * 100)
            })
            .collect();
        let lines = said(&states);
        assert!((6..=12).contains(&lines.len()), "{lines:?}");
        let counted: u32 = lines.iter().map(|(.., unsaid)| unsaid + 1).sum();
        assert!((500..=600).contains(&counted), "{counted}");
    }
}
