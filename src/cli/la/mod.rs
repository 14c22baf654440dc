//! `cpis-gateway la`: the client of a local authority that has no system of its own for CP-IS. It reads CSV, HL7 v3 or FHIR
//! files, sends them by FHIR or by MESH, shows what comes back, and gets what the gateway holds (docs/la-client.md).
//!
//! Exit codes, for a scheduler: 0 all good; 1 failed; 2 wrong use; 3 some records refused (or problems found); 4 none
//! loaded; 5 try again later, with the same file. Records and names go to standard output or to a file of the user's
//! choice, never into a message.

mod answer;
mod bundle;
mod check;
mod config;
mod console;
mod csv;
mod export;
mod mailbox;
mod numbers;
mod remote;
mod source;
mod upload;
mod watch;

use std::{ffi::OsString, process::ExitCode};

use clap::{Parser, Subcommand};

pub use console::Console;

/// Something is not as the user said, or was not said.
const USAGE: u8 = 2;
const FAILED: u8 = 1;
const SOME_REFUSED: u8 = 3;
const NONE_LOADED: u8 = 4;
const TRY_AGAIN: u8 = 5;

#[derive(Subcommand)]
pub enum La {
    /// Check a file on this machine: every problem, nothing is sent.
    Validate(check::Validate),
    /// Send a file and show which records were refused, and why.
    Upload(upload::Upload),
    /// Show acknowledgements and notifications as they come.
    Watch(watch::Watch),
    /// Get all that the gateway holds for the authority.
    Export(export::Export),
}

/// Why a command ended without a result. The texts never hold anything of a file.
#[derive(Debug, thiserror::Error)]
pub enum LaFault {
    #[error("{0}")]
    Usage(String),
    #[error("{0}")]
    Failed(String),
    #[error("{0}")]
    TryAgain(String),
    #[error("the output can't be written: {0}")]
    Output(#[from] std::io::Error),
}

impl LaFault {
    fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_) => USAGE,
            Self::Failed(_) | Self::Output(_) => FAILED,
            Self::TryAgain(_) => TRY_AGAIN,
        }
    }
}

impl La {
    pub fn run(self) -> anyhow::Result<ExitCode> {
        let mut console = Console::standard();
        Ok(ExitCode::from(actix_web::rt::System::new().block_on(self.execute(&mut console))))
    }

    /// Runs the command; its exit code.
    async fn execute(self, console: &mut Console) -> u8 {
        let done = match self {
            Self::Validate(validate) => validate.run(console),
            Self::Upload(upload) => upload.run(console).await,
            Self::Watch(watch) => watch.run(console).await,
            Self::Export(export) => export.run(console).await,
        };
        done.unwrap_or_else(|fault| {
            console.say(&format!("cpis-gateway la: {fault}"));
            fault.exit_code()
        })
    }
}

#[derive(Parser)]
#[command(name = "la")]
struct Alone {
    #[command(subcommand)]
    command: La,
}

/// Runs the command that `arguments` (`la` first) say, in a runtime that is there already; its exit code.
pub async fn run(arguments: impl IntoIterator<Item = OsString>, console: &mut Console) -> u8 {
    match Alone::try_parse_from(arguments) {
        Ok(alone) => alone.command.execute(console).await,
        Err(error) => {
            console.say(&error.to_string());
            u8::try_from(error.exit_code()).unwrap_or(USAGE)
        }
    }
}
