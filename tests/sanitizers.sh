#!/usr/bin/env bash
# Runs tests with AddressSanitizer (memory used after it was freed, or beyond its end) or ThreadSanitizer (data races).
set -euo pipefail
cd "$(dirname "$0")/.."

usage() {
    cat <<USAGE
usage: tests/sanitizers.sh address|thread [ARGUMENT...]

Builds everything, the standard library too, with one sanitizer and runs 'cargo test ARGUMENT...' (the unit tests, if none is given;
'--test hostile -- host::' runs the real server). SQLite is C and not instrumented.

Needs root, as the tests do, and the nightly toolchain: rustup toolchain install nightly --component rust-src
USAGE
}

case ${1:-} in
-h | --help) usage && exit ;;
address | thread) sanitizer=$1 && shift ;;
*) usage >&2 && exit 2 ;;
esac
arguments=("$@")
# The sanitizers' runtimes make mlock(2) do nothing, and these ask whether it has done something.
[[ $# -gt 0 ]] || arguments=(--lib -- --skip a_file_cut_short_is_an_error_of_the_call --skip the_least_recently_used_piece_is_unlocked)

target=x86_64-unknown-linux-gnu
[[ $(uname -m) == aarch64 ]] && target=aarch64-unknown-linux-gnu
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$PWD/target}/$sanitizer
# Instead of whatever linker is configured: the sanitizer's runtime wants the plain one.
export CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_LINKER=cc CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=cc
# What the process holds at its end is no leak.
export RUSTFLAGS="-Zsanitizer=$sanitizer" ASAN_OPTIONS=detect_leaks=0 TSAN_OPTIONS=report_thread_leaks=0
cargo +nightly test -Zbuild-std --target "$target" "${arguments[@]}"
