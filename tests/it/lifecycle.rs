//! What becomes of records after they were sent: numbers that become inactive, the register that changes, ends by the
//! system, silent authorities, refused records, authorities that are reorganised (design 2, 7 and 9).

mod ends;
mod inactive;
mod refused;
mod register;
mod silence;
mod succession;

use cpis_gateway::{app::process_name, cpis::ends::Ended, cpis::lifecycle::LifecycleTerms, store::Conn};
use diesel::{QueryableByName, RunQueryDsl, sql_query, sql_types::Text};

use crate::harness::TestApp;

#[derive(QueryableByName)]
struct Told {
    #[diesel(sql_type = Text)]
    said: String,
}

/// What authorities were told besides accesses, in order: "Z9A inactive-number superseded 999... by 999...".
pub fn told(app: &TestApp) -> Vec<String> {
    let query = "select a.ods || ' ' || o.kind || ' ' || o.reason || ' ' || o.nhs_number || coalesce(' by ' || o.replaced_by, '')
                     || coalesce(' ' || p.plan_type, '') as said
                 from outbox o join organization a on a.id = o.authority_id left join plan p on p.id = o.plan_id
                 where o.kind <> 'access' order by o.id";
    let rows: Vec<Told> = match &mut app.connection() {
        Conn::Sqlite(conn) => sql_query(query).load(conn).expect("the outbox"),
        Conn::Postgres(conn) => sql_query(query).load(conn).expect("the outbox"),
    };
    rows.into_iter().map(|row| row.said).collect()
}

/// Rounds until nothing is left to do.
pub async fn look_after(app: &TestApp) -> (usize, usize) {
    let (mut ended, mut reopened) = (0, 0);
    loop {
        let done = app.app.look_after_records().await.expect("a round");
        (ended, reopened) = (ended + done.ended, reopened + done.reopened);
        if done.ended + done.reopened + done.numbers == 0 && done.compared_to == 0 {
            return (ended, reopened);
        }
    }
}

/// One batch of ends as another process would do it.
async fn another_batch(app: &TestApp) -> Ended {
    let terms =
        LifecycleTerms { process: process_name(), lease: chrono::TimeDelta::seconds(120), compared_at_once: 1000 };
    app.app.gateway.end_due_records(&terms).await.expect("a batch")
}
