//! Notifications in the R4 form of the Subscriptions R5 Backport, STU 1.1: a `history` Bundle whose first entry is the
//! subscription's status as `Parameters`. <https://hl7.org/fhir/uv/subscriptions-backport/STU1.1/notifications.html>
//!
//! `Bundle.id` is the notification's stable id: a receiver that gets it again (sending is at least once) may drop it.
//! References in the status are absolute, because its entry has no base that a relative one could be resolved against.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::{
    cpis::types::{
        access::Access,
        subscription::{Subscription, SubscriptionStatus},
    },
    fhir::{
        datatype::{Meta, Reference},
        render,
        resource::{
            Bundle, BundleEntry, BundleEntryRequest, BundleEntryResponse, Parameters, ParametersParameter, Resource,
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

/// The handshake that the endpoint must answer with a 2xx status before it is told anything. It has no event.
pub fn handshake(base_url: &str, subscription: &Subscription, now: DateTime<Utc>) -> Bundle {
    let entry = status_entry(base_url, subscription, subscription.id, SubscriptionStatus::Requested, "handshake", None);
    notification(subscription.id, now, vec![entry])
}

/// One event with its full resources: the AuditEvent as focus, the PractitionerRole as context, both as an authority
/// may see them.
pub fn event(base_url: &str, subscription: &Subscription, event: &Event<'_>, now: DateTime<Utc>) -> Bundle {
    let (audit_event, role) = render::access_event(event.access, false);
    let status = status_entry(
        base_url,
        subscription,
        event.notification,
        SubscriptionStatus::Active,
        "event-notification",
        Some(event),
    );
    let entries = vec![status, resource_entry(base_url, audit_event.into()), resource_entry(base_url, role.into())];
    notification(event.notification, now, entries)
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

/// `id` is the notification's too: the status is a part of it.
fn status_entry(
    base_url: &str,
    subscription: &Subscription,
    id: Uuid,
    status: SubscriptionStatus,
    kind: &str,
    event: Option<&Event<'_>>,
) -> BundleEntry {
    let reference = |type_name: &str, id: Uuid| {
        Some(Reference { reference: Some(format!("{base_url}/{type_name}/{id}")), ..Reference::default() })
    };
    let named = |name: &str| ParametersParameter { name: name.to_owned(), ..ParametersParameter::default() };
    let text = |name: &str, value: i64| ParametersParameter { value_string: Some(value.to_string()), ..named(name) };
    let code = |name: &str, value: &str| ParametersParameter { value_code: Some(value.to_owned()), ..named(name) };
    let mut parameter = vec![
        ParametersParameter { value_reference: reference("Subscription", subscription.id), ..named("subscription") },
        ParametersParameter { value_canonical: Some(subscription.topic.clone()), ..named("topic") },
        code("status", status.code()),
        code("type", kind),
        text("events-since-subscription-start", event.map_or(0, |event| event.number)),
    ];
    if let Some(event) = event {
        let part = vec![
            text("event-number", event.number),
            ParametersParameter { value_instant: Some(event.access.at.into()), ..named("timestamp") },
            ParametersParameter { value_reference: reference("AuditEvent", event.access.id), ..named("focus") },
            ParametersParameter {
                value_reference: reference("PractitionerRole", event.access.id),
                ..named("additional-context")
            },
        ];
        parameter.push(ParametersParameter { part, ..named("notification-event") });
    }
    let status =
        Parameters { id: Some(id.to_string()), meta: profiled(system::SUBSCRIPTION_STATUS_PROFILE), parameter };
    let url = format!("Subscription/{}/$status", subscription.id);
    entry(format!("urn:uuid:{id}"), url, status.into())
}

fn resource_entry(base_url: &str, resource: Resource) -> BundleEntry {
    let url = format!("{}/{}", resource.type_name(), resource.id().unwrap_or_default());
    entry(format!("{base_url}/{url}"), url, resource)
}

/// An entry of a history as R4 asks for it (bdl-3, bdl-4): with a request and its response.
fn entry(full_url: String, url: String, resource: Resource) -> BundleEntry {
    BundleEntry {
        full_url: Some(full_url),
        resource: Some(resource),
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
        for bundle in [handshake(BASE, &subscription(), at(9, 1)), event_bundle(false), event_bundle(true)] {
            let value: Value = serde_json::to_value(&bundle).unwrap();
            assert_eq!(validators.validate(&value, Profile::Base), []);
            assert!(!value.to_string().contains("secret"), "headers stay here");
        }
    }
}
