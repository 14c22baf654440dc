//! The real program, killed by SIGKILL again and again while it exchanges messages with mesh-sandbox: every upload is
//! applied once and acknowledged, every access is told at least once, each under one id.
//!
//! Between the program and MESH stands a proxy that knows when a call begins and when its answer comes, so that the kills
//! fall where they hurt: before a call reaches MESH, after MESH has done it and before the answer is back, and a little
//! after the answer. Which call, which place and what is sent come from a seed that is printed. `CPIS_TEST_KILL_ROUNDS`
//! and `CPIS_TEST_KILL_SEED` choose others (`make kill-long`: 100 rounds).

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{BufRead, BufReader, Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    path::Path,
    process::{Child as Process, Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use chrono::Utc;
use cpis_gateway::{
    auth::sandbox::{SandboxIssuer, TokenRequest},
    cpis::types::{
        NhsNumber,
        caller::{User, VIEW_FLAG},
    },
    hl7v3::message::Message,
    http::sandbox::cast::Member,
    store::{Conn, Location},
};
use diesel::{QueryableByName, RunQueryDsl, sql_query, sql_types::Text};
use serde_json::Value;
use tempfile::TempDir;

use super::file_at;
use crate::harness::{
    Child,
    mesh::{Exchange, Mesh, SHARED_KEY},
    ods,
};

const PROGRAM: &str = env!("CARGO_BIN_EXE_cpis-gateway");
/// How long the program may take to catch up at the end.
const PATIENCE: Duration = Duration::from_secs(240);

/// Where a kill falls.
#[derive(Clone, Copy, Debug)]
enum Place {
    /// The call has not reached MESH.
    BeforeCall,
    /// MESH has done it, the program doesn't know.
    BeforeAnswer,
    /// So long after the answer.
    After(Duration),
}

/// Numbers from a seed (xorshift).
struct Dice(u64);

impl Dice {
    fn below(&mut self, most: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % most
    }
}

#[derive(Default)]
struct Trap {
    /// Calls until the kill, and where it falls.
    set: Option<(u64, Place)>,
    process: Option<Process>,
}

/// Stands between the program and MESH.
struct Proxy {
    port: u16,
    trap: Arc<Mutex<Trap>>,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        spring(&mut self.trap.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
    }
}

impl Proxy {
    fn start(mesh: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (trap, mesh) = (Arc::new(Mutex::new(Trap::default())), mesh.trim_start_matches("http://").to_owned());
        let shared = trap.clone();
        // Ends with the test process.
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let Ok(server) = TcpStream::connect(&mesh) else { continue };
                let waits = Arc::new(AtomicBool::new(false));
                let due = Arc::new(Mutex::new(None));
                for (from, to, is_call) in [(&client, &server, true), (&server, &client, false)] {
                    let (from, to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
                    let (waits, due, trap) = (waits.clone(), due.clone(), shared.clone());
                    thread::spawn(move || pass_on(from, to, is_call, &waits, &due, &trap));
                }
            }
        });
        Self { port, trap }
    }
}

/// Copies one direction of a connection. The first bytes of the program after an answer begin a call; the first bytes of
/// MESH after a call are its answer.
fn pass_on(
    mut from: TcpStream,
    mut to: TcpStream,
    is_call: bool,
    waits: &AtomicBool,
    due: &Mutex<Option<Place>>,
    trap: &Mutex<Trap>,
) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        let turns = waits.swap(is_call, Ordering::SeqCst) != is_call;
        if turns && is_call {
            let mut trap = trap.lock().unwrap();
            let place = match &mut trap.set {
                Some((calls @ 1.., _)) => {
                    *calls -= 1;
                    None
                }
                Some((_, place)) => Some(*place),
                None => None,
            };
            if place.is_some() {
                trap.set = None;
            }
            if matches!(place, Some(Place::BeforeCall)) {
                spring(&mut trap);
                break;
            }
            *due.lock().unwrap() = place;
        }
        let falls = if turns && !is_call { due.lock().unwrap().take() } else { None };
        if matches!(falls, Some(Place::BeforeAnswer)) {
            spring(&mut trap.lock().unwrap());
            break;
        }
        if to.write_all(&buffer[..length]).is_err() {
            break;
        }
        if let Some(Place::After(pause)) = falls {
            thread::sleep(pause);
            spring(&mut trap.lock().unwrap());
        }
    }
    drop(from.shutdown(Shutdown::Both));
    drop(to.shutdown(Shutdown::Both));
}

fn spring(trap: &mut Trap) {
    if let Some(process) = &mut trap.process {
        process.kill().unwrap();
        process.wait().unwrap();
    }
    trap.process = None;
}

/// The program under test, its data, and MESH.
struct Scene<'a> {
    exchange: Exchange<'a>,
    proxy: Proxy,
    data: TempDir,
    /// The FHIR base of the running process.
    base: String,
    client: reqwest::Client,
}

impl Scene<'_> {
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(PROGRAM);
        let exchange = &self.exchange;
        command.args(arguments).arg("--sandbox").arg("--data").arg(self.data.path()).stdin(Stdio::null());
        for (name, value) in [
            ("ENABLED", "true"),
            ("URL", &format!("http://127.0.0.1:{}", self.proxy.port)),
            ("MAILBOX", &exchange.cpis),
            ("PASSWORD", "password"),
            ("SHARED_KEY", SHARED_KEY),
            ("UPLOAD_WORKFLOW", crate::harness::mesh::UPLOAD),
            ("ACKNOWLEDGEMENT_WORKFLOW", crate::harness::mesh::ACKNOWLEDGEMENT),
            ("ACCESS_WORKFLOW", crate::harness::mesh::ACCESS),
            ("INACTIVE_WORKFLOW", crate::harness::mesh::INACTIVE),
            ("POLL_SECONDS", "1"),
            ("LEASE_SECONDS", "1"),
            ("ACCESS_WINDOW_MINUTES", "0"),
            // So that answers and files take several calls.
            ("CHUNK_BYTES", "1500"),
        ] {
            command.env(format!("CPIS_MESH__{name}"), value);
        }
        command
            .env("CPIS_NOTIFY__CATCH_UP_DAYS", "0")
            .env("CPIS_NOTIFY__RETRY_FIRST_SECONDS", "1")
            .env("CPIS_MANAGEMENT__LISTEN", "127.0.0.1:0")
            .env("CPIS_LISTEN", "127.0.0.1:0");
        command
    }

    /// Runs a command to its end; returns its standard output.
    fn run(&self, arguments: &[&str]) -> String {
        let done = self.command(arguments).output().unwrap();
        assert!(done.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8(done.stdout).unwrap()
    }

    /// Starts the service, to be killed as the trap says.
    fn serve(&mut self, trap: Option<(u64, Place)>) {
        let log = std::fs::File::options().create(true).append(true).open(self.data.path().join("log")).unwrap();
        let mut process = self.command(&["serve"]).stdout(Stdio::piped()).stderr(log).spawn().unwrap();
        let mut said = BufReader::new(process.stdout.take().unwrap()).lines();
        let base = said.by_ref().find_map(|line| line.unwrap().strip_prefix("FHIR base").map(|b| b.trim().to_owned()));
        self.base = base.unwrap_or_else(|| panic!("the program did not start: {}", self.log()));
        let mut held = self.proxy.trap.lock().unwrap();
        (held.process, held.set) = (Some(process), trap);
        // Its banner is longer than a pipe may hold.
        drop(held);
        thread::spawn(move || said.for_each(drop));
    }

    /// Waits for the kill; true when it fell.
    fn await_kill(&self, patience: Duration) -> bool {
        let begun = Instant::now();
        while begun.elapsed() < patience {
            if self.proxy.trap.lock().unwrap().process.is_none() {
                return true;
            }
            thread::sleep(Duration::from_millis(10));
        }
        spring(&mut self.proxy.trap.lock().unwrap());
        false
    }

    fn log(&self) -> String {
        let log = std::fs::read_to_string(self.data.path().join("log")).unwrap_or_default();
        log.lines().rev().take(60).collect::<Vec<_>>().into_iter().rev().collect::<Vec<_>>().join("\n")
    }

    /// A clinician whom nobody has seen before looks a child up; the program may be killed meanwhile.
    async fn look_up(&self, user: u64, child: &Child) {
        let member = Member::find("ZZ101").unwrap();
        let person = User {
            sds_user_id: format!("{}", 555_000_100_000 + user),
            role_profile_id: None,
            name: "SAMPLE, Kim".to_owned(),
            job_role_code: Some("R0620".to_owned()),
            job_role_name: Some("Staff Nurse".to_owned()),
        };
        let request = TokenRequest {
            client: &member.client().unwrap(),
            user: Some(&person),
            responsible: None,
            organization: &ods("ZZ101"),
            activities: &[VIEW_FLAG.to_owned()],
            lifetime_seconds: 3600,
        };
        let token = SandboxIssuer::open(self.data.path()).unwrap().mint(&request, Utc::now()).unwrap();
        let call = self.client.get(format!("{}{}", self.base, child.care_team()));
        let asked = call.bearer_auth(token).header("IsUnscheduledAccessEvent", "true").send().await;
        if let Ok(answer) = asked {
            assert_eq!(answer.status(), 200);
        }
    }

    fn rows(&self, query: &str) -> Vec<(String, String)> {
        #[derive(QueryableByName)]
        struct Pair {
            #[diesel(sql_type = Text)]
            a: String,
            #[diesel(sql_type = Text)]
            b: String,
        }
        let url = format!("sqlite:{}", self.data.path().join("cpis.sqlite").display());
        let Conn::Sqlite(mut conn) = Location::parse(&url).unwrap().connect().unwrap() else { panic!("SQLite") };
        let pairs: Vec<Pair> = sql_query(query).load(&mut conn).unwrap();
        pairs.into_iter().map(|pair| (pair.a, pair.b)).collect()
    }
}

/// Children of the sandbox's register who are on nobody's record.
fn uploadable(data: &Path) -> Vec<Child> {
    let told: Value = serde_json::from_slice(&std::fs::read(data.join("sandbox.json")).unwrap()).unwrap();
    let text = |child: &Value, name: &str| -> &'static str { child[name].as_str().unwrap().to_owned().leak() };
    told["uploadable"]
        .as_array()
        .unwrap()
        .iter()
        .map(|child| Child {
            number: NhsNumber::parse(text(child, "nhs_number")).unwrap(),
            family: text(child, "family"),
            given: text(child, "given"),
            birth_date: text(child, "birth_date"),
        })
        .collect()
}

#[actix_web::test]
async fn killed_anywhere_it_ends_with_each_effect_once_and_each_message_there() {
    let setting = |name: &str, default: u64| std::env::var(name).ok().map_or(default, |text| text.parse().unwrap());
    let rounds = setting("CPIS_TEST_KILL_ROUNDS", 10);
    let seed = setting("CPIS_TEST_KILL_SEED", u64::from(Utc::now().timestamp_subsec_nanos()) + 1);
    eprintln!("CPIS_TEST_KILL_SEED={seed} CPIS_TEST_KILL_ROUNDS={rounds}");
    let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let mesh = Mesh::start();
    let mut scene = Scene {
        exchange: mesh.exchange(),
        proxy: Proxy::start(&mesh.url),
        data: TempDir::new().unwrap(),
        base: String::new(),
        client: reqwest::Client::builder().timeout(Duration::from_secs(10)).build().unwrap(),
    };
    scene.serve(None);
    spring(&mut scene.proxy.trap.lock().unwrap());
    for (authority, mailbox) in [("Z9A", scene.exchange.a.clone()), ("Z9B", scene.exchange.b.clone())] {
        scene.run(&["mesh", "mailboxes", "set", authority, &mailbox]);
    }
    let children = uploadable(scene.data.path());
    let fallen = torment(&mut scene, &children, rounds, &mut dice).await;
    let (told, messages) = settle(&mut scene, rounds);
    check(&scene, rounds, &told);
    let duplicates = messages - told.messages.len();
    eprintln!("{rounds} rounds, {fallen} kills, {messages} messages taken, {duplicates} of them twice under one id");
    assert!(fallen * 10 >= rounds * 9, "the kills must fall: {fallen} of {rounds}");
}

/// Files, look-ups and kills.
async fn torment(scene: &mut Scene<'_>, children: &[Child], rounds: u64, dice: &mut Dice) -> u64 {
    let mut fallen = 0;
    for round in 0..rounds {
        let place = match dice.below(3) {
            0 => Place::BeforeCall,
            1 => Place::BeforeAnswer,
            _ => Place::After(Duration::from_millis(dice.below(120))),
        };
        let day = format!("2026-{:02}-{:02}", 1 + (round / 28) % 10, 1 + round % 28);
        for (authority, mailbox) in [("Z9A", &scene.exchange.a), ("Z9B", &scene.exchange.b)] {
            let records: Vec<(&Child, &str)> = children.iter().map(|child| (child, day.as_str())).collect();
            let number = i64::try_from(round).unwrap() + 1;
            scene.exchange.send(mailbox, file_at(Utc::now(), authority, number, &records));
        }
        scene.serve(Some((dice.below(16), place)));
        for n in 0..2 {
            let child = &children[usize::try_from(dice.below(children.len() as u64)).unwrap()];
            scene.look_up(round * 2 + n, child).await;
        }
        fallen += u64::from(scene.await_kill(Duration::from_secs(45)));
    }
    fallen
}

/// What the authorities were told: by file the codes, and by message of MESH's local id what it said.
#[derive(Default)]
struct Told {
    /// (authority's mailbox, file number) -> local ids of its acknowledgements and their codes.
    acknowledged: BTreeMap<(String, i64), BTreeSet<(String, String)>>,
    /// (authority's mailbox, id of the access) -> ids of the messages that told it.
    accesses: BTreeMap<(String, String), BTreeSet<String>>,
    messages: BTreeSet<String>,
}

/// Lets the program go on undisturbed until everything was sent, and takes what is in the authorities' mailboxes.
fn settle(scene: &mut Scene<'_>, rounds: u64) -> (Told, usize) {
    scene.serve(None);
    let (mut told, mut messages, begun) = (Told::default(), 0, Instant::now());
    loop {
        for mailbox in [scene.exchange.a.clone(), scene.exchange.b.clone()] {
            for taken in scene.exchange.take(&mailbox) {
                messages += 1;
                told.messages.insert(taken.local_id.clone());
                match taken.message() {
                    Message::Acknowledgement(read) => {
                        let of = (mailbox.clone(), read.number.expect("a number"));
                        told.acknowledged.entry(of).or_default().insert((taken.local_id, read.code));
                    }
                    Message::Access(read) => {
                        for access in read.accesses {
                            let of = (mailbox.clone(), access.id.expect("an id").to_string());
                            told.accesses.entry(of).or_default().insert(taken.local_id.clone());
                        }
                    }
                    other @ Message::InactiveNumber(_) => panic!("{other:?}"),
                }
            }
        }
        let open = scene.rows(
            "select state as a, coalesce(last_error, '') as b from mesh_message where state in ('queued', 'sending') \
             union all select n.kind, 'not collected' from outbox n join mesh_mailbox m on m.authority_id = n.authority_id \
             where n.mesh_ms is null and n.kind = 'access' and n.created_ms >= m.from_ms",
        );
        if told.acknowledged.len() as u64 == rounds * 2 && open.is_empty() {
            // One more look, at what came between.
            if scene.exchange.waiting(&scene.exchange.a).is_empty()
                && scene.exchange.waiting(&scene.exchange.b).is_empty()
            {
                spring(&mut scene.proxy.trap.lock().unwrap());
                return (told, messages);
            }
            continue;
        }
        assert!(
            begun.elapsed() < PATIENCE,
            "not settled: {} of {} files acknowledged, open {open:?}; log:\n{}",
            told.acknowledged.len(),
            rounds * 2,
            scene.log()
        );
        thread::sleep(Duration::from_millis(300));
    }
}

fn check(scene: &Scene<'_>, rounds: u64, told: &Told) {
    for (file, answers) in &told.acknowledged {
        assert_eq!(answers.len(), 1, "{file:?} was answered under several ids, or differently: {answers:?}");
        assert!(answers.iter().all(|(_, code)| code == "CPF02" || code == "CPF03"), "{file:?}: {answers:?}");
    }
    let applied = scene.rows(
        "select o.ods || ' ' || u.sequence_number as a, cast(count(*) as text) as b from upload u \
         join organization o on o.id = u.authority_id where u.door = 'mesh' and u.state = 'applied' group by 1",
    );
    assert_eq!(applied.len() as u64, rounds * 2, "{applied:?}");
    assert!(applied.iter().all(|(_, times)| times == "1"), "{applied:?}");
    let staged = scene.rows("select state as a, uuid as b from upload where state = 'staged'");
    assert!(staged.len() <= 1, "{staged:?}");
    let listed = scene.rows(
        "select m.mailbox as a, x.uuid as b from outbox n join access x on x.id = n.access_id \
         join mesh_mailbox m on m.authority_id = n.authority_id where n.created_ms >= m.from_ms",
    );
    for access in &listed {
        let messages = told.accesses.get(access).unwrap_or_else(|| panic!("{access:?} was not told"));
        assert_eq!(messages.len(), 1, "{access:?} was told under several ids: {messages:?}");
    }
    assert_eq!(told.accesses.len(), listed.len(), "nothing else was told");
    let verified = scene.run(&["audit", "verify"]);
    assert!(verified.contains("The audit is whole"), "{verified}");
}
