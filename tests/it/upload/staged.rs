//! Uploads of many records: staged where nobody sees them, applied whole or not at all, in order, by one process at a
//! time; their answers kept and repeated.

use std::sync::{Arc, mpsc};

use actix_web::rt::{spawn, task::JoinHandle};
use chrono::TimeDelta;
use cpis_gateway::{
    cpis::{
        Error, Gateway,
        types::{
            NhsNumber, PlanType, Precondition,
            caller::{Author, Role},
            child::{NumberStatus, Trace, Urgency},
            upload::{
                ChildChange, Door, FileCode, PlanAction, PlanChange, PlanKey, Problem, ProblemKind, ReadRecord,
                RecordChange, RecordCode, UnreadableRecord,
            },
        },
        upload::file::{FileAnswer, FileDigest, FileUpload},
    },
    demographics::{Demographics, Unavailable},
    store::{StoreError, register},
};
use futures_util::{future::BoxFuture, future::join_all};
use serde_json::{Value, json};

use crate::harness::{
    Backend, CPP, Child, LAC, Reply, TestApp, bundle, child, on_both_stores,
    upload::{entry, with, with_local_id},
};

const START: &str = "2026-09-14";

/// A gateway that judges four records in a transaction, with so many children in its register.
async fn with_children(backend: Backend, count: u32) -> TestApp {
    with_settings(backend, count, |_| {}).await
}

async fn with_settings(
    backend: Backend,
    count: u32,
    change: impl FnOnce(&mut cpis_gateway::config::Settings),
) -> TestApp {
    let app = TestApp::start_with(backend, |settings| {
        settings.upload.batch_records = 4;
        change(settings);
    })
    .await;
    let known: Vec<Child> = (1..=count).map(child).collect();
    let write = app.app.gateway.store.write(Vec::new(), move |tx| {
        known.iter().try_for_each(|child| {
            register::add(tx.conn, &child.number, &child.demographics(), NumberStatus::Current, None)
        })
    });
    write.await.expect("the children are registered");
    app
}

fn record_of(child: &Child, start: &str) -> ReadRecord {
    let change = PlanChange {
        entry: 1,
        key: PlanKey::Content,
        plan_type: Some(PlanType::ChildProtection),
        local_id: None,
        action: PlanAction::Put { start: start.parse().expect("a day"), end: None },
    };
    let sent =
        ChildChange { entry: 0, demographics: child.demographics(), local_id: None, precondition: Precondition::None };
    ReadRecord::Change(RecordChange { nhs_number: child.number, child: Some(sent), plans: vec![change] })
}

fn unreadable() -> ReadRecord {
    let problem = Problem {
        entry: 1,
        code: RecordCode::Cpr07,
        kind: ProblemKind::Rule,
        reason: "Give the day on which the plan started.".to_owned(),
        element: "period.start",
    };
    ReadRecord::Unreadable(UnreadableRecord { nhs_number: None, problems: vec![problem], digest: [7; 32] })
}

/// A file as the mailbox has it.
#[derive(Clone)]
struct TestFile {
    records: Vec<ReadRecord>,
    number: Option<i64>,
    message: Option<&'static str>,
}

impl TestFile {
    fn of(children: impl IntoIterator<Item = u32>) -> Self {
        let records = children.into_iter().map(|index| record_of(&child(index), START)).collect();
        Self { records, number: None, message: None }
    }

    fn numbered(self, number: i64) -> Self {
        Self { number: Some(number), ..self }
    }

    async fn upload(&self, app: &TestApp) -> FileUpload {
        let mut digest = FileDigest::new();
        self.records.iter().for_each(|record| digest.add(record));
        FileUpload {
            caller: app.caller_of(Role::LocalAuthority, "Z9A", Author::System).await,
            context: app.context("MESH"),
            door: Door::Mesh,
            mesh_message: self.message.map(str::to_owned),
            number: self.number,
            digest: digest.finish(),
            records: self.records.len(),
            organization: None,
        }
    }

    async fn send_by(&self, app: &TestApp, gateway: &Gateway) -> Result<FileAnswer, Error> {
        gateway.upload_file(self.upload(app).await, Box::new(self.records.clone().into_iter())).await
    }

    async fn send(&self, app: &TestApp) -> FileAnswer {
        self.send_by(app, &app.app.gateway).await.expect("the file is answered")
    }

    /// Sends the file, and stops once this many of its records are read.
    async fn begin(&self, app: &TestApp, stop_at: usize) -> Begun {
        let (release, released) = mpsc::channel();
        let records = Gated { records: self.records.clone().into_iter(), left: stop_at, released };
        let (gateway, upload) = (app.app.gateway.clone(), self.upload(app).await);
        let work = spawn(async move { gateway.upload_file(upload, Box::new(records)).await });
        // Whole batches are written; the records after them wait for the next.
        let judged = stop_at / 4 * 4;
        let query = "select coalesce(max(judged), -1) as n from upload where state = 'staged'";
        while app.number(query) < judged as i64 {
            tokio::task::yield_now().await;
        }
        Begun { release, work }
    }
}

/// Records of which the next comes when the test says so.
struct Gated {
    records: std::vec::IntoIter<ReadRecord>,
    left: usize,
    released: mpsc::Receiver<()>,
}

impl Iterator for Gated {
    type Item = ReadRecord;

    fn next(&mut self) -> Option<ReadRecord> {
        if self.left == 0 {
            // Dropped to go on: that is an error here, and meant.
            let _released = self.released.recv();
            self.left = usize::MAX;
        }
        self.left -= 1;
        self.records.next()
    }
}

/// A file that is being judged.
struct Begun {
    release: mpsc::Sender<()>,
    work: JoinHandle<Result<FileAnswer, Error>>,
}

impl Begun {
    async fn go_on(self) -> Result<FileAnswer, Error> {
        drop(self.release);
        self.work.await.expect("the upload ends")
    }

    /// As if its process had died.
    async fn die(self) {
        self.work.abort();
        assert!(self.work.await.is_err());
        drop(self.release);
    }
}

/// What everybody sees of the first children of a file.
async fn seen(app: &TestApp, children: u32) -> Vec<i64> {
    let mut seen = Vec::new();
    for index in 1..=children {
        let (child, owner) = (child(index), || app.authority("Z9A"));
        seen.push(app.clinician().get(&child.care_team()).await.total());
        seen.push(owner().get(&format!("/Patient/{}", child.nhs())).await.status.into());
        seen.push(owner().get(&format!("/Flag?patient={}", child.nhs())).await.total());
    }
    for path in ["/Flag/_history", "/Patient/_history", "/Flag?_count=200", "/Patient?_count=200"] {
        let reply = app.authority("Z9A").get(path).await;
        assert_eq!(reply.status, 200, "{}", reply.text);
        seen.push(reply.json["entry"].as_array().map_or(0, Vec::len) as i64);
    }
    seen
}

struct Down;

impl Demographics for Down {
    fn trace<'a>(&'a self, _: &'a [NhsNumber], _: Urgency) -> BoxFuture<'a, Result<Vec<Trace>, Unavailable>> {
        Box::pin(async { Err(Unavailable) })
    }
}

fn without_demographics(app: &TestApp) -> Gateway {
    Gateway { demographics: Arc::new(Down), ..app.app.gateway.clone() }
}

/// Entries that put children on record, two each.
fn entries(children: impl IntoIterator<Item = u32>) -> Vec<Value> {
    children
        .into_iter()
        .flat_map(|index| [child(index).put_patient(), child(index).post_flag("Z9A", CPP, START, None)])
        .collect()
}

fn numbered_bundle(number: i64, entries: &[Value]) -> Value {
    let system = "urn:oid:2.16.840.1.113883.2.1.3.2.4.18.46";
    with(bundle("batch", entries), "/identifier", json!({"system": system, "value": number.to_string()}))
}

/// The status of an upload, asked for until it has an answer.
async fn ended(app: &TestApp, status: &str) -> Reply {
    loop {
        let reply = app.authority("Z9A").get(status).await;
        if reply.status != 202 {
            return reply;
        }
        assert!(reply.header("x-progress").contains("records are judged"), "{}", reply.header("x-progress"));
        assert!(!reply.header("retry-after").is_empty());
        tokio::task::yield_now().await;
    }
}

fn status_path(app: &TestApp, reply: &Reply) -> String {
    assert_eq!(reply.status, 202, "{}", reply.text);
    reply.header("content-location").strip_prefix(&app.base).expect("a URL of this gateway").to_owned()
}

on_both_stores! {
    async fn what_is_staged_is_seen_by_nobody_until_all_of_it_counts(backend) {
        let app = with_children(backend, 13).await;
        let before = seen(&app, 6).await;
        let begun = TestFile::of(1..=13).numbered(5).begin(&app, 10).await;
        assert_eq!(app.number("select count(*) as n from plan_version"), 8, "two batches are written");
        assert_eq!(seen(&app, 6).await, before);

        let answer = begun.go_on().await.unwrap();

        assert_eq!((answer.code, answer.records, answer.refused, answer.repeated), (FileCode::Cpf02, 13, 0, false));
        assert_eq!(seen(&app, 6).await, [[1, 200, 1].repeat(6), vec![13, 13, 13, 13]].concat());
        let events = format!("select count(*) as n from audit_event where subtype = 'create' and patient = '{}'", child(9).nhs());
        assert_eq!(app.number(&events), 1);
        assert_eq!(app.number("select count(*) as n from organization where confirmed_ms is not null"), 1);
        assert!(app.verify().is_whole());
    }

    async fn a_dead_process_leaves_nothing_wherever_it_stopped(backend) {
        let app = with_children(backend, 10).await;
        let other = app.beside();
        for (round, stop_at) in [0, 3, 4, 9, 10].into_iter().enumerate() {
            let held = app.effects().await;
            let file = TestFile::of(1..=10);
            file.begin(&app, stop_at).await.die().await;
            assert!(stop_at < 4 || app.effects().await != held, "something was staged");
            // Its lease is not over yet: nobody touches what it may still be at.
            assert_eq!(other.app.gateway.sweep_uploads().await.unwrap(), 0);
            app.clock.advance(TimeDelta::seconds(61));
            if round % 2 == 0 {
                assert_eq!(other.app.gateway.sweep_uploads().await.unwrap(), 1);
            } else {
                let next = other.authority("Z9A").post("", &bundle("batch", &[entry("PUT", "Organization/Z9A", crate::harness::authority("Z9A", "WESTMARCH COUNTY COUNCIL", "01632960999"))])).await;
                assert_eq!(next.statuses(), [200], "{}", next.text);
            }
            let mut now = app.effects().await;
            now.insert("organization_version".to_owned(), held["organization_version"]);
            assert_eq!(now, held, "stopped at {stop_at}");
            assert_eq!(app.number("select count(*) as n from upload_record"), 0);
        }
        let left = "select count(*) as n from upload where state <> 'discarded' and door = 'mesh'";
        assert_eq!(app.number(left), 0);
        let told = app.auditor().get("/AuditEvent?outcome=8&_count=50").await;
        assert_eq!(told.resources("AuditEvent").len(), 5, "each is told: {}", told.text);

        let answer = TestFile::of(1..=10).send(&app).await;
        assert_eq!(answer.code, FileCode::Cpf02);
        app.clock.advance(TimeDelta::days(2));
        app.app.gateway.sweep_uploads().await.unwrap();
        assert_eq!(app.number("select count(*) as n from upload where door = 'mesh'"), 1);
        assert!(app.verify().is_whole());
    }

    async fn who_lost_the_lease_writes_nothing(backend) {
        let app = with_children(backend, 12).await;
        let other = app.beside();
        let held = app.effects().await;
        let begun = TestFile::of(1..=11).begin(&app, 9).await;
        app.clock.advance(TimeDelta::seconds(61));
        let next = other.authority("Z9A").post("", &bundle("batch", &entries([12]))).await;
        assert_eq!(next.statuses(), [201, 201], "{}", next.text);
        let then = app.effects().await;
        assert_eq!((then["plan"], then["person"]), (held["plan"] + 1, held["person"] + 1));

        let lost = begun.go_on().await;

        assert!(matches!(lost, Err(Error::Unavailable(StoreError::LeaseLost))), "{lost:?}");
        assert_eq!(app.effects().await, then);
        assert_eq!(TestFile::of(1..=11).send(&other).await.code, FileCode::Cpf02);
        assert!(app.verify().is_whole());
    }

    async fn the_next_change_of_an_authority_waits_for_the_one_before(backend) {
        let app = with_children(backend, 12).await;
        let other = app.beside();
        let begun = TestFile::of(1..=11).begin(&app, 9).await;
        let next = spawn(other.authority("Z9A").post("", &bundle("batch", &entries([12]))));
        let same = spawn(app.authority("Z9A").post("/Flag", &child(1).flag("Z9A", LAC, START, None)));
        // Another authority's is no business of these.
        let foreign = [child(12).put_patient(), child(12).post_flag("Z9B", LAC, START, None)];
        assert_eq!(app.authority("Z9B").post("", &bundle("batch", &foreign)).await.statuses(), [201, 201]);
        assert_eq!(app.number("select count(*) as n from upload where state = 'applied'"), 1);

        assert_eq!(begun.go_on().await.unwrap().code, FileCode::Cpf02);

        let next = next.await.unwrap();
        assert_eq!(next.statuses(), [201, 201], "{}", next.text);
        let same = same.await.unwrap();
        assert_eq!(same.status, 201, "by the child that the file has brought: {}", same.text);
    }

    async fn who_waits_too_long_is_told_when_to_come_again(backend) {
        let app = with_settings(backend, 12, |settings| settings.upload.wait_seconds = 0).await;
        let begun = TestFile::of(1..=11).begin(&app, 9).await;
        let many = entries(1..=12);
        let held = app.effects().await;
        for reply in [
            app.authority("Z9A").post("", &bundle("batch", &entries([12]))).await,
            app.authority("Z9A").post("/Flag", &child(12).flag("Z9A", CPP, START, None)).await,
            app.authority("Z9A").post("", &bundle("batch", &many)).await,
        ] {
            reply.assert_refused(503, "transient", "UNABLE_TO_CALL_SERVICE");
            assert_eq!(reply.header("retry-after"), "30");
        }
        assert_eq!(app.effects().await, held);
        assert_eq!(begun.go_on().await.unwrap().code, FileCode::Cpf02);
        let reply = app.authority("Z9A").post("", &bundle("batch", &many)).await;
        assert_eq!(reply.file_code(), "CPF02", "{}", reply.text);
    }

    async fn a_file_is_answered_once_and_its_number_used_once(backend) {
        let app = with_children(backend, 10).await;
        let mut file = TestFile::of(1..=9).numbered(7);
        file.records.insert(2, unreadable());
        file.records.push(record_of(&child(11), START));
        let first = file.send(&app).await;
        assert_eq!((first.code, first.records, first.refused, first.number), (FileCode::Cpf03, 11, 2, Some(7)));
        let held = app.row_counts().await;

        // Not even demographics are asked.
        app.clock.advance(TimeDelta::days(300));
        let again = file.send_by(&app, &without_demographics(&app)).await.unwrap();
        assert_eq!(again, FileAnswer { repeated: true, ..first.clone() });
        assert_eq!(app.row_counts().await, held);

        let mut other = file.clone();
        other.records.pop();
        for (file, word) in [(other.clone(), "used already"), (other.clone().numbered(6), "out of order")] {
            let refused = file.send(&app).await;
            assert_eq!((refused.code, refused.repeated), (FileCode::Cpf01, false));
            assert!(refused.reason.as_deref().unwrap_or_default().contains(word), "{refused:?}");
        }
        let mut now = app.row_counts().await;
        now.insert("audit_event".to_owned(), held["audit_event"]);
        assert_eq!(now, held, "a refused file leaves its event alone");

        assert_eq!(app.app.gateway.uploads.counts.gaps(), 0);
        let next = other.numbered(11).send(&app).await;
        assert_eq!((next.code, next.refused), (FileCode::Cpf03, 1));
        assert_eq!(app.app.gateway.uploads.counts.gaps(), 3, "8, 9 and 10 never came");
    }

    async fn the_same_message_is_the_same_file(backend) {
        let app = with_children(backend, 6).await;
        let file = TestFile { message: Some("20261123120000000001_ABCDEF"), ..TestFile::of(1..=6) };
        let first = file.send(&app).await;
        let held = app.row_counts().await;
        assert_eq!(file.send(&app).await, FileAnswer { repeated: true, ..first });
        assert_eq!(app.row_counts().await, held);
        let fresh = TestFile { message: Some("20261123120000000002_ABCDEF"), ..file }.send(&app).await;
        assert!(!fresh.repeated);
    }

    async fn refused_records_are_told_in_parts_and_are_resolved_by_what_loads_them(backend) {
        let app = with_children(backend, 6).await;
        app.register_as(&child(20), NumberStatus::Restricted, None).await;
        let mut file = TestFile::of([1, 7, 2, 20, 8, 9]);
        file.records.push(unreadable());
        let answer = file.send(&app).await;
        assert_eq!((answer.code, answer.refused), (FileCode::Cpf03, 5));

        let gateway = &app.app.gateway;
        let (mut told, mut after) = (Vec::new(), None);
        loop {
            let part = gateway.refused_records(answer.id, after, 2).await.unwrap();
            let Some(last) = part.last() else { break };
            after = Some(last.position);
            told.extend(part);
        }
        let seen: Vec<_> = told.iter().map(|record| (record.position, record.code, record.nhs_number)).collect();
        let cpr01 = RecordCode::Cpr01;
        assert_eq!(seen, [
            (1, cpr01, Some(child(7).number)),
            (3, RecordCode::Cpr02, None),
            (4, cpr01, Some(child(8).number)),
            (5, cpr01, Some(child(9).number)),
            (6, RecordCode::Cpr07, None),
        ]);
        assert!(told[1].problems.is_empty(), "of a sensitive record only the code is kept");
        assert_eq!((told[0].problems[0].element, told[4].problems[0].element), ("identifier", "period.start"));
        assert_eq!(told[4].problems[0].entry, 1);

        let open = "select count(*) as n from upload_record where nhs_number is not null and resolved_ms is null";
        assert_eq!(app.number(open), 3);
        for index in [7, 8, 9] {
            app.register(&child(index)).await;
        }
        // What is staged resolves nothing if it comes to nothing.
        TestFile::of([7, 8, 9, 1, 2]).begin(&app, 4).await.die().await;
        app.clock.advance(TimeDelta::seconds(61));
        assert_eq!(gateway.sweep_uploads().await.unwrap(), 1);
        assert_eq!(app.number(open), 3);
        assert_eq!(TestFile::of([7, 8, 1, 2, 3]).send(&app).await.code, FileCode::Cpf02);
        assert_eq!(app.number(open), 1);
        let one = app.authority("Z9A").post("", &bundle("batch", &entries([9]))).await;
        assert_eq!(one.file_code(), "CPF02", "{}", one.text);
        assert_eq!(app.number(open), 0);

        app.clock.advance(TimeDelta::days(91));
        app.app.forget_refused().await.unwrap();
        let told = gateway.refused_records(answer.id, None, 10).await.unwrap();
        assert_eq!(told.len(), 5);
        assert!(told.iter().all(|record| record.nhs_number.is_none() && record.problems.is_empty()));
    }

    async fn without_demographics_a_file_is_to_be_sent_again(backend) {
        let app = with_children(backend, 9).await;
        let held = app.effects().await;
        let file = TestFile::of(1..=9).numbered(1);
        let unverified = file.send_by(&app, &without_demographics(&app)).await.unwrap();
        assert_eq!((unverified.code, unverified.repeated), (FileCode::Cpf05, false));
        assert_eq!(app.effects().await, held);
        let answer = file.send(&app).await;
        assert_eq!((answer.code, answer.repeated), (FileCode::Cpf02, false));
    }

    async fn a_file_that_changes_while_it_is_read_is_not_applied(backend) {
        let app = with_children(backend, 9).await;
        let held = app.effects().await;
        let file = TestFile::of(1..=9);
        let short = file.records[..8].to_vec();
        let swapped = TestFile::of([2, 1, 3, 4, 5, 6, 7, 8, 9]).records;
        for records in [short, swapped] {
            let upload = file.upload(&app).await;
            let ended = app.app.gateway.upload_file(upload, Box::new(records.into_iter())).await;
            assert!(matches!(ended, Err(Error::Fault(_))), "{ended:?}");
            assert_eq!(app.effects().await, held);
        }
        assert_eq!(file.send(&app).await.code, FileCode::Cpf02);
    }

    async fn a_large_transaction_is_all_or_nothing(backend) {
        let app = with_children(backend, 12).await;
        let loaded = app.authority("Z9A").post("", &bundle("batch", &entries(1..=3))).await;
        assert_eq!(loaded.file_code(), "CPF02", "{}", loaded.text);
        let held = app.effects().await;
        let mut all = entries(1..=12);
        all[3] = child(2).post_flag("Z9A", CPP, START, Some("2026-10-01"));
        let mut bad = all.clone();
        bad.push(child(10).post_flag("Z9A", LAC, "2027-01-01", None));
        bad.push(child(13).put_patient());

        let refused = app.authority("Z9A").post("", &bundle("transaction", &bad)).await;

        assert_eq!((refused.status, refused.file_code()), (422, "CPF04".to_owned()), "{}", refused.text);
        let places: Vec<&str> =
            refused.json["issue"].as_array().unwrap().iter().filter_map(|issue| issue["expression"][0].as_str()).collect();
        assert_eq!(places, ["Bundle.entry[24].resource.period.start", "Bundle.entry[25].resource.identifier"]);
        assert_eq!(app.effects().await, held);
        assert_eq!(app.number("select count(*) as n from upload_record where code = 'CPR06'"), 3);
        assert_eq!(app.clinician().get(&child(2).care_team()).await.total(), 1);

        let reply = app.authority("Z9A").post("", &bundle("transaction", &all)).await;
        assert_eq!(reply.file_code(), "CPF02", "{}", reply.text);
        let expected: Vec<u16> = [200, 200, 200, 200, 200, 200].into_iter().chain([201; 18]).collect();
        assert_eq!(reply.statuses(), expected);
        assert!(app.verify().is_whole());
    }

    async fn many_records_are_answered_as_few_are(backend) {
        // The same entries to one who stages them and one who doesn't: only ids differ.
        let mut all = entries(1..=9);
        all[5]["resource"]["period"]["start"] = json!("2027-01-01");
        all[9]["resource"]["code"] = Value::Null;
        all.push(with_local_entry(3));
        all.push(entry("PUT", "Organization/Z9A", crate::harness::authority("Z9A", "RENAMED COUNCIL", "01632960188")));
        all.push(child(30).put_patient());
        all.swap(0, 12);
        let mut answers = Vec::new();
        for most in [64, 4] {
            let app = with_settings(backend, 9, |settings| settings.upload.batch_records = most).await;
            let reply = app.authority("Z9A").header("Prefer", "return=representation").post("", &numbered_bundle(1, &all)).await;
            assert_eq!(reply.file_code(), "CPF03", "{}", reply.text);
            let again = app.authority("Z9A").header("Prefer", "return=representation").post("", &numbered_bundle(1, &all)).await;
            for (index, entry) in reply.json["entry"].as_array().unwrap().iter().enumerate() {
                assert_eq!(again.json["entry"][index], *entry, "an answer is repeated unchanged");
            }
            let mut told = reply.json.clone();
            for entry in told["entry"].as_array_mut().unwrap() {
                for place in ["/response/location", "/resource/id", "/resource/extension"] {
                    if let Some(value) = entry.pointer_mut(place).filter(|value| !value.to_string().contains("999")) {
                        *value = Value::Null;
                    }
                }
            }
            answers.push(told);
        }
        assert_eq!(answers[0], answers[1]);
    }

    async fn a_number_is_used_alike_by_every_door(backend) {
        let app = with_children(backend, 10).await;
        let first = app.authority("Z9A").post("", &numbered_bundle(3, &entries(1..=9))).await;
        assert_eq!(first.file_code(), "CPF02", "{}", first.text);

        let by_mesh = TestFile::of(1..=9).numbered(3).send(&app).await;
        assert_eq!((by_mesh.code, by_mesh.repeated, by_mesh.records), (FileCode::Cpf02, true, 9));

        // The entries of each child in another order: the same records, answered at their own places.
        let turned: Vec<Value> = (1..=9).flat_map(|index| {
            [child(index).post_flag("Z9A", CPP, START, None), child(index).put_patient()]
        }).collect();
        let again = app.authority("Z9A").post("", &numbered_bundle(3, &turned)).await;
        let ids = |reply: &Reply, flag: usize| -> Vec<String> {
            reply.answers().chunks(2).map(|pair| pair[flag].location.clone().unwrap()).collect()
        };
        assert_eq!(ids(&again, 0), ids(&first, 1));
        assert_eq!(again.statuses(), [201; 18], "as when it came first");

        for (number, words) in [(3, "used already"), (2, "out of order")] {
            let refused = app.authority("Z9A").post("", &numbered_bundle(number, &entries(1..=2))).await;
            refused.assert_refused(422, "business-rule", "INVALID_VALUE");
            assert_eq!(refused.file_code(), "CPF01");
            assert!(refused.text.contains(words), "{}", refused.text);
        }
        // Few records use up a number as many do.
        let few = numbered_bundle(4, &entries([10]));
        let one = app.authority("Z9A").post("", &few).await;
        assert_eq!(one.statuses(), [201, 201], "{}", one.text);
        assert_eq!(app.authority("Z9A").post("", &few).await.json, one.json);
        let held = app.row_counts().await;
        assert_eq!(TestFile::of([10]).numbered(4).send(&app).await.code, FileCode::Cpf02);
        assert_eq!(app.row_counts().await, held);
    }

    async fn what_takes_long_is_answered_later(backend) {
        let app = with_settings(backend, 12, |settings| settings.upload.answer_within_seconds = 0).await;
        let begun = TestFile::of([12]).begin(&app, 0).await;
        let reply = app.authority("Z9A").post("", &bundle("batch", &entries(1..=11))).await;
        let status = status_path(&app, &reply);
        assert_eq!(app.authority("Z9A").get(&status).await.status, 202, "it waits");
        assert_eq!(begun.go_on().await.unwrap().code, FileCode::Cpf02);

        let told = ended(&app, &status).await;

        assert_eq!((told.status, &told.json["type"]), (200, &json!("batch-response")), "{}", told.text);
        assert_eq!(told.json["entry"][0]["response"]["status"], "200 OK");
        let answer = &told.json["entry"][0]["resource"];
        assert_eq!((&answer["type"], &answer["meta"]["tag"][0]["code"]), (&json!("batch-response"), &json!("CPF02")));
        assert_eq!(answer["entry"].as_array().map(Vec::len), Some(22));
        assert_eq!(app.clinician().get(&child(11).care_team()).await.total(), 1);
        app.authority("Z9B").get(&status).await.assert_refused(404, "not-found", "RESOURCE_NOT_FOUND");
        let unknown = format!("/upload-status/{}", uuid::Uuid::new_v4());
        app.authority("Z9A").get(&unknown).await.assert_refused(404, "not-found", "RESOURCE_NOT_FOUND");
        // Who has read it needs it no more; what was applied stays.
        assert_eq!(app.authority("Z9A").delete(&status).await.status, 202);
        assert_eq!(app.authority("Z9A").get(&status).await.status, 404);
        assert_eq!(app.authority("Z9A").delete(&status).await.status, 404);
        assert_eq!(app.clinician().get(&child(11).care_team()).await.total(), 1);
    }

    async fn who_asks_for_it_is_answered_later_whatever_the_size(backend) {
        let app = with_children(backend, 3).await;
        let later = || app.authority("Z9A").header("Prefer", "respond-async, return=representation");
        let mut bad = entries(1..=2);
        bad.push(child(1).post_flag("Z9A", LAC, "2027-01-01", None));
        let refused = later().post("", &bundle("transaction", &bad)).await;
        let told = ended(&app, &status_path(&app, &refused)).await;
        assert_eq!(told.json["entry"][0]["response"]["status"], "422 Unprocessable Entity", "{}", told.text);
        assert_eq!(told.json["entry"][0]["resource"]["meta"]["tag"][0]["code"], "CPF04");
        assert_eq!(app.clinician().get(&child(1).care_team()).await.total(), 0);

        let file = numbered_bundle(1, &entries(1..=2));
        let taken = later().post("", &file).await;
        let told = ended(&app, &status_path(&app, &taken)).await;
        let answer = &told.json["entry"][0]["resource"];
        assert_eq!(answer["entry"][1]["resource"]["resourceType"], "Flag", "{}", told.text);
        // What is known needs no time.
        let again = later().post("", &file).await;
        assert_eq!((again.status, &again.json), (200, answer), "{}", again.text);
        // An unusable envelope neither.
        assert_eq!(later().post("", &bundle("batch", &[])).await.status, 400);
    }

    async fn an_upload_is_taken_back(backend) {
        let app = with_children(backend, 12).await;
        let begun = TestFile::of([12]).begin(&app, 0).await;
        let later = app.authority("Z9A").header("Prefer", "respond-async");
        let reply = later.post("", &numbered_bundle(9, &entries(1..=11))).await;
        let status = status_path(&app, &reply);
        assert_eq!(app.authority("Z9B").delete(&status).await.status, 404);
        assert_eq!(app.authority("Z9A").delete(&status).await.status, 202);
        assert_eq!(app.authority("Z9A").get(&status).await.status, 404);
        assert_eq!(begun.go_on().await.unwrap().code, FileCode::Cpf02);
        // The next change comes after it; its number was not used.
        let next = app.authority("Z9A").post("", &numbered_bundle(9, &entries(1..=2))).await;
        assert_eq!(next.file_code(), "CPF02", "{}", next.text);
        assert_eq!(app.clinician().get(&child(11).care_team()).await.total(), 0);
    }

    async fn that_its_process_died_is_told(backend) {
        let app = with_children(backend, 12).await;
        let held = app.effects().await;
        let later = app.authority("Z9A").header("Prefer", "respond-async");
        let reply = later.post("", &bundle("batch", &entries(1..=11))).await;
        let status = status_path(&app, &reply);
        assert_eq!(ended(&app, &status).await.json["entry"][0]["response"]["status"], "200 OK");
        // As if its process had died just before it was applied.
        app.execute("update upload set state = 'staged', applied_ms = null, file_code = null, answer = null");
        let told = app.authority("Z9A").get(&status).await;
        assert_eq!(told.json["entry"][0]["response"]["status"], "503 Service Unavailable", "{}", told.text);
        assert!(told.text.contains("send it again"), "{}", told.text);
        assert_eq!(app.app.gateway.sweep_uploads().await.unwrap(), 1);
        assert_eq!(app.authority("Z9A").get(&status).await.json, told.json);
        assert_eq!(app.effects().await, held);
    }

    async fn look_ups_go_on_while_a_large_file_is_judged(backend) {
        let app = with_settings(backend, 400, |settings| {
            settings.upload.batch_records = 16;
            settings.upload.answer_within_seconds = 300;
        })
        .await;
        let on_record = app.authority("Z9B").post("", &bundle("batch", &[child(400).put_patient(), child(400).post_flag("Z9B", LAC, START, None)])).await;
        assert_eq!(on_record.statuses(), [201, 201]);
        let reply = spawn(app.authority("Z9A").post("", &bundle("batch", &entries(1..=399))));
        let mut looked = 0;
        while !reply.is_finished() {
            let looks = (0..8).map(|user| app.clinician_at("ZZ101", &format!("{:012}", looked * 8 + user)).get(&child(400).care_team()));
            let looks = looks.collect::<Vec<_>>();
            for look in join_all(looks).await {
                assert_eq!((look.status, look.total()), (200, 1), "{}", look.text);
            }
            looked += 1;
        }
        let reply = reply.await.unwrap();
        assert_eq!(reply.statuses(), [201; 798]);
        assert!(looked > 0);
        assert!(app.verify().is_whole());
    }
}

/// A LAC with a local id for a child.
fn with_local_entry(index: u32) -> Value {
    entry("POST", "Flag", with_local_id(child(index).flag("Z9A", LAC, "2026-10-01", None), "LAC-1"))
}

#[actix_web::test]
async fn twenty_thousand_entries_and_no_more() {
    let app = TestApp::start(Backend::Sqlite).await;
    let held = app.effects().await;
    let delete = |index: u32| entry("DELETE", &child(index).criteria("CPP-1"), Value::Null);
    let mut all: Vec<Value> = (1..=20_000).map(delete).collect();
    all.push(delete(20_001));
    let reply = app.authority("Z9A").post("", &bundle("batch", &all)).await;
    reply.assert_refused(413, "too-long", "INVALID_VALUE");
    assert_eq!(reply.file_code(), "CPF01", "{}", reply.text);
    assert_eq!(app.effects().await, held);
}

#[actix_web::test]
async fn sixty_four_megabytes_and_no_more() {
    let app = TestApp::start(Backend::Sqlite).await;
    let longest = usize::try_from(app.settings().upload.body_bytes).unwrap();
    let send = |bytes: usize| app.authority("Z9A").send("POST", "", Some(("application/fhir+json", vec![b' '; bytes])));
    send(longest + 1).await.assert_refused(413, "too-long", "INVALID_VALUE");
    send(longest).await.assert_refused(400, "structure", "VALIDATION_ERROR");
    // Other bodies stay small.
    let flag = app.authority("Z9A").send("POST", "/Flag", Some(("application/fhir+json", vec![b' '; (1 << 20) + 1])));
    flag.await.assert_refused(413, "too-long", "INVALID_VALUE");
}

/// How long a file takes, for people: `CPIS_RECORDS=10000 cargo test --test it -- --ignored --nocapture a_file_of_many`.
#[ignore = "a measurement, not a test"]
#[actix_web::test]
async fn a_file_of_many_records_takes_its_time() {
    let count: u32 = std::env::var("CPIS_RECORDS").ok().and_then(|count| count.parse().ok()).unwrap_or(10_000);
    for backend in [Backend::Sqlite, Backend::Postgres] {
        let app = with_settings(backend, count, |settings| {
            settings.upload.batch_records = 16;
            settings.upload.answer_within_seconds = 300;
        })
        .await;
        for round in ["new", "unchanged"] {
            let begun = std::time::Instant::now();
            let answer = TestFile::of(1..=count).send(&app).await;
            assert_eq!(answer.code, FileCode::Cpf02);
            eprintln!("{count} {round} records of a file on {backend:?}: {:?}", begun.elapsed());
        }
        let body = bundle("batch", &entries((1..=count).take(10_000)));
        let begun = std::time::Instant::now();
        let reply = app.authority("Z9A").post("", &body).await;
        assert_eq!(reply.file_code(), "CPF02");
        eprintln!("a Bundle of as many on {backend:?}: {:?}", begun.elapsed());
    }
}
