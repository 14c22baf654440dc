//! Which plan a change means, within one authority, child and plan type (design 6).

use chrono::NaiveDate;
use uuid::Uuid;

use super::judge::StoredRecord;
use crate::cpis::types::{
    LocalPlanId, Plan, PlanPeriod, PlanType, Precondition,
    upload::{PlanAction, PlanChange, PlanCriteria, PlanKey, Problem, ProblemKind, RecordCode},
};

/// What a plan says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Facts {
    pub plan_type: PlanType,
    pub period: PlanPeriod,
    pub local_id: Option<LocalPlanId>,
}

impl From<&Plan> for Facts {
    fn from(plan: &Plan) -> Self {
        Self { plan_type: plan.plan_type, period: plan.period, local_id: plan.local_id.clone() }
    }
}

/// What a change names a plan by when it doesn't know its id.
#[derive(Clone, Copy)]
pub(super) struct ContentKey<'a> {
    pub plan_type: PlanType,
    pub local_id: Option<&'a LocalPlanId>,
    pub start: Option<NaiveDate>,
}

impl ContentKey<'_> {
    fn fits_by_local_id(&self, plan: &Facts) -> bool {
        self.plan_type == plan.plan_type && self.local_id.is_some() && self.local_id == plan.local_id.as_ref()
    }

    fn fits_by_start(&self, plan: &Facts) -> bool {
        self.plan_type == plan.plan_type
            && self.start == Some(plan.period.start())
            && (self.local_id.is_none() || plan.local_id.is_none())
    }

    /// True if the key could mean this plan by either rule.
    pub fn fits(&self, plan: &Facts) -> bool {
        self.fits_by_local_id(plan) || self.fits_by_start(plan)
    }
}

/// The plan that a change means.
#[derive(Clone, Copy)]
pub(super) enum Target<'a> {
    /// A stored plan that is not deleted.
    Stored(&'a Plan),
    /// None yet.
    New,
    /// Only for a delete: it was deleted before.
    Deleted(&'a Plan),
}

impl<'a> Target<'a> {
    pub fn plan(&self) -> Option<&'a Plan> {
        match self {
            Self::Stored(plan) | Self::Deleted(plan) => Some(plan),
            Self::New => None,
        }
    }
}

/// A change with the plan that it means and, for a put, what that plan will say.
pub(super) struct Resolved<'a> {
    pub change: &'a PlanChange,
    pub target: Target<'a>,
    pub result: Option<Facts>,
}

impl<'a> Resolved<'a> {
    pub fn is_put(&self) -> bool {
        self.result.is_some()
    }

    /// The stored plan is left as it is.
    pub fn is_unchanged(&self) -> bool {
        matches!((&self.target, &self.result), (Target::Stored(plan), Some(result)) if *result == Facts::from(*plan))
    }

    /// A delete, or an end for a stored plan: accepted without a trace. One that moves the start as well isn't.
    pub fn only_ends(&self) -> bool {
        match (&self.change.action, &self.target) {
            (PlanAction::Delete { .. }, _) => true,
            (PlanAction::Put { start, end }, Target::Stored(plan)) => end.is_some() && *start == plan.period.start(),
            (PlanAction::Put { .. }, _) => false,
        }
    }

    /// The content key of a change that has no id.
    pub fn content_key(&self) -> Option<ContentKey<'a>> {
        match self.change.key {
            PlanKey::Id { .. } => None,
            PlanKey::Content | PlanKey::Criteria(_) => content_key(self.change),
        }
    }

    /// True if the change, sent again, could mean this plan otherwise than by its id.
    pub fn names(&self, plan: &Facts) -> bool {
        let found = match &self.change.key {
            PlanKey::Criteria(criteria) => criteria.find(plan.plan_type, plan.local_id.as_ref()),
            PlanKey::Id { .. } | PlanKey::Content => false,
        };
        found || self.content_key().is_some_and(|key| key.fits(plan))
    }
}

/// Finds the plan that a delete means.
pub(super) fn resolve_delete<'a>(change: &'a PlanChange, stored: &'a StoredRecord) -> Result<Resolved<'a>, Problem> {
    let target = match &change.key {
        PlanKey::Id { id, precondition } => match by_id(change, *id, stored)? {
            plan if plan.deleted => Target::Deleted(plan),
            plan => Target::Stored(conditioned(change, plan, *precondition)?),
        },
        PlanKey::Content => deleted_by_content(change, stored)?,
        PlanKey::Criteria(criteria) => deleted_by_criteria(change, criteria, stored)?,
    };
    Ok(Resolved { change, target, result: None })
}

/// Finds the plan that a put means; `gone` are the plans that the same record deletes.
pub(super) fn resolve_put<'a>(
    change: &'a PlanChange,
    period: PlanPeriod,
    stored: &'a StoredRecord,
    gone: &[Uuid],
) -> Result<Resolved<'a>, Problem> {
    let (target, keeps) = match &change.key {
        PlanKey::Id { id, precondition } => match by_id(change, *id, stored)? {
            plan if plan.deleted => return Err(problem(change, ProblemKind::Gone, "", DELETED)),
            plan => (Target::Stored(conditioned(change, plan, *precondition)?), false),
        },
        PlanKey::Content => (put_by_content(change, stored, gone)?, false),
        PlanKey::Criteria(criteria) => (put_by_criteria(change, criteria, stored, gone)?, criteria.keeps),
    };
    let result = match target {
        Target::Stored(plan) if keeps => Facts::from(plan),
        Target::Stored(plan) => Facts {
            plan_type: plan.plan_type,
            period,
            // A local id that isn't sent again isn't taken away: it may have come through another door.
            local_id: change.local_id.clone().or_else(|| plan.local_id.clone()),
        },
        Target::New | Target::Deleted(_) => {
            let plan_type = change.plan_type.ok_or_else(|| rule(change, "code", "Give the type of the plan."))?;
            Facts { plan_type, period, local_id: change.local_id.clone() }
        }
    };
    Ok(Resolved { change, target, result: Some(result) })
}

const DELETED: &str = "This plan was deleted. If it is to be shared again, send it as a new plan.";

fn content_key(change: &PlanChange) -> Option<ContentKey<'_>> {
    let start = match &change.action {
        PlanAction::Put { start, .. } => Some(*start),
        PlanAction::Delete { start } => *start,
    };
    change.plan_type.map(|plan_type| ContentKey { plan_type, local_id: change.local_id.as_ref(), start })
}

fn by_id<'a>(change: &PlanChange, id: Uuid, stored: &'a StoredRecord) -> Result<&'a Plan, Problem> {
    let plan = stored.plans.iter().find(|plan| plan.id == id).ok_or_else(|| {
        problem(change, ProblemKind::NotFound, "", "Your authority holds no plan with this id for this NHS number.")
    })?;
    if !plan.deleted && change.plan_type.is_some_and(|sent| sent != plan.plan_type) {
        let reason = "The type of a plan can't be changed. Delete this plan and send a new one of the right type.";
        return Err(rule(change, "code", reason));
    }
    Ok(plan)
}

fn conditioned<'a>(change: &PlanChange, plan: &'a Plan, precondition: Precondition) -> Result<&'a Plan, Problem> {
    if precondition.holds(Some(plan.version)) { Ok(plan) } else { Err(unmet(change, precondition)) }
}

fn unmet(change: &PlanChange, precondition: Precondition) -> Problem {
    problem(change, ProblemKind::Version, "", precondition.unmet())
}

/// The plans of the child that could be meant by start; `Err` of how many there are when it isn't at most one.
fn by_start<'a>(key: &ContentKey<'_>, live: &[&'a Plan]) -> Result<Option<&'a Plan>, usize> {
    let fitting: Vec<&Plan> = live.iter().copied().filter(|plan| key.fits_by_start(&Facts::from(*plan))).collect();
    match fitting.as_slice() {
        [] => Ok(None),
        [one] => Ok(Some(one)),
        several => Err(several.len()),
    }
}

fn put_by_content<'a>(change: &PlanChange, stored: &'a StoredRecord, gone: &[Uuid]) -> Result<Target<'a>, Problem> {
    let key = content_key(change).ok_or_else(|| rule(change, "code", "Give the type of the plan."))?;
    let live = staying(stored, gone);
    if let Some(plan) = live.iter().copied().find(|plan| key.fits_by_local_id(&Facts::from(*plan))) {
        return Ok(Target::Stored(plan));
    }
    match by_start(&key, &live) {
        Ok(Some(plan)) => Ok(Target::Stored(plan)),
        Err(_) if key.local_id.is_none() => Err(rule(change, "identifier", SEVERAL_FIT)),
        Ok(None) | Err(_) => Ok(Target::New),
    }
}

const SEVERAL_FIT: &str = "Several plans of this type have this start. Say by its local id which one is meant.";

/// The plan that the criteria find; the plan that a create with the same content would mean when they find none.
fn put_by_criteria<'a>(
    change: &PlanChange,
    criteria: &PlanCriteria,
    stored: &'a StoredRecord,
    gone: &[Uuid],
) -> Result<Target<'a>, Problem> {
    let found = one_of(change, criteria, staying(stored, gone))?;
    let of_another_type = |plan: &Plan| change.plan_type.is_some_and(|sent| sent != plan.plan_type);
    if !criteria.keeps && found.is_some_and(of_another_type) {
        let reason = "The plan that the criteria find is of another type, and the type of a plan can't be changed. Name \
                      the type in the criteria, with code.";
        return Err(rule(change, "code", reason));
    }
    let target = match found {
        Some(plan) => Target::Stored(plan),
        None => put_by_content(change, stored, gone)?,
    };
    let current = target.plan();
    if !criteria.precondition.holds(current.map(|plan| plan.version)) {
        return Err(unmet(change, criteria.precondition));
    }
    with_its_id(change, criteria, current)?;
    Ok(target)
}

/// The plans that stay when what the same record deletes is gone.
fn staying<'a>(stored: &'a StoredRecord, gone: &[Uuid]) -> Vec<&'a Plan> {
    stored.plans.iter().filter(|plan| !plan.deleted && !gone.contains(&plan.id)).collect()
}

/// The one plan that the criteria find among these, if any.
fn one_of<'a>(change: &PlanChange, criteria: &PlanCriteria, plans: Vec<&'a Plan>) -> Result<Option<&'a Plan>, Problem> {
    let found: Vec<&Plan> =
        plans.into_iter().filter(|plan| criteria.find(plan.plan_type, plan.local_id.as_ref())).collect();
    match found.as_slice() {
        [] => Ok(None),
        [one] => Ok(Some(one)),
        _ => {
            let reason = "Several plans of the child fit the criteria. Name one by code and identifier, or by its id.";
            Err(problem(change, ProblemKind::Several, "", reason))
        }
    }
}

/// R4: an id in the body of a conditional update is that of the plan found. New ones are given here, never by a client.
fn with_its_id(change: &PlanChange, criteria: &PlanCriteria, found: Option<&Plan>) -> Result<(), Problem> {
    match (&criteria.body_id, found) {
        (None, _) => Ok(()),
        (Some(id), Some(plan)) if *id == plan.id.to_string() => Ok(()),
        (Some(_), _) => {
            let reason = "The id in the body isn't that of a plan that the criteria find. Leave it out, or correct it.";
            Err(problem(change, ProblemKind::OtherId, "id", reason))
        }
    }
}

fn deleted_by_criteria<'a>(
    change: &PlanChange,
    criteria: &PlanCriteria,
    stored: &'a StoredRecord,
) -> Result<Target<'a>, Problem> {
    if let Some(plan) = one_of(change, criteria, staying(stored, &[]))? {
        with_its_id(change, criteria, Some(plan))?;
        return conditioned(change, plan, criteria.precondition).map(Target::Stored);
    }
    let dead = stored.plans.iter().filter(|plan| plan.deleted);
    let repeated = newest(dead.filter(|plan| criteria.find(plan.plan_type, plan.local_id.as_ref())));
    match repeated {
        Some(plan) => Ok(Target::Deleted(plan)),
        None if can_delete_by(change).is_some() => match deleted_by_content(change, stored)? {
            Target::Stored(plan) => conditioned(change, plan, criteria.precondition).map(Target::Stored),
            other => Ok(other),
        },
        None => Err(rule(change, "", NOTHING_TO_DELETE)),
    }
}

const NOTHING_TO_DELETE: &str = "There is nothing to delete: no plan fits.";

/// The content key of a delete, if it says enough.
fn can_delete_by(change: &PlanChange) -> Option<ContentKey<'_>> {
    content_key(change).filter(|key| key.local_id.is_some() || key.start.is_some())
}

fn newest<'a>(plans: impl Iterator<Item = &'a Plan>) -> Option<&'a Plan> {
    plans.max_by_key(|plan| (plan.recorded, plan.id))
}

fn deleted_by_content<'a>(change: &PlanChange, stored: &'a StoredRecord) -> Result<Target<'a>, Problem> {
    let key = can_delete_by(change)
        .ok_or_else(|| rule(change, "", "Say which plan is to be deleted: its type with its local id or its start."))?;
    let (dead, live): (Vec<&Plan>, Vec<&Plan>) = stored.plans.iter().partition(|plan| plan.deleted);
    if let Some(plan) = live.iter().copied().find(|plan| key.fits_by_local_id(&Facts::from(*plan))) {
        return Ok(Target::Stored(plan));
    }
    let gone = |fits: &dyn Fn(&Facts) -> bool| {
        newest(dead.iter().copied().filter(|plan| fits(&Facts::from(*plan)))).map(Target::Deleted)
    };
    // A delete that names the local id of a deleted plan is that delete repeated: it mustn't reach on to another plan
    // that happens to start on the same day.
    if let Some(repeated) = gone(&|plan| key.fits_by_local_id(plan)) {
        return Ok(repeated);
    }
    match by_start(&key, &live) {
        Ok(Some(plan)) => Ok(Target::Stored(plan)),
        Err(_) => Err(rule(change, "identifier", SEVERAL_FIT)),
        Ok(None) => gone(&|plan| key.fits_by_start(plan)).ok_or_else(|| rule(change, "", NOTHING_TO_DELETE)),
    }
}

/// A refusal under a CP-IS rule.
pub(super) fn rule(change: &PlanChange, element: &'static str, reason: &str) -> Problem {
    problem(change, ProblemKind::Rule, element, reason)
}

fn problem(change: &PlanChange, kind: ProblemKind, element: &'static str, reason: &str) -> Problem {
    Problem { entry: change.entry, code: RecordCode::Cpr07, kind, reason: reason.to_owned(), element }
}
