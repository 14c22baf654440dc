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
        assert_eq!(told_by(&refused), json!({"good": 1, "written": 0, "changed_numbers": 0, "faults": faults}));
        assert_eq!(seen(&app, &held).await, 1, "nothing was written");

        let path = app.data_dir().join("people.csv");
        std::fs::write(&path, &lines).expect("a file");
        let loaded = run(&app, &["register", "load", path.to_str().expect("a path"), "--valid-only"], "");
        assert_eq!(loaded.status.code(), Some(2), "{loaded:?}");
        let text = String::from_utf8(loaded.stdout).expect("UTF-8");
        assert_eq!(
            text,
            "1 entries written; 1 of them said something new of a stored number. 2 lines are wrong.\n  \
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
