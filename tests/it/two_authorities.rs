//! One authority learns nothing of another: whatever it asks, each answer is the same whether or not another authority
//! holds the child.
//!
//! One script of every interaction that an authority has is played in two worlds. In the first nobody else holds the
//! child. In the second Z9B and Z9C do, with plans that are open, ended and deleted, and Z9B changes its own between any
//! two steps. Status, headers and body must be the same but for ids and cursors, which are numbered as they appear.

use std::collections::HashMap;

use serde_json::{Value, json};

use crate::harness::{
    Backend, CPP, Child, LAC, Reply, TestApp, UCP, authority, bundle, child, on_both_stores,
    upload::{entry, with, with_local_id},
};

/// Held by Z9A; in the second world by the others too.
fn shared() -> Child {
    child(1)
}

/// Never held by Z9A; in the second world by Z9B.
fn foreign() -> Child {
    child(2)
}

/// Ids of the other authority's that Z9A tries; in the first world nobody's.
#[derive(Clone)]
struct Others {
    /// An open plan of the shared child, an ended one, a deleted one, and one of the foreign child.
    plans: Vec<String>,
    access: String,
    subscription: String,
}

impl Others {
    fn nobodys() -> Self {
        let id = |n: u32| format!("3a8e4f0c-6a0b-4f43-9a41-2b1c0d9e8f{n:02}");
        Self { plans: (0..4).map(id).collect(), access: id(10), subscription: id(11) }
    }
}

struct World {
    app: TestApp,
    /// Whether others hold the child.
    crowded: bool,
    ids: HashMap<String, usize>,
    told: Vec<(String, String)>,
    statuses: Vec<u16>,
    stirred: usize,
}

fn plan(child: &Child, ods: &str, code: &str, start: &str, end: Option<&str>, local_id: &str) -> Value {
    entry("POST", "Flag", with_local_id(child.flag(ods, code, start, end), local_id))
}

impl World {
    async fn new(backend: Backend, crowded: bool) -> Self {
        let app = TestApp::start(backend).await;
        app.register(&shared()).await;
        app.register(&foreign()).await;
        Self { app, crowded, ids: HashMap::new(), told: Vec::new(), statuses: Vec::new(), stirred: 0 }
    }

    /// The other authorities put their plans on record, a clinician sees them, and one of them subscribes.
    async fn crowd(&mut self) -> Others {
        if !self.crowded {
            self.look_up().await;
            return Others::nobodys();
        }
        let (shared, foreign, app) = (shared(), foreign(), &self.app);
        let held = app
            .authority("Z9B")
            .post(
                "",
                &bundle(
                    "batch",
                    &[
                        shared.put_patient(),
                        plan(&shared, "Z9B", CPP, "2026-09-14", None, "CPP-1"),
                        plan(&shared, "Z9B", LAC, "2025-03-01", Some("2026-10-30"), "LAC-B"),
                        plan(&shared, "Z9B", UCP, "2026-08-01", None, "UCP-B"),
                        foreign.put_patient(),
                        plan(&foreign, "Z9B", CPP, "2026-09-14", None, "CPP-2"),
                    ],
                ),
            )
            .await;
        assert_eq!(held.statuses(), [201; 6], "{}", held.text);
        let ids: Vec<String> = [1, 2, 3, 5].iter().map(|entry: &usize| held.answers()[*entry].id()).collect();
        let deleted = app.authority("Z9B").delete(&format!("/Flag/{}", ids[2])).await;
        assert_eq!(deleted.status, 204, "{}", deleted.text);
        let third = app
            .authority("Z9C")
            .post("", &bundle("batch", &[shared.put_patient(), plan(&shared, "Z9C", LAC, "2026-01-05", None, "LAC-1")]))
            .await;
        assert_eq!(third.statuses(), [201; 2], "{}", third.text);

        self.look_up().await;
        let seen = self.app.authority("Z9B").get(&format!("/AuditEvent?patient={}", shared.nhs())).await;
        assert_eq!(seen.total(), 1, "{}", seen.text);
        let access = seen.resources("AuditEvent")[0]["id"].as_str().expect("an id").to_owned();
        let subscribed = self.app.authority("Z9B").post("/Subscription", &subscription(&self.app)).await;
        assert_eq!(subscribed.status, 201, "{}", subscribed.text);
        let subscription = subscribed.json["id"].as_str().expect("an id").to_owned();
        Others { plans: ids, access, subscription }
    }

    /// A clinician looks both children up; what is seen differs between the worlds and is not compared.
    async fn look_up(&self) {
        for child in [shared(), foreign()] {
            let reply = self.app.clinician().get(&child.care_team()).await;
            assert_eq!(reply.status, 200, "{}", reply.text);
        }
    }

    /// Z9B changes its own record, in the second world.
    async fn stir(&mut self) {
        if !self.crowded {
            return;
        }
        self.stirred += 1;
        let (shared, app) = (shared(), &self.app);
        let end = (self.stirred % 2 == 1).then_some("2026-11-20");
        let given = json!(["Robin", format!("Stirred {}", self.stirred)]);
        let reply = app
            .authority("Z9B")
            .post(
                "",
                &bundle(
                    "batch",
                    &[
                        with(shared.put_patient(), "/resource/name/0/given", given),
                        plan(&shared, "Z9B", CPP, "2026-09-14", end, "CPP-1"),
                    ],
                ),
            )
            .await;
        assert_eq!(reply.file_code(), "CPF02", "{}", reply.text);
    }

    async fn tell(&mut self, what: &str, reply: Reply) -> Reply {
        let mut headers: Vec<String> = reply
            .headers
            .iter()
            .filter(|(name, _)| *name != "date")
            .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap_or("?")))
            .collect();
        headers.sort();
        let whole = format!("{}\n{}\n\n{}", reply.status, headers.join("\n"), reply.text);
        let whole = self.redact(&whole);
        self.told.push((what.to_owned(), whole));
        self.statuses.push(reply.status);
        self.stir().await;
        reply
    }

    /// Ids become their number, cursors and this server's address go.
    fn redact(&mut self, text: &str) -> String {
        let text = text.replace(&self.app.root, "http://gateway");
        let (mut out, mut rest) = (String::with_capacity(text.len()), text.as_str());
        while let Some(next) = rest.chars().next() {
            if let Some(id) = rest.get(..36).filter(|id| uuid::Uuid::parse_str(id).is_ok()) {
                let number = self.ids.len();
                let number = *self.ids.entry(id.to_owned()).or_insert(number);
                out.push_str(&format!("[id {number}]"));
                rest = &rest[36..];
            } else if let Some(cursor) = rest.strip_prefix("_cursor=") {
                out.push_str("[cursor]");
                rest = cursor.trim_start_matches(|c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_');
            } else {
                out.push(next);
                rest = &rest[next.len_utf8()..];
            }
        }
        out
    }

    async fn get(&mut self, path: &str) -> Reply {
        let reply = self.app.authority("Z9A").get(path).await;
        self.tell(&format!("GET {path}"), reply).await
    }

    async fn search_by_form(&mut self, path: &str, form: &str) {
        let reply = self.app.authority("Z9A").form(path, form).await;
        self.tell(&format!("POST {path} {form}"), reply).await;
    }

    /// With `If-Match` unless it is empty.
    async fn send(&mut self, method: &str, path: &str, if_match: &str, body: Option<&Value>) -> Reply {
        let mut request = self.app.authority("Z9A");
        if !if_match.is_empty() {
            request = request.header("If-Match", if_match);
        }
        let body = body.map(|body| ("application/fhir+json", body.to_string().into_bytes()));
        let reply = request.send(method, path, body).await;
        self.tell(&format!("{method} {path} {if_match}"), reply).await
    }

    async fn put(&mut self, path: &str, if_match: &str, body: &Value) -> Reply {
        self.send("PUT", path, if_match, Some(body)).await
    }

    async fn post(&mut self, path: &str, body: &Value) -> Reply {
        self.send("POST", path, "", Some(body)).await
    }

    async fn delete(&mut self, path: &str, if_match: &str) -> Reply {
        self.send("DELETE", path, if_match, None).await
    }

    /// As a batch, then each entry alone as a transaction.
    async fn bundles(&mut self, entries: &[Value]) {
        for entry in entries {
            self.post("", &bundle("batch", std::slice::from_ref(entry))).await;
        }
        self.post("", &bundle("batch", entries)).await;
        for entry in entries {
            self.post("", &bundle("transaction", std::slice::from_ref(entry))).await;
        }
        self.post("", &bundle("transaction", entries)).await;
    }

    /// Everything that an authority may read of a child, and of all its own.
    async fn read_everything(&mut self, child: &Child) {
        let nhs = child.nhs().to_owned();
        for path in [
            format!("/Patient/{nhs}"),
            format!("/Patient?identifier=https://fhir.nhs.uk/Id/nhs-number%7C{nhs}"),
            format!("/Patient?_id={nhs}"),
            format!("/Flag?patient={nhs}"),
            format!("/Flag?subject:identifier=https://fhir.nhs.uk/Id/nhs-number%7C{nhs}"),
            "/Flag".to_owned(),
            "/Flag/_history".to_owned(),
            "/Flag/_history?_count=2".to_owned(),
            "/Patient/_history?_at=2026-11-23".to_owned(),
            format!("/Patient/{nhs}/_history"),
            format!("/Patient/{nhs}/_history/1"),
            format!("/Patient/{nhs}/_history/2"),
            "/Flag?_count=1".to_owned(),
            format!("/AuditEvent?patient={nhs}"),
            format!("/AuditEvent?patient={nhs}&_count=1"),
            "/Subscription".to_owned(),
            "/Organization/Z9A".to_owned(),
            // Not for authorities, and refused alike.
            child.care_team(),
            format!("/Patient/{nhs}/$everything"),
            format!("/PatientFlag?patient={nhs}&code=child-protection-information-system-flag"),
        ] {
            self.get(&path).await;
        }
        self.search_by_form("/Flag/_search", &format!("patient={nhs}")).await;
        self.search_by_form("/Patient/_search", &format!("_id={nhs}")).await;
        self.search_by_form("/AuditEvent/_search", &format!("patient={nhs}")).await;
    }
}

fn subscription(app: &TestApp) -> Value {
    let content = "http://hl7.org/fhir/uv/subscriptions-backport/StructureDefinition/backport-payload-content";
    json!({
        "resourceType": "Subscription", "status": "requested", "reason": "Duty team",
        "criteria": format!("{}/SubscriptionTopic/cpis-access", app.base),
        "channel": {
            "type": "rest-hook", "endpoint": "http://127.0.0.1:9/hook", "payload": "application/fhir+json",
            "_payload": {"extension": [{"url": content, "valueCode": "full-resource"}]},
        },
    })
}

/// Everything that Z9A does, in order.
async fn play(world: &mut World) {
    let (shared, foreign) = (shared(), foreign());
    let others = world.crowd().await;
    world.read_everything(&shared).await;
    world.read_everything(&foreign).await;

    first_records(world, &shared).await;
    let (cpp, lac) = flags(world, &shared).await;
    others_ids(world, &shared, &others).await;
    entries(world, &shared, &others, &cpp).await;
    foreign_child(world, &foreign).await;

    // From now on the child's accesses are listed for Z9A, although the same clinician was listed for others before.
    world.look_up().await;
    let seen = world.get(&format!("/AuditEvent?patient={}", shared.nhs())).await;
    assert_eq!(seen.total(), 1, "{}", seen.text);
    let access = seen.resources("AuditEvent")[0]["id"].as_str().expect("an id").to_owned();
    for id in [access, others.access.clone()] {
        world.get(&format!("/AuditEvent/{id}")).await;
        world.get(&format!("/PractitionerRole/{id}")).await;
    }
    world.app.clock.advance(chrono::TimeDelta::hours(25));
    world.look_up().await;
    world.read_everything(&shared).await;
    world.read_everything(&foreign).await;

    for id in [cpp, lac] {
        let path = format!("/Flag/{id}");
        world.delete(&path, "W/\"99\"").await;
        world.delete(&path, "").await;
        world.delete(&path, "").await;
        world.get(&path).await;
        let body = with(shared.flag("Z9A", CPP, "2026-09-14", None), "/id", json!(id));
        world.put(&path, "", &body).await;
    }
    world.read_everything(&shared).await;
    world.look_up().await;
    world.read_everything(&shared).await;

    let path = format!("/Subscription/{}", others.subscription);
    world.get(&path).await;
    world.delete(&path, "").await;
    let asked = subscription(&world.app);
    let own = world.post("/Subscription", &asked).await;
    world.get(&format!("/Subscription/{}", own.json["id"].as_str().expect("an id"))).await;
    world.get("/Subscription").await;
}

/// `PUT Patient` and what is refused of it.
async fn first_records(world: &mut World, shared: &Child) {
    let path = format!("/Patient/{}", shared.nhs());
    world.post("/Flag", &shared.flag("Z9A", CPP, "2026-09-14", None)).await;
    world.put(&path, "W/\"1\"", &shared.patient()).await;
    world.put(&path, "", &with(shared.patient(), "/birthDate", json!("2017-05-12"))).await;
    world.put(&path, "", &with(shared.patient(), "/gender", json!(1))).await;
    let created = world.put(&path, "", &shared.patient()).await;
    assert_eq!(created.status, 201, "{}", created.text);
    world.put(&path, "", &shared.patient()).await;
    let renamed = with(shared.patient(), "/name/0/given", json!(["Robin", "Sam"]));
    world.put(&path, "W/\"2\"", &renamed).await;
    let updated = world.put(&path, "W/\"1\"", &renamed).await;
    assert_eq!(updated.header("etag"), "W/\"2\"", "{}", updated.text);
}

/// Single creates and updates of Flags; the ids of the child protection plan and of the looked-after one.
async fn flags(world: &mut World, shared: &Child) -> (String, String) {
    let flag = |code, start, end, id: &str| with_local_id(shared.flag("Z9A", code, start, end), id);
    // The same key as the other authority's.
    let created = world.post("/Flag", &flag(CPP, "2026-09-14", None, "CPP-1")).await;
    assert_eq!(created.status, 201, "{}", created.text);
    let cpp = created.json["id"].as_str().expect("an id").to_owned();
    world.post("/Flag", &flag(CPP, "2026-09-14", None, "CPP-1")).await;
    world.post("/Flag", &flag(CPP, "2026-10-14", None, "CPP-9")).await;
    world.post("/Flag", &shared.flag("Z9B", CPP, "2026-09-14", None)).await;
    let created = world.post("/Flag", &flag(LAC, "2025-03-01", Some("2026-10-30"), "LAC-1")).await;
    assert_eq!(created.status, 201, "{}", created.text);
    let lac = created.json["id"].as_str().expect("an id").to_owned();
    world.post("/Flag", &shared.flag("Z9A", UCP, "2026-08-01", None)).await;
    world.post("/Flag", &shared.flag("Z9A", UCP, "2026-10-01", None)).await;
    let path = format!("/Flag/{cpp}");
    world.get(&path).await;
    let body = with(flag(CPP, "2026-09-14", Some("2026-11-21"), "CPP-1"), "/id", json!(cpp));
    world.put(&path, "W/\"2\"", &body).await;
    world.put(&path, "W/\"1\"", &body).await;
    world.put(&path, "W/\"1\"", &body).await;
    world.put(&path, "", &with(body, "/period/end", Value::Null)).await;
    let criteria = format!("patient={}&identifier=LAC-B&code=http://snomed.info/sct|{LAC}", shared.nhs());
    let request = world.app.authority("Z9A").header("If-None-Exist", &criteria);
    let reply = request.post("/Flag", &flag(LAC, "2023-01-05", Some("2025-11-22"), "LAC-B")).await;
    world.tell("POST /Flag If-None-Exist", reply).await;
    (cpp, lac)
}

/// The other authority's plans, by every door that takes an id.
async fn others_ids(world: &mut World, shared: &Child, others: &Others) {
    for id in &others.plans {
        let path = format!("/Flag/{id}");
        let body = with(shared.flag("Z9A", CPP, "2026-09-14", None), "/id", json!(id));
        world.get(&path).await.assert_refused(404, "not-found", "RESOURCE_NOT_FOUND");
        for below in ["_history", "_history/1", "_history/2"] {
            world.get(&format!("{path}/{below}")).await.assert_refused(404, "not-found", "RESOURCE_NOT_FOUND");
        }
        for if_match in ["", "W/\"1\"", "W/\"2\""] {
            world.put(&path, if_match, &body).await.assert_refused(404, "not-found", "RESOURCE_NOT_FOUND");
            world.delete(&path, if_match).await.assert_refused(404, "not-found", "RESOURCE_NOT_FOUND");
        }
        let url = format!("Flag/{id}");
        let put = entry("PUT", &url, body);
        let delete = entry("DELETE", &url, Value::Null);
        let with_version = |entry: &Value| with(entry.clone(), "/request/ifMatch", json!("W/\"1\""));
        world.bundles(&[put.clone(), delete.clone(), with_version(&put), with_version(&delete)]).await;
    }
}

/// Every kind of entry, in a batch and in a transaction.
async fn entries(world: &mut World, shared: &Child, others: &Others, cpp: &str) {
    let flag = |code, start, end, id: &str| with_local_id(shared.flag("Z9A", code, start, end), id);
    let own = |end| with(flag(CPP, "2026-09-14", end, "CPP-1"), "/id", json!(cpp));
    let version = |entry: Value, tag: &str| with(entry, "/request/ifMatch", json!(tag));
    let none_exist = |entry: Value, criteria: String| with(entry, "/request/ifNoneExist", json!(criteria));
    let by_name = |id: &str| shared.criteria(id);
    world.bundles(&[shared.put_patient()]).await;
    world.bundles(&[version(shared.put_patient(), "W/\"9\"")]).await;
    world.bundles(&[plan(shared, "Z9A", CPP, "2026-09-14", None, "CPP-1")]).await;
    world.bundles(&[entry("PUT", &format!("Flag/{cpp}"), own(Some("2026-11-20")))]).await;
    world.bundles(&[version(entry("PUT", &format!("Flag/{cpp}"), own(None)), "W/\"9\"")]).await;
    world.bundles(&[entry("PUT", &by_name("CPP-1"), flag(CPP, "2026-09-14", None, "CPP-1"))]).await;
    // What only the other authority has.
    world
        .bundles(&[
            entry("DELETE", &shared.criteria_with_code("UCP-B", UCP), Value::Null),
            version(entry("PUT", &by_name("UCP-B"), flag(UCP, "2026-08-15", None, "UCP-B")), "W/\"1\""),
        ])
        .await;
    world
        .bundles(&[none_exist(
            entry("POST", "Flag", flag(UCP, "2026-08-20", None, "UCP-C")),
            format!("patient={}&identifier=UCP-B", shared.nhs()),
        )])
        .await;
    world
        .bundles(&[
            entry("DELETE", &shared.criteria_with_code("LAC-B", LAC), Value::Null),
            entry("DELETE", &format!("Flag/{}", others.plans[1]), Value::Null),
        ])
        .await;
    world
        .bundles(&[entry("PUT", "Organization/Z9A", authority("Z9A", "WESTMARCH COUNTY COUNCIL", "01632960188"))])
        .await;
    world
        .bundles(&[
            shared.put_patient(),
            plan(shared, "Z9A", CPP, "2026-10-01", None, "CPP-7"),
            plan(shared, "Z9A", LAC, "2026-01-05", None, "LAC-7"),
            entry("GET", &format!("Patient/{}", shared.nhs()), Value::Null),
        ])
        .await;
}

/// A child that only the other authority holds.
async fn foreign_child(world: &mut World, foreign: &Child) {
    let name = |id: &str, code| foreign.criteria_with_code(id, code);
    world
        .bundles(&[
            plan(foreign, "Z9A", CPP, "2026-09-14", Some("2026-11-20"), "CPP-2"),
            entry("DELETE", &name("CPP-2", CPP), Value::Null),
        ])
        .await;
    world.post("/Flag", &foreign.flag("Z9A", CPP, "2026-09-14", Some("2026-11-20"))).await;
    world.put(&format!("/Patient/{}", foreign.nhs()), "W/\"1\"", &foreign.patient()).await;
    world.bundles(&[with(foreign.put_patient(), "/resource/birthDate", json!("2001-01-01"))]).await;
}

on_both_stores! {
    async fn an_authority_learns_nothing_of_another(backend) {
        let mut alone = World::new(backend, false).await;
        let mut crowded = World::new(backend, true).await;
        play(&mut alone).await;
        play(&mut crowded).await;

        assert_eq!(alone.told.len(), crowded.told.len());
        for ((what, one), (_, other)) in alone.told.iter().zip(&crowded.told) {
            assert_eq!(one, other, "{what}: the answer tells that another authority holds the child");
        }
        // The script reaches every kind of answer, and the others were really there.
        for status in [200, 201, 204, 400, 403, 404, 410, 412, 422] {
            assert!(alone.statuses.contains(&status), "{status} was never answered");
        }
        assert!(crowded.stirred > 100 && alone.stirred == 0);
        let seen = |world: &World| world.app.clinician().get(&shared().care_team());
        assert!(seen(&crowded).await.total() > seen(&alone).await.total());
    }
}
