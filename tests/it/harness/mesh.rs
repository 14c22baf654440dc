//! MESH for the tests: NHS's own mesh-sandbox, with mailboxes of ours, and the authorities' side by NHS's own mesh-client.
//! Both are installed by `scripts/install-test.sh`; a test that needs them and doesn't find them fails.
//!
//! One sandbox serves the whole test binary; each test has mailboxes of its own in it ([`Exchange::new`]). A test that
//! stops or restarts its sandbox has one of its own ([`Mesh::start`]).

use std::{
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::{
        Arc, LazyLock, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use chrono::TimeDelta;
use cpis_gateway::{
    config::{Secret, Settings},
    hl7v3::message::{self, Message},
    outside::mesh::{ClientIdentity, MeshClient, MeshSettings},
};
use secrecy::SecretString;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{Backend, TestApp, ods};

pub const SHARED_KEY: &str = "TestKey";
pub const UPLOAD: &str = "CPIS_UPLOAD";
pub const ACKNOWLEDGEMENT: &str = "CPIS_UPLOAD_ACK";
pub const ACCESS: &str = "CPIS_ACCESS";
pub const INACTIVE: &str = "CPIS_INACTIVE";

/// Tests that can have mailboxes in one sandbox.
const EXCHANGES: usize = 200;

fn python() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let tools = std::env::var_os("CPIS_TEST_TOOLS").map_or_else(|| root.join("target/tools"), PathBuf::from);
    let python = tools.join("mesh/bin/python");
    assert!(
        python.exists(),
        "{} is missing: run `make install-test`, which installs mesh-sandbox and mesh-client (or name the folder of the \
         tools in CPIS_TEST_TOOLS)",
        python.display()
    );
    python
}

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/mesh").join(name)
}

/// Keys and certificates for mutual TLS, as files.
pub struct Certificates {
    folder: TempDir,
}

impl Certificates {
    /// An authority, a server on 127.0.0.1, and a client; by openssl.
    pub fn make() -> Self {
        let folder = TempDir::new().unwrap();
        let run = |line: &str| {
            let made = Command::new("openssl").args(line.split(' ')).current_dir(&folder).output().unwrap();
            assert!(made.status.success(), "openssl {line}: {}", String::from_utf8_lossy(&made.stderr));
        };
        std::fs::write(folder.path().join("server.ext"), "subjectAltName=IP:127.0.0.1\n").unwrap();
        run("req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.pem -days 2 -subj /CN=Test-CA");
        for name in ["server", "client", "stranger"] {
            run(&format!("req -newkey rsa:2048 -nodes -keyout {name}.key -out {name}.csr -subj /CN={name}"));
        }
        run(
            "x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -out server.pem -days 2 -extfile server.ext",
        );
        run("x509 -req -in client.csr -CA ca.pem -CAkey ca.key -CAcreateserial -out client.pem -days 2");
        run("x509 -req -in stranger.csr -key stranger.key -out stranger.pem -days 2");
        Self { folder }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn identity(&self, name: &str) -> ClientIdentity {
        ClientIdentity {
            certificate: std::fs::read(self.path(&format!("{name}.pem"))).unwrap(),
            key: std::fs::read(self.path(&format!("{name}.key"))).unwrap().into(),
        }
    }
}

/// A running sandbox.
pub struct Mesh {
    pub url: String,
    port: u16,
    folder: Arc<TempDir>,
    process: Mutex<Option<(Child, ChildStdin)>>,
    authorities: Mutex<(Child, ChildStdin, BufReader<ChildStdout>)>,
}

static SHARED: LazyLock<Mesh> = LazyLock::new(Mesh::start);
static NEXT: AtomicUsize = AtomicUsize::new(0);

fn mailboxes(folder: &Path) {
    let (mut lines, mut everybody) = (String::new(), Vec::new());
    for n in 0..EXCHANGES {
        for (prefix, code) in [("CPIS", "X26"), ("LAA", "Z9A"), ("LAB", "Z9B")] {
            let id = format!("{prefix}{n:03}");
            let row = json!({"mailbox_id": id, "mailbox_name": id, "billing_entity": "England", "ods_code": code,
                             "org_code": code, "password": "password"});
            lines.push_str(&format!("{row}\n"));
            everybody.push(id);
        }
    }
    let workflows: String = [UPLOAD, ACKNOWLEDGEMENT, ACCESS, INACTIVE]
        .iter()
        .map(|id| format!("{}\n", json!({"workflow_id": id, "senders": everybody, "receivers": everybody})))
        .collect();
    std::fs::create_dir_all(folder.join("data")).unwrap();
    std::fs::write(folder.join("data/mailboxes.jsonl"), lines).unwrap();
    std::fs::write(folder.join("data/workflows.jsonl"), workflows).unwrap();
}

fn serve(folder: &Path, port: u16, tls: Option<&Certificates>) -> (u16, Child, ChildStdin) {
    let mut command = Command::new(python());
    command.arg(script("sandbox.py")).arg(folder).arg(port.to_string());
    if let Some(tls) = tls {
        command.args([tls.path("server.key"), tls.path("server.pem"), tls.path("ca.pem")]);
    }
    let mut child = command
        .env("SHARED_KEY", SHARED_KEY)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(std::fs::File::create(folder.join("log")).unwrap())
        .spawn()
        .unwrap();
    let stdin = child.stdin.take().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let log = || std::fs::read_to_string(folder.join("log")).unwrap_or_default();
    let port = line.trim().parse().unwrap_or_else(|_| panic!("mesh-sandbox did not start: {}", log()));
    (port, child, stdin)
}

fn client_side(url: &str, tls: Option<&Certificates>) -> (Child, ChildStdin, BufReader<ChildStdout>) {
    let mut command = Command::new(python());
    command.arg(script("authority.py")).args([url, SHARED_KEY]);
    if let Some(tls) = tls {
        command.args([tls.path("client.pem"), tls.path("client.key"), tls.path("ca.pem")]);
    }
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let (stdin, stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    (child, stdin, BufReader::new(stdout))
}

impl Drop for Mesh {
    fn drop(&mut self) {
        self.stop();
        let authorities = self.authorities.get_mut().unwrap_or_else(std::sync::PoisonError::into_inner);
        drop(authorities.0.kill());
        drop(authorities.0.wait());
    }
}

impl Mesh {
    /// A sandbox of its own, on a free port.
    pub fn start() -> Self {
        Self::start_with(None)
    }

    /// A sandbox that speaks TLS and takes clients with a certificate only.
    pub fn start_with(tls: Option<&Certificates>) -> Self {
        let folder = TempDir::new().unwrap();
        mailboxes(folder.path());
        let (port, child, stdin) = serve(folder.path(), 0, tls);
        let url = format!("{}://127.0.0.1:{port}", if tls.is_some() { "https" } else { "http" });
        let authorities = client_side(&url, tls).into();
        Self { url, port, folder: Arc::new(folder), process: Mutex::new(Some((child, stdin))), authorities }
    }

    /// Ends the sandbox; nothing listens any more.
    pub fn stop(&self) {
        if let Some((mut child, stdin)) = self.process.lock().unwrap().take() {
            drop(stdin);
            drop(child.kill());
            drop(child.wait());
        }
    }

    /// Starts the sandbox again on the same port, with the messages that it had.
    pub fn start_again(&self) {
        let (_, child, stdin) = serve(self.folder.path(), self.port, None);
        *self.process.lock().unwrap() = Some((child, stdin));
    }

    /// Asks the authorities' side for something; what it can do is in `authority.py`.
    pub fn ask(&self, asked: &Value) -> Value {
        let mut side = self.authorities.lock().unwrap();
        writeln!(side.1, "{asked}").unwrap();
        let mut line = String::new();
        side.2.read_line(&mut line).unwrap();
        let said: Value = serde_json::from_str(&line).unwrap_or_else(|_| panic!("authority.py ended: {line}"));
        assert!(said["fault"].is_null(), "{said}");
        said
    }

    /// Our client for a mailbox.
    pub fn client(&self, mailbox: &str, chunk_bytes: usize) -> MeshClient {
        MeshClient::new(self.client_settings(mailbox, chunk_bytes)).unwrap()
    }

    pub fn client_settings(&self, mailbox: &str, chunk_bytes: usize) -> MeshSettings {
        MeshSettings {
            url: self.url.clone(),
            mailbox: mailbox.to_owned(),
            password: SecretString::from("password"),
            shared_key: SecretString::from(SHARED_KEY),
            identity: None,
            authorities: None,
            chunk_bytes,
            retry_pause: Duration::from_millis(1),
        }
    }

    /// Mailboxes that no other test of this binary uses.
    pub fn exchange(&self) -> Exchange<'_> {
        let n = NEXT.fetch_add(1, Ordering::SeqCst);
        assert!(n < EXCHANGES, "more mailboxes are needed");
        Exchange { mesh: self, cpis: format!("CPIS{n:03}"), a: format!("LAA{n:03}"), b: format!("LAB{n:03}") }
    }
}

/// One test's mailboxes: the gateway's and two authorities'.
pub struct Exchange<'a> {
    pub mesh: &'a Mesh,
    pub cpis: String,
    /// Z9A's.
    pub a: String,
    /// Z9B's.
    pub b: String,
}

/// A message as an authority takes it.
#[derive(Clone, Debug)]
pub struct TakenMessage {
    pub workflow: String,
    pub local_id: String,
    pub content_type: String,
    pub chunks: String,
    pub body: Vec<u8>,
}

impl TakenMessage {
    /// As HL7 v3.
    pub fn message(&self) -> Message {
        message::read(self.body.as_slice()).unwrap()
    }
}

impl Exchange<'static> {
    /// Mailboxes in the sandbox of the whole test binary.
    pub fn new() -> Self {
        SHARED.exchange()
    }
}

impl Exchange<'_> {
    /// The `[mesh]` section for the gateway's mailbox: each access goes by itself, nothing is waited for.
    pub fn configure(&self, settings: &mut Settings) {
        settings.mesh.enabled = true;
        settings.mesh.url = Some(self.mesh.url.clone());
        settings.mesh.mailbox = Some(self.cpis.clone());
        settings.mesh.password = Some(Secret::new("password"));
        settings.mesh.shared_key = Some(Secret::new(SHARED_KEY));
        settings.mesh.upload_workflow = Some(UPLOAD.to_owned());
        settings.mesh.acknowledgement_workflow = Some(ACKNOWLEDGEMENT.to_owned());
        settings.mesh.access_workflow = Some(ACCESS.to_owned());
        settings.mesh.inactive_workflow = Some(INACTIVE.to_owned());
        settings.mesh.access_window_minutes = 0;
    }

    /// A gateway that has this mailbox, and knows those of Z9A and Z9B.
    pub async fn gateway(&self, backend: Backend) -> TestApp {
        self.gateway_with(backend, |_| {}).await
    }

    /// [`Exchange::gateway`] with other settings.
    pub async fn gateway_with(&self, backend: Backend, change: impl FnOnce(&mut Settings)) -> TestApp {
        let app = TestApp::start_with(backend, |settings| {
            self.configure(settings);
            change(settings);
        })
        .await;
        for (code, mailbox) in [("Z9A", &self.a), ("Z9B", &self.b)] {
            let set = app.app.gateway.set_mesh_mailbox(ods(code), mailbox.clone(), TimeDelta::days(30));
            set.await.unwrap().unwrap();
        }
        app
    }

    /// An authority sends a file; returns MESH's id of it.
    pub fn send(&self, from: &str, body: impl AsRef<[u8]>) -> String {
        self.send_as(from, UPLOAD, body, json!({}))
    }

    /// [`Exchange::send`] under another workflow, and with more of what `authority.py` knows.
    pub fn send_as(&self, from: &str, workflow: &str, body: impl AsRef<[u8]>, more: Value) -> String {
        let mut asked = json!({"do": "send", "from": from, "to": self.cpis, "workflow": workflow,
                               "body": STANDARD.encode(body.as_ref())});
        asked.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        self.mesh.ask(&asked)["id"].as_str().unwrap().to_owned()
    }

    /// Ids of what waits in a mailbox.
    pub fn waiting(&self, mailbox: &str) -> Vec<String> {
        let said = self.mesh.ask(&json!({"do": "list", "mailbox": mailbox}));
        said["ids"].as_array().unwrap().iter().map(|id| id.as_str().unwrap().to_owned()).collect()
    }

    /// What waits in a mailbox, taken out of it.
    pub fn take(&self, mailbox: &str) -> Vec<TakenMessage> {
        let said = self.mesh.ask(&json!({"do": "take", "mailbox": mailbox}));
        let text = |message: &Value, name: &str| message[name].as_str().unwrap_or_default().to_owned();
        said["messages"]
            .as_array()
            .unwrap()
            .iter()
            .map(|message| TakenMessage {
                workflow: text(message, "workflow_id"),
                local_id: text(message, "local_id"),
                content_type: text(message, "content_type"),
                chunks: text(message, "chunks"),
                body: STANDARD.decode(text(message, "body")).unwrap(),
            })
            .collect()
    }

    /// What became of a message that an authority sent.
    pub fn status(&self, mailbox: &str, id: &str) -> String {
        let said = self.mesh.ask(&json!({"do": "track", "mailbox": mailbox, "id": id}));
        said["status"].as_str().unwrap().to_ascii_lowercase()
    }

    /// MESH reports to the gateway that a message of its was not delivered.
    pub fn report(&self, linked: &str, code: &str) {
        let report = json!({"mailbox_id": self.cpis, "code": code, "description": "as the test says", "status": "error",
                            "workflow_id": ACCESS, "linked_message_id": linked});
        self.mesh.ask(&json!({"do": "report", "report": report}));
    }
}
