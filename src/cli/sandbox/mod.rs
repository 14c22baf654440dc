//! The sandbox: made on the first start, used again on the next, made anew on request. Nothing that a sandbox did not make
//! is ever touched: its database is marked from the first transaction on (`seed`), and `sandbox.json`, written last,
//! repeats the mark.

mod banner;
mod dice;
mod directory;
mod lock;
mod population;
mod seed;
mod timeline;

use std::{
    fs, io,
    io::Write,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use chrono::{DateTime, Utc};

pub use banner::LIFETIME;
pub use directory::FILE;

use self::{directory::Directory, lock::Lock, population::Population};
use crate::{
    auth::{checkpoint_key, sandbox as issuer},
    config::Settings,
    cpis::{calendar::Calendar, types::organization::OrganizationSearch},
    http::sandbox::Sandbox,
    store::{Location, StoreError, audit, organization},
};

/// A sandbox that is ready to be served. Keeps others from removing it.
pub struct Prepared {
    directory: Directory,
    data_dir: PathBuf,
    _lock: Lock,
}

/// What a database holds.
#[derive(Debug, PartialEq, Eq)]
enum Held {
    /// No record at all; perhaps not even tables.
    Nothing,
    /// A sandbox's data, finished or not.
    Sandbox { seed: String },
    /// Records that no sandbox made.
    Foreign,
}

/// Makes the sandbox that the settings name, unless there is one already; with `reset` in any case.
///
/// # Errors
/// When the database or directory is not this sandbox's, another process uses it, or something fails.
pub fn prepare(settings: &Settings, reset: bool, now: DateTime<Utc>) -> anyhow::Result<Prepared> {
    let data_dir = settings.data_dir.clone();
    let location = Location::parse(settings.database_url().expose())?;
    let held = held(&location).context("the database can't be examined")?;
    if held == Held::Foreign {
        bail!(
            "the database {} holds records that no sandbox made: nothing was changed. Give the sandbox a database or \
             a directory of its own (--database-url, --data)",
            settings.database_url()
        );
    }
    if reset && held == Held::Nothing {
        refuse_foreign_directory(&data_dir)?;
    }
    let mut lock = Lock::take(&data_dir, reset)?;
    // Another process may have been making it until now.
    let held = self::held(&location).context("the database can't be examined")?;
    let finished = Directory::read(&data_dir).with_context(|| format!("{FILE} can't be read"))?;
    let finished = finished.filter(|file| !reset && held == Held::Sandbox { seed: file.seed.clone() });
    let directory = match finished {
        Some(directory) => directory,
        None => {
            lock.make_exclusive(&data_dir)?;
            if let Held::Sandbox { seed } = &held
                && !reset
                && lock.begun_seed()? != *seed
            {
                bail!(
                    "the database {} belongs to a sandbox of another directory: nothing was changed. Start that one \
                     (--data), or start this one over with --reset",
                    settings.database_url()
                );
            }
            clear(&data_dir, &location, &held)?;
            make(settings, &location, &mut lock, now)?
        }
    };
    lock.share()?;
    Ok(Prepared { directory, data_dir, _lock: lock })
}

impl Prepared {
    /// Writes the address that is really listened on into `sandbox.json`, and prints the banner to standard output.
    ///
    /// # Errors
    /// When the file can't be written or no token can be signed.
    pub fn announce(
        &mut self,
        settings: &Settings,
        (bound, management): (SocketAddr, SocketAddr),
        now: DateTime<Utc>,
    ) -> anyhow::Result<()> {
        self.directory.base_url = settings.fhir_base(bound);
        self.directory.write(&self.data_dir)?;
        let root = self.directory.base_url.strip_suffix(&settings.base_path).unwrap_or(&self.directory.base_url);
        let sandbox = Sandbox::open(&self.data_dir)?;
        let text =
            banner::banner(&sandbox, &self.directory, (root, management), &self.data_dir.display().to_string(), now)?;
        let mut out = io::stdout().lock();
        // A closed standard output is no reason not to serve.
        let _shown = out.write_all(text.as_bytes()).and_then(|()| out.flush());
        Ok(())
    }
}

/// The sandbox's tokens for the command line.
///
/// # Errors
/// When there is no finished sandbox in the directory.
pub fn open_tokens(data_dir: &Path) -> anyhow::Result<Sandbox> {
    let finished = Directory::read(data_dir).with_context(|| format!("{FILE} can't be read"))?.is_some();
    if !finished || !data_dir.join(issuer::FILE).exists() {
        bail!(
            "there is no sandbox in {0}: start one with `cpis-gateway --sandbox --data {0}`, or say where it is (--data)",
            data_dir.display()
        );
    }
    Ok(Sandbox::open(data_dir)?)
}

fn refuse_foreign_directory(data_dir: &Path) -> anyhow::Result<()> {
    let mut inside = match fs::read_dir(data_dir) {
        Ok(inside) => inside,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error).with_context(|| format!("{} can't be read", data_dir.display())),
    };
    if inside.next().is_some() && ![lock::FILE, FILE].iter().any(|name| data_dir.join(name).exists()) {
        bail!("{} is not a sandbox's directory: nothing was removed", data_dir.display());
    }
    Ok(())
}

fn held(location: &Location) -> Result<Held, StoreError> {
    if let Location::Sqlite(path) = location
        && !Path::new(path).exists()
    {
        return Ok(Held::Nothing);
    }
    if location.applied_migrations()? == 0 {
        return Ok(Held::Nothing);
    }
    let mut conn = location.connect()?;
    if let Some(mark) = organization::find_client(&mut conn, seed::SEED_CLIENT)? {
        return Ok(Held::Sandbox { seed: mark.name });
    }
    let anything = !organization::search(&mut conn, &OrganizationSearch::default(), None, false, 1)?.is_empty()
        || !audit::committed_heads(&mut conn)?.is_empty();
    Ok(if anything { Held::Foreign } else { Held::Nothing })
}

/// Removes what a sandbox made. `sandbox.json` goes first: whatever interrupts this, the next start begins again.
fn clear(data_dir: &Path, location: &Location, held: &Held) -> anyhow::Result<()> {
    remove(&data_dir.join(FILE))?;
    match (location, held) {
        (_, Held::Nothing | Held::Foreign) => {}
        (Location::Sqlite(path), Held::Sandbox { .. }) => {
            for suffix in ["-wal", "-shm", "-journal", ""] {
                remove(Path::new(&format!("{path}{suffix}")))?;
            }
        }
        (Location::Postgres(_), Held::Sandbox { .. }) => {
            tracing::info!("dropping the sandbox's tables from the PostgreSQL database; they are made anew");
            location.revert()?;
        }
    }
    for name in [issuer::FILE, checkpoint_key::PRIVATE_FILE, checkpoint_key::PUBLIC_FILE] {
        remove(&data_dir.join(name))?;
    }
    Ok(())
}

fn remove(path: &Path) -> anyhow::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("{} can't be removed", path.display()))
        }
        _ => Ok(()),
    }
}

/// The key of the tokens, the database, and last `sandbox.json`.
fn make(settings: &Settings, location: &Location, lock: &mut Lock, now: DateTime<Utc>) -> anyhow::Result<Directory> {
    let data_dir = &settings.data_dir;
    Sandbox::open(data_dir)?;
    let calendar = Calendar::new(settings.zone);
    let everybody = Population::on(calendar.day_of(now));
    let seed = uuid::Uuid::new_v4().to_string();
    lock.begin(&seed)?;
    tracing::info!("making the sandbox's synthetic data");
    let runtime = tokio::runtime::Builder::new_current_thread().build().context("no runtime for the seed")?;
    runtime
        .block_on(seed::fill(location, &everybody, calendar, &settings.base_path, &seed, now))
        .context("the sandbox's data can't be made")?;
    let directory = Directory::of(&everybody, &seed, settings.fhir_base(settings.listen))?;
    directory.write(data_dir)?;
    Ok(directory)
}

#[cfg(test)]
mod tests;
