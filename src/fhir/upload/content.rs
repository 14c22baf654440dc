//! Reads Flag, Patient and Organization as an authority sends them: first against R4, then against what CP-IS needs.

use std::{borrow::Cow, collections::HashMap};

use chrono::NaiveDate;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;
use uuid::Uuid;

use super::{
    Reading, coded, not_r4,
    request::{Criteria, same_id, sentence},
    rule,
};
use crate::{
    cpis::types::{
        LocalPlanId, NhsNumber, OdsCode, Phone, PlanType, Precondition,
        child::Demographics,
        upload::{ChildChange, OrganizationChange, PlanAction, PlanChange, PlanCriteria, PlanKey, RecordCode},
    },
    fhir::{
        datatype::{CodeableConcept, ContactPoint, HumanName, Identifier, Reference},
        date::DateTime,
        outcome::{Issue, IssueCode, SpineCode},
        resource::{Flag, Organization, Patient},
        system,
        validate::Profile,
    },
};

/// How a Flag is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FlagRequest {
    /// `POST Flag`, optionally with `If-None-Exist`.
    Create { if_none_exist: Option<Criteria> },
    /// `PUT Flag/{id}`.
    Update { id: Uuid, precondition: Precondition },
    /// `PUT Flag?{criteria}`.
    Conditional { criteria: Criteria, precondition: Precondition },
}

impl FlagRequest {
    fn criteria(&self) -> Option<&Criteria> {
        match self {
            Self::Create { if_none_exist } => if_none_exist.as_ref(),
            Self::Update { .. } => None,
            Self::Conditional { criteria, .. } => Some(criteria),
        }
    }

    /// `body_id` is the id in the body, which a create ignores (R4).
    fn key(&self, body_id: Option<String>) -> PlanKey {
        match self {
            Self::Create { if_none_exist: None } => PlanKey::Content,
            Self::Create { if_none_exist: Some(criteria) } => {
                let search = criteria.clone().into_search(Precondition::None);
                PlanKey::Criteria(PlanCriteria { keeps: true, ..search })
            }
            Self::Update { id, precondition } => PlanKey::Id { id: *id, precondition: *precondition },
            Self::Conditional { criteria, precondition } => {
                PlanKey::Criteria(PlanCriteria { body_id, ..criteria.clone().into_search(*precondition) })
            }
        }
    }
}

/// NHS numbers of the Patient entries of a Bundle by their `fullUrl`, for references within it.
pub(super) type FullUrls = HashMap<String, NhsNumber>;

/// Why an entry can't be used, with the child that it is about if that can be read.
pub(super) type Unusable = (Option<NhsNumber>, Vec<Issue>);

/// Reads one Flag of a single interaction: the child and the change of its plan (entry 0).
///
/// # Errors
/// Every issue of the resource; those without a record code make it invalid R4 (400), the others are CP-IS rules (422).
pub fn read_flag(
    value: &Value,
    request: &FlagRequest,
    reading: &Reading<'_>,
) -> Result<(NhsNumber, PlanChange), Vec<Issue>> {
    flag_entry(value, request, 0, reading, &FullUrls::new()).map_err(|(_, issues)| issues)
}

/// The resource as its type, with what is wrong with it by R4 and the profile: it is read on as far as it can be, so that
/// everything is told at once.
///
/// # Errors
/// What is wrong with a resource that can't be read at all.
pub(super) fn typed<T: DeserializeOwned>(
    value: &Value,
    name: &str,
    reading: &Reading<'_>,
) -> Result<(T, Vec<Issue>), Vec<Issue>> {
    if value.get("resourceType").and_then(Value::as_str) != Some(name) {
        let words = format!("The resource must be of the type that the URL says: {name}.");
        return Err(vec![not_r4(IssueCode::Value, SpineCode::InvalidValue, name, &words)]);
    }
    let issues = reading.validators.validate(value, Profile::Cpis);
    match T::deserialize(value) {
        Ok(read) => Ok((read, issues)),
        Err(_) if issues.is_empty() => {
            let words = format!("The resource can't be read as {name}.");
            Err(vec![not_r4(IssueCode::Structure, SpineCode::ValidationError, name, &words)])
        }
        Err(_) => Err(issues),
    }
}

/// Adds what reading found to what the schemas found, unless they told it of the same place already.
pub(super) fn add_unless_told(issues: &mut Vec<Issue>, found: Vec<Issue>) {
    let told: Vec<String> = issues.iter().flat_map(|issue| issue.expression.clone()).collect();
    let is_told = |issue: &Issue| {
        let within = |one: &str, other: &str| {
            other.strip_prefix(one).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
        };
        // Of the whole resource one thing may be wrong, and another of an element.
        let is_element = |expression: &str| expression.contains('.');
        issue.expression.iter().any(|at| {
            told.iter().any(|told| (within(at, told) && is_element(at)) || (within(told, at) && is_element(told)))
        })
    };
    issues.extend(found.into_iter().filter(|issue| !is_told(issue)));
}

pub(super) fn flag_entry(
    value: &Value,
    request: &FlagRequest,
    entry: usize,
    reading: &Reading<'_>,
    full_urls: &FullUrls,
) -> Result<(NhsNumber, PlanChange), Unusable> {
    // Read from the bare JSON: even an invalid Flag belongs to its child's record.
    let subject = subject_number(value, full_urls);
    let value = refer_to_number(value, full_urls);
    let (flag, mut issues) = match typed::<Flag>(&value, "Flag", reading) {
        Ok(read) => read,
        // What is wrong with the subject is among them.
        Err(issues) => return Err((subject.ok(), issues)),
    };
    let mut found = Vec::new();
    let number = subject.map_err(|issue| found.push(issue)).ok();
    let parts = parts(&flag, request, reading, &mut found);
    let criteria = request.criteria();
    if let (Some(number), Some(wanted)) = (number, criteria.and_then(|criteria| criteria.number)) {
        found.extend((number != wanted).then(|| rule("Flag.subject", UNLIKE_CRITERIA)));
    }
    add_unless_told(&mut issues, found);
    match (number, parts) {
        (Some(number), Some(parts)) if issues.is_empty() => {
            let change = PlanChange {
                entry,
                key: request.key(flag.id),
                plan_type: Some(parts.plan_type),
                local_id: parts.local_id,
                action: parts.action,
            };
            Ok((number, change))
        }
        _ => Err((number, issues)),
    }
}

const UNLIKE_CRITERIA: &str = "This isn't what the criteria of the request name. Make the two agree.";

struct FlagParts {
    plan_type: PlanType,
    local_id: Option<LocalPlanId>,
    action: PlanAction,
}

/// The elements of a Flag that count: identifier, status (entered-in-error only), code, period, author.
fn parts(flag: &Flag, request: &FlagRequest, reading: &Reading<'_>, issues: &mut Vec<Issue>) -> Option<FlagParts> {
    if let FlagRequest::Update { id, .. } = request {
        let same = flag.id.as_deref().and_then(|text| Uuid::parse_str(text).ok()) == Some(*id);
        issues.extend(same_id(same, "Flag"));
    }
    let mut keep = |issue: Issue| issues.push(issue);
    let plan_type = plan_type(&flag.code).map_err(&mut keep).ok();
    let local_id = plan_id(&flag.identifier).map_err(&mut keep).ok();
    let deleted = flag.status == "entered-in-error";
    let period = flag.period.clone().unwrap_or_default();
    let mut day = |sent: &Option<DateTime>, element| day(sent.as_ref(), element, reading).map_err(&mut keep).ok();
    let (start, end) = (day(&period.start, "Flag.period.start"), day(&period.end, "Flag.period.end"));
    if !deleted && start == Some(None) {
        issues.push(rule("Flag.period.start", "Give the day on which the plan started."));
    }
    if let (Some(author), Some(sender)) = (&flag.author, reading.sender) {
        issues.extend(foreign_author(author, sender));
    }
    let (plan_type, local_id) = (plan_type?, local_id?);
    let (criteria_type, criteria_id) = match request.criteria() {
        Some(criteria) => (criteria.plan_type, criteria.local_id.clone()),
        None => (None, None),
    };
    if criteria_type.is_some_and(|wanted| wanted != plan_type) {
        issues.push(rule("Flag.code", UNLIKE_CRITERIA));
    }
    if criteria_id.is_some() && local_id.is_some() && criteria_id != local_id {
        issues.push(rule("Flag.identifier", UNLIKE_CRITERIA));
    }
    let action = match (deleted, start?) {
        (true, start) => PlanAction::Delete { start },
        (false, start) => PlanAction::Put { start: start?, end: end? },
    };
    Some(FlagParts { plan_type, local_id: local_id.or(criteria_id), action })
}

/// A Flag whose subject is the `fullUrl` of the child's entry refers to `Patient/{nhs}` once that is known.
fn refer_to_number<'a>(flag: &'a Value, full_urls: &FullUrls) -> Cow<'a, Value> {
    let referred = flag.pointer("/subject/reference").and_then(Value::as_str);
    let mut flag = Cow::Borrowed(flag);
    if let Some(number) = referred.and_then(|url| full_urls.get(url))
        && let Some(reference) = flag.to_mut().pointer_mut("/subject/reference")
    {
        *reference = Value::String(format!("Patient/{}", number.as_str()));
    }
    flag
}

/// The child of a Flag: `subject.reference` (`Patient/{nhs}`, or the `fullUrl` of the child's entry), `subject.identifier`
/// or both, if they agree.
pub(super) fn subject_number(flag: &Value, full_urls: &FullUrls) -> Result<NhsNumber, Issue> {
    let missing = || {
        let words = "Give the child's NHS number: Patient/ and the number as the reference, or the number as the identifier \
                     with the system https://fhir.nhs.uk/Id/nhs-number.";
        coded(RecordCode::Cpr04, "Flag.subject", words)
    };
    let subject = flag.get("subject").ok_or_else(missing)?;
    let subject = Reference::deserialize(subject).map_err(|_| missing())?;
    let referred = subject.reference.as_deref().and_then(|url| full_urls.get(url)).map(|number| Ok(*number));
    let referred = referred.or_else(|| subject.id_of("Patient").map(|id| nhs_number(id, "Flag.subject.reference")));
    let identified = subject.identifier.as_ref().and_then(|identifier| identifier.value_of(system::NHS_NUMBER));
    let identified = identified.map(|value| nhs_number(value, "Flag.subject.identifier"));
    match (referred.transpose()?, identified.transpose()?) {
        (Some(referred), Some(identified)) if referred != identified => {
            Err(rule("Flag.subject", "Reference and identifier name different NHS numbers. Make the two agree."))
        }
        (Some(number), _) | (None, Some(number)) => Ok(number),
        (None, None) => Err(missing()),
    }
}

pub(super) fn nhs_number(text: &str, expression: &str) -> Result<NhsNumber, Issue> {
    NhsNumber::parse(text).map_err(|fault| coded(RecordCode::Cpr04, expression, &sentence(&fault.to_string())))
}

fn plan_type(code: &CodeableConcept) -> Result<PlanType, Issue> {
    let words = "Give the type of the plan by one SNOMED CT code.";
    code.code_of(system::SNOMED_CT).and_then(PlanType::from_snomed).ok_or_else(|| rule("Flag.code", words))
}

/// A plan's one identifier is the authority's own id of it, whatever its system.
fn plan_id(identifiers: &[Identifier]) -> Result<Option<LocalPlanId>, Issue> {
    identifiers.first().map(|identifier| local_id(identifier, "Flag")).transpose()
}

/// Of a child's identifiers only one of the system for local ids is the authority's own.
fn child_id(identifiers: &[Identifier]) -> Result<Option<LocalPlanId>, Issue> {
    let mut local = identifiers.iter().filter(|identifier| identifier.system.as_deref() == Some(system::LOCAL_ID));
    match (local.next(), local.next()) {
        (Some(_), Some(_)) => Err(rule("Patient.identifier", "Give only one local id.")),
        (identifier, _) => identifier.map(|identifier| local_id(identifier, "Patient")).transpose(),
    }
}

fn local_id(identifier: &Identifier, root: &str) -> Result<LocalPlanId, Issue> {
    let words = "A local id has 1 to 64 printable characters, without a space at either end.";
    let read = identifier.value.as_deref().and_then(LocalPlanId::parse);
    read.ok_or_else(|| rule(&format!("{root}.identifier"), words))
}

fn day(sent: Option<&DateTime>, expression: &str, reading: &Reading<'_>) -> Result<Option<NaiveDate>, Issue> {
    let Some(sent) = sent else { return Ok(None) };
    let day = sent.day(reading.zone).map(Some);
    day.ok_or_else(|| rule(expression, "Give the whole date: year, month and day."))
}

/// An author that is another organisation than the caller's.
fn foreign_author(author: &Reference, sender: &OdsCode) -> Option<Issue> {
    let referred = author.id_of("Organization");
    let identified = author.identifier.as_ref().and_then(|identifier| identifier.value_of(system::ODS_CODE));
    let other = [referred, identified].into_iter().flatten().any(|code| code != sender.as_str());
    other.then(|| rule("Flag.author", "The author must be your own authority: leave it out, or give your ODS code."))
}

/// Reads the Patient of `PUT Patient/{nhs}` (entry 0).
///
/// # Errors
/// As [`read_flag`].
pub fn read_patient(
    value: &Value,
    number: NhsNumber,
    precondition: Precondition,
    reading: &Reading<'_>,
) -> Result<ChildChange, Vec<Issue>> {
    patient_entry(value, number, precondition, 0, reading)
}

pub(super) fn patient_entry(
    value: &Value,
    number: NhsNumber,
    precondition: Precondition,
    entry: usize,
    reading: &Reading<'_>,
) -> Result<ChildChange, Vec<Issue>> {
    let (patient, mut issues) = typed::<Patient>(value, "Patient", reading)?;
    let mut found: Vec<Issue> =
        same_id(patient.id.as_deref() == Some(number.as_str()), "Patient").into_iter().collect();
    let mut numbers = patient.identifier.iter().filter_map(|identifier| identifier.value_of(system::NHS_NUMBER));
    if numbers.any(|value| value != number.as_str()) {
        let words = "The identifier names another NHS number than the URL. Make the two agree.";
        found.push(rule("Patient.identifier", words));
    }
    let local_id = child_id(&patient.identifier).map_err(|issue| found.push(issue)).ok();
    let name = registered_name(&patient.name).map_err(|issue| found.push(issue)).ok();
    let birth_date = patient.birth_date.as_ref().and_then(|date| date.day());
    if birth_date.is_none() {
        found.push(rule("Patient.birthDate", "Give the whole birth date: year, month and day."));
    }
    add_unless_told(&mut issues, found);
    match (name, birth_date, local_id) {
        (Some((family, given)), Some(birth_date), Some(local_id)) if issues.is_empty() => Ok(ChildChange {
            entry,
            demographics: Demographics { family, given, birth_date },
            local_id: local_id.map(|id| id.as_str().to_owned()),
            precondition,
        }),
        _ => Err(issues),
    }
}

/// Family and given names of the registered name: the usual one, else the official, else one without a use. Given names
/// may be missing: there are people who have one name.
fn registered_name(names: &[HumanName]) -> Result<(String, Vec<String>), Issue> {
    let of_use = |usage: Option<&str>| names.iter().find(|name| name.r#use.as_deref() == usage);
    let name = of_use(Some("usual")).or_else(|| of_use(Some("official"))).or_else(|| of_use(None));
    let family = name.and_then(|name| name.family.as_deref()).map(str::trim).unwrap_or_default();
    if family.is_empty() {
        let words = "Give the child's registered name, with the family name, as the name of use usual.";
        return Err(rule("Patient.name", words));
    }
    let given = name.map(|name| name.given.as_slice()).unwrap_or_default().iter();
    let given = given.map(|given| given.trim().to_owned()).filter(|given| !given.is_empty()).collect();
    Ok((family.to_owned(), given))
}

/// Reads the Organization of `PUT Organization/{ods}` (entry 0).
///
/// # Errors
/// As [`read_flag`]; also when `id` is not the sender's own code.
pub fn read_organization(
    value: &Value,
    id: &str,
    precondition: Precondition,
    reading: &Reading<'_>,
) -> Result<OrganizationChange, Vec<Issue>> {
    organization_entry(value, id, precondition, 0, reading)
}

pub(super) fn organization_entry(
    value: &Value,
    id: &str,
    precondition: Precondition,
    entry: usize,
    reading: &Reading<'_>,
) -> Result<OrganizationChange, Vec<Issue>> {
    let (organization, mut issues) = typed::<Organization>(value, "Organization", reading)?;
    let mut found: Vec<Issue> = same_id(organization.id.as_deref() == Some(id), "Organization").into_iter().collect();
    let mut codes = organization.identifier.iter().filter_map(|identifier| identifier.value_of(system::ODS_CODE));
    if reading.sender.is_some_and(|own| id != own.as_str() || codes.any(|code| code != own.as_str())) {
        found.push(rule("Organization", "You may send only your own authority's details."));
    }
    let mut phone = |usage| phone(&organization.telecom, usage).map_err(|issue| found.push(issue)).ok();
    let (office_phone, duty_phone) = (phone("work"), phone("mobile"));
    if duty_phone == Some(None) {
        let words = "Give the emergency duty telephone number: system phone, use mobile.";
        found.push(rule("Organization.telecom", words));
    }
    add_unless_told(&mut issues, found);
    match (office_phone, duty_phone.flatten()) {
        (Some(office_phone), Some(duty_phone)) if issues.is_empty() => {
            Ok(OrganizationChange { entry, name: organization.name, office_phone, duty_phone, precondition })
        }
        _ => Err(issues),
    }
}

/// The telephone number of one use: `work` in office hours, `mobile` the emergency duty team.
pub(super) fn phone(telecom: &[ContactPoint], usage: &str) -> Result<Option<Phone>, Issue> {
    let of_use =
        |contact: &&ContactPoint| contact.system.as_deref() == Some("phone") && contact.r#use.as_deref() == Some(usage);
    let mut found = telecom.iter().filter(of_use);
    match (found.next(), found.next()) {
        (None, _) => Ok(None),
        (Some(_), Some(_)) => {
            Err(rule("Organization.telecom", "Give at most one telephone number of use work and one of use mobile."))
        }
        (Some(contact), None) => {
            let read = contact.value.as_deref().map(Phone::parse);
            let words = "Give a telephone number that starts with 0 or +44 and may end in ;ext= and digits.";
            read.and_then(Result::ok).map(Some).ok_or_else(|| rule("Organization.telecom", words))
        }
    }
}
