//! What a local authority registers about a child: plan types, periods, plans.

use chrono::{DateTime, NaiveDate, TimeDelta, TimeZone, Utc};
use chrono_tz::Tz;
use uuid::Uuid;

use super::notice::EndedReason;

/// The three kinds of plan (domain.md 2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub enum PlanType {
    /// Child protection plan (CPP).
    ChildProtection,
    /// Looked-after child (LAC).
    LookedAfter,
    /// Unborn child protection plan (UCP), held on the mother's number.
    Unborn,
}

impl PlanType {
    pub const ALL: [Self; 3] = [Self::ChildProtection, Self::LookedAfter, Self::Unborn];

    /// The short code that the database holds.
    pub fn code(self) -> &'static str {
        match self {
            Self::ChildProtection => "CPP",
            Self::LookedAfter => "LAC",
            Self::Unborn => "UCP",
        }
    }

    pub fn from_code(code: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|t| t.code() == code)
    }

    /// SNOMED CT code of the value set `England-ChildProtectionPlan` 1.0.0 (domain.md 2).
    pub fn snomed(self) -> &'static str {
        match self {
            Self::ChildProtection => "342191000000101",
            Self::LookedAfter => "764841000000100",
            Self::Unborn => "818901000000100",
        }
    }

    pub fn from_snomed(code: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|t| t.snomed() == code)
    }

    /// SNOMED CT display term.
    pub fn display(self) -> &'static str {
        match self {
            Self::ChildProtection => "Subject to child protection plan",
            Self::LookedAfter => "Looked after child",
            Self::Unborn => "Unborn child subject to child protection plan",
        }
    }
}

/// First and last day of a plan, both included; civil dates of Europe/London. The end is never before the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlanPeriod {
    start: NaiveDate,
    end: Option<NaiveDate>,
}

impl PlanPeriod {
    /// `None` when the end lies before the start.
    pub fn new(start: NaiveDate, end: Option<NaiveDate>) -> Option<Self> {
        if end.is_some_and(|end| end < start) { None } else { Some(Self { start, end }) }
    }

    pub fn start(&self) -> NaiveDate {
        self.start
    }

    pub fn end(&self) -> Option<NaiveDate> {
        self.end
    }

    /// Active: start <= today <= end (design 2).
    pub fn active_on(&self, today: NaiveDate) -> bool {
        self.start <= today && self.end.is_none_or(|end| today <= end)
    }

    /// True if the two share a day.
    pub fn overlaps(&self, other: &Self) -> bool {
        self.end.is_none_or(|end| other.start <= end) && other.end.is_none_or(|end| self.start <= end)
    }
}

/// The local authority's own id of a plan: 1 to 64 printable characters without leading or trailing space.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct LocalPlanId(String);

impl LocalPlanId {
    pub fn parse(text: &str) -> Option<Self> {
        let fits =
            (1..=64).contains(&text.chars().count()) && text.trim() == text && !text.chars().any(char::is_control);
        fits.then(|| Self(text.to_owned()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The end that the system wrote, over what the authority sent (design 2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SystemEnd {
    /// [`EndedReason::Adult`] or [`EndedReason::UnbornLimit`].
    pub reason: EndedReason,
    /// The last day.
    pub on: NaiveDate,
}

/// One plan of one authority as stored: the newest version that counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The FHIR id shared by the plan's Flag, CarePlan and CareTeam.
    pub id: Uuid,
    pub plan_type: PlanType,
    /// As the authority sent it: every rule is judged by this, whatever the system wrote since.
    pub period: PlanPeriod,
    /// Only its owner sees it as the end of the period.
    pub ended: Option<SystemEnd>,
    pub local_id: Option<LocalPlanId>,
    /// 1 for the first; the owner's `ETag` is `W/"version"`.
    pub version: i64,
    pub deleted: bool,
    /// When this version was recorded.
    pub recorded: DateTime<Utc>,
    /// When the first version was recorded.
    pub created: DateTime<Utc>,
}

/// A plan with whose it is and whom it is about: what a view of it needs.
#[derive(Clone, Debug)]
pub struct ShownPlan {
    pub plan: Plan,
    pub active: bool,
    /// To its owner: the first day on which a rule ends the plan whatever its end (unborn limit, coming of age).
    pub closes: Option<NaiveDate>,
    /// To its owner: nothing of what is shown can have changed since this version was recorded.
    pub settled: bool,
    /// The number under which the caller gets it: the one asked for (clinician) or the one sent (owner).
    pub nhs_number: super::NhsNumber,
    pub authority: super::Organization,
    /// To a clinician: the day on which the authority last confirmed its records, when that is too long ago (design 7).
    pub last_confirmed: Option<NaiveDate>,
}

/// When what the owner sees of a plan last changed: the version was recorded, or its end passed and the status turned.
/// `closes` is as in [`ShownPlan`].
pub fn last_changed(
    recorded: DateTime<Utc>,
    end: Option<NaiveDate>,
    closes: Option<NaiveDate>,
    now: DateTime<Utc>,
    zone: Tz,
) -> DateTime<Utc> {
    // The status turns once, on the first of the two days.
    let after_end = end.and_then(|end| end.succ_opt());
    let over = after_end.into_iter().chain(closes).min();
    let turned = over.and_then(|day| first_moment(day, zone)).filter(|at| *at <= now);
    turned.map_or(recorded, |at| at.max(recorded))
}

/// 00:00 of a day; 01:00 where a zone skips midnight.
fn first_moment(day: NaiveDate, zone: Tz) -> Option<DateTime<Utc>> {
    let midnight = day.and_time(chrono::NaiveTime::MIN);
    let local = zone.from_local_datetime(&midnight).earliest();
    let local = local.or_else(|| zone.from_local_datetime(&(midnight + TimeDelta::hours(1))).earliest())?;
    Some(local.with_timezone(&Utc))
}
