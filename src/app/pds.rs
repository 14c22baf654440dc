//! PDS as a source of demographics, put together from its settings.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use chrono::{DateTime, Utc};
use futures_util::future::{self, BoxFuture};
use secrecy::{SecretSlice, SecretString};

use super::StartFault;
use crate::{
    clock::Clock,
    config::Settings,
    demographics::{Pds, pds_observer},
    outside::pds::{PdsClient, PdsSettings, Time},
    telemetry::metrics::Metrics,
};

/// Time for the client of PDS. A clock that stands is moved by its owner alone: whoever sleeps goes on at once, and only for
/// the client is it later then.
struct PdsTime {
    clock: Clock,
    started: Instant,
    /// Milliseconds by which the client is ahead of a standing clock.
    slept: AtomicU64,
}

impl PdsTime {
    fn standing(&self) -> Duration {
        Duration::from_millis(u64::try_from(self.clock.now().timestamp_millis()).unwrap_or_default())
    }
}

impl Time for PdsTime {
    fn now(&self) -> Duration {
        if self.clock.stands() {
            self.standing() + Duration::from_millis(self.slept.load(Ordering::SeqCst))
        } else {
            self.started.elapsed()
        }
    }

    fn utc(&self) -> DateTime<Utc> {
        self.clock.now()
    }

    fn sleep_until(&self, at: Duration) -> BoxFuture<'_, ()> {
        if self.clock.stands() {
            let ahead = u64::try_from(at.saturating_sub(self.standing()).as_millis()).unwrap_or(u64::MAX);
            self.slept.fetch_max(ahead, Ordering::SeqCst);
            Box::pin(future::ready(()))
        } else {
            Box::pin(tokio::time::sleep_until((self.started + at).into()))
        }
    }

    fn passed(&self, at: Duration) -> BoxFuture<'_, ()> {
        if self.clock.stands() { Box::pin(future::pending()) } else { self.sleep_until(at) }
    }
}

/// PDS, as the settings name it.
///
/// # Errors
/// [`StartFault`] when a file can't be read, or what is in it not be used.
pub(super) fn demographics(settings: &Settings, clock: &Clock, metrics: &Metrics) -> Result<Pds, StartFault> {
    let pds = &settings.pds;
    let read =
        |path: &Path| std::fs::read(path).map_err(|source| StartFault::KeyFile { path: path.to_owned(), source });
    let api_key = match (&pds.api_key, &pds.api_key_file) {
        (Some(key), _) => SecretString::from(key.expose()),
        (None, Some(path)) => SecretString::from(String::from_utf8_lossy(&read(path)?).trim()),
        (None, None) => SecretString::from(""),
    };
    let key = pds.key_file.as_deref().map(read).transpose()?.unwrap_or_default();
    let token_url = pds.token_url.clone().unwrap_or_default();
    let seconds = |seconds: u16| Duration::from_secs(seconds.into());
    Ok(Pds(PdsClient::new(PdsSettings {
        url: pds.url.clone().unwrap_or_default(),
        audience: pds.audience.clone().unwrap_or_else(|| token_url.clone()),
        token_url,
        api_key,
        key: SecretSlice::from(key),
        kid: pds.kid.clone().unwrap_or_default(),
        authorities: pds.authorities.as_deref().map(read).transpose()?,
        per_second: pds.requests_per_second.into(),
        concurrency: pds.concurrency.into(),
        timeout: seconds(pds.timeout_seconds),
        patience: seconds(pds.patience_seconds),
        attempts: pds.attempts.into(),
        breaker_failures: pds.breaker_failures.into(),
        breaker_pause: seconds(pds.breaker_seconds),
        zone: settings.zone,
        time: Arc::new(PdsTime { clock: clock.clone(), started: Instant::now(), slept: AtomicU64::new(0) }),
        observer: pds_observer(metrics.clone()),
    })?))
}
