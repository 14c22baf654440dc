//! The access history of a child: rows and what they name (design 5).

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::{
    NhsNumber,
    caller::Author,
    organization::{OdsCode, Organization},
};

/// What stands for an organisation whose name alone would tell why the child was there (design 5).
pub const WITHHELD: &str = "NHS service (details withheld)";

/// How a look-up counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AccessKind {
    /// Audited, listed, notified.
    Unscheduled,
    /// Audited only; B0170 in scheduled care.
    Silent,
}

/// Who looked, as it was at that time. Rendered as a `PractitionerRole` whose id is the access's id.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct AccessAuthor {
    pub author: Author,
    pub client_id: String,
    pub organization: OdsCode,
    pub organization_name: String,
    /// The organisation is marked sensitive: name and identifiers are withheld from clinicians and authorities.
    pub sensitive: bool,
    /// An unscheduled access from an organisation of scheduled care is marked so.
    pub scheduled_setting: bool,
}

/// One row of a child's access history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Access {
    /// Order of the history: later is larger.
    pub sequence: i64,
    /// FHIR id of the AuditEvent and of its `PractitionerRole`.
    pub id: Uuid,
    pub at: DateTime<Utc>,
    /// The number that was asked for.
    pub nhs_number: NhsNumber,
    pub author: AccessAuthor,
    pub request_id: String,
}

/// A stretch of the history, neither bound included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SequenceRange {
    pub above: i64,
    pub below: i64,
    pub oldest_first: bool,
}

/// What a look-up decided for one authority; kept in the security event's content.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ListingDecision {
    pub authority: OdsCode,
    /// False: the same author was listed less than 24 h before.
    pub listed: bool,
}

/// What a permitted look-up found.
#[derive(Clone, Debug)]
pub struct Found {
    /// Visible plans, ordered by authority, then type, then start.
    pub plans: Vec<super::ShownPlan>,
    /// At most 25, newest first; empty when no record is visible.
    pub history: Vec<Access>,
    /// The number asked for was superseded (design 9).
    pub superseded_by: Option<NhsNumber>,
    /// Name and birth date, only when `disclose_demographics` is on and a record is visible.
    pub demographics: Option<super::child::Demographics>,
}

impl Found {
    /// No record, or none that may be seen.
    pub fn nothing() -> Self {
        Self { plans: Vec::new(), history: Vec::new(), superseded_by: None, demographics: None }
    }

    /// True if the child is on record for this caller.
    pub fn on_record(&self) -> bool {
        !self.plans.is_empty()
    }

    /// The authorities of the plans, each once, in order.
    pub fn authorities(&self) -> Vec<&Organization> {
        let mut seen: Vec<&Organization> = Vec::new();
        for shown in &self.plans {
            if !seen.iter().any(|o| o.id == shown.authority.id) {
                seen.push(&shown.authority);
            }
        }
        seen
    }
}
