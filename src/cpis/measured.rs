//! What is measured for an exposition of the metrics and for `/_status`: each by a query whose cost does not grow with the
//! history.

use chrono::{SecondsFormat, TimeDelta};

use super::{
    gateway::{Error, Gateway},
    mesh,
    silence::SilentAuthority,
    types::{
        health::{Dependency, Health},
        subscription::SubscriptionStatus,
    },
};
use crate::{
    clock::from_millis,
    store::{
        checkpoint, lease, subscription,
        undelivered::{self, Total},
    },
    telemetry::metrics::{self, Sample},
};

/// Name of the rest-hooks among the channels.
pub const REST_HOOK: &str = "rest-hook";
/// A checkpoint that is older than this makes `/_status` warn: there is one every few seconds while there is traffic, and
/// the notifier's audit is traffic.
const OLD_CHECKPOINT: TimeDelta = TimeDelta::hours(24);

impl Gateway {
    /// The gauges at this moment. When the store can't be read, only that.
    pub async fn measured(&self) -> Vec<Sample> {
        let mut samples = self.demographics.measured();
        samples.push(Sample::new(&metrics::WRITER_WAITING, &[], count(self.store.waiting_changes())));
        let up = match self.measured_in_store().await {
            Ok(measured) => {
                samples.extend(measured);
                samples.extend(self.measured_lifecycle().await);
                samples.extend(self.measured_tracing().await);
                1.0
            }
            Err(error) => {
                tracing::warn!(%error, "the metrics could not be measured");
                0.0
            }
        };
        samples.push(Sample::new(&metrics::STORE_UP, &[], up));
        samples
    }

    async fn measured_lifecycle(&self) -> Vec<Sample> {
        let silent = self.silent_authorities().await;
        let silent = silent.map(|silent| Sample::new(&metrics::SILENT_AUTHORITIES, &[], count(silent.len())));
        let refused = self.overdue_refusals().await;
        let of = |refused: i64| count(usize::try_from(refused).unwrap_or_default());
        let refused = refused.map(|refused| Sample::new(&metrics::OVERDUE_REFUSALS, &[], of(refused)));
        [silent, refused].into_iter().flatten().collect()
    }

    async fn measured_in_store(&self) -> Result<Vec<Sample>, Error> {
        let now = self.clock.now();
        let read = self.store.read(move |conn| {
            let mut samples = Vec::new();
            // Sums over the statuses of the subscriptions: a gauge has one value for its labels.
            let mut sums: Vec<(&'static metrics::Metric, &'static str, i64)> = Vec::new();
            let mut oldest: Vec<(&'static str, f64)> = Vec::new();
            for Total { topic, given_up, status, count, oldest: since } in undelivered::totals(conn)? {
                let open = matches!(status, SubscriptionStatus::Active | SubscriptionStatus::Error);
                let metric = match (given_up, open) {
                    (true, _) => &metrics::UNDELIVERABLE,
                    (false, true) => &metrics::QUEUED,
                    (false, false) => &metrics::STOPPED,
                };
                match sums.iter_mut().find(|(known, of, _)| known.name == metric.name && *of == topic.code()) {
                    Some((_, _, sum)) => *sum += count,
                    None => sums.push((metric, topic.code(), count)),
                }
                if !given_up && open {
                    let age = seconds(now - since);
                    match oldest.iter_mut().find(|(of, _)| *of == topic.code()) {
                        Some((_, known)) => *known = known.max(age),
                        None => oldest.push((topic.code(), age)),
                    }
                }
            }
            samples.extend(sums.iter().map(|(metric, topic, sum)| {
                Sample::new(metric, &[REST_HOOK, topic], f64::from(i32::try_from(*sum).unwrap_or(i32::MAX)))
            }));
            samples.extend(
                oldest.iter().map(|(topic, age)| Sample::new(&metrics::OLDEST_SECONDS, &[REST_HOOK, topic], *age)),
            );
            for (topic, status, of) in subscription::count_by_status(conn)? {
                let of = f64::from(i32::try_from(of).unwrap_or(i32::MAX));
                samples.push(Sample::new(&metrics::SUBSCRIPTIONS, &[&topic, &status], of));
            }
            if let Some(newest) = checkpoint::newest(conn)? {
                let age = seconds(now - from_millis(newest.at_ms));
                samples.push(Sample::new(&metrics::CHECKPOINT_AGE_SECONDS, &[], age));
            }
            samples.extend(mesh::samples(conn, now)?);
            Ok(samples)
        });
        Ok(read.await?)
    }

    /// What the service depends on that is in the store or reached through it, and PDS if that is asked.
    pub fn dependencies(&self) -> Vec<Dependency> {
        let store = self.clone();
        let checkpoints = self.clone();
        let notifications = self.clone();
        let authorities = self.clone();
        let mut dependencies = vec![
            Dependency::new("store", true, move || store.clone().check_store()),
            Dependency::new("audit", false, move || checkpoints.clone().check_audit()),
            Dependency::new("notifications", false, move || notifications.clone().check_notifications()),
            Dependency::new("authorities", false, move || authorities.clone().check_authorities()),
        ];
        if self.demographics.health().is_some() {
            let demographics = self.demographics.clone();
            dependencies.push(Dependency::new("pds", false, move || {
                let found = demographics.health();
                async move { found.unwrap_or((Health::Pass, String::new())) }
            }));
        }
        if self.is_retracing() {
            let tracing = self.clone();
            dependencies.push(Dependency::new("tracing", false, move || tracing.clone().check_tracing()));
        }
        dependencies
    }

    async fn check_store(self) -> (Health, String) {
        match self.check().await {
            Ok(()) => (Health::Pass, format!("{} changes wait for the writer.", self.store.waiting_changes())),
            Err(error) => {
                tracing::warn!(%error, "the store failed its check");
                (Health::Fail, "The store can't be read.".to_owned())
            }
        }
    }

    async fn check_audit(self) -> (Health, String) {
        let now = self.clock.now();
        match self.store.read(checkpoint::newest).await {
            Ok(None) => (Health::Pass, "There is no checkpoint yet.".to_owned()),
            Ok(Some(newest)) => {
                let age = now - from_millis(newest.at_ms);
                let health = if age > OLD_CHECKPOINT { Health::Warn } else { Health::Pass };
                (health, format!("Checkpoint {} was written {} seconds ago.", newest.number, age.num_seconds()))
            }
            Err(_) => (Health::Fail, "The checkpoints can't be read.".to_owned()),
        }
    }

    async fn check_notifications(self) -> (Health, String) {
        let now = self.clock.now();
        let read = self.store.read(move |conn| {
            // Nobody has it, or whoever had it has been silent since.
            let idle = lease::is_free(conn, super::notifications::LEASE, "", now)?;
            Ok((undelivered::totals(conn)?, idle))
        });
        let Ok((totals, idle)) = read.await else {
            return (Health::Fail, "The notifications can't be read.".to_owned());
        };
        let sum = |given_up| totals.iter().filter(|total| total.given_up == given_up).map(|total| total.count).sum();
        let (waiting, given_up): (i64, i64) = (sum(false), sum(true));
        let health = if given_up > 0 || (idle && waiting > 0) { Health::Warn } else { Health::Pass };
        (health, format!("{waiting} wait for subscriptions, {given_up} are undeliverable."))
    }

    async fn check_authorities(self) -> (Health, String) {
        match self.silent_authorities().await {
            Ok(silent) if silent.is_empty() => (Health::Pass, "Every authority has been heard lately.".to_owned()),
            Ok(silent) => {
                let since = |one: &SilentAuthority| {
                    format!(
                        "{} since {}",
                        one.ods.as_str(),
                        one.last_confirmed.to_rfc3339_opts(SecondsFormat::Secs, true)
                    )
                };
                let told: Vec<String> = silent.iter().map(since).collect();
                (Health::Warn, format!("Silent: {}.", told.join(", ")))
            }
            Err(_) => (Health::Fail, "When authorities were last heard can't be read.".to_owned()),
        }
    }
}

fn seconds(age: TimeDelta) -> f64 {
    f64::from(i32::try_from(age.num_seconds()).unwrap_or(i32::MAX))
}

fn count(number: usize) -> f64 {
    f64::from(u32::try_from(number).unwrap_or(u32::MAX))
}
