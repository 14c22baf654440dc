//! Requests that nobody thought of: whatever is sent, by whomever, the answer is never a fault of ours, a refusal is always
//! an `OperationOutcome`, and whoever is refused learns nothing of the child.

use proptest::{
    collection::vec,
    prelude::*,
    test_runner::{Config, TestRunner},
};
use serde_json::Value;

use super::{FHIR, FORM, Who, World, assert_tells_nothing_of};
use crate::harness::{Backend, LAC};

/// Requests thrown in a run; each is a whole HTTP exchange with its durable audit record.
const REQUESTS: u32 = 600;

#[derive(Clone, Debug)]
struct Thrown {
    who: Who,
    method: String,
    path: String,
    headers: Vec<(String, String)>,
    body: Option<(String, Vec<u8>)>,
}

fn who() -> impl Strategy<Value = Who> {
    use Who::{Administrator, Auditor, Authority, Clinician, Nobody, WithoutActivity};
    prop::sample::select(vec![Nobody, Clinician, WithoutActivity, Authority, Auditor, Administrator])
}

fn method() -> impl Strategy<Value = String> {
    prop_oneof![
        6 => Just("GET".to_owned()),
        4 => Just("POST".to_owned()),
        2 => Just("PUT".to_owned()),
        1 => prop::sample::select(vec!["DELETE", "PATCH", "OPTIONS", "HEAD", "TRACE", "PROPFIND"]).prop_map(str::to_owned),
    ]
}

/// A value that may sit in a path, a parameter or a header.
fn value() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => prop::sample::select(vec![
            "{nhs}", "{unknown}", "{flag}", "{other}", "{deleted}", "Patient/{nhs}", "https://fhir.nhs.uk/Id/nhs-number|{nhs}",
            "Z9A", "Z9B", "true", "false", "json", "xml", "count", "0", "-1", "99999999999999999999", "ge2026-11", "sa2026",
            "202611-1", "child-protection-information-system-flag", "Flag:patient", "AuditEvent:patient", "*", "W/\"1\"",
        ]).prop_map(str::to_owned),
        1 => "[ -~]{0,24}",
        1 => "\\PC{0,8}",
        1 => "(%[0-9a-fA-F]{2}){1,6}",
    ]
}

fn segment() -> impl Strategy<Value = String> {
    prop_oneof![
        8 => prop::sample::select(vec![
            "CareTeam", "CarePlan", "Flag", "Patient", "PatientFlag", "AuditEvent", "Organization", "PractitionerRole",
            "Subscription", "metadata", "_search", "$everything", "%24everything", "_history", "$export", "",
        ]).prop_map(str::to_owned),
        3 => value(),
    ]
}

fn path() -> impl Strategy<Value = String> {
    let parameter = prop_oneof![
        8 => prop::sample::select(vec![
            "patient", "patient:identifier", "patient.identifier", "subject", "identifier", "_id", "code", "date", "name",
            "active", "status", "_include", "_revinclude", "_revinclude:iterate", "_count", "_cursor", "_summary", "_total",
            "_format", "_pretty", "_sort", "_has", "_elements",
        ]).prop_map(str::to_owned),
        1 => value(),
    ];
    let query = vec((parameter, value()), 0..4);
    (vec(segment(), 0..4), query, any::<bool>()).prop_map(|(segments, query, encode)| {
        let encoded = |text: &str| {
            if encode {
                percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
            } else {
                text.to_owned()
            }
        };
        let query: Vec<String> = query.iter().map(|(name, value)| format!("{name}={}", encoded(value))).collect();
        let mark = if query.is_empty() { "" } else { "?" };
        format!("/{}{mark}{}", segments.join("/"), query.join("&"))
    })
}

fn headers() -> impl Strategy<Value = Vec<(String, String)>> {
    let name = prop::sample::select(vec![
        "IsUnscheduledAccessEvent",
        "IsUnscheduledEvent",
        "X-Request-ID",
        "TraceID",
        "X-Correlation-ID",
        "Accept",
        "If-Match",
        "If-None-Exist",
        "If-None-Match",
        "Prefer",
        "Content-Encoding",
        "Accept-Encoding",
        "Range",
        "Expect",
    ])
    .prop_map(str::to_owned);
    let value = prop_oneof![2 => value(), 1 => prop::sample::select(vec!["true", "false"]).prop_map(str::to_owned)];
    // Of all Unicode a header's value takes the visible ASCII; an expectation makes the client wait.
    let fits = |text: &String| text.bytes().all(|byte| (b' '..=b'~').contains(&byte));
    vec((name, value.prop_filter("not fit for a header", fits)), 0..3)
        .prop_map(|headers| headers.into_iter().filter(|(name, _)| name != "Expect").collect())
}

fn json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        value().prop_map(Value::from),
        prop::sample::select(vec![
            "Bundle",
            "Flag",
            "Patient",
            "Organization",
            "Subscription",
            "Parameters",
            "batch",
            "transaction",
            "PUT",
            "POST",
            "DELETE",
            "Flag/{flag}",
            "2026-11-01"
        ])
        .prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 40, 5, |inner| {
        let name = prop::sample::select(vec![
            "resourceType",
            "id",
            "type",
            "entry",
            "resource",
            "request",
            "method",
            "url",
            "status",
            "code",
            "coding",
            "system",
            "subject",
            "reference",
            "identifier",
            "value",
            "period",
            "start",
            "end",
            "author",
            "name",
            "family",
            "birthDate",
            "telecom",
            "channel",
            "endpoint",
            "criteria",
            "parameter",
            "extension",
        ])
        .prop_map(str::to_owned);
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(name, inner, 0..6).prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

/// A good resource with one thing in it replaced by anything.
fn damaged() -> impl Strategy<Value = String> {
    let child = crate::harness::child(41);
    let flag = child.flag("Z9A", LAC, "2026-11-01", None);
    let bundle =
        crate::harness::bundle("batch", &[child.put_patient(), child.post_flag("Z9A", LAC, "2026-11-01", None)]);
    let good = prop::sample::select(vec![flag, child.patient(), bundle]);
    (good, any::<prop::sample::Index>(), json()).prop_map(|(mut good, at, with)| {
        let mut places = 0;
        replace(&mut good, &mut places, usize::MAX, &with);
        let target = at.index(places);
        replace(&mut good, &mut 0, target, &with);
        good.to_string()
    })
}

/// Counts the values inside, and replaces the one at `target`.
fn replace(value: &mut Value, seen: &mut usize, target: usize, with: &Value) {
    let here = *seen;
    *seen += 1;
    if here == target {
        *value = with.clone();
        return;
    }
    match value {
        Value::Object(members) => members.values_mut().for_each(|member| replace(member, seen, target, with)),
        Value::Array(items) => items.iter_mut().for_each(|item| replace(item, seen, target, with)),
        _ => {}
    }
}

fn body() -> impl Strategy<Value = Option<(String, Vec<u8>)>> {
    let kind = prop_oneof![
        6 => Just(FHIR.to_owned()),
        2 => Just(FORM.to_owned()),
        1 => prop::sample::select(vec!["application/json", "text/plain", "application/fhir+json; charset=utf-8"]).prop_map(str::to_owned),
    ];
    let content = prop_oneof![
        2 => vec(any::<u8>(), 0..200),
        3 => json().prop_map(|json| json.to_string().into_bytes()),
        4 => damaged().prop_map(String::into_bytes),
        1 => path().prop_map(|path| path.split_once('?').map(|(_, form)| form.to_owned()).unwrap_or_default().into_bytes()),
    ];
    prop::option::of((kind, content))
}

fn thrown() -> impl Strategy<Value = Thrown> {
    (who(), method(), path(), headers(), body()).prop_map(|(who, method, path, headers, body)| Thrown {
        who,
        method,
        path,
        headers,
        body,
    })
}

async fn judge(world: &World, thrown: &Thrown) -> Result<(), TestCaseError> {
    let mut request = world.caller(thrown.who);
    for (name, value) in &thrown.headers {
        request = request.header(name, &world.fill(value));
    }
    let body = thrown.body.as_ref().map(|(kind, body)| {
        let body = String::from_utf8(body.clone()).map_or_else(|_| body.clone(), |text| world.fill(&text).into_bytes());
        (kind.as_str(), body)
    });
    // A fragment never reaches the server.
    let path = world.fill(&thrown.path).replace('#', "%23");
    let reply = request.send(&thrown.method, &path, body).await;
    prop_assert!(reply.status < 500, "{} {}", reply.status, reply.text);
    if reply.status >= 400 {
        let kind = reply.header("content-type");
        prop_assert_eq!(kind, FHIR, "{} {}", reply.status, reply.text);
        if thrown.method != "HEAD" {
            prop_assert_eq!(&reply.json["resourceType"], "OperationOutcome", "{} {}", reply.status, reply.text);
        }
        assert_tells_nothing_of(&world.child, &reply);
    }
    if matches!(thrown.who, Who::Nobody | Who::WithoutActivity | Who::Administrator) {
        // The kinds of plan that there are it tells of itself.
        let of_itself = reply.json["resourceType"] == "CapabilityStatement";
        let kinds = [LAC, crate::harness::CPP].into_iter().filter(|_| !of_itself);
        for secret in [world.child.family, world.child.given, world.child.birth_date].into_iter().chain(kinds) {
            prop_assert!(!reply.text.contains(secret), "{secret}: {} {}", reply.status, reply.text);
        }
    }
    Ok(())
}

#[test]
fn nothing_that_is_thrown_at_it_breaks_it_or_makes_it_talk() {
    let system = actix_web::rt::System::new();
    let world = system.block_on(World::start(Backend::Sqlite));
    let config = Config { cases: REQUESTS, failure_persistence: None, max_shrink_iters: 200, ..Config::default() };
    let outcome = TestRunner::new(config).run(&thrown(), |thrown| system.block_on(judge(&world, &thrown)));
    outcome.unwrap_or_else(|failure| panic!("{failure}"));
}
