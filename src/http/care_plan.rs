//! `CarePlan`: the plans of a child. For clinicians.

use super::{
    answer::Answer,
    care_team::{PATIENT, PERIOD, PLAN_TYPE, REVINCLUDE, SUBJECT, search_plans},
    clinical::{self, Asked},
    dispatch::Call,
    refusal::Refusal,
    search::{
        Parameter, Search,
        parameter::{Definition, ID},
        result::searched_by,
    },
};
use crate::fhir::render::{self, View};

pub const PARAMETERS: &[Parameter] = searched_by![
    PATIENT,
    Parameter { definition: Definition::R4("CarePlan-subject"), ..SUBJECT },
    ID,
    Parameter::token("status", &["status"], Definition::R4("CarePlan-status"), "active or completed")
        .one_of(&["active", "completed"])
        .in_system("http://hl7.org/fhir/request-status"),
    Parameter::token("category", &["category"], Definition::R4("CarePlan-category"), PLAN_TYPE),
    Parameter::token("intent", &["intent"], Definition::R4("CarePlan-intent"), "plan")
        .one_of(&["plan"])
        .in_system("http://hl7.org/fhir/request-intent"),
    PERIOD,
    Parameter::reference("care-team", &["careTeam"], Definition::R4("CarePlan-care-team"), "CareTeam/{id}")
        .with_modifiers(&[":CareTeam", ":missing"]),
    Parameter::special(
        "_include",
        "CarePlan:patient or CarePlan:subject: the Patient; CarePlan:care-team: the CareTeam",
    )
    .with_modifiers(&[":iterate"])
    .one_of(&["CarePlan:patient", "CarePlan:subject", "CarePlan:care-team"]),
    REVINCLUDE,
];

/// # Errors
/// [`Refusal`] by design 4.
pub async fn search(call: Call) -> Result<Answer, Refusal> {
    let search = Search::of(&call, "CarePlan", PARAMETERS)?;
    search_plans(&call, search, |shown| render::care_plan(shown, View::Clinician).into()).await
}

/// # Errors
/// [`Refusal`] by design 4.
pub async fn read(call: Call) -> Result<Answer, Refusal> {
    let found = clinical::look_up(&call, Asked::plan("CarePlan", &call)?).await?;
    let shown = clinical::named_plan(&call, found)?;
    Ok(Answer::ok(render::care_plan(&shown, View::Clinician)))
}
