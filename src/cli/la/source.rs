//! A file of an authority in whatever form, as an upload Bundle; and everything that can be said of it on this machine.

use std::{fs::File, io::BufReader};

use chrono::NaiveDate;
use chrono_tz::Europe::London;
use clap::ValueEnum;
use serde_json::Value;

use super::{
    LaFault,
    bundle::{self, Entries},
    console::Console,
    csv,
};
use crate::{
    cpis::{
        limits::Limits,
        types::{
            OdsCode,
            upload::{Problem, ReadRecord, RecordChange, RecordCode},
        },
        upload::alone::judge_alone,
    },
    fhir::{
        json,
        outcome::{Issue, Severity},
        upload::{Reading, UploadBundle, read_bundle},
        validate::Validators,
    },
    hl7v3::upload::{FileHeader, FileWriter, UploadFile, WrittenFile, location},
};

/// Form of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// One line a plan; docs/la-client.md has the columns.
    Csv,
    /// HL7 v3 `File` (XML).
    Hl7,
    /// FHIR Bundle (JSON).
    Fhir,
}

impl Format {
    pub fn code(self) -> &'static str {
        match self {
            Self::Csv => "csv",
            Self::Hl7 => "hl7",
            Self::Fhir => "fhir",
        }
    }

    /// By the first bytes.
    fn of(bytes: &[u8]) -> Self {
        let bare = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes);
        match bare.iter().find(|byte| !byte.is_ascii_whitespace()) {
            Some(b'<' | 0xFE | 0xFF | 0) => Self::Hl7,
            Some(b'{') => Self::Fhir,
            _ => Self::Csv,
        }
    }
}

/// One thing wrong with a record.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Row {
    /// Where in the file, such as "line 7" or "record 3".
    pub place: String,
    /// Column, `XPath` or `FHIRPath`.
    pub element: String,
    /// CP-ISUploadRecordResponse.
    pub code: String,
    pub reason: String,
}

/// Entries that a Bundle may have on this machine: as many as a gateway takes at most by default.
const MOST_ENTRIES: usize = 20_000;

/// A file that was read.
pub struct Source {
    pub format: Format,
    pub bytes: Vec<u8>,
}

impl Source {
    /// Reads a file; `-` is standard input.
    ///
    /// # Errors
    /// [`LaFault::Usage`] when it can't be read.
    pub fn read(path: &str, format: Option<Format>, console: &mut Console) -> Result<Self, LaFault> {
        let unreadable = |error: std::io::Error| LaFault::Usage(format!("the file can't be read: {error}"));
        let mut input = if path == "-" {
            console.take_input()
        } else {
            Box::new(BufReader::new(File::open(path).map_err(unreadable)?))
        };
        let mut bytes = Vec::new();
        input.read_to_end(&mut bytes).map_err(unreadable)?;
        Ok(Self { format: format.unwrap_or_else(|| Format::of(&bytes)), bytes })
    }

    /// The file as an upload Bundle.
    ///
    /// # Errors
    /// [`LaFault::Failed`] when it can't be used as a whole.
    pub fn prepare(&self) -> Result<Prepared, LaFault> {
        match self.format {
            Format::Csv => {
                let lines = csv::read(&self.bytes)?;
                if lines.is_empty() {
                    return Err(LaFault::Failed("the file has no lines below its header".to_owned()));
                }
                let mut numbers: Vec<&str> = lines.iter().map(|line| line.nhs_number.as_str()).collect();
                numbers.sort_unstable();
                numbers.dedup();
                let prepared = Prepared::of(self.format, Entries::of_lines(&lines));
                Ok(Prepared { records: Some(numbers.len()), ..prepared })
            }
            Format::Hl7 => self.prepare_hl7(),
            Format::Fhir => {
                let body = json::parse(&self.bytes, json::UPLOAD_VALUES);
                let body = body.map_err(|fault| LaFault::Failed(fault.issue().diagnostics))?;
                let count = body.get("entry").and_then(Value::as_array).map_or(0, Vec::len);
                let places = (0..count).map(|entry| format!("entry {entry}")).collect();
                let number = bundle::number_of(&body);
                Ok(Prepared { number, ..Prepared::of_bundle(self.format, body, places) })
            }
        }
    }

    fn prepare_hl7(&self) -> Result<Prepared, LaFault> {
        let unusable = |fault: crate::hl7v3::FileFault| LaFault::Failed(fault.reason);
        let file = UploadFile::open(self.bytes.as_slice()).map_err(unusable)?;
        let header = file.header().clone();
        let (mut records, mut refused) = (Vec::new(), Vec::new());
        for (index, record) in file.enumerate() {
            match record.map_err(unusable)? {
                ReadRecord::Change(change) => records.push((index + 1, change)),
                ReadRecord::Unreadable(unreadable) => {
                    refused.extend(unreadable.problems.iter().map(|problem| hl7_row(index + 1, problem, None)));
                }
            }
        }
        let organization = header.organization.as_ref().map(|change| (header.sender.as_str(), change));
        let prepared = Prepared::of(self.format, Entries::of_records(&records, organization));
        Ok(Prepared { number: Some(header.number), refused, header: Some(header), ..prepared })
    }
}

/// A file as an upload Bundle. No `Debug`: it holds what must never reach a log.
pub struct Prepared {
    pub format: Format,
    pub bundle: Value,
    /// Of each entry, where in the file it stands.
    places: Vec<String>,
    /// The number that the file itself has.
    pub number: Option<i64>,
    /// How many records the file has, where its entries don't say it.
    records: Option<usize>,
    /// Records that can't even be sent.
    pub refused: Vec<Row>,
    /// Of an HL7 v3 file.
    pub header: Option<FileHeader>,
}

/// What was found on this machine.
pub struct Checked {
    pub records: usize,
    pub rows: Vec<Row>,
}

impl Prepared {
    fn of(format: Format, entries: Entries) -> Self {
        let (bundle, places) = entries.into_bundle();
        Self::of_bundle(format, bundle, places)
    }

    fn of_bundle(format: Format, bundle: Value, places: Vec<String>) -> Self {
        Self { format, bundle, places, number: None, records: None, refused: Vec::new(), header: None }
    }

    /// A Bundle of which only the answer is there.
    pub fn answered() -> Self {
        Self::of_bundle(Format::Fhir, Value::Null, Vec::new())
    }

    /// Nothing is left to send.
    pub fn is_empty(&self) -> bool {
        // What an empty Bundle is, is said where Bundles are judged.
        self.places.is_empty() && self.format != Format::Fhir
    }

    /// The records of the Bundle as the gateway would read them.
    ///
    /// # Errors
    /// What makes the whole Bundle unusable.
    fn read(&self, sender: Option<&OdsCode>) -> Result<UploadBundle, LaFault> {
        let validators = Validators::shared().map_err(|fault| LaFault::Failed(fault.to_string()))?;
        let reading = Reading { sender, zone: London, validators, max_entries: MOST_ENTRIES };
        let mut read = read_bundle(&self.bundle, &reading).map_err(|issues| {
            let words: Vec<String> = issues.into_iter().map(|issue| issue.diagnostics).collect();
            LaFault::Failed(words.join(" "))
        })?;
        read.place(|_| None);
        Ok(read)
    }

    /// Everything that is wrong with the file, as far as nothing needs to be looked up.
    ///
    /// # Errors
    /// What makes the whole file unusable.
    pub fn check(&self, sender: Option<&OdsCode>, today: NaiveDate) -> Result<Checked, LaFault> {
        let limits = Limits::default();
        if self.is_empty() {
            return Ok(Checked { records: count_places(&self.refused), rows: self.refused.clone() });
        }
        let read = self.read(sender)?;
        let mut told = read.issues();
        // Which plan an id means only the gateway knows.
        told.retain(|one| one.issue.code != crate::fhir::outcome::IssueCode::NotFound);
        let frame = read.frame();
        for record in read.records.iter().filter_map(|record| record.content.as_ref().ok()) {
            told.extend(frame.problems(&judge_alone(record, today, &limits)));
        }
        told.sort_by_key(|one| one.entry);
        let found = told.iter().map(|one| self.row(one.entry, &one.issue));
        let rows = in_order(self.refused.iter().cloned().chain(found).collect());
        let records = self.records.unwrap_or(read.records.len() + count_places(&self.refused));
        Ok(Checked { records, rows })
    }

    /// The file as an HL7 v3 `File`, and the records that it can't say.
    ///
    /// # Errors
    /// What makes the whole file unusable.
    pub fn to_hl7(&self, file: &WrittenFile<'_>) -> Result<(Vec<u8>, Vec<Row>), LaFault> {
        let read = self.read(Some(file.sender))?;
        let (mut changes, mut refused) = (Vec::new(), self.refused.clone());
        for record in &read.records {
            match &record.content {
                Ok(change) => changes.push((record.entries.first().copied().unwrap_or_default(), change)),
                Err(issues) => refused.extend(issues.iter().map(|one| self.row(one.entry, &one.issue))),
            }
        }
        // Written one by one first: the header says how many there are.
        changes.retain(|(entry, change)| match self.fits_hl7(file, change) {
            Ok(()) => true,
            Err(error) => {
                refused.push(self.row_of(*entry, "", "CPR07", &error.to_string()));
                false
            }
        });
        let mut writer = FileWriter::begin(Vec::new(), &WrittenFile { records: changes.len(), ..*file })?;
        changes.iter().try_for_each(|(_, change)| writer.record(change))?;
        let bytes = if changes.is_empty() { Vec::new() } else { writer.finish()? };
        Ok((bytes, in_order(refused)))
    }

    fn fits_hl7(&self, file: &WrittenFile<'_>, change: &RecordChange) -> std::io::Result<()> {
        FileWriter::begin(std::io::sink(), &WrittenFile { records: 1, ..*file })?.record(change)
    }

    fn row(&self, entry: usize, issue: &Issue) -> Row {
        let code = issue.cpr.map_or(if issue.severity == Severity::Warning { "" } else { "CPR07" }, |code| code.code());
        self.row_of(entry, issue.expression.first().map(String::as_str).unwrap_or_default(), code, &issue.diagnostics)
    }

    /// What is said of an entry, in the words of the file.
    pub fn row_of(&self, entry: usize, expression: &str, code: &str, reason: &str) -> Row {
        let place = self.places.get(entry).cloned().unwrap_or_else(|| format!("entry {entry}"));
        let element = match self.format {
            Format::Fhir => expression.to_owned(),
            Format::Csv => {
                let resource = self.bundle.pointer(&format!("/entry/{entry}/resource/resourceType"));
                column(expression, resource.and_then(Value::as_str).unwrap_or_default(), code).to_owned()
            }
            Format::Hl7 => {
                let entries = self.places.iter().take(entry).filter(|other| **other == place).count();
                let element = element_below(expression);
                place_number(&place).map(|record| location(record, entries, element, None)).unwrap_or_default()
            }
        };
        Row { place, element, code: code.to_owned(), reason: reason.to_owned() }
    }
}

/// By place, each once: what is wrong with a line may show in two of its entries.
pub fn in_order(mut rows: Vec<Row>) -> Vec<Row> {
    rows.sort_by_key(|row| place_number(&row.place));
    let mut told: Vec<Row> = Vec::with_capacity(rows.len());
    for row in rows {
        let mut same_place = told.iter().rev().take_while(|one| one.place == row.place);
        // A number that can't be read is told of wherever it stands.
        let number =
            |one: &Row| row.code == RecordCode::Cpr04.code() && (&one.element, &one.code) == (&row.element, &row.code);
        if !same_place.any(|one| *one == row || number(one)) {
            told.push(row);
        }
    }
    told
}

fn hl7_row(record: usize, problem: &Problem, change: Option<&RecordChange>) -> Row {
    let plan = change.and_then(|change| change.plans.iter().find(|plan| plan.entry == problem.entry));
    Row {
        place: format!("record {record}"),
        element: location(record, problem.entry, problem.element, plan.and_then(|plan| plan.plan_type)),
        code: problem.code.code().to_owned(),
        reason: problem.reason.clone(),
    }
}

/// The number in "line 7".
fn place_number(place: &str) -> Option<usize> {
    place.rsplit(' ').next()?.parse().ok()
}

fn count_places(rows: &[Row]) -> usize {
    let mut places: Vec<&str> = rows.iter().map(|row| row.place.as_str()).collect();
    places.dedup();
    places.len()
}

/// `period.start` of `Bundle.entry[3].resource.period.start`, without the resource's type.
fn element_below(expression: &str) -> &str {
    let below = expression.split_once("].resource").map_or("", |(_, below)| below);
    let below = below.trim_start_matches('.');
    // Of those of which one begins with the other the longer comes first.
    let known = [
        "period.start",
        "period.end",
        "birthDate",
        "identifier",
        "name.family",
        "name.given",
        "name",
        "status",
        "subject",
        "code",
    ];
    known.into_iter().find(|known| below.starts_with(known)).unwrap_or_default()
}

/// The column of the CSV that an element comes from.
fn column(expression: &str, resource_type: &str, code: &str) -> &'static str {
    match element_below(expression) {
        "period.start" => "start",
        "period.end" => "end",
        "birthDate" => "birth_date",
        "name.given" => "given",
        "name" if expression.contains("given") => "given",
        "name.family" | "name" => "family",
        "status" => "delete",
        "code" => "plan",
        "subject" => "nhs_number",
        "identifier" if resource_type == "Flag" => "plan_id",
        // The number is an identifier too; what is wrong with it has a code of its own.
        "identifier" if code == RecordCode::Cpr07.code() => "local_id",
        "identifier" => "nhs_number",
        _ if expression.contains("request.url") || expression.ends_with(".id") => "nhs_number",
        _ if expression.contains(".period") => "start",
        _ => "",
    }
}
