//! Judges a record of an upload: what it writes, or everything that is wrong with it (design 6, 9). Pure; the entries of
//! a record may come in any order.

use chrono::NaiveDate;
use uuid::Uuid;

use super::{
    answer::SENSITIVE,
    meant::{Resolved, Target, resolve_delete, resolve_put, rule},
    relations::{among_plans, each_plan_once, no_delete_and_put_of_one_key, one_put_per_type},
};
use crate::cpis::{
    calendar::{birthday, days_after},
    limits::Limits,
    matching::{Part, compare},
    types::{
        LocalPlanId, Plan, PlanPeriod, PlanType,
        child::{AuthorityChild, Demographics, Trace},
        upload::{
            ChildChange, PlanAction, PlanChange, PlanKey, Problem, ProblemKind, RecordChange, RecordCode, Warning,
        },
    },
    visibility::effective_end,
};

/// What this authority holds of the child already.
#[derive(Clone, Debug, Default)]
pub struct StoredRecord {
    pub child: Option<AuthorityChild>,
    /// The authority's own plans of this child under any of its numbers, deleted ones too, each in its newest version
    /// that counts.
    pub plans: Vec<Plan>,
}

/// What an accepted record writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Only when the record has an entry for the child itself.
    pub child: Option<ChildWrite>,
    /// One for each plan entry, by entry.
    pub plans: Vec<PlanWrite>,
    /// What the authority should know although the record is accepted.
    pub warnings: Vec<Warning>,
}

/// The child's own data as they are to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChildWrite {
    pub entry: usize,
    pub demographics: Demographics,
    pub local_id: Option<String>,
    /// False: as stored, no new version.
    pub changed: bool,
}

/// What becomes of one plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PlanWrite {
    Create { entry: usize, plan_type: PlanType, period: PlanPeriod, local_id: Option<LocalPlanId> },
    Update { entry: usize, id: Uuid, period: PlanPeriod, local_id: Option<LocalPlanId> },
    Unchanged { entry: usize, id: Uuid },
    Delete { entry: usize, id: Uuid },
    AlreadyDeleted { entry: usize, id: Uuid },
}

impl PlanWrite {
    /// Position of the entry in the file.
    pub fn entry(&self) -> usize {
        match self {
            Self::Create { entry, .. }
            | Self::Update { entry, .. }
            | Self::Unchanged { entry, .. }
            | Self::Delete { entry, .. }
            | Self::AlreadyDeleted { entry, .. } => *entry,
        }
    }
}

/// Judges one record.
///
/// `trace` is what demographics know of the record's number today; `duty_phone_known` whether an emergency duty number of
/// the authority is on file (after the authority's own entry of the same upload, if any, was applied).
///
/// # Errors
/// Every problem of the record, by entry; nothing of it may then be stored.
pub fn judge(
    record: &RecordChange,
    stored: &StoredRecord,
    trace: &Trace,
    today: NaiveDate,
    limits: &Limits,
    duty_phone_known: bool,
) -> Result<Verdict, Vec<Problem>> {
    let mut problems = one_put_per_type(&record.plans, |change| type_of(change, stored));
    let mut each_once = problems.is_empty();
    // Where it counts it equals the traced one (`verify`); where they differ the answer mustn't tell the traced one.
    let birth_date = known(record, stored).map(|child| child.birth_date);
    problems.extend(record.plans.iter().flat_map(|change| dates(change, stored, birth_date, today, limits)));

    let (changes, unclear) = resolve(record, stored);
    problems.extend(unclear);
    let repeated = [each_plan_once(&changes), no_delete_and_put_of_one_key(&changes)].concat();
    each_once &= repeated.is_empty();
    problems.extend(repeated);
    // What two entries say of one plan would only be told twice.
    if each_once {
        problems.extend(among_plans(&changes, stored, today, limits));
    }

    let only_ends = only_ends(record, &changes);
    let number = verify(record, stored, trace);
    let verified = number.is_empty();
    if !only_ends && matches!(trace, Trace::Restricted) {
        // Nothing else is said of a sensitive record.
        return Err(number);
    }
    if !only_ends {
        problems.extend(number);
        problems.extend((!duty_phone_known).then(|| whole(record, RecordCode::Cpr07, "", NO_DUTY_PHONE)));
    }
    problems.extend(record.child.as_ref().and_then(|child| child_version(child, record, stored)));
    if !problems.is_empty() {
        problems.sort_by(|one, other| {
            (one.entry, one.element, &one.reason).cmp(&(other.entry, other.element, &other.reason))
        });
        problems.dedup();
        return Err(problems);
    }

    let mut warnings: Vec<Warning> = changes.iter().filter_map(|resolved| long_unborn(resolved, limits)).collect();
    let child = record.child.as_ref().and_then(|sent| {
        if verified {
            return Some(child_write(sent, record, stored));
        }
        warnings.push(Warning { entry: sent.entry, reason: CHILD_NOT_STORED.to_owned(), element: "" });
        stored.child.as_ref().map(|kept| ChildWrite {
            entry: sent.entry,
            demographics: kept.demographics.clone(),
            local_id: kept.local_id.clone(),
            changed: false,
        })
    });
    let mut plans: Vec<PlanWrite> = changes.iter().filter_map(plan_write).collect();
    plans.sort_by_key(PlanWrite::entry);
    warnings.sort_by_key(|warning| warning.entry);
    Ok(Verdict { child, plans, warnings })
}

const NO_DUTY_PHONE: &str = "No emergency duty telephone number of your authority is on file. Send it with the authority's \
                             own details, then send this record again.";
const CHILD_NOT_STORED: &str = "Only the end or deletion was stored. The child's own data was not, because the NHS number \
                                could not be verified.";

/// Resolves deletes first: a put then means one of the plans that stay.
fn resolve<'a>(record: &'a RecordChange, stored: &'a StoredRecord) -> (Vec<Resolved<'a>>, Vec<Problem>) {
    let (mut changes, mut problems) = (Vec::new(), Vec::new());
    for change in &record.plans {
        if let PlanAction::Delete { .. } = change.action {
            match resolve_delete(change, stored) {
                Ok(resolved) => changes.push(resolved),
                Err(problem) => problems.push(problem),
            }
        }
    }
    let gone: Vec<Uuid> = changes.iter().filter_map(|resolved| resolved.target.plan()).map(|plan| plan.id).collect();
    for change in &record.plans {
        if let PlanAction::Put { start, end } = change.action {
            let period = PlanPeriod::new(start, end)
                .ok_or_else(|| rule(change, "period.end", "The end of a plan can't lie before its start."));
            match period.and_then(|period| resolve_put(change, period, stored, &gone)) {
                Ok(resolved) => changes.push(resolved),
                Err(problem) => problems.push(problem),
            }
        }
    }
    (changes, problems)
}

/// True if the record does nothing but delete plans and end stored ones. A delete that finds nothing is refused for that
/// reason alone.
fn only_ends(record: &RecordChange, changes: &[Resolved<'_>]) -> bool {
    let puts = record.plans.iter().filter(|change| matches!(change.action, PlanAction::Put { .. })).count();
    !record.plans.is_empty()
        && puts == changes.iter().filter(|resolved| resolved.is_put()).count()
        && changes.iter().all(Resolved::only_ends)
}

/// The type of the plan that a change is about: as sent, else that of the plan with its id.
fn type_of(change: &PlanChange, stored: &StoredRecord) -> Option<PlanType> {
    change.plan_type.or_else(|| match change.key {
        PlanKey::Id { id, .. } => stored.plans.iter().find(|plan| plan.id == id).map(|plan| plan.plan_type),
        PlanKey::Content | PlanKey::Criteria(_) => None,
    })
}

/// The child's demographics as the authority sent them, now or before.
fn known<'a>(record: &'a RecordChange, stored: &'a StoredRecord) -> Option<&'a Demographics> {
    let sent = record.child.as_ref().map(|child| &child.demographics);
    sent.or_else(|| stored.child.as_ref().map(|child| &child.demographics))
}

/// The rules about a put's dates.
pub(super) fn dates(
    change: &PlanChange,
    stored: &StoredRecord,
    birth_date: Option<NaiveDate>,
    today: NaiveDate,
    limits: &Limits,
) -> Vec<Problem> {
    let PlanAction::Put { start, end } = change.action else { return Vec::new() };
    let mut problems = Vec::new();
    let mut refuse = |element, reason: &str| problems.push(rule(change, element, reason));
    if start > today {
        refuse("period.start", "The start of a plan can't lie in the future. Send the plan once it has started.");
    }
    if end.is_some_and(|end| today > days_after(end, limits.visible_days)) {
        refuse("period.end", "The end lies too far back to be shared. If the plan is still stored, delete it.");
    }
    let adult_on = birth_date.map(|birth| birthday(birth, limits.adult_age));
    let Some(adult_on) = adult_on.filter(|_| type_of(change, stored) != Some(PlanType::Unborn)) else {
        return problems;
    };
    if start >= adult_on {
        refuse("period.start", "A plan of this type starts before the child comes of age.");
    }
    match end {
        Some(end) if end > adult_on => refuse("period.end", ENDS_AT_AGE),
        None if today >= adult_on => refuse("period.end", ENDS_AT_AGE),
        _ => {}
    }
    problems
}

const ENDS_AT_AGE: &str = "A plan of this type ends at the latest on the day on which the child comes of age. Send that \
                           day or an earlier one as the end.";

/// What is wrong with the number; if nothing is, every part of the person's data that isn't that of the number. The person
/// is whom the record is about: the child, or the mother of an unborn one.
fn verify(record: &RecordChange, stored: &StoredRecord, trace: &Trace) -> Vec<Problem> {
    let element = if record.child.is_some() { "identifier" } else { "subject" };
    let refuse = |code, reason: &str| vec![whole(record, code, element, reason)];
    match trace {
        Trace::Unknown | Trace::Invalid => refuse(
            RecordCode::Cpr01,
            "No person has this NHS number. Trace the child again, then send the right number.",
        ),
        Trace::Restricted => refuse(RecordCode::Cpr02, SENSITIVE),
        Trace::Superseded(_) => {
            refuse(RecordCode::Cpr05, "This NHS number was replaced. Trace the child again, then send the new number.")
        }
        Trace::Found(_) | Trace::NotTraced => match (known(record, stored), trace) {
            (None, _) => refuse(
                RecordCode::Cpr07,
                "You haven't sent this child's name and birth date yet. Send them first by PUT Patient/{NHS number}, or \
                 in one Bundle with the plan.",
            ),
            (Some(sent), Trace::Found(traced)) => {
                let parts = compare(sent, traced).err().unwrap_or_default();
                parts.into_iter().map(|part| unlike(part, record)).collect()
            }
            (Some(_), _) => Vec::new(),
        },
    }
}

/// A part that isn't that of the number: never what is, nor whether anything is held.
fn unlike(part: Part, record: &RecordChange) -> Problem {
    let (element, what, is_not, advice) = match part {
        Part::BirthDate => ("birthDate", "birth date", "is not that", "Send the right one"),
        Part::Family => (
            "name.family",
            "family name",
            "is not that",
            "Send the registered one, not the one that the person is known by",
        ),
        Part::Given => {
            ("name.given", "given names", "are not those", "Send the registered ones, the first of them first")
        }
    };
    let number = "If that is right, trace the person again.";
    if record.child.is_some() {
        let reason = format!("The {what} {is_not} of this NHS number. {advice}. {number}");
        return whole(record, RecordCode::Cpr03, element, &reason);
    }
    let reason = format!(
        "The {what} that you sent before {is_not} of this NHS number. {advice}, by PUT Patient/{{NHS number}} or in one \
         Bundle with the plan. {number}"
    );
    whole(record, RecordCode::Cpr03, "subject", &reason)
}

/// A problem of the whole record: it lies in the child's entry, else in the first that puts a plan (a delete has no
/// elements to point at), else in the first one.
fn whole(record: &RecordChange, code: RecordCode, element: &'static str, reason: &str) -> Problem {
    let is_delete = |change: &PlanChange| matches!(change.action, PlanAction::Delete { .. });
    let first = record.plans.iter().min_by_key(|change| (is_delete(change), change.entry));
    let first = first.map(|change| change.entry).unwrap_or_default();
    let entry = record.child.as_ref().map_or(first, |child| child.entry);
    Problem { entry, code, kind: ProblemKind::Rule, reason: reason.to_owned(), element }
}

fn child_version(sent: &ChildChange, record: &RecordChange, stored: &StoredRecord) -> Option<Problem> {
    // The resource is the row of the number that was sent, whatever other numbers the child has.
    let held = stored.child.as_ref().filter(|child| child.nhs_number == record.nhs_number);
    (!sent.precondition.holds(held.map(|child| child.version))).then(|| Problem {
        entry: sent.entry,
        code: RecordCode::Cpr07,
        kind: ProblemKind::Version,
        reason: sent.precondition.unmet().to_owned(),
        element: "",
    })
}

fn child_write(sent: &ChildChange, record: &RecordChange, stored: &StoredRecord) -> ChildWrite {
    let kept = stored.child.as_ref();
    let local_id = sent.local_id.clone().or_else(|| kept.and_then(|child| child.local_id.clone()));
    let same = kept.is_some_and(|child| {
        child.demographics == sent.demographics && child.local_id == local_id && child.nhs_number == record.nhs_number
    });
    ChildWrite { entry: sent.entry, demographics: sent.demographics.clone(), local_id, changed: !same }
}

fn plan_write(resolved: &Resolved<'_>) -> Option<PlanWrite> {
    let entry = resolved.change.entry;
    Some(match (&resolved.target, &resolved.result) {
        (Target::Stored(plan), None) => PlanWrite::Delete { entry, id: plan.id },
        (Target::Deleted(plan), _) => PlanWrite::AlreadyDeleted { entry, id: plan.id },
        (Target::Stored(plan), Some(_)) if resolved.is_unchanged() => PlanWrite::Unchanged { entry, id: plan.id },
        (Target::Stored(plan), Some(result)) => {
            PlanWrite::Update { entry, id: plan.id, period: result.period, local_id: result.local_id.clone() }
        }
        (Target::New, Some(result)) => PlanWrite::Create {
            entry,
            plan_type: result.plan_type,
            period: result.period,
            local_id: result.local_id.clone(),
        },
        (Target::New, None) => return None,
    })
}

fn long_unborn(resolved: &Resolved<'_>, limits: &Limits) -> Option<Warning> {
    let facts = resolved.result.as_ref().filter(|facts| facts.plan_type == PlanType::Unborn)?;
    let cut = effective_end(facts.plan_type, &facts.period, limits) != facts.period.end();
    let reason = format!(
        "A plan for an unborn child counts as ended {} days after its start at the latest. Send its end.",
        limits.unborn_longest_days
    );
    cut.then_some(Warning { entry: resolved.change.entry, reason, element: "period.end" })
}
