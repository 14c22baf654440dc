//! The system ends records: a CPP or LAC at the 18th birthday, a UCP when it has run for as long as one can; and takes that
//! back when a birth date is corrected (design 2). The authority is told once.
//!
//! Nothing that clinicians see depends on it: they are shown plans by the dates as sent and by the rules of the day
//! ([`super::visibility`]). The end is a version of the plan, for its owner. A child is looked at when its day comes, or
//! when something of it changed since; which day is next is kept with it, so a round costs what is due and no more.

use std::collections::BTreeSet;

use chrono::{DateTime, NaiveDate, Utc};

use super::{
    gateway::{Error, Gateway},
    lifecycle::LifecycleTerms,
    types::{
        NhsNumber,
        audit::{EntityRef, SystemEvent},
        notice::EndedReason,
        plan::SystemEnd,
    },
    visibility::ruled_end,
};
use crate::store::{
    self, StoreError, Tx,
    child::{DueChild, OwnedChild},
    history::Recording,
    plan::{ChildPlan, VersionContent},
    upload::{CANCELLED, STAGED},
};

/// Children of one transaction: look-ups wait behind it (design 6).
pub const AT_ONCE: usize = 64;

/// What one batch did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ended {
    /// Children that were looked at.
    pub children: usize,
    /// Ends written.
    pub ended: usize,
    /// Ends taken back.
    pub reopened: usize,
}

impl Gateway {
    /// Looks at the next children that are due, at most [`AT_ONCE`]: ends what has to end, takes back what has not.
    /// None looked at: nothing is due, or another process does it.
    ///
    /// # Errors
    /// [`Error`]; nothing of the batch is then done.
    pub async fn end_due_records(&self, terms: &LifecycleTerms) -> Result<Ended, Error> {
        let today = self.today();
        let most = i64::try_from(AT_ONCE).unwrap_or(i64::MAX);
        let due = self.store.read(move |conn| store::child::due(conn, today, most)).await?;
        if due.is_empty() {
            return Ok(Ended::default());
        }
        let numbers: Vec<NhsNumber> = due.iter().map(|child| child.nhs_number).collect();
        let (gateway, terms) = (self.clone(), terms.clone());
        let write = self.store.write(numbers, move |tx| gateway.end_in(tx, &terms, &due));
        Ok(write.await?)
    }

    fn end_in(&self, tx: &mut Tx<'_>, terms: &LifecycleTerms, due: &[DueChild]) -> Result<Ended, StoreError> {
        let now = self.clock.now();
        let mut done = Ended::default();
        if !terms.hold(tx, now)? {
            return Ok(done);
        }
        let mut waiting = BTreeSet::new();
        let authorities: BTreeSet<i64> = due.iter().map(|child| child.authority).collect();
        for authority in authorities {
            store::organization::lock(tx.conn, authority)?;
            if store::upload::any_in(tx.conn, authority, &[STAGED, CANCELLED])? {
                waiting.insert(authority);
            }
        }
        for child in due.iter().filter(|child| !waiting.contains(&child.authority)) {
            // It may have moved to another authority since it was read: then it is for the next round.
            let owned = store::child::get(tx.conn, child.id)?;
            if let Some(owned) = owned.filter(|owned| owned.authority_id == child.authority) {
                let next = self.end_child(tx, &owned, now, &mut done)?;
                store::child::set_due(tx.conn, child.id, next)?;
            } else {
                // No version counts: an upload that is discarded, or one that will say when it is due.
                store::child::set_due(tx.conn, child.id, None)?;
            }
            done.children += 1;
        }
        Ok(done)
    }

    /// The next day on which something of the child has to end.
    fn end_child(
        &self,
        tx: &mut Tx<'_>,
        owned: &OwnedChild,
        now: DateTime<Utc>,
        done: &mut Ended,
    ) -> Result<Option<NaiveDate>, StoreError> {
        let today = self.calendar.day_of(now);
        let traced = store::person::get(tx.conn, owned.child.person_id)?.traced_birth_date;
        let birth = traced.unwrap_or(owned.child.demographics.birth_date);
        let mut next: Option<NaiveDate> = None;
        for held in store::plan::of_children(tx.conn, &[owned.child.id])? {
            if held.plan.deleted {
                continue;
            }
            let ruled = ruled_end(held.plan.plan_type, &held.plan.period, birth, &self.limits);
            match ruled {
                // Written before: a clock that has gone back takes nothing back.
                Some((end, _)) if held.plan.ended == Some(end) => {}
                Some((end, from)) if from <= today => {
                    self.end(tx, owned, &held, Some(end), now)?;
                    done.ended += 1;
                }
                ruled => {
                    if let Some((_, from)) = ruled {
                        next = Some(next.map_or(from, |next| next.min(from)));
                    }
                    if held.plan.ended.is_some() {
                        self.end(tx, owned, &held, None, now)?;
                        done.reopened += 1;
                    } else {
                        // The authority has ended it itself since.
                        store::plan::set_ended_told(tx.conn, held.key, None)?;
                    }
                }
            }
        }
        Ok(next)
    }

    /// Writes an end, or that it is taken back, as a version by the system, and tells the authority unless it was told.
    fn end(
        &self,
        tx: &mut Tx<'_>,
        owned: &OwnedChild,
        held: &ChildPlan,
        end: Option<SystemEnd>,
        now: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        let (authority, number) = (owned.authority_id, owned.child.nhs_number);
        let reason = end.map_or(EndedReason::Reopened, |end| end.reason);
        let recording = Recording::by_system(tx.conn, authority, now.timestamp_millis())?;
        let plan = &held.plan;
        let sent = VersionContent { period: plan.period, local_id: plan.local_id.as_ref(), deleted: false };
        let version =
            store::plan::add_system_version(tx.conn, held.key, sent, reason, end.map(|end| end.on), recording)?;
        let told = end.map(|end| end.reason);
        if told.is_none() || store::plan::ended_told(tx.conn, held.key)? != told {
            store::outbox::add_record_ended(tx.conn, authority, &number, reason, Some(held.key), now)?;
        }
        store::plan::set_ended_told(tx.conn, held.key, told)?;
        let ods = store::organization::get(tx.conn, authority)?.ods;
        let entity = EntityRef { resource: "Flag".to_owned(), id: plan.id.to_string(), version: Some(version) };
        let event = SystemEvent {
            by: "lifecycle".to_owned(),
            change: reason.code().to_owned(),
            patient: Some(number),
            organization: Some(ods),
            entity: Some(entity),
        };
        tx.append_system_audit(now, event)
    }
}
