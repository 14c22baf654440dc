//! What authorities are told over MESH: accesses of a window in one message, inactive numbers singly, each once in meaning;
//! and what a REPORT of MESH does.

use std::collections::BTreeSet;

use chrono::TimeDelta;
use cpis_gateway::{
    cpis::types::{
        child::NumberStatus,
        mesh::{MeshKind, MeshState},
        notice::InactiveReason,
    },
    hl7v3::{access_notification::ReadNotification, inactive_number, message::Message},
    store,
};
use serde_json::json;

use super::{acknowledgement, file, pump};
use crate::harness::{
    CPP, Child, TestApp, child,
    mesh::{ACCESS, Exchange, INACTIVE, TakenMessage},
    number, ods, on_both_stores,
};

fn accesses(taken: &TakenMessage) -> ReadNotification {
    assert_eq!(taken.workflow, ACCESS);
    match taken.message() {
        Message::Access(read) => {
            assert_eq!(read.envelope.id.unwrap().to_string(), taken.local_id[..36], "MESH's local id is the message's");
            read
        }
        other => panic!("{other:?}"),
    }
}

fn inactive(taken: &TakenMessage) -> inactive_number::ReadNotification {
    assert_eq!(taken.workflow, INACTIVE);
    match taken.message() {
        Message::InactiveNumber(read) => read,
        other => panic!("{other:?}"),
    }
}

async fn look(app: &TestApp, user: &str, child: &Child) {
    let reply =
        app.clinician_at("ZZ101", user).header("IsUnscheduledAccessEvent", "true").get(&child.care_team()).await;
    assert_eq!((reply.status, reply.total()), (200, 1), "{}", reply.text);
}

/// A number of `authority` became inactive.
async fn number_inactive(app: &TestApp, authority: &str, child: &Child, replaced_by: Option<u32>) {
    let (code, nhs, now) = (ods(authority), child.number, app.clock.now());
    let write = app.app.gateway.store.write(Vec::new(), move |tx| {
        let authority = store::organization::find(tx.conn, &code)?.unwrap().id;
        let reason = if replaced_by.is_some() { InactiveReason::Superseded } else { InactiveReason::Retired };
        let replacement = replaced_by.map(number);
        store::outbox::add_inactive_number(tx.conn, authority, &nhs, reason, replacement.as_ref(), now)
    });
    write.await.unwrap();
}

on_both_stores! {
    async fn the_accesses_of_a_window_come_in_one_message(backend) {
        let exchange = Exchange::new();
        let app = exchange.gateway_with(backend, |settings| settings.mesh.access_window_minutes = 15).await;
        let (one, two, other) = (child(1), child(2), child(3));
        for child in [&one, &two] {
            app.register(child).await;
        }
        app.on_record(&other, &[("Z9B", CPP, "2026-01-01", None)]).await;
        exchange.send(&exchange.a, file("Z9A", 41, &[(&one, "2026-10-01"), (&two, "2026-10-01")]));
        pump(&app).await;
        assert_eq!(acknowledgement(&exchange.take(&exchange.a)).code, "CPF02");
        look(&app, "555000009001", &one).await;
        app.clock.advance(TimeDelta::minutes(10));
        look(&app, "555000009002", &two).await;
        let seen = app.device().header("IsUnscheduledAccessEvent", "true").get(&one.care_team()).await;
        assert_eq!(seen.total(), 1, "{}", seen.text);
        look(&app, "555000009003", &other).await;
        app.clock.advance(TimeDelta::minutes(4));
        pump(&app).await;
        assert!(exchange.take(&exchange.a).is_empty(), "the window is not over");
        app.clock.advance(TimeDelta::minutes(1));
        assert_eq!(pump(&app).await.sent, 1);
        let taken = exchange.take(&exchange.a);
        assert_eq!(taken.len(), 1);
        let told = accesses(&taken[0]);
        assert_eq!((told.envelope.authority.as_deref(), told.envelope.file_number), (Some("Z9A"), Some(41)));
        let who: Vec<_> = told.accesses.iter().map(|a| (a.nhs_number, a.author.sds_user_id.as_deref())).collect();
        assert_eq!(who, [(one.number, Some("555000009001")), (two.number, Some("555000009002")), (one.number, None)]);
        assert!(told.accesses[2].author.name.is_some(), "the person responsible for the device");
        // The other authority's are its own, and come when its own window is over.
        assert!(exchange.take(&exchange.b).is_empty());
        app.clock.advance(TimeDelta::minutes(10));
        assert_eq!(pump(&app).await.sent, 1);
        let told = accesses(&exchange.take(&exchange.b)[0]);
        assert_eq!((told.accesses.len(), told.envelope.file_number), (1, None), "it came by FHIR, without a number");
        // Nothing twice, and never an empty message.
        app.clock.advance(TimeDelta::hours(1));
        assert_eq!(pump(&app).await.sent, 0);
        assert!(exchange.take(&exchange.a).is_empty());
    }

    async fn without_a_window_and_over_the_limit_there_are_several(backend) {
        let exchange = Exchange::new();
        let app = exchange.gateway(backend).await;
        let one = child(1);
        app.on_record(&one, &[("Z9A", CPP, "2026-01-01", None)]).await;
        for n in 0..3 {
            look(&app, &format!("55500000900{n}"), &one).await;
        }
        assert_eq!(pump(&app).await.sent, 3);
        let taken = exchange.take(&exchange.a);
        assert!(taken.iter().all(|message| accesses(message).accesses.len() == 1));
        let exchange = Exchange::new();
        let app = exchange.gateway_with(backend, |settings| {
            settings.mesh.access_window_minutes = 15;
            settings.mesh.max_accesses = 2;
        }).await;
        app.on_record(&one, &[("Z9A", CPP, "2026-01-01", None)]).await;
        for n in 0..5 {
            look(&app, &format!("55500000900{n}"), &one).await;
        }
        app.clock.advance(TimeDelta::minutes(15));
        pump(&app).await;
        let taken = exchange.take(&exchange.a);
        let counts: Vec<usize> = taken.iter().map(|message| accesses(message).accesses.len()).collect();
        assert_eq!(counts, [2, 2, 1]);
        let ids: BTreeSet<_> = taken.iter().flat_map(|m| accesses(m).accesses).map(|access| access.id).collect();
        assert_eq!(ids.len(), 5, "each access once, by its own id");
    }

    async fn a_restricted_child_s_accesses_wait(backend) {
        let exchange = Exchange::new();
        let app = exchange.gateway_with(backend, |settings| settings.mesh.access_window_minutes = 1).await;
        let (open, restricted, late) = (child(1), child(2), child(3));
        for child in [&open, &restricted, &late] {
            app.on_record(child, &[("Z9A", CPP, "2026-01-01", None)]).await;
        }
        look(&app, "555000009001", &restricted).await;
        look(&app, "555000009001", &open).await;
        look(&app, "555000009001", &late).await;
        app.set_status(restricted.number, NumberStatus::Restricted).await;
        app.clock.advance(TimeDelta::minutes(1));
        // It becomes restricted when it is in a message already, which MESH could not be given.
        exchange.mesh.ask(&serde_json::json!({"do": "list", "mailbox": exchange.a}));
        app.app.gateway.collect_mesh_notices(&terms(&app)).await.unwrap();
        app.set_status(late.number, NumberStatus::Restricted).await;
        pump(&app).await;
        let told = exchange.take(&exchange.a);
        let numbers: Vec<_> = told.iter().flat_map(|m| accesses(m).accesses).map(|access| access.nhs_number).collect();
        assert_eq!(numbers, [open.number]);
        app.set_status(restricted.number, NumberStatus::Current).await;
        app.set_status(late.number, NumberStatus::Current).await;
        app.clock.advance(TimeDelta::minutes(1));
        pump(&app).await;
        let told = exchange.take(&exchange.a);
        let numbers: Vec<_> = told.iter().flat_map(|m| accesses(m).accesses).map(|access| access.nhs_number).collect();
        assert_eq!(numbers, [restricted.number, late.number]);
    }

    async fn an_inactive_number_is_told_by_itself(backend) {
        let exchange = Exchange::new();
        let app = exchange.gateway_with(backend, |settings| settings.mesh.access_window_minutes = 15).await;
        let (one, two) = (child(1), child(2));
        app.register(&one).await;
        exchange.send(&exchange.a, file("Z9A", 12, &[(&one, "2026-10-01")]));
        pump(&app).await;
        exchange.take(&exchange.a);
        number_inactive(&app, "Z9A", &one, Some(7)).await;
        number_inactive(&app, "Z9A", &two, None).await;
        assert_eq!(pump(&app).await.sent, 2);
        let taken = exchange.take(&exchange.a);
        let told: Vec<_> = taken.iter().map(inactive).collect();
        assert_eq!((told[0].numbers[0].nhs_number, told[0].numbers[0].replaced_by), (one.number, Some(number(7))));
        assert_eq!(told[0].envelope.file_number, Some(12));
        assert_eq!((told[1].numbers[0].nhs_number, told[1].numbers[0].replaced_by), (two.number, None));
        assert_eq!(pump(&app).await.sent, 0);
    }

    async fn the_replacement_of_a_number_that_was_retired_since_is_told_to_nobody(backend) {
        let exchange = Exchange::new();
        let app = exchange.gateway(backend).await;
        let one = child(1);
        app.on_record(&one, &[("Z9A", CPP, "2026-01-01", None)]).await;
        let identifier = json!({"system": "https://fhir.nhs.uk/Id/nhs-number", "value": child(7).nhs()});
        let superseded = json!([{"name": "reason", "valueCode": "superseded"}, {"name": "replacedBy", "valueIdentifier": identifier}]);
        for said in [superseded, json!([{"name": "reason", "valueCode": "retired"}])] {
            let body = json!({"resourceType": "Parameters", "parameter": said});
            let reply = app.administrator().post(&format!("/Patient/{}/$inactive", one.nhs()), &body).await;
            assert_eq!(reply.status, 202, "{}", reply.text);
        }
        assert_eq!(pump(&app).await.sent, 2);
        for told in exchange.take(&exchange.a).iter().map(inactive) {
            assert_eq!((told.numbers[0].nhs_number, told.numbers[0].replaced_by), (one.number, None));
        }
    }

    async fn a_mailbox_added_later_gets_the_last_thirty_days(backend) {
        let exchange = Exchange::new();
        let app = exchange.gateway(backend).await;
        let gateway = &app.app.gateway;
        let one = child(1);
        app.on_record(&one, &[("Z9A", CPP, "2026-01-01", None)]).await;
        gateway.remove_mesh_mailbox(ods("Z9A")).await.unwrap().unwrap();
        look(&app, "555000009001", &one).await;
        app.clock.advance(TimeDelta::days(20));
        look(&app, "555000009002", &one).await;
        assert_eq!(pump(&app).await.sent, 0);
        app.clock.advance(TimeDelta::days(15));
        gateway.set_mesh_mailbox(ods("Z9A"), exchange.a.clone(), TimeDelta::days(30)).await.unwrap().unwrap();
        assert_eq!(pump(&app).await.sent, 1);
        let told = accesses(&exchange.take(&exchange.a)[0]);
        assert_eq!(told.accesses[0].author.sds_user_id.as_deref(), Some("555000009002"));
        // Taken away and given back, nothing comes again.
        gateway.remove_mesh_mailbox(ods("Z9A")).await.unwrap().unwrap();
        gateway.set_mesh_mailbox(ods("Z9A"), exchange.a.clone(), TimeDelta::days(30)).await.unwrap().unwrap();
        assert_eq!(pump(&app).await.sent, 0);
    }

    async fn what_was_not_collected_goes_out_again_under_the_same_id(backend) {
        let exchange = Exchange::new();
        let app = exchange.gateway_with(backend, |settings| settings.notify.retry_attempts = 3).await;
        let one = child(1);
        app.on_record(&one, &[("Z9A", CPP, "2026-01-01", None)]).await;
        look(&app, "555000009001", &one).await;
        pump(&app).await;
        let mut ids = BTreeSet::new();
        for round in 0..3 {
            let waiting = exchange.waiting(&exchange.a);
            assert_eq!(waiting.len(), 1, "round {round}");
            ids.insert(accesses(&exchange.take(&exchange.a)[0]).envelope.id);
            exchange.report(&waiting[0], "14");
            let done = pump(&app).await;
            assert_eq!((done.handled, done.sent), (1, 0), "round {round}: {done:?}");
            app.clock.advance(TimeDelta::minutes(1));
            pump(&app).await;
        }
        assert_eq!(ids.len(), 1);
        assert!(exchange.take(&exchange.a).is_empty(), "given up after the last try");
        let rows = app.app.gateway.mesh_messages(Some(MeshState::Undeliverable), None, 10).await.unwrap();
        assert_eq!(rows.len(), 1);
        assert!(rows[0].message.error.as_ref().unwrap().contains("did not collect"), "{:?}", rows[0].message.error);
        assert_eq!(app.app.gateway.requeue_mesh_messages(None).await.unwrap(), 1);
        assert_eq!(pump(&app).await.sent, 1);
        ids.insert(accesses(&exchange.take(&exchange.a)[0]).envelope.id);
        assert_eq!(ids.len(), 1, "the same id whenever it is sent");
    }

    async fn what_no_further_try_mends_is_given_up_at_once(backend) {
        let exchange = Exchange::new();
        let app = exchange.gateway(backend).await;
        let one = child(1);
        app.on_record(&one, &[("Z9A", CPP, "2026-01-01", None)]).await;
        for (n, code) in ["12", "15", "16", "17"].iter().enumerate() {
            look(&app, &format!("55500000900{n}"), &one).await;
            pump(&app).await;
            let waiting = exchange.waiting(&exchange.a);
            exchange.take(&exchange.a);
            exchange.report(&waiting[0], code);
            assert_eq!(pump(&app).await.handled, 1);
            let counts = app.app.gateway.mesh_counts().await.unwrap();
            assert_eq!(counts.undeliverable, i64::try_from(n).unwrap() + 1, "{code}");
        }
        // A report about nothing of ours, and one with a code that nobody knows.
        exchange.report("NOSUCHMESSAGE", "14");
        assert_eq!(pump(&app).await.handled, 1);
        look(&app, "555000009009", &one).await;
        pump(&app).await;
        exchange.report(&exchange.waiting(&exchange.a)[0], "<b>99</b>");
        pump(&app).await;
        let rows = app.app.gateway.mesh_messages(Some(MeshState::Queued), Some(ods("Z9A")), 10).await.unwrap();
        assert_eq!((rows.len(), rows[0].message.kind, rows[0].notices), (1, MeshKind::Access, 1));
        assert_eq!(rows[0].message.error.as_deref(), Some("MESH reports an unknown code: not delivered"));
        // The authority's mailbox is not known to MESH: refused when it is sent.
        app.app.gateway.set_mesh_mailbox(ods("Z9A"), "NOWHERE".to_owned(), TimeDelta::days(30)).await.unwrap().unwrap();
        app.clock.advance(TimeDelta::hours(1));
        assert_eq!(pump(&app).await.failed, 1);
        assert_eq!(app.app.gateway.mesh_counts().await.unwrap().undeliverable, 5);
    }
}

fn terms(app: &TestApp) -> cpis_gateway::cpis::mesh::MeshTerms {
    cpis_gateway::cpis::mesh::MeshTerms {
        process: "test".to_owned(),
        // Over at once, so that the gateway's own round follows.
        lease: TimeDelta::seconds(-1),
        attempts: 100,
        handling_attempts: 10,
        window: TimeDelta::minutes(i64::from(app.settings().mesh.access_window_minutes)),
        max_accesses: 500,
    }
}
