//! A page out of its template. A template is the page in Markdown, with
//!
//! - `{{name}}`: a value, such as the NHS number of a child of the scene; `{{calls read create}}`: a table of the calls of
//!   these interactions; `{{parameters Flag}}`: a table of a type's search parameters;
//! - a code block ```` ```call WHO STATUS OPTIONS````: a request line, headers, and after an empty line the body. The call
//!   is made, its status must be that, and request and response are shown. Options: `hidden` shows nothing,
//!   `save=name:/json/pointer` makes a value of a part of the answer, `keep=/entry:2` shows the first of a list,
//!   `cut=/json/pointer` leaves a part out, `body=name:/json/pointer` makes a value of a part of what is sent, `later=30`
//!   moves the clock by minutes beforehand;
//! - a code block ```` ```notified N````: the notifier works, and the first N of what reached the authority's endpoint are
//!   shown.

use std::{collections::HashMap, fmt::Write as _};

use chrono::TimeDelta;
use cpis_gateway::cpis::types::upload::{FileCode, RecordCode};
use serde_json::Value;

use super::{
    scene::{self, Scene},
    shown::{CUT, ROOT, Settled, without_token_tails},
    tables::Tables,
};
use crate::{
    harness::{Reply, Request, TestApp},
    notify::Receiver,
};

/// Where the authority takes notifications, on the pages.
const HOOK: &str = "https://hook.westmarch.example/cpis";

pub struct Page {
    app: TestApp,
    hook: Receiver,
    /// Notifications that were shown.
    notified: usize,
    values: HashMap<String, String>,
    tables: Tables,
    settled: Settled,
    /// For messages.
    name: String,
}

/// The first line of a block `call`.
#[derive(Default)]
struct Options<'a> {
    who: &'a str,
    status: u16,
    hidden: bool,
    body: Option<(&'a str, &'a str)>,
    save: Vec<(&'a str, &'a str)>,
    keep: Vec<(&'a str, usize)>,
    cut: Vec<&'a str>,
    later: i64,
}

impl<'a> Options<'a> {
    fn read(line: &'a str) -> Self {
        let mut words = line.split_whitespace();
        let who = words.next().expect("who calls");
        let status = words.next().and_then(|status| status.parse().ok()).expect("the status that comes");
        let mut options = Self { who, status, ..Self::default() };
        for word in words {
            let (name, value) = word.split_once('=').unwrap_or((word, ""));
            let pair = || value.split_once(':').expect("two parts");
            match name {
                "hidden" => options.hidden = true,
                "body" => options.body = Some(pair()),
                "save" => options.save.push(pair()),
                "keep" => options.keep.push((pair().0, pair().1.parse().expect("a number"))),
                "cut" => options.cut.push(value),
                "later" => options.later = value.parse().expect("minutes"),
                _ => panic!("there is no option {name}"),
            }
        }
        options
    }
}

impl Page {
    /// # Panics
    /// When a call is answered with another status than the template says.
    pub async fn make(name: &str, template: &str, scene: Scene) -> String {
        let app = scene.start().await;
        let hook = Receiver::start();
        let addresses = vec![(app.root.clone(), ROOT.to_owned()), (format!("{}/cpis", hook.base), HOOK.to_owned())];
        let mut page = Self {
            values: values(name, &app, &hook),
            tables: Tables::of(&app).await,
            settled: Settled::new(addresses),
            name: name.to_owned(),
            notified: 0,
            app,
            hook,
        };
        let mut made = String::new();
        let mut lines = template.lines();
        while let Some(line) = lines.next() {
            if let Some(count) = line.strip_prefix("```notified ") {
                let _end = lines.next();
                made.push_str(&page.notified(count.parse().expect("a number")).await);
            } else if let Some(options) = line.strip_prefix("```call ") {
                let text: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
                made.push_str(&page.call(&Options::read(options), &text.join("\n")).await);
            } else {
                made.push_str(&page.filled(line));
                made.push('\n');
            }
        }
        // Where nothing was shown no gap is left.
        while made.contains("\n\n\n") {
            made = made.replace("\n\n\n", "\n\n");
        }
        made
    }

    /// With the values in their places.
    fn filled(&self, text: &str) -> String {
        let mut parts = text.split("{{");
        let mut filled = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            let (name, after) = part.split_once("}}").expect("an end of the name");
            let mut words = name.split(' ');
            let of = match (words.next(), self.values.get(name)) {
                (Some("calls"), _) => self.tables.calls(&words.collect::<Vec<_>>()),
                (Some("parameters"), _) => self.tables.parameters(words.next().expect("a type")),
                (_, Some(value)) => value.clone(),
                _ => panic!("{}: there is no value {name}", self.name),
            };
            filled.push_str(&of);
            filled.push_str(after);
        }
        filled
    }

    async fn call(&mut self, options: &Options<'_>, text: &str) -> String {
        self.app.clock.advance(TimeDelta::minutes(options.later));
        let text = self.filled(text);
        let (head, body) = text.split_once("\n\n").unwrap_or((&text, ""));
        let mut head = head.lines();
        let (method, path) = head.next().and_then(|line| line.split_once(' ')).expect("a method and a path");
        let headers: Vec<(&str, &str)> = head.map(|line| line.split_once(": ").expect("a header")).collect();
        let has = |name: &str| headers.iter().any(|(known, _)| known.eq_ignore_ascii_case(name));
        let (who, caller) = if has("authorization") { ("", self.app.anonymous()) } else { self.caller(options.who) };
        let request = headers.iter().fold(caller, |request, (name, value)| request.header(name, value));
        let kind =
            if path.ends_with("/_search") { "application/x-www-form-urlencoded" } else { "application/fhir+json" };
        let sent = (!body.is_empty()).then(|| (kind, body.as_bytes().to_vec()));
        let reply = request.send(method, path, sent).await;
        assert_eq!(reply.status, options.status, "{}: {method} {path}: {}", self.name, reply.text);
        for (name, pointer) in &options.save {
            let value = reply.json.pointer(pointer).and_then(Value::as_str).expect("a text to save");
            self.values.insert((*name).to_owned(), value.to_owned());
        }
        if let Some((name, pointer)) = options.body {
            let json: Value = serde_json::from_str(body).expect("a body");
            self.values.insert(name.to_owned(), json.pointer(pointer).expect("a part of the body").to_string());
        }
        if options.hidden {
            return String::new();
        }

        let mut sent = format!("{method} {}", self.target(path));
        if !who.is_empty() {
            let _ = write!(sent, "\nAuthorization: Bearer {{{who}}}");
        }
        if !body.is_empty() && !has("content-type") {
            let _ = write!(sent, "\nContent-Type: {kind}");
        }
        headers.iter().for_each(|(name, value)| sent.push_str(&format!("\n{name}: {value}")));
        let mut shown = block("http", &self.settled.text(&sent));
        if !body.is_empty() {
            shown.push_str(&match serde_json::from_str(body) {
                Ok(json) => block("json", &self.settled.json(&json)),
                Err(_) => block("text", &self.settled.text(body)),
            });
        }
        shown.push('\n');
        shown.push_str(&block("http", &self.settled.head(&reply, has("x-request-id"))));
        if !reply.json.is_null() {
            shown.push_str(&block("json", &self.settled.json(&parts(reply, options))));
        }
        shown
    }

    /// The path as it goes over the wire; templates write it below the FHIR base, or below the root after `//`.
    fn target(&self, path: &str) -> String {
        match (path.strip_prefix(self.app.root.as_str()), path.strip_prefix('/')) {
            (Some(below), _) => below.to_owned(),
            (None, Some(rooted)) if rooted.starts_with('/') => rooted.to_owned(),
            _ => format!("{}{path}", self.app.settings().base_path),
        }
    }

    /// What the page calls the caller's token, and the caller.
    fn caller(&self, who: &str) -> (&'static str, Request<'_>) {
        let (role, which) = who.split_once(':').unwrap_or((who, ""));
        match (role, which) {
            ("clinician", "") => ("clinician's token", self.app.clinician()),
            ("clinician", user) => ("clinician's token", self.app.clinician_named(user)),
            ("scheduled", "") => ("clinician's token", self.app.caller("role=clinical", "organization=ZZ141")),
            ("authority", "") => ("authority's token", self.app.authority("Z9A")),
            ("authority", ods) => ("other authority's token", self.app.authority(ods)),
            ("auditor", "") => ("auditor's token", self.app.auditor()),
            ("administrator", "") => ("administrator's token", self.app.administrator()),
            ("anybody", "") => ("", self.app.anonymous()),
            _ => panic!("{}: there is no caller {who}", self.name),
        }
    }

    async fn notified(&mut self, count: usize) -> String {
        self.app.app.notifier.pump().await.expect("the notifier works");
        let arrived = self.hook.got("/cpis");
        assert!(arrived.len() >= self.notified + count, "{}: fewer notifications came", self.name);
        let mut shown = String::new();
        for (_, authorization, body) in &arrived[self.notified..self.notified + count] {
            let head = format!("POST {HOOK}\nAuthorization: {authorization}\nContent-Type: application/fhir+json");
            shown.push_str(&block("http", &head));
            shown.push_str(&block("json", &self.settled.json(body)));
        }
        self.notified = arrived.len();
        shown
    }
}

fn block(language: &str, text: &str) -> String {
    format!("```{language}\n{text}\n```\n")
}

/// The answer without what the options leave out.
fn parts(reply: Reply, options: &Options<'_>) -> Value {
    let mut json = reply.json;
    without_token_tails(&mut json);
    for (pointer, count) in &options.keep {
        let list = json.pointer_mut(pointer).and_then(Value::as_array_mut).expect("a list to keep the first of");
        assert!(list.len() > *count, "{pointer} has nothing to leave out");
        list.truncate(*count);
        list.push(Value::from(CUT));
    }
    for pointer in &options.cut {
        *json.pointer_mut(pointer).expect("a part to leave out") = Value::from(CUT);
    }
    json
}

/// What a page says of itself to whoever wants to change it.
fn made_by(name: &str) -> String {
    format!(
        "<!-- Made from tests/it/api_pages/{name}.md by calls to a gateway. Change that, then run\n     \
         CPIS_WRITE_DOCS=1 cargo test --test it api_pages:: -->"
    )
}

fn values(name: &str, app: &TestApp, hook: &Receiver) -> HashMap<String, String> {
    let settings = app.settings();
    let mebibytes = settings.upload.body_bytes as f64 / f64::from(1 << 20);
    let mut values: HashMap<String, String> = [
        ("base", format!("{ROOT}{}", settings.base_path)),
        // What a resource here is called; `base` is for prose.
        ("base-here", app.base.clone()),
        ("nhs-number", "https://fhir.nhs.uk/Id/nhs-number".to_owned()),
        ("ods-code", "https://fhir.nhs.uk/Id/ods-organization-code".to_owned()),
        ("plan-id", "urn:oid:2.16.840.1.113883.2.1.3.2.4.18.24".to_owned()),
        ("hook", format!("{}/cpis", hook.base)),
        ("topic", format!("{}/SubscriptionTopic/cpis-access", app.base)),
        ("max-entries", settings.upload.max_entries.to_string()),
        ("max-body", format!("{mebibytes} MB")),
        ("history-rows", settings.access.history_rows.to_string()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into();
    values.insert("made".to_owned(), made_by(name));
    values.extend(scene::children().map(|(name, child)| (name.to_owned(), child.nhs().to_owned())));
    use RecordCode::{Cpr01, Cpr02, Cpr03, Cpr04, Cpr05, Cpr06, Cpr07};
    let records = [Cpr01, Cpr02, Cpr03, Cpr04, Cpr05, Cpr06, Cpr07];
    values.extend(records.map(|code| (code.code().to_owned(), code.display().to_owned())));
    let files = [FileCode::Cpf01, FileCode::Cpf02, FileCode::Cpf03, FileCode::Cpf04, FileCode::Cpf05];
    values.extend(files.map(|code| (code.code().to_owned(), code.display().to_owned())));
    values
}
