//! Bundles: grouped into records, refused, answered.

use proptest::prelude::*;

use super::*;
use crate::cpis::types::upload::Warning;

fn entry(method: &str, url: &str, resource: Value) -> Value {
    let entry = json!({"request": {"method": method, "url": url}});
    if resource.is_null() { entry } else { with(entry, "/resource", resource) }
}

fn put_patient(nhs: &str) -> Value {
    entry("PUT", &format!("Patient/{nhs}"), patient(nhs))
}

fn post_flag(nhs: &str, local_id: &str) -> Value {
    entry("POST", "Flag", flag(nhs, local_id))
}

fn bundle(kind: &str, entries: &[Value]) -> Value {
    json!({"resourceType": "Bundle", "type": kind, "entry": entries})
}

fn read(kind: &str, entries: &[Value]) -> UploadBundle {
    read_bundle(&bundle(kind, entries), &reading()).unwrap()
}

fn content_of(upload: &UploadBundle, index: usize) -> &RecordChange {
    upload.records[index].content.as_ref().unwrap()
}

fn told(upload: &UploadBundle) -> Vec<(usize, Option<RecordCode>, String)> {
    let issue = |told: &EntryIssue| (told.entry, told.issue.cpr, told.issue.expression[0].clone());
    upload.issues().iter().map(issue).collect()
}

fn at(entry: usize, below: &str) -> String {
    format!("Bundle.entry[{entry}].{below}")
}

#[test]
fn entries_are_grouped_by_number_in_any_order() {
    let upload = read(
        "batch",
        &[post_flag(ROBIN, "CPP-1"), post_flag(MORGAN, "CPP-2"), put_patient(ROBIN), post_flag(ROBIN, "CPP-3")],
    );
    assert_eq!((upload.kind, upload.entries(), upload.file_number), (BundleKind::Batch, 4, None));
    let entries: Vec<_> = upload.records.iter().map(|record| record.entries.clone()).collect();
    assert_eq!(entries, [vec![0, 2, 3], vec![1]]);
    let robin = content_of(&upload, 0);
    assert_eq!(robin.child, Some(child_change(2)));
    let plans = [plan_change(0, content(), "CPP-1", put()), plan_change(3, content(), "CPP-3", put())];
    assert_eq!(robin.plans, plans);
    assert_eq!(content_of(&upload, 1).child, None);
}

#[test]
fn a_flag_may_refer_to_the_patient_entry_by_its_full_url() {
    let patient = with(put_patient(ROBIN), "/fullUrl", json!("urn:uuid:4f0f6d2e-0000-4000-8000-0000000000aa"));
    let by_url =
        with(flag(ROBIN, "CPP-1"), "/subject/reference", json!("urn:uuid:4f0f6d2e-0000-4000-8000-0000000000aa"));
    let upload = read("transaction", &[entry("POST", "Flag", by_url), patient]);
    assert_eq!(upload.records.len(), 1);
    assert_eq!(upload.records[0].entries, [0, 1]);
    assert!(upload.records[0].content.is_ok());
}

#[test]
fn the_file_number_is_read() {
    let numbered = |value: &str| {
        let identifier = json!({"system": "urn:oid:2.16.840.1.113883.2.1.3.2.4.18.46", "value": value});
        read_bundle(&with(bundle("batch", &[put_patient(ROBIN)]), "/identifier", identifier), &reading())
    };
    assert_eq!(numbered("418").unwrap().file_number, Some(418));
    assert_eq!(places(&numbered("4x").unwrap_err()), [("Bundle.identifier.value", None)]);
}

#[test]
fn a_wrong_envelope_refuses_the_body() {
    let refused = |body: Value| {
        let issues = read_bundle(&body, &reading()).unwrap_err();
        assert_eq!(
            VALIDATORS
                .validate(&serde_json::to_value(unjudged_outcome(&issues, FileCode::Cpf01)).unwrap(), Profile::Base),
            []
        );
        issues.iter().map(|issue| (issue.code, issue.expression.join(" "))).collect::<Vec<_>>()
    };
    let at = |code, place: &str| vec![(code, place.to_owned())];
    assert_eq!(refused(json!([])), at(IssueCode::Structure, "Bundle"));
    assert_eq!(refused(flag(ROBIN, "x")), at(IssueCode::Structure, "Bundle"));
    assert_eq!(refused(json!({"resourceType": "Bundle", "type": "batch"})), at(IssueCode::Required, "Bundle.entry"));
    let collection = refused(bundle("collection", &[json!({"resource": flag(ROBIN, "x")})]));
    assert_eq!(collection, at(IssueCode::Value, "Bundle.type"));
    let no_request = refused(bundle("batch", &[put_patient(ROBIN), json!({"resource": flag(ROBIN, "x")})]));
    assert!(no_request.iter().any(|(_, place)| place == "Bundle.entry[1].request"), "{no_request:?}");
    assert_eq!(refused(bundle("batch", &vec![put_patient(ROBIN); 21])), at(IssueCode::TooLong, "Bundle.entry"));
    assert_eq!(
        refused(with(bundle("batch", &[put_patient(ROBIN)]), "/total", json!(1))),
        at(IssueCode::Invariant, "Bundle.total")
    );
}

#[test]
fn a_fault_inside_an_entry_refuses_only_its_record() {
    let invalid = entry("POST", "Flag", with(flag(ROBIN, "x"), "/status", json!("live")));
    let nameless = entry("POST", "Flag", with(flag(ROBIN, "x"), "/subject", json!({"display": "x"})));
    let wrong_number = entry("PUT", "Patient/9990000019", patient("9990000019"));
    let entries = [put_patient(ROBIN), invalid, post_flag(MORGAN, "CPP-2"), nameless, wrong_number];
    let upload = read("batch", &entries);
    let records: Vec<_> = upload.records.iter().map(|r| (r.entries.clone(), r.content.is_ok())).collect();
    assert_eq!(records, [(vec![0, 1], false), (vec![2], true), (vec![3], false), (vec![4], false)]);
    assert!(upload.records[0].nhs_number == Some(number(ROBIN)) && upload.records[2].nhs_number.is_none());
    let (cpr04, cpr07) = (Some(RecordCode::Cpr04), Some(RecordCode::Cpr07));
    let expected =
        [(1, cpr07, at(1, "resource.status")), (3, cpr04, at(3, "resource.subject")), (4, cpr04, at(4, "request.url"))];
    assert_eq!(told(&upload), expected);

    let transaction = read("transaction", &entries);
    assert_eq!(told(&transaction)[0], (1, None, at(1, "resource.status")));
    assert_eq!(transaction_status(&transaction.issues()), 400);
    let only_rules = read("transaction", &[entries[3].clone()]);
    assert_eq!(transaction_status(&only_rules.issues()), 422);
    let malformed = with(put_patient(ROBIN), "/request/ifMatch", json!("3"));
    assert_eq!(transaction_status(&read("transaction", &[entries[3].clone(), malformed]).issues()), 400);
}

#[test]
fn what_an_entry_asks_for_is_read() {
    let by_id = with(flag(ROBIN, "CPP-1"), "/id", json!(PLAN));
    let if_match = |entry: Value| with(entry, "/request/ifMatch", json!("W/\"3\""));
    let key = PlanKey::Id { id: PLAN.parse().unwrap(), precondition: Precondition::Version(3) };
    let search = |plan_type, precondition, keeps| {
        let local_id = LocalPlanId::parse("CPP-1");
        PlanKey::Criteria(PlanCriteria { plan_type, local_id, body_id: None, precondition, keeps })
    };
    let at_version = search(Some(PlanType::ChildProtection), Precondition::Version(3), false);
    let deleted = PlanAction::Delete { start: None };
    let criteria = format!("Flag?patient={ROBIN}&identifier=CPP-1&code=342191000000101");
    let if_none = with(post_flag(ROBIN, "CPP-1"), "/request/ifNoneExist", json!("identifier=CPP-1"));
    for (entry, key, action) in [
        (if_match(entry("PUT", &format!("Flag/{PLAN}"), by_id)), key, put()),
        (if_match(entry("PUT", &criteria, flag(ROBIN, "CPP-1"))), at_version.clone(), put()),
        (entry("PUT", "/Flag?identifier=CPP-1", flag(ROBIN, "CPP-1")), search(None, Precondition::None, false), put()),
        (if_match(entry("DELETE", &criteria, Value::Null)), at_version, deleted),
        (if_none, search(None, Precondition::None, true), put()),
    ] {
        let upload = read("batch", std::slice::from_ref(&entry));
        assert_eq!(content_of(&upload, 0).plans, [plan_change(0, key, "CPP-1", action)], "{entry}");
    }
    let child = read("batch", &[if_match(put_patient(ROBIN))]);
    assert_eq!(content_of(&child, 0).child.as_ref().map(|child| child.precondition), Some(Precondition::Version(3)));
}

#[test]
fn other_entries_are_refused_with_the_record_of_their_child() {
    for (bad, expression) in [
        (entry("GET", "Flag", Value::Null), "request.url"),
        (entry("DELETE", "Flag?identifier=CPP-1", Value::Null), "request.url"),
        (entry("DELETE", "Flag?status=active", Value::Null), "request.url"),
        (entry("DELETE", "Flag/SECRET", Value::Null), "request.url"),
        (entry("POST", "Observation", json!({"resourceType": "Observation"})), "request.url"),
        (entry("POST", "Flag", Value::Null), "resource"),
        (
            with(entry("DELETE", &format!("Flag/{PLAN}"), Value::Null), "/request/ifNoneMatch", json!("*")),
            "request.ifNoneMatch",
        ),
        (entry("FOO", "Flag", Value::Null), "request.method"),
    ] {
        let upload = read("batch", &[post_flag(ROBIN, "CPP-1"), bad.clone()]);
        assert_eq!(upload.records.len(), 2, "{bad}");
        assert!(upload.records[0].content.is_ok(), "{bad}");
        assert_eq!(told(&upload)[0].2, at(1, expression), "{bad}");
        assert!(told(&upload).iter().all(|(entry, code, _)| *entry == 1 && code.is_some()), "{bad}");
        assert!(!format!("{:?}", upload.issues()).contains("SECRET"));
    }
    for bad in [entry("DELETE", &format!("Patient/{ROBIN}"), Value::Null), entry("PATCH", "Flag/1", flag(ROBIN, "x"))] {
        let upload = read("batch", &[post_flag(ROBIN, "CPP-1"), bad.clone()]);
        assert_eq!(upload.records.len(), 1, "{bad}");
        assert!(upload.records[0].content.is_err(), "{bad}");
    }
    let twice = read("batch", &[put_patient(ROBIN), put_patient(ROBIN), put_patient(ROBIN)]);
    assert_eq!(told(&twice).iter().map(|told| told.0).collect::<Vec<_>>(), [0, 1, 2]);
}

#[test]
fn deletes_by_id_find_their_record() {
    let delete = |id: &str| entry("DELETE", &format!("Flag/{id}"), Value::Null);
    let other = "4f0f6d2e-0000-4000-8000-000000000002";
    let mut upload = read("batch", &[delete(PLAN), post_flag(MORGAN, "x"), post_flag(ROBIN, "CPP-1"), delete(other)]);
    assert_eq!(upload.unplaced().collect::<Vec<_>>(), [PLAN, other].map(|id| id.parse::<Uuid>().unwrap()));
    upload.place(|id| (id == PLAN.parse::<Uuid>().unwrap()).then(|| number(ROBIN)));
    let entries: Vec<_> = upload.records.iter().map(|record| record.entries.clone()).collect();
    assert_eq!(entries, [vec![0, 2], vec![1], vec![3]]);
    assert_eq!(content_of(&upload, 0).plans.len(), 2);
    assert_eq!(told(&upload), [(3, Some(RecordCode::Cpr07), at(3, "request.url"))]);
    assert_eq!(upload.unplaced().count(), 0);
}

#[test]
fn the_own_organization_is_apart_from_the_records() {
    let own = || entry("PUT", "Organization/Z9A", organization());
    let upload = read("batch", &[own(), post_flag(ROBIN, "CPP-1")]);
    assert!(matches!(&upload.organization, Some(Ok(change)) if change.entry == 0));
    assert_eq!(upload.records.len(), 1);

    let upload = read("batch", &[own(), own()]);
    assert!(matches!(&upload.organization, Some(Err(issues)) if issues.iter().map(|i| i.entry).eq([0, 1])));
    let foreign = read("batch", &[entry("PUT", "Organization/Z9B", organization())]);
    assert!(matches!(&foreign.organization, Some(Err(_))) && foreign.records.is_empty());
    assert!(foreign.issues().iter().all(|told| told.issue.cpr.is_some()));
}

fn statuses(answer: &Value) -> Vec<&str> {
    answer["entry"].as_array().unwrap().iter().map(|entry| entry["response"]["status"].as_str().unwrap()).collect()
}

#[test]
fn a_batch_is_answered_entry_by_entry_in_order() {
    let upload = read(
        "batch",
        &[
            post_flag(ROBIN, "CPP-1"),
            post_flag(MORGAN, "CPP-2"),
            put_patient(ROBIN),
            put_patient(MORGAN),
            entry("DELETE", &format!("Flag?patient={ROBIN}&identifier=CPP-0&code=342191000000101"), Value::Null),
        ],
    );
    let modified = "2026-11-03T02:20:10Z".parse().unwrap();
    let loaded = |stored, reference: &str| Loaded { stored, reference: reference.to_owned(), version: 2, modified };
    let problem =
        |entry, kind, element| Problem { entry, code: RecordCode::Cpr07, kind, reason: "Give x.".to_owned(), element };
    let issues = upload.frame().problems(&[problem(1, ProblemKind::Version, "")]);
    let warnings = [Warning { entry: 0, reason: "Send its end.".to_owned(), element: "period.end" }];
    let mut answers = upload.frame().refused(&upload.records[1].entries, &issues);
    answers.push((4, upload.frame().loaded(4, &loaded(Stored::AlreadyDeleted, "Flag/1"), &warnings)));
    answers.push((0, upload.frame().loaded(0, &loaded(Stored::Created, "Flag/2"), &warnings)));
    answers.push((2, upload.frame().loaded(2, &loaded(Stored::Unchanged, "Patient/1"), &warnings)));
    let answer = serde_json::to_value(upload.frame().response(answers, FileCode::Cpf03)).unwrap();

    assert_eq!(VALIDATORS.validate(&answer, Profile::Base), []);
    assert_eq!(answer["type"], "batch-response");
    assert_eq!(answer["meta"]["tag"][0]["code"], "CPF03");
    assert_eq!(
        statuses(&answer),
        ["201 Created", "412 Precondition Failed", "200 OK", "422 Unprocessable Entity", "204 No Content"]
    );
    let first = &answer["entry"][0]["response"];
    assert_eq!((first["location"].as_str(), first["etag"].as_str()), (Some("Flag/2/_history/2"), Some("W/\"2\"")));
    assert_eq!(first["outcome"]["issue"][0]["details"]["coding"][0]["code"], "CPR06");
    assert_eq!(first["outcome"]["issue"][1]["severity"], "warning");
    assert_eq!(first["outcome"]["issue"][1]["expression"][0], "Bundle.entry[0].resource.period.end");
    let other = &answer["entry"][3]["response"]["outcome"]["issue"][0];
    assert_eq!(other["details"]["coding"][1]["code"], "CPR07");
    assert_eq!(other["expression"][0], "Bundle.entry[3].resource");
}

#[test]
fn a_refused_transaction_is_one_outcome_with_every_issue() {
    let upload =
        read("transaction", &[post_flag(ROBIN, "CPP-1"), entry("DELETE", &format!("Flag/{PLAN}"), Value::Null)]);
    let problem = |entry, element| Problem {
        entry,
        code: RecordCode::Cpr07,
        kind: ProblemKind::Rule,
        reason: "Give x.".to_owned(),
        element,
    };
    let issues = upload.frame().problems(&[problem(0, "period.start"), problem(1, "identifier")]);
    let outcome = serde_json::to_value(refused_transaction(&issues, FileCode::Cpf04)).unwrap();
    assert_eq!(VALIDATORS.validate(&outcome, Profile::Base), []);
    assert_eq!(outcome["meta"]["tag"][0]["code"], "CPF04");
    assert_eq!(outcome["issue"][0]["expression"][0], "Bundle.entry[0].resource.period.start");
    assert_eq!(outcome["issue"][1]["expression"][0], "Bundle.entry[1]");
}

fn any_entry() -> impl Strategy<Value = Value> {
    let flag_of = |nhs, local_id| entry("POST", "Flag", flag(nhs, local_id));
    proptest::sample::select(vec![
        put_patient(ROBIN),
        put_patient(MORGAN),
        put_patient("9990000019"),
        flag_of(ROBIN, "A"),
        flag_of(MORGAN, "B"),
        flag_of("9990000019", "C"),
        with(flag_of(ROBIN, "A"), "/search", json!({"mode": "match"})),
        entry("POST", "Flag", Value::Null),
        entry("POST", "Flag", json!("text")),
        entry("DELETE", &format!("Flag/{PLAN}"), Value::Null),
        entry("DELETE", &format!("Flag?patient={ROBIN}"), Value::Null),
        entry("PUT", "Organization/Z9A", organization()),
        entry("GET", "Organization/Z9A", Value::Null),
        json!({"request": {}}),
    ])
}

proptest! {
    #[test]
    fn every_entry_belongs_to_one_record_and_gets_one_answer(
        entries in proptest::collection::vec(any_entry(), 1..20), known: bool, batch: bool
    ) {
        let kind = if batch { "batch" } else { "transaction" };
        let mut upload = read(kind, &entries);
        upload.place(|_| known.then(|| number(ROBIN)));
        let mut seen: Vec<usize> = upload.records.iter().flat_map(|record| record.entries.clone()).collect();
        seen.extend(entries.iter().enumerate().filter_map(|(index, entry)| {
            let url = entry["request"]["url"].as_str().unwrap_or_default();
            url.starts_with("Organization").then_some(index)
        }));
        seen.sort_unstable();
        prop_assert_eq!(seen, (0..entries.len()).collect::<Vec<_>>());

        let numbers: Vec<_> = upload.records.iter().filter_map(|record| record.nhs_number).collect();
        prop_assert!(numbers.iter().enumerate().all(|(index, number)| !numbers[..index].contains(number)));
        prop_assert!(upload.records.iter().all(|r| r.content.as_ref().err().is_none_or(|told| !told.is_empty())));

        let refused = upload.records.iter().flat_map(|record| upload.frame().refused(&record.entries, &upload.issues()));
        let answer = serde_json::to_value(upload.frame().response(refused.collect(), FileCode::Cpf04)).unwrap();
        prop_assert_eq!(statuses(&answer).len(), entries.len());
        prop_assert_eq!(VALIDATORS.validate(&answer, Profile::Base), []);
    }
}
