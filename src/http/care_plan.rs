//! `CarePlan`: the plans of a child. For clinicians.

use super::{
    answer::Answer,
    care_team::{PATIENT, SUBJECT},
    clinical::{self, Asked, Searchset},
    dispatch::Call,
    query::Parameter,
    refusal::Refusal,
};
use crate::fhir::render::{self, View};

pub const PARAMETERS: &[Parameter] = &[PATIENT, SUBJECT];

/// # Errors
/// [`Refusal`] by design 4.
pub async fn search(call: Call) -> Result<Answer, Refusal> {
    let found = clinical::look_up(&call, Asked::search(&call)?).await?;
    let mut set = Searchset::new(&call);
    for shown in &found.plans {
        set.matched(render::care_plan(shown, View::Clinician));
    }
    set.superseded(&found);
    Ok(Answer::ok(set.finish()))
}

/// # Errors
/// [`Refusal`] by design 4.
pub async fn read(call: Call) -> Result<Answer, Refusal> {
    let found = clinical::look_up(&call, Asked::plan("CarePlan", &call)?).await?;
    let shown = clinical::named_plan(&call, found)?;
    Ok(Answer::ok(render::care_plan(&shown, View::Clinician)))
}
