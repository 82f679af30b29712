//! Between TFTP and what is known of a machine's firmware: a limit becomes options, the end of a transfer becomes a lesson.

use super::tftp_core::End;
use crate::boot::machine::Firmware;
use crate::boot::quirks::{self, Allowance, Attempt};
use crate::tftp::limits::BLOCK_SIZE_DEFAULT;
use crate::tftp::options::OptionPolicy;
use crate::tftp::table::Outcome;

/// Options for a machine that gets no more than this (T-23). What is as good as no option is not granted at all: firmware that
/// fails on an option fails on its smallest value as well.
pub(super) fn restricted(options: OptionPolicy, allowance: Allowance) -> OptionPolicy {
    let Allowance { window, blksize, .. } = allowance;
    OptionPolicy {
        windowsize: options.windowsize && window != Some(1),
        window_max: window.map_or(options.window_max, |most| most.min(options.window_max)),
        blksize: options.blksize && blksize != Some(BLOCK_SIZE_DEFAULT),
        block_size_max: blksize.map_or(options.block_size_max, |most| most.min(options.block_size_max)),
        ..options
    }
}

/// What the end of a transfer says of the firmware; None = nothing.
pub(super) fn attempt(class: Option<Firmware>, name: &str, end: &End) -> Option<Attempt> {
    let terms = end.terms?;
    let tally = end.tally;
    let how = match end.outcome {
        Outcome::Complete | Outcome::CompleteWithoutLastAck => quirks::End::Complete,
        Outcome::SizeProbe | Outcome::Aborted { .. } => quirks::End::Aborted,
        Outcome::GaveUp => quirks::End::GaveUp,
        // It took the terms and not one block, and has lost patience before we did.
        Outcome::Replaced if tally.confirmed && tally.acked_blocks == 0 => quirks::End::GaveUp,
        // Ours, or no end at all.
        Outcome::Failed(_) | Outcome::Replaced | Outcome::Refused { .. } | Outcome::NeverBegun | Outcome::Displaced => {
            return None;
        }
    };
    Some(Attempt {
        class,
        name: name.to_owned(),
        window: terms.window,
        blksize: terms.block_size,
        size_asked: end.size_asked,
        confirmed: tally.confirmed,
        acked_blocks: tally.acked_blocks,
        least_burst: tally.least_burst,
        end: how,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn t23_the_last_step_of_a_limit_leaves_the_option_out() {
        let all = OptionPolicy::default();
        let with = |window, blksize| restricted(all, Allowance { window, blksize, http_rate: None });
        assert_eq!(with(None, None), all);
        assert_eq!(with(Some(4), Some(1024)), OptionPolicy { window_max: 4, block_size_max: 1024, ..all });
        let least = with(Some(1), Some(512));
        assert!(!least.windowsize && !least.blksize && least.tsize && least.timeout);
        assert_eq!(with(Some(60_000), None), all, "a limit raises nothing");
    }
}
