//! `CareTeam`: the national CP-IS call for plans, and one plan's care team. For clinicians.

use super::{
    answer::Answer,
    clinical::{self, Asked, Searchset},
    dispatch::Call,
    query::Parameter,
    refusal::Refusal,
};
use crate::fhir::render::{self, View};

/// The patient in every spelling of design 3.
pub const PATIENT: Parameter = Parameter::new(
    "patient",
    "reference",
    "NHS number, as patient:identifier=https://fhir.nhs.uk/Id/nhs-number|{nhs}, Patient/{nhs} or {nhs}",
)
.with_modifiers(&[":identifier", ".identifier"]);
pub const SUBJECT: Parameter =
    Parameter::new("subject", "reference", "The same as patient").with_modifiers(&[":identifier", ".identifier"]);

pub const PARAMETERS: &[Parameter] = &[PATIENT, SUBJECT];

/// # Errors
/// [`Refusal`] by design 4.
pub async fn search(call: Call) -> Result<Answer, Refusal> {
    let found = clinical::look_up(&call, Asked::search(&call)?).await?;
    let mut set = Searchset::new(&call);
    for shown in &found.plans {
        set.matched(render::care_team(shown, View::Clinician, None));
    }
    set.superseded(&found);
    Ok(Answer::ok(set.finish()))
}

/// # Errors
/// [`Refusal`] by design 4.
pub async fn read(call: Call) -> Result<Answer, Refusal> {
    let found = clinical::look_up(&call, Asked::plan("CareTeam", &call)?).await?;
    let shown = clinical::named_plan(&call, found)?;
    Ok(Answer::ok(render::care_team(&shown, View::Clinician, None)))
}
