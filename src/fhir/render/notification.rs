//! Notifications in the R4 form of the Subscriptions R5 Backport, STU 1.1: a `history` Bundle whose first entry is the
//! subscription's status as `Parameters`. <https://hl7.org/fhir/uv/subscriptions-backport/STU1.1/notifications.html>
//! The same for those who ask: the status alone (`$status`), and the events of the past (`$events`).
//!
//! `Bundle.id` is the notification's stable id: a receiver that gets it again (sending is at least once) may drop it.
//! References in the status are absolute, because its entry has no base that a relative one could be resolved against.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::access_event;
use crate::{
    cpis::types::{
        access::Access,
        subscription::{Subscription, SubscriptionStatus},
    },
    fhir::{
        datatype::{CodeableConcept, Meta, Reference},
        resource::{
            Bundle, BundleEntry, BundleEntryRequest, BundleEntryResponse, BundleEntrySearch, Parameters,
            ParametersParameter, Resource,
        },
        system,
    },
};

/// One event as it is told.
pub struct Event<'a> {
    /// Stable id of the notification.
    pub notification: Uuid,
    /// Its number in the subscription, from 1 without gaps.
    pub number: i64,
    pub access: &'a Access,
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

/// The handshake that the endpoint must answer with a 2xx status before it is told anything. It has no event.
pub fn handshake(base_url: &str, subscription: &Subscription, now: DateTime<Utc>) -> Bundle {
    let told = Told { kind: "handshake", id: subscription.id, status: SubscriptionStatus::Requested, events: 0 };
    let status = told.parameters(base_url, subscription, &[], Content::Empty);
    notification(subscription.id, now, vec![status_entry(subscription, status)])
}

/// One event with its full resources: the AuditEvent as focus, the PractitionerRole as context, both as an authority
/// may see them.
pub fn event(base_url: &str, subscription: &Subscription, event: &Event<'_>, now: DateTime<Utc>) -> Bundle {
    let told = Told {
        kind: "event-notification",
        id: event.notification,
        status: SubscriptionStatus::Active,
        events: event.number,
    };
    let events = std::slice::from_ref(event);
    let status = told.parameters(base_url, subscription, events, Content::FullResource);
    let mut entries = vec![status_entry(subscription, status)];
    entries.extend(resource_entries(base_url, events, Content::FullResource));
    notification(event.notification, now, entries)
}

/// Events of the past as `$events` gives them; `id` is that of the answer.
pub fn past_events(
    base_url: &str,
    subscription: &Subscription,
    events: &[Event<'_>],
    content: Content,
    (id, now): (Uuid, DateTime<Utc>),
) -> Bundle {
    let told = Told { kind: "query-event", id, status: subscription.status, events: subscription.events };
    let mut entries = vec![status_entry(subscription, told.parameters(base_url, subscription, events, content))];
    entries.extend(resource_entries(base_url, events, content));
    notification(id, now, entries)
}

/// The status of a subscription as `$status` gives it, an entry of a searchset.
pub fn queried_status(base_url: &str, subscription: &Subscription) -> BundleEntry {
    let told =
        Told { kind: "query-status", id: subscription.id, status: subscription.status, events: subscription.events };
    BundleEntry {
        full_url: Some(format!("urn:uuid:{}", subscription.id)),
        resource: Some(told.parameters(base_url, subscription, &[], Content::Empty).into()),
        search: Some(BundleEntrySearch { mode: Some("match".to_owned()) }),
        ..BundleEntry::default()
    }
}

fn notification(id: Uuid, now: DateTime<Utc>, entry: Vec<BundleEntry>) -> Bundle {
    Bundle {
        id: Some(id.to_string()),
        meta: profiled(system::SUBSCRIPTION_NOTIFICATION_PROFILE),
        kind: "history".to_owned(),
        timestamp: Some(now.into()),
        entry,
        ..Bundle::default()
    }
}

/// What a status says of its subscription.
struct Told {
    /// Code of the R5 value set subscription-notification-type.
    kind: &'static str,
    /// The notification's id, or that of what the status is a part of.
    id: Uuid,
    status: SubscriptionStatus,
    /// Number of the newest event.
    events: i64,
}

impl Told {
    fn parameters(
        &self,
        base_url: &str,
        subscription: &Subscription,
        events: &[Event<'_>],
        content: Content,
    ) -> Parameters {
        let mut parameter = vec![
            ParametersParameter {
                value_reference: Some(absolute(base_url, "Subscription", subscription.id)),
                ..named("subscription")
            },
            ParametersParameter { value_canonical: Some(subscription.topic.clone()), ..named("topic") },
            code("status", self.status.code()),
            code("type", self.kind),
            number("events-since-subscription-start", self.events),
        ];
        parameter.extend(events.iter().map(|event| notification_event(base_url, event, content)));
        if self.kind.starts_with("query")
            && let Some(error) = &subscription.error
        {
            let error = CodeableConcept { text: Some(error.clone()), ..CodeableConcept::default() };
            parameter.push(ParametersParameter { value_codeable_concept: Some(error), ..named("error") });
        }
        Parameters { id: Some(self.id.to_string()), meta: profiled(system::SUBSCRIPTION_STATUS_PROFILE), parameter }
    }
}

fn notification_event(base_url: &str, event: &Event<'_>, content: Content) -> ParametersParameter {
    let mut part = vec![
        number("event-number", event.number),
        ParametersParameter { value_instant: Some(event.access.at.into()), ..named("timestamp") },
    ];
    if content != Content::Empty {
        for (name, type_name) in [("focus", "AuditEvent"), ("additional-context", "PractitionerRole")] {
            let reference = Some(absolute(base_url, type_name, event.access.id));
            part.push(ParametersParameter { value_reference: reference, ..named(name) });
        }
    }
    ParametersParameter { part, ..named("notification-event") }
}

fn absolute(base_url: &str, type_name: &str, id: Uuid) -> Reference {
    Reference { reference: Some(format!("{base_url}/{type_name}/{id}")), ..Reference::default() }
}

fn named(name: &str) -> ParametersParameter {
    ParametersParameter { name: name.to_owned(), ..ParametersParameter::default() }
}

fn number(name: &str, value: i64) -> ParametersParameter {
    ParametersParameter { value_string: Some(value.to_string()), ..named(name) }
}

fn code(name: &str, value: &str) -> ParametersParameter {
    ParametersParameter { value_code: Some(value.to_owned()), ..named(name) }
}

fn status_entry(subscription: &Subscription, status: Parameters) -> BundleEntry {
    let full_url = format!("urn:uuid:{}", status.id.clone().unwrap_or_default());
    entry(full_url, format!("Subscription/{}/$status", subscription.id), Some(status.into()))
}

/// What the events are about; without the resources where only their ids are asked for.
fn resource_entries(base_url: &str, events: &[Event<'_>], content: Content) -> Vec<BundleEntry> {
    if content == Content::Empty {
        return Vec::new();
    }
    let resources = events.iter().flat_map(|event| {
        let (audit_event, role) = access_event(event.access, false);
        [Resource::from(audit_event), role.into()]
    });
    let entry = |resource: Resource| {
        let url = format!("{}/{}", resource.type_name(), resource.id().unwrap_or_default());
        entry(format!("{base_url}/{url}"), url, (content == Content::FullResource).then_some(resource))
    };
    resources.map(entry).collect()
}

/// An entry of a history as R4 asks for it (bdl-3, bdl-4): with a request and its response.
fn entry(full_url: String, url: String, resource: Option<Resource>) -> BundleEntry {
    BundleEntry {
        full_url: Some(full_url),
        resource,
        request: Some(BundleEntryRequest { method: "GET".to_owned(), url, ..BundleEntryRequest::default() }),
        response: Some(BundleEntryResponse { status: "200".to_owned(), ..BundleEntryResponse::default() }),
        ..BundleEntry::default()
    }
}

fn profiled(profile: &str) -> Option<Meta> {
    Some(Meta { profile: vec![profile.to_owned()], ..Meta::default() })
}

#[cfg(test)]
mod tests {
    use chrono::TimeZone;
    use serde_json::Value;

    use super::*;
    use crate::{
        cpis::types::{
            NhsNumber, OdsCode,
            access::AccessAuthor,
            caller::{Author, User},
        },
        fhir::validate::{Profile, Validators},
    };

    const BASE: &str = "https://cpis.example.org/cpis/FHIR/R4";

    fn subscription() -> Subscription {
        Subscription {
            key: 7,
            id: Uuid::from_u128(0x11),
            authority_id: 3,
            status: SubscriptionStatus::Requested,
            error: None,
            endpoint: "https://hook.example.org/cpis".to_owned(),
            headers: vec!["Authorization: Bearer secret".to_owned()],
            topic: format!("{BASE}/SubscriptionTopic/cpis-access"),
            reason: "Duty team".to_owned(),
            end: None,
            version: 1,
            updated: at(9, 0),
            events: 0,
        }
    }

    fn at(hour: u32, minute: u32) -> DateTime<Utc> {
        Utc.with_ymd_and_hms(2026, 3, 1, hour, minute, 0).unwrap()
    }

    fn access(sensitive: bool) -> Access {
        Access {
            sequence: 41,
            id: Uuid::from_u128(0x22),
            at: at(23, 30),
            nhs_number: NhsNumber::parse("9990000018").unwrap(),
            author: AccessAuthor {
                author: Author::Person(User {
                    sds_user_id: "555250000001".to_owned(),
                    role_profile_id: Some("555250000002".to_owned()),
                    name: "TESTER, Tessa".to_owned(),
                    job_role_code: Some("R8000".to_owned()),
                    job_role_name: Some("Clinical Practitioner Access Role".to_owned()),
                }),
                client_id: "ed-system".to_owned(),
                organization: OdsCode::parse("RZZ99").unwrap(),
                organization_name: "Example Hospital".to_owned(),
                sensitive,
                scheduled_setting: false,
            },
            request_id: "r1".to_owned(),
        }
    }

    fn event_bundle(sensitive: bool) -> Bundle {
        let access = access(sensitive);
        let told = Event { notification: Uuid::from_u128(0x33), number: 12, access: &access };
        event(BASE, &subscription(), &told, at(23, 31))
    }

    #[test]
    fn a_handshake_says_who_asks_and_nothing_of_anybody() {
        insta::assert_json_snapshot!(handshake(BASE, &subscription(), at(9, 1)));
    }

    #[test]
    fn an_event_carries_the_access_and_who_made_it() {
        insta::assert_json_snapshot!(event_bundle(false));
    }

    #[test]
    fn of_a_sensitive_organisation_the_authority_learns_the_role_only() {
        let text = serde_json::to_string(&event_bundle(true)).unwrap();
        assert!(text.contains("details withheld") && text.contains("R8000"));
        for withheld in ["Example Hospital", "RZZ99", "TESTER", "555250000001", "555250000002", "ed-system"] {
            assert!(!text.contains(withheld), "{withheld}");
        }
    }

    #[test]
    fn notifications_are_valid_r4() {
        let validators = Validators::shared().unwrap();
        let (access, stored) = (access(false), Subscription { error: Some("No answer.".to_owned()), ..subscription() });
        let events = [12, 13].map(|number| Event { notification: Uuid::from_u128(0x33), number, access: &access });
        let answer = (Uuid::from_u128(0x44), at(9, 1));
        let past = Content::ALL.map(|content| past_events(BASE, &stored, &events, content, answer));
        let searchset = Bundle::searchset(BASE, Some(1), vec![queried_status(BASE, &stored)]);
        let told = [handshake(BASE, &subscription(), at(9, 1)), event_bundle(false), event_bundle(true), searchset];
        for bundle in told.into_iter().chain(past) {
            let value: Value = serde_json::to_value(&bundle).unwrap();
            assert_eq!(validators.validate(&value, Profile::Base), []);
            assert!(!value.to_string().contains("secret"), "headers stay here");
        }
    }

    #[test]
    fn past_events_tell_as_much_as_is_asked_for() {
        let access = access(false);
        let events = [3, 5].map(|number| Event { notification: Uuid::from_u128(0x33), number, access: &access });
        let of = |content| {
            let answer = (Uuid::from_u128(0x44), at(9, 1));
            serde_json::to_value(past_events(BASE, &subscription(), &events, content, answer)).unwrap()
        };
        let text = |content| of(content).to_string();
        assert!(!text(Content::Empty).contains("AuditEvent") && text(Content::Empty).contains("event-number"));
        assert!(text(Content::IdOnly).contains("AuditEvent/") && !text(Content::IdOnly).contains("9990000018"));
        assert!(text(Content::FullResource).contains("9990000018"));
        let entries = |content| of(content)["entry"].as_array().unwrap().len();
        assert_eq!(Content::ALL.map(entries), [1, 5, 5]);
        for content in Content::ALL {
            assert_eq!(Content::from_code(content.code()), Some(content));
        }
    }
}
