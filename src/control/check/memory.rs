//! Checks the memory for boot images: whether the machine has the configured budget, whether the
//! largest file fits, and whether the server may lock it.

use super::{CheckFinding, FileReader, RunningServer};
use crate::control::static_menus::LargestFile;
use crate::images::{MemoryCeiling, may_lock_memory};

/// A `[tuning] image-memory` above the ceiling of the machine, and a file larger than the budget.
pub(super) fn check_memory_budget(
    asked: Option<u64>,
    largest: Option<&LargestFile>,
    ceiling: &MemoryCeiling,
) -> Vec<CheckFinding> {
    let budget = ceiling.budget(asked);
    // The kernel cannot reclaim locked memory and kills a control group that is full of it, so the
    // server never uses more than the ceiling allows.
    let cut = asked.filter(|asked| *asked > budget).map(|asked| {
        let what = format!(
            "[tuning] image-memory = {asked} is more than the server may lock safely: it uses \
             {budget}, three quarters of {} ({})",
            ceiling.bytes, ceiling.source
        );
        CheckFinding::warning(
            what,
            "lower it, or give the machine or its control group more memory",
        )
    });

    // A reader that needs room evicts the piece with the oldest use. By the end of such a file its
    // first pieces are gone, and the next machine finds none of them.
    let too_large = largest.filter(|largest| largest.bytes > budget).map(|largest| {
        let what = format!(
            "{} ({} MB) is larger than the memory for boot images ({} MB): the server reads the \
             disk again for each machine that loads it",
            largest.path.display(),
            count_megabytes(largest.bytes),
            count_megabytes(budget)
        );
        CheckFinding::warning(
            what,
            "raise [tuning] image-memory, or start the machines that load it one after the other",
        )
    });
    cut.into_iter().chain(too_large).collect()
}

/// Whether the server may lock its images in memory. A running server knows; without one the rights
/// of this process are the best estimate.
pub(super) fn check_memory_locking(
    budget: u64,
    reader: FileReader,
    running: Option<&RunningServer>,
) -> Option<CheckFinding> {
    let what = match running {
        Some(RunningServer { unlocked: 0, .. }) => return None,
        Some(RunningServer { pid, unlocked, .. }) => {
            format!(
                "the running server (pid {pid}) cannot lock {} MB of boot images in memory",
                count_megabytes(*unlocked)
            )
        }
        // A server that becomes another user does not keep CAP_IPC_LOCK.
        None if may_lock_memory(budget, reader == FileReader::Root) => return None,
        None => {
            format!(
                "boot images cannot be locked in memory: {} MB are more than RLIMIT_MEMLOCK allows",
                count_megabytes(budget)
            )
        }
    };
    let hint = "when memory is short, transfers may wait for the disk: LimitMEMLOCK=infinity in \
                the unit, `ulimit -l unlimited` by hand, `--ulimit memlock=-1` for a container";
    Some(CheckFinding::warning(what, hint))
}

fn count_megabytes(bytes: u64) -> u64 {
    bytes / 1_000_000
}
