#!/usr/bin/env bash
# Changes the pure cores in one place at a time and asks whether a unit test notices: a random sample by seed, one shard a call.
set -euo pipefail
cd "$(dirname "$0")/.."

usage() {
    cat <<USAGE
usage: tests/mutants.sh [--seed N] [--sample N] [--shard K/N] [--list] [ROOM...]

Draws a sample (120) of all mutants of the rooms (dhcp tftp http boot) by a seed (1), and runs the rooms' unit tests against those
of one shard (0/1: all of them). The same seed draws the same mutants from the same code. What survives is printed, with its
place; 'target/mutants/SEED-SHARD/mutants.out/diff' holds each change.

  --list   print the sample, and run nothing

Needs cargo-mutants: cargo install cargo-mutants --version ^27 --locked
USAGE
}

seed=1 sample=120 shard=0/1 list=
while [[ $# -gt 0 ]]; do
    case $1 in
    --seed) seed=$2 && shift ;;
    --sample) sample=$2 && shift ;;
    --shard) shard=$2 && shift ;;
    --list) list=yes ;;
    -h | --help) usage && exit ;;
    -*) usage >&2 && exit 2 ;;
    *) break ;;
    esac
    shift
done
rooms=("$@")
[[ $# -gt 0 ]] || rooms=(dhcp tftp http boot)
command -v cargo-mutants >/dev/null || {
    echo "tests/mutants.sh: cargo-mutants is missing: cargo install cargo-mutants --version ^27 --locked" >&2
    exit 2
}

# A workspace of the protocol crate alone: nothing else is built.
top=$PWD
tree=$top/target/mutants/tree
rm -rf "$tree" && mkdir -p "$tree/src" "$tree/tests"
cp -r src/protocol "$tree/src"
cp Cargo.lock "$tree"
cp -r tests/classic "$tree/tests"
python3 -c '
import re
text = open("Cargo.toml").read()
sections = re.split(r"(?m)^(?=\[)", text)
kept = ("[workspace.", "[profile.dev")
workspace = "[workspace]\nmembers = [\"src/protocol\"]\nresolver = \"3\"\n\n"
print(workspace + "".join(section for section in sections if section.startswith(kept)))' >"$tree/Cargo.toml"
cd "$tree"
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$top/target}/mutants/build

files=()
for room in "${rooms[@]}"; do files+=(--file "src/protocol/$room/**/*.rs"); done
# What only tests use is not judged by tests.
files+=(--exclude "src/protocol/dhcp/testing.rs" --exclude "src/protocol/dhcp/rules/*.rs" --exclude "**/tests.rs" --exclude "**/tests/*.rs")
names=$(cargo mutants --list --line-col=true "${files[@]}" | SEED=$seed SAMPLE=$sample SHARD=$shard python3 -c '
import os, random, sys
names = sorted(set(line.rstrip("\n") for line in sys.stdin if line.strip()))
drawn = random.Random(int(os.environ["SEED"])).sample(names, min(int(os.environ["SAMPLE"]), len(names)))
k, n = map(int, os.environ["SHARD"].split("/"))
print("\n".join(drawn[k::n]))')
if [[ $list ]]; then
    echo "$names"
    exit
fi
[[ $names ]] || { echo "tests/mutants.sh: no mutants in ${rooms[*]}" >&2 && exit 2; }

out=$top/target/mutants/$seed-${shard//\//of}
rm -rf "$out" && mkdir -p "$out"
pattern=$(python3 -c 'import re, sys; print("^(" + "|".join(re.escape(line.rstrip("\n")) for line in sys.stdin) + ")$")' <<<"$names")
# cargo-mutants 27 tries every struct field that can be left out, whatever '--re' says: a change of the drawn lines leaves out the rest.
python3 -c '
import re, sys
drawn = {}
for name in sys.stdin:
    path, line = re.match(r"([^:]+):(\d+):", name).groups()
    drawn.setdefault(path, set()).add(int(line))
for path, lines in sorted(drawn.items()):
    text = open(path).read().split("\n")
    print(f"--- a/{path}\n+++ b/{path}")
    for line in sorted(lines):
        print(f"@@ -{line},1 +{line},1 @@\n-\n+{text[line - 1]}")' <<<"$names" >"$out/drawn.diff"
status=0
cargo mutants --in-place "${files[@]}" --re "$pattern" --in-diff "$out/drawn.diff" --output "$out" --no-shuffle --baseline run --timeout 120 \
    --cargo-arg --lib -- -- "${rooms[@]/%/::}" || status=$?
echo
for kind in caught missed timeout unviable; do
    echo "$kind: $(wc -l <"$out/mutants.out/$kind.txt")"
done
cat "$out/mutants.out/missed.txt"
exit "$status"
