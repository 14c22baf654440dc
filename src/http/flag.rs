//! `Flag`: that a child has a plan. Clinicians search and read; an authority also writes its own.

use super::{
    answer::Answer,
    care_team::{self, PATIENT, PERIOD, REVINCLUDE, search_plans},
    clinical::{self, Asked},
    dispatch::Call,
    precondition::Current,
    refusal::{Case, Refusal},
    search::{
        Page, Parameter, Search, Searchset,
        page::{self, Row},
        parameter::{Definition, ID, LAST_UPDATED},
        result::{Total, searched_by},
    },
    upload,
};
use crate::{
    cpis::{
        own_record::OwnPlan,
        types::{
            ShownPlan,
            audit::{EntityRef, QueryResult},
            caller::Role,
        },
    },
    fhir::render::{self, View},
};

const SUBJECT: Parameter = Parameter { definition: Definition::R4("Flag-subject"), ..care_team::SUBJECT };

pub const PARAMETERS: &[Parameter] = searched_by![
    PATIENT,
    SUBJECT,
    ID,
    Parameter::token(
        "code",
        &["code"],
        Definition::England("England-FlagCode"),
        "child-protection-information-system-flag, or the kind of plan as a SNOMED CT code",
    ),
    Parameter::token("category", &["category"], Definition::England("England-FlagCategory"), "safety"),
    Parameter::token("status", &["status"], Definition::Own, "active or inactive")
        .one_of(&["active", "inactive"])
        .in_system("http://hl7.org/fhir/flag-status"),
    PERIOD,
    Parameter::reference("author", &["author"], Definition::R4("Flag-author"), "The authority: Organization/{ods}")
        .with_modifiers(&[":identifier", ".identifier", ":Organization", ":missing"]),
    Parameter::reference(
        "detail",
        &["extension.valueReference"],
        Definition::England("England-FlagDetail"),
        "What the flag points at: CarePlan/{id}",
    )
    .with_modifiers(&[":CarePlan", ":missing"]),
    Parameter::token(
        "identifier",
        &["identifier"],
        Definition::R4("Flag-identifier"),
        "The authority's own id of the plan. For authorities",
    ),
    LAST_UPDATED,
    Parameter::special(
        "_include",
        "Flag:patient or Flag:subject: the Patient; Flag:author: the Organization; Flag:detail: the CarePlan; then \
         CarePlan:care-team as _include:iterate: the CareTeam",
    )
    .with_modifiers(&[":iterate"])
    .one_of(&["Flag:patient", "Flag:subject", "Flag:author", "Flag:detail", "CarePlan:care-team"]),
    REVINCLUDE,
];

/// What names a plan in a conditional interaction.
pub const CRITERIA: &[Parameter] = &[
    PATIENT.with_modifiers(&[":identifier", ".identifier"]),
    SUBJECT.with_modifiers(&[":identifier", ".identifier"]),
    Parameter::token(
        "identifier",
        &["identifier"],
        Definition::R4("Flag-identifier"),
        "The authority's own id of the plan",
    )
    .with_modifiers(&[]),
    Parameter::token("code", &["code"], Definition::England("England-FlagCode"), "SNOMED CT code of the plan type")
        .with_modifiers(&[]),
];

/// # Errors
/// [`Refusal`] by design 4.
pub async fn search(call: Call) -> Result<Answer, Refusal> {
    let search = Search::of(&call, "Flag", PARAMETERS)?;
    if call.caller.role == Role::LocalAuthority {
        return own_search(call, search).await;
    }
    call.query.only_for_others(&["identifier", "_lastUpdated"])?;
    search_plans(&call, search, |shown| render::flag(shown, View::Clinician).into()).await
}

/// An authority's own flags: of one child, or all of them page by page.
async fn own_search(call: Call, search: Search) -> Result<Answer, Refusal> {
    call.query.only_for_others(&["_revinclude"])?;
    call.query.known_only("_include", &OWN_INCLUDES)?;
    let (gateway, authority) = (&call.service.gateway, &call.caller.organization);
    let mut event = call.event();
    if let Some(number) = call.query.patient()? {
        let plans = gateway.own_plans_of(authority, number).await?;
        event.patient = Some(number);
        gateway.audit(event).await?;
        let mut set = Searchset::new(&call);
        beside(&mut set, &call, &search, &plans).await?;
        plans.iter().for_each(|shown| set.matched(Row::of(upload::owner_flag(&call.service, shown))));
        return Ok(Answer::ok(set.whole(&search)?));
    }
    search.sorts_only_by(&[])?;
    let fetch = async |place, limit| {
        let plans = gateway.own_plans(authority, place, limit).await?.ok_or_else(page::foreign_cursor)?;
        Ok(plans.into_iter().map(|shown| (shown.plan.id, shown)).collect::<Vec<_>>())
    };
    let flag = |shown: &ShownPlan| upload::owner_flag(&call.service, shown);
    let page = Page::read(&search, page::cursor(&call)?, &fetch, flag).await?;
    let counted = search.total == Total::Accurate || search.only_count();
    let total = if counted { Some(page::count(&search, &fetch, flag).await?) } else { None };
    let plans: Vec<ShownPlan> = page.rows.into_iter().map(|(_, shown)| shown).collect();
    event.result = Some(QueryResult::of(&plans, |shown| shown.plan.id.to_string()));
    gateway.audit(event).await?;
    let mut set = Searchset::new(&call);
    beside(&mut set, &call, &search, &plans).await?;
    plans.iter().for_each(|shown| set.matched(Row::of(flag(shown))));
    Ok(Answer::ok(set.page(&search, page.previous, page.next, total)?))
}

/// What an authority may have along: it reads no other form of a plan.
const OWN_INCLUDES: [&str; 3] = ["Flag:patient", "Flag:subject", "Flag:author"];

/// What an authority's flags refer to, if it is asked for: its own children, and itself.
async fn beside(set: &mut Searchset<'_>, call: &Call, search: &Search, plans: &[ShownPlan]) -> Result<(), Refusal> {
    if search.includes.is_empty() || plans.is_empty() {
        return Ok(());
    }
    let authority = &call.caller.organization;
    for shown in plans {
        if let Some(child) = call.service.gateway.own_child(authority, shown.nhs_number).await? {
            set.beside(Row::of(render::patient_for_owner(&child, &call.service.settings.base_url)));
        }
    }
    set.beside(Row::of(render::organization(authority)));
    Ok(())
}

/// # Errors
/// [`Refusal`] by design 4.
pub async fn read(call: Call) -> Result<Answer, Refusal> {
    if call.caller.role == Role::LocalAuthority {
        return own_read(call).await;
    }
    let found = clinical::look_up(&call, Asked::plan("Flag", &call)?).await?;
    let shown = clinical::named_plan(&call, found)?;
    Ok(Answer::ok(render::flag(&shown, View::Clinician)))
}

async fn own_read(call: Call) -> Result<Answer, Refusal> {
    let id = call.uuid()?;
    let shown = match call.service.gateway.own_plan(&call.caller.organization, id).await? {
        OwnPlan::Unknown => return Err(Refusal::not_found()),
        OwnPlan::Deleted => return Err(Refusal::new(Case::Gone, "This plan was deleted.")),
        OwnPlan::Held(shown) => shown,
    };
    let mut event = call.event();
    event.patient = Some(shown.nhs_number);
    let version = Some(shown.plan.version);
    event.entity = Some(EntityRef { resource: "Flag".to_owned(), id: call.id.clone(), version });
    call.service.gateway.audit(event).await?;
    let current = Current {
        resource: upload::owner_flag(&call.service, &shown),
        version: shown.plan.version,
        modified: upload::flag_modified(&call, &shown),
        settled: shown.settled,
    };
    Ok(Answer::read(&call, current))
}

/// # Errors
/// [`Refusal`] by design 4.
pub async fn create(call: Call) -> Result<Answer, Refusal> {
    upload::create_flag(call).await
}

/// # Errors
/// [`Refusal`] by design 4.
pub async fn update(call: Call) -> Result<Answer, Refusal> {
    upload::update_flag(call).await
}

/// # Errors
/// [`Refusal`] by design 4.
pub async fn update_by_criteria(call: Call) -> Result<Answer, Refusal> {
    upload::update_flag_by_criteria(call).await
}

/// # Errors
/// [`Refusal`] by design 4.
pub async fn delete_by_criteria(call: Call) -> Result<Answer, Refusal> {
    upload::delete_flag_by_criteria(call).await
}

/// # Errors
/// [`Refusal`] by design 4.
pub async fn delete(call: Call) -> Result<Answer, Refusal> {
    upload::delete_flag(call).await
}
