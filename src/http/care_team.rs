//! `CareTeam`: the national CP-IS call for plans, and one plan's care team. For clinicians.

use super::{
    answer::Answer,
    clinical::{self, Asked},
    dispatch::Call,
    refusal::Refusal,
    search::{
        Parameter, Search, Searchset,
        page::Row,
        parameter::{Definition, ID},
        result::searched_by,
    },
};
use crate::{
    cpis::types::ShownPlan,
    fhir::{
        render::{self, View},
        resource::Resource,
    },
};

/// The patient in every spelling of design 3.
pub const PATIENT: Parameter = Parameter::reference(
    "patient",
    &["subject"],
    Definition::R4("clinical-patient"),
    "NHS number, as patient:identifier=https://fhir.nhs.uk/Id/nhs-number|{nhs}, Patient/{nhs} or {nhs}",
)
.with_modifiers(&[":identifier", ".identifier", ":Patient"]);
pub const SUBJECT: Parameter =
    Parameter::reference("subject", &["subject"], Definition::R4("CareTeam-subject"), "The same as patient")
        .with_modifiers(&[":identifier", ".identifier", ":Patient"]);
/// The kind of plan, where a resource has it as its category.
pub const PLAN_TYPE: &str = "Kind of plan, a SNOMED CT code such as http://snomed.info/sct|342191000000101";
pub const PERIOD: Parameter =
    Parameter::date("date", &["period"], Definition::R4("clinical-date"), "When the plan holds");
pub const REVINCLUDE: Parameter = Parameter::special(
    "_revinclude",
    "AuditEvent:patient (also as _revinclude:iterate) or AuditEvent:entity: the access history, each with who it was",
)
.with_modifiers(&[":iterate"])
.one_of(&["AuditEvent:patient", "AuditEvent:entity"]);

pub const PARAMETERS: &[Parameter] = searched_by![
    PATIENT,
    SUBJECT,
    ID,
    Parameter::token("status", &["status"], Definition::R4("CareTeam-status"), "active or inactive")
        .one_of(&["active", "inactive"])
        .in_system("http://hl7.org/fhir/care-team-status"),
    Parameter::token("category", &["category"], Definition::R4("CareTeam-category"), PLAN_TYPE),
    PERIOD,
    Parameter::special("_include", "CareTeam:patient or CareTeam:subject: the Patient")
        .with_modifiers(&[":iterate"])
        .one_of(&["CareTeam:patient", "CareTeam:subject"]),
    REVINCLUDE,
];

/// # Errors
/// [`Refusal`] by design 4.
pub async fn search(call: Call) -> Result<Answer, Refusal> {
    let render = |shown: &ShownPlan| render::care_team(shown, View::Clinician).into();
    search_plans(&call, Search::of(&call, "CareTeam", PARAMETERS)?, render).await
}

/// One audited look-up, answered with each plan as one resource.
///
/// # Errors
/// [`Refusal`] by design 4.
pub async fn search_plans(
    call: &Call,
    search: Search,
    render: impl Fn(&ShownPlan) -> Resource,
) -> Result<Answer, Refusal> {
    let number = call.query.required_patient()?;
    let found = clinical::look_up(call, Asked::search(number)).await?;
    let mut set = Searchset::new(call);
    for shown in &found.plans {
        set.matched(Row::of(render(shown)));
    }
    if !search.includes.is_empty() {
        clinical::beside(&mut set, call, &number, &found);
    }
    set.superseded(&found);
    Ok(Answer::ok(set.whole(&search)?))
}

/// # Errors
/// [`Refusal`] by design 4.
pub async fn read(call: Call) -> Result<Answer, Refusal> {
    let found = clinical::look_up(&call, Asked::plan("CareTeam", &call)?).await?;
    let shown = clinical::named_plan(&call, found)?;
    Ok(Answer::ok(render::care_team(&shown, View::Clinician)))
}
