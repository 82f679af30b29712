#!/usr/bin/env bash
# Builds target/package/ringboot.deb: the release binaries, manual pages, completions, unit, configuration and documentation.
# Needs cargo-deb 3: cargo install cargo-deb --version ^3
#
# usage: config/build-deb.sh [DEBIAN-REVISION]
set -euo pipefail
cd "$(dirname "$0")/.."

command -v cargo-deb >/dev/null || {
    echo "config/build-deb.sh: cargo-deb is missing: cargo install cargo-deb --version ^3" >&2
    exit 1
}
package=target/package
cargo build --quiet --release --workspace
rm -rf "$package"
mkdir -p "$package"
for program in ringboot loadtest; do
    "target/release/$program" man "$package/man"
    "target/release/$program" completions bash >"$package/$program.bash"
    "target/release/$program" completions zsh >"$package/_$program"
    "target/release/$program" completions fish >"$package/$program.fish"
done
cargo deb --quiet --no-build --no-strip --deb-revision "${1-1}" --output "$package/ringboot.deb"
