#!/bin/sh
# Opens the API page of a fresh sandbox in Chromium: every operation is shown, the page logs no error, and it asks nothing
# of anybody but the gateway: test-api-page.sh CPIS_GATEWAY
set -eu

here=$(cd "$(dirname "$0")" && pwd)
seen=$(mktemp -d)
trap 'rm -rf "$seen"' EXIT
# As root, as in a container, Chromium can't run in a box of its own. No other host is found, whoever asks for one.
unboxed=
[ "$(id -u)" != 0 ] || unboxed=--no-sandbox
# shellcheck disable=SC2016
"$here/on-fresh-sandbox.sh" "$1" sh -euc '
    root=${BASE_URL%%/cpis/*}
    chromium --headless $0 --disable-gpu --disable-dev-shm-usage --user-data-dir="$1/profile" --no-first-run \
        --disable-background-networking --disable-component-update \
        --host-resolver-rules="MAP * ~NOTFOUND, EXCLUDE 127.0.0.1" --enable-logging=stderr \
        --log-net-log="$1/net.json" --virtual-time-budget=30000 --dump-dom "$root/docs/" >"$1/page.html" 2>"$1/log"
    curl -fsS -o "$1/openapi.json" "$root/openapi.json"
    node "$2/api-page-seen.mjs" "$1" "$root"
' "${unboxed:---disable-extensions}" "$seen" "$here"
echo "API page: every operation is shown, no error, nothing from elsewhere."
