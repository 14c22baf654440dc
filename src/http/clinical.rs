//! What the clinical handlers share: one audited look-up, and all the resources of what it found.

use super::{
    dispatch::Call,
    refusal::Refusal,
    search::{
        Searchset,
        page::Row,
        searchset::{self, history_of},
    },
    unscheduled,
};
use crate::{
    cpis::{
        look_up::{LookUp, Subject},
        types::{NhsNumber, ShownPlan, access::Found, audit::EntityRef},
    },
    fhir::{
        render::{self, View},
        resource::Patient,
    },
};

/// How a request is looked up.
pub struct Asked {
    pub subject: Subject,
    /// The resource that the path names.
    pub entity: Option<EntityRef>,
    /// 404 instead of an empty answer when there is no record.
    pub absent_is_not_found: bool,
    /// An absent `IsUnscheduledAccessEvent` is decided by the organisation's care setting (Patient Flag API).
    pub by_setting: bool,
}

impl Asked {
    /// A search about one patient.
    pub fn search(number: NhsNumber) -> Self {
        Self { subject: Subject::Number(number), entity: None, absent_is_not_found: false, by_setting: false }
    }

    /// A read of the resource in the path.
    pub fn read(resource: &str, id: &str, subject: Subject) -> Self {
        let entity = EntityRef { resource: resource.to_owned(), id: id.to_owned(), version: None };
        Self { subject, entity: Some(entity), absent_is_not_found: true, by_setting: false }
    }

    /// A read of the plan in the path.
    ///
    /// # Errors
    /// [`Refusal`] 404 for what can't be the id of a plan.
    pub fn plan(resource: &str, call: &Call) -> Result<Self, Refusal> {
        let id = call.uuid()?;
        Ok(Self::read(resource, &call.id, Subject::Plan(id)))
    }
}

/// One audited access. When it returns, the audit is durable.
///
/// # Errors
/// [`Refusal`]: 400 or 403 before the child is looked up, 404, 503.
pub async fn look_up(call: &Call, asked: Asked) -> Result<Found, Refusal> {
    // What is no cursor is told before the child is looked up.
    searchset::start(call)?;
    let kind =
        unscheduled::decide(&call.headers, &call.caller, call.service.settings.scheduled_care, asked.by_setting)?;
    let absent_is_not_found = asked.absent_is_not_found;
    let found = call
        .service
        .gateway
        .look_up(LookUp {
            subject: asked.subject,
            kind,
            interaction: call.interaction,
            entity: asked.entity,
            absent_is_not_found,
            caller: call.caller.clone(),
            context: call.context.clone(),
        })
        .await?;
    match found {
        Some(found) if found.on_record() || !absent_is_not_found => Ok(found),
        // The look-up itself has audited that nothing was found.
        _ => Err(Refusal::not_found().audited()),
    }
}

/// The plan that the path names, out of what was found.
///
/// # Errors
/// [`Refusal`] 404.
pub fn named_plan(call: &Call, found: Found) -> Result<ShownPlan, Refusal> {
    let plan = found.plans.into_iter().find(|shown| shown.plan.id.to_string() == call.id);
    plan.ok_or_else(|| Refusal::not_found().audited())
}

/// The child as a clinician sees it.
pub fn patient(call: &Call, number: &NhsNumber, found: &Found) -> Patient {
    render::patient_for_clinician(number, call.service.verification(), found.demographics.as_ref())
}

/// Puts everything of the child beside the matches, for includes to choose from.
pub fn beside(set: &mut Searchset<'_>, call: &Call, number: &NhsNumber, found: &Found) {
    if !found.on_record() {
        return;
    }
    set.beside(Row::of(patient(call, number, found)));
    for shown in &found.plans {
        set.beside(Row::of(render::flag(shown, View::Clinician)));
        set.beside(Row::of(render::care_plan(shown, View::Clinician)));
        set.beside(Row::of(render::care_team(shown, View::Clinician)));
    }
    for authority in found.authorities() {
        set.beside(Row::of(render::organization(authority)));
    }
    history_of(found).for_each(|row| set.beside(row));
}
