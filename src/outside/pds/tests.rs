//! How strictly an answer is read, and who goes next. The whole conversation is tested against a stand-in in
//! `tests/it/pds`.

use std::sync::{
    Mutex,
    atomic::{AtomicU64, Ordering},
};

use chrono::NaiveDate;
use futures_util::future::{BoxFuture, join_all, ready};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

const NUMBER: &str = "9990000042";
const OTHER: &str = "9990000050";

fn today() -> NaiveDate {
    "2026-11-23".parse().unwrap()
}

fn whole() -> Value {
    json!({
        "resourceType": "Patient",
        "id": NUMBER,
        "meta": {"versionId": "3", "security": [
            {"system": "http://terminology.hl7.org/CodeSystem/v3-Confidentiality", "code": "U", "display": "unrestricted"}]},
        "identifier": [{"system": "https://fhir.nhs.uk/Id/nhs-number", "value": NUMBER}],
        "name": [{"use": "usual", "family": "Testcase", "given": ["Robin", "Alex"]}],
        "gender": "unknown",
        "birthDate": "2017-05-11",
    })
}

fn with(pointer: &str, value: Value) -> Value {
    let mut patient = whole();
    let (parent, name) = pointer.rsplit_once('/').unwrap();
    let parent = patient.pointer_mut(parent).unwrap().as_object_mut().unwrap();
    if value.is_null() {
        parent.remove(name)
    } else {
        parent.insert(name.to_owned(), value)
    };
    patient
}

fn read(patient: &Value) -> Result<Answer, FaultKind> {
    answer::patient(patient.to_string().as_bytes(), NUMBER, today()).map_err(|fault| fault.kind)
}

fn found(patient: &Value) -> Person {
    match read(patient) {
        Ok(Answer::Found(person)) => person,
        other => panic!("{other:?}: {patient}"),
    }
}

#[test]
fn a_whole_answer_is_read() {
    let person = found(&whole());
    assert_eq!(
        (person.family.as_deref(), person.given.as_slice()),
        (Some("Testcase"), &["Robin".to_owned(), "Alex".to_owned()][..])
    );
    assert_eq!((person.birth_date, person.deceased), ("2017-05-11".parse().ok(), false));
    assert_eq!(format!("{person:?} {:?}", read(&whole()).unwrap()), "Person(..) Answer(..)");
}

#[test]
fn what_is_in_doubt_is_no_answer() {
    let security =
        |code: &str| json!([{"system": "http://terminology.hl7.org/CodeSystem/v3-Confidentiality", "code": code}]);
    for (pointer, value) in [
        ("/resourceType", json!("Person")),
        ("/resourceType", Value::Null),
        ("/id", Value::Null),
        ("/id", json!(9_990_000_042_u64)),
        ("/id", json!("999000004")),
        ("/id", json!("99900000x2")),
        ("/id", json!(OTHER)),
        ("/identifier", Value::Null),
        ("/identifier", json!({"system": "https://fhir.nhs.uk/Id/nhs-number", "value": NUMBER})),
        ("/identifier", json!([{"system": "https://fhir.nhs.uk/Id/nhs-number", "value": OTHER}])),
        ("/identifier", json!([{"system": "https://fhir.nhs.uk/Id/nhs-number"}])),
        ("/identifier", json!([{"system": "https://example.org/id", "value": NUMBER}])),
        (
            "/identifier",
            json!([
                {"system": "https://fhir.nhs.uk/Id/nhs-number", "value": NUMBER},
                {"system": "https://fhir.nhs.uk/Id/nhs-number", "value": OTHER},
            ]),
        ),
        ("/meta", Value::Null),
        ("/meta/security", Value::Null),
        ("/meta/security", json!([])),
        ("/meta/security", json!([{"system": "https://example.org/labels", "code": "U"}])),
        ("/meta/security", security("U")[0].clone()),
        ("/birthDate", json!("2017-02-30")),
        ("/birthDate", json!("2017-5-11")),
        ("/birthDate", json!("11/05/2017")),
        ("/birthDate", json!("")),
        ("/birthDate", json!("2017-05-11T00:00:00Z")),
        ("/birthDate", json!(20_170_511)),
        ("/deceasedDateTime", json!("lately")),
        ("/deceasedBoolean", json!("true")),
        ("/name", json!("Testcase")),
        ("/name", json!([{"use": "usual", "family": ["Testcase"]}])),
        ("/name", json!([{"use": "usual", "family": "Testcase", "given": "Robin"}])),
        ("/name", json!([{"use": "usual", "family": "Testcase", "period": {"start": "soon"}}])),
    ] {
        let patient = with(pointer, value);
        assert_eq!(read(&patient), Err(FaultKind::Unreadable), "{patient}");
    }
    let mut both = with("/deceasedDateTime", json!("2026-01-02"));
    both["deceasedBoolean"] = json!(false);
    assert_eq!(read(&both), Err(FaultKind::Unreadable));
    for text in [
        whole().to_string().replacen(r#""birthDate":"#, r#""birthDate":"2016-05-11","birthDate":"#, 1),
        whole().to_string().replacen(r#""id":"#, r#""id":"9990000050","id":"#, 1),
        format!("{}{{}}", whole()),
        format!("[{}]", whole()),
        String::new(),
        "null".to_owned(),
    ] {
        assert!(answer::patient(text.as_bytes(), NUMBER, today()).is_err(), "{text}");
    }
}

#[test]
fn whatever_is_not_marked_unrestricted_is_restricted() {
    let mark = |code: &str| json!({"system": "http://terminology.hl7.org/CodeSystem/v3-Confidentiality", "code": code});
    let restricted = [
        json!([mark("R")]),
        json!([mark("V")]),
        json!([mark("N")]),
        json!([mark("u")]),
        json!([mark("U"), mark("R")]),
        json!([{"system": "http://terminology.hl7.org/CodeSystem/v3-Confidentiality"}]),
        json!([{"code": "R"}]),
    ];
    for marks in restricted {
        assert_eq!(read(&with("/meta/security", marks.clone())), Ok(Answer::Restricted), "{marks}");
    }
    let labelled = json!([mark("U"), {"system": "https://example.org/labels", "code": "R"}]);
    found(&with("/meta/security", labelled));
}

#[test]
fn of_a_number_that_was_replaced_the_other_number_is_told_and_nothing_else() {
    let mut other = with("/id", json!(OTHER));
    other["identifier"][0]["value"] = json!(OTHER);
    assert_eq!(read(&other), Ok(Answer::Superseded(OTHER.to_owned())));
    other["meta"]["security"][0]["code"] = json!("R");
    assert_eq!(read(&other), Ok(Answer::Restricted), "where a restricted person went is not told");
}

#[test]
fn the_name_is_the_usual_one_of_today() {
    let named = |names: Value| found(&with("/name", names)).family;
    let name = |usage: &str, family: &str, period: Value| json!({"use": usage, "family": family, "period": period});
    let always = json!({});
    assert_eq!(named(json!([])), None);
    for usage in ["official", "temp", "nickname", "anonymous", "old", "maiden", "preferred"] {
        assert_eq!(named(json!([name(usage, "A", always.clone())])), None, "{usage}");
        let both = json!([name(usage, "A", always.clone()), name("usual", "B", always.clone())]);
        assert_eq!(named(both).as_deref(), Some("B"), "{usage}");
    }
    assert_eq!(named(json!([{"family": "A"}])), None, "without a use it is not known to be the usual one");
    for (period, holds) in [
        (json!({"start": "2026-11-23"}), true),
        (json!({"start": "2026-11-24"}), false),
        (json!({"end": "2026-11-23"}), true),
        (json!({"end": "2026-11-22"}), false),
        (json!({"start": "2026-11", "end": "2026-11"}), true),
        (json!({"start": "2026", "end": "2026"}), true),
        (json!({"start": "2027"}), false),
        (json!({"end": "2025"}), false),
        (json!({"start": "2020-01-01T00:00:00Z", "end": "2026-12-31T00:00:00+00:00"}), true),
    ] {
        assert_eq!(named(json!([name("usual", "A", period.clone())])).is_some(), holds, "{period}");
    }
    let two = json!([
        name("usual", "New", json!({"start": "2026-01-01"})),
        name("usual", "Old", json!({"start": "2017-01-01"})),
    ]);
    assert_eq!(named(two).as_deref(), Some("New"));
}

#[test]
fn what_pds_lacks_is_lacking() {
    assert_eq!(found(&with("/birthDate", Value::Null)).birth_date, None);
    assert_eq!(found(&with("/birthDate", json!("2017-05"))).birth_date, None);
    assert_eq!(found(&with("/birthDate", json!("2017"))).birth_date, None);
    let person = found(&with("/name", Value::Null));
    assert_eq!((person.family, person.given.len()), (None, 0));
    assert!(found(&with("/deceasedDateTime", json!("2026-10-22T00:00:00+01:00"))).deceased);
    assert!(found(&with("/deceasedBoolean", json!(true))).deceased);
}

#[test]
fn a_refusal_is_believed_by_its_code_only() {
    let outcome = |system: &str, codes: &[&str]| {
        let issues: Vec<Value> =
            codes.iter().map(|code| json!({"details": {"coding": [{"system": system, "code": code}]}})).collect();
        json!({"resourceType": "OperationOutcome", "issue": issues}).to_string()
    };
    let spine = "https://fhir.nhs.uk/R4/CodeSystem/Spine-ErrorOrWarningCode";
    let said = |status, body: &str| answer::refusal(status, body.as_bytes()).map_err(|fault| fault.kind);
    assert_eq!(said(404, &outcome(spine, &["INVALIDATED_RESOURCE"])), Ok(Some(Answer::Invalidated)));
    assert_eq!(said(404, &outcome(spine, &["RESOURCE_NOT_FOUND"])), Ok(Some(Answer::Unknown)));
    assert_eq!(said(400, &outcome(spine, &["INVALID_RESOURCE_ID"])), Ok(Some(Answer::NotANumber)));
    for (status, body) in [
        (400, outcome(spine, &["RESOURCE_NOT_FOUND"])),
        (404, outcome(spine, &["INVALID_RESOURCE_ID"])),
        (404, outcome(spine, &["ACCESS_DENIED"])),
        (404, outcome("https://example.org/codes", &["RESOURCE_NOT_FOUND"])),
        (404, outcome(spine, &["RESOURCE_NOT_FOUND"]).replace("OperationOutcome", "Bundle")),
        (404, "<html>Not found</html>".to_owned()),
        (404, String::new()),
    ] {
        assert_eq!(said(status, &body), Ok(None), "{status} {body}");
    }
    assert_eq!(said(404, &outcome(spine, &["RESOURCE_NOT_FOUND", "INVALIDATED_RESOURCE"])), Err(FaultKind::Unreadable));
}

#[test]
fn pauses_grow_and_are_spread() {
    let ids = [Uuid::nil(), Uuid::max()];
    for (failed, whole) in [(1, 500), (2, 1000), (3, 2000), (5, 8000), (6, 10_000), (u32::MAX, 10_000)] {
        let [least, most] = ids.map(|id| pause(failed, id).as_millis());
        assert_eq!((least, most), (whole / 2, whole), "{failed}");
    }
}

/// Time that is moved on by whoever sleeps.
#[derive(Default)]
struct Moved(AtomicU64);

impl Time for Moved {
    fn now(&self) -> Duration {
        Duration::from_millis(self.0.load(Ordering::SeqCst))
    }

    fn utc(&self) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH + self.now()
    }

    fn sleep_until(&self, at: Duration) -> BoxFuture<'_, ()> {
        self.0.fetch_max(u64::try_from(at.as_millis()).unwrap(), Ordering::SeqCst);
        Box::pin(ready(()))
    }

    fn passed(&self, _: Duration) -> BoxFuture<'_, ()> {
        Box::pin(futures_util::future::pending())
    }
}

fn gate(per_second: u32, concurrency: usize) -> (Gate, Arc<Moved>) {
    let time = Arc::new(Moved::default());
    let breaker = Breaker::new(2, Duration::from_secs(30));
    (Gate::new(time.clone(), Arc::new(|_| {}), Pace::new(per_second), breaker, concurrency), time)
}

#[actix_web::test]
async fn a_caller_goes_before_files_and_files_before_what_nobody_waits_for() {
    let (gate, _) = gate(5, 1);
    let order = Mutex::new(Vec::new());
    let first = gate.turn(Turn::Background).await.unwrap();
    let one = |turn: Turn, name: u32| {
        let (gate, order) = (&gate, &order);
        async move {
            let permit = gate.turn(turn).await.unwrap();
            order.lock().unwrap().push((turn, name));
            permit.settle(Outcome::Good);
        }
    };
    let all = [Turn::Background, Turn::File, Turn::Caller, Turn::Background, Turn::File, Turn::Caller];
    let waiting = join_all(all.into_iter().zip(0..).map(|(turn, name)| one(turn, name)));
    let release = async {
        assert_eq!(gate.state().waiting, [2, 2, 2]);
        drop(first);
    };
    futures_util::future::join(waiting, release).await;
    let (caller, file, background) = (Turn::Caller, Turn::File, Turn::Background);
    let expected = [(caller, 2), (caller, 5), (file, 1), (file, 4), (background, 0), (background, 3)];
    assert_eq!(*order.lock().unwrap(), expected);
}

#[actix_web::test]
async fn one_place_is_kept_for_callers_and_whoever_stops_waiting_leaves_the_line() {
    let (gate, _) = gate(100, 2);
    let file = gate.turn(Turn::File).await.unwrap();
    let other = futures_util::future::select(Box::pin(gate.turn(Turn::File)), ready(())).await;
    assert_eq!(gate.state().waiting, [0, 1, 0], "the second file waits, though there is a place");
    let caller = gate.turn(Turn::Caller).await.unwrap();
    assert_eq!((gate.state().under_way, gate.state().waiting), (2, [0, 1, 0]));
    drop(other);
    assert_eq!(gate.state().waiting, [0, 0, 0]);
    drop((file, caller));
    assert_eq!(gate.state().under_way, 0);
    drop(gate.turn(Turn::Background).await.unwrap());
}

#[actix_web::test]
async fn when_pds_is_away_the_whole_line_is_sent_away_and_one_tries_again_later() {
    let (gate, time) = gate(5, 1);
    gate.failed(&PdsFault::of_status(503, "PDS"));
    let first = gate.turn(Turn::File).await.unwrap();
    let waiting = join_all((0..20).map(|_| gate.turn(Turn::Caller)));
    let fails = async { first.settle(Outcome::Bad) };
    let (ends, ()) = futures_util::future::join(waiting, fails).await;
    assert!(ends.iter().all(|end| end.as_ref().is_err_and(|fault| fault.kind == FaultKind::Away)));
    // Whoever was not even asked for is told why.
    assert!(ends.iter().flat_map(|end| end.as_ref().err()).all(|fault| fault.text.ends_with("PDS answered 503")));
    assert_eq!(time.now(), Duration::ZERO, "nobody waited");
    time.sleep_until(Duration::from_secs(30)).await;
    let trial = gate.turn(Turn::Background).await.unwrap();
    assert!(gate.state().away && gate.turn(Turn::Caller).await.is_err());
    trial.settle(Outcome::Good);
    assert!(!gate.state().away && gate.turn(Turn::Caller).await.is_ok());
    assert_eq!(gate.state().last_answer, Some(time.utc()));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// However many of whatever urgency ask, end, or stop waiting: no second has more than it may, and nobody is left behind.
    #[test]
    fn the_line_keeps_the_pace(
        per_second in 1_u32..8,
        concurrency in 1_usize..5,
        comes in prop::collection::vec((0_usize..3, any::<bool>(), 0_u8..4), 1..60),
    ) {
        let (gate, time) = gate(per_second, concurrency);
        let sent = Mutex::new(Vec::new());
        let tasks = comes.iter().map(|(turn, impatient, steps)| {
            let (gate, time, sent) = (&gate, &time, &sent);
            async move {
                let asked = async {
                    let permit = gate.turn(Turn::ALL[*turn]).await.unwrap();
                    sent.lock().unwrap().push(time.now());
                    for _ in 0..*steps {
                        tokio::task::yield_now().await;
                    }
                    permit.settle(Outcome::Good);
                };
                if *impatient {
                    tokio::select! {
                        () = asked => {}
                        () = async { for _ in 0..3 { tokio::task::yield_now().await; } } => {}
                    }
                } else {
                    asked.await;
                }
            }
        });
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(join_all(tasks));
        let (sent, many) = (sent.into_inner().unwrap(), usize::try_from(per_second).unwrap());
        for window in sent.windows(many + 1) {
            prop_assert!(window[many] - window[0] > Duration::from_secs(1));
        }
        prop_assert!(sent.len() >= comes.iter().filter(|(_, impatient, _)| !impatient).count());
        prop_assert_eq!((gate.state().under_way, gate.state().waiting), (0, [0, 0, 0]));
    }
}
