//! The search grammar over HTTP: what selects, sorts, cuts and brings along, for each caller.

use serde_json::{Value, json};

use crate::harness::{
    Backend, CPP, Child, LAC, Reply, TestApp, child, on_both_stores,
    upload::{LOCAL_PLAN, with, with_local_id},
};

/// One child with three plans of two authorities: open CPP (Z9A), ended LAC (Z9A), ended CPP (Z9B).
async fn with_plans(backend: Backend) -> (TestApp, Child) {
    let app = TestApp::start(backend).await;
    let child = child(1);
    let plans = [("Z9A", CPP, "2026-09-14", None), ("Z9A", LAC, "2025-03-01", Some("2026-10-30"))];
    app.on_record(&child, &plans).await;
    app.on_record_again(&child, &[("Z9B", CPP, "2026-01-31", Some("2026-10-31"))]).await;
    (app, child)
}

/// Start of the plan of each match, in order.
fn starts(reply: &Reply) -> Vec<String> {
    assert_eq!(reply.status, 200, "{}", reply.text);
    let entries = reply.json["entry"].as_array().cloned().unwrap_or_default();
    let matches = entries.iter().filter(|entry| entry["search"]["mode"] == "match");
    matches.map(|entry| entry["resource"]["period"]["start"].as_str().unwrap_or("-").to_owned()).collect()
}

/// `Type/id` of what came along.
fn included(reply: &Reply) -> Vec<String> {
    let entries = reply.json["entry"].as_array().cloned().unwrap_or_default();
    let included = entries.iter().filter(|entry| entry["search"]["mode"] == "include");
    included.map(|entry| entry["resource"]["resourceType"].as_str().unwrap_or_default().to_owned()).collect()
}

fn link<'a>(reply: &'a Reply, relation: &str) -> Option<&'a str> {
    let links = reply.json["link"].as_array()?;
    links.iter().find(|link| link["relation"] == relation)?["url"].as_str()
}

const OPEN: &str = "2026-09-14";
const ENDED: &str = "2025-03-01";
const OTHER: &str = "2026-01-31";

on_both_stores! {
    async fn a_clinician_selects_among_a_childs_plans(backend) {
        let (app, child) = with_plans(backend).await;
        let found = async |resource: &str, more: &str| {
            let reply = app.clinician().get(&format!("/{resource}?patient={}&{more}", child.nhs())).await;
            let starts = starts(&reply);
            assert_eq!(reply.total(), i64::try_from(starts.len()).unwrap(), "{more}: {}", reply.text);
            starts
        };
        for (resource, more, wanted) in [
            ("CareTeam", "status=active", vec![OPEN]),
            ("CareTeam", "status:not=active", vec![ENDED, OTHER]),
            ("CareTeam", "status=http://hl7.org/fhir/care-team-status%7Cinactive", vec![ENDED, OTHER]),
            ("CareTeam", "category=764841000000100", vec![ENDED]),
            ("CareTeam", "category=http://snomed.info/sct%7C342191000000101", vec![OPEN, OTHER]),
            ("CareTeam", "category=764841000000100,342191000000101&status=inactive", vec![ENDED, OTHER]),
            ("CareTeam", "category:missing=true", vec![]),
            ("CareTeam", "date=ge2026-10-30", vec![OPEN, OTHER]),
            ("CareTeam", "date=ge2026-10-31", vec![OPEN]),
            ("CareTeam", "date=eb2026-10-31", vec![ENDED]),
            ("CareTeam", "date=2026", vec![OTHER]),
            ("CarePlan", "status=completed&intent=plan", vec![ENDED, OTHER]),
            ("Flag", "status=active", vec![OPEN]),
            ("Flag", "code=child-protection-information-system-flag", vec![OPEN, ENDED, OTHER]),
            ("Flag", "code=764841000000100", vec![ENDED]),
            ("Flag", "category=safety&author=Organization/Z9B", vec![OTHER]),
            ("Flag", "author:identifier=https://fhir.nhs.uk/Id/ods-organization-code%7CZ9A", vec![OPEN, ENDED]),
            ("Flag", "author=Z9A,Z9B&_sort=date", vec![ENDED, OTHER, OPEN]),
            ("Flag", "_sort=-date", vec![OPEN, OTHER, ENDED]),
            ("Flag", "_sort=status,-date", vec![OPEN, OTHER, ENDED]),
        ] {
            assert_eq!(found(resource, more).await, wanted, "{resource} {more}");
        }
        let posted = app.clinician().form("/CareTeam/_search", &format!("patient={}&status=active", child.nhs())).await;
        assert_eq!(starts(&posted), [OPEN]);
        let id = app.clinician().get(&format!("/Flag?patient={}&status=active", child.nhs())).await;
        let id = id.resources("Flag")[0]["id"].as_str().unwrap().to_owned();
        assert_eq!(found("Flag", &format!("_id={id}")).await, [OPEN]);
        assert_eq!(found("CarePlan", &format!("care-team=CareTeam/{id}")).await, [OPEN]);
        assert_eq!(found("Flag", &format!("detail=CarePlan/{id}")).await, [OPEN]);
        // Whatever the filter let through: each was one audited look at the child.
        assert_eq!(app.number("select count(*) as n from access"), 1);
    }

    async fn a_filter_never_tells_whether_there_is_a_record(backend) {
        let (app, held) = with_plans(backend).await;
        let unknown = child(7);
        let answer = async |child: &Child| {
            let path = format!("/Flag?patient={}&status=active&code=none&_count=1&_sort=date", child.nhs());
            let reply = app.clinician().get(&path).await;
            reply.text.replace(child.nhs(), "[nhs]")
        };
        let of_held = answer(&held).await;
        assert_eq!(of_held, answer(&unknown).await);
    }

    async fn a_page_of_a_childs_plans_has_links_to_the_others(backend) {
        let (app, child) = with_plans(backend).await;
        let path = format!("/CareTeam?patient={}&_count=2&_sort=date", child.nhs());

        let first = app.clinician().get(&path).await;
        let second = app.clinician().get(link(&first, "next").unwrap()).await;
        let back = app.clinician().get(link(&second, "previous").unwrap()).await;

        assert_eq!((starts(&first), first.total()), (vec![ENDED.to_owned(), OTHER.to_owned()], 3));
        assert_eq!((starts(&second), second.total(), link(&second, "next")), (vec![OPEN.to_owned()], 3, None));
        assert_eq!(starts(&back), starts(&first));
        assert_eq!(starts(&app.clinician().get(link(&second, "first").unwrap()).await), starts(&first));
        assert_eq!(link(&first, "previous"), None);
        for none in ["_count=0", "_summary=count"] {
            let reply = app.clinician().get(&format!("/CareTeam?patient={}&{none}", child.nhs())).await;
            assert_eq!((reply.total(), reply.json.get("entry")), (3, None), "{}", reply.text);
        }
        // A cursor whose plan is no longer there is refused, not passed over.
        let flag = app.authority("Z9A").get(&format!("/Flag?patient={}&status=active", child.nhs())).await;
        let id = flag.resources("Flag")[0]["id"].as_str().unwrap().to_owned();
        assert_eq!(app.authority("Z9A").delete(&format!("/Flag/{id}")).await.status, 204);
        app.clinician().get(link(&first, "next").unwrap()).await.assert_refused(400, "value", "INVALID_VALUE");
    }

    async fn what_is_included_comes_once_and_only_when_asked_for(backend) {
        let (app, child) = with_plans(backend).await;
        let along = async |path: &str| included(&app.clinician().get(&path.replace("{nhs}", child.nhs())).await);
        for (path, wanted) in [
            ("/Flag?patient={nhs}", vec![]),
            ("/Flag?patient={nhs}&_include=Flag:patient&_include=Flag:subject", vec!["Patient"]),
            ("/Flag?patient={nhs}&_include=Flag:author:Organization", vec!["Organization", "Organization"]),
            ("/Flag?patient={nhs}&_include=Flag:author:Patient", vec![]),
            ("/Flag?patient={nhs}&status=active&_include=Flag:author", vec!["Organization"]),
            ("/Flag?patient={nhs}&status=active&_include=Flag:detail", vec!["CarePlan"]),
            ("/Flag?patient={nhs}&status=active&_include=Flag:detail&_include:iterate=CarePlan:care-team", vec!["CarePlan", "CareTeam"]),
            ("/CarePlan?patient={nhs}&status=active&_include=CarePlan:care-team", vec!["CareTeam"]),
            ("/CareTeam?patient={nhs}&_include=CareTeam:subject&_revinclude=AuditEvent:entity", vec!["Patient", "AuditEvent", "PractitionerRole"]),
            ("/Patient?identifier={nhs}&_revinclude=Flag:patient", vec!["Flag", "Flag", "Flag"]),
            ("/Patient?identifier={nhs}&_revinclude=CareTeam:subject&_revinclude:iterate=AuditEvent:patient",
             vec!["CareTeam", "CareTeam", "CareTeam", "AuditEvent", "PractitionerRole"]),
            ("/AuditEvent?patient={nhs}&_include=AuditEvent:patient", vec!["PractitionerRole", "Patient"]),
        ] {
            assert_eq!(along(path).await, wanted, "{path}");
        }
        let role = app.clinician().get("/Organization?_id=ZZ10101&_include=Organization:partof").await;
        assert_eq!(role.resources("Organization").len(), 2, "{}", role.text);
    }

    async fn a_part_of_a_resource_says_that_it_is_a_part(backend) {
        let (app, child) = with_plans(backend).await;
        let found = app.clinician().get(&format!("/CareTeam?patient={}&status=active", child.nhs())).await;
        let whole = found.resources("CareTeam")[0].clone();
        let id = whole["id"].as_str().unwrap();

        let summary = app.clinician().get(&format!("/CareTeam/{id}?_summary=true")).await.json;
        let elements = app.clinician().get(&format!("/CareTeam?patient={}&status=active&_elements=telecom,CareTeam.name", child.nhs())).await;
        let text = app.clinician().get(&format!("/CareTeam/{id}?_summary=text")).await.json;

        let tag = json!({"tag": [{"system": "http://terminology.hl7.org/CodeSystem/v3-ObservationValue", "code": "SUBSETTED"}]});
        assert_eq!((&summary["meta"], &summary["name"], summary.get("telecom")), (&tag, &whole["name"], None), "{summary}");
        assert_eq!(elements.resources("CareTeam"), [json!({
            "resourceType": "CareTeam", "id": id, "meta": tag, "status": "active",
            "name": whole["name"], "telecom": whole["telecom"],
        })]);
        assert_eq!(text, json!({"resourceType": "CareTeam", "id": id, "meta": tag, "status": "active"}));
        assert_eq!(app.clinician().get(&format!("/CareTeam/{id}?_summary=false")).await.json, whole);
    }

    async fn an_authority_selects_among_its_own(backend) {
        let app = TestApp::start(backend).await;
        for index in 1..=7 {
            let child = child(index);
            let end = (index % 2 == 0).then_some("2026-10-01");
            app.on_record(&child, &[("Z9A", CPP, &format!("2026-0{index}-01"), end)]).await;
            app.on_record_again(&child, &[("Z9B", LAC, "2026-02-02", None)]).await;
        }
        let own = async |path: &str| app.authority("Z9A").get(path).await;

        let mut pages = Vec::new();
        let mut next = Some("/Flag?status=active&_count=2&_total=accurate".to_owned());
        let mut backwards = Vec::new();
        while let Some(path) = next {
            let page = own(&path).await;
            assert_eq!(page.total(), 4, "{}", page.text);
            pages.push(starts(&page));
            backwards.extend(link(&page, "previous").map(str::to_owned));
            next = link(&page, "next").map(str::to_owned);
        }
        assert_eq!(pages, [["2026-01-01", "2026-03-01"], ["2026-05-01", "2026-07-01"]]);
        assert_eq!(starts(&own(&backwards[0]).await), pages[0]);
        assert_eq!(starts(&own("/Flag?date=sa2026-05-15&_include=Flag:patient").await), ["2026-06-01", "2026-07-01"]);
        assert_eq!(included(&own("/Flag?date=sa2026-05-15&_include=Flag:patient").await), ["Patient", "Patient"]);
        assert_eq!(starts(&own("/Flag?author=Z9B").await), Vec::<String>::new());
        assert_eq!(starts(&own("/Flag?_lastUpdated=gt2026-11-23").await), Vec::<String>::new());
        assert_eq!(starts(&own("/Flag?_lastUpdated=2026-11-23&status=inactive").await).len(), 3);
        assert_eq!(own("/Flag?_summary=count").await.total(), 7);
        assert_eq!(own("/Flag?_count=3").await.json.get("total"), None);

        let all = own("/Patient?_count=4&_total=accurate").await;
        let rest = own(link(&all, "next").unwrap()).await;
        assert_eq!((all.resources("Patient").len(), rest.resources("Patient").len(), all.total()), (4, 3, 7));
        assert_eq!(own(&format!("/Patient?_id={}", child(3).nhs())).await.resources("Patient").len(), 1);
        // Nobody gets on with a cursor that leads into what is another's.
        let foreign = app.authority("Z9B").get("/Flag?_count=1").await;
        own(link(&foreign, "next").unwrap()).await.assert_refused(400, "value", "INVALID_VALUE");
    }

    async fn an_authority_finds_by_its_own_ids(backend) {
        let app = TestApp::start(backend).await;
        let child = child(1);
        app.register(&child).await;
        let local = json!([{"system": "https://fhir.nhs.uk/Id/nhs-number", "value": child.nhs()}, {"system": LOCAL_PLAN, "value": "LCS-7"}]);
        let patient = with(child.patient(), "/identifier", local);
        assert_eq!(app.authority("Z9A").put(&format!("/Patient/{}", child.nhs()), &patient).await.status, 201);
        let flag = with_local_id(child.flag("Z9A", CPP, "2026-09-14", None), "PLAN,7");
        assert_eq!(app.authority("Z9A").post("/Flag", &flag).await.status, 201);

        let own = async |path: &str| app.authority("Z9A").get(path).await;
        assert_eq!(own(r"/Flag?identifier=PLAN\,7").await.resources("Flag").len(), 1);
        assert_eq!(own("/Flag?identifier=PLAN,7").await.resources("Flag").len(), 0);
        assert_eq!(own(&format!(r"/Flag?identifier={LOCAL_PLAN}%7CPLAN\,7")).await.resources("Flag").len(), 1);
        assert_eq!(own(r"/Flag?identifier=urn:other%7CPLAN\,7").await.resources("Flag").len(), 0);
        assert_eq!(own(&format!("/Patient?identifier={LOCAL_PLAN}%7CLCS-7")).await.resources("Patient").len(), 1);
        assert_eq!(app.authority("Z9B").get(&format!("/Patient?identifier={LOCAL_PLAN}%7CLCS-7")).await.resources("Patient").len(), 0);
    }

    async fn organisations_are_found_by_name_code_and_kind(backend) {
        let app = TestApp::start(backend).await;
        let found = async |query: &str| {
            let reply = app.clinician().get(&format!("/Organization?{query}")).await;
            assert_eq!(reply.status, 200, "{query}: {}", reply.text);
            reply.resources("Organization").iter().map(|o| o["id"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(found("name=west").await, ["ZZ121", "Z9A"]);
        assert_eq!(found("name=WEST&_sort=-name").await, ["Z9A", "ZZ121"]);
        assert_eq!(found("name:contains=council,walk-in").await, ["Z9B", "Z9C", "ZZ121", "Z9A"]);
        assert_eq!(found("name:exact=WESTMARCH%20COUNTY%20COUNCIL").await, ["Z9A"]);
        assert_eq!(found("name:exact=westmarch%20county%20council").await, Vec::<String>::new());
        assert_eq!(found("name=%25").await, Vec::<String>::new());
        assert_eq!(found("type=govt&name:contains=council&active=true").await, ["Z9B", "Z9C", "Z9A"]);
        assert_eq!(found("type:not=prov&_id=Z9A,Z9B,ZZ101").await, ["Z9B", "Z9A"]);
        assert_eq!(found("identifier=https://fhir.nhs.uk/Id/ods-organization-code%7CZ9C").await, ["Z9C"]);
        assert_eq!(found("partof=Organization/ZZ101").await, ["ZZ10102", "ZZ10101"]);
        assert_eq!(found("partof:missing=false&_count=1").await, ["ZZ10102"]);
        assert_eq!(found("_lastUpdated=lt2026").await, Vec::<String>::new());
        let mut all = Vec::new();
        let mut next = Some("/Organization?_count=5&_total=accurate".to_owned());
        while let Some(path) = next {
            let page = app.clinician().get(&path).await;
            assert_eq!(page.total(), 12, "{}", page.text);
            all.extend(page.resources("Organization").iter().map(|o| o["name"].as_str().unwrap().to_owned()));
            next = link(&page, "next").map(str::to_owned);
        }
        let mut sorted = all.clone();
        sorted.sort();
        assert_eq!((all.len(), &all), (12, &sorted));
    }

    async fn an_auditor_selects_by_what_was_done(backend) {
        let (app, child) = with_plans(backend).await;
        app.clinician().get(&child.care_team()).await;
        app.clinician().header("IsUnscheduledAccessEvent", "false").get(&child.care_team()).await.assert_refused(403, "forbidden", "ACCESS_DENIED");
        let found = async |query: &str| {
            let reply = app.auditor().get(&format!("/AuditEvent?{query}")).await;
            assert_eq!(reply.status, 200, "{query}: {}", reply.text);
            reply
        };
        let of_child = format!("patient={}", child.nhs());
        let refused = found(&format!("{of_child}&outcome=4")).await;
        assert_eq!((refused.total(), refused.resources("AuditEvent").len()), (1, 1));
        let changes = found(&format!("{of_child}&action=C,U")).await;
        assert!(changes.total() >= 3, "{}", changes.text);
        assert!(changes.resources("AuditEvent").iter().all(|event| event["action"] != "E"));
        let searches = found(&format!("{of_child}&subtype=http://hl7.org/fhir/restful-interaction%7Csearch-type&outcome=0")).await;
        assert_eq!(searches.total(), i64::try_from(searches.resources("AuditEvent").len()).unwrap());
        assert!(searches.total() >= 1, "{}", searches.text);
        let id = refused.resources("AuditEvent")[0]["id"].as_str().unwrap().to_owned();
        assert_eq!(found(&format!("_id={id}")).await.resources("AuditEvent"), refused.resources("AuditEvent"));
        let oldest = found("_sort=date&_count=1").await;
        let newest = found("_sort=-date&_count=1").await;
        let at = |reply: &Reply| reply.resources("AuditEvent")[0]["recorded"].as_str().unwrap().to_owned();
        assert!(at(&oldest) <= at(&newest));
        let second = app.auditor().get(link(&oldest, "next").unwrap()).await;
        let back = app.auditor().get(link(&second, "previous").unwrap()).await;
        assert_eq!(back.resources("AuditEvent"), oldest.resources("AuditEvent"));
        let costly = app.auditor().get("/AuditEvent?agent:identifier=x&_total=accurate").await;
        costly.assert_refused(400, "too-costly", "INVALID_VALUE");
    }

    async fn lenient_handling_says_what_it_left_out(backend) {
        let (app, child) = with_plans(backend).await;
        let path = format!("/Flag?patient={}&flavour=x&status:text=active&status=active", child.nhs());

        let strict = app.authority("Z9A").header("Prefer", "handling=strict").get(&path).await;
        let lenient = app.authority("Z9A").header("Prefer", "handling=lenient").get(&path).await;

        assert_eq!((strict.status, strict.json["issue"].as_array().map(Vec::len)), (400, Some(2)), "{}", strict.text);
        assert_eq!(starts(&lenient), [OPEN]);
        let outcome = &lenient.resources("OperationOutcome")[0];
        let told: Vec<&Value> = outcome["issue"].as_array().unwrap().iter().map(|issue| &issue["severity"]).collect();
        assert_eq!(told, ["warning", "warning"]);
        assert!(!link(&lenient, "self").unwrap().contains("flavour"), "the self link says what was used");
        app.authority("Z9A").header("Prefer", "handling=maybe").get(&path).await.assert_refused(400, "invalid", "PRECONDITION_FAILED");
        let clinical = app.clinician().header("Prefer", "handling=lenient").get(&path).await;
        assert_eq!(clinical.status, 400, "never for a clinician");
    }
}
