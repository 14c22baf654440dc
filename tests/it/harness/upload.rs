//! Writing the entries of an upload and reading its answer.

use serde_json::{Value, json};

use super::{Child, Reply};

/// The answer to one entry of a Bundle.
#[derive(Clone, Debug)]
pub struct EntryAnswer {
    pub status: u16,
    pub etag: Option<String>,
    /// `Flag/{id}/_history/{version}`.
    pub location: Option<String>,
    pub issues: Vec<Value>,
}

const RECORD_RESPONSE: &str = "urn:oid:2.16.840.1.113883.2.1.3.2.4.17.473";
const FILE_RESPONSE: &str = "urn:oid:2.16.840.1.113883.2.1.3.2.4.17.474";
/// System of an authority's own plan ids.
pub const LOCAL_PLAN: &str = "urn:oid:2.16.840.1.113883.2.1.3.2.4.18.24";

impl EntryAnswer {
    fn of(entry: &Value) -> Self {
        let response = &entry["response"];
        let text = |name: &str| response[name].as_str().map(str::to_owned);
        Self {
            status: text("status").and_then(|status| status.get(..3)?.parse().ok()).expect("a status"),
            etag: text("etag"),
            location: text("location"),
            issues: response["outcome"]["issue"].as_array().cloned().expect("an outcome"),
        }
    }

    pub fn is_loaded(&self) -> bool {
        self.status < 300
    }

    /// CPR codes, in the order of the issues.
    pub fn record_codes(&self) -> Vec<String> {
        self.issues.iter().flat_map(|issue| codes_of(&issue["details"]["coding"], RECORD_RESPONSE)).collect()
    }

    /// The FHIR id in the location.
    pub fn id(&self) -> String {
        let location = self.location.as_deref().expect("a location");
        location.split('/').nth(1).expect("an id").to_owned()
    }

    pub fn expressions(&self) -> Vec<String> {
        let all = self.issues.iter().flat_map(|issue| issue["expression"].as_array().cloned().unwrap_or_default());
        all.map(|expression| expression.as_str().expect("a text").to_owned()).collect()
    }
}

fn codes_of(codings: &Value, system: &str) -> Vec<String> {
    let codings = codings.as_array().cloned().unwrap_or_default().into_iter();
    codings.filter(|c| c["system"] == system).map(|c| c["code"].as_str().expect("a code").to_owned()).collect()
}

impl Reply {
    /// The answers of a response Bundle, by entry.
    pub fn answers(&self) -> Vec<EntryAnswer> {
        assert_eq!(self.status, 200, "{}", self.text);
        self.json["entry"].as_array().expect("entries").iter().map(EntryAnswer::of).collect()
    }

    /// Statuses of the entries.
    pub fn statuses(&self) -> Vec<u16> {
        self.answers().iter().map(|answer| answer.status).collect()
    }

    /// The file code in `meta.tag`, of a response Bundle and of a refused file's outcome alike.
    pub fn file_code(&self) -> String {
        codes_of(&self.json["meta"]["tag"], FILE_RESPONSE).join(",")
    }
}

/// An entry; a null resource is left out.
pub fn entry(method: &str, url: &str, resource: Value) -> Value {
    let mut entry = json!({"request": {"method": method, "url": url}});
    if !resource.is_null() {
        entry["resource"] = resource;
    }
    entry
}

/// A resource with something else at one place; null takes the element away.
pub fn with(mut resource: Value, pointer: &str, value: Value) -> Value {
    let (parent, name) = pointer.rsplit_once('/').expect("a pointer");
    let parent = resource.pointer_mut(parent).and_then(Value::as_object_mut).expect("an object");
    if value.is_null() {
        parent.remove(name)
    } else {
        parent.insert(name.to_owned(), value)
    };
    resource
}

/// A Flag with the authority's own id of the plan.
pub fn with_local_id(flag: Value, local_id: &str) -> Value {
    with(flag, "/identifier", json!([{"system": LOCAL_PLAN, "value": local_id}]))
}

impl Child {
    /// Criteria that name a plan by its local id.
    pub fn criteria(&self, local_id: &str) -> String {
        format!("Flag?patient={}&identifier={LOCAL_PLAN}%7C{local_id}", self.nhs())
    }

    /// Criteria that name the plan of a type.
    pub fn criteria_with_code(&self, local_id: &str, code: &str) -> String {
        format!("{}&code=http://snomed.info/sct%7C{code}", self.criteria(local_id))
    }
}
