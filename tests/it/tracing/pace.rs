//! Evenly: over many periods each number is traced at least once in each, and no round traces more than its share.

use std::{collections::HashMap, sync::Arc};

use chrono::{DateTime, TimeDelta, Utc};
use cpis_gateway::cpis::types::{NhsNumber, child::Trace};

use super::Counted;
use crate::harness::{Backend, TestApp, number};

/// Numbers with a plan that is shown, put into the tables: what is measured is the pace.
fn stored(app: &TestApp, indices: impl Iterator<Item = u32>, traced: DateTime<Utc>) {
    for index in indices {
        let nhs = number(index);
        let (nhs, traced_ms) = (nhs.as_str(), traced.timestamp_millis());
        for statement in [
            format!("insert into person (nhs_number, status, traced_ms, retrace_ms) values ('{nhs}', 'current', {traced_ms}, {traced_ms})"),
            format!("insert into authority_child (authority_id, person_id)
                     select o.id, p.id from organization o, person p where o.ods = 'Z9A' and p.nhs_number = '{nhs}'"),
            format!("insert into authority_child_version (child_id, version, authority_id, family, given, birth_date, recorded_ms)
                     select c.id, 1, c.authority_id, 'Testcase', 'Robin', '2017-05-11', 0
                     from authority_child c join person p on p.id = c.person_id where p.nhs_number = '{nhs}'"),
            format!("insert into plan (uuid, child_id, plan_type, created_ms)
                     select '6f1d2c3b-0000-4000-8000-' || '00' || p.nhs_number, c.id, 'CPP', 0
                     from authority_child c join person p on p.id = c.person_id where p.nhs_number = '{nhs}'"),
            format!("insert into plan_version (plan_id, version, authority_id, start_date, deleted, recorded_ms)
                     select l.id, 1, c.authority_id, '2026-01-01', {no}, 0 from plan l join authority_child c on c.id = l.child_id
                     join person p on p.id = c.person_id where p.nhs_number = '{nhs}'", no = "1 = 0"),
        ] {
            app.execute(&statement);
        }
    }
}

async fn each_is_traced_in_each_period_and_no_round_does_more_than_its_share(backend: Backend) {
    let app = TestApp::start(backend).await;
    let pds = Arc::new(Counted::default());
    let gateway = pds.gateway(&app);
    (1..=150).for_each(|index| pds.says(&number(index), Trace::Invalid));
    // All traced at once, as a first load leaves them: the worst case; and more come later, all at once too.
    stored(&app, 1..=100, app.clock.now());
    let mut last: HashMap<NhsNumber, DateTime<Utc>> = (1..=100).map(|index| (number(index), app.clock.now())).collect();
    let (period, round) = (TimeDelta::days(7), TimeDelta::minutes(30));
    for turn in 0..48 * 21 {
        app.clock.advance(round);
        if turn == 300 {
            stored(&app, 101..=150, app.clock.now());
            last.extend((101..=150).map(|index| (number(index), app.clock.now())));
        }
        gateway.retrace().await.expect("a round");
        let asked = pds.asked();
        // Twice the even share of the hour that is granted at most, and one.
        let share = 2 * last.len() / (7 * 24) + 1;
        assert!(asked.len() <= share, "{} in round {turn}", asked.len());
        for number in asked {
            let before = last.insert(number, app.clock.now()).expect("a number of ours");
            let gap = app.clock.now() - before;
            assert!(gap >= period * 2 / 5 && gap <= period, "{} hours in round {turn}", gap.num_hours());
        }
        assert!(last.values().all(|at| app.clock.now() - *at <= period), "round {turn}");
    }
}

#[actix_web::test]
async fn each_is_traced_in_each_period_and_no_round_does_more_than_its_share_on_sqlite() {
    each_is_traced_in_each_period_and_no_round_does_more_than_its_share(Backend::Sqlite).await;
}

#[actix_web::test]
async fn each_is_traced_in_each_period_and_no_round_does_more_than_its_share_on_postgres() {
    each_is_traced_in_each_period_and_no_round_does_more_than_its_share(Backend::Postgres).await;
}
