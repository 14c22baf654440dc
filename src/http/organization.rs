//! `Organization`: public facts of local authorities and care providers; an authority keeps its own up to date.

use super::{
    answer::Answer,
    dispatch::Call,
    precondition::Current,
    refusal::{Case, Refusal},
    search::{
        Page, Parameter, Search, Searchset,
        criterion::{Asked, Wanted},
        page::{self, Place, Row},
        parameter::{Definition, ID, LAST_UPDATED},
        result::{Total, searched_by},
    },
    upload::{self, body, loaded_organization, preference, reading, refused, written},
};
use crate::{
    cpis::{
        organizations::{Registered, Registration},
        types::{
            self, OdsCode, Organization,
            audit::{EntityRef, QueryResult},
            caller::Role,
            organization::{NamePart, OrganizationSearch},
        },
        upload::answer::{Change, LoadedOrganization},
    },
    fhir::{
        outcome::{self, IssueCode},
        render,
        resource::Resource,
        upload::{problem_issue, read_any_organization},
    },
};

pub const PARAMETERS: &[Parameter] = searched_by![
    Parameter::token(
        "identifier",
        &["identifier"],
        Definition::R4("Organization-identifier"),
        "ODS code, as https://fhir.nhs.uk/Id/ods-organization-code|{ods}",
    ),
    ID,
    Parameter::string(
        "name",
        &["name"],
        Definition::R4("Organization-name"),
        "Beginning of the name; case and accents don't count",
    ),
    Parameter::token("active", &["active"], Definition::R4("Organization-active"), "true or false")
        .one_of(&["true", "false"]),
    Parameter::token(
        "type",
        &["type"],
        Definition::R4("Organization-type"),
        "govt (an authority) or prov (a provider of care)",
    ),
    Parameter::reference(
        "partof",
        &["partOf"],
        Definition::R4("Organization-partof"),
        "The organisation that a site belongs to",
    )
    .with_modifiers(&[":identifier", ".identifier", ":Organization", ":missing"]),
    LAST_UPDATED,
    Parameter::special("_include", "Organization:partof: the organisation that a site belongs to")
        .with_modifiers(&[":iterate"])
        .one_of(&["Organization:partof"]),
];

/// # Errors
/// [`Refusal`] by design 4.
pub async fn search(call: Call) -> Result<Answer, Refusal> {
    let search = Search::of(&call, "Organization", PARAMETERS)?;
    search.sorts_only_by(&["name"])?;
    let descending = search.sorted_by().iter().any(|(_, descending)| *descending);
    let gateway = &call.service.gateway;
    let narrowed = narrowed(&search);
    let fetch = async |place, limit: usize| {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let found = gateway.organizations(narrowed.clone(), place, descending, limit).await?;
        Ok(found.into_iter().map(|(name, organization)| ((name, organization.id), organization)).collect::<Vec<_>>())
    };
    let rendered = |organization: &types::Organization| Resource::from(render::organization(organization));
    let start: Option<Place<(String, i64)>> = page::cursor(&call)?;
    let page = Page::read(&search, start, &fetch, rendered).await?;
    let counted = search.total == Total::Accurate || search.only_count();
    let total = if counted { Some(page::count(&search, &fetch, rendered).await?) } else { None };
    let mut event = call.event();
    event.result = Some(QueryResult::of(&page.rows, |(_, found)| found.ods.as_str().to_owned()));
    gateway.audit(event).await?;
    let mut set = Searchset::new(&call);
    for (_, organization) in &page.rows {
        set.matched(Row::of(render::organization(organization)));
        let part_of = organization.part_of.clone().filter(|_| !search.includes.is_empty());
        if let Some(whole) = match part_of {
            Some(ods) => gateway.organization(ods).await?,
            None => None,
        } {
            set.beside(Row::of(render::organization(&whole)));
        }
    }
    Ok(Answer::ok(set.page(&search, page.previous, page.next, total)?))
}

/// What the store can narrow the search down by; every row is judged by all criteria afterwards.
fn narrowed(search: &Search) -> OrganizationSearch {
    let mut narrowed = OrganizationSearch::default();
    for criterion in &search.criteria {
        let Asked::AnyOf(wanted) = &criterion.asked else { continue };
        let codes = || {
            wanted.iter().filter_map(|wanted| match wanted {
                Wanted::Token { code, .. } => code.as_deref(),
                _ => None,
            })
        };
        match criterion.parameter.name {
            "identifier" | "_id" if codes().count() == wanted.len() => {
                narrowed.ods = Some(codes().filter_map(|code| OdsCode::parse(code).ok()).collect());
            }
            "name" => {
                let parts = wanted.iter().filter_map(|wanted| match wanted {
                    Wanted::Beginning(text) => Some(NamePart::Beginning(text.clone())),
                    Wanted::Part(text) => Some(NamePart::Anywhere(text.clone())),
                    Wanted::Exact(text) => Some(NamePart::Beginning(types::organization::searchable(text))),
                    _ => None,
                });
                narrowed.name = Some(parts.collect());
            }
            "active" => {
                let wanted: Vec<&str> = codes().collect();
                narrowed.active = if let [only] = wanted[..] { Some(only == "true") } else { None };
            }
            _ => {}
        }
    }
    narrowed
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
    Ok(answered(&call, &organization))
}

/// A version of an organisation, or 304 to who has it.
pub fn answered(call: &Call, organization: &types::Organization) -> Answer {
    let current = Current {
        resource: shown(call, organization),
        version: organization.version,
        modified: organization.updated,
        settled: true,
    };
    // Public facts may be kept, if they are asked for again before they are used.
    Answer::read(call, current).with_header("Cache-Control", "no-cache")
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
    call.without_version()?;
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
