//! `cpis-gateway mesh`: which mailbox an authority has, what was sent to it over MESH, and what came and could not be
//! handled.

use std::process::ExitCode;

use anyhow::{Context, bail};
use chrono::TimeDelta;
use clap::{Args, Subcommand};
use comfy_table::{Table, presets::UTF8_HORIZONTAL_ONLY};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{Layers, ods, print, start_logging};
use crate::{
    app,
    clock::Clock,
    config::Settings,
    cpis::{
        Error, Gateway,
        types::{
            OdsCode,
            mesh::{MeshMailbox, MeshRow, MeshState},
        },
    },
};

#[derive(Subcommand)]
pub enum Mesh {
    /// Which mailbox each local authority has.
    #[command(subcommand)]
    Mailboxes(Mailboxes),
    /// What is sent to local authorities: acknowledgements and notifications.
    #[command(subcommand)]
    Messages(Messages),
    /// What came and could not be handled.
    #[command(subcommand)]
    Received(Received),
}

#[derive(Subcommand)]
pub enum Mailboxes {
    /// List them.
    List(Output),
    /// Give an authority a mailbox, or another one. Audited. A new one gets the notifications of the last days too.
    Set {
        #[arg(value_name = "ODS", value_parser = ods)]
        authority: OdsCode,
        /// Mailbox id: capital letters and digits.
        #[arg(value_parser = mailbox)]
        mailbox: String,
        #[command(flatten)]
        output: Output,
    },
    /// Take an authority's mailbox away. Audited. What is to be sent waits for another.
    Remove {
        #[arg(value_name = "ODS", value_parser = ods)]
        authority: OdsCode,
        #[command(flatten)]
        output: Output,
    },
}

#[derive(Subcommand)]
pub enum Messages {
    /// List them, newest first.
    List {
        /// Those only in this state: queued, sending, sent, delivered or undeliverable.
        #[arg(long, value_parser = state)]
        state: Option<MeshState>,
        /// Of one local authority only.
        #[arg(long, value_name = "ODS", value_parser = ods)]
        authority: Option<OdsCode>,
        /// Most rows.
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..))]
        limit: u16,
        #[command(flatten)]
        output: Output,
    },
    /// Show one, by the id that list gives.
    Show {
        id: Uuid,
        #[command(flatten)]
        output: Output,
    },
    /// Send again, under the same id. Audited.
    Requeue {
        #[command(flatten)]
        which: Requeued,
        #[command(flatten)]
        output: Output,
    },
}

#[derive(Args)]
#[group(required = true, multiple = false)]
pub struct Requeued {
    /// One message, as list gives it.
    id: Option<Uuid>,
    /// All that are undeliverable.
    #[arg(long)]
    all_undeliverable: bool,
}

#[derive(Subcommand)]
pub enum Received {
    /// List what is set aside.
    List(Output),
    /// Have one handled again, by MESH's id. Audited.
    Retry {
        #[arg(value_name = "MESSAGE")]
        id: String,
        #[command(flatten)]
        output: Output,
    },
}

#[derive(Args)]
pub struct Output {
    /// For machines.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    layers: Layers,
}

fn mailbox(text: &str) -> Result<String, &'static str> {
    let fits = (1..=100).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit());
    if fits { Ok(text.to_owned()) } else { Err("give a mailbox id: capital letters and digits") }
}

fn state(text: &str) -> Result<MeshState, &'static str> {
    MeshState::from_code(text).ok_or("give queued, sending, sent, delivered or undeliverable")
}

impl Mesh {
    pub fn run(self) -> anyhow::Result<ExitCode> {
        let text = match self {
            Self::Mailboxes(mailboxes) => mailboxes.run()?,
            Self::Messages(messages) => messages.run()?,
            Self::Received(received) => received.run()?,
        };
        print(&text)?;
        Ok(ExitCode::SUCCESS)
    }
}

impl Mailboxes {
    fn run(self) -> anyhow::Result<String> {
        match self {
            Self::List(output) => {
                let found = output.read(Gateway::mesh_mailboxes)?;
                Ok(if output.json { lines(found.iter().map(shown_mailbox)) } else { mailboxes_table(&found) })
            }
            Self::Set { authority, mailbox, output } => {
                let (code, id) = (authority.as_str().to_owned(), mailbox.clone());
                let catch_up = |settings: &Settings| TimeDelta::days(settings.notify.catch_up_days.into());
                output.write(async |gateway, settings| {
                    gateway.set_mesh_mailbox(authority, mailbox, catch_up(settings)).await
                })??;
                Ok(output.said(json!({"authority": code, "mailbox": id}), &format!("{code} has the mailbox {id}.")))
            }
            Self::Remove { authority, output } => {
                let code = authority.as_str().to_owned();
                output.write(async |gateway, _| gateway.remove_mesh_mailbox(authority).await)??;
                Ok(output.said(json!({"authority": code}), &format!("{code} has no mailbox any more.")))
            }
        }
    }
}

impl Messages {
    fn run(self) -> anyhow::Result<String> {
        match self {
            Self::List { state, authority, limit, output } => {
                let found = output.read(async |gateway| gateway.mesh_messages(state, authority, limit.into()).await)?;
                Ok(if output.json { lines(found.iter().map(shown_message)) } else { messages_table(&found) })
            }
            Self::Show { id, output } => {
                let found = output.read(async |gateway| gateway.mesh_message_by_id(id).await)?;
                let Some(found) = found else { bail!("there is no message with this id") };
                Ok(format!("{}\n", serde_json::to_string_pretty(&shown_message(&found))?))
            }
            Self::Requeue { which, output } => {
                let again = output.write(async |gateway, _| gateway.requeue_mesh_messages(which.id).await)?;
                Ok(output.said(json!({"requeued": again}), &format!("{again} messages are sent again.")))
            }
        }
    }
}

impl Received {
    fn run(self) -> anyhow::Result<String> {
        match self {
            Self::List(output) => {
                let found = output.read(Gateway::mesh_set_aside)?;
                let shown = found.iter().map(|one| {
                    json!({"message": one.message, "mailbox": one.mailbox, "received": one.received.to_rfc3339(),
                           "reason": one.reason})
                });
                if output.json {
                    return Ok(lines(shown));
                }
                if found.is_empty() {
                    return Ok("Nothing is set aside: every message that came was handled.\n".to_owned());
                }
                let mut table = titled(["Message", "From mailbox", "Received", "Reason"]);
                for one in &found {
                    let reason = one.reason.as_deref().unwrap_or_default();
                    table.add_row([one.message.as_str(), &one.mailbox, &one.received.to_rfc3339(), reason]);
                }
                Ok(format!("{table}\n"))
            }
            Self::Retry { id, output } => {
                let taken = output.write(async |gateway, _| gateway.take_up_mesh_message(&id).await)?;
                if !taken {
                    bail!("there is no such message that is set aside");
                }
                Ok(output.said(json!({"taken": true}), "The message is handled at the next look into the inbox."))
            }
        }
    }
}

impl Output {
    fn settings(&self) -> anyhow::Result<Settings> {
        let settings = self.layers.clone().settings()?;
        start_logging(&settings)?;
        Ok(settings)
    }

    fn read<T>(&self, work: impl AsyncFnOnce(&Gateway) -> Result<T, Error>) -> anyhow::Result<T> {
        let settings = self.settings()?;
        let gateway = app::open_existing(&settings, &Clock::system(), &app::process_name())?;
        let done = runtime()?.block_on(work(&gateway));
        gateway.store.close(None);
        Ok(done?)
    }

    /// Whatever became of it, what was audited is under a checkpoint.
    fn write<T>(&self, work: impl AsyncFnOnce(&Gateway, &Settings) -> Result<T, Error>) -> anyhow::Result<T> {
        let settings = self.settings()?;
        let signer = app::checkpoint_signer(&settings)?;
        let gateway = app::open_existing(&settings, &Clock::system(), &app::process_name())?;
        let done = runtime()?.block_on(work(&gateway, &settings));
        gateway.store.close(Some(signer));
        Ok(done?)
    }

    fn said(&self, machines: Value, people: &str) -> String {
        if self.json { format!("{machines}\n") } else { format!("{people}\n") }
    }
}

fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().build().context("no runtime")
}

/// One JSON object a line.
fn lines(rows: impl Iterator<Item = Value>) -> String {
    rows.map(|row| format!("{row}\n")).collect()
}

fn titled<const N: usize>(header: [&str; N]) -> Table {
    let mut table = Table::new();
    table.load_preset(UTF8_HORIZONTAL_ONLY);
    table.set_header(header);
    table
}

fn shown_mailbox(of: &MeshMailbox) -> Value {
    json!({"authority": of.authority.ods.as_str(), "name": of.authority.name, "mailbox": of.mailbox,
           "from": of.from.to_rfc3339()})
}

fn mailboxes_table(found: &[MeshMailbox]) -> String {
    if found.is_empty() {
        return "No authority has a mailbox: cpis-gateway mesh mailboxes set ODS MAILBOX gives it one.\n".to_owned();
    }
    let mut table = titled(["Authority", "Name", "Mailbox"]);
    for of in found {
        table.add_row([of.authority.ods.as_str(), &of.authority.name, &of.mailbox]);
    }
    format!("{table}\n")
}

fn shown_message(row: &MeshRow) -> Value {
    let message = &row.message;
    json!({
        "id": message.id.to_string(),
        "authority": row.authority.as_str(),
        "kind": message.kind.code(),
        "state": message.state.code(),
        "attempts": message.attempts,
        "reopened": message.reopened,
        "created": message.created.to_rfc3339(),
        "nextAttempt": message.next_attempt.to_rfc3339(),
        "meshId": message.mesh_id,
        "notifications": row.notices,
        "fileCode": message.reply.as_ref().map(|reply| reply.code.code()),
        "fileNumber": message.reply.as_ref().and_then(|reply| reply.number),
        "lastError": message.error,
    })
}

fn messages_table(found: &[MeshRow]) -> String {
    if found.is_empty() {
        return "There is no such message.\n".to_owned();
    }
    let mut table = titled(["Id", "Authority", "Kind", "State", "Tries", "Created", "Last error"]);
    for row in found {
        let message = &row.message;
        table.add_row([
            message.id.to_string().as_str(),
            row.authority.as_str(),
            message.kind.code(),
            message.state.code(),
            &message.attempts.to_string(),
            &message.created.format("%Y-%m-%d %H:%M").to_string(),
            message.error.as_deref().unwrap_or_default(),
        ]);
    }
    format!("{table}\n")
}
