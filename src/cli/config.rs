//! `cpis-gateway config`: the configuration in force, as TOML without passwords.

use std::process::ExitCode;

use clap::Args;

use super::{Layers, print};

#[derive(Args)]
pub struct Config {
    #[command(flatten)]
    layers: Layers,
}

impl Config {
    pub fn run(self) -> anyhow::Result<ExitCode> {
        print(&self.layers.settings()?.redacted_toml()?)?;
        Ok(ExitCode::SUCCESS)
    }
}
