#!/usr/bin/env bash
# Runs the unit tests of what is unsafe and needs no kernel under Miri, with both models of aliasing.
set -euo pipefail
cd "$(dirname "$0")/.."

usage() {
    cat <<USAGE
usage: tests/miri.sh [FILTER...]

Interprets unit tests and finds undefined behaviour: bad pointers, data races, memory that is read before it is written. Miri knows no
io_uring, no sockets and no SQLite; FILTERs name tests that need none of them (the ones below, if none is named).

Needs the nightly toolchain: rustup toolchain install nightly --component miri --component rust-src
USAGE
}

case ${1:-} in -h | --help) usage && exit ;; esac
filters=("$@")
[[ $# -gt 0 ]] || filters=(snapshot::bindings:: engine::slot engine::buffers engine::control_message images::residency observe::lines observe::threads)

export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$PWD/target}/miri
# The clock and the environment are the machine's.
flags="-Zmiri-disable-isolation"
# They fill a pool of sixteen million addresses, and a queue of thousands of lines within seconds: an interpreter takes hours, and minutes.
skipped=(--skip a_pool_takes_memory_where_its_addresses_are_held --skip a_destination_that_blocks_costs_lines_and_no_time)
for model in "" "-Zmiri-tree-borrows"; do
    echo "tests/miri.sh: ${model:-stacked borrows}"
    MIRIFLAGS="$flags $model" cargo +nightly miri test --lib -- "${skipped[@]}" "${filters[@]}"
done
