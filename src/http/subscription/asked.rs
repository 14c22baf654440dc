//! What an authority asks for with a `Subscription`, and what of it this version can do.

use chrono::{DateTime, Utc};
use serde_json::Value;
use uuid::Uuid;

use crate::{
    cpis::types::{
        subscription::{NewSubscription, SubscriptionChange, SubscriptionStatus},
        upload::RecordCode,
    },
    fhir::{
        outcome::{Issue, IssueCode, SpineCode},
        render::notification::Content,
        resource::{Resource, Subscription, SubscriptionChannel},
        system,
        validate::Profile,
    },
    http::{dispatch::Call, metadata::ACCESS_TOPIC, refusal::Refusal, service::Service, upload::body},
    outside::hook::{CONTENT_TYPE_SENT, check_endpoint, check_headers},
};

/// What the body of a create asks for.
///
/// # Errors
/// [`Refusal`] 400, 422: all faults at once.
pub(super) fn created(call: &Call) -> Result<NewSubscription, Refusal> {
    Ok(asked(call, Uuid::new_v4(), false)?.wanted)
}

/// What the body of an update asks for; its id is that of the URL.
///
/// # Errors
/// [`Refusal`] 400, 422: all faults at once.
pub(super) fn changed(call: &Call, id: Uuid) -> Result<SubscriptionChange, Refusal> {
    asked(call, id, true)
}

/// Valid R4, within the profile, and within what this version can do; all faults at once.
fn asked(call: &Call, id: Uuid, is_update: bool) -> Result<SubscriptionChange, Refusal> {
    let body = body(call)?;
    if body.get("resourceType").and_then(Value::as_str).is_some_and(|name| name != "Subscription") {
        let text = "Send a Subscription here.";
        let issue = Issue::error(IssueCode::Value, SpineCode::InvalidValue, text).at("Subscription");
        return Err(Refusal::of_body(vec![issue]));
    }
    let read = judged(&call.service, body, is_update.then_some(id)).map_err(Refusal::of_body)?;
    let off = read.status == SubscriptionStatus::Off.code();
    let wanted = NewSubscription {
        id,
        authority_id: call.caller.organization.id,
        endpoint: read.channel.endpoint.unwrap_or_default(),
        headers: read.channel.header,
        topic: read.criteria,
        reason: read.reason,
        end_ms: read.end.and_then(|end| end.at()).map(|end| end.timestamp_millis()),
    };
    Ok(SubscriptionChange { wanted, off })
}

/// A Subscription that may be asked for; `update` is the id in the URL.
///
/// # Errors
/// All faults at once.
pub fn judged(service: &Service, body: Value, update: Option<Uuid>) -> Result<Subscription, Vec<Issue>> {
    let settings = &service.settings;
    let mut issues = service.validators.validate(&body, Profile::Cpis);
    let read = match Resource::read(body) {
        Ok(Resource::Subscription(read)) if issues.iter().all(Issue::is_profile) => *read,
        _ if issues.is_empty() => {
            let text = "Send a Subscription here.";
            return Err(vec![Issue::error(IssueCode::Structure, SpineCode::ValidationError, text)]);
        }
        _ => return Err(issues),
    };
    if update.is_some_and(|id| read.id.as_deref() != Some(id.to_string().as_str())) {
        let text = "An update needs the id in the body too, the same as in the URL.";
        issues.push(Issue::error(IssueCode::Invariant, SpineCode::InvalidValue, text).at("Subscription.id"));
    }
    let allowed = Allowed {
        base_url: &settings.base_url,
        plain_hooks: settings.allow_plain_hooks,
        now: service.gateway.clock.now(),
        is_update: update.is_some(),
    };
    for (element, text) in faults(&read, &allowed) {
        let issue = Issue::error(IssueCode::BusinessRule, SpineCode::InvalidValue, text)
            .at(format!("Subscription.{element}"))
            .with_record_code(RecordCode::Cpr07);
        // What is said here of an element is more than what the profile says of it.
        issues.retain(|other| other.expression != issue.expression);
        issues.push(issue);
    }
    if issues.is_empty() { Ok(read) } else { Err(issues) }
}

/// What decides on which requests can be met.
struct Allowed<'a> {
    base_url: &'a str,
    /// Hooks without TLS and on this machine (sandbox).
    plain_hooks: bool,
    now: DateTime<Utc>,
    is_update: bool,
}

/// What this version does not take, as element and words for the caller.
fn faults(asked: &Subscription, allowed: &Allowed<'_>) -> Vec<(&'static str, String)> {
    let mut faults = Vec::new();
    let channel = &asked.channel;
    let off = asked.status == SubscriptionStatus::Off.code();
    // Of an update that keeps what the server said, active is no fault: it is what was read.
    if asked.status != SubscriptionStatus::Requested.code() && !allowed.is_update {
        faults.push((
            "status",
            "Ask with status requested: the server makes it active when the endpoint has answered its handshake."
                .to_owned(),
        ));
    }
    if asked.end.as_ref().is_some_and(|end| end.at().is_none_or(|end| end <= allowed.now && !off)) {
        faults.push(("end", "The end is past: give a later one, or none.".to_owned()));
    }
    let topic = format!("{}/{ACCESS_TOPIC}", allowed.base_url);
    if asked.criteria != topic {
        faults.push(("criteria", format!("Give the topic that this version has: {topic}")));
    }
    if channel.kind != "rest-hook" {
        faults.push(("channel.type", "Ask for rest-hook: there is no other channel.".to_owned()));
    }
    if channel.payload.as_deref() != Some(CONTENT_TYPE_SENT) {
        faults.push(("channel.payload", format!("Give {CONTENT_TYPE_SENT}: notifications are sent as FHIR JSON.")));
    }
    if payload_content(channel) != [Some(Content::FullResource.code())] {
        let text = "This version supports full-resource only: in channel._payload, give the extension \
                    backport-payload-content once, with valueCode full-resource.";
        faults.push(("channel.payload.extension", text.to_owned()));
    }
    match channel.endpoint.as_deref() {
        None => faults.push(("channel.endpoint", "Give the URL that notifications are to be posted to.".to_owned())),
        Some(endpoint) => {
            if let Err(why) = check_endpoint(endpoint, allowed.plain_hooks) {
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

    fn allowed(is_update: bool) -> Allowed<'static> {
        let now = Utc.with_ymd_and_hms(2026, 3, 1, 9, 0, 0).unwrap();
        Allowed { base_url: BASE, plain_hooks: false, now, is_update }
    }

    fn elements(body: &Value) -> Vec<&'static str> {
        let Ok(Resource::Subscription(asked)) = Resource::read(body.clone()) else { panic!("not a Subscription") };
        faults(&asked, &allowed(false)).into_iter().map(|(element, _)| element).collect()
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
    fn an_update_may_keep_the_state_or_switch_off() {
        let of = |changes: Value| {
            let mut body = valid();
            for (name, value) in changes.as_object().unwrap() {
                body[name] = value.clone();
            }
            let Ok(Resource::Subscription(asked)) = Resource::read(body) else { panic!("not a Subscription") };
            faults(&asked, &allowed(true)).into_iter().map(|(element, _)| element).collect::<Vec<_>>()
        };
        for status in ["requested", "active", "off"] {
            assert_eq!(of(json!({"status": status})), Vec::<&str>::new(), "{status}");
        }
        let past = "2026-03-01T09:00:00Z";
        assert_eq!(of(json!({"status": "off", "end": past})), Vec::<&str>::new());
        assert_eq!(of(json!({"status": "requested", "end": past})), ["end"]);
        assert_eq!(of(json!({"criteria": "https://other.example.org/SubscriptionTopic/cpis-access"})), ["criteria"]);
    }
}
