//! The answer to an upload, as the client shows it.

use serde_json::{Value, json};

use super::{
    FAILED, LaFault, NONE_LOADED, SOME_REFUSED, TRY_AGAIN,
    check::table,
    console::Console,
    source::{Prepared, Row, in_order},
};
use crate::fhir::{system, upload::REFUSED_WITH_ANOTHER};

/// A file that is malformed, or whose number was used already or is out of order: nothing was consumed.
pub const NOT_ACCEPTED: &str = "CPF01";

/// What became of a file.
pub struct Outcome {
    /// CP-ISUploadFileResponse.
    pub code: String,
    pub number: Option<i64>,
    /// Of the whole file, for CPF01 and CPF05.
    pub reason: Option<String>,
    pub refused: Vec<Row>,
    /// Accepted all the same.
    pub warnings: Vec<Row>,
}

impl Outcome {
    /// Reads a response Bundle, or the `OperationOutcome` of a file that was not loaded; `None` without a file code.
    pub fn of(body: &Value, prepared: &Prepared) -> Option<Self> {
        let code = file_code(body)?;
        let mut outcome =
            Self { code, number: None, reason: None, refused: prepared.refused.clone(), warnings: Vec::new() };
        if let Some(issues) = body.get("issue").and_then(Value::as_array) {
            // Of a refused transaction each issue has its entry; of a file that was not judged none has.
            let words: Vec<&str> = issues.iter().filter(|issue| entry_of(issue).is_none()).filter_map(text).collect();
            outcome.reason = (!words.is_empty()).then(|| words.join(" "));
            outcome.take(issues.iter().filter_map(|issue| Some((entry_of(issue)?, issue))), prepared);
        }
        let entries = body.get("entry").and_then(Value::as_array).into_iter().flatten().enumerate();
        let issues = entries.flat_map(|(at, entry)| {
            let issues = entry.pointer("/response/outcome/issue").and_then(Value::as_array).into_iter().flatten();
            issues.map(move |issue| (at, issue))
        });
        outcome.take(issues, prepared);
        outcome.refused = in_order(outcome.refused);
        if !prepared.refused.is_empty() && outcome.code == "CPF02" {
            // What could not be sent was not loaded either.
            outcome.code = "CPF03".to_owned();
        }
        Some(outcome)
    }

    fn take<'a>(&mut self, issues: impl Iterator<Item = (usize, &'a Value)>, prepared: &Prepared) {
        for (entry, issue) in issues {
            let reason = text(issue).unwrap_or_default();
            let expression = issue.pointer("/expression/0").and_then(Value::as_str).unwrap_or_default();
            let coded = issue.pointer("/details/coding").and_then(Value::as_array).into_iter().flatten();
            let record = coded.filter(|coding| coding.get("system").is_some_and(|of| of == system::RECORD_RESPONSE));
            let code = record.filter_map(|coding| coding.get("code")?.as_str()).next().unwrap_or_default();
            let row = prepared.row_of(entry, expression, code, reason);
            match issue.get("severity").and_then(Value::as_str) {
                Some("information") => {}
                Some("warning") => self.warnings.push(row),
                _ if reason == REFUSED_WITH_ANOTHER => {}
                _ => self.refused.push(row),
            }
        }
    }

    /// Final: the file is never judged again.
    pub fn is_final(&self) -> bool {
        ["CPF02", "CPF03", "CPF04"].contains(&self.code.as_str())
    }

    pub fn exit_code(&self) -> u8 {
        match self.code.as_str() {
            "CPF02" => 0,
            "CPF03" => SOME_REFUSED,
            "CPF04" => NONE_LOADED,
            "CPF05" => TRY_AGAIN,
            _ => FAILED,
        }
    }

    fn says(&self) -> &'static str {
        match self.code.as_str() {
            "CPF02" => "all records were loaded",
            "CPF03" => "some records were loaded, the others refused",
            "CPF04" => "no record was loaded",
            "CPF05" => "the NHS numbers can't be verified now: send the same file again later",
            _ => {
                "the file was not accepted, and nothing of it loaded; mended, or sent again, it gets the next number \
                  (--number names another)"
            }
        }
    }

    /// # Errors
    /// When it can't be written.
    pub fn show(&self, as_json: bool, console: &mut Console) -> Result<(), LaFault> {
        if as_json {
            console.print_json(&self.line())?;
        } else {
            console.print(&self.words())?;
        }
        Ok(())
    }

    pub fn line(&self) -> Value {
        json!({
            "code": self.code, "number": self.number, "reason": self.reason,
            "refused": self.refused, "warnings": self.warnings,
        })
    }

    pub fn words(&self) -> String {
        let number = self.number.map(|number| format!("File {number}: ")).unwrap_or_default();
        let mut shown = format!("{number}{}, {}.\n", self.code, self.says());
        if let Some(reason) = &self.reason {
            shown.push_str(&format!("{reason}\n"));
        }
        shown.push_str(&table(&self.refused));
        if !self.warnings.is_empty() {
            shown.push_str("Loaded, but please look:\n");
            shown.push_str(&table(&self.warnings));
        }
        shown
    }
}

fn text(issue: &Value) -> Option<&str> {
    issue.get("diagnostics").and_then(Value::as_str)
}

/// The entry in `Bundle.entry[3]...`.
fn entry_of(issue: &Value) -> Option<usize> {
    let expression = issue.pointer("/expression/0")?.as_str()?;
    expression.strip_prefix("Bundle.entry[")?.split_once(']')?.0.parse().ok()
}

fn file_code(body: &Value) -> Option<String> {
    let tags = body.pointer("/meta/tag").and_then(Value::as_array)?;
    let tag = tags.iter().find(|tag| tag.get("system").is_some_and(|of| of == system::FILE_RESPONSE))?;
    Some(tag.get("code")?.as_str()?.to_owned())
}
