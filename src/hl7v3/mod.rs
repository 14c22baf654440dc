//! The HL7 v3 messages of CP-IS as a language (domain.md 1.4 to 1.12): what a local authority sends and what it is sent.
//! Pure: bytes in, domain types out, and back. Reading never resolves an entity, and its memory doesn't grow with the file.
//!
//! | Message | Root | Here |
//! |---|---|---|
//! | `REPC_MT000002GB01` upload | `File` | [`upload`] |
//! | `REPC_MT000003GB01` acknowledgement | `FileResponse` | [`acknowledgement`] |
//! | `REPC_MT000004GB01` access to service | `CP-ISAccessToServiceNotification` | [`access_notification`] |
//! | `REPC_MT000005GB01` inactive NHS number | `CP-ISInactiveNHSNumberNotification` | [`inactive_number`] |
//!
//! The schemas were not in reach: the nesting of the messages is inferred from documented class names and paths. What is
//! read may therefore have any wrapper element where none is documented; what is written follows examples.md.

pub mod access_notification;
pub mod acknowledgement;
mod author;
pub mod inactive_number;
pub mod message;
mod oid;
#[cfg(test)]
mod tests;
mod time;
pub mod upload;
mod xml;

/// Why a file can't be used as a whole (CPF01).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileFault {
    /// Plain English, what to do; never a value that was sent.
    pub reason: String,
    /// The file's own number, if that much could be read.
    pub number: Option<i64>,
    /// Reading itself failed, not the file: nothing is said about it, and it may be read again.
    pub interrupted: bool,
}

impl FileFault {
    fn new(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), number: None, interrupted: false }
    }
}

impl std::fmt::Display for FileFault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.reason)
    }
}

impl std::error::Error for FileFault {}
