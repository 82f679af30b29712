//! Counts the instructions of every operation under callgrind and compares them with the committed
//! baseline.
//!
//! `cargo bench --profile counting --bench instructions` prints the table and fails where an
//! operation has become dearer than the limit allows; `RINGBOOT_BLESS=1` in front of it writes a
//! new baseline. docs/measuring.md tells more.
#![allow(missing_debug_implementations, clippy::print_stdout)]

use std::env;
use std::fs;
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use baseline::{Baseline, Compiler};
use operations::Operation;

mod baseline;
#[path = "../operations/mod.rs"]
mod operations;

/// Of one operation; the rare dear ones (a table grows, a queue takes a new block) are shared out
/// among so many.
const TIMES: u64 = 1000;
/// Before counting begins: buffers have their size then.
const TIMES_BEFORE: u64 = 100;
const BASELINE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/instructions.txt");
/// Set for the process that runs under callgrind.
const COUNTED: &str = "RINGBOOT_COUNTED";

fn main() -> ExitCode {
    let mut operations = operations::all();
    if env::var_os(COUNTED).is_some() {
        operations.iter_mut().for_each(run);
        return ExitCode::SUCCESS;
    }
    match compare(&operations) {
        Ok(failed) => ExitCode::from(u8::from(failed)),
        Err(fault) => {
            println!("instructions: {fault}");
            ExitCode::FAILURE
        }
    }
}

fn run(operation: &mut Operation) {
    (0..TIMES_BEFORE).for_each(|_| (operation.run)());
    count_these_instructions(&mut *operation.run);
}

/// callgrind knows this function by its name, and counts while it runs.
#[inline(never)]
fn count_these_instructions(run: &mut dyn FnMut()) {
    (0..TIMES).for_each(|_| run());
    end_of_these_instructions();
}

/// callgrind writes what it has counted to a file when this is called. (It does not do so at the
/// return of the function that switches counting on.)
#[inline(never)]
fn end_of_these_instructions() {
    black_box(());
}

/// Counts, and compares or blesses. True: some operation costs too much.
fn compare(operations: &[Operation]) -> Result<bool, String> {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("instructions");
    let counted = Baseline { compiler: compiler()?, counts: count(operations, &folder)? };
    if env::var_os("RINGBOOT_BLESS").is_some() {
        fs::write(BASELINE, counted.to_string()).map_err(|error| format!("{BASELINE}: {error}"))?;
        println!("{counted}written to {BASELINE}");
        return Ok(false);
    }
    let text = fs::read_to_string(BASELINE).map_err(|error| format!("{BASELINE}: {error}"))?;
    let report = Baseline::parse(&text)?.judge(&counted);
    print!("{report}");
    if !report.failures.is_empty() {
        let parts = folder.join("counts.N");
        println!(
            "What took them: callgrind_annotate --threshold=100 {}, N = line in the table, from 1",
            parts.display()
        );
    }
    Ok(!report.failures.is_empty())
}

/// Instructions of each operation, once, rounded.
fn count(operations: &[Operation], folder: &Path) -> Result<Vec<(String, u64)>, String> {
    let fault = |error: std::io::Error| format!("{}: {error}", folder.display());
    if folder.exists() {
        fs::remove_dir_all(folder).map_err(fault)?; // parts of an earlier run are not this run's
    }
    fs::create_dir_all(folder).map_err(fault)?;
    let out = folder.join("counts");
    under_callgrind(&out)?;
    let numbered = operations.iter().zip(1..);
    numbered
        .map(|(operation, part)| {
            let total = total(&out.with_extension(part.to_string()))?;
            Ok((operation.name.to_owned(), (total + TIMES / 2) / TIMES))
        })
        .collect()
}

/// Runs this program once more: each operation leaves a file `out`.1, .2, …
fn under_callgrind(out: &Path) -> Result<(), String> {
    let log = out.with_extension("log");
    let program =
        env::current_exe().map_err(|error| format!("this program's own path: {error}"))?;
    let status = Command::new("valgrind")
        .args(["--tool=callgrind", "--collect-atstart=no"])
        .args([
            "--toggle-collect=*count_these_instructions*",
            "--dump-before=*end_of_these_instructions*",
        ])
        .arg(format!("--callgrind-out-file={}", out.display()))
        .arg(format!("--log-file={}", log.display()))
        .arg(program)
        .env(COUNTED, "1")
        .status()
        .map_err(|error| format!("valgrind: {error}; the Debian package is called valgrind"))?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("valgrind: {status}, see {}", log.display()))
    }
}

/// The `totals:` line of one of callgrind's files.
fn total(path: &PathBuf) -> Result<u64, String> {
    let text = fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let total = text.lines().find_map(|line| line.strip_prefix("totals: ")?.trim().parse().ok());
    total
        .filter(|&total| total > 0)
        .ok_or_else(|| format!("{}: nothing was counted", path.display()))
}

/// The compiler that cargo runs in this folder.
fn compiler() -> Result<Compiler, String> {
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output =
        Command::new(rustc).arg("-vV").output().map_err(|error| format!("rustc -vV: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let field = |name: &str| {
        let value = text.lines().find_map(|line| line.strip_prefix(name));
        value.map(str::to_owned).ok_or_else(|| format!("rustc -vV does not say its {name}"))
    };
    Ok(Compiler { release: field("release: ")?, host: field("host: ")? })
}
