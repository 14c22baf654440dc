//! Organisations as an administrator registers them (design 3): any kind, audited, and nothing of what decides on secrecy
//! lost by a client that doesn't know of it.

use serde_json::{Value, json};

use crate::harness::{CPP, Reply, TestApp, child, on_both_stores, upload::with};

const GENERAL: &str = "http://terminology.hl7.org/CodeSystem/organization-type";

/// An organisation with these types: codes of R4's system, or of the gateway's own when they begin with a plus sign.
fn organization(app: &TestApp, ods: &str, types: &[&str]) -> Value {
    let coded = types.iter().map(|code| match code.strip_prefix('+') {
        Some(own) => json!({"coding": [{"system": format!("{}/CodeSystem/cpis-organization", app.base), "code": own}]}),
        None => json!({"coding": [{"system": GENERAL, "code": code}]}),
    });
    let organization = json!({
        "resourceType": "Organization", "id": ods, "name": format!("ORGANISATION {ods}"),
        "identifier": [{"system": "https://fhir.nhs.uk/Id/ods-organization-code", "value": ods}],
    });
    if types.is_empty() { organization } else { with(organization, "/type", coded.collect()) }
}

fn with_phone(organization: Value) -> Value {
    with(organization, "/telecom", json!([{"system": "phone", "value": "01632960999", "use": "mobile"}]))
}

/// The gateway's own codes of an organisation.
fn own_codes(reply: &Reply) -> Vec<String> {
    let types = reply.json["type"].as_array().cloned().unwrap_or_default();
    let codings = types.iter().flat_map(|kind| kind["coding"].as_array().cloned().unwrap_or_default());
    let own = codings.filter(|coding| coding["system"] != GENERAL);
    own.map(|coding| coding["code"].as_str().unwrap_or_default().to_owned()).collect()
}

on_both_stores! {
    async fn an_administrator_registers_organisations_of_every_kind(backend) {
        let app = TestApp::start(backend).await;
        for (ods, types, phone, codes) in [
            ("ZX1", &["govt"][..], true, &["local-authority"][..]),
            ("ZX2", &["prov", "+unscheduled"], false, &["care-provider", "unscheduled"]),
            ("ZX3", &["prov", "+scheduled", "+sensitive"], false, &["care-provider", "scheduled", "sensitive"]),
            ("ZX4", &["govt", "+oversight"], false, &["oversight"]),
        ] {
            let body = organization(&app, ods, types);
            let body = if phone { with_phone(body) } else { body };
            let created = app.administrator().post("/Organization", &body).await;
            assert_eq!((created.status, created.header("etag")), (201, "W/\"1\""), "{ods}: {}", created.text);
            assert!(created.header("location").ends_with(&format!("/Organization/{ods}/_history/1")));
            assert_eq!(own_codes(&created), codes, "{ods}");
            let public = app.clinician().get(&format!("/Organization/{ods}")).await;
            assert_eq!((public.status, own_codes(&public)), (200, Vec::new()), "{}", public.text);
            let read = app.administrator().get(&format!("/Organization/{ods}")).await;
            assert_eq!(read.json, created.json);
            // What was read may be sent back.
            let same = app.administrator().put(&format!("/Organization/{ods}"), &read.json).await;
            assert_eq!((same.status, same.header("etag")), (200, "W/\"1\""), "{}", same.text);
            app.administrator().post("/Organization", &body).await.assert_refused(409, "conflict", "RESOURCE_VERSION_MISMATCH");
        }
        let fresh = app.administrator().header("If-None-Match", "*").put("/Organization/ZX5", &organization(&app, "ZX5", &["prov", "+unscheduled"])).await;
        assert_eq!(fresh.status, 201, "{}", fresh.text);
        let whole = with(organization(&app, "ZX501", &["prov", "+unscheduled"]), "/partOf", json!({"reference": "Organization/ZX5"}));
        let site = app.administrator().post("/Organization", &whole).await;
        assert_eq!((site.status, &site.json["partOf"]["reference"]), (201, &json!("Organization/ZX5")), "{}", site.text);
        let found = app.auditor().get("/AuditEvent?_count=200").await;
        let written: Vec<Value> = found.resources("AuditEvent").into_iter()
            .filter(|event| event["subtype"][0]["code"] == "create" && event["outcome"] == "0").collect();
        assert_eq!(written.len(), 6, "each in the audit");
    }

    async fn an_administrator_replaces_an_organisation(backend) {
        let app = TestApp::start(backend).await;
        let administrator = || app.administrator();
        let first = organization(&app, "ZX2", &["prov", "+scheduled", "+sensitive"]);
        assert_eq!(administrator().put("/Organization/ZX2", &first).await.status, 201);
        let put = |body: Value| administrator().put("/Organization/ZX2", &body);

        // Without the gateway's codes what they say stays; with them they say all.
        let renamed = put(with(organization(&app, "ZX2", &["prov"]), "/name", json!("RENAMED"))).await;
        assert_eq!((renamed.status, renamed.header("etag"), &renamed.json["name"]), (200, "W/\"2\"", &json!("RENAMED")), "{}", renamed.text);
        assert_eq!(own_codes(&renamed), ["care-provider", "scheduled", "sensitive"]);
        let opened = put(organization(&app, "ZX2", &["prov", "+unscheduled"])).await;
        assert_eq!((own_codes(&opened), opened.header("etag")), (vec!["care-provider".to_owned(), "unscheduled".to_owned()], "W/\"3\""));
        let closed = put(with(organization(&app, "ZX2", &["prov"]), "/active", json!(false))).await;
        assert_eq!((&closed.json["active"], closed.header("etag")), (&json!(false), "W/\"4\""), "{}", closed.text);
        let still = put(organization(&app, "ZX2", &["prov"])).await;
        assert_eq!((&still.json["active"], still.header("etag")), (&json!(false), "W/\"4\""), "{}", still.text);

        let stale = administrator().header("If-Match", "W/\"1\"").put("/Organization/ZX2", &first).await;
        stale.assert_refused(412, "conflict", "RESOURCE_VERSION_MISMATCH");
        let exists = administrator().header("If-None-Match", "*").put("/Organization/ZX2", &first).await;
        exists.assert_refused(412, "conflict", "RESOURCE_VERSION_MISMATCH");
        let absent = administrator().header("If-Match", "*").put("/Organization/ZX9", &organization(&app, "ZX9", &["prov", "+scheduled"])).await;
        absent.assert_refused(412, "conflict", "RESOURCE_VERSION_MISMATCH");
        let minimal = administrator().header("Prefer", "return=minimal").put("/Organization/ZX2", &first).await;
        assert_eq!((minimal.status, minimal.text.as_str(), minimal.header("etag")), (200, "", "W/\"5\""));
    }

    async fn what_can_not_be_registered(backend) {
        let app = TestApp::start(backend).await;
        let before = app.auditor().get("/Organization?_count=1").await.total();
        let provider = || organization(&app, "ZX2", &["prov", "+scheduled"]);
        for (body, status, at) in [
            (organization(&app, "ZX2", &[]), 422, "Organization.telecom"),
            (organization(&app, "ZX2", &["govt"]), 422, "Organization.telecom"),
            (with_phone(organization(&app, "ZX2", &["edu"])), 422, "Organization.type"),
            (organization(&app, "ZX2", &["prov"]), 422, "Organization.type"),
            (with_phone(organization(&app, "ZX2", &["govt", "+sensitive"])), 422, "Organization.type"),
            (organization(&app, "ZX2", &["prov", "+local-authority", "+scheduled"]), 422, "Organization.type"),
            (organization(&app, "ZX2", &["prov", "+scheduled", "+unscheduled"]), 422, "Organization.type"),
            (organization(&app, "ZX2", &["prov", "+scheduled", "+other"]), 422, "Organization.type"),
            (with(provider(), "/partOf", json!({"reference": "Organization/ZX3"})), 422, "Organization.partOf"),
            (with(provider(), "/partOf", json!({"reference": "Organization/ZX2"})), 422, "Organization.partOf"),
            (with(provider(), "/partOf", json!({"display": "Somewhere"})), 422, "Organization.partOf"),
            (with(provider(), "/active", json!(false)), 422, "Organization.active"),
            (with(provider(), "/active", json!("no")), 400, "Organization.active"),
            (with(provider(), "/identifier/0/value", json!("zx2")), 422, "Organization.identifier[0].value"),
        ] {
            let reply = app.administrator().post("/Organization", &body).await;
            assert_eq!(reply.status, status, "{body}: {}", reply.text);
            let places: Vec<&str> = reply.json["issue"].as_array().unwrap().iter().filter_map(|issue| issue["expression"][0].as_str()).collect();
            assert!(places.contains(&at), "{body}: {}", reply.text);
        }
        let unlike = app.administrator().put("/Organization/ZX3", &with(provider(), "/id", json!("ZX3"))).await;
        assert!(matches!(unlike.status, 400 | 422), "{}", unlike.text);
        let kind = app.administrator().put("/Organization/Z9A", &organization(&app, "Z9A", &["prov", "+scheduled"])).await;
        assert_eq!((kind.status, &kind.json["issue"][0]["expression"]), (422, &json!(["Organization.type"])), "{}", kind.text);
        let conditional = app.administrator().header("If-None-Exist", "identifier=ZX2").post("/Organization", &provider()).await;
        conditional.assert_refused(400, "invalid", "PRECONDITION_FAILED");
        for caller in [app.clinician(), app.authority("Z9A"), app.auditor()] {
            caller.post("/Organization", &provider()).await.assert_refused(403, "forbidden", "ACCESS_DENIED");
            caller.put("/Organization/ZX2", &provider()).await.assert_refused(403, "forbidden", "ACCESS_DENIED");
        }
        assert_eq!(app.auditor().get("/Organization?_count=1").await.total(), before);
    }

    /// What an administrator says takes effect: the details of a sensitive organisation are withheld from then on.
    async fn a_sensitive_organisation_is_withheld_from_then_on(backend) {
        let app = TestApp::start(backend).await;
        let child = child(1);
        app.on_record(&child, &[("Z9A", CPP, "2026-09-14", None)]).await;
        let mut hospital = app.administrator().get("/Organization/ZZ101").await.json;
        let own = format!("{}/CodeSystem/cpis-organization", app.base);
        hospital["type"].as_array_mut().unwrap().push(json!({"coding": [{"system": own, "code": "sensitive"}]}));
        let reply = app.administrator().put("/Organization/ZZ101", &hospital).await;
        assert_eq!(reply.status, 200, "{}", reply.text);
        let history = app.clinician().get(&child.history()).await;
        assert!(history.text.contains("details withheld"), "{}", history.text);
    }
}
