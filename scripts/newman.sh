#!/bin/sh
# Runs the Postman collection against a running sandbox: newman.sh BASE_URL SANDBOX_JSON [NEWMAN OPTION...]
# The program newman is taken from NEWMAN, else from target/tools (make test puts it there), else from the PATH.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
base_url=$1
sandbox=$2
shift 2

newman=${NEWMAN:-$here/../target/tools/newman/node_modules/.bin/newman}
[ -x "$newman" ] || newman=newman
environment=$(mktemp)
trap 'rm -f "$environment"' EXIT
"$here/postman-environment.sh" "$base_url" "$sandbox" >"$environment"
"$newman" run "$here/../postman/cpis-gateway.postman_collection.json" --environment "$environment" \
    --timeout-request 30000 --color off "$@"
