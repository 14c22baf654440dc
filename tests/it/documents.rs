//! What the gateway says of itself: `/metadata`, `/openapi.json`, the page at `/docs`, `/_ping` and `/_status`.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::harness::{Backend, Reply, TestApp};

async fn started() -> TestApp {
    TestApp::start(Backend::Sqlite).await
}

/// (method, path below the base) of each FHIR route in the API description.
fn described(app: &TestApp, document: &Value) -> BTreeSet<(String, String)> {
    let base = app.settings().base_path.as_str();
    let paths = document["paths"].as_object().expect("paths");
    let below = paths.iter().filter_map(|(path, operations)| Some((path.strip_prefix(base)?, operations)));
    below
        .flat_map(|(path, operations)| {
            let operations = operations.as_object().expect("operations");
            operations.keys().map(move |method| (method.to_uppercase(), path.to_owned()))
        })
        .collect()
}

fn codes(of: &Value, list: &str, member: &str) -> BTreeSet<String> {
    let items = of[list].as_array().cloned().unwrap_or_default();
    items.iter().map(|item| item[member].as_str().unwrap_or_default().to_owned()).collect()
}

#[actix_web::test]
async fn the_api_description_is_as_reviewed() {
    let app = started().await;
    let reply = app.anonymous().get("//openapi.json").await;
    assert_eq!((reply.status, reply.header("content-type")), (200, "application/json"));
    // Schemas and examples come from files of their own, where a change is seen; here their names do.
    let mut document: Value =
        serde_json::from_str(&reply.text.replace(&app.root, "http://gateway")).expect("the description is JSON");
    for part in ["schemas", "examples"] {
        let names: Vec<String> = document["components"][part].as_object().expect("a part").keys().cloned().collect();
        document["components"][part] = json!(names);
    }
    for response in document["components"]["responses"].as_object_mut().expect("responses").values_mut() {
        let examples = &mut response["content"]["application/fhir+json"]["examples"];
        *examples = json!(examples.as_object().expect("examples").keys().collect::<Vec<_>>());
    }
    insta::assert_json_snapshot!("openapi", document, {
        ".info.version" => "[version]",
        ".paths[\"/_ping\"].get.responses[\"200\"].content[\"application/json\"].example" => "[release]",
        ".paths[\"/_status\"].get.responses.*.content[\"application/json\"].example" => "[release]",
    });
}

#[actix_web::test]
async fn the_api_description_is_consistent() {
    let app = started().await;
    let document = app.anonymous().get("//openapi.json").await.json;
    assert!(document["openapi"].as_str().is_some_and(|version| version.starts_with("3.")));
    let mut ids = BTreeSet::new();
    for (path, operations) in document["paths"].as_object().expect("paths") {
        for (method, operation) in operations.as_object().expect("operations") {
            assert!(operation["summary"].as_str().is_some_and(|text| text.len() > 5), "{method} {path}");
            let responses = operation["responses"].as_object().expect("responses");
            assert!(responses.keys().any(|status| status.starts_with('2')), "{method} {path}");
            let id = operation["operationId"].as_str().expect("an operationId").to_owned();
            assert!(id.bytes().all(|byte| byte.is_ascii_alphanumeric()), "{id}");
            assert!(ids.insert(id), "{method} {path}: its operationId is there twice");
            let tag = operation["tags"][0].as_str().expect("a tag");
            assert!(codes(&document, "tags", "name").contains(tag), "{method} {path}: {tag} is not described");
            let in_path = path.matches('{').count();
            let parameters = operation["parameters"].as_array().cloned().unwrap_or_default();
            assert_eq!(parameters.iter().filter(|p| p["in"] == "path").count(), in_path, "{method} {path}");
            let secured = operation["security"] == json!([{"bearer": []}]);
            assert_eq!(secured, responses.contains_key("401") && responses.contains_key("403"), "{method} {path}");
        }
    }
    let text = document.to_string();
    for reference in text.split("\"$ref\":\"#").skip(1) {
        let pointer = reference.split('"').next().expect("a pointer");
        assert!(document.pointer(pointer).is_some(), "{pointer} points nowhere");
    }
}

/// One table makes both documents: no route is missing in either.
#[actix_web::test]
async fn the_capability_statement_says_what_the_api_description_says() {
    let app = started().await;
    let document = app.anonymous().get("//openapi.json").await.json;
    let statement = app.anonymous().get("/metadata").await.json;
    let all = described(&app, &document);
    let mut stated: BTreeSet<(String, String)> = BTreeSet::new();
    let mut state = |method: &str, path: String| assert!(stated.insert((method.to_owned(), path)));
    for resource in statement["rest"][0]["resource"].as_array().expect("resources") {
        let name = resource["type"].as_str().expect("a type");
        for code in codes(resource, "interaction", "code") {
            match code.as_str() {
                "read" => state("GET", format!("/{name}/{{id}}")),
                "update" => state("PUT", format!("/{name}/{{id}}")),
                "delete" => state("DELETE", format!("/{name}/{{id}}")),
                "create" => state("POST", format!("/{name}")),
                "search-type" => {
                    state("GET", format!("/{name}"));
                    state("POST", format!("/{name}/_search"));
                }
                "vread" => state("GET", format!("/{name}/{{id}}/_history/{{vid}}")),
                "history-instance" => state("GET", format!("/{name}/{{id}}/_history")),
                "history-type" => state("GET", format!("/{name}/_history")),
                other => panic!("{name} {other}"),
            }
        }
        if resource["conditionalUpdate"] == true {
            state("PUT", format!("/{name}"));
        }
        if resource["conditionalDelete"] == "single" {
            state("DELETE", format!("/{name}"));
        }
        for operation in codes(resource, "operation", "name") {
            let ends = format!("/${operation}");
            let begins = format!("/{name}/");
            let of_it = all.iter().filter(|(_, path)| path.starts_with(&begins) && path.ends_with(&ends));
            assert!(of_it.clone().count() > 0, "{name} ${operation}");
            of_it.for_each(|(method, path)| state(method, path.clone()));
        }
    }
    for code in codes(&statement["rest"][0], "interaction", "code") {
        match code.as_str() {
            "batch" => state("POST", "/".to_owned()),
            "transaction" => {}
            other => panic!("{other}"),
        }
    }
    for operation in codes(&statement["rest"][0], "operation", "name") {
        let path = format!("/${operation}");
        let of_it = all.iter().filter(|(_, known)| *known == path);
        assert!(of_it.clone().count() > 0, "${operation}");
        of_it.for_each(|(method, path)| state(method, path.clone()));
    }
    // What belongs to the server, and what is no resource type of FHIR: said in rest.documentation.
    state("GET", "/metadata".to_owned());
    state("GET", "/PatientFlag".to_owned());
    state("POST", "/PatientFlag/_search".to_owned());
    state("GET", "/upload-status/{id}".to_owned());
    state("DELETE", "/upload-status/{id}".to_owned());
    for name in ["PatientFlag", "upload-status"] {
        assert!(statement["rest"][0]["documentation"].as_str().is_some_and(|text| text.contains(name)));
    }
    assert_eq!(stated, all);

    for resource in statement["rest"][0]["resource"].as_array().expect("resources") {
        let name = resource["type"].as_str().expect("a type");
        let described = &document["paths"][format!("{}/{name}", app.settings().base_path)]["get"]["parameters"];
        let described: BTreeSet<String> = described
            .as_array()
            .into_iter()
            .flatten()
            .filter(|p| p["in"] == "query")
            // A name may stand there a second time with a modifier, as the national API spells it.
            .map(|p| p["name"].as_str().expect("a name").split(':').next().unwrap_or_default().to_owned())
            .filter(|name| !name.starts_with('_') || name == "_id" || name == "_lastUpdated")
            .collect();
        assert_eq!(codes(resource, "searchParam", "name"), described, "{name}");
    }
}

/// What R4 asks of a `CapabilityStatement` (cardinalities, bindings, invariants cpb-1, 2, 3, 7, 8, 9, 12, 14, 15).
#[actix_web::test]
async fn the_capability_statement_is_valid() {
    let app = started().await;
    let reply = app.anonymous().get("/metadata").await;
    assert_eq!((reply.status, reply.header("content-type")), (200, "application/fhir+json"), "{}", reply.text);
    let statement = &reply.json;
    assert_eq!(statement["resourceType"], "CapabilityStatement");
    assert_eq!((&statement["status"], &statement["kind"]), (&json!("active"), &json!("instance")));
    assert_eq!(statement["fhirVersion"], "4.0.1");
    assert!(statement["date"].as_str().is_some_and(|date| date.len() >= 10));
    assert!(statement["implementation"]["description"].is_string(), "cpb-15: an instance describes itself");
    assert_eq!(statement["implementation"]["url"], Value::from(app.base.as_str()));
    assert_eq!(statement["software"]["name"], "cpis-gateway");
    assert_eq!(statement["format"], json!(["application/fhir+json", "application/json"]));
    let rest = statement["rest"].as_array().expect("rest");
    assert_eq!((rest.len(), &rest[0]["mode"]), (1, &json!("server")));
    let known: BTreeSet<&str> =
        ["read", "vread", "update", "patch", "delete", "history-instance", "history-type", "create", "search-type"]
            .into();
    let mut types = BTreeSet::new();
    for resource in rest[0]["resource"].as_array().expect("resources") {
        let name = resource["type"].as_str().expect("a type");
        assert!(types.insert(name.to_owned()), "cpb-9: {name} is there twice");
        let interactions = resource["interaction"].as_array().cloned().unwrap_or_default();
        assert!(!interactions.is_empty() || resource["operation"].is_array(), "{name}");
        assert_eq!(interactions.len(), codes(resource, "interaction", "code").len(), "{name}");
        assert!(codes(resource, "interaction", "code").iter().all(|code| known.contains(code.as_str())), "{name}");
        let parameters = resource["searchParam"].as_array().cloned().unwrap_or_default();
        assert_eq!(parameters.len(), codes(resource, "searchParam", "name").len(), "cpb-12: {name}");
        for parameter in &parameters {
            let kind = parameter["type"].as_str().expect("a type");
            assert!(
                ["number", "date", "string", "token", "reference", "composite", "quantity", "uri", "special"]
                    .contains(&kind)
            );
        }
        assert_eq!(resource["readHistory"], codes(resource, "interaction", "code").contains("vread"), "{name}");
        for operation in resource["operation"].as_array().into_iter().flatten() {
            assert!(operation["name"].is_string() && operation["definition"].is_string(), "{name}");
        }
        assert!(
            ["no-version", "versioned", "versioned-update"]
                .contains(&resource["versioning"].as_str().unwrap_or_default())
        );
    }
    let expected = [
        "AuditEvent",
        "Bundle",
        "CarePlan",
        "CareTeam",
        "CodeSystem",
        "Flag",
        "OperationDefinition",
        "OperationOutcome",
        "Organization",
        "Parameters",
        "Patient",
        "PractitionerRole",
        "Provenance",
        "SearchParameter",
        "StructureDefinition",
        "Subscription",
        "ValueSet",
    ];
    assert_eq!(types.iter().map(String::as_str).collect::<Vec<_>>(), expected);
    assert_no_empty(statement, "CapabilityStatement");
    assert!(reply.text.contains("SubscriptionTopic/cpis-access"), "{}", reply.text);
    let pretty = app.anonymous().get("/metadata?_pretty=true&_format=json").await;
    assert_eq!(pretty.json, *statement);
    assert!(pretty.text.contains("\n  "));
}

/// What R4 asks beyond the interactions: what is conditional, versioned, defined and secured, all of it as it is.
#[actix_web::test]
async fn the_capability_statement_is_complete() {
    let app = started().await;
    let statement = app.anonymous().get("/metadata").await.json;
    let rest = &statement["rest"][0];
    let of = |name: &str| {
        let resources = rest["resource"].as_array().expect("resources");
        resources.iter().find(|resource| resource["type"] == name).expect("the type").clone()
    };
    // An interaction by id is explained, not its conditional sibling.
    let flag = of("Flag");
    let mut interactions = flag["interaction"].as_array().expect("interactions").iter();
    let delete = interactions.find(|one| one["code"] == "delete").expect("delete");
    assert!(
        delete["documentation"].as_str().is_some_and(|text| text.starts_with("Takes away an own plan")),
        "{delete}"
    );
    for (name, element, value) in [
        ("Flag", "versioning", json!("versioned")),
        ("Flag", "conditionalCreate", json!(true)),
        ("Flag", "conditionalUpdate", json!(true)),
        ("Flag", "conditionalDelete", json!("single")),
        ("Flag", "conditionalRead", json!("full-support")),
        ("Flag", "readHistory", json!(true)),
        ("Flag", "updateCreate", json!(false)),
        ("Flag", "referencePolicy", json!(["literal", "logical"])),
        ("Patient", "updateCreate", json!(true)),
        ("Patient", "conditionalCreate", json!(false)),
        ("Organization", "conditionalRead", json!("full-support")),
        ("Organization", "updateCreate", json!(true)),
        ("CareTeam", "versioning", json!("no-version")),
        ("CareTeam", "conditionalRead", json!("not-supported")),
        ("CodeSystem", "conditionalRead", json!("not-match")),
        ("AuditEvent", "referencePolicy", json!(["literal", "logical"])),
        (
            "Flag",
            "searchInclude",
            json!(["Flag:patient", "Flag:subject", "Flag:author", "Flag:detail", "CarePlan:care-team"]),
        ),
        ("Flag", "searchRevInclude", json!(["AuditEvent:patient", "AuditEvent:entity"])),
    ] {
        assert_eq!(of(name)[element], value, "{name}.{element}");
    }
    let documentation = rest["documentation"].as_str().expect("documentation");
    assert!(
        documentation.contains("GET /PatientFlag: ") && documentation.contains("For: clinical."),
        "{documentation}"
    );
    for resource in rest["resource"].as_array().expect("resources") {
        for interaction in resource["interaction"].as_array().into_iter().flatten() {
            let told = interaction["documentation"].as_str().expect("documentation");
            assert!(told.contains("For: ") || told.contains("Without a token."), "{told}");
        }
        for parameter in resource["searchParam"].as_array().into_iter().flatten() {
            let definition = parameter["definition"].as_str().expect("a definition");
            let known = ["http://hl7.org/fhir/SearchParameter/", "https://fhir.nhs.uk/England/SearchParameter/"];
            let elsewhere = known.iter().any(|at| definition.starts_with(at));
            assert!(elsewhere || app.anonymous().get(definition).await.status == 200, "{definition}");
        }
        let profiles = resource["supportedProfile"].as_array().cloned().unwrap_or_default();
        let operations = resource["operation"].as_array().cloned().unwrap_or_default();
        for url in profiles.iter().chain(operations.iter().map(|operation| &operation["definition"])) {
            let url = url.as_str().expect("a canonical");
            let reply = app.anonymous().get(url).await;
            assert_eq!((reply.status, &reply.json["url"]), (200, &json!(url)), "{url}");
        }
    }
    let topics: Vec<String> = of("Subscription")["extension"]
        .as_array()
        .expect("topics")
        .iter()
        .map(|topic| topic["valueCanonical"].as_str().expect("a canonical").replace(&app.base, ""))
        .collect();
    let codes = app.anonymous().get("/CodeSystem/cpis-notification-topic").await.json;
    let published: Vec<String> = codes["concept"]
        .as_array()
        .expect("concepts")
        .iter()
        .map(|concept| format!("/SubscriptionTopic/{}", concept["code"].as_str().expect("a code")))
        .collect();
    assert_eq!(topics, published);
}

/// Only addresses that exist: the sandbox's token endpoint in the sandbox, the issuers' names elsewhere.
#[actix_web::test]
async fn the_capability_statement_names_no_address_that_is_not_there() {
    let app = started().await;
    let security = app.anonymous().get("/metadata").await.json["rest"][0]["security"].clone();
    assert_eq!(security["service"][0]["coding"][0]["code"], "OAuth");
    let uris = &security["extension"][0];
    assert_eq!(uris["url"], "http://fhir-registry.smarthealthit.org/StructureDefinition/oauth-uris");
    assert_eq!(uris["extension"], json!([{"url": "token", "valueUri": format!("{}/sandbox/token", app.root)}]));
    let endpoint = uris["extension"][0]["valueUri"].as_str().expect("an address");
    let token = app.anonymous().form(&format!("/{}", endpoint.replace(&app.root, "")), "role=auditor").await;
    assert_eq!(token.status, 200, "{}", token.text);

    let outside = TestApp::start_with(Backend::Sqlite, |settings| {
        settings.sandbox = false;
        let key = cpis_gateway::auth::checkpoint_key::PRIVATE_FILE;
        cpis_gateway::auth::checkpoint_key::CheckpointKey::generate_into(&settings.data_dir).expect("a signing key");
        settings.audit.signing_key = Some(settings.data_dir.join(key));
    })
    .await;
    let reply = outside.anonymous().get("/metadata").await;
    let security = &reply.json["rest"][0]["security"];
    assert!(security["extension"].is_null(), "{security}");
    assert!(!reply.text.contains("/sandbox/token"), "{security}");
}

#[actix_web::test]
async fn metadata_comes_in_three_modes() {
    let app = started().await;
    let full = app.anonymous().get("/metadata").await;
    assert_eq!(app.anonymous().get("/metadata?mode=full").await.json, full.json);
    let normative = app.anonymous().get("/metadata?mode=normative").await.json;
    let types = codes(&normative["rest"][0], "resource", "type");
    assert!(types.contains("Patient") && !types.contains("Flag"), "{types:?}");
    assert!(types.is_subset(&codes(&full.json["rest"][0], "resource", "type")));
    let terminology = app.anonymous().get("/metadata?mode=terminology").await.json;
    assert_eq!(
        (&terminology["resourceType"], &terminology["kind"]),
        (&json!("TerminologyCapabilities"), &json!("instance"))
    );
    assert_no_empty(&terminology, "TerminologyCapabilities");
    let published = app.anonymous().get("/CodeSystem").await.resources("CodeSystem");
    let published: BTreeSet<&str> = published.iter().map(|system| system["url"].as_str().expect("a url")).collect();
    let listed = codes(&terminology, "codeSystem", "uri");
    assert_eq!(listed.iter().map(String::as_str).collect::<BTreeSet<_>>(), published);
    for wrong in ["?mode=all", "?mode=", "?mode=full&mode=full"] {
        app.anonymous().get(&format!("/metadata{wrong}")).await.assert_refused(400, "value", "INVALID_VALUE");
    }
}

#[actix_web::test]
async fn metadata_is_cached() {
    let app = started().await;
    let first = app.anonymous().get("/metadata").await;
    let etag = first.header("etag").to_owned();
    assert!(etag.starts_with("W/\"") && etag.len() > 20, "{etag}");
    assert_eq!(first.header("cache-control"), "public, max-age=3600");
    for tags in [etag.clone(), format!("\"other\", {etag}"), etag.trim_start_matches("W/").to_owned(), "*".to_owned()] {
        let again = app.anonymous().header("If-None-Match", &tags).get("/metadata").await;
        assert_eq!((again.status, again.text.as_str(), again.header("etag")), (304, "", etag.as_str()), "{tags}");
        assert_eq!(again.header("cache-control"), "public, max-age=3600");
    }
    let other = app.anonymous().header("If-None-Match", "W/\"other\"").get("/metadata").await;
    assert_eq!((other.status, &other.text), (200, &first.text));
    let terminology = app.anonymous().header("If-None-Match", &etag).get("/metadata?mode=terminology").await;
    assert_eq!(terminology.status, 200);
    let signed_in = app.clinician().get("/metadata").await;
    assert_eq!((signed_in.status, &signed_in.text), (200, &first.text));
}

/// FHIR's JSON has neither null nor empty texts, lists and objects.
fn assert_no_empty(value: &Value, at: &str) {
    match value {
        Value::Null => panic!("{at} is null"),
        Value::String(text) => assert!(!text.trim().is_empty(), "{at} is empty"),
        Value::Array(items) => {
            assert!(!items.is_empty(), "{at} is empty");
            items.iter().enumerate().for_each(|(index, item)| assert_no_empty(item, &format!("{at}[{index}]")));
        }
        Value::Object(members) => {
            assert!(!members.is_empty(), "{at} is empty");
            members.iter().for_each(|(name, member)| assert_no_empty(member, &format!("{at}.{name}")));
        }
        Value::Bool(_) | Value::Number(_) => {}
    }
}

/// The addresses that an HTML page or a style sheet loads by itself.
fn loaded(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (before, after) in
        [("src=\"", '"'), ("href=\"", '"'), ("src='", '\''), ("href='", '\''), ("url(", ')'), ("@import \"", '"')]
    {
        for rest in text.split(before).skip(1) {
            found.push(rest.split(after).next().unwrap_or_default().trim_matches(['"', '\'']).to_owned());
        }
    }
    found
}

#[actix_web::test]
async fn the_page_comes_from_here_alone() {
    let app = started().await;
    let moved = app.client.get(format!("{}/docs", app.root)).send().await.expect("an answer");
    assert_eq!((moved.status().as_u16(), moved.url().path()), (200, "/docs/"), "the directory's page is shown");
    let page = app.anonymous().get("//docs/").await;
    assert_eq!(page.status, 200);
    assert!(page.header("content-type").starts_with("text/html"), "{}", page.header("content-type"));
    let files = loaded(&page.text);
    assert!(
        files.iter().any(|file| file.ends_with(".js")) && files.iter().any(|file| file.ends_with(".css")),
        "{files:?}"
    );
    for file in &files {
        let here = !file.contains("//") && !file.starts_with("data:");
        assert!(here, "{file} is from elsewhere");
        let reply = app.anonymous().get(&format!("//docs/{}", file.trim_start_matches("./"))).await;
        assert_eq!(reply.status, 200, "{file}");
        if file.ends_with(".css") {
            let styles = loaded(&reply.text);
            assert!(
                styles.iter().all(|address| address.starts_with("data:") || !address.contains("//")),
                "{file}: {styles:?}"
            );
        }
        assert_stays_here(&reply);
    }
    assert_stays_here(&page);
    let script = app.anonymous().get("//docs/swagger-initializer.js").await;
    assert!(script.text.contains("/openapi.json"), "{}", script.text);
    assert!(!script.text.contains("http://") && !script.text.contains("https://"), "{}", script.text);
    // Without this the page would show the description to a validator on the internet.
    assert!(script.text.contains("\"validatorUrl\": \"none\""), "{}", script.text);
}

/// The browser is told to load nothing from anywhere else, whatever a script asks for.
fn assert_stays_here(reply: &Reply) {
    let policy = reply.header("content-security-policy");
    assert!(policy.contains("default-src 'self'"), "{policy}");
    assert!(!policy.contains("http") && !policy.contains('*'), "{policy}");
}

/// What is published of the server itself.
const PUBLISHED: [&str; 5] =
    ["CodeSystem", "OperationDefinition", "SearchParameter", "StructureDefinition", "ValueSet"];

#[actix_web::test]
async fn only_what_tells_nothing_of_anybody_is_open() {
    let app = started().await;
    let document = app.anonymous().get("//openapi.json").await.json;
    for (method, path) in described(&app, &document) {
        let published = PUBLISHED.iter().find(|kind| path.starts_with(&format!("/{kind}")));
        let path = path.replace("{id}", "9990000018").replace("{vid}", "1");
        let form = path.ends_with("_search");
        let body = matches!(method.as_str(), "POST" | "PUT").then(|| match form {
            true => ("application/x-www-form-urlencoded", Vec::new()),
            false => ("application/fhir+json", b"{}".to_vec()),
        });
        let reply = app.anonymous().send(&method, &path, body).await;
        let expected = match published {
            Some(_) if path.ends_with("$validate") => 401,
            Some(_) if path.ends_with("9990000018") => 404,
            Some(_) => 200,
            None if path == "/metadata" => 200,
            None => 401,
        };
        assert_eq!(reply.status, expected, "{method} {path}: {}", reply.text);
    }
    for path in ["//_ping", "//_status", "//openapi.json", "//docs/"] {
        assert_eq!(app.anonymous().get(path).await.status, 200, "{path}");
    }
    for path in [
        "//metrics",
        "//.well-known/smart-configuration",
        "//admin",
        "//sandbox.json",
        "//docs/../Cargo.toml",
        "//docs/..%2fCargo.toml",
    ] {
        assert_eq!(app.anonymous().get(path).await.status, 404, "{path}");
    }
}

/// What is only read takes GET and HEAD; whatever is asked beside the FHIR base is answered by the same rules.
#[actix_web::test]
async fn beside_the_base_methods_and_addresses_are_refused_in_fhir() {
    let app = started().await;
    for path in ["//_ping", "//_status", "//openapi.json", "//docs/", "//docs/index.css", "//docs"] {
        let head = app.anonymous().send("HEAD", path, None).await;
        assert_eq!((head.status, head.text.as_str()), (200, ""), "{path}");
        for method in ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "QUERY"] {
            let reply = app.anonymous().send(method, path, None).await;
            reply.assert_refused(405, "not-supported", "INVALID_VALUE");
            assert_eq!(reply.header("allow"), "GET, HEAD", "{method} {path}");
        }
    }
    let id = "0f7b0f6e-3a51-4a2e-9a54-9e3c5a1d2b10";
    for path in ["//docs/nothing.js", "//openapi.json/", "//nothing", "//", "//_ping/x", "//cpis/FHIR", "//docsx"] {
        let reply = app.anonymous().header("X-Request-ID", id).get(path).await;
        reply.assert_refused(404, "not-found", "RESOURCE_NOT_FOUND");
        assert_eq!(reply.header("x-request-id"), id, "{path}");
    }
}

#[actix_web::test]
async fn ping_and_status_say_which_release_answers() {
    let app = started().await;
    let ping = app.anonymous().get("//_ping").await;
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!((ping.status, ping.header("cache-control")), (200, "no-store"));
    assert_eq!((&ping.json["version"], &ping.json["releaseId"]), (&json!(format!("v{version}")), &json!(version)));
    let status = app.anonymous().get("//_status").await;
    assert_eq!((status.status, &status.json["status"]), (200, &json!("pass")), "{}", status.text);
    assert_eq!(status.json["checks"]["store"]["status"], "pass");
    assert!(uuid::Uuid::parse_str(status.header("X-Request-ID")).is_ok());
}
