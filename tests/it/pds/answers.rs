//! Uploads that are verified with PDS: each of its answers, by each door, on both stores.

use chrono::TimeDelta;
use cpis_gateway::config::Settings;
use serde_json::{Value, json};

use crate::{
    harness::{
        Backend, CPP, Child, TestApp, bundle, child,
        mesh::{ACKNOWLEDGEMENT, Exchange},
        number, on_both_stores,
        pds::{PdsAnswer, PdsStandIn, patient},
    },
    mesh::{acknowledgement, file, pump},
};

/// Words that are in the stand-in's answers about others, and may be found nowhere.
const SECRETS: [&str; 3] = ["Hidden", "Secret", "2011-01-07"];

/// Every answer about a number that is a word about it, and the code that an upload gets for it.
fn answers() -> Vec<(PdsAnswer, &'static str)> {
    let person = |change: fn(&mut Value)| {
        let mut found = patient(&child(1));
        change(&mut found);
        found
    };
    let named = |change: fn(&mut Value)| (person(change), "CPR03");
    let odd = [
        (person(|_| {}), "CPR06"),
        (person(|found| found["deceasedDateTime"] = json!("2026-11-01T00:00:00+00:00")), "CPR06"),
        named(|found| found["birthDate"] = json!("2016-05-11")),
        named(|found| found["birthDate"] = json!("2017-05")),
        named(|found| found["name"][0]["family"] = json!("Otherwise")),
        named(|found| found["name"][0]["use"] = json!("old")),
        named(|found| found["name"][0]["period"] = json!({"end": "2026-11-22"})),
    ];
    let found = odd.into_iter().enumerate().map(|(index, (mut found, code))| {
        let number = child(u32::try_from(index).expect("a few") + 1);
        (found["id"], found["identifier"][0]["value"]) = (json!(number.nhs()), json!(number.nhs()));
        (PdsAnswer::Found(found), code)
    });
    let others = [
        (PdsAnswer::Minimal, "CPR03"),
        (PdsAnswer::Superseded(number(900)), "CPR05"),
        (PdsAnswer::Invalidated, "CPR01"),
        (PdsAnswer::Unknown, "CPR01"),
        (PdsAnswer::InvalidId, "CPR01"),
        (PdsAnswer::Restricted, "CPR02"),
        (PdsAnswer::VeryRestricted, "CPR02"),
    ];
    found.chain(others).collect()
}

/// Answers about a child that can't be relied on, or none at all.
fn faults(child: &Child) -> Vec<PdsAnswer> {
    let mut replaced_by_no_number = patient(child);
    for id in ["/id", "/identifier/0/value"] {
        *replaced_by_no_number.pointer_mut(id).expect("an element") = json!("9990000019");
    }
    let mut unmarked = patient(child);
    unmarked["meta"] = json!({"versionId": "2"});
    vec![
        PdsAnswer::Found(replaced_by_no_number),
        PdsAnswer::Found(unmarked),
        PdsAnswer::Denied,
        PdsAnswer::TimedOut,
        PdsAnswer::TooMany(None),
        PdsAnswer::TooMany(Some(3600)),
        PdsAnswer::Status(200),
        PdsAnswer::Status(302),
        PdsAnswer::Status(400),
        PdsAnswer::Status(403),
        PdsAnswer::Status(404),
        PdsAnswer::Status(500),
        PdsAnswer::Status(503),
        PdsAnswer::Text("{}".to_owned()),
        PdsAnswer::Malformed,
        PdsAnswer::Truncated,
        PdsAnswer::WrongType,
        PdsAnswer::Oversize,
        PdsAnswer::Broken,
        PdsAnswer::ForAnother(number(901)),
    ]
}

fn entries(children: &[Child]) -> Vec<Value> {
    children.iter().flat_map(|child| [child.put_patient(), child.post_flag("Z9A", CPP, "2026-10-01", None)]).collect()
}

/// PDS fails again and again here, and is to be asked all the same.
fn no_breaker(settings: &mut Settings) {
    settings.pds.breaker_failures = 1000;
    settings.pds.timeout_seconds = 2;
}

async fn plans(app: &TestApp, child: &Child) -> i64 {
    app.clinician().header("IsUnscheduledAccessEvent", "true").get(&child.care_team()).await.total()
}

/// Each record is judged by what PDS says of its number; nothing of another patient, or of a restricted one, comes out.
async fn each_answer_has_its_code(backend: Backend, batch_records: u16) {
    let (app, pds) = TestApp::start_with_pds_and(backend, |s| s.upload.batch_records = batch_records).await;
    let answers = answers();
    let children: Vec<Child> = (1..).take(answers.len()).map(child).collect();
    for (child, (answer, _)) in children.iter().zip(&answers) {
        pds.says(&child.number, answer.clone());
    }
    let reply = app.authority("Z9A").post("", &bundle("batch", &entries(&children))).await;
    assert_eq!(reply.file_code(), "CPF03", "{}", reply.text);
    let given = reply.answers();
    for (index, (child, (answer, code))) in children.iter().zip(&answers).enumerate() {
        for entry in &given[index * 2..index * 2 + 2] {
            assert!(entry.record_codes().contains(&(*code).to_owned()), "{answer:?}: {:?}", entry.issues);
            assert_eq!(entry.is_loaded(), *code == "CPR06", "{answer:?}");
        }
        assert_eq!(plans(&app, child).await, i64::from(*code == "CPR06"), "{answer:?}");
        assert_eq!(pds.times_asked(&child.number), 1, "{answer:?}");
    }
    for text in SECRETS {
        assert!(!reply.text.contains(text), "{text}");
        assert_eq!(app.columns_holding(text).await, Vec::<String>::new(), "{text} is stored");
    }
    assert!(!reply.text.contains(number(900).as_str()), "{}", reply.text);
}

on_both_stores! {
    async fn each_answer_has_its_code_in_a_small_bundle(backend) {
        each_answer_has_its_code(backend, 64).await;
    }

    async fn each_answer_has_its_code_in_a_staged_bundle(backend) {
        each_answer_has_its_code(backend, 4).await;
    }

    /// Nothing of the Bundle is loaded, whatever is known of its other records; sent again, it is judged afresh.
    async fn what_cannot_be_relied_on_is_no_match_and_the_same_again_loads(backend) {
        let (app, pds) = TestApp::start_with_pds_and(backend, no_breaker).await;
        let children = [child(1), child(2)];
        pds.knows(&children[0]);
        let held = app.effects().await;
        let sent = bundle("batch", &entries(&children));
        for fault in faults(&children[1]) {
            pds.says(&children[1].number, fault.clone());
            let reply = app.authority("Z9A").post("", &sent).await;
            reply.assert_refused(503, "transient", "UNABLE_TO_CALL_SERVICE");
            assert_eq!(reply.file_code(), "CPF05", "{fault:?}: {}", reply.text);
            assert!(!reply.header("retry-after").is_empty());
            assert!(SECRETS.iter().all(|text| !reply.text.contains(text)), "{fault:?}: {}", reply.text);
            assert_eq!(app.effects().await, held, "{fault:?}");
        }
        pds.knows(&children[1]);
        let reply = app.authority("Z9A").post("", &sent).await;
        assert_eq!(reply.file_code(), "CPF02", "{}", reply.text);
        assert_eq!((plans(&app, &children[0]).await, plans(&app, &children[1]).await), (1, 1));
    }

    /// A single interaction, a Bundle that is staged, and a file over MESH.
    async fn without_pds_every_door_says_to_send_it_again(backend) {
        let exchange = Exchange::new();
        let pds = PdsStandIn::start().await;
        let app = exchange.gateway_with(backend, |settings| {
            settings.pds = pds.settings();
            settings.upload.batch_records = 1;
            no_breaker(settings);
        }).await;
        pds.keep_time(&app.clock);
        let children = [child(1), child(2)];
        let records: Vec<(&Child, &str)> = children.iter().map(|child| (child, "2026-10-01")).collect();
        let (mesh, sent) = (file("Z9A", 7, &records), bundle("batch", &entries(&children)));
        for fault in [PdsAnswer::Status(503), PdsAnswer::Truncated] {
            pds.knows(&children[0]);
            pds.says(&children[1].number, fault);
            let held = app.stored();
            let reply = app.authority("Z9A").put(&format!("/Patient/{}", children[1].nhs()), &children[1].patient()).await;
            reply.assert_refused(503, "transient", "UNABLE_TO_CALL_SERVICE");
            let reply = app.authority("Z9A").post("", &sent).await;
            assert_eq!((reply.status, reply.file_code().as_str()), (503, "CPF05"), "{}", reply.text);
            exchange.send(&exchange.a, &mesh);
            pump(&app).await;
            let taken = exchange.take(&exchange.a);
            assert_eq!(taken[0].workflow, ACKNOWLEDGEMENT);
            assert_eq!(acknowledgement(&taken).code, "CPF05");
            assert_eq!(app.stored(), held);
            assert_eq!(plans(&app, &children[0]).await, 0);
        }
        pds.knows(&children[1]);
        exchange.send(&exchange.a, &mesh);
        pump(&app).await;
        assert_eq!(acknowledgement(&exchange.take(&exchange.a)).code, "CPF02");
        assert_eq!((plans(&app, &children[0]).await, plans(&app, &children[1]).await), (1, 1));
    }

    /// A hanging PDS costs an upload its time-out, and a look-up nothing.
    async fn a_slow_pds_is_no_match_and_delays_no_look_up(backend) {
        let (app, pds) = TestApp::start_with_pds_and(backend, |settings| {
            settings.pds.timeout_seconds = 1;
            settings.pds.attempts = 1;
        }).await;
        let (known, other) = (child(1), child(2));
        pds.knows(&known);
        let first = app.authority("Z9A").post("", &bundle("batch", &entries(std::slice::from_ref(&known)))).await;
        assert_eq!(first.file_code(), "CPF02", "{}", first.text);
        pds.says(&other.number, PdsAnswer::Slow);
        let sent = app.authority("Z9A").post("", &bundle("batch", &entries(std::slice::from_ref(&other))));
        let (upload, seen) = futures_util::future::join(sent, async {
            while pds.times_asked(&other.number) == 0 {
                tokio::task::yield_now().await;
            }
            plans(&app, &known).await
        }).await;
        assert_eq!((seen, upload.file_code().as_str()), (1, "CPF05"), "{}", upload.text);
        pds.knows(&other);
        app.clock.advance(TimeDelta::seconds(1));
        let again = app.authority("Z9A").post("", &bundle("batch", &entries(&[other]))).await;
        assert_eq!(again.file_code(), "CPF02", "{}", again.text);
    }
}
