#!/bin/sh
# What building needs: a C compiler, pkg-config, OpenSSL and libpq. SQLite is built in.
set -eu

if ! command -v cargo >/dev/null 2>&1; then
    echo "Rust is missing: please install Rust 1.95 or later with rustup, then run this again." >&2
    exit 1
fi
exec "$(dirname "$0")/install-packages.sh" build-essential pkg-config libssl-dev libpq-dev
