//! The notifier over a real SQLite store and a real HTTP receiver on loopback; the clock stands until it is moved.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use actix_web::{
    App, HttpRequest, HttpResponse, HttpServer,
    dev::ServerHandle,
    http::{StatusCode, header},
    web,
};
use chrono::{DateTime, TimeZone, Utc};
use serde_json::Value;
use tempfile::TempDir;
use tokio::sync::{Notify, watch};
use uuid::Uuid;

use super::*;
use crate::{
    clock::Clock,
    cpis::{
        calendar::Calendar,
        later::Later,
        limits::Limits,
        notifications::ROUTED_AT_ONCE,
        types::{
            NhsNumber, OdsCode,
            access::AccessAuthor,
            caller::Author,
            child::NumberStatus,
            notice::{EndedReason, InactiveReason, Topic},
            organization::OrganizationKind,
            subscription::{Content, Hook, NewSubscription, Payload, Subscription, SubscriptionStatus},
        },
    },
    demographics::Off,
    outside::{hook::HookTimeouts, target::Targets},
    store::{
        Location, Options, Store, access, child, delivery,
        organization::{self, NewOrganization},
        outbox, person, subscription,
    },
    telemetry::metrics::{self, Metrics},
};

const BASE: &str = "https://cpis.example.org/cpis/FHIR/R4";
const NUMBER: &str = "9990000018";

/// What a path of the receiver does.
#[derive(Clone, Debug)]
enum Behaviour {
    Answer(StatusCode, Option<&'static str>),
    /// Takes handshakes, and answers events only when released.
    Stuck(Arc<Notify>),
}

#[derive(Clone, Default)]
struct Desk {
    behaviour: Arc<Mutex<HashMap<String, Behaviour>>>,
    seen: Arc<Mutex<Vec<(String, Value)>>>,
    arrived: Arc<Notify>,
}

/// A receiver of hooks: takes everything unless told otherwise.
struct Receiver {
    base: String,
    desk: Desk,
    handle: ServerHandle,
}

async fn receive(request: HttpRequest, body: web::Bytes, desk: web::Data<Desk>) -> HttpResponse {
    let path = request.path().to_owned();
    let body: Value = serde_json::from_slice(&body).unwrap();
    let is_event = parameter(&body, "type")["valueCode"] == "event-notification";
    desk.seen.lock().unwrap().push((path.clone(), body));
    desk.arrived.notify_waiters();
    let behaviour = desk.behaviour.lock().unwrap().get(&path).cloned();
    match behaviour {
        Some(Behaviour::Stuck(release)) if is_event => {
            release.notified().await;
            HttpResponse::Ok().finish()
        }
        Some(Behaviour::Answer(status, retry_after)) => {
            let mut response = HttpResponse::build(status);
            if let Some(after) = retry_after {
                response.insert_header((header::RETRY_AFTER, after));
            }
            response.finish()
        }
        _ => HttpResponse::Ok().finish(),
    }
}

impl Receiver {
    fn start() -> Self {
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
        Self { base, desk, handle }
    }

    fn behave(&self, path: &str, behaviour: Behaviour) {
        self.desk.behaviour.lock().unwrap().insert(path.to_owned(), behaviour);
    }

    /// Waits until `path` has got so many events, the wanted at the latest when they arrive.
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
        tokio::time::timeout(Duration::from_secs(30), arrived).await.unwrap();
    }

    fn got(&self, path: &str) -> Vec<Value> {
        let seen = self.desk.seen.lock().unwrap();
        seen.iter().filter(|(to, _)| to == path).map(|(_, body)| body.clone()).collect()
    }

    /// How many events each path has got.
    fn counts(&self) -> HashMap<String, usize> {
        let mut counts = HashMap::new();
        for (path, body) in self.desk.seen.lock().unwrap().iter() {
            *counts.entry(path.clone()).or_default() +=
                usize::from(parameter(body, "type")["valueCode"] == "event-notification");
        }
        counts
    }

    fn handshakes(&self, path: &str) -> usize {
        self.got(path).iter().filter(|body| parameter(body, "type")["valueCode"] == "handshake").count()
    }

    /// (event number, notification id, access id) of each event that came, in order.
    fn events(&self, path: &str) -> Vec<(i64, String, String)> {
        let told = self.got(path);
        let events = told.iter().filter(|body| parameter(body, "type")["valueCode"] == "event-notification");
        events
            .map(|body| {
                let event = parameter(body, "notification-event");
                let number = part(event, "event-number")["valueString"].as_str().unwrap().parse().unwrap();
                let access = body["entry"][1]["resource"]["id"].as_str().unwrap().to_owned();
                assert_eq!(body["entry"][2]["resource"]["id"], access.as_str());
                (number, body["id"].as_str().unwrap().to_owned(), access)
            })
            .collect()
    }

    fn numbers(&self, path: &str) -> Vec<i64> {
        self.events(path).into_iter().map(|(number, _, _)| number).collect()
    }

    fn accesses(&self, path: &str) -> Vec<String> {
        self.events(path).into_iter().map(|(_, _, access)| access).collect()
    }
}

fn parameter<'a>(bundle: &'a Value, name: &str) -> &'a Value {
    named(&bundle["entry"][0]["resource"]["parameter"], name)
}

fn part<'a>(parameter: &'a Value, name: &str) -> &'a Value {
    named(&parameter["part"], name)
}

fn named<'a>(list: &'a Value, name: &str) -> &'a Value {
    list.as_array().unwrap().iter().find(|one| one["name"] == name).unwrap_or(&Value::Null)
}

/// A store with two authorities.
struct World {
    directory: TempDir,
    clock: Clock,
    gateway: Gateway,
    authorities: Vec<i64>,
}

fn noon() -> DateTime<Utc> {
    Utc.with_ymd_and_hms(2026, 3, 1, 12, 0, 0).unwrap()
}

fn open(directory: &TempDir, clock: &Clock) -> Gateway {
    let path = directory.path().join("notify.sqlite");
    let location = Location::parse(&format!("sqlite:{}", path.display())).unwrap();
    location.migrate(202603).unwrap();
    let options = Options { location, readers: 4, process: Uuid::new_v4().to_string(), clock: clock.clone() };
    Gateway {
        store: Store::open(options).unwrap(),
        clock: clock.clone(),
        calendar: Calendar::new(chrono_tz::Tz::Europe__London),
        limits: Limits::default(),
        demographics: Arc::new(Off),
        disclose_demographics: false,
        uploads: crate::cpis::upload::turn::Uploads::default(),
        metrics: Metrics::default(),
        later: Later::default(),
    }
}

impl World {
    async fn new() -> Self {
        let (directory, clock) = (tempfile::tempdir().unwrap(), Clock::standing_at(noon()));
        let gateway = open(&directory, &clock);
        let made = gateway.store.write(Vec::new(), |tx| {
            let mut authority = |ods: &str| {
                let new = NewOrganization {
                    ods: OdsCode::parse(ods).unwrap(),
                    name: format!("Authority {ods}"),
                    kind: OrganizationKind::LocalAuthority,
                    care_setting: None,
                    sensitive: false,
                    office_phone: None,
                    duty_phone: None,
                    part_of: None,
                };
                organization::create(tx.conn, &new, 0)
            };
            Ok(vec![authority("Z01")?, authority("Z02")?])
        });
        let authorities = made.await.unwrap();
        Self { directory, clock, gateway, authorities }
    }

    fn settings() -> NotifierSettings {
        NotifierSettings {
            hook_timeout: TimeDelta::seconds(20),
            retry_first: TimeDelta::seconds(30),
            retry_longest: TimeDelta::hours(1),
            retry_attempts: 4,
            catch_up: TimeDelta::days(30),
        }
    }

    fn notifier(&self, process: &str) -> Notifier {
        self.notifier_with(process, Self::settings())
    }

    fn notifier_with(&self, process: &str, settings: NotifierSettings) -> Notifier {
        let timeouts = HookTimeouts { connect: Duration::from_secs(5), total: settings.hook_timeout.to_std().unwrap() };
        let hooks = HookClient::new(timeouts, Targets::sandbox(&[])).unwrap();
        let key = NotificationKey::from_secret(b"a secret").unwrap();
        Notifier::new(self.gateway.clone(), (hooks, key), settings, BASE.to_owned(), process.to_owned())
    }

    /// The program ends and starts again on the same database.
    fn reopen(&mut self) {
        self.gateway.store.close(None);
        self.gateway = open(&self.directory, &self.clock);
    }

    async fn subscribe(&self, authority: usize, endpoint: &str) -> Uuid {
        self.subscribe_until(authority, endpoint, None).await
    }

    async fn subscribe_until(&self, authority: usize, endpoint: &str, end: Option<DateTime<Utc>>) -> Uuid {
        self.subscribe_to(authority, endpoint, |new| new.end_ms = end.map(|end| end.timestamp_millis())).await
    }

    async fn subscribe_to(&self, authority: usize, endpoint: &str, change: impl FnOnce(&mut NewSubscription)) -> Uuid {
        let (id, now_ms) = (Uuid::new_v4(), self.clock.now().timestamp_millis());
        let mut new = NewSubscription {
            id,
            authority_id: self.authorities[authority],
            topic: Topic::Access,
            criteria: format!("{BASE}/SubscriptionTopic/cpis-access"),
            hook: Hook {
                endpoint: endpoint.to_owned(),
                headers: vec!["Authorization: Bearer abc".to_owned()],
                payload: Payload::FhirJson,
                content: Content::FullResource,
                heartbeat: None,
                timeout: None,
                max_count: None,
            },
            reason: "Duty team".to_owned(),
            end_ms: None,
        };
        change(&mut new);
        self.gateway.store.write(Vec::new(), move |tx| subscription::create(tx.conn, &new, now_ms)).await.unwrap();
        id
    }

    async fn subscription(&self, authority: usize, id: Uuid) -> Subscription {
        let authority = self.authorities[authority];
        self.gateway.store.read(move |conn| subscription::find(conn, authority, id)).await.unwrap().unwrap().0
    }

    /// An access of the child, listed for these authorities at this moment; its id.
    async fn access(&self, authorities: &[usize]) -> String {
        let (id, at) = (Uuid::new_v4(), self.clock.now());
        let keys: Vec<i64> = authorities.iter().map(|index| self.authorities[*index]).collect();
        let written = self.gateway.store.write(Vec::new(), move |tx| {
            let number = NhsNumber::parse(NUMBER).unwrap();
            let author = AccessAuthor {
                author: Author::System,
                client_id: "ed-system".to_owned(),
                organization: OdsCode::parse("RZZ99").unwrap(),
                organization_name: "Example Hospital".to_owned(),
                sensitive: false,
                scheduled_setting: false,
            };
            let new = access::NewAccess {
                id,
                person_id: person::find_or_create(tx.conn, &number)?.id,
                nhs_number: number,
                author_key: "system",
                author: &author,
                at,
                request_id: "r1",
            };
            let sequence = access::insert(tx.conn, &new, &keys)?;
            for key in &keys {
                // It is told because the child is theirs.
                child::find_or_create_key(tx.conn, *key, new.person_id)?;
                outbox::add_access(tx.conn, *key, sequence, at)?;
            }
            Ok(())
        });
        written.await.unwrap();
        id.to_string()
    }

    async fn accesses(&self, count: usize, authorities: &[usize]) -> Vec<String> {
        let mut ids = Vec::new();
        for _ in 0..count {
            ids.push(self.access(authorities).await);
        }
        ids
    }

    async fn set_number_status(&self, status: NumberStatus) {
        let changed = self.gateway.store.write(Vec::new(), move |tx| {
            let person = person::find_or_create(tx.conn, &NhsNumber::parse(NUMBER).unwrap())?;
            person::set_status(tx.conn, person.id, status)
        });
        changed.await.unwrap();
    }
}

fn up_to(count: i64) -> Vec<i64> {
    (1..=count).collect()
}

#[actix_web::test]
async fn nothing_is_told_before_the_handshake_and_each_event_once_after_it() {
    let (world, hook) = (World::new().await, Receiver::start());
    let notifier = world.notifier("p1");
    hook.behave("/a", Behaviour::Answer(StatusCode::SERVICE_UNAVAILABLE, None));
    let id = world.subscribe(0, &format!("{}/a", hook.base)).await;
    let first = world.access(&[0, 1]).await;
    assert_eq!(notifier.pump().await.unwrap(), Pumped { failed: 1, ..Pumped::default() });
    assert_eq!(notifier.pump().await.unwrap(), Pumped::default(), "not due again yet");
    let waits = world.subscription(0, id).await;
    assert_eq!((waits.status, waits.version), (SubscriptionStatus::Requested, 2));
    assert!(waits.error.unwrap().contains("the endpoint answered 503"));
    assert_eq!((hook.handshakes("/a"), hook.numbers("/a")), (1, vec![]));

    hook.behave("/a", Behaviour::Answer(StatusCode::OK, None));
    world.clock.advance(TimeDelta::seconds(30));
    let second = world.access(&[0]).await;
    assert_eq!(notifier.pump().await.unwrap(), Pumped { handshakes: 1, delivered: 2, ..Pumped::default() });
    let active = world.subscription(0, id).await;
    assert_eq!((active.status, active.error, active.events), (SubscriptionStatus::Active, None, 2));
    let third = world.access(&[0]).await;
    assert_eq!(notifier.pump().await.unwrap(), Pumped { delivered: 1, ..Pumped::default() });
    assert_eq!(notifier.pump().await.unwrap(), Pumped::default());
    assert_eq!((hook.numbers("/a"), hook.accesses("/a")), (up_to(3), vec![first, second, third]));
    assert_eq!(hook.handshakes("/a"), 2);
    hook.handle.stop(false).await;
}

#[actix_web::test]
async fn each_authority_gets_its_own_events_under_its_own_numbers() {
    let (world, hook) = (World::new().await, Receiver::start());
    let notifier = world.notifier("p1");
    for (authority, path) in [(0, "/a"), (1, "/b"), (0, "/a2")] {
        world.subscribe(authority, &format!("{}{path}", hook.base)).await;
    }
    let both = world.access(&[0, 1]).await;
    let one = world.access(&[1]).await;
    notifier.pump().await.unwrap();
    assert_eq!((hook.accesses("/a"), hook.accesses("/a2")), (vec![both.clone()], vec![both.clone()]));
    assert_eq!((hook.accesses("/b"), hook.numbers("/b")), (vec![both, one], up_to(2)));
    let ids = |path: &str| hook.events(path).into_iter().map(|(_, id, _)| id).collect::<Vec<_>>();
    assert_eq!(ids("/a"), ids("/a2"), "one notification has one id wherever it is sent");
    assert_ne!(ids("/a")[0], ids("/b")[0]);
    hook.handle.stop(false).await;
}

#[actix_web::test]
async fn a_stuck_hook_holds_up_nobody_else() {
    let (world, hook) = (World::new().await, Receiver::start());
    let notifier = world.notifier("p1");
    let release = Arc::new(Notify::new());
    hook.behave("/stuck", Behaviour::Stuck(release.clone()));
    world.subscribe(0, &format!("{}/stuck", hook.base)).await;
    world.subscribe(1, &format!("{}/b", hook.base)).await;
    assert_eq!(notifier.pump().await.unwrap().handshakes, 2);
    world.accesses(3, &[0, 1]).await;
    let round = {
        let notifier = notifier.clone();
        tokio::spawn(async move { notifier.pump().await })
    };
    hook.until_events("/b", 3).await;
    hook.until_events("/stuck", 1).await;
    assert!(!round.is_finished(), "it waits for the stuck hook");

    // What comes while it is stuck is told to the other, and the stuck one isn't sent the same again.
    world.accesses(2, &[0, 1]).await;
    let meanwhile = notifier.pump().await.unwrap();
    assert_eq!((meanwhile.delivered, meanwhile.failed, meanwhile.waiting), (2, 0, 5));
    assert_eq!((hook.numbers("/b"), hook.numbers("/stuck")), (up_to(5), vec![1]));

    hook.behave("/stuck", Behaviour::Answer(StatusCode::OK, None));
    release.notify_one();
    assert_eq!(round.await.unwrap().unwrap().delivered, 8);
    assert_eq!(hook.numbers("/stuck"), up_to(5));
    hook.handle.stop(false).await;
}

#[actix_web::test]
async fn a_failed_event_is_tried_again_after_its_pause_and_those_behind_it_wait() {
    let (world, hook) = (World::new().await, Receiver::start());
    let notifier = world.notifier("p1");
    let id = world.subscribe(0, &format!("{}/a", hook.base)).await;
    notifier.pump().await.unwrap();
    hook.behave("/a", Behaviour::Answer(StatusCode::INTERNAL_SERVER_ERROR, None));
    world.accesses(2, &[0]).await;
    assert_eq!(notifier.pump().await.unwrap(), Pumped { failed: 1, waiting: 2, ..Pumped::default() });
    world.clock.advance(TimeDelta::seconds(22));
    assert_eq!(notifier.pump().await.unwrap().failed, 0, "before three quarters of the pause");
    world.clock.advance(TimeDelta::seconds(8));
    assert_eq!(notifier.pump().await.unwrap().failed, 1);
    world.clock.advance(TimeDelta::seconds(44));
    assert_eq!(notifier.pump().await.unwrap().failed, 0, "the second pause is twice as long");
    let told = world.subscription(0, id).await;
    assert_eq!(told.status, SubscriptionStatus::Active);
    assert!(told.error.unwrap().starts_with("Event 1 was not taken and is sent again: the endpoint answered 500"));

    hook.behave("/a", Behaviour::Answer(StatusCode::OK, None));
    world.clock.advance(TimeDelta::seconds(16));
    assert_eq!(notifier.pump().await.unwrap(), Pumped { delivered: 2, ..Pumped::default() });
    assert_eq!(hook.numbers("/a"), [1, 1, 1, 2]);
    let ids: Vec<String> = hook.events("/a").into_iter().map(|(_, id, _)| id).collect();
    assert!(ids[0] == ids[1] && ids[1] == ids[2] && ids[2] != ids[3], "the id stays, and only that of the event");
    assert_eq!(world.subscription(0, id).await.error, None);
    hook.handle.stop(false).await;
}

#[actix_web::test]
async fn retry_after_is_honoured_up_to_the_longest_pause() {
    let (world, hook) = (World::new().await, Receiver::start());
    let notifier = world.notifier("p1");
    world.subscribe(0, &format!("{}/a", hook.base)).await;
    notifier.pump().await.unwrap();
    world.access(&[0]).await;
    hook.behave("/a", Behaviour::Answer(StatusCode::SERVICE_UNAVAILABLE, Some("600")));
    assert_eq!(notifier.pump().await.unwrap().failed, 1);
    world.clock.advance(TimeDelta::seconds(599));
    assert_eq!(notifier.pump().await.unwrap().failed, 0);
    hook.behave("/a", Behaviour::Answer(StatusCode::TOO_MANY_REQUESTS, Some("86400")));
    world.clock.advance(TimeDelta::seconds(1));
    assert_eq!(notifier.pump().await.unwrap().failed, 1);
    hook.behave("/a", Behaviour::Answer(StatusCode::OK, None));
    world.clock.advance(TimeDelta::seconds(3599));
    assert_eq!(notifier.pump().await.unwrap().delivered, 0);
    world.clock.advance(TimeDelta::seconds(1));
    assert_eq!(notifier.pump().await.unwrap().delivered, 1);
    hook.handle.stop(false).await;
}

#[actix_web::test]
async fn after_the_last_try_an_event_is_kept_the_owner_is_told_and_the_next_goes_out() {
    let (world, hook) = (World::new().await, Receiver::start());
    let notifier = world.notifier("p1");
    let id = world.subscribe(0, &format!("{}/a", hook.base)).await;
    notifier.pump().await.unwrap();
    world.accesses(2, &[0]).await;
    hook.behave("/a", Behaviour::Answer(StatusCode::BAD_REQUEST, None));
    for attempt in 1..=4 {
        assert_eq!(notifier.pump().await.unwrap().failed, 1, "attempt {attempt}");
        world.clock.advance(TimeDelta::hours(1));
    }
    let told = world.subscription(0, id).await;
    assert_eq!(told.status, SubscriptionStatus::Error);
    assert_eq!(told.error.as_deref(), Some("Event 1 was not taken in 4 tries: the endpoint answered 400."));
    hook.behave("/a", Behaviour::Answer(StatusCode::OK, None));
    assert_eq!(notifier.pump().await.unwrap(), Pumped { delivered: 1, ..Pumped::default() });
    assert_eq!(hook.numbers("/a"), [1, 1, 1, 1, 2]);
    let healthy = world.subscription(0, id).await;
    assert_eq!((healthy.status, healthy.error), (SubscriptionStatus::Active, None));
    let key = healthy.key;
    let kept = world.gateway.store.read(move |conn| delivery::of_subscription(conn, key, 0, 10)).await.unwrap();
    let states: Vec<(i64, &str, i64)> = kept.iter().map(|d| (d.event_number, d.state.as_str(), d.attempts)).collect();
    assert_eq!(states, [(1, "undeliverable", 4), (2, "delivered", 1)]);
    assert_eq!(kept[0].last_error.as_deref(), Some("the endpoint answered 400"));
    hook.handle.stop(false).await;
}

/// Such a row is a fault of its own event: it uses up its tries, and those behind it go out.
#[actix_web::test]
async fn an_access_that_can_not_be_read_does_not_hold_up_those_behind_it() {
    let (world, hook) = (World::new().await, Receiver::start());
    let notifier = world.notifier("p1");
    let id = world.subscribe(0, &format!("{}/a", hook.base)).await;
    notifier.pump().await.unwrap();
    let accesses = world.accesses(2, &[0]).await;
    let broken = world.gateway.store.write(Vec::new(), |tx| {
        // A row that was damaged outside the program, which itself can't change one.
        let damage = "update access set author = 'unreadable' where id = (select min(id) from access)";
        diesel::RunQueryDsl::execute(diesel::sql_query("drop trigger access_no_update"), tx.conn)?;
        Ok(diesel::RunQueryDsl::execute(diesel::sql_query(damage), tx.conn)?)
    });
    assert_eq!(broken.await.unwrap(), 1);
    for attempt in 1..=4 {
        assert_eq!(notifier.pump().await.unwrap().failed, 1, "attempt {attempt}");
        world.clock.advance(TimeDelta::hours(1));
    }
    let told = world.subscription(0, id).await;
    assert_eq!(told.error.as_deref(), Some("Event 1 was not taken in 4 tries: the notification could not be made."));
    assert_eq!(notifier.pump().await.unwrap(), Pumped { delivered: 1, ..Pumped::default() });
    assert_eq!((hook.numbers("/a"), hook.accesses("/a")), (vec![2], accesses[1..].to_vec()));
    hook.handle.stop(false).await;
}

#[actix_web::test]
async fn a_handshake_that_is_never_taken_ends_in_error_and_nothing_is_told() {
    let (world, hook) = (World::new().await, Receiver::start());
    let notifier = world.notifier("p1");
    hook.behave("/a", Behaviour::Answer(StatusCode::NOT_FOUND, None));
    let id = world.subscribe(0, &format!("{}/a", hook.base)).await;
    world.access(&[0]).await;
    for _ in 0..6 {
        notifier.pump().await.unwrap();
        world.clock.advance(TimeDelta::hours(1));
    }
    assert_eq!((hook.handshakes("/a"), hook.numbers("/a")), (4, vec![]));
    let given_up = world.subscription(0, id).await;
    assert_eq!(given_up.status, SubscriptionStatus::Error);
    assert!(given_up.error.unwrap().contains("failed 4 times and is not tried again: the endpoint answered 404"));
    hook.handle.stop(false).await;
}

#[actix_web::test]
async fn a_late_subscription_gets_the_last_thirty_days_in_order_and_what_came_before_its_handshake() {
    let (world, hook) = (World::new().await, Receiver::start());
    let notifier = world.notifier("p1");
    let too_old = world.access(&[0]).await;
    world.clock.advance(TimeDelta::milliseconds(1));
    // More than one transaction takes at once.
    let mut wanted = world.accesses(ROUTED_AT_ONCE * 2 + 1, &[0]).await;
    world.clock.advance(TimeDelta::days(30));
    hook.behave("/late", Behaviour::Answer(StatusCode::SERVICE_UNAVAILABLE, None));
    world.subscribe(0, &format!("{}/late", hook.base)).await;
    assert_eq!(notifier.pump().await.unwrap().failed, 1);
    wanted.push(world.access(&[0]).await);
    hook.behave("/late", Behaviour::Answer(StatusCode::OK, None));
    world.clock.advance(TimeDelta::days(2));
    while notifier.pump().await.unwrap() != Pumped::default() {}
    wanted.push(world.access(&[0]).await);
    while notifier.pump().await.unwrap() != Pumped::default() {}
    assert_eq!(hook.accesses("/late"), wanted);
    assert_eq!(hook.numbers("/late"), up_to(i64::try_from(wanted.len()).unwrap()));

    // One that comes later still gets those of its own thirty days, whoever has them already; the other nothing twice.
    let (before, new) = (wanted.len(), world.access(&[0]).await);
    world.subscribe(0, &format!("{}/later", hook.base)).await;
    while notifier.pump().await.unwrap() != Pumped::default() {}
    assert_eq!(hook.accesses("/later"), [wanted[before - 2].clone(), wanted[before - 1].clone(), new]);
    assert_eq!(hook.numbers("/later"), up_to(3));
    assert_eq!(hook.events("/late").len(), before + 1);
    assert!(!hook.accesses("/late").contains(&too_old));
    hook.handle.stop(false).await;
}

#[actix_web::test]
async fn a_restart_goes_on_where_it_stopped() {
    let (mut world, hook) = (World::new().await, Receiver::start());
    world.subscribe(0, &format!("{}/a", hook.base)).await;
    world.notifier("p1").pump().await.unwrap();
    let mut wanted = world.accesses(2, &[0]).await;
    hook.behave("/a", Behaviour::Answer(StatusCode::SERVICE_UNAVAILABLE, None));
    assert_eq!(world.notifier("p1").pump().await.unwrap().failed, 1);
    world.reopen();
    hook.behave("/a", Behaviour::Answer(StatusCode::OK, None));
    wanted.push(world.access(&[0]).await);
    let next = world.notifier("p2");
    // After the pause of the failed event, within the 20 s of a sending and the 20 s of margin of the old lease.
    world.clock.advance(TimeDelta::seconds(35));
    assert_eq!(next.pump().await.unwrap().delivered, 0, "the lease of the dead process still runs");
    world.clock.advance(TimeDelta::seconds(6));
    assert_eq!(next.pump().await.unwrap().delivered, 3);
    assert_eq!(hook.numbers("/a"), [1, 1, 2, 3]);
    assert_eq!(hook.accesses("/a")[1..], wanted);
    hook.handle.stop(false).await;
}

/// The process dies after the hook has taken an event and before that is written down: it comes again, as the same.
#[actix_web::test]
async fn an_event_that_was_cut_off_comes_again_under_the_same_id_and_number() {
    let (mut world, hook) = (World::new().await, Receiver::start());
    let release = Arc::new(Notify::new());
    hook.behave("/a", Behaviour::Stuck(release.clone()));
    world.subscribe(0, &format!("{}/a", hook.base)).await;
    let first = world.notifier("p1");
    first.pump().await.unwrap();
    world.accesses(2, &[0]).await;
    let round = tokio::spawn(async move { first.pump().await });
    hook.until_events("/a", 1).await;
    round.abort();
    assert!(round.await.unwrap_err().is_cancelled());
    world.reopen();
    hook.behave("/a", Behaviour::Answer(StatusCode::OK, None));
    world.clock.advance(TimeDelta::minutes(1));
    assert_eq!(world.notifier("p2").pump().await.unwrap().delivered, 2);
    let events = hook.events("/a");
    assert_eq!((events.len(), &events[0]), (3, &events[1]));
    assert_eq!(hook.numbers("/a"), [1, 1, 2]);
    hook.handle.stop(false).await;
}

#[actix_web::test]
async fn of_two_processes_one_sends() {
    let (world, hook) = (World::new().await, Receiver::start());
    let (one, other) = (world.notifier("p1"), world.notifier("p2"));
    world.subscribe(0, &format!("{}/a", hook.base)).await;
    one.pump().await.unwrap();
    world.accesses(20, &[0]).await;
    let (first, second) = tokio::join!(one.pump(), other.pump());
    assert_eq!((first.unwrap().delivered, second.unwrap().delivered), (20, 0));
    assert_eq!(hook.numbers("/a"), up_to(20));
    hook.handle.stop(false).await;
}

#[actix_web::test]
async fn deleted_and_ended_subscriptions_are_told_nothing_more() {
    let (world, hook) = (World::new().await, Receiver::start());
    let notifier = world.notifier("p1");
    let deleted = world.subscribe(0, &format!("{}/deleted", hook.base)).await;
    let end = noon() + TimeDelta::hours(1);
    let ending = world.subscribe_until(0, &format!("{}/ending", hook.base), Some(end)).await;
    notifier.pump().await.unwrap();
    world.clock.set(end - TimeDelta::milliseconds(1));
    world.access(&[0]).await;
    assert_eq!(notifier.pump().await.unwrap().delivered, 2);

    world.access(&[0]).await;
    let key = world.subscription(0, deleted).await.key;
    world.gateway.store.write(Vec::new(), move |tx| subscription::delete(tx.conn, key, 0)).await.unwrap();
    world.clock.set(end);
    assert_eq!(notifier.pump().await.unwrap(), Pumped::default());
    for id in [deleted, ending] {
        let off = world.subscription(0, id).await;
        assert_eq!((off.status, off.hook.headers), (SubscriptionStatus::Off, vec![]), "its secrets are forgotten");
    }
    assert_eq!((hook.events("/deleted").len(), hook.events("/ending").len()), (1, 1));

    // The event that nobody took waits for the next channel.
    world.subscribe(0, &format!("{}/new", hook.base)).await;
    assert_eq!(notifier.pump().await.unwrap().delivered, 2);
    hook.handle.stop(false).await;
}

#[actix_web::test]
async fn where_a_restricted_child_was_seen_is_held_until_the_restriction_ends() {
    let (world, hook) = (World::new().await, Receiver::start());
    let notifier = world.notifier("p1");
    world.subscribe(0, &format!("{}/a", hook.base)).await;
    notifier.pump().await.unwrap();
    let access = world.access(&[0]).await;
    world.set_number_status(NumberStatus::Restricted).await;
    let held = notifier.pump().await.unwrap();
    assert_eq!((held.delivered, held.waiting), (0, 1));
    world.set_number_status(NumberStatus::Current).await;
    assert_eq!(notifier.pump().await.unwrap().delivered, 1);
    assert_eq!(hook.accesses("/a"), [access]);
    hook.handle.stop(false).await;
}

#[actix_web::test]
async fn the_background_loop_delivers_ends_on_request_and_gives_the_lease_up() {
    let (world, hook) = (World::new().await, Receiver::start());
    world.subscribe(0, &format!("{}/a", hook.base)).await;
    let (stop, stopped) = watch::channel(false);
    let running = tokio::spawn(Arc::new(world.notifier("p1")).run(stopped));
    world.accesses(3, &[0]).await;
    hook.until_events("/a", 3).await;
    stop.send(true).unwrap();
    tokio::time::timeout(Duration::from_secs(30), running).await.unwrap().unwrap();
    world.access(&[0]).await;
    assert_eq!(world.notifier("p2").pump().await.unwrap().delivered, 1, "at once, without waiting for the lease");
    assert_eq!(hook.numbers("/a"), up_to(4));
    hook.handle.stop(false).await;
}

/// An inactive number and an ended record of the child, for one authority.
async fn tell_of_the_child(world: &World, authority: usize) {
    let (key, at) = (world.authorities[authority], world.clock.now());
    let written = world.gateway.store.write(Vec::new(), move |tx| {
        let number = NhsNumber::parse(NUMBER).unwrap();
        outbox::add_inactive_number(tx.conn, key, &number, InactiveReason::Invalidated, None, at)?;
        outbox::add_record_ended(tx.conn, key, &number, EndedReason::Withheld, None, at)
    });
    written.await.unwrap();
}

fn is(topic: Topic) -> impl FnOnce(&mut NewSubscription) {
    move |new| {
        new.topic = topic;
        new.criteria = format!("{BASE}/SubscriptionTopic/{}", topic.name());
        new.hook.content = Content::IdOnly;
    }
}

/// (number, reason) of each event that came.
fn reasons(hook: &Receiver, path: &str) -> Vec<(String, String)> {
    let events = hook.got(path).into_iter().filter(|body| parameter(body, "type")["valueCode"] == "event-notification");
    events
        .map(|body| {
            let event = parameter(&body, "notification-event");
            let number = part(event, "event-number")["valueString"].as_str().unwrap().to_owned();
            let coding = &event["extension"][0]["valueCodeableConcept"]["coding"][0];
            (number, coding["code"].as_str().unwrap_or("none").to_owned())
        })
        .collect()
}

#[actix_web::test]
async fn each_subscription_is_told_of_its_own_topic_under_numbers_of_its_own() {
    let (world, hook) = (World::new().await, Receiver::start());
    let notifier = world.notifier("p1");
    world.access(&[0]).await;
    tell_of_the_child(&world, 0).await;
    for (topic, path) in
        [(Topic::Access, "/access"), (Topic::InactiveNumber, "/inactive"), (Topic::RecordEnded, "/ended")]
    {
        world.subscribe_to(0, &format!("{}{path}", hook.base), is(topic)).await;
    }
    world.subscribe_to(1, &format!("{}/other", hook.base), is(Topic::InactiveNumber)).await;
    assert_eq!(notifier.pump().await.unwrap().delivered, 3, "what was there before them");
    tell_of_the_child(&world, 0).await;
    world.access(&[0]).await;
    assert_eq!(notifier.pump().await.unwrap().delivered, 3);
    let each = |code: &str| ["1", "2"].map(|number| (number.to_owned(), code.to_owned()));
    assert_eq!(reasons(&hook, "/access"), each("none"));
    assert_eq!(reasons(&hook, "/inactive"), each("invalidated"));
    assert_eq!(reasons(&hook, "/ended"), each("withheld"));
    assert_eq!(hook.handshakes("/other"), 1);
    assert_eq!(reasons(&hook, "/other"), []);
    hook.handle.stop(false).await;
}

/// The restriction itself is told at once; where the child was seen is not.
#[actix_web::test]
async fn what_is_told_of_a_restricted_record_is_not_held() {
    let (world, hook) = (World::new().await, Receiver::start());
    let notifier = world.notifier("p1");
    world.subscribe_to(0, &format!("{}/ended", hook.base), is(Topic::RecordEnded)).await;
    world.subscribe(0, &format!("{}/access", hook.base)).await;
    notifier.pump().await.unwrap();
    world.access(&[0]).await;
    world.set_number_status(NumberStatus::Restricted).await;
    tell_of_the_child(&world, 0).await;
    let told = notifier.pump().await.unwrap();
    assert_eq!((told.delivered, told.waiting), (1, 1));
    assert_eq!(reasons(&hook, "/ended"), [("1".to_owned(), "withheld".to_owned())]);
    hook.handle.stop(false).await;
}

#[actix_web::test]
async fn a_heartbeat_comes_when_nothing_was_sent_for_so_long() {
    let (world, hook) = (World::new().await, Receiver::start());
    let notifier = world.notifier("p1");
    let heartbeats = || {
        let got = hook.got("/a");
        got.into_iter().filter(|body| parameter(body, "type")["valueCode"] == "heartbeat").collect::<Vec<_>>()
    };
    let id = world.subscribe_to(0, &format!("{}/a", hook.base), |new| new.hook.heartbeat = Some(600)).await;
    world.subscribe(0, &format!("{}/silent", hook.base)).await;
    assert_eq!(notifier.pump().await.unwrap().handshakes, 2);
    world.clock.advance(TimeDelta::seconds(600) - TimeDelta::milliseconds(1));
    assert_eq!(notifier.pump().await.unwrap(), Pumped::default());
    world.clock.advance(TimeDelta::milliseconds(1));
    assert_eq!(notifier.pump().await.unwrap(), Pumped { heartbeats: 1, ..Pumped::default() });
    assert_eq!(notifier.pump().await.unwrap(), Pumped::default(), "once");

    // An event counts as contact.
    world.clock.advance(TimeDelta::seconds(500));
    world.access(&[0]).await;
    assert_eq!(notifier.pump().await.unwrap().delivered, 2);
    world.clock.advance(TimeDelta::seconds(599));
    assert_eq!(notifier.pump().await.unwrap(), Pumped::default());
    world.clock.advance(TimeDelta::seconds(1));
    assert_eq!(notifier.pump().await.unwrap().heartbeats, 1);
    let got = heartbeats();
    let counted = |body: &Value| parameter(body, "events-since-subscription-start")["valueString"].clone();
    assert_eq!(got.iter().map(counted).collect::<Vec<_>>(), ["0", "1"]);
    assert!(got.iter().all(|body| parameter(body, "notification-event").is_null()));
    assert_ne!(got[0]["id"], got[1]["id"]);

    // A failed one is tried again with growing pauses; the owner reads it, and that it is well again.
    hook.behave("/a", Behaviour::Answer(StatusCode::SERVICE_UNAVAILABLE, None));
    world.clock.advance(TimeDelta::seconds(600));
    for attempt in 1..=4 {
        assert_eq!(notifier.pump().await.unwrap(), Pumped { failed: 1, ..Pumped::default() }, "attempt {attempt}");
        assert_eq!(notifier.pump().await.unwrap(), Pumped::default(), "not at once again");
        let status = if attempt < 4 { SubscriptionStatus::Active } else { SubscriptionStatus::Error };
        let told = world.subscription(0, id).await;
        assert_eq!((told.status, told.failures), (status, attempt));
        assert!(told.error.unwrap().starts_with("A heartbeat was not taken"));
        world.clock.advance(TimeDelta::hours(1));
    }
    hook.behave("/a", Behaviour::Answer(StatusCode::OK, None));
    assert_eq!(notifier.pump().await.unwrap().heartbeats, 1);
    let well = world.subscription(0, id).await;
    assert_eq!((well.status, well.error, well.failures), (SubscriptionStatus::Active, None, 0));
    hook.handle.stop(false).await;
}

/// The try of an event is the contact, however it goes.
#[actix_web::test]
async fn while_an_event_is_tried_again_there_is_no_heartbeat() {
    let (world, hook) = (World::new().await, Receiver::start());
    let notifier = world.notifier("p1");
    world.subscribe_to(0, &format!("{}/a", hook.base), |new| new.hook.heartbeat = Some(60)).await;
    notifier.pump().await.unwrap();
    hook.behave("/a", Behaviour::Answer(StatusCode::SERVICE_UNAVAILABLE, Some("3600")));
    world.access(&[0]).await;
    assert_eq!(notifier.pump().await.unwrap().failed, 1);
    world.clock.advance(TimeDelta::minutes(30));
    assert_eq!(notifier.pump().await.unwrap(), Pumped { waiting: 1, ..Pumped::default() });
    hook.behave("/a", Behaviour::Answer(StatusCode::OK, None));
    world.clock.advance(TimeDelta::minutes(30));
    assert_eq!(notifier.pump().await.unwrap(), Pumped { delivered: 1, ..Pumped::default() });
    hook.handle.stop(false).await;
}

#[actix_web::test]
async fn an_endpoint_that_is_gone_is_told_nothing_more_and_nothing_is_lost() {
    let (world, hook) = (World::new().await, Receiver::start());
    let notifier = world.notifier("p1");
    let id = world.subscribe(0, &format!("{}/a", hook.base)).await;
    notifier.pump().await.unwrap();
    hook.behave("/a", Behaviour::Answer(StatusCode::GONE, None));
    world.accesses(2, &[0]).await;
    assert_eq!(notifier.pump().await.unwrap(), Pumped { failed: 1, ..Pumped::default() });
    let off = world.subscription(0, id).await;
    assert_eq!((off.status, off.hook.headers.len()), (SubscriptionStatus::Off, 0), "its secrets are forgotten");
    assert!(off.error.unwrap().contains("410 Gone"));
    world.clock.advance(TimeDelta::days(1));
    assert_eq!(notifier.pump().await.unwrap(), Pumped::default());
    assert_eq!(hook.events("/a").len(), 1);
    world.subscribe(0, &format!("{}/b", hook.base)).await;
    assert_eq!(notifier.pump().await.unwrap().delivered, 2);

    hook.behave("/never", Behaviour::Answer(StatusCode::GONE, None));
    let never = world.subscribe(1, &format!("{}/never", hook.base)).await;
    assert_eq!(notifier.pump().await.unwrap().failed, 1);
    assert_eq!(world.subscription(1, never).await.status, SubscriptionStatus::Off);
    hook.handle.stop(false).await;
}

/// 152 authorities, one of them with a hook that never answers: the clock stands, so whoever is told is told without
/// delay, round after round.
#[actix_web::test]
async fn one_dead_hook_of_many_authorities_delays_nobody() {
    const AUTHORITIES: usize = 152;
    let (mut world, hook) = (World::new().await, Receiver::start());
    let more = world.gateway.store.write(Vec::new(), |tx| {
        let authority = |number: usize| NewOrganization {
            ods: OdsCode::parse(&format!("Y{number:03}")).unwrap(),
            name: format!("Authority {number}"),
            kind: OrganizationKind::LocalAuthority,
            care_setting: None,
            sensitive: false,
            office_phone: None,
            duty_phone: None,
            part_of: None,
        };
        (2..AUTHORITIES)
            .map(|number| organization::create(tx.conn, &authority(number), 0))
            .collect::<Result<Vec<_>, _>>()
    });
    let authorities = [world.authorities.clone(), more.await.unwrap()].concat();
    assert_eq!(authorities.len(), AUTHORITIES);
    // Were the dead hook waited for, only its timeout would end the test, and too late.
    let settings = NotifierSettings { hook_timeout: TimeDelta::seconds(3600), ..World::settings() };
    let notifier = world.notifier_with("p1", settings);
    let release = Arc::new(Notify::new());
    hook.behave("/0", Behaviour::Stuck(release.clone()));
    for (number, key) in authorities.iter().enumerate() {
        world.authorities[0] = *key;
        world.subscribe(0, &format!("{}/{number}", hook.base)).await;
    }
    assert_eq!(notifier.pump().await.unwrap().handshakes, AUTHORITIES);
    let told_of = |rounds: usize| {
        let counts = hook.counts();
        (1..AUTHORITIES).all(|number| counts[&format!("/{number}")] == rounds)
    };
    let mut rounds = Vec::new();
    for round in 1..=2 {
        for key in &authorities {
            world.authorities[0] = *key;
            world.access(&[0]).await;
        }
        // The clock stands: nobody waits for a timeout or a pause.
        rounds.push({
            let notifier = notifier.clone();
            tokio::spawn(async move { notifier.pump().await })
        });
        let all = async {
            loop {
                let next = hook.desk.arrived.notified();
                if told_of(round) {
                    return;
                }
                // On a machine so busy that a task could not get at the store, the next round takes what it has left, as
                // in the background loop.
                if tokio::time::timeout(Duration::from_secs(10), next).await.is_err() {
                    let _busy = notifier.pump().await;
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(300), all).await.unwrap();
        assert_eq!(hook.numbers("/0"), [1], "round {round}");
    }
    assert!(!rounds[0].is_finished(), "it waits for the dead hook");
    hook.behave("/0", Behaviour::Answer(StatusCode::OK, None));
    release.notify_one();
    let _busy = rounds.remove(0).await.unwrap();
    while hook.numbers("/0").len() < 2 {
        notifier.pump().await.unwrap();
    }
    assert_eq!(hook.numbers("/0"), up_to(2));
    hook.handle.stop(false).await;
}

#[actix_web::test]
async fn what_happens_is_counted() {
    let (world, hook) = (World::new().await, Receiver::start());
    let notifier = world.notifier("p1");
    world.subscribe(0, &format!("{}/a", hook.base)).await;
    notifier.pump().await.unwrap();
    world.accesses(3, &[0]).await;
    hook.behave("/a", Behaviour::Answer(StatusCode::BAD_REQUEST, None));
    for _ in 1..=4 {
        notifier.pump().await.unwrap();
        world.clock.advance(TimeDelta::hours(1));
    }
    hook.behave("/a", Behaviour::Answer(StatusCode::OK, None));
    let text = world.gateway.metrics.exposition(&world.gateway.measured().await).unwrap();
    let labels = "{channel=\"rest-hook\",topic=\"access\"}";
    for (metric, value) in
        [(&metrics::UNDELIVERABLE, "1.0"), (&metrics::QUEUED, "2.0"), (&metrics::OLDEST_SECONDS, "14400.0")]
    {
        let line = format!("{}{labels} {value}\n", metric.name);
        assert!(text.contains(&line), "{line}: {text}");
    }
    for (metric, value) in [(&metrics::FAILED, 4), (&metrics::GIVEN_UP, 1)] {
        let line = format!("{}_total{labels} {value}\n", metric.name);
        assert!(text.contains(&line), "{line}: {text}");
    }
    assert!(text.contains("cpis_handshakes_total{result=\"taken\"} 1\n"), "{text}");
    notifier.pump().await.unwrap();
    let text = world.gateway.metrics.exposition(&world.gateway.measured().await).unwrap();
    assert!(text.contains(&format!("cpis_notifications_delivered_total{labels} 2\n")), "{text}");
    assert!(!text.contains("cpis_notifications_queued{"), "{text}");
    hook.handle.stop(false).await;
}
