//! What the operator sees of notifications that were not delivered, and how they are sent again.
//! One list for both channels: a subscription's event is named by subscription and number, a message over MESH by its id.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::Serialize;
use uuid::Uuid;

use super::queue::is_held;
use crate::{
    cpis::{
        gateway::{Error, Gateway},
        measured::REST_HOOK,
        types::{
            OdsCode,
            audit::{AuditAgent, EntityRef, Interaction, QueryResult, RequestEvent},
            caller::RequestContext,
            mesh::{MeshRow, MeshState},
            subscription::SubscriptionStatus,
        },
    },
    store::undelivered::{self, Undelivered, Wanted},
};

/// Events of one transaction.
const AT_ONCE: usize = 64;

/// One notification that a channel has not delivered. Nothing in it says which child it is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Waiting {
    /// Names it on the command line: subscription and event number, or the id of a MESH message.
    pub id: String,
    pub channel: &'static str,
    pub authority: String,
    /// What it tells of; of a MESH message its kind.
    pub topic: &'static str,
    pub state: &'static str,
    /// Sendings that failed.
    pub attempts: i64,
    /// When it became something to tell.
    pub since: DateTime<Utc>,
    /// When it is tried next, if it is.
    pub next_attempt: Option<DateTime<Utc>>,
    /// Why the last sending failed.
    pub last_error: Option<String>,
    /// Stable id of the notification, as the receiver gets it.
    pub notification: Uuid,
}

/// Which of them are asked for.
#[derive(Clone, Debug, Default)]
pub struct Which {
    pub undeliverable: bool,
    pub authority: Option<OdsCode>,
    pub one: Option<One>,
}

/// What a [`Waiting::id`] names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum One {
    /// An event of a subscription by its number.
    Event(Uuid, i64),
    MeshMessage(Uuid),
}

impl Which {
    /// Reads a [`Waiting::id`].
    pub fn one(id: &str) -> Option<Self> {
        let one = match id.split_once('/') {
            Some((subscription, number)) => One::Event(Uuid::parse_str(subscription).ok()?, number.parse().ok()?),
            None => One::MeshMessage(Uuid::parse_str(id).ok()?),
        };
        Some(Self { one: Some(one), ..Self::default() })
    }

    /// What is asked of subscriptions, if anything is.
    fn wanted(&self) -> Option<Wanted> {
        let one = match self.one {
            Some(One::MeshMessage(_)) => return None,
            Some(One::Event(subscription, number)) => Some((subscription, number)),
            None => None,
        };
        Some(Wanted { given_up: self.undeliverable, authority: self.authority.clone(), one })
    }
}

/// Name of MESH among the channels.
const MESH: &str = "mesh";

fn mesh_message(row: MeshRow) -> Waiting {
    let MeshRow { message, authority, .. } = row;
    let state = match message.state {
        MeshState::Undeliverable => "undeliverable",
        MeshState::Queued if message.attempts > 0 => "failing",
        MeshState::Queued => "waiting",
        other => other.code(),
    };
    Waiting {
        id: message.id.to_string(),
        channel: MESH,
        authority: authority.as_str().to_owned(),
        topic: message.kind.code(),
        state,
        attempts: message.attempts,
        since: message.created,
        next_attempt: matches!(state, "waiting" | "failing").then_some(message.next_attempt),
        last_error: message.error,
        notification: message.id,
    }
}

fn state(row: &Undelivered, held: bool) -> &'static str {
    let open = matches!(row.status, SubscriptionStatus::Active | SubscriptionStatus::Error);
    match row {
        Undelivered { given_up: true, .. } => "undeliverable",
        _ if !open => "stopped",
        _ if held => "held",
        Undelivered { attempts: 0, .. } => "waiting",
        _ => "failing",
    }
}

impl Gateway {
    /// At most `limit` notifications that were not delivered, oldest first.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn undelivered(&self, which: &Which, limit: i64) -> Result<Vec<Waiting>, Error> {
        let mut found = self.undelivered_events(which, limit).await?;
        found.extend(self.undelivered_messages(which, limit).await?);
        found.sort_by_key(|waiting| waiting.since);
        found.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
        Ok(found)
    }

    async fn undelivered_messages(&self, which: &Which, limit: i64) -> Result<Vec<Waiting>, Error> {
        let mut rows = Vec::new();
        match which.one {
            Some(One::Event(..)) => {}
            Some(One::MeshMessage(id)) => rows.extend(self.mesh_message_by_id(id).await?),
            None if which.undeliverable => {
                rows = self.mesh_messages(Some(MeshState::Undeliverable), which.authority.clone(), limit).await?;
            }
            None => {
                for state in [MeshState::Queued, MeshState::Sending, MeshState::Undeliverable] {
                    rows.extend(self.mesh_messages(Some(state), which.authority.clone(), limit).await?);
                }
            }
        }
        // MESH has it, or the authority: nothing of it waits here.
        rows.retain(|row| !matches!(row.message.state, MeshState::Sent | MeshState::Delivered));
        Ok(rows.into_iter().map(mesh_message).collect())
    }

    async fn undelivered_events(&self, which: &Which, limit: i64) -> Result<Vec<Waiting>, Error> {
        let Some(wanted) = which.wanted() else { return Ok(Vec::new()) };
        let read = self.store.read(move |conn| {
            let mut found = Vec::new();
            for row in undelivered::list(conn, &wanted, limit)? {
                let state = state(&row, is_held(conn, row.outbox)?);
                found.push(Waiting {
                    id: format!("{}/{}", row.subscription, row.event_number),
                    channel: REST_HOOK,
                    authority: row.authority.as_str().to_owned(),
                    topic: row.topic.code(),
                    state,
                    attempts: row.attempts,
                    since: row.created,
                    next_attempt: matches!(state, "waiting" | "failing").then_some(row.next_attempt),
                    last_error: row.last_error,
                    notification: row.notification,
                });
            }
            Ok(found)
        });
        Ok(read.await?)
    }

    /// Puts them back into their queues as if they had never been tried: they are due at once. How many there were. Each
    /// subscription's share is audited with its change, as done by the operator with `command`.
    ///
    /// # Errors
    /// [`Error`]: what was put back before stays so.
    pub async fn requeue(&self, which: &Which, command: &str) -> Result<usize, Error> {
        let mut requeued = 0;
        for message in self.undelivered_messages(which, i64::MAX).await? {
            if message.state == "undeliverable" {
                requeued += self.requeue_mesh_messages(Some(message.notification)).await?;
            }
        }
        let Some(wanted) = which.wanted() else { return Ok(requeued) };
        let rows = self.store.read(move |conn| undelivered::list(conn, &wanted, i64::MAX)).await?;
        let mut by_subscription: BTreeMap<Uuid, Vec<Undelivered>> = BTreeMap::new();
        for row in rows {
            by_subscription.entry(row.subscription).or_default().push(row);
        }
        for (subscription, rows) in by_subscription {
            for part in rows.chunks(AT_ONCE) {
                let keys: Vec<i64> = part.iter().map(|row| row.key).collect();
                let context = RequestContext::internal(command, self.clock.now());
                let mut event = RequestEvent::by(Interaction::Update, AuditAgent::operator(), &context);
                event.entity = Some(EntityRef {
                    resource: "Subscription".to_owned(),
                    id: subscription.to_string(),
                    version: None,
                });
                event.result = Some(QueryResult::of(part, |row| row.notification.to_string()));
                let clock = self.clock.clone();
                let write = self.store.write(Vec::new(), move |tx| {
                    let now = clock.now();
                    let changed = undelivered::requeue(tx.conn, &keys, now.timestamp_millis())?;
                    tx.append_audit(now, event.clone())?;
                    Ok(changed)
                });
                requeued += write.await?;
            }
        }
        Ok(requeued)
    }
}
