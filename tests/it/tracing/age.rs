//! The 18th birthday by the traced date of birth: a date that the PDS corrects is judged again at once in look-ups, and by the
//! rounds for the end that the system writes or takes back (design 2).

use chrono::TimeDelta;
use serde_json::{Value, json};

use super::{a_week, audited, on_record, seen};
use crate::{
    harness::{
        CPP, Child, TestApp, UCP, child, on_both_stores,
        pds::{PdsAnswer, PdsStandIn, patient},
    },
    lifecycle::{look_after, told},
};

/// From now on PDS has this birth date.
fn born(pds: &PdsStandIn, child: &Child, birth_date: &str) {
    let mut corrected = patient(child);
    corrected["birthDate"] = json!(birth_date);
    pds.says(&child.number, PdsAnswer::Found(corrected));
}

/// Traces all again, as the operator does.
async fn trace(app: &TestApp) {
    app.clock.advance(TimeDelta::minutes(1));
    let part = app.app.gateway.retrace_all(0, app.clock.now()).await.expect("a part");
    assert_eq!((part.done.traced, part.done.failed), (1, 0), "{part:?}");
}

async fn end(app: &TestApp, child: &Child) -> Option<Value> {
    let flags = app.authority("Z9A").get(&format!("/Flag?patient={}", child.nhs())).await.resources("Flag");
    flags[0]["period"].get("end").cloned()
}

fn reasons(app: &TestApp) -> Vec<String> {
    told(app).iter().map(|one| one.split(' ').nth(2).expect("a reason").to_owned()).collect()
}

on_both_stores! {
    async fn corrected_later_and_earlier(backend) {
        let (app, pds) = TestApp::start_with_pds(backend).await;
        let robin = Child { birth_date: "2008-12-01", ..child(1) };
        on_record(&app, &pds, &robin, &[("Z9A", CPP, "2026-01-01", None)]).await;
        app.clock.set("2026-12-01T09:00:00Z".parse().unwrap());
        assert_eq!(seen(&app, &robin).await, 0);
        assert_eq!(look_after(&app).await, (1, 0));

        // Younger than was thought: shown at once, the end taken back by the next round.
        born(&pds, &robin, "2009-12-01");
        trace(&app).await;
        assert_eq!(seen(&app, &robin).await, 1);
        assert_eq!(end(&app, &robin).await, Some(json!("2026-12-01")));
        assert_eq!(look_after(&app).await, (0, 1));
        assert_eq!(end(&app, &robin).await, None);
        // Older: hidden at once, and ended.
        born(&pds, &robin, "2008-06-01");
        trace(&app).await;
        assert_eq!(seen(&app, &robin).await, 0);
        assert_eq!(look_after(&app).await, (1, 0));
        assert_eq!(end(&app, &robin).await, Some(json!("2026-06-01")));
        trace(&app).await;
        assert_eq!(look_after(&app).await, (0, 0));
        assert_eq!(reasons(&app), ["adult", "reopened", "adult"]);
        assert_eq!(audited(&app, &robin).await, ["lifecycle adult", "pds birth-date", "lifecycle reopened", "pds birth-date", "lifecycle adult"]);
    }

    async fn across_29_february(backend) {
        let (app, pds) = TestApp::start_with_pds(backend).await;
        let leap = Child { birth_date: "2009-03-01", ..child(1) };
        on_record(&app, &pds, &leap, &[("Z9A", CPP, "2026-01-01", None)]).await;
        // Traced on 29 February of a leap year: 18 on 1 March 2026, which lies behind.
        born(&pds, &leap, "2008-02-29");
        app.clock.set("2026-12-20T12:00:00Z".parse().unwrap());
        assert_eq!(seen(&app, &leap).await, 1);
        trace(&app).await;
        assert_eq!((seen(&app, &leap).await, look_after(&app).await), (0, (1, 0)));
        assert_eq!(end(&app, &leap).await, Some(json!("2026-03-01")));
        // And back to the day before that birthday a year later, to the minute in London.
        born(&pds, &leap, "2009-02-28");
        trace(&app).await;
        assert_eq!((seen(&app, &leap).await, look_after(&app).await), (1, (0, 1)));
        app.clock.set("2027-02-27T23:59:59Z".parse().unwrap());
        assert_eq!(seen(&app, &leap).await, 1);
        app.clock.set("2027-02-28T00:00:00Z".parse().unwrap());
        assert_eq!((seen(&app, &leap).await, look_after(&app).await), (0, (1, 0)));
        assert_eq!(reasons(&app), ["adult", "reopened", "adult"]);
    }

    async fn the_mother_of_an_unborn_child_may_be_of_any_age(backend) {
        let (app, pds) = TestApp::start_with_pds(backend).await;
        let mother = Child { birth_date: "2009-01-10", ..child(1) };
        on_record(&app, &pds, &mother, &[("Z9A", UCP, "2026-09-14", None)]).await;
        for birth_date in ["1990-05-01", "2011-05-01", "2008-02-29"] {
            born(&pds, &mother, birth_date);
            trace(&app).await;
            assert_eq!((seen(&app, &mother).await, look_after(&app).await), (1, (0, 0)), "{birth_date}");
        }
        app.clock.set("2027-01-20T12:00:00Z".parse().unwrap());
        a_week(&app).await;
        assert_eq!((seen(&app, &mother).await, look_after(&app).await), (1, (0, 0)));
        assert_eq!(told(&app), Vec::<String>::new());
    }
}
