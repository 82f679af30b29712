//! Memory for boot images: whether the budget is what was asked for, holds the largest file, and
//! may be locked.

use super::{Finding, Reader, Running};
use crate::control::static_menus::Largest;
use crate::images::{MemoryCeiling, may_lock};

/// Where `[tuning] image-memory` asks for more than can be given, and where one file is more than
/// the whole budget.
pub(super) fn budget(
    asked: Option<u64>,
    largest: Option<&Largest>,
    ceiling: &MemoryCeiling,
) -> Vec<Finding> {
    let budget = ceiling.budget(asked);
    let cut = asked.filter(|asked| *asked > budget).map(|asked| {
        let what = format!(
            "[tuning] image-memory = {asked} is more than may be locked safely: {budget} is used, \
             three quarters of {} ({})",
            ceiling.bytes, ceiling.source
        );
        Finding::warning(what, "lower it, or give the machine or its control group more memory")
    });
    let too_large = largest.filter(|largest| largest.bytes > budget).map(|largest| {
        let what = format!(
            "{} ({} MB) is larger than the memory for boot images ({} MB): each machine that loads \
             it has the disk read anew",
            largest.path.display(),
            mb(largest.bytes),
            mb(budget)
        );
        Finding::warning(
            what,
            "raise [tuning] image-memory, or let machines that load it start one after the other",
        )
    });
    cut.into_iter().chain(too_large).collect()
}

/// Whether the server may lock what it keeps: a running one knows, else this process's own rights
/// are all there is to look at.
pub(super) fn locking(budget: u64, reader: Reader, running: Option<&Running>) -> Option<Finding> {
    let what = match running {
        Some(Running { unlocked: 0, .. }) => return None,
        Some(Running { pid, unlocked, .. }) => {
            format!(
                "the running server (pid {pid}) cannot lock {} MB of boot images in memory",
                mb(*unlocked)
            )
        }
        None if may_lock(budget, reader == Reader::Root) => return None,
        None => {
            format!(
                "boot images cannot be locked in memory: {} MB are more than RLIMIT_MEMLOCK allows",
                mb(budget)
            )
        }
    };
    let hint = "when memory is short, transfers may wait for the disk: LimitMEMLOCK=infinity in \
                the unit, `ulimit -l unlimited` by hand, `--ulimit memlock=-1` for a container";
    Some(Finding::warning(what, hint))
}

fn mb(bytes: u64) -> u64 {
    bytes / 1_000_000
}
