//! Key files: written once, whole or not at all, never over another.

use std::{
    fs,
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

/// Who may read the file.
#[derive(Clone, Copy)]
pub(super) enum Readers {
    /// Mode 0600.
    Owner,
    /// Mode 0644.
    All,
}

/// Writes `content` to a new file `directory/name`, durable when this returns.
///
/// # Errors
/// `AlreadyExists` when there is a file of that name, which stays as it is; any other error of the file system.
pub(super) fn write_new(directory: &Path, name: &str, content: &[u8], readers: Readers) -> io::Result<()> {
    let mode = match readers {
        Readers::Owner => 0o600,
        Readers::All => 0o644,
    };
    let target = directory.join(name);
    let draft = directory.join(format!(".{name}.{}", uuid::Uuid::new_v4()));
    // A hard link, other than a rename, fails when the target exists: of two processes one wins, and no reader ever
    // sees half a file.
    let written = write_draft(&draft, content, mode).and_then(|()| fs::hard_link(&draft, &target));
    let removed = fs::remove_file(&draft);
    written?;
    removed?;
    fs::File::open(directory)?.sync_all()
}

fn write_draft(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    file.write_all(content)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_key_file_is_written_once_and_leaves_no_draft() {
        let directory = tempfile::tempdir().unwrap();
        write_new(directory.path(), "k.pem", b"first", Readers::Owner).unwrap();
        let again = write_new(directory.path(), "k.pem", b"second", Readers::Owner).unwrap_err();
        assert_eq!(again.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read(directory.path().join("k.pem")).unwrap(), b"first");
        assert_eq!(fs::metadata(directory.path().join("k.pem")).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }
}
