//! What the server publishes of itself: code systems, value sets, profiles, search parameters, operations.

use serde_json::{Value, json};

use crate::harness::{Backend, CPP, TestApp, child, on_both_stores};

const TYPES: [&str; 5] = ["CodeSystem", "OperationDefinition", "SearchParameter", "StructureDefinition", "ValueSet"];

async fn started() -> TestApp {
    TestApp::start(Backend::Sqlite).await
}

fn urls(resources: &[Value]) -> Vec<&str> {
    resources.iter().map(|resource| resource["url"].as_str().expect("a url")).collect()
}

#[actix_web::test]
async fn each_is_listed_and_read_by_anybody() {
    let app = started().await;
    for kind in TYPES {
        let all = app.anonymous().get(&format!("/{kind}")).await;
        assert_eq!((all.status, &all.json["type"]), (200, &json!("searchset")), "{}", all.text);
        let found = all.resources(kind);
        assert_eq!(all.total(), i64::try_from(found.len()).expect("a number"));
        assert_eq!(all.json["link"][0]["url"], Value::from(format!("{}/{kind}", app.base)));
        for resource in &found {
            let id = resource["id"].as_str().expect("an id");
            let read = app.anonymous().get(&format!("/{kind}/{id}")).await;
            assert_eq!((read.status, &read.json), (200, resource), "{kind}/{id}");
            assert_eq!(read.header("content-type"), "application/fhir+json");
            let national = resource["content"] == "fragment";
            let canonical = resource["url"].as_str().expect("a url");
            // What is ours is found under its own canonical.
            assert_eq!(canonical == format!("{}/{kind}/{id}", app.base), !national, "{canonical}");
            let by_url = app.anonymous().get(&format!("/{kind}?url={canonical}")).await;
            assert_eq!(urls(&by_url.resources(kind)), [canonical]);
        }
        let by_form = app.anonymous().form(&format!("/{kind}/_search"), "").await;
        assert_eq!(by_form.resources(kind), found, "{}", by_form.text);
        let signed_in = app.auditor().get(&format!("/{kind}")).await;
        assert_eq!(signed_in.resources(kind), found);
    }
    let missing = app.anonymous().get("/CodeSystem/cpis-plan-type").await;
    missing.assert_refused(404, "not-found", "RESOURCE_NOT_FOUND");
    // The path is open, so what it takes is told to anybody.
    app.anonymous().delete("/CodeSystem/cpis-audit-detail").await.assert_refused(405, "not-supported", "INVALID_VALUE");
    let refused = app.administrator().delete("/CodeSystem/cpis-audit-detail").await;
    assert_eq!((refused.status, refused.header("allow")), (405, "GET, HEAD"));
}

#[actix_web::test]
async fn they_are_searched() {
    let app = started().await;
    for (query, ids) in [
        ("ValueSet?_id=cpis-plan-type", vec!["cpis-plan-type"]),
        ("ValueSet?_id=cpis-plan-type,cpis-flag-code", vec!["cpis-flag-code", "cpis-plan-type"]),
        ("ValueSet?name=cpisFLAG", vec!["cpis-flag-category", "cpis-flag-code"]),
        ("ValueSet?name=Flag", vec![]),
        ("ValueSet?reference=http://snomed.info/sct", vec!["cpis-plan-type"]),
        ("ValueSet?_id=cpis-plan-type&name=CpisFlag", vec![]),
        ("CodeSystem?system=urn:oid:2.16.840.1.113883.2.1.3.2.4.17.473", vec!["cpis-upload-record-response"]),
        ("CodeSystem?version=2.0", vec!["cpis-upload-file-response"]),
        ("CodeSystem?status=retired", vec![]),
        (
            "CodeSystem?version=2.0&status=http://hl7.org/fhir/publication-status%7Cactive",
            vec!["cpis-upload-file-response"],
        ),
        ("StructureDefinition?type=CareTeam", vec!["cpis-shown-care-team"]),
        ("OperationDefinition?code=validate", vec!["cpis-validate"]),
        ("SearchParameter?base=Observation", vec![]),
        ("SearchParameter?base=Flag&code=status", vec!["Flag-status"]),
        ("ValueSet?name:contains=flag", vec!["cpis-flag-category", "cpis-flag-code"]),
        ("ValueSet?_id:not=cpis-plan-type&reference=http://snomed.info/sct", vec![]),
        ("SearchParameter?code=nothing", vec![]),
    ] {
        let reply = app.anonymous().get(&format!("/{query}")).await;
        let kind = query.split('?').next().expect("a type");
        let found = reply.resources(kind);
        let found: Vec<&str> = found.iter().map(|resource| resource["id"].as_str().expect("an id")).collect();
        assert_eq!((reply.status, found), (200, ids), "{query}: {}", reply.text);
        let form = query.split_once('?').expect("a query").1;
        assert_eq!(app.anonymous().form(&format!("/{kind}/_search"), form).await.json["entry"], reply.json["entry"]);
    }
    app.anonymous().get("/ValueSet?code=CPR01").await.assert_refused(400, "not-supported", "INVALID_VALUE");
    app.anonymous().get("/ValueSet?name:text=x").await.assert_refused(400, "not-supported", "INVALID_VALUE");
    app.anonymous().get("/ValueSet?name=").await.assert_refused(400, "value", "INVALID_VALUE");
    app.anonymous().post("/ValueSet/_search", &json!({})).await.assert_refused(415, "not-supported", "INVALID_VALUE");
    let accept = app.anonymous().header("Accept", "application/fhir+xml").get("/ValueSet").await;
    accept.assert_refused(406, "not-supported", "INVALID_VALUE");
}

#[actix_web::test]
async fn they_are_cached() {
    let app = started().await;
    for path in ["/ValueSet/cpis-plan-type", "/ValueSet?name=Cpis"] {
        let first = app.anonymous().get(path).await;
        assert_eq!((first.status, first.header("cache-control")), (200, "public, max-age=3600"), "{}", first.text);
        let etag = first.header("etag").to_owned();
        let again = app.anonymous().header("If-None-Match", &etag).get(path).await;
        assert_eq!((again.status, again.text.as_str(), again.header("etag")), (304, "", etag.as_str()));
        let other = app.anonymous().header("If-None-Match", &etag).get("/ValueSet/cpis-flag-code").await;
        assert_eq!(other.status, 200);
        let joined = if path.contains('?') { '&' } else { '?' };
        let pretty = app.anonymous().get(&format!("{path}{joined}_pretty=true")).await;
        assert!(pretty.text.contains("\n  "));
    }
    let missing = app.anonymous().header("If-None-Match", "*").get("/ValueSet/nothing").await;
    assert_eq!((missing.status, missing.header("cache-control")), (404, "no-store"));
}

#[actix_web::test]
async fn they_are_as_reviewed() {
    let app = started().await;
    let canonical = app.anonymous().get("/StructureDefinition/cpis-patient").await;
    insta::assert_json_snapshot!("structure_definition", canonical.settled());
    let responses = app.anonymous().get("/CodeSystem/cpis-upload-record-response").await;
    insta::assert_json_snapshot!("code_system", responses.settled());
    let operation = app.anonymous().get("/OperationDefinition/cpis-validate").await;
    insta::assert_json_snapshot!("operation_definition", operation.settled());
    let terminology = app.anonymous().get("/metadata?mode=terminology").await;
    insta::assert_json_snapshot!("terminology_capabilities", terminology.settled(), {
        ".version" => "[version]", ".software.version" => "[version]"
    });
}

/// What is published passes the server's own schemas, as far as there is one for its type.
#[actix_web::test]
async fn what_is_published_is_valid() {
    let app = started().await;
    let mut bundles = Vec::new();
    for kind in TYPES {
        bundles.push(app.anonymous().get(&format!("/{kind}")).await.json);
    }
    for mode in ["full", "normative", "terminology"] {
        let statement = app.anonymous().get(&format!("/metadata?mode={mode}")).await.json;
        let entry = json!({"fullUrl": format!("{}/metadata", app.base), "resource": statement});
        bundles.push(json!({"resourceType": "Bundle", "type": "collection", "entry": [entry]}));
    }
    for bundle in bundles {
        let judged = app.clinician().post("/Bundle/$validate", &bundle).await;
        assert_eq!(
            (judged.status, &judged.json["issue"][0]["severity"]),
            (200, &json!("information")),
            "{}",
            judged.text
        );
    }
}

/// An element of a differential that a resource of ours breaks: cardinality, fixed values, patterns of what is there.
/// Slices and constraints are left to a validator.
fn broken(profile: &Value, resource: &Value) -> Vec<String> {
    let elements = profile["differential"]["element"].as_array().expect("elements");
    let simple = elements.iter().filter(|element| !element["id"].as_str().expect("an id").contains(':'));
    let mut broken = Vec::new();
    for element in simple {
        let path = element["path"].as_str().expect("a path");
        let Some((_, below)) = path.split_once('.') else { continue };
        let steps: Vec<&str> = below.split('.').collect();
        let (last, parents) = steps.split_last().expect("a step");
        for parent in parents
            .iter()
            .fold(vec![resource.clone()], |found, step| found.iter().flat_map(|v| each(v, step)).collect())
        {
            let values = each(&parent, last);
            let min = usize::try_from(element["min"].as_u64().unwrap_or(0)).expect("a number");
            let max = element["max"].as_str().and_then(|max| max.parse().ok()).unwrap_or(usize::MAX);
            if !(min..=max).contains(&values.len()) {
                broken.push(format!("{path}: {} of them", values.len()));
            }
            for fixed in ["fixedUri", "fixedCode", "fixedBoolean"] {
                if !element[fixed].is_null() && values.iter().any(|value| *value != element[fixed]) {
                    broken.push(format!("{path}: another value"));
                }
            }
        }
    }
    broken
}

fn each(value: &Value, name: &str) -> Vec<Value> {
    match &value[name] {
        Value::Null => Vec::new(),
        Value::Array(items) => items.clone(),
        one => vec![one.clone()],
    }
}

on_both_stores! {
    /// The profiles of what clinicians get say what they get; and details of the audit are named in its code system.
    async fn what_is_answered_is_as_it_is_published(backend) {
        let app = TestApp::start(backend).await;
        let child = child(1);
        app.on_record(&child, &[("Z9A", CPP, "2026-09-14", None)]).await;
        let all = app.clinician().get(&format!("/Patient/{}/$everything", child.nhs())).await;
        let mut seen = 0;
        for profile in app.anonymous().get("/StructureDefinition").await.resources("StructureDefinition") {
            let id = profile["id"].as_str().expect("an id");
            if !id.starts_with("cpis-shown-") && !id.starts_with("cpis-access-") {
                continue;
            }
            let shown = all.resources(profile["type"].as_str().expect("a type"));
            assert!(!shown.is_empty(), "{id}: {}", all.text);
            for resource in shown {
                seen += 1;
                assert_eq!(broken(&profile, &resource), Vec::<String>::new(), "{id}: {resource}");
                let mut bare = resource.clone();
                for element in ["id", "subject", "entity", "organization"] {
                    bare.as_object_mut().expect("an object").remove(element);
                }
                assert!(!broken(&profile, &bare).is_empty(), "{id}: nothing is asked");
            }
        }
        assert_eq!(seen, 5);

        let system = app.anonymous().get("/CodeSystem/cpis-audit-detail").await.json;
        let codes: Vec<&str> =
            system["concept"].as_array().expect("concepts").iter().map(|c| c["code"].as_str().expect("a code")).collect();
        app.auditor().get("/Organization").await;
        let mut details = 0;
        for event in app.auditor().get("/AuditEvent?date=ge2026-01-01&_count=200").await.resources("AuditEvent") {
            for entity in event["entity"].as_array().into_iter().flatten() {
                for detail in entity["detail"].as_array().into_iter().flatten() {
                    details += 1;
                    assert!(codes.contains(&detail["type"].as_str().expect("a type")), "{detail}");
                }
            }
        }
        assert!(details > 5, "{details}");
    }
}

/// What shapes a result is known here as everywhere, and every page leads to the next.
#[actix_web::test]
async fn what_is_published_is_paged_sorted_and_cut() {
    let app = TestApp::start(Backend::Sqlite).await;
    let ids = |reply: &crate::harness::Reply| -> Vec<String> {
        let found = reply.resources("ValueSet");
        found.iter().map(|one| one["id"].as_str().expect("an id").to_owned()).collect()
    };
    let all = app.anonymous().get("/ValueSet?_sort=-name").await;
    let mut paged = Vec::new();
    let mut next = Some("/ValueSet?_sort=-name&_count=3".to_owned());
    while let Some(path) = next {
        let page = app.anonymous().get(&path).await;
        assert_eq!(page.total(), all.total(), "{}", page.text);
        paged.extend(ids(&page));
        next = page.next_page();
    }
    assert_eq!((paged.len() as i64, &paged), (all.total(), &ids(&all)));
    let counted = app.anonymous().get("/ValueSet?_summary=count").await;
    assert_eq!((counted.total(), counted.json.get("entry")), (all.total(), None));
    let part = app.anonymous().get(&format!("/ValueSet/{}?_summary=true", paged[0])).await;
    assert_eq!((part.json.get("compose"), &part.json["meta"]["tag"][0]["code"]), (None, &"SUBSETTED".into()));
    app.anonymous().get("/ValueSet?_elements=composed").await.assert_refused(400, "value", "INVALID_VALUE");
    app.anonymous().get("/ValueSet?_sort=compose").await.assert_refused(400, "not-supported", "INVALID_VALUE");
}
