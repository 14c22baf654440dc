//! The example file and the struct say the same; layers win in order; all faults come at once; secrets stay hidden.

use std::{collections::BTreeSet, io::Write};

use toml::{Table, Value};

use super::*;

const EXAMPLE: &str = include_str!("../../cpis.example.toml");

/// A value in every setting. No `..`: a setting added to the struct must be added here, and so to the example.
fn every_setting() -> Settings {
    let file_issuer = IssuerSettings {
        issuer: "https://one".into(),
        audience: "a".into(),
        jwks_file: Some("j".into()),
        pem_file: Some("p".into()),
        kid: Some("k".into()),
    };
    Settings {
        sandbox: true,
        listen: SocketAddr::from(([127, 0, 0, 1], 1)),
        base_path: "/b".into(),
        public_url: Some("https://p".into()),
        data_dir: "d".into(),
        zone: Tz::UTC,
        database: DatabaseSettings {
            url: Some(DatabaseUrl::new("sqlite:s")),
            owner_url: Some(DatabaseUrl::new("postgres://o")),
            readers: 1,
        },
        plans: PlanSettings { visible_days: 1, unborn_visible_days: 1, unborn_longest_days: 1, adult_age: 1 },
        access: AccessSettings {
            history_rows: 1,
            relist_hours: 1,
            disclose_demographics: true,
            scheduled_care: ScheduledCare::SilentRead,
        },
        upload: UploadSettings {
            max_entries: 1,
            body_bytes: 16_384,
            batch_records: 1,
            wait_seconds: 1,
            answer_within_seconds: 1,
            refused_kept_days: 1,
        },
        limits: LimitSettings {
            body_bytes: 1,
            distinct_children_per_hour: 1,
            distinct_children_per_hour_of_devices: 1,
            refuse_over_cap: true,
        },
        pds: PdsSettings {
            mode: PdsMode::Fhir,
            url: Some("https://d".into()),
            token_url: Some("https://t".into()),
            audience: Some("a".into()),
            api_key: Some(Secret::new("k")),
            api_key_file: Some("k".into()),
            key_file: Some("k".into()),
            kid: Some("k".into()),
            authorities: Some("a".into()),
            requests_per_second: 1,
            concurrency: 1,
            timeout_seconds: 1,
            patience_seconds: 1,
            attempts: 1,
            breaker_failures: 1,
            breaker_seconds: 1,
            retrace_days: 1,
        },
        auth: AuthSettings { issuers: vec![file_issuer] },
        audit: AuditSettings { signing_key: Some("k".into()), checkpoint_seconds: 1 },
        notify: NotifySettings {
            retry_first_seconds: 1,
            retry_longest_seconds: 1,
            retry_attempts: 1,
            hook_timeout_seconds: 1,
            catch_up_days: 1,
            allow_targets: vec!["10.0.0.0/8".parse().unwrap()],
            signing_key: Some("k".into()),
        },
        management: ManagementSettings { listen: SocketAddr::from(([127, 0, 0, 1], 2)) },
        lifecycle: LifecycleSettings { round_seconds: 1, compared_at_once: 1, silent_hours: 1, remind_days: 1 },
        mesh: MeshSettings {
            enabled: true,
            url: Some("https://m".into()),
            mailbox: Some("M".into()),
            password: Some(Secret::new("p")),
            password_file: Some("p".into()),
            shared_key: Some(Secret::new("k")),
            shared_key_file: Some("k".into()),
            client_certificate: Some("c".into()),
            client_key: Some("k".into()),
            authorities: Some("a".into()),
            upload_workflow: Some("u".into()),
            acknowledgement_workflow: Some("a".into()),
            access_workflow: Some("a".into()),
            inactive_workflow: Some("i".into()),
            poll_seconds: Some(1),
            access_window_minutes: 1,
            max_accesses: 1,
            max_message_bytes: 1,
            chunk_bytes: 1,
            lease_seconds: 1,
        },
        log: LogSettings { format: LogFormat::Json, filter: "warn".into() },
    }
}

fn places(value: &Value, above: &str, found: &mut BTreeSet<String>) {
    match value {
        Value::Table(table) => {
            for (key, value) in table {
                places(value, &format!("{above}.{key}"), found);
            }
        }
        Value::Array(values) if values.iter().any(Value::is_table) => {
            values.iter().for_each(|value| places(value, above, found));
        }
        _ => {
            found.insert(above.to_owned());
        }
    }
}

fn load(file: &str, env: &[(&str, &str)], overrides: Overrides) -> Result<Settings, ConfigFault> {
    let mut on_disk = tempfile::NamedTempFile::new().unwrap();
    on_disk.write_all(file.as_bytes()).unwrap();
    let env = env.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned()));
    Settings::load(Some(on_disk.path()), env, overrides)
}

fn faults(file: &str, env: &[(&str, &str)]) -> Vec<String> {
    load(file, env, Overrides::default()).unwrap_err().faults().to_vec()
}

#[test]
fn the_example_file_holds_the_defaults() {
    let example: Settings = toml::from_str(EXAMPLE).unwrap();
    assert_eq!(example, Settings::default());
    let shown: Table = EXAMPLE.parse().unwrap();
    let default = Value::try_from(Settings::default()).unwrap();
    let (mut in_example, mut in_default) = (BTreeSet::new(), BTreeSet::new());
    places(&Value::Table(shown), "", &mut in_example);
    places(&default, "", &mut in_default);
    assert_eq!(in_example, in_default, "every setting with a default is written out, not left to be guessed");
}

#[test]
fn the_example_file_names_every_setting() {
    let uncommented: String = EXAMPLE
        .lines()
        .filter(|line| *line != "issuers = []")
        .map(|line| match line.strip_prefix('#') {
            Some(setting) if setting.starts_with(|c: char| c.is_ascii_lowercase() || c == '[') => setting,
            _ => line,
        })
        .flat_map(|line| [line, "\n"])
        .collect();
    toml::from_str::<Settings>(&uncommented).unwrap();
    let (mut in_example, mut in_struct) = (BTreeSet::new(), BTreeSet::new());
    places(&uncommented.parse::<Table>().map(Value::Table).unwrap(), "", &mut in_example);
    places(&Value::try_from(every_setting()).unwrap(), "", &mut in_struct);
    assert_eq!(in_example, in_struct);
}

#[test]
fn each_setting_of_the_example_explains_itself() {
    let lines: Vec<&str> = EXAMPLE.lines().collect();
    for (number, line) in lines.iter().enumerate() {
        let is_setting = line.trim_start_matches('#').split_once(" = ").is_some_and(|(key, _)| !key.contains(' '));
        if is_setting && number > 0 {
            assert!(lines[number - 1].starts_with('#') && !lines[number - 1].is_empty(), "no comment above: {line}");
        }
    }
}

#[test]
fn with_nothing_said_it_is_the_sandbox() {
    let settings = Settings::load(None, std::iter::empty(), Overrides::default()).unwrap();
    assert_eq!(settings, Settings { sandbox: true, ..Settings::default() });
    let unrelated = [("PATH".to_owned(), "/bin".to_owned()), ("CPIS_TEST_POSTGRES".to_owned(), "x".to_owned())];
    assert!(Settings::load(None, unrelated.into_iter(), Overrides::default()).unwrap().sandbox);
}

#[test]
fn a_forgotten_setting_never_makes_a_real_service_a_sandbox() {
    let by_environment = [("CPIS_DATA_DIR".to_owned(), "d".to_owned())];
    let fault = Settings::load(None, by_environment.into_iter(), Overrides::default()).unwrap_err();
    assert!(fault.faults().iter().any(|f| f.starts_with("auth.issuers: ")), "{fault}");
    let by_flag =
        Overrides { database_url: Some(DatabaseUrl::new("postgres://db.example/cpis")), ..Overrides::default() };
    assert!(Settings::load(None, std::iter::empty(), by_flag).is_err());
    assert!(load("", &[], Overrides::default()).is_err());
}

#[test]
fn later_layers_win() {
    let file =
        "sandbox = true\nlisten = \"127.0.0.1:1\"\ndata_dir = \"file\"\n[plans]\nvisible_days = 1\nadult_age = 17";
    let env = [("CPIS_LISTEN", "127.0.0.1:2"), ("CPIS_PLANS__VISIBLE_DAYS", "2"), ("CPIS_PDS__MODE", "off")];
    let overrides = Overrides { listen: Some(SocketAddr::from(([127, 0, 0, 1], 3))), ..Overrides::default() };
    let settings = load(file, &env, overrides).unwrap();
    assert_eq!(settings.listen.port(), 3, "flag over environment");
    assert_eq!(settings.plans.visible_days, 2, "environment over file");
    assert_eq!(settings.plans.adult_age, 17, "file over default");
    assert_eq!(settings.plans.unborn_visible_days, 28, "default");
    assert_eq!(settings.data_dir, PathBuf::from("file"));
    assert_eq!(settings.pds.mode, PdsMode::Off);
}

#[test]
fn the_environment_can_say_everything_that_the_file_can() {
    let env = [
        ("CPIS_AUTH__ISSUERS", "[{issuer = \"https://i\", audience = \"a\", jwks_file = \"j\"}]"),
        ("CPIS_AUDIT__SIGNING_KEY", "key.pem"),
        ("CPIS_ACCESS__DISCLOSE_DEMOGRAPHICS", "true"),
        ("CPIS_ACCESS__SCHEDULED_CARE", "silent-read"),
        ("CPIS_DATA_DIR", "2026"),
        ("CPIS_ZONE", "Europe/Paris"),
        ("CPIS_PUBLIC_URL", ""),
    ];
    let settings = load("", &env, Overrides::default()).unwrap();
    assert!(!settings.sandbox && settings.access.disclose_demographics);
    assert_eq!(settings.auth.issuers.len(), 1);
    assert_eq!(settings.audit.signing_key, Some("key.pem".into()));
    assert_eq!(settings.access.scheduled_care, ScheduledCare::SilentRead);
    assert_eq!(settings.data_dir, PathBuf::from("2026"), "a text that looks like a number stays a text");
    assert_eq!(settings.zone, Tz::Europe__Paris);
    assert_eq!(settings.public_url, None, "an empty variable counts as absent");
}

#[test]
fn all_faults_come_at_once() {
    let file = "colour = 1\nzone = \"Mars\"\nbase_path = \"cpis/\"\n[plans]\nvisible_days = \"long\"\nadult_age = 3\n\
                [weather]\n[pds]\nmode = \"smsp\"";
    let found = faults(file, &[("CPIS_PLANS__HEIGHT", "3"), ("CPIS_LOG__FILTER", "a=b=c")]);
    for start in
        ["colour in ", "zone in ", "plans.visible_days in ", "weather in ", "pds.mode in ", "CPIS_PLANS__HEIGHT: "]
    {
        assert!(found.iter().any(|f| f.starts_with(start)), "{start}: {found:#?}");
    }
    for start in ["base_path: ", "plans.adult_age: ", "auth.issuers: ", "audit.signing_key: ", "log.filter"] {
        assert!(found.iter().any(|f| f.starts_with(start)), "{start}: {found:#?}");
    }
    assert_eq!(found.len(), 11, "{found:#?}");
}

#[test]
fn contradictions_are_refused() {
    for (file, fault) in [
        ("sandbox = true\nlisten = \"0.0.0.0:80\"", "listen: "),
        ("sandbox = true\npublic_url = \"cpis.example.org\"", "public_url: "),
        ("sandbox = true\npublic_url = \"https://cpis.example.org/\"", "public_url: "),
        ("public_url = \"http://cpis.example.org\"", "public_url: "),
        ("sandbox = true\n[database]\nurl = \"mysql://x\"", "database.url: "),
        ("sandbox = true\n[database]\nurl = \"sqlite::memory:\"", "database.url: "),
        ("sandbox = true\n[database]\nowner_url = \"postgres://x\"", "database.owner_url: "),
        ("[database]\nurl = \"postgres://x\"\nowner_url = \"postgres://x\"", "database.owner_url: "),
        (
            "sandbox = true\n[notify]\nretry_first_seconds = 60\nretry_longest_seconds = 30",
            "notify.retry_first_seconds: ",
        ),
        ("[[auth.issuers]]\nissuer = \"i\"\naudience = \"a\"", "auth.issuers[0]: give exactly one"),
        ("[[auth.issuers]]\nissuer = \"i\"\naudience = \"a\"\npem_file = \"p\"", "auth.issuers[0]: pem_file needs kid"),
        ("[[auth.issuers]]\nissuer = \"\"\naudience = \"a\"\njwks_file = \"j\"", "auth.issuers[0]: issuer must"),
        ("[[auth.issuers]]\naudience = \"a\"\njwks_file = \"j\"", "auth.issuers in "),
    ] {
        assert!(faults(file, &[]).iter().any(|f| f.starts_with(fault)), "{file}: {:?}", faults(file, &[]));
    }
}

#[test]
fn a_missing_file_is_named() {
    let fault = Settings::load(Some("no/such.toml".as_ref()), std::iter::empty(), Overrides::default()).unwrap_err();
    assert!(fault.faults()[0].starts_with("no/such.toml: can't be read"), "{fault}");
}

#[test]
fn passwords_are_never_shown() {
    let env = [("CPIS_SANDBOX", "true"), ("CPIS_DATABASE__URL", "postgres://cpis:hunter2@db/cpis")];
    let settings = load("", &env, Overrides::default()).unwrap();
    assert_eq!(settings.database_url().expose(), "postgres://cpis:hunter2@db/cpis");
    let shown = settings.redacted_toml().unwrap();
    assert!(shown.contains("url = \"postgres://cpis:***@db/cpis\""), "{shown}");
    for text in [shown, format!("{settings:?}")] {
        assert!(!text.contains("hunter2"), "{text}");
    }
    for broken in [
        "[database]\nurl = \"postgres://cpis:hunter2@db",
        "[database]\nurl = [\"hunter2\"]",
        "[database]\nreaders = \"hunter2\"",
        "[database.url]\npassword = \"hunter2\"",
    ] {
        let fault = load(broken, &[("CPIS_DATABASE__READERS", "hunter2")], Overrides::default()).unwrap_err();
        assert!(!format!("{fault} {fault:?}").contains("hunter2"), "{fault}");
    }
}

#[test]
fn the_secrets_of_mesh_are_never_shown() {
    let file = "sandbox = true\n[mesh]\npassword = \"hunter2\"\nshared_key = \"hunter3\"";
    let settings = load(file, &[], Overrides::default()).unwrap();
    assert_eq!(settings.mesh.password.as_ref().unwrap().expose(), "hunter2");
    for text in [settings.redacted_toml().unwrap(), format!("{settings:?}")] {
        assert!(!text.contains("hunter"), "{text}");
    }
    for broken in ["[mesh]\npassword = [\"hunter2\"]", "[mesh.shared_key]\nvalue = \"hunter2\""] {
        let fault = load(broken, &[("CPIS_MESH__POLL_SECONDS", "hunter2")], Overrides::default()).unwrap_err();
        assert!(!format!("{fault} {fault:?}").contains("hunter2"), "{fault}");
    }
}

#[test]
fn a_url_with_a_password_is_refused_whether_or_not_it_is_used() {
    for (section, name) in [("mesh", "url"), ("pds", "url"), ("pds", "token_url")] {
        let found =
            faults(&format!("sandbox = true\n[{section}]\n{name} = \"https://user:hunter3@example.org/x\"\n"), &[]);
        let [one] = &found[..] else { panic!("{found:?}") };
        assert!(one.starts_with(&format!("{section}.{name}: ")) && !one.contains("hunter"), "{one}");
    }
}

#[test]
fn pds_needs_all_that_it_cannot_guess() {
    let wrong = "sandbox = true\n[pds]\nmode = \"fhir\"\nconcurrency = 0\nrequests_per_second = 0\nattempts = 0\n\
                 timeout_seconds = 20\npatience_seconds = 10\nbreaker_failures = 0\naudience = \" \"";
    let found = faults(wrong, &[]);
    for name in [
        "url",
        "token_url",
        "api_key",
        "key_file",
        "kid",
        "concurrency",
        "requests_per_second",
        "attempts",
        "timeout_seconds",
        "breaker_failures",
        "audience",
    ] {
        assert!(found.iter().any(|f| f.starts_with(&format!("pds.{name}: "))), "{name}: {found:#?}");
    }
    assert_eq!(found.len(), 11, "{found:#?}");
    let enough = |sandbox: bool, url: &str| {
        let file = format!(
            "sandbox = {sandbox}\n[pds]\nmode = \"fhir\"\nurl = \"{url}\"\ntoken_url = \"https://pds.example.org/token\"\n\
             api_key = \"hunter2\"\nkey_file = \"k.pem\"\nkid = \"one\""
        );
        load(&file, &[], Overrides::default())
    };
    let of_pds = |loaded: Result<Settings, ConfigFault>| match loaded {
        Ok(_) => Vec::new(),
        Err(fault) => fault.faults().iter().filter(|f| f.starts_with("pds.")).cloned().collect::<Vec<String>>(),
    };
    assert_eq!(of_pds(enough(false, "https://pds.example.org/FHIR/R4")), Vec::<String>::new());
    let settings = enough(true, "http://127.0.0.1:1/FHIR/R4").unwrap();
    assert!(!format!("{settings:?}{}", settings.redacted_toml().unwrap()).contains("hunter"));
    for url in [
        "http://pds.example.org/FHIR/R4",
        "https://pds.example.org/FHIR/R4/",
        "https://pds.example.org/FHIR/R4?x=1",
        "https://user:hunter3@pds.example.org/FHIR/R4",
        "ftp://pds.example.org/FHIR/R4",
        "pds.example.org",
    ] {
        let found = of_pds(enough(false, url));
        assert!(
            matches!(&found[..], [one] if one.starts_with("pds.url: ") && !one.contains("hunter")),
            "{url}: {found:?}"
        );
    }
    let twice = of_pds(load(
        "sandbox = true\n[pds]\nmode = \"fhir\"\napi_key = \"\"\napi_key_file = \"f\"",
        &[],
        Overrides::default(),
    ));
    assert_eq!(twice.iter().filter(|fault| fault.starts_with("pds.api_key: ")).count(), 2, "{twice:?}");
}

#[test]
fn mesh_needs_all_that_it_cannot_guess() {
    let found = faults("[mesh]\nenabled = true\npoll_seconds = 5", &[]);
    for name in [
        "url",
        "mailbox",
        "password",
        "shared_key",
        "client_certificate",
        "upload_workflow",
        "access_workflow",
        "acknowledgement_workflow",
        "inactive_workflow",
        "poll_seconds",
    ] {
        assert!(found.iter().any(|f| f.starts_with(&format!("mesh.{name}: "))), "{name}: {found:#?}");
    }
    let enough = "sandbox = true\n[mesh]\nenabled = true\nurl = \"http://127.0.0.1:1\"\nmailbox = \"CPIS1\"\n\
                  password = \"p\"\nshared_key_file = \"k\"\nupload_workflow = \"U\"\n\
                  acknowledgement_workflow = \"A\"\naccess_workflow = \"N\"\ninactive_workflow = \"I\"";
    let settings = load(enough, &[], Overrides::default()).unwrap();
    assert_eq!(settings.mesh.poll_seconds(settings.sandbox), 5);
    assert_eq!(Settings::default().mesh.poll_seconds(false), 300);
}

#[test]
fn what_is_printed_can_be_read_again() {
    let settings = load("sandbox = true", &[], Overrides::default()).unwrap();
    let printed: Settings = toml::from_str(&settings.redacted_toml().unwrap()).unwrap();
    assert_eq!(printed.database_url(), settings.database_url());
    assert_eq!(Settings { database: settings.database.clone(), ..printed }, settings);
}

#[test]
fn the_fhir_base_is_what_clients_see() {
    let bound = SocketAddr::from(([127, 0, 0, 1], 8081));
    let mut settings = Settings::default();
    assert_eq!(settings.fhir_base(bound), "http://127.0.0.1:8081/cpis/FHIR/R4");
    settings.public_url = Some("https://cpis.example.org".into());
    assert_eq!(settings.fhir_base(bound), "https://cpis.example.org/cpis/FHIR/R4");
}

#[test]
fn no_path_leaves_the_data_directory_by_default() {
    let settings = Settings::load(
        None,
        std::iter::empty(),
        Overrides { data_dir: Some("elsewhere".into()), ..Overrides::default() },
    )
    .unwrap();
    assert_eq!(settings.database_url().sqlite_path(), Some("elsewhere/cpis.sqlite"));
    assert_eq!(settings.audit.signing_key, None);
}
