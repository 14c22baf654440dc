//! `PractitionerRole`: who made an access; its id is the access's id.

use super::{
    answer::Answer,
    audit_event::{access_for, answer_one},
    dispatch::Call,
    refusal::Refusal,
};
use crate::{cpis::types::caller::Role, fhir::render};

/// # Errors
/// [`Refusal`] by design 4.
pub async fn read(call: Call) -> Result<Answer, Refusal> {
    let id = call.uuid()?;
    let access = access_for(&call, id).await?;
    let role = render::access_event(&access, call.caller.role == Role::Auditor).1;
    answer_one(call, "PractitionerRole", role).await
}
