//! Releases addresses at the end of a run: one RELEASE for each, no faster than the server can
//! process them.

use std::rc::Rc;
use std::time::Duration;

use tokio::time::{sleep, timeout};

use super::segment::FleetSegment;
use crate::limits::{RELEASE_PAUSE, RELEASE_TIME_MAX, RELEASES_PER_SECOND_MIN};

/// Sends a RELEASE for every lease, within [`RELEASE_TIME_MAX`] and a little; returns the number.
/// `acknowledged_per_s`: leases that the server acknowledged a second.
pub(crate) async fn release_leases(segments: &[Rc<FleetSegment>], acknowledged_per_s: f64) -> u32 {
    let held: Vec<_> = segments
        .iter()
        .flat_map(|segment| segment.take_held().into_iter().map(move |held| (segment, held)))
        .collect();
    let (few, pause) = plan_release_rhythm(held.len(), acknowledged_per_s);
    let mut sent = 0;
    let all = async {
        for few in held.chunks(few) {
            for (segment, held) in few {
                sent += u32::from(segment.send_release(*held));
            }
            for (segment, _) in few {
                segment.flush().await;
            }
            sleep(pause).await;
        }
    };
    // Only a network that accepts no more packets is slower.
    let _ = timeout(RELEASE_TIME_MAX * 2, all).await;
    sent
}

/// The number of RELEASEs in one batch, and the pause after it.
fn plan_release_rhythm(leases: usize, acknowledged_per_s: f64) -> (usize, Duration) {
    let in_time = leases as f64 / RELEASE_TIME_MAX.as_secs_f64();
    let per_s = acknowledged_per_s.max(f64::from(RELEASES_PER_SECOND_MIN)).max(in_time);
    let most = u32::try_from(leases).unwrap_or(u32::MAX).max(1);
    // The conversion saturates.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let few = ((per_s * RELEASE_PAUSE.as_secs_f64()) as u32).clamp(1, most);
    (few as usize, Duration::from_secs_f64(f64::from(few) / per_s))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leases_are_given_back_as_fast_as_they_were_got_and_many_in_time() {
        let ms = Duration::from_millis;
        assert_eq!(plan_release_rhythm(500, 5.0), (1, ms(10)), "100 a second");
        assert_eq!(plan_release_rhythm(500, 2000.0), (20, ms(10)));
        assert_eq!(plan_release_rhythm(20_000, 100.0), (20, ms(10)), "in 10 seconds");
        assert_eq!(plan_release_rhythm(0, 0.0), (1, ms(10)));
        assert_eq!(plan_release_rhythm(30, f64::INFINITY).0, 30);
    }
}
