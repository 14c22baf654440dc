//! `Subscription`: how an authority is told of accesses; rest-hook of the R4 backport, payload full-resource (design 7).
//! An authority sees its own only. The channel's headers are secrets: they are stored and sent, never shown.

use actix_web::http::StatusCode;
use chrono::{DateTime, Utc};
use serde_json::Value;
use uuid::Uuid;

use super::{
    answer::Answer,
    dispatch::Call,
    metadata::ACCESS_TOPIC,
    refusal::{Case, Refusal},
    search::{
        Parameter, Search, Searchset,
        page::Row,
        parameter::{Definition, ID, LAST_UPDATED},
        result::{COUNT, CURSOR, ELEMENTS, SORT, SUMMARY, TOTAL},
    },
};
use crate::{
    cpis::{
        subscriptions::{MOST_SUBSCRIPTIONS, OwnSubscription, Unsubscribed},
        types::{
            audit::{EntityRef, QueryResult},
            subscription::{NewSubscription, Subscription as Stored, SubscriptionStatus},
            upload::RecordCode,
        },
    },
    fhir::{
        datatype::{Element, Extension, Meta},
        json,
        outcome::{Issue, IssueCode, SpineCode},
        resource::{Resource, Subscription, SubscriptionChannel},
        system,
        validate::Profile,
    },
    outside::hook::{CONTENT_TYPE_SENT, check_endpoint, check_headers},
};

pub const PARAMETERS: &[Parameter] = &[
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
    SORT,
    COUNT,
    TOTAL,
    SUMMARY,
    ELEMENTS,
    CURSOR,
];

const FULL_RESOURCE: &str = "full-resource";

/// # Errors
/// [`Refusal`] by design 4.
pub async fn create(call: Call) -> Result<Answer, Refusal> {
    let new = asked(&call)?;
    let id = new.id;
    let mut event = call.event();
    event.entity = Some(entity(id, 1));
    let created = call.service.gateway.subscribe(new, event).await?;
    let stored = created.ok_or_else(|| {
        let text =
            format!("There are {MOST_SUBSCRIPTIONS} subscriptions already. Delete one that is no longer needed.");
        Refusal::new(Case::Rule, text)
    })?;
    let location = format!("{}/Subscription/{id}", call.service.settings.base_url);
    let answer = Answer::ok(rendered(&stored)).with_status(StatusCode::CREATED);
    Ok(answer.with_header("Location", location).with_version(stored.version, stored.updated))
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
    Ok(Answer::ok(rendered(&stored)).with_version(stored.version, stored.updated))
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
    match call.service.gateway.unsubscribe(authority, id, call.if_match()?, event).await? {
        Unsubscribed::Done => Ok(Answer::empty(StatusCode::NO_CONTENT)),
        Unsubscribed::Unknown => Err(Refusal::not_found()),
        Unsubscribed::OtherVersion => Err(Refusal::new(
            Case::Version,
            "The Subscription has another version than If-Match says. Read it again, then decide.",
        )),
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

/// What the body asks for: valid R4, within the profile, and within what this version can do; all faults at once.
fn asked(call: &Call) -> Result<NewSubscription, Refusal> {
    let settings = &call.service.settings;
    let body = json::parse(&call.body, json::RESOURCE_VALUES).map_err(|fault| Refusal::of_body(vec![fault.issue()]))?;
    if body.get("resourceType").and_then(Value::as_str).is_some_and(|name| name != "Subscription") {
        let text = "Send a Subscription here.";
        let issue = Issue::error(IssueCode::Value, SpineCode::InvalidValue, text).at("Subscription");
        return Err(Refusal::of_body(vec![issue]));
    }
    let mut issues = call.service.validators.validate(&body, Profile::Cpis);
    let read = match Resource::read(body) {
        Ok(Resource::Subscription(read)) if issues.iter().all(Issue::is_profile) => read,
        _ if issues.is_empty() => {
            let issue = Issue::error(IssueCode::Structure, SpineCode::ValidationError, "Send a Subscription here.");
            return Err(Refusal::of_body(vec![issue]));
        }
        _ => return Err(Refusal::of_body(issues)),
    };
    let at = call.service.gateway.clock.now();
    for (element, text) in faults(&read, &settings.base_url, settings.allow_plain_hooks, at) {
        let issue = Issue::error(IssueCode::BusinessRule, SpineCode::InvalidValue, text)
            .at(format!("Subscription.{element}"))
            .with_record_code(RecordCode::Cpr07);
        // What is said here of an element is more than what the profile says of it.
        issues.retain(|other| other.expression != issue.expression);
        issues.push(issue);
    }
    if !issues.is_empty() {
        return Err(Refusal::of_body(issues));
    }
    Ok(NewSubscription {
        id: Uuid::new_v4(),
        authority_id: call.caller.organization.id,
        endpoint: read.channel.endpoint.unwrap_or_default(),
        headers: read.channel.header,
        topic: read.criteria,
        reason: read.reason,
        end_ms: read.end.and_then(|end| end.at()).map(|end| end.timestamp_millis()),
    })
}

/// What this version does not take, as element and words for the caller.
fn faults(
    asked: &Subscription,
    base_url: &str,
    allow_plain_hooks: bool,
    now: DateTime<Utc>,
) -> Vec<(&'static str, String)> {
    let mut faults = Vec::new();
    let channel = &asked.channel;
    if asked.status != SubscriptionStatus::Requested.code() {
        faults.push((
            "status",
            "Ask with status requested: the server makes it active when the endpoint has answered its handshake."
                .to_owned(),
        ));
    }
    if asked.end.as_ref().is_some_and(|end| end.at().is_none_or(|end| end <= now)) {
        faults.push(("end", "The end is past: give a later one, or none.".to_owned()));
    }
    let topic = format!("{base_url}/{ACCESS_TOPIC}");
    if asked.criteria != topic {
        faults.push(("criteria", format!("Give the topic that this version has: {topic}")));
    }
    if channel.kind != "rest-hook" {
        faults.push(("channel.type", "Ask for rest-hook: there is no other channel.".to_owned()));
    }
    if channel.payload.as_deref() != Some(CONTENT_TYPE_SENT) {
        faults.push(("channel.payload", format!("Give {CONTENT_TYPE_SENT}: notifications are sent as FHIR JSON.")));
    }
    if payload_content(channel) != [Some(FULL_RESOURCE)] {
        let text = "This version supports full-resource only: in channel._payload, give the extension \
                    backport-payload-content once, with valueCode full-resource.";
        faults.push(("channel.payload.extension", text.to_owned()));
    }
    match channel.endpoint.as_deref() {
        None => faults.push(("channel.endpoint", "Give the URL that notifications are to be posted to.".to_owned())),
        Some(endpoint) => {
            if let Err(why) = check_endpoint(endpoint, allow_plain_hooks) {
                faults.push(("channel.endpoint", format!("Give another endpoint: {why}.")));
            }
        }
    }
    if let Err(why) = check_headers(&channel.header) {
        faults.push(("channel.header", format!("Correct the headers: {why}.")));
    }
    faults
}

/// The contents that the backport extension asks for; it should be there once.
fn payload_content(channel: &SubscriptionChannel) -> Vec<Option<&str>> {
    let extensions = channel.payload_element.iter().flat_map(|element| &element.extension);
    extensions.filter(|e| e.url == system::PAYLOAD_CONTENT).map(|e| e.value_code.as_deref()).collect()
}

/// The subscription as its owner sees it: without the headers, which may hold credentials.
fn rendered(stored: &Stored) -> Subscription {
    let content = Extension {
        url: system::PAYLOAD_CONTENT.to_owned(),
        value_code: Some(FULL_RESOURCE.to_owned()),
        ..Extension::default()
    };
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
        criteria: stored.topic.clone(),
        error: stored.error.clone(),
        channel: SubscriptionChannel {
            kind: "rest-hook".to_owned(),
            endpoint: Some(stored.endpoint.clone()),
            payload: Some(CONTENT_TYPE_SENT.to_owned()),
            payload_element: Some(Element { extension: vec![content] }),
            header: Vec::new(),
        },
        ..Subscription::default()
    }
}

#[cfg(test)]
mod tests {
    use chrono::TimeZone;
    use serde_json::json;

    use super::*;

    const BASE: &str = "https://cpis.example.org/cpis/FHIR/R4";

    fn valid() -> Value {
        json!({
            "resourceType": "Subscription",
            "status": "requested",
            "end": "2027-01-01T00:00:00Z",
            "reason": "Duty team",
            "criteria": format!("{BASE}/SubscriptionTopic/cpis-access"),
            "channel": {
                "type": "rest-hook",
                "endpoint": "https://hook.example.org/cpis",
                "payload": "application/fhir+json",
                "_payload": {"extension": [{"url": system::PAYLOAD_CONTENT, "valueCode": "full-resource"}]},
                "header": ["Authorization: Bearer abc"]
            }
        })
    }

    fn elements(body: &Value) -> Vec<&'static str> {
        let Ok(Resource::Subscription(asked)) = Resource::read(body.clone()) else { panic!("not a Subscription") };
        let now = Utc.with_ymd_and_hms(2026, 3, 1, 9, 0, 0).unwrap();
        faults(&asked, BASE, false, now).into_iter().map(|(element, _)| element).collect()
    }

    #[test]
    fn what_this_version_can_do_is_taken() {
        assert_eq!(elements(&valid()), Vec::<&str>::new());
    }

    #[test]
    fn each_thing_that_it_can_not_is_named() {
        let content = |code: &str| json!({"extension": [{"url": system::PAYLOAD_CONTENT, "valueCode": code}]});
        let twice = json!({"extension": [
            {"url": system::PAYLOAD_CONTENT, "valueCode": "full-resource"},
            {"url": system::PAYLOAD_CONTENT, "valueCode": "empty"}
        ]});
        for (pointer, value, element) in [
            ("/status", json!("active"), "status"),
            ("/status", json!("off"), "status"),
            ("/end", json!("2026-03-01T09:00:00Z"), "end"),
            ("/criteria", json!("https://other.example.org/SubscriptionTopic/cpis-access"), "criteria"),
            ("/criteria", json!(format!("{BASE}/SubscriptionTopic/cpis-record-ended")), "criteria"),
            ("/channel/type", json!("email"), "channel.type"),
            ("/channel/payload", json!("application/json"), "channel.payload"),
            ("/channel/payload", Value::Null, "channel.payload"),
            ("/channel/_payload", Value::Null, "channel.payload.extension"),
            ("/channel/_payload", content("empty"), "channel.payload.extension"),
            ("/channel/_payload", content("id-only"), "channel.payload.extension"),
            ("/channel/_payload", twice, "channel.payload.extension"),
            ("/channel/endpoint", Value::Null, "channel.endpoint"),
            ("/channel/endpoint", json!("http://hook.example.org/cpis"), "channel.endpoint"),
            ("/channel/endpoint", json!("https://127.0.0.1/cpis"), "channel.endpoint"),
            ("/channel/header/0", json!("Host: other.example.org"), "channel.header"),
            ("/channel/header/0", json!("no colon"), "channel.header"),
        ] {
            let mut body = valid();
            *body.pointer_mut(pointer).unwrap() = value.clone();
            if value.is_null() {
                let (parent, name) = pointer.rsplit_once('/').unwrap();
                body.pointer_mut(parent).unwrap().as_object_mut().unwrap().remove(name);
            }
            assert_eq!(elements(&body), [element], "{pointer}");
        }
    }

    #[test]
    fn the_headers_are_never_shown() {
        let stored = Stored {
            key: 1,
            id: Uuid::from_u128(1),
            authority_id: 1,
            status: SubscriptionStatus::Error,
            error: Some("Event 3 was not taken in 100 tries: the endpoint answered 500.".to_owned()),
            endpoint: "https://hook.example.org/cpis".to_owned(),
            headers: vec!["Authorization: Bearer abc".to_owned()],
            topic: format!("{BASE}/SubscriptionTopic/cpis-access"),
            reason: "Duty team".to_owned(),
            end: None,
            version: 4,
            updated: Utc.with_ymd_and_hms(2026, 3, 1, 9, 0, 0).unwrap(),
            events: 3,
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
                    "type": "rest-hook",
                    "endpoint": "https://hook.example.org/cpis",
                    "payload": "application/fhir+json",
                    "_payload": {"extension": [{"url": system::PAYLOAD_CONTENT, "valueCode": "full-resource"}]}
                }
            })
        );
    }
}
