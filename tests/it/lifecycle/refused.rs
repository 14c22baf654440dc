//! Refused records are shown again until they are loaded: to the authority that asks, and by their acknowledgement.

use chrono::TimeDelta;
use cpis_gateway::{
    cpis::types::{
        mesh::{FileReply, MeshState, Sending},
        upload::FileCode,
    },
    store::{self, mesh::message},
};
use serde_json::{Value, json};
use uuid::Uuid;

use super::look_after;
use crate::harness::{Backend, CPP, LAC, Reply, TestApp, bundle, child, ods, on_both_stores, upload::entry};

/// Children 1 to `n`, of whom the register knows only those with an even number.
async fn half_refused(app: &TestApp, authority: &str, n: u32) {
    let mut entries = Vec::new();
    for index in 1..=n {
        let child = child(index);
        if index % 2 == 0
            && app.number(&format!("select count(*) as n from register_entry where nhs_number = '{}'", child.nhs()))
                == 0
        {
            app.register(&child).await;
        }
        entries.extend([child.put_patient(), entry("POST", "Flag", child.flag(authority, CPP, "2026-09-14", None))]);
    }
    let reply = app.authority(authority).post("", &bundle("batch", &entries)).await;
    assert_eq!(reply.file_code(), "CPF03", "{}", reply.text);
}

async fn refused(app: &TestApp, authority: &str, query: &str) -> Reply {
    let reply = app.authority(authority).get(&format!("/$refused-records{query}")).await;
    assert_eq!(reply.status, 200, "{}", reply.text);
    reply
}

fn part<'a>(record: &'a Value, name: &str) -> &'a Value {
    let parts = record["parameter"].as_array().unwrap().iter();
    parts.clone().find(|part| part["name"] == name).unwrap_or(&Value::Null)
}

fn numbers(reply: &Reply) -> Vec<String> {
    let of =
        |record: &Value| part(record, "patient")["valueIdentifier"]["value"].as_str().unwrap_or_default().to_owned();
    reply.resources("Parameters").iter().map(of).collect()
}

/// The acknowledgement of the newest upload, as if MESH had sent it and it had been taken.
async fn acknowledged(app: &TestApp) -> Uuid {
    let number = "select max(id) as n from upload";
    let key = app.number(number);
    app.execute(&format!("update upload set door = 'mesh' where id = {key}"));
    let now = app.clock.now();
    let write = app.app.gateway.store.write(Vec::new(), move |tx| {
        let upload = Uuid::from_u128(u128::try_from(key).unwrap());
        let reply = FileReply {
            reply_to: format!("M{key}"),
            upload: Some(upload),
            code: FileCode::Cpf03,
            number: Some(7),
            records: Some(4),
            refused: 2,
            reason: None,
            body: None,
        };
        let authority = store::organization::find(tx.conn, &ods("Z9A"))?.unwrap().id;
        store::mesh::mailbox::set(tx.conn, authority, "WESTOT001", 0)?;
        message::add_reply(tx.conn, authority, &reply, now.timestamp_millis())?;
        let due = message::due(tx.conn, &[MeshState::Queued], now.timestamp_millis(), 10)?;
        message::record(
            tx.conn,
            due[0],
            &Sending::Sent { mesh_id: "X1".to_owned() },
            now.timestamp_millis(),
            i64::MAX,
        )?;
        message::delivered(tx.conn, due[0])?;
        Ok(upload)
    });
    let upload = write.await.unwrap();
    app.execute(&format!("update upload set uuid = '{upload}' where id = {key}"));
    upload
}

async fn queued(app: &TestApp) -> usize {
    let now_ms = app.clock.now().timestamp_millis();
    app.read(move |conn| message::due(conn, &[MeshState::Queued], now_ms, 10)).await.len()
}

/// As the acknowledgement is sent.
async fn sent(app: &TestApp) {
    let now_ms = app.clock.now().timestamp_millis();
    let write = app.app.gateway.store.write(Vec::new(), move |tx| {
        for key in message::due(tx.conn, &[MeshState::Queued], now_ms, 10)? {
            message::record(tx.conn, key, &Sending::Sent { mesh_id: format!("X{now_ms}") }, now_ms, i64::MAX)?;
        }
        Ok(())
    });
    write.await.unwrap();
}

async fn again(app: &TestApp) -> usize {
    app.app.look_after_records().await.unwrap().shown_again
}

async fn with_reminders(backend: Backend, days: u16) -> TestApp {
    TestApp::start_with(backend, |settings| settings.lifecycle.remind_days = days).await
}

on_both_stores! {
    async fn an_authority_sees_its_own_until_they_are_loaded(backend) {
        let app = TestApp::start(backend).await;
        half_refused(&app, "Z9A", 6).await;
        half_refused(&app, "Z9B", 2).await;

        let reply = refused(&app, "Z9A", "").await;

        assert_eq!(numbers(&reply), [1, 3, 5].map(|index| child(index).nhs().to_owned()));
        let first = &reply.resources("Parameters")[0];
        assert_eq!(part(first, "code")["valueCodeableConcept"]["coding"][0]["code"], "CPR01");
        assert_eq!((&part(first, "position")["valueInteger"], &part(first, "refused")["valueInstant"]), (&json!(1), &json!("2026-11-23T12:00:00.000Z")));
        assert!(part(first, "reason")["valueString"].as_str().unwrap().contains("No person has this NHS number"));
        assert!(reply.next_page().is_none());
        assert_eq!(numbers(&refused(&app, "Z9B", "").await), [child(1).nhs()]);
        assert_eq!(numbers(&refused(&app, "Z9C", "").await), Vec::<String>::new());
        app.execute(&format!("update upload_record set resolved_ms = 1 where nhs_number = '{}'", child(3).nhs()));
        assert_eq!(numbers(&refused(&app, "Z9A", "").await), [1, 5].map(|index| child(index).nhs().to_owned()));
        app.clinician().get("/$refused-records").await.assert_refused(403, "forbidden", "ACCESS_DENIED");
        app.authority("Z9A").get("/$refused-records?patient=1").await.assert_refused(400, "not-supported", "INVALID_VALUE");
    }

    async fn pages_hold_every_one_once(backend) {
        let app = TestApp::start(backend).await;
        half_refused(&app, "Z9A", 9).await;
        half_refused(&app, "Z9A", 5).await;
        let all = numbers(&refused(&app, "Z9A", "").await);
        assert_eq!(all.len(), 8);
        let (mut paged, mut page) = (Vec::new(), refused(&app, "Z9A", "?_count=3").await);
        loop {
            paged.extend(numbers(&page));
            let Some(next) = page.next_page() else { break };
            assert!(app.authority("Z9B").get(&next).await.status == 400, "a cursor is one authority's");
            page = app.authority("Z9A").get(&next).await;
        }
        assert_eq!(paged, all);
    }

    async fn nothing_of_a_sensitive_child_is_shown_and_nothing_for_ever(backend) {
        let app = TestApp::start(backend).await;
        let restricted = child(1);
        app.register_as(&restricted, cpis_gateway::cpis::types::child::NumberStatus::Restricted, None).await;
        let entries = [restricted.put_patient(), entry("POST", "Flag", restricted.flag("Z9A", LAC, "2026-10-01", None))];
        app.authority("Z9A").post("", &bundle("batch", &entries)).await;
        let reply = refused(&app, "Z9A", "").await;
        let record = &reply.resources("Parameters")[0];
        assert_eq!(part(record, "code")["valueCodeableConcept"]["coding"][0]["code"], "CPR02");
        assert!(part(record, "patient").is_null() && part(record, "reason").is_null(), "{record}");
        assert!(!reply.text.contains(restricted.nhs()));
        app.clock.advance(TimeDelta::days(90));
        app.app.forget_refused().await.unwrap();
        assert_eq!(refused(&app, "Z9A", "").await.resources("Parameters").len(), 1);
        app.clock.advance(TimeDelta::milliseconds(1));
        assert_eq!(refused(&app, "Z9A", "").await.resources("Parameters").len(), 0);
    }

    async fn an_acknowledgement_is_sent_again_each_week_until_all_is_loaded(backend) {
        let app = with_reminders(backend, 7).await;
        half_refused(&app, "Z9A", 4).await;
        acknowledged(&app).await;
        app.clock.advance(TimeDelta::days(7) - TimeDelta::milliseconds(1));
        assert_eq!(again(&app).await, 0);
        app.clock.advance(TimeDelta::milliseconds(1));
        assert_eq!((again(&app).await, again(&app).await, queued(&app).await), (1, 0, 1));
        sent(&app).await;
        app.clock.advance(TimeDelta::days(6));
        assert_eq!(again(&app).await, 0);
        app.clock.advance(TimeDelta::days(1));
        assert_eq!((again(&app).await, queued(&app).await), (1, 1));
        sent(&app).await;
        app.execute("update upload_record set resolved_ms = 1");
        app.clock.advance(TimeDelta::days(8));
        assert_eq!((again(&app).await, queued(&app).await), (0, 0));
        look_after(&app).await;
    }

    async fn it_can_be_switched_off_and_what_came_by_http_is_shown_on_asking_only(backend) {
        for days in [0, 7] {
            let app = with_reminders(backend, days).await;
            half_refused(&app, "Z9A", 4).await;
            if days == 0 {
                acknowledged(&app).await;
            }
            app.clock.advance(TimeDelta::days(30));
            assert_eq!((again(&app).await, queued(&app).await), (0, 0));
            assert_eq!(refused(&app, "Z9A", "").await.resources("Parameters").len(), 2);
        }
    }
}
