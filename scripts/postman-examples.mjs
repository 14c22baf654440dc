#!/usr/bin/env node
// The saved example responses of the Postman collection.
//   on-fresh-sandbox.sh CPIS_GATEWAY postman-examples.mjs   runs the collection and saves what was answered
//   postman-examples.mjs --check                            says what a request of the collection lacks
// What differs from run to run (ids, times, tokens, ports) is settled, so that the same answers make the same file; and the
// collection is written in one order of keys, so that what Postman exported can be compared.
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";

const here = import.meta.dirname ?? new URL(".", import.meta.url).pathname;
const FILE = `${here}/../postman/cpis-gateway.postman_collection.json`;
const source = readFileSync(FILE, "utf8");
const collection = JSON.parse(source);

/** Every request with its folders' names. */
const requests = (items, path = []) =>
  items.flatMap((item) => (item.item ? requests(item.item, [...path, item.name]) : [{ item, path: [...path, item.name] }]));

// ---- In one order of keys, without what Postman adds for itself.

const pick = (object, keys) => Object.fromEntries(keys.filter((key) => object[key] !== undefined).map((key) => [key, object[key]]));
const inOrder = {
  request: (request) => ({
    ...pick(request, ["auth", "method", "header", "body"]),
    url: pick(request.url, ["raw", "host", "path", "query"]),
    ...pick(request, ["description"]),
  }),
  item: (item) =>
    item.item
      ? { ...pick(item, ["name", "description", "event"]), item: item.item.map(inOrder.item) }
      : { ...pick(item, ["name", "event"]), request: inOrder.request(item.request), response: item.response ?? [] },
  collection: (whole) => ({
    info: pick(whole.info, ["_postman_id", "name", "description", "schema"]),
    item: whole.item.map(inOrder.item),
    event: whole.event,
    // Values are what was left over from a run.
    variable: whole.variable.map(({ key }) => ({ key, value: "" })),
  }),
};
const written = (whole) => `${JSON.stringify(inOrder.collection(whole), null, 2)}\n`;

// ---- What is the same in every run.

const SECOND = 1000;
const DAY = 24 * 60 * 60 * SECOND;
const NOON = DAY / 2;
const TODAY = Date.UTC(2026, 10, 23);
const SERVED_AT = "http://127.0.0.1:8080";
const RECEIVED_AT = "http://127.0.0.1:8090";
const UUID = /\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b/g;
const AUDIT_ID = /\b20\d{4}-\d+\b/g;
const INSTANT = /\b\d{4}-\d\d-\d\dT\d\d(?::|%3A)\d\d(?::|%3A)\d\d(?:\.\d+)?(?:Z|[+-]\d\d:\d\d)/gi;
const DATE = /\b(?:19|20)\d\d-\d\d-\d\d\b(?!T)/g;
const HTTP_DATE = /^\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT$/;
const TOKEN = /\beyJ[\w-]+\.[\w-]+\.[\w-]+/g;
const DIGEST = /[0-9a-f]{16,}/g;

/** Settles the answers of one run; `started` says of each request, in their order, when it was first sent (`at`) and as what
 * time that is told (`as`). */
class Settled {
  #names = new Map();
  #places = new Map();
  #started;
  #shift;
  #origins;

  constructor(started, origins) {
    this.#started = started;
    this.#origins = origins;
    // The sandbox's past, birth dates too, is so many days before the London day on which it was filled.
    const london = new Date(started[0].at).toLocaleDateString("sv-SE", { timeZone: "Europe/London" });
    this.#shift = TODAY - Date.parse(london);
  }

  /** Another name for what is made by chance: the same for the same, and the same in each run. */
  #named(found, place, shape) {
    // What the collection itself sends is no chance.
    if (source.includes(`"${found}`) || source.includes(`/${found}`)) return found;
    if (!this.#names.has(found)) {
      const count = (this.#places.get(place) ?? 0) + 1;
      this.#places.set(place, count);
      this.#names.set(found, shape(createHash("sha256").update(`${place} ${count}`).digest("hex")));
    }
    return this.#names.get(found);
  }

  /** A time of this run is that of the request in which it fell; one of the sandbox's past keeps its hour. */
  time(ms) {
    if (ms < this.#started[0].at - DAY / 24) return ms + this.#shift;
    return this.#started.findLast(({ at }) => at <= ms)?.as ?? TODAY + NOON;
  }

  text(text, place, dated) {
    let settled = text.replaceAll(this.#origins.server, SERVED_AT).replaceAll(this.#origins.hook, RECEIVED_AT);
    settled = settled.replace(TOKEN, "(a token, not saved)").replace(/_cursor=[^&"\s]+/g, "_cursor=opaque");
    settled = settled.replace(UUID, (uuid) =>
      this.#named(uuid, place, (hex) => `${hex.slice(0, 8)}-${hex.slice(8, 12)}-4${hex.slice(13, 16)}-8${hex.slice(17, 20)}-${hex.slice(20, 32)}`));
    settled = settled.replace(AUDIT_ID, (id) => this.#named(id, place, (hex) => `202611-${parseInt(hex.slice(0, 5), 16)}`));
    settled = settled.replace(INSTANT, (instant) => {
      const at = this.time(Date.parse(decodeURIComponent(instant)));
      return instant.includes("%") ? encodeURIComponent(new Date(at).toISOString()) : new Date(at).toISOString();
    });
    if (!dated) return settled;
    return settled.replace(DATE, (date) => new Date(Date.parse(date) + this.#shift).toISOString().slice(0, 10));
  }

  json(value, place, dated, key = "") {
    if (Array.isArray(value)) return value.map((one) => this.json(one, place, dated, key));
    if (value !== null && typeof value === "object") {
      return Object.fromEntries(Object.entries(value).map(([name, one]) => [name, this.json(one, place, dated, name)]));
    }
    if (typeof value !== "string") return value;
    // AuditEvent.agent.policy is the token's id; entity.query the request line in base64.
    if (key === "policy") return "(the token's id)";
    if (key === "commitId") return "(of the build)";
    if (key === "query") {
      const line = Buffer.from(value, "base64").toString();
      return Buffer.from(this.text(line, place, dated)).toString("base64");
    }
    return this.text(value, place, dated);
  }

  /** Last-Modified has no milliseconds: it is told by the resource, by an earlier answer of the same version, or by now. */
  modified(header, answer, index, earlier) {
    const truncated = Date.parse(header);
    const shown = answer.json?.meta?.lastUpdated;
    if (shown && Math.floor(Date.parse(shown) / 1000) * 1000 === truncated) return this.time(Date.parse(shown));
    const same = earlier.findLast((one) => one.url === answer.url && one.etag === answer.etag && one.header === header);
    return same?.at ?? this.time(truncated < this.#started[0].at - DAY / 24 ? truncated : this.#started[index].at);
  }
}

const KEPT = ["allow", "cache-control", "content-location", "content-type", "etag", "last-modified", "location", "retry-after",
  "www-authenticate", "x-request-id"];

const example = (answer, index, settled, earlier) => {
  const { item, response } = answer;
  const place = answer.path.join(" / ");
  const dated = answer.json?.resourceType !== "OperationOutcome" && item.request.auth?.type !== "noauth";
  const headers = response.headers.all().map(({ key, value }) => ({ key: key.toLowerCase(), value }));
  const kept = headers.filter(({ key }) => KEPT.includes(key)).sort((a, b) => a.key.localeCompare(b.key));
  const header = kept.map(({ key, value }) => {
    if (HTTP_DATE.test(value)) {
      const at = settled.modified(value, answer, index, earlier);
      earlier.push({ url: answer.url, etag: answer.etag, header: value, at });
      return { key, value: new Date(at).toUTCString() };
    }
    // An ETag that is no version is a digest of what was answered, the port of this run in it.
    if (key === "etag") return { key, value: value.replace(DIGEST, "digest") };
    return { key, value: settled.text(value, place, false) };
  });
  return {
    name: `${response.code} ${response.status}`,
    originalRequest: pick(inOrder.request(item.request), ["method", "header", "body", "url"]),
    status: response.status,
    code: response.code,
    _postman_previewlanguage: "json",
    header,
    cookie: [],
    body: answer.json === undefined ? response.text() : JSON.stringify(settled.json(answer.json, place, dated), null, 2),
  };
};

const save = async () => {
  const { BASE_URL, SANDBOX_JSON, HOOK_URL } = process.env;
  if (!BASE_URL || !SANDBOX_JSON || !HOOK_URL) throw new Error("Start this by scripts/on-fresh-sandbox.sh.");
  const newman = createRequire(import.meta.url)(process.env.NEWMAN_MODULE ?? `${here}/../target/tools/newman/node_modules/newman`);
  const environment = JSON.parse(execFileSync(`${here}/postman-environment.sh`, [BASE_URL, SANDBOX_JSON]));
  const all = requests(collection.item);
  // Ten minutes for a folder and a second for a request, so that a new one moves the times of its own folder only.
  const told = collection.item.flatMap(({ item }, folder) => requests(item).map((_, at) => TODAY + NOON + (folder * 600 + at + 1) * SECOND));
  // newman keeps the items' order and gives them ids.
  all.forEach(({ item }, index) => (item.id = `item-${index}`));
  const started = [];
  const answers = [];
  await new Promise((resolve, reject) => {
    const run = newman.run({ collection, environment, envVar: [{ key: "hook_url", value: HOOK_URL }], reporters: [], timeoutRequest: 30000 });
    run.on("beforeItem", (_, { item }) => {
      const index = Number(item.id.slice(5));
      started[index] ??= { at: Date.now(), as: told[index] };
    });
    run.on("request", (error, { item, request, response }) => {
      if (error) return;
      const index = Number(item.id.slice(5));
      let json;
      try {
        json = response.json();
      } catch {
        json = undefined;
      }
      // Of a request that was sent again the last answer stays.
      answers[index] = { ...all[index], response, json, url: request.url.getPath(), etag: response.headers.get("ETag") };
    });
    run.on("done", (error, summary) => {
      const failed = summary?.run.failures.map(({ source: { name }, error: why }) => `${name}: ${why.test ?? ""} ${why.message}`) ?? [];
      if (error || failed.length) reject(error ?? new Error(`No example is saved while tests fail.\n${failed.join("\n")}`));
      else resolve();
    });
  });
  const origins = { server: new URL(BASE_URL).origin, hook: new URL(HOOK_URL).origin };
  const settled = new Settled(started, origins);
  const earlier = [];
  answers.forEach((answer, index) => (answer.item.response = [example(answer, index, settled, earlier)]));
  writeFileSync(FILE, written(collection));
  console.log(`${answers.length} examples saved.`);
};

const check = () => {
  const faults = requests(collection.item).flatMap(({ item, path }) => {
    const lacks = [];
    if (!item.request.description) lacks.push("has no description");
    if (!item.event?.some(({ listen, script }) => listen === "test" && script.exec.join("").includes("pm.test"))) lacks.push("has no test");
    if (!item.response?.length) lacks.push("has no example: make postman-examples");
    if (item.response?.some(({ originalRequest }) => originalRequest.auth)) lacks.push("has an example with its authorization");
    return lacks.map((lack) => `${path.join(" / ")}: ${lack}`);
  });
  if (/eyJ[\w-]{8}/.test(source)) faults.push("The collection holds a token.");
  if (written(collection) !== source) faults.push("The collection is not in its order of keys: make postman-examples");
  if (faults.length) {
    console.error(faults.join("\n"));
    process.exitCode = 1;
  }
};

try {
  if (process.argv[2] === "--check") check();
  else await save();
} catch (error) {
  console.error(error.message);
  process.exitCode = 1;
}
