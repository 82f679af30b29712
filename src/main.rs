//! argv only: parse it, hand it to the command, turn its answer into an exit code.

use std::process::ExitCode;

/// Per-thread heaps: a boot core never waits for another core's allocation.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    ringboot::cli::main()
}
