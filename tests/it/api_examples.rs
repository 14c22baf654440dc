//! The examples of the API's description. They are what the gateway answers here; `CPIS_WRITE_DOCS=1` writes them into
//! `src/http/openapi/examples.json`. A route without one fails, so that a new route brings its example along.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use cpis_gateway::fhir::validate::{Profile, Validators};
use serde_json::{Value, json};

use crate::{
    api_pages::shown::{Settled, without_token_tails},
    harness::{
        Backend, CPP, Child, LAC, Reply, TestApp, bundle, number,
        upload::{entry, with, with_local_id},
    },
};

const FILE: &str = "src/http/openapi/examples.json";
const BASE: &str = "http://127.0.0.1:8080/cpis/FHIR/R4";

/// The child that has this number in every sandbox, so that a reader who tries an example there gets an answer.
fn robin() -> Child {
    Child { number: number(1_000), family: "Testcase", given: "Robin", birth_date: "2019-05-11" }
}

/// What was sent and answered, by the key of the route (`src/http/openapi/operation.rs`) or the status of a refusal.
#[derive(Default)]
struct Kept {
    requests: BTreeMap<String, Value>,
    responses: BTreeMap<String, Value>,
    refusals: BTreeMap<String, BTreeMap<String, Value>>,
}

impl Kept {
    fn answer(&mut self, key: &str, reply: Reply) -> Value {
        assert!((200..300).contains(&reply.status), "{key}: {} {}", reply.status, reply.text);
        assert!(self.responses.insert(key.to_owned(), reply.json.clone()).is_none(), "{key} is there twice");
        reply.json
    }

    fn exchange(&mut self, key: &str, sent: &Value, reply: Reply) -> Value {
        self.requests.insert(key.to_owned(), sent.clone());
        self.answer(key, reply)
    }

    fn refusal(&mut self, status: u16, case: &str, reply: &Reply) {
        assert_eq!((reply.status, &reply.json["resourceType"]), (status, &json!("OperationOutcome")), "{}", reply.text);
        self.refusals.entry(status.to_string()).or_default().insert(case.to_owned(), reply.json.clone());
    }

    /// The file's content: with stable ids, and with the address that the document replaces by its own.
    fn text(&self, app: &TestApp) -> String {
        let all = json!({"requests": self.requests, "responses": self.responses, "refusals": self.refusals});
        let text = serde_json::to_string_pretty(&all).expect("JSON");
        Settled::new(vec![(app.base.clone(), BASE.to_owned())]).text(&text) + "\n"
    }
}

async fn written() -> String {
    let (app, mut kept) = (TestApp::start(Backend::Sqlite).await, Kept::default());
    app.register(&robin()).await;
    described(&app, &mut kept).await;
    let flag = uploaded(&app, &mut kept).await;
    looked_up(&app, &mut kept, &flag).await;
    overseen(&app, &mut kept).await;
    corrected(&app, &mut kept).await;
    subscribed(&app, &mut kept).await;
    published(&app, &mut kept).await;
    judged(&app, &mut kept).await;
    refused_requests(&app, &mut kept, &flag).await;
    refused_changes(&app, &mut kept).await;
    answered_later(&app, &mut kept).await;
    failed(&app, &mut kept).await;
    over_the_cap(&mut kept).await;
    kept.text(&app)
}

/// Of the statement only one type: the whole is one request away. Where the sandbox's tokens come from is the sandbox's.
async fn described(app: &TestApp, kept: &mut Kept) {
    let mut reply = app.anonymous().get("/metadata").await;
    let resources = reply.json["rest"][0]["resource"].as_array_mut().expect("resources");
    resources.retain(|resource| resource["type"] == "CareTeam");
    reply.json["rest"][0]["security"].as_object_mut().expect("security").remove("extension");
    kept.answer("metadata", reply);
}

/// The plan's id.
async fn uploaded(app: &TestApp, kept: &mut Kept) -> String {
    let robin = robin();
    let plan = with_local_id(robin.flag("Z9A", CPP, "2026-07-26", None), "CPP-1047");
    let upload = bundle("batch", &[robin.put_patient(), entry("POST", "Flag", plan)]);
    let answer = kept.exchange("upload-Bundle", &upload, app.authority("Z9A").post("", &upload).await);
    let location = answer["entry"][1]["response"]["location"].as_str().expect("a location");
    location.split('/').nth(1).expect("an id").to_owned()
}

/// Behind all that is numbered: how often it is asked for, and so audited, depends on the moment.
async fn answered_later(app: &TestApp, kept: &mut Kept) {
    let upload = bundle("batch", &[robin().put_patient()]);
    let later = app.authority("Z9A").header("Prefer", "respond-async").post("", &upload).await;
    let status = later.header("content-location").strip_prefix(&app.base).expect("a URL of this gateway").to_owned();
    let mut ended = app.authority("Z9A").get(&status).await;
    while ended.status == 202 {
        ended = app.authority("Z9A").get(&status).await;
    }
    kept.answer("upload-status", ended);
}

async fn looked_up(app: &TestApp, kept: &mut Kept, flag: &str) {
    let (robin, clinician, nhs) = (robin(), app.clinician(), robin().nhs().to_owned());
    kept.answer("search-CareTeam", clinician.get(&robin.care_team()).await);
    kept.answer("read-CareTeam", clinician.get(&format!("/CareTeam/{flag}")).await);
    kept.answer("search-CarePlan", clinician.get(&format!("/CarePlan?patient={nhs}")).await);
    kept.answer("read-CarePlan", clinician.get(&format!("/CarePlan/{flag}")).await);
    let with_both = format!("/Flag?patient={nhs}&_include=Flag:patient&_include=Flag:author");
    kept.answer("search-Flag", clinician.get(&with_both).await);
    kept.answer("read-Flag", clinician.get(&format!("/Flag/{flag}")).await);
    kept.answer("search-PatientFlag", clinician.get(&format!("/PatientFlag?patient={nhs}")).await);
    kept.answer("search-Patient", clinician.get(&format!("/Patient?identifier={nhs}")).await);
    kept.answer("read-Patient", clinician.get(&format!("/Patient/{nhs}")).await);
    let parameters = json!({"resourceType": "Parameters"});
    let everything =
        app.clinician_named("555000000301").post(&format!("/Patient/{nhs}/$everything"), &parameters).await;
    kept.exchange("everything-Patient", &parameters, everything);
    let asked = json!({"resourceType": "Parameters", "parameter": [{"name": "resource", "resource": {
        "resourceType": "Patient", "birthDate": robin.birth_date,
        "identifier": [{"system": "https://fhir.nhs.uk/Id/nhs-number", "value": nhs}],
    }}]});
    kept.exchange("match-Patient", &asked, clinician.post("/Patient/$match", &asked).await);
    kept.answer("search-Organization", clinician.get("/Organization?name=westmarch").await);
    kept.answer("read-Organization", clinician.get("/Organization/Z9A").await);
}

async fn overseen(app: &TestApp, kept: &mut Kept) {
    let (robin, auditor) = (robin(), app.auditor());
    let history = kept.answer("search-AuditEvent", app.clinician().get(&robin.history()).await);
    let role = history["entry"].as_array().expect("entries").iter().map(|entry| &entry["resource"]);
    let role = role.clone().find(|resource| resource["resourceType"] == "PractitionerRole").expect("a role");
    let role = role["id"].as_str().expect("an id");
    kept.answer("read-PractitionerRole", auditor.get(&format!("/PractitionerRole/{role}")).await);
    let event = &app.audit_of(robin.nhs()).await[0];
    let event = event["id"].as_str().expect("an id");
    let mut event = auditor.get(&format!("/AuditEvent/{event}")).await;
    without_token_tails(&mut event.json);
    kept.answer("read-AuditEvent", event);
}

async fn corrected(app: &TestApp, kept: &mut Kept) {
    let (robin, authority) = (robin(), app.authority("Z9A"));
    let renamed = with(robin.patient(), "/name/0/given", json!(["Robin", "Sky"]));
    let reply = authority.put(&format!("/Patient/{}", robin.nhs()), &renamed).await;
    kept.exchange("update-Patient", &renamed, reply);
    let plan = with_local_id(robin.flag("Z9A", LAC, "2026-11-02", None), "LAC-0311");
    let created = kept.exchange("create-Flag", &plan, authority.post("/Flag", &plan).await);
    let id = created["id"].as_str().expect("an id");
    let ended = with(with(plan, "/id", json!(id)), "/period/end", json!("2026-11-20"));
    kept.exchange("update-Flag", &ended, authority.put(&format!("/Flag/{id}"), &ended).await);
    kept.answer("vread-Flag", authority.get(&format!("/Flag/{id}/_history/1")).await);
    kept.answer("history-Flag", authority.get(&format!("/Flag/{id}/_history")).await);
    let nhs = robin.nhs();
    kept.answer("vread-Patient", authority.get(&format!("/Patient/{nhs}/_history/1")).await);
    kept.answer("history-Patient", authority.get(&format!("/Patient/{nhs}/_history")).await);
    let own = crate::harness::authority("Z9A", "WESTMARCH COUNTY COUNCIL", "01632960188");
    kept.exchange("update-Organization", &own, authority.put("/Organization/Z9A", &own).await);
    let council = json!({"system": "http://terminology.hl7.org/CodeSystem/organization-type", "code": "govt"});
    let mut new = crate::harness::authority("Z9D", "SOUTH PATTERNSHIRE COUNCIL", "01632960177");
    new["type"] = json!([{"coding": [council]}]);
    kept.exchange("create-Organization", &new, app.administrator().post("/Organization", &new).await);
    let unknown =
        authority.post("/Flag", &Child { number: number(1_003), ..robin.clone() }.flag("Z9A", CPP, "2026-11-02", None));
    assert_eq!(unknown.await.status, 422);
    kept.answer("refused-records", authority.get("/$refused-records").await);
    let replaced = json!({"resourceType": "Parameters", "parameter": [
        {"name": "reason", "valueCode": "superseded"},
        {"name": "replacedBy",
         "valueIdentifier": {"system": "https://fhir.nhs.uk/Id/nhs-number", "value": number(1_002).as_str()}},
    ]});
    let path = format!("/Patient/{}/$inactive", number(1_001).as_str());
    kept.exchange("inactive-Patient", &replaced, app.administrator().post(&path, &replaced).await);
    kept.answer("vread-Organization", authority.get("/Organization/Z9A/_history/1").await);
    kept.answer("history-Organization", authority.get("/Organization/Z9A/_history").await);
}

async fn subscribed(app: &TestApp, kept: &mut Kept) {
    let wanted = json!({
        "resourceType": "Subscription", "status": "requested", "reason": "The duty team is told of every access",
        "criteria": format!("{}/SubscriptionTopic/cpis-access", app.base),
        "channel": {
            "type": "rest-hook", "endpoint": "https://hooks.westmarch.example/cpis", "payload": "application/fhir+json",
            "_payload": {"extension": [{
                "url": "http://hl7.org/fhir/uv/subscriptions-backport/StructureDefinition/backport-payload-content",
                "valueCode": "full-resource",
            }]},
            "header": ["Authorization: Bearer a-secret-of-your-own"],
        },
    });
    let authority = app.authority("Z9A");
    let created = kept.exchange("create-Subscription", &wanted, authority.post("/Subscription", &wanted).await);
    let id = created["id"].as_str().expect("an id");
    kept.answer("read-Subscription", authority.get(&format!("/Subscription/{id}")).await);
    kept.answer("search-Subscription", authority.get("/Subscription").await);
    let off = with(with(wanted, "/id", json!(id)), "/status", json!("off"));
    kept.exchange("update-Subscription", &off, authority.put(&format!("/Subscription/{id}"), &off).await);
    let parameters = json!({"resourceType": "Parameters"});
    for operation in ["status", "events"] {
        let reply = authority.post(&format!("/Subscription/{id}/${operation}"), &parameters).await;
        kept.exchange(&format!("{operation}-Subscription"), &parameters, reply);
    }
}

async fn published(app: &TestApp, kept: &mut Kept) {
    for (kind, id) in [
        ("CodeSystem", "cpis-upload-record-response"),
        ("ValueSet", "cpis-plan-type"),
        ("StructureDefinition", "cpis-flag"),
        ("SearchParameter", "Flag-status"),
        ("OperationDefinition", "cpis-validate"),
    ] {
        let found = app.anonymous().get(&format!("/{kind}?_id={id}")).await;
        assert_eq!(found.total(), 1, "{kind}/{id}");
        kept.answer(&format!("search-{kind}"), found);
        kept.answer(&format!("read-{kind}"), app.anonymous().get(&format!("/{kind}/{id}")).await);
    }
}

/// What the other examples sent and answered.
async fn judged(app: &TestApp, kept: &mut Kept) {
    let provenance = json!({
        "resourceType": "Provenance", "recorded": "2026-11-23T12:00:00Z",
        "target": [{"reference": format!("Patient/{}", robin().nhs())}],
        "agent": [{"who": {"reference": "Organization/Z9A"}}],
    });
    let published = ["CodeSystem", "ValueSet", "StructureDefinition", "SearchParameter", "OperationDefinition"];
    let published = published.map(|kind| (kind, kept.responses[&format!("read-{kind}")].clone()));
    let others = [
        ("AuditEvent", kept.responses["read-AuditEvent"].clone()),
        ("Bundle", kept.requests["upload-Bundle"].clone()),
        ("CarePlan", kept.responses["read-CarePlan"].clone()),
        ("CareTeam", kept.responses["read-CareTeam"].clone()),
        ("Flag", kept.requests["create-Flag"].clone()),
        (
            "OperationOutcome",
            json!({"resourceType": "OperationOutcome", "issue": [{"severity": "error", "code": "invalid"}]}),
        ),
        ("Organization", kept.requests["update-Organization"].clone()),
        ("Parameters", json!({"resourceType": "Parameters"})),
        ("Patient", kept.requests["update-Patient"].clone()),
        ("PractitionerRole", kept.responses["read-PractitionerRole"].clone()),
        ("Provenance", provenance),
        ("Subscription", kept.requests["create-Subscription"].clone()),
    ];
    for (kind, resource) in published.into_iter().chain(others) {
        let reply = app.authority("Z9A").post(&format!("/{kind}/$validate"), &resource).await;
        kept.exchange(&format!("validate-{kind}"), &resource, reply);
    }
}

async fn refused_requests(app: &TestApp, kept: &mut Kept, flag: &str) {
    let (look_up, clinician) = (robin().care_team(), app.clinician());
    kept.refusal(400, "nhs-number", &clinician.get("/CareTeam?patient=9990010006").await);
    kept.refusal(400, "parameter", &clinician.get(&format!("{look_up}&severity=high")).await);
    let header = app.clinician().header("IsUnscheduledAccessEvent", "yes");
    kept.refusal(400, "header", &header.get(&look_up).await);
    kept.refusal(401, "no-token", &app.anonymous().get(&look_up).await);
    kept.refusal(401, "not-accepted", &app.anonymous().with_token("a.b.c").get(&look_up).await);
    kept.refusal(403, "role", &app.auditor().get(&look_up).await);
    let scheduled = app.clinician().header("IsUnscheduledAccessEvent", "false");
    kept.refusal(403, "scheduled-care", &scheduled.get(&look_up).await);
    kept.refusal(404, "unknown", &clinician.get("/Flag/6f1d2c3b-0000-4000-8000-000000000099").await);
    kept.refusal(405, "method", &clinician.delete(&format!("/CareTeam/{flag}")).await);
    kept.refusal(406, "format", &clinician.get(&format!("{look_up}&_format=xml")).await);
}

async fn refused_changes(app: &TestApp, kept: &mut Kept) {
    let (robin, authority) = (robin(), app.authority("Z9A"));
    let plan = robin.flag("Z9A", LAC, "2026-11-22", None);
    let broken = with(with(plan.clone(), "/status", json!("on")), "/code", Value::Null);
    kept.refusal(400, "body", &authority.post("/Flag", &broken).await);
    let created = authority.post("/Flag", &plan).await;
    let path = format!("/Flag/{}", created.json["id"].as_str().expect("an id"));
    let other = app.authority("Z9A").header("If-Match", "W/\"7\"");
    kept.refusal(412, "version", &other.delete(&path).await);
    let future = with(plan.clone(), "/period/start", json!("2027-01-01"));
    kept.refusal(422, "rule", &authority.post("/Flag", &future).await);
    kept.refusal(415, "content-type", &authority.send("POST", "/Flag", Some(("text/plain", b"{}".to_vec()))).await);
    let longest = usize::try_from(app.settings().limits.body_bytes).expect("a length");
    let long = vec![b' '; longest + 1];
    kept.refusal(413, "body", &authority.send("POST", "/Flag", Some(("application/fhir+json", long))).await);
    assert_eq!(authority.delete(&path).await.status, 204);
    kept.refusal(410, "deleted", &authority.get(&path).await);
    // Another writer is always there first.
    app.execute(
        "create table seen (uuid text); \
         create trigger first before insert on plan when new.uuid not in (select uuid from seen) begin \
         insert into seen values (new.uuid); \
         insert into plan (uuid, child_id, plan_type, created_ms) \
         values (new.uuid, new.child_id, new.plan_type, new.created_ms); end",
    );
    kept.refusal(409, "race", &authority.post("/Flag", &plan).await);
    app.execute("drop trigger first");
}

/// Of a gateway whose operator refuses callers that ask for too many children.
async fn over_the_cap(kept: &mut Kept) {
    let app = TestApp::start_with(Backend::Sqlite, |settings| {
        settings.limits.distinct_children_per_hour = 1;
        settings.limits.refuse_over_cap = true;
    })
    .await;
    assert_eq!(app.clinician().get(&robin().care_team()).await.status, 200);
    let other = Child { number: number(1_003), ..robin() };
    kept.refusal(429, "over-cap", &app.clinician().get(&other.care_team()).await);
}

/// The store is broken on purpose: last, for nothing works afterwards.
async fn failed(app: &TestApp, kept: &mut Kept) {
    app.execute("update plan set plan_type = 'nonsense'");
    kept.refusal(500, "fault", &app.clinician().get(&robin().care_team()).await);
    app.execute("alter table audit_event rename to away");
    kept.refusal(503, "store", &app.clinician().get(&robin().care_team()).await);
}

#[actix_web::test]
async fn the_examples_are_what_the_gateway_answers() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(FILE);
    let written = written().await;
    if std::env::var_os("CPIS_WRITE_DOCS").is_some() {
        std::fs::write(&path, &written).expect("the file is written");
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    let differs = committed.lines().zip(written.lines()).find(|(old, new)| old != new);
    assert!(
        committed == written,
        "{FILE} is not what the gateway answers; write it with CPIS_WRITE_DOCS=1: {differs:?}"
    );
}

fn read() -> BTreeMap<String, BTreeMap<String, Value>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(FILE);
    serde_json::from_slice(&std::fs::read(path).expect("the file")).expect("JSON")
}

/// Bodies to send keep CP-IS's profile too; answers are R4.
#[test]
fn the_examples_are_valid() {
    let (validators, examples) = (Validators::shared().expect("validators"), read());
    let refusals = examples["refusals"].values().flat_map(|cases| cases.as_object().expect("cases").values());
    let answers = examples["responses"].values().chain(refusals).map(|body| (body, Profile::Base));
    // Of a Patient that is only confirmed less is asked than of one that is stored.
    let profile = |key: &str| if key == "match-Patient" { Profile::Base } else { Profile::Cpis };
    let sent = examples["requests"].iter().map(|(key, body)| (body, profile(key)));
    for (body, profile) in answers.chain(sent) {
        let issues = validators.validate(body, profile);
        assert!(issues.is_empty(), "{body}: {issues:?}");
    }
}

/// Each FHIR body that is described has an example, and no example is left over.
#[actix_web::test]
async fn every_body_has_an_example() {
    let app = TestApp::start(Backend::Sqlite).await;
    let document = app.anonymous().get("//openapi.json").await.json;
    let mut used = BTreeSet::new();
    for (path, operations) in document["paths"].as_object().expect("paths") {
        for (method, operation) in operations.as_object().expect("operations") {
            let responses = operation["responses"].as_object().expect("responses");
            let bodies = responses.iter().map(|(status, response)| (status.as_str(), &response["content"]));
            for (what, content) in bodies.chain([("request", &operation["requestBody"]["content"])]) {
                for (media, content) in content.as_object().into_iter().flatten() {
                    if media != "application/fhir+json" {
                        continue;
                    }
                    let examples = content["examples"].as_object().cloned().unwrap_or_default();
                    assert!(!examples.is_empty(), "{method} {path} {what}: add an example to tests/it/api_examples.rs");
                    used.extend(examples.values().map(|example| example["$ref"].as_str().expect("a ref").to_owned()));
                }
            }
        }
    }
    let shared = document["components"]["examples"].as_object().expect("examples").keys();
    let shared: BTreeSet<String> = shared.map(|name| format!("#/components/examples/{name}")).collect();
    assert_eq!(used, shared);
    for (name, response) in document["components"]["responses"].as_object().expect("responses") {
        let examples = response["content"]["application/fhir+json"]["examples"].as_object();
        assert!(examples.is_some_and(|examples| !examples.is_empty()), "{name}");
    }
}
