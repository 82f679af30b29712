#!/usr/bin/env bash
# Fuzzes the parsers and state machines with libFuzzer, on stable Rust, and keeps what it learnt in tests/fuzz/corpus.
set -euo pipefail
cd "$(dirname "$0")/fuzz"

usage() {
    cat <<USAGE
usage: tests/fuzz.sh [--seconds N] [--merge] [TARGET...]

Runs each target (all of them, if none is named) for N seconds (60), from the inputs in tests/fuzz/corpus/TARGET, and prints how
many edges of the program the corpus reaches. A failing input is written to target/fuzz/TARGET; its bytes belong into the corpus as
a regression, which tests/corpus.rs replays.

  --merge   afterwards add to the corpus in the repository the fewest new inputs that reach what it does not
  --list    the names of the targets

Needs g++ (libFuzzer is C++).
USAGE
}

seconds=60 merge=
names=$(sed -n 's/^    ("\([a-z_0-9]*\)", .*/\1/p' targets/mod.rs)
while [[ $# -gt 0 ]]; do
    case $1 in
    --seconds) seconds=$2 && shift ;;
    --merge) merge=yes ;;
    --list) echo "$names" && exit ;;
    -h | --help) usage && exit ;;
    -*) usage >&2 && exit 2 ;;
    *) break ;;
    esac
    shift
done
[[ $# -gt 0 ]] || mapfile -t all <<<"$names"
[[ $# -gt 0 ]] && all=("$@")

# Coverage without `cargo fuzz` and without a nightly compiler: the pass is in every rustc.
target=x86_64-unknown-linux-gnu
[[ $(uname -m) == aarch64 ]] && target=aarch64-unknown-linux-gnu
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$PWD/../../target/fuzz-build}
export RUSTFLAGS="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
-Cllvm-args=-sanitizer-coverage-trace-compares --cfg fuzzing -Ccodegen-units=16"
cargo build --release --target "$target"
program=$CARGO_TARGET_DIR/$target/release/fuzz

status=0
for name in "${all[@]}"; do
    grep -qx "$name" <<<"$names" || { echo "tests/fuzz.sh: no target $name; --list names them" >&2 && exit 2; }
    found=$PWD/../../target/fuzz/$name
    mkdir -p "$found/new" "corpus/$name"
    log=$found/log
    FUZZ_TARGET=$name "$program" "$found/new" "corpus/$name" -max_total_time="$seconds" -max_len=4096 -timeout=10 -rss_limit_mb=2048 \
        -artifact_prefix="$found/" -print_final_stats=1 >"$log" 2>&1 || status=1
    line=$(grep -E '(DONE|INITED|NEW|REDUCE|pulse)' "$log" | tail -n 1)
    runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
    echo "$name: ${runs:-?} runs,$(sed -n 's/.*\( cov: [0-9]* ft: [0-9]*\).*/\1/p' <<<"$line")$(grep -qE 'ERROR: libFuzzer|panicked' "$log" && echo '  FAILED: see '"$log")"
    if [[ $merge ]]; then
        FUZZ_TARGET=$name "$program" -set_cover_merge=1 -use_counters=0 -max_len=4096 "corpus/$name" "$found/new" >>"$log" 2>&1 || true
    fi
done
exit "$status"
