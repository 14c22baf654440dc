//! The dead-man's alert: an authority from which nothing has come for too long (design 7). What it holds may be out of
//! date, so its care teams say when they were last confirmed, and the operator is alerted.

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};

use super::{
    calendar::Calendar,
    gateway::{Error, Gateway},
    lifecycle::LifecycleTerms,
    limits::Limits,
    types::OdsCode,
};
use crate::{
    clock::from_millis,
    store::{self, organization::Silent},
};

/// Authorities that one answer names, and one round alerts about, at most.
const MOST: i64 = 1000;
/// An alert is raised again after this, while the authority stays silent.
const AGAIN: TimeDelta = TimeDelta::hours(24);

/// An authority from which no change has come for [`Limits::silent_hours`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SilentAuthority {
    pub ods: OdsCode,
    pub name: String,
    pub last_confirmed: DateTime<Utc>,
}

/// The London day on which an authority last confirmed its records, if that is too long ago; never for one that has not
/// sent anything yet.
pub(super) fn last_confirmed(
    confirmed_ms: Option<i64>,
    now: DateTime<Utc>,
    calendar: &Calendar,
    limits: &Limits,
) -> Option<NaiveDate> {
    let confirmed = confirmed_ms.map(from_millis)?;
    (now - confirmed >= silence(limits)).then(|| calendar.day_of(confirmed))
}

fn silence(limits: &Limits) -> TimeDelta {
    TimeDelta::hours(limits.silent_hours.into())
}

impl Gateway {
    /// The active authorities that are silent, the longest silent first; a thousand at most.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn silent_authorities(&self) -> Result<Vec<SilentAuthority>, Error> {
        let before_ms = (self.clock.now() - silence(&self.limits)).timestamp_millis();
        let read = self.store.read(move |conn| store::organization::silent(conn, before_ms, MOST));
        let silent = read.await?.into_iter();
        Ok(silent
            .map(|Silent { ods, name, confirmed_ms, .. }| SilentAuthority {
                ods,
                name,
                last_confirmed: from_millis(confirmed_ms),
            })
            .collect())
    }

    /// Raises the alert of each authority that has become silent, or that still is a day after its last one; returns their
    /// codes. None while another process has the lease.
    ///
    /// # Errors
    /// [`Error`]; then nothing was raised.
    pub async fn alert_of_silence(&self, terms: &LifecycleTerms) -> Result<Vec<OdsCode>, Error> {
        let now = self.clock.now();
        let before_ms = (now - silence(&self.limits)).timestamp_millis();
        let is_due = move |silent: &Silent| {
            let alerted = silent.alert_ms.filter(|at| *at >= silent.confirmed_ms).map(from_millis);
            alerted.is_none_or(|at| now - at >= AGAIN)
        };
        let found = self.store.read(move |conn| store::organization::silent(conn, before_ms, MOST)).await?;
        let due: Vec<i64> = found.iter().filter(|silent| is_due(silent)).map(|silent| silent.id).collect();
        if due.is_empty() {
            return Ok(Vec::new());
        }
        let (terms, marked) = (terms.clone(), due.clone());
        let write = self.store.write(Vec::new(), move |tx| {
            let holds = terms.hold(tx, now)?;
            if holds {
                store::organization::mark_alerted(tx.conn, &marked, now.timestamp_millis())?;
            }
            Ok(holds)
        });
        if !write.await? {
            return Ok(Vec::new());
        }
        let mut raised = Vec::new();
        for silent in found.into_iter().filter(|silent| due.contains(&silent.id)) {
            let hours = (now - from_millis(silent.confirmed_ms)).num_hours();
            tracing::warn!(
                alert = "authority-silent",
                authority = silent.ods.as_str(),
                hours,
                "nothing was applied of this authority for too long: what is shown of it may be out of date"
            );
            raised.push(silent.ods);
        }
        Ok(raised)
    }
}
