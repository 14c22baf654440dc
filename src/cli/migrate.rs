//! `cpis-gateway migrate`: applies the migrations that the database lacks, as the tables' owner on PostgreSQL.

use std::{path::Path, process::ExitCode};

use anyhow::Context;
use clap::Args;

use super::{Layers, print, start_logging};
use crate::{
    clock::Clock,
    store::{Location, audit::month_of},
};

#[derive(Args)]
pub struct Migrate {
    #[command(flatten)]
    layers: Layers,
}

impl Migrate {
    pub fn run(self) -> anyhow::Result<ExitCode> {
        let settings = self.layers.settings()?;
        start_logging(&settings)?;
        let url = settings.database.owner_url.clone().unwrap_or_else(|| settings.database_url());
        let location = Location::parse(url.expose())?;
        if let Location::Sqlite(path) = &location
            && let Some(directory) = Path::new(path).parent()
        {
            std::fs::create_dir_all(directory).with_context(|| format!("{} can't be made", directory.display()))?;
        }
        let applied = location.migrate(month_of(Clock::system().now())).context("the database can't be migrated")?;
        print(&match applied {
            0 => format!("{url}: nothing to do, the database is at this version.\n"),
            1 => format!("{url}: 1 migration applied.\n"),
            several => format!("{url}: {several} migrations applied.\n"),
        })?;
        Ok(ExitCode::SUCCESS)
    }
}
