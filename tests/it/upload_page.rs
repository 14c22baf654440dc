//! `docs/api/upload.md` shows a whole upload and its answer. It is made here, from a real exchange, and compared with the
//! committed page; `CPIS_WRITE_DOCS=1` writes it.

use std::{fmt::Write as _, path::Path};

use cpis_gateway::cpis::types::upload::{FileCode, RecordCode};
use serde_json::{Value, json};

use crate::harness::{
    Backend, CPP, LAC, Reply, StableIds, TestApp, UCP, bundle, child,
    upload::{entry, with, with_local_id},
};

const TEMPLATE: &str = include_str!("upload_page.template.md");
const PAGE: &str = "docs/api/upload.md";
const BASE: &str = "http://127.0.0.1:8080/cpis/FHIR/R4";

/// An answer as the page shows it.
#[derive(Default)]
struct Shown(StableIds);

impl Shown {
    /// Status and the headers that matter.
    fn head(&mut self, reply: &Reply) -> String {
        let status = actix_web::http::StatusCode::from_u16(reply.status).expect("a status");
        let mut head = format!("HTTP/1.1 {} {}", reply.status, status.canonical_reason().unwrap_or_default());
        for name in ["Content-Type", "ETag", "Last-Modified", "Location"] {
            if !reply.header(name).is_empty() {
                let _ = write!(head, "\n{name}: {}", reply.header(name));
            }
        }
        self.0.apply(&head)
    }

    fn body(&mut self, body: &Value) -> String {
        self.0.apply(&readable(body, 0))
    }
}

/// The elements that come first, in this order; the others follow by name.
const FIRST: [&str; 12] = [
    "resourceType",
    "id",
    "meta",
    "type",
    "fullUrl",
    "request",
    "status",
    "severity",
    "system",
    "version",
    "code",
    "start",
];

/// JSON as people write FHIR: the type first, and on one line what fits there.
fn readable(value: &Value, indent: usize) -> String {
    let flat = flat(value);
    if flat.len() + indent <= 100 {
        return flat;
    }
    let inner = " ".repeat(indent + 2);
    let (open, parts, close) = match value {
        Value::Object(_) => {
            let part = |(name, value): (&String, &Value)| format!("{inner}\"{name}\": {}", readable(value, indent + 2));
            ('{', in_order(value).into_iter().map(part).collect::<Vec<_>>(), '}')
        }
        Value::Array(items) => {
            ('[', items.iter().map(|item| format!("{inner}{}", readable(item, indent + 2))).collect(), ']')
        }
        _ => return flat,
    };
    format!("{open}\n{}\n{}{close}", parts.join(",\n"), " ".repeat(indent))
}

fn flat(value: &Value) -> String {
    match value {
        Value::Object(_) => {
            let parts: Vec<String> =
                in_order(value).into_iter().map(|(name, value)| format!("\"{name}\": {}", flat(value))).collect();
            format!("{{{}}}", parts.join(", "))
        }
        Value::Array(items) => format!("[{}]", items.iter().map(flat).collect::<Vec<_>>().join(", ")),
        other => other.to_string(),
    }
}

fn in_order(object: &Value) -> Vec<(&String, &Value)> {
    let mut elements: Vec<(&String, &Value)> = object.as_object().into_iter().flatten().collect();
    elements.sort_by_key(|(name, _)| (FIRST.iter().position(|first| first == name).unwrap_or(FIRST.len()), *name));
    elements
}

fn entries() -> Vec<Value> {
    let (robin, mother, third) = (child(1), child(2), child(3));
    let own = json!({
        "resourceType": "Organization", "id": "Z9A",
        "identifier": [{"system": "https://fhir.nhs.uk/Id/ods-organization-code", "value": "Z9A"}],
        "name": "WESTMARCH COUNTY COUNCIL",
        "telecom": [
            {"system": "phone", "value": "01632960100", "use": "work"},
            {"system": "phone", "value": "01632960188", "use": "mobile"},
        ],
    });
    let plan = |flag, id| entry("POST", "Flag", with_local_id(flag, id));
    vec![
        entry("PUT", "Organization/Z9A", own),
        robin.put_patient(),
        plan(robin.flag("Z9A", CPP, "2026-09-14", None), "CPP-1047"),
        plan(robin.flag("Z9A", LAC, "2025-03-01", Some("2026-10-30")), "LAC-0311"),
        with(mother.put_patient(), "/resource/birthDate", json!("1998-02-03")),
        plan(mother.flag("Z9A", UCP, "2026-10-01", None), "UCP-0093"),
        with(third.put_patient(), "/resource/birthDate", json!("2017-11-05")),
        plan(third.flag("Z9A", CPP, "2026-11-02", None), "CPP-1052"),
    ]
}

/// One single interaction: the curl line and what came back.
struct Single<'a> {
    app: &'a TestApp,
    ids: &'a mut Shown,
    page: String,
}

impl Single<'_> {
    async fn show(
        &mut self,
        words: &str,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&Value>,
    ) -> Reply {
        let mut request = self.app.authority("Z9A");
        let mut line = format!("curl -i -X {method} '{BASE}{path}' \\\n  -H \"Authorization: Bearer $TOKEN\"");
        for (name, value) in headers {
            request = request.header(name, value);
            let _ = write!(line, " \\\n  -H '{name}: {value}'");
        }
        if let Some(body) = body {
            let _ = write!(line, " \\\n  -H 'Content-Type: application/fhir+json' \\\n  -d '{}'", readable(body, 0));
        }
        let sent = body.map(|body| ("application/fhir+json", body.to_string().into_bytes()));
        let reply = request.send(method, path, sent).await;
        let _ = write!(
            self.page,
            "{words}\n\n```sh\n{}\n```\n```http\n{}\n```\n",
            self.ids.0.apply(&line),
            self.ids.head(&reply)
        );
        if !reply.json.is_null() {
            let _ = write!(self.page, "```json\n{}\n```\n", self.ids.body(&reply.json));
        }
        self.page.push('\n');
        reply
    }
}

async fn singles(app: &TestApp, ids: &mut Shown) -> String {
    let robin = child(1);
    let mut single = Single { app, ids, page: String::new() };
    let shown = async |single: &mut Single<'_>| -> Result<(), String> {
        let expect = |reply: Reply, status: u16| {
            if reply.status == status { Ok(reply) } else { Err(format!("{status}: {} {}", reply.status, reply.text)) }
        };
        let nhs = robin.nhs();
        let renamed = with(robin.patient(), "/name/0/given", json!(["Robin", "Sky"]));
        expect(
            single
                .show(
                    "Correct the child's own data:",
                    "PUT",
                    &format!("/Patient/{nhs}"),
                    &[("If-Match", "W/\"1\"")],
                    Some(&renamed),
                )
                .await,
            200,
        )?;
        let flag = with_local_id(robin.flag("Z9A", UCP, "2026-11-02", Some("2027-02-01")), "UCP-0101");
        let created = expect(
            single.show("Register a plan:", "POST", "/Flag", &[("Prefer", "return=minimal")], Some(&flag)).await,
            201,
        )?;
        let id = created
            .header("location")
            .split("/Flag/")
            .nth(1)
            .and_then(|rest| rest.split('/').next())
            .unwrap_or_default()
            .to_owned();
        let path = format!("/Flag/{id}");
        let ended = with(with(flag, "/id", json!(id)), "/period/end", json!("2026-11-20"));
        expect(
            single
                .show("End it, if nobody has changed it since:", "PUT", &path, &[("If-Match", "W/\"1\"")], Some(&ended))
                .await,
            200,
        )?;
        expect(
            single
                .show(
                    "The same once more, with a version that is no longer current:",
                    "PUT",
                    &path,
                    &[("If-Match", "W/\"1\"")],
                    Some(&with(ended, "/period/end", json!("2026-11-21"))),
                )
                .await,
            412,
        )?;
        expect(
            single
                .show(
                    "Take away a plan that was registered in error:",
                    "DELETE",
                    &path,
                    &[("If-Match", "W/\"2\"")],
                    None,
                )
                .await,
            204,
        )?;
        expect(single.show("It is gone:", "GET", &path, &[], None).await, 410)?;
        Ok(())
    };
    if let Err(unexpected) = shown(&mut single).await {
        panic!("{unexpected}");
    }
    single.page.trim_end().to_owned()
}

async fn page() -> String {
    let app = TestApp::start(Backend::Sqlite).await;
    let mother = crate::harness::Child { birth_date: "1998-02-03", ..child(2) };
    for child in [child(1), mother, child(3)] {
        app.register(&child).await;
    }
    let refused = app.authority("Z9A").post("", &bundle("transaction", &entries())).await;
    assert_eq!((refused.status, refused.file_code()), (422, "CPF04".to_owned()), "{}", refused.text);
    let (request, mut ids) = (bundle("batch", &entries()), Shown::default());
    let answer = app.authority("Z9A").post("", &request).await;
    assert_eq!(answer.statuses(), [200, 201, 201, 201, 201, 201, 422, 422], "{}", answer.text);
    assert_eq!(answer.file_code(), "CPF03");

    let settings = app.settings();
    let mebibytes = settings.limits.body_bytes as f64 / f64::from(1 << 20);
    let mut fill: Vec<(String, String)> = vec![
        ("base".into(), BASE.into()),
        ("max_entries".into(), settings.upload.max_entries.to_string()),
        ("max_body".into(), format!("{mebibytes} MB")),
        ("request".into(), readable(&request, 0)),
        ("answer_head".into(), ids.head(&answer)),
        ("answer".into(), ids.body(&answer.json)),
        ("refused_head".into(), ids.head(&refused)),
        ("refused".into(), ids.body(&refused.json)),
        ("singles".into(), singles(&app, &mut ids).await),
    ];
    use RecordCode::{Cpr01, Cpr02, Cpr03, Cpr04, Cpr05, Cpr06, Cpr07};
    let records = [Cpr01, Cpr02, Cpr03, Cpr04, Cpr05, Cpr06, Cpr07];
    fill.extend(records.map(|code| (code.code().into(), code.display().into())));
    let files = [FileCode::Cpf01, FileCode::Cpf02, FileCode::Cpf03, FileCode::Cpf04, FileCode::Cpf05];
    fill.extend(files.map(|code| (code.code().into(), code.display().into())));
    let page =
        fill.iter().fold(TEMPLATE.to_owned(), |page, (name, text)| page.replace(&format!("{{{{{name}}}}}"), text));
    assert!(!page.contains("{{"), "a place of the template was not filled");
    page.replace(&app.base, BASE)
}

#[actix_web::test]
async fn the_page_shows_a_real_upload() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(PAGE);
    let page = page().await;
    if std::env::var_os("CPIS_WRITE_DOCS").is_some() {
        std::fs::create_dir_all(path.parent().expect("a directory")).expect("the directory is made");
        std::fs::write(&path, &page).expect("the page is written");
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    let differs = committed.lines().zip(page.lines()).find(|(old, new)| old != new);
    assert!(committed == page, "{PAGE} is not what the gateway answers; write it with CPIS_WRITE_DOCS=1: {differs:?}");
}
