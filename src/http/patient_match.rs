//! `Patient/$match`: a clinician confirms that an NHS number belongs to whom it is thought to belong. The answer is that
//! number or nothing: never a list, never another number, and the same nothing whatever is wrong (design 9).

use serde_json::{Number, Value};

use super::{
    answer::Answer,
    dispatch::Call,
    refusal::{Case, Refusal},
    search::searchset::self_link,
    upload::body,
};
use crate::{
    config::PdsMode,
    cpis::{
        self,
        confirm::{Confirm, Confirmed, Described},
        types::{
            NhsNumber,
            caller::{VIEW_FLAG, VIEW_FLAG_SILENTLY},
        },
    },
    fhir::{
        datatype::{Extension, HumanName},
        outcome::{Issue, IssueCode, Severity, SpineCode, operation_outcome},
        render,
        resource::{Bundle, BundleEntry, BundleEntrySearch, Patient},
        system,
        validate::Profile,
    },
};

/// The extension that says how sure a match is (FHIR R4, operation `Patient-match`).
const MATCH_GRADE: &str = "http://hl7.org/fhir/StructureDefinition/match-grade";

/// # Errors
/// [`Refusal`] by design 4: 403 and 400 before anybody is asked, 429, 503.
pub async fn confirm(call: Call) -> Result<Answer, Refusal> {
    let service = &call.service;
    if service.settings.pds_mode == PdsMode::Off {
        return Err(not_offered());
    }
    // Nothing of CP-IS is disclosed, so neither the header nor the setting for scheduled care plays a part.
    if ![VIEW_FLAG, VIEW_FLAG_SILENTLY].into_iter().any(|activity| call.caller.has_activity(activity)) {
        let text = "Access has been denied: to confirm a number your role needs the activity B0107 or B0170 (View CP-IS \
                    Flag).";
        return Err(Refusal::new(Case::Forbidden, text));
    }
    let sent = body(&call)?;
    if sent.get("resourceType").and_then(Value::as_str) != Some("Parameters") {
        return Err(Refusal::new(Case::Body, "Please send a Parameters resource."));
    }
    let issues = service.validators.validate(&sent, Profile::Base);
    if !issues.is_empty() {
        return Err(Refusal::of_body(issues));
    }
    let (number, person) = read(&sent).map_err(Refusal::of_body)?;
    let ask = Confirm { number, person, caller: call.caller.clone(), context: call.context.clone() };
    let confirmed = service.gateway.confirm_number(ask).await.map_err(refusal)?;
    let link = self_link(service, &call.path_and_query, &call.query);
    Ok(Answer::ok(found(&call, &number, &confirmed, &link)))
}

/// A gateway that asks nobody about numbers can confirm none.
fn not_offered() -> Refusal {
    let text = "NHS numbers are not traced here (pds.mode is off), so none can be confirmed. Please trace the patient with \
                the Personal Demographics Service.";
    Refusal::with_issues(
        Case::Parameter,
        vec![Issue::error(IssueCode::NotSupported, SpineCode::UnsupportedService, text)],
    )
}

fn refusal(error: cpis::Error) -> Refusal {
    match error {
        cpis::Error::DemographicsUnavailable => Refusal::demographics(
            "NHS numbers can't be confirmed at the moment. Please try again in a few seconds. Don't wait for it if a child \
             may be at risk: look the child up by the number that you have.",
        )
        .audited(),
        other => other.into(),
    }
}

/// At most one match, and the same words for everything that is none.
fn found(call: &Call, number: &NhsNumber, confirmed: &Confirmed, link: &str) -> Bundle {
    let base_url = &call.service.settings.base_url;
    match confirmed {
        Confirmed::Match(disclosed) => {
            let patient = render::patient_for_clinician(number, call.service.verification(), disclosed.as_ref());
            let mut entry = BundleEntry::found(base_url, patient.into(), "match");
            let certain = Extension {
                url: MATCH_GRADE.to_owned(),
                value_code: Some("certain".to_owned()),
                ..Extension::default()
            };
            let mode = Some("match".to_owned());
            entry.search = Some(BundleEntrySearch { extension: vec![certain], mode, score: Some(Number::from(1)) });
            Bundle::searchset(link, Some(1), vec![entry])
        }
        Confirmed::No => {
            let text = "The number and what was sent with it could not be confirmed to belong together; for reasons of \
                        privacy nothing more is said. Check the number, the birth date and the names, or trace the patient \
                        again: the number may no longer be in use.";
            let issue = Issue {
                severity: Severity::Information,
                ..Issue::error(IssueCode::NotFound, SpineCode::ResourceNotFound, text)
            };
            let entry = BundleEntry::found(base_url, operation_outcome(&[issue]).into(), "outcome");
            Bundle::searchset(link, Some(0), vec![entry])
        }
    }
}

/// Number and person out of the parameters, or everything that is wrong with them.
fn read(sent: &Value) -> Result<(NhsNumber, Described), Vec<Issue>> {
    let (mut issues, mut seen, mut patient) = (Vec::new(), Vec::new(), None);
    for (index, parameter) in sent.get("parameter").and_then(Value::as_array).into_iter().flatten().enumerate() {
        let at = format!("Parameters.parameter[{index}]");
        let mut refuse =
            |code, text: &str| issues.push(Issue::error(code, SpineCode::InvalidValue, text).at(at.clone()));
        let name = parameter.get("name").and_then(Value::as_str).unwrap_or_default();
        if seen.contains(&name) {
            refuse(IssueCode::Value, "This parameter is there twice: send it once.");
        }
        seen.push(name);
        match name {
            "resource" => match parameter.get("resource") {
                Some(resource) if resource.get("resourceType").and_then(Value::as_str) == Some("Patient") => {
                    patient = Some((format!("{at}.resource"), resource));
                }
                _ => refuse(IssueCode::Value, "Give the Patient that is looked for as the resource."),
            },
            // There is one match at most, and it is certain: both hold whatever they say.
            "onlyCertainMatches" if parameter.get("valueBoolean").is_some_and(Value::is_boolean) => {}
            "onlyCertainMatches" => refuse(IssueCode::Value, "Give onlyCertainMatches as valueBoolean."),
            "count" if parameter.get("valueInteger").and_then(Value::as_i64).is_some_and(|count| count >= 1) => {}
            "count" => refuse(IssueCode::Value, "Give count as valueInteger, 1 or more."),
            _ => refuse(
                IssueCode::NotSupported,
                "This operation takes the parameters resource, onlyCertainMatches and count.",
            ),
        }
    }
    if !seen.contains(&"resource") {
        let text = "Give the Patient that is looked for as the parameter resource.";
        issues.push(Issue::error(IssueCode::Required, SpineCode::MissingValue, text).at("Parameters.parameter"));
    }
    let described = patient.and_then(|(at, resource)| described(resource, &at, &mut issues));
    described.filter(|_| issues.is_empty()).ok_or(issues)
}

fn described(resource: &Value, at: &str, issues: &mut Vec<Issue>) -> Option<(NhsNumber, Described)> {
    let Ok(patient) = serde_json::from_value::<Patient>(resource.clone()) else {
        let text = "The resource can't be read as Patient.";
        issues.push(Issue::error(IssueCode::Structure, SpineCode::ValidationError, text).at(at));
        return None;
    };
    if resource.get("modifierExtension").is_some() {
        let text = "A modifierExtension could change what is meant, and none is known here: leave it out.";
        issues.push(Issue::error(IssueCode::NotSupported, SpineCode::InvalidValue, text).at(at));
    }
    let number = number(&patient).map_err(|issue| issues.push(issue.at(format!("{at}.identifier")))).ok();
    let birth_date = patient.birth_date.as_ref().and_then(|date| date.day());
    if birth_date.is_none() {
        let text = "Give the whole birth date: year, month and day.";
        issues.push(Issue::error(IssueCode::Required, SpineCode::MissingValue, text).at(format!("{at}.birthDate")));
    }
    let names = names(&patient.name).map_err(|issue| issues.push(issue.at(format!("{at}.name")))).ok();
    let (family, given) = names?;
    Some((number?, Described { birth_date: birth_date?, family, given }))
}

/// The one NHS number that the Patient names.
fn number(patient: &Patient) -> Result<NhsNumber, Issue> {
    let mut numbers = patient.identifier.iter().filter_map(|identifier| identifier.value_of(system::NHS_NUMBER));
    let text =
        "Give the NHS number to be confirmed as one identifier with the system https://fhir.nhs.uk/Id/nhs-number.";
    match (numbers.next(), numbers.next()) {
        (Some(number), None) => NhsNumber::parse(number).map_err(|fault| {
            let text = format!("Invalid NHS number: {fault}.");
            Issue::error(IssueCode::Invalid, SpineCode::InvalidSearchData, text)
        }),
        (None, _) => Err(Issue::error(IssueCode::Required, SpineCode::MissingValue, text)),
        (Some(_), Some(_)) => Err(Issue::error(IssueCode::Value, SpineCode::InvalidValue, text)),
    }
}

/// Family and given names to be compared: those of the usual name, else the official, else one without a use. A name that
/// could not be compared is refused: it would be thought to have been.
fn names(sent: &[HumanName]) -> Result<(Option<String>, Vec<String>), Issue> {
    if sent.is_empty() {
        return Ok((None, Vec::new()));
    }
    let of_use = |usage: Option<&str>| sent.iter().find(|name| name.r#use.as_deref() == usage);
    let name = of_use(Some("usual")).or_else(|| of_use(Some("official"))).or_else(|| of_use(None));
    let trimmed = |text: &str| Some(text.trim().to_owned()).filter(|text| !text.is_empty());
    let family = name.and_then(|name| name.family.as_deref()).and_then(trimmed);
    let given: Vec<String> =
        name.map(|name| name.given.as_slice()).unwrap_or_default().iter().filter_map(|given| trimmed(given)).collect();
    if family.is_none() && given.is_empty() {
        let text = "Give the registered name as family and given, as the name of use usual; or leave the name out.";
        return Err(Issue::error(IssueCode::Value, SpineCode::InvalidValue, text));
    }
    Ok((family, given))
}
