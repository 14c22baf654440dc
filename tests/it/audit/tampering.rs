//! Somebody with the database's password changes the past. Whatever is changed, a verification finds it and says where.

use cpis_gateway::{
    auth::checkpoint_key::CheckpointKey,
    cpis::verify::{Finding, Report},
    store::{
        Conn,
        audit::{StoredRow, chain_rows, content_hash, hex, link},
        checkpoint::{self, Checkpoint},
    },
};
use tempfile::TempDir;

use crate::harness::{Backend, CPP, LAC, TestApp, child, on_both_stores};

const TABLES: [&str; 6] = ["audit_event", "audit_chain", "audit_checkpoint", "access", "access_listing", "outbox"];

/// A gateway with three checkpoints, the last of which covers all but two rows; and the number of its chain.
async fn audited(backend: Backend) -> (TestApp, i64) {
    let app = TestApp::start(backend).await;
    let child = child(1);
    app.on_record(&child, &[("Z9A", CPP, "2026-09-14", None)]).await;
    app.on_record_again(&child, &[("Z9B", LAC, "2026-09-14", None)]).await;
    for user in ["555000000101", "555000000301", "555000000401"] {
        app.clinician_named(user).get(&child.care_team()).await;
        app.app.checkpoint().await.unwrap().expect("a checkpoint");
    }
    app.clinician().get(&child.care_team()).await;
    app.clinician().get(&child.history()).await;
    let chain = app.number("select max(chain) as n from audit_event");
    assert!(app.verify().is_whole(), "{:?}", app.verify());
    (app, chain)
}

/// The gateway's past kept aside, so that one test can spoil it many times.
struct Kept<'a> {
    app: &'a TestApp,
    backend: Backend,
}

impl<'a> Kept<'a> {
    fn of(app: &'a TestApp, backend: Backend) -> Self {
        if backend == Backend::Sqlite {
            for table in ["audit_event", "audit_checkpoint", "access", "access_listing"] {
                app.try_execute(&format!("drop trigger {table}_no_update; drop trigger {table}_no_delete")).unwrap();
            }
        }
        for table in TABLES {
            app.try_execute(&format!("create table kept_{table} as select * from {table}")).unwrap();
        }
        Self { app, backend }
    }

    fn put_back(&self) {
        let overriding = if self.backend == Backend::Postgres { "overriding system value" } else { "" };
        for table in TABLES {
            let copy = format!("delete from {table}; insert into {table} {overriding} select * from kept_{table}");
            self.app.try_execute(&copy).unwrap();
        }
        assert!(self.app.verify().is_whole(), "{:?}", self.app.verify());
    }

    /// Spoils the past by `statements`, verifies, and puts it back.
    fn spoilt_by(&self, statements: &str) -> Report {
        self.app.try_execute(statements).unwrap_or_else(|error| panic!("{statements}: {error}"));
        let report = self.app.verify();
        self.put_back();
        report
    }

    fn blob(&self, bytes: &[u8]) -> String {
        match self.backend {
            Backend::Sqlite => format!("x'{}'", hex(bytes)),
            Backend::Postgres => format!("'\\x{}'::bytea", hex(bytes)),
        }
    }

    fn rows(&self, chain: i64) -> Vec<StoredRow> {
        let mut conn: Conn = self.app.connection();
        chain_rows(&mut conn, chain, 0, 10_000).unwrap()
    }

    fn checkpoints(&self) -> Vec<Checkpoint> {
        checkpoint::after(&mut self.app.connection(), 0, 10_000).unwrap()
    }
}

fn in_row(report: &Report, chain: i64, seq: i64, what: &str) {
    let expected = |f: &Finding| f.chain == Some(chain) && f.seq == Some(seq) && f.what.contains(what);
    assert!(report.findings.iter().any(expected), "'{what}' at {seq}: {report:#?}");
}

fn in_checkpoint(report: &Report, number: i64, what: &str) {
    let expected = |f: &Finding| f.checkpoint == Some(number) && f.what.contains(what);
    assert!(report.findings.iter().any(expected), "'{what}' in checkpoint {number}: {report:#?}");
}

on_both_stores! {
    async fn a_changed_row_is_found(backend) {
        let (app, chain) = audited(backend).await;
        let kept = Kept::of(&app, backend);
        let row = format!("update audit_event set {{}} where chain = {chain} and seq = 4");
        let spoilt = |set: &str| kept.spoilt_by(&row.replace("{}", set));

        let other_content = kept.blob(&kept.rows(chain)[4].content);
        in_row(&spoilt(&format!("content = {other_content}")), chain, 4, "content or its time was changed");
        in_row(&spoilt("recorded_ms = recorded_ms + 1"), chain, 4, "content or its time was changed");
        in_row(&spoilt("format_version = 2"), chain, 4, "content or its time was changed");
        for column in ["patient", "agent", "agent_name", "agent_role", "organization", "site", "action", "outcome",
                       "event_type", "subtype", "request_id", "entity"] {
            in_row(&spoilt(&format!("{column} = 'x'")), chain, 4, "what auditors search by was changed");
        }
        in_row(&spoilt("patient = null"), chain, 4, "what auditors search by was changed");
        in_row(&spoilt("month = 202612"), chain, 4, "the month is not that of its time");
        let nothing = kept.blob(&[0; 32]);
        in_row(&spoilt(&format!("link = {nothing}")), chain, 4, "not linked");
        in_row(&spoilt(&format!("content_hash = {nothing}")), chain, 4, "content or its time was changed");
    }

    async fn rows_that_are_missing_or_moved_are_found(backend) {
        let (app, chain) = audited(backend).await;
        let kept = Kept::of(&app, backend);

        let deleted = kept.spoilt_by(&format!("delete from audit_event where chain = {chain} and seq = 4"));
        in_row(&deleted, chain, 5, "rows before this one are missing");
        let swapped = kept.spoilt_by(&format!(
            "update audit_event set seq = -seq where chain = {chain} and seq in (3, 4);
             update audit_event set seq = 7 + seq where chain = {chain} and seq < 0"
        ));
        in_row(&swapped, chain, 3, "not linked");
        let tail = kept.rows(chain).len() as i64;
        let cut = kept.spoilt_by(&format!("delete from audit_event where chain = {chain} and seq = {tail}"));
        in_row(&cut, chain, tail - 1, "ends before the head");
        for place in ["chain = 99", "seq = 0"] {
            let hidden = kept.spoilt_by(&format!("update audit_event set {place} where chain = {chain} and seq = {tail}"));
            assert!(hidden.findings.iter().any(|f| f.what.contains("belong to no chain")), "{hidden:?}");
        }
        let head = kept.spoilt_by(&format!("update audit_chain set head_link = {} where id = {chain}", kept.blob(&[0; 32])));
        in_row(&head, chain, tail, "stored head is not its last row");
        let all = kept.spoilt_by(&format!(
            "delete from audit_event where chain = {chain}; delete from audit_chain where id = {chain}"
        ));
        assert!(all.findings.iter().any(|f| f.what.contains("names a chain that is not there")), "{all:?}");
    }

    async fn a_cut_tail_with_its_head_rewritten_is_found_by_the_checkpoint(backend) {
        let (app, chain) = audited(backend).await;
        let kept = Kept::of(&app, backend);
        let rows = kept.rows(chain);
        let cut_after = |seq: usize| {
            let head = kept.blob(&rows[seq - 1].link);
            kept.spoilt_by(&format!(
                "delete from audit_event where chain = {chain} and seq > {seq};
                 update audit_chain set head_seq = {seq}, head_link = {head} where id = {chain}"
            ))
        };

        let covered = 3;
        in_row(&cut_after(covered), chain, rows.len() as i64 - 2, "rows that a checkpoint covers are missing");

        // What no checkpoint covers yet can be cut without a trace: that is what they are written every 10 seconds for.
        let report = cut_after(rows.len() - 1);
        assert!(report.is_whole() && report.not_yet_covered == 1, "{report:?}");
    }

    async fn a_rewritten_chain_is_found_by_the_checkpoint(backend) {
        let (app, chain) = audited(backend).await;
        let kept = Kept::of(&app, backend);
        let (mut statements, mut previous) = (String::new(), vec![0; 32]);
        for row in kept.rows(chain) {
            // From the third on another address is told; every hash is made anew, as its writer would have.
            let text = String::from_utf8(row.content.clone()).unwrap();
            let content = if row.seq >= 3 { text.replace("127.0.0.1", "10.20.30.40") } else { text };
            let hash = content_hash(row.format_version, row.recorded_ms, content.as_bytes());
            previous = link(&previous, chain, row.seq, &hash).to_vec();
            statements.push_str(&format!(
                "update audit_event set content = {}, content_hash = {}, link = {} where chain = {chain} and seq = {};",
                kept.blob(content.as_bytes()), kept.blob(&hash), kept.blob(&previous), row.seq
            ));
        }
        statements.push_str(&format!("update audit_chain set head_link = {} where id = {chain}", kept.blob(&previous)));

        let report = kept.spoilt_by(&statements);

        assert!(report.findings.iter().all(|f| f.what.contains("not the row that a checkpoint was written over")), "{report:#?}");
        assert_eq!(report.findings.len(), 3, "each checkpoint contradicts it: {report:#?}");
    }

    async fn changed_history_and_outbox_are_found(backend) {
        let (app, chain) = audited(backend).await;
        let kept = Kept::of(&app, backend);
        let first = app.number("select min(id) as n from access");
        let of_first = "where request_id = (select request_id from access order by id limit 1)";
        let seq = app.number(&format!("select seq as n from audit_event {of_first}"));

        let deleted = kept.spoilt_by(&format!("delete from access where id = {first}"));
        in_row(&deleted, chain, seq, "missing from the history");
        let unlisted = kept.spoilt_by(&format!(
            "delete from access_listing where access_id = {first}
             and authority_id = (select max(authority_id) from access_listing)"
        ));
        in_row(&unlisted, chain, seq, "lists the access for other authorities");
        let untold = kept.spoilt_by(&format!(
            "delete from outbox where access_id = {first} and authority_id = (select min(authority_id) from outbox)"
        ));
        in_row(&untold, chain, seq, "the outbox holds the access for other authorities");
        for change in ["nhs_number = '9990000026'", "request_id = 'x'", "at_ms = at_ms - 60000",
                       "author = replace(author, 'EXAMPLE, Dana (Ms)', 'PATTERN, Lee (Mr)')",
                       "author = replace(author, 'ZZ101', 'ZZ121')", "uuid = '4f0f6d2e-0000-4000-8000-000000000001'"] {
            let report = kept.spoilt_by(&format!("update access set {change} where id = {first}"));
            let expected = match change {
                _ if change.starts_with("uuid") => "missing from the history",
                _ if change.starts_with("at_ms") => "at another time",
                _ => "is another one",
            };
            in_row(&report, chain, seq, expected);
        }
        let moved = kept.spoilt_by(&format!("update access_listing set at_ms = at_ms - 86400000 where access_id = {first}"));
        in_row(&moved, chain, seq, "lists the access at another time");
        let copied = "uuid, person_id, nhs_number, author_key, author, at_ms, request_id";
        let invented = kept.spoilt_by(&format!(
            "insert into access ({copied})
             select '4f0f6d2e-0000-4000-8000-000000000001', {} from access where id = {first}",
            &copied[6..]
        ));
        assert!(invented.findings.iter().any(|f| f.what.contains("no event of the audit lists")), "{invented:?}");
    }

    async fn forged_changed_and_missing_checkpoints_are_found(backend) {
        let (app, _) = audited(backend).await;
        let kept = Kept::of(&app, backend);
        let forger = TempDir::new().unwrap();
        let forger = CheckpointKey::generate_into(forger.path()).unwrap();
        let second = &kept.checkpoints()[1];
        let content = String::from_utf8(second.content.clone()).unwrap().replace("\"closed\":false", "\"closed\":true");

        let deleted = kept.spoilt_by("delete from audit_checkpoint where number = 2");
        in_checkpoint(&deleted, 3, "checkpoints before this one are missing");
        let changed = kept.spoilt_by(&format!(
            "update audit_checkpoint set content = {} where number = 2", kept.blob(content.as_bytes())
        ));
        in_checkpoint(&changed, 2, "the signature is not by the key that is trusted");
        let signature = forger.sign(content.as_bytes()).unwrap();
        for key in [forger.key_id(), &second.key_id] {
            let forged = kept.spoilt_by(&format!(
                "update audit_checkpoint set content = {}, signature = {}, hash = {}, key_id = '{key}' where number = 2",
                kept.blob(content.as_bytes()), kept.blob(&signature),
                kept.blob(&checkpoint::hash(content.as_bytes(), &signature))
            ));
            in_checkpoint(&forged, 2, "the signature is not by the key that is trusted");
            in_checkpoint(&forged, 3, "it does not follow the checkpoint before it");
        }
        let doubled = kept.spoilt_by(
            "insert into audit_checkpoint select 4, at_ms, content, hash, signature, key_id from audit_checkpoint where number = 2"
        );
        in_checkpoint(&doubled, 4, "it does not follow the checkpoint before it");
    }

    async fn checkpoints_cut_off_at_the_end_are_missed_by_the_next_chain(backend) {
        let (app, _) = audited(backend).await;
        let app = app.restart().await;
        app.clinician().get(&child(1).care_team()).await;
        let chain = app.number("select max(id) as n from audit_chain");
        assert!(app.verify().is_whole());
        let kept = Kept::of(&app, backend);

        let cut = kept.spoilt_by("delete from audit_checkpoint where number > 1");

        in_row(&cut, chain, 1, "names a checkpoint that is not there");
    }
}

#[actix_web::test]
async fn sqlite_refuses_to_change_what_is_append_only() {
    let (app, _) = audited(Backend::Sqlite).await;
    for (table, column) in [
        ("audit_event", "patient"),
        ("audit_checkpoint", "key_id"),
        ("access", "author"),
        ("access_listing", "author_key"),
    ] {
        let refusal = format!("{table} is append only");
        for statement in [format!("update {table} set {column} = 'x'"), format!("delete from {table}")] {
            let refused = app.try_execute(&statement).expect_err("it must be refused");
            assert!(refused.contains(&refusal), "{statement}: {refused}");
        }
        // To SQLite a replaced row is a deleted one only where recursive triggers are on.
        let replace = format!("replace into {table} select * from {table} limit 1");
        let refused = app.try_execute(&replace).expect_err("it must be refused");
        assert!(refused.contains(&refusal), "{replace}: {refused}");
    }
    assert!(app.verify().is_whole());
}
