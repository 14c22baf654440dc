//! A local authority's FHIR Subscription and the notifications sent to it (design 7).

use chrono::{DateTime, TimeDelta, Utc};
use uuid::Uuid;

use super::access::Access;

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
    pub fn code(self) -> &'static str {
        match self {
            Self::Requested => "requested",
            Self::Active => "active",
            Self::Error => "error",
            Self::Off => "off",
        }
    }

    pub fn from_code(code: &str) -> Option<Self> {
        [Self::Requested, Self::Active, Self::Error, Self::Off].into_iter().find(|s| s.code() == code)
    }
}

/// A rest-hook subscription to the topic `cpis-access`, payload full-resource.
#[derive(Clone)]
pub struct Subscription {
    /// Surrogate key.
    pub key: i64,
    /// FHIR id.
    pub id: Uuid,
    /// Surrogate key of the owner.
    pub authority_id: i64,
    pub status: SubscriptionStatus,
    /// Why the status is `error`; shown to the owner.
    pub error: Option<String>,
    pub endpoint: String,
    /// Header lines to send, `Name: value`; secret.
    pub headers: Vec<String>,
    pub topic: String,
    pub reason: String,
    pub end: Option<DateTime<Utc>>,
    pub version: i64,
    pub updated: DateTime<Utc>,
    /// Events numbered so far.
    pub events: i64,
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
    pub endpoint: String,
    /// `Name: value` lines; secret.
    pub headers: Vec<String>,
    pub topic: String,
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

/// An event of the past as its owner may have it again.
#[derive(Clone, Debug)]
pub struct PastEvent {
    pub number: i64,
    /// Stable id of the notification.
    pub notification: Uuid,
    pub access: Access,
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
    /// The access that it is about: its place in the order of the history.
    pub access: i64,
}

/// A handshake or an event that the endpoint did not take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailedSending {
    /// Why, without a full stop; safe to log and to show to the owner.
    pub error: String,
    /// Until the next try, if there is to be one.
    pub pause: TimeDelta,
}
