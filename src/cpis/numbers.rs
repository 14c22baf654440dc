//! What becomes of an NHS number: superseded, invalidated, retired, restricted, and back; who is told (design 9). An
//! administrator says it, or demographics do ([`super::news`]).
//!
//! Told of a number that became inactive is every authority that holds a child under exactly that number and whose record
//! would still be shown by its dates: it is the one that still sends the child, and has to change its own record. One
//! whose plans are deleted, or ended too long ago to be shown to anybody, is told nothing: it has no part in the child
//! any more, and that a number was given up is the child's secret too. Of a restriction and of a death the authorities of
//! all the child's numbers are told, each under its own.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};

use super::{
    gateway::{Error, Gateway},
    types::{
        NhsNumber,
        audit::RequestEvent,
        child::{NumberChange, NumberStatus},
        notice::{EndedReason, InactiveReason},
    },
    visibility,
};
use crate::store::{
    self, Conn, StoreError, Tx,
    person::{self, Person},
};

/// What a change came to. An administrator is not told: it would say whether the child is on record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Changed {
    Done,
    /// It was so already: nobody is told anything.
    AsItWas,
    /// It would close a loop, or join a retired number to another.
    Refused,
}

impl Gateway {
    /// An administrator says what has become of a number. Change, notifications and audit are durable when this returns;
    /// it takes the same way whether or not anybody holds the number.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn set_number_status(
        &self,
        number: NhsNumber,
        change: NumberChange,
        event: RequestEvent,
    ) -> Result<Changed, Error> {
        let gateway = self.clone();
        let children = children_of(number, change);
        let write = self.store.write(children, move |tx| {
            let now = gateway.clock.now();
            let changed = gateway.change_number(tx, number, change, now)?;
            let mut event = event.clone();
            event.patient = Some(number);
            event.change = Some(change.code().to_owned());
            tx.append_audit(now, event)?;
            Ok(changed)
        });
        let changed = write.await?;
        if changed == Changed::Refused {
            // Without the number, and to the operator only.
            tracing::warn!(
                alert = "number-change-refused",
                change = change.code(),
                "a change of a number was passed over"
            );
        }
        Ok(changed)
    }

    /// [`Gateway::set_number_status`] within a transaction that holds the child of every number that it names ([`children_of`]).
    pub(super) fn change_number(
        &self,
        tx: &mut Tx<'_>,
        number: NhsNumber,
        change: NumberChange,
        now: DateTime<Utc>,
    ) -> Result<Changed, StoreError> {
        let person = person::find_or_create(tx.conn, &number)?;
        let replacing = match change {
            NumberChange::Superseded(by) => Some(person::find_or_create(tx.conn, &by)?),
            _ => None,
        };
        let named: Vec<NhsNumber> = children_of(number, change);
        let before = restricted_of(tx.conn, &named)?;
        let changed = apply(tx.conn, &person, change, replacing.as_ref(), now)?;
        if changed != Changed::Done {
            return Ok(changed);
        }
        // Something newer is known than any answer that was kept.
        store::trace::forget(tx.conn, &[number])?;
        if change == NumberChange::Retired {
            self.part_from_retired(tx, &person, now)?;
        }
        if let Some(reason) = inactive(change) {
            let replaced_by = replacing.as_ref().map(|by| &by.nhs_number);
            for (authority, number) in self.holders(tx.conn, &[person.id], now)? {
                store::outbox::add_inactive_number(tx.conn, authority, &number, reason, replaced_by, now)?;
            }
        }
        if change == NumberChange::Deceased {
            let persons = person::child(tx.conn, &number)?.map(|child| child.persons).unwrap_or_default();
            self.tell(tx.conn, &persons, EndedReason::Deceased, now)?;
        }
        // Numbers that were joined or parted may have come under a restriction, or out of it.
        let after = restricted_of(tx.conn, &named)?;
        let all: BTreeMap<i64, bool> = before.iter().chain(&after).map(|(id, _)| (*id, false)).collect();
        let at = |map: &BTreeMap<i64, bool>, id: &i64| map.get(id).copied();
        let turned = |to: bool| -> Vec<i64> {
            // What was not within reach before stood by itself, as it still would.
            let was = |id: &i64| at(&before, id).unwrap_or(false);
            all.keys().filter(|id| at(&after, id).unwrap_or(was(id)) == to && was(id) != to).copied().collect()
        };
        self.tell(tx.conn, &turned(true), EndedReason::Withheld, now)?;
        self.tell(tx.conn, &turned(false), EndedReason::Unwithheld, now)?;
        Ok(changed)
    }

    fn tell(
        &self,
        conn: &mut Conn,
        persons: &[i64],
        reason: EndedReason,
        now: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        let holders = self.holders(conn, persons, now)?;
        if reason == EndedReason::Withheld && !holders.is_empty() {
            tracing::warn!(
                alert = "child-withheld",
                records = holders.len(),
                "a child on record is restricted: withheld"
            );
        }
        for (authority, number) in holders {
            store::outbox::add_record_ended(conn, authority, &number, reason, None, now)?;
        }
        Ok(())
    }

    /// The authorities with a record of these persons that would be shown by its dates, each with its own number.
    pub(super) fn holders(
        &self,
        conn: &mut Conn,
        persons: &[i64],
        now: DateTime<Utc>,
    ) -> Result<Vec<(i64, NhsNumber)>, StoreError> {
        let today = self.calendar.day_of(now);
        let mut holders = Vec::new();
        for owned in store::child::of_persons(conn, persons)? {
            let traced = person::get(conn, owned.child.person_id)?.traced_birth_date;
            let birth = traced.unwrap_or(owned.child.demographics.birth_date);
            let plans = store::plan::of_children(conn, &[owned.child.id])?;
            let is_shown = plans.iter().map(|held| &held.plan).any(|plan| {
                let by_dates = visibility::visible(plan.plan_type, &plan.period, Some(birth), today, &self.limits);
                !plan.deleted && by_dates
            });
            if is_shown {
                holders.push((owned.authority_id, owned.child.nhs_number));
            }
        }
        Ok(holders)
    }
}

/// The numbers whose children a change may touch: to be locked by who makes it.
pub(super) fn children_of(number: NhsNumber, change: NumberChange) -> Vec<NhsNumber> {
    match change {
        NumberChange::Superseded(by) => vec![number, by],
        _ => vec![number],
    }
}

fn inactive(change: NumberChange) -> Option<InactiveReason> {
    match change {
        NumberChange::Superseded(_) => Some(InactiveReason::Superseded),
        NumberChange::Invalidated => Some(InactiveReason::Invalidated),
        NumberChange::Retired => Some(InactiveReason::Retired),
        _ => None,
    }
}

/// Every person of the children of these numbers, and whether its child is restricted.
fn restricted_of(conn: &mut Conn, numbers: &[NhsNumber]) -> Result<BTreeMap<i64, bool>, StoreError> {
    let mut restricted = BTreeMap::new();
    for number in numbers {
        let Some(child) = person::child(conn, number)? else { continue };
        restricted.extend(child.persons.iter().chain([&child.asked.id]).map(|id| (*id, child.restricted)));
    }
    Ok(restricted)
}

/// What a number is, a restriction apart.
fn standing(conn: &mut Conn, person: &Person) -> Result<NumberStatus, StoreError> {
    if person.status != NumberStatus::Restricted {
        return Ok(person.status);
    }
    Ok(match person.beneath {
        Some(beneath) => beneath,
        None if person::replacing(conn, person.id)?.is_some() => NumberStatus::Superseded,
        None => NumberStatus::Current,
    })
}

/// Writes a change, if it is one. A restriction stays over whatever else is said of the number but that it is current.
fn apply(
    conn: &mut Conn,
    person: &Person,
    change: NumberChange,
    replacing: Option<&Person>,
    now: DateTime<Utc>,
) -> Result<Changed, StoreError> {
    let (id, restricted) = (person.id, person.status == NumberStatus::Restricted);
    let standing = standing(conn, person)?;
    let alias = person::replacing(conn, id)?;
    match change {
        NumberChange::Current if !restricted && standing == NumberStatus::Current && alias.is_none() => {
            return Ok(Changed::AsItWas);
        }
        NumberChange::Current => {
            person::remove_alias(conn, id)?;
            person::set_beneath(conn, id, None)?;
            person::set_status(conn, id, NumberStatus::Current)?;
        }
        NumberChange::Superseded(_) => return supersede(conn, person, standing, replacing, now),
        NumberChange::Invalidated if standing == NumberStatus::Invalid => return Ok(Changed::AsItWas),
        NumberChange::Invalidated => set_standing(conn, person, NumberStatus::Invalid)?,
        NumberChange::Retired if standing == NumberStatus::Retired => return Ok(Changed::AsItWas),
        NumberChange::Retired => {
            person::remove_alias(conn, id)?;
            set_standing(conn, person, NumberStatus::Retired)?;
        }
        NumberChange::Restricted if restricted => return Ok(Changed::AsItWas),
        NumberChange::Restricted => {
            let kept = [NumberStatus::Invalid, NumberStatus::Retired].contains(&standing).then_some(standing);
            person::set_beneath(conn, id, kept)?;
            person::set_status(conn, id, NumberStatus::Restricted)?;
        }
        NumberChange::Unrestricted if !restricted => return Ok(Changed::AsItWas),
        NumberChange::Unrestricted => {
            person::set_beneath(conn, id, None)?;
            person::set_status(conn, id, standing)?;
        }
        NumberChange::Deceased | NumberChange::Alive => {
            let deceased = change == NumberChange::Deceased;
            if person.deceased == deceased {
                return Ok(Changed::AsItWas);
            }
            person::set_deceased(conn, id, deceased)?;
        }
    }
    Ok(Changed::Done)
}

fn supersede(
    conn: &mut Conn,
    person: &Person,
    standing: NumberStatus,
    replacing: Option<&Person>,
    now: DateTime<Utc>,
) -> Result<Changed, StoreError> {
    let Some(replacing) = replacing else { return Ok(Changed::Refused) };
    let is_retired = standing == NumberStatus::Retired || self::standing(conn, replacing)? == NumberStatus::Retired;
    if is_retired || person::leads_to(conn, replacing.id, person.id)? {
        return Ok(Changed::Refused);
    }
    let alias = person::replacing(conn, person.id)?;
    if standing == NumberStatus::Superseded && alias == Some(replacing.id) {
        return Ok(Changed::AsItWas);
    }
    person::remove_alias(conn, person.id)?;
    person::supersede(conn, person.id, replacing.id, now.timestamp_millis())?;
    person::set_beneath(conn, person.id, None)?;
    Ok(Changed::Done)
}

/// Under a restriction the state is kept beneath it.
pub(super) fn set_standing(conn: &mut Conn, person: &Person, status: NumberStatus) -> Result<(), StoreError> {
    if person.status == NumberStatus::Restricted {
        person::set_beneath(conn, person.id, Some(status))
    } else {
        person::set_status(conn, person.id, status)
    }
}
