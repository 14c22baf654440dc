//! The system ends records: when, how its versions look to their owner, that it tells once, and that no clinician sees a
//! difference between a gateway whose rounds run and one whose rounds never did.

use chrono::{DateTime, Days, NaiveDate, TimeDelta, Utc};
use serde_json::{Value, json};

use super::{another_batch, look_after, told};
use crate::harness::{
    Backend, CPP, Child, LAC, TestApp, UCP, bundle, child, on_both_stores,
    upload::{entry, with},
};

fn instant(text: &str) -> DateTime<Utc> {
    text.parse().expect("an instant")
}

fn day(text: &str) -> NaiveDate {
    text.parse().expect("a day")
}

async fn own_flag(app: &TestApp, child: &Child) -> Value {
    let flags = app.authority("Z9A").get(&format!("/Flag?patient={}", child.nhs())).await.resources("Flag");
    flags.into_iter().next().expect("an own flag")
}

async fn upload(app: &TestApp, child: &Child, flag: Value) -> Vec<u16> {
    let entries = [child.put_patient(), entry("POST", "Flag", flag)];
    app.authority("Z9A").post("", &bundle("batch", &entries)).await.statuses()
}

/// Corrects a birth date in the register and in what the authority sends.
async fn born(app: &TestApp, child: &Child, birth_date: &'static str) -> Child {
    let corrected = Child { birth_date, ..child.clone() };
    app.execute(&format!("update register_entry set birth_date = '{birth_date}' where nhs_number = '{}'", child.nhs()));
    corrected
}

on_both_stores! {
    async fn the_18th_birthday_ends_a_plan_and_the_authority_is_told_once(backend) {
        let app = TestApp::start(backend).await;
        // Born on 29 February: 18 on 1 March; and one who is 18 in the night in which the clocks go forward.
        let (leap, spring) = (Child { birth_date: "2012-02-29", ..child(1) }, Child { birth_date: "2009-03-28", ..child(2) });
        app.on_record(&leap, &[("Z9A", CPP, "2026-01-01", None)]).await;
        app.on_record(&spring, &[("Z9A", LAC, "2026-01-01", None)]).await;
        for (child, birthday, at) in [(&spring, "2027-03-28", "2027-03-28T00:00:00Z"), (&leap, "2030-03-01", "2030-03-01T00:00:00Z")] {
            app.clock.set(instant(at) - TimeDelta::milliseconds(1));
            assert_eq!(look_after(&app).await, (0, 0), "{birthday}");
            let before = own_flag(&app, child).await;
            app.clock.set(instant(at));
            assert_eq!(look_after(&app).await, (1, 0), "{birthday}");
            assert_eq!(look_after(&app).await, (0, 0));
            let flag = own_flag(&app, child).await;
            assert_eq!((&flag["period"]["end"], &flag["status"]), (&json!(birthday), &json!("inactive")));
            assert_eq!((&flag["meta"]["versionId"], &flag["id"]), (&json!("2"), &before["id"]));
            assert_eq!(before["period"].get("end"), None);
        }
        let expected = [("LAC", &spring), ("CPP", &leap)];
        assert_eq!(told(&app), expected.map(|(kind, child)| format!("Z9A record-ended adult {} {kind}", child.nhs())));
        assert!(app.verify().is_whole());
    }

    async fn an_unborn_childs_plan_ends_after_300_days(backend) {
        let app = TestApp::start(backend).await;
        let mother = |index| Child { birth_date: "1998-02-20", ..child(index) };
        let start = day("2026-05-04");
        let longest = start.checked_add_days(Days::new(300)).unwrap();
        let cases = [(1, None, true), (2, Some("2027-03-20"), true), (3, Some("2027-02-28"), false), (4, Some("2026-12-01"), false)];
        assert_eq!(longest, day("2027-02-28"));
        for (index, end, _) in cases {
            app.on_record(&mother(index), &[("Z9A", UCP, "2026-05-04", end)]).await;
        }
        app.clock.set(instant("2027-02-28T23:59:59.999Z"));
        assert_eq!(look_after(&app).await, (0, 0));
        app.clock.set(instant("2027-03-01T00:00:00Z"));
        assert_eq!(look_after(&app).await, (2, 0));
        for (index, end, by_system) in cases {
            let flag = own_flag(&app, &mother(index)).await;
            let expected = if by_system { "2027-02-28" } else { end.unwrap() };
            assert_eq!((&flag["period"]["end"], &flag["status"]), (&json!(expected), &json!("inactive")), "{index}");
        }
        let both = [1, 2].map(|index| format!("Z9A record-ended unborn-limit {} UCP", child(index).nhs()));
        assert_eq!(told(&app), both);
        // The daily upload goes on to send the plan as it always did: no version, and nothing told.
        let again = upload(&app, &mother(1), mother(1).flag("Z9A", UCP, "2026-05-04", None)).await;
        assert_eq!(again, [200, 200]);
        assert_eq!(look_after(&app).await, (0, 0));
        assert_eq!(own_flag(&app, &mother(1)).await["meta"]["versionId"], "2");
        // Its own end is its own version, and the system has nothing more to say.
        assert_eq!(upload(&app, &mother(1), mother(1).flag("Z9A", UCP, "2026-05-04", Some("2027-01-15"))).await, [200, 200]);
        assert_eq!(look_after(&app).await, (0, 0));
        let flag = own_flag(&app, &mother(1)).await;
        assert_eq!((&flag["meta"]["versionId"], &flag["period"]["end"]), (&json!("3"), &json!("2027-01-15")));
        // A later end that is too late again is cut again, and told no second time.
        assert_eq!(upload(&app, &mother(2), mother(2).flag("Z9A", UCP, "2026-05-04", Some("2027-03-25"))).await, [200, 200]);
        assert_eq!(look_after(&app).await, (1, 0));
        assert_eq!(own_flag(&app, &mother(2)).await["period"]["end"], "2027-02-28");
        assert_eq!(told(&app), both);
    }

    async fn a_corrected_birth_date_takes_the_end_back(backend) {
        let app = TestApp::start(backend).await;
        let robin = Child { birth_date: "2008-12-01", ..child(1) };
        app.on_record(&robin, &[("Z9A", CPP, "2026-01-01", None)]).await;
        app.clock.set(instant("2026-12-01T00:00:00Z"));
        assert_eq!(look_after(&app).await, (1, 0));
        assert_eq!(app.clinician().get(&robin.care_team()).await.total(), 0);

        // Clinicians see it as soon as it is known, whether or not a round has run.
        let corrected = born(&app, &robin, "2009-12-01").await;
        assert_eq!(upload(&app, &corrected, corrected.flag("Z9A", CPP, "2026-01-01", None)).await, [200, 200]);
        let shown = app.clinician().get(&robin.care_team()).await;
        assert_eq!((shown.total(), &shown.resources("CareTeam")[0]["status"]), (1, &json!("active")), "{}", shown.text);
        assert_eq!(shown.resources("CareTeam")[0]["period"].get("end"), None);

        assert_eq!(look_after(&app).await, (0, 1));
        assert_eq!(look_after(&app).await, (0, 0));
        let flag = own_flag(&app, &robin).await;
        assert_eq!((&flag["status"], flag["period"].get("end"), &flag["meta"]["versionId"]), (&json!("active"), None, &json!("3")));
        // And a year later it ends, which is news again.
        app.clock.set(instant("2027-12-01T00:00:00Z"));
        assert_eq!(look_after(&app).await, (1, 0));
        let told: Vec<String> = told(&app).iter().map(|one| one.split(' ').nth(2).unwrap().to_owned()).collect();
        assert_eq!(told, ["adult", "reopened", "adult"]);
    }

    async fn a_birth_date_that_the_register_corrects_is_found_by_a_round(backend) {
        let app = TestApp::start(backend).await;
        let robin = Child { birth_date: "2008-12-01", ..child(1) };
        app.on_record(&robin, &[("Z9A", CPP, "2026-01-01", None)]).await;
        app.clock.set(instant("2026-12-01T00:00:00Z"));
        look_after(&app).await;
        born(&app, &robin, "2009-12-01").await;
        assert_eq!(look_after(&app).await, (0, 1));
        assert_eq!(app.clinician().get(&robin.care_team()).await.total(), 1);
        // The other way round: older than was thought.
        born(&app, &robin, "2007-06-01").await;
        assert_eq!(look_after(&app).await, (1, 0));
        assert_eq!(own_flag(&app, &robin).await["period"]["end"], "2026-01-01", "not before its start");
        born(&app, &robin, "2008-06-01").await;
        assert_eq!(look_after(&app).await, (1, 0));
        assert_eq!(own_flag(&app, &robin).await["period"]["end"], "2026-06-01");
        let told: Vec<String> = told(&app).iter().map(|one| one.split(' ').nth(2).unwrap().to_owned()).collect();
        assert_eq!(told, ["adult", "reopened", "adult"]);
    }

    async fn versions_by_the_system_are_versions(backend) {
        let app = TestApp::start(backend).await;
        let robin = Child { birth_date: "2008-12-01", ..child(1) };
        app.on_record(&robin, &[("Z9A", CPP, "2026-01-01", None)]).await;
        let id = own_flag(&app, &robin).await["id"].as_str().unwrap().to_owned();
        app.clock.set(instant("2026-12-01T03:00:00Z"));
        let (path, authority) = (format!("/Flag/{id}"), app.authority("Z9A"));
        // Before the round: the owner sees that it is over.
        assert_eq!(authority.get(&path).await.json["status"], "inactive");
        look_after(&app).await;

        let read = authority.get(&path).await;
        assert_eq!((read.header("etag"), &read.json["meta"]["lastUpdated"]), ("W/\"2\"", &json!("2026-12-01T03:00:00.000Z")));
        let history = authority.get(&format!("{path}/_history")).await;
        assert_eq!((history.total(), history.resources("Flag").len()), (2, 2));
        assert_eq!(history.resources("Flag")[0], read.json);
        let (first, second) = (authority.get(&format!("{path}/_history/1")).await, authority.get(&format!("{path}/_history/2")).await);
        assert_eq!((first.json["period"].get("end"), &second.json["period"]["end"]), (None, &json!("2026-12-01")));
        assert_eq!((&first.json["status"], &second.json["status"]), (&json!("active"), &json!("inactive")));
        let all = authority.get("/Flag/_history").await;
        assert_eq!(all.resources("Flag").len(), 2, "{}", all.text);
        // A change that was made without having seen it is noticed.
        let ended = with(read.json.clone(), "/period/end", json!("2026-11-30"));
        let stale = app.authority("Z9A").header("If-Match", "W/\"1\"").put(&path, &ended).await;
        assert_eq!(stale.status, 412);
        let fresh = app.authority("Z9A").header("If-Match", "W/\"2\"").put(&path, &ended).await;
        assert_eq!((fresh.status, fresh.header("etag")), (200, "W/\"3\""), "{}", fresh.text);
        assert_eq!(look_after(&app).await, (0, 0));
        assert_eq!(app.authority("Z9B").get(&path).await.status, 404);
        // As an auditor finds it.
        let events = app.audit_of(robin.nhs()).await;
        let by_system: Vec<&Value> = events.iter().filter(|event| event.to_string().contains("What the system did")).collect();
        assert_eq!(by_system.len(), 1);
        assert!(by_system[0].to_string().contains(r#""valueString":"adult""#));
        assert!(by_system[0].to_string().contains(&format!("Flag/{id}/_history/2")));
    }

    async fn two_processes_and_a_clock_that_goes_back_write_nothing_twice(backend) {
        let app = TestApp::start(backend).await;
        for index in 1..=70 {
            let robin = Child { birth_date: "2008-12-01", ..child(index) };
            app.register(&robin).await;
        }
        let entries: Vec<Value> = (1..=70).map(|index| Child { birth_date: "2008-12-01", ..child(index) }).flat_map(|robin| {
            [robin.put_patient(), entry("POST", "Flag", robin.flag("Z9A", CPP, "2026-01-01", None))]
        }).collect();
        let loaded = app.authority("Z9A").post("", &bundle("batch", &entries)).await;
        assert_eq!(loaded.file_code(), "CPF02", "{}", loaded.text);
        app.clock.set(instant("2026-12-01T00:00:00Z"));
        let other = app.beside();
        let (one, two) = futures_util::future::join(app.app.look_after_records(), other.app.look_after_records()).await;
        let done = one.unwrap().ended + two.unwrap().ended;
        app.clock.advance(TimeDelta::hours(1));
        assert_eq!(done + look_after(&other).await.0, 70);
        assert_eq!(told(&app).len(), 70);
        app.clock.set(instant("2026-11-30T12:00:00Z"));
        app.execute("update authority_child set due_date = '2000-01-01'");
        assert_eq!(look_after(&app).await, (0, 0));
        app.clock.set(instant("2026-12-03T12:00:00Z"));
        app.execute("update authority_child set due_date = '2000-01-01'");
        assert_eq!(look_after(&app).await, (0, 0));
        assert_eq!(told(&app).len(), 70);
        assert_eq!(app.number("select count(*) as n from plan_version where ended_by is not null"), 70);
        // What is not due costs nothing.
        assert_eq!(app.number("select count(*) as n from authority_child where due_date is not null"), 0);
    }

    async fn while_an_upload_is_staged_its_authority_waits(backend) {
        let app = TestApp::start(backend).await;
        let (robin, sky) = (Child { birth_date: "2008-12-01", ..child(1) }, Child { birth_date: "2008-12-01", ..child(2) });
        app.on_record(&robin, &[("Z9A", CPP, "2026-01-01", None)]).await;
        app.on_record(&sky, &[("Z9B", CPP, "2026-01-01", None)]).await;
        app.clock.set(instant("2026-12-01T00:00:00Z"));
        app.execute("insert into upload (uuid, authority_id, door, state, received_ms, records)
                     select '6f1d2c3b-0000-4000-8000-000000000001', id, 'bundle', 'staged', 0, 1 from organization where ods = 'Z9A'");
        assert_eq!(another_batch(&app).await.ended, 1);
        assert_eq!(told(&app), [format!("Z9B record-ended adult {} CPP", sky.nhs())]);
        app.execute("update upload set state = 'applied', applied_ms = 0 where state = 'staged'");
        app.clock.advance(TimeDelta::minutes(5));
        assert_eq!(look_after(&app).await, (1, 0));
    }
}

/// A number that gives the same sequence each time.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }
}

/// Two gateways, the same uploads and the same days; the rounds of one never run. Clinicians see the same of both.
async fn rounds_change_nothing_that_is_shown(backend: Backend) {
    let (with_rounds, without) = (TestApp::start(backend).await, TestApp::start(backend).await);
    let mut dice = Dice(7);
    let births = ["2008-12-01", "2009-02-28", "2008-02-29", "2009-03-29", "1998-02-20"];
    let mut children: Vec<Child> =
        (1..=5).map(|index| Child { birth_date: births[index as usize - 1], ..child(index) }).collect();
    for app in [&with_rounds, &without] {
        for child in &children {
            app.register(child).await;
        }
    }
    for step in 0..40 {
        let index = usize::try_from(dice.below(5)).unwrap();
        let robin = children[index].clone();
        let today = with_rounds.app.gateway.today();
        match dice.below(4) {
            0 => {
                let (code, start) = if index == 4 { (UCP, "2026-05-04") } else { (CPP, "2026-01-01") };
                let end = (dice.below(3) == 0)
                    .then(|| today.checked_sub_days(Days::new(dice.below(20))).unwrap().to_string());
                for app in [&with_rounds, &without] {
                    upload(app, &robin, robin.flag("Z9A", code, start, end.as_deref())).await;
                }
            }
            1 if index < 4 => {
                let birth = births[usize::try_from(dice.below(4)).unwrap()];
                for app in [&with_rounds, &without] {
                    let corrected = born(app, &robin, birth).await;
                    app.authority("Z9A").put(&format!("/Patient/{}", robin.nhs()), &corrected.patient()).await;
                    children[index] = corrected;
                }
            }
            _ => {
                let hours = TimeDelta::hours(i64::try_from(dice.below(24 * 12)).unwrap());
                with_rounds.clock.advance(hours);
                without.clock.advance(hours);
            }
        }
        if dice.below(2) == 0 {
            look_after(&with_rounds).await;
        }
        for child in &children {
            let mut shown = Vec::new();
            for app in [&with_rounds, &without] {
                let reply = app.clinician().get(&format!("/Flag?patient={}", child.nhs())).await;
                let flags = reply.resources("Flag");
                shown.push(
                    flags.iter().map(|flag| (flag["status"].clone(), flag["period"].clone())).collect::<Vec<_>>(),
                );
            }
            assert_eq!(shown[0], shown[1], "step {step}, {today}, born {}", child.birth_date);
        }
    }
}

#[actix_web::test]
async fn rounds_change_nothing_that_is_shown_on_sqlite() {
    rounds_change_nothing_that_is_shown(Backend::Sqlite).await;
}

#[actix_web::test]
async fn rounds_change_nothing_that_is_shown_on_postgres() {
    rounds_change_nothing_that_is_shown(Backend::Postgres).await;
}
