//! `AuditEvent`: the access history for clinicians, the accesses listed for an authority, the security audit for auditors.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{
    answer::Answer,
    care_team::PATIENT,
    clinical::{self, Asked},
    dispatch::Call,
    refusal::{Case, Refusal},
    search::{
        Page, Parameter, Place, Search, Searchset,
        criterion::{self, Wanted},
        date,
        include::NATIONAL,
        page::{self, Row},
        parameter::{Definition, ID},
        result::{Total, searched_by},
        searchset::history_of,
    },
};
use crate::{
    cpis::types::{
        access::{Access, SequenceRange},
        audit::{AuditRow, AuditSearch, EntityRef, QueryResult, Span},
        caller::Role,
    },
    fhir::{outcome::IssueCode, render, resource::Resource},
};

pub const PARAMETERS: &[Parameter] = searched_by![
    Parameter { paths: &["entity.what"], definition: Definition::R4("AuditEvent-patient"), ..PATIENT },
    ID,
    Parameter::date("date", &["recorded"], Definition::R4("AuditEvent-date"), "When it was recorded").with_modifiers(&[]),
    Parameter::token("action", &["action"], Definition::R4("AuditEvent-action"), "C, R, U, D or E")
        .with_modifiers(&[])
        .one_of(&["C", "R", "U", "D", "E"])
        .in_system("http://hl7.org/fhir/audit-event-action"),
    Parameter::token("outcome", &["outcome"], Definition::R4("AuditEvent-outcome"), "0 success, 4 refused, 8 failed")
        .with_modifiers(&[])
        .one_of(&["0", "4", "8", "12"])
        .in_system("http://hl7.org/fhir/audit-event-outcome"),
    Parameter::token("subtype", &["subtype"], Definition::R4("AuditEvent-subtype"), "FHIR interaction, such as read. For auditors")
        .with_modifiers(&[]),
    Parameter::reference("agent", &["agent.who"], Definition::R4("AuditEvent-agent"), "Who did it: PractitionerRole/{id}, or agent:identifier=system|value")
        .with_modifiers(&[":identifier", ".identifier", ":PractitionerRole"]),
    Parameter::reference("entity", &["entity.what"], Definition::R4("AuditEvent-entity"), "What it was about: Type/{id}")
        .with_modifiers(&[":identifier", ".identifier"]),
    Parameter::special(
        "_include",
        "AuditEvent:agent, or the national AuditEvent:entity-type=http://terminology.hl7.org/CodeSystem/v3-RoleClass|ASSIGNED; \
         an access always comes with its PractitionerRole. AuditEvent:patient: the Patient, for clinicians",
    )
    .with_modifiers(&[":iterate"])
    .one_of(&["AuditEvent:agent", "AuditEvent:entity", "AuditEvent:patient", NATIONAL]),
];

/// # Errors
/// [`Refusal`] by design 4.
pub async fn search(call: Call) -> Result<Answer, Refusal> {
    let search = Search::of(&call, "AuditEvent", PARAMETERS)?;
    match call.caller.role {
        Role::Auditor => security_audit(call, search).await,
        Role::LocalAuthority => listed_for_authority(call, search).await,
        Role::Clinical | Role::Administrator => history(call, search).await,
    }
}

/// The child's access history, at most 25, newest first.
async fn history(call: Call, search: Search) -> Result<Answer, Refusal> {
    call.query.only_for_others(&["subtype"])?;
    let number = call.query.required_patient()?;
    let found = clinical::look_up(&call, Asked::search(number)).await?;
    let mut set = Searchset::new(&call);
    history_of(&found).for_each(|row| set.matched(row));
    if !search.includes.is_empty() && found.on_record() {
        set.beside(Row::of(clinical::patient(&call, &number, &found)));
    }
    set.superseded(&found);
    Ok(Answer::ok(set.whole(&search)?))
}

/// Whether `_sort` asks for the oldest first; the order of the audit is that of its records.
fn oldest_first(search: &Search) -> Result<bool, Refusal> {
    search.sorts_only_by(&["date"])?;
    Ok(search.sorted_by().iter().any(|(_, descending)| !descending))
}

/// The accesses listed for the calling authority about one child.
async fn listed_for_authority(call: Call, search: Search) -> Result<Answer, Refusal> {
    call.query.only_for_others(&["subtype"])?;
    call.query.known_only("_include", &["AuditEvent:agent", "AuditEvent:entity", NATIONAL])?;
    let oldest_first = oldest_first(&search)?;
    let number = call.query.required_patient()?;
    let (gateway, authority) = (&call.service.gateway, &call.caller.organization);
    let fetch = async |place: Option<Place<i64>>, limit: usize| {
        let within = range(place.as_ref(), oldest_first);
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let found = gateway.listed_accesses(authority, number, within, limit).await?;
        Ok(found.into_iter().map(|access| (access.sequence, access)).collect::<Vec<_>>())
    };
    let event_of = |access: &Access| Resource::from(render::access_event(access, false).0);
    let page = Page::read(&search, page::cursor(&call)?, &fetch, event_of).await?;
    let total = if search.selects_all() {
        gateway.count_listed_accesses(authority, number).await?
    } else {
        page::count(&search, &fetch, event_of).await?
    };
    let mut event = call.event();
    event.patient = Some(number);
    gateway.audit(event).await?;
    let mut set = Searchset::new(&call);
    for (_, access) in &page.rows {
        let (event, role) = render::access_event(access, false);
        set.matched(Row::of(event).with(role));
    }
    Ok(Answer::ok(set.page(&search, page.previous, page.next, Some(total))?))
}

/// The rows after or before a place, where the order is the newest first unless turned round.
fn range(place: Option<&Place<i64>>, oldest_first: bool) -> SequenceRange {
    let backwards = matches!(place, Some(Place::Before(_)));
    let rising = oldest_first != backwards;
    let key = place.map(|place| *place.key().0);
    SequenceRange {
        above: if rising { key.unwrap_or(i64::MIN) } else { i64::MIN },
        below: if rising { i64::MAX } else { key.unwrap_or(i64::MAX) },
        oldest_first: rising,
    }
}

/// Where an auditor's next page begins: the marks of the first page, and the row to go on from.
#[derive(Serialize, Deserialize)]
struct AuditCursor {
    heads: Vec<(i64, i64)>,
    keys: Place<i64>,
}

async fn security_audit(call: Call, search: Search) -> Result<Answer, Refusal> {
    call.query.known_only("_include", &["AuditEvent:agent", "AuditEvent:entity", NATIONAL])?;
    let oldest_first = oldest_first(&search)?;
    let gateway = &call.service.gateway;
    let cursor: Option<AuditCursor> = page::cursor(&call)?;
    let (heads, start) = match cursor {
        Some(AuditCursor { heads, keys }) => (heads, Some(keys)),
        None => (gateway.audit_heads().await?, None),
    };
    let (mut narrowed, exact) = narrowed(&search);
    narrowed.patient = call.query.patient()?;
    narrowed.heads.clone_from(&heads);
    let fetch = async |place: Option<Place<i64>>, limit: usize| {
        let SequenceRange { above, below, oldest_first } = range(place.as_ref(), oldest_first);
        let asked = AuditSearch { above_id: Some(above), below_id: Some(below), oldest_first, ..narrowed.clone() };
        let rows = gateway.security_audit(asked, i64::try_from(limit).unwrap_or(i64::MAX)).await?;
        Ok(rows.into_iter().map(|row| (row.id, row)).collect::<Vec<_>>())
    };
    let base_url = &call.service.settings.base_url;
    let event_of = |row: &AuditRow| Resource::from(render::security_event(row, base_url));
    let counted = search.only_count() || narrowed.patient.is_some() || search.total == Total::Accurate;
    let total = match (counted, exact) {
        (false, _) => None,
        (true, true) => Some(gateway.count_security_audit(narrowed.clone()).await?),
        (true, false) if narrowed.patient.is_some() => Some(page::count(&search, &fetch, event_of).await?),
        (true, false) => {
            let text =
                "Counting these rows would take too long: name a patient, or leave agent, entity and the total out.";
            return Err(Refusal::new(Case::Parameter, text).with_code(IssueCode::TooCostly));
        }
    };
    let page = Page::read(&search, start, &fetch, event_of).await?;
    let mut event = call.event();
    event.patient = narrowed.patient;
    event.result = Some(QueryResult::of(&page.rows, |(_, row)| row.fhir_id()));
    gateway.audit(event).await?;
    let mut set = Searchset::new(&call);
    page.rows.iter().for_each(|(_, row)| set.matched(Row::of(event_of(row))));
    let cursor = |keys: Place<i64>| AuditCursor { heads: heads.clone(), keys };
    Ok(Answer::ok(set.page(&search, page.previous.map(cursor), page.next.map(cursor), total)?))
}

/// What the store can narrow the search down by, and whether nothing of it is left to be judged row by row.
fn narrowed(search: &Search) -> (AuditSearch, bool) {
    let mut narrowed = AuditSearch::default();
    let mut exact = true;
    for criterion in &search.criteria {
        let criterion::Asked::AnyOf(wanted) = &criterion.asked else {
            exact = false;
            continue;
        };
        let codes = || {
            wanted.iter().filter_map(|wanted| match wanted {
                Wanted::Token { system: None, code: Some(code) } => Some(code.clone()),
                _ => None,
            })
        };
        let plain = codes().count() == wanted.len();
        match criterion.parameter.name {
            "date" => {
                let instants = wanted.iter().flat_map(|wanted| match wanted {
                    Wanted::Date(test) => test.instants(),
                    _ => Vec::new(),
                });
                let known = narrowed.recorded.take().unwrap_or_else(|| vec![Span::ALWAYS]);
                narrowed.recorded = Some(date::intersection(&known, &instants.collect::<Vec<_>>()));
            }
            "_id" if plain && narrowed.ids.is_none() => {
                let ids = codes().filter_map(|code| code.split_once('-')?.1.parse().ok());
                narrowed.ids = Some(ids.collect());
                exact = false;
            }
            "action" if plain && narrowed.actions.is_empty() => narrowed.actions = codes().collect(),
            "outcome" if plain && narrowed.outcomes.is_empty() => narrowed.outcomes = codes().collect(),
            "subtype" if plain && narrowed.subtypes.is_empty() => narrowed.subtypes = codes().collect(),
            _ => exact = false,
        }
    }
    (narrowed, exact)
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
