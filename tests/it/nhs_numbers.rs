//! How an NHS number is read, place by place: the table in docs/nhs-numbers.md is held against the program, and against
//! the places of its sources that read one.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsString,
    fs,
    io::{Cursor, Write},
    path::Path,
    process::{Command, Stdio},
    sync::{Arc, Mutex},
};

use cpis_gateway::{
    cli::la::{self, Console},
    cpis::types::{NhsNumber, nhs_number::InvalidNhsNumber, upload::ReadRecord},
    hl7v3::upload::UploadFile,
};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};

use crate::harness::{
    CPP, Child, Reply, TestApp, bundle, child, on_both_stores,
    upload::{entry, with, with_local_id},
};

/// Every place of the table, in its words.
const PLACES: [&str; 16] = [
    "`la` with a CSV file: `nhs_number`",
    "`register load`: `nhs_number`",
    "`register load`: `replaced_by`",
    "`Patient/{NHS number}` in the URL of a request",
    "search parameters `patient` and `subject`, in a URL or a form, after `Patient/` or a system",
    "search parameter `identifier` of Patient, and criteria by it",
    "criteria of a conditional request: `PUT Flag?`, `DELETE Flag?`, `If-None-Exist`",
    "`Bundle.entry.request.url` of a Patient",
    "`Patient.identifier` and `Patient.id`",
    "`Flag.subject`, reference and identifier",
    "`replacedBy` of `$inactive`",
    "the Patient of `$match`",
    "HL7 v3 `id` of a child or a mother",
    "`la` with a FHIR Bundle",
    "`la` with an HL7 v3 file",
    "`register show`, at its prompt or from standard input",
];

/// The source files that read a number, and in which of the places they do; none where it is the gateway's own that comes
/// back from a store, from PDS, or in a message of this project's, and where it is read to refuse it (a command line).
const READERS: [(&str, &str); 24] = [
    ("cli/la/csv.rs", PLACES[0]),
    ("cli/mod.rs", ""),
    ("cli/register/file.rs", PLACES[1]),
    ("cli/register/mod.rs", PLACES[15]),
    ("cli/sandbox/population.rs", ""),
    ("cpis/mesh/outgoing.rs", ""),
    ("cpis/types/nhs_number.rs", ""),
    ("demographics/pds.rs", ""),
    ("fhir/upload/bundle.rs", PLACES[7]),
    ("fhir/upload/content.rs", PLACES[9]),
    ("fhir/upload/request.rs", PLACES[6]),
    ("fhir/validate/format.rs", PLACES[8]),
    ("fhir/validate/rule/cpis.rs", PLACES[8]),
    ("hl7v3/access_notification.rs", ""),
    ("hl7v3/acknowledgement.rs", ""),
    ("hl7v3/inactive_number.rs", ""),
    ("hl7v3/upload/record.rs", PLACES[12]),
    ("http/dispatch.rs", PLACES[3]),
    ("http/inactive.rs", PLACES[10]),
    ("http/patient_match.rs", PLACES[11]),
    ("http/query.rs", PLACES[4]),
    ("http/validate.rs", PLACES[8]),
    ("store", ""),
    ("cpis/types/child.rs", ""),
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// How a number is read.
#[derive(Clone, Copy)]
enum Read {
    AsTyped,
    Exact,
    /// White space at its ends is not seen.
    Trimmed,
}

impl Read {
    fn takes(self, text: &str, number: &str) -> bool {
        match self {
            Self::AsTyped => true,
            Self::Exact => text == number,
            Self::Trimmed => text.trim() == number,
        }
    }
}

/// The rows of the table: place, and how a number is read there.
fn table() -> BTreeMap<String, Read> {
    let page = fs::read_to_string(root().join("docs/nhs-numbers.md")).expect("the page");
    let (_, part) = page.split_once("\n## Where a number is read how\n").expect("the heading");
    let part = part.split("\n## ").next().unwrap_or_default();
    let rows = part.lines().filter(|line| line.starts_with("| ")).skip(1);
    let row = |line: &str| {
        let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
        let read = match cells[1] {
            "as typed" => Read::AsTyped,
            "exact" => Read::Exact,
            "exact, but for white space at its ends" => Read::Trimmed,
            other => panic!("{other}"),
        };
        (cells[0].to_owned(), read)
    };
    rows.map(row).collect()
}

/// A number as people type it.
fn spelled(number: &str) -> Vec<String> {
    let (one, two, three) = (&number[..3], &number[3..6], &number[6..]);
    vec![
        format!("{one} {two} {three}"),
        format!("{one}-{two}-{three}"),
        format!("{one}\u{a0}{two}\u{2009}{three}"),
        format!("{one}\u{2013}{two}\u{2014}{three}"),
        format!("  {number} "),
    ]
}

/// What is no number anywhere.
fn never(number: &str) -> Vec<String> {
    let (one, two, three) = (&number[..3], &number[3..6], &number[6..]);
    vec![
        format!("{one}.{two}.{three}"),
        format!("{one}_{two}_{three}"),
        format!("NHS {number}"),
        format!("{number}x"),
        number[..9].to_owned(),
        format!("{}{}", &number[..9], (number[9..].parse::<u8>().expect("a digit") + 1) % 10),
        "ABCD1234".to_owned(),
    ]
}

fn encoded(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}

/// Whether a request took the number; if not, it was told that the number isn't one.
fn took(reply: &Reply) -> bool {
    let refused = reply.text.contains("CPR04") || reply.text.contains("INVALID_SEARCH_DATA");
    assert_eq!(refused, !(200..300).contains(&reply.status) || reply.text.contains("CPF04"), "{}", reply.text);
    !refused
}

/// Whether each door at a place takes a number that is written so.
async fn tried(app: &TestApp, place: &str, of: &Child, text: &str) -> Vec<bool> {
    let (url, owner, clinician) = (encoded(text), || app.authority("Z9A"), || app.clinician());
    let nhs_system = "https%3A%2F%2Ffhir.nhs.uk%2FId%2Fnhs-number%7C";
    let flag = || with_local_id(of.flag("Z9A", CPP, "2026-09-14", None), "P-1");
    let batch = async |entry: Value| took(&owner().post("", &bundle("batch", &[entry])).await);
    match PLACES.iter().position(|known| *known == place).expect("a known place") {
        0 => vec![by_csv(text).await],
        1 => vec![by_register(app, &format!("{text},Testcase,Robin,2017-05-11,,,")).await],
        2 => vec![by_register(app, &format!("{},Testcase,Robin,2017-05-11,superseded,{text},", child(90).nhs())).await],
        3 => {
            let path = format!("/Patient/{url}");
            let body = with(of.patient(), "/id", json!(text));
            let retire =
                json!({"resourceType": "Parameters", "parameter": [{"name": "reason", "valueCode": "retired"}]});
            vec![
                took(&clinician().get(&path).await),
                took(&clinician().get(&format!("{path}/$everything")).await),
                took(&owner().get(&path).await),
                took(&owner().get(&format!("{path}/_history")).await),
                took(&owner().get(&format!("{path}/_history/1")).await),
                took(&owner().put(&path, &body).await),
                // The last: nothing is shown by this number any more.
                took(&app.administrator().post(&format!("{path}/$inactive"), &retire).await),
            ]
        }
        4 => {
            let mut all = Vec::new();
            for parameter in
                ["patient", "patient%3Aidentifier", "patient.identifier", "subject", "subject%3Aidentifier"]
            {
                for system in ["", if parameter.contains("identifier") { nhs_system } else { "Patient%2F" }] {
                    let query = format!("{parameter}={system}{url}");
                    all.push(took(&clinician().get(&format!("/Flag?{query}")).await));
                    all.push(took(&clinician().form("/Flag/_search", &query).await));
                    all.push(took(&owner().get(&format!("/Flag?{query}")).await));
                }
            }
            for path in ["/CareTeam", "/CarePlan", "/AuditEvent", "/PatientFlag"] {
                let query = format!("patient={url}");
                let query = if path == "/PatientFlag" {
                    format!("{query}&code=child-protection-information-system-flag")
                } else {
                    query
                };
                all.push(took(&clinician().get(&format!("{path}?{query}")).await));
                all.push(took(&clinician().form(&format!("{path}/_search"), &query).await));
            }
            for caller in [app.auditor(), owner()] {
                all.push(took(&caller.get(&format!("/AuditEvent?patient={url}")).await));
            }
            all
        }
        5 => {
            let mut all = Vec::new();
            for system in ["", nhs_system] {
                all.push(took(&clinician().get(&format!("/Patient?identifier={system}{url}")).await));
                all.push(took(&owner().get(&format!("/Patient?identifier={system}{url}")).await));
                all.push(took(&owner().put(&format!("/Patient?identifier={system}{url}"), &of.patient()).await));
            }
            all
        }
        6 => {
            let criteria = format!("patient={url}&identifier=P-1&code={CPP}");
            let in_entry = |method: &str, resource| entry(method, &format!("Flag?{criteria}"), resource);
            let kept = with(entry("POST", "Flag", flag()), "/request/ifNoneExist", json!(criteria));
            vec![
                took(&owner().put(&format!("/Flag?{criteria}"), &flag()).await),
                took(&owner().header("If-None-Exist", &criteria).post("/Flag", &flag()).await),
                batch(in_entry("PUT", flag())).await,
                batch(kept).await,
                took(&owner().delete(&format!("/Flag?{criteria}")).await),
                // Deleted before: the number is read all the same.
                batch(in_entry("DELETE", Value::Null)).await,
            ]
        }
        7 => vec![batch(entry("PUT", &format!("Patient/{text}"), of.patient())).await],
        8 => {
            let by_identifier = with(of.patient(), "/identifier/0/value", json!(text));
            let without_id = with(by_identifier.clone(), "/id", Value::Null);
            let by_id = with(of.patient(), "/id", json!(text));
            let by_id = with(by_id, "/identifier/0/value", json!(text));
            let judged = async |body: &Value| {
                let reply = owner().post("/Patient/$validate", body).await;
                assert_eq!(reply.status, 200, "{}", reply.text);
                !reply.text.contains("CPR04")
            };
            vec![
                batch(entry("PUT", &format!("Patient/{}", of.nhs()), by_identifier.clone())).await,
                took(&owner().put(&format!("/Patient/{}", of.nhs()), &by_identifier).await),
                judged(&without_id).await,
                judged(&by_id).await,
            ]
        }
        9 => {
            let system = "https://fhir.nhs.uk/Id/nhs-number";
            let by_reference = with(flag(), "/subject", json!({"reference": format!("Patient/{text}")}));
            let by_identifier = with(flag(), "/subject", json!({"identifier": {"system": system, "value": text}}));
            let mut all = Vec::new();
            for flag in [by_reference, by_identifier] {
                all.push(batch(entry("POST", "Flag", flag.clone())).await);
                all.push(took(&owner().post("/Flag", &flag).await));
                let judged = owner().post("/Flag/$validate", &flag).await;
                all.push(!judged.text.contains("CPR04"));
            }
            all
        }
        10 => {
            let system = "https://fhir.nhs.uk/Id/nhs-number";
            let body = json!({"resourceType": "Parameters", "parameter": [
                {"name": "reason", "valueCode": "superseded"},
                {"name": "replacedBy", "valueIdentifier": {"system": system, "value": text}},
            ]});
            let reply = app.administrator().post(&format!("/Patient/{}/$inactive", child(91).nhs()), &body).await;
            assert!(matches!(reply.status, 202 | 400), "{}", reply.text);
            vec![reply.status == 202]
        }
        11 => {
            let patient = with(of.patient(), "/identifier/0/value", json!(text));
            let patient = with(patient, "/id", Value::Null);
            let body = json!({"resourceType": "Parameters", "parameter": [{"name": "resource", "resource": patient}]});
            vec![took(&clinician().post("/Patient/$match", &body).await)]
        }
        12 => {
            let example = include_str!("../hl7v3/upload.xml");
            ["9990000018", "9990000026"].into_iter().map(|number| by_hl7(&example.replace(number, text))).collect()
        }
        13 => {
            let patient = with(entry("PUT", &format!("Patient/{text}"), of.patient()), "/resource/id", json!(text));
            vec![!judged_by_la(&bundle("batch", &[patient]).to_string()).await]
        }
        14 => {
            let example = include_str!("../hl7v3/upload.xml");
            vec![!judged_by_la(&example.replace("9990000018", text)).await]
        }
        15 => vec![command(app, &["show"], text.to_owned()).await],
        other => panic!("{other}"),
    }
}

/// What a command writes.
#[derive(Clone, Default)]
struct Pipe(Arc<Mutex<Vec<u8>>>);

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("a pipe").write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Whether `la validate` says that a file has a number that isn't one.
async fn judged_by_la(file: &str) -> bool {
    let out = Pipe::default();
    let mut console = Console {
        input: Box::new(Cursor::new(file.as_bytes().to_vec())),
        out: Box::new(out.clone()),
        err: Box::new(Pipe::default()),
        interactive: false,
        clock: cpis_gateway::clock::Clock::standing_at(crate::harness::noon()),
    };
    la::run(["la", "validate", "-", "--json"].map(OsString::from), &mut console).await;
    let said = String::from_utf8(out.0.lock().expect("a pipe").clone()).expect("UTF-8");
    assert!(said.contains("\"problems\""), "{said}");
    said.contains("CPR04")
}

async fn by_csv(text: &str) -> bool {
    let head = "nhs_number,family,given,birth_date,plan,start\n";
    !judged_by_la(&format!("{head}\"{text}\",Testcase,Robin,2017-05-11,CPP,2026-09-14\n")).await
}

/// Whether the first two records are read; the third is of no child that is asked about.
fn by_hl7(file: &str) -> bool {
    let records: Vec<ReadRecord> =
        UploadFile::open(file.as_bytes()).expect("a file").map(|read| read.expect("a record")).collect();
    !records.iter().any(|record| match record {
        ReadRecord::Change(_) => false,
        ReadRecord::Unreadable(unreadable) => {
            assert!(unreadable.problems.iter().all(|problem| problem.code.code() == "CPR04"), "{unreadable:?}");
            true
        }
    })
}

/// Whether a line is written into the register.
async fn by_register(app: &TestApp, line: &str) -> bool {
    let csv = format!("nhs_number,family,given,birth_date,status,replaced_by,deceased\n{line}\n");
    command(app, &["load", "-"], csv).await
}

/// Whether a command of `register` succeeds on what it is told.
async fn command(app: &TestApp, arguments: &[&str], told: String) -> bool {
    let url = app.settings().database_url();
    let mut command = Command::new(env!("CARGO_BIN_EXE_cpis-gateway"));
    command.arg("register").args(arguments).args(["--sandbox", "--database-url", url.expose(), "--data"]);
    command.arg(app.data_dir());
    std::env::vars().filter(|(name, _)| name.starts_with("CPIS_")).for_each(|(name, _)| {
        command.env_remove(name);
    });
    let key = app.data_dir().join(cpis_gateway::auth::checkpoint_key::PRIVATE_FILE);
    command.env("CPIS_AUDIT__SIGNING_KEY", key).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let ran = tokio::task::spawn_blocking(move || {
        let mut running = command.spawn().expect("the command runs");
        running.stdin.take().expect("its input").write_all(told.as_bytes()).expect("it is written");
        running.wait_with_output().expect("it ends")
    });
    let ended = ran.await.expect("it ends");
    let said = format!("{}{}", String::from_utf8_lossy(&ended.stdout), String::from_utf8_lossy(&ended.stderr));
    // Refused for what was told, and for nothing else.
    let named = ["NHS number", "check digit", "replaced_by"].iter().any(|words| said.contains(words));
    assert!(ended.status.success() || named, "{said}");
    ended.status.success()
}

on_both_stores! {
    async fn every_place_reads_a_number_as_the_table_says(backend) {
        let table = table();
        let named: BTreeSet<&str> = table.keys().map(String::as_str).collect();
        assert_eq!(named, PLACES.into_iter().collect(), "the places of docs/nhs-numbers.md");
        let app = TestApp::start(backend).await;
        let mut index = 0;
        for place in PLACES {
            let read = table[place];
            index += 1;
            let of = child(index);
            app.on_record(&of, &[("Z9A", CPP, "2026-09-14", None)]).await;
            let texts = spelled(of.nhs()).into_iter().map(|text| (text.clone(), read.takes(&text, of.nhs())));
            let texts = texts.chain(never(of.nhs()).into_iter().map(|text| (text, false)));
            // The number itself last: some of what it does can be done once.
            for (text, expected) in texts.chain([(of.nhs().to_owned(), true)]) {
                let taken = tried(&app, place, &of, &text).await;
                assert_eq!(taken, vec![expected; taken.len()], "{place}: {text:?}");
            }
        }
    }
}

#[test]
fn no_other_source_reads_a_number() {
    fn walk(folder: &Path, found: &mut Vec<std::path::PathBuf>) {
        for entry in fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() { walk(&path, found) } else { found.push(path) }
        }
    }
    let (source, mut files) = (root().join("src"), Vec::new());
    walk(&source, &mut files);
    let is_test = |path: &Path| path.iter().any(|part| part == "tests" || part == "tests.rs");
    let mut readers = BTreeSet::new();
    for path in files.iter().filter(|path| !is_test(path)) {
        let text = fs::read_to_string(path).expect("a text");
        let code = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
        if ["NhsNumber::parse", "NhsNumber::typed"].iter().any(|call| code.contains(call)) {
            let name = path.strip_prefix(&source).expect("below src").to_string_lossy().into_owned();
            readers.insert(if name.starts_with("store/") { "store".to_owned() } else { name });
        }
    }
    let known: BTreeSet<String> = READERS.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(readers, known, "say in docs/nhs-numbers.md and in PLACES how the new place reads a number");
    let covered: BTreeSet<&str> = READERS.iter().map(|(_, place)| *place).collect();
    assert!(covered.iter().all(|place| place.is_empty() || PLACES.contains(place)));
}

/// The words for a number of before 1996, as the page has them, are those of every door.
#[test]
fn old_numbers_have_their_own_words() {
    assert_eq!(NhsNumber::parse("ABCD1234"), Err(InvalidNhsNumber::OldStyle));
    let page = fs::read_to_string(root().join("docs/nhs-numbers.md")).expect("the page").replace('\n', " ");
    let words = InvalidNhsNumber::OldStyle.to_string();
    assert!(page.to_lowercase().contains(&words.to_lowercase()), "{words}");
}
