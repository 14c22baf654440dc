#!/bin/sh
# The licence check's program, built once from its crate: install-cargo-deny.sh TOOLS
set -eu

tools=$1
version=0.20.2
if [ "$("$tools/bin/cargo-deny" --version 2>/dev/null || true)" = "cargo-deny $version" ]; then
    exit 0
fi
echo "Building cargo-deny $version into $tools (several minutes)"
CARGO_TARGET_DIR="$tools/build" nice cargo install --quiet --locked --root "$tools" --version "$version" cargo-deny
rm -rf "$tools/build"
