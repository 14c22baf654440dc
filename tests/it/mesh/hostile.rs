//! Files that can't be read, and a message that can't be handled: each is answered or set aside, the mailbox goes on, and
//! nothing else is loaded than what was said.

use chrono::TimeDelta;
use serde_json::json;

use super::{acknowledgement, file, pump};
use crate::harness::{
    Child, child,
    mesh::{Exchange, UPLOAD},
    on_both_stores,
};

on_both_stores! {
    async fn a_file_that_cannot_be_read_is_answered_and_the_next_is_applied(backend) {
        let exchange = Exchange::new();
        let app = exchange.gateway(backend).await;
        let one = child(1);
        app.register(&one).await;
        let before = app.stored();
        let good = String::from_utf8(file("Z9A", 5, &[(&one, "2026-10-01")])).unwrap();
        let with_prolog = |prolog: &str| good.replace("<File", &format!("{prolog}<File"));
        let secret = app.data_dir().join("secret.txt");
        std::fs::write(&secret, "the secret").unwrap();
        let external = format!("<!DOCTYPE File [<!ENTITY x SYSTEM \"file://{}\">]>", secret.display());
        let cases: [(&str, Vec<u8>); 10] = [
            ("nothing but space", b"  \n ".to_vec()),
            ("no XML", b"hello".to_vec()),
            ("cut off", good.as_bytes()[..good.len() / 2].to_vec()),
            ("another namespace", good.replace("urn:hl7-org:v3", "urn:example").into_bytes()),
            ("another root", good.replace("File", "Fille").into_bytes()),
            ("another encoding", good.replace("encoding=\"UTF-8\"", "encoding=\"EBCDIC-CP-GB\"").into_bytes()),
            ("not UTF-8", [good.as_bytes(), &[0xff, 0xfe]].concat()),
            ("entity bomb", with_prolog(&bomb()).replace(">418<", ">&z;<").into_bytes()),
            ("external entity", with_prolog(&external).into_bytes()),
            ("another count", good.replace("transmissionQuantity value=\"1\"", "transmissionQuantity value=\"2\"").into_bytes()),
        ];
        for (case, body) in cases {
            exchange.send(&exchange.a, body);
            let done = pump(&app).await;
            assert_eq!((done.handled, done.sent, done.postponed), (1, 1, 0), "{case}: {done:?}");
            let taken = exchange.take(&exchange.a);
            let answer = acknowledgement(&taken);
            assert_eq!((answer.code.as_str(), answer.records, answer.refused.len()), ("CPF01", None, 0), "{case}");
            assert!(answer.reason.as_ref().is_some_and(|reason| reason.len() > 15), "{case}: {:?}", answer.reason);
            let told = String::from_utf8(taken[0].body.clone()).unwrap();
            assert!(!told.contains(one.nhs()) && !told.contains("Testcase") && !told.contains("the secret"), "{case}: {told}");
            assert_eq!(app.stored(), before, "{case}");
        }
        // The number of the file is free all the same.
        exchange.send(&exchange.a, &good);
        pump(&app).await;
        let answer = acknowledgement(&exchange.take(&exchange.a));
        assert_eq!((answer.code.as_str(), answer.number), ("CPF02", Some(5)));
    }

    async fn a_gigabyte_is_cut_off_and_answered(backend) {
        let exchange = Exchange::new();
        let app = exchange.gateway_with(backend, |settings| settings.mesh.max_message_bytes = 4 << 20).await;
        let one = child(1);
        app.register(&one).await;
        let huge = json!({"zeros": 1_u64 << 30, "chunk": 32 << 20, "gzip": true});
        exchange.send_as(&exchange.a, UPLOAD, b"", huge);
        exchange.send(&exchange.b, file("Z9B", 1, &[(&one, "2026-10-01")]));
        let done = pump(&app).await;
        assert_eq!((done.handled, done.sent), (2, 2), "{done:?}");
        let answer = acknowledgement(&exchange.take(&exchange.a));
        assert_eq!((answer.code.as_str(), answer.number, answer.records), ("CPF01", None, None));
        assert!(answer.reason.unwrap().contains("larger than this service takes"));
        assert_eq!(acknowledgement(&exchange.take(&exchange.b)).code, "CPF02");
    }

    async fn a_poison_message_is_set_aside_and_the_others_go_on(backend) {
        let exchange = Exchange::new();
        let app = exchange.gateway(backend).await;
        let (poisoned, good): (Child, Child) = (child(1), child(2));
        app.on_record(&poisoned, &[("Z9A", crate::harness::CPP, "2026-01-01", None)]).await;
        app.register(&good).await;
        app.execute(&format!("update person set status = 'nonsense' where nhs_number = '{}'", poisoned.nhs()));
        let bad = exchange.send(&exchange.a, file("Z9A", 1, &[(&poisoned, "2026-01-01")]));
        exchange.send(&exchange.b, file("Z9B", 1, &[(&good, "2026-10-01")]));
        let done = pump(&app).await;
        assert_eq!((done.handled, done.postponed, done.sent), (1, 1, 1), "{done:?}");
        assert_eq!(acknowledgement(&exchange.take(&exchange.b)).code, "CPF02");
        // Again and again, with growing pauses; then it is left for an operator.
        assert_eq!(pump(&app).await.postponed, 0, "its pause is not over");
        for _ in 0..12 {
            app.clock.advance(TimeDelta::hours(2));
            pump(&app).await;
        }
        let aside = app.app.gateway.mesh_set_aside().await.unwrap();
        assert_eq!(aside.len(), 1, "{aside:?}");
        assert_eq!((&aside[0].message, &aside[0].mailbox), (&bad, &exchange.a));
        assert_eq!(app.app.gateway.mesh_counts().await.unwrap().set_aside, 1);
        // Nothing was acknowledged: MESH still has it, and would tell the sender of it after five days.
        assert_eq!(exchange.waiting(&exchange.cpis), [bad.as_str()]);
        assert!(exchange.take(&exchange.a).is_empty());
        app.execute(&format!("update person set status = 'current' where nhs_number = '{}'", poisoned.nhs()));
        assert!(app.app.gateway.take_up_mesh_message(&bad).await.unwrap());
        assert_eq!(pump(&app).await.handled, 1);
        assert_eq!(acknowledgement(&exchange.take(&exchange.a)).code, "CPF02");
        assert!(!app.app.gateway.take_up_mesh_message(&bad).await.unwrap());
    }
}

/// Entities that would grow to gigabytes.
fn bomb() -> String {
    let mut entities = String::from("<!DOCTYPE File [<!ENTITY a \"aaaaaaaaaa\">");
    for (name, before) in ["b", "c", "d", "e", "f", "g", "h", "z"].iter().zip(["a", "b", "c", "d", "e", "f", "g", "h"])
    {
        entities.push_str(&format!("<!ENTITY {name} \"{}\">", format!("&{before};").repeat(10)));
    }
    entities + "]>"
}
