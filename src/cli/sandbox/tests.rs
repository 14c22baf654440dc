//! The sandbox from nothing to reset, on SQLite.

use super::*;
use crate::{
    app,
    clock::Clock,
    config::DatabaseUrl,
    cpis::{
        types::{NhsNumber, audit::AuditSearch},
        verify::verify,
    },
    store::{Options, Store, access, person},
};

fn now() -> DateTime<Utc> {
    "2026-11-23T13:30:00Z".parse().unwrap()
}

fn settings(data_dir: &Path) -> Settings {
    Settings { sandbox: true, data_dir: data_dir.to_owned(), ..Settings::default() }
}

fn prepared(settings: &Settings) -> Prepared {
    prepare(settings, false, now()).unwrap()
}

fn refusal(settings: &Settings, reset: bool) -> String {
    format!("{:#}", prepare(settings, reset, now()).err().unwrap())
}

fn open(settings: &Settings) -> Store {
    let location = Location::parse(settings.database_url().expose()).unwrap();
    Store::open(Options { location, readers: 1, process: "test".to_owned(), clock: Clock::system() }).unwrap()
}

/// Rows of the history of one child.
fn history(store: &Store, number: NhsNumber) -> usize {
    let rows = store.read_blocking(|conn| {
        let child = person::child(conn, &number)?.unwrap();
        access::newest(conn, &child.persons, 1000)
    });
    rows.unwrap().len()
}

fn look_ups(store: &Store, number: NhsNumber) -> i64 {
    let search = AuditSearch { patient: Some(number), ..AuditSearch::default() };
    store.read_blocking(|conn| crate::store::audit::count(conn, &search)).unwrap()
}

#[test]
fn a_sandbox_is_made_kept_made_again_when_half_finished_and_reset() {
    let directory = tempfile::tempdir().unwrap();
    let settings = settings(&directory.path().join("data"));
    let first = prepared(&settings);
    let examples = &first.directory.examples;

    let store = open(&settings);
    let report = verify(&store, &|_, _, _| false, &mut |_| ()).unwrap();
    assert!(report.is_whole() && report.chains == 1 && report.rows > 500, "{report:?}");
    assert!(history(&store, examples.many_accesses) > 25);
    let audited = look_ups(&store, examples.many_accesses);
    assert!(audited > i64::try_from(history(&store, examples.many_accesses)).unwrap() + 5, "{audited}");
    assert!(history(&store, examples.ended_hidden) > 0);
    let never_stored = store.read_blocking(|conn| person::find(conn, &examples.no_record)).unwrap();
    assert!(never_stored.is_none());
    store.close(None);

    // While it is served it can be started again, not reset.
    let seed = first.directory.seed.clone();
    assert_eq!(prepared(&settings).directory.seed, seed);
    assert!(refusal(&settings, true).contains("stop it first"));
    drop(first);

    // Killed before sandbox.json was written.
    fs::remove_file(settings.data_dir.join(FILE)).unwrap();
    let again = prepared(&settings);
    assert_ne!(again.directory.seed, seed);
    let seed = again.directory.seed.clone();
    drop(again);

    // The database of a sandbox that this directory never began.
    let elsewhere = Settings {
        data_dir: directory.path().join("elsewhere"),
        database: crate::config::DatabaseSettings {
            url: Some(DatabaseUrl::new(settings.database_url().expose())),
            ..crate::config::DatabaseSettings::default()
        },
        ..settings.clone()
    };
    assert!(refusal(&elsewhere, false).contains("another directory"));
    assert_eq!(prepared(&settings).directory.seed, seed);

    let key = fs::read(settings.data_dir.join(issuer::FILE)).unwrap();
    let reset = prepare(&settings, true, now()).unwrap();
    assert_ne!(reset.directory.seed, seed);
    assert_ne!(fs::read(settings.data_dir.join(issuer::FILE)).unwrap(), key);
}

#[test]
fn what_no_sandbox_made_is_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let settings = settings(directory.path());
    fs::write(directory.path().join("letter.txt"), "keep me").unwrap();
    assert!(refusal(&settings, true).contains("not a sandbox's directory"));

    // A service's database: it has an audit, no mark.
    let gateway = app::open_gateway(&settings, &Clock::standing_at(now()), "service").unwrap();
    gateway.store.write_blocking(Vec::new(), |_| Ok(())).unwrap();
    gateway.store.close(None);
    let database = fs::read(directory.path().join("cpis.sqlite")).unwrap();
    for reset in [false, true] {
        assert!(refusal(&settings, reset).contains("no sandbox made"));
    }
    assert_eq!(fs::read(directory.path().join("cpis.sqlite")).unwrap(), database);
    assert!(directory.path().join("letter.txt").exists() && !directory.path().join(FILE).exists());
}

#[test]
fn a_migrated_but_empty_database_holds_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let settings = settings(directory.path());
    let location = Location::parse(settings.database_url().expose()).unwrap();
    assert_eq!(held(&location).unwrap(), Held::Nothing);
    location.migrate(audit::month_of(now())).unwrap();
    assert_eq!(held(&location).unwrap(), Held::Nothing);
    location.revert().unwrap();
    assert_eq!(held(&location).unwrap(), Held::Nothing);
}

#[test]
fn a_token_needs_a_finished_sandbox() {
    let directory = tempfile::tempdir().unwrap();
    let fault = open_tokens(directory.path()).err().unwrap();
    assert!(fault.to_string().contains("there is no sandbox in"));
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
}
