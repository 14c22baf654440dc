//! `Patient/{nhs}/$inactive`: an administrator says what has become of an NHS number. The answer is the same whatever is
//! held, for administrators may not learn whether a child is on record (design 3).

use actix_web::http::StatusCode;
use serde_json::Value;

use super::{
    answer::Answer,
    dispatch::Call,
    query::nhs_number,
    refusal::{Case, Refusal},
    upload::body,
};
use crate::{
    cpis::types::{NhsNumber, child::NumberChange, notice::InactiveReason},
    fhir::{
        outcome::{self, Issue, IssueCode, SpineCode},
        system,
        validate::Profile,
    },
};

/// # Errors
/// [`Refusal`] by design 4: 400 for whatever is wrong with number or parameters, all of it at once.
pub async fn inactive(call: Call) -> Result<Answer, Refusal> {
    let number = nhs_number(&call.id)?;
    let sent = body(&call)?;
    if sent.get("resourceType").and_then(Value::as_str) != Some("Parameters") {
        return Err(Refusal::new(Case::Body, "Please send a Parameters resource."));
    }
    let issues = call.service.validators.validate(&sent, Profile::Base);
    if !issues.is_empty() {
        return Err(Refusal::of_body(issues));
    }
    let change = read(&sent, &number).map_err(Refusal::of_body)?;
    call.service.gateway.set_number_status(number, change, call.event()).await?;
    let said = outcome::nothing_wrong("The state of the number is taken.");
    Ok(Answer::ok(said).with_status(StatusCode::ACCEPTED))
}

/// The parameters, or everything that is wrong with them.
fn read(sent: &Value, number: &NhsNumber) -> Result<NumberChange, Vec<Issue>> {
    let (mut reason, mut replaced_by, mut issues) = (None, None, Vec::new());
    let mut seen = Vec::new();
    for (index, parameter) in sent.get("parameter").and_then(Value::as_array).into_iter().flatten().enumerate() {
        let mut refuse = |code, spine, text: &str| {
            issues.push(Issue::error(code, spine, text).at(format!("Parameters.parameter[{index}]")));
        };
        let name = parameter.get("name").and_then(Value::as_str).unwrap_or_default();
        if seen.contains(&name) {
            refuse(IssueCode::Value, SpineCode::InvalidValue, "This parameter is there twice: send it once.");
        }
        seen.push(name);
        match name {
            "reason" => match parameter.get("valueCode").and_then(Value::as_str).and_then(InactiveReason::from_code) {
                Some(code) => reason = Some(code),
                None => refuse(
                    IssueCode::CodeInvalid,
                    SpineCode::InvalidValue,
                    "Give the reason as valueCode: superseded, invalidated or retired.",
                ),
            },
            "replacedBy" => match replacement(parameter) {
                Some(by) if by == *number => refuse(
                    IssueCode::Value,
                    SpineCode::InvalidValue,
                    "A number can't be replaced by itself: give the number that replaced it.",
                ),
                Some(by) => replaced_by = Some(by),
                None => refuse(
                    IssueCode::Value,
                    SpineCode::InvalidValue,
                    "Give the replacing number as valueIdentifier with the system https://fhir.nhs.uk/Id/nhs-number and \
                     a valid NHS number.",
                ),
            },
            _ => refuse(
                IssueCode::NotSupported,
                SpineCode::InvalidValue,
                "This operation takes the parameters reason and replacedBy.",
            ),
        }
    }
    let mut lacks = |text: &str| {
        issues.push(Issue::error(IssueCode::Required, SpineCode::MissingValue, text).at("Parameters.parameter"));
    };
    if !seen.contains(&"reason") {
        lacks("Give the parameter reason: superseded, invalidated or retired.");
    }
    let has_replacement = seen.contains(&"replacedBy");
    match reason {
        Some(InactiveReason::Superseded) if !has_replacement => {
            lacks("Give the parameter replacedBy: a superseded number has a replacement.");
        }
        Some(InactiveReason::Invalidated | InactiveReason::Retired) if has_replacement => {
            let text = "Leave replacedBy out: only a superseded number has a replacement, and that of a retired one is \
                        never told.";
            issues.push(Issue::error(IssueCode::Value, SpineCode::InvalidValue, text).at("Parameters.parameter"));
        }
        _ => {}
    }
    match (reason, replaced_by) {
        (Some(InactiveReason::Superseded), Some(by)) if issues.is_empty() => Ok(NumberChange::Superseded(by)),
        (Some(InactiveReason::Invalidated), None) if issues.is_empty() => Ok(NumberChange::Invalidated),
        (Some(InactiveReason::Retired), None) if issues.is_empty() => Ok(NumberChange::Retired),
        _ => Err(issues),
    }
}

fn replacement(parameter: &Value) -> Option<NhsNumber> {
    let identifier = parameter.get("valueIdentifier")?;
    let of = |element: &str| identifier.get(element).and_then(Value::as_str);
    if of("system") != Some(system::NHS_NUMBER) {
        return None;
    }
    NhsNumber::parse(of("value")?).ok()
}
