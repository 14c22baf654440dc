//! `Organization`: public facts of local authorities and care providers; an authority keeps its own up to date.

use actix_web::http::StatusCode;

use super::{
    answer::Answer,
    dispatch::Call,
    refusal::Refusal,
    search::{
        Page, Parameter, Search, Searchset,
        criterion::{Asked, Wanted},
        page::{self, Place, Row},
        parameter::{Definition, ID, LAST_UPDATED},
        result::{COUNT, CURSOR, ELEMENTS, SORT, SUMMARY, TOTAL, Total},
    },
    upload,
};
use crate::{
    cpis::types::{
        self, OdsCode,
        audit::{EntityRef, QueryResult},
        organization::{NamePart, OrganizationSearch},
    },
    fhir::{render, resource::Resource},
};

pub const PARAMETERS: &[Parameter] = &[
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
    SORT,
    COUNT,
    TOTAL,
    SUMMARY,
    ELEMENTS,
    CURSOR,
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
    let start: Option<Place<(String, i64)>> = page::cursor(&call.query)?;
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
    let unchanged = call.header("if-none-match").is_some_and(|tags| {
        tags.split(',')
            .any(|tag| tag.trim().trim_start_matches("W/").trim_matches('"') == organization.version.to_string())
    });
    let answer = if unchanged {
        Answer::empty(StatusCode::NOT_MODIFIED)
    } else {
        Answer::ok(render::organization(organization))
    };
    // Public facts may be kept, if they are asked for again before they are used.
    let answer = answer.with_header("Cache-Control", "no-cache");
    answer.with_version(organization.version, organization.updated)
}

/// # Errors
/// [`Refusal`] by design 4.
pub async fn update(call: Call) -> Result<Answer, Refusal> {
    upload::organization(call).await
}
