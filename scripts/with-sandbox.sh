#!/bin/sh
# Runs a command against a fresh sandbox of the given program, stops the sandbox and looks through its log for what may
# never be logged: with-sandbox.sh CPIS_GATEWAY COMMAND [ARG...]
# The command gets two more arguments: the FHIR base, and the file that the sandbox writes beside its database.
set -eu

program=$1
shift
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
    tail -n 40 "$data/log" | sed 's/^/    log: /' >&2
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

"$@" "$base_url" "$sandbox" || fail "Against the sandbox that failed: $*"

kill -TERM "$server"
wait "$server" || fail "The sandbox did not stop in order."
server=
if grep -nE '(^|[^0-9.])999[0-9]{7}([^0-9]|$)|eyJ[A-Za-z0-9_-]{8}' "$data/log"; then
    fail "The log holds an NHS number or a token (lines above)."
fi
