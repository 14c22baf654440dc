#!/bin/sh
# Opens the API page of a fresh sandbox in Chromium: every operation is shown, the page logs no error, and it asks nothing
# of anybody but the gateway: test-api-page.sh CPIS_GATEWAY
set -eu

here=$(cd "$(dirname "$0")" && pwd)
# shellcheck disable=SC2016
"$here/with-sandbox.sh" "$1" sh -euc '
    root=${1%%/cpis/*}
    seen=$(mktemp -d)
    trap "rm -rf \"$seen\"" EXIT
    # As root, as in a container, Chromium runs without its sandbox only. No other host can be found.
    chromium --headless $([ "$(id -u)" != 0 ] || echo --no-sandbox) --disable-gpu --disable-dev-shm-usage \
        --user-data-dir="$seen/profile" --no-first-run --disable-background-networking --disable-component-update \
        --host-resolver-rules="MAP * ~NOTFOUND, EXCLUDE 127.0.0.1" --enable-logging=stderr \
        --log-net-log="$seen/net.json" --virtual-time-budget=30000 --dump-dom "$root/docs/" \
        >"$seen/page.html" 2>"$seen/log"
    curl -fsS -o "$seen/openapi.json" "$root/openapi.json"
    node - "$seen" "$root" <<"END"
const fs = require("fs");
const [seen, root] = process.argv.slice(2);
const read = (name) => fs.readFileSync(`${seen}/${name}`, "utf8");
const faults = read("log").split("\n").filter((line) => line.includes("CONSOLE"));

const paths = Object.values(JSON.parse(read("openapi.json")).paths);
const described = paths.reduce((sum, path) => sum + Object.keys(path).length, 0);
const shown = read("page.html").split("class=\"opblock opblock-").length - 1;
if (shown !== described) faults.push(`${shown} of ${described} operations are shown`);

// Chromium asks for things of its own too; those have no page as their initiator.
const log = JSON.parse(read("net.json"));
const started = log.constants.logEventTypes.URL_REQUEST_START_JOB;
const asked = log.events.filter((event) => event.type === started && event.params?.initiator);
const byPage = asked.filter((event) => event.params.initiator !== "not an origin").map((event) => event.params.url);
if (byPage.length < 5) faults.push(`the page asked for ${byPage.length} files only`);
faults.push(...byPage.filter((url) => !url.startsWith(`${root}/`)).map((url) => `the page asked for ${url}`));

faults.forEach((fault) => console.error(fault));
process.exit(faults.length ? 1 : 0);
END
' page
echo "API page: every operation is shown, no error, nothing from elsewhere."
