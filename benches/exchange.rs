//! A file of records over MESH, beside clinicians' look-ups: how long until it is applied and acknowledged, what that does
//! to the look-ups, and what memory it takes.
//!
//! `make bench-exchange [RECORDS=10000]`, or `cargo bench --bench exchange -- RECORDS`. The real program on SQLite, NHS's own
//! mesh-sandbox, real HTTP; the figures of one run are compared with each other only (docs/performance.md).

#![expect(clippy::print_stdout, reason = "a bench prints its figures")]

use std::{
    fmt::Write as _,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};
use chrono::Utc;
use cpis_gateway::{
    cpis::types::{
        NhsNumber,
        child::{Demographics, NumberStatus},
    },
    outside::mesh::{MeshClient, MeshSettings, Outgoing},
    store::{Location, Options, Store, register},
};
use serde_json::Value;

const SHARED_KEY: &str = "TestKey";
const GATEWAY_MAILBOX: &str = "CPISHC001";
const AUTHORITY_MAILBOX: &str = "LAZ9A001";
/// Connections of clinicians, each with one look-up at a time.
const CLINICIANS: usize = 16;
/// How long the look-ups are measured by themselves.
const ALONE: Duration = Duration::from_secs(10);
/// First number of the file's children in the 999 range; the sandbox's own lie elsewhere.
const FIRST: u32 = 600_000;

/// A process that ends with this program.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ended = (self.0.kill(), self.0.wait());
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let records: u32 = std::env::args().skip(1).find_map(|argument| argument.parse().ok()).unwrap_or(10_000);
    let folder = tempfile::tempdir()?;
    let data = folder.path().join("data");
    // The first start makes the sandbox; the register of the file's children is added while it is stopped.
    let gateway = start_gateway(&data, None)?;
    wait_for(&data).await?;
    drop(gateway);
    fill_register(&data, records).await?;
    let (mesh_sandbox, url) = start_mesh(folder.path())?;
    mailbox_of_the_authority(&data)?;
    let gateway = start_gateway(&data, Some(&url))?;
    let base = wait_for(&data).await?;

    let token = clinician_token(&base).await?;
    let number = example(&data)?;
    // Both are warmed up before anything is measured.
    look_ups(&base, &token, &number, Duration::from_secs(2), None).await?;
    let alone = look_ups(&base, &token, &number, ALONE, None).await?;
    let before_kb = memory_kb(&gateway, "VmRSS")?;

    let authority = mesh_client(&url)?;
    let file = file(records)?;
    let bytes = file.len();
    let done = Arc::new(AtomicBool::new(false));
    let measuring = tokio::spawn({
        let (base, token, number, done) = (base.clone(), token.clone(), number.clone(), done.clone());
        async move { look_ups(&base, &token, &number, Duration::from_secs(600), Some(done)).await }
    });
    let outgoing = Outgoing {
        to: GATEWAY_MAILBOX,
        workflow: "CPIS_UPLOAD",
        local_id: "bench-1",
        file_name: "bench.xml",
        content_type: "application/xml",
    };
    authority.send(outgoing, bytes as u64, &mut file.as_bytes()).await.context("the file is sent")?;
    let sent = Instant::now();
    let answer = acknowledgement(&authority).await?;
    let took = sent.elapsed();
    done.store(true, Ordering::Relaxed);
    let beside = measuring.await??;
    ensure!(
        answer.contains("CPF02"),
        "the file was not loaded whole: {}",
        answer.chars().take(900).collect::<String>()
    );
    let (after_kb, peak_kb) = (memory_kb(&gateway, "VmRSS")?, memory_kb(&gateway, "VmHWM")?);
    drop((gateway, mesh_sandbox));

    let (p99_alone, p99_beside) = (alone.percentile(99), beside.percentile(99));
    println!("records                        {records} ({:.1} MB)", bytes as f64 / 1e6);
    println!("applied and acknowledged in    {:.1} s", took.as_secs_f64());
    println!("look-ups alone                 {}", alone.line());
    println!("look-ups beside the file       {}", beside.line());
    println!("p99 beside / p99 alone         {:.2}", p99_beside.as_secs_f64() / p99_alone.as_secs_f64());
    println!("memory before, after, peak     {} MB, {} MB, {} MB", before_kb / 1024, after_kb / 1024, peak_kb / 1024);
    Ok(())
}

/// Latencies of answered look-ups.
struct Latencies(Vec<Duration>, Duration);

impl Latencies {
    fn percentile(&self, percent: usize) -> Duration {
        let place = (self.0.len() * percent / 100).min(self.0.len().saturating_sub(1));
        self.0.get(place).copied().unwrap_or_default()
    }

    fn line(&self) -> String {
        let milliseconds = |percent| self.percentile(percent).as_secs_f64() * 1e3;
        let rate = self.0.len() as f64 / self.1.as_secs_f64();
        format!("{rate:.0}/s, p50 {:.1} ms, p99 {:.1} ms", milliseconds(50), milliseconds(99))
    }
}

/// Audited look-ups of one child over [`CLINICIANS`] connections for so long, or until `done`. Each must be answered.
async fn look_ups(
    base: &str,
    token: &str,
    number: &str,
    long: Duration,
    done: Option<Arc<AtomicBool>>,
) -> anyhow::Result<Latencies> {
    let url = format!("{base}/CareTeam?patient:identifier=https://fhir.nhs.uk/Id/nhs-number%7C{number}");
    let client = reqwest::Client::new();
    let begin = Instant::now();
    let mut clinicians = tokio::task::JoinSet::new();
    for _ in 0..CLINICIANS {
        let (client, url, token, done) = (client.clone(), url.clone(), token.to_owned(), done.clone());
        clinicians.spawn(async move {
            let mut latencies = Vec::new();
            while begin.elapsed() < long && !done.as_ref().is_some_and(|done| done.load(Ordering::Relaxed)) {
                let asked = Instant::now();
                let answer = client.get(&url).bearer_auth(&token).header("IsUnscheduledAccessEvent", "true").send();
                let answer = answer.await?;
                ensure!(answer.status() == 200, "a look-up was answered {}", answer.status());
                answer.bytes().await?;
                latencies.push(asked.elapsed());
            }
            anyhow::Ok(latencies)
        });
    }
    let mut all = Vec::new();
    while let Some(latencies) = clinicians.join_next().await {
        all.extend(latencies??);
    }
    all.sort_unstable();
    Ok(Latencies(all, begin.elapsed()))
}

fn program() -> Command {
    Command::new(env!("CARGO_BIN_EXE_cpis-gateway"))
}

fn start_gateway(data: &Path, mesh: Option<&str>) -> anyhow::Result<Running> {
    let mut command = program();
    command.args(["serve", "--sandbox", "--listen", "127.0.0.1:0", "--data"]).arg(data);
    command.env("CPIS_LOG__FILTER", "error");
    if let Some(url) = mesh {
        for (name, value) in [
            ("ENABLED", "true"),
            ("URL", url),
            ("MAILBOX", GATEWAY_MAILBOX),
            ("PASSWORD", "password"),
            ("SHARED_KEY", SHARED_KEY),
            ("UPLOAD_WORKFLOW", "CPIS_UPLOAD"),
            ("ACKNOWLEDGEMENT_WORKFLOW", "CPIS_UPLOAD_ACK"),
            ("ACCESS_WORKFLOW", "CPIS_ACCESS"),
            ("INACTIVE_WORKFLOW", "CPIS_INACTIVE"),
            ("POLL_SECONDS", "1"),
        ] {
            command.env(format!("CPIS_MESH__{name}"), value);
        }
    }
    Ok(Running(command.stdout(Stdio::null()).spawn()?))
}

fn directory(data: &Path) -> anyhow::Result<Value> {
    Ok(serde_json::from_slice(&std::fs::read(data.join("sandbox.json"))?)?)
}

fn example(data: &Path) -> anyhow::Result<String> {
    let directory = directory(data)?;
    Ok(directory["examples"]["active_plan"].as_str().context("the sandbox names an example")?.to_owned())
}

/// The FHIR base, once it answers.
async fn wait_for(data: &Path) -> anyhow::Result<String> {
    let client = reqwest::Client::new();
    for _ in 0..300 {
        if let Ok(directory) = directory(data)
            && let Some(base) = directory["base_url"].as_str()
            && client.get(format!("{base}/metadata")).send().await.is_ok_and(|answer| answer.status() == 200)
        {
            return Ok(base.to_owned());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    bail!("the gateway did not answer within 30 seconds")
}

async fn clinician_token(base: &str) -> anyhow::Result<String> {
    let root = reqwest::Url::parse(base)?;
    let form = [("role", "clinical"), ("user", "555000000101")];
    let body = form.map(|(name, value)| format!("{name}={value}")).join("&");
    let answer = reqwest::Client::new()
        .post(root.join("/sandbox/token")?)
        .header("Content-Type", "application/x-www-form-urlencoded")
        .body(body)
        .send()
        .await?;
    let answer: Value = answer.json().await?;
    Ok(answer["access_token"].as_str().context("a token")?.to_owned())
}

/// The valid numbers of the file's children.
fn numbers(records: u32) -> impl Iterator<Item = NhsNumber> {
    let number = |index: u32| (0..10).find_map(|check| NhsNumber::parse(&format!("999{index:06}{check}")).ok());
    (FIRST..).filter_map(number).take(records as usize)
}

async fn fill_register(data: &Path, records: u32) -> anyhow::Result<()> {
    let location = Location::parse(&format!("sqlite:{}", data.join("cpis.sqlite").display()))?;
    let clock = cpis_gateway::clock::Clock::system();
    let store = Store::open(Options { location, readers: 1, process: "bench".to_owned(), clock })?;
    let numbers: Vec<NhsNumber> = numbers(records).collect();
    let write = store.write(Vec::new(), move |tx| {
        for number in &numbers {
            let person = Demographics {
                family: "Testcase".to_owned(),
                given: vec!["Robin".to_owned()],
                birth_date: "2017-05-11".parse().unwrap_or_default(),
            };
            register::add(tx.conn, number, &person, NumberStatus::Current, None)?;
        }
        Ok(())
    });
    write.await?;
    store.close(None);
    Ok(())
}

fn mailbox_of_the_authority(data: &Path) -> anyhow::Result<()> {
    let mut command = program();
    command.args(["mesh", "mailboxes", "set", "Z9A", AUTHORITY_MAILBOX, "--sandbox", "--data"]).arg(data);
    let done = command.stdout(Stdio::null()).status()?;
    ensure!(done.success(), "the authority's mailbox could not be set");
    Ok(())
}

fn start_mesh(folder: &Path) -> anyhow::Result<(Running, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let tools = std::env::var_os("CPIS_TEST_TOOLS").map_or_else(|| root.join("target/tools"), PathBuf::from);
    let python = tools.join("mesh/bin/python");
    ensure!(python.exists(), "mesh-sandbox is not installed: `make install-test` installs it");
    let folder = folder.join("mesh");
    std::fs::create_dir_all(folder.join("data"))?;
    let mut mailboxes = String::new();
    for (mailbox, ods) in [(GATEWAY_MAILBOX, "X26"), (AUTHORITY_MAILBOX, "Z9A")] {
        writeln!(
            mailboxes,
            r#"{{"mailbox_id":"{mailbox}","mailbox_name":"{mailbox}","billing_entity":"England","ods_code":"{ods}","org_code":"{ods}","password":"password"}}"#
        )?;
    }
    std::fs::write(folder.join("data/mailboxes.jsonl"), mailboxes)?;
    let mut workflows = String::new();
    for (workflow, from, to) in [
        ("CPIS_UPLOAD", AUTHORITY_MAILBOX, GATEWAY_MAILBOX),
        ("CPIS_UPLOAD_ACK", GATEWAY_MAILBOX, AUTHORITY_MAILBOX),
        ("CPIS_ACCESS", GATEWAY_MAILBOX, AUTHORITY_MAILBOX),
        ("CPIS_INACTIVE", GATEWAY_MAILBOX, AUTHORITY_MAILBOX),
    ] {
        writeln!(workflows, r#"{{"workflow_id":"{workflow}","senders":["{from}"],"receivers":["{to}"]}}"#)?;
    }
    std::fs::write(folder.join("data/workflows.jsonl"), workflows)?;
    let mut child = Command::new(python)
        .arg(root.join("tests/it/mesh/sandbox.py"))
        .arg(&folder)
        .arg("0")
        .env("SHARED_KEY", SHARED_KEY)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut port = String::new();
    BufReader::new(child.stdout.take().context("its output")?).read_line(&mut port)?;
    let url = format!("http://127.0.0.1:{}", port.trim());
    Ok((Running(child), url))
}

fn mesh_client(url: &str) -> anyhow::Result<MeshClient> {
    Ok(MeshClient::new(MeshSettings {
        url: url.to_owned(),
        mailbox: AUTHORITY_MAILBOX.to_owned(),
        password: "password".to_owned().into(),
        shared_key: SHARED_KEY.to_owned().into(),
        identity: None,
        authorities: None,
        chunk_bytes: 16 << 20,
        retry_pause: Duration::from_millis(100),
    })?)
}

/// The acknowledgement, once it is in the authority's mailbox.
async fn acknowledgement(authority: &MeshClient) -> anyhow::Result<String> {
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_secs(300) {
        if let Some(id) = authority.list(None, Some("CPIS_UPLOAD_ACK")).await?.ids.first() {
            let mut body = Vec::new();
            authority.download(id, &mut body, 1 << 30).await?;
            return Ok(String::from_utf8(body)?);
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    bail!("no acknowledgement came within five minutes")
}

/// A file of so many children with a plan each.
fn file(records: u32) -> anyhow::Result<String> {
    let now = Utc::now().format("%Y%m%d%H%M%S+0000");
    let mut xml = format!(
        r#"<File xmlns="urn:hl7-org:v3" xmlns:npfitlc="NPFIT:HL7:Localisation"><creationTime value="{now}"/><id extension="1"/><transmissionQuantity value="{records}"/><communicationFunctionSnd><organisation><id root="2.16.840.1.113883.2.1.3.2.4.19.1" extension="Z9A"/><name>WESTMARCH COUNTY COUNCIL</name></organisation></communicationFunctionSnd>"#
    );
    for number in numbers(records) {
        write!(
            xml,
            r#"<record><CP-ISRecord><subject><npfitlc:contentId root="2.16.840.1.113883.2.1.3.2.4.18.16" extension="COCT_TP145101GB01#Child"/><COCT_TP145101GB01.Child><id root="2.16.840.1.113883.2.1.4.1" extension="{}"/><childPerson><name use="L"><given>Robin</given><family>Testcase</family></name><birthTime value="20170511"/></childPerson></COCT_TP145101GB01.Child></subject><pertinentInformation><npfitlc:contentId root="2.16.840.1.113883.2.1.3.2.4.18.16" extension="COCT_TP146101GB01#CPPInformation"/><COCT_TP146101GB01.CPPInformation><component><cPPStartDate><value value="20260914"/></cPPStartDate></component></COCT_TP146101GB01.CPPInformation></pertinentInformation></CP-ISRecord></record>"#,
            number.as_str()
        )?;
    }
    xml.push_str("</File>");
    Ok(xml)
}

/// A figure of the gateway's memory by its name in `/proc`, in kB.
fn memory_kb(gateway: &Running, name: &str) -> anyhow::Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", gateway.0.id()))?;
    let line = status.lines().find(|line| line.starts_with(name)).context("the figure")?;
    Ok(line.split_whitespace().nth(1).context("a number")?.parse()?)
}
