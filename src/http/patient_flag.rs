//! `PatientFlag`: the call of the national Patient Flag API, in its own shape (examples.md 8). For clinicians.

use super::{
    answer::Answer,
    care_team::PATIENT,
    clinical::{self, Asked},
    dispatch::Call,
    refusal::Refusal,
    search::{
        Parameter, Search, Searchset,
        page::Row,
        parameter::Definition,
        result::{ELEMENTS, SUMMARY},
    },
};
use crate::fhir::{render, system};

pub const PARAMETERS: &[Parameter] = &[
    PATIENT,
    Parameter::token(
        "code",
        &["code"],
        Definition::England("England-FlagCode"),
        "child-protection-information-system-flag, the one flag that CP-IS has",
    )
    .with_modifiers(&[])
    .one_of(&[system::CPIS_FLAG])
    .in_system(system::FLAG_CATEGORY_PATIENT),
    SUMMARY,
    ELEMENTS,
];

/// # Errors
/// [`Refusal`] by design 4.
pub async fn search(call: Call) -> Result<Answer, Refusal> {
    call.query.single("code")?;
    let search = Search::of(&call, "Flag", PARAMETERS)?;
    let asked = Asked { by_setting: true, ..Asked::search(call.query.required_patient()?) };
    let found = clinical::look_up(&call, asked).await?;
    let mut set = Searchset::new(&call);
    for shown in &found.plans {
        let plan = render::patient_flag(shown);
        set.matched(Row::of(plan.flag).with(plan.care_plan).with(plan.care_team));
    }
    set.superseded(&found);
    Ok(Answer::ok(set.whole(&search)?))
}
