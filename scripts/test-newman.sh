#!/bin/sh
# Starts a fresh sandbox of the given program, runs the Postman collection twice (it must be repeatable), stops the
# sandbox and looks through its log for what may never be logged: test-newman.sh CPIS_GATEWAY
set -eu

program=$1
here=$(cd "$(dirname "$0")" && pwd)
data=$(mktemp -d)
server=
stop() {
    [ -z "$server" ] || kill "$server" 2>/dev/null || true
    rm -rf "$data"
}
trap stop EXIT
trap 'exit 130' INT TERM

fail() {
    echo "$1" >&2
    sed 's/^/    log: /' "$data/log" >&2
    exit 1
}

"$program" serve --sandbox --listen 127.0.0.1:0 --data "$data/data" >"$data/out" 2>"$data/log" &
server=$!
sandbox=$data/data/sandbox.json
tries=0
until base_url=$(node -p 'JSON.parse(require("fs").readFileSync(process.argv[1])).base_url' "$sandbox" 2>/dev/null) &&
    curl -fsS -o /dev/null "$base_url/metadata" 2>/dev/null; do
    kill -0 "$server" 2>/dev/null || fail "The sandbox did not start."
    tries=$((tries + 1))
    [ "$tries" -lt 120 ] || fail "The sandbox did not answer within 60 seconds."
    sleep 0.5
done

for run in first second; do
    if ! "$here/newman.sh" "$base_url" "$sandbox" >"$data/newman" 2>&1; then
        cat "$data/newman" >&2
        fail "The $run run of the Postman collection failed."
    fi
done

kill -TERM "$server"
wait "$server" || fail "The sandbox did not stop in order."
server=
if grep -nE '(^|[^0-9.])999[0-9]{7}([^0-9]|$)|eyJ[A-Za-z0-9_-]{8}' "$data/log"; then
    fail "The log holds an NHS number or a token (lines above)."
fi
echo "Postman collection: passed twice; the log holds no NHS number and no token."
