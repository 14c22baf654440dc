//! The real program with all of its logging on, while a child's number is retired and the child gets another: nothing in its
//! log is a number or a name, so nothing there joins the two (design 9).

use std::{
    fs::File,
    io::{BufRead, BufReader},
    process::{Child as Process, Command, Stdio},
    thread,
};

use reqwest::{Client, Method};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::{CPP, Child, bundle, child, upload::entry};

struct Program {
    process: Process,
    base: String,
    root: String,
    client: Client,
    data: TempDir,
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ended = (self.process.kill(), self.process.wait());
    }
}

impl Program {
    fn start() -> Self {
        let data = TempDir::new().unwrap();
        let log = File::create(data.path().join("log")).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_cpis-gateway"));
        for (name, value) in [
            ("LISTEN", "127.0.0.1:0"),
            ("MANAGEMENT__LISTEN", "127.0.0.1:0"),
            ("PDS__MODE", "off"),
            ("LOG__FILTER", "trace"),
            ("LOG__FORMAT", "json"),
        ] {
            command.env(format!("CPIS_{name}"), value);
        }
        command.args(["serve", "--sandbox", "--data"]).arg(data.path()).stdin(Stdio::null());
        let mut process = command.stdout(Stdio::piped()).stderr(log).spawn().unwrap();
        let mut said = BufReader::new(process.stdout.take().unwrap()).lines();
        let base = said.by_ref().find_map(|line| line.unwrap().strip_prefix("FHIR base").map(|b| b.trim().to_owned()));
        let base = base.expect("it says where it is");
        // Its banner is longer than a pipe may hold.
        thread::spawn(move || said.for_each(drop));
        let root = base.strip_suffix("/cpis/FHIR/R4").expect("the base path").to_owned();
        Self { process, base, root, client: Client::new(), data }
    }

    async fn ask(&self, role: &str, organization: &str, method: Method, path: &str, body: Option<&Value>) -> String {
        let form = format!("role={role}&organization={organization}");
        let token = self.client.post(format!("{}/sandbox/token", self.root));
        let token = token.header("content-type", "application/x-www-form-urlencoded").body(form);
        let token: Value = token.send().await.unwrap().json().await.unwrap();
        let asked = self.client.request(method, format!("{}{path}", self.base));
        let mut asked = asked.bearer_auth(token["access_token"].as_str().expect("a token"));
        if let Some(body) = body {
            asked = asked.header("content-type", "application/fhir+json").body(body.to_string());
        }
        asked.send().await.unwrap().text().await.unwrap()
    }

    async fn register(&self, authority: &str, child: &Child) {
        let entries = [child.put_patient(), entry("POST", "Flag", child.flag(authority, CPP, "2026-09-14", None))];
        let body = bundle("batch", &entries);
        let answer = self.ask("local-authority", authority, Method::POST, "", Some(&body)).await;
        assert!(answer.contains("CPF02"), "{answer}");
    }
}

#[actix_web::test]
async fn the_log_of_an_adoption_joins_nothing() {
    let program = Program::start();
    let (old, new) = (child(1), child(2));
    program.register("Z9A", &old).await;
    let look = async |child: &Child| program.ask("clinical", "ZZ101", Method::GET, &child.care_team(), None).await;
    assert!(look(&old).await.contains("\"total\":1"));
    let said = json!({"resourceType": "Parameters", "parameter": [{"name": "reason", "valueCode": "retired"}]});
    let inactive = format!("/Patient/{}/$inactive", old.nhs());
    program.ask("administrator", "ZZ901", Method::POST, &inactive, Some(&said)).await;
    program.register("Z9B", &new).await;
    assert!(look(&old).await.contains("\"total\":0"));
    assert!(look(&new).await.contains("\"total\":1"));
    for child in [&old, &new] {
        let events = format!("/AuditEvent?patient={}", child.nhs());
        assert!(program.ask("auditor", "ZZ801", Method::GET, &events, None).await.contains("AuditEvent"));
        program.ask("clinical", "ZZ101", Method::GET, &format!("/Patient/{}/$everything", child.nhs()), None).await;
    }
    let log = std::fs::read_to_string(program.data.path().join("log")).unwrap();
    assert!(log.matches("answered").count() >= 10, "it logs what it does: {log}");
    for secret in [old.nhs(), new.nhs(), old.family, old.given, old.birth_date] {
        assert!(!log.contains(secret), "in the log: {secret}");
    }
}
