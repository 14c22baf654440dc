#!/bin/sh
# Runs a command against a fresh sandbox of the given program and a receiver of its notifications, stops both, and looks
# through the sandbox's log for what may never be logged: on-fresh-sandbox.sh CPIS_GATEWAY COMMAND [ARGUMENT...]
# The command finds BASE_URL, SANDBOX_JSON and HOOK_URL in its environment.
set -eu

program=$1
shift
here=$(cd "$(dirname "$0")" && pwd)
data=$(mktemp -d)
server=
receiver=
stop() {
    [ -z "$server" ] || kill "$server" 2>/dev/null || true
    [ -z "$receiver" ] || kill "$receiver" 2>/dev/null || true
    rm -rf "$data"
}
trap stop EXIT
trap 'exit 130' INT TERM

fail() {
    echo "$1" >&2
    tail -n 40 "$data/log" | sed 's/^/    log: /' >&2
    exit 1
}

node "$here/notification-receiver.mjs" 0 >"$data/hook" &
receiver=$!
"$program" serve --sandbox --listen 127.0.0.1:0 --data "$data/data" >"$data/out" 2>"$data/log" &
server=$!
SANDBOX_JSON=$data/data/sandbox.json
tries=0
until BASE_URL=$(node -p 'JSON.parse(require("fs").readFileSync(process.argv[1])).base_url' "$SANDBOX_JSON" 2>/dev/null) &&
    curl -fsS -o /dev/null "$BASE_URL/metadata" 2>/dev/null && [ -s "$data/hook" ]; do
    kill -0 "$server" 2>/dev/null || fail "The sandbox did not start."
    tries=$((tries + 1))
    [ "$tries" -lt 120 ] || fail "The sandbox did not answer within 60 seconds."
    sleep 0.5
done
HOOK_URL=$(head -n 1 "$data/hook")
export BASE_URL SANDBOX_JSON HOOK_URL

"$@" || fail "Failed on the sandbox: $1"

kill -TERM "$server"
wait "$server" || fail "The sandbox did not stop in order."
server=
if grep -nE '(^|[^0-9.])999[0-9]{7}([^0-9]|$)|eyJ[A-Za-z0-9_-]{8}' "$data/log"; then
    fail "The log holds an NHS number or a token (lines above)."
fi
