//! `PatientFlag`: the call of the national Patient Flag API, in its own shape (examples.md 8). For clinicians.

use super::{
    answer::Answer,
    care_team::PATIENT,
    clinical::{self, Asked, Searchset},
    dispatch::Call,
    query::{Parameter, bad_value},
    refusal::Refusal,
};
use crate::fhir::{render, system};

pub const PARAMETERS: &[Parameter] = &[
    PATIENT,
    Parameter::new("code", "token", "child-protection-information-system-flag, the one flag that CP-IS has"),
];

/// # Errors
/// [`Refusal`] by design 4.
pub async fn search(call: Call) -> Result<Answer, Refusal> {
    if let Some(code) = call.query.single("code")? {
        let qualified = format!("{}|{}", system::FLAG_CATEGORY_PATIENT, system::CPIS_FLAG);
        if code != system::CPIS_FLAG && code != qualified {
            return Err(bad_value(
                "code",
                "must be child-protection-information-system-flag: CP-IS holds no other flag",
            ));
        }
    }
    let asked = Asked { by_setting: true, ..Asked::search(&call)? };
    let found = clinical::look_up(&call, asked).await?;
    let mut set = Searchset::new(&call);
    for shown in &found.plans {
        let plan = render::patient_flag(shown, None);
        set.matched(plan.flag);
        set.included(plan.care_plan);
        set.included(plan.care_team);
    }
    set.superseded(&found);
    Ok(Answer::ok(set.finish()))
}
