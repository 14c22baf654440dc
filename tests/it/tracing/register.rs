//! The commands of the local register, as they are run: loading a file, showing an entry, tracing everybody again.

use std::{
    io::Write,
    process::{Command, Output, Stdio},
};

use serde_json::{Value, json};

use super::{audited, seen};
use crate::{
    harness::{Backend, CPP, TestApp, child, on_both_stores},
    lifecycle::told,
};

const HEADER: &str = "nhs_number,family,given,birth_date,status,replaced_by,deceased\n";

/// The program with the app's configuration.
fn run(app: &TestApp, arguments: &[&str], input: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cpis-gateway"));
    command.args(arguments).arg("--sandbox").arg("--data").arg(app.data_dir());
    command.args(["--database-url", app.settings().database_url().expose()]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the program runs");
    child.stdin.take().expect("standard input").write_all(input.as_bytes()).expect("it is read");
    child.wait_with_output().expect("it ends")
}

fn told_by(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"))
}

on_both_stores! {
    async fn a_file_is_loaded_whole_or_not_at_all_unless_asked(backend) {
        let app = TestApp::start(backend).await;
        let held = child(1);
        app.on_record(&held, &[("Z9A", CPP, "2026-09-14", None)]).await;
        let good = format!("{},Testcase,Robin,2017-05-11,restricted,,\n", held.nhs());
        let bad = "9990000019,Secret,Robin,2017-05-11,,,\n9990000020,Secret,Robin,2017-05-11,,,\n";
        let lines = format!("{HEADER}{good}{bad}");
        let refused = run(&app, &["register", "load", "-", "--json"], &lines);
        assert_eq!(refused.status.code(), Some(2), "{refused:?}");
        let faults = json!([{"what": "nhs_number isn't a valid NHS number: the check digit is wrong", "count": 2, "lines": ["3-4"]}]);
        let nothing = json!({"good": 1, "written": 0, "changed_numbers": 0, "faults": faults, "unread": 0});
        assert_eq!(told_by(&refused), nothing);
        assert_eq!(seen(&app, &held).await, 1, "nothing was written");

        let path = app.data_dir().join("people.csv");
        std::fs::write(&path, &lines).expect("a file");
        let loaded = run(&app, &["register", "load", path.to_str().expect("a path"), "--valid-only"], "");
        assert_eq!(loaded.status.code(), Some(2), "{loaded:?}");
        let text = String::from_utf8(loaded.stdout).expect("UTF-8");
        assert_eq!(
            text,
            "1 entry written; something new was said of 1 stored number. 2 lines are wrong.\n  \
             nhs_number isn't a valid NHS number: the check digit is wrong: 2 lines: 3-4\n"
        );
        assert_eq!(seen(&app, &held).await, 0);
        assert_eq!(told(&app), [format!("Z9A record-ended withheld {}", held.nhs())]);
        let again = run(&app, &["register", "load", "-"], &format!("{HEADER}{good}"));
        assert_eq!(again.status.code(), Some(0), "{again:?}");
        assert_eq!(told(&app).len(), 1);
    }

    async fn an_entry_is_shown_by_a_number_on_standard_input_and_audited(backend) {
        let app = TestApp::start(backend).await;
        app.register(&child(1)).await;
        let shown = run(&app, &["register", "show", "--json"], &format!("{}\n", child(1).nhs()));
        assert_eq!(shown.status.code(), Some(0), "{shown:?}");
        assert_eq!(told_by(&shown)["family"], "Testcase");
        let unknown = run(&app, &["register", "show"], &format!("{}\n", child(2).nhs()));
        assert_eq!(unknown.status.code(), Some(1), "{unknown:?}");
        let wrong = run(&app, &["register", "show"], "9990000019\n");
        assert_eq!(wrong.status.code(), Some(1), "{wrong:?}");
        for output in [&shown, &unknown, &wrong] {
            let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
            assert!(!text.contains(child(1).nhs()) && !text.contains("99900000"), "{text}");
        }
        for index in [1, 2] {
            assert_eq!(audited(&app, &child(index)).await, ["operator register-shown"]);
        }
    }

    async fn everybody_is_traced_again_by_the_register(backend) {
        let app = TestApp::start(backend).await;
        let children = [child(1), child(2), child(3)];
        for child in &children {
            app.on_record(child, &[("Z9A", CPP, "2026-09-14", None)]).await;
        }
        app.execute(&format!("update register_entry set status = 'restricted' where nhs_number = '{}'", children[0].nhs()));
        app.execute(&format!("update register_entry set birth_date = '2018-01-01' where nhs_number = '{}'", children[1].nhs()));
        app.execute(&format!("delete from register_entry where nhs_number = '{}'", children[2].nhs()));
        // The program goes by the machine's clock, which may stand before the app's.
        app.execute("update person set traced_ms = 0, retrace_ms = 0");
        let ran = run(&app, &["trace", "--json"], "");
        assert_eq!(ran.status.code(), Some(0), "{ran:?}");
        let told = told_by(&ran);
        let counts = ["traced", "restricted", "unknown", "changed", "changed_birth_dates", "failed", "left_out"];
        assert_eq!(counts.map(|count| told[count].as_u64().expect("a count")), [3, 1, 1, 2, 1, 0, 0]);
        assert_eq!(seen(&app, &children[0]).await, 0);
        assert_eq!(audited(&app, &children[2]).await, ["register unknown"]);
        // A run that goes on finds nothing left to do.
        let again = run(&app, &["trace", "--json", "--since", told["since"].as_str().expect("an instant")], "");
        assert_eq!(told_by(&again)["traced"], 0);
    }
}

/// Standard output and standard error.
fn text_of(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Nothing of these is read, so nothing needs to be written to it.
#[actix_web::test]
async fn a_number_on_the_command_line_is_refused_and_not_repeated() {
    let app = TestApp::start(Backend::Sqlite).await;
    for arguments in [
        ["register", "show", "9990010005"].as_slice(),
        &["register", "show", "--json=9990010005"],
        &["register", "show", "--9990010005"],
        &["register", "show", "999", "001", "0005"],
        &["register", "show", "--number", "999 001 0004"],
        &["register", "load", "9990010005"],
        &["register", "load", "people.csv", "999-001-0005"],
        &["trace", "9990010005"],
        &["trace", "--since=9990010004"],
    ] {
        let refused = run(&app, arguments, "");
        let text = text_of(&refused);
        assert_eq!(refused.status.code(), Some(2), "{arguments:?}: {text}");
        assert!(text.contains("never stands on a command line"), "{arguments:?}: {text}");
        assert!(!["999", "001", "0005"].iter().any(|part| text.contains(part)), "{arguments:?}: {text}");
    }
    let shown = run(&app, &["register", "show", "--help"], "");
    assert_eq!(shown.status.code(), Some(0), "{shown:?}");
    assert!(text_of(&shown).contains("Usage: cpis-gateway register show [OPTIONS]\n"), "{shown:?}");
}

#[actix_web::test]
async fn one_number_is_shown_at_a_time() {
    let app = TestApp::start(Backend::Sqlite).await;
    app.register(&child(1)).await;
    for (input, words) in [
        (String::new(), "no number was given"),
        ("\n  \n".to_owned(), "no number was given"),
        (format!("{}\n\n{}\n", child(1).nhs(), child(2).nhs()), "one number at a time"),
    ] {
        let refused = run(&app, &["register", "show"], &input);
        assert_eq!(refused.status.code(), Some(1), "{refused:?}");
        assert!(text_of(&refused).contains(words) && !text_of(&refused).contains("99900"), "{refused:?}");
        assert!(refused.stdout.is_empty(), "{refused:?}");
    }
    assert!(audited(&app, &child(1)).await.is_empty());
    let shown = run(&app, &["register", "show", "--json"], &format!("\n{}\n\n", child(1).nhs()));
    assert_eq!((shown.status.code(), &told_by(&shown)["known"]), (Some(0), &json!(true)));
    let unknown = run(&app, &["register", "show", "--json"], &format!("{}\n", child(2).nhs()));
    assert_eq!((unknown.status.code(), told_by(&unknown)), (Some(1), json!({"known": false})));
}

#[actix_web::test]
async fn a_file_with_an_open_quote_is_refused_whole() {
    let app = TestApp::start(Backend::Sqlite).await;
    let held = child(1);
    let first = format!("{},Testcase,Robin,2017-05-11,,,\n", held.nhs());
    let open = "9990000018,\"Testcase,Robin,2017-05-11,,,\n";
    let lines = format!(
        "{HEADER}{first}{open}9990000026,Testcase,Robin,2017-05-11,,,\n\n9990000034,Testcase,\"Robin\",2017-05-11,,,\n"
    );
    let refused = run(&app, &["register", "load", "-", "--valid-only"], &lines);
    assert_eq!(refused.status.code(), Some(2), "{refused:?}");
    assert_eq!(
        String::from_utf8_lossy(&refused.stdout),
        "Nothing was written: 1 line is good, 1 is wrong, and the 3 lines after it could not be read: mend it first.\n  \
         a quote (\") is opened that isn't closed on the same line: line 3\n"
    );
    let refused = run(&app, &["register", "load", "-", "--valid-only", "--json"], &lines);
    let told = told_by(&refused);
    assert_eq!((&told["written"], &told["unread"], &told["faults"][0]["lines"]), (&json!(0), &json!(3), &json!(["3"])));
    let unknown = run(&app, &["register", "show"], held.nhs());
    assert_eq!(unknown.status.code(), Some(1), "nothing was written");
    // On the last line it hides nothing: that line is left out.
    let loaded = run(&app, &["register", "load", "-", "--valid-only"], &format!("{HEADER}{first}{open}"));
    assert!(text_of(&loaded).contains("1 entry written;"), "{loaded:?}");
}

#[actix_web::test]
async fn nobody_is_born_after_today() {
    let app = TestApp::start(Backend::Sqlite).await;
    let unborn = child(2);
    let lines = format!(
        "{HEADER}{},Testcase,Robin,2017-05-11,,,\n{},Testcase,Robin,2999-01-01,,,\n",
        child(1).nhs(),
        unborn.nhs()
    );
    let loaded = run(&app, &["register", "load", "-", "--valid-only"], &lines);
    assert_eq!(loaded.status.code(), Some(2), "{loaded:?}");
    assert!(text_of(&loaded).ends_with("1 line is wrong.\n  birth_date is in the future: line 3\n"), "{loaded:?}");
    assert_eq!(run(&app, &["register", "show"], unborn.nhs()).status.code(), Some(1));
}

#[actix_web::test]
async fn an_instant_to_go_on_from_is_one_of_the_past() {
    let app = TestApp::start(Backend::Sqlite).await;
    for (since, words) in [
        ("2999-01-01T00:00:00Z", "in the future"),
        ("yesterday", "2026-11-23T22:15:00Z"),
        ("2026-11-23", "2026-11-23T22:15:00Z"),
    ] {
        let refused = run(&app, &["trace", "--since", since], "");
        let text = text_of(&refused);
        assert_eq!(refused.status.code(), Some(2), "{text}");
        assert!(text.contains(words) && !text.contains("premature"), "{text}");
    }
}

#[actix_web::test]
async fn where_nobody_can_be_asked_that_is_said() {
    let app = TestApp::start(Backend::Sqlite).await;
    let config = app.data_dir().join("off.toml");
    std::fs::write(&config, "[pds]\nmode = \"off\"\n").expect("a file");
    let ran = run(&app, &["trace", "--config", config.to_str().expect("a path")], "");
    assert_eq!(ran.status.code(), Some(2), "{ran:?}");
    assert_eq!(
        String::from_utf8_lossy(&ran.stdout),
        "Nothing was done: nobody can be asked about a number: pds.mode is \"off\".\n"
    );
}
