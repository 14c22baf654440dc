//! Who is there when the calls of a page are made: children in the register, plans on record, earlier look-ups.

use chrono::{DateTime, Utc};

use crate::harness::{
    Backend, CPP, Child, LAC, TestApp, UCP, bundle, child, noon,
    upload::{entry, with_local_id},
};

/// What has happened before the first call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scene {
    /// The children's numbers can be verified; nothing was uploaded.
    Registered,
    /// Westmarch has also uploaded plans of Robin and of Robin's mother, and Robin was looked up twice.
    OnRecord,
}

/// The children by the names that templates call them.
pub fn children() -> [(&'static str, Child); 6] {
    [
        ("robin", child(1)),
        ("mother", Child { birth_date: "1998-02-03", ..child(2) }),
        ("other", child(3)),
        ("sky", Child { given: "Sky", birth_date: "2019-08-30", ..child(4) }),
        ("old", child(5)),
        ("nobody", child(9)),
    ]
}

fn at(text: &str) -> DateTime<Utc> {
    text.parse().expect("an instant")
}

impl Scene {
    /// A gateway at noon of 23 November 2026.
    pub async fn start(self) -> TestApp {
        let app = TestApp::start(Backend::Sqlite).await;
        let [robin, mother, other, sky, old, _] = children().map(|(_, child)| child);
        for child in [&robin, &mother, &other, &sky] {
            app.register(child).await;
        }
        if self == Self::OnRecord {
            app.supersede(old.number, robin.number).await.expect("the number is superseded");
            let plan = |flag, id| entry("POST", "Flag", with_local_id(flag, id));
            let entries = [
                robin.put_patient(),
                plan(robin.flag("Z9A", CPP, "2026-09-14", None), "CPP-1047"),
                plan(robin.flag("Z9A", LAC, "2025-03-01", Some("2026-10-30")), "LAC-0311"),
                mother.put_patient(),
                plan(mother.flag("Z9A", UCP, "2026-10-01", Some("2027-03-01")), "UCP-0093"),
            ];
            app.clock.set(at("2026-11-02T06:15:00Z"));
            let loaded = app.authority("Z9A").post("", &bundle("batch", &entries)).await;
            assert_eq!((loaded.status, loaded.file_code().as_str()), (200, "CPF02"), "{}", loaded.text);
            app.clock.set(at("2026-11-20T21:40:00Z"));
            assert_eq!(app.clinician_named("555000000301").get(&robin.care_team()).await.total(), 2);
            app.clock.set(at("2026-11-22T19:05:00Z"));
            assert_eq!(app.device().get(&robin.care_team()).await.total(), 2);
            app.clock.set(noon());
        }
        app
    }
}
