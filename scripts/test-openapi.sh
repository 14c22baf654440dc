#!/bin/sh
# Has the API's description, as a fresh sandbox serves it, judged by a validator that is not ours:
# test-openapi.sh CPIS_GATEWAY TOOLS
set -eu

here=$(cd "$(dirname "$0")" && pwd)
document=$(mktemp)
trap 'rm -f "$document"' EXIT
# shellcheck disable=SC2016
"$here/on-fresh-sandbox.sh" "$1" sh -euc '
    curl -fsS -o "$1" "${BASE_URL%%/cpis/*}/openapi.json"
    "$0/bin/openapi-spec-validator" --schema 3.1 "$1" >/dev/null
' "$2/openapi" "$document"
echo "OpenAPI 3.1: valid."
