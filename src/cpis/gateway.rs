//! What the use cases share: store, clock, calendar, limits, demographics.

use std::sync::Arc;

use chrono::NaiveDate;

use super::{
    calendar::Calendar,
    later::Later,
    limits::Limits,
    types::{audit::RequestEvent, child::Demographics as Traced},
    upload::turn::Uploads,
};
use crate::{
    clock::Clock,
    demographics::Demographics,
    store::{self, Store, StoreError},
    telemetry::metrics::Metrics,
};

/// The CP-IS service over one store. Cheap to clone.
#[derive(Clone)]
pub struct Gateway {
    pub store: Store,
    pub clock: Clock,
    pub calendar: Calendar,
    pub limits: Limits,
    pub demographics: Arc<dyn Demographics>,
    /// Clinicians see name and birth date too.
    pub disclose_demographics: bool,
    /// How changes of authorities are taken.
    pub uploads: Uploads,
    pub metrics: Metrics,
    /// What answers don't wait for.
    pub later: Later,
}

/// Why a use case gave nothing. What was wrong with the request itself is in the values that they return.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store can't answer safely, or can't make the audit durable: no data may leave.
    #[error("the store can't answer: {0}")]
    Unavailable(StoreError),
    /// Another writer of the same record was first, again and again.
    #[error("lost a race with another writer")]
    Race,
    /// The store holds what it should not.
    #[error("the store is at fault: {0}")]
    Fault(StoreError),
    /// Demographics can't be asked: send the whole again (CPF05).
    #[error("demographics are not available")]
    DemographicsUnavailable,
    /// Another change of the same authority was under way for too long. Nothing was stored.
    #[error("another change of the authority is under way")]
    Occupied,
    /// The caller asked for more different children within the hour than it may; audited. The next hour begins in so many
    /// seconds.
    #[error("too many different children were asked for")]
    OverCap { seconds: i64 },
}

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Race => Self::Race,
            StoreError::Corrupt(_) => Self::Fault(error),
            other => Self::Unavailable(other),
        }
    }
}

impl Gateway {
    /// The civil date of this moment.
    pub fn today(&self) -> NaiveDate {
        self.calendar.day_of(self.clock.now())
    }

    /// Whether the store can be read.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when it can't.
    pub async fn check(&self) -> Result<(), Error> {
        Ok(self.store.read(store::ping).await?)
    }

    /// Writes a security event that comes with no other change; durable when this returns.
    ///
    /// # Errors
    /// [`Error`] when it can't be stored: then nothing may be answered but 503.
    pub async fn audit(&self, event: RequestEvent) -> Result<(), Error> {
        let clock = self.clock.clone();
        self.store.write(Vec::new(), move |tx| tx.append_audit(clock.now(), event.clone())).await?;
        Ok(())
    }

    /// Name and birth date for a clinician, if the operator discloses them.
    pub(super) fn disclosed(&self, known: &Traced) -> Option<Traced> {
        self.disclose_demographics.then(|| known.clone())
    }
}
