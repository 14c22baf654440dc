//! An authority subscribes and is told of accesses: over HTTP in, and over HTTP out to a real receiver. What needs a
//! finer view of the notifier (cut-off sendings, leases, restricted children) is tested beside it.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use actix_web::{App, HttpRequest, HttpResponse, HttpServer, dev::ServerHandle, http::StatusCode, web};
use chrono::TimeDelta;
use cpis_gateway::notify::Pumped;
use serde_json::{Value, json};
use tokio::sync::Notify;

use crate::harness::{CPP, Child, LAC, Reply, TestApp, answer, child, on_both_stores};

const PAYLOAD_CONTENT: &str =
    "http://hl7.org/fhir/uv/subscriptions-backport/StructureDefinition/backport-payload-content";

pub const HEARTBEAT: &str =
    "http://hl7.org/fhir/uv/subscriptions-backport/StructureDefinition/backport-heartbeat-period";

/// What a path of the receiver does with events; handshakes are taken.
#[derive(Clone, Debug)]
enum Behaviour {
    Refuse(u16, Option<&'static str>),
    UntilReleased(Arc<Notify>),
}

/// What came to a receiver: path, `Authorization`, body.
pub type Arrival = (String, String, Value);

/// What came, as it was sent: path, headers, body.
#[derive(Clone, Debug)]
pub struct Sent {
    pub path: String,
    pub headers: HashMap<String, String>,
    pub body: Vec<u8>,
}

#[derive(Clone, Default)]
struct Desk {
    behaviour: Arc<Mutex<HashMap<String, Behaviour>>>,
    seen: Arc<Mutex<Vec<Arrival>>>,
    sent: Arc<Mutex<Vec<Sent>>>,
    arrived: Arc<Notify>,
}

/// An authority's receiver on loopback.
pub struct Receiver {
    pub base: String,
    desk: Desk,
    server: ServerHandle,
}

impl Drop for Receiver {
    fn drop(&mut self) {
        // Not awaited: the runtime of the test ends with it.
        drop(self.server.stop(false));
        if !std::thread::panicking() {
            let seen = self.desk.seen.lock().unwrap();
            seen.iter().for_each(|(_, _, body)| answer::check_notification(body));
        }
    }
}

async fn receive(request: HttpRequest, body: web::Bytes, desk: web::Data<Desk>) -> HttpResponse {
    let path = request.path().to_owned();
    let secret = request.headers().get("authorization").map_or("", |value| value.to_str().unwrap()).to_owned();
    let headers = request.headers().iter().map(|(n, v)| (n.to_string(), v.to_str().unwrap().to_owned())).collect();
    desk.sent.lock().unwrap().push(Sent { path: path.clone(), headers, body: body.to_vec() });
    let body: Value = serde_json::from_slice(&body).unwrap();
    let is_event = kind(&body) == "event-notification";
    desk.seen.lock().unwrap().push((path.clone(), secret, body));
    desk.arrived.notify_waiters();
    let behaviour = desk.behaviour.lock().unwrap().get(&path).cloned();
    match behaviour.filter(|_| is_event) {
        None => HttpResponse::NoContent().finish(),
        Some(Behaviour::Refuse(status, retry_after)) => {
            let mut response = HttpResponse::build(StatusCode::from_u16(status).unwrap());
            if let Some(seconds) = retry_after {
                response.insert_header(("Retry-After", seconds));
            }
            response.finish()
        }
        Some(Behaviour::UntilReleased(release)) => {
            release.notified().await;
            HttpResponse::Ok().finish()
        }
    }
}

impl Receiver {
    pub fn start() -> Self {
        let desk = Desk::default();
        let data = web::Data::new(desk.clone());
        let server = HttpServer::new(move || App::new().app_data(data.clone()).default_service(web::to(receive)))
            .workers(1)
            .disable_signals()
            .bind(("127.0.0.1", 0))
            .unwrap();
        let base = format!("http://{}", server.addrs()[0]);
        let server = server.run();
        let handle = server.handle();
        actix_web::rt::spawn(server);
        Self { base, desk, server: handle }
    }

    pub fn refuse(&self, path: &str, status: u16, retry_after: Option<&'static str>) {
        self.behave(path, Behaviour::Refuse(status, retry_after));
    }

    fn behave(&self, path: &str, behaviour: Behaviour) {
        self.desk.behaviour.lock().unwrap().insert(path.to_owned(), behaviour);
    }

    pub fn accept(&self, path: &str) {
        self.desk.behaviour.lock().unwrap().remove(path);
    }

    pub fn got(&self, path: &str) -> Vec<Arrival> {
        let seen = self.desk.seen.lock().unwrap();
        seen.iter().filter(|(to, _, _)| to == path).cloned().collect()
    }

    /// What came to a path, as it was sent.
    pub fn sent(&self, path: &str) -> Vec<Sent> {
        self.desk.sent.lock().unwrap().iter().filter(|sent| sent.path == path).cloned().collect()
    }

    /// Bodies of the events that came to a path, in order.
    pub fn events(&self, path: &str) -> Vec<Value> {
        let bodies = self.got(path).into_iter().map(|(_, _, body)| body);
        bodies.filter(|body| kind(body) == "event-notification").collect()
    }

    pub fn numbers(&self, path: &str) -> Vec<i64> {
        self.events(path).iter().map(event_number).collect()
    }

    async fn until_events(&self, path: &str, count: usize) {
        let arrived = async {
            loop {
                let next = self.desk.arrived.notified();
                if self.events(path).len() >= count {
                    return;
                }
                next.await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), arrived).await.expect("the events arrive");
    }
}

pub fn named<'a>(list: &'a Value, name: &str) -> &'a Value {
    list.as_array().and_then(|list| list.iter().find(|one| one["name"] == name)).unwrap_or(&Value::Null)
}

pub fn status(body: &Value) -> &Value {
    &body["entry"][0]["resource"]["parameter"]
}

pub fn kind(body: &Value) -> &str {
    named(status(body), "type")["valueCode"].as_str().unwrap_or_default()
}

fn event_number(body: &Value) -> i64 {
    let event = &named(status(body), "notification-event")["part"];
    named(event, "event-number")["valueString"].as_str().unwrap().parse().unwrap()
}

fn access_id(body: &Value) -> String {
    body["entry"][1]["resource"]["id"].as_str().unwrap().to_owned()
}

fn up_to(count: i64) -> Vec<i64> {
    (1..=count).collect()
}

pub fn wanted(app: &TestApp, endpoint: &str) -> Value {
    json!({
        "resourceType": "Subscription", "status": "requested", "reason": "Duty team",
        "criteria": format!("{}/SubscriptionTopic/cpis-access", app.base),
        "channel": {
            "type": "rest-hook", "endpoint": endpoint, "payload": "application/fhir+json",
            "_payload": {"extension": [{"url": PAYLOAD_CONTENT, "valueCode": "full-resource"}]},
            "header": ["Authorization: Bearer hook-secret"],
        },
    })
}

/// The authority asks for a subscription; its id.
pub async fn subscribe(app: &TestApp, ods: &str, endpoint: &str) -> String {
    let reply = app.authority(ods).post("/Subscription", &wanted(app, endpoint)).await;
    assert_eq!(reply.status, 201, "{}", reply.text);
    reply.json["id"].as_str().unwrap().to_owned()
}

pub async fn pump(app: &TestApp) -> Pumped {
    app.app.notifier.pump().await.expect("the notifier works")
}

pub async fn look_up(app: &TestApp, child: &Child) -> Reply {
    let reply = app.clinician().get(&child.care_team()).await;
    assert_eq!(reply.status, 200, "{}", reply.text);
    reply
}

/// Children with a plan of Z9A each, so that each look-up is listed.
pub async fn children(app: &TestApp, count: u32) -> Vec<Child> {
    let children: Vec<Child> = (1..=count).map(child).collect();
    for child in &children {
        app.on_record(child, &[("Z9A", CPP, "2026-09-14", None)]).await;
    }
    children
}

on_both_stores! {
    async fn a_handshake_makes_a_subscription_active_and_its_secret_is_never_shown(backend) {
        let (app, hook) = (TestApp::start(backend).await, Receiver::start());
        let endpoint = format!("{}/a", hook.base);

        let created = app.authority("Z9A").post("/Subscription", &wanted(&app, &endpoint)).await;

        assert_eq!(created.status, 201, "{}", created.text);
        let id = created.json["id"].as_str().unwrap().to_owned();
        assert_eq!(created.header("location"), format!("{}/Subscription/{id}", app.base));
        assert_eq!((created.header("etag"), &created.json["status"]), ("W/\"1\"", &json!("requested")));
        assert_eq!(pump(&app).await, Pumped { handshakes: 1, ..Pumped::default() });
        let [(_, secret, handshake)] = &hook.got("/a")[..] else { panic!("one handshake") };
        assert_eq!((secret.as_str(), kind(handshake)), ("Bearer hook-secret", "handshake"));
        let read = app.authority("Z9A").get(&format!("/Subscription/{id}")).await;
        assert_eq!((read.status, &read.json["status"], read.header("etag")), (200, &json!("active"), "W/\"2\""));
        let found = app.authority("Z9A").get("/Subscription?status=active,error").await;
        assert_eq!((found.total(), &found.resources("Subscription")[0]["id"]), (1, &json!(id)));
        assert_eq!(app.authority("Z9A").get("/Subscription?status=requested").await.total(), 0);
        for reply in [created, read, found] {
            assert!(!reply.text.contains("secret"), "{}", reply.text);
        }
    }

    async fn an_authority_sees_its_own_subscriptions_only(backend) {
        let (app, hook) = (TestApp::start(backend).await, Receiver::start());
        let id = subscribe(&app, "Z9A", &format!("{}/a", hook.base)).await;
        let path = format!("/Subscription/{id}");

        let not_found = ("not-found", "RESOURCE_NOT_FOUND");
        app.authority("Z9B").get(&path).await.assert_refused(404, not_found.0, not_found.1);
        app.authority("Z9B").delete(&path).await.assert_refused(404, not_found.0, not_found.1);
        assert_eq!(app.authority("Z9B").get("/Subscription").await.total(), 0);
        app.clinician().get(&path).await.assert_refused(403, "forbidden", "ACCESS_DENIED");
        app.auditor().post("/Subscription", &wanted(&app, &hook.base)).await.assert_refused(403, "forbidden", "ACCESS_DENIED");

        let stale = app.authority("Z9A").header("If-Match", "W/\"7\"").delete(&path).await;
        stale.assert_refused(412, "conflict", "RESOURCE_VERSION_MISMATCH");
        assert_eq!(app.authority("Z9A").delete(&path).await.status, 204);
        app.authority("Z9A").get(&path).await.assert_refused(410, "deleted", "RESOURCE_NOT_FOUND");
        assert_eq!(app.authority("Z9A").delete(&path).await.status, 204, "deleting again changes nothing");
        assert_eq!(pump(&app).await, Pumped::default());
        assert!(hook.got("/a").is_empty(), "a deleted subscription is never called");
    }

    async fn what_this_version_can_not_do_is_refused_in_words_and_audited(backend) {
        let app = TestApp::start(backend).await;
        let before = app.auditor().get("/AuditEvent?_total=accurate&_count=1").await.total();
        let mut refused = 0;
        for (pointer, value, words) in [
            ("/channel/_payload/extension/0/valueCode", json!("everything"), "id-only"),
            ("/channel/_payload/extension/0/url", json!(HEARTBEAT), "backport-payload-content"),
            ("/channel/extension/0/url", json!(PAYLOAD_CONTENT), "backport-heartbeat-period"),
            ("/channel/extension/0/valueUnsignedInt", json!(5), "from 60 to 604800"),
            ("/channel/endpoint", json!("http://169.254.169.254/latest"), "special network"),
            ("/channel/endpoint", json!("https://10.1.2.3/"), "private"),
            ("/channel/type", json!("email"), "rest-hook"),
            ("/channel/payload", json!("application/fhir+xml"), "application/fhir+json"),
            ("/criteria", json!("https://elsewhere.example.org/SubscriptionTopic/cpis-access"), "topic"),
            ("/criteria", json!(format!("{}/SubscriptionTopic/cpis-other", app.base)), "topic"),
            ("/status", json!("active"), "requested"),
            ("/end", json!("2026-11-23T11:59:59Z"), "past"),
            ("/channel/endpoint", json!("ftp://hook.example.org/"), "endpoint"),
            ("/channel/header/0", json!("Host: other.example.org"), "header"),
        ] {
            let mut body = wanted(&app, "https://hook.example.org/cpis");
            body["end"] = json!("2027-01-01T00:00:00Z");
            body["channel"]["extension"] = json!([{"url": HEARTBEAT, "valueUnsignedInt": 60}]);
            *body.pointer_mut(pointer).unwrap() = value;
            let reply = app.authority("Z9A").post("/Subscription", &body).await;
            reply.assert_refused(422, "business-rule", "INVALID_VALUE");
            let issues = reply.json["issue"].as_array().unwrap();
            assert_eq!(issues.len(), 1, "{pointer}: {}", reply.text);
            assert!(issues[0]["diagnostics"].as_str().unwrap().contains(words), "{pointer}: {}", reply.text);
            refused += 1;
        }
        let mut invalid = wanted(&app, "https://hook.example.org/cpis");
        invalid.as_object_mut().unwrap().remove("reason");
        app.authority("Z9A").post("/Subscription", &invalid).await.assert_refused(400, "required", "MISSING_VALUE");
        app.authority("Z9A").post("/Subscription", &json!({"resourceType": "Flag"})).await.assert_refused(400, "value", "INVALID_VALUE");
        refused += 2;
        assert_eq!(app.authority("Z9A").get("/Subscription").await.total(), 0);
        let after = app.auditor().get("/AuditEvent?_total=accurate&_count=1").await.total();
        // And the two other requests in between: the auditor's first and the authority's search.
        assert_eq!(after - before, refused + 2);
    }

    async fn each_authority_is_told_once_of_an_access_and_not_of_its_repeat(backend) {
        let (app, hook) = (TestApp::start(backend).await, Receiver::start());
        let child = child(1);
        app.on_record(&child, &[("Z9A", CPP, "2026-09-14", None), ("Z9B", LAC, "2025-03-01", None)]).await;
        for (ods, path) in [("Z9A", "/a"), ("Z9B", "/b"), ("Z9C", "/c")] {
            subscribe(&app, ods, &format!("{}{path}", hook.base)).await;
        }
        assert_eq!(pump(&app).await.handshakes, 3);

        look_up(&app, &child).await;
        assert_eq!(pump(&app).await, Pumped { delivered: 2, ..Pumped::default() });
        app.clock.advance(TimeDelta::hours(24) - TimeDelta::milliseconds(1));
        look_up(&app, &child).await;
        assert_eq!(pump(&app).await, Pumped::default(), "a repeat within 24 hours");
        app.clock.advance(TimeDelta::milliseconds(1));
        look_up(&app, &child).await;
        assert_eq!(pump(&app).await.delivered, 2);

        assert_eq!((hook.numbers("/a"), hook.numbers("/b"), hook.numbers("/c")), (up_to(2), up_to(2), vec![]));
        let (a, b) = (hook.events("/a"), hook.events("/b"));
        assert_eq!(access_id(&a[0]), access_id(&b[0]), "one access");
        assert_ne!(a[0]["id"], b[0]["id"], "two notifications");
        // What was told can be read again by whom it was told to.
        for (entry, name) in [(1, "AuditEvent"), (2, "PractitionerRole")] {
            let told = &a[0]["entry"][entry]["resource"];
            assert_eq!(told["resourceType"], name);
            let path = format!("/{name}/{}", access_id(&a[0]));
            assert_eq!(&app.authority("Z9A").get(&path).await.json, told);
            app.authority("Z9C").get(&path).await.assert_refused(404, "not-found", "RESOURCE_NOT_FOUND");
        }
        let role = &a[0]["entry"][2]["resource"];
        assert_eq!(role["practitioner"]["identifier"]["value"], "555000000101");
    }

    async fn a_look_up_without_a_result_tells_nobody(backend) {
        let (app, hook) = (TestApp::start(backend).await, Receiver::start());
        subscribe(&app, "Z9A", &format!("{}/a", hook.base)).await;
        let (ended, unknown) = (child(1), child(2));
        app.on_record(&ended, &[("Z9A", CPP, "2025-01-01", Some("2025-11-24"))]).await;
        app.clock.advance(TimeDelta::days(3));
        assert_eq!(look_up(&app, &ended).await.total(), 0, "its 365 days are over");
        look_up(&app, &unknown).await;
        assert_eq!(pump(&app).await, Pumped { handshakes: 1, ..Pumped::default() });
    }

    async fn numbers_have_no_gaps_however_many_look_at_once(backend) {
        let (app, hook) = (TestApp::start(backend).await, Receiver::start());
        subscribe(&app, "Z9A", &format!("{}/a", hook.base)).await;
        pump(&app).await;
        let children = children(&app, 12).await;

        let looks = futures_util::future::join_all(children.iter().map(|child| look_up(&app, child)));
        let (_, first) = tokio::join!(looks, app.app.notifier.pump());
        let delivered = first.unwrap().delivered + pump(&app).await.delivered;

        assert_eq!(delivered, children.len());
        assert_eq!(hook.numbers("/a"), up_to(12));
        let mut told: Vec<String> = hook.events("/a").iter().map(access_id).collect();
        told.sort_unstable();
        told.dedup();
        assert_eq!(told.len(), children.len(), "each access once");
    }

    async fn a_stuck_hook_does_not_delay_another_authority(backend) {
        // Were the stuck hook waited for, only its timeout would end the test's first wait, and too late.
        let (app, hook) = (TestApp::start_with(backend, |s| s.notify.hook_timeout_seconds = 300).await, Receiver::start());
        let both = child(1);
        app.on_record(&both, &[("Z9A", CPP, "2026-09-14", None), ("Z9B", CPP, "2026-09-14", None)]).await;
        let release = Arc::new(Notify::new());
        hook.behave("/stuck", Behaviour::UntilReleased(release.clone()));
        subscribe(&app, "Z9A", &format!("{}/stuck", hook.base)).await;
        subscribe(&app, "Z9B", &format!("{}/b", hook.base)).await;
        pump(&app).await;

        look_up(&app, &both).await;
        let notifier = app.app.notifier.clone();
        let round = tokio::spawn(async move { notifier.pump().await });
        hook.until_events("/b", 1).await;
        hook.until_events("/stuck", 1).await;
        app.clock.advance(TimeDelta::hours(24));
        look_up(&app, &both).await;
        // Either round may send it: the first one's task for this hook may still be at work.
        let second = pump(&app).await.delivered;
        hook.until_events("/b", 2).await;
        assert_eq!((hook.numbers("/b"), hook.numbers("/stuck")), (up_to(2), up_to(1)));

        hook.accept("/stuck");
        release.notify_one();
        assert_eq!(round.await.unwrap().unwrap().delivered + second, 4);
        assert_eq!(hook.numbers("/stuck"), up_to(2));
    }

    async fn a_refused_event_is_sent_again_and_its_owner_can_read_why(backend) {
        let app = TestApp::start_with(backend, |settings| {
            settings.notify.retry_attempts = 3;
            settings.notify.retry_first_seconds = 30;
            settings.notify.retry_longest_seconds = 3600;
        });
        let (app, hook) = (app.await, Receiver::start());
        let id = subscribe(&app, "Z9A", &format!("{}/a", hook.base)).await;
        let own = || async { app.authority("Z9A").get(&format!("/Subscription/{id}")).await.json };
        pump(&app).await;
        let children = children(&app, 2).await;
        look_up(&app, &children[0]).await;
        look_up(&app, &children[1]).await;

        hook.refuse("/a", 503, Some("600"));
        assert_eq!(pump(&app).await, Pumped { failed: 1, waiting: 2, ..Pumped::default() });
        app.clock.advance(TimeDelta::seconds(599));
        assert_eq!(pump(&app).await.failed, 0, "Retry-After is longer than the first pause");
        hook.refuse("/a", 500, None);
        app.clock.advance(TimeDelta::seconds(1));
        assert_eq!(pump(&app).await.failed, 1);
        let retrying = own().await;
        assert_eq!(retrying["status"], "active");
        assert_eq!(retrying["error"], "Event 1 was not taken and is sent again: the endpoint answered 500.");
        app.clock.advance(TimeDelta::seconds(60));
        assert_eq!(pump(&app).await, Pumped { failed: 1, waiting: 1, ..Pumped::default() });
        let given_up = own().await;
        assert_eq!(given_up["status"], "error");
        assert_eq!(given_up["error"], "Event 1 was not taken in 3 tries: the endpoint answered 500.");

        hook.accept("/a");
        assert_eq!(pump(&app).await, Pumped { delivered: 1, ..Pumped::default() });
        assert_eq!(hook.numbers("/a"), [1, 1, 1, 2]);
        let healthy = own().await;
        assert_eq!((&healthy["status"], &healthy["error"]), (&json!("active"), &Value::Null));
    }

    async fn a_restart_goes_on_where_it_stopped(backend) {
        let (app, hook) = (TestApp::start(backend).await, Receiver::start());
        subscribe(&app, "Z9A", &format!("{}/a", hook.base)).await;
        pump(&app).await;
        let children = children(&app, 3).await;
        look_up(&app, &children[0]).await;
        hook.refuse("/a", 503, None);
        assert_eq!(pump(&app).await.failed, 1);
        look_up(&app, &children[1]).await;

        let app = app.restart().await;
        look_up(&app, &children[2]).await;
        hook.accept("/a");
        // The old process may have died: its lease is respected until it has run out.
        app.clock.advance(TimeDelta::minutes(5));
        assert_eq!(pump(&app).await, Pumped { delivered: 3, ..Pumped::default() });

        assert_eq!(hook.numbers("/a"), [1, 1, 2, 3]);
        let events = hook.events("/a");
        assert_eq!(events[0]["id"], events[1]["id"]);
    }

    async fn a_late_subscription_gets_the_last_thirty_days(backend) {
        let (app, hook) = (TestApp::start(backend).await, Receiver::start());
        let child = child(1);
        app.on_record(&child, &[("Z9A", CPP, "2026-09-14", None)]).await;
        for _ in 0..3 {
            look_up(&app, &child).await;
            app.clock.advance(TimeDelta::days(15));
        }
        // 45, 30 and 15 days ago.
        subscribe(&app, "Z9A", &format!("{}/late", hook.base)).await;
        assert_eq!(pump(&app).await, Pumped { handshakes: 1, delivered: 2, ..Pumped::default() });
        look_up(&app, &child).await;
        assert_eq!(pump(&app).await.delivered, 1);
        assert_eq!(hook.numbers("/late"), up_to(3));
        let recorded: Vec<String> = hook.events("/late").iter()
            .map(|body| body["entry"][1]["resource"]["recorded"].as_str().unwrap()[..10].to_owned())
            .collect();
        assert_eq!(recorded, ["2026-12-08", "2026-12-23", "2027-01-07"]);
    }
}
