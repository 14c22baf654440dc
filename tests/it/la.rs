//! The client of a local authority against a gateway over HTTP: what it shows, what it writes, how it ends.

use std::{
    ffi::OsString,
    io::{self, Cursor, Write},
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    sync::{Arc, Mutex},
};

use cpis_gateway::cli::la::{self, Console};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    harness::{
        Backend, CPP, Child, TestApp, bundle, child,
        mesh::{Exchange, INACTIVE, SHARED_KEY, UPLOAD},
        on_both_stores,
    },
    mesh,
    notify::{Receiver, pump, subscribe},
};

/// What a command writes.
#[derive(Clone, Default)]
struct Pipe(Arc<Mutex<Vec<u8>>>);

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("a pipe").write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Pipe {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().expect("a pipe").clone()).expect("UTF-8")
    }
}

/// How a command ended, and what it said.
#[derive(Debug)]
struct Ended {
    code: u8,
    out: String,
    err: String,
}

impl Ended {
    fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|_| panic!("{self:?}"))
    }
}

/// The client of Z9A on a machine of its own.
struct Client<'a> {
    app: &'a TestApp,
    home: TempDir,
}

impl<'a> Client<'a> {
    fn of(app: &'a TestApp) -> Self {
        Self { app, home: TempDir::new().expect("a directory") }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    /// A file of the client.
    fn file(&self, name: &str, content: &str) -> String {
        std::fs::write(self.path(name), content).expect("a file");
        self.path(name).display().to_string()
    }

    /// Runs `la` with these words, by the gateway's address, a token of Z9A and a state in the home.
    async fn run(&self, words: &[&str]) -> Ended {
        self.run_with(words, "").await
    }

    async fn run_with(&self, words: &[&str], input: &str) -> Ended {
        let state = self.path("state.json").display().to_string();
        let connection = ["--url", &self.app.base, "--sandbox-authority", "Z9A", "--state", &state];
        let connection = if words.first() == Some(&"validate") { &[][..] } else { &connection[..] };
        let words = words.iter().chain(connection).copied();
        run(words.collect::<Vec<_>>().as_slice(), input, self.app.clock.clone()).await
    }
}

async fn run(words: &[&str], input: &str, clock: cpis_gateway::clock::Clock) -> Ended {
    let (out, err) = (Pipe::default(), Pipe::default());
    let mut console = Console {
        input: Box::new(Cursor::new(input.as_bytes().to_vec())),
        out: Box::new(out.clone()),
        err: Box::new(err.clone()),
        interactive: false,
        clock,
    };
    let words = std::iter::once("la").chain(words.iter().copied()).map(OsString::from);
    let code = la::run(words, &mut console).await;
    let ended = Ended { code, out: out.text(), err: err.text() };
    for number in (0..40).map(child) {
        assert!(!ended.err.contains(number.nhs()), "an NHS number among the messages: {}", ended.err);
    }
    ended
}

/// What an authority's client exports.
pub(crate) async fn exported(app: &TestApp, authority: &str) -> String {
    let words = ["export", "--url", &app.base, "--sandbox-authority", authority, "--state", "/dev/null"];
    let ended = run(&words, "", app.clock.clone()).await;
    assert_eq!(ended.code, 0, "{ended:?}");
    ended.out
}

const HEAD: &str = "nhs_number,local_id,family,given,birth_date,plan,start,end,plan_id,delete\n";

fn line(child: &Child, rest: &str) -> String {
    format!("{},,{},{},{},{rest}\n", child.nhs(), child.family, child.given, child.birth_date)
}

on_both_stores! {
    async fn a_csv_is_loaded_and_what_is_refused_is_shown_by_line(backend) {
        let app = TestApp::start(backend).await;
        let client = Client::of(&app);
        for index in 0..3 {
            app.register(&child(index)).await;
        }
        let file = client.file("plans.csv", &[
            HEAD,
            &line(&child(0), "CPP,2026-09-14,,P-1,"),
            &line(&child(0), "LAC,01/03/2025,30/10/2026,,"),
            &line(&child(1), "CPP,2026-12-24,,,"),
            &line(&Child { family: "Wrongly", ..child(2) }, "LAC,2026-09-14,,,"),
        ].concat());
        let ended = client.run(&["upload", &file]).await;
        assert_eq!(ended.code, 3, "{ended:?}");
        for part in ["File 1: CPF03", "line 4", "start", "future", "line 5", "family", "CPR03"] {
            assert!(ended.out.contains(part), "{part}: {}", ended.out);
        }
        assert!(!ended.out.contains("line 2") && !ended.out.contains(child(2).nhs()), "{}", ended.out);
        let own = app.authority("Z9A").get(&format!("/Flag?patient={}", child(0).nhs())).await;
        assert_eq!(own.total(), 2, "{}", own.text);

        // Corrected, under the next number.
        let corrected = [HEAD, &line(&child(1), "CPP,2026-11-23,,,"), &line(&child(2), "LAC,2026-09-14,,,")].concat();
        let ended = client.run_with(&["upload", "-", "--json"], &corrected).await;
        assert_eq!((ended.code, &ended.json()), (0, &json!({
            "code": "CPF02", "number": 2, "reason": null, "refused": [], "warnings": [],
        })));
        // A deletion, and one of nothing.
        let deleted = [HEAD, &line(&child(0), "CPP,2026-09-14,,P-1,yes"), &line(&child(1), "LAC,2026-09-14,,,x")].concat();
        let ended = client.run_with(&["upload", "-", "--json"], &deleted).await;
        assert_eq!((ended.code, &ended.json()["code"]), (3, &json!("CPF03")), "{ended:?}");
        assert_eq!(ended.json()["refused"][0]["place"], "line 3");
        assert_eq!(app.authority("Z9A").get(&format!("/Flag?patient={}", child(0).nhs())).await.total(), 1);
    }

    async fn what_is_exported_can_be_sent_again_and_changes_nothing(backend) {
        let app = TestApp::start(backend).await;
        let client = Client::of(&app);
        // More than a page, with everything that a line can say.
        let mut file = HEAD.to_owned();
        let people: Vec<Child> = (0..230).map(child).collect();
        for person in &people {
            app.register(person).await;
            file.push_str(&line(person, "CPP,2026-09-14,,,"));
        }
        file.push_str(&line(&people[0], "LAC,2025-03-01,2026-10-30,=L-1,"));
        let mother = Child { birth_date: "1998-02-20", ..child(300) };
        app.register(&mother).await;
        file.push_str(&format!("{},M 7,Testcase,Robin,20/02/1998,UCP,2026-08-20,2027-01-15,U-1,\n", mother.nhs()));
        let planless = child(301);
        app.register(&planless).await;
        file.push_str(&line(&planless, ",,,,"));
        let ended = client.run_with(&["upload", "-"], &file).await;
        assert_eq!(ended.code, 0, "{ended:?}");

        let path = client.path("held.csv");
        let ended = client.run(&["export", "-o", &path.display().to_string()]).await;
        assert_eq!((ended.code, ended.out.as_str(), ended.err.as_str()), (0, "", "232 plans exported.\n"));
        assert_eq!(std::fs::metadata(&path).expect("a file").permissions().mode() & 0o777, 0o600);
        let held = std::fs::read_to_string(&path).expect("a file");
        assert_eq!(held.lines().count(), 1 + 233, "{held}");
        assert!(held.contains(&format!("{},M 7,Testcase,Robin,1998-02-20,UCP,2026-08-20,2027-01-15,U-1,", mother.nhs())), "{held}");
        assert!(held.contains(",LAC,2025-03-01,2026-10-30,'=L-1,"), "{held}");

        let stored = app.stored();
        let ended = client.run(&["upload", &path.display().to_string()]).await;
        assert_eq!(ended.code, 0, "{ended:?}");
        let json = client.run(&["export", "--format", "json"]).await;
        let ended = client.run_with(&["upload", "-"], &json.out).await;
        assert_eq!(ended.code, 0, "{ended:?}");
        assert_eq!(app.stored(), stored);
        // Another authority holds none of it.
        assert_eq!(exported(&app, "Z9B").await, HEAD);
    }

    async fn an_hl7_file_is_sent_under_its_own_number(backend) {
        let app = TestApp::start(backend).await;
        let client = Client::of(&app);
        let example = include_str!("../hl7v3/upload.xml");
        let person = |number: &str, family: &'static str, given: &'static str, born: &'static str| Child {
            number: cpis_gateway::cpis::types::NhsNumber::parse(number).expect("a number"),
            family,
            given,
            birth_date: born,
        };
        app.register(&person("9990000018", "Testcase", "Robin", "2017-05-11")).await;
        app.register(&person("9990000026", "Sample", "Morgan", "1998-02-20")).await;
        app.register(&person("9990000034", "Wrongly", "Sky", "2020-01-01")).await;
        let file = client.file("upload.xml", example);
        let ended = client.run(&["upload", &file, "--json"]).await;
        // The deletion finds nothing to delete.
        assert_eq!(ended.code, 3, "{ended:?}");
        let answer = ended.json();
        assert_eq!((&answer["code"], &answer["number"]), (&json!("CPF03"), &json!(418)));
        assert_eq!(answer["refused"][0]["place"], "record 3");
        let own = app.authority("Z9A").get("/Organization/Z9A").await;
        assert!(own.text.contains("01632960999"), "the authority's own details were sent: {}", own.text);
        assert_eq!(app.authority("Z9A").get("/Flag?patient=9990000026").await.total(), 1);
        // What can't be read at all is refused here, the rest is sent.
        let broken = example.replace("9990000034", "123").replace("\"418\"", "\"419\"");
        let ended = client.run_with(&["upload", "-", "--json"], &broken).await;
        assert_eq!((ended.code, &ended.json()["refused"][0]["code"]), (3, &json!("CPR04")), "{ended:?}");
        assert_eq!(ended.json()["refused"][0]["element"], "/File/record[3]/CP-ISRecord/subject");
        // Another authority's file.
        let ended = client.run_with(&["upload", "-"], &example.replace("\"Z9A\"", "\"Z9B\"")).await;
        assert_eq!(ended.code, 1, "{ended:?}");
    }

    async fn without_a_subscription_the_accesses_of_each_child_are_shown_once(backend) {
        let app = TestApp::start(backend).await;
        let client = Client::of(&app);
        assert_eq!(client.run(&["watch", "--once"]).await.code, 0);
        for index in 0..3 {
            app.on_record(&child(index), &[("Z9A", CPP, "2026-09-14", None)]).await;
        }
        let look = async |index: u32| {
            let caller = app.clinician().header("IsUnscheduledAccessEvent", "true");
            assert_eq!(caller.get(&child(index).care_team()).await.total(), 1);
        };
        look(0).await;
        app.clock.advance(chrono::TimeDelta::minutes(5));
        look(2).await;
        let shown = client.run(&["watch", "--once", "--json"]).await;
        let lines: Vec<Value> = shown.out.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        let numbers: Vec<&str> = lines.iter().filter_map(|line| line["nhs_number"].as_str()).collect();
        assert_eq!(numbers, [child(0).nhs(), child(2).nhs()], "{shown:?}");
        assert_eq!((&lines[0]["kind"], &lines[0]["organisation"]), (&json!("cpis-access"), &json!("EASTVALE GENERAL HOSPITAL")));
        assert_eq!(client.run(&["watch", "--once"]).await.out, "");
        look(1).await;
        let shown = client.run(&["watch", "--once"]).await;
        assert!(shown.out.lines().count() == 1 && shown.out.contains(child(1).nhs()), "{shown:?}");
        assert_eq!(client.run(&["watch", "--once", "--all"]).await.out.lines().count(), 3);
    }

    async fn events_are_shown_once(backend) {
        let app = TestApp::start(backend).await;
        let client = Client::of(&app);
        let receiver = Receiver::start();
        subscribe(&app, "Z9A", &format!("{}/hook", receiver.base)).await;
        app.on_record(&child(0), &[("Z9A", CPP, "2026-09-14", None)]).await;
        app.clinician().header("IsUnscheduledAccessEvent", "true").get(&format!("/CareTeam?patient={}", child(0).nhs())).await;
        pump(&app).await;
        pump(&app).await;
        let ended = client.run(&["watch", "--once", "--json"]).await;
        assert_eq!(ended.code, 0, "{ended:?}");
        let event = ended.json();
        assert_eq!((&event["number"], &event["nhs_number"]), (&json!(1), &json!(child(0).nhs())));
        assert_eq!((&event["kind"], &event["organisation"]), (&json!("cpis-access"), &json!("EASTVALE GENERAL HOSPITAL")));
        assert_eq!(client.run(&["watch", "--once"]).await.out, "");
        let again = client.run(&["watch", "--once", "--all"]).await;
        assert!(again.out.contains("EASTVALE GENERAL HOSPITAL"), "{again:?}");
    }
}

#[actix_web::test]
async fn a_file_is_judged_without_a_gateway() {
    let clock = cpis_gateway::clock::Clock::standing_at(crate::harness::noon());
    let text = [
        HEAD,
        &line(&child(0), "CPP,2026-09-14,,,"),
        &line(&child(1), "CPP,2026-12-24,,,"),
        &line(&Child { birth_date: "2017-02-31", family: "", ..child(2) }, "XYZ,soon,,,"),
        "123,,Testcase,Robin,2017-05-11,LAC,2026-01-01,,,\n",
        &line(&child(3), "LAC,2024-01-01,2025-01-01,,"),
        &line(&child(4), "CPP,2026-01-01,,,"),
        &line(&child(4), "CPP,2026-02-01,,,"),
        &line(&child(5), "CPP,2026-02-01,2026-01-31,,"),
    ]
    .concat();
    let ended = run(&["validate", "-", "--json"], &text, clock.clone()).await;
    assert_eq!(ended.code, 3, "{ended:?}");
    let result = ended.json();
    assert_eq!((&result["records"], &result["format"]), (&json!(7), &json!("csv")));
    let told: Vec<(String, String, String)> = result["problems"]
        .as_array()
        .expect("problems")
        .iter()
        .map(|row| ["place", "element", "code"].map(|name| row[name].as_str().expect("a text").to_owned()).into())
        .collect();
    let expected = [
        ("line 3", "start", "CPR07"),
        ("line 4", "family", "CPR07"),
        ("line 4", "birth_date", "CPR07"),
        ("line 4", "start", "CPR07"),
        ("line 4", "plan", "CPR07"),
        ("line 5", "nhs_number", "CPR04"),
        ("line 6", "end", "CPR07"),
        ("line 7", "plan", "CPR07"),
        ("line 8", "plan", "CPR07"),
        ("line 9", "start", "CPR07"),
    ];
    for (place, element, code) in expected {
        let row = (place.to_owned(), element.to_owned(), code.to_owned());
        assert!(told.contains(&row), "{row:?}: {result:#}");
    }
    assert!(told.iter().all(|(place, ..)| place != "line 2"), "{result:#}");
    let shown = run(&["validate", "-"], &text, clock.clone()).await;
    assert!(shown.out.contains("What to do") && shown.out.contains("7 records,"), "{}", shown.out);

    let good = [HEAD, &line(&child(0), "CPP,2026-09-14,,,")].concat();
    let ended = run(&["validate", "-"], &good, clock.clone()).await;
    assert_eq!((ended.code, ended.out.as_str()), (0, "1 record, no problems.\n"));
    let ended = run(&["validate", "-"], include_str!("../hl7v3/upload.xml"), clock.clone()).await;
    assert_eq!((ended.code, ended.out.as_str()), (0, "3 records, no problems.\n"), "{ended:?}");
    let wrong = include_str!("../hl7v3/upload.xml").replace("20260914", "20261224").replace("9990000026", "9990000027");
    let ended = run(&["validate", "-", "--json"], &wrong, clock.clone()).await;
    let told: Vec<Value> = ended.json()["problems"].as_array().expect("problems").clone();
    let at = |row: &Value| (row["place"].clone(), row["element"].clone(), row["code"].clone());
    assert_eq!(
        at(&told[0]),
        (json!("record 1"), json!("/File/record[1]/CP-ISRecord/pertinentInformation[1]/*/component/*"), json!("CPR07"))
    );
    assert_eq!(at(&told[1]), (json!("record 2"), json!("/File/record[2]/CP-ISRecord/subject"), json!("CPR04")));
    for (text, code) in [("", 1), ("<File/>", 1), ("{\"resourceType\": \"Bundle\"}", 1), ("nhs_number;plan;start\n", 1)]
    {
        let ended = run(&["validate", "-"], text, clock.clone()).await;
        assert!(ended.code == code && ended.out.is_empty() && !ended.err.is_empty(), "{text}: {ended:?}");
    }
    assert_eq!(run(&["validate", "/there/is/none.csv"], "", clock.clone()).await.code, 2);
    assert_eq!(run(&["validate"], "", clock).await.code, 2);
}

#[actix_web::test]
async fn how_a_command_ends_tells_a_scheduler_what_to_do() {
    let app = TestApp::start(Backend::Sqlite).await;
    let client = Client::of(&app);
    let good = [HEAD, &line(&child(0), "CPP,2026-09-14,,,")].concat();
    let with = |words: &'static [&'static str], url: String| {
        let (good, clock, state) = (good.clone(), app.clock.clone(), client.path("other.json").display().to_string());
        async move {
            let words = [&["upload", "-", "--url", &url, "--state", &state][..], words].concat();
            run(&words, &good, clock).await
        }
    };
    // Nobody there: the same file again later.
    let away = with(&["--token", "x"], "http://127.0.0.1:9/cpis/FHIR/R4".to_owned()).await;
    assert_eq!(away.code, 5, "{away:?}");
    let refused = with(&["--token", "not-a-token"], app.base.clone()).await;
    assert!(refused.code == 1 && refused.err.contains("401") && !refused.err.contains("not-a-token"), "{refused:?}");
    for (words, url) in [
        (&["--token", "x"][..], "http://cpis.example.org/cpis/FHIR/R4"),
        (&["--token", "x"][..], ""),
        (&[][..], "https://cpis.example.org/cpis/FHIR/R4"),
        (&["--sandbox-authority", "nobody"][..], &app.base),
        (&["--sandbox-authority", "ZZ9"][..], &app.base),
        (&["--number", "-1", "--token", "x"][..], &app.base),
    ] {
        let ended = with(Box::leak(words.to_vec().into_boxed_slice()), url.to_owned()).await;
        assert_eq!(ended.code, 2, "{words:?} {url}: {ended:?}");
    }
    // None is loaded; nobody is registered.
    let ended = client.run_with(&["upload", "-", "--json"], &good).await;
    assert_eq!((ended.code, &ended.json()["code"]), (4, &json!("CPF04")), "{ended:?}");
    // The store is away.
    app.execute("alter table upload rename to upload_away");
    let ended = client.run_with(&["upload", "-"], &good).await;
    assert_eq!(ended.code, 5, "{ended:?}");
}

#[actix_web::test]
async fn a_file_without_an_answer_keeps_its_number() {
    let app = TestApp::start(Backend::Sqlite).await;
    let client = Client::of(&app);
    app.register(&child(0)).await;
    let file = |start: &str| [HEAD, &line(&child(0), &format!("CPP,{start},,,"))].concat();
    app.execute("alter table upload rename to upload_away");
    assert_eq!(client.run_with(&["upload", "-", "--number", "41"], &file("2026-09-14")).await.code, 5);
    app.execute("alter table upload_away rename to upload");
    let ended = client.run_with(&["upload", "-", "--json"], &file("2026-09-14")).await;
    assert_eq!((ended.code, &ended.json()["number"]), (0, &json!(41)), "{ended:?}");
    let ended = client.run_with(&["upload", "-", "--json"], &file("2026-09-14")).await;
    assert_eq!((ended.code, &ended.json()["number"]), (0, &json!(42)), "{ended:?}");
}

/// The configuration of an authority's client by MESH.
fn mesh_config(client: &Client<'_>, exchange: &Exchange<'_>) -> String {
    let (password, key) = (client.file("password", "password\n"), client.file("shared-key", SHARED_KEY));
    let state = client.path("mesh.json").display().to_string();
    let text = format!(
        "authority = \"Z9A\"\nname = \"WESTMARCH COUNTY COUNCIL\"\nduty_phone = \"01632 960777\"\nstate = \"{state}\"\n\
         [mesh]\nurl = \"{}\"\nmailbox = \"{}\"\npassword_file = \"{password}\"\nshared_key_file = \"{key}\"\n\
         gateway_mailbox = \"{}\"\nupload_workflow = \"{UPLOAD}\"\n",
        exchange.mesh.url, exchange.a, exchange.cpis
    );
    client.file("la.toml", &text)
}

on_both_stores! {
    async fn by_mesh_a_file_goes_and_its_acknowledgement_and_what_follows_come(backend) {
        let exchange = Exchange::new();
        let app = exchange.gateway(backend).await;
        let client = Client::of(&app);
        let config = mesh_config(&client, &exchange);
        let by_mesh = async |words: &[&str], input: &str| {
            let words = [words, &["--mesh", "--config", &config]].concat();
            run(&words, input, app.clock.clone()).await
        };
        app.register(&child(0)).await;
        let unsayable = format!("{},,,,,LAC,2026-09-14,,,\n", child(2).nhs());
        let file = [HEAD, &line(&child(0), "CPP,2026-09-14,,,"), &line(&child(1), "LAC,2026-09-14,,,"), &unsayable].concat();
        let sent = by_mesh(&["upload", "-", "--json"], &file).await;
        // A child that is known already can be left out of a Bundle, but not of an HL7 v3 file.
        assert_eq!((sent.code, &sent.json()["number"]), (3, &json!(1)), "{sent:?}");
        assert_eq!(sent.json()["refused"][0]["place"], "line 4", "{sent:?}");
        // Sent again before there is an answer: MESH has it already.
        let again = by_mesh(&["upload", "-", "--json"], &file).await;
        assert_eq!(again.json()["sent"], sent.json()["sent"]);
        assert_eq!(exchange.waiting(&exchange.cpis).len(), 1);

        mesh::pump(&app).await;
        let kept = by_mesh(&["watch", "--once", "--keep"], "").await;
        for part in ["File 1: CPF03", "1 of 2 records refused", "record 2", "CPR01", "/File/record[2]/CP-ISRecord/subject"] {
            assert!(kept.out.contains(part), "{part}: {}", kept.out);
        }
        let shown = by_mesh(&["watch", "--once", "--json"], "").await;
        let acknowledged = shown.json();
        assert_eq!((&acknowledged["kind"], &acknowledged["code"]), (&json!("acknowledgement"), &json!("CPF03")));
        assert_eq!(by_mesh(&["watch", "--once"], "").await.out, "");
        let own = app.authority("Z9A").get("/Organization/Z9A").await;
        assert!(own.text.contains("01632960777"), "{}", own.text);
        // Answered: the same lines are a new file.
        let sent = by_mesh(&["upload", "-", "--json"], &file).await;
        assert_eq!(sent.json()["number"], 2);
        mesh::pump(&app).await;

        // Somebody looks.
        let look = app.clinician().header("IsUnscheduledAccessEvent", "true").get(&child(0).care_team()).await;
        assert_eq!(look.total(), 1, "{}", look.text);
        mesh::pump(&app).await;
        // A message that nobody can read is kept and stops no other.
        let stranger = exchange.mesh.client(&exchange.cpis, 1_000_000);
        let outgoing = cpis_gateway::outside::mesh::Outgoing {
            to: &exchange.a, workflow: INACTIVE, local_id: "x", file_name: "x", content_type: "application/xml",
        };
        stranger.send(outgoing, 4, &mut &b"<x/>"[..]).await.expect("sent");
        let shown = by_mesh(&["watch", "--once", "--json"], "").await;
        assert!(shown.code == 3 && shown.err.contains("can't be read"), "{shown:?}");
        let lines: Vec<Value> = shown.out.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        let kinds: Vec<&str> = lines.iter().filter_map(|line| line["kind"].as_str()).collect();
        assert_eq!(kinds, ["acknowledgement", "cpis-access"], "{}", shown.out);
        assert_eq!((&lines[1]["nhs_number"], &lines[1]["organisation"]), (&json!(child(0).nhs()), &json!("EASTVALE GENERAL HOSPITAL")));
        assert_eq!(exchange.waiting(&exchange.a).len(), 1);

        // A Bundle, and an HL7 v3 file under its own number.
        let entries = [child(0).put_patient(), child(0).post_flag("Z9A", CPP, "2026-09-14", None)];
        let sent = by_mesh(&["upload", "-", "--json"], &bundle("batch", &entries).to_string()).await;
        assert_eq!((sent.code, &sent.json()["number"]), (0, &json!(3)), "{sent:?}");
        let own = mesh::file("Z9A", 77, &[(&child(0), "2026-09-14")]);
        let own = String::from_utf8(own).expect("UTF-8");
        assert_eq!(by_mesh(&["upload", "-", "--number", "5"], &own).await.code, 2);
        assert_eq!(by_mesh(&["upload", "-", "--json"], &own).await.json()["number"], 77);
        mesh::pump(&app).await;
        let shown = by_mesh(&["watch", "--once"], "").await;
        assert!(shown.out.contains("CPF02, all records were loaded") && shown.out.contains("File 77: CPF02"), "{shown:?}");
    }
}
