//! `cpis-gateway organizations succeed OLD NEW`: one local authority takes over from another. Without `--apply` it says what
//! would move, and changes nothing.

use std::process::ExitCode;

use anyhow::bail;
use clap::{Args, Subcommand};
use indicatif::ProgressBar;
use serde_json::json;

use super::{Layers, print, start_logging};
use crate::{
    app,
    clock::Clock,
    cpis::{
        succession::Succeeded,
        types::{OdsCode, succession::Taken},
    },
};

#[derive(Subcommand)]
pub enum Organizations {
    /// Move records, channels and waiting notifications from one local authority to its successor.
    Succeed(Succeed),
}

#[derive(Args)]
pub struct Succeed {
    /// ODS code of the authority that ends.
    #[arg(value_name = "OLD", value_parser = ods)]
    old: OdsCode,
    /// ODS code of the one that takes over.
    #[arg(value_name = "NEW", value_parser = ods)]
    new: OdsCode,
    /// Do it. Without this nothing is changed.
    #[arg(long)]
    apply: bool,
    /// For machines.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    layers: Layers,
}

fn ods(text: &str) -> Result<OdsCode, String> {
    OdsCode::parse(text).map_err(|fault| fault.to_string())
}

impl Organizations {
    pub fn run(self) -> anyhow::Result<ExitCode> {
        let Self::Succeed(succeed) = self;
        succeed.run()
    }
}

impl Succeed {
    fn run(self) -> anyhow::Result<ExitCode> {
        let Self { old, new, apply, json: as_json, layers } = self;
        let settings = layers.settings()?;
        start_logging(&settings)?;
        let clock = Clock::system();
        let gateway = app::open_existing(&settings, &clock, &app::process_name())?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let bar = ProgressBar::new_spinner();
        bar.set_message("Moving");
        bar.enable_steady_tick(std::time::Duration::from_millis(100));
        let done = runtime.block_on(gateway.succeed(old.clone(), new.clone(), !apply));
        bar.finish_and_clear();
        gateway.store.close(None);
        match done? {
            Succeeded::Refused(why) => bail!("{why}"),
            Succeeded::AsItWas if as_json => print(&format!("{}\n", json!({"applied": false, "before": true})))?,
            Succeeded::AsItWas => print("It was done before; nothing was changed.\n")?,
            Succeeded::Done(taken) if as_json => {
                print(&format!("{}\n", json!({"applied": apply, "taken": taken})))?;
            }
            Succeeded::Done(taken) => print(&summary((old.as_str(), new.as_str()), apply, &taken))?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn summary((old, new): (&str, &str), applied: bool, taken: &Taken) -> String {
    let verb = if applied { "moved" } else { "would move" };
    let mut text = format!("From {old} to {new} {verb}:\n");
    let mut line = |count: i64, what: &str| text.push_str(&format!("{count:>10}  {what}\n"));
    line(taken.children, "children");
    line(taken.held_by_both, "of them are held by both: their plans join those of the successor's own child");
    line(taken.plans, "plans");
    line(taken.subscriptions, "subscriptions: from then on they are told of all that the successor is");
    line(taken.waiting, "notifications that wait for a channel");
    line(taken.messages, "MESH messages on their way");
    line(taken.clients, "clients that are refused from then on");
    match (&taken.mailbox, taken.replaces_mailbox) {
        (Some(mailbox), true) => {
            text.push_str(&format!("{new} keeps its own mailbox; {mailbox} is given up: its files are not taken.\n"));
        }
        (Some(mailbox), false) => text.push_str(&format!("The mailbox {mailbox} is {new}'s.\n")),
        (None, _) => {}
    }
    if !applied {
        text.push_str("Nothing was changed. Add --apply to do it.\n");
    }
    text
}
