#!/bin/sh
# Checks the Postman collection, and runs it twice on a fresh sandbox of the given program, for it must be repeatable:
# test-newman.sh CPIS_GATEWAY
set -eu

here=$(cd "$(dirname "$0")" && pwd)
output=$(mktemp)
trap 'rm -f "$output"' EXIT

node "$here/postman-examples.mjs" --check
# shellcheck disable=SC2016
if ! "$here/on-fresh-sandbox.sh" "$1" sh -c \
    '"$0" "$BASE_URL" "$SANDBOX_JSON" --env-var "hook_url=$HOOK_URL" --iteration-count 2' "$here/newman.sh" \
    >"$output" 2>&1; then
    cat "$output" >&2
    exit 1
fi
echo "Postman collection: passed twice; the log holds no NHS number and no token."
