//! R4's rules that look across a resource: a Bundle's entries against its type, contained resources, references within,
//! elements that hold nothing.

use std::collections::HashSet;

use serde_json::{Map, Value};

use super::{has, list, text};
use crate::fhir::{
    outcome::{Issue, IssueCode, SpineCode},
    validate::location::Place,
};

fn invariant(words: &str) -> Issue {
    Issue::error(IssueCode::Invariant, SpineCode::ValidationError, words)
}

/// What breaks these rules; `root` is the `FHIRPath` of the resource.
pub fn of_resource(resource: &Value, root: &str, contained: bool) -> Vec<Issue> {
    let mut issues = Vec::new();
    if text(resource, "resourceType") == Some("Bundle") {
        bundle(resource, root, &mut issues);
    }
    if contained {
        contained_resource(resource, root, &mut issues);
    } else {
        inside(resource, root, &mut issues);
    }
    issues
}

fn bundle(bundle: &Value, root: &str, issues: &mut Vec<Issue>) {
    let kind = text(bundle, "type").unwrap_or_default();
    let say = |issues: &mut Vec<Issue>, words: &str, place: String| issues.push(invariant(words).at(place));
    if has(bundle, "total") && !matches!(kind, "searchset" | "history") {
        say(issues, "Only a search result or a history has a total (bdl-1).", format!("{root}.total"));
    }
    if kind == "document" {
        document(bundle, root, issues);
    }
    if kind == "message" {
        bundle_of(bundle, root, "MessageHeader", issues);
    }
    let request = matches!(kind, "batch" | "transaction" | "history");
    let response = matches!(kind, "batch-response" | "transaction-response" | "history");
    let mut full_urls = HashSet::new();
    for (index, entry) in list(bundle, "entry").iter().enumerate() {
        let at = |name: &str| format!("{root}.entry[{index}].{name}");
        if has(entry, "search") && kind != "searchset" {
            say(issues, "Only an entry of a search result has search (bdl-2).", at("search"));
        }
        if has(entry, "request") != request {
            let words = "Every entry of a batch, transaction or history has a request, no other has (bdl-3).";
            say(issues, words, at("request"));
        }
        if has(entry, "response") != response {
            let words = "Every entry of a batch-response, transaction-response or history has a response, no other has (bdl-4).";
            say(issues, words, at("response"));
        }
        let version = entry.pointer("/resource/meta/versionId").and_then(Value::as_str);
        if let Some(full_url) = text(entry, "fullUrl")
            && kind != "history"
            && !full_urls.insert((full_url, version))
        {
            say(issues, "Two entries have the same fullUrl (bdl-7).", at("fullUrl"));
        }
    }
}

fn document(bundle: &Value, root: &str, issues: &mut Vec<Issue>) {
    bundle_of(bundle, root, "Composition", issues);
    if !bundle.get("identifier").is_some_and(|i| has(i, "system") && has(i, "value")) {
        let words = "A document has an identifier with system and value (bdl-9).";
        issues.push(invariant(words).at(format!("{root}.identifier")));
    }
    if bundle.get("timestamp").is_none() {
        issues.push(invariant("A document has a timestamp (bdl-10).").at(format!("{root}.timestamp")));
    }
}

fn bundle_of(bundle: &Value, root: &str, first_type: &str, issues: &mut Vec<Issue>) {
    let first = list(bundle, "entry").first().and_then(|e| e.get("resource")).and_then(|r| text(r, "resourceType"));
    if first != Some(first_type) {
        let words = format!("The first resource of such a Bundle is a {first_type} (bdl-11, bdl-12).");
        issues.push(invariant(&words).at(format!("{root}.entry")));
    }
}

fn contained_resource(resource: &Value, root: &str, issues: &mut Vec<Issue>) {
    if has(resource, "contained") {
        issues.push(invariant("A contained resource contains no other (dom-2).").at(format!("{root}.contained")));
    }
    for name in ["versionId", "lastUpdated", "security"] {
        if resource.get("meta").is_some_and(|meta| has(meta, name)) {
            let words = "A contained resource has no version, date or security label of its own (dom-4, dom-5).";
            issues.push(invariant(words).at(format!("{root}.meta.{name}")));
        }
    }
}

/// Every `#id` leads to a contained resource (ref-1), every contained resource is referred to (dom-3), and every element
/// has more than an id (ele-1).
fn inside(resource: &Value, root: &str, issues: &mut Vec<Issue>) {
    let contained: Vec<&str> = list(resource, "contained").iter().map(|c| text(c, "id").unwrap_or_default()).collect();
    let mut walk = Walk::default();
    if let Value::Object(object) = resource {
        walk.enter(object);
    }
    let ids: HashSet<&str> = contained.iter().copied().filter(|id| !id.is_empty()).collect();
    for pointer in &walk.bare {
        let words = "An element has a value or children, not only an id (ele-1).";
        issues.push(invariant(words).at(Place::of(pointer, resource, root).expression));
    }
    for (pointer, id) in &walk.references {
        if !id.is_empty() && !ids.contains(id) {
            let words = "A reference that starts with # names a resource that is contained here (ref-1).";
            issues.push(invariant(words).at(Place::of(pointer, resource, root).expression));
        }
    }
    for (index, id) in contained.iter().enumerate() {
        let referred_to = !id.is_empty() && walk.fragments.contains(id);
        if !referred_to && !walk.referring_back.contains(&index) {
            let words = "Refer to the contained resource from the resource that contains it, or leave it out (dom-3).";
            issues.push(invariant(words).at(format!("{root}.contained[{index}]")));
        }
    }
}

enum Step<'a> {
    Name(&'a str),
    Index(usize),
}

/// One way through a resource. Resources that are entries of a Bundle or values of Parameters are looked at by themselves.
#[derive(Default)]
struct Walk<'a> {
    path: Vec<Step<'a>>,
    /// References `#id`: JSON pointer and id; empty for the containing resource.
    references: Vec<(String, &'a str)>,
    /// What stands after the `#` of any text.
    fragments: HashSet<&'a str>,
    /// Contained resources that refer to the one that contains them.
    referring_back: HashSet<usize>,
    /// JSON pointers of elements that have an id and nothing else.
    bare: Vec<String>,
}

impl<'a> Walk<'a> {
    fn enter(&mut self, object: &'a Map<String, Value>) {
        for (name, inner) in object {
            self.path.push(Step::Name(name));
            match inner {
                Value::String(said) => self.fragment(name, said),
                Value::Array(items) => self.items(object, name, items),
                Value::Object(element) if !element.contains_key("resourceType") => {
                    self.element(element, has_value(object, name, None));
                }
                _ => {}
            }
            self.path.pop();
        }
    }

    fn items(&mut self, object: &'a Map<String, Value>, name: &'a str, items: &'a [Value]) {
        for (index, item) in items.iter().enumerate() {
            self.path.push(Step::Index(index));
            match item {
                Value::String(said) => self.fragment(name, said),
                Value::Object(element) => {
                    self.element(element, name == "contained" || has_value(object, name, Some(index)));
                }
                _ => {}
            }
            self.path.pop();
        }
    }

    fn element(&mut self, element: &'a Map<String, Value>, may_be_bare: bool) {
        if element.len() == 1 && element.contains_key("id") && !may_be_bare {
            self.bare.push(self.pointer());
        }
        self.enter(element);
    }

    fn fragment(&mut self, name: &str, said: &'a str) {
        let Some(id) = said.strip_prefix('#') else { return };
        if name == "reference" {
            self.references.push((self.pointer(), id));
            if let (true, [Step::Name("contained"), Step::Index(index), ..]) = (id.is_empty(), self.path.as_slice()) {
                self.referring_back.insert(*index);
            }
        }
        self.fragments.insert(id);
    }

    fn pointer(&self) -> String {
        let mut pointer = String::new();
        for step in &self.path {
            pointer.push('/');
            match step {
                Step::Name(name) => pointer.push_str(&name.replace('~', "~0").replace('/', "~1")),
                Step::Index(index) => pointer.push_str(&index.to_string()),
            }
        }
        pointer
    }
}

/// True for the `_name` of a primitive that has its value beside it.
fn has_value(object: &Map<String, Value>, name: &str, index: Option<usize>) -> bool {
    let value = name.strip_prefix('_').and_then(|name| object.get(name));
    let value = match index {
        Some(index) => value.and_then(|list| list.get(index)),
        None => value,
    };
    value.is_some_and(|value| !value.is_null())
}
