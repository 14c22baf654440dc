//! Random Bundles of good and broken entries: each entry is answered once, nothing fails, and the order of the entries
//! never matters.

use std::{
    cell::Cell,
    collections::{BTreeMap, HashMap},
};

use actix_web::rt::System;
use cpis_gateway::cpis::types::child::NumberStatus;
use proptest::{
    prelude::*,
    test_runner::{Config, TestRunner},
};
use serde_json::{Value, json};

use crate::harness::{
    Backend, CPP, Child, LAC, Reply, TestApp, UCP, bundle, child,
    upload::{entry, with, with_local_id},
};

/// What the register says of a child of the Bundle.
#[derive(Clone, Copy, Debug)]
enum Known {
    Yes,
    No,
    Restricted,
    /// With the first plan on record already.
    Held,
}

/// One entry about a child, good or broken.
#[derive(Clone, Copy, Debug)]
enum Part {
    Patient,
    WrongBirthDate,
    NotR4Patient,
    StalePatient,
    Plan { code: &'static str, start: u8, end: Option<u8>, local_id: Option<u8> },
    PlanIf { start: u8, local_id: u8, stale: bool },
    EnteredInError { start: u8, local_id: u8 },
    NotR4Plan,
    NoSubject,
    ForeignAuthor,
    Delete { local_id: u8 },
    DeleteUnknown,
    UpdateUnknown,
    Get,
    Observation,
}

fn any_part() -> impl Strategy<Value = Part> {
    let code = prop::sample::select(vec![CPP, LAC, UCP]);
    prop_oneof![
        4 => Just(Part::Patient),
        1 => Just(Part::WrongBirthDate),
        1 => Just(Part::NotR4Patient),
        1 => Just(Part::StalePatient),
        6 => (code, 0..4_u8, prop::option::of(0..4_u8), prop::option::of(0..3_u8))
            .prop_map(|(code, start, end, local_id)| Part::Plan { code, start, end, local_id }),
        2 => (0..4_u8, 0..3_u8, any::<bool>()).prop_map(|(start, local_id, stale)| Part::PlanIf { start, local_id, stale }),
        1 => (0..4_u8, 0..3_u8).prop_map(|(start, local_id)| Part::EnteredInError { start, local_id }),
        1 => Just(Part::NotR4Plan),
        1 => Just(Part::NoSubject),
        1 => Just(Part::ForeignAuthor),
        2 => (0..3_u8).prop_map(|local_id| Part::Delete { local_id }),
        1 => Just(Part::DeleteUnknown),
        1 => Just(Part::UpdateUnknown),
        1 => Just(Part::Get),
        1 => Just(Part::Observation),
    ]
}

const DAYS: [&str; 4] = ["2026-08-03", "2026-09-14", "2026-11-01", "2026-12-24"];
const NOBODYS: &str = "3a8e4f0c-6a0b-4f43-9a41-2b1c0d9e8f70";

impl Part {
    fn entry(self, child: &Child) -> Value {
        let flag = |code, start: u8, end: Option<u8>| {
            child.flag("Z9A", code, DAYS[usize::from(start)], end.map(|end| DAYS[usize::from(end)]))
        };
        let named = |flag, local_id: u8| with_local_id(flag, &format!("PLAN-{local_id}"));
        // Without a fullUrl: of two entries with the same one the second is at fault.
        let patient = || with(child.put_patient(), "/fullUrl", Value::Null);
        match self {
            Self::Patient => patient(),
            Self::WrongBirthDate => with(patient(), "/resource/birthDate", json!("2017-05-12")),
            Self::NotR4Patient => with(patient(), "/resource/gender", json!(7)),
            Self::StalePatient => with(patient(), "/request/ifMatch", json!("W/\"9\"")),
            Self::Plan { code, start, end, local_id } => {
                let flag = flag(code, start, end);
                entry("POST", "Flag", local_id.map_or(flag.clone(), |id| named(flag, id)))
            }
            Self::PlanIf { start, local_id, stale } => {
                let url = child.criteria(&format!("PLAN-{local_id}"));
                let put = entry("PUT", &url, named(flag(CPP, start, None), local_id));
                if stale { with(put, "/request/ifMatch", json!("W/\"5\"")) } else { put }
            }
            Self::EnteredInError { start, local_id } => entry(
                "POST",
                "Flag",
                with(named(flag(CPP, start, None), local_id), "/status", json!("entered-in-error")),
            ),
            Self::NotR4Plan => entry("POST", "Flag", with(flag(CPP, 0, None), "/status", json!("asleep"))),
            Self::NoSubject => entry("POST", "Flag", with(flag(CPP, 0, None), "/subject", Value::Null)),
            Self::ForeignAuthor => entry("POST", "Flag", child.flag("Z9B", CPP, DAYS[0], None)),
            Self::Delete { local_id } => {
                entry("DELETE", &child.criteria_with_code(&format!("PLAN-{local_id}"), CPP), Value::Null)
            }
            Self::DeleteUnknown => entry("DELETE", &format!("Flag/{NOBODYS}"), Value::Null),
            Self::UpdateUnknown => {
                entry("PUT", &format!("Flag/{NOBODYS}"), with(flag(CPP, 0, None), "/id", json!(NOBODYS)))
            }
            Self::Get => entry("GET", &format!("Patient/{}", child.nhs()), Value::Null),
            Self::Observation => entry("POST", "Observation", json!({"resourceType": "Observation"})),
        }
    }

    /// True if the entry names its child, and so belongs to that child's record.
    fn names_its_child(self) -> bool {
        !matches!(self, Self::NoSubject | Self::DeleteUnknown | Self::Observation)
    }
}

/// Records, the order of their entries, and whether it is a transaction.
#[derive(Clone, Debug)]
struct Sent {
    records: Vec<(Known, Vec<Part>)>,
    /// Sorts the entries; cycled.
    order: Vec<u16>,
    transaction: bool,
}

fn any_upload() -> impl Strategy<Value = Sent> {
    let known = prop_oneof![
        5 => Just(Known::Yes),
        1 => Just(Known::No),
        1 => Just(Known::Restricted),
        3 => Just(Known::Held),
    ];
    let record = (known, prop::collection::vec(any_part(), 1..5));
    (prop::collection::vec(record, 1..4), prop::collection::vec(any::<u16>(), 12), prop::bool::weighted(0.3))
        .prop_map(|(records, order, transaction)| Sent { records, order, transaction })
}

/// Where an entry stands: its record, its part.
type Place = (usize, usize);

impl Sent {
    fn places(&self, shuffled: bool) -> Vec<Place> {
        let parts = |(record, (_, parts)): (usize, &(Known, Vec<Part>))| {
            (0..parts.len()).map(move |part| (record, part)).collect::<Vec<_>>()
        };
        let mut places: Vec<Place> = self.records.iter().enumerate().flat_map(parts).collect();
        if shuffled {
            let mut keys = self.order.iter().cycle();
            places.sort_by_cached_key(|_| keys.next().copied());
        }
        places
    }
}

/// Sends the Bundle about new children; the answer, and where its entries stood.
async fn send(app: &TestApp, sent: &Sent, first: u32, shuffled: bool) -> (Reply, Vec<Place>, Vec<Child>) {
    let mut children = Vec::new();
    for (index, (known, _)) in (first..).zip(&sent.records) {
        let child = child(index);
        match known {
            Known::Yes => app.register(&child).await,
            Known::No => {}
            Known::Restricted => app.register_as(&child, NumberStatus::Restricted, None).await,
            Known::Held => {
                app.register(&child).await;
                let held = Part::Plan { code: CPP, start: 1, end: None, local_id: Some(0) };
                let entries = [Part::Patient.entry(&child), held.entry(&child)];
                let reply = app.authority("Z9A").post("", &bundle("batch", &entries)).await;
                assert_eq!(reply.file_code(), "CPF02", "{}", reply.text);
            }
        }
        children.push(child);
    }
    let places = sent.places(shuffled);
    let entries: Vec<Value> = places.iter().map(|(r, p)| sent.records[*r].1[*p].entry(&children[*r])).collect();
    let kind = if sent.transaction { "transaction" } else { "batch" };
    let before = app.effects().await;
    let reply = app.authority("Z9A").post("", &bundle(kind, &entries)).await;
    if reply.status != 200 || reply.file_code() == "CPF04" {
        assert_eq!(app.effects().await, before, "{}", reply.text);
    }
    (reply, places, children)
}

/// The rules that every answer keeps.
fn check(sent: &Sent, reply: &Reply, places: &[Place], children: &[Child]) {
    if reply.status != 200 {
        assert!(sent.transaction && matches!(reply.status, 400 | 412 | 422), "{} {}", reply.status, reply.text);
        assert_eq!(reply.json["resourceType"], "OperationOutcome");
        assert_eq!(reply.file_code(), "CPF04");
        assert!(!reply.json["issue"].as_array().unwrap().is_empty());
        return;
    }
    let answers = reply.answers();
    assert_eq!(answers.len(), places.len());
    let mut loaded_of: HashMap<usize, Vec<bool>> = HashMap::new();
    let mut loaded = Vec::new();
    for ((record, part), answer) in places.iter().zip(&answers) {
        assert!(matches!(answer.status, 200 | 201 | 204 | 412 | 422), "{}", reply.text);
        assert!(!answer.issues.is_empty() && !answer.record_codes().is_empty(), "{}", reply.text);
        assert_eq!(answer.is_loaded(), answer.record_codes().contains(&"CPR06".to_owned()), "{}", reply.text);
        let number = children[*record].nhs();
        assert!(answer.is_loaded() || !format!("{:?}", answer.issues).contains(number), "{}", reply.text);
        if sent.records[*record].1[*part].names_its_child() {
            loaded_of.entry(*record).or_default().push(answer.is_loaded());
        }
        loaded.push(answer.is_loaded());
    }
    for (record, loaded) in loaded_of {
        assert!(loaded.iter().all(|one| *one == loaded[0]), "record {record} is half loaded: {}", reply.text);
    }
    let expected = match (loaded.contains(&true), loaded.contains(&false)) {
        (true, false) => "CPF02",
        (false, _) => "CPF04",
        (true, true) => "CPF03",
    };
    assert_eq!(reply.file_code(), expected, "{}", reply.text);
    assert!(!sent.transaction || expected == "CPF02");
}

/// What was told of each record, wherever its entries stood: the status and `ETag` of each entry, and the issues. What is
/// wrong with a whole record stands at one of its entries, the others then say that another was refused.
#[derive(Debug, Default, PartialEq)]
struct Told {
    entries: BTreeMap<usize, (u16, Option<String>)>,
    issues: Vec<String>,
}

fn told(sent: &Sent, reply: &Reply, places: &[Place]) -> BTreeMap<Place, Told> {
    let mut told: BTreeMap<Place, Told> = BTreeMap::new();
    let mut tell = |(record, part): Place, issue: &Value| {
        // An entry that doesn't name its child is a record by itself.
        let own = if sent.records[record].1[part].names_its_child() { 0 } else { part + 1 };
        let told = told.entry((record, own)).or_default();
        let expression = issue["expression"][0].as_str().unwrap_or_default();
        let below = expression.split_once(']').map_or("", |(_, below)| below);
        let words = format!("{below} {} {}", issue["details"], issue["diagnostics"]);
        if !issue["diagnostics"].as_str().unwrap_or_default().contains("another of its entries was refused") {
            told.issues.push(words);
        }
    };
    if reply.status == 200 {
        for (place, answer) in places.iter().zip(reply.answers()) {
            answer.issues.iter().for_each(|issue| tell(*place, issue));
        }
    } else {
        for issue in reply.json["issue"].as_array().unwrap() {
            let expression = issue["expression"][0].as_str().unwrap();
            let entry: usize = expression.split(['[', ']']).nth(1).unwrap().parse().unwrap();
            tell(places[entry], issue);
        }
    }
    if reply.status == 200 {
        for ((record, part), answer) in places.iter().zip(reply.answers()) {
            let entries = &mut told.entry((*record, usize::MAX)).or_default().entries;
            entries.insert(*part, (answer.status, answer.etag));
        }
    }
    told.values_mut().for_each(|told| told.issues.sort());
    told.retain(|_, told| *told != Told::default());
    told
}

/// What the authority holds of each child afterwards.
async fn held(app: &TestApp, children: &[Child]) -> Vec<Vec<String>> {
    let mut all = Vec::new();
    for child in children {
        let reply = app.authority("Z9A").get(&format!("/Flag?patient={}", child.nhs())).await;
        let flag = |flag: Value| {
            format!("{} {} {} {}", flag["code"], flag["period"], flag["identifier"], flag["meta"]["versionId"])
        };
        let mut flags: Vec<String> = reply.resources("Flag").into_iter().map(flag).collect();
        flags.sort();
        all.push(flags);
    }
    all
}

fn random_bundles(backend: Backend) {
    let system = System::new();
    let app = system.block_on(TestApp::start(backend));
    let next = Cell::new(1_u32);
    let mut runner =
        TestRunner::new(Config { cases: 64, failure_persistence: None, max_shrink_iters: 60, ..Config::default() });
    let run = runner.run(&any_upload(), |sent| {
        let first = next.get();
        next.set(first + 10);
        system.block_on(async {
            let (straight, places, children) = send(&app, &sent, first, false).await;
            check(&sent, &straight, &places, &children);
            let (shuffled, other_places, others) = send(&app, &sent, first + 5, true).await;
            check(&sent, &shuffled, &other_places, &others);
            assert_eq!(straight.status, shuffled.status, "{} {}", straight.text, shuffled.text);
            let (one, other) = (told(&sent, &straight, &places), told(&sent, &shuffled, &other_places));
            assert_eq!(one, other, "the order of entries matters");
            assert_eq!(held(&app, &children).await, held(&app, &others).await);
        });
        Ok(())
    });
    run.unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn random_bundles_on_sqlite() {
    random_bundles(Backend::Sqlite);
}

#[test]
fn random_bundles_on_postgres() {
    random_bundles(Backend::Postgres);
}
