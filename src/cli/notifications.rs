//! `cpis-gateway notifications`: what was not delivered to local authorities, and how it is sent again.

use std::process::ExitCode;

use anyhow::{Context, bail};
use chrono::{DateTime, TimeDelta, Utc};
use clap::{Args, Subcommand};
use comfy_table::{Table, presets::UTF8_HORIZONTAL_ONLY};

use super::{Layers, ods, print, start_logging};
use crate::{
    app,
    clock::Clock,
    cpis::{
        Gateway,
        notifications::operator::{Waiting, Which},
        types::OdsCode,
    },
};

#[derive(Subcommand)]
pub enum Notifications {
    /// List what waits, fails or is undeliverable, oldest first.
    List(List),
    /// Show one notification, by the id that list gives.
    Show(Show),
    /// Send again what was not delivered: it is due at once. Audited.
    Requeue(Requeue),
}

#[derive(Args)]
pub struct List {
    /// Those only whose tries are used up.
    #[arg(long)]
    undeliverable: bool,
    /// Of one local authority only.
    #[arg(long, value_name = "ODS", value_parser = ods)]
    authority: Option<OdsCode>,
    /// Most rows.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u16).range(1..))]
    limit: u16,
    #[command(flatten)]
    output: Output,
}

#[derive(Args)]
pub struct Show {
    /// As list gives it: subscription/number, or the id of a MESH message.
    #[arg(value_name = "ID", value_parser = one)]
    id: Which,
    #[command(flatten)]
    output: Output,
}

#[derive(Args)]
pub struct Requeue {
    #[command(flatten)]
    which: Requeued,
    #[command(flatten)]
    output: Output,
}

#[derive(Args)]
#[group(required = true, multiple = false)]
struct Requeued {
    /// One notification, as list gives it.
    #[arg(value_name = "ID", value_parser = one)]
    id: Option<Which>,
    /// All whose tries are used up.
    #[arg(long)]
    all_undeliverable: bool,
    /// All of one local authority that were not delivered.
    #[arg(long, value_name = "ODS", value_parser = ods)]
    authority: Option<OdsCode>,
}

#[derive(Args)]
struct Output {
    /// For machines.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    layers: Layers,
}

fn one(text: &str) -> Result<Which, &'static str> {
    Which::one(text).ok_or("give an id as `notifications list` does")
}

impl Notifications {
    pub fn run(self) -> anyhow::Result<ExitCode> {
        match self {
            Self::List(list) => list.run(),
            Self::Show(show) => show.run(),
            Self::Requeue(requeue) => requeue.run(),
        }
    }
}

impl List {
    fn run(self) -> anyhow::Result<ExitCode> {
        let Self { undeliverable, authority, limit, output } = self;
        let which = Which { undeliverable, authority, one: None };
        let (gateway, now) = output.open()?;
        let found = run(gateway.undelivered(&which, limit.into()))?;
        gateway.store.close(None);
        let text = if output.json { json(&found)? } else { table(&found, now) };
        print(&text)?;
        Ok(ExitCode::SUCCESS)
    }
}

impl Show {
    fn run(self) -> anyhow::Result<ExitCode> {
        let (gateway, now) = self.output.open()?;
        let found = run(gateway.undelivered(&self.id, 1))?;
        gateway.store.close(None);
        let Some(waiting) = found.first() else {
            bail!("there is no such notification that waits: it was delivered, or the id is another one");
        };
        let text = if self.output.json { json(waiting)? } else { sheet(waiting, now) };
        print(&text)?;
        Ok(ExitCode::SUCCESS)
    }
}

impl Requeue {
    fn run(self) -> anyhow::Result<ExitCode> {
        let Requeued { id, all_undeliverable, authority } = self.which;
        let words = match (&id, &authority) {
            (Some(_), _) => "ID".to_owned(),
            (None, Some(authority)) => format!("--authority {}", authority.as_str()),
            (None, None) => "--all-undeliverable".to_owned(),
        };
        let which = id.unwrap_or(Which { undeliverable: all_undeliverable, authority, one: None });
        let settings = self.output.layers()?;
        let signer = app::checkpoint_signer(&settings)?;
        let gateway = app::open_existing(&settings, &Clock::system(), &app::process_name())?;
        let requeued = run(gateway.requeue(&which, &format!("cpis-gateway notifications requeue {words}")));
        // Whatever became of it, what was audited is under a checkpoint.
        gateway.store.close(Some(signer));
        let requeued = requeued?;
        let text = if self.output.json {
            format!("{}\n", serde_json::json!({"requeued": requeued}))
        } else {
            format!("Put back into the queue: {requeued}\n")
        };
        print(&text)?;
        Ok(ExitCode::SUCCESS)
    }
}

impl Output {
    fn layers(&self) -> anyhow::Result<crate::config::Settings> {
        let settings = self.layers.clone().settings()?;
        start_logging(&settings)?;
        Ok(settings)
    }

    fn open(&self) -> anyhow::Result<(Gateway, DateTime<Utc>)> {
        let settings = self.layers()?;
        let clock = Clock::system();
        let gateway = app::open_existing(&settings, &clock, &app::process_name())?;
        Ok((gateway, clock.now()))
    }
}

fn run<T>(work: impl Future<Output = Result<T, crate::cpis::Error>>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().context("no runtime")?;
    Ok(runtime.block_on(work)?)
}

fn json(found: &(impl serde::Serialize + ?Sized)) -> anyhow::Result<String> {
    Ok(format!("{}\n", serde_json::to_string_pretty(found)?))
}

fn table(found: &[Waiting], now: DateTime<Utc>) -> String {
    if found.is_empty() {
        return "Nothing waits in a channel: what an authority without one is told waits until it has one.\n"
            .to_owned();
    }
    let mut table = Table::new();
    table.load_preset(UTF8_HORIZONTAL_ONLY);
    table.set_header(["Id", "Channel", "Authority", "Topic", "State", "Tries", "Age", "Last error"]);
    for waiting in found {
        table.add_row([
            waiting.id.as_str(),
            waiting.channel,
            &waiting.authority,
            waiting.topic,
            waiting.state,
            &waiting.attempts.to_string(),
            &age(now - waiting.since),
            waiting.last_error.as_deref().unwrap_or_default(),
        ]);
    }
    format!("{table}\n")
}

fn sheet(waiting: &Waiting, now: DateTime<Utc>) -> String {
    let next = waiting.next_attempt.map_or_else(|| "none".to_owned(), |at| at.to_rfc3339());
    let rows = [
        ("Id", waiting.id.clone()),
        ("Channel", waiting.channel.to_owned()),
        ("Authority", waiting.authority.clone()),
        ("Topic", waiting.topic.to_owned()),
        ("State", waiting.state.to_owned()),
        ("Tries", waiting.attempts.to_string()),
        ("Since", format!("{} ({})", waiting.since.to_rfc3339(), age(now - waiting.since))),
        ("Next try", next),
        ("Last error", waiting.last_error.clone().unwrap_or_else(|| "none".to_owned())),
        ("Notification", waiting.notification.to_string()),
    ];
    rows.iter().map(|(name, value)| format!("{name:<14}{value}\n")).collect()
}

/// Two units at most.
fn age(age: TimeDelta) -> String {
    let (days, hours, minutes) = (age.num_days(), age.num_hours() % 24, age.num_minutes() % 60);
    match (days, hours) {
        (0, 0) => format!("{minutes} min"),
        (0, hours) => format!("{hours} h {minutes} min"),
        (days, hours) => format!("{days} d {hours} h"),
    }
}

#[cfg(test)]
mod tests {
    use chrono::TimeZone;
    use uuid::Uuid;

    use super::*;
    use crate::cpis::notifications::operator::One;

    fn waiting() -> Waiting {
        Waiting {
            id: format!("{}/12", Uuid::from_u128(1)),
            channel: "rest-hook",
            authority: "Z9A".to_owned(),
            topic: "access",
            state: "failing",
            attempts: 3,
            since: Utc.with_ymd_and_hms(2026, 3, 1, 9, 0, 0).unwrap(),
            next_attempt: None,
            last_error: Some("the endpoint answered 500".to_owned()),
            notification: Uuid::from_u128(2),
        }
    }

    #[test]
    fn people_get_a_table_and_an_age() {
        let now = Utc.with_ymd_and_hms(2026, 3, 3, 10, 30, 0).unwrap();
        let text = table(&[waiting()], now);
        for part in
            ["Authority", "00000000-0000-0000-0000-000000000001/12", "Z9A", "failing", "2 d 1 h", "answered 500"]
        {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(table(&[], now).contains("Nothing waits"));
        let text = sheet(&waiting(), now);
        assert!(text.contains("Since         2026-03-01T09:00:00+00:00 (2 d 1 h)\n"), "{text}");
        assert_eq!(age(TimeDelta::minutes(61)), "1 h 1 min");
        assert_eq!(age(TimeDelta::seconds(5)), "0 min");
    }

    #[test]
    fn an_id_is_a_subscription_and_a_number() {
        assert_eq!(Which::one(&waiting().id).unwrap().one, Some(One::Event(Uuid::from_u128(1), 12)));
        let message = Uuid::from_u128(3);
        assert_eq!(Which::one(&message.to_string()).unwrap().one, Some(One::MeshMessage(message)));
        for bad in ["", "12", "x/12", "00000000-0000-0000-0000-000000000001/x"] {
            assert!(Which::one(bad).is_none(), "{bad}");
        }
    }
}
