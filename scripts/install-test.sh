#!/bin/sh
# What the tests need beyond building: PostgreSQL, Node with npm, curl, and newman: install-test.sh TOOLS
# Programs that are there already, from wherever, are used as they are.
set -eu

tools=$1
newman=6.2.2
here=$(dirname "$0")

have() {
    command -v "$1" >/dev/null 2>&1
}

packages=
have curl || packages="$packages curl ca-certificates"
if ! have initdb && ! ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1; then
    packages="$packages postgresql"
fi
have node || packages="$packages nodejs"
have npm || packages="$packages npm"
# shellcheck disable=SC2086
[ -z "$packages" ] || "$here/install-packages.sh" $packages

if [ "$("$tools/newman/node_modules/.bin/newman" --version 2>/dev/null || true)" != "$newman" ]; then
    echo "Installing newman $newman into $tools/newman"
    mkdir -p "$tools/newman"
    npm install --prefix "$tools/newman" --no-save --no-package-lock --no-audit --no-fund --loglevel=error \
        "newman@$newman"
fi
