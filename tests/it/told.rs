//! What an authority is told of its own children beside accesses, in each form that it can ask for, and that it can read
//! again what it was told; heartbeats; that what is sent is signed.

use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use chrono::TimeDelta;
use cpis_gateway::{
    cpis::types::{
        NhsNumber,
        child::NumberStatus,
        notice::{EndedReason, InactiveReason, Topic},
    },
    store::{self, StoreError, Tx, outbox},
};
use openssl::{
    pkey::{Id, PKey},
    sign::Verifier,
};
use serde_json::{Value, json};

use crate::{
    harness::{Backend, CPP, Child, TestApp, child, number, ods, on_both_stores},
    notify::{HEARTBEAT, Receiver, Sent, kind, look_up, named, pump, status, wanted},
};

const CONTENTS: [&str; 3] = ["empty", "id-only", "full-resource"];

/// A subscription to a topic; `None` leaves the content out.
pub fn asked(app: &TestApp, endpoint: &str, topic: Topic, content: Option<&str>) -> Value {
    let mut body = wanted(app, endpoint);
    body["criteria"] = json!(format!("{}/SubscriptionTopic/{}", app.base, topic.name()));
    match content {
        Some(content) => body["channel"]["_payload"]["extension"][0]["valueCode"] = json!(content),
        None => drop(body["channel"].as_object_mut().unwrap().remove("_payload")),
    }
    body
}

async fn subscribe(app: &TestApp, ods: &str, body: &Value) -> String {
    let reply = app.authority(ods).post("/Subscription", body).await;
    assert_eq!(reply.status, 201, "{}", reply.text);
    reply.json["id"].as_str().unwrap().to_owned()
}

async fn write(app: &TestApp, change: impl Fn(&mut Tx<'_>) -> Result<(), StoreError> + Send + 'static) {
    app.app.gateway.store.write(Vec::new(), move |tx| change(tx)).await.expect("it is written");
}

/// What becomes of a number, in one transaction with what its authority is told.
pub async fn tell_inactive(
    app: &TestApp,
    ods_code: &str,
    number: NhsNumber,
    reason: InactiveReason,
    by: Option<NhsNumber>,
) {
    let (code, at) = (ods(ods_code), app.clock.now());
    write(app, move |tx| {
        let authority = store::organization::find(tx.conn, &code)?.expect("the authority").id;
        let person = store::person::find_or_create(tx.conn, &number)?.id;
        match (reason, &by) {
            (InactiveReason::Superseded, Some(by)) => {
                let replacing = store::person::find_or_create(tx.conn, by)?.id;
                store::person::supersede(tx.conn, person, replacing, at.timestamp_millis())?;
            }
            (InactiveReason::Retired, _) => store::person::set_status(tx.conn, person, NumberStatus::Retired)?,
            _ => store::person::set_status(tx.conn, person, NumberStatus::Invalid)?,
        }
        outbox::add_inactive_number(tx.conn, authority, &number, reason, by.as_ref(), at)
    })
    .await;
}

pub async fn tell_ended(app: &TestApp, ods_code: &str, number: NhsNumber, reason: EndedReason, flag: Option<String>) {
    let (code, at) = (ods(ods_code), app.clock.now());
    write(app, move |tx| {
        let authority = store::organization::find(tx.conn, &code)?.expect("the authority").id;
        let plan = match &flag {
            None => None,
            Some(id) => store::plan::find(tx.conn, id.parse().expect("an id"))?.map(|held| held.key),
        };
        outbox::add_record_ended(tx.conn, authority, &number, reason, plan, at)
    })
    .await;
}

async fn own_flag(app: &TestApp, ods: &str, child: &Child) -> Value {
    let found = app.authority(ods).get(&format!("/Flag?patient={}", child.nhs())).await;
    found.resources("Flag").remove(0)
}

fn event(body: &Value) -> &Value {
    named(status(body), "notification-event")
}

fn reason(body: &Value) -> &Value {
    &event(body)["extension"][0]["valueCodeableConcept"]["coding"][0]["code"]
}

/// Relative reference of the focus.
fn focus(app: &TestApp, body: &Value) -> String {
    let reference = named(&event(body)["part"], "focus")["valueReference"]["reference"].as_str().unwrap_or_default();
    reference.replace(&format!("{}/", app.base), "")
}

on_both_stores! {
    async fn each_topic_is_told_in_each_content_and_can_be_read_again(backend) {
        let (app, hook) = (TestApp::start(backend).await, Receiver::start());
        let (first, second) = (child(1), child(2));
        app.on_record(&first, &[("Z9A", CPP, "2026-09-14", None), ("Z9B", CPP, "2026-09-14", None)]).await;
        app.on_record(&second, &[("Z9A", CPP, "2026-09-14", None)]).await;
        let flag = own_flag(&app, "Z9A", &second).await;
        let mut ids = Vec::new();
        for topic in Topic::ALL {
            for content in CONTENTS {
                let path = format!("{}/{}/{content}", hook.base, topic.code());
                let id = subscribe(&app, "Z9A", &asked(&app, &path, topic, Some(content))).await;
                ids.push((topic, content, id));
            }
        }
        pump(&app).await;
        look_up(&app, &first).await;
        tell_inactive(&app, "Z9A", first.number, InactiveReason::Superseded, Some(number(9))).await;
        tell_ended(&app, "Z9A", second.number, EndedReason::Adult, flag["id"].as_str().map(str::to_owned)).await;
        assert_eq!(pump(&app).await.delivered, 9);

        let patient = app.authority("Z9A").get(&format!("/Patient/{}", first.nhs())).await;
        assert_eq!(patient.json["link"][0]["type"], "replaced-by", "{}", patient.text);
        assert_eq!(patient.json["link"][0]["other"]["identifier"]["value"], number(9).as_str());
        assert_eq!(patient.json["identifier"][0]["period"]["end"], "2026-11-23T12:00:00.000Z");
        for (topic, content, id) in &ids {
            let [told] = &hook.events(&format!("/{}/{content}", topic.code()))[..] else { panic!("one event") };
            let expected = match topic {
                Topic::Access => &Value::Null,
                Topic::InactiveNumber => &json!("superseded"),
                Topic::RecordEnded => &json!("adult"),
            };
            let past = app.authority("Z9A").get(&format!("/Subscription/{id}/$events")).await;
            assert_eq!(event(&past.json), event(told), "the content of the subscription without another wish");
            assert_eq!(kind(&past.json), "query-event");
            for wish in CONTENTS {
                let reply = app.authority("Z9A").get(&format!("/Subscription/{id}/$events?content={wish}")).await;
                assert_eq!(reason(&reply.json), if wish == "empty" { &Value::Null } else { expected });
                assert_eq!(reply.json["entry"][1]["resource"].is_object(), wish == "full-resource");
            }
            if *content == "empty" {
                assert_eq!(told["entry"].as_array().unwrap().len(), 1, "{told}");
                assert!(!told.to_string().contains(first.nhs()) && reason(told).is_null());
                continue;
            }
            assert_eq!(reason(told), expected);
            let focus = focus(&app, told);
            let read = app.authority("Z9A").get(&format!("/{focus}")).await;
            assert_eq!(read.status, 200, "{focus}: {}", read.text);
            let resource = &told["entry"][1]["resource"];
            if *content == "full-resource" {
                assert_eq!(&read.json, resource, "what is told is what can be read");
            } else {
                assert!(resource.is_null());
            }
            if *topic == Topic::RecordEnded {
                app.authority("Z9B").get(&format!("/{focus}")).await.assert_refused(404, "not-found", "RESOURCE_NOT_FOUND");
            }
        }
        let other = app.authority("Z9B").get(&format!("/Patient/{}", first.nhs())).await;
        assert_eq!((other.status, &other.json["link"]), (200, &Value::Null), "it was told nothing yet");
    }

    /// A retired number leads nowhere, whatever was known before; one that is found valid again is shown as ever.
    async fn a_retired_number_is_never_told_with_a_replacement(backend) {
        let (app, hook) = (TestApp::start(backend).await, Receiver::start());
        let child = child(1);
        app.on_record(&child, &[("Z9A", CPP, "2026-09-14", None)]).await;
        let path = format!("/Patient/{}", child.nhs());
        let tag = app.authority("Z9A").get(&path).await.header("etag").to_owned();
        let unchanged = app.authority("Z9A").header("If-None-Match", &tag).get(&path).await;
        assert_eq!(unchanged.status, 304);
        tell_inactive(&app, "Z9A", child.number, InactiveReason::Superseded, Some(number(9))).await;
        let changed = app.authority("Z9A").header("If-None-Match", &tag).get(&path).await;
        assert_eq!((changed.status, changed.header("etag")), (200, tag.as_str()), "no version of what was sent");
        app.execute(&format!("update person set status = 'retired' where nhs_number = '{}'", child.nhs()));
        subscribe(&app, "Z9A", &asked(&app, &format!("{}/a", hook.base), Topic::InactiveNumber, Some("full-resource"))).await;
        pump(&app).await;
        let [told] = &hook.events("/a")[..] else { panic!("one event") };
        let read = app.authority("Z9A").get(&path).await;
        let searched = app.authority("Z9A").get(&format!("/Patient?identifier=https://fhir.nhs.uk/Id/nhs-number|{}", child.nhs())).await;
        for text in [told.to_string(), read.text, searched.text] {
            assert!(!text.contains(number(9).as_str()) && !text.contains("replaced-by"), "{text}");
            assert!(text.contains("\"use\":\"old\""), "{text}");
        }
        app.execute(&format!("update person set status = 'current' where nhs_number = '{}'", child.nhs()));
        let again = app.authority("Z9A").header("If-None-Match", &tag).get(&path).await;
        assert_eq!((again.status, &again.json["identifier"][0]["period"]), (200, &Value::Null), "{}", again.text);
    }

    async fn a_plan_that_its_owner_deleted_meanwhile_is_named_as_gone(backend) {
        let (app, hook) = (TestApp::start(backend).await, Receiver::start());
        let child = child(1);
        app.on_record(&child, &[("Z9A", CPP, "2026-09-14", None)]).await;
        let flag = own_flag(&app, "Z9A", &child).await["id"].as_str().unwrap().to_owned();
        tell_ended(&app, "Z9A", child.number, EndedReason::Reopened, Some(flag.clone())).await;
        assert_eq!(app.authority("Z9A").delete(&format!("/Flag/{flag}")).await.status, 204);
        tell_ended(&app, "Z9A", child.number, EndedReason::Withheld, None).await;
        subscribe(&app, "Z9A", &asked(&app, &format!("{}/a", hook.base), Topic::RecordEnded, Some("full-resource"))).await;
        pump(&app).await;
        let [ended, withheld] = &hook.events("/a")[..] else { panic!("two events") };
        assert_eq!((reason(ended), &ended["entry"][1]["response"]["status"]), (&json!("reopened"), &json!("410")));
        assert!(ended["entry"][1]["resource"].is_null());
        assert_eq!((reason(withheld), focus(&app, withheld)), (&json!("withheld"), format!("Patient/{}", child.nhs())));
        assert_eq!(withheld["entry"][1]["resource"]["id"], child.nhs());
    }

    async fn what_is_asked_of_the_channel_is_kept_and_honoured(backend) {
        let (app, hook) = (TestApp::start(backend).await, Receiver::start());
        let endpoint = format!("{}/a", hook.base);
        let mut body = asked(&app, &endpoint, Topic::RecordEnded, None);
        let backport = HEARTBEAT.replace("backport-heartbeat-period", "");
        let extensions = json!([
            {"url": HEARTBEAT, "valueUnsignedInt": 3600},
            {"url": format!("{backport}backport-timeout"), "valueUnsignedInt": 5},
            {"url": format!("{backport}backport-max-count"), "valuePositiveInt": 20},
        ]);
        body["channel"]["extension"] = extensions.clone();
        body["channel"]["payload"] = json!("application/json");
        let id = subscribe(&app, "Z9A", &body).await;
        pump(&app).await;
        let path = format!("/Subscription/{id}");
        let read = app.authority("Z9A").get(&path).await;
        assert_eq!(read.json["channel"]["extension"], extensions);
        assert_eq!(read.json["channel"]["payload"], "application/json");
        assert_eq!(read.json["channel"]["_payload"]["extension"][0]["valueCode"], "id-only", "the default");
        let sent = hook.sent("/a");
        assert_eq!(sent[0].headers["content-type"], "application/json");

        app.clock.advance(TimeDelta::seconds(3599));
        assert_eq!(pump(&app).await.heartbeats, 0);
        app.clock.advance(TimeDelta::seconds(1));
        assert_eq!(pump(&app).await.heartbeats, 1);
        let heartbeat: Value = serde_json::from_slice(&hook.sent("/a")[1].body).unwrap();
        assert_eq!((kind(&heartbeat), event(&heartbeat)), ("heartbeat", &Value::Null));

        body["id"] = json!(id);
        body["channel"]["extension"][0]["valueUnsignedInt"] = json!(60);
        let changed = app.authority("Z9A").put(&path, &body).await;
        assert_eq!((changed.status, &changed.json["status"]), (200, &json!("active")), "no new handshake: {}", changed.text);
        app.clock.advance(TimeDelta::seconds(60));
        assert_eq!(pump(&app).await.heartbeats, 1, "the new period counts from now on");

        body["criteria"] = json!(format!("{}/SubscriptionTopic/cpis-access", app.base));
        let other = app.authority("Z9A").put(&path, &body).await;
        other.assert_refused(422, "business-rule", "INVALID_VALUE");
        assert_eq!(other.json["issue"][0]["expression"][0], "Subscription.criteria");
    }

    /// Whoever receives a notification can tell it from another's with the key that is published.
    async fn every_sending_is_signed_with_the_published_key(backend) {
        let (app, hook) = (TestApp::start(backend).await, Receiver::start());
        let child = child(1);
        app.on_record(&child, &[("Z9A", CPP, "2026-09-14", None)]).await;
        subscribe(&app, "Z9A", &wanted(&app, &format!("{}/a", hook.base))).await;
        pump(&app).await;
        hook.refuse("/a", 503, None);
        look_up(&app, &child).await;
        pump(&app).await;
        hook.accept("/a");
        app.clock.advance(TimeDelta::minutes(2));
        pump(&app).await;

        let keys = app.client.get(format!("{}/.well-known/jwks.json", app.root)).send().await.unwrap();
        assert_eq!((keys.status(), &keys.headers()["content-type"]), (reqwest::StatusCode::OK, &"application/jwk-set+json".parse().unwrap()));
        let keys: Value = serde_json::from_str(&keys.text().await.unwrap()).unwrap();
        let sent = hook.sent("/a");
        assert_eq!(sent.len(), 3);
        for one in &sent {
            assert!(is_signed(&keys, one, &one.body));
            assert!(!is_signed(&keys, one, b"{}"));
            let body: Value = serde_json::from_slice(&one.body).unwrap();
            assert_eq!(body["id"], one.headers["webhook-id"].as_str());
        }
        assert_eq!(sent[1].headers["webhook-id"], sent[2].headers["webhook-id"], "the same notification");
        assert_ne!(sent[1].headers["webhook-timestamp"], sent[2].headers["webhook-timestamp"], "another sending");
        assert_eq!(sent[2].headers["webhook-timestamp"], app.clock.now().timestamp().to_string());
        let restarted = app.restart().await;
        let after = restarted.client.get(format!("{}/.well-known/jwks.json", restarted.root)).send().await.unwrap();
        assert_eq!(serde_json::from_str::<Value>(&after.text().await.unwrap()).unwrap(), keys, "the key stays");
    }
}

/// As docs/notifications.md says it is checked.
fn is_signed(keys: &Value, sent: &Sent, body: &[u8]) -> bool {
    let x = URL_SAFE_NO_PAD.decode(keys["keys"][0]["x"].as_str().unwrap()).unwrap();
    let key = PKey::public_key_from_raw_bytes(&x, Id::ED25519).unwrap();
    let signature = STANDARD.decode(sent.headers["webhook-signature"].strip_prefix("v1a,").unwrap()).unwrap();
    let signed =
        [sent.headers["webhook-id"].as_bytes(), b".", sent.headers["webhook-timestamp"].as_bytes(), b".", body];
    Verifier::new_without_digest(&key).unwrap().verify_oneshot(&signature, &signed.concat()).unwrap()
}

/// What docs/notifications.md shows is run as it stands: it takes what was sent, and refuses it when a byte is another.
#[actix_web::test]
async fn the_page_for_receivers_shows_how_to_check() {
    let (app, hook) = (TestApp::start(Backend::Sqlite).await, Receiver::start());
    subscribe(&app, "Z9A", &wanted(&app, &format!("{}/a", hook.base))).await;
    pump(&app).await;
    let page = include_str!("../../docs/notifications.md");
    let (_, rest) = page.split_once("<!-- check.sh -->\n```sh\n").expect("the commands");
    let script = rest.split_once("```").expect("their end").0.to_owned();
    let sent = hook.sent("/a").remove(0);
    for (body, good) in [(sent.body.clone(), true), ([sent.body.as_slice(), b" "].concat(), false)] {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("body"), body).unwrap();
        let mut shell = std::process::Command::new("sh");
        shell.args(["-ec", &script]).current_dir(directory.path()).env("GATEWAY", &app.root);
        for (name, header) in
            [("ID", "webhook-id"), ("TIMESTAMP", "webhook-timestamp"), ("SIGNATURE", "webhook-signature")]
        {
            shell.env(name, &sent.headers[header]);
        }
        let ran = tokio::task::spawn_blocking(move || shell.output()).await.unwrap().unwrap();
        assert_eq!(ran.status.success(), good, "{}", String::from_utf8_lossy(&ran.stderr));
    }
}

#[actix_web::test]
async fn a_signing_key_of_its_own_is_used_when_there_is_one() {
    let app = TestApp::start_with(Backend::Sqlite, |settings| {
        let path = settings.data_dir.join("notify.pem");
        let key = PKey::generate_ed25519().unwrap();
        std::fs::write(&path, key.private_key_to_pem_pkcs8().unwrap()).unwrap();
        settings.notify.signing_key = Some(path);
    })
    .await;
    let pem = std::fs::read(app.data_dir().join("notify.pem")).unwrap();
    let own = PKey::private_key_from_pem(&pem).unwrap().raw_public_key().unwrap();
    let keys = app.client.get(format!("{}/.well-known/jwks.json", app.root)).send().await.unwrap();
    let keys: Value = serde_json::from_str(&keys.text().await.unwrap()).unwrap();
    assert_eq!(keys["keys"][0]["x"], URL_SAFE_NO_PAD.encode(own));
}
