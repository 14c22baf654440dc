// From R4's definitions to the JSON Schemas of schemas/: one schema for each resource, one for all datatypes.

/** Keywords of our own beside JSON Schema's: schemas/README.md. */
export const BASE = 'cpis:///';

/** Required bindings whose codes are not a closed list in R4: what is checked instead. */
const OPEN_SETS = { currencies: 'currency' };

/** Rules that R4 hangs on an inner element, though they need the whole resource: there they are checked. */
const LIFTED = {
  'sdf-8': 'StructureDefinition', 'sdf-8a': 'StructureDefinition', 'eld-3': 'ElementDefinition',
};

/** Rules of ours that R4 states in words only. */
const ADDED = { Reference: ['ref-type'] };

export class Renderer {
  /** `rules`: the keys that the table in src/fhir/validate/rule has. */
  constructor(definitions, rules) {
    this.definitions = definitions;
    this.rules = rules;
    this.codeSets = new Set();
    this.types = new Set();
    this.elements = 0;
  }

  /** The schema of a resource. */
  resource(type, file) {
    this.root = this.definitions.tree(type);
    this.prefix = 'datatypes.schema.json';
    this.local = {};
    const body = this.#object(this.root, { resource: type });
    const schema = {
      $schema: 'https://json-schema.org/draft/2020-12/schema',
      $id: `${BASE}${file}`,
      description: `${type} as FHIR R4 defines its structure.`,
      ...body,
    };
    return Object.keys(this.local).length > 0 ? { ...schema, $defs: this.local } : schema;
  }

  /** The datatypes that the resources rendered so far use, in R4's order, and the code sets. `kept`: what is written by hand. */
  datatypes(kept) {
    this.prefix = '';
    const complex = {};
    for (let done = false; !done; ) {
      done = true;
      for (const name of [...this.types].filter((t) => !(t in complex))) {
        complex[name] = this.#datatype(name);
        done = false;
      }
    }
    const order = [...this.definitions.structures.keys()];
    const sorted = Object.keys(complex).sort((a, b) => order.indexOf(a) - order.indexOf(b));
    const sets = [...this.codeSets].sort().map((url) => [setName(url), { type: 'string', enum: this.definitions.codes(url) }]);
    return {
      $schema: 'https://json-schema.org/draft/2020-12/schema',
      $id: `${BASE}datatypes.schema.json`,
      description: 'FHIR R4 datatypes: primitives, complex types, required code sets.',
      $defs: {
        ...kept,
        ...Object.fromEntries(sorted.map((name) => [name, complex[name]])),
        ...Object.fromEntries(sets),
        resourceType: { enum: this.definitions.resourceTypes() },
      },
    };
  }

  #datatype(name) {
    this.root = this.definitions.tree(name);
    if (name === 'Quantity' || !this.definitions.isQuantity(name)) {
      return this.#object(this.root, {});
    }
    const keys = this.#keys(this.root);
    this.types.add('Quantity');
    return { $ref: this.#at('Quantity'), ...(keys.length > 0 ? { invariants: keys } : {}) };
  }

  #at(name) {
    return `${this.prefix}#/$defs/${name}`;
  }

  #object(node, { resource }) {
    const properties = resource ? { resourceType: { const: resource } } : {};
    const [required, choice] = [resource ? ['resourceType'] : [], {}];
    for (const child of node.children.filter((c) => c.max !== '0')) {
      if (child.name.endsWith('[x]')) {
        const name = child.name.slice(0, -3);
        choice[name] = `${child.min}..${child.max}`;
        for (const type of this.#choiceTypes(child)) {
          this.#property(properties, name + type.code[0].toUpperCase() + type.code.slice(1), { ...child, types: [type] }, resource);
        }
        continue;
      }
      if (child.min > 0) {
        required.push(child.name);
      }
      this.#property(properties, child.name, child, resource);
    }
    const keys = [...this.#keys(node), ...this.#lifted(node), ...(ADDED[node.path] ?? [])];
    return {
      type: 'object',
      additionalProperties: false,
      ...(required.length > 0 ? { required } : { minProperties: 1 }),
      ...(Object.keys(choice).length > 0 ? { choice } : {}),
      ...(keys.length > 0 ? { invariants: keys } : {}),
      properties,
    };
  }

  #choiceTypes(child) {
    const types = [];
    for (const type of child.types) {
      const same = types.find((t) => t.name === type.name);
      same ? same.targets.push(...type.targets) : types.push({ ...type, targets: [...type.targets] });
    }
    return types;
  }

  #keys(node) {
    return node.constraints.map((c) => c.key).filter((key) => this.rules.has(key) && !(key in LIFTED));
  }

  #lifted(node) {
    const inner = (n) => n.children.flatMap((c) => [...c.constraints.map((k) => k.key), ...inner(c)]);
    return [...new Set(inner(node))].filter((key) => LIFTED[key] === node.path && this.rules.has(key));
  }

  #property(properties, name, child, resource) {
    this.elements += 1;
    const { schema, primitive } = this.#value(child, resource);
    const many = child.max !== '1';
    const most = many && child.max !== '*' ? { maxItems: Number(child.max) } : {};
    properties[name] = many ? { type: 'array', minItems: Math.max(1, child.min), ...most, items: schema } : schema;
    if (primitive) {
      properties[`_${name}`] = { $ref: this.#at(many ? 'Elements' : 'Element') };
    }
  }

  #value(child, resource) {
    if (child.same) {
      return { schema: this.#sameAs(child.same), primitive: false };
    }
    const [type] = child.types;
    if (['Element', 'BackboneElement'].includes(type.name)) {
      return { schema: this.#inner(child), primitive: false };
    }
    const attached = this.#keys(child);
    const rules = attached.length > 0 ? { invariants: attached } : {};
    if (type.name === 'Resource') {
      return { schema: { $ref: this.#at('resource') }, primitive: false };
    }
    const isPrimitive = this.definitions.kind(type.name) === 'primitive-type';
    if (!isPrimitive) {
      this.types.add(type.name);
      const own = this.definitions.keysOf(type.name);
      const here = attached.filter((key) => !own.has(key));
      const rules = here.length > 0 ? { invariants: here } : {};
      const targets = type.name === 'Reference' && type.targets.length > 0 ? { targets: [...new Set(type.targets)] } : {};
      return { schema: { $ref: this.#at(type.name), ...targets, ...rules }, primitive: false };
    }
    if (type.name === 'xhtml') {
      return { schema: { $ref: this.#at('xhtml') }, primitive: false };
    }
    const name = resource && child.name === 'id' ? 'id' : this.#coded(child, type);
    return { schema: { $ref: this.#at(name), ...rules }, primitive: !type.attribute };
  }

  #coded(child, type) {
    if (!child.binding || type.name !== 'code') {
      return type.name;
    }
    const set = setName(child.binding);
    if (this.definitions.codes(child.binding)) {
      this.codeSets.add(child.binding);
      return set;
    }
    return OPEN_SETS[set] ?? type.name;
  }

  #inner(child) {
    const shared = this.#isShared(child.path);
    if (!shared) {
      return this.#object(child, {});
    }
    return this.#define(child);
  }

  #sameAs(path) {
    const node = path.split('.').slice(1).reduce((n, name) => n.children.find((c) => c.name === name), this.root);
    return this.#define(node);
  }

  /** Written once under $defs, because R4 uses it at two places or inside itself. */
  #define(node) {
    if (this.prefix === '') {
      throw new Error(`${node.path}: a datatype that contains itself is not provided for`);
    }
    if (!(node.name in this.local)) {
      this.local[node.name] = null;
      this.local[node.name] = this.#object(node, {});
    }
    return { $ref: `#/$defs/${node.name}` };
  }

  #isShared(path) {
    const any = (node) => node.same === path || node.children.some(any);
    return any(this.root);
  }
}

/** R4's name of a value set. */
export function setName(url) {
  return url.split('|')[0].split('/').pop();
}

/** A schema as people read it: one element a line, an object's own words above its elements. */
export function print(schema) {
  return `${block(schema, '')}\n`;
}

function block(value, indent) {
  const inner = `${indent}  `;
  const lines = [];
  let head = [];
  const flush = () => {
    if (head.length > 0) {
      lines.push(`${inner}${head.join(', ')}`);
      head = [];
    }
  };
  for (const [key, part] of Object.entries(value)) {
    const name = `${JSON.stringify(key)}: `;
    if (key === 'properties' || key === '$defs') {
      flush();
      lines.push(`${inner}${name}${members(part, inner)}`);
    } else if (['type', 'additionalProperties', 'minProperties'].includes(key)) {
      head.push(name + inline(part));
    } else {
      flush();
      lines.push(`${inner}${name}${inline(part)}`);
    }
  }
  flush();
  return `{\n${lines.join(',\n')}\n${indent}}`;
}

function members(object, indent) {
  const inner = `${indent}  `;
  const lines = [];
  for (const [name, schema] of Object.entries(object)) {
    const text = `${JSON.stringify(name)}: ${element(schema, inner)}`;
    const beside = name.startsWith('_') && lines.length > 0 && name.slice(1) in object;
    beside ? (lines[lines.length - 1] += `, ${text}`) : lines.push(text);
  }
  return `{\n${lines.map((line) => inner + line).join(',\n')}\n${indent}}`;
}

function element(schema, indent) {
  if (schema.properties) {
    return block(schema, indent);
  }
  if (schema.items?.properties) {
    const { items, ...own } = schema;
    return `{${inline(own).slice(1, -1)}, "items": ${block(items, indent)}}`;
  }
  if (schema.enum?.length > 12) {
    return codes(schema, indent);
  }
  return inline(schema);
}

/** Many codes, in lines of at most 140 characters. */
function codes({ enum: list, ...own }, indent) {
  const lines = [''];
  for (const code of list.map((c) => JSON.stringify(c))) {
    const last = lines[lines.length - 1];
    last.length + code.length + indent.length > 132 ? lines.push(code) : (lines[lines.length - 1] = last ? `${last}, ${code}` : code);
  }
  const rest = Object.keys(own).length > 0 ? `${inline(own).slice(1, -1)}, ` : '';
  return `{${rest}"enum": [\n${lines.map((line) => `${indent}  ${line}`).join(',\n')}\n${indent}]}`;
}

function inline(value) {
  if (Array.isArray(value)) {
    return `[${value.map(inline).join(', ')}]`;
  }
  if (value && typeof value === 'object') {
    return `{${Object.entries(value).map(([k, v]) => `${JSON.stringify(k)}: ${inline(v)}`).join(', ')}}`;
  }
  return JSON.stringify(value);
}
