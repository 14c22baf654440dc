//! What the clinical handlers share: one audited look-up, and the searchset made of what it found.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::{dispatch::Call, query::Query, refusal::Refusal, service::Service, unscheduled};
use crate::{
    cpis::{
        look_up::{LookUp, Subject},
        types::{ShownPlan, access::Found, audit::EntityRef},
    },
    fhir::{
        outcome::{Issue, IssueCode, Severity, SpineCode, operation_outcome},
        render,
        resource::{Bundle, BundleEntry, Resource},
    },
};

/// How a request is looked up.
pub struct Asked {
    pub subject: Subject,
    /// The resource that the path names.
    pub entity: Option<EntityRef>,
    /// 404 instead of an empty answer when there is no record.
    pub absent_is_not_found: bool,
    /// An absent `IsUnscheduledAccessEvent` is decided by the organisation's care setting (Patient Flag API).
    pub by_setting: bool,
}

impl Asked {
    /// A search about one patient.
    pub fn search(call: &Call) -> Result<Self, Refusal> {
        let subject = Subject::Number(call.query.required_patient()?);
        Ok(Self { subject, entity: None, absent_is_not_found: false, by_setting: false })
    }

    /// A read of the resource in the path.
    pub fn read(resource: &str, id: &str, subject: Subject) -> Self {
        let entity = EntityRef { resource: resource.to_owned(), id: id.to_owned(), version: None };
        Self { subject, entity: Some(entity), absent_is_not_found: true, by_setting: false }
    }

    /// A read of the plan in the path.
    ///
    /// # Errors
    /// [`Refusal`] 404 for what can't be the id of a plan.
    pub fn plan(resource: &str, call: &Call) -> Result<Self, Refusal> {
        let id = call.uuid()?;
        Ok(Self::read(resource, &call.id, Subject::Plan(id)))
    }
}

/// One audited access. When it returns, the audit is durable.
///
/// # Errors
/// [`Refusal`]: 400 or 403 before the child is looked up, 404, 503.
pub async fn look_up(call: &Call, asked: Asked) -> Result<Found, Refusal> {
    let kind =
        unscheduled::decide(&call.headers, &call.caller, call.service.settings.scheduled_care, asked.by_setting)?;
    let absent_is_not_found = asked.absent_is_not_found;
    let found = call
        .service
        .gateway
        .look_up(LookUp {
            subject: asked.subject,
            kind,
            interaction: call.interaction,
            entity: asked.entity,
            absent_is_not_found,
            caller: call.caller.clone(),
            context: call.context.clone(),
        })
        .await?;
    match found {
        Some(found) if found.on_record() || !absent_is_not_found => Ok(found),
        // The look-up itself has audited that nothing was found.
        _ => Err(Refusal::not_found().audited()),
    }
}

/// The plan that the path names, out of what was found.
///
/// # Errors
/// [`Refusal`] 404.
pub fn named_plan(call: &Call, found: Found) -> Result<ShownPlan, Refusal> {
    let plan = found.plans.into_iter().find(|shown| shown.plan.id.to_string() == call.id);
    plan.ok_or_else(|| Refusal::not_found().audited())
}

/// Collects the entries of a searchset.
pub struct Searchset<'a> {
    call: &'a Call,
    total: u64,
    entries: Vec<BundleEntry>,
}

impl<'a> Searchset<'a> {
    pub fn new(call: &'a Call) -> Self {
        Self { call, total: 0, entries: Vec::new() }
    }

    pub fn matched(&mut self, resource: impl Into<Resource>) {
        self.total += 1;
        self.add(resource.into(), "match");
    }

    pub fn included(&mut self, resource: impl Into<Resource>) {
        self.add(resource.into(), "include");
    }

    fn add(&mut self, resource: Resource, mode: &str) {
        self.entries.push(BundleEntry::found(&self.call.service.settings.base_url, resource, mode));
    }

    /// The accesses, each with who made it.
    pub fn history(&mut self, found: &Found, matched: bool) {
        for access in &found.history {
            let (event, role) = render::access_event(access, false);
            if matched {
                self.matched(event)
            } else {
                self.included(event)
            }
            self.included(role);
        }
    }

    /// Says that the number asked for was superseded (design 9).
    pub fn superseded(&mut self, found: &Found) {
        if found.superseded_by.is_some() {
            let issue = Issue {
                severity: Severity::Information,
                ..Issue::error(
                    IssueCode::Informational,
                    SpineCode::InvalidatedResource,
                    "The NHS number asked for has been superseded. The plans under all numbers of this child are shown; \
                     please trace the child and use the new number.",
                )
            };
            self.add(operation_outcome(&[issue]).into(), "outcome");
        }
    }

    /// `total` counts the matches; `given` replaces it for a page of more.
    pub fn finish(self) -> Bundle {
        let total = self.total;
        let link = self_link(&self.call.service, &self.call.path_and_query, &self.call.query);
        Bundle::searchset(&link, Some(total), self.entries)
    }
}

/// Characters that stand for themselves in a query (RFC 3986 unreserved).
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// A search as the server understood it: a GET URL below the base, every value encoded.
pub fn self_link(service: &Service, path_and_query: &str, query: &Query) -> String {
    let path = path_and_query.split('?').next().unwrap_or_default();
    let below = path.strip_prefix(&service.settings.base_path).unwrap_or(path);
    let below = below.strip_suffix("/_search").unwrap_or(below);
    let encode = |text: &str| utf8_percent_encode(text, ENCODED).to_string();
    let parameters: Vec<String> =
        query.0.iter().map(|sent| format!("{}{}={}", encode(&sent.name), sent.modifier, encode(&sent.value))).collect();
    let mark = if parameters.is_empty() { "" } else { "?" };
    format!("{}{below}{mark}{}", service.settings.base_url, parameters.join("&"))
}
