//! Between TFTP and the knowledge about a machine's firmware: a limit restricts options, and the
//! end of a transfer becomes an attempt to learn from.

use crate::boot::quirks::{self, QuirkAllowance, TransferAttempt};
use crate::model::machine::Firmware;
use crate::tftp::limits::BLOCK_SIZE_DEFAULT;
use crate::tftp::options::OptionPolicy;
use crate::tftp::table::{EndedTransfer, TransferOutcome};

/// Options for a machine with these limits (T-23). An option whose limit equals its default is not
/// granted at all: firmware that fails on an option fails on its smallest value too.
pub(super) fn restricted(options: OptionPolicy, allowance: QuirkAllowance) -> OptionPolicy {
    let QuirkAllowance { window, blksize, .. } = allowance;
    OptionPolicy {
        windowsize: options.windowsize && window != Some(1),
        window_max: window.map_or(options.window_max, |most| most.min(options.window_max)),
        blksize: options.blksize && blksize != Some(BLOCK_SIZE_DEFAULT),
        block_size_max: blksize
            .map_or(options.block_size_max, |most| most.min(options.block_size_max)),
        ..options
    }
}

/// What the end of a transfer shows about the firmware; None: nothing.
pub(super) fn attempt(
    class: Option<Firmware>,
    name: &str,
    end: &EndedTransfer,
) -> Option<TransferAttempt> {
    let terms = end.terms?;
    let tally = end.tally;
    let how = match end.outcome {
        TransferOutcome::Complete | TransferOutcome::CompleteWithoutLastAck => {
            quirks::AttemptEnd::Complete
        }
        TransferOutcome::SizeProbe | TransferOutcome::Aborted { .. } => quirks::AttemptEnd::Aborted,
        TransferOutcome::GaveUp => quirks::AttemptEnd::GaveUp,
        // The client accepted the options but no block, and gave up before the server did.
        TransferOutcome::Replaced if tally.confirmed && tally.acked_blocks == 0 => {
            quirks::AttemptEnd::GaveUp
        }
        // The server's own doing, or no end at all.
        TransferOutcome::Failed(_)
        | TransferOutcome::Replaced
        | TransferOutcome::Refused { .. }
        | TransferOutcome::NeverBegun
        | TransferOutcome::Displaced
        | TransferOutcome::Guessed => return None,
    };
    Some(TransferAttempt {
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
    #![allow(clippy::unwrap_used)]
    use std::collections::HashMap;
    use std::net::{IpAddr, Ipv4Addr};
    use std::num::NonZeroU64;
    use std::sync::Arc;

    use super::*;
    use crate::boot::quirks::{ActiveLimits, QuirkLimit, QuirkSubject};
    use crate::config::Config;
    use crate::images::{DiskWorkers, ImageStore};
    use crate::model::binding::AddressBinding;
    use crate::model::machine::{Mac, Machine};
    use crate::render::TemplateRenderer;
    use crate::serve::shelf::FileSources;
    use crate::snapshot::PublishedState;

    #[test]
    fn the_pace_of_http_is_the_slowest_that_is_asked_for_and_follows_who_holds_the_address() {
        let text = "root = \"/r\"\n[http]\nrate = 9000\n[[quirk]]\noui = \"02:00:00\"\nhttp-rate = \
                    5000\n[[dhcp.subnet]]\n\
            subnet = \"10.0.0.0/24\"\nmode = \"server\"\ninterface = \"eth0\"\npools = \
            [\"10.0.0.1-10.0.0.9\"]\n";
        let config = Config::parse("x.toml", text).unwrap();
        let directory = tempfile::tempdir().unwrap();
        let names = FileSources {
            images: ImageStore::open(directory.path(), DiskWorkers::start().unwrap()).unwrap(),
            published: PublishedState::new(config.snapshot),
            renderer: TemplateRenderer::default(),
            strip_prefixes: Vec::new(),
            ignore_case: false,
        };
        let names = Arc::new(names);
        let address = Ipv4Addr::new(10, 0, 0, 1);
        let pace = || names.pace_for(IpAddr::V4(address)).map(NonZeroU64::get);
        assert_eq!(pace(), Some(9000), "nobody is known there");
        let hold = |mac: [u8; 6]| {
            let machine = Machine { mac: Mac(mac), uuid: None, firmware: None };
            names
                .published
                .load()
                .bindings
                .write(address, Some(AddressBinding { machine, lease_end_s: u64::MAX }));
        };
        hold([2, 0, 0, 0, 0, 1]);
        assert_eq!(pace(), Some(5000));
        let allowance =
            QuirkAllowance { http_rate: NonZeroU64::new(100_000), ..QuirkAllowance::default() };
        let limit = QuirkLimit { allowance, pinned: true };
        names.published.limit(ActiveLimits(HashMap::from([(
            QuirkSubject::Machine(Mac([2, 0, 0, 0, 0, 1])),
            limit,
        )])));
        assert_eq!(pace(), Some(9000), "a pin does not lift what holds for all");
        hold([4; 6]);
        assert_eq!(pace(), Some(9000));
    }

    #[test]
    fn t23_the_last_step_of_a_limit_leaves_the_option_out() {
        let all = OptionPolicy::default();
        let with =
            |window, blksize| restricted(all, QuirkAllowance { window, blksize, http_rate: None });
        assert_eq!(with(None, None), all);
        assert_eq!(
            with(Some(4), Some(1024)),
            OptionPolicy { window_max: 4, block_size_max: 1024, ..all }
        );
        let least = with(Some(1), Some(512));
        assert!(!least.windowsize && !least.blksize && least.tsize && least.timeout);
        assert_eq!(with(Some(60_000), None), all, "a limit raises nothing");
    }
}
