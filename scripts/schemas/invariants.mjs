// Which of R4's invariants is checked where: the table of schemas/README.md.

/** Rules that look across a resource: src/fhir/validate/rule/across.rs. */
const ACROSS = {
  'ele-1': 'also by minProperties', 'dom-2': '', 'dom-3': '', 'dom-4': '', 'dom-5': '', 'ref-1': '', 'bdl-1': '', 'bdl-2': '', 'bdl-3': '',
  'bdl-4': '', 'bdl-7': '', 'bdl-9': '', 'bdl-10': '', 'bdl-11': '', 'bdl-12': '',
};

/** Errors that are not checked, and why. None at present. */
const NOT_CHECKED = {};

const PARTLY = {
  'ctm-1': 'a member that is contained (#id) is not looked up',
  'dis-1': 'not whether the code is one of length',
  'age-1': 'not whether the code is one of time',
  'drt-1': 'not whether the code is one of time',
  'rng-2': 'only of equal units',
  'per-1': 'of different precisions only what both have',
  'eld-11': 'R4\'s expression is true of any type; its words are checked',
};

/** The table as Markdown, what is wrong with it, and the counts. */
export function invariantTable(definitions, types, rules) {
  const rows = new Map();
  const walk = (node, type) => {
    for (const { key, severity } of node.constraints) {
      const row = rows.get(key) ?? { key, severity, at: [] };
      row.at.push(node.path);
      rows.set(key, row);
    }
    node.children.forEach((child) => walk(child, type));
  };
  for (const type of ['Element', 'DomainResource', ...types]) {
    walk(definitions.tree(type), type);
  }
  const faults = [];
  const counts = { table: 0, across: 0, advice: 0 };
  const lines = [...rows.values()].sort((a, b) => a.key.localeCompare(b.key, 'en', { numeric: true })).map(({ key, severity, at }) => {
    const places = [...new Set(at)].sort((a, b) => a.length - b.length)[0];
    return `| ${key} | ${places} | ${checked(key, severity)} |`;
  });
  function checked(key, severity) {
    if (rules.has(key)) {
      counts.table += 1;
      return PARTLY[key] ? `table (${PARTLY[key]})` : 'table';
    }
    if (key in ACROSS) {
      counts.across += 1;
      return ACROSS[key] ? `across (${ACROSS[key]})` : 'across';
    }
    if (severity === 'warning') {
      counts.advice += 1;
      return 'no: R4 calls it a warning, not an error';
    }
    if (!(key in NOT_CHECKED)) {
      faults.push(`R4's invariant ${key} is checked nowhere`);
    }
    return `no: ${NOT_CHECKED[key]}`;
  }
  const text = `| Invariant | At | Checked |\n|---|---|---|\n${lines.join('\n')}\n`;
  const said = `${counts.table} by the table, ${counts.across} across a resource, ${counts.advice} only warnings`;
  return { text, faults, counts: said };
}
