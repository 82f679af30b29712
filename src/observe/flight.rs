//! A transfer that is under way: how far it has come, and for how long it has stood still.

use super::stop::{FIRST_BLOCK, LATER_BLOCK, StopCause, StopReport};

/// Without progress for so long it is worth a look: longer than a lost packet explains.
/// Milliseconds.
const STILL_MS: u64 = 5_000;

/// What carries it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransferProgress {
    /// The first block that was not acknowledged, counted from 1, and how many there are.
    Tftp { block: u64, blocks: u64 },
    /// Bytes that the client has got, and how many it wants. `in_line`: others go first for now.
    Http { bytes: u64, of: u64, in_line: bool },
    /// The request waits until transfers of the same address have ended, or for the disk.
    Waiting,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ActiveTransfer {
    pub name: String,
    /// Unix milliseconds.
    pub began_ms: u64,
    /// Since the client last showed that it gets on, or since it asked.
    pub quiet_ms: u64,
    pub way: TransferProgress,
}

impl ActiveTransfer {
    /// `is loading debian/linux by TFTP, block 4 of 20313, no ACK for 23 s`
    pub(super) fn words(&self) -> String {
        let Self { name, quiet_ms, .. } = self;
        let still_s = Some(quiet_ms / 1000).filter(|seconds| *seconds > 0);
        let still = |what: &str| {
            still_s.map_or_else(String::new, |seconds| format!(", {what} for {seconds} s"))
        };
        match self.way {
            TransferProgress::Tftp { block, blocks } => {
                format!("is loading {name} by TFTP, block {block} of {blocks}{}", still("no ACK"))
            }
            TransferProgress::Http { bytes, of, in_line } => {
                let line = if in_line { ", slowly because others go first" } else { "" };
                format!(
                    "is loading {name} by HTTP, {bytes} of {of} bytes{line}{}",
                    still("nothing taken")
                )
            }
            TransferProgress::Waiting => {
                format!("has asked for {name} and waits for its turn{}", still("without an answer"))
            }
        }
    }

    pub(super) fn stop(&self) -> StopReport {
        let is_still = self.quiet_ms >= STILL_MS;
        let (code, next_step) = match self.way {
            TransferProgress::Waiting => (
                StopCause::WaitsForItsTurn,
                "Wait: transfers of the same address end before, as many at a time as `[tftp] \
                 per-source` says, or a slow disk answers.",
            ),
            TransferProgress::Tftp { block: 1, .. } if is_still => {
                (StopCause::LoadingStill, FIRST_BLOCK)
            }
            TransferProgress::Tftp { .. } if is_still => (StopCause::LoadingStill, LATER_BLOCK),
            TransferProgress::Http { in_line: false, .. } if is_still => (
                StopCause::LoadingStill,
                "Look for packet loss on the way, or whether the machine hangs: its connection is \
                 cut after a minute.",
            ),
            TransferProgress::Tftp { .. } | TransferProgress::Http { .. } => {
                (StopCause::Loading, "Wait, and ask again: nothing is wrong so far.")
            }
        };
        StopReport { code, cause: format!("It {}.", self.words()), next_step: next_step.to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flight(quiet_ms: u64, way: TransferProgress) -> ActiveTransfer {
        ActiveTransfer { name: "debian/linux".into(), began_ms: 0, quiet_ms, way }
    }

    #[test]
    fn a_transfer_is_told_with_how_far_it_is_and_for_how_long_it_has_stood_still() {
        let tftp = TransferProgress::Tftp { block: 4, blocks: 20_313 };
        let http = |in_line| TransferProgress::Http { bytes: 7, of: 9, in_line };
        for (flight, code, words) in [
            (
                flight(999, tftp),
                StopCause::Loading,
                "It is loading debian/linux by TFTP, block 4 of 20313.",
            ),
            (
                flight(23_400, tftp),
                StopCause::LoadingStill,
                "It is loading debian/linux by TFTP, block 4 of 20313, no ACK for 23 s.",
            ),
            (
                flight(4_999, http(false)),
                StopCause::Loading,
                "It is loading debian/linux by HTTP, 7 of 9 bytes, nothing taken for 4 s.",
            ),
            (
                flight(9_000, http(false)),
                StopCause::LoadingStill,
                "It is loading debian/linux by HTTP, 7 of 9 bytes, nothing taken for 9 s.",
            ),
            (
                flight(0, http(true)),
                StopCause::Loading,
                "It is loading debian/linux by HTTP, 7 of 9 bytes, slowly because others go first.",
            ),
            (
                flight(9_000, TransferProgress::Waiting),
                StopCause::WaitsForItsTurn,
                "It has asked for debian/linux and waits for its turn, without an answer for 9 s.",
            ),
        ] {
            let stop = flight.stop();
            assert_eq!((stop.code, stop.cause.as_str()), (code, words));
        }
        let (first, later) = (
            TransferProgress::Tftp { block: 1, blocks: 2 },
            TransferProgress::Tftp { block: 2, blocks: 2 },
        );
        assert!(flight(STILL_MS, first).stop().next_step.contains("high port"));
        assert!(flight(STILL_MS, later).stop().next_step.contains("packet loss"));
    }
}
