//! What comes of an upload by what demographics say of the number (design 6 and 9, domain.md 3): every answer, every kind of
//! record, every door, as one table; and that an answer tells which parts don't match, and nothing more.

use std::collections::BTreeMap;

use cpis_gateway::{
    cpis::types::{
        LocalPlanId, PlanType, Precondition,
        child::NumberStatus,
        upload::{ChildChange, PlanAction, PlanChange, PlanKey, RecordChange},
    },
    hl7v3::{
        acknowledgement::ReadAcknowledgement,
        message::Message,
        upload::{FileWriter, WrittenFile},
    },
};
use serde_json::Value;

use crate::{
    harness::{
        Backend, CPP, Child, LAC, Reply, TestApp, UCP, bundle, child,
        mesh::{ACKNOWLEDGEMENT, Exchange},
        noon, number, ods, on_both_stores,
        pds::{self, PdsAnswer, PdsStandIn},
        upload::{entry, with_local_id},
    },
    mesh::pump,
};

/// By what demographics say of the number and what the record does: the code that answers it. CPR06 is stored, nothing else
/// is; CPF05 answers the whole file.
///
/// A plan that is new, changed or stored again is verified. One that ends or is deleted is taken whatever has become of the
/// number, but not when demographics can't be asked at all.
const TABLE: &str = "
                    | new   | plan alone | child alone | change | end   | delete | delete nothing | mother | end and change
    as sent         | CPR06 | CPR06      | CPR06       | CPR06  | CPR06 | CPR06  | CPR07          | CPR06  | CPR06
    other birth date| CPR03 | CPR03      | CPR03       | CPR03  | CPR06 | CPR06  | CPR07          | CPR03  | CPR03
    other family    | CPR03 | CPR03      | CPR03       | CPR03  | CPR06 | CPR06  | CPR07          | CPR03  | CPR03
    other given     | CPR03 | CPR03      | CPR03       | CPR03  | CPR06 | CPR06  | CPR07          | CPR03  | CPR03
    other in all    | CPR03 | CPR03      | CPR03       | CPR03  | CPR06 | CPR06  | CPR07          | CPR03  | CPR03
    nothing held    | CPR03 | CPR03      | CPR03       | CPR03  | CPR06 | CPR06  | CPR07          | CPR03  | CPR03
    superseded      | CPR05 | CPR05      | CPR05       | CPR05  | CPR06 | CPR06  | CPR07          | CPR05  | CPR05
    invalidated     | CPR01 | CPR01      | CPR01       | CPR01  | CPR06 | CPR06  | CPR07          | CPR01  | CPR01
    unknown         | CPR01 | CPR01      | CPR01       | CPR01  | CPR06 | CPR06  | CPR07          | CPR01  | CPR01
    restricted      | CPR02 | CPR02      | CPR02       | CPR02  | CPR06 | CPR06  | CPR07          | CPR02  | CPR02
    very restricted | CPR02 | CPR02      | CPR02       | CPR02  | CPR06 | CPR06  | CPR07          | CPR02  | CPR02
    for another     | CPF05 | CPF05      | CPF05       | CPF05  | CPF05 | CPF05  | CPF05          | CPF05  | CPF05
    malformed       | CPF05 | CPF05      | CPF05       | CPF05  | CPF05 | CPF05  | CPF05          | CPF05  | CPF05
    unavailable     | CPF05 | CPF05      | CPF05       | CPF05  | CPF05 | CPF05  | CPF05          | CPF05  | CPF05
";

/// What the local register can't say.
const NOT_OF_A_REGISTER: [&str; 4] = ["nothing held", "very restricted", "for another", "malformed"];

const DOORS: [&str; 3] = ["batch", "interactions", "mesh"];

/// The cells of the table: what demographics say, what the record does, the code.
fn cells() -> Vec<(&'static str, &'static str, &'static str)> {
    let mut rows = TABLE.lines().filter(|line| line.contains('|')).map(|line| line.split('|').map(str::trim));
    let cases: Vec<&str> = rows.next().expect("a head").skip(1).collect();
    let cells = rows.flat_map(|mut row| {
        let says = row.next().expect("an answer");
        let codes: Vec<&str> = row.collect();
        assert_eq!(codes.len(), cases.len(), "{says}");
        cases.iter().copied().zip(codes).map(|(case, code)| (says, case, code)).collect::<Vec<_>>()
    });
    cells.collect()
}

/// The elements of the child that a refusal points at. A plan without its child has only its subject to point at.
fn elements(says: &str, code: &str) -> &'static [&'static str] {
    match (code, says) {
        ("CPR03", "other birth date") => &["birthDate"],
        ("CPR03", "other family") => &["name.family"],
        ("CPR03", "other given") => &["name.given"],
        ("CPR03", _) => &["birthDate", "name.family", "name.given"],
        ("CPR01" | "CPR02" | "CPR05", _) => &["identifier"],
        _ => &[],
    }
}

/// Where a number's demographics come from.
enum Source {
    Register,
    Pds(PdsStandIn),
}

struct Setting {
    app: TestApp,
    source: Source,
    exchange: Exchange<'static>,
    /// The number of the last file.
    file: i64,
}

/// How a record was answered.
#[derive(Debug, PartialEq, Eq)]
struct Answered {
    code: String,
    /// What it points at, sorted, each once.
    places: Vec<String>,
    /// The words, for what they may not hold.
    text: String,
}

impl Setting {
    async fn by_register(backend: Backend) -> Self {
        let exchange = Exchange::new();
        let app = exchange.gateway(backend).await;
        Self { app, source: Source::Register, exchange, file: 0 }
    }

    async fn by_pds(backend: Backend) -> Self {
        let (exchange, pds) = (Exchange::new(), PdsStandIn::start().await);
        let app = exchange.gateway_with(backend, |settings| {
            settings.pds = pds.settings();
            // Every failure counts at once, and PDS is asked all the same.
            settings.pds.attempts = 1;
            settings.pds.requests_per_second = 1000;
            settings.pds.breaker_failures = 1000;
        });
        let app = app.await;
        pds.keep_time(&app.clock);
        Self { app, source: Source::Pds(pds), exchange, file: 0 }
    }

    /// From now on this is said of the number of a person who is sent as `sent`.
    async fn say(&self, says: &str, sent: &Child) {
        // Another for each: children that are merged into one have one record.
        let replaced_by = number(400_000 + sent.nhs()[3..9].parse::<u32>().expect("digits"));
        let other = |child: &Child| match says {
            "other birth date" => Child { birth_date: "2016-05-11", ..child.clone() },
            "other family" => Child { family: "Quillfeather", ..child.clone() },
            "other given" => Child { given: "Tamsin", ..child.clone() },
            "other in all" => {
                Child { birth_date: "2016-05-11", family: "Quillfeather", given: "Tamsin", ..child.clone() }
            }
            _ => child.clone(),
        };
        match &self.source {
            Source::Pds(pds) => pds.says(
                &sent.number,
                match says {
                    "superseded" => PdsAnswer::Superseded(replaced_by),
                    "invalidated" => PdsAnswer::Invalidated,
                    "unknown" => PdsAnswer::Unknown,
                    "restricted" => PdsAnswer::Restricted,
                    "very restricted" => PdsAnswer::VeryRestricted,
                    "nothing held" => PdsAnswer::Minimal,
                    "for another" => PdsAnswer::ForAnother(replaced_by),
                    "malformed" => PdsAnswer::Malformed,
                    "unavailable" => PdsAnswer::Status(503),
                    _ => PdsAnswer::Found(pds::patient(&other(sent))),
                },
            ),
            Source::Register => {
                self.app.execute(&format!("delete from register_entry where nhs_number = '{}'", sent.nhs()));
                let (status, replaced_by) = match says {
                    "unknown" => return,
                    "superseded" => (NumberStatus::Superseded, Some(replaced_by)),
                    "invalidated" => (NumberStatus::Invalid, None),
                    "restricted" => (NumberStatus::Restricted, None),
                    _ => (NumberStatus::Current, None),
                };
                self.app.register_as(&other(sent), status, replaced_by).await;
            }
        }
    }

    /// Takes the register away where it is not to be there, or brings it back.
    fn cut_off(&self, says: &str, away: bool) {
        if matches!(self.source, Source::Register) && says == "unavailable" {
            let (from, to) = if away { ("entry", "away") } else { ("away", "entry") };
            self.app.execute(&format!("alter table register_{from} rename to register_{to}"));
        }
    }

    async fn batch(&self, entries: &[Value]) -> Reply {
        self.app.authority("Z9A").post("", &bundle("batch", entries)).await
    }

    /// The authority's own view of a child: of each plan type, start, end, version; without one, whether the child is there.
    async fn held(&self, child: &Child) -> Vec<String> {
        let owner = self.app.authority("Z9A");
        let flags = owner.get(&format!("/Flag?patient={}", child.nhs())).await;
        assert_eq!(flags.status, 200, "{}", flags.text);
        let told = |flag: Value| {
            let codings = flag["code"]["coding"].as_array().expect("codings").clone();
            let code = codings.iter().filter_map(|coding| coding["code"].as_str()).next_back().expect("a code");
            let kind = [(CPP, "CPP"), (LAC, "LAC"), (UCP, "UCP")].into_iter().find(|(snomed, _)| *snomed == code);
            let day = |name: &str| flag["period"][name].as_str().unwrap_or("open").to_owned();
            let version = flag["meta"]["versionId"].as_str().expect("a version");
            format!("{} {} {} v{version}", kind.expect("a plan").1, day("start"), day("end"))
        };
        let mut held: Vec<String> = flags.resources("Flag").into_iter().map(told).collect();
        held.sort();
        if held.is_empty() {
            let read = owner.get(&format!("/Patient/{}", child.nhs())).await;
            held.extend((read.status == 200).then(|| "the child".to_owned()));
        }
        held
    }

    /// Stores what was held before.
    async fn prepare(&self, tries: &[Try]) {
        for tries in tries.chunks(50) {
            let mut entries = Vec::new();
            for Try { case, child, .. } in tries.iter().filter(|one| !held_before(one.case).is_empty()) {
                self.say("as sent", child).await;
                entries.push(child.put_patient());
                for held in held_before(case) {
                    let (code, id) = match &held[..3] {
                        "CPP" => (CPP, "P-1"),
                        "LAC" => (LAC, "L-1"),
                        _ => continue,
                    };
                    let flag = with_local_id(child.flag("Z9A", code, "2026-09-14", None), id);
                    entries.push(entry("POST", "Flag", flag));
                }
            }
            let sent = self.batch(&entries).await;
            assert_eq!(sent.file_code(), "CPF02", "{}", sent.text);
        }
    }

    async fn send(&self, door: &str, case: &str, child: &Child) -> Vec<Answered> {
        match door {
            "batch" => vec![of_batch(&self.batch(&entries(case, child)).await)],
            "interactions" => {
                let mut answers = Vec::new();
                for entry in requests(case, child) {
                    let path = format!("/{}", entry["request"]["url"].as_str().expect("a URL"));
                    let body = (!entry["resource"].is_null())
                        .then(|| ("application/fhir+json", entry["resource"].to_string().into_bytes()));
                    let method = entry["request"]["method"].as_str().expect("a method");
                    let reply = self.app.authority("Z9A").send(method, &path, body).await;
                    answers.push(of_interaction(&reply));
                }
                answers
            }
            other => panic!("{other}"),
        }
    }

    /// Sends the records of several cells as one file, and gives the answer of each.
    async fn send_file(&mut self, tries: &[Try]) -> Vec<Answered> {
        self.file += 1;
        self.exchange.send(&self.exchange.a, file(self.file, tries));
        pump(&self.app).await;
        let mut taken = self.exchange.take(&self.exchange.a);
        // A number that became inactive is told of by a message of its own.
        taken.retain(|message| message.workflow == ACKNOWLEDGEMENT);
        let Message::Acknowledgement(read) = taken[0].message() else { panic!("{taken:?}") };
        (0..tries.len()).map(|position| of_acknowledgement(&read, position)).collect()
    }

    /// Every cell by every door; `skipped` are answers that the source can't give.
    async fn hold_table(mut self, skipped: &[&str]) {
        let (mut index, mut tries) = (0, Vec::new());
        for (says, case, code) in cells() {
            for door in DOORS {
                index += 1;
                // A file of HL7 v3 has a plan in each record.
                if skipped.contains(&says) || (door, case) == ("mesh", "child alone") {
                    continue;
                }
                let birth_date = if case == "mother" { "1998-02-20" } else { "2017-05-11" };
                tries.push(Try { says, case, code, door, child: Child { birth_date, ..child(index) } });
            }
        }
        assert_eq!(tries.len(), (14 - skipped.len()) * (9 * 3 - 1));
        self.prepare(&tries).await;
        let (files, singly): (Vec<Try>, Vec<Try>) = tries.into_iter().partition(|one| one.door == "mesh");
        for one in singly {
            self.say(one.says, &one.child).await;
            self.cut_off(one.says, true);
            let answers = self.send(one.door, one.case, &one.child).await;
            self.cut_off(one.says, false);
            for (request, answer) in answers.iter().enumerate() {
                hold(&one, request, answer);
            }
            self.assert_held(&one).await;
        }
        // One file of all that are judged, and one for each way in which none is.
        let mut by_file = BTreeMap::<&str, Vec<Try>>::new();
        for one in files {
            by_file.entry(if one.code == "CPF05" { one.says } else { "judged" }).or_default().push(one);
        }
        for tries in by_file.into_values() {
            for one in &tries {
                self.say(one.says, &one.child).await;
            }
            self.cut_off(tries[0].says, true);
            let answers = self.send_file(&tries).await;
            self.cut_off(tries[0].says, false);
            for (one, answer) in tries.iter().zip(&answers) {
                hold(one, 0, answer);
                self.assert_held(one).await;
            }
        }
    }

    async fn assert_held(&self, one: &Try) {
        let expected = match (one.code, one.door, one.case) {
            ("CPR06", ..) => held_after(one.case),
            // Two requests: the first, which ends a plan, is taken by itself.
            (code, "interactions", "end and change") if code != "CPF05" => {
                &["CPP 2026-09-14 2026-11-20 v2", "LAC 2026-09-14 open v1"]
            }
            _ => held_before(one.case),
        };
        assert_eq!(self.held(&one.child).await, expected, "{}", one.named());
    }
}

/// A cell of the table by one door.
struct Try {
    says: &'static str,
    case: &'static str,
    code: &'static str,
    door: &'static str,
    child: Child,
}

impl Try {
    fn named(&self) -> String {
        format!("{}, {}, {}", self.says, self.case, self.door)
    }
}

/// One answer against its cell.
fn hold(one: &Try, request: usize, answer: &Answered) {
    let Try { says, case, mut code, door, .. } = *one;
    let at = format!("{}, {request}: {answer:?}", one.named());
    if door == "interactions" && code.starts_with("CPR") {
        code = match (case, request, code) {
            ("end and change", 0, _) => "CPR06",
            // The child was refused before its plan: nothing is known of it but what the number itself is.
            ("new" | "mother", 1, "CPR03") => "CPR07",
            _ => code,
        };
    }
    assert_eq!(answer.code, code, "{at}");
    let alone = match door {
        "mesh" => false,
        "batch" => matches!(case, "plan alone" | "delete nothing"),
        _ => !matches!((case, request), ("new" | "mother", 0) | ("child alone", _)),
    };
    if matches!(code, "CPR01" | "CPR02" | "CPR03" | "CPR05") {
        let expected = elements(says, code);
        let mut expected: Vec<&str> = if alone { vec!["subject"] } else { expected.to_vec() };
        expected.sort_unstable();
        assert_eq!(answer.places, expected, "{at}");
    }
    for told in ["Testcase", "Robin", "2017", "1998", "2016", "Quillfeather", "Tamsin", "999"] {
        assert!(!answer.text.contains(told), "{at}");
    }
    let words = ["birth date", "family name", "given names"];
    let said: Vec<&str> = words.into_iter().filter(|word| answer.text.contains(&format!("The {word}"))).collect();
    let expected: Vec<&str> = match (code, says) {
        ("CPR03", "other birth date") => vec![words[0]],
        ("CPR03", "other family") => vec![words[1]],
        ("CPR03", "other given") => vec![words[2]],
        ("CPR03", _) => words.to_vec(),
        _ => Vec::new(),
    };
    assert_eq!(said, expected, "{at}");
}

fn held_before(case: &str) -> &'static [&'static str] {
    match case {
        "new" | "child alone" | "mother" => &[],
        "plan alone" | "delete nothing" => &["the child"],
        "end and change" => &["CPP 2026-09-14 open v1", "LAC 2026-09-14 open v1"],
        _ => &["CPP 2026-09-14 open v1"],
    }
}

/// What is held once the record of a case is stored.
fn held_after(case: &str) -> &'static [&'static str] {
    match case {
        "new" | "plan alone" => &["CPP 2026-09-14 open v1"],
        "change" => &["CPP 2026-09-15 open v2"],
        "end" => &["CPP 2026-09-14 2026-11-20 v2"],
        "mother" => &["UCP 2026-09-14 2027-02-01 v1"],
        "end and change" => &["CPP 2026-09-14 2026-11-20 v2", "LAC 2026-09-15 open v2"],
        _ => &["the child"],
    }
}

/// The plans of a case's record: type, start, end, local id, and whether it is deleted.
fn plans(case: &str) -> Vec<(PlanType, &'static str, Option<&'static str>, &'static str, bool)> {
    let (cpp, lac) = (PlanType::ChildProtection, PlanType::LookedAfter);
    match case {
        "new" | "plan alone" => vec![(cpp, "2026-09-14", None, "P-1", false)],
        "child alone" => Vec::new(),
        "change" => vec![(cpp, "2026-09-15", None, "P-1", false)],
        "end" => vec![(cpp, "2026-09-14", Some("2026-11-20"), "P-1", false)],
        "delete" | "delete nothing" => vec![(cpp, "2026-09-14", None, "P-1", true)],
        "mother" => vec![(PlanType::Unborn, "2026-09-14", Some("2027-02-01"), "U-1", false)],
        "end and change" => {
            vec![(cpp, "2026-09-14", Some("2026-11-20"), "P-1", false), (lac, "2026-09-15", None, "L-1", false)]
        }
        other => panic!("{other}"),
    }
}

fn plan_entries(case: &str, child: &Child) -> Vec<Value> {
    let entry_of = |(plan_type, start, end, id, deleted): (PlanType, &str, Option<&str>, &str, bool)| {
        let code = plan_type.snomed();
        if deleted {
            return entry("DELETE", &child.criteria_with_code(id, code), Value::Null);
        }
        entry("PUT", &child.criteria_with_code(id, code), with_local_id(child.flag("Z9A", code, start, end), id))
    };
    plans(case).into_iter().map(entry_of).collect()
}

/// The record in a Bundle: with the child, but where the case is that it was sent before.
fn entries(case: &str, child: &Child) -> Vec<Value> {
    let mut entries = plan_entries(case, child);
    if !matches!(case, "plan alone" | "delete nothing") {
        entries.insert(0, child.put_patient());
    }
    entries
}

/// The same by single requests: the child only if it is new.
fn requests(case: &str, child: &Child) -> Vec<Value> {
    let mut requests = plan_entries(case, child);
    if matches!(case, "new" | "child alone" | "mother") {
        requests.insert(0, child.put_patient());
    }
    requests
}

fn file(number: i64, tries: &[Try]) -> Vec<u8> {
    let sender = ods("Z9A");
    let header = WrittenFile {
        created: noon(),
        zone: chrono_tz::Europe::London,
        number,
        records: tries.len(),
        sender: &sender,
        sender_name: None,
        duty_phone: None,
        office_phone: None,
    };
    let mut writer = FileWriter::begin(Vec::new(), &header).expect("a file");
    for Try { case, child, .. } in tries {
        writer.record(&record(case, child)).expect("a record");
    }
    writer.finish().expect("a file")
}

fn record(case: &str, child: &Child) -> RecordChange {
    let day = |text: &str| text.parse().expect("a day");
    let plan = |(index, (plan_type, start, end, id, deleted)): (usize, (PlanType, &str, Option<&str>, &str, bool))| {
        PlanChange {
            entry: index + 1,
            key: PlanKey::Content,
            plan_type: Some(plan_type),
            local_id: LocalPlanId::parse(id),
            action: if deleted {
                PlanAction::Delete { start: Some(day(start)) }
            } else {
                PlanAction::Put { start: day(start), end: end.map(day) }
            },
        }
    };
    let demographics = child.demographics();
    let sent = ChildChange { entry: 0, demographics, local_id: None, precondition: Precondition::None };
    let plans = plans(case).into_iter().enumerate().map(plan).collect();
    RecordChange { nhs_number: child.number, child: Some(sent), plans }
}

fn sorted(places: impl Iterator<Item = String>) -> Vec<String> {
    let mut places: Vec<String> = places.collect();
    places.sort();
    places.dedup();
    places
}

/// The words of an outcome, without what the gateway itself writes into every answer.
fn words(issues: &[Value]) -> String {
    issues.iter().filter_map(|issue| issue["diagnostics"].as_str()).collect::<Vec<_>>().join(" ")
}

fn of_batch(reply: &Reply) -> Answered {
    if reply.status == 503 {
        return of_interaction(reply);
    }
    let answers = reply.answers();
    let mut codes: Vec<String> = answers.iter().flat_map(|answer| answer.record_codes()).collect();
    codes.dedup();
    // Warnings have no code.
    assert_eq!(codes.len(), 1, "{}", reply.text);
    let loaded = codes == ["CPR06"];
    assert!(
        answers.iter().all(|answer| answer.is_loaded() == loaded && (loaded || answer.status == 422)),
        "{}",
        reply.text
    );
    assert_eq!(reply.file_code(), if loaded { "CPF02" } else { "CPF04" });
    let below = |at: String| at.split_once("].resource.").map(|(_, below)| below.to_owned());
    let issues: Vec<Value> = answers.iter().flat_map(|answer| answer.issues.clone()).collect();
    Answered {
        code: codes.remove(0),
        places: sorted(answers.iter().flat_map(|answer| answer.expressions()).filter_map(below)),
        text: words(&issues),
    }
}

fn of_interaction(reply: &Reply) -> Answered {
    if matches!(reply.status, 200 | 201 | 204) {
        return Answered { code: "CPR06".to_owned(), places: Vec::new(), text: String::new() };
    }
    let issues = reply.json["issue"].as_array().expect("issues").clone();
    if reply.status == 503 {
        return Answered { code: "CPF05".to_owned(), places: Vec::new(), text: words(&issues) };
    }
    assert_eq!(reply.status, 422, "{}", reply.text);
    let mut codes = reply.record_codes();
    codes.dedup();
    assert_eq!(codes.len(), 1, "{}", reply.text);
    let below = |at: &str| at.split_once('.').map(|(_, below)| below.to_owned());
    let expressions = issues.iter().flat_map(|issue| issue["expression"].as_array().cloned().unwrap_or_default());
    Answered {
        code: codes.remove(0),
        places: sorted(expressions.filter_map(|at| below(at.as_str().expect("a text")))),
        text: words(&issues),
    }
}

/// The answer of one record of a file.
fn of_acknowledgement(read: &ReadAcknowledgement, position: usize) -> Answered {
    let answered = |code: &str| Answered { code: code.to_owned(), places: Vec::new(), text: String::new() };
    if !matches!(read.code.as_str(), "CPF02" | "CPF03" | "CPF04") {
        return answered(&read.code);
    }
    let Some(refused) = read.refused.iter().find(|refused| refused.position() == Some(position)) else {
        return answered("CPR06");
    };
    let mut codes: Vec<&str> = refused.details.iter().map(|detail| detail.code.as_str()).collect();
    codes.dedup();
    assert_eq!(codes.len(), 1, "{refused:?}");
    let element = |at: &str| {
        let below = at.split_once("CP-ISRecord/subject").map(|(_, below)| below);
        below.map(|below| match below {
            "" => "identifier",
            "//birthTime" => "birthDate",
            "//name/family" => "name.family",
            "//name/given" => "name.given",
            other => panic!("{other}"),
        })
    };
    let places = refused.details.iter().filter_map(|detail| element(detail.location.as_deref()?));
    let reasons: Vec<&str> = refused.details.iter().filter_map(|detail| detail.reason.as_deref()).collect();
    Answered { code: codes[0].to_owned(), places: sorted(places.map(str::to_owned)), text: reasons.join(" ") }
}

on_both_stores! {
    async fn the_table_holds_with_a_register(backend) {
        Setting::by_register(backend).await.hold_table(&NOT_OF_A_REGISTER).await;
    }

    async fn the_table_holds_with_pds(backend) {
        Setting::by_pds(backend).await.hold_table(&[]).await;
    }

    /// As a transaction the same is refused whole, with the same places.
    async fn a_transaction_tells_every_part_of_every_record(backend) {
        let app = TestApp::start(backend).await;
        let (one, two) = (child(1), child(2));
        app.register(&Child { family: "Quillfeather", given: "Tamsin", ..one.clone() }).await;
        app.register(&Child { birth_date: "2016-05-11", ..two.clone() }).await;
        let entries = [one.put_patient(), two.put_patient(), two.post_flag("Z9A", CPP, "2026-09-14", None)];
        let reply = app.authority("Z9A").post("", &bundle("transaction", &entries)).await;
        assert_eq!((reply.status, reply.file_code().as_str()), (422, "CPF04"), "{}", reply.text);
        let places: Vec<&str> =
            reply.json["issue"].as_array().unwrap().iter().filter_map(|issue| issue["expression"][0].as_str()).collect();
        assert_eq!(places, [
            "Bundle.entry[0].resource.name.family",
            "Bundle.entry[0].resource.name.given",
            "Bundle.entry[1].resource.birthDate",
        ]);
    }

    /// Whoever asks for its refused records later is told the same.
    async fn refused_records_are_shown_again_with_every_part(backend) {
        let app = TestApp::start(backend).await;
        let sent = child(1);
        app.register(&Child { family: "Quillfeather", birth_date: "2016-05-11", ..sent.clone() }).await;
        app.register_as(&child(2), NumberStatus::Restricted, None).await;
        let hidden = Child { family: "Quillfeather", ..child(2) };
        let entries = [sent.put_patient(), hidden.put_patient()];
        let first = app.authority("Z9A").post("", &bundle("batch", &entries)).await;
        assert_eq!(first.file_code(), "CPF04", "{}", first.text);
        let again = app.authority("Z9A").get("/$refused-records").await;
        assert_eq!(again.status, 200, "{}", again.text);
        for words in ["birth date is not that", "family name is not that"] {
            assert_eq!(again.text.matches(words).count(), 1, "{words}: {}", again.text);
        }
        assert!(!again.text.contains("given names are") && !again.text.contains("Quillfeather"), "{}", again.text);
    }
}
