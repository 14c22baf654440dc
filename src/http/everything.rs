//! `Patient/{nhs}/$everything`: patient, plans, authorities and accesses in one audited trip. For clinicians.

use super::{
    answer::Answer,
    clinical::{self, Asked},
    dispatch::Call,
    query::nhs_number,
    refusal::{Case, Refusal},
    search::{Searchset, page::Row, searchset::history_of},
};
use crate::{
    cpis::look_up::Subject,
    fhir::{
        json,
        render::{self, View},
        validate::Profile,
    },
};

/// # Errors
/// [`Refusal`] by design 4; 404 for a child without a record.
pub async fn get(call: Call) -> Result<Answer, Refusal> {
    let number = nhs_number(&call.id)?;
    let found = clinical::look_up(&call, Asked::read("Patient", &call.id, Subject::Number(number))).await?;
    let mut set = Searchset::new(&call);
    set.matched(Row::of(clinical::patient(&call, &number, &found)));
    for shown in &found.plans {
        set.matched(Row::of(render::flag(shown, View::Clinician)));
        set.matched(Row::of(render::care_plan(shown, View::Clinician)));
        set.matched(Row::of(render::care_team(shown, View::Clinician)));
    }
    for authority in found.authorities() {
        set.matched(Row::of(render::organization(authority)));
    }
    history_of(&found).for_each(|row| set.matched(row));
    set.superseded(&found);
    Ok(Answer::ok(set.all()?))
}

/// The same by POST; the body is `Parameters` without any parameter.
///
/// # Errors
/// [`Refusal`] by design 4.
pub async fn post(call: Call) -> Result<Answer, Refusal> {
    let body = json::parse(&call.body, json::RESOURCE_VALUES).map_err(|fault| Refusal::of_body(vec![fault.issue()]))?;
    if body.get("resourceType").and_then(serde_json::Value::as_str) != Some("Parameters") {
        return Err(Refusal::new(Case::Body, "Please send a Parameters resource."));
    }
    let issues = call.service.validators.validate(&body, Profile::Base);
    if !issues.is_empty() {
        return Err(Refusal::of_body(issues));
    }
    if body.get("parameter").is_some() {
        let refusal =
            Refusal::new(Case::Parameter, "$everything takes no parameters here: it always gives all of the child.");
        return Err(refusal.at("Parameters.parameter"));
    }
    get(call).await
}
