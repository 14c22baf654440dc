//! A fault of ours: 500 without a word of what is inside, audited as a serious failure.

use serde_json::json;

use super::{Who, World, assert_tells_nothing_of, request_id};
use crate::harness::on_both_stores;

on_both_stores! {
    async fn a_stored_value_that_can_not_be(backend) {
        let world = World::start(backend).await;
        world.app.execute("update plan set plan_type = 'nonsense'");
        for (who, path) in [
            (Who::Clinician, world.child.care_team()),
            (Who::Clinician, world.fill("/Flag?patient={nhs}")),
            (Who::Clinician, world.fill("/Patient/{nhs}/$everything")),
            (Who::Clinician, world.fill("/Flag/{flag}")),
            (Who::Authority, world.fill("/Flag/{flag}")),
            (Who::Authority, "/Flag".to_owned()),
        ] {
            let before = world.app.stored();
            let reply = world.caller(who).get(&path).await;
            reply.assert_refused(500, "exception", "FAILURE_TO_PROCESS_MESSAGE");
            assert_tells_nothing_of(&world.child, &reply);
            for inside in ["plan", "nonsense", "stored value", "Corrupt", "sql", "src/"] {
                assert!(!reply.text.contains(inside), "{inside}: {}", reply.text);
            }
            assert_eq!(world.app.stored(), before);
            let events = world.events_of(&request_id(&reply)).await;
            let told: Vec<_> = events.iter().map(|e| (&e["outcome"], &e["outcomeDesc"])).collect();
            assert_eq!(told, [(&json!("8"), &json!("FAILURE_TO_PROCESS_MESSAGE"))], "{path}");
        }
    }
}
