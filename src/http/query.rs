//! The query string: strict percent-decoding, known parameters only, and the patient in all the spellings of design 3.

use percent_encoding::percent_decode;

use super::{
    refusal::{Case, Refusal},
    search::Parameter,
};
use crate::{
    cpis::types::NhsNumber,
    fhir::{
        outcome::{Issue, IssueCode, Severity, SpineCode},
        system,
    },
};

/// Most parameters of one request; no search here has a use for more.
const MOST_PARAMETERS: usize = 50;
/// Most comma-separated values of all parameters of one request together: each is held against every row, and becomes a
/// condition of the store's query, which takes no unbounded number of them.
const MOST_VALUES: usize = 200;

/// Every route knows these.
pub const FORMAT: &[Parameter] = &[
    Parameter::special("_format", "json, application/json or application/fhir+json"),
    Parameter::special("_pretty", "true: the answer is indented for people"),
];

/// One parameter as sent: `name`, then `:modifier` or `.chain`, then the value, decoded.
#[derive(Clone, PartialEq, Eq)]
pub struct Sent {
    pub name: String,
    /// `:identifier` or `.identifier`, with its mark; empty when there is none.
    pub modifier: String,
    pub value: String,
}

/// The parameters of a request, in order.
#[derive(Clone, Default)]
pub struct Query(pub Vec<Sent>);

impl Query {
    /// Splits and decodes; `a=1&b=2` or a form body.
    ///
    /// # Errors
    /// [`Refusal`] 400 when a part is not percent-encoded UTF-8 or holds control characters, or when there are too many.
    pub fn parse(raw: &str) -> Result<Self, Refusal> {
        let mut sent = Vec::new();
        // One too many is enough to refuse, however many there are.
        for part in raw.split('&').filter(|part| !part.is_empty()).take(MOST_PARAMETERS + 1) {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            let (name, value) = (decode(name)?, decode(value)?);
            let cut = name.find([':', '.']).unwrap_or(name.len());
            let (name, modifier) = name.split_at(cut);
            sent.push(Sent { name: name.to_owned(), modifier: modifier.to_owned(), value });
        }
        Self(sent).within_limits()
    }

    /// The parameters of the URL and of a form together.
    ///
    /// # Errors
    /// [`Refusal`] 400 when together they are too many.
    pub fn and(mut self, form: Self) -> Result<Self, Refusal> {
        self.0.extend(form.0);
        self.within_limits()
    }

    fn within_limits(self) -> Result<Self, Refusal> {
        let values: usize = self.0.iter().map(|sent| sent.value.matches(',').count() + 1).sum();
        let most = match (self.0.len() > MOST_PARAMETERS, values > MOST_VALUES) {
            (true, _) => format!("{MOST_PARAMETERS} parameters"),
            (_, true) => format!("{MOST_VALUES} values"),
            _ => return Ok(self),
        };
        let text = format!("There are more than {most}. Please send those that are needed.");
        Err(Refusal::new(Case::Parameter, text).with_code(IssueCode::Value))
    }

    /// Refuses what the route does not know: an unfiltered answer would be a disclosure. All faults at once.
    ///
    /// # Errors
    /// [`Refusal`] 400 that names each unknown parameter or modifier and lists the known ones.
    pub fn check(&self, known: &[&[Parameter]]) -> Result<(), Refusal> {
        let issues = self.faults(known).into_iter().map(|(_, issue)| issue).collect::<Vec<_>>();
        if issues.is_empty() { Ok(()) } else { Err(Refusal::with_issues(Case::Parameter, issues)) }
    }

    /// Takes out what [`Query::check`] would refuse, and tells of each as a warning (`Prefer: handling=lenient`).
    pub fn without_unknown(&mut self, known: &[&[Parameter]]) -> Vec<Issue> {
        let faults = self.faults(known);
        let mut at = 0;
        self.0.retain(|_| {
            at += 1;
            !faults.iter().any(|(unknown, _)| *unknown == at - 1)
        });
        let ignored = |issue: Issue| Issue {
            severity: Severity::Warning,
            diagnostics: format!("Ignored, as asked. {}", issue.diagnostics),
            ..issue
        };
        faults.into_iter().map(|(_, issue)| ignored(issue)).collect()
    }

    /// What is not known, by its place among the parameters sent.
    fn faults(&self, known: &[&[Parameter]]) -> Vec<(usize, Issue)> {
        let all = || known.iter().flat_map(|part| part.iter());
        let list = || all().map(|p| p.name).collect::<Vec<_>>().join(", ");
        let mut issues = Vec::new();
        for (at, sent) in self.0.iter().enumerate() {
            let Some(parameter) = all().find(|p| p.name == sent.name) else {
                let name = speakable(&sent.name);
                issues.push((at, unsupported(&name, format!("Unknown parameter '{name}'. Known here: {}.", list()))));
                continue;
            };
            if !sent.modifier.is_empty() && !parameter.modifiers.contains(&sent.modifier.as_str()) {
                let text = format!(
                    "Parameter '{}' has no modifier or chain '{}' here. Known: {}.",
                    parameter.name,
                    speakable(&sent.modifier),
                    if parameter.modifiers.is_empty() { "none".to_owned() } else { parameter.modifiers.join(", ") },
                );
                issues.push((at, unsupported(parameter.name, text)));
            }
        }
        issues
    }

    pub fn values<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a str> + use<'a> {
        let of_name: Vec<&'a str> =
            self.0.iter().filter(|sent| sent.name == name).map(|sent| sent.value.as_str()).collect();
        of_name.into_iter()
    }

    /// Refuses the parameters that only others of a route's callers may use.
    ///
    /// # Errors
    /// [`Refusal`] 400 that names the first of them.
    pub fn only_for_others(&self, names: &[&str]) -> Result<(), Refusal> {
        match names.iter().find(|name| self.values(name).next().is_some()) {
            None => Ok(()),
            Some(name) => {
                let text = format!("Parameter '{name}' is not for clients of this role.");
                Err(Refusal::new(Case::Parameter, text).at(&format!("http.{name}")))
            }
        }
    }

    /// Refuses values that only others of a route's callers may use.
    ///
    /// # Errors
    /// [`Refusal`] 400 that lists those for this caller.
    pub fn known_only(&self, name: &str, known: &[&str]) -> Result<(), Refusal> {
        if self.values(name).all(|value| known.contains(&value)) {
            return Ok(());
        }
        let text = format!("This {name} is not for clients of this role. Known to them: {}.", known.join(", "));
        Err(Refusal::new(Case::Parameter, text).at(&format!("http.{name}")))
    }

    /// The value of a parameter that may be given once.
    ///
    /// # Errors
    /// [`Refusal`] 400 when it is given twice.
    pub fn single(&self, name: &str) -> Result<Option<&str>, Refusal> {
        let mut values = self.values(name);
        let first = values.next();
        if values.next().is_some() {
            return Err(bad_value(name, "may be given only once"));
        }
        Ok(first)
    }

    /// The one patient that the search is about, if any parameter names one.
    ///
    /// # Errors
    /// [`Refusal`] 400 when more than one is named, the identifier is of another system, or the number is not valid.
    pub fn patient(&self) -> Result<Option<NhsNumber>, Refusal> {
        let mut named = self.0.iter().filter(|sent| sent.name == "patient" || sent.name == "subject");
        let Some(sent) = named.next() else { return Ok(None) };
        if named.next().is_some() || sent.value.contains(',') {
            return Err(bad_value(&sent.name, "may name one patient only: please make one search for each"));
        }
        let value = if sent.modifier.ends_with("identifier") {
            identifier_value(&sent.name, &sent.value)?
        } else {
            let number = sent.value.strip_prefix("Patient/").unwrap_or(&sent.value);
            if number.contains('/') {
                let text = "Invalid NHS number: give the number alone, or after Patient/, and nothing else.";
                return Err(Refusal::new(Case::NhsNumber, text).at(&format!("http.{}", sent.name)));
            }
            number
        };
        nhs_number(value).map(Some)
    }

    /// The patient of a search that must name one.
    ///
    /// # Errors
    /// [`Refusal`] 400 as [`Query::patient`], or when there is none.
    pub fn required_patient(&self) -> Result<NhsNumber, Refusal> {
        self.patient()?.ok_or_else(|| {
            Refusal::new(
                Case::NhsNumber,
                "Invalid NHS number: none was given. Name the patient, for example \
                 patient:identifier=https://fhir.nhs.uk/Id/nhs-number|9990000018",
            )
        })
    }

    /// A patient that can be read from the request for the audit of its refusal.
    pub fn patient_for_audit(&self) -> Option<NhsNumber> {
        self.patient().ok().flatten().or_else(|| {
            let value = self.values("identifier").next()?;
            NhsNumber::parse(value.rsplit('|').next()?).ok()
        })
    }
}

/// The value of an NHS number identifier `system|value`; the system may be left out.
///
/// # Errors
/// [`Refusal`] 400 for another system.
pub fn identifier_value<'a>(name: &str, text: &'a str) -> Result<&'a str, Refusal> {
    match text.split_once('|') {
        None => Ok(text),
        Some((system, value)) if system == system::NHS_NUMBER => Ok(value),
        Some(_) => Err(bad_value(name, "must be an identifier of the system https://fhir.nhs.uk/Id/nhs-number")),
    }
}

/// # Errors
/// [`Refusal`] 400 `INVALID_SEARCH_DATA`.
pub fn nhs_number(text: &str) -> Result<NhsNumber, Refusal> {
    NhsNumber::parse(text).map_err(|fault| Refusal::new(Case::NhsNumber, format!("Invalid NHS number: {fault}.")))
}

/// 400 for a parameter whose value can't be used; `why` reads on from its name.
pub fn bad_value(name: &str, why: &str) -> Refusal {
    let name = speakable(name);
    let refusal = Refusal::new(Case::Parameter, format!("Parameter '{name}' {why}.")).with_code(IssueCode::Value);
    refusal.at(&format!("http.{name}"))
}

/// R4 names a parameter of a request as `http.` and its name.
fn unsupported(name: &str, diagnostics: String) -> Issue {
    Issue::error(IssueCode::NotSupported, SpineCode::InvalidValue, diagnostics).at(format!("http.{name}"))
}

/// A name as sent, fit for a message: short, plain, and without anything that may be a number of a person.
fn speakable(name: &str) -> String {
    let plain: String =
        name.chars().filter(|c| c.is_ascii_alphabetic() || matches!(c, '_' | '-' | ':' | '.')).collect();
    plain.chars().take(40).collect()
}

fn decode(text: &str) -> Result<String, Refusal> {
    let fault = || {
        Refusal::new(Case::Parameter, "The query string is not valid percent-encoded UTF-8. Please encode each value.")
            .with_code(IssueCode::Value)
    };
    let stray_percent = text.split('%').skip(1).any(|after| {
        let digits = after.as_bytes().get(..2);
        !digits.is_some_and(|d| d.iter().all(u8::is_ascii_hexdigit))
    });
    if stray_percent {
        return Err(fault());
    }
    let spaced = text.replace('+', " ");
    let decoded = percent_decode(spaced.as_bytes()).decode_utf8().map_err(|_| fault())?;
    if decoded.chars().any(char::is_control) { Err(fault()) } else { Ok(decoded.into_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patient(raw: &str) -> Result<Option<String>, Case> {
        Query::parse(raw).and_then(|q| q.patient()).map(|n| n.map(|n| n.as_str().to_owned())).map_err(|r| r.case)
    }

    #[test]
    fn every_spelling_of_the_patient_is_read() {
        for raw in [
            "patient:identifier=https://fhir.nhs.uk/Id/nhs-number|9990000018",
            "patient:identifier=https%3A%2F%2Ffhir.nhs.uk%2FId%2Fnhs-number%7C9990000018",
            "patient.identifier=https://fhir.nhs.uk/Id/nhs-number|9990000018",
            "patient=Patient/9990000018",
            "patient=9990000018",
            "subject:identifier=https://fhir.nhs.uk/Id/nhs-number|9990000018",
            "subject=Patient/9990000018",
        ] {
            assert_eq!(patient(raw), Ok(Some("9990000018".to_owned())), "{raw}");
        }
        assert_eq!(patient("_count=1"), Ok(None));
    }

    #[test]
    fn two_patients_a_wrong_system_and_rubbish_are_refused() {
        let many = "_count=1&".repeat(51);
        let values = format!("_id={}&code={}", "a,".repeat(100), "b%2C".repeat(100));
        for (raw, case) in [
            (many.as_str(), Case::Parameter),
            (values.as_str(), Case::Parameter),
            ("patient=9990000018&patient=9990000026", Case::Parameter),
            ("patient=9990000018&subject=9990000018", Case::Parameter),
            ("patient=9990000018,9990000026", Case::Parameter),
            ("patient:identifier=urn:other|9990000018", Case::Parameter),
            ("patient=9990000019", Case::NhsNumber),
            ("patient=", Case::NhsNumber),
            ("patient=%ff%fe", Case::Parameter),
            ("patient=%zz", Case::Parameter),
            ("patient=%0a", Case::Parameter),
        ] {
            assert_eq!(patient(raw), Err(case), "{raw}");
        }
    }

    #[test]
    fn a_reference_of_another_form_is_told_the_form() {
        for raw in ["patient=https://x.example/Patient/9990000018", "patient=Group/9990000018", "subject=Patient/1/2"] {
            let refusal = Query::parse(raw).and_then(|q| q.patient()).expect_err("refused");
            let text = format!("{:?}", refusal.issues);
            assert!(refusal.case == Case::NhsNumber && text.contains("after Patient/"), "{raw}: {text}");
            assert!(!text.contains("9990000018"), "{raw}");
        }
    }

    #[test]
    fn messages_never_echo_digits() {
        let query = Query::parse("9990000018=x&patient:9990000018=y");
        let known = [crate::http::care_team::PATIENT];
        let refusal = query.and_then(|q| q.check(&[&known])).map_err(|r| format!("{:?}", r.issues));
        assert!(refusal.is_err_and(|text| !text.contains("9990000018")));
    }
}
