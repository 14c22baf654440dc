//! Single interactions: one Flag, Patient or Organization.

use super::*;
use crate::{
    cpis::types::{Organization, Phone, Plan, PlanPeriod, ShownPlan, organization::OrganizationKind},
    fhir::{
        render::{self, View},
        resource::Resource,
    },
};

fn create(flag: &Value) -> Result<(NhsNumber, PlanChange), Vec<Issue>> {
    read_flag(flag, &FlagRequest::Create { if_none_exist: None }, &reading())
}

fn update() -> FlagRequest {
    FlagRequest::Update { id: PLAN.parse().unwrap(), precondition: Precondition::Version(3) }
}

#[test]
fn a_flag_is_read() {
    let (nhs, change) = create(&flag(ROBIN, "CPP-1")).unwrap();
    assert!(nhs == number(ROBIN));
    assert_eq!(change, plan_change(0, content(), "CPP-1", put()));

    let identified = with(
        flag(ROBIN, "CPP-1"),
        "/subject",
        json!({"identifier": {
        "system": "https://fhir.nhs.uk/Id/nhs-number", "value": ROBIN}}),
    );
    assert!(create(&identified).unwrap().0 == number(ROBIN));

    let no_local_id = with(flag(ROBIN, "x"), "/identifier", Value::Null);
    assert_eq!(create(&no_local_id).unwrap().1.local_id, None);
    let ended = with(flag(ROBIN, "x"), "/period/end", json!("2026-10-30"));
    assert_eq!(
        create(&ended).unwrap().1.action,
        PlanAction::Put { start: day("2026-09-14"), end: Some(day("2026-10-30")) }
    );
}

#[test]
fn only_entered_in_error_counts_of_the_status() {
    let inactive = with(flag(ROBIN, "CPP-1"), "/status", json!("inactive"));
    assert_eq!(create(&inactive).unwrap().1.action, put());
    let wrong = with(flag(ROBIN, "CPP-1"), "/status", json!("entered-in-error"));
    assert_eq!(create(&wrong).unwrap().1.action, PlanAction::Delete { start: Some(day("2026-09-14")) });
    let bare = with(wrong, "/period", Value::Null);
    assert_eq!(create(&bare).unwrap().1.action, PlanAction::Delete { start: None });
}

#[test]
fn a_time_counts_by_its_day_in_london() {
    let late = with(flag(ROBIN, "x"), "/period/start", json!("2026-06-30T23:30:00Z"));
    assert_eq!(create(&late).unwrap().1.action, PlanAction::Put { start: day("2026-07-01"), end: None });
}

#[test]
fn what_is_wrong_with_a_flag_is_told_with_its_place() {
    let cpr = Some;
    for (flag, expected) in [
        (
            with(flag(ROBIN, "x"), "/subject/reference", json!("Patient/9990000019")),
            vec![("Flag.subject.reference", cpr(RecordCode::Cpr04))],
        ),
        (
            with(flag(ROBIN, "x"), "/subject", json!({"display": "Robin"})),
            vec![("Flag.subject", cpr(RecordCode::Cpr04))],
        ),
        (
            with(flag(ROBIN, "x"), "/period/start", json!("2026-09")),
            vec![("Flag.period.start", cpr(RecordCode::Cpr07))],
        ),
        (with(flag(ROBIN, "x"), "/period", Value::Null), vec![("Flag.period", cpr(RecordCode::Cpr07))]),
        (
            with(flag(ROBIN, "x"), "/author", json!({"reference": "Organization/Z9B"})),
            vec![("Flag.author", cpr(RecordCode::Cpr07))],
        ),
        (with(flag(ROBIN, "x"), "/status", json!("live")), vec![("Flag.status", None)]),
        (with(flag(ROBIN, "x"), "/period/start", json!("2026-02-30")), vec![("Flag.period.start", None)]),
        (patient(ROBIN), vec![("Flag", None)]),
    ] {
        assert_eq!(places(&create(&flag).unwrap_err()), expected, "{flag}");
    }
    let own = with(flag(ROBIN, "x"), "/author", json!({"reference": "Organization/Z9A", "display": "Westmarch"}));
    assert!(create(&own).is_ok());
}

#[test]
fn all_problems_of_a_flag_are_told_at_once_and_none_tells_a_value() {
    let bad = with(flag("9990000019", "x"), "/author", json!({"reference": "Organization/SECRET9"}));
    let bad = with(bad, "/period/start", json!("2026-09"));
    let bad = with(bad, "/code/coding", json!([{"system": "http://snomed.info/sct", "code": "11SECRET"}]));
    let issues = create(&bad).unwrap_err();
    assert_eq!(issues.len(), 4, "{issues:?}");
    for issue in &issues {
        assert!(!format!("{issue:?}").contains("SECRET") && !issue.diagnostics.contains("999"), "{issue:?}");
    }
    let foreign = with(flag(ROBIN, "x"), "/author", json!({"reference": "Organization/SECRET9"}));
    assert!(!format!("{:?}", create(&foreign).unwrap_err()).contains("SECRET"));
}

#[test]
fn an_update_names_the_same_id_twice() {
    let read = |flag: &Value| read_flag(flag, &update(), &reading());
    let right = with(flag(ROBIN, "CPP-1"), "/id", json!(PLAN));
    let key = PlanKey::Id { id: PLAN.parse().unwrap(), precondition: Precondition::Version(3) };
    assert_eq!(read(&right).unwrap().1, plan_change(0, key, "CPP-1", put()));
    assert_eq!(places(&read(&flag(ROBIN, "CPP-1")).unwrap_err()), [("Flag.id", None)]);
    let other = with(flag(ROBIN, "CPP-1"), "/id", json!("4f0f6d2e-0000-4000-8000-000000000002"));
    assert_eq!(places(&read(&other).unwrap_err()), [("Flag.id", None)]);
    assert_eq!(single_status(&read(&other).unwrap_err()), 400);
}

#[test]
fn criteria_are_read_and_must_agree_with_the_flag() {
    let all = "patient=9990000018&identifier=urn%3Aoid%3A2.16.840.1.113883.2.1.3.2.4.18.24%7CCPP+1&code=http://snomed.info/sct|342191000000101&code=child-protection-information-system-flag";
    let criteria = Criteria::parse(all).unwrap();
    assert!(criteria.number == Some(number(ROBIN)));
    assert_eq!((criteria.plan_type, criteria.local_id), (Some(PlanType::ChildProtection), LocalPlanId::parse("CPP 1")));
    for same in [
        "patient=Patient/9990000018",
        "subject=9990000018",
        "patient:identifier=https://fhir.nhs.uk/Id/nhs-number|9990000018",
        "subject.identifier=https%3A%2F%2Ffhir.nhs.uk%2FId%2Fnhs-number%7C9990000018",
    ] {
        assert!(Criteria::parse(same).unwrap().number == Some(number(ROBIN)), "{same}");
    }
    for bad in [
        "",
        "patient=9990000019",
        "status=active",
        "patient=9990000018&patient=9990000018",
        "code=1",
        "identifier=",
        "patient=%ff",
        "patient:identifier=x|9990000018",
    ] {
        assert!(Criteria::parse(bad).is_err(), "{bad}");
    }

    let named = |precondition, keeps| {
        let local_id = LocalPlanId::parse("CPP-1");
        PlanKey::Criteria(PlanCriteria { local_id, precondition, keeps, ..PlanCriteria::default() })
    };
    let conditional = |query| {
        let request =
            FlagRequest::Conditional { criteria: Criteria::parse(query).unwrap(), precondition: Precondition::None };
        read_flag(&flag(ROBIN, "CPP-1"), &request, &reading())
    };
    assert_eq!(
        conditional("identifier=CPP-1&patient=9990000018").unwrap().1,
        plan_change(0, named(Precondition::None, false), "CPP-1", put())
    );
    assert_eq!(places(&conditional("identifier=CPP-2").unwrap_err()), [("Flag.identifier", Some(RecordCode::Cpr07))]);
    assert_eq!(places(&conditional("patient=9990000026").unwrap_err()), [("Flag.subject", Some(RecordCode::Cpr07))]);
    assert_eq!(places(&conditional("code=764841000000100").unwrap_err()), [("Flag.code", Some(RecordCode::Cpr07))]);

    let request = FlagRequest::Create { if_none_exist: Some(Criteria::parse("identifier=CPP-1").unwrap()) };
    let unnamed = with(flag(ROBIN, "x"), "/identifier", Value::Null);
    let (_, change) = read_flag(&unnamed, &request, &reading()).unwrap();
    assert_eq!(change, plan_change(0, named(Precondition::None, true), "CPP-1", put()));
}

#[test]
fn if_match_names_one_version() {
    for (text, expected) in [
        ("W/\"3\"", Precondition::Version(3)),
        ("\"12\"", Precondition::Version(12)),
        ("*", Precondition::Exists),
        ("W/\"x\"", Precondition::Version(0)),
    ] {
        assert_eq!(if_match(text), Ok(expected), "{text}");
    }
    for bad in ["", "3", "W/3", "W/\"3\", W/\"4\""] {
        assert_eq!(single_status(&[if_match(bad).unwrap_err()]), 400, "{bad}");
    }
}

#[test]
fn a_patient_is_read_by_its_registered_name() {
    let read = |patient: &Value| read_patient(patient, number(ROBIN), Precondition::None, &reading());
    assert_eq!(read(&patient(ROBIN)), Ok(child_change(0)));
    let official =
        with(patient(ROBIN), "/name", json!([{"family": "Plain"}, {"use": "official", "family": "Testcase"}]));
    let child = read(&official).unwrap();
    assert_eq!((child.demographics.family.as_str(), child.demographics.given.len()), ("Testcase", 0));
    let only_old = with(patient(ROBIN), "/name", json!([{"use": "old", "family": "Before"}]));
    assert_eq!(places(&read(&only_old).unwrap_err()), [("Patient.name", Some(RecordCode::Cpr07))]);
    let year = with(patient(ROBIN), "/birthDate", json!("2017"));
    assert_eq!(places(&read(&year).unwrap_err()), [("Patient.birthDate", Some(RecordCode::Cpr07))]);
    let other = read(&patient(MORGAN)).unwrap_err();
    assert_eq!(places(&other), [("Patient.id", None), ("Patient.identifier", Some(RecordCode::Cpr07))]);
}

#[test]
fn an_organization_is_the_senders_own_with_a_duty_number() {
    let read = |organization: &Value, id| read_organization(organization, id, Precondition::None, &reading());
    let change = read(&organization(), "Z9A").unwrap();
    assert!(change.duty_phone == Phone::parse("01632960999").unwrap());
    assert!(change.office_phone == Phone::parse("01632960100").ok());
    let code = json!([{"system": "https://fhir.nhs.uk/Id/ods-organization-code", "value": "Z9B"}]);
    let foreign = with(with(organization(), "/id", json!("Z9B")), "/identifier", code);
    assert_eq!(places(&read(&foreign, "Z9B").unwrap_err()), [("Organization", Some(RecordCode::Cpr07))]);
    let silent = with(organization(), "/telecom", json!([{"system": "phone", "value": "01632960100", "use": "work"}]));
    assert_eq!(places(&read(&silent, "Z9A").unwrap_err()), [("Organization.telecom", Some(RecordCode::Cpr07))]);
}

#[test]
fn what_an_owner_is_shown_can_be_sent_back() {
    let now = "2026-11-03T21:45:00Z".parse().unwrap();
    let phone = |text| Phone::parse(text).ok();
    let authority = Organization {
        id: 1,
        ods: SENDER.clone(),
        name: "WESTMARCH COUNTY COUNCIL".to_owned(),
        kind: OrganizationKind::LocalAuthority,
        care_setting: None,
        sensitive: false,
        office_phone: phone("01632960100"),
        duty_phone: phone("01632960999"),
        part_of: None,
        active: true,
        version: 1,
        updated: now,
    };
    let plan = Plan {
        id: PLAN.parse().unwrap(),
        plan_type: PlanType::ChildProtection,
        period: PlanPeriod::new(day("2026-09-14"), Some(day("2026-10-30"))).unwrap(),
        ended: None,
        local_id: LocalPlanId::parse("CPP-1"),
        version: 3,
        deleted: false,
        recorded: now,
        created: now,
    };
    let sent = |resource: Resource| serde_json::to_value(resource).unwrap();
    let own = read_organization(&sent(render::organization(&authority).into()), "Z9A", Precondition::None, &reading());
    assert!(own.is_ok(), "{own:?}");

    let shown = ShownPlan {
        plan,
        active: false,
        closes: None,
        settled: false,
        nhs_number: number(ROBIN),
        authority,
        last_confirmed: None,
    };
    let flag = sent(render::flag(&shown, View::Owner { now, zone: London }).into());
    let (nhs, change) = read_flag(&flag, &update(), &reading()).unwrap();
    assert!(nhs == number(ROBIN));
    let action = PlanAction::Put { start: day("2026-09-14"), end: Some(day("2026-10-30")) };
    let key = PlanKey::Id { id: PLAN.parse().unwrap(), precondition: Precondition::Version(3) };
    assert_eq!(change, plan_change(0, key, "CPP-1", action));
}

#[test]
fn the_status_of_a_single_interaction_follows_its_issues() {
    let status = |kind| {
        let problem = Problem { entry: 0, code: RecordCode::Cpr07, kind, reason: "x".to_owned(), element: "period" };
        let issue = problem_issue(&problem, "Flag");
        assert_eq!(issue.expression, ["Flag.period"]);
        single_status(&[issue])
    };
    let kinds = [ProblemKind::Rule, ProblemKind::Version, ProblemKind::Several, ProblemKind::NotFound];
    assert_eq!(kinds.map(status), [422, 412, 412, 404]);
    assert_eq!([ProblemKind::Gone, ProblemKind::OtherId].map(status), [410, 400]);
}
