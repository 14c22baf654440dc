//! The exchange with authorities over MESH: whose mailbox is which, what is sent, and how it stands (design 6 and 7).

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::{
    NhsNumber,
    access::Access,
    organization::{OdsCode, Organization},
    upload::FileCode,
};

/// What a message to an authority is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MeshKind {
    /// The answer to a file that it sent.
    Acknowledgement,
    /// Accesses to children of its.
    Access,
    /// A number of its that became inactive.
    InactiveNumber,
}

impl MeshKind {
    pub const ALL: [Self; 3] = [Self::Acknowledgement, Self::Access, Self::InactiveNumber];

    /// As stored.
    pub fn code(self) -> &'static str {
        match self {
            Self::Acknowledgement => "acknowledgement",
            Self::Access => "access",
            Self::InactiveNumber => "inactive-number",
        }
    }

    pub fn from_code(code: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.code() == code)
    }
}

/// How a message to an authority stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MeshState {
    Queued,
    /// Its sending has begun and its result is not known: MESH is asked before it is sent again.
    Sending,
    /// MESH has it.
    Sent,
    /// The authority has taken it.
    Delivered,
    /// Given up: kept, and sent again when an operator says so.
    Undeliverable,
}

impl MeshState {
    pub const ALL: [Self; 5] = [Self::Queued, Self::Sending, Self::Sent, Self::Delivered, Self::Undeliverable];

    /// As stored, and as operators see it.
    pub fn code(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Sending => "sending",
            Self::Sent => "sent",
            Self::Delivered => "delivered",
            Self::Undeliverable => "undeliverable",
        }
    }

    pub fn from_code(code: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.code() == code)
    }
}

/// The mailbox of an authority.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MeshMailbox {
    pub authority: Organization,
    /// Mailbox id in capitals.
    pub mailbox: String,
    /// Notifications before this moment are not for it.
    pub from: DateTime<Utc>,
}

/// What the acknowledgement of a file says, beside its refused records.
#[derive(Clone, PartialEq, Eq)]
pub struct FileReply {
    /// MESH's id of the message that held the file.
    pub reply_to: String,
    /// The upload whose refused records belong to the answer; `None` when nothing could be read.
    pub upload: Option<Uuid>,
    pub code: FileCode,
    /// The file's number; `None` when it could not be read.
    pub number: Option<i64>,
    /// Records that it has; `None` when that can't be said.
    pub records: Option<usize>,
    pub refused: usize,
    /// Of CPF01 and CPF05, what to do.
    pub reason: Option<String>,
    /// The whole answer to a FHIR Bundle, as JSON.
    pub body: Option<Vec<u8>>,
}

masked_debug!(FileReply);

/// A message to an authority.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MeshMessage {
    /// Surrogate key.
    pub key: i64,
    /// Its id within the HL7 v3 message, the same at every sending.
    pub id: Uuid,
    pub kind: MeshKind,
    /// Surrogate key of the authority.
    pub authority: i64,
    pub state: MeshState,
    /// Failures in a row since it was queued.
    pub attempts: i64,
    /// How often MESH reported that it was not collected, or an operator sent it again.
    pub reopened: i64,
    pub next_attempt: DateTime<Utc>,
    pub created: DateTime<Utc>,
    /// When its sending under the present local id began.
    pub sending: Option<DateTime<Utc>>,
    /// MESH's id of the newest sending.
    pub mesh_id: Option<String>,
    /// Why it is not sent, or not delivered.
    pub error: Option<String>,
    /// Of an acknowledgement.
    pub reply: Option<FileReply>,
}

impl MeshMessage {
    /// Under what id MESH is asked what became of it: its own, with the number of reopenings behind it, so that an earlier
    /// sending, which was not collected, isn't taken for this one.
    pub fn local_id(&self) -> String {
        if self.reopened == 0 { self.id.to_string() } else { format!("{}-{}", self.id, self.reopened) }
    }
}

/// What a message to an authority tells, read anew for each sending.
#[derive(Clone)]
pub enum MeshContent {
    Acknowledgement(FileReply),
    Accesses {
        /// In the order of the history; each under the number by which the authority sent the child.
        accesses: Vec<Access>,
        /// The newest file of the authority that touched one of these children.
        file_number: Option<i64>,
    },
    InactiveNumber {
        nhs_number: NhsNumber,
        replaced_by: Option<NhsNumber>,
        file_number: Option<i64>,
    },
}

masked_debug!(MeshContent);

/// How a message that came in stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// It is to be handled, for the how manieth time.
    Attempt(i64),
    /// It failed before, and its pause is not over.
    NotYet,
    /// It was handled: what is missing is that MESH is told so.
    Handled,
    /// It was given up, and waits for an operator.
    SetAside,
    /// Another process works.
    NotMine,
}

/// A message that came and could not be handled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MeshSetAside {
    /// MESH's id.
    pub message: String,
    /// The sender's.
    pub mailbox: String,
    pub received: DateTime<Utc>,
    /// What went wrong last.
    pub reason: Option<String>,
}

/// What became of the sending of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sending {
    /// MESH has it under this id.
    Sent { mesh_id: String },
    /// It was not sent, and is tried again at this time.
    Failed { error: String, at: DateTime<Utc> },
    /// Whether it was sent is not known; MESH is asked at this time.
    Unknown { error: String, at: DateTime<Utc> },
    /// It is not tried again.
    Undeliverable { error: String },
}

/// How many messages stand how; for metrics and for operators.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MeshCounts {
    pub queued: i64,
    /// Sent, and not yet taken by the authority.
    pub sent: i64,
    pub delivered: i64,
    pub undeliverable: i64,
    /// Age of the oldest queued message in seconds.
    pub oldest_queued_seconds: Option<i64>,
    /// Messages that came in and could not be handled.
    pub set_aside: i64,
}

/// How the gateway's own mailbox stands with MESH.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MeshContact {
    pub handshake: Option<DateTime<Utc>>,
    /// Last call that MESH answered as it should.
    pub reached: Option<DateTime<Utc>>,
    /// Since when it has not; `None` while all is well.
    pub failed: Option<DateTime<Utc>>,
    /// In words, without secrets.
    pub error: Option<String>,
}

/// One message to an authority as operators see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MeshRow {
    pub message: MeshMessage,
    pub authority: OdsCode,
    /// Notifications that it carries.
    pub notices: i64,
}

/// A message ready to go.
#[derive(Clone)]
pub struct MeshReady {
    pub message: MeshMessage,
    pub authority: Organization,
    /// The authority's mailbox.
    pub mailbox: String,
    pub content: MeshContent,
}

masked_debug!(MeshReady);
