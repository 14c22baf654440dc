//! What PDS says of a number, read strictly: an answer that is in any doubt is a fault, never a person.
//!
//! What is read is typed and may be there once; a wrong type or a property given twice is a fault. What isn't read
//! (address, phone numbers, practice, relations) is passed over and never kept.

use std::fmt;

use chrono::{Datelike, Months, NaiveDate};
use serde::Deserialize;

use super::{FaultKind, PdsFault};

const NHS_NUMBER: &str = "https://fhir.nhs.uk/Id/nhs-number";
const CONFIDENTIALITY: &str = "http://terminology.hl7.org/CodeSystem/v3-Confidentiality";
const SPINE: &str = "https://fhir.nhs.uk/R4/CodeSystem/Spine-ErrorOrWarningCode";

/// What PDS says of a number. `Debug` is masked.
#[derive(Clone, PartialEq, Eq)]
pub enum Answer {
    /// The number is this person's.
    Found(Person),
    /// The person has another number, these ten digits; whether they are valid is for the reader to judge.
    Superseded(String),
    /// Not a valid number any more, without a replacement.
    Invalidated,
    /// Nobody has the number.
    Unknown,
    /// Restricted or very restricted. Nothing else of the answer was kept.
    Restricted,
    /// PDS takes it for no NHS number.
    NotANumber,
}

/// A person as PDS has it. `Debug` is masked.
#[derive(Clone, PartialEq, Eq)]
pub struct Person {
    /// Of the usual name.
    pub family: Option<String>,
    /// Of the usual name, in order.
    pub given: Vec<String>,
    /// `None` too when PDS knows the year or month only.
    pub birth_date: Option<NaiveDate>,
    pub deceased: bool,
}

impl Answer {
    /// As the metrics have it.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Found(_) => "found",
            Self::Superseded(_) => "superseded",
            Self::Invalidated => "invalidated",
            Self::Unknown => "unknown",
            Self::Restricted => "restricted",
            Self::NotANumber => "not-a-number",
        }
    }
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Answer(..)")
    }
}

impl fmt::Debug for Person {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Person(..)")
    }
}

/// Whose record it is, and whether it is restricted.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Marked {
    resource_type: String,
    id: String,
    meta: Option<Meta>,
    #[serde(default)]
    identifier: Vec<Identifier>,
}

/// The rest.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Patient {
    #[serde(default)]
    name: Vec<HumanName>,
    birth_date: Option<String>,
    deceased_boolean: Option<bool>,
    deceased_date_time: Option<String>,
}

#[derive(Deserialize)]
struct Meta {
    #[serde(default)]
    security: Vec<Coding>,
}

#[derive(Deserialize)]
struct Coding {
    system: Option<String>,
    code: Option<String>,
}

#[derive(Deserialize)]
struct Identifier {
    system: Option<String>,
    value: Option<String>,
}

#[derive(Deserialize)]
struct HumanName {
    #[serde(rename = "use")]
    usage: Option<String>,
    family: Option<String>,
    #[serde(default)]
    given: Vec<String>,
    period: Option<Period>,
}

#[derive(Deserialize)]
struct Period {
    start: Option<String>,
    end: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct OperationOutcome {
    resource_type: String,
    issue: Vec<Issue>,
}

#[derive(Deserialize)]
struct Issue {
    details: Option<CodeableConcept>,
}

#[derive(Deserialize)]
struct CodeableConcept {
    #[serde(default)]
    coding: Vec<Coding>,
}

/// Reads the Patient that came for `number`; names are those of `today`.
///
/// # Errors
/// [`FaultKind::Unreadable`].
pub(super) fn patient(body: &[u8], number: &str, today: NaiveDate) -> Result<Answer, PdsFault> {
    // serde's own text would quote the answer.
    let unreadable = |_| PdsFault::unreadable("it is not a Patient in JSON");
    let patient: Marked = serde_json::from_slice(body).map_err(unreadable)?;
    if patient.resource_type != "Patient" {
        return Err(PdsFault::unreadable("it is another resource than a Patient"));
    }
    if patient.id.len() != 10 || !patient.id.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(PdsFault::unreadable("its id is not an NHS number"));
    }
    let mut numbers = patient.identifier.iter().filter(|identifier| identifier.system.as_deref() == Some(NHS_NUMBER));
    let is_its_own = |identifier: &Identifier| identifier.value.as_ref() == Some(&patient.id);
    // Called twice: at least one, and all.
    if !numbers.next().is_some_and(is_its_own) || !numbers.all(is_its_own) {
        return Err(PdsFault::unreadable("its id and its NHS number disagree"));
    }
    // Before all else: a fault in the rest must not undo it, and that a number was replaced by a restricted one is not to be
    // told either.
    if is_restricted(patient.meta.as_ref())? {
        return Ok(Answer::Restricted);
    }
    let person = person(&serde_json::from_slice(body).map_err(unreadable)?, today)?;
    if patient.id != number {
        return Ok(Answer::Superseded(patient.id));
    }
    Ok(Answer::Found(person))
}

/// Whatever is not marked unrestricted is restricted. Without any mark nobody knows: taken for unrestricted, a family in
/// hiding could be shown; taken for restricted, a child's plan would be hidden. So it is no answer.
fn is_restricted(meta: Option<&Meta>) -> Result<bool, PdsFault> {
    let marks = meta.map(|meta| meta.security.as_slice()).unwrap_or_default().iter();
    // By whatever system: who writes one of these codes means it.
    if marks.clone().any(|mark| matches!(mark.code.as_deref(), Some("R" | "V"))) {
        return Ok(true);
    }
    let marks: Vec<&Coding> =
        marks.filter(|mark| mark.system.as_deref().is_none_or(|system| system == CONFIDENTIALITY)).collect();
    if marks.is_empty() {
        return Err(PdsFault::unreadable("it does not say whether the record is restricted"));
    }
    Ok(marks.iter().any(|mark| mark.code.as_deref() != Some("U")))
}

fn person(patient: &Patient, today: NaiveDate) -> Result<Person, PdsFault> {
    let birth_date = patient.birth_date.as_deref().map(birth_date).transpose()?.flatten();
    if birth_date.is_some_and(|birth_date| birth_date > today) {
        return Err(PdsFault::unreadable("its birth date lies in the future"));
    }
    let deceased = match (patient.deceased_boolean, patient.deceased_date_time.as_deref()) {
        (Some(_), Some(_)) => return Err(PdsFault::unreadable("it says twice whether the person is deceased")),
        (deceased, None) => deceased.unwrap_or_default(),
        (None, Some(when)) => bounds(when).map(|_| true)?,
    };
    let mut usual = None;
    for name in patient.name.iter().filter(|name| name.usage.as_deref() == Some("usual")) {
        let (start, end) = match &name.period {
            None => (None, None),
            Some(Period { start, end }) => (
                start.as_deref().map(bounds).transpose()?.map(|(first, _)| first),
                end.as_deref().map(bounds).transpose()?.map(|(_, last)| last),
            ),
        };
        let holds = start.is_none_or(|start| start <= today) && end.is_none_or(|end| today <= end);
        // Of two that hold, the one that began later.
        match usual {
            Some((since, _)) if holds && since == start => {
                return Err(PdsFault::unreadable("it holds two usual names"));
            }
            Some((since, _)) if !holds || since > start => {}
            None if !holds => {}
            _ => usual = Some((start, name)),
        }
    }
    let usual = usual.map(|(_, name)| name);
    Ok(Person {
        family: usual.and_then(|name| name.family.clone()),
        given: usual.map(|name| name.given.clone()).unwrap_or_default(),
        birth_date,
        deceased,
    })
}

/// A birth date; `None` when only its year or month is known.
fn birth_date(text: &str) -> Result<Option<NaiveDate>, PdsFault> {
    if text.len() > 10 {
        return Err(PdsFault::unreadable("its birth date is not a date"));
    }
    let (first, last) = bounds(text)?;
    Ok((first == last).then_some(first))
}

/// First and last day of what a FHIR date or dateTime names.
fn bounds(text: &str) -> Result<(NaiveDate, NaiveDate), PdsFault> {
    let invalid = || PdsFault::unreadable("one of its dates is not a date");
    let (date, time) = match text.split_once('T') {
        Some((date, _)) => (date, true),
        None => (text, false),
    };
    let digits = date.bytes().enumerate().all(
        |(at, byte)| {
            if at == 4 || at == 7 { byte == b'-' } else { byte.is_ascii_digit() }
        },
    );
    if !digits || (time && date.len() != 10) {
        return Err(invalid());
    }
    let whole = match date.len() {
        4 => format!("{date}-01-01"),
        7 => format!("{date}-01"),
        10 => date.to_owned(),
        _ => return Err(invalid()),
    };
    let first: NaiveDate = whole.parse().map_err(|_| invalid())?;
    let months = match date.len() {
        4 => 12,
        7 => 1,
        _ => return Ok((first, first)),
    };
    let last = first.checked_add_months(Months::new(months)).and_then(|day| day.pred_opt());
    Ok((first, last.filter(|last| last.year() == first.year()).ok_or_else(invalid)?))
}

/// What a refusal (400 or 404) says of the number; `None` when that is not what it is about.
///
/// # Errors
/// [`FaultKind::Unreadable`] when it says two things at once.
pub(super) fn refusal(status: u16, body: &[u8]) -> Result<Option<Answer>, PdsFault> {
    let Ok(outcome) = serde_json::from_slice::<OperationOutcome>(body) else { return Ok(None) };
    if outcome.resource_type != "OperationOutcome" {
        return Ok(None);
    }
    let codings = outcome.issue.iter().filter_map(|issue| issue.details.as_ref()).flat_map(|details| &details.coding);
    let codes = codings.filter(|coding| coding.system.as_deref() == Some(SPINE)).filter_map(|c| c.code.as_deref());
    let mut answer = None;
    for code in codes {
        let said = match (status, code) {
            (404, "INVALIDATED_RESOURCE") => Answer::Invalidated,
            (404, "RESOURCE_NOT_FOUND") => Answer::Unknown,
            (400, "INVALID_RESOURCE_ID") => Answer::NotANumber,
            _ => continue,
        };
        if answer.as_ref().is_some_and(|other| *other != said) {
            return Err(PdsFault {
                status: Some(status),
                ..PdsFault::new(FaultKind::Unreadable, "the answer contradicts itself")
            });
        }
        answer = Some(said);
    }
    Ok(answer)
}
