// Judges what Chromium saw of the API page: api-page-seen.mjs DIRECTORY ROOT
// DIRECTORY holds page.html, openapi.json, Chromium's log and its log of the network; ROOT is the gateway's address.
import fs from "node:fs";

const [directory, root] = process.argv.slice(2);
const read = (name) => fs.readFileSync(`${directory}/${name}`, "utf8");
const faults = read("log")
  .split("\n")
  .filter((line) => line.includes("CONSOLE"));

const paths = Object.values(JSON.parse(read("openapi.json")).paths);
const described = paths.reduce((sum, path) => sum + Object.keys(path).length, 0);
const shown = read("page.html").split('class="opblock opblock-').length - 1;
if (shown !== described) faults.push(`${shown} of ${described} operations are shown.`);

// Chromium asks for things of its own too; those have no page as their initiator.
const log = JSON.parse(read("net.json"));
const started = log.constants.logEventTypes.URL_REQUEST_START_JOB;
const asked = log.events.filter((event) => event.type === started && event.params?.initiator);
const byPage = asked.filter((event) => event.params.initiator !== "not an origin").map((event) => event.params.url);
if (byPage.length < 5) faults.push(`The page asked for ${byPage.length} files only.`);
faults.push(...byPage.filter((url) => !url.startsWith(`${root}/`)).map((url) => `The page asked for ${url}`));

faults.forEach((fault) => console.error(fault));
process.exitCode = faults.length ? 1 : 0;
