//! A throwaway PostgreSQL server for the test process, and a fresh database in it for each test.
//!
//! The server listens on a Unix socket in a directory of its own and keeps nothing safe (no fsync). It is looked after
//! by a `sh` that reads from a pipe held by this process: however the process ends, the pipe closes, and the shell
//! stops the server and deletes the directory. As root it runs as the account `postgres`, which PostgreSQL demands.
//!
//! `CPIS_TEST_POSTGRES` names a running server instead: a URL of an account that may create databases and roles.
//! Without either the tests fail and say what to install; nothing is skipped.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a harness fails its test by panicking")]

use std::{
    fs::DirBuilder,
    io::{BufRead, BufReader},
    os::unix::{
        fs::{DirBuilderExt, MetadataExt, chown},
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{LazyLock, Mutex, OnceLock},
};

use diesel::{
    Connection, PgConnection, QueryableByName, RunQueryDsl, connection::SimpleConnection, sql_query, sql_types::Text,
};
use uuid::Uuid;

/// A database of its own for one test, dropped with it.
pub struct TestDatabase {
    name: String,
    url: String,
    accounts: Mutex<Vec<String>>,
}

/// Makes a database that is a copy of the template. The first call of the process makes the template: an empty
/// database whose URL `prepare_template` gets, to migrate it; it must close its connections before it returns.
///
/// # Panics
/// When there is no PostgreSQL, with what to install.
pub fn database(prepare_template: impl FnOnce(&str)) -> TestDatabase {
    static TEMPLATE: OnceLock<String> = OnceLock::new();
    copy_of(TEMPLATE.get_or_init(|| template(prepare_template)))
}

fn template(prepare: impl FnOnce(&str)) -> String {
    let name = format!("cpis_template_{}", Uuid::now_v7().simple());
    SERVER.run(&format!("CREATE DATABASE {name}"));
    prepare(&SERVER.url_of(&name));
    SERVER.run(&format!("ALTER DATABASE {name} WITH ALLOW_CONNECTIONS false"));
    name
}

fn copy_of(template: &str) -> TestDatabase {
    let name = format!("t_{}", Uuid::now_v7().simple());
    SERVER.run(&format!("CREATE DATABASE {name} TEMPLATE {template}"));
    TestDatabase { url: SERVER.url_of(&name), name, accounts: Mutex::default() }
}

impl TestDatabase {
    /// URL of the account that owns the database.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Makes an account without any right and gives the URL under which it opens this database.
    pub fn new_account(&self) -> String {
        let account = format!("app_{}", Uuid::now_v7().simple());
        SERVER.run(&format!("CREATE ROLE {account} LOGIN PASSWORD '{account}'"));
        let (scheme, rest) = self.url.split_once("://").unwrap();
        let place = rest.rsplit_once('@').map_or(rest, |(_, place)| place);
        let url = format!("{scheme}://{account}:{account}@{place}");
        self.accounts.lock().unwrap().push(account);
        url
    }
}

impl Drop for TestDatabase {
    fn drop(&mut self) {
        // A failed test is already unwinding, and a second panic would hide its message.
        let Ok(mut connection) = PgConnection::establish(&SERVER.admin_url) else { return };
        let mut gone = connection.batch_execute(&format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name)).is_ok();
        for account in self.accounts.get_mut().into_iter().flatten() {
            gone &= connection.batch_execute(&format!("DROP ROLE IF EXISTS {account}")).is_ok();
        }
        assert!(gone || std::thread::panicking(), "the test's database could not be dropped");
    }
}

static SERVER: LazyLock<Server> = LazyLock::new(|| match std::env::var("CPIS_TEST_POSTGRES") {
    Ok(url) if !url.is_empty() => Server::running(url),
    _ => Server::start(),
});

struct Server {
    admin_url: String,
    /// The shell; never waited for. Its standard input is the pipe that keeps the server alive.
    _guardian: Option<Child>,
}

/// Arguments: directory, PostgreSQL's programs. Says `ready`, or the end of the log when the server won't start.
const GUARDIAN: &str = r#"
dir=$1 bin=$2 log=$1/log
trap '' INT TERM HUP
if "$bin/initdb" -D "$dir/data" -U postgres -A trust -N --no-locale -E UTF8 >"$log" 2>&1 &&
   "$bin/pg_ctl" -D "$dir/data" -l "$log" -w -t 120 -o "$3" start >/dev/null 2>&1
then echo ready
else tail -n 5 "$log" | tr '\n' ' '; echo
fi
cat >/dev/null
"$bin/pg_ctl" -D "$dir/data" -m immediate -w stop >/dev/null 2>&1
rm -rf "$dir"
"#;

impl Server {
    fn start() -> Self {
        let programs = programs();
        let directory = std::env::temp_dir().join(format!("cpis-pg-{}", Uuid::new_v4().simple()));
        DirBuilder::new().mode(0o700).create(&directory).unwrap();
        let options = format!(
            "-c listen_addresses= -c unix_socket_directories={} -c port=5432 -c max_connections=300 -c fsync=off \
             -c full_page_writes=off -c synchronous_commit=off -c autovacuum=off",
            directory.display()
        );
        let mut guardian = Command::new("sh");
        guardian.args(["-c", GUARDIAN, "guardian"]).arg(&directory).arg(&programs).arg(options);
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("PG")) {
            guardian.env_remove(name);
        }
        if std::fs::metadata("/proc/self").unwrap().uid() == 0 {
            let (uid, gid) = postgres_account();
            chown(&directory, Some(uid), Some(gid)).unwrap();
            guardian.uid(uid).gid(gid);
        }
        // A group of its own, so that Ctrl-C on the tests leaves the shell time to clean up.
        guardian.process_group(0).current_dir("/");
        guardian.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut guardian = guardian.spawn().unwrap();
        let mut answer = String::new();
        BufReader::new(guardian.stdout.take().unwrap()).read_line(&mut answer).unwrap();
        assert_eq!(answer.trim(), "ready", "PostgreSQL in {} did not start", programs.display());
        // A '%', '@' or '/' in the directory's name must not end the host part.
        let host: String = directory.to_str().unwrap().bytes().map(|byte| format!("%{byte:02X}")).collect();
        Self { admin_url: format!("postgres://postgres@{host}:5432/postgres"), _guardian: Some(guardian) }
    }

    /// A server that others use too: what earlier test processes left there is cleared after a day.
    fn running(admin_url: String) -> Self {
        let server = Self { admin_url, _guardian: None };
        let mut connection = server.connection();
        let named = sql_query(
            "SELECT datname::text AS name FROM pg_database WHERE datname ~ '^(t|cpis_template)_[0-9a-f]{32}$'",
        )
        .load::<Named>(&mut connection)
        .unwrap();
        let day_ago = std::time::SystemTime::now() - std::time::Duration::from_secs(86_400);
        let day_ago = day_ago.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
        for Named { name } in named {
            let made = name.rsplit_once('_').and_then(|(_, id)| Uuid::parse_str(id).ok()?.get_timestamp());
            if made.is_some_and(|made| made.to_unix().0 < day_ago) {
                connection.batch_execute(&format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)")).unwrap();
            }
        }
        server
    }

    fn connection(&self) -> PgConnection {
        PgConnection::establish(&self.admin_url)
            .unwrap_or_else(|error| panic!("the test PostgreSQL can't be reached: {error}"))
    }

    fn run(&self, statement: &str) {
        self.connection().batch_execute(statement).unwrap_or_else(|error| panic!("{statement}: {error}"));
    }

    fn url_of(&self, database: &str) -> String {
        let (base, query) = match self.admin_url.split_once('?') {
            Some((base, query)) => (base, format!("?{query}")),
            None => (self.admin_url.as_str(), String::new()),
        };
        let (scheme, rest) = base.split_once("://").expect("CPIS_TEST_POSTGRES begins with postgres://");
        let server = rest.split_once('/').map_or(rest, |(server, _)| server);
        format!("{scheme}://{server}/{database}{query}")
    }
}

#[derive(QueryableByName)]
struct Named {
    #[diesel(sql_type = Text)]
    name: String,
}

/// The directory of `initdb`, `pg_ctl` and `postgres`: on the PATH, else the newest of Debian's.
fn programs() -> PathBuf {
    let complete = |dir: &Path| ["initdb", "pg_ctl", "postgres"].iter().all(|program| dir.join(program).is_file());
    let path = std::env::var_os("PATH").unwrap_or_default();
    let on_path = std::env::split_paths(&path).find(|dir| complete(dir));
    let of_debian = || {
        let versions = std::fs::read_dir("/usr/lib/postgresql").ok()?;
        let version = |dir: &PathBuf| dir.file_name().and_then(|n| n.to_str()).and_then(|n| n.parse::<u32>().ok());
        let mut found: Vec<PathBuf> = versions.flatten().map(|entry| entry.path()).collect();
        found.sort_by_key(version);
        found.into_iter().rev().map(|dir| dir.join("bin")).find(|dir| complete(dir))
    };
    on_path.or_else(of_debian).unwrap_or_else(|| {
        panic!(
            "the tests need PostgreSQL 13 or later: `apt-get install postgresql` (or `make test`, which does that), \
             or set CPIS_TEST_POSTGRES to the URL of a server where databases may be made"
        )
    })
}

/// User and group id of the account `postgres`; PostgreSQL refuses to run as root.
fn postgres_account() -> (u32, u32) {
    let accounts = std::fs::read_to_string("/etc/passwd").unwrap();
    let account = accounts.lines().find(|line| line.starts_with("postgres:"));
    let ids = account.and_then(|line| {
        let mut fields = line.split(':').skip(2);
        Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
    });
    ids.expect("as root the tests need the account `postgres`, which `apt-get install postgresql` makes")
}

#[test]
fn each_test_has_its_own_copy_of_the_template() {
    // A template of its own: that of `database` belongs to whoever asks for it first.
    let template = template(|url| {
        PgConnection::establish(url).unwrap().batch_execute("CREATE TABLE from_template (n int)").unwrap();
    });
    let tables = |database: &TestDatabase| -> Vec<String> {
        let mut connection = PgConnection::establish(database.url()).unwrap();
        let query = "SELECT tablename::text AS name FROM pg_tables WHERE schemaname = 'public' ORDER BY 1";
        sql_query(query).load::<Named>(&mut connection).unwrap().into_iter().map(|table| table.name).collect()
    };
    let (one, other) = (copy_of(&template), copy_of(&template));
    PgConnection::establish(one.url()).unwrap().batch_execute("CREATE TABLE harness_own (n int)").unwrap();
    assert_eq!(tables(&one), ["from_template", "harness_own"]);
    assert_eq!(tables(&other), ["from_template"]);
    let stranger = one.new_account();
    let refused = PgConnection::establish(&stranger).unwrap().batch_execute("SELECT * FROM harness_own").unwrap_err();
    assert!(refused.to_string().contains("permission denied"), "{refused}");
}
