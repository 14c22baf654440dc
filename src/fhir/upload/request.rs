//! What an interaction asks for: method and URL of a Bundle entry, search criteria of a conditional one, `If-Match`.

use percent_encoding::percent_decode_str;
use serde_json::Value;
use uuid::Uuid;

use super::{FlagRequest, not_r4};
use crate::{
    cpis::types::{
        LocalPlanId, NhsNumber, PlanType, Precondition,
        upload::{PlanAction, PlanChange, PlanCriteria, PlanKey, RecordCode},
    },
    fhir::{
        etag::EntityTags,
        outcome::{Issue, IssueCode, SpineCode},
        system,
    },
};

/// What the criteria of a conditional create, update or delete of a Flag name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Criteria {
    pub number: Option<NhsNumber>,
    pub plan_type: Option<PlanType>,
    pub local_id: Option<LocalPlanId>,
}

impl Criteria {
    /// Reads a query such as `identifier=urn:oid:2.16.840.1.113883.2.1.3.2.4.18.24|CPP-1&patient=9990000018&code=...`,
    /// URL-encoded. Known: `patient` and `subject` (a number, `Patient/` and a number, or with `:identifier` or
    /// `.identifier` the NHS number system and a number), `identifier` (the local plan id), `code`.
    ///
    /// # Errors
    /// Everything that can't be read, without an expression; an unknown parameter is never ignored.
    pub fn parse(query: &str) -> Result<Self, Vec<Issue>> {
        let pairs = query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let text = "The URL is not valid UTF-8.";
            let pair = decode(name).zip(decode(value));
            pair.ok_or_else(|| Issue::error(IssueCode::Invalid, SpineCode::InvalidValue, text))
        });
        Self::of(pairs.collect::<Result<Vec<_>, Issue>>().map_err(|issue| vec![issue])?)
    }

    /// Reads names with their modifiers and values, decoded; otherwise as [`Criteria::parse`].
    ///
    /// # Errors
    /// As [`Criteria::parse`].
    pub fn of(pairs: impl IntoIterator<Item = (String, String)>) -> Result<Self, Vec<Issue>> {
        let (mut criteria, mut issues, mut seen) = (Self::default(), Vec::new(), Vec::new());
        for (name, value) in pairs {
            match criteria.take(&name, &value) {
                Ok(parameter) if seen.contains(&parameter) => {
                    issues.push(invalid("Give each of patient, identifier and code once in the criteria."))
                }
                // Flag and plan type are two codings of one element: both may be asked for.
                Ok(Parameter::FlagKind) => {}
                Ok(parameter) => seen.push(parameter),
                Err(issue) => issues.push(issue),
            }
        }
        if seen.is_empty() && issues.is_empty() {
            issues.push(invalid("The criteria are empty. Name the plan by patient, identifier and code."));
        }
        if issues.is_empty() { Ok(criteria) } else { Err(issues) }
    }

    /// The search that they are; the child is that of the record.
    pub(super) fn into_search(self, precondition: Precondition) -> PlanCriteria {
        PlanCriteria { plan_type: self.plan_type, local_id: self.local_id, precondition, ..PlanCriteria::default() }
    }

    fn take(&mut self, name: &str, value: &str) -> Result<Parameter, Issue> {
        match name {
            "patient" | "subject" => {
                self.number = Some(number(value.strip_prefix("Patient/").unwrap_or(value))?);
                Ok(Parameter::Patient)
            }
            "patient:identifier" | "patient.identifier" | "subject:identifier" | "subject.identifier" => {
                let text = token(value, system::NHS_NUMBER);
                self.number = Some(number(text.ok_or_else(|| {
                    invalid("Name the child by the system https://fhir.nhs.uk/Id/nhs-number and the NHS number.")
                })?)?);
                Ok(Parameter::Patient)
            }
            "identifier" => {
                // As with the Flag itself, the plan's one identifier is the authority's own whatever its system.
                let text = value.split_once('|').map_or(value, |(_, value)| value);
                let words = "Name the plan by its local id of 1 to 64 characters.";
                self.local_id = Some(LocalPlanId::parse(text).ok_or_else(|| invalid(words))?);
                Ok(Parameter::Identifier)
            }
            "code" if token(value, system::FLAG_CATEGORY_PATIENT) == Some(system::CPIS_FLAG) => Ok(Parameter::FlagKind),
            "code" => {
                let plan_type = token(value, system::SNOMED_CT).and_then(PlanType::from_snomed);
                self.plan_type =
                    Some(plan_type.ok_or_else(|| invalid("The code is not one of the three plan types."))?);
                Ok(Parameter::Code)
            }
            _ => Err(Issue::error(
                IssueCode::NotSupported,
                SpineCode::InvalidValue,
                "The criteria have a parameter that is not known. Known are patient, subject, identifier and code.",
            )),
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Parameter {
    Patient,
    Identifier,
    Code,
    FlagKind,
}

/// Query names and values are form-encoded: a plus is a space.
fn decode(text: &str) -> Option<String> {
    let spaced = text.replace('+', " ");
    percent_decode_str(&spaced).decode_utf8().ok().map(|text| text.into_owned())
}

/// The value of a token parameter if its system is the expected one or left out.
fn token<'a>(value: &'a str, expected: &str) -> Option<&'a str> {
    match value.split_once('|') {
        None => Some(value),
        Some((given, value)) => (given == expected).then_some(value),
    }
}

fn number(text: &str) -> Result<NhsNumber, Issue> {
    NhsNumber::parse(text).map_err(|fault| {
        Issue::error(IssueCode::BusinessRule, SpineCode::InvalidValue, sentence(&fault.to_string()))
            .with_record_code(RecordCode::Cpr04)
    })
}

/// The words of a fault as a sentence.
pub(super) fn sentence(words: &str) -> String {
    let mut letters = words.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).chain(['.']).collect())
}

fn invalid(diagnostics: &str) -> Issue {
    Issue::error(IssueCode::Invalid, SpineCode::InvalidValue, diagnostics)
}

/// What an `If-Match` header or `request.ifMatch` asks for: `*`, or one version as `W/"3"`, where `W/` may be missing.
/// A tag that this server never gave is well formed: it is no version's.
///
/// # Errors
/// An issue for anything else (400).
pub fn if_match(text: &str) -> Result<Precondition, Issue> {
    match EntityTags::read(text) {
        Some(EntityTags::Any) => Ok(Precondition::Exists),
        Some(EntityTags::Versions(versions)) if versions.len() == 1 => {
            Ok(Precondition::Version(versions.first().copied().unwrap_or_default()))
        }
        _ => {
            let words = "If-Match must be * or one version as the ETag has it, for example W/\"3\".";
            Err(Issue::error(IssueCode::Value, SpineCode::InvalidValue, words))
        }
    }
}

/// The change that `DELETE Flag/{id}` asks for. The child is not known yet: the plan's row tells.
pub fn delete_by_id(id: Uuid, precondition: Precondition, entry: usize) -> PlanChange {
    PlanChange {
        entry,
        key: PlanKey::Id { id, precondition },
        plan_type: None,
        local_id: None,
        action: PlanAction::Delete { start: None },
    }
}

/// The change that `DELETE Flag?{criteria}` asks for, and the child whose plan it is.
///
/// # Errors
/// When the criteria don't name the child.
pub fn delete_by_criteria(
    criteria: Criteria,
    precondition: Precondition,
    entry: usize,
) -> Result<(NhsNumber, PlanChange), Vec<Issue>> {
    let number = criteria.number.ok_or_else(|| {
        let words = "Name the child in the criteria: patient= and the NHS number.";
        vec![Issue::error(IssueCode::BusinessRule, SpineCode::InvalidValue, words).with_record_code(RecordCode::Cpr04)]
    })?;
    let change = PlanChange {
        entry,
        plan_type: criteria.plan_type,
        local_id: criteria.local_id.clone(),
        key: PlanKey::Criteria(criteria.into_search(precondition)),
        action: PlanAction::Delete { start: None },
    };
    Ok((number, change))
}

/// What a Bundle entry asks for. No `Debug`: the id of a Patient is its NHS number.
pub(super) enum EntryRequest {
    /// `PUT Patient/{nhs}`; the number is not judged yet.
    PutPatient {
        id: String,
        precondition: Precondition,
    },
    PutFlag(FlagRequest),
    DeleteFlag {
        id: Uuid,
        precondition: Precondition,
    },
    DeleteFlagBy {
        criteria: Criteria,
        precondition: Precondition,
    },
    PutOrganization {
        id: String,
        precondition: Precondition,
    },
}

const UNSUPPORTED: &str = "An entry may be PUT Patient/{NHS number}, POST Flag, PUT Flag/{id}, PUT Flag?{criteria}, \
                           DELETE Flag/{id}, DELETE Flag?{criteria} or PUT Organization/{ODS code}.";

/// Reads `entry.request`. Issues have the expression `Bundle.entry[n].request...`.
pub(super) fn read_request(request: &Value, entry: usize) -> Result<EntryRequest, Vec<Issue>> {
    let at = |element: &str| format!("Bundle.entry[{entry}].request.{element}");
    let text = |element: &str| request.get(element).and_then(Value::as_str);
    let (Some(method), Some(url)) = (text("method"), text("url")) else { return Err(Vec::new()) };
    let (path, query) = url.split_once('?').map_or((url, None), |(path, query)| (path, Some(query)));
    let segments: Vec<&str> = path.strip_prefix('/').unwrap_or(path).split('/').collect();

    let mut issues = Vec::new();
    for (element, allowed) in [
        ("ifNoneExist", method == "POST"),
        ("ifMatch", method != "POST"),
        ("ifNoneMatch", false),
        ("ifModifiedSince", false),
    ] {
        if request.get(element).is_some() && !allowed {
            let words = "This condition isn't supported for this method.";
            issues.push(unsupported(words).at(at(element)));
        }
    }
    let version =
        text("ifMatch").map_or(Ok(Precondition::None), if_match).map_err(|issue| vec![issue.at(at("ifMatch"))]);
    let criteria = |query: &str, element: &str| {
        Criteria::parse(query)
            .map_err(|issues| issues.into_iter().map(|issue| issue.at(at(element))).collect::<Vec<_>>())
    };
    let flag_id = |text: &str| Uuid::parse_str(text).map_err(|_| vec![unknown_plan().at(at("url"))]);
    let read = version.and_then(|precondition| {
        Ok(match (method, segments.as_slice(), query) {
            ("PUT", ["Patient", id], None) => EntryRequest::PutPatient { id: (*id).to_owned(), precondition },
            ("PUT", ["Organization", id], None) => EntryRequest::PutOrganization { id: (*id).to_owned(), precondition },
            ("POST", ["Flag"], None) => {
                let if_none_exist = text("ifNoneExist").map(|query| criteria(query, "ifNoneExist")).transpose()?;
                EntryRequest::PutFlag(FlagRequest::Create { if_none_exist })
            }
            ("PUT", ["Flag", id], None) => {
                EntryRequest::PutFlag(FlagRequest::Update { id: flag_id(id)?, precondition })
            }
            ("PUT", ["Flag"], Some(query)) => {
                EntryRequest::PutFlag(FlagRequest::Conditional { criteria: criteria(query, "url")?, precondition })
            }
            ("DELETE", ["Flag", id], None) => EntryRequest::DeleteFlag { id: flag_id(id)?, precondition },
            ("DELETE", ["Flag"], Some(query)) => {
                EntryRequest::DeleteFlagBy { criteria: criteria(query, "url")?, precondition }
            }
            _ => return Err(vec![unsupported(UNSUPPORTED).at(at("url"))]),
        })
    });
    match read {
        Ok(read) if issues.is_empty() => Ok(read),
        Ok(_) => Err(issues),
        Err(more) => Err(issues.into_iter().chain(more).collect()),
    }
}

fn unsupported(diagnostics: &str) -> Issue {
    Issue::error(IssueCode::NotSupported, SpineCode::InvalidValue, diagnostics).with_record_code(RecordCode::Cpr07)
}

/// A Flag id that no plan can have.
pub(super) fn unknown_plan() -> Issue {
    let words = "Your authority holds no plan with this id.";
    Issue::error(IssueCode::NotFound, SpineCode::ResourceNotFound, words).with_record_code(RecordCode::Cpr07)
}

/// The id in the body must be there and be that of the URL (R4, update).
pub(super) fn same_id(same: bool, root: &str) -> Option<Issue> {
    (!same).then(|| {
        let words = "An update needs the id in the body too, the same as in the URL.";
        not_r4(IssueCode::Invariant, SpineCode::InvalidValue, &format!("{root}.id"), words)
    })
}
