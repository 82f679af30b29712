//! An open transfer: how far it is, and for how long it has made no progress.

use super::stop::{FIRST_BLOCK, LATER_BLOCK, StopCause, StopReport};

/// A transfer without progress for this long is reported as still. In milliseconds: longer than the
/// retransmission of a lost packet takes.
const STILL_MS: u64 = 5_000;

/// How far a transfer is, by its protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransferProgress {
    /// A TFTP transfer.
    Tftp {
        /// The first block that the client has not acknowledged, counted from 1 and never wrapped.
        block: u64,
        /// Blocks of the whole file.
        blocks: u64,
    },
    /// An HTTP response.
    Http {
        /// Bytes that the client's kernel has acknowledged.
        bytes: u64,
        /// Bytes of the whole response body.
        of: u64,
        /// Other clients go first for now.
        in_line: bool,
    },
    /// The request waits until transfers of the same address have ended, or for the disk.
    Waiting,
}

/// One open transfer to a machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ActiveTransfer {
    /// The file as the client named it.
    pub name: String,
    /// When the request came, in Unix milliseconds.
    pub began_ms: u64,
    /// Milliseconds since the client last made progress, or since its request.
    pub quiet_ms: u64,
    /// How far the transfer is.
    pub way: TransferProgress,
}

impl ActiveTransfer {
    /// `is loading debian/linux by TFTP, block 4 of 20313, no ACK for 23 s`
    pub(super) fn describe_progress(&self) -> String {
        let Self { name, quiet_ms, .. } = self;
        // A pause of less than a second is normal: TFTP repeats a lost packet after one second
        // (T-41).
        let still_s = Some(quiet_ms / 1000).filter(|seconds| *seconds > 0);
        let still = |what: &str| {
            still_s.map_or_else(String::new, |seconds| format!(", {what} for {seconds} s"))
        };
        match self.way {
            TransferProgress::Tftp { block, blocks } => {
                format!("is loading {name} by TFTP, block {block} of {blocks}{}", still("no ACK"))
            }
            TransferProgress::Http { bytes, of, in_line } => {
                let line =
                    if in_line { ", slowed down because other clients go first" } else { "" };
                format!(
                    "is loading {name} by HTTP, {bytes} of {of} bytes{line}{}",
                    still("no progress")
                )
            }
            TransferProgress::Waiting => {
                format!("has requested {name} and waits for its turn{}", still("without an answer"))
            }
        }
    }

    /// The report of `ringboot why` about this transfer.
    pub(super) fn to_stop_report(&self) -> StopReport {
        let is_still = self.quiet_ms >= STILL_MS;
        let (code, next_step) = match self.way {
            TransferProgress::Waiting => (
                StopCause::WaitsForItsTurn,
                "Wait for the other transfers of the same address (`[tftp] per-source` is their \
                 limit), or for a slow disk.",
            ),
            TransferProgress::Tftp { block: 1, .. } if is_still => {
                (StopCause::LoadingStill, FIRST_BLOCK)
            }
            TransferProgress::Tftp { .. } if is_still => (StopCause::LoadingStill, LATER_BLOCK),
            // A body in line gets a trickle because others go first, so its slow pace is no fault.
            TransferProgress::Http { in_line: false, .. } if is_still => (
                StopCause::LoadingStill,
                "Look for packet loss on the way, or for a machine that hangs: the server closes \
                 its connection after a minute.",
            ),
            TransferProgress::Tftp { .. } | TransferProgress::Http { .. } => {
                (StopCause::Loading, "Wait, and ask again later: nothing is wrong so far.")
            }
        };
        StopReport {
            code,
            cause: format!("It {}.", self.describe_progress()),
            next_step: next_step.to_owned(),
        }
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
                "It is loading debian/linux by HTTP, 7 of 9 bytes, no progress for 4 s.",
            ),
            (
                flight(9_000, http(false)),
                StopCause::LoadingStill,
                "It is loading debian/linux by HTTP, 7 of 9 bytes, no progress for 9 s.",
            ),
            (
                flight(0, http(true)),
                StopCause::Loading,
                "It is loading debian/linux by HTTP, 7 of 9 bytes, slowed down because other \
                 clients go first.",
            ),
            (
                flight(9_000, TransferProgress::Waiting),
                StopCause::WaitsForItsTurn,
                "It has requested debian/linux and waits for its turn, without an answer for 9 s.",
            ),
        ] {
            let stop = flight.to_stop_report();
            assert_eq!((stop.code, stop.cause.as_str()), (code, words));
        }
        let (first, later) = (
            TransferProgress::Tftp { block: 1, blocks: 2 },
            TransferProgress::Tftp { block: 2, blocks: 2 },
        );
        assert!(flight(STILL_MS, first).to_stop_report().next_step.contains("high port"));
        assert!(flight(STILL_MS, later).to_stop_report().next_step.contains("packet loss"));
    }
}
