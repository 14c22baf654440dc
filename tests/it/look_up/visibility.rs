//! Until when a plan is shown: the days after its end, the 18th birthday, deletion; each to the millisecond of London's
//! midnight, also in the nights when the clocks change.

use chrono::{DateTime, TimeDelta, Utc};

use super::searches_and_reads;
use crate::harness::{Backend, CPP, Child, LAC, TestApp, UCP, child, on_both_stores};

/// Children whose plan is seen until an instant and not from then on: index, birth date, code, start, end, that instant.
type Case = (u32, &'static str, &'static str, &'static str, Option<&'static str>, &'static str);

const CASES: [Case; 12] = [
    // 365 days after the end, both nights before and after the clocks go forward (28 March 2027) and back (31 October).
    (1, "2017-05-11", CPP, "2025-01-01", Some("2026-03-27"), "2027-03-28T00:00:00Z"),
    (2, "2017-05-11", LAC, "2025-01-01", Some("2026-03-28"), "2027-03-28T23:00:00Z"),
    (3, "2017-05-11", CPP, "2025-01-01", Some("2026-10-30"), "2027-10-30T23:00:00Z"),
    (4, "2017-05-11", LAC, "2025-01-01", Some("2026-10-31"), "2027-11-01T00:00:00Z"),
    // 28 days after the end, or after 300 days for one that has no end or a later one.
    (5, "1998-02-20", UCP, "2026-10-01", Some("2027-02-28"), "2027-03-28T23:00:00Z"),
    (6, "1998-02-20", UCP, "2026-05-04", None, "2027-03-28T23:00:00Z"),
    (7, "1998-02-20", UCP, "2026-05-04", Some("2027-03-20"), "2027-03-28T23:00:00Z"),
    // The 18th birthday hides what is open and what has ended; born on 29 February is 18 on 1 March.
    (8, "2009-03-29", CPP, "2026-01-01", None, "2027-03-28T23:00:00Z"),
    (9, "2009-11-01", LAC, "2026-01-01", Some("2026-11-20"), "2027-11-01T00:00:00Z"),
    (10, "2012-02-29", CPP, "2026-01-01", None, "2030-03-01T00:00:00Z"),
    (11, "2009-10-31", LAC, "2026-01-01", None, "2027-10-30T23:00:00Z"),
    // A mother under age: her birthday hides no unborn child's plan.
    (12, "2009-02-01", UCP, "2026-05-04", None, "2027-03-28T23:00:00Z"),
];

fn instant(text: &str) -> DateTime<Utc> {
    text.parse().expect("an instant")
}

async fn with_cases(backend: Backend) -> TestApp {
    let app = TestApp::start(backend).await;
    for (index, birth_date, code, start, end, _) in CASES {
        let child = Child { birth_date, ..child(index) };
        app.on_record(&child, &[("Z9A", code, start, end)]).await;
    }
    app
}

on_both_stores! {
    async fn a_plan_is_hidden_at_midnight_in_london(backend) {
        let app = with_cases(backend).await;
        for (index, _, code, _, _, hidden) in CASES {
            let child = child(index);
            app.clock.set(instant(hidden) - TimeDelta::milliseconds(1));
            let last = app.clinician().get(&child.care_team()).await;
            app.clock.set(instant(hidden));
            let first = app.clinician().get(&child.care_team()).await;
            assert_eq!((last.total(), first.total()), (1, 0), "case {index}: {code} hidden from {hidden}");
        }
    }

    async fn a_hidden_child_looks_like_no_child(backend) {
        let app = TestApp::start(backend).await;
        let (hidden, unknown) = (child(1), child(2));
        app.on_record(&hidden, &[("Z9A", CPP, "2024-01-01", Some("2025-12-01"))]).await;
        let id = app.clinician().get(&hidden.care_team()).await.resources("CareTeam")[0]["id"].clone();
        let rows = app.number("select count(*) as n from access");
        app.clock.set(instant("2026-12-02T00:00:00Z"));

        let (of_hidden, of_unknown) = (searches_and_reads(hidden.nhs()), searches_and_reads(unknown.nhs()));
        let pairs = of_hidden.0.iter().chain(&of_hidden.1).zip(of_unknown.0.iter().chain(&of_unknown.1));
        for (path, other) in pairs {
            let (one, other) = (app.clinician().get(path).await, app.clinician().get(other).await);
            assert_eq!(one.status, other.status, "{path}");
            assert_eq!(one.text.replace(hidden.nhs(), unknown.nhs()), other.text, "{path}");
            let names = |reply: &crate::harness::Reply| reply.headers.keys().map(ToString::to_string).collect::<Vec<_>>();
            assert_eq!(names(&one), names(&other), "{path}");
        }
        let by_id = app.clinician().get(&format!("/CareTeam/{}", id.as_str().unwrap())).await;
        by_id.assert_refused(404, "not-found", "RESOURCE_NOT_FOUND");
        assert_eq!(app.number("select count(*) as n from access"), rows);
    }

    async fn a_plan_ends_at_midnight_in_london(backend) {
        let app = TestApp::start(backend).await;
        let cases = [(1, "2027-03-27", "2027-03-28T00:00:00Z"), (2, "2027-03-28", "2027-03-28T23:00:00Z"),
                     (3, "2027-10-30", "2027-10-30T23:00:00Z"), (4, "2027-10-31", "2027-11-01T00:00:00Z")];
        for (index, end, _) in cases {
            app.on_record(&child(index), &[("Z9A", CPP, "2026-09-14", Some(end))]).await;
        }
        for (index, end, over) in cases {
            let status = async |at: DateTime<Utc>| {
                app.clock.set(at);
                let child = child(index);
                let nhs = child.nhs();
                let team = app.clinician().get(&child.care_team()).await.resources("CareTeam")[0]["status"].clone();
                let flag = app.clinician().get(&format!("/Flag?patient={nhs}")).await.resources("Flag")[0]["status"].clone();
                let plan = app.clinician().get(&format!("/CarePlan?patient={nhs}")).await.resources("CarePlan")[0]["status"].clone();
                [team, flag, plan].map(|status| status.as_str().unwrap_or_default().to_owned())
            };
            assert_eq!(status(instant(over) - TimeDelta::milliseconds(1)).await, ["active", "active", "active"], "{end}");
            assert_eq!(status(instant(over)).await, ["inactive", "inactive", "completed"], "{end}");
        }
    }

    async fn a_deleted_plan_is_gone_at_once_from_every_view(backend) {
        let app = TestApp::start(backend).await;
        let child = child(1);
        app.on_record(&child, &[("Z9A", CPP, "2026-09-14", None)]).await;
        app.clinician().get(&child.care_team()).await;
        let own = app.authority("Z9A").get(&format!("/Flag?patient={}", child.nhs())).await.resources("Flag");
        let id = own[0]["id"].as_str().unwrap().to_owned();

        assert_eq!(app.authority("Z9A").delete(&format!("/Flag/{id}")).await.status, 204);

        let (searches, reads) = searches_and_reads(child.nhs());
        for path in searches {
            assert_eq!(app.clinician().get(&path).await.total(), 0, "{path}");
        }
        for path in reads.into_iter().chain(["CareTeam", "CarePlan", "Flag"].map(|kind| format!("/{kind}/{id}"))) {
            app.clinician().get(&path).await.assert_refused(404, "not-found", "RESOURCE_NOT_FOUND");
        }
        let owner = app.authority("Z9A").get(&format!("/Flag/{id}")).await;
        owner.assert_refused(410, "deleted", "RESOURCE_NOT_FOUND");
        let other = app.authority("Z9B").get(&format!("/Flag/{id}")).await;
        other.assert_refused(404, "not-found", "RESOURCE_NOT_FOUND");
    }
}
