//! A child whose record is restricted (CPR02): refused, and nothing of the child is kept anywhere.

use cpis_gateway::cpis::types::child::NumberStatus;
use serde_json::{Value, json};

use crate::harness::{
    CPP, Child, TestApp, UCP, bundle, child, on_both_stores,
    upload::{entry, with, with_local_id},
};

/// A child whose every fact can be searched for.
fn hidden() -> Child {
    Child { family: "Quillfeather", given: "Tamsin", birth_date: "2016-02-29", ..child(77) }
}

/// Nothing of the child is in any column of any table.
async fn assert_nothing_kept(app: &TestApp, after: &str) {
    let hidden = hidden();
    for text in [hidden.nhs(), hidden.family, hidden.given, hidden.birth_date, "CPP-SECRET"] {
        assert_eq!(app.columns_holding(text).await, Vec::<String>::new(), "after {after}");
    }
}

on_both_stores! {
    async fn nothing_of_the_child_is_kept(backend) {
        let app = TestApp::start(backend).await;
        let hidden = hidden();
        app.register_as(&hidden, NumberStatus::Restricted, None).await;
        app.register(&child(1)).await;
        let plan = || json!({"resource": with_local_id(hidden.flag("Z9A", CPP, "2026-09-14", None), "CPP-SECRET"),
                             "request": {"method": "POST", "url": "Flag"}});
        let future = || with(plan(), "/resource/period/start", json!("2027-01-01"));
        let not_r4 = || with(plan(), "/resource/status", json!("asleep"));
        let stale = || with(hidden.put_patient(), "/request/ifMatch", json!("W/\"4\""));
        let delete = || entry("DELETE", &hidden.criteria_with_code("CPP-SECRET", CPP), Value::Null);
        for (what, entries) in [
            ("a good record", vec![hidden.put_patient(), plan()]),
            ("a record whose first entry breaks another rule", vec![future(), hidden.put_patient()]),
            ("a record whose last entry breaks another rule", vec![hidden.put_patient(), future()]),
            ("a record with a failed If-Match", vec![plan(), stale()]),
            ("a record with an entry that is not R4", vec![not_r4(), hidden.put_patient()]),
            ("two Patients", vec![hidden.put_patient(), hidden.put_patient()]),
            ("a plan alone", vec![plan()]),
            ("a delete", vec![delete()]),
            ("an unborn child's plan", vec![hidden.put_patient(), hidden.post_flag("Z9A", UCP, "2026-09-14", None)]),
            ("an entry of another kind", vec![entry("GET", &format!("Patient/{}", hidden.nhs()), Value::Null)]),
        ] {
            for kind in ["batch", "transaction"] {
                for beside in [false, true] {
                    let mut all = entries.clone();
                    if beside {
                        all.push(child(1).put_patient());
                    }
                    let reply = app.authority("Z9A").post("", &bundle(kind, &all)).await;
                    assert!(reply.status < 500 && !reply.text.contains(hidden.nhs()), "{what}: {}", reply.text);
                    if kind == "batch" {
                        let refused = &reply.statuses()[..entries.len()];
                        assert!(refused.iter().all(|status| matches!(status, 412 | 422)), "{what}: {}", reply.text);
                    } else {
                        assert_ne!(reply.status, 200, "{what}: {}", reply.text);
                    }
                    assert_nothing_kept(&app, &format!("{kind} of {what}")).await;
                }
            }
        }
    }

    async fn single_interactions_keep_nothing_either(backend) {
        let app = TestApp::start(backend).await;
        let hidden = hidden();
        app.register_as(&hidden, NumberStatus::Restricted, None).await;

        let reply = app.authority("Z9A").put(&format!("/Patient/{}", hidden.nhs()), &hidden.patient()).await;
        reply.assert_refused(422, "business-rule", "INVALID_VALUE");
        assert_eq!(reply.record_codes(), ["CPR02"]);
        assert_nothing_kept(&app, "PUT Patient").await;

        for start in ["2026-09-14", "2027-01-01"] {
            let flag = with_local_id(hidden.flag("Z9A", CPP, start, None), "CPP-SECRET");
            let reply = app.authority("Z9A").post("/Flag", &flag).await;
            assert_eq!(reply.status, 422, "{}", reply.text);
            assert!(reply.record_codes().contains(&"CPR02".to_owned()), "{}", reply.text);
            assert_nothing_kept(&app, "POST Flag").await;
        }
    }

    /// File, position and code are kept, and an event that names nobody.
    async fn file_position_and_code_are_kept(backend) {
        let app = TestApp::start(backend).await;
        let hidden = hidden();
        app.register_as(&hidden, NumberStatus::Restricted, None).await;
        let held = app.row_counts().await;

        app.authority("Z9A").post("", &bundle("batch", &[hidden.put_patient()])).await;

        let now = app.row_counts().await;
        assert_eq!((now["upload"] - held["upload"], now["upload_record"] - held["upload_record"]), (1, 1));
        assert_eq!(app.columns_holding("CPR02").await, ["upload_record.code"]);
        assert_eq!(app.audit_of(hidden.nhs()).await.len(), 0);
    }

    /// The number on file was superseded by one that is restricted: an end is taken, and nothing is stored under it.
    async fn an_end_under_a_restricted_number_stores_no_child_there(backend) {
        let app = TestApp::start(backend).await;
        let (robin, hidden) = (child(1), hidden());
        app.register(&robin).await;
        let put = |child: &Child, end| {
            entry("PUT", &child.criteria("CPP-1"), with_local_id(child.flag("Z9A", CPP, "2026-09-14", end), "CPP-1"))
        };
        let sent = app.authority("Z9A").post("", &bundle("batch", &[robin.put_patient(), put(&robin, None)])).await;
        assert_eq!(sent.file_code(), "CPF02", "{}", sent.text);
        app.register_as(&hidden, NumberStatus::Restricted, None).await;
        let (new, old) = (hidden.nhs(), robin.nhs());
        app.execute(&format!("insert into person (nhs_number, status) values ('{new}', 'restricted')"));
        app.execute(&format!(
            "insert into alias (old_person_id, replacing_person_id, since_ms) \
             select o.id, n.id, 0 from person o, person n where o.nhs_number = '{old}' and n.nhs_number = '{new}'"
        ));
        let held = app.effects().await;

        let ended = app.authority("Z9A").post("", &bundle("batch", &[hidden.put_patient(), put(&hidden, Some("2026-11-20"))])).await;

        assert_eq!(ended.statuses(), [200, 200], "{}", ended.text);
        let now = app.effects().await;
        assert_eq!(now["plan_version"], held["plan_version"] + 1);
        for table in ["person", "authority_child", "authority_child_version", "plan"] {
            assert_eq!(now[table], held[table], "{table}");
        }
        assert_eq!(app.columns_holding(hidden.family).await, Vec::<String>::new());
    }
}
