//! Every way in which a request is refused (design 4): the status and codes of the one table, a clear `OperationOutcome`,
//! nothing stored, nothing disclosed, and one record in the security audit when the caller is known.

mod bodies;
mod faults;
mod random;
mod requests;
mod states;
mod store_down;
mod unscheduled;

use serde_json::Value;

use crate::harness::{Backend, CPP, Child, LAC, Reply, Request, TestApp, child, number};

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    Nobody,
    Clinician,
    /// A clinical user whose role has none of the activity codes of CP-IS.
    WithoutActivity,
    /// `Z9A`.
    Authority,
    Auditor,
    Administrator,
}

/// One request and how it is refused. In path, headers and body `{nhs}` stands for the number of a child on record, `{flag}`
/// for a plan of `Z9A`, `{other}` for one of `Z9B`, `{deleted}` for one that `Z9A` deleted, `{unknown}` for a valid number
/// without a record.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    pub who: Who,
    pub method: &'static str,
    /// Below the FHIR base; below the root when it begins with `//`.
    pub path: &'static str,
    pub headers: &'static [(&'static str, &'static str)],
    /// Content type and body.
    pub body: Option<(&'static str, &'static str)>,
    /// Status, issue code, Spine code.
    pub expected: (u16, &'static str, &'static str),
    /// What the diagnostics must name.
    pub says: &'static str,
    /// Whether the audit can tell whom `{nhs}` in path or form is meant to be.
    names_patient: bool,
}

pub const FHIR: &str = "application/fhir+json";
pub const FORM: &str = "application/x-www-form-urlencoded";

impl Row {
    pub const fn new(
        who: Who,
        method: &'static str,
        path: &'static str,
        expected: (u16, &'static str, &'static str),
    ) -> Self {
        Self { who, method, path, headers: &[], body: None, expected, says: "", names_patient: true }
    }

    pub const fn with(self, headers: &'static [(&'static str, &'static str)]) -> Self {
        Self { headers, ..self }
    }

    pub const fn sending(self, kind: &'static str, body: &'static str) -> Self {
        Self { body: Some((kind, body)), ..self }
    }

    /// The number is where no patient can be read from it, or there is more than one.
    pub const fn naming_nobody(self) -> Self {
        Self { names_patient: false, ..self }
    }

    pub const fn saying(self, says: &'static str) -> Self {
        Self { says, ..self }
    }
}

/// A gateway with a child on record by two authorities.
pub struct World {
    pub app: TestApp,
    pub child: Child,
    unknown: String,
    flag: String,
    other: String,
    deleted: String,
}

impl World {
    pub async fn start(backend: Backend) -> Self {
        Self::of(TestApp::start(backend).await).await
    }

    pub async fn of(app: TestApp) -> Self {
        // Not the number that messages take as their example.
        let child = child(41);
        let plans =
            [("Z9A", CPP, "2026-09-14", None), ("Z9B", CPP, "2026-09-21", None), ("Z9A", LAC, "2026-10-01", None)];
        app.on_record(&child, &plans).await;
        let of = async |authority: &str, code: &str| {
            let flags = app.authority(authority).get(&format!("/Flag?patient={}", child.nhs())).await;
            let flags = flags.resources("Flag");
            let flag = flags.iter().find(|flag| flag["code"].to_string().contains(code)).expect("the flag");
            flag["id"].as_str().expect("an id").to_owned()
        };
        let (flag, other, deleted) = (of("Z9A", CPP).await, of("Z9B", CPP).await, of("Z9A", LAC).await);
        let reply = app.authority("Z9A").delete(&format!("/Flag/{deleted}")).await;
        assert_eq!(reply.status, 204, "{}", reply.text);
        let unknown = number(77).as_str().to_owned();
        Self { app, child, unknown, flag, other, deleted }
    }

    pub fn fill(&self, text: &str) -> String {
        text.replace("{nhs}", self.child.nhs())
            .replace("{unknown}", &self.unknown)
            .replace("{flag}", &self.flag)
            .replace("{other}", &self.other)
            .replace("{deleted}", &self.deleted)
    }

    pub fn caller(&self, who: Who) -> Request<'_> {
        match who {
            Who::Nobody => self.app.anonymous(),
            Who::Clinician => self.app.clinician(),
            Who::WithoutActivity => self.app.caller("role=clinical", "activity=B0001"),
            Who::Authority => self.app.authority("Z9A"),
            Who::Auditor => self.app.auditor(),
            Who::Administrator => self.app.administrator(),
        }
    }

    pub async fn ask(&self, row: &Row) -> Reply {
        let mut request = self.caller(row.who);
        for (name, value) in row.headers {
            request = request.header(name, &self.fill(value));
        }
        let body = row.body.map(|(kind, body)| (kind, self.fill(body).into_bytes()));
        request.send(row.method, &self.fill(row.path), body).await
    }

    /// Asserts that each row is refused as it says, discloses nothing, stores nothing and is audited. Rows that are
    /// answered otherwise are told together.
    pub async fn assert_refused(&self, rows: &[Row]) {
        let mut otherwise = Vec::new();
        for row in rows {
            let before = self.app.stored();
            let reply = self.ask(row).await;
            let issue = reply.json["issue"][0]["code"].as_str().unwrap_or_default();
            let spine = reply.spine_codes().into_iter().next().unwrap_or_default();
            if (reply.status, issue, spine.as_str()) != row.expected || !reply.text.contains(row.says) {
                otherwise.push(format!("{row:?}\n  {} {}", reply.status, reply.text));
                continue;
            }
            reply.assert_refused(row.expected.0, row.expected.1, row.expected.2);
            self.assert_nothing_disclosed(row, &reply);
            assert_eq!(self.app.stored(), before, "something was stored: {row:?}\n{}", reply.text);
            self.assert_audited(row, &reply).await;
        }
        assert!(otherwise.is_empty(), "answered otherwise:\n{}", otherwise.join("\n"));
    }

    fn assert_nothing_disclosed(&self, row: &Row, reply: &Reply) {
        let body = row.body.map(|(_, body)| body).unwrap_or_default();
        let headers = row.headers.iter().map(|(_, value)| *value).collect::<Vec<_>>().join(" ");
        let sent = self.fill(&format!("{} {headers} {body}", row.path));
        let told = reply.text.as_str();
        for digits in sent.split(|c: char| !c.is_ascii_digit()).filter(|digits| digits.len() >= 9) {
            assert!(!told.contains(digits), "a number is echoed: {row:?}\n{told}");
        }
        assert_tells_nothing_of(&self.child, reply);
        assert_eq!(reply.header("cache-control"), "no-store", "{row:?}");
        for name in ["etag", "location", "last-modified", "content-location"] {
            assert_eq!(reply.header(name), "", "{row:?}");
        }
    }

    /// One event with outcome 4 and the Spine code for a caller who is known; none for anybody else.
    async fn assert_audited(&self, row: &Row, reply: &Reply) {
        let id = request_id(reply);
        let events = self.events_of(&id).await;
        if row.who == Who::Nobody || row.expected.0 == 401 {
            assert!(events.is_empty(), "{row:?}: {events:?}");
            return;
        }
        let told: Vec<_> = events.iter().map(|e| (e["outcome"].clone(), e["outcomeDesc"].clone())).collect();
        assert_eq!(told, [(Value::from("4"), Value::from(row.expected.2))], "{row:?}");
        let named = [row.path, row.body.filter(|(kind, _)| *kind == FORM).map_or("", |(_, body)| body)].concat();
        if named.contains("{nhs}") && row.names_patient {
            let event = events[0].to_string();
            assert!(event.contains(&format!("\"{}\"", self.child.nhs())), "the patient isn't named: {row:?}\n{event}");
        }
    }

    /// The security events of one request, as an auditor finds them.
    pub async fn events_of(&self, request_id: &str) -> Vec<Value> {
        events_of(&self.app, request_id).await
    }
}

/// The security events of one of the last requests, as an auditor finds them.
pub async fn events_of(app: &TestApp, request_id: &str) -> Vec<Value> {
    let reply = app.auditor().get("/AuditEvent?_count=12").await;
    assert_eq!(reply.status, 200, "{}", reply.text);
    let mut events = reply.resources("AuditEvent");
    events.retain(|event| {
        let entities = event["entity"].as_array().cloned().unwrap_or_default();
        entities.iter().any(|e| e["type"]["code"] == "XrequestId" && e["what"]["identifier"]["value"] == request_id)
    });
    events
}

/// The id by which a reply is traced.
pub fn request_id(reply: &Reply) -> String {
    let id = [reply.header("X-Request-ID"), reply.header("TraceID")].into_iter().find(|id| !id.is_empty());
    id.unwrap_or_else(|| panic!("the reply has no id: {reply:?}")).to_owned()
}

/// Asserts that nothing of the child, its plans or its authorities is in the reply.
pub fn assert_tells_nothing_of(child: &Child, reply: &Reply) {
    assert_names_nobody(child, reply);
    for plan in [CPP, LAC] {
        assert!(!reply.text.contains(plan), "a plan is disclosed: {}", reply.text);
    }
}

/// Asserts that neither the child nor an authority can be told from the reply; to an authority a rule may name the types
/// of plans.
pub fn assert_names_nobody(child: &Child, reply: &Reply) {
    let birth_date = child.birth_date;
    for secret in [child.nhs(), child.family, child.given, birth_date, "01632960", "WESTMARCH", "EXAMPLEFORD"] {
        assert!(!reply.text.contains(secret), "{secret} is disclosed: {}", reply.text);
        let in_headers = reply.headers.values().any(|value| String::from_utf8_lossy(value.as_bytes()).contains(secret));
        assert!(!in_headers, "{secret} is disclosed: {:?}", reply.headers);
    }
}
