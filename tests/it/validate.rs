//! `$validate`: what an upload would say, without one.

use serde_json::{Value, json};

use crate::{
    harness::{Backend, CPP, LAC, Reply, TestApp, bundle, child, on_both_stores},
    refusals::{events_of, request_id},
};

/// (expression, code) of each issue.
fn issues(reply: &Reply) -> Vec<(String, String)> {
    assert_eq!((reply.status, &reply.json["resourceType"]), (200, &json!("OperationOutcome")), "{}", reply.text);
    let issues = reply.json["issue"].as_array().expect("issues");
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    issues.iter().map(|issue| (text(&issue["expression"][0]), text(&issue["code"]))).collect()
}

fn assert_good(reply: &Reply) {
    assert_eq!(issues(reply), [(String::new(), "informational".to_owned())], "{}", reply.text);
    assert_eq!(reply.json["issue"][0]["severity"], "information");
}

fn assert_found(reply: &Reply, expected: &[(&str, &str)]) {
    let expected: Vec<(String, String)> =
        expected.iter().map(|(at, code)| ((*at).to_owned(), (*code).to_owned())).collect();
    assert_eq!(issues(reply), expected, "{}", reply.text);
}

fn wrapped(resource: &Value, more: &[Value]) -> Value {
    let mut parameters = vec![json!({"name": "resource", "resource": resource})];
    parameters.extend_from_slice(more);
    json!({"resourceType": "Parameters", "parameter": parameters})
}

on_both_stores! {
    async fn what_an_upload_would_take_is_good_and_stays_unstored(backend) {
        let app = TestApp::start(backend).await;
        let child = child(1);
        let flag = child.flag("Z9A", CPP, "2026-09-14", None);
        let entries = [child.put_patient(), child.post_flag("Z9A", CPP, "2026-09-14", None)];
        for (path, resource) in [
            ("/Flag/$validate", flag.clone()),
            ("/Flag/%24validate", flag.clone()),
            ("/Patient/$validate", child.patient()),
            ("/Bundle/$validate", bundle("batch", &entries)),
            ("/Bundle/$validate", bundle("transaction", &entries)),
        ] {
            for caller in [app.authority("Z9A"), app.clinician(), app.auditor(), app.administrator()] {
                assert_good(&caller.post(path, &resource).await);
                assert_good(&caller.post(path, &wrapped(&resource, &[])).await);
            }
        }
        assert_eq!(app.number("select count(*) as n from plan"), 0);
        assert_eq!(app.number("select count(*) as n from authority_child"), 0);
        assert_eq!(app.number("select count(*) as n from upload"), 0);
    }

    /// One event for each, which names neither the child nor what was sent; a refusal is audited too.
    async fn each_is_audited_without_the_body(backend) {
        let app = TestApp::start(backend).await;
        let child = child(1);
        let good = app.clinician().post("/Patient/$validate", &child.patient()).await;
        let wrong = app.clinician().post("/Patient/$validate", &json!({"resourceType": "Flag"})).await;
        assert_eq!(wrong.status, 400);
        for (reply, outcome) in [(good, "0"), (wrong, "4")] {
            let events = events_of(&app, &request_id(&reply)).await;
            assert_eq!(events.len(), 1);
            assert_eq!(events[0]["outcome"], outcome);
            let text = events[0].to_string();
            assert!(!text.contains(child.nhs()) && !text.contains(child.family), "{text}");
        }
        assert_eq!(app.audit_of(child.nhs()).await.len(), 0);
    }

    /// The answer is the same whether or not anybody holds the child.
    async fn nothing_is_looked_up(backend) {
        let app = TestApp::start(backend).await;
        let child = child(1);
        let resource = child.flag("Z9A", CPP, "2026-10-01", None);
        let before = app.clinician().post("/Flag/$validate", &resource).await;
        app.on_record(&child, &[("Z9A", CPP, "2026-09-14", None)]).await;
        assert_eq!(app.clinician().post("/Flag/$validate", &resource).await.json, before.json);
        assert_eq!(app.authority("Z9B").post("/Patient/$validate", &child.patient()).await.status, 200);
        let history = app.clinician().get(&child.history()).await;
        assert_eq!(history.total(), 1, "only the history's own request: {}", history.text);
    }
}

#[actix_web::test]
async fn all_that_is_wrong_is_told_at_once() {
    let app = TestApp::start(Backend::Sqlite).await;
    let child = child(1);
    let mut flag = child.flag("Z9B", CPP, "2026-12-24", None);
    flag["identifier"] = json!([{"value": "a"}, {"value": "b"}]);
    flag["code"]["coding"][0]["code"] = json!("1");
    let reply = app.authority("Z9A").post("/Flag/$validate", &flag).await;
    let found = issues(&reply);
    for at in ["Flag.identifier", "Flag.code.coding[0].code", "Flag.author"] {
        assert!(found.iter().any(|(expression, _)| expression == at), "{at}: {}", reply.text);
    }
    assert!(reply.record_codes().iter().all(|code| code == "CPR07"), "{}", reply.text);
    assert!(!reply.text.contains(child.nhs()), "{}", reply.text);

    let mut structure = child.flag("Z9A", CPP, "2026-09-14", None);
    structure["status"] = json!("on");
    structure["colour"] = json!("red");
    let reply = app.clinician().post("/Flag/$validate", &structure).await;
    let mut found = issues(&reply);
    found.sort();
    let expected = [("Flag.colour", "structure"), ("Flag.status", "code-invalid")];
    assert_eq!(found, expected.map(|(at, code)| (at.to_owned(), code.to_owned())), "{}", reply.text);
}

/// The rules about dates need no record; which plan is meant, and who the number is, do.
#[actix_web::test]
async fn the_rules_that_need_no_record_are_applied() {
    let app = TestApp::start(Backend::Sqlite).await;
    let child = child(1);
    let authority = app.authority("Z9A");
    let future = child.flag("Z9A", CPP, "2026-11-24", None);
    assert_found(&authority.post("/Flag/$validate", &future).await, &[("Flag.period.start", "business-rule")]);
    let old = child.flag("Z9A", CPP, "2020-01-01", Some("2025-11-22"));
    assert_found(&authority.post("/Flag/$validate", &old).await, &[("Flag.period.end", "business-rule")]);
    let today = child.flag("Z9A", CPP, "2026-11-23", None);
    assert_good(&authority.post("/Flag/$validate", &today).await);

    // The birth date of the same record counts.
    let mut grown = child.put_patient();
    grown["resource"]["birthDate"] = json!("2005-01-01");
    let entries =
        [grown, child.post_flag("Z9A", LAC, "2026-09-14", None), child.post_flag("Z9A", LAC, "2026-09-15", None)];
    let reply = authority.post("/Bundle/$validate", &bundle("batch", &entries)).await;
    let found = issues(&reply);
    for at in
        ["Bundle.entry[1].resource.period.start", "Bundle.entry[1].resource.code", "Bundle.entry[2].resource.code"]
    {
        assert!(found.iter().any(|(expression, _)| expression == at), "{at}: {}", reply.text);
    }
    let by_upload = authority.post("", &bundle("transaction", &entries)).await;
    assert_eq!(by_upload.status, 422, "{}", by_upload.text);
}

/// Every issue that a refused transaction has for what was sent, `$validate` has too.
#[actix_web::test]
async fn a_bundle_is_judged_as_its_upload() {
    let app = TestApp::start(Backend::Sqlite).await;
    let child = child(1);
    let mut patient = child.put_patient();
    patient["resource"]["birthDate"] = json!("2017");
    let mut flag = child.post_flag("Z9A", CPP, "2026-09-14", None);
    flag["resource"]["subject"] = json!({"reference": "Patient/9990000019"});
    let entries = [patient, flag, json!({"request": {"method": "GET", "url": "Flag"}})];
    let sent = bundle("transaction", &entries);
    let upload = app.authority("Z9A").post("", &sent).await;
    assert!(matches!(upload.status, 400 | 422), "{}", upload.text);
    let judged = app.authority("Z9A").post("/Bundle/$validate", &sent).await;
    assert_eq!(judged.status, 200);
    assert_eq!(judged.json["issue"], upload.json["issue"]);
    assert!(judged.json["issue"].as_array().is_some_and(|issues| issues.len() >= 3), "{}", judged.text);

    let envelope = json!({"resourceType": "Bundle", "type": "batch", "entry": [{"resource": child.patient()}]});
    let upload = app.authority("Z9A").post("", &envelope).await;
    let judged = app.authority("Z9A").post("/Bundle/$validate", &envelope).await;
    assert_eq!((upload.status, judged.status), (400, 200));
    let at = |reply: &Reply| reply.json["issue"][0]["expression"].clone();
    assert_eq!(at(&judged), at(&upload));
    let searchset = json!({"resourceType": "Bundle", "type": "searchset", "total": 0});
    assert_good(&app.clinician().post("/Bundle/$validate", &searchset).await);
    let request = json!({"resourceType": "Bundle", "type": "searchset",
        "entry": [{"resource": child.patient(), "request": {"method": "GET", "url": "Patient"}}]});
    assert_ne!(issues(&app.clinician().post("/Bundle/$validate", &request).await)[0].1, "informational");
}

/// What the gateway answers is good by its own measure.
#[actix_web::test]
async fn what_is_answered_is_valid() {
    let app = TestApp::start(Backend::Sqlite).await;
    let child = child(1);
    app.on_record(&child, &[("Z9A", CPP, "2026-09-14", None)]).await;
    let all = app.clinician().get(&format!("/Patient/{}/$everything", child.nhs())).await;
    assert_good(&app.clinician().post("/Bundle/$validate", &all.json).await);
    for kind in ["CarePlan", "CareTeam", "Flag", "AuditEvent", "PractitionerRole", "Organization"] {
        let resource = all.resources(kind).into_iter().next().expect("one of each");
        let validated = app.clinician().post(&format!("/{kind}/$validate"), &resource).await;
        assert_good(&validated);
        let outcome = app.clinician().post("/OperationOutcome/$validate", &validated.json).await;
        assert_good(&outcome);
    }
    let refused = app.clinician().get("/CareTeam").await;
    assert_good(&app.clinician().post("/OperationOutcome/$validate", &refused.json).await);
}

#[actix_web::test]
async fn the_profile_says_what_is_judged() {
    let app = TestApp::start(Backend::Sqlite).await;
    let child = child(1);
    let mut flag = child.flag("Z9A", CPP, "2026-09-14", None);
    flag["code"]["coding"][0]["code"] = json!("1");
    let (base, own) =
        ("http://hl7.org/fhir/StructureDefinition/Flag", format!("{}/StructureDefinition/cpis-flag", app.base));
    let authority = app.authority("Z9A");
    assert_good(&authority.post(&format!("/Flag/$validate?profile={base}"), &flag).await);
    assert_good(&authority.post(&format!("/Flag/$validate?profile={base}%7C4.0.1"), &flag).await);
    for kind in ["valueUri", "valueCanonical"] {
        assert_good(
            &authority.post("/Flag/$validate", &wrapped(&flag, &[json!({"name": "profile", kind: base})])).await,
        );
    }
    let by_own = authority.post(&format!("/Flag/$validate?profile={own}"), &flag).await;
    assert_found(&by_own, &[("Flag.code.coding[0].code", "business-rule")]);
    assert_eq!(by_own.json, authority.post("/Flag/$validate", &flag).await.json);
    for other in [
        "http://hl7.org/fhir/StructureDefinition/Patient".to_owned(),
        format!("{base}%7C5.0.0"),
        format!("{}/StructureDefinition/cpis-patient", app.base),
        "https://fhir.nhs.uk/England/StructureDefinition/England-Flag-PatientFlag".to_owned(),
        String::new(),
    ] {
        let reply = authority.post(&format!("/Flag/$validate?profile={other}"), &flag).await;
        reply.assert_refused(400, "not-supported", "INVALID_VALUE");
        assert!(reply.text.contains(&own), "it says which there are: {}", reply.text);
    }
}

#[actix_web::test]
async fn the_mode_says_for_what() {
    let app = TestApp::start(Backend::Sqlite).await;
    let child = child(1);
    let authority = app.authority("Z9A");
    let flag = child.flag("Z9A", CPP, "2026-09-14", None);
    for mode in ["create", "profile"] {
        assert_good(&authority.post(&format!("/Flag/$validate?mode={mode}"), &flag).await);
        assert_good(
            &authority.post("/Flag/$validate", &wrapped(&flag, &[json!({"name": "mode", "valueCode": mode})])).await,
        );
    }
    assert_found(&authority.post("/Flag/$validate?mode=update", &flag).await, &[("Flag.id", "invariant")]);
    let mut update = flag.clone();
    update["id"] = json!("0190a5c2-0000-7000-8000-000000000001");
    assert_good(&authority.post("/Flag/$validate?mode=update", &update).await);
    assert_good(&authority.post("/Flag/0190a5c2-0000-7000-8000-000000000001/$validate", &update).await);
    let other = authority.post("/Flag/0190a5c2-0000-7000-8000-000000000002/$validate", &update).await;
    assert_found(&other, &[("Flag.id", "invariant")]);
    let path = format!("/Patient/{}/$validate", child.nhs());
    assert_good(&authority.post(&path, &child.patient()).await);
    assert_eq!(app.audit_of(child.nhs()).await.len(), 1, "the path names the child");
    let mut without_id = child.patient();
    without_id.as_object_mut().expect("an object").remove("id");
    assert_good(&authority.post("/Patient/$validate", &without_id).await);
    assert_found(&authority.post(&path, &without_id).await, &[("Patient.id", "invariant")]);

    let no_create = authority.post("/Patient/$validate?mode=create", &child.patient()).await;
    assert_found(&no_create, &[("Patient", "not-supported")]);
    let outcome =
        json!({"resourceType": "OperationOutcome", "id": "1", "issue": [{"severity": "error", "code": "login"}]});
    assert_found(
        &authority.post("/OperationOutcome/$validate?mode=update", &outcome).await,
        &[("OperationOutcome", "not-supported")],
    );
    authority.post("/Flag/$validate?mode=delete", &flag).await.assert_refused(400, "not-supported", "INVALID_VALUE");
    for wrong in [
        "/Flag/$validate?mode=patch",
        "/Flag/$validate?mode=",
        "/Flag/x/$validate?mode=create",
        "/Flag/$validate?mode=create&mode=create",
    ] {
        authority.post(wrong, &flag).await.assert_refused(400, "value", "INVALID_VALUE");
    }
}

#[actix_web::test]
async fn the_own_details_of_an_authority_are_judged() {
    let app = TestApp::start(Backend::Sqlite).await;
    let own = crate::harness::authority("Z9A", "WESTMARCH COUNTY COUNCIL", "01632 960999");
    assert_good(&app.authority("Z9A").post("/Organization/$validate", &own).await);
    assert_good(&app.administrator().post("/Organization/$validate", &own).await);
    let foreign = app.authority("Z9B").post("/Organization/$validate", &own).await;
    assert_found(&foreign, &[("Organization", "business-rule")]);
    let mut silent = own.clone();
    silent["telecom"] = json!([{"system": "phone", "value": "01632 960100", "use": "work"}]);
    for caller in [app.authority("Z9A"), app.clinician()] {
        assert_found(
            &caller.post("/Organization/$validate", &silent).await,
            &[("Organization.telecom", "business-rule")],
        );
    }
    let subscription = json!({
        "resourceType": "Subscription", "status": "requested", "reason": "Duty team",
        "criteria": format!("{}/SubscriptionTopic/cpis-access", app.base),
        "channel": {"type": "rest-hook", "endpoint": "http://127.0.0.1:9/hook", "payload": "application/fhir+json",
            "_payload": {"extension": [{
                "url": "http://hl7.org/fhir/uv/subscriptions-backport/StructureDefinition/backport-payload-content",
                "valueCode": "full-resource"}]}},
    });
    assert_good(&app.authority("Z9A").post("/Subscription/$validate", &subscription).await);
    let mut wrong = subscription.clone();
    wrong["criteria"] = json!(format!("{}/SubscriptionTopic/other", app.base));
    wrong["status"] = json!("error");
    let reply = app.authority("Z9A").post("/Subscription/$validate", &wrong).await;
    assert_found(&reply, &[("Subscription.status", "business-rule"), ("Subscription.criteria", "business-rule")]);
    assert_eq!(app.number("select count(*) as n from subscription"), 0);
}

#[actix_web::test]
async fn what_can_not_be_judged_is_refused() {
    let app = TestApp::start(Backend::Sqlite).await;
    let child = child(1);
    let flag = child.flag("Z9A", CPP, "2026-09-14", None);
    let parameter = |name: &str| json!({"name": name, "valueString": "x"});
    let authority = app.authority("Z9A");
    for body in [
        json!({}),
        json!([]),
        json!("Flag"),
        child.patient(),
        json!({"resourceType": "Parameters"}),
        json!({"resourceType": "Parameters", "parameter": [{"name": "mode", "valueCode": "create"}]}),
        json!({"resourceType": "Parameters", "parameter": [parameter("resource")]}),
        json!({"resourceType": "Parameters", "parameter": {"name": "resource", "resource": flag}}),
        wrapped(&child.patient(), &[]),
        wrapped(&flag, &[json!({"name": "resource", "resource": flag})]),
        wrapped(&flag, &[parameter("colour")]),
        wrapped(&flag, &[parameter("mode")]),
        wrapped(&flag, &[parameter("profile")]),
    ] {
        let reply = authority.post("/Flag/$validate", &body).await;
        assert_eq!(
            (reply.status, &reply.json["resourceType"]),
            (400, &json!("OperationOutcome")),
            "{body}: {}",
            reply.text
        );
        assert!(!reply.text.contains(child.nhs()), "{}", reply.text);
    }
    for text in ["", "{", "{\"resourceType\":\"Flag\",\"resourceType\":\"Flag\"}"] {
        let body = Some(("application/fhir+json", text.as_bytes().to_vec()));
        assert_eq!(authority.send("POST", "/Flag/$validate", body).await.status, 400, "{text}");
    }
    assert_eq!(app.anonymous().post("/Flag/$validate", &flag).await.status, 401);
    let get = authority.get("/Flag/$validate").await;
    assert_eq!((get.status, get.header("allow")), (405, "POST"));
    assert_eq!(authority.post("/Device/$validate", &json!({"resourceType": "Device"})).await.status, 404);
    // Parameters that are to be judged themselves, and those that hold such.
    let status = json!({"resourceType": "Parameters", "parameter": [parameter("colour")]});
    assert_good(&authority.post("/Parameters/$validate", &status).await);
    assert_good(&authority.post("/Parameters/$validate", &wrapped(&status, &[])).await);
}
