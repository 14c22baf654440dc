//! `AuditEvent`: the access history for clinicians, the accesses listed for an authority, the security audit for auditors.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{
    answer::Answer,
    care_team::PATIENT,
    clinical::{self, Asked, Searchset},
    date_range::{self, DateRange},
    dispatch::Call,
    paging::{self, COUNT, CURSOR, SUMMARY, TOTAL},
    query::{Parameter, bad_value},
    refusal::Refusal,
};
use crate::{
    cpis::{
        auditing::{AuditPage, AuditPageAsked},
        types::{
            access::Access,
            audit::{AuditRow, AuditSearch, EntityRef, QueryResult},
            caller::Role,
        },
    },
    fhir::{outcome::IssueCode, render, resource::Resource},
};

pub const PARAMETERS: &[Parameter] = &[
    PATIENT,
    Parameter::new(
        "_include",
        "special",
        "AuditEvent:agent, or the national AuditEvent:entity-type=http://terminology.hl7.org/CodeSystem/v3-RoleClass|ASSIGNED; \
         the PractitionerRole is always included",
    ),
    Parameter::new("date", "date", "When it was recorded; eq, ge, gt, le, lt. For auditors"),
    COUNT,
    CURSOR,
    SUMMARY,
    TOTAL,
];

const INCLUDES: [&str; 3] = [
    "AuditEvent:agent",
    "AuditEvent:entity",
    "AuditEvent:entity-type=http://terminology.hl7.org/CodeSystem/v3-RoleClass|ASSIGNED",
];

/// # Errors
/// [`Refusal`] by design 4.
pub async fn search(call: Call) -> Result<Answer, Refusal> {
    call.query.known_only("_include", &INCLUDES)?;
    match call.caller.role {
        Role::Auditor => security_audit(call).await,
        Role::LocalAuthority => listed_for_authority(call).await,
        Role::Clinical | Role::Administrator => history(call).await,
    }
}

/// The child's access history, at most 25, newest first.
async fn history(call: Call) -> Result<Answer, Refusal> {
    call.query.only_for_others(&["date", "_count", "_cursor", "_summary", "_total"])?;
    let found = clinical::look_up(&call, Asked::search(&call)?).await?;
    let mut set = Searchset::new(&call);
    set.history(&found, true);
    set.superseded(&found);
    Ok(Answer::ok(set.finish()))
}

/// The accesses listed for the calling authority about one child.
async fn listed_for_authority(call: Call) -> Result<Answer, Refusal> {
    call.query.only_for_others(&["date", "_summary", "_total"])?;
    let number = call.query.required_patient()?;
    let (limit, below) = (paging::count(&call.query)?, paging::cursor::<i64>(&call.query)?.unwrap_or(i64::MAX));
    let authority = &call.caller.organization;
    let (mut page, total) = call.service.gateway.listed_accesses(authority, number, below, limit + 1).await?;
    let more = paging::cut(&mut page, limit);
    let mut event = call.event();
    event.patient = Some(number);
    call.service.gateway.audit(event).await?;
    let mut set = Searchset::new(&call);
    for access in &page {
        let (event, role) = render::access_event(access, false);
        set.matched(event);
        set.included(role);
    }
    let mut bundle = set.finish();
    bundle.total = u64::try_from(total).ok();
    if let Some(last) = page.last().filter(|_| more) {
        paging::link_next(&mut bundle, &call, &last.sequence)?;
    }
    Ok(Answer::ok(bundle))
}

/// Where an auditor's next page begins: the marks of the first page, and the last row given.
#[derive(Serialize, Deserialize)]
struct AuditCursor {
    heads: Vec<(i64, i64)>,
    below: i64,
}

/// More open chains than any installation has processes.
const MOST_MARKS: usize = 200;

impl AuditCursor {
    /// Whether it could be one of ours: each chain once, with a number that a row can have.
    fn is_ours(&self) -> bool {
        let rising = self.heads.windows(2).all(|pair| pair[0].0 < pair[1].0);
        let positive = self.heads.iter().all(|(chain, seq)| *chain > 0 && *seq >= 0);
        (1..=MOST_MARKS).contains(&self.heads.len()) && rising && positive && self.below > 0
    }
}

async fn security_audit(call: Call) -> Result<Answer, Refusal> {
    let limit = paging::count(&call.query)?;
    let only_count = paging::only_count(&call.query)?;
    let patient = call.query.patient()?;
    let mut range = DateRange::default();
    for date in call.query.values("date") {
        let one = date_range::parse(date, &call.service.gateway.calendar);
        range = range.and(one.ok_or_else(|| {
            let why = "must be eq, ge, gt, le or lt and a date such as 2026-11-03, or an instant with its offset";
            let refusal = bad_value("date", why);
            if date_range::has_unknown_prefix(date) { refusal.with_code(IssueCode::NotSupported) } else { refusal }
        })?);
    }
    let counted = only_count || patient.is_some() || paging::accurate_total(&call.query)?;
    let cursor: Option<AuditCursor> = paging::cursor(&call.query)?;
    if cursor.as_ref().is_some_and(|cursor| !cursor.is_ours()) {
        return Err(paging::foreign_cursor());
    }
    let (heads, below_id) = cursor.map(|cursor| (cursor.heads, Some(cursor.below))).unwrap_or_default();
    let search = AuditSearch { patient, from_ms: range.from_ms, before_ms: range.before_ms, heads, below_id };
    let asked = AuditPageAsked { limit: if only_count { 0 } else { limit + 1 }, counted };
    let AuditPage { mut rows, total, heads } = call.service.gateway.security_audit(search, asked).await?;
    let more = paging::cut(&mut rows, limit);
    let mut event = call.event();
    event.patient = patient;
    event.result = Some(QueryResult::of(&rows, AuditRow::fhir_id));
    call.service.gateway.audit(event).await?;
    let mut set = Searchset::new(&call);
    for row in &rows {
        set.matched(render::security_event(row, &call.service.settings.base_url));
    }
    let mut bundle = set.finish();
    bundle.total = total.and_then(|total| u64::try_from(total).ok());
    if let Some(last) = rows.last().filter(|_| more) {
        paging::link_next(&mut bundle, &call, &AuditCursor { heads, below: last.id })?;
    }
    Ok(Answer::ok(bundle))
}

/// One event: by its `{yyyymm}-{id}` a security event, by its UUID an access.
///
/// # Errors
/// [`Refusal`] by design 4.
pub async fn read(call: Call) -> Result<Answer, Refusal> {
    if let Ok(id) = call.uuid() {
        let access = access_for(&call, id).await?;
        let event = render::access_event(&access, call.caller.role == Role::Auditor).0;
        return answer_one(call, "AuditEvent", event).await;
    }
    let key = call.id.split_once('-').and_then(|(month, id)| Some((month.parse().ok()?, id.parse().ok()?)));
    let (Some((month, id)), Role::Auditor) = (key, call.caller.role) else { return Err(Refusal::not_found()) };
    let row = call.service.gateway.security_event(month, id).await?.ok_or_else(Refusal::not_found)?;
    let event = render::security_event(&row, &call.service.settings.base_url);
    answer_one(call, "AuditEvent", event).await
}

/// An access that the caller may see: any for an auditor, for an authority those listed for it.
///
/// # Errors
/// [`Refusal`] 404 for any other.
pub async fn access_for(call: &Call, id: Uuid) -> Result<Access, Refusal> {
    let listed_for = (call.caller.role != Role::Auditor).then_some(&call.caller.organization);
    call.service.gateway.access(id, listed_for).await?.ok_or_else(Refusal::not_found)
}

/// Audits the read of one resource, then answers it.
///
/// # Errors
/// [`Refusal`] 503 when the audit can't be stored.
pub async fn answer_one(call: Call, resource_type: &str, resource: impl Into<Resource>) -> Result<Answer, Refusal> {
    let mut event = call.event();
    event.entity = Some(EntityRef { resource: resource_type.to_owned(), id: call.id.clone(), version: None });
    call.service.gateway.audit(event).await?;
    Ok(Answer::ok(resource))
}
