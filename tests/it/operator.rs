//! What the operator sees and does: the metrics on their own listener, `/_status` with its details, and the notifications
//! that were not delivered, on the command line.

use std::{
    collections::BTreeMap,
    path::Path,
    process::{Command, Output},
};

use chrono::{TimeDelta, Utc};
use cpis_gateway::cpis::types::notice::{EndedReason, Topic};
use serde_json::{Value, json};

use crate::{
    harness::{Backend, CPP, TestApp, child, on_both_stores},
    notify::{Receiver, look_up, pump, subscribe},
    told::{asked, tell_ended},
};

/// Each sample of an exposition: name with labels, value.
fn samples(text: &str) -> BTreeMap<String, f64> {
    assert!(text.ends_with("# EOF\n"), "{text}");
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| {
            let (name, value) = line.rsplit_once(' ').expect("a value");
            (name.replace("{}", ""), value.parse().expect("a number"))
        })
        .collect()
}

/// The exposition as Prometheus gets it.
pub async fn scrape(app: &TestApp) -> String {
    let server = app.app.management_server().expect("the server starts");
    let handle = server.handle();
    actix_web::rt::spawn(server);
    let reply = app.client.get(format!("http://{}/metrics", app.app.management_address())).send().await.unwrap();
    assert_eq!(reply.status(), 200);
    assert_eq!(reply.headers()["content-type"], cpis_gateway::telemetry::metrics::CONTENT_TYPE);
    let text = reply.text().await.unwrap();
    handle.stop(false).await;
    text
}

async fn command(app: &TestApp, arguments: &[&str]) -> Output {
    let key = app.data_dir().join(cpis_gateway::auth::checkpoint_key::PRIVATE_FILE);
    let url = app.settings().database_url();
    let mut command = Command::new(env!("CARGO_BIN_EXE_cpis-gateway"));
    command.arg("notifications").args(arguments).args(["--sandbox", "--database-url", url.expose()]);
    std::env::vars().filter(|(name, _)| name.starts_with("CPIS_")).for_each(|(name, _)| {
        command.env_remove(name);
    });
    command.arg("--data").arg(app.data_dir()).env("CPIS_AUDIT__SIGNING_KEY", key);
    let ran = tokio::task::spawn_blocking(move || command.output()).await.expect("it ends").expect("the command runs");
    // The command goes by the machine's clock: what it makes due is due for the gateway too.
    app.clock.set(app.clock.now().max(Utc::now() + TimeDelta::seconds(1)));
    ran
}

async fn listed(app: &TestApp, arguments: &[&str]) -> Vec<Value> {
    let output = command(app, &[arguments, &["--json"]].concat()).await;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice::<Value>(&output.stdout).expect("JSON").as_array().expect("a list").clone()
}

fn text(output: &[u8]) -> String {
    String::from_utf8_lossy(output).into_owned()
}

on_both_stores! {
    async fn what_was_not_delivered_is_listed_and_sent_again(backend) {
        let app = TestApp::start_with(backend, |settings| settings.notify.retry_attempts = 2);
        let (app, hook) = (app.await, Receiver::start());
        let (first, second, held) = (child(1), child(2), child(3));
        for child in [&first, &second, &held] {
            app.on_record(child, &[("Z9A", CPP, "2026-09-14", None)]).await;
        }
        assert_eq!(listed(&app, &["list"]).await, Vec::<Value>::new());
        let id = subscribe(&app, "Z9A", &format!("{}/a", hook.base)).await;
        let reply = app.authority("Z9A").post("/Subscription", &asked(&app, &format!("{}/b", hook.base), Topic::RecordEnded, None)).await;
        let ended = reply.json["id"].as_str().unwrap().to_owned();
        pump(&app).await;
        hook.refuse("/a", 500, None);
        hook.refuse("/b", 500, None);
        look_up(&app, &first).await;
        pump(&app).await;
        app.clock.advance(TimeDelta::hours(2));
        pump(&app).await;
        look_up(&app, &second).await;
        look_up(&app, &held).await;
        tell_ended(&app, "Z9A", first.number, EndedReason::Adult, None).await;
        pump(&app).await;
        app.execute(&format!("update person set status = 'restricted' where nhs_number = '{}'", held.nhs()));

        let found = listed(&app, &["list"]).await;
        let of = |row: &Value| ["id", "topic", "state", "authority", "channel"].map(|name| row[name].as_str().unwrap().to_owned());
        let expected = |id: String, topic: &str, state: &str| [id, topic.to_owned(), state.to_owned(), "Z9A".to_owned(), "rest-hook".to_owned()];
        let mut rows: Vec<[String; 5]> = found.iter().map(of).collect();
        rows.sort();
        let mut wanted = vec![
            expected(format!("{id}/1"), "access", "undeliverable"),
            expected(format!("{id}/2"), "access", "failing"),
            expected(format!("{id}/3"), "access", "held"),
            expected(format!("{ended}/1"), "record-ended", "failing"),
        ];
        wanted.sort();
        assert_eq!(rows, wanted);
        let given_up = &found.iter().find(|row| row["state"] == "undeliverable").unwrap();
        assert_eq!((&given_up["attempts"], &given_up["last_error"]), (&json!(2), &json!("the endpoint answered 500")));
        assert_eq!(listed(&app, &["list", "--undeliverable"]).await.len(), 1);
        assert_eq!(listed(&app, &["list", "--authority", "Z9B"]).await, Vec::<Value>::new());
        assert_eq!(listed(&app, &["list", "--limit", "2"]).await.len(), 2);
        let table = text(&command(&app, &["list"]).await.stdout);
        assert!(table.contains("undeliverable") && table.contains(&format!("{id}/1")), "{table}");
        let sheet = text(&command(&app, &["show", &format!("{id}/1")]).await.stdout);
        assert!(sheet.contains("the endpoint answered 500"), "{sheet}");
        for child in [&first, &second, &held] {
            assert!(!table.contains(child.nhs()) && !sheet.contains(child.nhs()), "no number of a child");
        }
        for (wrong, code) in [
            (vec!["show", "x"], 2),
            (vec!["requeue"], 2),
            (vec!["requeue", "--all-undeliverable", "--authority", "Z9A"], 2),
            (vec!["list", "--authority", "z9a"], 2),
            (vec!["show", &format!("{id}/99")], 1),
        ] {
            let output = command(&app, &wrong).await;
            assert_eq!(output.status.code(), Some(code), "{wrong:?}: {}", text(&output.stderr));
        }

        hook.accept("/a");
        let done = command(&app, &["requeue", "--all-undeliverable"]).await;
        assert_eq!(text(&done.stdout), "Put back into the queue: 1\n", "{}", text(&done.stderr));
        assert_eq!(pump(&app).await.delivered, 1, "the one behind it waits for its own turn");
        let done = command(&app, &["requeue", "--authority", "Z9A", "--json"]).await;
        assert_eq!(serde_json::from_slice::<Value>(&done.stdout).unwrap(), json!({"requeued": 3}), "{}", text(&done.stderr));
        hook.accept("/b");
        assert_eq!(pump(&app).await.delivered, 2);
        assert_eq!(listed(&app, &["list"]).await.len(), 1, "the held one");

        let audit = app.auditor().get("/AuditEvent?_count=50").await;
        let by_hand = |event: &Value| event["agent"].to_string().contains("Operator at the command line");
        let done: Vec<Value> = audit.resources("AuditEvent").into_iter().filter(by_hand).collect();
        assert_eq!(done.len(), 3, "one for each subscription's share");
        assert!(done.iter().any(|event| event["entity"].to_string().contains(&id)), "{done:?}");
        assert!(app.verify().is_whole());
    }

    async fn the_metrics_are_scraped(backend) {
        let (app, hook) = (TestApp::start(backend).await, Receiver::start());
        let child = child(1);
        app.on_record(&child, &[("Z9A", CPP, "2026-09-14", None)]).await;
        subscribe(&app, "Z9A", &format!("{}/a", hook.base)).await;
        pump(&app).await;
        hook.refuse("/a", 503, None);
        look_up(&app, &child).await;
        look_up(&app, &crate::harness::child(2)).await;
        pump(&app).await;
        app.app.checkpoint().await.unwrap();
        app.clock.advance(TimeDelta::seconds(90));
        let exposition = scrape(&app).await;
        let found = samples(&exposition);
        for (name, value) in [
            ("cpis_look_ups_total{outcome=\"found\"}", 1.0),
            ("cpis_look_ups_total{outcome=\"nothing\"}", 1.0),
            ("cpis_look_up_seconds_count", 2.0),
            ("cpis_uploads_total{door=\"bundle\",code=\"CPF02\"}", 1.0),
            ("cpis_handshakes_total{result=\"taken\"}", 1.0),
            ("cpis_notifications_failed_total{channel=\"rest-hook\",topic=\"access\"}", 1.0),
            ("cpis_notifications_queued{channel=\"rest-hook\",topic=\"access\"}", 1.0),
            ("cpis_notifications_oldest_seconds{channel=\"rest-hook\",topic=\"access\"}", 90.0),
            ("cpis_subscriptions{topic=\"access\",status=\"active\"}", 1.0),
            ("cpis_audit_checkpoint_age_seconds", 90.0),
            ("cpis_writer_waiting", 0.0),
            ("cpis_store_up", 1.0),
        ] {
            assert_eq!(found.get(name), Some(&value), "{name}: {exposition}");
        }
        for secret in [child.nhs(), child.family, "555000000101", &hook.base, "Bearer"] {
            assert!(!exposition.contains(secret), "{exposition}");
        }
        let elsewhere = app.client.get(format!("{}/metrics", app.root)).send().await.unwrap();
        assert_eq!(elsewhere.status(), 404, "not where everybody is served");
    }

    async fn administrators_read_what_was_found_of_each_dependency(backend) {
        let app = TestApp::start(backend).await;
        let open = app.anonymous().get("//_status").await;
        let checks = open.json["checks"].as_object().unwrap();
        assert!(checks.values().all(|check| *check == json!({"status": "pass"})), "{}", open.text);
        for request in [app.clinician(), app.authority("Z9A"), app.auditor(), app.anonymous().with_token("rubbish")] {
            assert_eq!(request.get("//_status").await.json["checks"], open.json["checks"]);
        }
        let told = app.administrator().get("//_status").await;
        for name in ["store", "audit", "notifications", "authorities"] {
            assert!(told.json["checks"][name]["output"].as_str().is_some_and(|text| text.ends_with('.')), "{}", told.text);
        }
    }
}

#[actix_web::test]
async fn the_page_of_the_metrics_is_made_from_their_table() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/metrics.md");
    let page = std::fs::read_to_string(&path).unwrap();
    let (begin, end) = ("<!-- table: written by the tests -->\n", "<!-- /table -->\n");
    let (before, rest) = page.split_once(begin).expect("the table begins");
    let (_, after) = rest.split_once(end).expect("the table ends");
    let made = format!("{before}{begin}\n{}\n{end}{after}", cpis_gateway::telemetry::metrics::documented());
    if std::env::var_os("CPIS_WRITE_DOCS").is_some() {
        std::fs::write(&path, &made).unwrap();
    }
    assert_eq!(std::fs::read_to_string(&path).unwrap(), made, "run CPIS_WRITE_DOCS=1 cargo test --test it operator::");
}

#[actix_web::test]
async fn the_sandbox_keeps_its_management_on_this_machine() {
    let app = TestApp::start(Backend::Sqlite).await;
    assert!(app.app.management_address().ip().is_loopback());
}
