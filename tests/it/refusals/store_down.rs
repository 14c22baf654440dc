//! No disclosure without a durable audit record: while the store can't keep one, every answer is 503 without data; once it
//! can again, everything works without a restart and the audit is whole.

use cpis_gateway::{app::checkpoint_public_key, cpis::verify::verify};
use diesel::{Connection, connection::SimpleConnection};
use futures_util::future::join_all;
use serde_json::Value;

use super::{FHIR, FORM, Who, World, assert_tells_nothing_of};
use crate::harness::{Backend, Reply, bundle, on_both_stores};

/// Who, method, path, and content type with body.
type Asked = (Who, &'static str, &'static str, Option<(&'static str, &'static str)>);

/// Every kind of request that reads or changes something.
const REQUESTS: &[Asked] = &[
    (Who::Clinician, "GET", "/CareTeam?patient={nhs}", None),
    (Who::Clinician, "POST", "/CareTeam/_search", Some((FORM, "patient={nhs}"))),
    (Who::Clinician, "GET", "/CarePlan?patient={nhs}", None),
    (Who::Clinician, "GET", "/Flag?patient={nhs}&_revinclude=AuditEvent:patient", None),
    (Who::Clinician, "GET", "/PatientFlag?patient={nhs}", None),
    (Who::Clinician, "GET", "/Patient?identifier={nhs}", None),
    (Who::Clinician, "GET", "/Patient/{nhs}", None),
    (Who::Clinician, "GET", "/Patient/{nhs}/$everything", None),
    (Who::Clinician, "GET", "/AuditEvent?patient={nhs}", None),
    (Who::Clinician, "GET", "/CareTeam?patient={unknown}", None),
    (Who::Clinician, "GET", "/Flag/{flag}", None),
    (Who::Clinician, "GET", "/CarePlan/{flag}", None),
    (Who::Clinician, "GET", "/CareTeam/{flag}", None),
    (Who::Clinician, "GET", "/Organization/Z9A", None),
    (Who::Clinician, "GET", "/Organization", None),
    (Who::Authority, "GET", "/Flag/{flag}", None),
    (Who::Authority, "GET", "/Flag", None),
    (Who::Authority, "GET", "/Flag?patient={nhs}", None),
    (Who::Authority, "GET", "/Patient/{nhs}", None),
    (Who::Authority, "GET", "/Patient?identifier={nhs}", None),
    (Who::Authority, "GET", "/AuditEvent?patient={nhs}", None),
    (Who::Authority, "GET", "/Subscription", None),
    (Who::Authority, "DELETE", "/Flag/{flag}", None),
    (Who::Authority, "PUT", "/Organization/Z9A", Some((FHIR, ORGANIZATION))),
    (Who::Auditor, "GET", "/AuditEvent", None),
    (Who::Auditor, "GET", "/AuditEvent?patient={nhs}", None),
    // Refusals must be audited too.
    (Who::Auditor, "GET", "/CareTeam?patient={nhs}", None),
    (Who::Clinician, "GET", "/CareTeam?patient=1", None),
    (Who::Clinician, "GET", "/Nothing", None),
    (Who::Authority, "POST", "", Some((FHIR, "{"))),
];

const ORGANIZATION: &str = r#"{"resourceType":"Organization","id":"Z9A",
    "identifier":[{"system":"https://fhir.nhs.uk/Id/ods-organization-code","value":"Z9A"}],"name":"ANOTHER NAME",
    "telecom":[{"system":"phone","value":"01632960198","use":"mobile"}]}"#;

fn assert_unavailable(world: &World, what: &str, reply: &Reply) {
    assert_eq!(reply.status, 503, "{what}: {}", reply.text);
    reply.assert_refused(503, "transient", "UNABLE_TO_CALL_SERVICE");
    assert!(reply.header("retry-after").parse::<u32>().is_ok_and(|seconds| seconds > 0), "{what}");
    assert!(reply.text.contains("phone the local authority"), "{what}: {}", reply.text);
    assert_tells_nothing_of(&world.child, reply);
    for inside in ["audit_event", "table", "SQL", "disk", "constraint"] {
        assert!(!reply.text.contains(inside), "{what}: {}", reply.text);
    }
}

/// All requests are refused with 503 and change nothing; after `mend` each works as before, and the audit is whole.
async fn assert_no_data_without_audit(world: &World, backend: Backend, break_it: &str, mend: &str) {
    let look_up = world.child.care_team();
    let healthy = world.app.clinician().get(&look_up).await;
    assert_eq!((healthy.status, healthy.total()), (200, 2), "{}", healthy.text);
    let before = (world.app.stored(), world.app.number("select count(*) as n from audit_event"));

    world.app.execute(break_it);
    let upload = bundle("batch", &[world.child.post_flag("Z9A", crate::harness::LAC, "2026-11-01", None)]);
    for (who, method, path, body) in REQUESTS {
        let body = body.map(|(kind, body)| (kind, world.fill(body).into_bytes()));
        let reply = world.caller(*who).send(method, &world.fill(path), body).await;
        assert_unavailable(world, &format!("{who:?} {method} {path}"), &reply);
    }
    assert_unavailable(world, "an upload", &world.app.authority("Z9A").post("", &upload).await);
    let clinician = world.app.clinician();
    for reply in join_all((0..20).map(|_| clinician.get(&look_up))).await {
        assert_unavailable(world, "one of many look-ups", &reply);
    }
    assert_eq!(world.app.anonymous().get("/metadata").await.status, 200, "what discloses nothing goes on");
    assert_eq!(world.app.anonymous().get("//_ping").await.status, 200);

    world.app.execute(mend);
    assert_eq!((world.app.stored(), world.app.number("select count(*) as n from audit_event")), before, "{backend:?}");
    let after = world.app.clinician().get(&look_up).await;
    assert_eq!((after.status, after.total()), (200, 2), "{}", after.text);
    let uploaded = world.app.authority("Z9A").post("", &upload).await;
    assert!(uploaded.text.contains("CPF02"), "{}", uploaded.text);
    assert_audit_is_whole(world).await;
}

async fn assert_audit_is_whole(world: &World) {
    world.app.app.checkpoint().await.expect("a checkpoint is written");
    let key = checkpoint_public_key(world.app.settings()).expect("the checkpoints' key");
    let signature = |id: &str, content: &[u8], signature: &[u8]| id == key.key_id() && key.verify(content, signature);
    let report = verify(&world.app.app.gateway.store, &signature, &mut |_| {}).expect("the audit is read");
    assert!(report.is_whole() && report.rows > 0 && report.checkpoints > 0, "{report:?}");
}

on_both_stores! {
    async fn the_audit_can_not_be_written(backend) {
        let world = World::start(backend).await;
        let (break_it, mend) = match backend {
            Backend::Sqlite => (
                "create trigger full before insert on audit_event begin select raise(abort, 'database or disk is full'); end",
                "drop trigger full",
            ),
            Backend::Postgres => (
                "create function full() returns trigger language plpgsql as \
                 $$ begin raise exception 'No space left on device' using errcode = '53100'; end $$; \
                 create trigger full_disk before insert on audit_event for each row execute function full()",
                "drop trigger full_disk on audit_event",
            ),
        };
        let (break_it, mend) = (break_it.replace("full()", "no_space()"), mend.to_owned());
        assert_no_data_without_audit(&world, backend, &break_it, &mend).await;
    }

    /// Everything is written, and then the commit itself fails.
    async fn the_commit_fails(backend) {
        let world = World::start(backend).await;
        let (prepare, break_it, mend) = match backend {
            // A deferred constraint is judged by the commit.
            Backend::Sqlite => (
                "create table never (id integer primary key); \
                 create table fails (n integer references never (id) deferrable initially deferred)",
                "create trigger late after insert on audit_event begin insert into fails values (1); end",
                "drop trigger late",
            ),
            Backend::Postgres => (
                "create function late() returns trigger language plpgsql as \
                 $$ begin raise exception 'No space left on device' using errcode = '53100'; end $$; \
                 create table fails (n int); \
                 create constraint trigger fails_late after insert on fails deferrable initially deferred \
                 for each row execute function late(); \
                 create function insert_late() returns trigger language plpgsql as \
                 $$ begin insert into fails values (1); return new; end $$",
                "create trigger late before insert on audit_event for each row execute function insert_late()",
                "drop trigger late on audit_event",
            ),
        };
        world.app.execute(prepare);
        assert_no_data_without_audit(&world, backend, break_it, mend).await;
    }

    async fn the_audit_table_is_away(backend) {
        let world = World::start(backend).await;
        let look_up = world.child.care_team();
        world.app.execute("alter table audit_event rename to away");
        for _ in 0..3 {
            assert_unavailable(&world, "a look-up", &world.app.clinician().get(&look_up).await);
        }
        world.app.execute("alter table away rename to audit_event");
        assert_eq!(world.app.clinician().get(&look_up).await.total(), 2);
        assert_audit_is_whole(&world).await;
    }

    /// The history or the outbox can't be written: then the access isn't audited either, and nothing is told.
    async fn the_history_or_the_outbox_can_not_be_written(backend) {
        let world = World::start(backend).await;
        for table in ["access", "access_listing", "outbox"] {
            let (break_it, mend) = match backend {
                Backend::Sqlite => (
                    format!("create trigger shut before insert on {table} begin select raise(abort, 'shut'); end"),
                    "drop trigger shut".to_owned(),
                ),
                Backend::Postgres => (
                    format!(
                        "create or replace function shut() returns trigger language plpgsql as \
                         $$ begin raise exception 'shut'; end $$; \
                         create trigger shut before insert on {table} for each row execute function shut()"
                    ),
                    format!("drop trigger shut on {table}"),
                ),
            };
            let before = world.app.stored();
            world.app.execute(&break_it);
            let reply = world.app.clinician().get(&world.child.care_team()).await;
            assert_unavailable(&world, table, &reply);
            assert_eq!(world.app.stored(), before, "{table}");
            world.app.execute(&mend);
        }
        assert_eq!(world.app.clinician().get(&world.child.care_team()).await.total(), 2);
        assert_audit_is_whole(&world).await;
    }
}

/// PostgreSQL ends every connection of the gateway: at most the requests in flight fail, and none discloses anything that
/// isn't audited.
#[actix_web::test]
async fn the_database_drops_its_connections() {
    let world = World::start(Backend::Postgres).await;
    let clinician = world.app.clinician();
    let look_up = world.child.care_team();
    let mut shown = 0;
    for _ in 0..5 {
        world.app.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()",
        );
        for reply in join_all((0..8).map(|_| clinician.get(&look_up))).await {
            match reply.status {
                200 => shown += 1,
                _ => assert_unavailable(&world, "a look-up", &reply),
            }
        }
    }
    let reply = world.app.clinician().get(&look_up).await;
    assert_eq!(reply.status, 200, "the gateway has connected again: {}", reply.text);
    shown += 1;
    let audited =
        "select count(*) as n from audit_event where outcome = '0' and patient is not null and subtype = 'search-type'";
    // `World` itself searched twice for each authority's flags.
    let by_authorities = "select count(*) as n from audit_event where outcome = '0' and patient is not null \
                          and subtype = 'search-type' and organization like 'Z9%'";
    assert!(
        world.app.number(audited) - world.app.number(by_authorities) >= shown,
        "an answer without its audit record"
    );
    assert_audit_is_whole(&world).await;
}

/// The database is away altogether: 503 for everybody, on `/_status` too, and back without a restart.
#[actix_web::test]
async fn the_database_is_away_and_comes_back() {
    let world = World::start(Backend::Postgres).await;
    let url = world.app.settings().database.url.as_ref().expect("a database").expose().to_owned();
    let (server, name) = url.rsplit_once('/').expect("a database's name");
    let mut administrator = diesel::PgConnection::establish(&format!("{server}/postgres")).expect("the server");
    let healthy = world.app.anonymous().get("//_status").await;
    assert_eq!((healthy.status, &healthy.json["status"]), (200, &Value::from("pass")));

    let away = format!(
        "alter database {name} with allow_connections false; \
         select pg_terminate_backend(pid) from pg_stat_activity where datname = '{name}'"
    );
    administrator.batch_execute(&away).expect("the database is away");
    let (clinician, authority, look_up) = (world.app.clinician(), world.app.authority("Z9A"), world.child.care_team());
    let (status, look_up_reply, flags) =
        tokio::join!(world.app.anonymous().get("//_status"), clinician.get(&look_up), authority.get("/Flag"),);
    assert_eq!((status.status, &status.json["status"]), (503, &Value::from("fail")));
    assert!(!status.text.contains(name) && !status.text.contains("postgres"), "{}", status.text);
    assert_unavailable(&world, "a look-up", &look_up_reply);
    assert_unavailable(&world, "an authority's flags", &flags);
    assert_eq!(world.app.anonymous().get("//_ping").await.status, 200);

    administrator.batch_execute(&format!("alter database {name} with allow_connections true")).expect("it is back");
    assert_eq!(world.app.anonymous().get("//_status").await.status, 200);
    assert_eq!(world.app.clinician().get(&look_up).await.total(), 2);
    assert_audit_is_whole(&world).await;
}
