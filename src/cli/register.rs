//! `cpis-gateway register set`: writes entries of the local register of demographics out of a CSV file, with what they mean
//! for stored numbers. NHS numbers never stand on the command line, and no message repeats what a line holds.

use std::{
    fs::File,
    io::{self, Read},
    path::PathBuf,
    process::ExitCode,
};

use anyhow::Context;
use chrono::NaiveDate;
use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use super::{Layers, USAGE, print, start_logging};
use crate::{
    app,
    clock::Clock,
    cpis::{
        Gateway,
        types::{
            NhsNumber,
            child::{Demographics, NumberStatus, RegisterEntry},
        },
    },
};

/// Entries of one transaction (design 6).
const AT_ONCE: usize = 64;
/// Faults that are told one by one.
const MOST_FAULTS: usize = 100;
const HEADER: [&str; 7] = ["nhs_number", "family", "given", "birth_date", "status", "replaced_by", "deceased"];

#[derive(Subcommand)]
pub enum Register {
    /// Add or replace entries from a CSV file: `nhs_number,family,given,birth_date,status,replaced_by,deceased`.
    Set(Set),
}

#[derive(Args)]
pub struct Set {
    /// The CSV file; standard input without it.
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Print counts and faults as JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    layers: Layers,
}

/// What is wrong with a line of the file; the header is line 1.
#[derive(Debug, PartialEq, Eq, serde::Serialize)]
struct Fault {
    line: u64,
    /// Never what the line holds.
    what: String,
}

impl Register {
    pub fn run(self) -> anyhow::Result<ExitCode> {
        let Self::Set(set) = self;
        set.run()
    }
}

impl Set {
    fn run(self) -> anyhow::Result<ExitCode> {
        let settings = self.layers.settings()?;
        start_logging(&settings)?;
        let read = match &self.file {
            Some(path) => entries(File::open(path).with_context(|| format!("{} can't be read", path.display()))?),
            None => entries(io::stdin().lock()),
        };
        let entries = match read {
            Ok(entries) => entries,
            Err(faults) => {
                print(&told(&faults, self.json)?)?;
                return Ok(ExitCode::from(USAGE));
            }
        };
        let clock = Clock::system();
        let gateway = app::open_existing(&settings, &clock, &app::process_name())?;
        let written = write(&gateway, &entries);
        gateway.store.close(None);
        let changed = written.context("not all entries were written: send the file again")?;
        let summary = if self.json {
            format!("{}\n", json!({"entries": entries.len(), "changed_numbers": changed}))
        } else {
            format!("{} entries written; {changed} of them said something new of a stored number.\n", entries.len())
        };
        print(&summary)?;
        Ok(ExitCode::SUCCESS)
    }
}

fn write(gateway: &Gateway, entries: &[RegisterEntry]) -> anyhow::Result<usize> {
    let bar = ProgressBar::new(u64::try_from(entries.len()).unwrap_or(0));
    bar.set_style(ProgressStyle::with_template("Writing {pos} of {len} entries {bar:40} {eta}")?);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut changed = 0;
    for some in entries.chunks(AT_ONCE) {
        changed += runtime.block_on(gateway.set_register_entries(some.to_vec()))?;
        bar.inc(u64::try_from(some.len()).unwrap_or(0));
    }
    bar.finish_and_clear();
    Ok(changed)
}

fn told(faults: &[Fault], as_json: bool) -> anyhow::Result<String> {
    if as_json {
        return Ok(format!("{}\n", serde_json::to_string(&json!({"entries": 0, "faults": faults}))?));
    }
    let mut text = "Nothing was written. Please correct the file:\n".to_owned();
    for Fault { line, what } in faults {
        text.push_str(&format!("  line {line}: {what}\n"));
    }
    Ok(text)
}

/// Every entry of the file, or everything that is wrong with it.
fn entries(source: impl Read) -> Result<Vec<RegisterEntry>, Vec<Fault>> {
    let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(source);
    let whole = |what: &str| vec![Fault { line: 1, what: what.to_owned() }];
    let header = reader.headers().map_err(|_| whole("the file can't be read as CSV in UTF-8"))?;
    if header.iter().ne(HEADER) {
        return Err(whole(&format!("the header must be {}", HEADER.join(","))));
    }
    let (mut entries, mut faults): (Vec<RegisterEntry>, Vec<Fault>) = (Vec::new(), Vec::new());
    let mut seen = std::collections::HashSet::new();
    let mut line = 1;
    for record in reader.records() {
        if faults.len() >= MOST_FAULTS {
            break;
        }
        line += 1;
        let Ok(record) = record else {
            faults.push(Fault { line, what: "the line doesn't have seven fields in UTF-8".to_owned() });
            continue;
        };
        line = record.position().map_or(line, csv::Position::line);
        let before = faults.len();
        let mut refuse = |what: &str| faults.push(Fault { line, what: what.to_owned() });
        if let Some(entry) = entry(&record, &mut refuse) {
            if !seen.insert(entry.nhs_number) {
                refuse("this NHS number has an earlier line");
            }
            if faults.len() == before {
                entries.push(entry);
            }
        }
    }
    if faults.is_empty() { Ok(entries) } else { Err(faults) }
}

/// An entry of the values that could be read; `None` when there is no telling what it would be.
fn entry(record: &csv::StringRecord, refuse: &mut impl FnMut(&str)) -> Option<RegisterEntry> {
    let field = |index: usize| record.get(index).unwrap_or_default();
    let nhs_number = NhsNumber::typed(field(0));
    if let Err(fault) = nhs_number {
        refuse(&format!("nhs_number isn't a valid NHS number: {fault}"));
    }
    let nhs_number = nhs_number.ok();
    let birth_date = field(3).parse::<NaiveDate>().ok();
    if birth_date.is_none() {
        refuse("birth_date isn't a date such as 2019-05-11");
    }
    if field(1).is_empty() || field(2).is_empty() {
        refuse("family and given must not be empty");
    }
    let status = if field(4).is_empty() { Some(NumberStatus::Current) } else { NumberStatus::from_code(field(4)) };
    if status.is_none() {
        refuse("status must be current, superseded, invalid, retired or restricted");
    }
    let replaced_by = NhsNumber::typed(field(5)).ok();
    match (status, field(5).is_empty()) {
        (Some(NumberStatus::Superseded), _) if replaced_by.is_none() => {
            refuse("replaced_by must be the valid NHS number that replaced a superseded one");
        }
        (Some(NumberStatus::Superseded), _) if replaced_by == nhs_number => {
            refuse("replaced_by must be another number");
        }
        (Some(NumberStatus::Superseded) | None, _) | (_, true) => {}
        _ => refuse("replaced_by goes with the status superseded only"),
    }
    let deceased = match field(6) {
        "true" => true,
        "" | "false" => false,
        _ => {
            refuse("deceased must be true, false or empty");
            false
        }
    };
    let given = field(2).split_whitespace().map(str::to_owned).collect();
    Some(RegisterEntry {
        nhs_number: nhs_number?,
        demographics: Demographics { family: field(1).to_owned(), given, birth_date: birth_date? },
        status: status?,
        replaced_by,
        deceased,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: &str = "nhs_number,family,given,birth_date,status,replaced_by,deceased\n";

    fn read(lines: &str) -> Result<Vec<RegisterEntry>, Vec<Fault>> {
        entries(format!("{FIRST}{lines}").as_bytes())
    }

    #[test]
    fn a_line_is_an_entry() {
        let read = read(
            "9990000018,O'Testcase,Robin  Sky,2019-05-11,,,\n\
             999 000 0026,\"Testcase, Jr\",Ash,2018-02-28,superseded,999-000-0018,true\n",
        );
        let entries = read.unwrap();
        assert_eq!(entries.len(), 2);
        assert_eq!(entries[0].demographics.given, ["Robin", "Sky"]);
        assert_eq!((entries[0].status, entries[0].deceased), (NumberStatus::Current, false));
        assert_eq!(entries[1].demographics.family, "Testcase, Jr");
        assert_eq!(entries[1].replaced_by, Some(entries[0].nhs_number));
        assert!(entries[1].deceased);
        assert_eq!(entries_of(""), 0);
    }

    fn entries_of(lines: &str) -> usize {
        read(lines).unwrap().len()
    }

    #[test]
    fn every_fault_is_told_with_its_line_and_nothing_of_it() {
        let faults = read(
            "9990000019,Testcase,Robin,2019-05-11,,,\n\
             9990000018,,Robin,2019-02-30,gone,,maybe\n\
             9990000018,Testcase,Robin,2019-05-11,superseded,,\n\
             9990000026,Testcase,Robin,2019-05-11,superseded,9990000026,\n\
             9990000034,Testcase,Robin,2019-05-11,current,9990000018,\n\
             9990000042,Testcase,Robin,2019-05-11\n\
             9990000050,Testcase,Robin,2019-05-11,,,\n\
             9990000050,Testcase,Robin,2019-05-11,,,\n",
        )
        .unwrap_err();
        let lines: Vec<u64> = faults.iter().map(|fault| fault.line).collect();
        assert_eq!(lines, [2, 3, 3, 3, 3, 4, 5, 6, 7, 9], "{faults:?}");
        assert!(
            faults.iter().all(|fault| !fault.what.contains("999") && !fault.what.contains("Testcase")),
            "{faults:?}"
        );
        let text = told(&faults, false).unwrap();
        assert!(text.contains("  line 2: nhs_number isn't a valid NHS number: the check digit is wrong"), "{text}");
    }

    #[test]
    fn another_header_is_another_file() {
        for bad in ["", "number,name\n1,2\n", "nhs_number;family;given\n"] {
            let faults = entries(bad.as_bytes()).unwrap_err();
            assert_eq!((faults.len(), faults[0].line), (1, 1), "{bad}");
        }
        assert!(entries(&[0xff, 0xfe, 0x41][..]).is_err());
    }
}
