//! `Patient`: to a clinician a number that is on record, to an authority its own row.

use super::{
    answer::Answer,
    care_team::REVINCLUDE,
    clinical::{self, Asked},
    dispatch::Call,
    precondition::Current,
    query::{bad_value, identifier_value, nhs_number},
    refusal::{Case, Refusal},
    search::{
        Page, Parameter, Search, Searchset,
        page::{self, Row},
        parameter::{Definition, LAST_UPDATED},
        result::{Total, searched_by},
    },
    upload,
};
use crate::{
    cpis::{
        look_up::Subject,
        types::{
            NhsNumber,
            audit::{EntityRef, QueryResult},
            caller::Role,
            child::AuthorityChild,
        },
    },
    fhir::{render, resource::Resource, system},
};

pub const PARAMETERS: &[Parameter] = searched_by![
    Parameter::token(
        "identifier",
        &["identifier"],
        Definition::R4("Patient-identifier"),
        "NHS number, as https://fhir.nhs.uk/Id/nhs-number|{nhs}; for an authority also its own id of the child",
    )
    .with_modifiers(&[]),
    Parameter::token("_id", &["id"], Definition::R4("Resource-id"), "NHS number").with_modifiers(&[]),
    LAST_UPDATED,
    REVINCLUDE.one_of(&[
        "AuditEvent:patient",
        "AuditEvent:entity",
        "Flag:patient",
        "Flag:subject",
        "CarePlan:patient",
        "CarePlan:subject",
        "CareTeam:patient",
        "CareTeam:subject",
    ]),
];

/// What names a child in a conditional update.
pub const CRITERIA: &[Parameter] = &[Parameter::token(
    "identifier",
    &["identifier"],
    Definition::R4("Patient-identifier"),
    "NHS number, as https://fhir.nhs.uk/Id/nhs-number|{nhs}",
)
.with_modifiers(&[])];

/// # Errors
/// [`Refusal`] by design 4.
pub async fn search(call: Call) -> Result<Answer, Refusal> {
    let search = Search::of(&call, "Patient", PARAMETERS)?;
    if call.caller.role == Role::LocalAuthority {
        return own_search(call, search).await;
    }
    call.query.only_for_others(&["_lastUpdated"])?;
    let number = searched(&call)?.ok_or_else(|| {
        Refusal::new(
            Case::NhsNumber,
            "Invalid NHS number: none was given. Search by identifier=https://fhir.nhs.uk/Id/nhs-number|9990000018",
        )
    })?;
    let asked = Asked { subject: Subject::Number(number), entity: None, absent_is_not_found: false, by_setting: false };
    let found = clinical::look_up(&call, asked).await?;
    let mut set = Searchset::new(&call);
    if found.on_record() {
        set.matched(Row::of(clinical::patient(&call, &number, &found)));
    }
    if !search.includes.is_empty() {
        clinical::beside(&mut set, &call, &number, &found);
    }
    set.superseded(&found);
    Ok(Answer::ok(set.whole(&search)?))
}

/// An authority's own children: one by its number, or all of them page by page.
async fn own_search(call: Call, search: Search) -> Result<Answer, Refusal> {
    call.query.only_for_others(&["_revinclude"])?;
    let (gateway, authority) = (&call.service.gateway, &call.caller.organization);
    let base_url = call.service.settings.base_url.as_str();
    let mut event = call.event();
    let mut set = Searchset::new(&call);
    let by_local_id = call.query.values("identifier").any(|text| text.starts_with(&format!("{}|", system::LOCAL_ID)));
    if !by_local_id && let Some(number) = searched(&call)? {
        let child = gateway.own_child(authority, number).await?;
        event.patient = Some(number);
        gateway.audit(event).await?;
        if let Some(child) = &child {
            set.matched(Row::of(render::patient_for_owner(child, base_url)));
        }
        return Ok(Answer::ok(set.whole(&search)?));
    }
    search.sorts_only_by(&[])?;
    let fetch = async |place, limit| {
        let children = gateway.own_children(authority, place, limit).await?;
        Ok(children.into_iter().map(|child| (child.id, child)).collect::<Vec<_>>())
    };
    let patient = |child: &AuthorityChild| Resource::from(render::patient_for_owner(child, base_url));
    let page = Page::read(&search, page::cursor(&call)?, &fetch, patient).await?;
    let counted = search.total == Total::Accurate || search.only_count();
    let total = if counted { Some(page::count(&search, &fetch, patient).await?) } else { None };
    event.result = Some(QueryResult::of(&page.rows, |(_, child)| child.nhs_number.as_str().to_owned()));
    gateway.audit(event).await?;
    page.rows.iter().for_each(|(_, child)| set.matched(Row::of(patient(child))));
    Ok(Answer::ok(set.page(&search, page.previous, page.next, total)?))
}

/// The one number that the search names.
fn searched(call: &Call) -> Result<Option<NhsNumber>, Refusal> {
    let identifier = call.query.single("identifier")?.map(|text| identifier_value("identifier", text)).transpose()?;
    let number = match (identifier, call.query.single("_id")?) {
        (Some(_), Some(_)) => {
            return Err(bad_value("_id", "can't be combined with identifier: please give one of them"));
        }
        (Some(text), None) | (None, Some(text)) => text,
        (None, None) => return Ok(None),
    };
    if number.contains(',') {
        return Err(bad_value("identifier", "may name one patient only: please make one search for each"));
    }
    nhs_number(number).map(Some)
}

/// # Errors
/// [`Refusal`] by design 4.
pub async fn read(call: Call) -> Result<Answer, Refusal> {
    let number = nhs_number(&call.id)?;
    if call.caller.role == Role::LocalAuthority {
        return own(call, number).await;
    }
    let found = clinical::look_up(&call, Asked::read("Patient", &call.id, Subject::Number(number))).await?;
    Ok(Answer::ok(clinical::patient(&call, &number, &found)))
}

async fn own(call: Call, number: NhsNumber) -> Result<Answer, Refusal> {
    let child = call.service.gateway.own_child(&call.caller.organization, number).await?;
    let child = child.ok_or_else(Refusal::not_found)?;
    let mut event = call.event();
    event.patient = Some(number);
    let version = Some(child.version);
    event.entity = Some(EntityRef { resource: "Patient".to_owned(), id: call.id.clone(), version });
    call.service.gateway.audit(event).await?;
    let current = Current {
        resource: render::patient_for_owner(&child, &call.service.settings.base_url).into(),
        version: child.version,
        modified: child.modified(),
        // A number that becomes inactive, or valid again, makes no version of what the authority sent.
        settled: child.inactive.is_none(),
    };
    Ok(Answer::read(&call, current))
}

/// # Errors
/// [`Refusal`] by design 4; 422 with the CPR code for what breaks a CP-IS rule.
pub async fn update(call: Call) -> Result<Answer, Refusal> {
    let number = nhs_number(&call.id)?;
    upload::patient(call, number).await
}

/// # Errors
/// [`Refusal`] by design 4; 422 with the CPR code for what breaks a CP-IS rule.
pub async fn update_by_criteria(call: Call) -> Result<Answer, Refusal> {
    let number = searched(&call)?.ok_or_else(|| {
        let text = "Invalid NHS number: none was given. Name the child by identifier=https://fhir.nhs.uk/Id/nhs-number|9990000018";
        Refusal::new(Case::NhsNumber, text)
    })?;
    upload::patient_by_criteria(call, number).await
}
