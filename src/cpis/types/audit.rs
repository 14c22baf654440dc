//! A record of the security audit: the facts that are hashed, stored and rendered as an `AuditEvent` (design 5).

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::{
    NhsNumber,
    access::{AccessKind, ListingDecision},
    caller::{Author, Caller, RequestContext, Role},
    organization::OdsCode,
};

/// FHIR's restful interaction (`http://hl7.org/fhir/restful-interaction`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Interaction {
    Read,
    Vread,
    SearchType,
    HistoryInstance,
    HistoryType,
    Create,
    Update,
    Delete,
    Batch,
    Transaction,
    Operation,
}

impl Interaction {
    pub fn code(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Vread => "vread",
            Self::SearchType => "search-type",
            Self::HistoryInstance => "history-instance",
            Self::HistoryType => "history-type",
            Self::Create => "create",
            Self::Update => "update",
            Self::Delete => "delete",
            Self::Batch => "batch",
            Self::Transaction => "transaction",
            Self::Operation => "operation",
        }
    }

    /// `AuditEvent.action` by BALP.
    pub fn action(self) -> char {
        match self {
            Self::Read | Self::Vread => 'R',
            Self::Create => 'C',
            Self::Update => 'U',
            Self::Delete => 'D',
            Self::SearchType
            | Self::HistoryInstance
            | Self::HistoryType
            | Self::Batch
            | Self::Transaction
            | Self::Operation => 'E',
        }
    }
}

/// `AuditEvent.outcome`: 0 success, 4 minor failure (the caller's fault), 8 serious failure (ours).
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    Success,
    Refused,
    Failed,
}

impl Outcome {
    pub fn code(self) -> &'static str {
        match self {
            Self::Success => "0",
            Self::Refused => "4",
            Self::Failed => "8",
        }
    }
}

/// A resource that the request read or changed.
#[derive(Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct EntityRef {
    pub resource: String,
    pub id: String,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub version: Option<i64>,
}

/// Rows of a query that names no patient: from these the answer can be found again.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct QueryResult {
    pub rows: i64,
    pub first: Option<String>,
    pub last: Option<String>,
}

impl QueryResult {
    /// Of the rows of one answer, in its order.
    pub fn of<T>(rows: &[T], id: impl Fn(&T) -> String) -> Self {
        Self {
            rows: i64::try_from(rows.len()).unwrap_or(i64::MAX),
            first: rows.first().map(&id),
            last: rows.last().map(&id),
        }
    }
}

/// Who did it.
#[derive(Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct AuditAgent {
    pub client_id: String,
    pub role: Role,
    pub organization: OdsCode,
    pub organization_name: String,
    pub author: Author,
    /// Last 32 characters of the token.
    pub token_tail: String,
}

impl AuditAgent {
    /// The operator at the command line: whoever may use the database. It has no ODS code; this stands for one.
    pub fn operator() -> Self {
        Self {
            client_id: "cpis-gateway".to_owned(),
            role: Role::Administrator,
            organization: OdsCode::operator(),
            organization_name: "Operator at the command line".to_owned(),
            author: Author::System,
            token_tail: String::new(),
        }
    }
}

impl From<&Caller> for AuditAgent {
    fn from(caller: &Caller) -> Self {
        Self {
            client_id: caller.client_id.clone(),
            role: caller.role,
            organization: caller.organization.ods.clone(),
            organization_name: caller.organization.name.clone(),
            author: caller.author.clone(),
            token_tail: caller.token_tail.clone(),
        }
    }
}

/// One request (or one record of an upload) in the security audit.
#[derive(Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct RequestEvent {
    pub interaction: Interaction,
    pub outcome: Outcome,
    /// Spine code of a refusal.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub refusal: Option<String>,
    pub request_id: String,
    pub request_line: String,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub address: Option<String>,
    pub agent: AuditAgent,
    /// The patient that the request named, if it named one that is a valid number.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub patient: Option<NhsNumber>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub entity: Option<EntityRef>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub access: Option<AccessKind>,
    /// The access's id when it was listed for at least one authority.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub access_id: Option<Uuid>,
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub listing: Vec<ListingDecision>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub result: Option<QueryResult>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub upload: Option<Uuid>,
    /// What was said of the patient's number ([`NumberChange::code`](super::child::NumberChange::code)).
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub change: Option<String>,
}

impl RequestEvent {
    /// A success without more to say; fields are then set by name.
    pub fn new(interaction: Interaction, caller: &Caller, context: &RequestContext) -> Self {
        Self::by(interaction, caller.into(), context)
    }

    /// The same of somebody who need not have become a caller.
    pub fn by(interaction: Interaction, agent: AuditAgent, context: &RequestContext) -> Self {
        Self {
            interaction,
            outcome: Outcome::Success,
            refusal: None,
            request_id: context.request_id.clone(),
            request_line: context.request_line.clone(),
            address: context.address.map(|a| a.to_string()),
            agent,
            patient: None,
            entity: None,
            access: None,
            access_id: None,
            listing: Vec::new(),
            result: None,
            upload: None,
            change: None,
        }
    }
}

/// A change that nobody's request made: the system ended a record, or demographics say something new of a number; or what the
/// operator did by a command.
#[derive(Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct SystemEvent {
    /// What did it: `lifecycle`, `register`, `pds`, `retirement`, `operator`.
    pub by: String,
    /// What it did: a code of what became of a number, or why a record ended.
    pub change: String,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub patient: Option<NhsNumber>,
    /// The authority whose record it is.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub organization: Option<OdsCode>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub entity: Option<EntityRef>,
}

/// The content of one audit row.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum AuditContent {
    /// First record of a chain: names the newest checkpoint that its writer saw.
    ChainOpened {
        process: String,
        newest_checkpoint: Option<i64>,
        newest_checkpoint_hash: Option<String>,
    },
    /// Last record of a chain; `by` is the process that closed it (another one when its own died).
    ChainClosed {
        by: String,
    },
    Request(Box<RequestEvent>),
    System(Box<SystemEvent>),
}

/// An audit row as read back.
#[derive(Clone, Debug)]
pub struct AuditRow {
    /// `yyyymm` of the record; with `id` the FHIR id `{yyyymm}-{id}`.
    pub month: i32,
    pub id: i64,
    pub chain: i64,
    pub seq: i64,
    pub recorded: DateTime<Utc>,
    pub content: AuditContent,
}

impl AuditRow {
    pub fn fhir_id(&self) -> String {
        format!("{}-{}", self.month, self.id)
    }
}

/// An auditor's search of the security audit.
#[derive(Clone, Debug, Default)]
pub struct AuditSearch {
    pub patient: Option<NhsNumber>,
    /// Recorded in one of these; none of them: in none.
    pub recorded: Option<Vec<Span>>,
    /// `AuditEvent.action`, `outcome` and subtype codes: any of each list; an empty list asks nothing.
    pub actions: Vec<String>,
    pub outcomes: Vec<String>,
    pub subtypes: Vec<String>,
    /// (chain, highest seq) of every chain that was open or closed when the first page was made: rows above don't count.
    pub heads: Vec<(i64, i64)>,
    /// Only rows with one of these ids.
    pub ids: Option<Vec<i64>>,
    /// Rows with a smaller, or with a greater id.
    pub below_id: Option<i64>,
    pub above_id: Option<i64>,
    /// By rising id instead of newest first.
    pub oldest_first: bool,
}

/// A half-open stretch of time, milliseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    pub from_ms: i64,
    pub before_ms: i64,
}

impl Span {
    pub const ALWAYS: Self = Self { from_ms: i64::MIN, before_ms: i64::MAX };

    /// What both have; empty (`from_ms` not before `before_ms`) when they have nothing in common.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self { from_ms: self.from_ms.max(other.from_ms), before_ms: self.before_ms.min(other.before_ms) }
    }
}

masked_debug!(EntityRef, AuditAgent, RequestEvent, SystemEvent);
