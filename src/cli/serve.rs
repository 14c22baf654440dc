//! `cpis-gateway [serve]`: serves until it is told to stop by SIGTERM or SIGINT.

use std::{io, process::ExitCode};

use anyhow::Context;
use clap::{Args, CommandFactory, error::ErrorKind};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::{Arguments, Layers, sandbox, start_logging};
use crate::{app::App, clock::Clock};

#[derive(Args)]
pub struct Serve {
    #[command(flatten)]
    pub(super) layers: Layers,
    /// Start the sandbox over: its database, keys and sandbox.json are removed and made anew.
    #[arg(long)]
    pub(super) reset: bool,
}

impl Serve {
    pub fn run(self) -> anyhow::Result<ExitCode> {
        let settings = self.layers.settings()?;
        if self.reset && !settings.sandbox {
            let fault = "--reset removes a sandbox's data; this configuration is a service's";
            return Err(Arguments::command().error(ErrorKind::ArgumentConflict, fault).into());
        }
        start_logging(&settings)?;
        let clock = Clock::system();
        let mut prepared = match settings.sandbox {
            true => Some(sandbox::prepare(&settings, self.reset, clock.now())?),
            false => None,
        };
        actix_web::rt::System::new().block_on(async {
            // Before anything is open: a signal that comes during the start is not lost.
            let stop = stop_signals().context("signals can't be received")?;
            let app = App::open(settings.clone(), clock.clone())?;
            tracing::info!(address = %app.address(), management = %app.management_address(), "serving");
            if let Some(prepared) = &mut prepared {
                prepared.announce(&settings, (app.address(), app.management_address()), clock.now())?;
            }
            app.run(stopped(stop)).await?;
            Ok(ExitCode::SUCCESS)
        })
    }
}

fn stop_signals() -> io::Result<[Signal; 2]> {
    Ok([signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?])
}

/// Returns with the first of the signals.
async fn stopped([mut terminate, mut interrupt]: [Signal; 2]) {
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}
