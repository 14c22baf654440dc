#!/bin/sh
# Has the API's description, as a fresh sandbox serves it, judged by a validator that is not ours:
#   test-openapi.sh CPIS_GATEWAY TOOLS
set -eu

here=$(cd "$(dirname "$0")" && pwd)
# shellcheck disable=SC2016
"$here/with-sandbox.sh" "$1" sh -euc '
    document=$(mktemp)
    trap "rm -f \"$document\"" EXIT
    curl -fsS -o "$document" "${2%%/cpis/*}/openapi.json"
    "$1/bin/openapi-spec-validator" --schema 3.1 "$document" >/dev/null
' openapi "$2/openapi"
echo "OpenAPI 3.1: valid."
