//! What was sent and answered, as a page shows it: JSON as people write FHIR, and ids, addresses, cursors and token parts
//! that look the same each time.

use std::{collections::HashMap, fmt::Write as _};

use serde_json::Value;

use crate::harness::Reply;

/// Address of the gateway on the pages.
pub const ROOT: &str = "http://127.0.0.1:8080";
/// Stands for what was left out.
pub const CUT: &str = "…";

/// Headers that say nothing of the interaction.
const PLAIN: [&str; 4] = ["date", "content-length", "x-request-id", "connection"];

/// Texts that differ from run to run, each with what a page has in its place.
pub struct Settled {
    ids: HashMap<String, usize>,
    addresses: Vec<(String, String)>,
}

impl Settled {
    pub fn new(addresses: Vec<(String, String)>) -> Self {
        Self { ids: HashMap::new(), addresses }
    }

    /// The first id becomes `...0001`, whatever the gateway gave; a cursor `{cursor}`, and a tag that is no version, made
    /// from content with the gateway's address in it, `{hash}`.
    pub fn text(&mut self, text: &str) -> String {
        let text = self.addresses.iter().fold(text.to_owned(), |text, (own, shown)| text.replace(own, shown));
        let (mut out, mut rest) = (String::with_capacity(text.len()), text.as_str());
        while let Some(next) = rest.chars().next() {
            if let Some(id) = rest.get(..36).filter(|id| uuid::Uuid::parse_str(id).is_ok()) {
                let number = self.ids.len() + 1;
                let number = *self.ids.entry(id.to_owned()).or_insert(number);
                let _ = write!(out, "6f1d2c3b-0000-4000-8000-{number:012}");
                rest = &rest[36..];
            } else if let Some(after) = rest.strip_prefix("_cursor=") {
                out.push_str("_cursor={cursor}");
                rest = after.trim_start_matches(|c: char| c.is_ascii_alphanumeric() || "-_%".contains(c));
            } else if let Some(after) = rest.strip_prefix("W/\"").filter(|after| is_hash(after)) {
                out.push_str("W/\"{hash}");
                rest = &after[HASH..];
            } else {
                out.push(next);
                rest = &rest[next.len_utf8()..];
            }
        }
        out
    }

    /// Status line and headers. `X-Request-ID` is shown when the request had one: then it is no random id.
    pub fn head(&mut self, reply: &Reply, with_request_id: bool) -> String {
        let status = actix_web::http::StatusCode::from_u16(reply.status).expect("a status");
        let mut head = format!("HTTP/1.1 {} {}", reply.status, status.canonical_reason().unwrap_or_default());
        let mut headers: Vec<(&str, &str)> =
            reply.headers.iter().map(|(name, value)| (name.as_str(), value.to_str().expect("a text"))).collect();
        headers.sort_unstable();
        for (name, value) in headers {
            if !PLAIN.contains(&name) || (with_request_id && name == "x-request-id") {
                let _ = write!(head, "\n{}: {value}", spelled(name));
            }
        }
        self.text(&head)
    }

    pub fn json(&mut self, body: &Value) -> String {
        self.text(&readable(body, 0))
    }
}

/// Characters of a tag that is no version.
const HASH: usize = 32;

fn is_hash(text: &str) -> bool {
    text.get(..HASH).is_some_and(|tag| tag.bytes().all(|b| b.is_ascii_hexdigit()))
}

/// `www-authenticate` as `WWW-Authenticate`.
fn spelled(name: &str) -> String {
    if name == "etag" {
        return "ETag".to_owned();
    }
    let word = |word: &str| match word {
        "www" | "id" => word.to_uppercase(),
        _ => word[..1].to_uppercase() + &word[1..],
    };
    name.split('-').map(word).collect::<Vec<_>>().join("-")
}

/// Takes out the last characters of tokens, which are other ones each time.
pub fn without_token_tails(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(without_token_tails),
        Value::Object(members) => {
            for (name, value) in members {
                if name == "policy" {
                    *value = Value::from(vec![CUT]);
                } else {
                    without_token_tails(value);
                }
            }
        }
        _ => {}
    }
}

/// Characters of a line.
const WIDTH: usize = 110;

/// The elements that come first, in this order; the others follow by name.
const FIRST: [&str; 12] = [
    "resourceType",
    "id",
    "meta",
    "type",
    "fullUrl",
    "request",
    "status",
    "severity",
    "system",
    "version",
    "code",
    "start",
];

/// JSON as people write FHIR: the type first, on one line what fits there, and no line for a bracket of a single item.
fn readable(value: &Value, indent: usize) -> String {
    let flat = flat(value);
    if flat.len() + indent <= WIDTH {
        return flat;
    }
    let member = |name: &str, value: &Value, indent: usize| format!("\"{name}\": {}", readable(value, indent));
    let (open, parts, close) = match (value, in_order(value).as_slice()) {
        (Value::Object(_), [(name, only)]) if !only.is_string() => {
            return format!("{{{}}}", member(name, only, indent));
        }
        (Value::Object(_), members) => {
            ('{', members.iter().map(|(name, value)| member(name, value, indent + 2)).collect::<Vec<_>>(), '}')
        }
        (Value::Array(items), _) => match items.as_slice() {
            [only] if !only.is_string() => return format!("[{}]", readable(only, indent)),
            _ => ('[', items.iter().map(|item| readable(item, indent + 2)).collect(), ']'),
        },
        _ => return flat,
    };
    let inner = format!("\n{}", " ".repeat(indent + 2));
    format!("{open}{inner}{}\n{}{close}", parts.join(&format!(",{inner}")), " ".repeat(indent))
}

fn flat(value: &Value) -> String {
    match value {
        Value::Object(_) => {
            let parts: Vec<String> =
                in_order(value).into_iter().map(|(name, value)| format!("\"{name}\": {}", flat(value))).collect();
            format!("{{{}}}", parts.join(", "))
        }
        Value::Array(items) => format!("[{}]", items.iter().map(flat).collect::<Vec<_>>().join(", ")),
        Value::String(text) if text == CUT => CUT.to_owned(),
        other => other.to_string(),
    }
}

fn in_order(object: &Value) -> Vec<(&String, &Value)> {
    let mut elements: Vec<(&String, &Value)> = object.as_object().into_iter().flatten().collect();
    elements.sort_by_key(|(name, _)| (FIRST.iter().position(|first| first == name).unwrap_or(FIRST.len()), *name));
    elements
}
