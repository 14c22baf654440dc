//! A retired number is joined to no other: whoever reads, by either number, reads what would be there if the other had never
//! existed, and it costs the same (design 9). And a merge that is undone leaves each number with its own.

use cpis_gateway::cpis::types::{
    NhsNumber,
    child::{NumberStatus, RegisterEntry},
};
use serde_json::{Value, json};

use crate::{
    api_pages::shown::without_token_tails,
    harness::{
        Backend, CPP, Child, LAC, Reply, Request, TestApp, bundle, child, on_both_stores, statements,
        upload::{entry, with, with_local_id},
    },
    la::exported,
    notify::{Receiver, pump, wanted},
};

const LOCAL_CHILD: &str = "urn:oid:2.16.840.1.113883.2.1.3.2.4.18.24";

/// The same child of the same authority's own ids, before and after the adoption.
fn old() -> Child {
    child(1)
}

fn new() -> Child {
    child(2)
}

/// What happens in a world.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Story {
    /// The old number was in use; what it was said to be replaced by before it was retired, if anything.
    old: Option<Option<NhsNumber>>,
    /// The new number is in use.
    new: bool,
}

struct World {
    app: TestApp,
    subscriptions: Vec<(&'static str, String)>,
    _hook: Receiver,
}

async fn inactive(app: &TestApp, number: &NhsNumber, reason: &str, by: Option<&NhsNumber>) {
    let mut said = vec![json!({"name": "reason", "valueCode": reason})];
    said.extend(by.map(|by| {
        json!({"name": "replacedBy",
        "valueIdentifier": {"system": "https://fhir.nhs.uk/Id/nhs-number", "value": by.as_str()}})
    }));
    let path = format!("/Patient/{}/$inactive", number.as_str());
    let reply = app.administrator().post(&path, &json!({"resourceType": "Parameters", "parameter": said})).await;
    assert_eq!(reply.status, 202, "{}", reply.text);
}

/// The child with the authority's own ids of it and of its plan: the same under both numbers.
async fn registered(app: &TestApp, child: &Child, authority: &str) {
    app.register(child).await;
    let local = json!({"system": LOCAL_CHILD, "value": "CHILD-17"});
    let mut patient = child.put_patient();
    patient["resource"]["identifier"].as_array_mut().unwrap().push(local);
    let plan = with_local_id(child.flag(authority, CPP, "2026-09-14", None), "CPP-1047");
    let reply = app.authority(authority).post("", &bundle("batch", &[patient, entry("POST", "Flag", plan)])).await;
    assert!(reply.text.contains("CPF02"), "{}", reply.text);
}

impl World {
    /// Everything happens at one instant, so that a step which a world lacks moves no time.
    async fn make(backend: Backend, story: Story, authority: &str) -> Self {
        statements::listen();
        let (app, hook) = (TestApp::start(backend).await, Receiver::start());
        let mut subscriptions = Vec::new();
        for ods in ["Z9A", "Z9B"] {
            for topic in ["cpis-access", "cpis-inactive-nhs-number", "cpis-record-ended"] {
                let asked = with(
                    wanted(&app, &format!("{}/{ods}", hook.base)),
                    "/criteria",
                    json!(format!("{}/SubscriptionTopic/{topic}", app.base)),
                );
                let reply = app.authority(ods).post("/Subscription", &asked).await;
                assert_eq!(reply.status, 201, "{}", reply.text);
                subscriptions.push((ods, reply.json["id"].as_str().unwrap().to_owned()));
            }
        }
        pump(&app).await;
        let is_joined = story.new && story.old.is_some_and(|replaced_by| replaced_by.is_some());
        if is_joined {
            registered(&app, &new(), authority).await;
        }
        if let Some(replaced_by) = story.old {
            registered(&app, &old(), "Z9A").await;
            app.clinician_named("555000000301").get(&old().care_team()).await;
            if let Some(by) = replaced_by {
                inactive(&app, &old().number, "superseded", Some(&by)).await;
                let refused = app.authority("Z9A").post("/Flag", &old().flag("Z9A", LAC, "2026-10-01", None)).await;
                assert_eq!(refused.record_codes(), ["CPR05"], "{}", refused.text);
            }
            inactive(&app, &old().number, "retired", None).await;
        }
        if story.new {
            if !is_joined {
                registered(&app, &new(), authority).await;
            }
            app.clinician_named("555000000301").get(&new().care_team()).await;
        }
        pump(&app).await;
        Self { app, subscriptions, _hook: hook }
    }

    /// Whatever a clinician, an authority and an auditor read by a number, in order; and the statements that it takes.
    async fn read_by(&self, child: &Child, authority: &str) -> Vec<(String, String, Vec<String>)> {
        let (app, nhs) = (&self.app, child.nhs());
        let nhs_number = format!("https://fhir.nhs.uk/Id/nhs-number%7C{nhs}");
        let mut read = Vec::new();
        let mut keep = async |what: String, asked: std::pin::Pin<Box<dyn Future<Output = Reply> + '_>>| {
            let (reply, statements) = app.statements_of(asked).await;
            read.push((what, told(app, &reply), statements));
        };
        for path in [
            format!("/CareTeam?patient:identifier={nhs_number}"),
            format!("/CarePlan?patient:identifier={nhs_number}"),
            format!(
                "/Flag?patient:identifier={nhs_number}&_include=Flag:patient&_include=Flag:author&_revinclude:iterate=AuditEvent:patient"
            ),
            format!("/PatientFlag?patient={nhs}&code=child-protection-information-system-flag"),
            format!("/Patient?identifier={nhs_number}"),
            format!("/Patient/{nhs}"),
            format!("/Patient/{nhs}/$everything"),
            format!("/AuditEvent?patient:identifier={nhs_number}"),
        ] {
            keep(format!("clinician {path}"), Box::pin(app.clinician().get(&path))).await;
        }
        for path in [
            format!("/Flag?patient={nhs}"),
            format!("/Patient?identifier={nhs_number}"),
            format!("/Patient/{nhs}"),
            format!("/Patient/{nhs}/_history"),
            format!("/Patient/{nhs}/_history/1"),
            format!("/AuditEvent?patient={nhs}"),
        ] {
            keep(format!("{authority} {path}"), Box::pin(app.authority(authority).get(&path))).await;
        }
        for path in [format!("/AuditEvent?patient={nhs}&_count=200")] {
            keep(format!("auditor {path}"), Box::pin(app.auditor().get(&path))).await;
        }
        read
    }

    /// Whatever an authority reads without naming a child: its export, its histories, its desk, its notifications.
    async fn read_of(&self, authority: &str) -> Vec<(String, String)> {
        let app = &self.app;
        let mut read = Vec::new();
        for path in ["/Flag", "/Patient", "/Flag/_history", "/Patient/_history", "/$refused-records"] {
            read.push((path.to_owned(), told(app, &app.authority(authority).get(path).await)));
        }
        for (of, id) in self.subscriptions.iter().filter(|(of, _)| *of == authority) {
            for operation in ["$status", "$events"] {
                let reply = app.authority(of).get(&format!("/Subscription/{id}/{operation}")).await;
                read.push((format!("{operation} {}", read.len()), told(app, &reply)));
            }
        }
        read
    }
}

/// An answer without what differs between two runs of the same: addresses, ids, tokens.
fn told(app: &TestApp, reply: &Reply) -> String {
    let mut reply = reply.clone();
    without_token_tails(&mut reply.json);
    reply.text = reply.json.to_string().replace(&app.base, "http://127.0.0.1:1/base");
    let text = if reply.json.is_null() { String::new() } else { reply.settled().to_string() };
    let mut parts = text.split("202611-");
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        plain.push_str("[row]");
        plain.push_str(part.trim_start_matches(|c: char| c.is_ascii_digit()));
    }
    let names = ["etag", "last-modified", "location"];
    let headers: Vec<String> = names.iter().map(|name| format!("{name}: {}", reply.header(name))).collect();
    format!("{} {headers:?} {plain}", reply.status)
}

/// Each number is read in the world that has both, and in a twin where the other was never heard of.
async fn assert_twins(backend: Backend, once_joined: bool, authority: &str) {
    let joined_to = |number: NhsNumber| once_joined.then_some(number);
    let make = |old, new| World::make(backend, Story { old, new }, authority);
    let world = make(Some(joined_to(new().number)), true).await;
    let without_old = make(None, true).await;
    // That it was replaced is its own past; by which number may be seen nowhere.
    let without_new = make(Some(joined_to(child(3).number)), false).await;
    let known = format!("once joined: {once_joined}");
    for (child, owner, twin) in [(new(), authority, &without_old), (old(), "Z9A", &without_new)] {
        let (one, other) = (world.read_by(&child, owner).await, twin.read_by(&child, owner).await);
        assert_eq!(one.len(), other.len());
        for ((what, told, statements), (_, twin_told, twin_statements)) in one.iter().zip(&other) {
            assert_eq!(told, twin_told, "{known} {authority}: {what}");
            assert_eq!(statements, twin_statements, "{known} {authority}: {what}");
        }
        let stranger = if child.nhs() == new().nhs() { old() } else { new() };
        assert!(!format!("{one:?}").contains(stranger.nhs()), "{known} {authority}");
    }
    if authority != "Z9A" {
        assert_eq!(world.read_of(authority).await, without_old.read_of(authority).await, "{known}");
        assert_eq!(world.read_of("Z9A").await, without_new.read_of("Z9A").await, "{known}");
        for (ods, twin) in [(authority, &without_old), ("Z9A", &without_new)] {
            let held = exported(&world.app, ods).await;
            assert!(held.lines().count() > 1, "{held}");
            assert_eq!(held, exported(&twin.app, ods).await, "{known} {ods}");
        }
    }
    // Nothing that is stored holds both, whoever reads it.
    assert_eq!(world.app.number("select count(*) as n from alias"), 0);
    let both = "select count(*) as n from outbox where replaced_by is not null";
    assert_eq!(world.app.number(both), 0);
    assert_eq!(world.app.number("select count(*) as n from person where register_seen like '%9990%'"), 0);
    assert!(world.app.verify().is_whole());
}

on_both_stores! {
    async fn a_child_that_was_adopted_is_another_child(backend) {
        for authority in ["Z9B", "Z9A"] {
            assert_twins(backend, false, authority).await;
        }
    }

    async fn that_two_numbers_were_one_before_is_forgotten(backend) {
        assert_twins(backend, true, "Z9B").await;
    }

    /// The register calls the retired number replaced, before or after: it is not followed, and not kept.
    async fn a_replacement_of_a_retired_number_is_not_followed(backend) {
        for before in [true, false] {
            let app = TestApp::start(backend).await;
            registered(&app, &old(), "Z9A").await;
            registered(&app, &new(), "Z9B").await;
            let replaced = "update register_entry set status = 'superseded', replaced_by = '{new}' where nhs_number = '{old}'"
                .replace("{new}", new().nhs()).replace("{old}", old().nhs());
            if before {
                app.execute(&replaced);
                app.app.look_after_records().await.unwrap();
                assert_eq!(app.clinician().get(&new().care_team()).await.total(), 2);
            }
            inactive(&app, &old().number, "retired", None).await;
            if !before {
                app.execute(&replaced);
            }
            for _ in 0..3 {
                app.app.look_after_records().await.unwrap();
            }
            let by = async |child: &Child| app.clinician().get(&child.care_team()).await.total();
            assert_eq!((by(&old()).await, by(&new()).await), (0, 1), "{before}");
            assert_eq!(app.number("select count(*) as n from alias"), 0);
            assert_eq!(app.number("select count(*) as n from person where register_seen like '%9990%'"), 0, "{before}");
            assert_eq!(app.number("select count(*) as n from outbox where replaced_by is not null"), 0, "{before}");
        }
    }

    /// Not even the register keeps what would join it: what it held goes with the retirement, what it is told later isn't kept.
    async fn the_register_keeps_no_replacement_of_a_retired_number(backend) {
        let app = TestApp::start(backend).await;
        let older = child(3);
        for one in [&old(), &new(), &older] {
            registered(&app, one, "Z9A").await;
        }
        let says = async |of: &Child, by: &Child| {
            let (nhs_number, demographics) = (of.number, of.demographics());
            let (status, replaced_by) = (NumberStatus::Superseded, Some(by.number));
            let entry = RegisterEntry { nhs_number, demographics, status, replaced_by, deceased: false };
            app.app.gateway.set_register_entries(vec![entry]).await.unwrap();
        };
        let held = |of: &Child| {
            let of = format!("from register_entry where nhs_number = '{}'", of.nhs());
            let joins = app.number(&format!("select count(*) as n {of} and replaced_by is not null"));
            let is = |status| app.number(&format!("select count(*) as n {of} and status = '{status}'")) == 1;
            (joins, is("retired"), is("invalid"))
        };
        says(&old(), &new()).await;
        says(&older, &old()).await;
        inactive(&app, &old().number, "retired", None).await;
        assert_eq!((held(&old()), held(&older)), ((0, true, false), (0, false, true)));
        says(&old(), &new()).await;
        says(&older, &old()).await;
        assert_eq!((held(&old()), held(&older)), ((0, true, false), (0, false, true)));
        app.app.look_after_records().await.unwrap();
        assert_eq!(app.number("select count(*) as n from alias"), 0);
        let by = async |child: &Child| app.clinician().get(&child.care_team()).await.total();
        assert_eq!((by(&old()).await, by(&older).await, by(&new()).await), (0, 0, 1));
    }

    /// A number that had been merged into the retired one goes back to nobody: it is told to its holder, and finds nothing.
    async fn what_led_to_a_retired_number_becomes_invalid(backend) {
        let app = TestApp::start(backend).await;
        let (oldest, middle, retired) = (child(1), child(2), child(3));
        for (one, authority) in [(&oldest, "Z9A"), (&middle, "Z9B"), (&retired, "Z9C")] {
            app.on_record(one, &[(authority, CPP, "2026-09-14", None)]).await;
        }
        inactive(&app, &oldest.number, "superseded", Some(&middle.number)).await;
        inactive(&app, &middle.number, "superseded", Some(&retired.number)).await;
        assert_eq!(app.clinician().get(&oldest.care_team()).await.total(), 3);

        inactive(&app, &retired.number, "retired", None).await;

        for one in [&oldest, &middle, &retired] {
            let reply = app.clinician().get(&one.care_team()).await;
            assert_eq!(reply.total(), 0, "{}", reply.text);
        }
        let own = app.authority("Z9B").get(&format!("/Patient/{}", middle.nhs())).await;
        assert!(own.text.contains("invalidated") && !own.text.contains(retired.nhs()), "{}", own.text);
        let upload = app.authority("Z9B").post("/Flag", &middle.flag("Z9B", LAC, "2026-10-01", None)).await;
        assert_eq!(upload.record_codes(), ["CPR01"], "{}", upload.text);
        let (aliases, told) = (app.number("select count(*) as n from alias"), app.number(
            "select count(*) as n from outbox where kind = 'inactive-number'"));
        assert_eq!((aliases, told), (1, 4), "the one further back still leads to a number that is none of the retired one's");
        // Said once more, it tells nobody anything.
        inactive(&app, &retired.number, "retired", None).await;
        assert_eq!(app.number("select count(*) as n from outbox where kind = 'inactive-number'"), told);
        assert!(app.verify().is_whole());
    }

    /// An alias that an earlier version left there is read by nobody.
    async fn an_alias_to_a_retired_number_is_never_followed(backend) {
        let app = TestApp::start(backend).await;
        for (one, authority) in [(&old(), "Z9A"), (&new(), "Z9B")] {
            app.on_record(one, &[(authority, CPP, "2026-09-14", None)]).await;
        }
        app.supersede(old().number, new().number).await.unwrap();
        app.set_status(new().number, NumberStatus::Retired).await;
        for one in [&old(), &new()] {
            assert_eq!(app.clinician().get(&one.care_team()).await.total(), 0);
        }
        for (authority, one) in [("Z9A", &new()), ("Z9B", &old())] {
            let reply = app.authority(authority).get(&format!("/Flag?patient={}", one.nhs())).await;
            assert_eq!(reply.total(), 0, "{}", reply.text);
        }
    }

    async fn an_end_and_a_deletion_are_taken_under_either_number_alone(backend) {
        let world = World::make(backend, Story { old: Some(None), new: true }, "Z9A").await;
        let app = &world.app;
        // The local ids are the same: under the old number nothing of the new one's is meant.
        let ended = with_local_id(old().flag("Z9A", CPP, "2026-09-14", Some("2026-11-20")), "CPP-1047");
        let reply = app.authority("Z9A").post("/Flag", &ended).await;
        assert!(matches!(reply.status, 200 | 422), "{}", reply.text);
        let of = async |child: &Child| app.authority("Z9A").get(&format!("/Flag?patient={}", child.nhs())).await.resources("Flag");
        assert!(of(&new()).await[0]["period"].get("end").is_none());
        let path = |flag: &Value| format!("/Flag/{}", flag["id"].as_str().unwrap());
        let gone = app.authority("Z9A").delete(&path(&of(&old()).await[0])).await;
        assert_eq!(gone.status, 204, "{}", gone.text);
        assert_eq!((of(&old()).await.len(), of(&new()).await.len()), (0, 1));
        assert_eq!(app.clinician().get(&new().care_team()).await.total(), 1);
    }
}

/// A caller of no interest.
fn clinician<'a>(app: &'a TestApp, user: &str) -> Request<'a> {
    app.clinician_named(user)
}

/// A number is current again: the way by which a merge is undone.
async fn unmerged(app: &TestApp, child: &Child) {
    let (register, entry) = (
        &app.app.gateway,
        cpis_gateway::cpis::types::child::RegisterEntry {
            nhs_number: child.number,
            demographics: child.demographics(),
            status: NumberStatus::Current,
            replaced_by: None,
            deceased: false,
        },
    );
    register.set_register_entries(vec![entry]).await.unwrap();
}

async fn told_of_numbers(app: &TestApp) -> i64 {
    app.number("select count(*) as n from outbox where kind = 'inactive-number'")
}

on_both_stores! {
    async fn a_merge_that_is_undone_leaves_each_number_with_its_own(backend) {
        let app = TestApp::start(backend).await;
        let (one, two) = (child(1), child(2));
        app.on_record(&one, &[("Z9A", CPP, "2026-09-14", None)]).await;
        app.on_record(&two, &[("Z9B", LAC, "2026-10-01", None)]).await;
        let seen = async || {
            let by = async |child: &Child| app.clinician().get(&child.care_team()).await.total();
            (by(&one).await, by(&two).await)
        };
        inactive(&app, &one.number, "superseded", Some(&two.number)).await;
        assert_eq!(seen().await, (2, 2));
        clinician(&app, "555000000301").get(&one.care_team()).await;
        clinician(&app, "555000000302").get(&two.care_team()).await;
        assert_eq!(told_of_numbers(&app).await, 1);

        unmerged(&app, &one).await;

        assert_eq!(app.number("select count(*) as n from alias"), 0);
        assert_eq!(seen().await, (1, 1));
        // An access belongs to the number that was asked for; each authority keeps what was listed for it.
        let history = async |child: &Child| app.clinician().get(&child.history()).await;
        let (by_one, by_two) = (history(&one).await, history(&two).await);
        assert!(by_one.text.contains("555000000301") && !by_one.text.contains("555000000302"), "{}", by_one.text);
        assert!(by_two.text.contains("555000000302") && !by_two.text.contains("555000000301"), "{}", by_two.text);
        // The same merge again is a new fact, for it had been taken back; said twice it is told once.
        for _ in 0..2 {
            inactive(&app, &one.number, "superseded", Some(&two.number)).await;
        }
        assert_eq!((seen().await, told_of_numbers(&app).await), ((2, 2), 2));
        assert!(app.verify().is_whole());
    }

    async fn a_chain_that_is_undone_in_its_middle_falls_into_two(backend) {
        let app = TestApp::start(backend).await;
        let chain = [child(1), child(2), child(3)];
        for (one, authority) in chain.iter().zip(["Z9A", "Z9B", "Z9C"]) {
            app.on_record(one, &[(authority, CPP, "2026-09-14", None)]).await;
        }
        inactive(&app, &chain[0].number, "superseded", Some(&chain[1].number)).await;
        inactive(&app, &chain[1].number, "superseded", Some(&chain[2].number)).await;
        let seen = async || {
            let mut totals = Vec::new();
            for one in &chain {
                totals.push(app.clinician().get(&one.care_team()).await.total());
            }
            totals
        };
        assert_eq!(seen().await, [3, 3, 3]);

        unmerged(&app, &chain[1]).await;
        assert_eq!(seen().await, [2, 2, 1]);
        assert_eq!(app.number("select count(*) as n from alias"), 1);

        inactive(&app, &chain[1].number, "superseded", Some(&chain[2].number)).await;
        assert_eq!(seen().await, [3, 3, 3]);
        unmerged(&app, &chain[0]).await;
        assert_eq!(seen().await, [1, 2, 2]);
    }
}

/// Two numbers of two authorities that are one for a while, and a child that was seen by the second meanwhile.
async fn seen_while_merged(backend: Backend) -> (TestApp, Receiver, String) {
    let (app, hook) = (TestApp::start(backend).await, Receiver::start());
    for (one, authority) in [(old(), "Z9A"), (new(), "Z9B")] {
        app.on_record(&one, &[(authority, CPP, "2026-09-14", None)]).await;
    }
    let reply = app.authority("Z9A").post("/Subscription", &wanted(&app, &format!("{}/Z9A", hook.base))).await;
    let subscription = reply.json["id"].as_str().unwrap().to_owned();
    pump(&app).await;
    inactive(&app, &old().number, "superseded", Some(&new().number)).await;
    assert_eq!(app.clinician().get(&new().care_team()).await.total(), 2);
    let own = app.authority("Z9A").get(&format!("/AuditEvent?patient={}", new().nhs())).await;
    assert_eq!(own.total(), 1, "{}", own.text);
    (app, hook, subscription)
}

on_both_stores! {
    /// The authority of the child that was adopted is not told where the child is seen under its new number.
    async fn what_was_seen_while_two_numbers_were_one_is_told_to_whom_it_concerns(backend) {
        let (app, hook, subscription) = seen_while_merged(backend).await;
        let access = app.authority("Z9A").get(&format!("/AuditEvent?patient={}", new().nhs())).await;
        let access = access.resources("AuditEvent")[0]["id"].as_str().unwrap().to_owned();
        inactive(&app, &old().number, "retired", None).await;

        pump(&app).await;

        assert!(hook.events("/Z9A").is_empty(), "{:?}", hook.events("/Z9A"));
        for path in [
            format!("/AuditEvent?patient={}", new().nhs()), format!("/AuditEvent?patient={}", old().nhs()),
            format!("/AuditEvent/{access}"), format!("/Subscription/{subscription}/$events"),
        ] {
            let reply = app.authority("Z9A").get(&path).await;
            assert!(!reply.text.contains("555000000101") && !reply.text.contains("[{\"agent\""), "{path}: {}", reply.text);
            assert!(reply.resources("AuditEvent").is_empty(), "{path}: {}", reply.text);
        }
        let own = app.authority("Z9B").get(&format!("/AuditEvent?patient={}", new().nhs())).await;
        assert_eq!(own.total(), 1, "{}", own.text);
        assert!(app.verify().is_whole());
    }

    /// Of a merge that was undone the same holds, until it is made again: then what waited is told.
    async fn what_was_seen_while_a_merge_stood_waits_until_it_stands_again(backend) {
        let (app, hook, _) = seen_while_merged(backend).await;
        unmerged(&app, &old()).await;
        pump(&app).await;
        assert!(hook.events("/Z9A").is_empty(), "{:?}", hook.events("/Z9A"));

        inactive(&app, &old().number, "superseded", Some(&new().number)).await;
        pump(&app).await;

        assert_eq!(hook.numbers("/Z9A"), [1]);
    }
}
