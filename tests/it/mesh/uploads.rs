//! Files over MESH: applied by the same rules as a FHIR upload, acknowledged to the sender's mailbox.

use chrono::TimeDelta;
use cpis_gateway::cpis::types::child::NumberStatus;
use serde_json::{Value, json};

use super::{acknowledgement, file, pump};
use crate::harness::{
    CPP, Child, TestApp, bundle, child,
    mesh::{ACCESS, ACKNOWLEDGEMENT, Exchange, Mesh, UPLOAD},
    on_both_stores,
};

/// Plans that a clinician sees.
async fn plans(app: &TestApp, child: &Child) -> u64 {
    let reply = app.clinician().header("IsUnscheduledAccessEvent", "true").get(&child.care_team()).await;
    assert_eq!(reply.status, 200, "{}", reply.text);
    reply.json["total"].as_u64().unwrap()
}

on_both_stores! {
    async fn a_file_is_applied_and_acknowledged_with_every_code(backend) {
        let exchange = Exchange::new();
        let app = exchange.gateway(backend).await;
        let (good, unknown, sensitive) = (child(1), child(2), child(3));
        app.register(&good).await;
        app.register_as(&sensitive, NumberStatus::Restricted, None).await;
        let records = [(&good, "2026-10-01"), (&unknown, "2026-10-01"), (&sensitive, "2026-10-01")];
        let sent = exchange.send(&exchange.a, file("Z9A", 418, &records));
        let done = pump(&app).await;
        assert_eq!((done.handled, done.sent, done.failed, done.postponed), (1, 1, 0, 0), "{done:?}");
        assert_eq!(exchange.status(&exchange.a, &sent), "acknowledged");
        let taken = exchange.take(&exchange.a);
        assert_eq!((taken[0].workflow.as_str(), taken[0].content_type.as_str()), (ACKNOWLEDGEMENT, "application/xml"));
        let answer = acknowledgement(&taken);
        assert_eq!((answer.number, answer.records, answer.code.as_str()), (Some(418), Some(3), "CPF03"));
        assert_eq!((answer.failed, answer.authority.as_deref()), (Some(2), Some("Z9A")));
        let refused: Vec<_> = answer.refused.iter().map(|r| (r.position(), r.details[0].code.clone())).collect();
        assert_eq!(refused, [(Some(1), "CPR01".to_owned()), (Some(2), "CPR02".to_owned())]);
        // Of a sensitive record nothing of the child is kept, so nothing of it is sent back either.
        assert_eq!((answer.refused[0].nhs_number, answer.refused[1].nhs_number), (Some(unknown.number), None));
        assert_eq!((plans(&app, &good).await, plans(&app, &unknown).await), (1, 0));
        assert!(exchange.take(&exchange.b).is_empty());
        // The audit names MESH's mailbox as the caller's.
        let audited = app.audit_of(good.nhs()).await;
        assert!(audited.iter().any(|event| event.to_string().contains(&format!("mesh:{}", exchange.a))), "{audited:?}");
    }

    async fn the_same_file_again_is_answered_again_and_another_under_its_number_is_refused(backend) {
        let exchange = Exchange::new();
        let app = exchange.gateway(backend).await;
        let (one, two) = (child(1), child(2));
        app.register(&one).await;
        app.register(&two).await;
        let first = file("Z9A", 7, &[(&one, "2026-10-01")]);
        for _ in 0..2 {
            exchange.send(&exchange.a, &first);
            pump(&app).await;
            let answer = acknowledgement(&exchange.take(&exchange.a));
            assert_eq!((answer.number, answer.code.as_str(), answer.failed), (Some(7), "CPF02", Some(0)));
        }
        exchange.send(&exchange.a, file("Z9A", 7, &[(&two, "2026-10-01")]));
        pump(&app).await;
        let answer = acknowledgement(&exchange.take(&exchange.a));
        assert_eq!((answer.number, answer.code.as_str()), (Some(7), "CPF01"));
        assert!(answer.reason.unwrap().contains("number"));
        assert_eq!((plans(&app, &one).await, plans(&app, &two).await), (1, 0));
    }

    async fn chunks_and_compression_make_no_difference(backend) {
        let exchange = Exchange::new();
        let app = exchange.gateway_with(backend, |settings| settings.mesh.chunk_bytes = 1000).await;
        let children: Vec<Child> = (1..=60).map(child).collect();
        for one in children.iter().skip(30) {
            app.register(one).await;
        }
        let records: Vec<(&Child, &str)> = children.iter().map(|child| (child, "2026-10-01")).collect();
        exchange.send_as(&exchange.a, UPLOAD, file("Z9A", 1, &records), json!({"chunk": 3000, "gzip": true}));
        pump(&app).await;
        let taken = exchange.take(&exchange.a);
        assert!(taken[0].chunks.parse::<u32>().unwrap() > 5, "{}", taken[0].chunks);
        let answer = acknowledgement(&taken);
        assert_eq!((answer.code.as_str(), answer.records, answer.refused.len()), ("CPF03", Some(60), 30));
        assert_eq!(plans(&app, &children[59]).await, 1);
    }

    async fn a_fhir_bundle_is_answered_with_a_bundle(backend) {
        let exchange = Exchange::new();
        let app = exchange.gateway(backend).await;
        let one = child(1);
        app.register(&one).await;
        let entries = [one.put_patient(), one.post_flag("Z9A", CPP, "2026-10-01", None)];
        exchange.send(&exchange.a, bundle("batch", &entries).to_string());
        pump(&app).await;
        let taken = exchange.take(&exchange.a);
        assert_eq!(taken[0].content_type, "application/fhir+json");
        let answer: Value = serde_json::from_slice(&taken[0].body).unwrap();
        assert_eq!((&answer["resourceType"], &answer["type"]), (&json!("Bundle"), &json!("batch-response")));
        assert!(answer["meta"]["tag"].to_string().contains("CPF02"), "{answer}");
        assert_eq!(plans(&app, &one).await, 1);
        // Another authority's plan in it, and no Bundle at all.
        let foreign = child(2);
        app.register(&foreign).await;
        let entries = [foreign.put_patient(), foreign.post_flag("Z9B", CPP, "2026-10-01", None)];
        exchange.send(&exchange.a, bundle("batch", &entries).to_string());
        exchange.send(&exchange.a, "{\"resourceType\": \"Patient\"}");
        pump(&app).await;
        let mut taken = exchange.take(&exchange.a);
        taken.retain(|message| message.workflow == ACKNOWLEDGEMENT);
        let answers: Vec<Value> = taken.iter().map(|m| serde_json::from_slice(&m.body).unwrap()).collect();
        assert!(answers[0]["meta"]["tag"].to_string().contains("CPF04"), "{}", answers[0]);
        assert_eq!(answers[1]["resourceType"], "OperationOutcome");
        assert!(answers[1].to_string().contains("CPF01"), "{}", answers[1]);
        assert_eq!(plans(&app, &foreign).await, 0);
    }

    async fn only_an_authority_s_own_mailbox_speaks_for_it(backend) {
        let exchange = Exchange::new();
        let app = exchange.gateway(backend).await;
        let one = child(1);
        app.register(&one).await;
        let good = file("Z9A", 1, &[(&one, "2026-10-01")]);
        exchange.send(&exchange.b, &good);
        pump(&app).await;
        let answer = acknowledgement(&exchange.take(&exchange.b));
        assert_eq!((answer.code.as_str(), answer.authority.as_deref()), ("CPF01", Some("Z9B")));
        assert!(answer.reason.unwrap().contains("another authority"));
        assert!(exchange.take(&exchange.a).is_empty());
        // A mailbox of nobody, and another workflow: taken out of the inbox, answered nobody, and nothing is loaded.
        let nobody = Exchange::new();
        let sent = [exchange.send_as(&nobody.a, UPLOAD, &good, json!({})), exchange.send_as(&exchange.a, ACCESS, &good, json!({}))];
        let done = pump(&app).await;
        assert_eq!((done.handled, done.sent), (2, 0), "{done:?}");
        assert_eq!(exchange.status(&nobody.a, &sent[0]), "acknowledged");
        assert!(exchange.take(&nobody.a).is_empty() && exchange.take(&exchange.a).is_empty());
        assert_eq!(plans(&app, &one).await, 0);
    }

    async fn while_mesh_is_away_everything_waits(backend) {
        let mesh = Mesh::start();
        let exchange = mesh.exchange();
        let app = exchange.gateway(backend).await;
        let one = child(1);
        app.register(&one).await;
        let status = async || app.administrator().get("//_status").await.json["checks"]["mesh"].clone();
        assert_eq!(status().await["status"], "warn");
        exchange.send(&exchange.a, file("Z9A", 1, &[(&one, "2026-10-01")]));
        mesh.stop();
        assert_eq!(pump(&app).await, Default::default());
        let shown = status().await;
        assert_eq!(shown["status"], "warn");
        assert!(shown["output"].as_str().unwrap().contains("nothing listens"), "{shown}");
        assert!(!shown.to_string().contains("password") && !shown.to_string().contains("127.0.0.1"));
        app.clock.advance(TimeDelta::minutes(5));
        mesh.start_again();
        let done = pump(&app).await;
        assert_eq!((done.handled, done.sent), (1, 1), "{done:?}");
        assert_eq!(status().await["status"], "pass");
        assert_eq!(acknowledgement(&exchange.take(&exchange.a)).code, "CPF02");
        // Sent, then seen to be taken.
        app.clock.advance(TimeDelta::minutes(16));
        assert_eq!(pump(&app).await.delivered, 1);
        let counts = app.app.gateway.mesh_counts().await.unwrap();
        assert_eq!((counts.queued, counts.sent, counts.delivered), (0, 0, 1), "{counts:?}");
    }
}
