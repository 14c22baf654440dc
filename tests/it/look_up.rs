//! A clinician looks a child up: what is shown, what is audited, what is refused.

use crate::harness::{CPP, LAC, TestApp, child, on_both_stores};

on_both_stores! {
    async fn the_national_call_shows_the_plan_and_whom_to_phone(backend) {
        let app = TestApp::start(backend).await;
        let child = child(1);
        app.on_record(&child, &[("Z9A", CPP, "2026-09-14", None), ("Z9A", LAC, "2025-03-01", Some("2026-10-30"))]).await;

        let reply = app.clinician().header("IsUnscheduledAccessEvent", "true").get(&child.care_team()).await;

        assert_eq!(reply.status, 200, "{}", reply.text);
        assert_eq!(reply.total(), 2);
        insta::assert_json_snapshot!("care_team_search", reply.json, {
            ".entry[].fullUrl" => "[url]", ".entry[].resource.id" => "[id]", ".link[].url" => "[url]",
        });
    }

    async fn the_history_shows_the_look_up_itself(backend) {
        let app = TestApp::start(backend).await;
        let child = child(1);
        app.on_record(&child, &[("Z9A", CPP, "2026-09-14", None)]).await;

        app.clinician().get(&child.care_team()).await;
        let reply = app.clinician().get(&child.history()).await;

        assert_eq!(reply.total(), 1, "{}", reply.text);
        assert_eq!(reply.resources("PractitionerRole").len(), 1);
    }
}
