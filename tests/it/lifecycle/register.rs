//! The register changes: what it says of stored numbers is raised, by its own command and by the rounds.

use cpis_gateway::cpis::types::{
    NhsNumber,
    child::{NumberStatus, RegisterEntry},
};

use serde_json::json;

use super::{look_after, told};
use crate::harness::{Backend, CPP, Child, LAC, TestApp, bundle, child, on_both_stores, upload::entry};

async fn says(app: &TestApp, of: &Child, status: NumberStatus, replaced_by: Option<NhsNumber>, deceased: bool) {
    let (nhs_number, demographics) = (of.number, of.demographics());
    let entry = RegisterEntry { nhs_number, demographics, status, replaced_by, deceased };
    app.app.gateway.set_register_entries(vec![entry]).await.expect("the entry is written");
}

/// The table changed by another hand.
fn altered(app: &TestApp, of: &Child, set: &str) {
    app.execute(&format!("update register_entry set {set} where nhs_number = '{}'", of.nhs()));
}

async fn seen(app: &TestApp, child: &Child) -> i64 {
    app.clinician().get(&child.care_team()).await.total()
}

/// Two numbers of one child, each with a plan of another authority; the first was replaced by the second.
async fn merged(backend: Backend) -> (TestApp, Child, Child) {
    let app = TestApp::start(backend).await;
    let (old, new) = (child(1), child(2));
    app.on_record(&old, &[("Z9A", CPP, "2026-09-14", None)]).await;
    app.on_record(&new, &[("Z9B", LAC, "2026-10-01", None)]).await;
    says(&app, &old, NumberStatus::Superseded, Some(new.number), false).await;
    (app, old, new)
}

on_both_stores! {
    async fn an_entry_that_is_written_is_raised_at_once_and_once(backend) {
        let (app, old, new) = merged(backend).await;
        let first = format!("Z9A inactive-number superseded {} by {}", old.nhs(), new.nhs());
        says(&app, &old, NumberStatus::Superseded, Some(new.number), false).await;
        look_after(&app).await;
        assert_eq!(told(&app), [first]);
        assert_eq!((seen(&app, &old).await, seen(&app, &new).await), (2, 2));

        // Undoing a merge removes one row, and tells nobody.
        says(&app, &old, NumberStatus::Current, None, false).await;
        assert_eq!(told(&app).len(), 1);
        assert_eq!(app.number("select count(*) as n from alias"), 0);
        assert_eq!((seen(&app, &old).await, seen(&app, &new).await), (1, 1));
        let sent = app.authority("Z9A").post("/Flag", &old.flag("Z9A", LAC, "2026-10-02", None)).await;
        assert_eq!(sent.status, 201, "{}", sent.text);
    }

    async fn a_register_loaded_again_brings_no_retired_number_back(backend) {
        let app = TestApp::start(backend).await;
        let adopted = child(1);
        app.on_record(&adopted, &[("Z9A", CPP, "2026-09-14", None)]).await;
        let retired = json!({"resourceType": "Parameters", "parameter": [{"name": "reason", "valueCode": "retired"}]});
        let reply = app.administrator().post(&format!("/Patient/{}/$inactive", adopted.nhs()), &retired).await;
        assert_eq!(reply.status, 202, "{}", reply.text);
        for _ in 0..2 {
            says(&app, &adopted, NumberStatus::Current, None, false).await;
            look_after(&app).await;
            assert_eq!(seen(&app, &adopted).await, 0);
        }
        // What else it says of the number takes no retirement back with it.
        for status in [NumberStatus::Restricted, NumberStatus::Current, NumberStatus::Invalid, NumberStatus::Current] {
            says(&app, &adopted, status, None, false).await;
            look_after(&app).await;
            assert_eq!(seen(&app, &adopted).await, 0, "{status:?}");
        }
        // The register takes back what it has said itself.
        says(&app, &adopted, NumberStatus::Retired, None, false).await;
        says(&app, &adopted, NumberStatus::Current, None, false).await;
        assert_eq!(seen(&app, &adopted).await, 1);
    }

    async fn where_a_restricted_child_was_seen_is_told_by_no_read_either(backend) {
        let app = TestApp::start(backend).await;
        let withheld = child(1);
        app.on_record(&withheld, &[("Z9A", CPP, "2026-09-14", None)]).await;
        assert_eq!(seen(&app, &withheld).await, 1);
        let listed = async || app.authority("Z9A").get(&format!("/AuditEvent?patient={}", withheld.nhs())).await;
        let shown = listed().await;
        let id = shown.resources("AuditEvent")[0]["id"].as_str().unwrap().to_owned();
        let paths = [format!("/AuditEvent/{id}"), format!("/PractitionerRole/{id}")];

        for (status, found, answer) in [(NumberStatus::Restricted, 0, 404), (NumberStatus::Current, 1, 200)] {
            says(&app, &withheld, status, None, false).await;
            let again = listed().await;
            assert_eq!((again.status, again.total()), (200, found), "{}", again.text);
            assert_eq!(again.resources("AuditEvent").len() as i64, found);
            for path in &paths {
                assert_eq!(app.authority("Z9A").get(path).await.status, answer, "{path}");
            }
        }
    }

    async fn a_retirement_beneath_a_restriction_tells_no_replacement(backend) {
        let (app, old, new) = merged(backend).await;
        says(&app, &old, NumberStatus::Restricted, None, false).await;
        let retired = json!({"resourceType": "Parameters", "parameter": [{"name": "reason", "valueCode": "retired"}]});
        let reply = app.administrator().post(&format!("/Patient/{}/$inactive", old.nhs()), &retired).await;
        assert_eq!(reply.status, 202, "{}", reply.text);
        let patient = app.authority("Z9A").get(&format!("/Patient/{}", old.nhs())).await;
        assert!(!patient.text.contains(new.nhs()), "{}", patient.text);
    }

    async fn a_restriction_withholds_every_number_of_the_child_and_each_holder_is_told_of_its_own(backend) {
        let (app, old, new) = merged(backend).await;
        says(&app, &new, NumberStatus::Restricted, None, false).await;

        let holders = [("Z9A", &old), ("Z9B", &new)];
        let of = |reason: &str| holders.map(|(ods, child)| format!("{ods} record-ended {reason} {}", child.nhs()));
        assert_eq!(told(&app)[1..], of("withheld"));
        assert_eq!((seen(&app, &old).await, seen(&app, &new).await), (0, 0));
        says(&app, &new, NumberStatus::Restricted, None, false).await;
        assert_eq!(told(&app).len(), 3);

        says(&app, &new, NumberStatus::Current, None, false).await;
        assert_eq!(told(&app)[3..], of("unwithheld"));
        assert_eq!((seen(&app, &old).await, seen(&app, &new).await), (2, 2));
    }

    async fn numbers_that_are_joined_to_a_restricted_one_are_withheld_with_it(backend) {
        let app = TestApp::start(backend).await;
        let (old, new) = (child(1), child(2));
        app.on_record(&old, &[("Z9A", CPP, "2026-09-14", None)]).await;
        app.on_record(&new, &[("Z9B", LAC, "2026-10-01", None)]).await;
        says(&app, &new, NumberStatus::Restricted, None, false).await;
        assert_eq!(told(&app), [format!("Z9B record-ended withheld {}", new.nhs())]);
        says(&app, &old, NumberStatus::Superseded, Some(new.number), false).await;
        assert_eq!(told(&app)[2], format!("Z9A record-ended withheld {}", old.nhs()));
        assert_eq!(seen(&app, &old).await, 0);
        says(&app, &old, NumberStatus::Current, None, false).await;
        assert_eq!(told(&app)[3], format!("Z9A record-ended unwithheld {}", old.nhs()));
        assert_eq!(seen(&app, &old).await, 1);
        assert_eq!(told(&app).len(), 4);
    }

    async fn what_a_number_is_under_a_restriction_is_kept(backend) {
        let app = TestApp::start(backend).await;
        let held = child(1);
        app.on_record(&held, &[("Z9A", CPP, "2026-09-14", None)]).await;
        let kinds = || told(&app).iter().map(|one| one.split(' ').nth(2).unwrap().to_owned()).collect::<Vec<_>>();
        says(&app, &held, NumberStatus::Restricted, None, false).await;
        says(&app, &held, NumberStatus::Retired, None, false).await;
        // The number was given up, and nothing of it is restricted any more: withheld it stays, as retired.
        assert_eq!(kinds(), ["withheld", "retired", "unwithheld"]);
        assert_eq!(seen(&app, &held).await, 0);
        let path = format!("/Patient/{}/$inactive", held.nhs());
        let body = |reason: &str| serde_json::json!({"resourceType": "Parameters",
            "parameter": [{"name": "reason", "valueCode": reason}]});
        says(&app, &held, NumberStatus::Current, None, false).await;
        says(&app, &held, NumberStatus::Restricted, None, false).await;
        assert_eq!(app.administrator().post(&path, &body("retired")).await.status, 202);
        let status = app.read(move |conn| cpis_gateway::store::person::find(conn, &held.number)).await.unwrap();
        assert_eq!((status.status, status.beneath), (NumberStatus::Restricted, Some(NumberStatus::Retired)));
    }

    async fn a_death_is_told_once_and_hides_nothing(backend) {
        let (app, old, new) = merged(backend).await;
        for _ in 0..2 {
            says(&app, &new, NumberStatus::Current, None, true).await;
        }
        let both = [("Z9A", &old), ("Z9B", &new)].map(|(ods, child)| format!("{ods} record-ended deceased {}", child.nhs()));
        assert_eq!(told(&app)[1..], both);
        assert_eq!(seen(&app, &new).await, 2);
        says(&app, &new, NumberStatus::Current, None, false).await;
        assert_eq!(told(&app).len(), 3);
    }

    async fn what_another_hand_changed_is_found_by_the_rounds(backend) {
        let app = TestApp::start_with(backend, |settings| settings.lifecycle.compared_at_once = 2).await;
        let children: Vec<Child> = (1..=5).map(child).collect();
        for child in &children {
            app.on_record(child, &[("Z9A", CPP, "2026-09-14", None)]).await;
        }
        look_after(&app).await;
        assert_eq!(told(&app), Vec::<String>::new());
        altered(&app, &children[0], "status = 'restricted'");
        altered(&app, &children[2], "status = 'retired'");
        altered(&app, &children[3], &format!("status = 'superseded', replaced_by = '{}'", child(9).nhs()));
        altered(&app, &children[4], "deceased = true");

        look_after(&app).await;
        look_after(&app).await;

        let said: Vec<String> = told(&app).iter().map(|one| one.split(' ').nth(2).unwrap().to_owned()).collect();
        assert_eq!(said, ["withheld", "retired", "superseded", "deceased"]);
        let mut shown = Vec::new();
        for child in &children {
            shown.push(seen(&app, child).await);
        }
        assert_eq!(shown, [0, 1, 0, 1, 1]);
        altered(&app, &children[2], "status = 'current'");
        look_after(&app).await;
        assert_eq!(seen(&app, &children[2]).await, 1);
        assert_eq!(told(&app).len(), 4);
        assert!(app.verify().is_whole());
    }

    async fn what_an_administrator_said_stands_until_the_register_says_something_new(backend) {
        let app = TestApp::start(backend).await;
        let held = child(1);
        app.on_record(&held, &[("Z9A", CPP, "2026-09-14", None)]).await;
        look_after(&app).await;
        let body = serde_json::json!({"resourceType": "Parameters",
            "parameter": [{"name": "reason", "valueCode": "invalidated"}]});
        app.administrator().post(&format!("/Patient/{}/$inactive", held.nhs()), &body).await;
        look_after(&app).await;
        assert_eq!(seen(&app, &held).await, 0);
        altered(&app, &held, "status = 'invalid'");
        look_after(&app).await;
        altered(&app, &held, "status = 'current'");
        look_after(&app).await;
        assert_eq!(seen(&app, &held).await, 1);
    }

    async fn an_upload_that_meets_the_news_raises_them(backend) {
        let app = TestApp::start(backend).await;
        let held = child(1);
        app.on_record(&held, &[("Z9A", CPP, "2026-09-14", None)]).await;
        altered(&app, &held, "status = 'restricted'");
        let sent = app.authority("Z9B").post("", &bundle("batch", &[held.put_patient(),
            entry("POST", "Flag", held.flag("Z9B", CPP, "2026-10-01", None))])).await;
        assert_eq!(sent.answers()[0].record_codes(), ["CPR02"]);
        assert_eq!(told(&app), [format!("Z9A record-ended withheld {}", held.nhs())]);
        assert_eq!(seen(&app, &held).await, 0);
    }
}
