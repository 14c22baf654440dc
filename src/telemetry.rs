//! Logging, and in [`metrics`] what is counted. One subscriber for the process, to standard error, as lines for people or JSON for machines.
//!
//! # What may be logged
//!
//! May: request id, method and route pattern (`/CareTeam`, never the path or query as sent), status, duration, role and
//! ODS code of the caller, client id, resource ids (UUIDs), upload and subscription ids, counts, Spine and CP-IS codes,
//! the host of a hook, database errors without their parameters.
//!
//! May not, at any level: NHS number, name, birth date, phone number, local ids of children and plans, a token or any
//! part of it, a request or response body, a request line, the path or query of a hook's address, a header of a
//! subscription, a password. They are in the security audit where they belong there.
//!
//! Two nets below that rule: libraries are cut off below `info` whatever the filter says, because several print
//! addresses, headers or bodies at `debug` and `trace`; and a panic is logged by its place only, as its message may
//! quote a value.

pub mod metrics;

use std::io;

use tracing::{Level, Metadata, Subscriber};
use tracing_subscriber::{
    EnvFilter, Layer,
    filter::{FilterExt, filter_fn},
    fmt::MakeWriter,
    layer::SubscriberExt,
    util::SubscriberInitExt,
};

/// Shape of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// One line a record, for people.
    Pretty,
    /// One JSON object a line: `timestamp`, `level`, `target`, `fields`, `span`, `spans`.
    Json,
}

/// Why logging can't start.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryFault {
    #[error("log.filter can't be read: use directives such as \"info\" or \"info,cpis_gateway=debug\"")]
    Filter(#[source] tracing_subscriber::filter::ParseError),
    #[error("logging was started twice in this process")]
    Twice(#[source] tracing_subscriber::util::TryInitError),
}

/// Starts logging for the whole process, and logs panics by their place. Call once, before anything else.
///
/// # Errors
/// [`TelemetryFault`] when `filter` isn't a list of `EnvFilter` directives, or logging was started before.
pub fn init(format: Format, filter: &str) -> Result<(), TelemetryFault> {
    subscriber(format, filter, io::stderr)?.try_init().map_err(TelemetryFault::Twice)?;
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        tracing::error!(panic.place = place, "a request or task failed unexpectedly");
    }));
    Ok(())
}

fn subscriber<W>(format: Format, filter: &str, writer: W) -> Result<impl Subscriber + Send + Sync, TelemetryFault>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let wanted = EnvFilter::builder().parse(filter).map_err(TelemetryFault::Filter)?;
    let allowed = wanted.and(filter_fn(may_be_logged));
    let lines = tracing_subscriber::fmt::layer().with_writer(writer);
    let lines = match format {
        Format::Pretty => lines.with_ansi(false).boxed(),
        Format::Json => lines.json().boxed(),
    };
    Ok(tracing_subscriber::registry().with(lines.with_filter(allowed)))
}

/// Our own records at every level, those of libraries from `info` up.
fn may_be_logged(metadata: &Metadata<'_>) -> bool {
    let ours = metadata.target() == "cpis_gateway" || metadata.target().starts_with("cpis_gateway::");
    ours || *metadata.level() <= Level::INFO
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(format: Format, filter: &str, work: impl FnOnce()) -> String {
        let lines = Lines::default();
        let writer = lines.clone();
        let subscriber = subscriber(format, filter, move || writer.clone()).unwrap();
        tracing::subscriber::with_default(subscriber, work);
        String::from_utf8(lines.0.lock().unwrap().clone()).unwrap()
    }

    #[test]
    fn json_lines_carry_the_fields_and_the_span() {
        let text = logged(Format::Json, "info", || {
            let _span = tracing::info_span!("request", request_id = "r-1").entered();
            tracing::info!(status = 200, "answered");
        });
        let line: serde_json::Value = serde_json::from_str(text.trim()).unwrap();
        assert_eq!(line["fields"]["status"], 200);
        assert_eq!(line["fields"]["message"], "answered");
        assert_eq!(line["span"]["request_id"], "r-1");
    }

    #[test]
    fn libraries_are_silent_below_info_whatever_the_filter_says() {
        let text = logged(Format::Pretty, "trace,actix_http=trace", || {
            tracing::debug!(target: "actix_http::h1", "GET /CareTeam?patient=1");
            tracing::trace!(target: "cpis_gateway_lookalike", "not ours");
            tracing::info!(target: "actix_server", "starting");
            tracing::debug!(target: "cpis_gateway::notify", "ours");
        });
        assert!(text.contains("starting") && text.contains("ours"), "{text}");
        assert!(!text.contains("CareTeam") && !text.contains("not ours"), "{text}");
    }

    #[test]
    fn the_filter_is_obeyed() {
        let text = logged(Format::Pretty, "warn,cpis_gateway::notify=info", || {
            tracing::info!(target: "cpis_gateway::http", "hidden");
            tracing::info!(target: "cpis_gateway::notify", "shown");
        });
        assert!(text.contains("shown") && !text.contains("hidden"), "{text}");
    }

    #[test]
    fn an_unreadable_filter_is_refused() {
        assert!(matches!(subscriber(Format::Json, "a=b=c", io::sink), Err(TelemetryFault::Filter(_))));
    }
}
