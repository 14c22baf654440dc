//! `$status` and `$events` of the R5 Subscriptions Backport: how a subscription stands, and its events once more. An
//! authority asks of its own only.
//! <https://hl7.org/fhir/uv/subscriptions-backport/STU1.1/operations.html>

use serde_json::Value;
use uuid::Uuid;

use super::{entity, gone};
use crate::{
    cpis::{
        subscriptions::{OwnSubscription, PastEvents},
        types::{
            audit::QueryResult,
            notice::Notice,
            subscription::{Content, Event, Subscription, SubscriptionStatus},
        },
    },
    fhir::{
        render::notification::Teller,
        resource::{Bundle, BundleLink},
        validate::Profile,
    },
    http::{
        answer::Answer,
        dispatch::Call,
        query::{Query, Sent, bad_value},
        refusal::{Case, Refusal},
        search::{Parameter, searchset::self_link},
        service::Service,
        upload::body,
    },
};

/// Of `GET Subscription/$status`.
pub const STATUS: &[Parameter] = &[
    Parameter::special("id", "Ids of subscriptions, separated by commas or repeated; all without it"),
    Parameter::special("status", "requested, active, error or off; several separated by commas or repeated"),
];

/// Of `GET Subscription/{id}/$events`.
pub const EVENTS: &[Parameter] = &[
    Parameter::special("eventsSinceNumber", "Number of the first event, from 1"),
    Parameter::special("eventsUntilNumber", "Number of the last event"),
    Parameter::special("content", "empty, id-only or full-resource; what the subscription asks for without it"),
];

/// Events of one answer; a link leads on.
const MOST_EVENTS: i64 = 50;

/// # Errors
/// [`Refusal`] by design 4.
pub async fn status(call: Call) -> Result<Answer, Refusal> {
    let stored = own(&call).await?;
    let mut event = call.event();
    event.entity = Some(entity(stored.id, stored.version));
    call.service.gateway.audit(event).await?;
    Ok(Answer::ok(statuses(&call, &[stored])))
}

/// The same; the body is `Parameters` without any parameter.
///
/// # Errors
/// [`Refusal`] by design 4.
pub async fn post_status(mut call: Call) -> Result<Answer, Refusal> {
    take_parameters(&mut call, &[])?;
    status(call).await
}

/// The status of several subscriptions.
///
/// # Errors
/// [`Refusal`] by design 4.
pub async fn own_statuses(call: Call) -> Result<Answer, Refusal> {
    let listed = |name| -> Vec<&str> { call.query.values(name).flat_map(|value| value.split(',')).collect() };
    let ids: Vec<&str> = listed("id").into_iter().map(|id| id.strip_prefix("Subscription/").unwrap_or(id)).collect();
    let wanted: Option<Vec<SubscriptionStatus>> =
        listed("status").into_iter().map(SubscriptionStatus::from_code).collect();
    let wanted = wanted.ok_or_else(|| bad_value("status", "must be requested, active, error or off"))?;
    let mut found = call.service.gateway.own_subscriptions(&call.caller.organization).await?;
    found.retain(|stored| ids.is_empty() || ids.contains(&stored.id.to_string().as_str()));
    found.retain(|stored| wanted.is_empty() || wanted.contains(&stored.status));
    let mut event = call.event();
    event.result = Some(QueryResult::of(&found, |stored| stored.id.to_string()));
    call.service.gateway.audit(event).await?;
    Ok(Answer::ok(statuses(&call, &found)))
}

/// The same with `Parameters` as the body.
///
/// # Errors
/// [`Refusal`] by design 4.
pub async fn post_own_statuses(mut call: Call) -> Result<Answer, Refusal> {
    take_parameters(&mut call, STATUS)?;
    own_statuses(call).await
}

fn statuses(call: &Call, stored: &[Subscription]) -> Bundle {
    let service = &call.service;
    let entry: Vec<_> = stored.iter().map(|stored| teller(call, stored).queried_status()).collect();
    let link = self_link(service, &call.path_and_query, &call.query);
    Bundle::searchset(&link, u64::try_from(entry.len()).ok(), entry)
}

/// The events of a subscription, delivered or not, in the order of their numbers.
///
/// # Errors
/// [`Refusal`] by design 4.
pub async fn events(call: Call) -> Result<Answer, Refusal> {
    let between = (number(&call, "eventsSinceNumber", 1)?, number(&call, "eventsUntilNumber", i64::MAX)?);
    let content = match call.query.single("content")? {
        None => None,
        Some(code) => Some(
            Content::from_code(code).ok_or_else(|| bad_value("content", "must be empty, id-only or full-resource"))?,
        ),
    };
    let stored = own(&call).await?;
    let past = call.service.gateway.past_events(stored, between, MOST_EVENTS).await?;
    let mut event = call.event();
    event.entity = Some(entity(past.subscription.id, past.subscription.version));
    event.result = Some(QueryResult::of(&past.events, audited_id));
    call.service.gateway.audit(event).await?;
    Ok(Answer::ok(history(&call, &past, content)))
}

/// The same with `Parameters` as the body.
///
/// # Errors
/// [`Refusal`] by design 4.
pub async fn post_events(mut call: Call) -> Result<Answer, Refusal> {
    take_parameters(&mut call, EVENTS)?;
    events(call).await
}

fn history(call: &Call, past: &PastEvents, content: Option<Content>) -> Bundle {
    let subscription = &past.subscription;
    let content = content.unwrap_or(subscription.hook.content);
    let mut bundle = teller(call, subscription).past_events(&past.events, content, Uuid::new_v4());
    let link = |relation: &str, query: &Query| BundleLink {
        relation: relation.to_owned(),
        url: self_link(&call.service, &call.path_and_query, query),
    };
    bundle.link.push(link("self", &call.query));
    if let Some(next) = past.next {
        let mut query = call.query.clone();
        query.0.retain(|sent| sent.name != "eventsSinceNumber");
        query.0.push(Sent { name: "eventsSinceNumber".to_owned(), modifier: String::new(), value: next.to_string() });
        bundle.link.push(link("next", &query));
    }
    bundle
}

fn teller<'a>(call: &'a Call, subscription: &'a Subscription) -> Teller<'a> {
    let Service { gateway, settings, .. } = &*call.service;
    Teller { base_url: &settings.base_url, subscription, now: gateway.clock.now(), zone: gateway.calendar.zone() }
}

/// Names an event in the audit: an access by its own id, which auditors know.
fn audited_id(event: &Event) -> String {
    match &event.notice {
        Notice::Access(access) => access.id.to_string(),
        Notice::InactiveNumber { .. } | Notice::RecordEnded { .. } => event.notification.to_string(),
    }
}

fn number(call: &Call, name: &str, absent: i64) -> Result<i64, Refusal> {
    let Some(text) = call.query.single(name)? else { return Ok(absent) };
    let number = text.parse().ok().filter(|_| text.bytes().all(|b| b.is_ascii_digit()));
    number.ok_or_else(|| bad_value(name, "must be a whole number"))
}

/// The own subscription that the path names.
async fn own(call: &Call) -> Result<Subscription, Refusal> {
    match call.service.gateway.own_subscription(&call.caller.organization, call.uuid()?).await? {
        OwnSubscription::Unknown => Err(Refusal::not_found()),
        OwnSubscription::Deleted => Err(gone()),
        OwnSubscription::Held(stored) => Ok(*stored),
    }
}

/// Takes the parameters of the body as if they had come in the URL, all of them known.
fn take_parameters(call: &mut Call, known: &[Parameter]) -> Result<(), Refusal> {
    let body = body(call)?;
    if body.get("resourceType").and_then(Value::as_str) != Some("Parameters") {
        return Err(Refusal::new(Case::Body, "Please send a Parameters resource."));
    }
    let issues = call.service.validators.validate(&body, Profile::Base);
    if !issues.is_empty() {
        return Err(Refusal::of_body(issues));
    }
    let mut query = Query::default();
    for (index, parameter) in body.get("parameter").and_then(Value::as_array).into_iter().flatten().enumerate() {
        let name = parameter.get("name").and_then(Value::as_str).unwrap_or_default();
        let mut values = parameter.as_object().into_iter().flatten().filter(|(name, _)| name.starts_with("value"));
        let value = match values.next().map(|(_, value)| value) {
            Some(Value::String(text)) => text.clone(),
            Some(Value::Number(number)) => number.to_string(),
            _ => {
                let refusal =
                    Refusal::new(Case::Parameter, "Give each parameter one plain value, such as valueString.");
                return Err(refusal.at(&format!("Parameters.parameter[{index}]")));
            }
        };
        query.0.push(Sent { name: name.to_owned(), modifier: String::new(), value });
    }
    query.check(&[known])?;
    call.query.0.extend(query.0);
    Ok(())
}
