//! Giving addresses back at the end of a run: one RELEASE for each, no faster than servers take them.

use std::rc::Rc;

use tokio::time::{sleep, timeout};

use super::limits::{RELEASE_PAUSE, RELEASE_TIME_MAX, RELEASES_PER_SECOND};
use super::segment::Segment;

/// Sends a RELEASE for every lease, within [`RELEASE_TIME_MAX`] and a little; says how many.
pub(super) async fn give_back(segments: &[Rc<Segment>]) -> u32 {
    let held: Vec<_> =
        segments.iter().flat_map(|segment| segment.take_held().into_iter().map(move |held| (segment, held))).collect();
    let mut sent = 0;
    let all = async {
        for few in held.chunks(at_once(held.len())) {
            for (segment, held) in few {
                sent += u32::from(segment.give_back(*held));
            }
            for (segment, _) in few {
                segment.flush().await;
            }
            sleep(RELEASE_PAUSE).await;
        }
    };
    // Only a network that takes nothing any more is slower.
    let _ = timeout(RELEASE_TIME_MAX * 2, all).await;
    sent
}

/// How many of so many leases are given back between two pauses.
fn at_once(leases: usize) -> usize {
    let pauses = RELEASE_TIME_MAX.as_millis() / RELEASE_PAUSE.as_millis();
    let gently = u128::from(RELEASES_PER_SECOND) * RELEASE_PAUSE.as_millis() / 1000;
    let in_time = (leases as u128).div_ceil(pauses);
    usize::try_from(gently.max(in_time)).unwrap_or(usize::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_leases_are_given_back_gently_and_many_in_time() {
        assert_eq!(at_once(0), 5);
        assert_eq!(at_once(500), 5, "250 a second");
        assert_eq!(at_once(20_000), 40, "in 10 seconds");
    }
}
