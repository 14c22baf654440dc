//! The file numbers of an authority, kept in a small file: a file that is sent again keeps its number until it has its
//! final answer, so that it is never applied twice.

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

use super::LaFault;

/// What is kept.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Kept {
    /// The highest number that was given.
    last: i64,
    /// Files without a final answer.
    pending: Vec<Pending>,
    /// By subscription, the number of the last event that was shown.
    events: BTreeMap<String, i64>,
    /// Accesses that were shown lately, by id: when they were recorded.
    accesses: BTreeMap<String, DateTime<Utc>>,
}

/// An access that shows so much later than others of its time is still shown.
const LATE: TimeDelta = TimeDelta::hours(1);

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Pending {
    /// SHA-256 of the file's bytes.
    digest: String,
    number: i64,
}

/// The state of one authority's client. As long as it is there no other command has it.
pub struct State {
    path: PathBuf,
    kept: Kept,
    // Locked.
    _lock: File,
}

impl State {
    /// Opens the file, or begins a new one; waits until no other command has it.
    ///
    /// # Errors
    /// [`LaFault::Failed`] when it can't be read or locked.
    pub fn open(path: &Path) -> Result<Self, LaFault> {
        let failed = |error: std::io::Error| LaFault::Failed(format!("the state {}: {error}", path.display()));
        if let Some(directory) = path.parent() {
            fs::create_dir_all(directory).map_err(failed)?;
        }
        // Beside the file itself, which is replaced.
        let mut options = OpenOptions::new();
        options.create(true).truncate(false).write(true).mode(0o600);
        let lock = options.open(path.with_extension("lock")).map_err(failed)?;
        lock.lock().map_err(failed)?;
        let kept = match fs::read(path) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map_err(|_| LaFault::Failed(format!("the state {} can't be read as what it was", path.display())))?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Kept::default(),
            Err(error) => return Err(failed(error)),
        };
        Ok(Self { path: path.to_owned(), kept, _lock: lock })
    }

    /// The number for a file: the one it was sent under before, if it has no final answer; else `wanted`, else the next.
    ///
    /// # Errors
    /// [`LaFault`] when it can't be kept.
    pub fn number_for(&mut self, digest: &str, wanted: Option<i64>) -> Result<i64, LaFault> {
        let before = self.pending(digest);
        let number = wanted.or(before).unwrap_or(self.kept.last + 1);
        self.kept.pending.retain(|pending| pending.digest != digest && pending.number != number);
        self.kept.pending.push(Pending { digest: digest.to_owned(), number });
        self.kept.last = self.kept.last.max(number);
        self.save()?;
        Ok(number)
    }

    /// The number under which a file was sent, or may have been, without a final answer so far.
    pub fn pending(&self, digest: &str) -> Option<i64> {
        self.kept.pending.iter().find(|pending| pending.digest == digest).map(|pending| pending.number)
    }

    /// The file of this number has its final answer; those before it can't be sent under theirs any more.
    ///
    /// # Errors
    /// [`LaFault`] when it can't be kept.
    pub fn answered(&mut self, number: i64) -> Result<(), LaFault> {
        self.kept.pending.retain(|pending| pending.number > number);
        self.save()
    }

    /// A file was not accepted under this number, which it so keeps no longer: sent again, it gets the next.
    ///
    /// # Errors
    /// [`LaFault`] when it can't be kept.
    pub fn not_accepted(&mut self, number: i64) -> Result<(), LaFault> {
        self.kept.pending.retain(|pending| pending.number != number);
        self.save()
    }

    /// The last event of a subscription that was shown; 0 at first.
    pub fn shown(&self, subscription: &str) -> i64 {
        self.kept.events.get(subscription).copied().unwrap_or(0)
    }

    /// From when on there may be accesses that were not shown yet; `None` at first.
    pub fn accesses_since(&self) -> Option<DateTime<Utc>> {
        self.kept.accesses.values().max().map(|newest| *newest - LATE)
    }

    pub fn was_shown(&self, access: &str) -> bool {
        self.kept.accesses.contains_key(access)
    }

    /// These accesses were shown.
    ///
    /// # Errors
    /// [`LaFault`] when it can't be kept.
    pub fn show_accesses(&mut self, shown: impl IntoIterator<Item = (String, DateTime<Utc>)>) -> Result<(), LaFault> {
        self.kept.accesses.extend(shown);
        let since = self.accesses_since();
        self.kept.accesses.retain(|_, at| since.is_none_or(|since| *at >= since));
        self.save()
    }

    /// # Errors
    /// [`LaFault`] when it can't be kept.
    pub fn show(&mut self, subscription: &str, event: i64) -> Result<(), LaFault> {
        self.kept.events.insert(subscription.to_owned(), event);
        self.save()
    }

    fn save(&self) -> Result<(), LaFault> {
        write_privately(&self.path, |file| {
            serde_json::to_writer_pretty(&mut *file, &self.kept)?;
            Ok(())
        })
    }
}

/// Writes a file that only its owner can read; it is there whole or not at all.
///
/// # Errors
/// [`LaFault`] when it can't be written.
pub fn write_privately(path: &Path, content: impl FnOnce(&mut File) -> Result<(), LaFault>) -> Result<(), LaFault> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // Made with mode 0600.
    let mut file = tempfile::NamedTempFile::new_in(directory)?;
    content(file.as_file_mut())?;
    file.flush()?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| LaFault::Output(error.error))?;
    Ok(())
}

impl From<serde_json::Error> for LaFault {
    fn from(error: serde_json::Error) -> Self {
        Self::Output(error.into())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_file_keeps_its_number_until_it_has_its_answer() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("deep/state.json");
        let open = || State::open(&path).unwrap();
        assert_eq!(open().number_for("a", None).unwrap(), 1);
        assert_eq!(open().number_for("a", None).unwrap(), 1);
        assert_eq!(open().number_for("b", None).unwrap(), 2);
        assert_eq!(open().number_for("a", None).unwrap(), 1);
        open().answered(1).unwrap();
        assert_eq!(open().number_for("b", None).unwrap(), 2);
        assert_eq!(open().number_for("a", None).unwrap(), 3);
        // What lies before an answered file gets a new number.
        open().answered(3).unwrap();
        assert_eq!(open().number_for("b", None).unwrap(), 4);
        assert_eq!(open().number_for("c", Some(900)).unwrap(), 900);
        assert_eq!(open().number_for("d", None).unwrap(), 901);
        // Not accepted: under the same number it never will be.
        open().not_accepted(901).unwrap();
        assert_eq!(open().number_for("d", None).unwrap(), 902);
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_broken_state_is_not_begun_anew() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state.json");
        fs::write(&path, "{\"last\": ").unwrap();
        assert!(State::open(&path).is_err());
    }
}
