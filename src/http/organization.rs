//! `Organization`: public facts of local authorities and care providers; an authority keeps its own up to date.

use super::{
    answer::Answer,
    clinical::Searchset,
    dispatch::Call,
    paging::{self, COUNT, CURSOR},
    precondition::Current,
    query::{Parameter, bad_value},
    refusal::Refusal,
    upload,
};
use crate::{
    cpis::types::{
        OdsCode,
        audit::{EntityRef, QueryResult},
        organization::OrganizationSearch,
    },
    fhir::{render, system},
};

pub const PARAMETERS: &[Parameter] = &[
    Parameter::new("identifier", "token", "ODS code, as https://fhir.nhs.uk/Id/ods-organization-code|{ods}"),
    Parameter::new("_id", "token", "ODS code"),
    Parameter::new("name", "string", "Beginning of the name, any case"),
    Parameter::new("active", "token", "true or false"),
    COUNT,
    CURSOR,
];

/// # Errors
/// [`Refusal`] by design 4.
pub async fn search(call: Call) -> Result<Answer, Refusal> {
    let count = paging::count(&call.query)?;
    let (mut found, total) = call.service.gateway.organizations(wanted(&call)?, count + 1).await?;
    let more = paging::cut(&mut found, count);
    let mut event = call.event();
    event.result = Some(QueryResult::of(&found, |organization| organization.ods.as_str().to_owned()));
    call.service.gateway.audit(event).await?;
    let mut set = Searchset::new(&call);
    for organization in &found {
        set.matched(render::organization(organization));
    }
    let mut bundle = set.finish();
    bundle.total = u64::try_from(total).ok();
    if let Some(last) = found.last().filter(|_| more) {
        paging::link_next(&mut bundle, &call, &last.id)?;
    }
    Ok(Answer::ok(bundle))
}

fn wanted(call: &Call) -> Result<OrganizationSearch, Refusal> {
    let code = |name: &str, text: &str| {
        OdsCode::parse(text).map_err(|_| bad_value(name, "must be an ODS code: 3 to 10 capital letters and digits"))
    };
    let identifier = match call.query.single("identifier")? {
        None => None,
        Some(text) => {
            let value = match text.split_once('|') {
                None => text,
                Some((system, value)) if system == system::ODS_CODE => value,
                Some(_) => {
                    return Err(bad_value(
                        "identifier",
                        "must be of the system https://fhir.nhs.uk/Id/ods-organization-code",
                    ));
                }
            };
            Some(code("identifier", value)?)
        }
    };
    let id = call.query.single("_id")?.map(|text| code("_id", text)).transpose()?;
    let ods = match (identifier, id) {
        (Some(a), Some(b)) if a != b => return Err(bad_value("_id", "names another organisation than identifier")),
        (a, b) => a.or(b),
    };
    let active = match call.query.single("active")? {
        None => None,
        Some("true") => Some(true),
        Some("false") => Some(false),
        Some(_) => return Err(bad_value("active", "must be true or false")),
    };
    let name = call.query.single("name")?.map(str::to_owned);
    Ok(OrganizationSearch { ods, name, active, after_id: paging::cursor(&call.query)? })
}

/// # Errors
/// [`Refusal`] by design 4.
pub async fn read(call: Call) -> Result<Answer, Refusal> {
    let ods = OdsCode::parse(&call.id).map_err(|_| Refusal::not_found())?;
    let organization = call.service.gateway.organization(ods).await?.ok_or_else(Refusal::not_found)?;
    let mut event = call.event();
    let version = Some(organization.version);
    event.entity = Some(EntityRef { resource: "Organization".to_owned(), id: call.id.clone(), version });
    call.service.gateway.audit(event).await?;
    let current = Current {
        resource: render::organization(&organization).into(),
        version: organization.version,
        modified: organization.updated,
        settled: true,
    };
    // Public facts may be kept, if they are asked for again before they are used.
    Ok(Answer::read(&call, current).with_header("Cache-Control", "no-cache"))
}

/// # Errors
/// [`Refusal`] by design 4.
pub async fn update(call: Call) -> Result<Answer, Refusal> {
    upload::organization(call).await
}
