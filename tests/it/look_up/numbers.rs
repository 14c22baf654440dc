//! What becomes of a number after a plan was stored under it: superseded, invalid, retired, restricted (design 9).

use cpis_gateway::cpis::types::child::NumberStatus;

use super::searches_and_reads;
use crate::harness::{CPP, Child, LAC, Reply, TestApp, child, on_both_stores};

/// Whether the answer says that the number was superseded, and nothing but an information.
fn says_superseded(reply: &Reply) -> bool {
    let outcomes = reply.resources("OperationOutcome");
    for outcome in &outcomes {
        assert_eq!(outcome["issue"][0]["severity"], "information", "{outcome}");
        let modes: Vec<_> =
            reply.json["entry"].as_array().unwrap().iter().map(|e| e["search"]["mode"].clone()).collect();
        assert_eq!(modes.iter().filter(|mode| **mode == "outcome").count(), 1, "{}", reply.text);
    }
    !outcomes.is_empty()
}

fn authorities(reply: &Reply) -> Vec<String> {
    let teams = reply.resources("CareTeam");
    teams
        .iter()
        .map(|team| team["managingOrganization"][0]["identifier"]["value"].as_str().unwrap().to_owned())
        .collect()
}

/// Two numbers, each with a plan of another authority.
async fn two_numbers(backend: crate::harness::Backend) -> (TestApp, Child, Child) {
    let app = TestApp::start(backend).await;
    let (old, new) = (child(1), child(2));
    app.on_record(&old, &[("Z9A", CPP, "2026-09-14", None)]).await;
    app.on_record(&new, &[("Z9B", LAC, "2026-10-01", None)]).await;
    (app, old, new)
}

on_both_stores! {
    async fn by_either_number_all_plans_are_found(backend) {
        let (app, old, new) = two_numbers(backend).await;
        app.supersede(old.number, new.number).await.unwrap();

        let (by_old, by_new) = (app.clinician().get(&old.care_team()).await, app.clinician().get(&new.care_team()).await);

        assert_eq!((by_old.total(), by_new.total()), (2, 2), "{} {}", by_old.text, by_new.text);
        assert_eq!(authorities(&by_old), ["Z9A", "Z9B"]);
        assert_eq!(authorities(&by_new), ["Z9A", "Z9B"]);
        assert!(says_superseded(&by_old) && !says_superseded(&by_new));
        for (reply, asked) in [(&by_old, &old), (&by_new, &new)] {
            for team in reply.resources("CareTeam") {
                assert_eq!(team["subject"]["identifier"]["value"], asked.nhs());
            }
        }
        assert!(!by_old.text.contains(new.nhs()), "the new number is to be traced, not told: {}", by_old.text);
        let (searches, reads) = searches_and_reads(old.nhs());
        for path in searches.iter().chain(&reads[1..]) {
            assert!(says_superseded(&app.clinician().get(path).await), "{path}");
        }
    }

    async fn the_history_is_one_and_keeps_the_number_asked_for(backend) {
        let (app, old, new) = two_numbers(backend).await;
        app.clinician_named("555000000301").get(&old.care_team()).await;
        app.supersede(old.number, new.number).await.unwrap();

        let history = app.clinician().get(&new.history()).await;

        let asked: Vec<_> = history.resources("AuditEvent").iter()
            .map(|event| event["entity"][0]["what"]["identifier"]["value"].clone()).collect();
        assert_eq!(asked, [new.nhs(), old.nhs()]);
        // The same author by the other number: listed for Z9A before, new to Z9B only.
        app.clinician_named("555000000301").get(&new.care_team()).await;
        let listed = "select count(*) as n from outbox join organization on organization.id = authority_id where ods = ";
        assert_eq!(app.number(&format!("{listed}'Z9A'")), 2);
        assert_eq!(app.number(&format!("{listed}'Z9B'")), 2);
        assert_eq!(app.number("select count(*) as n from access"), 3);
    }

    async fn a_chain_of_numbers_is_followed_to_its_end(backend) {
        let app = TestApp::start(backend).await;
        let children = [child(1), child(2), child(3), child(4)];
        app.on_record(&children[0], &[("Z9A", CPP, "2026-09-14", None)]).await;
        app.on_record(&children[3], &[("Z9B", CPP, "2026-09-14", None)]).await;
        for (old, new) in [(0, 1), (3, 1), (1, 2)] {
            app.supersede(children[old].number, children[new].number).await.unwrap();
        }
        for (index, child) in children.iter().enumerate() {
            let reply = app.clinician().get(&child.care_team()).await;
            assert_eq!(authorities(&reply), ["Z9A", "Z9B"], "number {index}");
            assert_eq!(says_superseded(&reply), index != 2, "number {index}");
        }
        let loops = app.supersede(children[2].number, children[0].number).await;
        assert!(loops.is_err());
        assert_eq!(app.clinician().get(&children[2].care_team()).await.total(), 2);
    }

    async fn that_a_number_was_superseded_is_told_of_children_on_record_only(backend) {
        let app = TestApp::start(backend).await;
        app.supersede(child(1).number, child(2).number).await.unwrap();

        let reply = app.clinician().get(&child(1).care_team()).await;

        assert_eq!((reply.total(), says_superseded(&reply)), (0, false), "{}", reply.text);
    }

    async fn an_invalid_retired_or_restricted_number_looks_like_no_record(backend) {
        let app = TestApp::start(backend).await;
        let (held, unknown) = (child(1), child(2));
        app.on_record(&held, &[("Z9A", CPP, "2026-09-14", None)]).await;
        let id = app.clinician().get(&held.care_team()).await.resources("CareTeam")[0]["id"].as_str().unwrap().to_owned();
        let (rows, told) = ("select count(*) as n from access", "select count(*) as n from outbox");
        let before = (app.number(rows), app.number(told));
        for status in [NumberStatus::Invalid, NumberStatus::Retired, NumberStatus::Restricted] {
            app.set_status(held.number, status).await;
            let (of_held, of_unknown) = (searches_and_reads(held.nhs()), searches_and_reads(unknown.nhs()));
            for (path, other) in of_held.0.iter().chain(&of_held.1).zip(of_unknown.0.iter().chain(&of_unknown.1)) {
                let (one, other) = (app.clinician().get(path).await, app.clinician().get(other).await);
                assert_eq!(one.status, other.status, "{status:?} {path}");
                assert_eq!(one.text.replace(held.nhs(), unknown.nhs()), other.text, "{status:?} {path}");
            }
            let by_id = app.clinician().get(&format!("/Flag/{id}")).await;
            by_id.assert_refused(404, "not-found", "RESOURCE_NOT_FOUND");
        }
        assert_eq!((app.number(rows), app.number(told)), before);
        let audited = format!("select count(*) as n from audit_event where organization = 'ZZ101' and patient = ");
        // Once before, then eight each for three states.
        assert_eq!(app.number(&format!("{audited}'{}'", held.nhs())), 1 + 24);

        app.set_status(held.number, NumberStatus::Current).await;
        assert_eq!(app.clinician().get(&held.care_team()).await.total(), 1);
    }

    async fn a_restricted_number_withholds_the_child_by_every_number(backend) {
        let (app, old, new) = two_numbers(backend).await;
        app.supersede(old.number, new.number).await.unwrap();
        for restricted in [&old, &new] {
            app.set_status(restricted.number, NumberStatus::Restricted).await;
            for asked in [&old, &new] {
                let reply = app.clinician().get(&asked.care_team()).await;
                assert_eq!((reply.total(), says_superseded(&reply)), (0, false), "{}", reply.text);
            }
            app.set_status(restricted.number, NumberStatus::Superseded).await;
        }
    }

    async fn what_is_restricted_stays_so_and_what_is_retired_takes_no_alias(backend) {
        let (app, old, new) = two_numbers(backend).await;
        app.set_status(old.number, NumberStatus::Restricted).await;
        app.supersede(old.number, new.number).await.unwrap();
        for asked in [&old, &new] {
            assert_eq!(app.clinician().get(&asked.care_team()).await.total(), 0);
        }
        let (retired, other) = (child(3), child(4));
        app.set_status(retired.number, NumberStatus::Retired).await;
        assert!(app.supersede(retired.number, other.number).await.is_err());
        assert!(app.supersede(other.number, retired.number).await.is_err());
    }

    async fn a_retired_number_is_joined_to_no_other(backend) {
        let (app, old, new) = two_numbers(backend).await;
        app.clinician_named("555000000301").get(&old.care_team()).await;
        app.supersede(old.number, new.number).await.unwrap();

        app.set_status(old.number, NumberStatus::Retired).await;

        let by_new = app.clinician().get(&new.care_team()).await;
        assert_eq!(authorities(&by_new), ["Z9B"], "{}", by_new.text);
        assert_eq!(app.clinician().get(&new.history()).await.total(), 1);
        assert_eq!(app.clinician().get(&old.care_team()).await.total(), 0);
        // To its owner the plan is still there under its own number, and under that only.
        let own = async |child: &Child| app.authority("Z9A").get(&format!("/Flag?patient={}", child.nhs())).await.total();
        assert_eq!((own(&old).await, own(&new).await), (1, 0));
    }
}
