//! The CSV file of a register, read line by line: what each line is, or what is wrong with it. No message repeats what a line
//! holds.

use std::{
    collections::{BTreeMap, HashSet},
    io::Read,
};

use anyhow::bail;
use chrono::NaiveDate;

use crate::cpis::types::{
    NhsNumber,
    child::{Demographics, NumberStatus, RegisterEntry},
    nhs_number::InvalidNhsNumber,
};

pub const HEADER: [&str; 7] = ["nhs_number", "family", "given", "birth_date", "status", "replaced_by", "deceased"];

const NUMBER: &str = "nhs_number isn't a valid NHS number: it must have exactly 10 digits";
const OLD_NUMBER: &str = "nhs_number isn't a valid NHS number: one with letters is of the old style";
const CHECK_DIGIT: &str = "nhs_number isn't a valid NHS number: the check digit is wrong";
const BIRTH_DATE: &str = "birth_date isn't a date such as 2019-05-11";
const NAMES: &str = "family and given must not be empty";
const STATUS: &str = "status must be current, superseded, invalid, retired or restricted";
const NO_REPLACEMENT: &str = "replaced_by must be the valid NHS number that replaced a superseded one";
const SAME_NUMBER: &str = "replaced_by must be another number";
const NOT_SUPERSEDED: &str = "replaced_by goes with the status superseded only";
const DECEASED: &str = "deceased must be true, false or empty";
const TWICE: &str = "this NHS number has an earlier line";
const FIELDS: &str = "the line doesn't have seven fields in UTF-8";

/// A line of the file; the header is line 1. One after blank lines has the number of the first of these.
pub struct Line {
    pub number: u64,
    /// Where the next one begins, in bytes.
    pub until: u64,
    /// The entry, or everything that is wrong with it.
    pub read: Result<RegisterEntry, Vec<&'static str>>,
}

/// The lines of a file. It remembers four bytes of each number, to tell a second line of it, and nothing else of a line.
pub struct Lines<R> {
    reader: csv::Reader<R>,
    record: csv::StringRecord,
    seen: HashSet<u32>,
}

impl<R: Read> Lines<R> {
    /// # Errors
    /// When it is no such file; the text is for the operator.
    pub fn of(source: R) -> anyhow::Result<Self> {
        let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(source);
        let Ok(header) = reader.headers() else { bail!("the file can't be read as CSV in UTF-8") };
        if header.iter().ne(HEADER) {
            bail!("the header must be {}", HEADER.join(","));
        }
        Ok(Self { reader, record: csv::StringRecord::new(), seen: HashSet::new() })
    }

    /// The next line; none at the end.
    ///
    /// # Errors
    /// When the file can't be read on.
    pub fn next_line(&mut self) -> anyhow::Result<Option<Line>> {
        let begins = self.reader.position().clone();
        let read = match self.reader.read_record(&mut self.record) {
            Ok(false) => return Ok(None),
            Ok(true) => entry(&self.record)
                .and_then(|entry| if self.seen.insert(key(&entry.nhs_number)) { Ok(entry) } else { Err(vec![TWICE]) }),
            Err(error) if error.is_io_error() => bail!("the file can't be read on: {error}"),
            Err(_) => Err(vec![FIELDS]),
        };
        Ok(Some(Line { number: begins.line(), until: self.reader.position().byte(), read }))
    }
}

/// The first nine digits; the tenth follows from them.
fn key(number: &NhsNumber) -> u32 {
    number.as_str().bytes().take(9).fold(0, |key, digit| key * 10 + u32::from(digit - b'0'))
}

/// An entry of the values of a line.
fn entry(record: &csv::StringRecord) -> Result<RegisterEntry, Vec<&'static str>> {
    let field = |index: usize| record.get(index).unwrap_or_default();
    let mut wrong = Vec::new();
    let nhs_number = NhsNumber::typed(field(0));
    match nhs_number {
        Ok(_) => {}
        Err(InvalidNhsNumber::CheckDigit) => wrong.push(CHECK_DIGIT),
        Err(InvalidNhsNumber::OldStyle) => wrong.push(OLD_NUMBER),
        Err(InvalidNhsNumber::Format | InvalidNhsNumber::Typed) => wrong.push(NUMBER),
    }
    let nhs_number = nhs_number.ok();
    let birth_date = field(3).parse::<NaiveDate>().ok();
    if birth_date.is_none() {
        wrong.push(BIRTH_DATE);
    }
    if field(1).is_empty() || field(2).is_empty() {
        wrong.push(NAMES);
    }
    let status = if field(4).is_empty() { Some(NumberStatus::Current) } else { NumberStatus::from_code(field(4)) };
    if status.is_none() {
        wrong.push(STATUS);
    }
    let replaced_by = NhsNumber::typed(field(5)).ok();
    match (status, field(5).is_empty()) {
        (Some(NumberStatus::Superseded), _) if replaced_by.is_none() => wrong.push(NO_REPLACEMENT),
        (Some(NumberStatus::Superseded), _) if replaced_by == nhs_number => wrong.push(SAME_NUMBER),
        (Some(NumberStatus::Superseded) | None, _) | (_, true) => {}
        _ => wrong.push(NOT_SUPERSEDED),
    }
    let deceased = match field(6) {
        "true" => true,
        "" | "false" => false,
        _ => {
            wrong.push(DECEASED);
            false
        }
    };
    let given = field(2).split_whitespace().map(str::to_owned).collect();
    match (nhs_number, birth_date, status) {
        (Some(nhs_number), Some(birth_date), Some(status)) if wrong.is_empty() => Ok(RegisterEntry {
            nhs_number,
            demographics: Demographics { family: field(1).to_owned(), given, birth_date },
            status,
            replaced_by,
            deceased,
        }),
        _ => Err(wrong),
    }
}

/// What is wrong with a file: each kind of fault with all its lines, as ranges, so that a million of them are told too.
#[derive(Debug, Default)]
pub struct Faults {
    kinds: BTreeMap<&'static str, Ranges>,
    /// Lines with a fault.
    pub lines: u64,
}

/// Ascending lines, as first and last of those that follow each other, and how many there are.
#[derive(Debug, Default)]
struct Ranges {
    ranges: Vec<(u64, u64)>,
    count: u64,
}

impl Faults {
    pub fn add(&mut self, line: u64, wrong: &[&'static str]) {
        self.lines += 1;
        for what in wrong {
            let of_kind = self.kinds.entry(what).or_default();
            of_kind.count += 1;
            match of_kind.ranges.last_mut() {
                Some((_, last)) if *last + 1 == line => *last = line,
                _ => of_kind.ranges.push((line, line)),
            }
        }
    }

    /// What is wrong, on how many lines, and on which, such as `2-4`.
    pub fn by_kind(&self) -> impl Iterator<Item = (&'static str, u64, Vec<String>)> {
        self.kinds.iter().map(|(what, Ranges { ranges, count })| {
            let shown = |(first, last): &(u64, u64)| {
                if first == last { first.to_string() } else { format!("{first}-{last}") }
            };
            (*what, *count, ranges.iter().map(shown).collect())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: &str = "nhs_number,family,given,birth_date,status,replaced_by,deceased\n";

    fn read(lines: &str) -> (Vec<RegisterEntry>, Faults) {
        let text = format!("{FIRST}{lines}");
        let mut lines = Lines::of(text.as_bytes()).unwrap();
        let (mut entries, mut faults) = (Vec::new(), Faults::default());
        while let Some(line) = lines.next_line().unwrap() {
            match line.read {
                Ok(entry) => entries.push(entry),
                Err(wrong) => faults.add(line.number, &wrong),
            }
        }
        (entries, faults)
    }

    #[test]
    fn a_line_is_an_entry() {
        let (entries, faults) = read(
            "9990000018,O'Testcase,Robin  Sky,2019-05-11,,,\n\
             999 000 0026,\"Testcase, Jr\",Ash,2018-02-28,superseded,999-000-0018,true\n",
        );
        assert_eq!((entries.len(), faults.lines), (2, 0));
        assert_eq!(entries[0].demographics.given, ["Robin", "Sky"]);
        assert_eq!((entries[0].status, entries[0].deceased), (NumberStatus::Current, false));
        assert_eq!(entries[1].demographics.family, "Testcase, Jr");
        assert_eq!(entries[1].replaced_by, Some(entries[0].nhs_number));
        assert!(entries[1].deceased);
        assert_eq!(read("").0.len(), 0);
    }

    #[test]
    fn every_fault_is_told_with_its_lines_and_nothing_of_them() {
        let (entries, faults) = read(
            "9990000019,Testcase,Robin,2019-05-11,,,\n\
             9990000018,,Robin,2019-02-30,gone,,maybe\n\
             9990000018,Testcase,Robin,2019-05-11,superseded,,\n\
             9990000026,Testcase,Robin,2019-05-11,superseded,9990000026,\n\
             9990000034,Testcase,Robin,2019-05-11,current,9990000018,\n\
             9990000042,Testcase,Robin,2019-05-11\n\
             9990000050,Testcase,Robin,2019-05-11,,,\n\
             \n\
             9990000050,Testcase,Robin,2019-05-11,,,\n\
             9990000051,Testcase,Robin,2019-05-11,,,\n\
             9990000052,Testcase,Robin,2019-05-11,,,\n\
             ABC 12345,Testcase,Robin,2019-05-11,,,\n\
             99900000,Testcase,Robin,2019-05-11,,,\n",
        );
        let told: Vec<String> =
            faults.by_kind().map(|(what, count, lines)| format!("{count}: {}: {what}", lines.join(","))).collect();
        assert_eq!(entries.len(), 1);
        let mut expected = [
            format!("3: 2,11-12: {CHECK_DIGIT}"),
            format!("1: 13: {OLD_NUMBER}"),
            format!("1: 14: {NUMBER}"),
            format!("1: 3: {BIRTH_DATE}"),
            format!("1: 3: {NAMES}"),
            format!("1: 3: {STATUS}"),
            format!("1: 3: {DECEASED}"),
            format!("1: 4: {NO_REPLACEMENT}"),
            format!("1: 5: {SAME_NUMBER}"),
            format!("1: 6: {NOT_SUPERSEDED}"),
            format!("1: 7: {FIELDS}"),
            format!("1: 9: {TWICE}"),
        ];
        expected.sort_unstable();
        let mut sorted = told.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, expected);
        assert_eq!(faults.lines, 11);
        assert!(told.iter().all(|one| !one.contains("999") && !one.contains("Testcase")), "{told:?}");
    }

    #[test]
    fn another_header_is_another_file() {
        for bad in ["", "number,name\n1,2\n", "nhs_number;family;given\n"] {
            assert!(Lines::of(bad.as_bytes()).is_err(), "{bad}");
        }
        assert!(Lines::of(&[0xff, 0xfe, 0x41][..]).is_err());
    }
}
