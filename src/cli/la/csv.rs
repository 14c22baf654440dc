//! The CSV of an authority: one line a plan, lines of one NHS number are one record. Read with commas, semicolons or tabs
//! between, quotes, a byte order mark, any line end; written with commas. Values that can't be what they should be are
//! passed on as they are: what is wrong with them is judged where everything is judged.

use std::io::Write;

use chrono::NaiveDate;

use super::LaFault;
use crate::cpis::types::{NhsNumber, PlanType, nhs_number::InvalidNhsNumber};

/// The columns, in the order in which they are written.
pub const COLUMNS: [&str; 10] =
    ["nhs_number", "local_id", "family", "given", "birth_date", "plan", "start", "end", "plan_id", "delete"];

/// Columns without which nothing can be said.
const NEEDED: [&str; 3] = ["nhs_number", "plan", "start"];

/// One line. No `Debug`: it holds what must never reach a log.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Line {
    /// In the file, from 1; the header is the first.
    pub number: u64,
    pub nhs_number: String,
    pub local_id: String,
    pub family: String,
    pub given: Vec<String>,
    pub birth_date: String,
    /// `None` for a line that is about the child only.
    pub plan: Option<Plan>,
}

/// The plan of a line.
#[derive(Clone, PartialEq, Eq)]
pub struct Plan {
    /// `None` for a code that isn't known.
    pub plan_type: Option<PlanType>,
    pub start: String,
    pub end: String,
    pub plan_id: String,
    pub delete: bool,
}

/// Reads a file.
///
/// # Errors
/// What is wrong with the file as a whole: its header, its encoding, a line with more or fewer columns.
pub fn read(bytes: &[u8]) -> Result<Vec<Line>, LaFault> {
    let text = std::str::from_utf8(bytes)
        .map_err(|_| LaFault::Failed("the file is not UTF-8: save it as \"CSV UTF-8\"".to_owned()))?;
    // Lines are counted by their last sign alone.
    let text = text.trim_start_matches('\u{FEFF}').replace("\r\n", "\n");
    let head = text.lines().next().unwrap_or_default();
    let count = |sign: char| head.matches(sign).count();
    let delimiter = [';', '\t'].into_iter().find(|sign| count(*sign) > count(',')).unwrap_or(',');
    let mut reader = csv::ReaderBuilder::new()
        .delimiter(u8::try_from(delimiter).unwrap_or(b','))
        .trim(csv::Trim::All)
        .from_reader(text.as_bytes());
    let columns = columns(reader.headers().map_err(|error| fault_of(&error))?)?;
    let mut lines = Vec::new();
    for row in reader.records() {
        let row = row.map_err(|error| fault_of(&error))?;
        if row.iter().all(str::is_empty) {
            continue;
        }
        let number = row.position().map_or(0, |at| line_at(&text, at));
        if row.iter().any(|cell| cell.contains('\n')) {
            // What follows would be taken for a part of it, and children be lost or plans deleted by it.
            return Err(LaFault::Failed(format!(
                "line {number} opens a quote (\") that isn't closed on the same line"
            )));
        }
        let cell = |name: &str| {
            let at = columns.iter().position(|column| column == name);
            at.and_then(|at| row.get(at)).map(unguarded).unwrap_or_default()
        };
        lines.push(line(number, cell));
    }
    Ok(lines)
}

/// The line of a row, counted from 1: the reader begins it at the blank lines before it.
fn line_at(text: &str, at: &csv::Position) -> u64 {
    let rest = usize::try_from(at.byte()).ok().and_then(|byte| text.get(byte..)).unwrap_or_default();
    at.line() + u64::try_from(rest.bytes().take_while(|byte| *byte == b'\n').count()).unwrap_or_default()
}

fn columns(header: &csv::StringRecord) -> Result<Vec<String>, LaFault> {
    let names: Vec<String> = header.iter().map(|name| name.to_lowercase().replace([' ', '-'], "_")).collect();
    let unknown = names.iter().position(|name| !COLUMNS.contains(&name.as_str()));
    let twice = names.iter().any(|name| names.iter().filter(|other| *other == name).count() > 1);
    let missing: Vec<&str> = NEEDED.into_iter().filter(|name| !names.iter().any(|own| own == name)).collect();
    let known = COLUMNS.join(", ");
    if let Some(at) = unknown {
        return Err(LaFault::Failed(format!("column {} of the header isn't known. Known are {known}", at + 1)));
    }
    if twice {
        return Err(LaFault::Failed("the header names a column twice".to_owned()));
    }
    if !missing.is_empty() {
        return Err(LaFault::Failed(format!("the header lacks {}. Known are {known}", missing.join(", "))));
    }
    Ok(names)
}

fn fault_of(error: &csv::Error) -> LaFault {
    let line = error.position().map(csv::Position::line);
    let place = line.map(|line| format!("line {line}")).unwrap_or_else(|| "the file".to_owned());
    LaFault::Failed(match error.kind() {
        csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
            format!("{place} has {len} columns, the header {expected_len}")
        }
        _ => format!("{place} can't be read as CSV"),
    })
}

fn line(number: u64, cell: impl Fn(&str) -> String) -> Line {
    let (code, start, end, plan_id) = (cell("plan"), cell("start"), cell("end"), cell("plan_id"));
    let delete = cell("delete");
    let any = [&code, &start, &end, &plan_id, &delete].iter().any(|text| !text.is_empty());
    Line {
        number,
        nhs_number: number_as_sent(&cell("nhs_number")),
        local_id: cell("local_id"),
        family: cell("family"),
        given: given(&cell("given")),
        birth_date: iso(&cell("birth_date")),
        plan: any.then(|| Plan {
            plan_type: PlanType::from_code(&code.to_uppercase()),
            start: iso(&start),
            end: iso(&end),
            plan_id,
            delete: !["", "no", "n", "false", "0"].contains(&delete.to_lowercase().as_str()),
        }),
    }
}

/// The ten digits, if they are an NHS number as people type it. One of the old style without what parts it, as no sign of
/// it is lost; it never becomes a valid one. Anything else as it is.
fn number_as_sent(text: &str) -> String {
    match NhsNumber::typed(text) {
        Ok(number) => number.as_str().to_owned(),
        Err(InvalidNhsNumber::OldStyle) => text.chars().filter(char::is_ascii_alphanumeric).collect(),
        Err(_) => text.to_owned(),
    }
}

/// Given names are separated by spaces; by bars where one of them has a space itself.
fn given(text: &str) -> Vec<String> {
    let names: Vec<&str> =
        if text.contains('|') { text.split('|').collect() } else { text.split_whitespace().collect() };
    names.into_iter().map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

fn written_given(given: &[String]) -> String {
    if given.iter().any(|name| name.contains(char::is_whitespace)) {
        format!("{}|", given.join("|"))
    } else {
        given.join(" ")
    }
}

/// A date as yyyy-mm-dd, if it is dd/mm/yyyy; anything else as it is.
fn iso(text: &str) -> String {
    let british = |text: &str| {
        let mut parts = text.split('/');
        let (day, month, year) = (parts.next()?, parts.next()?, parts.next()?);
        let digits = [day, month, year].iter().all(|part| part.bytes().all(|b| b.is_ascii_digit()));
        if !digits || parts.next().is_some() || year.len() != 4 {
            return None;
        }
        NaiveDate::from_ymd_opt(year.parse().ok()?, month.parse().ok()?, day.parse().ok()?)
    };
    british(text).map_or_else(|| text.to_owned(), |day| day.format("%Y-%m-%d").to_string())
}

/// Signs with which a spreadsheet takes a cell for a formula.
const FORMULA: [char; 4] = ['=', '+', '-', '@'];

/// So that no spreadsheet runs what somebody wrote into a name.
fn guarded(text: &str) -> String {
    if text.starts_with(FORMULA) { format!("'{text}") } else { text.to_owned() }
}

fn unguarded(text: &str) -> String {
    let bare = text.strip_prefix('\'').filter(|rest| rest.starts_with(FORMULA));
    bare.unwrap_or(text).to_owned()
}

/// Writes a file that [`read`] reads.
///
/// # Errors
/// Of `out`.
pub fn write(out: impl Write, lines: &[Line]) -> Result<(), LaFault> {
    let mut writer = csv::Writer::from_writer(out);
    let unwritten = |error: csv::Error| LaFault::Output(error.into());
    writer.write_record(COLUMNS).map_err(unwritten)?;
    for line in lines {
        let plan = line.plan.as_ref();
        let cells = [
            line.nhs_number.clone(),
            line.local_id.clone(),
            line.family.clone(),
            written_given(&line.given),
            line.birth_date.clone(),
            plan.and_then(|plan| plan.plan_type).map(|of| of.code().to_owned()).unwrap_or_default(),
            plan.map(|plan| plan.start.clone()).unwrap_or_default(),
            plan.map(|plan| plan.end.clone()).unwrap_or_default(),
            plan.map(|plan| plan.plan_id.clone()).unwrap_or_default(),
            plan.filter(|plan| plan.delete).map(|_| "yes".to_owned()).unwrap_or_default(),
        ];
        writer.write_record(cells.iter().map(|cell| guarded(cell))).map_err(unwritten)?;
    }
    writer.flush()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, option, prelude::*, sample};

    use super::*;

    fn fault(text: &str) -> String {
        read(text.as_bytes()).map(|lines| lines.len()).unwrap_err().to_string()
    }

    #[test]
    fn a_line_has_the_number_that_an_editor_shows() {
        let header = "nhs_number,local_id,family,given,birth_date,plan,start,end,plan_id,delete\n";
        let row = "9990000018,L1,Testcase,Robin Alex,2017-05-11,CPP,2026-09-14,,,\n";
        let numbers = |text: &str| read(text.as_bytes()).unwrap().iter().map(|line| line.number).collect::<Vec<_>>();
        assert_eq!(numbers(&format!("{header}\n\n{row}\n{row}{row}")), [4, 6, 7]);
    }

    #[test]
    fn a_quote_that_is_left_open_swallows_no_lines() {
        let header = "nhs_number,local_id,family,given,birth_date,plan,start,end,plan_id,delete\n";
        let row = "9990000018,L1,Testcase,Robin Alex,2017-05-11,CPP,2026-09-14,,,\n";
        let open = row.replace(",,,\n", ",,,\"\n");
        let said = fault(&format!("{header}{row}{open}{row}{row}"));
        assert!(said.contains("line 3 opens a quote"), "{said}");
        assert!(fault(&format!("{header}{}{row}", row.replace("Testcase", "\"Testcase"))).contains("line 2"));
    }

    #[test]
    fn every_spelling_of_the_same_lines_is_read_alike() {
        let plain = "nhs_number,local_id,family,given,birth_date,plan,start,end,plan_id,delete\n\
                     9990000018,L1,Testcase,Robin Alex,2017-05-11,CPP,2026-09-14,,,\n";
        let expected = read(plain.as_bytes()).unwrap();
        assert_eq!(expected.len(), 1);
        assert_eq!((expected[0].number, expected[0].given.len()), (2, 2));
        for other in [
            plain.replace('\n', "\r\n"),
            format!("\u{FEFF}{plain}"),
            plain.replace(',', ";"),
            plain.replace(',', "\t"),
            plain.replace("Testcase", "\"Testcase\"").replace("9990000018", "999 000 0018"),
            plain.replace("9990000018", "999-000-0018"),
            plain.replace("9990000018", "\u{a0}999\u{2009}000\u{2013}0018"),
            plain.replace("2026-09-14", "14/09/2026").replace("2017-05-11", "11/5/2017"),
            plain.replace("nhs_number,local_id", "NHS Number, Local-ID").replace("CPP", " cpp "),
            plain.replace("Robin Alex", "Robin|Alex"),
            format!("{plain},,,,,,,,,\n\n"),
        ] {
            assert!(read(other.as_bytes()).unwrap() == expected, "{other}");
        }
    }

    #[test]
    fn what_is_wrong_with_the_whole_is_told_without_what_it_holds() {
        for (text, words) in [
            ("", "lacks nhs_number"),
            ("nhs_number,plan\n", "lacks start"),
            ("nhs_number,plan,start,Robin\n", "column 4"),
            ("nhs_number,plan,start,start\n", "twice"),
            ("nhs_number,plan,start\n9990000018,CPP\n", "line 2 has 2 columns, the header 3"),
        ] {
            let told = fault(text);
            assert!(told.contains(words) && !told.contains("Robin") && !told.contains("9990000018"), "{told}");
        }
        assert!(read(b"nhs_number,plan,start\n1,\xE9,2\n").is_err());
    }

    #[test]
    fn values_that_can_not_be_right_stay_as_they_are() {
        let lines = read(b"nhs_number,plan,start,delete\n12,XYZ,31/02/2026,no\n12,LAC,soon,x\n").unwrap();
        let plans: Vec<(Option<PlanType>, &str, bool)> =
            lines.iter().flat_map(|line| &line.plan).map(|p| (p.plan_type, p.start.as_str(), p.delete)).collect();
        assert_eq!(plans, [(None, "31/02/2026", false), (Some(PlanType::LookedAfter), "soon", true)]);
    }

    #[test]
    fn a_number_that_can_not_be_read_never_becomes_another() {
        for (typed, sent) in
            [("ABCD 123/4", "ABCD1234"), ("999.000.0018", "999.000.0018"), ("9990000018 x", "9990000018 x")]
        {
            let lines = read(format!("nhs_number,plan,start\n{typed},LAC,2026-09-14\n").as_bytes()).unwrap();
            assert_eq!(lines[0].nhs_number, sent);
            assert!(NhsNumber::parse(sent).is_err());
        }
    }

    #[test]
    fn no_cell_is_a_formula() {
        let line = Line { family: "=1+1".to_owned(), plan: None, ..Line::default() };
        let mut out = Vec::new();
        write(&mut out, std::slice::from_ref(&line)).unwrap();
        assert!(String::from_utf8(out.clone()).unwrap().contains("'=1+1"));
        assert_eq!(read(&out).unwrap()[0].family, "=1+1");
    }

    fn words() -> impl Strategy<Value = String> {
        "[A-Za-z=@+;,\"é][A-Za-z ;,\"'é-]{0,8}[A-Za-z\"é]"
    }

    /// Family name, given names, plan: its type, id, and whether it is deleted.
    type Drawn = (String, Vec<String>, Option<(PlanType, String, bool)>);

    proptest! {
        #[test]
        fn what_is_written_is_read(
            rows in vec((words(), vec(words(), 0..3), option::of((sample::select(PlanType::ALL.to_vec()), words(), any::<bool>()))), 1..5)
        ) {
            let line = |(number, (family, given, plan)): (usize, Drawn)| Line {
                number: number as u64 + 2,
                nhs_number: "9990000018".to_owned(),
                local_id: String::new(),
                family,
                given,
                birth_date: "2017-05-11".to_owned(),
                plan: plan.map(|(plan_type, plan_id, delete)| Plan {
                    plan_type: Some(plan_type), start: "2026-09-14".to_owned(), end: String::new(), plan_id, delete,
                }),
            };
            let lines: Vec<Line> = rows.into_iter().enumerate().map(line).collect();
            let mut out = Vec::new();
            write(&mut out, &lines).unwrap();
            prop_assert!(read(&out).unwrap() == lines);
        }
    }
}
