//! Scheduled or unscheduled: design 3's table in full. What a row refuses, it refuses before the child is looked up, so the
//! answer is the same for a child on record, one without a record and one that is restricted.

use chrono::TimeDelta;
use cpis_gateway::{config::ScheduledCare, cpis::types::child::NumberStatus};
use serde_json::Value;

use super::{assert_tells_nothing_of, events_of, request_id};
use crate::harness::{Backend, CPP, Child, Reply, TestApp, child, on_both_stores};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// Data; audited, listed, in the outbox.
    Listed,
    /// Data; audited, and nothing else.
    Silent,
    Forbidden,
    BadHeader,
}
use Outcome::{BadHeader, Forbidden, Listed, Silent};

/// An unscheduled care setting, and a scheduled one.
const HOSPITAL: &str = "organization=ZZ101";
const PAEDIATRICS: &str = "organization=ZZ141";

const NATIONAL: &str = "IsUnscheduledAccessEvent";
const SHORT: &str = "IsUnscheduledEvent";

/// Organisation, activity codes, headers, and what comes of it: as configured by default, and with
/// `scheduled_care = "silent-read"`.
struct Row {
    organization: &'static str,
    activity: &'static str,
    headers: &'static [(&'static str, &'static str)],
    by_default: Outcome,
    silent_read: Outcome,
}

const fn row(
    organization: &'static str,
    activity: &'static str,
    headers: &'static [(&'static str, &'static str)],
    by_default: Outcome,
    silent_read: Outcome,
) -> Row {
    Row { organization, activity, headers, by_default, silent_read }
}

const BOTH: &str = "B0107,B0170";
const NEITHER: &str = "B0001";

/// The national calls: an absent header counts as true whatever the care setting.
const NATIONAL_CALLS: &[Row] = &[
    row(HOSPITAL, "B0107", &[], Listed, Listed),
    row(HOSPITAL, "B0107", &[(NATIONAL, "true")], Listed, Listed),
    row(HOSPITAL, "B0107", &[(SHORT, "true")], Listed, Listed),
    row(HOSPITAL, "B0107", &[(NATIONAL, "false")], Forbidden, Forbidden),
    row(HOSPITAL, "B0107", &[(SHORT, "false")], Forbidden, Forbidden),
    row(HOSPITAL, "B0170", &[], Forbidden, Forbidden),
    row(HOSPITAL, "B0170", &[(NATIONAL, "true")], Forbidden, Forbidden),
    row(HOSPITAL, "B0170", &[(SHORT, "true")], Forbidden, Forbidden),
    row(HOSPITAL, "B0170", &[(NATIONAL, "false")], Forbidden, Silent),
    row(HOSPITAL, "B0170", &[(SHORT, "false")], Forbidden, Silent),
    row(HOSPITAL, BOTH, &[], Listed, Listed),
    row(HOSPITAL, BOTH, &[(NATIONAL, "true")], Listed, Listed),
    row(HOSPITAL, BOTH, &[(SHORT, "true")], Listed, Listed),
    row(HOSPITAL, BOTH, &[(NATIONAL, "false")], Forbidden, Silent),
    row(HOSPITAL, BOTH, &[(SHORT, "false")], Forbidden, Silent),
    row(HOSPITAL, NEITHER, &[], Forbidden, Forbidden),
    row(HOSPITAL, NEITHER, &[(NATIONAL, "true")], Forbidden, Forbidden),
    row(HOSPITAL, NEITHER, &[(NATIONAL, "false")], Forbidden, Forbidden),
    row(PAEDIATRICS, "B0107", &[], Listed, Listed),
    row(PAEDIATRICS, "B0107", &[(NATIONAL, "true")], Listed, Listed),
    row(PAEDIATRICS, "B0107", &[(NATIONAL, "false")], Forbidden, Forbidden),
    row(PAEDIATRICS, "B0170", &[], Forbidden, Forbidden),
    row(PAEDIATRICS, "B0170", &[(NATIONAL, "false")], Forbidden, Silent),
];

/// The same for every call.
const HEADERS: &[Row] = &[
    row(HOSPITAL, BOTH, &[(NATIONAL, "true"), (SHORT, "true")], Listed, Listed),
    row(HOSPITAL, BOTH, &[(NATIONAL, "false"), (SHORT, "false")], Forbidden, Silent),
    row(HOSPITAL, BOTH, &[(NATIONAL, "true"), (SHORT, "false")], BadHeader, BadHeader),
    row(HOSPITAL, BOTH, &[(NATIONAL, "false"), (SHORT, "true")], BadHeader, BadHeader),
    row(HOSPITAL, BOTH, &[(NATIONAL, "true"), (NATIONAL, "false")], BadHeader, BadHeader),
    row(HOSPITAL, BOTH, &[(SHORT, "false"), (SHORT, "true")], BadHeader, BadHeader),
    row(HOSPITAL, BOTH, &[(NATIONAL, "true"), (NATIONAL, "true")], Listed, Listed),
    row(HOSPITAL, BOTH, &[(NATIONAL, "TRUE")], BadHeader, BadHeader),
    row(HOSPITAL, BOTH, &[(NATIONAL, "")], BadHeader, BadHeader),
    row(HOSPITAL, BOTH, &[(NATIONAL, "yes"), (SHORT, "false")], BadHeader, BadHeader),
    row(HOSPITAL, NEITHER, &[(NATIONAL, "yes")], BadHeader, BadHeader),
];

/// `PatientFlag`: an absent header is decided by the organisation's care setting.
const PATIENT_FLAG: &[Row] = &[
    row(HOSPITAL, "B0107", &[], Listed, Listed),
    row(HOSPITAL, "B0170", &[], Forbidden, Forbidden),
    row(HOSPITAL, BOTH, &[], Listed, Listed),
    row(HOSPITAL, BOTH, &[(NATIONAL, "false")], Forbidden, Silent),
    row(PAEDIATRICS, "B0107", &[], Forbidden, Forbidden),
    row(PAEDIATRICS, "B0170", &[], Forbidden, Silent),
    row(PAEDIATRICS, BOTH, &[], Forbidden, Silent),
    row(PAEDIATRICS, NEITHER, &[], Forbidden, Forbidden),
    row(PAEDIATRICS, "B0107", &[(NATIONAL, "true")], Listed, Listed),
    row(PAEDIATRICS, BOTH, &[(SHORT, "true")], Listed, Listed),
    row(PAEDIATRICS, "B0170", &[(NATIONAL, "true")], Forbidden, Forbidden),
    row(PAEDIATRICS, "B0170", &[(NATIONAL, "false")], Forbidden, Silent),
];

struct Children {
    known: Child,
    unknown: Child,
    restricted: Child,
}

async fn start(backend: Backend, scheduled_care: ScheduledCare) -> (TestApp, Children) {
    let app = TestApp::start_with(backend, |settings| settings.access.scheduled_care = scheduled_care).await;
    let (known, unknown, restricted) = (child(1), child(2), child(3));
    let plan = [("Z9A", CPP, "2026-09-14", None)];
    app.on_record(&known, &plan).await;
    app.on_record(&restricted, &plan).await;
    // As a trace by a background job would leave it.
    app.execute(&format!("update person set status = 'restricted' where nhs_number = '{}'", restricted.nhs()));
    assert_eq!(NumberStatus::Restricted.code(), "restricted");
    app.register(&unknown).await;
    (app, Children { known, unknown, restricted })
}

async fn ask(app: &TestApp, row: &Row, path: &str) -> Reply {
    let mut request = app.caller("role=clinical", &format!("{}&activity={}", row.organization, row.activity));
    for (name, value) in row.headers {
        request = request.header(name, value);
    }
    request.get(path).await
}

fn counts(app: &TestApp) -> [i64; 3] {
    ["access", "access_listing", "outbox"].map(|table| app.number(&format!("select count(*) as n from {table}")))
}

async fn assert_table(backend: Backend, scheduled_care: ScheduledCare, path: fn(&Child) -> String, rows: &[Row]) {
    let (app, children) = start(backend, scheduled_care).await;
    for row in rows {
        // Each row is a new access by the listing rule.
        app.clock.advance(TimeDelta::hours(25));
        let expected = if scheduled_care == ScheduledCare::Refuse { row.by_default } else { row.silent_read };
        let shown = format!("{} {} {:?} -> {expected:?}", row.organization, row.activity, row.headers);
        let before = counts(&app);
        let of_unknown = ask(&app, row, &path(&children.unknown)).await;
        let of_restricted = ask(&app, row, &path(&children.restricted)).await;
        assert_eq!(counts(&app), before, "{shown}: no record, no access");
        let reply = ask(&app, row, &path(&children.known)).await;

        assert_eq!(without(&of_unknown, &children.unknown), without(&of_restricted, &children.restricted), "{shown}");
        let audited = events_of(&app, &request_id(&reply)).await;
        assert_eq!(audited.len(), 1, "{shown}");
        let [access, listing, outbox] = before;
        match expected {
            Listed | Silent => {
                assert_eq!(reply.status, 200, "{shown}: {}", reply.text);
                assert_eq!((reply.total(), of_unknown.total()), (1, 0), "{shown}");
                assert_eq!(audited[0]["outcome"], "0", "{shown}");
                let kind = if expected == Listed { "unscheduled" } else { "silent" };
                assert!(
                    audited[0].to_string().contains(&format!("{{\"type\":\"access\",\"valueString\":\"{kind}\"}}")),
                    "{shown}: {}",
                    audited[0]
                );
                let more = i64::from(expected == Listed);
                assert_eq!(counts(&app), [access + more, listing + more, outbox + more], "{shown}");
            }
            Forbidden | BadHeader => {
                match expected {
                    Forbidden => reply.assert_refused(403, "forbidden", "ACCESS_DENIED"),
                    _ => reply.assert_refused(400, "invalid", "PRECONDITION_FAILED"),
                }
                assert_tells_nothing_of(&children.known, &reply);
                assert_eq!((&reply.text, &reply.text), (&of_unknown.text, &of_restricted.text), "{shown}");
                assert_eq!(counts(&app), before, "{shown}");
                assert_eq!(audited[0]["outcome"], "4", "{shown}");
            }
        }
    }
}

/// The answer but for the number that was asked for.
fn without(reply: &Reply, child: &Child) -> (u16, String) {
    (reply.status, reply.text.replace(child.nhs(), "[number]"))
}

on_both_stores! {
    async fn the_national_call_by_default(backend) {
        assert_table(backend, ScheduledCare::Refuse, Child::care_team, NATIONAL_CALLS).await;
    }

    async fn the_national_call_with_silent_read(backend) {
        assert_table(backend, ScheduledCare::SilentRead, Child::care_team, NATIONAL_CALLS).await;
    }
}

#[actix_web::test]
async fn patient_flag_goes_by_the_care_setting() {
    let path =
        |child: &Child| format!("/PatientFlag?patient={}&code=child-protection-information-system-flag", child.nhs());
    for scheduled_care in [ScheduledCare::Refuse, ScheduledCare::SilentRead] {
        assert_table(Backend::Sqlite, scheduled_care, path, PATIENT_FLAG).await;
    }
}

#[actix_web::test]
async fn both_spellings_and_one_twice() {
    for scheduled_care in [ScheduledCare::Refuse, ScheduledCare::SilentRead] {
        assert_table(Backend::Sqlite, scheduled_care, Child::care_team, HEADERS).await;
    }
}

/// Every clinical call obeys the same table.
#[actix_web::test]
async fn every_clinical_call() {
    let (app, children) = start(Backend::Sqlite, ScheduledCare::SilentRead).await;
    let child = &children.known;
    let flags = app.authority("Z9A").get(&format!("/Flag?patient={}", child.nhs())).await;
    let id = flags.resources("Flag")[0]["id"].as_str().expect("an id").to_owned();
    let paths = [
        child.care_team(),
        child.history(),
        format!("/CarePlan?patient={}", child.nhs()),
        format!("/Flag?patient={}", child.nhs()),
        format!("/Patient?identifier={}", child.nhs()),
        format!("/Patient/{}", child.nhs()),
        format!("/Patient/{}/$everything", child.nhs()),
        format!("/PatientFlag?patient={}", child.nhs()),
        format!("/CareTeam/{id}"),
        format!("/CarePlan/{id}"),
        format!("/Flag/{id}"),
    ];
    for path in &paths {
        app.clock.advance(TimeDelta::hours(25));
        let [before, ..] = counts(&app);
        let silent = app
            .caller("role=clinical", &format!("{HOSPITAL}&activity=B0170"))
            .header(NATIONAL, "false")
            .get(path)
            .await;
        assert_eq!((silent.status, counts(&app)[0]), (200, before), "{path}: {}", silent.text);
        let refused = app.caller("role=clinical", &format!("{HOSPITAL}&activity=B0170")).get(path).await;
        refused.assert_refused(403, "forbidden", "ACCESS_DENIED");
        let listed = app.caller("role=clinical", &format!("{HOSPITAL}&activity=B0107")).get(path).await;
        assert_eq!((listed.status, counts(&app)[0]), (200, before + 1), "{path}: {}", listed.text);
    }
}

on_both_stores! {
    /// A silent read sees the history of the others and leaves no row of its own.
    async fn a_silent_reader_is_not_in_the_history(backend) {
        let (app, children) = start(backend, ScheduledCare::SilentRead).await;
        let child = &children.known;
        let silent = || app.caller("role=clinical", &format!("{PAEDIATRICS}&activity=B0170")).header(NATIONAL, "false");
        assert_eq!(silent().get(&child.history()).await.total(), 0, "nobody has looked yet");
        app.clinician().get(&child.care_team()).await;
        for _ in 0..2 {
            let reply = silent().get(&child.history()).await;
            assert_eq!(reply.total(), 1, "{}", reply.text);
            assert!(!reply.text.contains("ZZ141"), "{}", reply.text);
        }
        let [access, _, outbox] = counts(&app);
        assert_eq!((access, outbox), (1, 1));
        let silent_events = app.audit_of(child.nhs()).await;
        let silent_events: Vec<&Value> = silent_events.iter().filter(|e| e.to_string().contains("\"silent\"")).collect();
        assert_eq!(silent_events.len(), 3, "each is in the security audit");
    }

    /// A device's activity codes come from its registration, whatever it says in the token.
    async fn a_device_goes_by_its_registration(backend) {
        let (app, children) = start(backend, ScheduledCare::SilentRead).await;
        let device = || app.caller("user=sandbox-device-zz101", "");
        let listed = device().get(&children.known.care_team()).await;
        assert_eq!((listed.status, counts(&app)), (200, [1, 1, 1]), "{}", listed.text);
        let refused = device().header(NATIONAL, "false").get(&children.known.care_team()).await;
        refused.assert_refused(403, "forbidden", "ACCESS_DENIED");
        app.execute("update client set activities = 'B0170' where client_id = 'sandbox-device-zz101'");
        assert_eq!(device().get(&children.known.care_team()).await.status, 403);
        assert_eq!(device().header(NATIONAL, "false").get(&children.known.care_team()).await.status, 200);
        assert_eq!(counts(&app), [1, 1, 1]);
    }
}
