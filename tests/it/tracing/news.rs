//! Every row of design 9's table, as found by tracing again or by an upload; once, and reversed by the PDS alone.

use serde_json::json;

use super::{a_week, administrator_says, audited, on_record, seen};
use crate::{
    harness::{
        CPP, Child, LAC, Reply, TestApp, bundle, child, on_both_stores,
        pds::{PdsAnswer, patient},
        upload::entry,
    },
    lifecycle::told,
};

const START: &str = "2026-09-14";

async fn upload(app: &TestApp, authority: &str, child: &Child) -> Reply {
    let entries = [child.put_patient(), entry("POST", "Flag", child.flag(authority, CPP, START, None))];
    app.authority(authority).post("", &bundle("batch", &entries)).await
}

/// What a record of one child was answered: statuses, codes and words.
fn answered(reply: &Reply) -> String {
    let answers = reply.answers();
    let codes: Vec<String> = answers.iter().flat_map(|answer| answer.record_codes()).collect();
    format!("{} {:?} {codes:?}", reply.file_code(), reply.statuses())
}

on_both_stores! {
    async fn a_superseded_number_and_its_undoing(backend) {
        let (app, pds) = TestApp::start_with_pds(backend).await;
        let (old, new) = (child(1), child(2));
        on_record(&app, &pds, &old, &[("Z9A", CPP, START, None)]).await;
        on_record(&app, &pds, &new, &[("Z9B", LAC, START, None)]).await;
        pds.says(&old.number, PdsAnswer::Superseded(new.number));
        for _ in 0..2 {
            let done = a_week(&app).await;
            assert!(done.superseded >= 1 && !done.unavailable, "{done:?}");
            assert_eq!(told(&app), [format!("Z9A inactive-number superseded {} by {}", old.nhs(), new.nhs())]);
            assert_eq!((seen(&app, &old).await, seen(&app, &new).await), (2, 2));
        }
        pds.knows(&old);
        a_week(&app).await;
        assert_eq!(app.number("select count(*) as n from alias"), 0);
        assert_eq!((seen(&app, &old).await, seen(&app, &new).await), (1, 1));
        assert_eq!(told(&app).len(), 1);
        assert_eq!(audited(&app, &old).await, ["pds superseded", "pds current"]);
        assert!(app.verify().is_whole());
    }

    async fn an_invalidated_number_is_no_record_until_it_is_valid_again(backend) {
        let (app, pds) = TestApp::start_with_pds(backend).await;
        let held = child(1);
        on_record(&app, &pds, &held, &[("Z9A", CPP, START, None)]).await;
        pds.says(&held.number, PdsAnswer::Invalidated);
        a_week(&app).await;
        a_week(&app).await;
        assert_eq!(told(&app), [format!("Z9A inactive-number invalidated {}", held.nhs())]);
        assert_eq!(seen(&app, &held).await, 0);
        pds.knows(&held);
        a_week(&app).await;
        assert_eq!((seen(&app, &held).await, told(&app).len()), (1, 1));
    }

    async fn a_restriction_withholds_and_is_lifted(backend) {
        let (app, pds) = TestApp::start_with_pds(backend).await;
        let held = child(1);
        on_record(&app, &pds, &held, &[("Z9A", CPP, START, None)]).await;
        for (answer, reason) in [(PdsAnswer::Restricted, "withheld"), (PdsAnswer::Found(patient(&held)), "unwithheld"),
            (PdsAnswer::VeryRestricted, "withheld"), (PdsAnswer::Invalidated, "invalidated")] {
            pds.says(&held.number, answer);
            a_week(&app).await;
            let told = told(&app);
            assert!(told.iter().any(|one| one.split(' ').nth(2) == Some(reason)), "{reason}: {told:?}");
            assert_eq!(seen(&app, &held).await, i64::from(reason == "unwithheld"), "{reason}");
        }
        let kinds: Vec<String> = told(&app).iter().map(|one| one.split(' ').nth(2).unwrap().to_owned()).collect();
        assert_eq!(kinds, ["withheld", "unwithheld", "withheld", "invalidated", "unwithheld"]);
    }

    async fn a_retired_number_is_not_followed_anywhere(backend) {
        let (app, pds) = TestApp::start_with_pds(backend).await;
        let (adopted, new) = (child(1), child(2));
        on_record(&app, &pds, &adopted, &[("Z9A", CPP, START, None)]).await;
        on_record(&app, &pds, &new, &[("Z9B", LAC, START, None)]).await;
        // It was merged first: then even what was kept of that goes.
        pds.says(&adopted.number, PdsAnswer::Superseded(new.number));
        a_week(&app).await;
        administrator_says(&app, &adopted, "retired").await;
        let (told_before, asked_before) = (told(&app).len(), pds.times_asked(&adopted.number));
        a_week(&app).await;
        assert_eq!(pds.times_asked(&adopted.number), asked_before, "nothing leads there");
        let refused = upload(&app, "Z9A", &adopted).await;
        assert_eq!(refused.answers()[0].record_codes(), ["CPR01"], "{}", refused.text);
        assert!(!refused.text.contains(new.nhs()), "{}", refused.text);
        a_week(&app).await;

        let of_new = format!("%{}%", new.nhs());
        assert_eq!(app.number("select count(*) as n from alias"), 0);
        assert_eq!(app.number(&format!("select count(*) as n from person where register_seen like '{of_new}'")), 0);
        assert_eq!(app.number("select count(*) as n from trace_result"), 0);
        assert_eq!((seen(&app, &adopted).await, seen(&app, &new).await), (0, 1));
        assert_eq!(told(&app).len(), told_before);
        assert_eq!(audited(&app, &adopted).await, ["pds superseded"]);
        // A restriction of the old number counts all the same, and leaves it retired when it is lifted.
        pds.says(&adopted.number, PdsAnswer::Restricted);
        assert_eq!(upload(&app, "Z9A", &adopted).await.answers()[0].record_codes(), ["CPR02"]);
        pds.says(&adopted.number, PdsAnswer::Superseded(new.number));
        assert_eq!(upload(&app, "Z9A", &adopted).await.answers()[0].record_codes(), ["CPR01"]);
        assert_eq!(audited(&app, &adopted).await, ["pds superseded", "pds restricted", "pds unrestricted"]);
        assert_eq!(app.number("select count(*) as n from alias"), 0);
    }

    async fn a_number_that_a_retired_one_replaced_is_no_way_to_it(backend) {
        let (app, pds) = TestApp::start_with_pds(backend).await;
        let (older, adopted) = (child(1), child(2));
        on_record(&app, &pds, &older, &[("Z9A", CPP, START, None)]).await;
        on_record(&app, &pds, &adopted, &[("Z9B", LAC, START, None)]).await;
        administrator_says(&app, &adopted, "retired").await;
        pds.says(&older.number, PdsAnswer::Superseded(adopted.number));
        for _ in 0..2 {
            a_week(&app).await;
            let refused = upload(&app, "Z9A", &older).await;
            assert_eq!(refused.answers()[0].record_codes(), ["CPR01"], "{}", refused.text);
            assert!(!refused.text.contains(adopted.nhs()), "{}", refused.text);
        }
        let of_adopted = format!("%{}%", adopted.nhs());
        assert_eq!(app.number(&format!("select count(*) as n from person where register_seen like '{of_adopted}'")), 0);
        assert_eq!(app.number("select count(*) as n from alias"), 0);
        // As when they were joined before the retirement: it is invalid, and its holder is told.
        assert_eq!(audited(&app, &older).await, ["pds invalidated"]);
        assert_eq!(seen(&app, &older).await, 0);
        let of_older = format!("Z9A inactive-number invalidated {}", older.nhs());
        assert_eq!(told(&app).iter().filter(|one| **one == of_older).count(), 1, "{:?}", told(&app));
    }

    async fn a_death_is_told_once_and_hides_nothing(backend) {
        let (app, pds) = TestApp::start_with_pds(backend).await;
        let held = child(1);
        on_record(&app, &pds, &held, &[("Z9A", CPP, START, None)]).await;
        let mut dead = patient(&held);
        dead["deceasedDateTime"] = json!("2026-11-01");
        pds.says(&held.number, PdsAnswer::Found(dead));
        a_week(&app).await;
        a_week(&app).await;
        assert_eq!(told(&app), [format!("Z9A record-ended deceased {}", held.nhs())]);
        assert_eq!(seen(&app, &held).await, 1);
    }

    async fn an_unknown_number_changes_nothing_and_is_told_to_the_operator(backend) {
        let (app, pds) = TestApp::start_with_pds(backend).await;
        let held = child(1);
        on_record(&app, &pds, &held, &[("Z9A", CPP, START, None)]).await;
        pds.says(&held.number, PdsAnswer::Unknown);
        a_week(&app).await;
        a_week(&app).await;
        assert_eq!(upload(&app, "Z9A", &held).await.answers()[0].record_codes(), ["CPR01"]);
        assert_eq!((seen(&app, &held).await, told(&app).len()), (1, 0));
        assert_eq!(audited(&app, &held).await, ["pds unknown"], "once");
        let gauge = async || {
            let samples = app.app.gateway.measured().await;
            samples.iter().find(|one| one.metric.name == "cpis_unknown_numbers").expect("the gauge").value
        };
        assert!((gauge().await - 1.0).abs() < f64::EPSILON);
        pds.knows(&held);
        a_week(&app).await;
        assert!(gauge().await.abs() < f64::EPSILON);
        pds.says(&held.number, PdsAnswer::Unknown);
        a_week(&app).await;
        assert_eq!(audited(&app, &held).await, ["pds unknown", "pds unknown"]);
    }

    async fn what_an_administrator_said_stands_until_the_pds_says_something_new(backend) {
        let (app, pds) = TestApp::start_with_pds(backend).await;
        let (held, kept) = (child(1), child(2));
        for child in [&held, &kept] {
            on_record(&app, &pds, child, &[("Z9A", CPP, START, None)]).await;
        }
        administrator_says(&app, &held, "invalidated").await;
        administrator_says(&app, &kept, "invalidated").await;
        // Neither the unchanged answer nor news of something else takes it back.
        let mut dead = patient(&kept);
        dead["deceasedDateTime"] = json!("2026-11-01");
        pds.says(&kept.number, PdsAnswer::Found(dead));
        a_week(&app).await;
        assert_eq!(upload(&app, "Z9A", &held).await.answers()[0].record_codes(), ["CPR01"]);
        assert_eq!((seen(&app, &held).await, seen(&app, &kept).await), (0, 0));
        assert_eq!(audited(&app, &kept).await, ["pds deceased"]);

        pds.says(&held.number, PdsAnswer::Restricted);
        a_week(&app).await;
        pds.knows(&held);
        a_week(&app).await;
        assert_eq!((seen(&app, &held).await, seen(&app, &kept).await), (1, 0));
    }

    async fn an_upload_whose_answer_is_older_takes_no_birth_date_back(backend) {
        let (app, pds) = TestApp::start_with_pds(backend).await;
        let held = child(1);
        on_record(&app, &pds, &held, &[("Z9A", CPP, START, None)]).await;
        let mut corrected = patient(&held);
        corrected["birthDate"] = json!("2017-05-12");
        pds.says(&held.number, PdsAnswer::Found(corrected));
        app.clock.advance(chrono::TimeDelta::minutes(10));
        assert_eq!(app.app.gateway.retrace_all(0, app.clock.now()).await.unwrap().done.changed_birth_dates, 1);
        let is_corrected = || app.number("select count(*) as n from person where traced_birth_date = '2017-05-12'");
        assert_eq!(is_corrected(), 1);
        // The clock stands before that trace: as if the upload's answer had been under way since.
        app.clock.set(app.clock.now() - chrono::TimeDelta::minutes(1));
        pds.knows(&held);
        assert_eq!(upload(&app, "Z9A", &held).await.file_code(), "CPF02");
        assert_eq!(is_corrected(), 1);
    }

    async fn an_upload_that_meets_the_news_raises_them(backend) {
        let (app, pds) = TestApp::start_with_pds(backend).await;
        let held = child(1);
        on_record(&app, &pds, &held, &[("Z9A", CPP, START, None)]).await;
        pds.says(&held.number, PdsAnswer::Restricted);
        assert_eq!(upload(&app, "Z9B", &held).await.answers()[0].record_codes(), ["CPR02"]);
        assert_eq!(told(&app), [format!("Z9A record-ended withheld {}", held.nhs())]);
        assert_eq!(seen(&app, &held).await, 0);
        // And what reverses them: the same upload is good again.
        pds.knows(&held);
        assert_eq!(upload(&app, "Z9B", &held).await.statuses(), [201, 201]);
        assert_eq!(seen(&app, &held).await, 2);
    }

    async fn an_answer_is_the_same_whether_or_not_another_holds_the_number(backend) {
        let (app, pds) = TestApp::start_with_pds(backend).await;
        let (held, unheld, third) = (child(1), child(2), child(3));
        pds.knows(&third);
        on_record(&app, &pds, &held, &[("Z9A", CPP, START, None)]).await;
        let says = |answer: fn(&Child, &Child) -> PdsAnswer| {
            for child in [&held, &unheld] {
                pds.says(&child.number, answer(child, &third));
            }
        };
        for answer in [
            |_: &Child, _: &Child| PdsAnswer::Unknown,
            |_: &Child, _: &Child| PdsAnswer::Restricted,
            |_: &Child, third: &Child| PdsAnswer::Superseded(third.number),
            |_: &Child, _: &Child| PdsAnswer::Invalidated,
            |_: &Child, _: &Child| PdsAnswer::Restricted,
            |_: &Child, _: &Child| PdsAnswer::Invalidated,
            |child: &Child, _: &Child| PdsAnswer::Found(patient(child)),
        ] {
            says(answer);
            for _ in 0..2 {
                let (of_held, of_unheld) = (upload(&app, "Z9B", &held).await, upload(&app, "Z9B", &unheld).await);
                assert_eq!(answered(&of_held), answered(&of_unheld), "{} {}", of_held.text, of_unheld.text);
            }
        }
    }
}
