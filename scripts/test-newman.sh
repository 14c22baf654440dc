#!/bin/sh
# Runs the Postman collection twice (it must be repeatable) against a fresh sandbox: test-newman.sh CPIS_GATEWAY
set -eu

here=$(cd "$(dirname "$0")" && pwd)
# shellcheck disable=SC2016
"$here/with-sandbox.sh" "$1" sh -euc '
    for run in first second; do
        if ! output=$("$1/newman.sh" "$2" "$3" 2>&1); then
            printf "%s\n" "$output"
            echo "The $run run of the Postman collection failed."
            exit 1
        fi
    done
' newman "$here"
echo "Postman collection: passed twice; the log holds no NHS number and no token."
