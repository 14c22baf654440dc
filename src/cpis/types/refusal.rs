//! A record of an upload that was refused, and that no later upload has loaded.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::{NhsNumber, upload::RecordCode};

/// What is told of it again (design 7). Of CPR02, and of any when its time is over, number and reason are gone.
#[derive(Clone)]
pub struct OpenRefusal {
    /// Surrogate key of the upload; with the position its place in the order.
    pub upload_key: i64,
    /// Place in the file, from 0.
    pub position: i64,
    /// Id of the upload, as the audit names it.
    pub upload: Uuid,
    /// The number that the file had.
    pub file_number: Option<i64>,
    pub recorded: DateTime<Utc>,
    pub code: RecordCode,
    pub nhs_number: Option<NhsNumber>,
    /// Plain English.
    pub reason: Option<String>,
}

masked_debug!(OpenRefusal);
