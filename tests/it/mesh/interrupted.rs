//! Cut off between two steps, the next round ends with each effect once, and each message there under its one id.

use chrono::TimeDelta;
use cpis_gateway::store::mesh as stored;
use serde_json::json;

use super::{acknowledgement, file, pump};
use crate::harness::{
    child,
    mesh::{ACKNOWLEDGEMENT, Exchange},
    on_both_stores,
};

on_both_stores! {
    async fn a_send_whose_result_was_lost_is_looked_for_before_it_is_sent_again(backend) {
        let exchange = Exchange::new();
        let app = exchange.gateway(backend).await;
        let one = child(1);
        app.register(&one).await;
        exchange.send(&exchange.a, file("Z9A", 1, &[(&one, "2026-10-01")]));
        pump(&app).await;
        let [message]: [_; 1] = app.app.gateway.mesh_messages(None, None, 10).await.unwrap().try_into().unwrap();
        // As if the process had died after the POST: MESH has it, the store doesn't know.
        app.execute("update mesh_message set state = 'sending', mesh_id = null, next_attempt_ms = 0");
        let done = pump(&app).await;
        assert_eq!((done.sent, done.failed), (1, 0), "{done:?}");
        let after = app.app.gateway.mesh_message_by_id(message.message.id).await.unwrap().unwrap();
        assert_eq!(after.message.mesh_id, message.message.mesh_id, "found, not sent again");
        assert_eq!(acknowledgement(&exchange.take(&exchange.a)).code, "CPF02");
        // As if it had died before the POST, or between two chunks.
        let key = message.message.key;
        app.execute("update mesh_message set state = 'sending', reopened = 1, mesh_id = null, next_attempt_ms = 0");
        assert_eq!(pump(&app).await.sent, 1);
        let again = exchange.take(&exchange.a);
        assert_eq!(again[0].local_id, format!("{}-1", message.message.id));
        assert!(app.read(move |conn| stored::message::get(conn, key)).await.unwrap().mesh_id.is_some());
    }

    async fn a_file_that_was_applied_but_not_taken_out_of_the_inbox_is_answered_once(backend) {
        let exchange = Exchange::new();
        let app = exchange.gateway(backend).await;
        let one = child(1);
        app.register(&one).await;
        let sent = exchange.send(&exchange.a, file("Z9A", 1, &[(&one, "2026-10-01")]));
        pump(&app).await;
        assert_eq!(exchange.take(&exchange.a).len(), 1);
        // The effect and the queued answer were durable, MESH was not told: it lists the message again.
        exchange.mesh.ask(&json!({"do": "unacknowledge", "id": sent}));
        assert_eq!(exchange.waiting(&exchange.cpis), [sent.as_str()]);
        let before = app.stored();
        let done = pump(&app).await;
        assert_eq!((done.handled, done.sent), (1, 0), "{done:?}");
        assert!(exchange.take(&exchange.a).is_empty());
        // The same before the answer was queued: the file is judged again, its answer is the one it had.
        exchange.mesh.ask(&json!({"do": "unacknowledge", "id": sent}));
        app.execute("delete from mesh_message; delete from mesh_received");
        app.clock.advance(TimeDelta::minutes(1));
        pump(&app).await;
        let taken = exchange.take(&exchange.a);
        assert_eq!((acknowledgement(&taken).code.as_str(), taken[0].workflow.as_str()), ("CPF02", ACKNOWLEDGEMENT));
        assert_eq!(app.stored(), before);
    }

    async fn files_of_an_authority_keep_their_order_when_one_must_wait(backend) {
        let exchange = Exchange::new();
        let app = exchange.gateway_with(backend, |settings| settings.upload.wait_seconds = 1).await;
        let (one, two, three) = (child(1), child(2), child(3));
        for child in [&one, &two, &three] {
            app.register(child).await;
        }
        // A process that died while it staged something of Z9A: its lease is not over yet.
        let until = (app.clock.now() + TimeDelta::seconds(50)).timestamp_millis();
        app.execute(&format!(
            "insert into lease (name, holder, until_ms, fencing) \
             select 'upload/' || id, 'dead', {until}, 1 from organization where ods = 'Z9A'"
        ));
        exchange.send(&exchange.a, file("Z9A", 1, &[(&one, "2026-10-01")]));
        exchange.send(&exchange.a, file("Z9A", 2, &[(&two, "2026-10-01")]));
        exchange.send(&exchange.b, file("Z9B", 1, &[(&three, "2026-10-01")]));
        let done = pump(&app).await;
        assert_eq!((done.handled, done.postponed), (1, 2), "{done:?}");
        assert_eq!(acknowledgement(&exchange.take(&exchange.b)).code, "CPF02");
        app.clock.advance(TimeDelta::seconds(51));
        assert_eq!(pump(&app).await.handled, 2);
        let taken = exchange.take(&exchange.a);
        let answers: Vec<_> = taken.iter().map(|m| acknowledgement(std::slice::from_ref(m))).map(|a| (a.number, a.code)).collect();
        assert_eq!(answers, [(Some(1), "CPF02".to_owned()), (Some(2), "CPF02".to_owned())]);
    }

    async fn one_process_works_at_a_time(backend) {
        let exchange = Exchange::new();
        let app = exchange.gateway(backend).await;
        let other = app.beside();
        let one = child(1);
        app.register(&one).await;
        assert_eq!(pump(&app).await, Default::default());
        exchange.send(&exchange.a, file("Z9A", 1, &[(&one, "2026-10-01")]));
        assert_eq!(pump(&other).await, Default::default(), "the first has the lease");
        app.clock.advance(TimeDelta::seconds(31));
        let done = pump(&other).await;
        assert_eq!((done.handled, done.sent), (1, 1), "{done:?}");
        assert_eq!(pump(&app).await, Default::default());
    }
}
