//! What an authority asks for with a `Subscription`, and what of it this version can do.

use chrono::{DateTime, Utc};
use serde_json::Value;
use uuid::Uuid;

use crate::{
    cpis::types::{
        notice::Topic,
        subscription::{Content, Hook, NewSubscription, Payload, SubscriptionChange, SubscriptionStatus},
        upload::RecordCode,
    },
    fhir::{
        datatype::{Element, Extension},
        outcome::{Issue, IssueCode, SpineCode},
        resource::{Resource, Subscription, SubscriptionChannel},
        system,
        validate::Profile,
    },
    http::{dispatch::Call, metadata::topic_url, refusal::Refusal, service::Service, upload::body},
    outside::{
        hook::{check_endpoint, check_headers},
        target::Targets,
    },
};

/// Shortest and longest heartbeat period, in seconds: a minute and a week.
const HEARTBEAT: (u32, u32) = (60, 7 * 24 * 3600);
/// Most events of one notification that may be asked for.
const MOST_COUNT: u32 = 10_000;

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
    let (base_url, channel) = (&call.service.settings.base_url, read.channel);
    let seconds = |url| extension(&channel.extension, url).and_then(|found| found.value_unsigned_int);
    let hook = Hook {
        heartbeat: seconds(system::HEARTBEAT_PERIOD),
        timeout: seconds(system::TIMEOUT),
        max_count: extension(&channel.extension, system::MAX_COUNT).and_then(|found| found.value_positive_int),
        payload: channel.payload.as_deref().and_then(Payload::from_code).unwrap_or(Payload::FhirJson),
        content: content(&channel),
        endpoint: channel.endpoint.unwrap_or_default(),
        headers: channel.header,
    };
    let wanted = NewSubscription {
        id,
        authority_id: call.caller.organization.id,
        // Judged before: it is one of them.
        topic: topic(base_url, &read.criteria).unwrap_or(Topic::Access),
        criteria: read.criteria,
        hook,
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
        targets: &settings.hook_targets,
        longest_timeout: settings.hook_timeout_seconds,
        now: service.gateway.clock.now(),
        is_update: update.is_some(),
    };
    let faults = faults(&read, &allowed);
    // What is said here of an element is more than what the profile says of it or of a part of it.
    let is_said = |issue: &Issue| {
        let mut places = issue.expression.iter().filter_map(|place| place.strip_prefix("Subscription."));
        places.any(|place| {
            let rest = faults.iter().filter_map(|(element, _)| place.strip_prefix(element));
            rest.into_iter().any(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
        })
    };
    issues.retain(|issue| !is_said(issue));
    for (element, text) in faults {
        let issue = Issue::error(IssueCode::BusinessRule, SpineCode::InvalidValue, text)
            .at(format!("Subscription.{element}"))
            .with_record_code(RecordCode::Cpr07);
        issues.push(issue);
    }
    if issues.is_empty() { Ok(read) } else { Err(issues) }
}

/// What decides on which requests can be met.
struct Allowed<'a> {
    base_url: &'a str,
    targets: &'a Targets,
    /// Seconds that an endpoint may take to answer.
    longest_timeout: u32,
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
    if topic(allowed.base_url, &asked.criteria).is_none() {
        let known = Topic::ALL.map(|topic| topic_url(allowed.base_url, topic));
        faults.push(("criteria", format!("Give one of the topics of this server: {}", known.join(", "))));
    }
    if of_backport(asked.criteria_element.as_ref()).next().is_some() {
        let text = "Leave the filter out: each topic tells an authority of all its own children, and knows no filters.";
        faults.push(("criteria.extension", text.to_owned()));
    }
    if channel.kind != "rest-hook" || of_backport(channel.kind_element.as_ref()).next().is_some() {
        faults.push(("channel.type", "Ask for rest-hook: there is no other channel.".to_owned()));
    }
    if channel.payload.as_deref().and_then(Payload::from_code).is_none() {
        let text = "Give application/fhir+json or application/json: notifications are sent as FHIR JSON.";
        faults.push(("channel.payload", text.to_owned()));
    }
    if !content_is_clear(channel) {
        let text = "Give the extension backport-payload-content once, with valueCode empty, id-only or full-resource, or \
                    leave it out for id-only. No other extension of the backport is known here.";
        faults.push(("channel.payload.extension", text.to_owned()));
    }
    for fault in channel_extension_faults(channel, allowed.longest_timeout) {
        faults.push(("channel.extension", fault));
    }
    match channel.endpoint.as_deref() {
        None => faults.push(("channel.endpoint", "Give the URL that notifications are to be posted to.".to_owned())),
        Some(endpoint) => {
            if let Err(why) = check_endpoint(endpoint, allowed.targets) {
                faults.push(("channel.endpoint", format!("Give another endpoint: {why}.")));
            }
        }
    }
    if let Err(why) = check_headers(&channel.header) {
        faults.push(("channel.header", format!("Correct the headers: {why}.")));
    }
    faults
}

/// The topic that a URL names here.
fn topic(base_url: &str, url: &str) -> Option<Topic> {
    Topic::ALL.into_iter().find(|topic| topic_url(base_url, *topic) == url)
}

fn extension<'a>(extensions: &'a [Extension], url: &str) -> Option<&'a Extension> {
    extensions.iter().find(|extension| extension.url == url)
}

/// The backport's extensions of a primitive element. Others change nothing of what is meant here.
fn of_backport(element: Option<&Element>) -> impl Iterator<Item = &Extension> {
    let extensions = element.into_iter().flat_map(|element| &element.extension);
    extensions.filter(|extension| extension.url.starts_with(system::SUBSCRIPTIONS_BACKPORT))
}

/// How much of an event is to be told; the ids without the extension.
fn content(channel: &SubscriptionChannel) -> Content {
    let asked = of_backport(channel.payload_element.as_ref()).find_map(|extension| extension.value_code.as_deref());
    asked.and_then(Content::from_code).unwrap_or(Content::IdOnly)
}

/// Whether what is asked of the content is known, and not asked twice.
fn content_is_clear(channel: &SubscriptionChannel) -> bool {
    let asked: Vec<&Extension> = of_backport(channel.payload_element.as_ref()).collect();
    let known = |extension: &&Extension| {
        extension.url == system::PAYLOAD_CONTENT
            && extension.value_code.as_deref().is_some_and(|code| Content::from_code(code).is_some())
    };
    asked.len() <= 1 && asked.iter().all(known)
}

/// What is wrong with the extensions of the channel. One of the backport's that isn't known would be ignored, and the client
/// believe that it is not.
fn channel_extension_faults(channel: &SubscriptionChannel, longest_timeout: u32) -> Vec<String> {
    let of_backport: Vec<&Extension> =
        channel.extension.iter().filter(|one| one.url.starts_with(system::SUBSCRIPTIONS_BACKPORT)).collect();
    let mut faults = Vec::new();
    let mut judge = |url: &str, name: &str, value: fn(&Extension) -> Option<u32>, (least, most): (u32, u32)| {
        let asked: Vec<Option<u32>> = of_backport.iter().filter(|one| one.url == url).map(|one| value(one)).collect();
        let fits = match asked[..] {
            [] => true,
            [Some(number)] => (least..=most).contains(&number),
            _ => false,
        };
        if !fits {
            faults.push(format!("Give the extension {name} once, from {least} to {most}."));
        }
    };
    let unsigned: fn(&Extension) -> Option<u32> = |one| one.value_unsigned_int;
    judge(system::HEARTBEAT_PERIOD, "backport-heartbeat-period (valueUnsignedInt, seconds)", unsigned, HEARTBEAT);
    judge(system::TIMEOUT, "backport-timeout (valueUnsignedInt, seconds)", unsigned, (1, longest_timeout));
    judge(system::MAX_COUNT, "backport-max-count (valuePositiveInt)", |one| one.value_positive_int, (1, MOST_COUNT));
    let known = [system::HEARTBEAT_PERIOD, system::TIMEOUT, system::MAX_COUNT];
    if of_backport.iter().any(|one| !known.contains(&one.url.as_str())) {
        let text = "Of the backport's extensions of a channel these are known here: backport-heartbeat-period, \
                    backport-timeout, backport-max-count. Leave the others out.";
        faults.push(text.to_owned());
    }
    faults
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
        static TARGETS: std::sync::LazyLock<Targets> = std::sync::LazyLock::new(|| Targets::service(&[]));
        Allowed { base_url: BASE, targets: &TARGETS, longest_timeout: 10, now, is_update }
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
        let backport = |name: &str| format!("{}StructureDefinition/{name}", system::SUBSCRIPTIONS_BACKPORT);
        let twice = json!({"extension": [
            {"url": system::PAYLOAD_CONTENT, "valueCode": "full-resource"},
            {"url": system::PAYLOAD_CONTENT, "valueCode": "empty"}
        ]});
        let filter = json!({"extension": [{"url": backport("backport-filter-criteria"), "valueString": "Flag?x=y"}]});
        let seconds = |url: &str, value: u32| json!([{"url": url, "valueUnsignedInt": value}]);
        for (pointer, value, element) in [
            ("/status", json!("active"), "status"),
            ("/status", json!("off"), "status"),
            ("/end", json!("2026-03-01T09:00:00Z"), "end"),
            ("/criteria", json!("https://other.example.org/SubscriptionTopic/cpis-access"), "criteria"),
            ("/criteria", json!(format!("{BASE}/SubscriptionTopic/cpis-other")), "criteria"),
            ("/_criteria", filter, "criteria.extension"),
            ("/channel/type", json!("email"), "channel.type"),
            ("/channel/_type", json!({"extension": [{"url": backport("backport-channel-type")}]}), "channel.type"),
            ("/channel/payload", json!("application/fhir+xml"), "channel.payload"),
            ("/channel/payload", Value::Null, "channel.payload"),
            ("/channel/_payload", content("everything"), "channel.payload.extension"),
            (
                "/channel/_payload",
                json!({"extension": [{"url": system::PAYLOAD_CONTENT}]}),
                "channel.payload.extension",
            ),
            ("/channel/_payload", twice, "channel.payload.extension"),
            ("/channel/extension", seconds(system::HEARTBEAT_PERIOD, 59), "channel.extension"),
            ("/channel/extension", seconds(system::HEARTBEAT_PERIOD, 604_801), "channel.extension"),
            ("/channel/extension", seconds(system::TIMEOUT, 0), "channel.extension"),
            ("/channel/extension", seconds(system::TIMEOUT, 11), "channel.extension"),
            ("/channel/extension", seconds(system::MAX_COUNT, 5), "channel.extension"),
            (
                "/channel/extension",
                json!([{"url": system::MAX_COUNT, "valuePositiveInt": 10_001}]),
                "channel.extension",
            ),
            ("/channel/extension", seconds(&backport("backport-other"), 5), "channel.extension"),
            ("/channel/endpoint", Value::Null, "channel.endpoint"),
            ("/channel/endpoint", json!("http://hook.example.org/cpis"), "channel.endpoint"),
            ("/channel/endpoint", json!("https://127.0.0.1/cpis"), "channel.endpoint"),
            ("/channel/endpoint", json!("https://10.0.0.1/cpis"), "channel.endpoint"),
            ("/channel/header/0", json!("Host: other.example.org"), "channel.header"),
            ("/channel/header/0", json!("webhook-signature: v1a,abc"), "channel.header"),
            ("/channel/header/0", json!("no colon"), "channel.header"),
        ] {
            let mut body = valid();
            let (parent, name) = pointer.rsplit_once('/').unwrap();
            match body.pointer_mut(parent).unwrap() {
                Value::Object(members) if value.is_null() => drop(members.remove(name)),
                Value::Object(members) => drop(members.insert(name.to_owned(), value)),
                other => other[0] = value,
            }
            assert_eq!(elements(&body), [element], "{pointer}");
        }
    }

    #[test]
    fn all_faults_are_told_at_once() {
        let mut body = valid();
        body["criteria"] = json!("x");
        body["channel"] = json!({"type": "email", "endpoint": "x", "payload": "x", "extension": [
            {"url": system::TIMEOUT, "valueUnsignedInt": 0}, {"url": system::HEARTBEAT_PERIOD, "valueUnsignedInt": 0},
        ]});
        let twice = "channel.extension";
        let expected = ["criteria", "channel.type", "channel.payload", twice, twice, "channel.endpoint"];
        assert_eq!(elements(&body), expected);
    }

    #[test]
    fn every_topic_content_and_payload_is_taken() {
        for topic in Topic::ALL {
            for content in Content::ALL {
                for payload in Payload::ALL {
                    let mut body = valid();
                    body["criteria"] = json!(topic_url(BASE, topic));
                    body["channel"]["payload"] = json!(payload.code());
                    body["channel"]["_payload"]["extension"][0]["valueCode"] = json!(content.code());
                    body["channel"]["extension"] = json!([
                        {"url": system::HEARTBEAT_PERIOD, "valueUnsignedInt": 60},
                        {"url": system::TIMEOUT, "valueUnsignedInt": 10},
                        {"url": system::MAX_COUNT, "valuePositiveInt": 1},
                        {"url": "https://other.example.org/extension", "valueString": "changes nothing"},
                    ]);
                    assert_eq!(elements(&body), Vec::<&str>::new());
                }
            }
        }
        let mut without = valid();
        without["channel"].as_object_mut().unwrap().remove("_payload");
        assert_eq!(elements(&without), Vec::<&str>::new());
        let Ok(Resource::Subscription(read)) = Resource::read(without) else { panic!("not a Subscription") };
        assert_eq!(content(&read.channel), Content::IdOnly);
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
