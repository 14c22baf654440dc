//! A local authority's FHIR Subscription and the notifications sent to it (design 7).

use chrono::{DateTime, TimeDelta, Utc};
use uuid::Uuid;

use super::{
    ShownPlan,
    child::AuthorityChild,
    notice::{Notice, Topic},
};

/// `Subscription.status`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SubscriptionStatus {
    /// Waits for the handshake.
    Requested,
    Active,
    Error,
    Off,
}

impl SubscriptionStatus {
    pub const ALL: [Self; 4] = [Self::Requested, Self::Active, Self::Error, Self::Off];

    pub fn code(self) -> &'static str {
        match self {
            Self::Requested => "requested",
            Self::Active => "active",
            Self::Error => "error",
            Self::Off => "off",
        }
    }

    pub fn from_code(code: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|s| s.code() == code)
    }
}

/// How much of an event is told (`backport-content-value-set`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// That there was one.
    Empty,
    /// What it is about, by reference.
    IdOnly,
    FullResource,
}

impl Content {
    pub const ALL: [Self; 3] = [Self::Empty, Self::IdOnly, Self::FullResource];

    pub fn code(self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::IdOnly => "id-only",
            Self::FullResource => "full-resource",
        }
    }

    pub fn from_code(code: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|content| content.code() == code)
    }
}

/// Content type of what is sent; the body is FHIR JSON under either name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Payload {
    FhirJson,
    Json,
}

impl Payload {
    pub const ALL: [Self; 2] = [Self::FhirJson, Self::Json];

    pub fn code(self) -> &'static str {
        match self {
            Self::FhirJson => "application/fhir+json",
            Self::Json => "application/json",
        }
    }

    pub fn from_code(code: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|payload| payload.code() == code)
    }
}

/// Where and how a subscription is told: a rest-hook.
#[derive(Clone, PartialEq, Eq)]
pub struct Hook {
    pub endpoint: String,
    /// Header lines to send, `Name: value`; secret.
    pub headers: Vec<String>,
    pub payload: Payload,
    pub content: Content,
    /// Longest silence in seconds: then a heartbeat is sent.
    pub heartbeat: Option<u32>,
    /// Seconds that the endpoint may take to answer, if less than the installation's own limit.
    pub timeout: Option<u32>,
    /// Most events of one notification. One is sent in each, which keeps every limit.
    pub max_count: Option<u32>,
}

/// A rest-hook subscription to one topic.
#[derive(Clone)]
pub struct Subscription {
    /// Surrogate key.
    pub key: i64,
    /// FHIR id.
    pub id: Uuid,
    /// Surrogate key of the owner.
    pub authority_id: i64,
    pub status: SubscriptionStatus,
    /// Why the status is `error`, or `off` without its owner's wish; shown to the owner.
    pub error: Option<String>,
    pub topic: Topic,
    /// The topic's URL as it was asked for.
    pub criteria: String,
    pub hook: Hook,
    pub reason: String,
    pub end: Option<DateTime<Utc>>,
    pub version: i64,
    pub updated: DateTime<Utc>,
    /// Events numbered so far.
    pub events: i64,
    /// Handshakes or heartbeats that failed, one after the other.
    pub failures: i64,
}

/// Without endpoint and headers: they may hold credentials.
impl std::fmt::Debug for Subscription {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Subscription").field("id", &self.id).field("status", &self.status).finish_non_exhaustive()
    }
}

/// What an authority asks for.
#[derive(Clone)]
pub struct NewSubscription {
    pub id: Uuid,
    pub authority_id: i64,
    pub topic: Topic,
    /// The topic's URL.
    pub criteria: String,
    pub hook: Hook,
    pub reason: String,
    pub end_ms: Option<i64>,
}

/// What an authority wants a subscription of its own to be.
#[derive(Clone)]
pub struct SubscriptionChange {
    pub wanted: NewSubscription,
    /// Switched off: nothing is sent until it is asked for again.
    pub off: bool,
}

/// One event on its way to one subscription.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// Surrogate key.
    pub key: i64,
    /// Its number in the subscription, from 1 without gaps.
    pub event_number: i64,
    /// Sendings that failed so far.
    pub attempts: i64,
    /// Stable id of the notification: that of the outbox row.
    pub notification: Uuid,
    /// Surrogate key of the outbox row.
    pub outbox: i64,
}

/// An event with all that may be told of it.
#[derive(Clone, Debug)]
pub struct Event {
    /// Stable id of the notification.
    pub notification: Uuid,
    /// Its number in the subscription, from 1 without gaps.
    pub number: i64,
    /// When what it tells of happened.
    pub at: DateTime<Utc>,
    pub notice: Notice,
    pub named: Named,
}

/// The authority's own record that a notice is about, as it stands when it is told; `None` when it was deleted meanwhile.
#[derive(Clone, Debug)]
pub enum Named {
    /// The notice itself holds the access.
    Access,
    Child(Option<Box<AuthorityChild>>),
    Plan(Option<Box<ShownPlan>>),
}

/// A handshake, a heartbeat or an event that the endpoint did not take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailedSending {
    /// Why, without a full stop; safe to log and to show to the owner.
    pub error: String,
    /// Until the next try, if there is to be one.
    pub pause: TimeDelta,
    /// The endpoint is there no more (410): the subscription is switched off.
    pub gone: bool,
}

masked_debug!(Hook);
