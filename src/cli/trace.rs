//! `cpis-gateway trace`: traces all stored numbers with visible plans once, now. No number is ever on the screen.

use std::process::ExitCode;

use chrono::{DateTime, SecondsFormat, Utc};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use super::{FAILED, Layers, USAGE, counted, print, start_logging};
use crate::{
    app,
    clock::Clock,
    config::PdsMode,
    cpis::{Gateway, retrace::Retraced},
};

#[derive(Args)]
pub struct Trace {
    /// Only those that were not traced since, such as 2026-11-23T22:15:00Z: to go on with a run that ended early.
    #[arg(long, value_name = "INSTANT", value_parser = past)]
    since: Option<DateTime<Utc>>,
    /// For machines.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    layers: Layers,
}

/// An argument that is an instant of the past. What was traced is older than any other.
fn past(text: &str) -> Result<DateTime<Utc>, &'static str> {
    let since: DateTime<Utc> = text.parse().map_err(|_| "give an instant such as 2026-11-23T22:15:00Z")?;
    if since > Clock::system().now() {
        return Err("it is in the future: give the instant at which the run began that you go on with");
    }
    Ok(since)
}

/// What a run came to.
struct Run {
    since: DateTime<Utc>,
    done: Retraced,
    /// Somebody pressed Ctrl-C.
    stopped: bool,
    /// Numbers that are still to be traced.
    left: i64,
}

impl Trace {
    pub fn run(self) -> anyhow::Result<ExitCode> {
        let settings = self.layers.settings()?;
        start_logging(&settings)?;
        if settings.pds.mode == PdsMode::Off {
            let told = "nobody can be asked about a number: pds.mode is \"off\"";
            print(&if self.json {
                format!("{}\n", json!({"error": told}))
            } else {
                format!("Nothing was done: {told}.\n")
            })?;
            return Ok(ExitCode::from(USAGE));
        }
        let clock = Clock::system();
        let gateway = app::open_existing(&settings, &clock, &app::process_name())?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let ran = runtime.block_on(run(&gateway, self.since.unwrap_or_else(|| clock.now())));
        gateway.store.close(None);
        let ran = ran?;
        print(&ran.told(self.json))?;
        Ok(if ran.is_whole() { ExitCode::SUCCESS } else { ExitCode::from(FAILED) })
    }
}

/// Part after part, until there are no more, demographics are away, or Ctrl-C: then the part under way is done first.
async fn run(gateway: &Gateway, since: DateTime<Utc>) -> anyhow::Result<Run> {
    let (numbers, _) = gateway.traced_before(since).await?;
    let bar = ProgressBar::new(u64::try_from(numbers).unwrap_or(0));
    bar.set_style(ProgressStyle::with_template("Tracing {pos} of {len} numbers {bar:40} {eta}")?);
    let mut ran = Run { since, done: Retraced::default(), stopped: false, left: 0 };
    let stop = tokio::signal::ctrl_c();
    tokio::pin!(stop);
    let mut after = 0;
    while !ran.stopped && !ran.done.unavailable {
        let part = gateway.retrace_all(after, since);
        tokio::pin!(part);
        let part = loop {
            tokio::select! {
                part = &mut part => break part?,
                _ = &mut stop, if !ran.stopped => ran.stopped = true,
            }
        };
        ran.done.add(part.done);
        let looked_at = part.done.traced + part.done.failed + part.done.left_out;
        bar.inc(u64::try_from(looked_at).unwrap_or(0));
        let Some(last) = part.last else { break };
        after = last;
    }
    bar.finish_and_clear();
    (_, ran.left) = gateway.traced_before(since).await?;
    Ok(ran)
}

impl Run {
    /// Every number was traced.
    fn is_whole(&self) -> bool {
        !self.stopped && !self.done.unavailable && self.left == 0
    }

    fn told(&self, as_json: bool) -> String {
        let since = self.since.to_rfc3339_opts(SecondsFormat::Secs, true);
        let done = &self.done;
        if as_json {
            let told = json!({
                "since": since, "whole": self.is_whole(), "stopped": self.stopped, "unavailable": done.unavailable,
                "traced": done.traced, "superseded": done.superseded, "invalid": done.invalid,
                "restricted": done.restricted, "unknown": done.unknown, "changed": done.changed,
                "changed_birth_dates": done.changed_birth_dates, "failed": done.failed, "left": self.left, "left_out": done.left_out,
            });
            return format!("{told}\n");
        }
        let Retraced {
            traced,
            superseded,
            invalid,
            restricted,
            unknown,
            changed,
            changed_birth_dates,
            failed,
            left_out,
            ..
        } = done;
        let mut text = format!(
            "{} traced: {superseded} superseded, {invalid} invalid, {restricted} restricted, {unknown} unknown.\n\
             Something new is stored of {changed}, a birth date of {changed_birth_dates}. {left_out} without a visible plan \
             {} left out.\n",
            counted(*traced, "number", "numbers"),
            if *left_out == 1 { "was" } else { "were" },
        );
        if self.is_whole() {
            return text;
        }
        let again = format!("go on with: cpis-gateway trace --since {since}\n");
        let left = counted(self.left, "number", "numbers");
        text.push_str(&if done.unavailable {
            format!(
                "{left} left, {failed} of them failed: demographics can't be asked at this moment. What was traced stays. The \
                 log lines above say why; when that is over {again}"
            )
        } else if self.stopped {
            format!("Stopped with {left} left. What was traced stays. To {again}")
        } else {
            format!(
                "{left} left, {failed} of them failed, and the log lines above say why; the others a gateway is tracing, or \
                 they failed there lately. What was traced stays. In an hour {again}"
            )
        });
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_is_told_with_how_to_go_on() {
        let done = Retraced { traced: 120, changed: 2, failed: 16, unavailable: true, ..Retraced::default() };
        let mut ran = Run { since: "2026-11-23T12:00:00Z".parse().unwrap(), done, stopped: false, left: 16 };
        assert!(!ran.is_whole());
        let told = ran.told(false);
        assert!(told.starts_with("120 numbers traced: 0 superseded"), "{told}");
        assert!(told.ends_with("go on with: cpis-gateway trace --since 2026-11-23T12:00:00Z\n"), "{told}");
        assert!(told.contains("\n16 numbers left, 16 of them failed") && !told.contains("_status"), "{told}");
        let json: serde_json::Value = serde_json::from_str(&ran.told(true)).unwrap();
        assert_eq!(
            (&json["whole"], &json["failed"], &json["since"]),
            (&json!(false), &json!(16), &json!("2026-11-23T12:00:00Z"))
        );
        ran.done = Retraced { traced: 3, ..Retraced::default() };
        assert!(!ran.is_whole() && ran.told(false).contains("\n16 numbers left, 0 of them failed"));
        ran.left = 0;
        assert!(ran.is_whole() && !ran.told(false).contains("--since"));
        ran.done.traced = 1;
        assert!(ran.told(false).starts_with("1 number traced: "));
        (ran.stopped, ran.left) = (true, 1);
        assert!(ran.told(false).contains("\nStopped with 1 number left."), "{}", ran.told(false));
        assert!(!ran.is_whole() && ran.told(false).contains("--since"));
    }
}
