//! Metrics: one row each in [`TABLE`], from which the registry and `docs/metrics.md` are made. They count and measure; no
//! label holds anything personal, and none has values without bound (an ODS code of an authority is fine, a child's
//! number, a user or a path is not).
//!
//! Counters and histograms are of this process, since its start. Gauges are measured when they are asked for
//! ([`Metrics::exposition`]), so that they are the same from every process of one installation.
//!
//! A new one: a row in `metrics!`, and where it happens [`Metrics::count`] or [`Metrics::observe`]; a gauge is measured in
//! `cpis::measured`.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError, atomic::AtomicU64},
};

use prometheus_client::{
    encoding::text::encode,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};

/// Content type of an exposition.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What a metric does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Grows; its name ends with `_total` in an exposition.
    Counter,
    /// Is measured when it is asked for.
    Gauge,
    /// Counts by size; in seconds.
    Histogram,
}

/// One row of the table.
#[derive(Debug)]
pub struct Metric {
    pub name: &'static str,
    pub kind: Kind,
    pub labels: &'static [&'static str],
    /// What it says, and when to worry.
    pub help: &'static str,
}

macro_rules! metrics {
    ($($constant:ident: $kind:ident $name:literal [$($label:literal),*] $help:literal;)*) => {
        $(pub static $constant: Metric =
            Metric { name: $name, kind: Kind::$kind, labels: &[$($label),*], help: $help };)*

        /// Every metric, in the order of an exposition.
        pub static TABLE: &[&Metric] = &[$(&$constant),*];
    };
}

// One row a line, so that the table reads as one.
#[rustfmt::skip]
metrics! {
    LOOK_UPS: Counter "cpis_look_ups" ["outcome"] "Clinicians' look-ups by outcome: found, nothing, refused (over the cap on distinct children), failed (the store could not answer or not keep the audit). Worry when failed grows.";
    LOOK_UP_SECONDS: Histogram "cpis_look_up_seconds" [] "How long a look-up took until its audit was durable.";
    CONFIRMED: Counter "cpis_numbers_confirmed" ["outcome"] "Answers of $match by outcome: match, none, refused (over the cap on distinct children), failed (demographics could not be asked). Worry when failed grows.";
    OVER_CAP: Counter "cpis_distinct_children_over_cap" ["author"] "Authors (person, device) that asked for more different children within an hour than limits.distinct_children_per_hour says; once for each author and hour. Ask each: the audit names them.";
    UPLOADS: Counter "cpis_uploads" ["door", "code"] "Uploads by how they came (bundle, interaction, mesh) and their code (CPF01 to CPF05); a repeated answer is not counted again.";
    DELIVERED: Counter "cpis_notifications_delivered" ["channel", "topic"] "Notifications that a channel took.";
    FAILED: Counter "cpis_notifications_failed" ["channel", "topic"] "Sendings of notifications that failed and are tried again, or were given up.";
    GIVEN_UP: Counter "cpis_notifications_given_up" ["channel", "topic"] "Notifications whose last try failed. Worry about each: cpis-gateway notifications list --undeliverable.";
    HANDSHAKES: Counter "cpis_handshakes" ["result"] "Handshakes with endpoints of subscriptions: taken, failed.";
    HEARTBEATS: Counter "cpis_heartbeats" ["result"] "Heartbeats to endpoints of subscriptions: taken, failed.";
    QUEUED: Gauge "cpis_notifications_queued" ["channel", "topic"] "Notifications that wait to be sent, for their turn or for the next try.";
    STOPPED: Gauge "cpis_notifications_stopped" ["channel", "topic"] "Notifications that wait for their channel: a subscription that is switched off, or waits for its handshake.";
    UNDELIVERABLE: Gauge "cpis_notifications_undeliverable" ["channel", "topic"] "Notifications that were given up and not sent again since. Worry when it is not 0.";
    OLDEST_SECONDS: Gauge "cpis_notifications_oldest_seconds" ["channel", "topic"] "Age of the oldest notification that waits to be sent, in seconds. Worry when it is over an hour.";
    MESH_SET_ASIDE: Gauge "cpis_mesh_set_aside" [] "Messages that came over MESH and could not be handled. Worry about each: cpis-gateway mesh received list.";
    SUBSCRIPTIONS: Gauge "cpis_subscriptions" ["topic", "status"] "Subscriptions by topic and status (requested, active, error, off). Worry when error is not 0.";
    WRITER_WAITING: Gauge "cpis_writer_waiting" [] "Changes that wait for the store's writer in this process; 4096 is its limit. Worry when it stays over 1000.";
    CHECKPOINT_AGE_SECONDS: Gauge "cpis_audit_checkpoint_age_seconds" [] "Age of the audit's newest checkpoint, in seconds; there is one every few seconds while there is traffic.";
    SILENT_AUTHORITIES: Gauge "cpis_silent_authorities" [] "Active local authorities of which no change was applied for lifecycle.silent_hours. Worry when it is not 0.";
    OVERDUE_REFUSALS: Gauge "cpis_refused_records_overdue" [] "Records that were refused over lifecycle.remind_days ago and not loaded since.";
    PDS_REQUESTS: Counter "cpis_pds_requests" ["outcome"] "Requests to PDS about a number by outcome: found, superseded, invalidated, unknown, restricted, not-a-number; unreachable, failing, busy, refused, unreadable are failures. Worry about refused (credentials) and unreadable.";
    PDS_SECONDS: Histogram "cpis_pds_seconds" [] "How long a request to PDS took, without the wait for its turn.";
    PDS_TOKENS: Counter "cpis_pds_tokens" ["result"] "Access tokens asked for at PDS: issued, failed. Worry when failed grows.";
    PDS_AWAY: Gauge "cpis_pds_away" [] "1 while PDS failed too often lately and is left alone by this process, else 0. Uploads get CPF05 meanwhile. Worry when it is not 0.";
    PDS_UNDER_WAY: Gauge "cpis_pds_under_way" [] "Requests to PDS of this process that wait for their answer.";
    PDS_WAITING: Gauge "cpis_pds_waiting" ["urgency"] "Requests to PDS of this process that wait for their turn, by urgency: caller, file, background. Worry when caller stays over 0.";
    UNKNOWN_NUMBERS: Gauge "cpis_unknown_numbers" [] "Stored numbers that demographics don't know: what is stored stays. Worry when it is not 0: the audit's events unknown say which.";
    RETRACED_NUMBERS: Gauge "cpis_retraced_numbers" [] "Stored numbers that are traced again with the PDS within pds.retrace_days.";
    RETRACED_IN_PERIOD: Gauge "cpis_retraced_numbers_in_period" [] "Those of them that were traced within pds.retrace_days, by whatever. Worry when it stays below cpis_retraced_numbers.";
    OLDEST_TRACE_SECONDS: Gauge "cpis_oldest_trace_seconds" [] "Age of the oldest trace of them, in seconds; of those that ever were traced. Worry when it is over pds.retrace_days.";
    STORE_UP: Gauge "cpis_store_up" [] "1 when the store could be read for this exposition, else 0, and the other gauges are left out.";
}

/// Bounds of the histogram in seconds.
const SECONDS: [f64; 12] = [0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0];

type Labels = Vec<(&'static str, String)>;
type Measures = Family<Labels, Gauge<f64, AtomicU64>>;
type Times = Family<Labels, Histogram, fn() -> Histogram>;

/// A gauge as it was measured.
#[derive(Debug)]
pub struct Sample {
    pub metric: &'static Metric,
    /// In the order of the metric's labels.
    pub labels: Vec<String>,
    pub value: f64,
}

impl Sample {
    pub fn new(metric: &'static Metric, labels: &[&str], value: f64) -> Self {
        Self { metric, labels: labels.iter().map(|label| (*label).to_owned()).collect(), value }
    }
}

/// The metrics of one gateway; cheap to clone, clones count together.
#[derive(Clone, Debug)]
pub struct Metrics(Arc<Registered>);

#[derive(Debug)]
struct Registered {
    registry: Registry,
    counters: BTreeMap<&'static str, Family<Labels, Counter>>,
    gauges: BTreeMap<&'static str, Measures>,
    histograms: BTreeMap<&'static str, Times>,
    /// One exposition at a time: its gauges are its own.
    exposing: Mutex<()>,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut made = Registered {
            registry: Registry::default(),
            counters: BTreeMap::new(),
            gauges: BTreeMap::new(),
            histograms: BTreeMap::new(),
            exposing: Mutex::new(()),
        };
        for metric in TABLE {
            // The registry adds the full stop.
            let help = metric.help.trim_end_matches('.');
            match metric.kind {
                Kind::Counter => {
                    let family = Family::default();
                    made.registry.register(metric.name, help, family.clone());
                    made.counters.insert(metric.name, family);
                }
                Kind::Gauge => {
                    let family = Measures::default();
                    made.registry.register(metric.name, help, family.clone());
                    made.gauges.insert(metric.name, family);
                }
                Kind::Histogram => {
                    let family = Times::new_with_constructor(|| Histogram::new(SECONDS));
                    made.registry.register(metric.name, help, family.clone());
                    made.histograms.insert(metric.name, family);
                }
            }
        }
        Self(Arc::new(made))
    }
}

fn labelled<'a>(metric: &Metric, values: impl Iterator<Item = &'a str>) -> Labels {
    metric.labels.iter().copied().zip(values.map(str::to_owned)).collect()
}

impl Metrics {
    /// Adds one; `labels` in the order of the metric's.
    pub fn count(&self, metric: &Metric, labels: &[&str]) {
        if let Some(family) = self.0.counters.get(metric.name) {
            family.get_or_create(&labelled(metric, labels.iter().copied())).inc();
        }
    }

    /// Adds a time.
    pub fn observe(&self, metric: &Metric, labels: &[&str], took: std::time::Duration) {
        if let Some(family) = self.0.histograms.get(metric.name) {
            family.get_or_create(&labelled(metric, labels.iter().copied())).observe(took.as_secs_f64());
        }
    }

    /// All metrics in the text format of `OpenMetrics`, with the gauges as they were measured for it.
    ///
    /// # Errors
    /// When a value can't be written.
    pub fn exposition(&self, measured: &[Sample]) -> Result<String, std::fmt::Error> {
        let _mine = self.0.exposing.lock().unwrap_or_else(PoisonError::into_inner);
        self.0.gauges.values().for_each(Family::clear);
        for sample in measured {
            if let Some(family) = self.0.gauges.get(sample.metric.name) {
                let labels = labelled(sample.metric, sample.labels.iter().map(String::as_str));
                family.get_or_create(&labels).set(sample.value);
            }
        }
        let mut text = String::new();
        encode(&mut text, &self.0.registry)?;
        Ok(text)
    }
}

/// The table as `docs/metrics.md` shows it.
pub fn documented() -> String {
    let mut text = String::from("| Metric | Kind | Labels | Says |\n|---|---|---|---|\n");
    for Metric { name, kind, labels, help } in TABLE {
        let (suffix, kind) = match kind {
            Kind::Counter => ("_total", "counter"),
            Kind::Gauge => ("", "gauge"),
            Kind::Histogram => ("", "histogram"),
        };
        let labels: Vec<String> = labels.iter().map(|label| format!("`{label}`")).collect();
        text.push_str(&format!("| `{name}{suffix}` | {kind} | {} | {help} |\n", labels.join(", ")));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_row_is_counted_or_measured_under_its_own_name() {
        let metrics = Metrics::default();
        for metric in TABLE {
            let labels = vec!["x"; metric.labels.len()];
            metrics.count(metric, &labels);
            metrics.count(metric, &labels);
            metrics.observe(metric, &labels, std::time::Duration::from_millis(30));
        }
        let samples: Vec<Sample> = TABLE
            .iter()
            .filter(|metric| metric.kind == Kind::Gauge)
            .map(|metric| Sample::new(metric, &vec!["x"; metric.labels.len()], 2.0))
            .collect();
        let text = metrics.exposition(&samples).unwrap();
        for Metric { name, kind, help, .. } in TABLE {
            assert!(name.starts_with("cpis_") && help.ends_with('.'), "{name}");
            assert!(text.contains(&format!("# HELP {name} {help}\n")), "{name}: {text}");
            let (suffix, value) = match kind {
                Kind::Counter => ("_total", "2"),
                Kind::Gauge => ("", "2.0"),
                Kind::Histogram => ("_count", "1"),
            };
            let begins = format!("{name}{suffix}");
            let line = text.lines().find(|line| line.split(['{', ' ']).next() == Some(&begins));
            assert!(line.is_some_and(|line| line.ends_with(&format!(" {value}"))), "{name}: {line:?}");
        }
        assert!(text.ends_with("# EOF\n"));
    }

    #[test]
    fn a_gauge_that_is_not_measured_again_is_gone() {
        let metrics = Metrics::default();
        let first = metrics.exposition(&[Sample::new(&QUEUED, &["rest-hook", "access"], 3.0)]).unwrap();
        assert!(first.contains("cpis_notifications_queued{channel=\"rest-hook\",topic=\"access\"} 3.0"), "{first}");
        assert!(!metrics.exposition(&[]).unwrap().contains("cpis_notifications_queued{"));
    }
}
