//! Strict JSON: what one reader may understand differently from the next is refused, not guessed.
//! Duplicate keys, nesting below 64 levels, broken UTF-8 and anything after the value are faults.

use std::{
    cell::{Cell, RefCell},
    fmt,
};

use openssl::sha::Sha256;
use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use super::outcome::{Issue, IssueCode, SpineCode};

/// Deepest nesting of objects and lists that is read; R4 resources that CP-IS takes need fewer than 20.
pub const MAX_DEPTH: usize = 64;

/// Most values (objects, lists and what is in them) of one resource; those that CP-IS takes need fewer than 200.
/// Judging a value costs time even when it is refused.
pub const RESOURCE_VALUES: usize = 5_000;
/// Most values of a Bundle that is read as a whole: over 100 for each of 500 entries.
pub const BUNDLE_VALUES: usize = 60_000;
/// Most values of an upload Bundle: over 100 for each of its 20,000 entries.
pub const UPLOAD_VALUES: usize = 2_400_000;

/// What is wrong with a JSON text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultKind {
    NotUtf8,
    Syntax,
    /// The text ends before the value does.
    Truncated,
    DuplicateKey,
    TooDeep,
    /// More values than a resource can need.
    TooMany,
    /// Something follows the value.
    TrailingText,
    /// More entries than a Bundle may have.
    TooManyEntries,
}

/// A fault, with where it is and never with what was sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{} at line {line}, column {column}", self.kind.words())]
pub struct JsonFault {
    pub kind: FaultKind,
    /// From 1.
    pub line: usize,
    /// From 1, in bytes; 0 when the fault is the end of the line before.
    pub column: usize,
    /// Such as `Flag.period`; `None` when `resourceType` had not been read by then.
    pub expression: Option<String>,
}

impl FaultKind {
    fn words(self) -> &'static str {
        match self {
            Self::NotUtf8 => "The body is not UTF-8",
            Self::Syntax => "The body is not valid JSON",
            Self::Truncated => "The JSON ends too early",
            Self::DuplicateKey => "A JSON property is given twice in one object",
            Self::TooDeep => "The JSON is nested deeper than 64 levels",
            Self::TooMany => "The JSON holds more values than such a resource can need",
            Self::TrailingText => "There is more text after the end of the JSON",
            Self::TooManyEntries => "The Bundle has more entries than it may have",
        }
    }
}

impl JsonFault {
    /// The fault for a caller: 400.
    pub fn issue(&self) -> Issue {
        let issue = Issue::error(IssueCode::Structure, SpineCode::ValidationError, format!("{self}."));
        match &self.expression {
            Some(expression) => issue.at(expression.clone()),
            None => issue,
        }
    }
}

/// Reads one JSON value that holds at most `most` values, such as [`RESOURCE_VALUES`].
///
/// # Errors
/// [`JsonFault`] at the first fault.
pub fn parse(bytes: &[u8], most: usize) -> Result<Value, JsonFault> {
    read(bytes, Reader { left: Cell::new(most), ..Reader::default() })
}

/// [`parse`] for a Bundle: each of its entries, which may hold as many values as a resource, is given to `keep` with its
/// position as soon as it is read, and what that returns is in the value instead.
///
/// # Errors
/// [`JsonFault`] at the first fault, or of the kind that `keep` returns.
pub fn parse_entries(bytes: &[u8], most: usize, keep: &mut Keep<'_>) -> Result<Value, JsonFault> {
    read(bytes, Reader { left: Cell::new(most), keep: Some(RefCell::new(keep)), ..Reader::default() })
}

/// What is done with an entry.
type Keep<'a> = dyn FnMut(usize, Value) -> Result<Value, FaultKind> + 'a;

/// A hash of what a value says, whatever the order of names and the white space that it was sent with.
pub fn digest(value: &Value) -> [u8; 32] {
    let mut sha = Sha256::new();
    feed(&mut sha, value);
    sha.finish()
}

fn feed(sha: &mut Sha256, value: &Value) {
    let mut text = |kind: u8, text: &str| {
        sha.update(&[kind]);
        sha.update(&text.len().to_be_bytes());
        sha.update(text.as_bytes());
    };
    match value {
        Value::Null => text(b'0', ""),
        Value::Bool(value) => text(b'b', if *value { "true" } else { "false" }),
        Value::Number(value) => text(b'n', &value.to_string()),
        Value::String(value) => text(b's', value),
        Value::Array(values) => {
            text(b'l', &values.len().to_string());
            values.iter().for_each(|value| feed(sha, value));
        }
        Value::Object(members) => {
            text(b'o', &members.len().to_string());
            let mut members: Vec<(&String, &Value)> = members.iter().collect();
            members.sort_by_key(|(name, _)| *name);
            for (name, value) in members {
                feed(sha, &Value::String(name.clone()));
                feed(sha, value);
            }
        }
    }
}

fn read(bytes: &[u8], reader: Reader<'_, '_>) -> Result<Value, JsonFault> {
    let text = std::str::from_utf8(bytes).map_err(|e| {
        let before = bytes.get(..e.valid_up_to()).unwrap_or_default();
        let line = before.iter().filter(|b| **b == b'\n').count() + 1;
        let column = before.iter().rev().take_while(|b| **b != b'\n').count() + 1;
        JsonFault { kind: FaultKind::NotUtf8, line, column, expression: None }
    })?;
    let mut deserializer = serde_json::Deserializer::from_str(text);
    match (&reader).deserialize(&mut deserializer) {
        Ok(value) => match deserializer.end() {
            Ok(()) => Ok(value),
            Err(error) => Err(Reader::default().fault(&error, FaultKind::TrailingText)),
        },
        Err(error) if error.is_eof() => Err(reader.fault(&error, FaultKind::Truncated)),
        Err(error) => Err(reader.fault(&error, FaultKind::Syntax)),
    }
}

enum Step {
    Field(String),
    Index(usize),
}

/// Where the reading is. On a fault the path stays as it was, and says where.
#[derive(Default)]
struct Reader<'k, 'f> {
    path: RefCell<Vec<Step>>,
    resource_type: RefCell<Option<String>>,
    fault: RefCell<Option<FaultKind>>,
    /// Values that may still come.
    left: Cell<usize>,
    /// Of the entry that is being read.
    left_of_entry: Cell<Option<usize>>,
    keep: Option<RefCell<&'k mut Keep<'f>>>,
}

impl Reader<'_, '_> {
    fn refuse<E: de::Error>(&self, kind: FaultKind) -> E {
        *self.fault.borrow_mut() = Some(kind);
        E::custom("refused")
    }

    /// Refuses an object or list that lies too deep; each level above it is one step of the path.
    fn judge_depth<E: de::Error>(&self) -> Result<(), E> {
        if self.path.borrow().len() >= MAX_DEPTH { Err(self.refuse(FaultKind::TooDeep)) } else { Ok(()) }
    }

    /// Counts a value that begins.
    fn count<E: de::Error>(&self) -> Result<(), E> {
        let of_entry = self.left_of_entry.get().map(|left| left.checked_sub(1));
        match (self.left.get().checked_sub(1), of_entry) {
            (None, _) | (_, Some(None)) => Err(self.refuse(FaultKind::TooMany)),
            (Some(left), of_entry) => {
                self.left.set(left);
                self.left_of_entry.set(of_entry.flatten());
                Ok(())
            }
        }
    }

    /// Whether what is read now is in the list of a Bundle's entries.
    fn is_entry(&self) -> bool {
        self.keep.is_some()
            && matches!(self.path.borrow().as_slice(), [Step::Field(name), Step::Index(_)] if name == "entry")
    }

    /// An entry that was read whole, as it is kept.
    fn kept<E: de::Error>(&self, entry: usize, value: Value) -> Result<Value, E> {
        self.left_of_entry.set(None);
        match &self.keep {
            Some(keep) => (keep.borrow_mut())(entry, value).map_err(|kind| self.refuse(kind)),
            None => Ok(value),
        }
    }

    fn enter(&self, step: Step) {
        self.path.borrow_mut().push(step);
    }

    fn leave(&self) {
        self.path.borrow_mut().pop();
    }

    fn fault(&self, error: &serde_json::Error, otherwise: FaultKind) -> JsonFault {
        let kind = self.fault.borrow().unwrap_or(otherwise);
        JsonFault { kind, line: error.line(), column: error.column(), expression: self.expression() }
    }

    /// Up to the first name that is not one of FHIR's kind: a name that was sent may be anything.
    fn expression(&self) -> Option<String> {
        let mut expression = self.resource_type.borrow().clone()?;
        for step in self.path.borrow().iter() {
            match step {
                Step::Field(name) if is_element_name(name) => {
                    expression.push('.');
                    expression.push_str(name);
                }
                Step::Field(_) => break,
                Step::Index(index) => expression.push_str(&format!("[{index}]")),
            }
        }
        Some(expression)
    }
}

/// True for a name that FHIR could give to an element or type: ASCII letters and at most a few digits, so that
/// neither a number nor a sentence gets into a message.
pub(crate) fn is_element_name(name: &str) -> bool {
    let bare = name.strip_prefix('_').unwrap_or(name);
    bare.starts_with(|c: char| c.is_ascii_alphabetic())
        && bare.len() <= 40
        && bare.bytes().all(|b| b.is_ascii_alphanumeric())
        && bare.bytes().filter(u8::is_ascii_digit).count() <= 2
}

impl<'de> DeserializeSeed<'de> for &Reader<'_, '_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        self.count()?;
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for &Reader<'_, '_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| self.refuse(FaultKind::Syntax))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
        self.judge_depth()?;
        let mut values = Vec::new();
        loop {
            self.enter(Step::Index(values.len()));
            let is_entry = self.is_entry();
            if is_entry {
                self.left_of_entry.set(Some(RESOURCE_VALUES));
            }
            let Some(value) = list.next_element_seed(self)? else { break };
            let value = if is_entry { self.kept(values.len(), value)? } else { value };
            self.leave();
            values.push(value);
        }
        self.left_of_entry.set(self.left_of_entry.get().filter(|_| !self.is_entry()));
        self.leave();
        Ok(Value::Array(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Value, A::Error> {
        self.judge_depth()?;
        let mut values = Map::new();
        while let Some(name) = object.next_key::<String>()? {
            self.enter(Step::Field(name.clone()));
            if values.contains_key(&name) {
                return Err(self.refuse(FaultKind::DuplicateKey));
            }
            let value = object.next_value_seed(self)?;
            self.leave();
            if self.path.borrow().is_empty() && name == "resourceType" {
                let known = value.as_str().filter(|t| is_element_name(t)).map(str::to_owned);
                *self.resource_type.borrow_mut() = known;
            }
            values.insert(name, value);
        }
        Ok(Value::Object(values))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn fault(text: &str) -> (FaultKind, usize, usize, Option<String>) {
        let fault = parse(text.as_bytes(), RESOURCE_VALUES).unwrap_err();
        (fault.kind, fault.line, fault.column, fault.expression)
    }

    #[test]
    fn a_duplicate_key_is_found_at_any_depth() {
        let text = "{\"resourceType\":\"Flag\",\n \"period\":{\"start\":\"2026-01-01\",\"start\":\"2026-01-02\"}}";
        let (kind, line, _, expression) = fault(text);
        assert_eq!((kind, line, expression.as_deref()), (FaultKind::DuplicateKey, 2, Some("Flag.period.start")));
        let (kind, _, _, expression) = fault(r#"{"resourceType":"Patient","name":[{"given":["a"]},{"x":1,"x":1}]}"#);
        assert_eq!((kind, expression.as_deref()), (FaultKind::DuplicateKey, Some("Patient.name[1].x")));
        let (kind, _, _, expression) = fault(r#"{"a":1,"a":2}"#);
        assert_eq!((kind, expression), (FaultKind::DuplicateKey, None));
        // The same name spelt with an escape is the same name.
        assert_eq!(fault(r#"{"a":1,"\u0061":2}"#).0, FaultKind::DuplicateKey);
    }

    #[test]
    fn sixty_four_levels_are_read_and_no_more() {
        let nested = |levels: usize| format!("{}1{}", "[".repeat(levels), "]".repeat(levels));
        assert!(parse(nested(MAX_DEPTH).as_bytes(), RESOURCE_VALUES).is_ok());
        assert_eq!(fault(&nested(MAX_DEPTH + 1)).0, FaultKind::TooDeep);
        let objects = |levels: usize| format!("{}1{}", "{\"a\":".repeat(levels), "}".repeat(levels));
        assert!(parse(objects(MAX_DEPTH).as_bytes(), RESOURCE_VALUES).is_ok());
        assert_eq!(fault(&objects(MAX_DEPTH + 1)).0, FaultKind::TooDeep);
        assert_eq!(fault(&"[".repeat(100_000)).0, FaultKind::TooDeep);
        let empty = |levels: usize| format!("{}{{}}{}", "[".repeat(levels - 1), "]".repeat(levels - 1));
        assert!(parse(empty(MAX_DEPTH).as_bytes(), RESOURCE_VALUES).is_ok());
        assert_eq!(fault(&empty(MAX_DEPTH + 1)).0, FaultKind::TooDeep);
    }

    #[test]
    fn broken_texts_are_refused_with_their_place() {
        assert_eq!(fault("{\"resourceType\":\"Flag\",\n\"id\": }").0, FaultKind::Syntax);
        assert_eq!(fault("{} {}"), (FaultKind::TrailingText, 1, 4, None));
        assert_eq!(fault("").0, FaultKind::Truncated);
        assert_eq!(fault("{\"resourceType\":\"Flag\",\"id\":").0, FaultKind::Truncated);
        for bad in
            ["{'a':1}", "[1,]", "{\"a\":1,}", "NaN", "01", "\"\\ud800\"", "// x\n1", "\u{feff}{}", "1e999", "\"\t\""]
        {
            assert_eq!(fault(bad).0, FaultKind::Syntax, "{bad}");
        }
        let bytes = b"{\n\"a\": \"\xff\"}";
        let fault = parse(bytes, RESOURCE_VALUES).unwrap_err();
        assert_eq!((fault.kind, fault.line, fault.column), (FaultKind::NotUtf8, 2, 7));
    }

    #[test]
    fn no_fault_echoes_what_was_sent() {
        for text in [
            r#"{"resourceType":"Patient","9990000018":{"a":1,"a":2}}"#,
            r#"{"resourceType":"Patient","id":"9990000018","id":"9990000018"}"#,
            r#"{"resourceType":"9990000018","a":1,"a":1}"#,
            r#"{"resourceType":"Patient","family":9990000018x}"#,
        ] {
            let fault = parse(text.as_bytes(), RESOURCE_VALUES).unwrap_err();
            let said = format!("{fault} {fault:?} {:?}", fault.issue());
            assert!(!said.contains("9990000018"), "{said}");
        }
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            "\\PC{0,12}".prop_map(Value::from)
        ];
        leaf.prop_recursive(5, 64, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                prop::collection::btree_map("\\PC{0,8}", inner, 0..6)
                    .prop_map(|map| Value::Object(map.into_iter().collect()))
            ]
        })
    }

    proptest! {
        #[test]
        fn every_json_value_is_read_back(value in any_json()) {
            prop_assert_eq!(parse(value.to_string().as_bytes(), RESOURCE_VALUES), Ok(value));
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&bytes, RESOURCE_VALUES);
        }
    }

    #[test]
    fn numbers_keep_their_kind() {
        assert_eq!(
            parse(b"[1, -1, 1.5, 18446744073709551615]", RESOURCE_VALUES),
            Ok(json!([1, -1, 1.5, 18_446_744_073_709_551_615_u64]))
        );
    }

    #[test]
    fn more_values_than_allowed_are_refused_at_once() {
        let list = |values: usize| format!("[{}0]", "0,".repeat(values - 2));
        assert!(parse(list(100).as_bytes(), 100).is_ok());
        let fault = parse(list(101).as_bytes(), 100).map_err(|fault| fault.kind);
        assert_eq!(fault, Err(FaultKind::TooMany));
    }
}
