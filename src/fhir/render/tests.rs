//! Whatever the facts, what is rendered is valid R4 and reads back equal; snapshots show the shapes.

use std::sync::LazyLock;

use chrono::{DateTime, NaiveDate, TimeDelta, TimeZone, Utc};
use chrono_tz::Europe::London;
use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::{
    clock::from_millis,
    cpis::types::{
        LocalPlanId, Organization, Phone, Plan, PlanPeriod, PlanType, ShownPlan,
        access::{Access, AccessAuthor, AccessKind, ListingDecision},
        audit::{AuditAgent, AuditContent, AuditRow, EntityRef, Interaction, Outcome, QueryResult, RequestEvent},
        caller::{Author, ResponsiblePerson, Role, User},
        child::{AuthorityChild, Demographics},
        organization::{CareSetting, OrganizationKind},
    },
    fhir::{
        resource::{AuditEvent, Bundle, BundleEntry, PractitionerRole, Resource},
        validate::{Profile, Validators},
    },
};

static VALIDATORS: LazyLock<&Validators> = LazyLock::new(|| Validators::shared().unwrap());
const BASE_URL: &str = "https://api.example.org/cpis/FHIR/R4";

/// Serialised, valid R4, parsed, equal.
fn assert_round_trip(resource: impl Into<Resource>) {
    let resource = resource.into();
    let text = serde_json::to_string(&resource).unwrap();
    assert!(text.starts_with(r#"{"resourceType":"#), "{text}");
    let value = crate::fhir::json::parse(text.as_bytes(), crate::fhir::json::RESOURCE_VALUES).unwrap();
    assert_eq!(VALIDATORS.validate(&value, Profile::Base), [], "{text}");
    assert!(Resource::read(value).unwrap() == resource, "{text}");
}

fn number() -> NhsNumber {
    NhsNumber::parse("9990000018").unwrap()
}

fn ods(code: &str) -> OdsCode {
    OdsCode::parse(code).unwrap()
}

fn day(text: &str) -> NaiveDate {
    text.parse().unwrap()
}

fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

fn authority() -> Organization {
    Organization {
        id: 1,
        ods: ods("Z9A"),
        name: "WESTMARCH COUNTY COUNCIL".to_owned(),
        kind: OrganizationKind::LocalAuthority,
        care_setting: None,
        sensitive: false,
        office_phone: Phone::parse("01632960100").ok(),
        duty_phone: Phone::parse("01632960999").ok(),
        part_of: None,
        active: true,
        version: 3,
        updated: at("2026-01-02T03:04:05.678Z"),
    }
}

fn shown() -> ShownPlan {
    ShownPlan {
        plan: Plan {
            id: Uuid::from_u128(0x4f0f_6d2e_0000_4000_8000_0000_0000_0001),
            plan_type: PlanType::ChildProtection,
            period: PlanPeriod::new(day("2026-06-01"), Some(day("2026-06-30"))).unwrap(),
            ended: None,
            local_id: LocalPlanId::parse("LCS-0042"),
            version: 2,
            deleted: false,
            recorded: at("2026-06-10T12:00:00.250Z"),
            created: at("2026-06-02T02:15:00.000Z"),
        },
        active: true,
        closes: None,
        settled: false,
        nhs_number: number(),
        authority: authority(),
        last_confirmed: None,
    }
}

fn owner(now: &str) -> View {
    View::Owner { now: at(now), zone: London }
}

fn user() -> User {
    User {
        sds_user_id: "555000000101".to_owned(),
        role_profile_id: Some("555000000202".to_owned()),
        name: "Ms Dana Example".to_owned(),
        job_role_code: Some("R0620".to_owned()),
        job_role_name: Some("Staff Nurse".to_owned()),
    }
}

fn device() -> Author {
    Author::Device {
        responsible: ResponsiblePerson {
            name: "Mr Lee Nominated".to_owned(),
            role_code: None,
            role_name: "Safeguarding Lead".to_owned(),
            phone: Some("01632960555".to_owned()),
        },
        site: Some(ods("ZZ111")),
    }
}

fn access(author: Author, sensitive: bool) -> Access {
    Access {
        sequence: 7,
        id: Uuid::from_u128(0x4f0f_6d2e_0000_4000_8000_0000_0000_0011),
        at: at("2026-11-03T21:45:00Z"),
        nhs_number: number(),
        author: AccessAuthor {
            author,
            client_id: "ed-system-1".to_owned(),
            organization: ods("ZZ101"),
            organization_name: "EASTVALE GENERAL HOSPITAL ED".to_owned(),
            sensitive,
            scheduled_setting: false,
        },
        request_id: "0f7b0f6e-3a51-4a2e-9a54-9e3c5a1d2b10".to_owned(),
    }
}

fn request(interaction: Interaction) -> RequestEvent {
    RequestEvent {
        interaction,
        outcome: Outcome::Success,
        refusal: None,
        request_id: "0f7b0f6e-3a51-4a2e-9a54-9e3c5a1d2b10".to_owned(),
        request_line: "GET /CareTeam?patient:identifier=...".to_owned(),
        address: Some("192.0.2.10".to_owned()),
        agent: AuditAgent {
            client_id: "ed-system-1".to_owned(),
            role: Role::Clinical,
            organization: ods("ZZ101"),
            organization_name: "EASTVALE GENERAL HOSPITAL ED".to_owned(),
            author: Author::Person(user()),
            token_tail: "9d3c7a1e5b2f4c6d8e0a1b2c3d4e5f60".to_owned(),
        },
        patient: Some(number()),
        entity: None,
        access: None,
        access_id: None,
        listing: Vec::new(),
        result: None,
        upload: None,
        change: None,
    }
}

fn row(content: AuditContent) -> AuditRow {
    AuditRow { month: 202_611, id: 12, chain: 3, seq: 9, recorded: at("2026-11-03T21:45:01.120Z"), content }
}

fn rendered(event: RequestEvent) -> AuditEvent {
    security_event(&row(AuditContent::Request(Box::new(event))), BASE_URL)
}

/// Code of each agent's type, and which agent asks.
fn agents(event: &AuditEvent) -> Vec<(String, bool)> {
    let code = |kind: &CodeableConcept| kind.coding.first().and_then(|c| c.code.clone()).unwrap_or_default();
    event.agent.iter().map(|a| (a.kind.as_ref().map(code).unwrap_or_default(), a.requestor == Some(true))).collect()
}

fn profile(event: &AuditEvent) -> Option<&str> {
    event.meta.as_ref().and_then(|m| m.profile.first()).and_then(|p| p.rsplit('.').next())
}

#[test]
fn a_plan_looks_as_the_contract_says() {
    let shown = shown();
    insta::assert_json_snapshot!("flag_clinician", flag(&shown, View::Clinician));
    insta::assert_json_snapshot!("flag_owner", flag(&shown, owner("2026-06-15T00:00:00Z")));
    insta::assert_json_snapshot!("care_plan", care_plan(&shown, View::Clinician));
    let silent = ShownPlan { last_confirmed: Some(day("2026-06-05")), ..shown.clone() };
    insta::assert_json_snapshot!("care_team", care_team(&silent, View::Clinician));
    let PatientFlag { flag, care_plan, care_team } = patient_flag(&shown);
    insta::assert_json_snapshot!("patient_flag", [Resource::from(flag), care_plan.into(), care_team.into()]);
}

#[test]
fn status_follows_the_plan() {
    let status = |active, deleted| {
        let mut shown = shown();
        (shown.active, shown.plan.deleted) = (active, deleted);
        let view = View::Clinician;
        let team = care_team(&shown, view).status;
        [flag(&shown, view).status, care_plan(&shown, view).status, team.unwrap_or_default()]
    };
    assert_eq!(status(true, false), ["active", "active", "active"]);
    assert_eq!(status(false, false), ["inactive", "completed", "inactive"]);
    assert_eq!(status(true, true), ["entered-in-error"; 3]);
}

#[test]
fn a_clinician_gets_no_version_and_no_local_id() {
    let shown = shown();
    let (flag, plan) = (flag(&shown, View::Clinician), care_plan(&shown, View::Clinician));
    assert_eq!((flag.meta, plan.meta, care_team(&shown, View::Clinician).meta), (None, None, None));
    assert!(flag.identifier.is_empty() && plan.identifier.is_empty());
    assert!(patient_for_clinician(&number(), Verification::Verified, None).meta.is_none());
}

#[test]
fn the_owner_sees_the_change_at_midnight_in_london_after_the_end() {
    let updated = |now: &str, end: Option<&str>| {
        let mut shown = shown();
        shown.plan.period = PlanPeriod::new(day("2026-06-01"), end.map(day)).unwrap();
        let meta = flag(&shown, owner(now)).meta.unwrap();
        assert_eq!(meta.version_id.as_deref(), Some("2"));
        meta.last_updated.unwrap().as_str().to_owned()
    };
    let recorded = "2026-06-10T12:00:00.250Z";
    // Summer time: the day after 30 June begins at 23:00 UTC.
    assert_eq!(updated("2026-06-30T22:59:59.999Z", Some("2026-06-30")), recorded);
    assert_eq!(updated("2026-06-30T23:00:00Z", Some("2026-06-30")), "2026-06-30T23:00:00.000Z");
    assert_eq!(updated("2027-06-30T23:00:00Z", Some("2026-12-01")), "2026-12-02T00:00:00.000Z");
    assert_eq!(updated("2026-06-30T23:00:00Z", None), recorded);
    // An end that was over before this version was recorded changes nothing.
    assert_eq!(updated("2026-06-30T23:00:00Z", Some("2026-06-05")), recorded);
}

#[test]
fn children_and_organisations() {
    let child = AuthorityChild {
        id: 1,
        person_id: 2,
        nhs_number: number(),
        demographics: Demographics {
            family: "Testcase".to_owned(),
            given: vec!["Robin".to_owned(), "Alex".to_owned()],
            birth_date: day("2017-05-11"),
        },
        local_id: Some("LCS-1".to_owned()),
        version: 4,
        recorded: at("2026-01-02T03:04:05.678Z"),
        inactive: None,
    };
    insta::assert_json_snapshot!("patient_owner", patient_for_owner(&child, BASE_URL));
    insta::assert_json_snapshot!("patient_clinician", patient_for_clinician(&number(), Verification::Verified, None));
    insta::assert_json_snapshot!("organization", organization(&authority()));
    // What an authority is shown of its own it may send back.
    for resource in [
        Resource::from(patient_for_owner(&child, BASE_URL)),
        organization(&authority()).into(),
        flag(&shown(), owner("2026-06-15T00:00:00Z")).into(),
    ] {
        assert_eq!(VALIDATORS.validate(&serde_json::to_value(&resource).unwrap(), Profile::Cpis), []);
    }
}

#[test]
fn an_access_by_a_person_and_by_a_device() {
    let pair = |access: &Access, auditor| {
        let (event, role) = access_event(access, auditor);
        [Resource::from(event), role.into()]
    };
    insta::assert_json_snapshot!("access_person", pair(&access(Author::Person(user()), false), false));
    insta::assert_json_snapshot!("access_device", pair(&access(device(), false), false));
    insta::assert_json_snapshot!("access_withheld", pair(&access(device(), true), false));
    let mut scheduled = access(Author::Person(user()), false);
    scheduled.author.scheduled_setting = true;
    assert_eq!(access_event(&scheduled, false).0.entity[0].detail.len(), 1);
}

#[test]
fn a_sensitive_organisation_is_withheld_from_all_but_auditors() {
    for author in [Author::Person(user()), device()] {
        let access = access(author, true);
        let (event, role) = access_event(&access, false);
        let text = serde_json::to_string(&[Resource::from(event), role.into()]).unwrap();
        for secret in ["EASTVALE", "ZZ101", "ZZ111", "Dana", "Nominated", "555000000", "01632960555", "ed-system-1"] {
            assert!(!text.contains(secret), "{secret} in {text}");
        }
        assert!(text.contains("NHS service (details withheld)"));
        assert!(text.contains("Staff Nurse") || text.contains("Safeguarding Lead"));
        let (_, role): (_, PractitionerRole) = access_event(&access, true);
        assert!(serde_json::to_string(&role).unwrap().contains("EASTVALE"));
    }
}

#[test]
fn a_query_is_rendered_after_balp() {
    let mut event = request(Interaction::SearchType);
    event.access = Some(AccessKind::Unscheduled);
    event.access_id = Some(Uuid::from_u128(0x4f0f_6d2e_0000_4000_8000_0000_0000_0011));
    event.listing = vec![ListingDecision { authority: ods("Z9A"), listed: true }];
    insta::assert_json_snapshot!("security_query", rendered(event));
}

#[test]
fn each_interaction_has_its_profile_and_its_agents() {
    let entity = Some(EntityRef { resource: "Flag".to_owned(), id: "f1".to_owned(), version: Some(2) });
    for (interaction, name, client, server, user) in [
        (Interaction::SearchType, "Query", "110153", "110152", "IRCP"),
        (Interaction::Operation, "Query", "110153", "110152", "IRCP"),
        (Interaction::HistoryInstance, "Query", "110153", "110152", "IRCP"),
        (Interaction::HistoryType, "Query", "110153", "110152", "IRCP"),
        (Interaction::Read, "Read", "110152", "110153", "IRCP"),
        (Interaction::Vread, "Read", "110152", "110153", "IRCP"),
        (Interaction::Create, "Create", "110153", "110152", "AUT"),
        (Interaction::Update, "Update", "110153", "110152", "AUT"),
        (Interaction::Delete, "Delete", "110150", "custodian", "AUT"),
    ] {
        let with_patient = rendered(RequestEvent { entity: entity.clone(), ..request(interaction) });
        assert_eq!(profile(&with_patient), Some(format!("Patient{name}").as_str()));
        assert_eq!(with_patient.action.as_deref(), Some(interaction.action().to_string().as_str()));
        let expected = [(client, false), (server, false), (user, true), ("PROV", false)];
        assert_eq!(agents(&with_patient), expected.map(|(code, asks)| (code.to_owned(), asks)));
        let without = rendered(RequestEvent { entity: entity.clone(), patient: None, ..request(interaction) });
        assert_eq!(profile(&without), Some(name));
        let references: Vec<_> =
            with_patient.entity.iter().filter_map(|e| e.what.as_ref()?.reference.as_deref()).collect();
        assert_eq!(references, ["Flag/f1/_history/2"]);
    }
    // A read without the resource that was read, or from nowhere, meets no profile and claims none.
    assert_eq!(profile(&rendered(request(Interaction::Read))), None);
    assert_eq!(profile(&rendered(RequestEvent { address: None, ..request(Interaction::SearchType) })), None);
}

#[test]
fn a_refusal_claims_no_profile() {
    for (outcome, code) in [(Outcome::Refused, "4"), (Outcome::Failed, "8")] {
        let event =
            rendered(RequestEvent { outcome, refusal: Some("ACCESS_DENIED".to_owned()), ..request(Interaction::Read) });
        assert_eq!(profile(&event), None);
        assert_eq!((event.outcome.as_deref(), event.outcome_desc.as_deref()), (Some(code), Some("ACCESS_DENIED")));
    }
}

#[test]
fn a_query_without_a_patient_says_what_it_found() {
    let mut event = request(Interaction::SearchType);
    event.patient = None;
    event.agent.role = Role::Auditor;
    event.agent.author = Author::System;
    event.result = Some(QueryResult { rows: 2, first: Some("202611-1".to_owned()), last: Some("202611-9".to_owned()) });
    insta::assert_json_snapshot!("security_auditor_query", rendered(event));
}

#[test]
fn chains_open_and_close() {
    let opened = AuditContent::ChainOpened {
        process: "gateway-1".to_owned(),
        newest_checkpoint: Some(41),
        newest_checkpoint_hash: Some("ab12".to_owned()),
    };
    let closed = AuditContent::ChainClosed { by: "gateway-1".to_owned() };
    let events = [opened, closed].map(|content| security_event(&row(content), BASE_URL));
    insta::assert_json_snapshot!("security_chain", events);
    events.into_iter().for_each(assert_round_trip);
}

#[test]
fn a_search_result_is_a_valid_bundle() {
    let (event, role) = access_event(&access(Author::Person(user()), false), false);
    let entry =
        vec![BundleEntry::found(BASE_URL, event.into(), "match"), BundleEntry::found(BASE_URL, role.into(), "include")];
    let bundle = Bundle::searchset(&format!("{BASE_URL}/AuditEvent?patient=x"), Some(1), entry);
    let expected = format!("{BASE_URL}/AuditEvent/4f0f6d2e-0000-4000-8000-000000000011");
    assert_eq!(bundle.entry[0].full_url, Some(expected));
    assert_round_trip(bundle);
    assert_round_trip(Bundle::searchset(&format!("{BASE_URL}/Flag"), Some(0), Vec::new()));
}

#[test]
fn outcomes_are_valid() {
    use crate::fhir::outcome::{Issue, IssueCode, SpineCode, operation_outcome};
    for code in IssueCode::ALL {
        for spine in SpineCode::ALL {
            assert_round_trip(operation_outcome(&[Issue::error(*code, *spine, "What to do.").at("Flag.code")]));
        }
    }
}

fn any_day() -> impl Strategy<Value = NaiveDate> {
    (0_i64..60_000).prop_map(|days| day("1950-01-01") + TimeDelta::days(days))
}

fn any_instant() -> impl Strategy<Value = DateTime<Utc>> {
    (0_i64..4_000_000_000_000).prop_map(from_millis)
}

fn any_phone() -> impl Strategy<Value = Option<Phone>> {
    prop::option::of((1_000_000_000_u64..9_999_999_999).prop_map(|n| Phone::parse(&format!("0{n}")).unwrap()))
}

fn any_ods() -> impl Strategy<Value = OdsCode> {
    "[A-Z0-9]{3,10}".prop_map(|code| ods(&code))
}

fn any_organization() -> impl Strategy<Value = Organization> {
    let kind = prop::sample::select(vec![
        OrganizationKind::LocalAuthority,
        OrganizationKind::CareProvider,
        OrganizationKind::Oversight,
    ]);
    (any_ods(), "\\PC{1,40}", kind, any_phone(), any_phone(), prop::option::of(any_ods()), any_instant()).prop_map(
        |(ods, name, kind, office_phone, duty_phone, part_of, updated)| Organization {
            name: format!("N{name}"),
            ods,
            kind,
            care_setting: Some(CareSetting::Unscheduled),
            office_phone,
            duty_phone,
            part_of,
            updated,
            ..authority()
        },
    )
}

fn any_shown() -> impl Strategy<Value = ShownPlan> {
    let plan_type = prop::sample::select(PlanType::ALL.to_vec());
    let local_id = prop::option::of("[!-~]{1,64}");
    let days = (any_day(), prop::option::of(0_i64..9_000));
    (any::<u128>(), plan_type, days, local_id, any::<(bool, bool)>(), any_instant(), any_organization()).prop_map(
        |(id, plan_type, (start, length), local_id, (active, deleted), recorded, authority)| {
            let end = length.map(|days| start + TimeDelta::days(days));
            ShownPlan {
                plan: Plan {
                    id: Uuid::from_u128(id),
                    plan_type,
                    period: PlanPeriod::new(start, end).unwrap(),
                    ended: None,
                    local_id: local_id.and_then(|id| LocalPlanId::parse(&id)),
                    version: 1,
                    deleted,
                    recorded,
                    created: recorded,
                },
                active,
                closes: None,
                settled: false,
                nhs_number: number(),
                authority,
                last_confirmed: None,
            }
        },
    )
}

fn any_author() -> impl Strategy<Value = Author> {
    let text = || "\\PC{0,20}";
    let person = (text(), prop::option::of("[0-9]{12}"), prop::option::of("R[0-9]{4}"), prop::option::of(text()));
    let person = person.prop_map(|(name, role_profile_id, job_role_code, job_role_name)| {
        Author::Person(User {
            sds_user_id: "555000000101".to_owned(),
            role_profile_id,
            name,
            job_role_code,
            job_role_name,
        })
    });
    let device = (
        text(),
        prop::option::of("R[0-9]{4}"),
        text(),
        prop::option::of("0[1-9][0-9]{9}"),
        prop::option::of(any_ods()),
    );
    let device = device.prop_map(|(name, role_code, role_name, phone, site)| Author::Device {
        responsible: ResponsiblePerson { name: format!("N{name}"), role_code, role_name, phone },
        site,
    });
    prop_oneof![person, device, Just(Author::System)]
}

proptest! {
    #[test]
    fn plans_round_trip(shown in any_shown(), now in any_instant(), confirmed in prop::option::of(any_day())) {
        let shown = ShownPlan { last_confirmed: confirmed, ..shown };
        for view in [View::Clinician, View::Owner { now, zone: London }] {
            assert_round_trip(flag(&shown, view));
            assert_round_trip(care_plan(&shown, view));
            assert_round_trip(care_team(&shown, view));
        }
        let three = patient_flag(&shown);
        assert_round_trip(three.flag);
        assert_round_trip(three.care_plan);
        assert_round_trip(three.care_team);
        assert_round_trip(organization(&shown.authority));
    }

    #[test]
    fn children_round_trip(family in "\\PC{1,20}", given in prop::collection::vec("[a-z]{1,9}", 0..4), birth_date in any_day(), recorded in any_instant()) {
        let demographics = Demographics { family, given, birth_date };
        assert_round_trip(patient_for_clinician(&number(), Verification::NotTraced, Some(&demographics)));
        let child = AuthorityChild { id: 1, person_id: 1, nhs_number: number(), demographics, local_id: None, version: 1, recorded, inactive: None };
        assert_round_trip(patient_for_owner(&child, BASE_URL));
    }

    #[test]
    fn accesses_round_trip(author in any_author(), flags in any::<(bool, bool, bool)>(), when in any_instant()) {
        let (sensitive, for_auditor, scheduled_setting) = flags;
        let mut access = Access { at: when, ..access(author, sensitive) };
        access.author.scheduled_setting = scheduled_setting;
        let (event, role) = access_event(&access, for_auditor);
        prop_assert_eq!(&event.id, &role.id);
        assert_round_trip(event);
        assert_round_trip(role);
    }

    #[test]
    fn security_events_round_trip(
        author in any_author(),
        interaction in prop::sample::select(vec![
            Interaction::Read, Interaction::Vread, Interaction::SearchType, Interaction::HistoryInstance, Interaction::HistoryType,
            Interaction::Create, Interaction::Update, Interaction::Delete, Interaction::Batch,
            Interaction::Transaction, Interaction::Operation]),
        outcome in prop::sample::select(vec![Outcome::Success, Outcome::Refused, Outcome::Failed]),
        line in "\\PC{0,60}",
        given in any::<(bool, bool, bool, bool)>(),
    ) {
        let mut event = request(interaction);
        event.agent.author = author;
        event.outcome = outcome;
        event.refusal = (outcome != Outcome::Success).then(|| "ACCESS_DENIED".to_owned());
        event.request_line = line;
        event.patient = given.0.then(number);
        event.entity = given.1.then(|| EntityRef { resource: "Flag".to_owned(), id: "f1".to_owned(), version: None });
        event.address = given.2.then(|| "192.0.2.1".to_owned());
        event.result = given.3.then(QueryResult::default);
        event.upload = given.3.then(|| Uuid::from_u128(5));
        let event = rendered(event);
        prop_assert_eq!(event.agent.iter().filter(|a| a.requestor == Some(true)).count(), 1);
        assert_round_trip(event);
    }
}

#[test]
fn midnight_is_found_where_a_zone_skips_it() {
    // Santiago's clocks go from 24:00 to 01:00.
    let mut shown = shown();
    shown.plan.period = PlanPeriod::new(day("2026-06-15"), Some(day("2026-09-05"))).unwrap();
    let view = View::Owner { now: at("2026-12-01T00:00:00Z"), zone: chrono_tz::America::Santiago };
    let expected = chrono_tz::America::Santiago.with_ymd_and_hms(2026, 9, 6, 1, 0, 0).unwrap().with_timezone(&Utc);
    assert_eq!(flag(&shown, view).meta.unwrap().last_updated.unwrap().at(), Some(expected));
}
