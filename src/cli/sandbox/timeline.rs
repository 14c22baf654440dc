//! What happened in the sandbox's past, in order: the authorities' uploads since they joined, and a year of look-ups. Pure.

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};

use super::{
    dice::Dice,
    population::{Ago, Child, Known, PlanStory, Population, before, first_upload_from, upload_days},
};
use crate::{
    cpis::{
        calendar::Calendar,
        types::{
            LocalPlanId, NhsNumber, Precondition,
            caller::Role,
            upload::{ChildChange, PlanAction, PlanChange, PlanKey, RecordChange},
        },
    },
    http::sandbox::cast::{ACTORS, Actor, MEMBERS, Member},
};

/// Days of look-ups.
const YEAR: u32 = 364;
/// Look-ups of children picked by chance.
const BY_CHANCE: u32 = 260;
/// Of a hundred of these, so many are of people who are not on record.
const IN_VAIN: u32 = 8;
/// Of a hundred look-ups, so many are by the device.
const BY_DEVICE: u32 = 6;
/// No day of London is shorter, in minutes; the look-ups of a day lie within.
const MINUTES: u32 = 22 * 60;

/// One event of the past.
pub struct Event {
    pub at: DateTime<Utc>,
    pub what: What,
}

pub enum What {
    /// An authority sends what is new.
    Upload { authority: &'static Member, records: Vec<RecordChange> },
    /// Somebody looks a number up in unscheduled care.
    LookUp { number: NhsNumber, by: By },
}

#[derive(Clone, Copy)]
pub enum By {
    User(&'static Actor),
    Device,
}

/// Everything that happened until yesterday, the oldest first.
pub fn timeline(everybody: &Population, today: NaiveDate, calendar: &Calendar) -> Vec<Event> {
    let day = Days { today, calendar };
    let mut events = uploads(everybody, &day);
    events.extend(look_ups(everybody, &day));
    events.sort_by_key(|event| event.at);
    events
}

/// Days ago as instants.
struct Days<'a> {
    today: NaiveDate,
    calendar: &'a Calendar,
}

impl Days<'_> {
    fn at(&self, ago: Ago, minute: u32) -> DateTime<Utc> {
        self.calendar.day_bounds(before(self.today, ago)).0 + TimeDelta::minutes(minute.into())
    }
}

/// The authorities of the cast, in its order.
fn authorities() -> impl Iterator<Item = &'static Member> {
    MEMBERS.iter().filter(|member| member.role == Role::LocalAuthority)
}

/// Each authority sends at night, a few minutes after the one before.
fn uploads(everybody: &Population, day: &Days<'_>) -> Vec<Event> {
    let mut events = Vec::new();
    for ago in upload_days() {
        for ((place, authority), minute) in authorities().enumerate().zip((130..).step_by(5)) {
            let mut entries = 0..;
            let records: Vec<RecordChange> = everybody
                .children
                .iter()
                .enumerate()
                .filter_map(|(n, child)| record(n, child, place, ago, day.today, &mut entries))
                .collect();
            if !records.is_empty() {
                events.push(Event { at: day.at(ago, minute), what: What::Upload { authority, records } });
            }
        }
    }
    events
}

/// What an authority has to say about a child on an upload day; `None` when that is nothing.
fn record(
    place: usize,
    child: &Child,
    authority: usize,
    ago: Ago,
    today: NaiveDate,
    entries: &mut impl Iterator<Item = usize>,
) -> Option<RecordChange> {
    let own = || child.plans.iter().enumerate().filter(|(_, plan)| plan.authority == authority);
    let first = own().filter_map(|(_, plan)| first_upload_from(plan.start)).max();
    let person = &child.person;
    let sent = (first == Some(ago)).then(|| ChildChange {
        entry: entries.next().unwrap_or_default(),
        demographics: person.demographics.clone(),
        local_id: Some(format!("CH-{place:04}")),
        precondition: Precondition::None,
    });
    let plans: Vec<PlanChange> = own()
        .filter_map(|(n, plan)| {
            Some(PlanChange {
                entry: 0,
                key: PlanKey::Content,
                plan_type: Some(plan.plan_type),
                local_id: LocalPlanId::parse(&format!("LCS-{place:04}-{n}")),
                action: action(plan, ago, today)?,
            })
        })
        .map(|change| PlanChange { entry: entries.next().unwrap_or_default(), ..change })
        .collect();
    (!plans.is_empty()).then_some(RecordChange { nhs_number: person.number, child: sent, plans })
}

/// What an upload says about a plan: its start, later its end, or that it was an error.
fn action(plan: &PlanStory, ago: Ago, today: NaiveDate) -> Option<PlanAction> {
    let started = first_upload_from(plan.start)?;
    let put =
        |end: Option<Ago>| PlanAction::Put { start: before(today, plan.start), end: end.map(|end| before(today, end)) };
    if ago == started {
        return Some(put(plan.end.filter(|end| *end >= ago)));
    }
    if plan.in_error && first_upload_from(started - 1) == Some(ago) {
        return Some(PlanAction::Delete { start: Some(before(today, plan.start)) });
    }
    (plan.end.and_then(first_upload_from) == Some(ago)).then(|| put(plan.end))
}

/// A year in emergency departments and the like.
fn look_ups(everybody: &Population, day: &Days<'_>) -> Vec<Event> {
    let mut dice = Dice::new(0x0DD5);
    let authors: Vec<&Actor> = ACTORS.iter().filter(|actor| works_unscheduled(actor)).collect();
    let mut events = Vec::new();
    let mut look = |number: NhsNumber, ago: Ago, minute: u32, by: By| {
        events.push(Event { at: day.at(ago, minute), what: What::LookUp { number, by } });
    };
    let author =
        |n: u32| authors.get(usize::try_from(n).unwrap_or(0) % authors.len().max(1)).map(|actor| By::User(actor));

    if let Some(child) = everybody.known(Known::ManyAccesses) {
        for (n, ago) in (0..).zip((8..=330).rev().step_by(8)) {
            let Some(by) = author(n) else { break };
            look(child.person.number, ago, 610, by);
            if n % 3 == 0 {
                // The same author three hours later: audited, neither listed nor notified.
                look(child.person.number, ago, 790, by);
            }
            if n % 5 == 0 {
                // The day after at the same minute: 24 hours have passed on most days, so it is listed again.
                look(child.person.number, ago - 1, 610, by);
            }
        }
    }
    let stays: [(Known, &[Ago]); 6] = [
        (Known::ActivePlan, &[60, 31, 3]),
        (Known::TwoAuthorities, &[40, 12]),
        (Known::CppAndLac, &[140, 100, 22]),
        (Known::Unborn, &[50, 9]),
        (Known::EndedVisible, &[300, 200, 20]),
        (Known::EndedHidden, &[350, 210]),
    ];
    for (n, (known, days)) in (0..).zip(stays) {
        let Some(child) = everybody.known(known) else { continue };
        for (ago, m) in days.iter().zip(0..) {
            let Some(by) = author(n + m) else { break };
            look(child.person.number, *ago, 400 + 37 * m, by);
        }
    }
    for _ in 0..BY_CHANCE {
        let on_record = dice.pick(&everybody.children).map(|child| &child.person);
        let person = if dice.below(100) < IN_VAIN { dice.pick(&everybody.without_plan) } else { on_record };
        let by = if dice.below(100) < BY_DEVICE { Some(By::Device) } else { author(dice.below(1000)) };
        let (ago, minute) = (dice.between(1, YEAR), dice.below(MINUTES));
        if let (Some(person), Some(by)) = (person, by) {
            look(person.number, ago, minute, by);
        }
    }
    events
}

fn works_unscheduled(actor: &Actor) -> bool {
    Member::find(actor.organization).is_some_and(Member::is_unscheduled)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(today: &str) -> (Population, Vec<Event>) {
        let (today, calendar) = (today.parse().unwrap(), Calendar::new(chrono_tz::Europe::London));
        let everybody = Population::on(today);
        let events = timeline(&everybody, today, &calendar);
        (everybody, events)
    }

    #[test]
    fn everything_lies_in_order_before_today_whatever_the_day() {
        for today in ["2026-11-23", "2026-10-26", "2026-03-30", "2028-03-01"] {
            let (_, events) = of(today);
            assert!(events.windows(2).all(|pair| pair[0].at <= pair[1].at));
            let start = Calendar::new(chrono_tz::Europe::London).day_bounds(today.parse().unwrap()).0;
            assert!(events.last().unwrap().at < start, "{today}");
        }
    }

    #[test]
    fn every_child_is_sent_with_its_data_before_anything_else_about_it() {
        let (everybody, events) = of("2026-11-23");
        let mut sent = std::collections::HashSet::new();
        for event in &events {
            let What::Upload { authority, records } = &event.what else { continue };
            let mut entries = Vec::new();
            for record in records {
                let first = sent.insert((authority.ods, record.nhs_number));
                assert_eq!(first, record.child.is_some());
                entries.extend(record.child.iter().map(|child| child.entry));
                entries.extend(record.plans.iter().map(|plan| plan.entry));
            }
            assert_eq!(entries, (0..entries.len()).collect::<Vec<_>>());
        }
        let children = sent.iter().map(|(_, number)| number).collect::<std::collections::HashSet<_>>();
        assert_eq!(children.len(), everybody.children.len());
    }

    #[test]
    fn one_child_is_looked_up_more_than_25_times_some_within_a_day() {
        let (everybody, events) = of("2026-11-23");
        let child = everybody.known(Known::ManyAccesses).unwrap().person.number;
        let times: Vec<DateTime<Utc>> = events
            .iter()
            .filter(|event| matches!(&event.what, What::LookUp { number, .. } if *number == child))
            .map(|event| event.at)
            .collect();
        assert!(times.len() > 40);
        assert!(times.windows(2).any(|pair| pair[1] - pair[0] < TimeDelta::hours(24)));
        let year = *times.last().unwrap() - times[0];
        assert!(year > TimeDelta::days(300) && year < TimeDelta::days(365));
    }
}
