//! The synthetic children, their plans and the local register: the same children in every sandbox, their dates counted
//! back from today. Pure.

use chrono::{Days, NaiveDate};

use super::dice::Dice;
use crate::cpis::types::{NhsNumber, PlanType, child::Demographics};

/// Days ago when the authorities first sent their children.
pub const GO_LIVE: u32 = 730;
/// Days between two uploads of an authority.
const UPLOAD_EVERY: u32 = 14;
/// Children on record.
pub const ON_RECORD: usize = 200;
/// People of the register without a plan.
pub const WITHOUT_PLAN: usize = 30;
/// Where the numbers begin: 999, this, check digit. Below lie published test numbers.
const FIRST_NUMBER: u32 = 1_000;

const FAMILIES: [&str; 12] = [
    "Testcase",
    "Sample",
    "Example",
    "Specimen",
    "Pattern",
    "Instance",
    "Template",
    "Prototype",
    "Demo",
    "Trial",
    "Mockup",
    "Synthetic",
];
const GIVEN: [&str; 16] = [
    "Alex", "Robin", "Sam", "Charlie", "Jamie", "Morgan", "Riley", "Casey", "Taylor", "Jordan", "Quinn", "Avery",
    "Rowan", "Sidney", "Drew", "Blake",
];

/// Days ago.
pub type Ago = u32;

/// A person of the register.
pub struct Person {
    pub number: NhsNumber,
    pub demographics: Demographics,
}

/// A plan as its authority comes to know it.
pub struct PlanStory {
    /// Index of the authority among the cast's.
    pub authority: usize,
    pub plan_type: PlanType,
    pub start: Ago,
    pub end: Option<Ago>,
    /// Sent in error: deleted at the next upload.
    pub in_error: bool,
}

/// A person on record.
pub struct Child {
    pub person: Person,
    pub plans: Vec<PlanStory>,
}

/// Everybody.
pub struct Population {
    pub children: Vec<Child>,
    pub without_plan: Vec<Person>,
}

/// The children with a fixed story, in the order in which they stand first among all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known {
    ActivePlan,
    TwoAuthorities,
    CppAndLac,
    Unborn,
    ManyAccesses,
    EndedVisible,
    EndedHidden,
    /// Came of age some days ago: the plan is hidden although nobody ended it.
    CameOfAge,
    /// Sent in error, then deleted.
    SentInError,
}

impl Known {
    const ALL: [Self; 9] = [
        Self::ActivePlan,
        Self::TwoAuthorities,
        Self::CppAndLac,
        Self::Unborn,
        Self::ManyAccesses,
        Self::EndedVisible,
        Self::EndedHidden,
        Self::CameOfAge,
        Self::SentInError,
    ];

    /// Days since birth, and the plans.
    fn story(self) -> (Ago, Vec<PlanStory>) {
        use PlanType::{ChildProtection as Cpp, LookedAfter as Lac, Unborn as Ucp};
        match self {
            Self::ActivePlan => (7 * 365, vec![plan(0, Cpp, 120, None)]),
            Self::TwoAuthorities => (9 * 365, vec![plan(0, Cpp, 200, None), plan(1, Lac, 90, None)]),
            Self::CppAndLac => (5 * 365, vec![plan(0, Cpp, 310, None), plan(0, Lac, 150, None)]),
            Self::Unborn => (27 * 365, vec![plan(0, Ucp, 100, None)]),
            Self::ManyAccesses => (3 * 365, vec![plan(0, Cpp, 360, None)]),
            Self::EndedVisible => (11 * 365, vec![plan(0, Cpp, 500, Some(90))]),
            Self::EndedHidden => (13 * 365, vec![plan(0, Cpp, 700, Some(400))]),
            // 18 years have at most five leap days: the birthday was 20 or 21 days ago.
            Self::CameOfAge => (18 * 365 + 5 + 20, vec![plan(1, Lac, 600, None)]),
            Self::SentInError => (2 * 365, vec![PlanStory { in_error: true, ..plan(2, Cpp, 80, None) }]),
        }
    }
}

impl Population {
    /// Everybody as of a London day.
    pub fn on(today: NaiveDate) -> Self {
        let mut dice = Dice::new(0x00C0_FFEE);
        let mut numbers = (FIRST_NUMBER..1_000_000).filter_map(number);
        let mut children = Vec::with_capacity(ON_RECORD);
        let mut without_plan = Vec::with_capacity(WITHOUT_PLAN);
        for place in 0..ON_RECORD {
            let (born, plans) = Known::ALL.get(place).map_or_else(|| any(&mut dice), |known| known.story());
            let Some(number) = numbers.next() else { break };
            children.push(Child { person: person(number, before(today, born), &mut dice), plans });
        }
        for number in numbers.take(WITHOUT_PLAN) {
            let birth_date = before(today, dice.between(200, 15 * 365));
            without_plan.push(person(number, birth_date, &mut dice));
        }
        Self { children, without_plan }
    }

    /// The child that `sandbox.json` names so.
    pub fn known(&self, which: Known) -> Option<&Child> {
        Known::ALL.iter().position(|known| *known == which).and_then(|place| self.children.get(place))
    }

    /// Everybody of the register.
    pub fn register(&self) -> impl Iterator<Item = &Person> {
        self.children.iter().map(|child| &child.person).chain(&self.without_plan)
    }
}

/// The day so many days before `day`.
pub fn before(day: NaiveDate, ago: Ago) -> NaiveDate {
    day.checked_sub_days(Days::new(ago.into())).unwrap_or(NaiveDate::MIN)
}

/// When the authorities upload, in days ago, the oldest first. Never today: what is sent lies in the past at any hour.
pub fn upload_days() -> impl Iterator<Item = Ago> {
    let regular = (1..GO_LIVE).step_by(usize::try_from(UPLOAD_EVERY).unwrap_or(1));
    std::iter::once(GO_LIVE).chain(regular.rev())
}

/// The first upload on or after a day, in days ago.
pub fn first_upload_from(ago: Ago) -> Option<Ago> {
    upload_days().find(|upload| *upload <= ago)
}

/// The number 999, six digits, check digit; `None` where no digit fits.
fn number(six: u32) -> Option<NhsNumber> {
    (0..10).find_map(|check| NhsNumber::parse(&format!("999{six:06}{check}")).ok())
}

fn person(number: NhsNumber, birth_date: NaiveDate, dice: &mut Dice) -> Person {
    let name = |from: &[&str], dice: &mut Dice| dice.pick(from).map_or_else(String::new, |name| (*name).to_owned());
    let family = match dice.below(6) {
        0 => format!("{}-{}", name(&FAMILIES, dice), name(&FAMILIES, dice)),
        _ => name(&FAMILIES, dice),
    };
    let mut given = vec![name(&GIVEN, dice)];
    if dice.below(4) == 0 {
        given.push(name(&GIVEN, dice));
    }
    Person { number, demographics: Demographics { family, given, birth_date } }
}

fn plan(authority: usize, plan_type: PlanType, start: Ago, end: Option<Ago>) -> PlanStory {
    PlanStory { authority, plan_type, start, end, in_error: false }
}

/// A story like any other.
fn any(dice: &mut Dice) -> (Ago, Vec<PlanStory>) {
    let authority = usize::try_from(dice.below(3)).unwrap_or(0);
    let kind = dice.below(100);
    if kind >= 94 {
        return unborn(dice, authority);
    }
    let born = dice.between(60, 16 * 365);
    let (start, end) = if dice.below(5) == 0 {
        let end = dice.between(15, 500);
        (end + dice.between(60, 360), Some(end))
    } else {
        (dice.between(16, born.clamp(17, 900)), None)
    };
    let born = born.max(start + 10);
    let plans = match kind {
        0..52 => vec![plan(authority, PlanType::ChildProtection, start, end)],
        52..88 => vec![plan(authority, PlanType::LookedAfter, start, end)],
        _ => vec![
            plan(authority, PlanType::ChildProtection, start, end),
            plan(authority, PlanType::LookedAfter, start, end),
        ],
    };
    (born, plans)
}

/// A plan for an unborn child, on the mother's number.
fn unborn(dice: &mut Dice, authority: usize) -> (Ago, Vec<PlanStory>) {
    let born = dice.between(19 * 365, 40 * 365);
    let start = dice.between(40, 250);
    let end = (dice.below(5) < 2).then(|| dice.between(5, start - 20));
    (born, vec![plan(authority, PlanType::Unborn, start, end)])
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::cpis::{
        limits::Limits,
        types::PlanPeriod,
        visibility::{active, visible},
    };

    fn day(text: &str) -> NaiveDate {
        text.parse().unwrap()
    }

    /// Days on which dates are easily got wrong.
    fn days() -> [NaiveDate; 4] {
        ["2026-11-23", "2028-02-29", "2027-03-01", "2026-03-29"].map(day)
    }

    fn shown(child: &Child, today: NaiveDate) -> Vec<bool> {
        let born = Some(child.person.demographics.birth_date);
        let period = |p: &PlanStory| PlanPeriod::new(before(today, p.start), p.end.map(|e| before(today, e))).unwrap();
        child.plans.iter().map(|p| visible(p.plan_type, &period(p), born, today, &Limits::default())).collect()
    }

    #[test]
    fn there_are_so_many_with_numbers_of_their_own_from_the_test_range() {
        let everybody = Population::on(day("2026-11-23"));
        assert_eq!((everybody.children.len(), everybody.without_plan.len()), (ON_RECORD, WITHOUT_PLAN));
        let numbers: HashSet<&str> = everybody.register().map(|person| person.number.as_str()).collect();
        assert_eq!(numbers.len(), ON_RECORD + WITHOUT_PLAN);
        assert!(numbers.iter().all(|number| number.starts_with("999")));
        for plan_type in PlanType::ALL {
            assert!(everybody.children.iter().any(|child| child.plans.iter().any(|p| p.plan_type == plan_type)));
        }
    }

    #[test]
    fn the_named_children_are_what_they_are_named_for() {
        for today in days() {
            let everybody = Population::on(today);
            let of = |known| shown(everybody.known(known).unwrap(), today);
            assert_eq!(of(Known::ActivePlan), [true]);
            assert_eq!(of(Known::TwoAuthorities), [true, true]);
            assert_eq!(of(Known::CppAndLac), [true, true]);
            assert_eq!(of(Known::Unborn), [true]);
            assert_eq!(of(Known::ManyAccesses), [true]);
            assert_eq!(of(Known::EndedVisible), [true]);
            assert_eq!(of(Known::EndedHidden), [false]);
            assert_eq!(of(Known::CameOfAge), [false]);
            let ended = everybody.known(Known::EndedVisible).unwrap();
            let period = PlanPeriod::new(before(today, 500), Some(before(today, 90))).unwrap();
            assert!(!active(ended.plans[0].plan_type, &period, None, today, &Limits::default()));
        }
    }

    #[test]
    fn nobody_has_a_plan_before_birth_or_one_that_was_never_sent() {
        for today in days() {
            for child in Population::on(today).children {
                for plan in &child.plans {
                    assert!(before(today, plan.start) > child.person.demographics.birth_date);
                    assert!(plan.end.is_none_or(|end| end < plan.start));
                    assert!(first_upload_from(plan.start).is_some());
                    assert!(plan.end.is_none_or(|end| first_upload_from(end).is_some()));
                }
            }
        }
    }

    #[test]
    fn everybody_is_the_same_each_time() {
        let (one, other) = (Population::on(day("2026-11-23")), Population::on(day("2026-11-24")));
        for (one, other) in one.register().zip(other.register()) {
            assert!(one.number == other.number && one.demographics.family == other.demographics.family);
        }
    }

    #[test]
    fn uploads_go_from_go_live_to_yesterday() {
        let days: Vec<Ago> = upload_days().collect();
        assert_eq!((days.first(), days.last()), (Some(&GO_LIVE), Some(&1)));
        assert!(days.windows(2).all(|pair| pair[0] > pair[1]));
        assert_eq!(
            (first_upload_from(900), first_upload_from(16), first_upload_from(0)),
            (Some(GO_LIVE), Some(15), None)
        );
    }
}
