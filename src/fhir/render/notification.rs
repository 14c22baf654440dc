//! Notifications in the R4 form of the Subscriptions R5 Backport, STU 1.1: a `history` Bundle whose first entry is the
//! subscription's status as `Parameters`. <https://hl7.org/fhir/uv/subscriptions-backport/STU1.1/notifications.html>
//! The same for those who ask: the status alone (`$status`), and the events of the past (`$events`).
//!
//! | Topic | `focus` | `additional-context` |
//! |---|---|---|
//! | access | AuditEvent of the access | PractitionerRole of who made it |
//! | inactive NHS number | the authority's own Patient: its identifier has ended, and a link names the replacement | |
//! | record ended | the authority's own Flag; its Patient when no one plan is meant | |
//!
//! Why, for the last two, is the extension `cpis-notification-reason` of the event.
//! `Bundle.id` is the notification's stable id: a receiver that gets it again (sending is at least once) may drop it.
//! References in the status are absolute, because its entry has no base that a relative one could be resolved against.

use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use uuid::Uuid;

use super::{View, access_event, flag, patient_for_owner};
use crate::{
    cpis::types::{
        notice::{InactiveReason, Notice},
        subscription::{Content, Event, Named, Subscription, SubscriptionStatus},
    },
    fhir::{
        datatype::{CodeableConcept, Coding, Extension, Meta, Reference},
        resource::{
            Bundle, BundleEntry, BundleEntryRequest, BundleEntryResponse, BundleEntrySearch, Parameters,
            ParametersParameter, Resource,
        },
        system,
    },
};

/// For whom and when something is told.
#[derive(Clone, Copy)]
pub struct Teller<'a> {
    /// FHIR base, without a last slash.
    pub base_url: &'a str,
    pub subscription: &'a Subscription,
    pub now: DateTime<Utc>,
    /// Zone of civil dates.
    pub zone: Tz,
}

impl Teller<'_> {
    /// The handshake that the endpoint must answer with a 2xx status before it is told anything. It has no event.
    pub fn handshake(&self) -> Bundle {
        let told =
            Told { kind: "handshake", id: self.subscription.id, status: SubscriptionStatus::Requested, events: 0 };
        self.notification(&told, &[], Content::Empty)
    }

    /// That the channel works, when there was nothing to tell for so long; `id` is its own.
    pub fn heartbeat(&self, id: Uuid) -> Bundle {
        let Subscription { status, events, .. } = *self.subscription;
        self.notification(&Told { kind: "heartbeat", id, status, events }, &[], Content::Empty)
    }

    /// One event, with as much as the subscription asks for.
    pub fn event(&self, event: &Event) -> Bundle {
        let told = Told {
            kind: "event-notification",
            id: event.notification,
            status: SubscriptionStatus::Active,
            events: event.number,
        };
        self.notification(&told, std::slice::from_ref(event), self.subscription.hook.content)
    }

    /// Events of the past as `$events` gives them; `id` is that of the answer.
    pub fn past_events(&self, events: &[Event], content: Content, id: Uuid) -> Bundle {
        let Subscription { status, events: count, .. } = *self.subscription;
        self.notification(&Told { kind: "query-event", id, status, events: count }, events, content)
    }

    /// The status of a subscription as `$status` gives it, an entry of a searchset.
    pub fn queried_status(&self) -> BundleEntry {
        let Subscription { id, status, events, .. } = *self.subscription;
        let told = Told { kind: "query-status", id, status, events };
        BundleEntry {
            full_url: Some(format!("urn:uuid:{id}")),
            resource: Some(self.status(&told, Vec::new()).into()),
            search: Some(BundleEntrySearch { mode: Some("match".to_owned()), ..BundleEntrySearch::default() }),
            ..BundleEntry::default()
        }
    }

    fn notification(&self, told: &Told, events: &[Event], content: Content) -> Bundle {
        let parts: Vec<Vec<Part>> = events.iter().map(|event| self.parts(event)).collect();
        let event = |(event, parts): (&Event, &Vec<Part>)| self.notification_event(event, parts, content);
        let status = self.status(told, events.iter().zip(&parts).map(event).collect());
        let url = format!("Subscription/{}/$status", self.subscription.id);
        let mut entries = vec![entry(format!("urn:uuid:{}", told.id), url, "200", Some(status.into()))];
        if content != Content::Empty {
            entries.extend(parts.into_iter().flatten().map(|part| {
                let status = if part.resource.is_some() { "200" } else { "410" };
                let resource = part.resource.filter(|_| content == Content::FullResource);
                entry(format!("{}/{}", self.base_url, part.url), part.url, status, resource)
            }));
        }
        Bundle {
            id: Some(told.id.to_string()),
            meta: profiled(system::SUBSCRIPTION_NOTIFICATION_PROFILE),
            kind: "history".to_owned(),
            timestamp: Some(self.now.into()),
            entry: entries,
            ..Bundle::default()
        }
    }

    fn status(&self, told: &Told, events: Vec<ParametersParameter>) -> Parameters {
        let subscription = self.subscription;
        let mut parameter = vec![
            self.reference("subscription", &format!("Subscription/{}", subscription.id)),
            ParametersParameter { value_canonical: Some(subscription.criteria.clone()), ..named("topic") },
            code("status", told.status.code()),
            code("type", told.kind),
            number("events-since-subscription-start", told.events),
        ];
        parameter.extend(events);
        if told.kind.starts_with("query")
            && let Some(error) = &subscription.error
        {
            let error = CodeableConcept { text: Some(error.clone()), ..CodeableConcept::default() };
            parameter.push(ParametersParameter { value_codeable_concept: Some(error), ..named("error") });
        }
        Parameters { id: Some(told.id.to_string()), meta: profiled(system::SUBSCRIPTION_STATUS_PROFILE), parameter }
    }

    fn notification_event(&self, event: &Event, parts: &[Part], content: Content) -> ParametersParameter {
        let mut part = vec![
            number("event-number", event.number),
            ParametersParameter { value_instant: Some(event.at.into()), ..named("timestamp") },
        ];
        let mut extension = Vec::new();
        if content != Content::Empty {
            part.extend(parts.iter().map(|named| self.reference(named.role, &named.url)));
            extension.extend(self.reason(&event.notice));
        }
        ParametersParameter { extension, part, ..named("notification-event") }
    }

    fn reason(&self, notice: &Notice) -> Option<Extension> {
        match notice {
            Notice::Access(_) => None,
            Notice::InactiveNumber { reason, .. } => Some(inactive_reason(self.base_url, *reason)),
            Notice::RecordEnded { reason, .. } => {
                Some(told_reason(self.base_url, "cpis-record-ended-reason", reason.code(), reason.display()))
            }
        }
    }

    /// The resources that an event is about, as the authority may see them; without the resource one that it has deleted.
    fn parts(&self, event: &Event) -> Vec<Part> {
        let view = View::Owner { now: self.now, zone: self.zone };
        let focus = |url: String, resource: Option<Resource>| vec![Part { role: "focus", url, resource }];
        match (&event.notice, &event.named) {
            (Notice::Access(access), _) => {
                let (audit_event, role) = access_event(access, false);
                let part = |role, resource: Resource| {
                    let url = format!("{}/{}", resource.type_name(), resource.id().unwrap_or_default());
                    Part { role, url, resource: Some(resource) }
                };
                vec![part("focus", audit_event.into()), part("additional-context", role.into())]
            }
            (Notice::RecordEnded { plan: Some((id, _)), .. }, Named::Plan(shown)) => {
                focus(format!("Flag/{id}"), shown.as_ref().map(|shown| flag(shown, view).into()))
            }
            (Notice::RecordEnded { plan: Some((id, _)), .. }, _) => focus(format!("Flag/{id}"), None),
            (Notice::InactiveNumber { nhs_number, .. } | Notice::RecordEnded { nhs_number, .. }, named) => {
                let child = if let Named::Child(child) = named { child.as_deref() } else { None };
                let patient = child.map(|child| patient_for_owner(child, self.base_url).into());
                focus(format!("Patient/{}", nhs_number.as_str()), patient)
            }
        }
    }

    fn reference(&self, name: &str, url: &str) -> ParametersParameter {
        let reference = Some(format!("{}/{url}", self.base_url));
        ParametersParameter { value_reference: Some(Reference { reference, ..Reference::default() }), ..named(name) }
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

/// A resource that an event is about.
struct Part {
    role: &'static str,
    /// Below the base.
    url: String,
    /// `None` when it is there no more.
    resource: Option<Resource>,
}

/// Why a number is inactive.
pub(super) fn inactive_reason(base_url: &str, reason: InactiveReason) -> Extension {
    told_reason(base_url, "cpis-inactive-reason", reason.code(), reason.display())
}

/// Why an authority is told of something, in one of our own code systems.
fn told_reason(base_url: &str, system: &str, code: &str, display: &str) -> Extension {
    let system = format!("{base_url}/CodeSystem/{system}");
    Extension {
        url: format!("{base_url}/StructureDefinition/cpis-notification-reason"),
        value_codeable_concept: Some(Coding::displayed(&system, code, display).into()),
        ..Extension::default()
    }
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

/// An entry of a history as R4 asks for it (bdl-3, bdl-4): with a request and its response.
fn entry(full_url: String, url: String, status: &str, resource: Option<Resource>) -> BundleEntry {
    BundleEntry {
        full_url: Some(full_url),
        resource,
        request: Some(BundleEntryRequest { method: "GET".to_owned(), url, ..BundleEntryRequest::default() }),
        response: Some(BundleEntryResponse { status: status.to_owned(), ..BundleEntryResponse::default() }),
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
            NhsNumber, OdsCode, Organization, Plan, PlanPeriod, PlanType, ShownPlan,
            access::{Access, AccessAuthor},
            caller::{Author, User},
            child::{AuthorityChild, Demographics, Inactive},
            notice::{EndedReason, Topic},
            organization::OrganizationKind,
            subscription::{Hook, Payload},
        },
        fhir::validate::{Profile, Validators},
    };

    const BASE: &str = "https://cpis.example.org/cpis/FHIR/R4";

    fn subscription(content: Content) -> Subscription {
        Subscription {
            key: 7,
            id: Uuid::from_u128(0x11),
            authority_id: 3,
            status: SubscriptionStatus::Requested,
            error: None,
            topic: Topic::Access,
            criteria: format!("{BASE}/SubscriptionTopic/cpis-access"),
            hook: Hook {
                endpoint: "https://hook.example.org/cpis".to_owned(),
                headers: vec!["Authorization: Bearer secret".to_owned()],
                payload: Payload::FhirJson,
                content,
                heartbeat: None,
                timeout: None,
                max_count: None,
            },
            reason: "Duty team".to_owned(),
            end: None,
            version: 1,
            updated: at(9, 0),
            events: 14,
            failures: 0,
        }
    }

    fn teller(subscription: &Subscription) -> Teller<'_> {
        Teller { base_url: BASE, subscription, now: at(23, 31), zone: Tz::Europe__London }
    }

    fn at(hour: u32, minute: u32) -> DateTime<Utc> {
        Utc.with_ymd_and_hms(2026, 3, 1, hour, minute, 0).unwrap()
    }

    fn nhs(text: &str) -> NhsNumber {
        NhsNumber::parse(text).unwrap()
    }

    fn event(number: i64, notice: Notice, named: Named) -> Event {
        Event { notification: Uuid::from_u128(0x33), number, at: at(23, 30), notice, named }
    }

    fn access(sensitive: bool) -> Event {
        let access = Access {
            sequence: 41,
            id: Uuid::from_u128(0x22),
            at: at(23, 30),
            nhs_number: nhs("9990000018"),
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
        };
        event(12, Notice::Access(Box::new(access)), Named::Access)
    }

    fn child(inactive: Option<Inactive>) -> Named {
        Named::Child(Some(Box::new(AuthorityChild {
            id: 1,
            person_id: 1,
            nhs_number: nhs("9990000018"),
            demographics: Demographics {
                family: "SPECIMEN".to_owned(),
                given: vec!["Robin".to_owned()],
                birth_date: "2017-05-11".parse().unwrap(),
            },
            local_id: None,
            version: 2,
            recorded: at(8, 0),
            inactive,
        })))
    }

    fn inactive(reason: InactiveReason, replaced_by: Option<&str>) -> Event {
        let replaced_by = replaced_by.map(nhs);
        let state = Inactive { reason, replaced_by, since: at(23, 30), holds: true };
        let notice = Notice::InactiveNumber { nhs_number: nhs("9990000018"), reason, replaced_by };
        event(13, notice, child(Some(state)))
    }

    fn ended(deleted: bool) -> Event {
        let plan = Plan {
            id: Uuid::from_u128(0x77),
            plan_type: PlanType::ChildProtection,
            period: PlanPeriod::new("2020-01-01".parse().unwrap(), Some("2026-02-28".parse().unwrap())).unwrap(),
            ended: None,
            local_id: None,
            version: 3,
            deleted: false,
            recorded: at(1, 0),
            created: at(0, 0),
        };
        let authority = Organization {
            id: 3,
            ods: OdsCode::parse("Z9A").unwrap(),
            name: "Authority".to_owned(),
            kind: OrganizationKind::LocalAuthority,
            care_setting: None,
            sensitive: false,
            office_phone: None,
            duty_phone: None,
            part_of: None,
            active: true,
            version: 1,
            updated: at(0, 0),
        };
        let named = (Uuid::from_u128(0x77), PlanType::ChildProtection);
        let notice =
            Notice::RecordEnded { nhs_number: nhs("9990000018"), reason: EndedReason::Adult, plan: Some(named) };
        let shown = ShownPlan {
            plan,
            active: false,
            closes: None,
            settled: false,
            nhs_number: nhs("9990000018"),
            authority,
            last_confirmed: None,
        };
        event(14, notice, Named::Plan((!deleted).then(|| Box::new(shown))))
    }

    fn withheld() -> Event {
        let notice = Notice::RecordEnded { nhs_number: nhs("9990000018"), reason: EndedReason::Withheld, plan: None };
        event(15, notice, child(None))
    }

    #[test]
    fn a_handshake_says_who_asks_and_nothing_of_anybody() {
        insta::assert_json_snapshot!(teller(&subscription(Content::FullResource)).handshake());
    }

    #[test]
    fn a_heartbeat_says_how_many_events_there_were() {
        insta::assert_json_snapshot!(teller(&subscription(Content::FullResource)).heartbeat(Uuid::from_u128(0x55)));
    }

    #[test]
    fn each_topic_tells_as_much_as_each_content_asks_for() {
        for (name, told) in [
            ("access", access(false)),
            ("inactive", inactive(InactiveReason::Superseded, Some("9990000026"))),
            ("ended", ended(false)),
            ("withheld", withheld()),
        ] {
            for content in Content::ALL {
                let subscription = subscription(content);
                insta::assert_json_snapshot!(format!("{name}-{}", content.code()), teller(&subscription).event(&told));
            }
        }
    }

    #[test]
    fn without_a_replacement_there_is_no_link() {
        let subscription = subscription(Content::FullResource);
        for reason in [InactiveReason::Invalidated, InactiveReason::Retired] {
            let told = teller(&subscription).event(&inactive(reason, None));
            let value = serde_json::to_value(told).unwrap();
            let patient = &value["entry"][1]["resource"];
            assert_eq!(patient["link"], Value::Null);
            assert_eq!(patient["identifier"][0]["period"]["end"], "2026-03-01T23:30:00.000Z");
        }
    }

    #[test]
    fn what_was_deleted_meanwhile_is_named_and_gone() {
        let subscription = subscription(Content::FullResource);
        let value = serde_json::to_value(teller(&subscription).event(&ended(true))).unwrap();
        let entry = &value["entry"][1];
        assert_eq!((&entry["resource"], &entry["response"]["status"]), (&Value::Null, &Value::from("410")));
    }

    #[test]
    fn of_a_sensitive_organisation_the_authority_learns_the_role_only() {
        let subscription = subscription(Content::FullResource);
        let text = serde_json::to_string(&teller(&subscription).event(&access(true))).unwrap();
        assert!(text.contains("details withheld") && text.contains("R8000"));
        for withheld in ["Example Hospital", "RZZ99", "TESTER", "555250000001", "555250000002", "ed-system"] {
            assert!(!text.contains(withheld), "{withheld}");
        }
    }

    #[test]
    fn notifications_are_valid_r4() {
        let validators = Validators::shared().unwrap();
        let events = [
            access(false),
            access(true),
            inactive(InactiveReason::Superseded, Some("9990000026")),
            inactive(InactiveReason::Retired, None),
            ended(false),
            ended(true),
            withheld(),
        ];
        for content in Content::ALL {
            let stored = Subscription { error: Some("No answer.".to_owned()), ..subscription(content) };
            let teller = teller(&stored);
            let searchset = Bundle::searchset(BASE, Some(1), vec![teller.queried_status()]);
            let mut told = vec![teller.handshake(), teller.heartbeat(Uuid::from_u128(0x55)), searchset];
            told.push(teller.past_events(&events, content, Uuid::from_u128(0x44)));
            told.extend(events.iter().map(|event| teller.event(event)));
            for bundle in told {
                let value: Value = serde_json::to_value(&bundle).unwrap();
                assert_eq!(validators.validate(&value, Profile::Base), []);
                assert!(!value.to_string().contains("secret"), "headers stay here");
                if content == Content::Empty {
                    assert!(!value.to_string().contains("9990000018"));
                }
            }
        }
    }
}
