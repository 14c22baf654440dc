//! The rules of an upload, case by case; `model` has the properties.

mod model;

use chrono::{DateTime, NaiveDate, Utc};
use uuid::Uuid;

use super::judge::{ChildWrite, PlanWrite, StoredRecord, Verdict, judge};
use crate::cpis::{
    limits::Limits,
    types::{
        LocalPlanId, NhsNumber, Plan, PlanPeriod, PlanType,
        PlanType::{ChildProtection, LookedAfter, Unborn},
        Precondition,
        child::{AuthorityChild, Demographics, Trace, Traced},
        upload::{
            ChildChange, PlanAction, PlanChange, PlanCriteria, PlanKey, Problem, ProblemKind, RecordChange, RecordCode,
        },
    },
};

const TODAY: &str = "2026-11-03";

fn day(text: &str) -> NaiveDate {
    text.parse().unwrap()
}

fn number(text: &str) -> NhsNumber {
    NhsNumber::parse(text).unwrap()
}

fn recorded() -> DateTime<Utc> {
    "2026-11-01T02:00:00Z".parse().unwrap()
}

/// What demographics hold of somebody of whom they hold the same.
fn traced(of: Demographics) -> Trace {
    let Demographics { family, given, birth_date } = of;
    Trace::Found(Traced { family: Some(family), given, birth_date: Some(birth_date), deceased: false })
}

fn robin() -> Demographics {
    Demographics {
        family: "Testcase".to_owned(),
        given: vec!["Robin".to_owned(), "Alex".to_owned()],
        birth_date: day("2017-05-11"),
    }
}

fn local(text: &str) -> Option<LocalPlanId> {
    LocalPlanId::parse(text)
}

fn id(n: u128) -> Uuid {
    Uuid::from_u128(n)
}

fn plan(n: u128, plan_type: PlanType, start: &str, end: Option<&str>, local_id: &str) -> Plan {
    Plan {
        id: id(n),
        plan_type,
        period: PlanPeriod::new(day(start), end.map(day)).unwrap(),
        ended: None,
        local_id: local(local_id),
        version: 3,
        deleted: false,
        recorded: recorded(),
        created: recorded(),
    }
}

fn deleted(plan: Plan) -> Plan {
    Plan { deleted: true, ..plan }
}

fn stored(plans: impl Into<Vec<Plan>>) -> StoredRecord {
    let child = AuthorityChild {
        id: 1,
        person_id: 1,
        nhs_number: number("9990000018"),
        demographics: robin(),
        local_id: None,
        version: 2,
        recorded: recorded(),
        inactive: None,
    };
    StoredRecord { child: Some(child), plans: plans.into() }
}

fn put(entry: usize, plan_type: PlanType, start: &str, end: Option<&str>, local_id: &str) -> PlanChange {
    PlanChange {
        entry,
        key: PlanKey::Content,
        plan_type: Some(plan_type),
        local_id: local(local_id),
        action: PlanAction::Put { start: day(start), end: end.map(day) },
    }
}

fn delete(entry: usize, plan_type: PlanType, start: &str, local_id: &str) -> PlanChange {
    let action = PlanAction::Delete { start: start.parse().ok() };
    PlanChange { action, ..put(entry, plan_type, TODAY, None, local_id) }
}

fn version(if_match: Option<i64>) -> Precondition {
    if_match.map_or(Precondition::None, Precondition::Version)
}

fn by_id(change: PlanChange, n: u128, if_match: Option<i64>) -> PlanChange {
    PlanChange { key: PlanKey::Id { id: id(n), precondition: version(if_match) }, ..change }
}

fn delete_by_id(entry: usize, n: u128, if_match: Option<i64>) -> PlanChange {
    PlanChange {
        entry,
        key: PlanKey::Id { id: id(n), precondition: version(if_match) },
        plan_type: None,
        local_id: None,
        action: PlanAction::Delete { start: None },
    }
}

fn plans_only(plans: impl Into<Vec<PlanChange>>) -> RecordChange {
    RecordChange { nhs_number: number("9990000018"), child: None, plans: plans.into() }
}

fn with_child(entry: usize, plans: impl Into<Vec<PlanChange>>) -> RecordChange {
    let child = ChildChange { entry, demographics: robin(), local_id: None, precondition: Precondition::None };
    RecordChange { child: Some(child), ..plans_only(plans) }
}

fn judged(record: &RecordChange, stored: &StoredRecord) -> Result<Verdict, Vec<Problem>> {
    judge(record, stored, &traced(robin()), day(TODAY), &Limits::default(), true)
}

fn writes(record: &RecordChange, stored: &StoredRecord) -> Vec<PlanWrite> {
    judged(record, stored).map(|verdict| verdict.plans).unwrap()
}

/// Entry, code and element of each problem.
fn faults(outcome: Result<Verdict, Vec<Problem>>) -> Vec<(usize, RecordCode, &'static str)> {
    outcome.unwrap_err().iter().map(|problem| (problem.entry, problem.code, problem.element)).collect()
}

fn faulty(record: &RecordChange, stored: &StoredRecord) -> Vec<(usize, RecordCode, &'static str)> {
    faults(judged(record, stored))
}

fn kinds(record: &RecordChange, stored: &StoredRecord) -> Vec<ProblemKind> {
    judged(record, stored).unwrap_err().iter().map(|problem| problem.kind).collect()
}

fn create(entry: usize, plan_type: PlanType, start: &str, end: Option<&str>, local_id: &str) -> PlanWrite {
    let period = PlanPeriod::new(day(start), end.map(day)).unwrap();
    PlanWrite::Create { entry, plan_type, period, local_id: local(local_id) }
}

fn update(entry: usize, n: u128, start: &str, end: Option<&str>, local_id: &str) -> PlanWrite {
    let period = PlanPeriod::new(day(start), end.map(day)).unwrap();
    PlanWrite::Update { entry, id: id(n), period, local_id: local(local_id) }
}

use RecordCode::{Cpr01, Cpr02, Cpr03, Cpr05, Cpr07};

#[test]
fn a_first_record_creates_child_and_plans() {
    let record = with_child(
        0,
        [
            put(1, ChildProtection, "2026-09-14", None, "CPP-1"),
            put(2, LookedAfter, "2025-03-01", Some("2026-10-30"), ""),
        ],
    );
    let verdict = judged(&record, &StoredRecord::default()).unwrap();
    let child = ChildWrite { entry: 0, demographics: robin(), local_id: None, changed: true };
    assert_eq!(verdict.child, Some(child));
    assert_eq!(
        verdict.plans,
        [
            create(1, ChildProtection, "2026-09-14", None, "CPP-1"),
            create(2, LookedAfter, "2025-03-01", Some("2026-10-30"), ""),
        ]
    );
    assert!(verdict.warnings.is_empty());
}

#[test]
fn the_child_may_be_left_out_once_it_was_sent() {
    let record = plans_only([put(4, ChildProtection, "2026-09-14", None, "")]);
    assert_eq!(judged(&record, &stored([])).unwrap().child, None);
    assert_eq!(faulty(&record, &StoredRecord::default()), [(4, Cpr07, "subject")]);
}

#[test]
fn a_record_without_plans_updates_the_child() {
    let mut record = with_child(0, []);
    assert!(!judged(&record, &stored([])).unwrap().child.unwrap().changed);
    record.child.as_mut().unwrap().local_id = Some("LCS-0042".to_owned());
    assert!(judged(&record, &stored([])).unwrap().child.unwrap().changed);
    record.nhs_number = number("9990000026");
    assert!(judged(&record, &stored([])).unwrap().child.unwrap().changed);
    // Under this number there is no row yet that a condition could be about.
    record.child.as_mut().unwrap().precondition = Precondition::Version(2);
    assert_eq!(kinds(&record, &stored([])), [ProblemKind::Version]);
    record.child.as_mut().unwrap().precondition = Precondition::Absent;
    assert!(judged(&record, &stored([])).is_ok());
    record.nhs_number = number("9990000018");
    assert_eq!(kinds(&record, &stored([])), [ProblemKind::Version]);
    record.child.as_mut().unwrap().precondition = Precondition::Version(2);
    assert!(judged(&record, &stored([])).is_ok());
    record.child.as_mut().unwrap().precondition = Precondition::Version(1);
    assert_eq!(kinds(&record, &stored([])), [ProblemKind::Version]);
}

#[test]
fn the_same_local_id_means_the_plan_and_corrects_its_start() {
    let held = stored([plan(7, ChildProtection, "2026-09-14", None, "CPP-1")]);
    let record = plans_only([put(0, ChildProtection, "2026-09-15", Some("2026-11-01"), "CPP-1")]);
    assert_eq!(writes(&record, &held), [update(0, 7, "2026-09-15", Some("2026-11-01"), "CPP-1")]);
    let record = plans_only([put(0, ChildProtection, "2026-09-14", None, "CPP-1")]);
    assert_eq!(writes(&record, &held), [PlanWrite::Unchanged { entry: 0, id: id(7) }]);
}

#[test]
fn the_same_start_means_the_plan_when_one_of_the_two_has_no_local_id() {
    for (held, sent, after) in [("", "CPP-1", "CPP-1"), ("CPP-1", "", "CPP-1"), ("", "", "")] {
        let plans = stored([plan(7, ChildProtection, "2026-09-14", None, held)]);
        let record = plans_only([put(0, ChildProtection, "2026-09-14", Some("2026-11-01"), sent)]);
        assert_eq!(writes(&record, &plans), [update(0, 7, "2026-09-14", Some("2026-11-01"), after)]);
    }
    let held = stored([plan(7, ChildProtection, "2026-09-14", None, "CPP-1")]);
    let other = plans_only([put(0, ChildProtection, "2026-09-14", None, "CPP-2")]);
    assert_eq!(faulty(&other, &held), [(0, Cpr07, "period")]);
    let other_type = plans_only([put(0, LookedAfter, "2026-09-14", None, "CPP-1")]);
    assert_eq!(writes(&other_type, &held), [create(0, LookedAfter, "2026-09-14", None, "CPP-1")]);
}

#[test]
fn a_new_plan_may_not_overlap_an_open_one() {
    let record = |end| plans_only([put(0, ChildProtection, "2026-09-14", end, "")]);
    let held = |start, end| stored([plan(7, ChildProtection, start, end, "")]);
    let refused = judged(&record(None), &held("2026-01-01", None)).unwrap_err();
    assert_eq!(refused[0].element, "period");
    assert!(refused[0].reason.contains("overlaps the plan that started 2026-01-01"), "{}", refused[0].reason);
    assert!(judged(&record(None), &held("2026-01-01", Some("2026-12-31"))).is_err());
    assert!(judged(&record(None), &held("2026-01-01", Some("2026-10-01"))).is_ok(), "ended, though it overlaps");
    assert!(judged(&record(Some("2026-10-01")), &held("2026-10-02", None)).is_ok());
    assert!(judged(&record(Some("2026-10-02")), &held("2026-10-02", None)).is_err(), "they share a day");
}

#[test]
fn an_ended_plan_that_overlaps_can_be_corrected_but_not_reopened() {
    let held = stored([
        plan(7, ChildProtection, "2026-01-01", Some("2026-10-01"), "A"),
        plan(8, ChildProtection, "2026-09-14", None, "B"),
    ]);
    let correct = |end| plans_only([put(0, ChildProtection, "2026-01-01", end, "A")]);
    assert_eq!(writes(&correct(Some("2026-10-01")), &held), [PlanWrite::Unchanged { entry: 0, id: id(7) }]);
    assert_eq!(writes(&correct(Some("2026-09-30")), &held), [update(0, 7, "2026-01-01", Some("2026-09-30"), "A")]);
    assert_eq!(faulty(&correct(None), &held), [(0, Cpr07, "period")]);
}

#[test]
fn several_unborn_children_are_told_apart_by_local_id() {
    let one = stored([plan(7, Unborn, "2026-08-20", None, "")]);
    let second = |start, local_id| plans_only([put(0, Unborn, start, None, local_id)]);
    assert_eq!(faulty(&second("2026-09-01", ""), &one), [(0, Cpr07, "identifier")]);
    assert_eq!(writes(&second("2026-09-01", "TWIN-B"), &one), [create(0, Unborn, "2026-09-01", None, "TWIN-B")]);

    let twins = stored([plan(7, Unborn, "2026-08-20", None, "A"), plan(8, Unborn, "2026-08-20", None, "B")]);
    assert_eq!(faulty(&second("2026-08-20", ""), &twins), [(0, Cpr07, "identifier")]);
    assert_eq!(writes(&second("2026-08-20", "C"), &twins), [create(0, Unborn, "2026-08-20", None, "C")]);

    let both = plans_only([put(0, Unborn, "2026-08-20", None, "B"), put(1, Unborn, "2026-08-20", None, "A")]);
    assert_eq!(writes(&both, &stored([])).len(), 2);
    let unnamed = plans_only([put(0, Unborn, "2026-08-20", None, ""), put(1, Unborn, "2026-08-20", None, "A")]);
    assert_eq!(faulty(&unnamed, &stored([])), [(0, Cpr07, "identifier"), (1, Cpr07, "identifier")]);
    let earlier = stored([plan(7, Unborn, "2024-08-20", None, "")]);
    assert_eq!(writes(&second("2026-08-20", ""), &earlier), [create(0, Unborn, "2026-08-20", None, "")]);
}

#[test]
fn a_twin_may_not_make_the_key_of_another_entry_ambiguous() {
    let held = stored([plan(7, Unborn, "2026-08-20", None, "A")]);
    let unnamed = |end| put(0, Unborn, "2026-08-20", end, "");
    let twin = put(1, Unborn, "2026-08-20", None, "B");
    assert_eq!(faulty(&plans_only([unnamed(None), twin.clone()]), &held), [(1, Cpr07, "identifier")]);
    let both = [(0, Cpr07, "identifier"), (1, Cpr07, "identifier")];
    assert_eq!(faulty(&plans_only([unnamed(Some("2026-12-01")), twin]), &held), both);
}

#[test]
fn an_unborn_plan_that_is_cut_is_warned_about() {
    let warned = |end| {
        let verdict = judged(&plans_only([put(3, Unborn, "2026-08-20", end, "")]), &stored([])).unwrap();
        verdict.warnings.iter().map(|warning| (warning.entry, warning.element)).collect::<Vec<_>>()
    };
    assert_eq!(warned(Some("2027-06-16")), []);
    assert_eq!(warned(Some("2027-06-17")), [(3, "period.end")]);
    assert_eq!(warned(None), [(3, "period.end")]);
}

#[test]
fn a_deleted_plan_is_never_meant() {
    let held = stored([deleted(plan(7, ChildProtection, "2026-09-14", None, "CPP-1"))]);
    let record = plans_only([put(0, ChildProtection, "2026-09-14", None, "CPP-1")]);
    assert_eq!(writes(&record, &held), [create(0, ChildProtection, "2026-09-14", None, "CPP-1")]);
}

#[test]
fn deletes_find_their_plan_once() {
    let live = plan(7, ChildProtection, "2026-09-14", None, "CPP-1");
    for (change, held, expected) in [
        (delete(0, ChildProtection, "2026-09-14", ""), live.clone(), Some(PlanWrite::Delete { entry: 0, id: id(7) })),
        (delete(0, ChildProtection, "", "CPP-1"), live.clone(), Some(PlanWrite::Delete { entry: 0, id: id(7) })),
        (delete_by_id(0, 7, None), live.clone(), Some(PlanWrite::Delete { entry: 0, id: id(7) })),
        (delete(0, ChildProtection, "2026-09-14", "CPP-2"), live.clone(), None),
        (delete(0, LookedAfter, "2026-09-14", "CPP-1"), live.clone(), None),
        (delete(0, ChildProtection, "", ""), live.clone(), None),
        (
            delete(0, ChildProtection, "2026-09-14", "CPP-1"),
            deleted(live.clone()),
            Some(PlanWrite::AlreadyDeleted { entry: 0, id: id(7) }),
        ),
        (delete_by_id(0, 7, Some(2)), deleted(live), Some(PlanWrite::AlreadyDeleted { entry: 0, id: id(7) })),
    ] {
        let found = judged(&plans_only([change]), &stored([held])).ok().map(|verdict| verdict.plans);
        assert_eq!(found, expected.map(|write| vec![write]));
    }
}

#[test]
fn a_repeated_delete_does_not_reach_on_to_a_new_plan() {
    let held = stored([
        deleted(plan(7, ChildProtection, "2026-09-14", None, "CPP-1")),
        plan(8, ChildProtection, "2026-09-14", None, ""),
    ]);
    let record = plans_only([delete(0, ChildProtection, "2026-09-14", "CPP-1")]);
    assert_eq!(writes(&record, &held), [PlanWrite::AlreadyDeleted { entry: 0, id: id(7) }]);
}

#[test]
fn a_wrong_plan_is_deleted_and_the_right_one_sent_in_one_record() {
    let held = stored([plan(7, ChildProtection, "2026-01-01", None, "")]);
    let put = put(0, ChildProtection, "2026-09-14", None, "");
    for delete in [delete(1, ChildProtection, "2026-01-01", ""), delete_by_id(1, 7, Some(3))] {
        let expected =
            vec![create(0, ChildProtection, "2026-09-14", None, ""), PlanWrite::Delete { entry: 1, id: id(7) }];
        assert_eq!(writes(&plans_only([put.clone(), delete]), &held), expected);
    }
    let same_key = plans_only([put, delete(1, ChildProtection, "2026-09-14", "")]);
    let held = stored([plan(7, ChildProtection, "2026-09-14", None, "")]);
    assert_eq!(faulty(&same_key, &held), [(0, Cpr07, ""), (1, Cpr07, "")]);
}

#[test]
fn a_plan_is_meant_once_and_a_type_sent_once_in_a_record() {
    let held = stored([plan(7, Unborn, "2026-08-20", None, "A")]);
    let twice = plans_only([put(0, Unborn, "2026-08-20", None, ""), put(1, Unborn, "2026-08-21", None, "A")]);
    assert_eq!(faulty(&twice, &held), [(0, Cpr07, ""), (1, Cpr07, "")]);
    let two = plans_only([
        put(0, LookedAfter, "2026-01-01", Some("2026-02-01"), ""),
        put(1, LookedAfter, "2026-05-01", None, ""),
    ]);
    assert_eq!(faulty(&two, &stored([])), [(0, Cpr07, "code"), (1, Cpr07, "code")]);
}

#[test]
fn a_plan_named_by_id_obeys_if_match_and_keeps_its_type() {
    let held = stored([
        plan(7, ChildProtection, "2026-09-14", None, "CPP-1"),
        deleted(plan(8, LookedAfter, "2026-09-14", None, "")),
    ]);
    let change = put(0, ChildProtection, "2026-09-20", None, "");
    let record = |n, version| plans_only([by_id(change.clone(), n, version)]);
    assert_eq!(writes(&record(7, Some(3)), &held), [update(0, 7, "2026-09-20", None, "CPP-1")]);
    assert_eq!(kinds(&record(7, Some(2)), &held), [ProblemKind::Version]);
    assert_eq!(kinds(&record(8, None), &held), [ProblemKind::Gone]);
    assert_eq!(kinds(&record(9, None), &held), [ProblemKind::NotFound]);
    assert_eq!(kinds(&plans_only([delete_by_id(0, 7, Some(2))]), &held), [ProblemKind::Version]);
    assert_eq!(kinds(&plans_only([delete_by_id(0, 9, None)]), &held), [ProblemKind::NotFound]);
    let other_type = plans_only([by_id(put(0, LookedAfter, "2026-09-20", None, ""), 7, None)]);
    assert_eq!(faulty(&other_type, &held), [(0, Cpr07, "code")]);
}

#[test]
fn criteria_find_none_one_or_several_plans() {
    let held = stored([
        plan(7, ChildProtection, "2025-01-10", Some("2026-10-01"), "CPP-1"),
        plan(8, LookedAfter, "2026-09-14", None, ""),
    ]);
    let ended = || put(0, ChildProtection, "2025-01-12", Some("2026-10-02"), "");
    let record = |change: PlanChange, criteria| plans_only([PlanChange { key: PlanKey::Criteria(criteria), ..change }]);
    let search =
        |plan_type, local_id: &str| PlanCriteria { plan_type, local_id: local(local_id), ..Default::default() };

    // The one that is found is meant, whatever its start.
    for criteria in [search(Some(ChildProtection), ""), search(None, "CPP-1"), search(Some(ChildProtection), "CPP-1")] {
        let updated = [update(0, 7, "2025-01-12", Some("2026-10-02"), "CPP-1")];
        assert_eq!(writes(&record(ended(), criteria), &held), updated);
    }
    assert_eq!(kinds(&record(ended(), search(None, "")), &held), [ProblemKind::Several]);
    // None is found: a new one, or the one that a create would mean.
    let new = put(0, ChildProtection, "2026-10-20", None, "CPP-2");
    assert!(matches!(writes(&record(new.clone(), search(None, "CPP-2")), &held)[..], [PlanWrite::Create { .. }]));
    let named = put(0, LookedAfter, "2026-09-14", None, "LAC-1");
    assert_eq!(writes(&record(named, search(None, "LAC-1")), &held), [update(0, 8, "2026-09-14", None, "LAC-1")]);
    let other_type = put(0, LookedAfter, "2026-09-14", None, "");
    assert_eq!(faulty(&record(other_type, search(None, "CPP-1")), &held), [(0, Cpr07, "code")]);

    let kept = PlanCriteria { keeps: true, ..search(Some(ChildProtection), "") };
    assert_eq!(writes(&record(ended(), kept.clone()), &held), [PlanWrite::Unchanged { entry: 0, id: id(7) }]);
    let several = PlanCriteria { keeps: true, ..search(None, "") };
    assert_eq!(kinds(&record(ended(), several), &held), [ProblemKind::Several]);
    assert_eq!(
        writes(
            &record(put(0, Unborn, "2026-10-20", None, ""), PlanCriteria { plan_type: Some(Unborn), ..kept }),
            &held
        )
        .len(),
        1
    );
}

#[test]
fn criteria_obey_preconditions_and_the_id_in_the_body() {
    let held = stored([plan(7, ChildProtection, "2026-09-14", None, "CPP-1")]);
    let record = |criteria: PlanCriteria| {
        let change = put(0, ChildProtection, "2026-09-14", Some("2026-11-01"), "");
        plans_only([PlanChange { key: PlanKey::Criteria(criteria), ..change }])
    };
    let when = |precondition| PlanCriteria { plan_type: Some(ChildProtection), precondition, ..Default::default() };
    for (precondition, at_one, at_none) in [
        (Precondition::None, true, true),
        (Precondition::Exists, true, false),
        (Precondition::Version(3), true, false),
        (Precondition::Version(4), false, false),
        (Precondition::Absent, false, true),
    ] {
        for (held, holds) in [(&held, at_one), (&stored([]), at_none)] {
            let criteria = when(precondition);
            if holds {
                assert_eq!(writes(&record(criteria), held).len(), 1, "{precondition:?}");
            } else {
                assert_eq!(kinds(&record(criteria), held), [ProblemKind::Version], "{precondition:?}");
            }
        }
    }
    let with_id = |body_id: String| PlanCriteria { body_id: Some(body_id), ..when(Precondition::None) };
    assert_eq!(writes(&record(with_id(id(7).to_string())), &held).len(), 1);
    assert_eq!(kinds(&record(with_id(id(8).to_string())), &held), [ProblemKind::OtherId]);
    assert_eq!(kinds(&record(with_id(id(7).to_string())), &stored([])), [ProblemKind::OtherId]);
}

#[test]
fn a_delete_by_criteria_finds_one_plan() {
    let held = stored([
        plan(7, ChildProtection, "2026-09-14", None, "A"),
        plan(8, LookedAfter, "2026-09-14", None, "A"),
        deleted(plan(9, Unborn, "2026-09-14", None, "B")),
    ]);
    let delete = |plan_type, local_id: &str| {
        let criteria = PlanCriteria { plan_type, local_id: local(local_id), ..PlanCriteria::default() };
        let action = PlanAction::Delete { start: None };
        plans_only([PlanChange {
            entry: 0,
            plan_type,
            local_id: local(local_id),
            key: PlanKey::Criteria(criteria),
            action,
        }])
    };
    assert_eq!(writes(&delete(Some(LookedAfter), ""), &held), [PlanWrite::Delete { entry: 0, id: id(8) }]);
    assert_eq!(writes(&delete(Some(ChildProtection), "A"), &held), [PlanWrite::Delete { entry: 0, id: id(7) }]);
    assert_eq!(kinds(&delete(None, "A"), &held), [ProblemKind::Several]);
    assert_eq!(kinds(&delete(None, ""), &held), [ProblemKind::Several]);
    for (plan_type, local_id) in [(None, "B"), (Some(Unborn), "B"), (Some(Unborn), "")] {
        let repeated = [PlanWrite::AlreadyDeleted { entry: 0, id: id(9) }];
        assert_eq!(writes(&delete(plan_type, local_id), &held), repeated);
    }
    assert_eq!(kinds(&delete(None, "C"), &held), [ProblemKind::Rule]);
    assert_eq!(kinds(&delete(Some(Unborn), "C"), &held), [ProblemKind::Rule]);
}

#[test]
fn a_record_does_not_delete_what_it_sends_by_the_same_criteria() {
    let held = stored([plan(7, ChildProtection, "2026-09-14", None, "A")]);
    let criteria = || PlanKey::Criteria(PlanCriteria { local_id: local("A"), ..PlanCriteria::default() });
    let action = PlanAction::Delete { start: None };
    let delete = PlanChange { entry: 0, plan_type: None, local_id: local("A"), key: criteria(), action };
    let again = PlanChange { key: criteria(), ..put(1, ChildProtection, "2026-10-14", None, "A") };
    assert_eq!(faulty(&plans_only([delete, again]), &held), [(0, Cpr07, ""), (1, Cpr07, "")]);
}
#[test]
fn dates_are_checked() {
    for (start, end, element) in [
        ("2026-11-04", None, Some("period.start")),
        ("2026-11-03", None, None),
        ("2026-10-01", Some("2026-09-30"), Some("period.end")),
        ("2025-01-01", Some("2025-11-03"), None),
        ("2025-01-01", Some("2025-11-02"), Some("period.end")),
        ("2026-10-01", Some("2027-01-01"), None),
    ] {
        for plan_type in PlanType::ALL {
            let outcome = judged(&plans_only([put(0, plan_type, start, end, "")]), &stored([]));
            let element = element.map(|element| vec![(0, Cpr07, element)]);
            assert_eq!(outcome.is_err().then(|| faults(outcome)), element, "{plan_type:?} {start} {end:?}");
        }
    }
}

#[test]
fn plans_of_a_child_end_at_18_those_of_a_mother_do_not() {
    let of_age = Demographics { birth_date: day("2008-11-02"), ..robin() };
    let mut held = stored([]);
    held.child.as_mut().unwrap().demographics = of_age.clone();
    let outcome = |plan_type, start, end| {
        let record = plans_only([put(0, plan_type, start, end, "")]);
        judge(&record, &held, &traced(of_age.clone()), day(TODAY), &Limits::default(), true)
    };
    for plan_type in [ChildProtection, LookedAfter] {
        assert!(outcome(plan_type, "2026-11-01", Some("2026-11-02")).is_ok());
        assert_eq!(faults(outcome(plan_type, "2026-11-01", Some("2026-11-03"))), [(0, Cpr07, "period.end")]);
        assert_eq!(faults(outcome(plan_type, "2026-11-01", None)), [(0, Cpr07, "period.end")]);
        let both = [(0, Cpr07, "period.end"), (0, Cpr07, "period.start")];
        assert_eq!(faults(outcome(plan_type, "2026-11-02", None)), both);
    }
    assert!(outcome(Unborn, "2026-11-02", None).is_ok());
}

#[test]
fn the_number_is_verified() {
    let new_plan = with_child(5, [put(2, ChildProtection, "2026-09-14", None, "")]);
    for (trace, code) in [
        (Trace::Unknown, Some(Cpr01)),
        (Trace::Invalid, Some(Cpr01)),
        (Trace::Restricted, Some(Cpr02)),
        (Trace::Superseded(number("9990000026")), Some(Cpr05)),
        (traced(robin()), None),
        (Trace::NotTraced, None),
    ] {
        // Where the number is at fault nothing is said of the person's data, wrong as they are.
        let mut wrong = new_plan.clone();
        wrong.child.as_mut().unwrap().demographics.family = "Wrongly".to_owned();
        for record in if code.is_some() { vec![&new_plan, &wrong] } else { vec![&new_plan] } {
            let outcome = judge(record, &stored([]), &trace, day(TODAY), &Limits::default(), true);
            let expected = code.map(|code| vec![(5, code, "identifier")]);
            assert_eq!(outcome.is_err().then(|| faults(outcome)), expected);
        }
    }
}

#[test]
fn of_a_sensitive_record_nothing_else_is_said() {
    let wrong = [put(2, ChildProtection, "2026-12-14", None, ""), put(3, ChildProtection, "2026-09-14", None, "")];
    let record = with_child(5, wrong);
    let judged = |trace| faults(judge(&record, &stored([]), &trace, day(TODAY), &Limits::default(), false));
    assert_eq!(judged(Trace::Restricted), [(5, Cpr02, "identifier")]);
    assert!(judged(Trace::Unknown).len() > 2, "of any other all is told at once");
}

/// What demographics hold, with some of it other than what is sent, or not held; and the elements that are told of.
fn unlike() -> Vec<(Traced, &'static [&'static str])> {
    let Trace::Found(held) = traced(robin()) else { unreachable!() };
    let (day, family, given) = (day("2017-05-12"), "Other".to_owned(), vec!["Sky".to_owned()]);
    vec![
        (Traced { birth_date: Some(day), ..held.clone() }, &["birthDate"]),
        (Traced { birth_date: None, ..held.clone() }, &["birthDate"]),
        (Traced { family: Some(family.clone()), ..held.clone() }, &["name.family"]),
        (Traced { family: None, ..held.clone() }, &["name.family"]),
        (Traced { given: given.clone(), ..held.clone() }, &["name.given"]),
        (Traced { given: Vec::new(), ..held.clone() }, &["name.given"]),
        (Traced { birth_date: None, given, ..held.clone() }, &["birthDate", "name.given"]),
        (Traced { family: None, given: Vec::new(), ..held }, &["name.family", "name.given"]),
        (
            Traced { family: Some(family), given: Vec::new(), birth_date: Some(day), deceased: false },
            &["birthDate", "name.family", "name.given"],
        ),
    ]
}

#[test]
fn every_part_that_does_not_match_is_told_and_no_value() {
    let sent_now = with_child(5, [put(2, ChildProtection, "2026-09-14", None, "")]);
    let sent_before =
        plans_only([put(2, ChildProtection, "2026-09-14", None, ""), put(1, LookedAfter, "2026-09-14", None, "")]);
    // Only the words tell the parts of a person's data that were sent before.
    let word = |element: &'static str| match element {
        "birthDate" => "birth date",
        name => name.trim_start_matches("name."),
    };
    let mut said = Vec::new();
    for (held, elements) in unlike() {
        let judged =
            |record| judge(record, &stored([]), &Trace::Found(held.clone()), day(TODAY), &Limits::default(), true);
        let expected: Vec<_> = elements.iter().map(|element| (5, Cpr03, *element)).collect();
        assert_eq!(faults(judged(&sent_now)), expected);
        assert_eq!(faults(judged(&sent_before)), vec![(1, Cpr03, "subject"); elements.len()]);
        for record in [&sent_now, &sent_before] {
            let problems = judged(record).unwrap_err();
            for element in elements {
                let told =
                    problems.iter().filter(|problem| problem.reason.starts_with(&format!("The {}", word(element))));
                assert_eq!(told.count(), 1, "{element}: {problems:?}");
            }
            assert!(problems.iter().all(|problem| problem.reason.contains("before") == record.child.is_none()));
            said.extend(problems.into_iter().map(|problem| problem.reason));
        }
    }
    for value in ["Testcase", "Other", "Robin", "Alex", "Sky", "2017", "999"] {
        assert!(said.iter().all(|reason| !reason.contains(value)), "{value}");
    }
    // One set of words for each part and way of sending, whether or not anything is held.
    said.sort();
    said.dedup();
    assert_eq!(said.len(), 6, "{said:?}");
}

#[test]
fn a_mother_is_compared_with_what_is_held_of_her() {
    let mother = Demographics { birth_date: day("1998-02-20"), ..robin() };
    let mut record = with_child(0, [put(1, Unborn, "2026-08-20", Some("2027-01-15"), "")]);
    record.child.as_mut().unwrap().demographics = mother.clone();
    let outcome = |held: Demographics| {
        judge(&record, &StoredRecord::default(), &traced(held), day(TODAY), &Limits::default(), true)
    };
    assert!(outcome(mother).is_ok());
    assert_eq!(faults(outcome(robin())), [(0, Cpr03, "birthDate")]);
}

#[test]
fn a_delete_or_an_end_is_accepted_whatever_became_of_the_number() {
    let held = stored([plan(7, ChildProtection, "2026-09-14", None, "")]);
    let superseded = Trace::Superseded(number("9990000026"));
    for trace in [Trace::Unknown, Trace::Invalid, Trace::Restricted, superseded] {
        let outcome = |record: &RecordChange| judge(record, &held, &trace, day(TODAY), &Limits::default(), false);
        assert!(outcome(&plans_only([delete(0, ChildProtection, "2026-09-14", "")])).is_ok());
        let mut ends = with_child(1, [put(0, ChildProtection, "2026-09-14", Some("2026-11-01"), "")]);
        ends.child.as_mut().unwrap().local_id = Some("LCS-0042".to_owned());
        let verdict = outcome(&ends).unwrap();
        assert_eq!(verdict.child.map(|child| (child.changed, child.local_id)), Some((false, None)));
        assert_eq!(verdict.warnings.iter().map(|warning| warning.entry).collect::<Vec<_>>(), [1]);
        assert!(outcome(&plans_only([put(0, ChildProtection, "2026-09-14", None, "")])).is_err());
        assert!(outcome(&plans_only([put(0, LookedAfter, "2026-09-14", Some("2026-11-01"), "")])).is_err());
        assert!(outcome(&with_child(0, [])).is_err());
        let nothing = plans_only([delete(0, ChildProtection, "2026-01-01", "")]);
        assert_eq!(faults(outcome(&nothing)), [(0, Cpr07, "")]);
    }
}

#[test]
fn all_problems_are_told_at_once_and_none_tells_a_value() {
    let record = with_child(
        0,
        [
            put(1, ChildProtection, "2026-12-24", None, "SECRET-1"),
            put(2, LookedAfter, "2025-01-01", Some("2024-12-24"), "SECRET-2"),
            delete(3, Unborn, "2026-08-24", "SECRET-3"),
        ],
    );
    let outcome = judge(&record, &stored([]), &Trace::Unknown, day(TODAY), &Limits::default(), false);
    let problems = outcome.unwrap_err();
    let places: Vec<_> = problems.iter().map(|p| (p.entry, p.code, p.element)).collect();
    let expected = [
        (0, Cpr07, ""),
        (0, Cpr01, "identifier"),
        (1, Cpr07, "period.start"),
        (2, Cpr07, "period.end"),
        (2, Cpr07, "period.end"),
        (3, Cpr07, ""),
    ];
    assert_eq!(places, expected);
    for problem in problems {
        for value in ["SECRET", "-24", "Testcase", "999", "2017"] {
            assert!(!problem.reason.contains(value), "{}", problem.reason);
        }
    }
}
