#!/bin/sh
# Installs Debian packages that are missing: install-packages.sh PACKAGE...
# Asks nothing and changes nothing when all are there. Not root and no sudo: prints the line to run, and fails.
set -eu

if ! command -v dpkg >/dev/null 2>&1; then
    echo "Not a Debian system: please see to the equivalents of these packages yourself: $*" >&2
    exit 0
fi

missing=
for package in "$@"; do
    status=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)
    [ "$status" = installed ] || missing="$missing $package"
done
[ -n "$missing" ] || exit 0

line="apt-get update && apt-get install -y --no-install-recommends$missing"
if [ "$(id -u)" = 0 ]; then
    as_root=
elif command -v sudo >/dev/null 2>&1; then
    as_root=sudo
else
    echo "Missing packages. As root, please run:  $line" >&2
    exit 1
fi

echo "Installing:$missing"
install() {
    $as_root env DEBIAN_FRONTEND=noninteractive apt-get "$@" >&2
}
# Package lists are fetched only when those here don't know the packages, or have grown too old to download from.
# shellcheck disable=SC2086
if ! { apt-get install --simulate -qq $missing >/dev/null 2>&1 &&
    install install -y -q --no-install-recommends $missing; }; then
    if ! { install update -q && install install -y -q --no-install-recommends $missing; }; then
        echo "That failed. As root, please run:  $line" >&2
        exit 1
    fi
fi
