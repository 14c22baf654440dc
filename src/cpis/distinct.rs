//! The cap on distinct children: how many different children one author asks for within an hour of the clock, by whatever
//! clinical look-up or `$match`, whether or not anything is found (design 10). Over the cap an alert is raised, once for an
//! author and hour; whether further children are refused is the operator's choice.
//!
//! It is counted in the transaction that audits, so it holds for all processes of a store together. What others have not
//! committed yet isn't seen: with several processes a few children more may pass before the cap is noticed. An hour of the
//! clock, not any sixty minutes: at the turn of the hour the count begins anew.
//!
//! The children stand in the table by their numbers. A keyed hash would hide nothing: the audit record that is written with
//! each row holds the same number and author, and stays for years, while these rows go when their hour is over.

use chrono::{DateTime, Utc};

use super::{
    gateway::{Error, Gateway},
    lifecycle::LifecycleTerms,
    limits::Limits,
    types::{
        audit::{EntityRef, SystemEvent},
        caller::{Author, Caller},
    },
};
use crate::{
    store::{self, Conn, StoreError, Tx},
    telemetry::metrics,
};

const HOUR_MS: i64 = 3_600_000;
/// Authors whose rows one transaction removes: look-ups wait behind it.
const AUTHORS_AT_ONCE: i64 = 64;
/// Such transactions in one round.
const MOST_BATCHES: usize = 64;

/// What counting a child came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counted {
    /// Over the cap, and refused.
    pub refused: bool,
    /// The first over the cap: the operator is to be told.
    pub alert: bool,
}

/// Hours since 1970.
fn hour_of(now: DateTime<Utc>) -> i64 {
    now.timestamp_millis().div_euclid(HOUR_MS)
}

/// Children that an author may ask for within an hour; `None` without a cap.
fn cap_of(limits: &Limits, author: &Author) -> Option<i64> {
    let cap = match author {
        Author::Person(_) => limits.distinct_children,
        Author::Device { .. } | Author::System => limits.distinct_children_of_devices,
    };
    Some(i64::from(cap)).filter(|cap| *cap > 0)
}

/// Who it was, for the audit: a user by the SDS user id, a device by its client.
fn entity_of(caller: &Caller) -> EntityRef {
    let (resource, id) = match &caller.author {
        Author::Person(user) => ("Practitioner", &user.sds_user_id),
        Author::Device { .. } | Author::System => ("Device", &caller.client_id),
    };
    EntityRef { resource: resource.to_owned(), id: id.clone(), version: None }
}

impl Gateway {
    /// Counts a child that a caller asks for, before it is looked up. `child` is its number, or what else the request
    /// names it by.
    pub(super) fn count_child(
        &self,
        tx: &mut Tx<'_>,
        caller: &Caller,
        child: &str,
        now: DateTime<Utc>,
    ) -> Result<Counted, StoreError> {
        let Some(cap) = cap_of(&self.limits, &caller.author) else { return Ok(Counted::default()) };
        let (hour, author) = (hour_of(now), caller.author_key());
        let is_new = store::asked::add(tx.conn, hour, &author, child)?;
        if !is_new || !store::asked::is_over(tx.conn, hour, &author, cap)? {
            return Ok(Counted::default());
        }
        let refused = self.limits.refuse_over_cap;
        if refused {
            // Refused again if it is asked for again.
            store::asked::remove(tx.conn, hour, &author, child)?;
        }
        let alert = store::asked::is_first_alert(tx.conn, hour, &author)?;
        if alert {
            let event = SystemEvent {
                by: "limits".to_owned(),
                change: "distinct-children".to_owned(),
                patient: None,
                organization: Some(caller.organization.ods.clone()),
                entity: Some(entity_of(caller)),
            };
            tx.append_system_audit(now, event)?;
        }
        Ok(Counted { refused, alert })
    }

    /// Whether [`Gateway::count_child`] would refuse the child: for who has to know before it writes.
    pub(super) fn would_refuse(
        &self,
        conn: &mut Conn,
        caller: &Caller,
        child: &str,
        now: DateTime<Utc>,
    ) -> Result<bool, StoreError> {
        let cap = cap_of(&self.limits, &caller.author).filter(|_| self.limits.refuse_over_cap);
        let Some(cap) = cap else { return Ok(false) };
        let (hour, author) = (hour_of(now), caller.author_key());
        Ok(!store::asked::is_kept(conn, hour, &author, child)? && store::asked::is_over(conn, hour, &author, cap - 1)?)
    }

    /// Tells the operator of what was counted, once it is durable, and refuses what is over the cap.
    pub(super) fn act_on_count(&self, counted: Counted, caller: &Caller) -> Result<(), Error> {
        if counted.alert {
            let author = match caller.author {
                Author::Person(_) => "person",
                Author::Device { .. } | Author::System => "device",
            };
            tracing::warn!(
                alert = "distinct-children",
                organization = caller.organization.ods.as_str(),
                author,
                refused = counted.refused,
                "an author asked for more different children within the hour than limits say: the audit names the author"
            );
            self.metrics.count(&metrics::OVER_CAP, &[author]);
        }
        if counted.refused {
            let begun = self.clock.now().timestamp_millis().rem_euclid(HOUR_MS);
            return Err(Error::OverCap { seconds: (HOUR_MS - begun + 999) / 1000 });
        }
        Ok(())
    }

    /// Removes what was counted in hours that are over; returns of how many authors and hours. None while another process
    /// has the lease.
    ///
    /// # Errors
    /// [`Error`]; what was removed before it stays so.
    pub async fn forget_counted_children(&self, terms: &LifecycleTerms) -> Result<usize, Error> {
        let mut removed = 0;
        for _ in 0..MOST_BATCHES {
            let hour = hour_of(self.clock.now());
            if !self.store.read(move |conn| store::asked::any_before(conn, hour)).await? {
                break;
            }
            let (terms, clock) = (terms.clone(), self.clock.clone());
            let write = self.store.write_behind(Vec::new(), move |tx| {
                if !terms.hold(tx, clock.now())? {
                    return Ok(None);
                }
                store::asked::remove_before(tx.conn, hour, AUTHORS_AT_ONCE).map(Some)
            });
            let Some(batch) = write.await? else { break };
            removed += batch;
        }
        Ok(removed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hours_are_those_of_the_clock() {
        let hour = |text: &str| hour_of(text.parse().unwrap());
        assert_eq!(hour("2026-11-23T12:00:00Z"), hour("2026-11-23T12:59:59.999Z"));
        assert_eq!(hour("2026-11-23T13:00:00Z"), hour("2026-11-23T12:00:00Z") + 1);
        assert_eq!(hour("1969-12-31T23:30:00Z"), -1);
    }
}
