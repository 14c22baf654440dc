//! `tests/corpus`: instances that R4 allows and instances that it forbids, from the specification's own rules. Each is judged by
//! the validator; `docs/validation.md` shows the verdicts and is written by `CPIS_WRITE_DOCS=1`. What an independent validator
//! says of the same instances: `scripts/corpus.mjs`, and `disagreements.json` beside them.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    path::{Path, PathBuf},
    sync::LazyLock,
};

use cpis_gateway::fhir::validate::{Profile, Validators};
use serde::Deserialize;
use serde_json::{Map, Value};

const PAGE: &str = "docs/validation.md";
const TEMPLATE: &str = include_str!("corpus.template.md");

/// `x.valid.json`: a whole resource, and changes of it that R4 allows.
#[derive(Deserialize)]
struct Valid {
    base: Value,
    instances: Vec<Instance>,
}

/// `x.invalid.json`: changes of the same resource that R4 forbids.
#[derive(Deserialize)]
struct Invalid {
    instances: Vec<Instance>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Instance {
    /// What R4 allows here.
    shows: Option<String>,
    /// What R4 forbids here; begins with the key of the invariant, if it is one.
    breaks: Option<String>,
    /// JSON pointers and what to put there; `-` appends to a list.
    #[serde(default)]
    set: Map<String, Value>,
    #[serde(default)]
    remove: Vec<String>,
    /// `FHIRPath` and code of every issue.
    #[serde(default)]
    expect: Vec<(String, String)>,
}

/// Where an independent validator judges otherwise.
#[derive(Deserialize)]
struct Disagreement {
    /// What it says.
    medplum: String,
    why: String,
    /// File without `.json`, and the name of the instance.
    instances: Vec<(String, String)>,
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus")
}

fn read<T: for<'a> Deserialize<'a>>(name: &str) -> T {
    let text = std::fs::read_to_string(folder().join(name)).expect("the file is read");
    serde_json::from_str(&text).unwrap_or_else(|fault| panic!("{name}: {fault}"))
}

/// Everything by the resource's name in the files, such as `care-plan`.
static CORPUS: LazyLock<BTreeMap<String, (Valid, Invalid)>> = LazyLock::new(|| {
    let files = std::fs::read_dir(folder()).expect("the corpus");
    let names =
        files.filter_map(|file| file.ok()?.file_name().to_str()?.strip_suffix(".valid.json").map(str::to_owned));
    names
        .map(|name| (name.clone(), (read(&format!("{name}.valid.json")), read(&format!("{name}.invalid.json")))))
        .collect()
});

impl Instance {
    fn name(&self) -> &str {
        self.shows.as_deref().or(self.breaks.as_deref()).expect("a name")
    }

    fn of(&self, base: &Value) -> Value {
        let mut resource = base.clone();
        for pointer in &self.remove {
            let (parent, last) = pointer.rsplit_once('/').expect("a pointer");
            match resource.pointer_mut(parent).expect("a parent") {
                Value::Object(object) => drop(object.remove(last).expect("an element")),
                Value::Array(items) => drop(items.remove(last.parse().expect("an index"))),
                _ => panic!("{pointer} is in no object"),
            }
        }
        for (pointer, value) in &self.set {
            let (parent, last) = pointer.rsplit_once('/').expect("a pointer");
            match resource.pointer_mut(parent).unwrap_or_else(|| panic!("{pointer} has no parent")) {
                Value::Object(object) => drop(object.insert(last.to_owned(), value.clone())),
                Value::Array(items) if last == "-" => items.push(value.clone()),
                Value::Array(items) => items[last.parse::<usize>().expect("an index")] = value.clone(),
                _ => panic!("{pointer} is in no object"),
            }
        }
        resource
    }
}

/// What the validator finds, in order.
fn found(resource: &Value) -> Vec<(String, String)> {
    let validators = Validators::shared().expect("the schemas compile");
    let issues = validators.validate(resource, Profile::Base);
    let mut found: Vec<_> =
        issues.iter().map(|issue| (issue.expression.join(" "), issue.code.code().to_owned())).collect();
    found.sort();
    found
}

#[test]
fn what_r4_allows_is_taken() {
    let mut wrong = Vec::new();
    for (name, (valid, _)) in CORPUS.iter() {
        for instance in &valid.instances {
            let found = found(&instance.of(&valid.base));
            if !found.is_empty() {
                wrong.push(format!("{name}: {}: {found:?}", instance.name()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn what_r4_forbids_is_refused_where_it_is_wrong() {
    let mut wrong = Vec::new();
    for (name, (valid, invalid)) in CORPUS.iter() {
        for instance in &invalid.instances {
            let found = found(&instance.of(&valid.base));
            let mut expected = instance.expect.clone();
            expected.sort();
            if found != expected || expected.is_empty() {
                wrong.push(format!("{name}: {}\n  found    {found:?}\n  expected {expected:?}", instance.name()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_rule_and_every_resource_is_in_the_corpus() {
    for (name, (valid, invalid)) in CORPUS.iter() {
        let names: Vec<&str> = valid.instances.iter().map(Instance::name).collect();
        assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len(), "{name}: a name comes twice");
        let names: Vec<&str> = invalid.instances.iter().map(Instance::name).collect();
        assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len(), "{name}: a name comes twice");
    }
    let schemas = Path::new(env!("CARGO_MANIFEST_DIR")).join("schemas");
    let files =
        std::fs::read_dir(&schemas).expect("the schemas").filter_map(|file| file.ok()?.file_name().into_string().ok());
    for schema in files.filter(|file| file.ends_with(".schema.json") && !file.starts_with("cpis-")) {
        let name = schema.trim_end_matches(".schema.json");
        assert!(name == "datatypes" || CORPUS.contains_key(name), "no corpus for {name}");
    }
    let table = std::fs::read_to_string(schemas.join("README.md")).expect("the table of invariants");
    let broken: String =
        CORPUS.values().flat_map(|(_, invalid)| &invalid.instances).map(|i| format!("{} ", i.name())).collect();
    let mentioned: BTreeSet<&str> = broken.split([' ', ':', ',']).collect();
    let checked = table.lines().filter_map(|line| line.strip_prefix("| ")).filter_map(|line| {
        let mut cells = line.split(" | ");
        let (key, _, how) = (cells.next()?, cells.next()?, cells.next()?);
        (how.starts_with("table") || how.starts_with("across")).then_some(key)
    });
    let missing: Vec<&str> = checked.filter(|key| !mentioned.contains(key)).collect();
    assert!(missing.is_empty(), "no instance breaks {missing:?}");
}

/// What HL7 has published itself has to be taken; `make schemas` says where it is.
#[test]
#[ignore = "needs HL7's definitions: make schemas"]
fn hl7s_own_resources_are_taken() {
    let folder =
        std::env::var_os("CPIS_R4_DEFINITIONS").map(PathBuf::from).expect("CPIS_R4_DEFINITIONS names the folder");
    let known: BTreeSet<String> =
        CORPUS.values().filter_map(|(v, _)| v.base["resourceType"].as_str()).map(str::to_owned).collect();
    let (mut judged, mut refused) = (BTreeMap::<String, usize>::new(), Vec::new());
    for file in HL7_FILES {
        let text = std::fs::read_to_string(folder.join(file)).expect("the file is read");
        let bundle: Value = serde_json::from_str(&text).expect("JSON");
        for entry in bundle["entry"].as_array().expect("entries") {
            let resource = &entry["resource"];
            let kind = resource["resourceType"].as_str().unwrap_or_default().to_owned();
            // Medplum has put a resource of R4B among those of R4.
            if !known.contains(&kind) || resource["id"] == "SubscriptionStatus" {
                continue;
            }
            *judged.entry(kind).or_default() += 1;
            let found = found(resource);
            if !found.is_empty() {
                refused.push(format!(
                    "{file} {} {}: {:?}",
                    resource["resourceType"],
                    resource["id"],
                    &found[..found.len().min(4)]
                ));
            }
        }
    }
    assert!(judged.values().sum::<usize>() > 11_000, "these are not all of HL7's resources: {judged:?}");
    assert!(refused.is_empty(), "{}", refused.join("\n"));
}

const HL7_FILES: [&str; 9] = [
    "profiles-types.json",
    "profiles-resources.json",
    "profiles-others.json",
    "extension-definitions.json",
    "search-parameters.json",
    "dataelements.json",
    "valuesets.json",
    "v2-tables.json",
    "v3-codesystems.json",
];

/// What kind of rule an instance breaks, for the table.
fn kind(instance: &Instance) -> &'static str {
    match instance.expect.first().map(|(_, code)| code.as_str()) {
        Some("invariant") => "invariant",
        Some("required") => "required",
        Some("code-invalid") => "code-invalid",
        Some("value") => "value",
        _ => "structure",
    }
}

const KINDS: [&str; 5] = ["structure", "required", "value", "code-invalid", "invariant"];

fn page() -> String {
    let mut table =
        format!("| Resource | Allowed | Forbidden | {} |\n|---|---:|---:|{}\n", KINDS.join(" | "), "---:|".repeat(5));
    let mut totals = vec![0_usize; KINDS.len() + 2];
    for (valid, invalid) in CORPUS.values() {
        let of_kind = |wanted| invalid.instances.iter().filter(|i| kind(i) == wanted).count();
        let mut counts = vec![valid.instances.len(), invalid.instances.len()];
        counts.extend(KINDS.map(of_kind));
        totals.iter_mut().zip(&counts).for_each(|(total, count)| *total += count);
        let cells: Vec<String> = counts.iter().map(usize::to_string).collect();
        let _ =
            writeln!(table, "| {} | {} |", valid.base["resourceType"].as_str().unwrap_or_default(), cells.join(" | "));
    }
    let cells: Vec<String> = totals.iter().map(|total| format!("**{total}**")).collect();
    let _ = writeln!(table, "| **All** | {} |", cells.join(" | "));
    let disagreements: Vec<Disagreement> = read("disagreements.json");
    let (mut listed, mut accepts, mut refuses) = (String::new(), 0, 0);
    for group in &disagreements {
        *if group.medplum == "accepts" { &mut accepts } else { &mut refuses } += group.instances.len();
        let (_, example) = group.instances.first().expect("an instance");
        let example = example.replace('|', "\\|").replace('\n', " ");
        let _ = writeln!(listed, "| {} | {} | {} | {example} |", group.instances.len(), group.medplum, group.why);
    }
    let fill = [
        ("{{valid}}", totals[0].to_string()),
        ("{{invalid}}", totals[1].to_string()),
        ("{{table}}", table),
        ("{{agreed}}", (totals[0] + totals[1] - accepts - refuses).to_string()),
        ("{{all}}", (totals[0] + totals[1]).to_string()),
        ("{{accepts}}", accepts.to_string()),
        ("{{refuses}}", refuses.to_string()),
        ("{{disagreements}}", listed),
    ];
    fill.iter().fold(TEMPLATE.to_owned(), |page, (place, text)| page.replace(place, text.trim_end()))
}

#[test]
fn the_page_shows_the_verdicts() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(PAGE);
    let page = page();
    if std::env::var_os("CPIS_WRITE_DOCS").is_some() {
        std::fs::write(&path, &page).expect("the page is written");
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(committed == page, "{PAGE} does not show the corpus as it is; write it with CPIS_WRITE_DOCS=1");
}
