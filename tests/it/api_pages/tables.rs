//! Tables of a page, out of what the server says of itself: the API description for calls, parameters and roles, the
//! `CapabilityStatement` for the types of parameters.

use serde_json::Value;

use crate::harness::TestApp;

pub struct Tables {
    paths: Value,
    statement: Value,
    base_path: String,
}

impl Tables {
    pub async fn of(app: &TestApp) -> Self {
        let paths = app.anonymous().get("//openapi.json").await.json["paths"].clone();
        let statement = app.anonymous().get("/metadata").await.json["rest"][0].clone();
        Self { paths, statement, base_path: app.settings().base_path.clone() }
    }

    /// The calls of these interactions (`read`, `create`, `everything` ...) and, with a word such as `/Flag`, below that path; all of them
    /// without a word. The call, who may make it, what it does.
    pub fn calls(&self, words: &[&str]) -> String {
        let (paths, interactions): (Vec<&str>, Vec<&str>) = words.iter().partition(|word| word.starts_with('/'));
        let wanted = |path: &str| {
            paths.is_empty()
                || paths.iter().any(|wanted| {
                    path.strip_prefix(wanted).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
                })
        };
        let mut rows = Vec::new();
        for (path, operations) in self.paths.as_object().expect("paths") {
            let Some(below) = path.strip_prefix(&self.base_path) else { continue };
            for (method, operation) in operations.as_object().expect("operations") {
                let interaction = interaction(method, below);
                // A search by form is said once for all; so is $validate, which nearly every type has.
                if below.ends_with("/_search") || (words.is_empty() && interaction == "validate") {
                    continue;
                }
                if wanted(below) && (interactions.is_empty() || interactions.contains(&interaction)) {
                    let who = operation["description"].as_str().unwrap_or("For: everybody, without a token.");
                    let who = who.trim_start_matches("For: ").trim_end_matches('.');
                    let about = operation["summary"].as_str().expect("a summary");
                    rows.push((below, format!("| `{} {below}` | {who} | {about} |", method.to_uppercase())));
                }
            }
        }
        assert!(!rows.is_empty(), "no call is any of {words:?}");
        rows.sort();
        rows.iter().fold("| Call | Who | |\n|---|---|---|".to_owned(), |table, (_, row)| table + "\n" + row)
    }

    /// The parameters of a path such as `Flag` or `Flag/_history`, with their types.
    pub fn parameters(&self, resource: &str) -> String {
        let types = self.statement["resource"].as_array().expect("resources");
        let known = types.iter().find(|known| known["type"] == resource).map(|known| &known["searchParam"]);
        let kind = |name: &Value| {
            let row = known?.as_array()?.iter().find(|row| row["name"] == *name)?;
            row["type"].as_str()
        };
        let path = format!("{}/{resource}", self.base_path);
        let mut table = "| Parameter | Type | |\n|---|---|---|".to_owned();
        for parameter in self.paths[&path]["get"]["parameters"].as_array().expect("parameters") {
            // What is spelled with a modifier stands there without it too.
            let is_plain = parameter["name"].as_str().is_some_and(|name| !name.contains(':'));
            if parameter["in"] == "query" && is_plain {
                let about = parameter["description"].as_str().expect("a description");
                let (about, modifiers) = about.split_once(". Also with ").unwrap_or((about, ""));
                let also = if modifiers.is_empty() { String::new() } else { format!(". Also with `{modifiers}`") };
                let row = format!(
                    "\n| `{}` | {} | {}{also} |",
                    parameter["name"].as_str().expect("a name"),
                    kind(&parameter["name"]).unwrap_or("shapes the result"),
                    about.replace('|', "\\|")
                );
                table.push_str(&row);
            }
        }
        assert!(table.lines().count() > 2, "{resource} has no parameters");
        table
    }
}

/// FHIR's name of a call; that of an operation is without its `$`.
fn interaction<'a>(method: &str, path: &'a str) -> &'a str {
    let segments: Vec<&str> = path.split('/').skip(1).collect();
    match (method, segments.as_slice()) {
        (_, [.., last]) if last.starts_with('$') => &last[1..],
        ("get", [.., "_history"]) => "history",
        ("get", [.., "_history", _]) => "vread",
        ("post", [_, "_search"]) => "search",
        ("get", ["metadata"]) => "capabilities",
        ("post", [""]) => "batch",
        ("get", [_]) => "search",
        ("get", [_, _]) => "read",
        ("post", [_]) => "create",
        ("put", [_, _]) => "update",
        ("delete", [_, _]) => "delete",
        ("put", [_]) => "conditional-update",
        ("delete", [_]) => "conditional-delete",
        _ => panic!("{method} {path}"),
    }
}
