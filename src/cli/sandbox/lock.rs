//! The file that is locked while a sandbox is made, removed (alone) or served (shared). It holds the mark of the seed that
//! was begun last, so that a half-finished one is known for this directory's own.

use std::{
    fs,
    io::{Read, Seek, SeekFrom, Write},
    path::Path,
};

use anyhow::{Context, bail};

/// The file's name within the data directory; its presence says that the directory is a sandbox's.
pub const FILE: &str = "sandbox.lock";

pub struct Lock {
    file: fs::File,
    exclusive: bool,
}

impl Lock {
    /// Waits for a process that is making the sandbox. Alone if nobody else uses it, else shared.
    ///
    /// # Errors
    /// When the directory can't be used, or is in use although the lock is wanted `alone`.
    pub fn take(data_dir: &Path, alone: bool) -> anyhow::Result<Self> {
        let cannot = || format!("the directory {} can't be used", data_dir.display());
        fs::create_dir_all(data_dir).with_context(cannot)?;
        let mut options = fs::OpenOptions::new();
        let file = options
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(data_dir.join(FILE))
            .with_context(cannot)?;
        match file.try_lock() {
            Ok(()) => Ok(Self { file, exclusive: true }),
            Err(fs::TryLockError::WouldBlock) if alone => in_use(data_dir),
            Err(fs::TryLockError::WouldBlock) => {
                file.lock_shared().with_context(cannot)?;
                Ok(Self { file, exclusive: false })
            }
            Err(fs::TryLockError::Error(error)) => Err(error).with_context(cannot),
        }
    }

    /// # Errors
    /// When another process uses the sandbox.
    pub fn make_exclusive(&mut self, data_dir: &Path) -> anyhow::Result<()> {
        if !self.exclusive && self.file.try_lock().is_err() {
            return in_use(data_dir);
        }
        self.exclusive = true;
        Ok(())
    }

    /// Lets others use the sandbox, but not remove it, until this is dropped.
    ///
    /// # Errors
    /// When the file system fails.
    pub fn share(&mut self) -> anyhow::Result<()> {
        self.exclusive = false;
        self.file.lock_shared().context("the sandbox's lock can't be kept")
    }

    /// Notes the mark of a seed before any of it is in the database; durable when this returns.
    ///
    /// # Errors
    /// When the file system fails.
    pub fn begin(&mut self, seed: &str) -> anyhow::Result<()> {
        let noted = self
            .file
            .set_len(0)
            .and_then(|()| self.file.seek(SeekFrom::Start(0)))
            .and_then(|_| self.file.write_all(seed.as_bytes()))
            .and_then(|()| self.file.sync_all());
        noted.with_context(|| format!("{FILE} can't be written"))
    }

    /// The mark of the seed that was begun last; empty when none was.
    ///
    /// # Errors
    /// When the file system fails.
    pub fn begun_seed(&mut self) -> anyhow::Result<String> {
        let mut seed = String::new();
        let read = self.file.seek(SeekFrom::Start(0)).and_then(|_| self.file.read_to_string(&mut seed));
        read.with_context(|| format!("{FILE} can't be read"))?;
        Ok(seed)
    }
}

fn in_use<T>(data_dir: &Path) -> anyhow::Result<T> {
    bail!("a sandbox is running in {}: stop it first", data_dir.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_served_sandbox_is_shared_but_not_removed() {
        let directory = tempfile::tempdir().unwrap();
        let mut served = Lock::take(directory.path(), false).unwrap();
        assert!(Lock::take(directory.path(), true).is_err());
        served.share().unwrap();
        let mut second = Lock::take(directory.path(), false).unwrap();
        assert!(!second.exclusive && second.make_exclusive(directory.path()).is_err());
        drop((served, second));
        assert!(Lock::take(directory.path(), true).unwrap().exclusive);
    }

    #[test]
    fn the_mark_of_the_last_seed_is_kept() {
        let directory = tempfile::tempdir().unwrap();
        let mut lock = Lock::take(directory.path(), false).unwrap();
        assert_eq!(lock.begun_seed().unwrap(), "");
        lock.begin("a longer seed").unwrap();
        lock.begin("seed").unwrap();
        drop(lock);
        assert_eq!(Lock::take(directory.path(), false).unwrap().begun_seed().unwrap(), "seed");
    }
}
