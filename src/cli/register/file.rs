//! The CSV file of a register, read line by line: what each line is, or what is wrong with it. No message repeats what a line
//! holds.

use std::{
    collections::{BTreeMap, HashSet},
    io::{self, BufRead, Read},
};

use anyhow::{Context, bail};
use chrono::{Datelike, NaiveDate};

use crate::cpis::{
    matching,
    types::{
        NhsNumber,
        child::{Demographics, NumberStatus, RegisterEntry},
        nhs_number::InvalidNhsNumber,
    },
};

pub const HEADER: [&str; 7] = ["nhs_number", "family", "given", "birth_date", "status", "replaced_by", "deceased"];

/// The first year of birth that is believed.
const FIRST_YEAR: i32 = 1880;
/// The most characters of a family name, and of all given names.
const LONGEST_NAME: usize = 255;

const NUMBER: &str = "nhs_number isn't a valid NHS number: it must have exactly 10 digits";
const OLD_NUMBER: &str = "nhs_number isn't a valid NHS number: one with letters is of the old style";
const CHECK_DIGIT: &str = "nhs_number isn't a valid NHS number: the check digit is wrong";
const BIRTH_DATE: &str = "birth_date isn't a date such as 2019-05-11";
const FUTURE: &str = "birth_date is in the future";
const LONG_AGO: &str = "birth_date is before 1880";
const NAMES: &str = "family and given must not be empty";
const NO_NAME: &str = "family and given must each have a letter or digit: a name without one never matches";
const LONG_NAME: &str = "family and given must have 255 characters at most";
const STATUS: &str = "status must be current, superseded, invalid, retired or restricted";
const NO_REPLACEMENT: &str = "replaced_by must be the valid NHS number that replaced a superseded one";
const SAME_NUMBER: &str = "replaced_by must be another number";
const NOT_SUPERSEDED: &str = "replaced_by goes with the status superseded only";
const DECEASED: &str = "deceased must be true, false or empty";
const TWICE: &str = "this NHS number has an earlier line";
const FIELDS: &str = "the line must have seven fields, with commas between them";
const ENCODING: &str = "the line isn't UTF-8: save the file as UTF-8 (in Excel: CSV UTF-8)";
const OPEN_QUOTE: &str = "a quote (\") is opened that isn't closed on the same line";

/// A line of the file that holds something; the header is line 1.
pub struct Line {
    /// As an editor shows it: lines end with LF, CR LF or CR, and blank ones count.
    pub number: u64,
    /// Where the next one begins, in bytes.
    pub until: u64,
    /// The entry, or everything that is wrong with it.
    pub read: Result<RegisterEntry, Vec<&'static str>>,
}

/// The lines of a file. It remembers four bytes of each number, to tell a second line of it, and nothing else of a line.
///
/// A record is a line: after a quote that is open at the end of one, nobody can tell what belongs to it and what stands by
/// itself, so that nothing is read on.
pub struct Lines<R> {
    source: R,
    /// The civil date, after which nobody is born.
    today: NaiveDate,
    line: Vec<u8>,
    number: u64,
    until: u64,
    ends_with_cr: bool,
    seen: HashSet<u32>,
    unread: u64,
}

impl<R: BufRead> Lines<R> {
    /// # Errors
    /// When it is no such file; the text is for the operator.
    pub fn of(source: R, today: NaiveDate) -> anyhow::Result<Self> {
        let (line, seen) = (Vec::new(), HashSet::new());
        let mut lines = Self { source, today, line, number: 0, until: 0, ends_with_cr: false, seen, unread: 0 };
        lines.advance()?;
        let text = lines.line.strip_prefix("\u{feff}".as_bytes()).unwrap_or(&lines.line);
        let Ok(header) = std::str::from_utf8(text) else {
            bail!("the file isn't UTF-8: save it as UTF-8 (in Excel: CSV UTF-8)")
        };
        if fields(header).is_none_or(|names| names != HEADER) {
            let separated = if header.contains([';', '\t']) { "fields must be separated by commas, and " } else { "" };
            bail!("{separated}the first line must be {}", HEADER.join(","));
        }
        Ok(lines)
    }

    /// The next line that isn't blank; none at the end.
    ///
    /// # Errors
    /// When the file can't be read on.
    pub fn next_line(&mut self) -> anyhow::Result<Option<Line>> {
        while self.advance()? {
            let Ok(text) = std::str::from_utf8(&self.line) else { return Ok(Some(self.told(Err(vec![ENCODING])))) };
            let Some(fields) = fields(text) else {
                let told = self.told(Err(vec![OPEN_QUOTE]));
                while self.advance()? {}
                self.unread = self.number - told.number;
                return Ok(Some(told));
            };
            if fields.iter().all(String::is_empty) {
                continue;
            }
            let read = entry(&fields, self.today)
                .and_then(|entry| if self.seen.insert(key(&entry.nhs_number)) { Ok(entry) } else { Err(vec![TWICE]) });
            return Ok(Some(self.told(read)));
        }
        Ok(None)
    }

    /// How many lines could not be read after the last one that was told.
    pub fn unread(&self) -> u64 {
        self.unread
    }

    fn told(&self, read: Result<RegisterEntry, Vec<&'static str>>) -> Line {
        Line { number: self.number, until: self.until, read }
    }

    /// Goes to the next line of the file; false when there is none.
    fn advance(&mut self) -> anyhow::Result<bool> {
        let is_there = self.advance_by_bytes().context("the file can't be read on")?;
        self.number += u64::from(is_there);
        Ok(is_there)
    }

    fn advance_by_bytes(&mut self) -> io::Result<bool> {
        self.line.clear();
        for byte in self.source.by_ref().bytes() {
            let byte = byte?;
            self.until += 1;
            let was_cr = std::mem::replace(&mut self.ends_with_cr, byte == b'\r');
            match byte {
                // The other half of CR LF.
                b'\n' if was_cr => {}
                b'\n' | b'\r' => return Ok(true),
                _ => self.line.push(byte),
            }
        }
        Ok(!self.line.is_empty())
    }
}

/// The fields of a line by RFC 4180, without white space around them; none when a quote is open at its end.
fn fields(line: &str) -> Option<Vec<String>> {
    let (mut fields, mut field, mut is_quoted) = (Vec::with_capacity(HEADER.len()), String::new(), false);
    let mut signs = line.chars().peekable();
    while let Some(sign) = signs.next() {
        match sign {
            '"' if is_quoted && signs.next_if_eq(&'"').is_some() => field.push('"'),
            '"' if is_quoted => is_quoted = false,
            '"' if field.trim().is_empty() => is_quoted = true,
            ',' if !is_quoted => fields.push(std::mem::take(&mut field).trim().to_owned()),
            other => field.push(other),
        }
    }
    fields.push(field.trim().to_owned());
    (!is_quoted).then_some(fields)
}

/// The first nine digits; the tenth follows from them.
fn key(number: &NhsNumber) -> u32 {
    number.as_str().bytes().take(9).fold(0, |key, digit| key * 10 + u32::from(digit - b'0'))
}

/// An entry of the fields of a line.
fn entry(fields: &[String], today: NaiveDate) -> Result<RegisterEntry, Vec<&'static str>> {
    let [nhs_number, family, given, birth_date, status, replaced_by, deceased] = fields else {
        return Err(vec![FIELDS]);
    };
    let mut wrong = Vec::new();
    let nhs_number = NhsNumber::typed(nhs_number);
    match nhs_number {
        Ok(_) => {}
        Err(InvalidNhsNumber::CheckDigit) => wrong.push(CHECK_DIGIT),
        Err(InvalidNhsNumber::OldStyle) => wrong.push(OLD_NUMBER),
        Err(InvalidNhsNumber::Format | InvalidNhsNumber::Typed) => wrong.push(NUMBER),
    }
    let nhs_number = nhs_number.ok();
    let birth_date = birth_date.parse::<NaiveDate>().ok();
    wrong.extend(match birth_date {
        None => Some(BIRTH_DATE),
        Some(date) if date > today => Some(FUTURE),
        Some(date) if date.year() < FIRST_YEAR => Some(LONG_AGO),
        Some(_) => None,
    });
    wrong.extend(fault_of_names(family, given));
    let status = match status.to_ascii_lowercase().as_str() {
        "" => Some(NumberStatus::Current),
        code => NumberStatus::from_code(code),
    };
    if status.is_none() {
        wrong.push(STATUS);
    }
    let replacement = NhsNumber::typed(replaced_by).ok();
    match (status, replaced_by.is_empty()) {
        (Some(NumberStatus::Superseded), _) if replacement.is_none() => wrong.push(NO_REPLACEMENT),
        (Some(NumberStatus::Superseded), _) if replacement == nhs_number => wrong.push(SAME_NUMBER),
        (Some(NumberStatus::Superseded) | None, _) | (_, true) => {}
        _ => wrong.push(NOT_SUPERSEDED),
    }
    // A spreadsheet writes them in capitals.
    let is_deceased = deceased.eq_ignore_ascii_case("true");
    if !is_deceased && !deceased.is_empty() && !deceased.eq_ignore_ascii_case("false") {
        wrong.push(DECEASED);
    }
    let given = given.split_whitespace().map(str::to_owned).collect();
    match (nhs_number, birth_date, status) {
        (Some(nhs_number), Some(birth_date), Some(status)) if wrong.is_empty() => Ok(RegisterEntry {
            nhs_number,
            demographics: Demographics { family: family.to_owned(), given, birth_date },
            status,
            replaced_by: replacement,
            deceased: is_deceased,
        }),
        _ => Err(wrong),
    }
}

/// What is wrong with names, if anything is.
fn fault_of_names(family: &str, given: &str) -> Option<&'static str> {
    let counts = |name: &str| name.chars().any(char::is_alphanumeric) && matching::same_family(name, name);
    if family.is_empty() || given.is_empty() {
        Some(NAMES)
    } else if !counts(family) || !counts(given) {
        Some(NO_NAME)
    } else if [family, given].iter().any(|name| name.chars().count() > LONGEST_NAME) {
        Some(LONG_NAME)
    } else {
        None
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
    use proptest::prelude::*;

    use super::*;

    const FIRST: &str = "nhs_number,family,given,birth_date,status,replaced_by,deceased\n";

    fn today() -> NaiveDate {
        NaiveDate::from_ymd_opt(2026, 11, 23).unwrap()
    }

    /// The first fault of a line and its number, of a file after its header.
    fn faults(lines: &str) -> Vec<(u64, &'static str)> {
        faults_of(format!("{FIRST}{lines}").as_bytes())
    }

    fn faults_of(file: &[u8]) -> Vec<(u64, &'static str)> {
        let mut lines = Lines::of(file, today()).unwrap();
        let mut faults = Vec::new();
        while let Some(line) = lines.next_line().unwrap() {
            faults.extend(line.read.err().map(|wrong| (line.number, wrong[0])));
        }
        faults
    }

    fn refused(file: &[u8]) -> String {
        Lines::of(file, today()).map(|_| ()).unwrap_err().to_string()
    }

    fn read(lines: &str) -> (Vec<RegisterEntry>, Faults) {
        let text = format!("{FIRST}{lines}");
        let mut lines = Lines::of(text.as_bytes(), today()).unwrap();
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
            format!("1: 10: {TWICE}"),
        ];
        expected.sort_unstable();
        let mut sorted = told.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, expected);
        assert_eq!(faults.lines, 11);
        assert!(told.iter().all(|one| !one.contains("999") && !one.contains("Testcase")), "{told:?}");
    }

    #[test]
    fn lines_have_the_numbers_that_an_editor_shows() {
        let (good, bad) = ("9990000018,Testcase,Robin,2019-05-11,,,", "1,Testcase,Robin,2019-05-11,,,");
        for end in ["\n", "\r\n", "\r"] {
            let file = [FIRST.trim(), "", "", bad, good, "  ", ",,,,,,", bad].join(end);
            for file in [file.clone(), format!("{file}{end}"), format!("\u{feff}{file}")] {
                assert_eq!(faults_of(file.as_bytes()), [(4, NUMBER), (8, NUMBER)], "{file:?}");
            }
        }
    }

    #[test]
    fn nothing_is_read_after_an_open_quote_and_that_is_counted() {
        let good = |index: usize| format!("{},Testcase,\"Robin\",2019-05-11,,,\n", ["9990000018", "9990000026"][index]);
        let open = "9990000034,\"Testcase,Robin,2019-05-11,,,\n";
        let file = format!("{FIRST}{}\n{open}{}{}", good(0), good(1), "x\n".repeat(49));
        let mut lines = Lines::of(file.as_bytes(), today()).unwrap();
        assert!(lines.next_line().unwrap().unwrap().read.is_ok());
        let line = lines.next_line().unwrap().unwrap();
        assert_eq!((line.number, line.read.err()), (4, Some(vec![OPEN_QUOTE])));
        assert!(lines.next_line().unwrap().is_none());
        assert_eq!(lines.unread(), 50);
        // One that is closed on a later line is the same.
        assert_eq!(faults("9990000018,\"Test\ncase\",Robin,2019-05-11,,,\n"), [(2, OPEN_QUOTE)]);
        assert_eq!(faults("9990000018,Test\"case,Robin,2019-05-11,,,\n"), [], "in a name it is a sign");
    }

    #[test]
    fn codes_are_taken_ignoring_case() {
        let (entries, faults) = read(
            "9990000018,Testcase,Robin,2019-05-11,Current,,FALSE\n9990000026,Testcase,Robin,2019-05-11,RESTRICTED,,TRUE\n",
        );
        assert_eq!(faults.lines, 0);
        assert_eq!((entries[0].status, entries[0].deceased), (NumberStatus::Current, false));
        assert_eq!((entries[1].status, entries[1].deceased), (NumberStatus::Restricted, true));
    }

    #[test]
    fn nobody_is_born_tomorrow_or_before_1880() {
        let born = |date: &str| faults(&format!("9990000018,Testcase,Robin,{date},,,\n"));
        assert_eq!((born("2026-11-23"), born("1880-01-01")), (vec![], vec![]));
        assert_eq!((born("2026-11-24"), born("1879-12-31")), (vec![(2, FUTURE)], vec![(2, LONG_AGO)]));
    }

    #[test]
    fn names_can_match() {
        let named = |family: &str, given: &str| {
            faults(&format!("9990000018,{family},{given},2019-05-11,,,\n")).first().map(|(_, what)| *what)
        };
        for name in ["---", "...", "' '", "\u{200b}", "\u{2bb}", "???"] {
            assert_eq!((named(name, "Robin"), named("Testcase", name)), (Some(NO_NAME), Some(NO_NAME)), "{name}");
        }
        for name in ["O", "3", "- Li", "李", "Й", "ض"] {
            assert_eq!((named(name, "Robin"), named("Testcase", name)), (None, None), "{name}");
        }
        let (long, longer) = ("é".repeat(255), "é".repeat(256));
        assert_eq!((named(&long, &long), named("Testcase", &longer)), (None, Some(LONG_NAME)));
        assert_eq!(named(&longer, "Robin"), Some(LONG_NAME));
    }

    #[test]
    fn encoding_and_number_of_fields_are_two_faults() {
        let mut file =
            format!("{FIRST}9990000018,Testcase,Robin\n9990000018,Testcase,Robin,2019-05-11,,,,\n").into_bytes();
        file.extend(b"9990000018,Testcas\xe9,Robin,2019-05-11,,,\n");
        assert_eq!(faults_of(&file), [(2, FIELDS), (3, FIELDS), (4, ENCODING)]);
        assert_eq!(faults("9990000018;Testcase;Robin;2019-05-11;;;\n"), [(2, FIELDS)]);
    }

    #[test]
    fn another_header_is_another_file() {
        for bad in ["", "number,name\n1,2\n", &format!("\"{FIRST}"), &format!("{},\n", FIRST.trim())] {
            assert!(refused(bad.as_bytes()).starts_with("the first line must be nhs_number,family"), "{bad}");
        }
        for separator in [";", "\t"] {
            assert!(refused(FIRST.replace(',', separator).as_bytes()).contains("separated by commas"));
        }
        assert!(refused(&[0xff, 0xfe, 0x41]).contains("CSV UTF-8"));
    }

    proptest! {
        #[test]
        fn what_csv_writes_is_read(names in proptest::collection::vec("[A-Za-zé \",;']{0,9}", 1..8)) {
            let mut writer = csv::Writer::from_writer(Vec::new());
            writer.write_record(&names).unwrap();
            let line = String::from_utf8(writer.into_inner().unwrap()).unwrap();
            let trimmed: Vec<String> = names.iter().map(|name| name.trim().to_owned()).collect();
            prop_assert_eq!(fields(line.trim_end_matches('\n')), Some(trimmed));
        }
    }
}
