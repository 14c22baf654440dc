//! `vread` and `_history` of one resource and of a type (<https://hl7.org/fhir/R4/http.html#history>): Flag and Patient of
//! an authority to itself, Organization to everybody.
//!
//! **Deleted.** R4 shows a delete as an entry with `request.method` DELETE and no resource, and so does this; that the owner
//! sees `entered-in-error` (design 2) is said in the entry's `response.outcome`. The versions before it stay readable, a
//! `vread` of the deleting one is 410.
//!
//! **Pages** go down the numbers of the versions, so what is recorded meanwhile moves none. To follow an authority's
//! changes, ask again with `_since` = the newest `lastUpdated` seen: versions are recorded in the order of their instants,
//! and one that may yet count holds back those above it (`store/history.rs`).

use actix_web::http::StatusCode;
use chrono::DateTime;
use serde::{Deserialize, Serialize};

use super::{
    answer::Answer,
    dispatch::Call,
    organization,
    query::{Query, bad_value, nhs_number},
    refusal::{Case, Refusal},
    search::{
        Parameter,
        date::{DateFault, DateTest},
        page,
        result::{COUNT, CURSOR, page_count},
        searchset::{links, self_link},
    },
};
use crate::{
    cpis::{
        types::{
            OdsCode,
            audit::{EntityRef, QueryResult, Span},
            history::{HistoryAsked, HistoryPage},
        },
        versions::{Version, VersionContent, Versioned, VersionedType},
    },
    fhir::{
        date::is_instant,
        outcome::{self, IssueCode},
        render::{self, View},
        resource::{Bundle, BundleEntry, BundleEntryRequest, BundleEntryResponse, Resource},
    },
};

pub const PARAMETERS: &[Parameter] = &[
    Parameter::special("_since", "Versions recorded at this instant or later"),
    Parameter::special("_at", "Versions that were current at some point in this time: a date, dateTime or instant"),
    COUNT,
    CURSOR,
];

/// Where a page begins; `top` is the newest version that the first page of an instance knew of, so that its total stays.
#[derive(Serialize, Deserialize)]
struct Cursor {
    below: i64,
    top: Option<i64>,
}

/// # Errors
/// [`Refusal`] by design 4; 410 for the version that says that a plan was deleted.
pub async fn vread(call: Call) -> Result<Answer, Refusal> {
    let versioned = versioned(&call)?;
    let number = version_number(&call.vid)?;
    let version = call.service.gateway.version(&call.caller.organization, versioned, number).await?;
    let version = version.ok_or_else(Refusal::not_found)?;
    if version.deleted() {
        return Err(Refusal::new(Case::Gone, "This is the version with which the plan was deleted."));
    }
    let mut event = call.event();
    event.patient = version.patient();
    event.entity = Some(EntityRef { version: Some(number), ..entity(&call) });
    call.service.gateway.audit(event).await?;
    match &version.content {
        VersionContent::Organization(found) => Ok(organization::answered(&call, found)),
        _ => Ok(Answer::ok(rendered(&call, &version)).with_version(version.version(), version.recorded())),
    }
}

/// # Errors
/// [`Refusal`] by design 4.
pub async fn of_instance(call: Call) -> Result<Answer, Refusal> {
    let versioned = versioned(&call)?;
    let cursor = page::cursor(&call)?;
    let asked = asked(&call, cursor.as_ref())?;
    let found = call.service.gateway.history(&call.caller.organization, versioned, asked).await?;
    let found = found.ok_or_else(Refusal::not_found)?;
    let mut event = call.event();
    event.patient = found.patient;
    event.entity = Some(entity(&call));
    call.service.gateway.audit(event).await?;
    let top = asked.top.or_else(|| found.page.versions.first().map(Version::version));
    let mut bundle = bundle(&call, &found.page, top)?;
    bundle.total = u64::try_from(found.total).ok();
    Ok(Answer::ok(bundle))
}

/// # Errors
/// [`Refusal`] by design 4.
pub async fn of_type(call: Call) -> Result<Answer, Refusal> {
    let of = match call.resource {
        "Flag" => VersionedType::Flag,
        "Patient" => VersionedType::Patient,
        "Organization" => VersionedType::Organization,
        _ => return Err(Refusal::not_found()),
    };
    let cursor = page::cursor(&call)?;
    let asked = asked(&call, cursor.as_ref())?;
    let page = call.service.gateway.history_of_type(&call.caller.organization, of, asked).await?;
    let mut event = call.event();
    event.result = Some(QueryResult::of(&page.versions, |version| {
        let (_, id) = named(version);
        format!("{id}/_history/{}", version.version())
    }));
    call.service.gateway.audit(event).await?;
    Ok(Answer::ok(bundle(&call, &page, None)?))
}

/// The resource that the path names.
fn versioned(call: &Call) -> Result<Versioned, Refusal> {
    match call.resource {
        "Flag" => Ok(Versioned::Flag(call.uuid()?)),
        "Patient" => Ok(Versioned::Patient(nhs_number(&call.id)?)),
        "Organization" => OdsCode::parse(&call.id).map(Versioned::Organization).map_err(|_| Refusal::not_found()),
        _ => Err(Refusal::not_found()),
    }
}

fn entity(call: &Call) -> EntityRef {
    EntityRef { resource: call.resource.to_owned(), id: call.id.clone(), version: None }
}

/// A version as this server spells it: another spelling is another one, which is not there.
fn version_number(vid: &str) -> Result<i64, Refusal> {
    vid.parse::<i64>().ok().filter(|number| number.to_string() == vid).ok_or_else(Refusal::not_found)
}

fn asked(call: &Call, cursor: Option<&Cursor>) -> Result<HistoryAsked, Refusal> {
    let at = at(call)?;
    Ok(HistoryAsked {
        since_ms: since(&call.query)?,
        from_ms: Some(at.from_ms).filter(|from| *from > i64::MIN),
        before_ms: Some(at.before_ms).filter(|before| *before < i64::MAX),
        below: cursor.map(|cursor| cursor.below),
        top: cursor.and_then(|cursor| cursor.top),
        limit: page_count(&call.query)?,
    })
}

/// The first whole millisecond of `_since`.
fn since(query: &Query) -> Result<Option<i64>, Refusal> {
    let Some(text) = query.single("_since")? else { return Ok(None) };
    let refused = || bad_value("_since", "must be an instant with its offset, such as 2026-11-23T12:00:00.000Z");
    // A plus sign in a query is a space; an offset is meant.
    let text = text.replace(' ', "+");
    let at = if is_instant(&text) { DateTime::parse_from_rfc3339(&text).ok() } else { None };
    let at = at.ok_or_else(refused)?;
    let begun = i64::from(at.timestamp_subsec_nanos() % 1_000_000 > 0);
    Ok(Some(at.timestamp_millis().saturating_add(begun)))
}

/// The time of `_at`: one stretch, so `ne` is none.
fn at(call: &Call) -> Result<Span, Refusal> {
    let Some(text) = call.query.single("_at")? else { return Ok(Span::ALWAYS) };
    let gateway = &call.service.gateway;
    let refused = || bad_value("_at", "must be a date, dateTime or instant, such as 2026-11-23");
    let test = DateTest::parse(text, &gateway.calendar, gateway.clock.now()).map_err(|fault| match fault {
        DateFault::Prefix => bad_value("_at", "has a prefix that is not known").with_code(IssueCode::NotSupported),
        DateFault::Value => refused(),
    })?;
    match test.instants().as_slice() {
        [span] => Ok(*span),
        _ => Err(refused()),
    }
}

/// The one place that makes a Bundle of type `history`, newest first.
fn bundle(call: &Call, page: &HistoryPage<Version>, top: Option<i64>) -> Result<Bundle, Refusal> {
    let link = self_link(&call.service, &call.path_and_query, &call.query);
    let mut bundle = Bundle::history(&link, page.versions.iter().map(|version| entry(call, version)).collect());
    let next = page.next.map(|below| Cursor { below, top });
    bundle.link.extend(links(&call.into(), None, next.as_ref())?);
    Ok(bundle)
}

fn entry(call: &Call, version: &Version) -> BundleEntry {
    let (resource_type, id) = named(version);
    let reference = format!("{resource_type}/{id}");
    let first = version.version() == 1;
    let (method, status) = match (&version.content, version.deleted(), first) {
        (_, true, _) => ("DELETE", StatusCode::NO_CONTENT),
        // A plan gets its id here; a Patient and an Organization bring theirs.
        (VersionContent::Plan(_), _, true) => ("POST", StatusCode::CREATED),
        (_, _, true) => ("PUT", StatusCode::CREATED),
        (_, _, false) => ("PUT", StatusCode::OK),
    };
    let url = if method == "POST" { resource_type.to_owned() } else { reference.clone() };
    let resource = (!version.deleted()).then(|| rendered(call, version));
    // The same as in the resource, which may say that its plan has ended since.
    let modified = match &resource {
        Some(Resource::Flag(flag)) => flag.meta.as_ref().and_then(|meta| meta.last_updated.clone()),
        _ => Some(version.recorded().into()),
    };
    BundleEntry {
        full_url: Some(format!("{}/{reference}", call.service.settings.base_url)),
        resource,
        request: Some(BundleEntryRequest { method: method.to_owned(), url, ..BundleEntryRequest::default() }),
        response: Some(BundleEntryResponse {
            status: status.to_string(),
            etag: Some(format!("W/\"{}\"", version.version())),
            last_modified: modified,
            outcome: version.deleted().then(|| outcome::deleted_plan().into()),
            ..BundleEntryResponse::default()
        }),
        ..BundleEntry::default()
    }
}

/// Type and id.
fn named(version: &Version) -> (&'static str, String) {
    match &version.content {
        VersionContent::Plan(shown) => ("Flag", shown.plan.id.to_string()),
        VersionContent::Child(child) => ("Patient", child.nhs_number.as_str().to_owned()),
        VersionContent::Organization(organization) => ("Organization", organization.ods.as_str().to_owned()),
    }
}

fn rendered(call: &Call, version: &Version) -> Resource {
    match &version.content {
        VersionContent::Plan(shown) => {
            let view = View::Owner { now: version.as_at, zone: call.service.gateway.calendar.zone() };
            render::flag(shown, view).into()
        }
        VersionContent::Child(child) => render::patient_for_owner(child, &call.service.settings.base_url).into(),
        VersionContent::Organization(organization) => render::organization(organization).into(),
    }
}
