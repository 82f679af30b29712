//! A boot storm in numbers: which large files are on their way, and when the last of them is there.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::time::Duration;

use super::flights::TransferUnderWay;
use crate::model::places::SMALL_BYTES;

/// How long the rate of a storm is measured, while `status` waits: some trickles and windows of a
/// slow link.
pub const MEASURED_FOR: Duration = Duration::from_millis(500);

/// Large files on their way to more than one machine, by TFTP and HTTP together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StormEstimate {
    /// Machines that receive a large file as fast as they can.
    pub at_full_speed: usize,
    /// Machines whose large files wait, with a trickle, for those of others.
    pub in_line: usize,
    /// Bytes of these files that the machines do not have yet.
    pub bytes_left: u64,
    /// Bytes that the machines received in a second.
    pub bytes_per_s: u64,
    /// Until the last of these files is there, at this rate; None: nothing moves.
    pub time_left: Option<Duration>,
}

/// Whether large files are on their way to more than one machine.
pub fn is_storm(under_way: &[TransferUnderWay]) -> bool {
    let machines: HashSet<IpAddr> = list_large(under_way).map(|one| one.peer).collect();
    machines.len() > 1
}

/// Estimates the end of the storm from the transfers under way now, and those of `between` before.
/// None: there is no storm now.
pub fn estimate_storm(
    before: &[TransferUnderWay],
    now: &[TransferUnderWay],
    between: Duration,
) -> Option<StormEstimate> {
    if !is_storm(now) {
        return None;
    }
    let mut had: HashMap<(IpAddr, &str), &TransferUnderWay> =
        list_large(before).map(|one| ((one.peer, one.name.as_str()), one)).collect();
    let mut moved: u64 = 0;
    let (mut at_full_speed, mut in_line) = (HashSet::new(), HashSet::new());
    let mut bytes_left: u64 = 0;
    for one in list_large(now) {
        // A transfer with fewer bytes than before is another one of the same file.
        let earlier = had.remove(&(one.peer, one.name.as_str())).map_or(0, |earlier| earlier.got);
        moved += one.got.checked_sub(earlier).unwrap_or(one.got);
        bytes_left += one.bytes.saturating_sub(one.got);
        let machines = if one.in_line { &mut in_line } else { &mut at_full_speed };
        machines.insert(one.peer);
    }
    // Those that are gone have the rest of their files.
    moved += had.values().map(|gone| gone.bytes.saturating_sub(gone.got)).sum::<u64>();

    let ms = u64::try_from(between.as_millis()).unwrap_or(u64::MAX).max(1);
    let bytes_per_s = moved.saturating_mul(1000) / ms;
    let time_left = bytes_left.saturating_mul(1000).checked_div(bytes_per_s);
    Some(StormEstimate {
        at_full_speed: at_full_speed.len(),
        in_line: in_line.difference(&at_full_speed).count(),
        bytes_left,
        bytes_per_s,
        time_left: time_left.map(Duration::from_millis),
    })
}

fn list_large(under_way: &[TransferUnderWay]) -> impl Iterator<Item = &TransferUnderWay> {
    under_way.iter().filter(|one| one.bytes > SMALL_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::flight::TransferProgress;

    const MB: u64 = 1_000_000;

    fn under_way(host: u8, got: u64, bytes: u64, in_line: bool) -> TransferUnderWay {
        TransferUnderWay {
            peer: IpAddr::from([10, 0, 0, host]),
            name: "vmlinuz".to_owned(),
            age: Duration::ZERO,
            still: Duration::ZERO,
            way: TransferProgress::Waiting,
            bytes,
            got,
            in_line,
        }
    }

    #[test]
    fn the_end_of_a_storm_follows_from_what_is_left_and_what_moved() {
        let before = [under_way(1, 6 * MB, 8 * MB, false), under_way(2, 2 * MB, 8 * MB, true)];
        let now = [
            under_way(2, 3 * MB, 8 * MB, false),
            under_way(3, MB, 8 * MB, true),
            under_way(4, 0, MB, false),
        ];
        // 2 MB of the file that is complete, and 1 MB of each of the others, in half a second.
        let estimate = estimate_storm(&before, &now, MEASURED_FOR);
        let expected = StormEstimate {
            at_full_speed: 1,
            in_line: 1,
            bytes_left: 12 * MB,
            bytes_per_s: 8 * MB,
            time_left: Some(Duration::from_millis(1500)),
        };
        assert_eq!(estimate, Some(expected));
    }

    #[test]
    fn one_machine_is_no_storm_and_one_that_stands_still_has_no_end() {
        let two_files = [under_way(1, 0, 8 * MB, false), under_way(1, 0, 9 * MB, true)];
        assert!(!is_storm(&two_files));
        assert_eq!(estimate_storm(&two_files, &two_files, MEASURED_FOR), None);
        let still = [under_way(1, 0, 8 * MB, false), under_way(2, 0, 8 * MB, true)];
        let estimate = estimate_storm(&still, &still, MEASURED_FOR).map(|one| one.time_left);
        assert_eq!(estimate, Some(None));
    }
}
