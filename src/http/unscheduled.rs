//! Scheduled or unscheduled: the caller's declaration, its activity codes, and what follows (design 3, table).

use actix_web::http::header::HeaderMap;

use super::refusal::{Case, Refusal};
use crate::{
    config::ScheduledCare,
    cpis::types::{
        access::AccessKind,
        caller::{Caller, VIEW_FLAG, VIEW_FLAG_SILENTLY},
        organization::CareSetting,
    },
};

/// The national name and the one that its guide uses once (domain.md 12.1).
const NAMES: [&str; 2] = ["IsUnscheduledAccessEvent", "IsUnscheduledEvent"];

/// What the header says; `None` when there is none.
///
/// # Errors
/// [`Refusal`] 400 for anything but `true` or `false`, or when two say different things.
pub fn declared(headers: &HeaderMap) -> Result<Option<bool>, Refusal> {
    let mut said: Option<bool> = None;
    for value in NAMES.iter().flat_map(|name| headers.get_all(*name)) {
        let value = match value.as_bytes() {
            b"true" => true,
            b"false" => false,
            _ => return Err(fault("must be true or false")),
        };
        if said.is_some_and(|before| before != value) {
            return Err(fault("is given twice with different values"));
        }
        said = Some(value);
    }
    Ok(said)
}

fn fault(why: &str) -> Refusal {
    Refusal::new(Case::Header, format!("Missing or invalid header parameter: {} {why}.", NAMES[0]))
}

/// How the look-up counts. Decided before the child is looked up, so a refusal tells nothing of it.
///
/// # Errors
/// [`Refusal`] 400 for the header, 403 for what the caller may not.
pub fn decide(
    headers: &HeaderMap,
    caller: &Caller,
    scheduled_care: ScheduledCare,
    by_setting: bool,
) -> Result<AccessKind, Refusal> {
    let unscheduled_setting = caller.organization.care_setting == Some(CareSetting::Unscheduled);
    let unscheduled = declared(headers)?.unwrap_or(!by_setting || unscheduled_setting);
    if unscheduled {
        return if caller.has_activity(VIEW_FLAG) {
            Ok(AccessKind::Unscheduled)
        } else {
            Err(Refusal::new(
                Case::Forbidden,
                "Access has been denied: an unscheduled access needs the activity B0107 (View CP-IS Flag) in your role.",
            ))
        };
    }
    if caller.has_activity(VIEW_FLAG_SILENTLY) && scheduled_care == ScheduledCare::SilentRead {
        return Ok(AccessKind::Silent);
    }
    Err(Refusal::new(
        Case::Forbidden,
        "Access has been denied: CP-IS is not available in scheduled care here, or your role lacks the activity B0170.",
    ))
}
