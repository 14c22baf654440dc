//! How the changes of one record stand to each other and to the plans that stay: no plan twice, none that overlaps an
//! open one, none that a later upload couldn't tell from another (design 6).

use std::collections::HashMap;

use chrono::NaiveDate;
use uuid::Uuid;

use super::{
    judge::StoredRecord,
    meant::{Facts, Resolved, Target, rule},
};
use crate::cpis::{
    limits::Limits,
    types::{
        LocalPlanId, PlanPeriod, PlanType,
        upload::{PlanAction, PlanChange, Problem},
    },
    visibility::effective_end,
};

/// At most one CPP and one LAC is put per record; deletes don't count.
pub(super) fn one_put_per_type(
    changes: &[PlanChange],
    type_of: impl Fn(&PlanChange) -> Option<PlanType>,
) -> Vec<Problem> {
    let mut problems = Vec::new();
    for plan_type in [PlanType::ChildProtection, PlanType::LookedAfter] {
        let puts = changes.iter().filter(|change| matches!(change.action, PlanAction::Put { .. }));
        let of_type: Vec<&PlanChange> = puts.filter(|change| type_of(change) == Some(plan_type)).collect();
        if of_type.len() > 1 {
            let reason = "A record holds at most one plan of this type. Send one now, the others separately.";
            problems.extend(of_type.into_iter().map(|change| rule(change, "code", reason)));
        }
    }
    problems
}

/// No two changes of a record may mean the same plan.
pub(super) fn each_plan_once(changes: &[Resolved<'_>]) -> Vec<Problem> {
    let mut meant: HashMap<Uuid, usize> = HashMap::new();
    for plan in changes.iter().filter_map(|resolved| resolved.target.plan()) {
        *meant.entry(plan.id).or_default() += 1;
    }
    changes
        .iter()
        .filter(|resolved| resolved.target.plan().is_some_and(|plan| meant.get(&plan.id).is_some_and(|n| *n > 1)))
        .map(|resolved| rule(resolved.change, "", "Two entries of this record mean the same plan. Send it once."))
        .collect()
}

/// A record that deletes a plan and sends it again under the same key would do so each time that it is sent.
pub(super) fn no_delete_and_put_of_one_key(changes: &[Resolved<'_>]) -> Vec<Problem> {
    let mut problems = Vec::new();
    for delete in changes.iter().filter(|resolved| !resolved.is_put()) {
        for put in changes.iter().filter(|other| other.result.as_ref().is_some_and(|result| delete.names(result))) {
            let reason = "This record both deletes and sends the same plan. Send only one of the two.";
            problems.push(rule(delete.change, "", reason));
            problems.push(rule(put.change, "", reason));
        }
    }
    problems
}

/// A plan as it will be once the record is applied.
struct Standing<'a> {
    /// The change that makes it so, `None` for one that the record doesn't touch.
    by: Option<&'a Resolved<'a>>,
    facts: Facts,
    /// The local id by which the next upload would name it.
    named: Option<LocalPlanId>,
}

/// Judges what the record creates or changes against the plans as they will stand.
pub(super) fn among_plans(
    changes: &[Resolved<'_>],
    stored: &StoredRecord,
    today: NaiveDate,
    limits: &Limits,
) -> Vec<Problem> {
    let touched: Vec<Uuid> = changes.iter().filter_map(|resolved| resolved.target.plan()).map(|plan| plan.id).collect();
    let untouched = stored
        .plans
        .iter()
        .filter(|plan| !plan.deleted && !touched.contains(&plan.id))
        .map(|plan| Standing { by: None, facts: Facts::from(plan), named: plan.local_id.clone() });
    let put = changes.iter().filter_map(|resolved| {
        let facts = resolved.result.clone()?;
        let named = match resolved.content_key() {
            Some(key) => key.local_id.cloned(),
            None => facts.local_id.clone(),
        };
        Some(Standing { by: Some(resolved), facts, named })
    });
    let standing: Vec<Standing<'_>> = untouched.chain(put).collect();

    let mut problems = Vec::new();
    for plan in &standing {
        let Some(resolved) = plan.by.filter(|resolved| !resolved.is_unchanged()) else { continue };
        let others = standing.iter().filter(|other| !std::ptr::eq(*other, plan));
        let of_type = others.filter(|other| other.facts.plan_type == plan.facts.plan_type);
        problems.extend(of_type.filter_map(|other| clash(resolved, plan, other, today, limits)));
    }
    problems
}

fn clash(
    resolved: &Resolved<'_>,
    plan: &Standing<'_>,
    other: &Standing<'_>,
    today: NaiveDate,
    limits: &Limits,
) -> Option<Problem> {
    let refuse = |element, reason: &str| Some(rule(resolved.change, element, reason));
    if plan.facts.local_id.is_some() && plan.facts.local_id == other.facts.local_id {
        return refuse("identifier", "Another plan of this type has the same local id.");
    }
    let unborn = plan.facts.plan_type == PlanType::Unborn;
    let same_start = plan.facts.period.start() == other.facts.period.start();
    if same_start && (plan.named.is_none() || other.named.is_none()) {
        let reason = "Another plan of this type has the same start: each of the two needs a local id of its own.";
        return refuse("identifier", if unborn { SECOND_UNBORN } else { reason });
    }
    let is_open = effective_end(other.facts.plan_type, &other.facts.period, limits).is_none_or(|end| today <= end);
    if !is_open || !overlap(&plan.facts, &other.facts, limits) {
        return None;
    }
    if unborn {
        let is_new = matches!(resolved.target, Target::New);
        return if is_new && plan.named.is_none() { refuse("identifier", SECOND_UNBORN) } else { None };
    }
    // An ended plan may overlap one that began before its end was sent; correcting it must stay possible.
    let overlapped_before = resolved.target.plan().is_some_and(|before| before.period.overlaps(&other.facts.period));
    let stays_ended = plan.facts.period.end().is_some_and(|end| end < today);
    if overlapped_before && stays_ended {
        return None;
    }
    let reason = format!(
        "This plan overlaps the plan that started {}. Send the end of that one first, or correct the dates.",
        other.facts.period.start()
    );
    refuse("period", &reason)
}

const SECOND_UNBORN: &str = "A second plan for an unborn child needs a local id of its own.";

fn overlap(one: &Facts, other: &Facts, limits: &Limits) -> bool {
    let effective =
        |facts: &Facts| PlanPeriod::new(facts.period.start(), effective_end(facts.plan_type, &facts.period, limits));
    match (effective(one), effective(other)) {
        (Some(one), Some(other)) => one.overlaps(&other),
        _ => false,
    }
}
