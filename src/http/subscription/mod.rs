//! `Subscription`: how an authority is told of what concerns its children; rest-hook of the R4 backport (design 7).
//! An authority sees its own only. The channel's headers are secrets: they are stored and sent, never shown.

mod asked;
mod operations;

use actix_web::http::StatusCode;
use uuid::Uuid;

use super::{
    answer::Answer,
    dispatch::Call,
    precondition::Current,
    prefer::Return,
    refusal::{Case, Refusal},
    search::{
        Parameter, Search, Searchset,
        page::Row,
        parameter::{Definition, ID, LAST_UPDATED},
        result::searched_by,
    },
    upload::preference,
};
use crate::{
    cpis::{
        subscriptions::{MOST_SUBSCRIPTIONS, OwnSubscription, Resubscribed, Unsubscribed},
        types::{
            audit::{EntityRef, QueryResult},
            subscription::{Subscription as Stored, SubscriptionStatus},
        },
    },
    fhir::{
        datatype::{Element, Extension, Meta},
        outcome,
        resource::{Subscription, SubscriptionChannel},
        system,
    },
};

pub use asked::judged;
pub use operations::{EVENTS, STATUS, events, own_statuses, post_events, post_own_statuses, post_status, status};

pub const PARAMETERS: &[Parameter] = searched_by![
    ID,
    Parameter::token("status", &["status"], Definition::R4("Subscription-status"), "requested, active, error or off")
        .one_of(&["requested", "active", "error", "off"])
        .in_system("http://hl7.org/fhir/subscription-status"),
    Parameter::string("criteria", &["criteria"], Definition::R4("Subscription-criteria"), "The topic"),
    Parameter::token("type", &["channel.type"], Definition::R4("Subscription-type"), "rest-hook")
        .one_of(&["rest-hook"])
        .in_system("http://hl7.org/fhir/subscription-channel-type"),
    Parameter::uri("url", &["channel.endpoint"], Definition::R4("Subscription-url"), "The endpoint"),
    LAST_UPDATED,
];

/// # Errors
/// [`Refusal`] by design 4.
pub async fn create(call: Call) -> Result<Answer, Refusal> {
    let preference = preference(&call)?;
    call.without_criteria()?;
    call.without_version()?;
    let new = asked::created(&call)?;
    let id = new.id;
    let mut event = call.event();
    event.entity = Some(entity(id, 1));
    let created = call.service.gateway.subscribe(new, event).await?;
    let stored = created.ok_or_else(|| {
        let text =
            format!("There are {MOST_SUBSCRIPTIONS} subscriptions already. Delete one that is no longer needed.");
        Refusal::new(Case::Rule, text)
    })?;
    let told = "The subscription is active once its endpoint has answered the handshake, which follows.";
    Ok(written(&call, &stored, StatusCode::CREATED, told, preference))
}

/// Replaces an own subscription. What decides where something is sent begins anew with a handshake; the headers, which
/// are never shown, are to be sent again.
///
/// # Errors
/// [`Refusal`] by design 4.
pub async fn update(call: Call) -> Result<Answer, Refusal> {
    let id = call.uuid()?;
    let (preference, precondition) = (preference(&call)?, call.precondition()?);
    let change = asked::changed(&call, id)?;
    let mut event = call.event();
    event.entity = Some(entity(id, 1));
    match call.service.gateway.resubscribe(change, precondition, event).await? {
        Resubscribed::Done(stored) => {
            let told = match stored.status {
                SubscriptionStatus::Requested => "The subscription waits for the handshake with its endpoint.",
                SubscriptionStatus::Active | SubscriptionStatus::Error => "The subscription goes on.",
                SubscriptionStatus::Off => "The subscription is switched off.",
            };
            Ok(written(&call, &stored, StatusCode::OK, told, preference))
        }
        Resubscribed::Unknown => Err(Refusal::not_found()),
        Resubscribed::Deleted => Err(gone()),
        Resubscribed::OtherTopic => {
            let text = "A subscription keeps its topic, as its events are numbered: create another for another topic.";
            Err(Refusal::new(Case::Rule, text).at("Subscription.criteria"))
        }
        Resubscribed::OtherVersion(precondition) => Err(Refusal::new(Case::Version, precondition.unmet())),
    }
}

fn written(call: &Call, stored: &Stored, status: StatusCode, told: &str, preference: Return) -> Answer {
    // Only its state of the moment is kept, so that there is no address of a version.
    let location = format!("{}/Subscription/{}", call.service.settings.base_url, stored.id);
    let answer = preference.answer(status, rendered(stored).into(), outcome::information(told));
    answer.with_header("Location", location).with_version(stored.version, stored.updated)
}

/// # Errors
/// [`Refusal`] by design 4.
pub async fn read(call: Call) -> Result<Answer, Refusal> {
    let id = call.uuid()?;
    let stored = match call.service.gateway.own_subscription(&call.caller.organization, id).await? {
        OwnSubscription::Unknown => return Err(Refusal::not_found()),
        OwnSubscription::Deleted => return Err(gone()),
        OwnSubscription::Held(stored) => stored,
    };
    let mut event = call.event();
    event.entity = Some(entity(id, stored.version));
    call.service.gateway.audit(event).await?;
    // Each change of its state makes a version, so that the tag tells all.
    let current = Current {
        resource: rendered(&stored).into(),
        version: stored.version,
        modified: stored.updated,
        settled: true,
    };
    Ok(Answer::read(&call, current))
}

/// Ends a subscription; one that is deleted already stays so, as FHIR asks of DELETE.
///
/// # Errors
/// [`Refusal`] by design 4.
pub async fn delete(call: Call) -> Result<Answer, Refusal> {
    let id = call.uuid()?;
    let mut event = call.event();
    event.entity = Some(entity(id, 1));
    let authority = &call.caller.organization;
    let precondition = call.precondition()?;
    match call.service.gateway.unsubscribe(authority, id, precondition, event).await? {
        Unsubscribed::Done => Ok(Answer::empty(StatusCode::NO_CONTENT)),
        Unsubscribed::Unknown => Err(Refusal::not_found()),
        Unsubscribed::OtherVersion => Err(Refusal::new(Case::Version, precondition.unmet())),
    }
}

/// # Errors
/// [`Refusal`] by design 4.
pub async fn search(call: Call) -> Result<Answer, Refusal> {
    let search = Search::of(&call, "Subscription", PARAMETERS)?;
    let found = call.service.gateway.own_subscriptions(&call.caller.organization).await?;
    let mut event = call.event();
    event.result = Some(QueryResult::of(&found, |stored| stored.id.to_string()));
    call.service.gateway.audit(event).await?;
    let mut set = Searchset::new(&call);
    found.iter().for_each(|stored| set.matched(Row::of(rendered(stored))));
    Ok(Answer::ok(set.whole(&search)?))
}

fn gone() -> Refusal {
    Refusal::new(Case::Gone, "This Subscription was deleted.")
}

fn entity(id: Uuid, version: i64) -> EntityRef {
    EntityRef { resource: "Subscription".to_owned(), id: id.to_string(), version: Some(version) }
}

/// The subscription as its owner sees it: without the headers, which may hold credentials.
fn rendered(stored: &Stored) -> Subscription {
    let hook = &stored.hook;
    let content = Extension {
        url: system::PAYLOAD_CONTENT.to_owned(),
        value_code: Some(hook.content.code().to_owned()),
        ..Extension::default()
    };
    let of = |url: &str| Extension { url: url.to_owned(), ..Extension::default() };
    let seconds =
        |url: &str, value: Option<u32>| value.map(|value| Extension { value_unsigned_int: Some(value), ..of(url) });
    let max_count = hook.max_count.map(|most| Extension { value_positive_int: Some(most), ..of(system::MAX_COUNT) });
    let asked = [seconds(system::HEARTBEAT_PERIOD, hook.heartbeat), seconds(system::TIMEOUT, hook.timeout), max_count];
    Subscription {
        id: Some(stored.id.to_string()),
        meta: Some(Meta {
            version_id: Some(stored.version.to_string()),
            last_updated: Some(stored.updated.into()),
            ..Meta::default()
        }),
        status: stored.status.code().to_owned(),
        end: stored.end.map(Into::into),
        reason: stored.reason.clone(),
        criteria: stored.criteria.clone(),
        error: stored.error.clone(),
        channel: SubscriptionChannel {
            extension: asked.into_iter().flatten().collect(),
            kind: "rest-hook".to_owned(),
            endpoint: Some(hook.endpoint.clone()),
            payload: Some(hook.payload.code().to_owned()),
            payload_element: Some(Element { extension: vec![content] }),
            ..SubscriptionChannel::default()
        },
        ..Subscription::default()
    }
}

#[cfg(test)]
mod tests {
    use chrono::{TimeZone, Utc};
    use serde_json::json;

    use super::*;
    use crate::cpis::types::{
        notice::Topic,
        subscription::{Content, Hook, Payload},
    };

    const BASE: &str = "https://cpis.example.org/cpis/FHIR/R4";

    #[test]
    fn the_headers_are_never_shown() {
        let stored = Stored {
            key: 1,
            id: Uuid::from_u128(1),
            authority_id: 1,
            status: SubscriptionStatus::Error,
            error: Some("Event 3 was not taken in 100 tries: the endpoint answered 500.".to_owned()),
            topic: Topic::Access,
            criteria: format!("{BASE}/SubscriptionTopic/cpis-access"),
            hook: Hook {
                endpoint: "https://hook.example.org/cpis".to_owned(),
                headers: vec!["Authorization: Bearer abc".to_owned()],
                payload: Payload::Json,
                content: Content::IdOnly,
                heartbeat: Some(3600),
                timeout: None,
                max_count: Some(10),
            },
            reason: "Duty team".to_owned(),
            end: None,
            version: 4,
            updated: Utc.with_ymd_and_hms(2026, 3, 1, 9, 0, 0).unwrap(),
            events: 3,
            failures: 0,
        };
        let value = serde_json::to_value(rendered(&stored)).unwrap();
        assert_eq!(
            value,
            json!({
                "resourceType": "Subscription",
                "id": "00000000-0000-0000-0000-000000000001",
                "meta": {"versionId": "4", "lastUpdated": "2026-03-01T09:00:00.000Z"},
                "status": "error",
                "reason": "Duty team",
                "criteria": format!("{BASE}/SubscriptionTopic/cpis-access"),
                "error": "Event 3 was not taken in 100 tries: the endpoint answered 500.",
                "channel": {
                    "extension": [
                        {"url": system::HEARTBEAT_PERIOD, "valueUnsignedInt": 3600},
                        {"url": system::MAX_COUNT, "valuePositiveInt": 10}
                    ],
                    "type": "rest-hook",
                    "endpoint": "https://hook.example.org/cpis",
                    "payload": "application/json",
                    "_payload": {"extension": [{"url": system::PAYLOAD_CONTENT, "valueCode": "id-only"}]}
                }
            })
        );
    }
}
