//! `Organization`: public facts of local authorities and care providers; an authority keeps its own up to date.

use super::{
    answer::Answer,
    clinical::Searchset,
    dispatch::Call,
    paging::{self, COUNT, CURSOR},
    precondition::Current,
    query::{Parameter, bad_value},
    refusal::{Case, Refusal},
    upload::{self, body, loaded_organization, preference, reading, refused, written},
};
use crate::{
    cpis::{
        organizations::{Registered, Registration},
        types::{
            OdsCode, Organization,
            audit::{EntityRef, QueryResult},
            caller::Role,
            organization::OrganizationSearch,
        },
        upload::apply::{Change, LoadedOrganization},
    },
    fhir::{
        outcome::{self, IssueCode},
        render,
        resource::Resource,
        system,
        upload::{problem_issue, read_any_organization},
    },
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
        resource: shown(&call, &organization),
        version: organization.version,
        modified: organization.updated,
        settled: true,
    };
    // Public facts may be kept, if they are asked for again before they are used.
    Ok(Answer::read(&call, current).with_header("Cache-Control", "no-cache"))
}

/// To an administrator with the codes that only administrators set.
fn shown(call: &Call, organization: &Organization) -> Resource {
    if call.caller.role == Role::Administrator {
        return render::classified_organization(organization, &call.service.settings.base_url).into();
    }
    render::organization(organization).into()
}

/// An authority's own details, or an administrator's registration of any organisation.
///
/// # Errors
/// [`Refusal`] by design 4.
pub async fn update(call: Call) -> Result<Answer, Refusal> {
    if call.caller.role != Role::Administrator {
        return upload::organization(call).await;
    }
    let text = "Name the organisation by its ODS code: 3 to 10 capital letters and digits.";
    let ods = OdsCode::parse(&call.id).map_err(|_| Refusal::new(Case::Parameter, text).with_code(IssueCode::Value))?;
    let asked = Registration::Put(call.precondition()?);
    register(call, Some(ods), asked).await
}

/// Registers an organisation; its id is its ODS code.
///
/// # Errors
/// [`Refusal`] by design 4; 409 for one that is there.
pub async fn create(call: Call) -> Result<Answer, Refusal> {
    call.without_criteria()?;
    register(call, None, Registration::Create).await
}

async fn register(call: Call, id: Option<OdsCode>, asked: Registration) -> Result<Answer, Refusal> {
    let preference = preference(&call)?;
    let sent = read_any_organization(&body(&call)?, id.as_ref(), &reading(&call)).map_err(refused)?;
    let mut event = call.event();
    let entity = EntityRef { resource: "Organization".to_owned(), id: sent.ods.as_str().to_owned(), version: None };
    event.entity = Some(entity);
    match call.service.gateway.register_organization(sent, asked, event).await? {
        Registered::Done(organization, change) => {
            let loaded = loaded_organization(&LoadedOrganization { organization: *organization.clone(), change });
            let told = match change {
                Change::Created => "The organisation is registered.",
                Change::Updated => "The organisation is changed.",
                _ => "The organisation is as it was.",
            };
            let told = outcome::information(told);
            Ok(written(&call, &loaded, shown(&call, &organization), told, preference))
        }
        Registered::Exists => {
            Err(Refusal::new(Case::Race, "There is an organisation with this ODS code. Update it by PUT."))
        }
        Registered::Unmet(condition) => Err(Refusal::new(Case::Version, condition.unmet())),
        Registered::Refused(problems) => {
            Err(refused(problems.iter().map(|problem| problem_issue(problem, "Organization")).collect()))
        }
    }
}
