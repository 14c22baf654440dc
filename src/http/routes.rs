//! The one table of routes below the FHIR base. It routes requests, says who may call what with which parameters, and the
//! `CapabilityStatement` and the OpenAPI document are made from it.

use actix_web::{HttpRequest, http::Method};
use futures_util::future::LocalBoxFuture;
use percent_encoding::percent_decode_str;

use super::{
    answer::Answer,
    audit_event, bundle, care_plan, care_team, definitions,
    dispatch::{Call, OpenCall},
    everything, flag, history, inactive, metadata, organization, patient, patient_flag, patient_match,
    practitioner_role,
    refusal::{Case, Refusal},
    refused_records,
    search::{Parameter, result::OF_ONE},
    subscription, upload_status, validate,
};
use crate::{
    config::PdsMode,
    cpis::types::{
        audit::Interaction,
        caller::{Caller, Role},
    },
};

/// What the body of a request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body {
    None,
    /// A FHIR resource of this type.
    Resource(&'static str),
    /// Search parameters as a form.
    Form,
}

type Handler = fn(Call) -> LocalBoxFuture<'static, Result<Answer, Refusal>>;

#[derive(Clone, Copy)]
pub enum Handled {
    /// Without a token.
    Open(fn(&OpenCall<'_>) -> Result<Answer, Refusal>),
    By(Handler),
}

/// One row of the table.
#[derive(Clone, Copy)]
pub struct Route {
    pub method: &'static str,
    /// Below the FHIR base; `{id}` and `{vid}` stand for one segment each.
    pub path: &'static str,
    /// Resource type of the `CapabilityStatement`; none for what belongs to the system.
    pub resource: Option<&'static str>,
    pub interaction: Interaction,
    pub callers: &'static [Role],
    pub parameters: &'static [Parameter],
    pub body: Body,
    pub about: &'static str,
    /// Headers with a condition that it honours: `If-None-Exist` of a create, `If-None-Match` of a read.
    pub honours: &'static [&'static str],
    /// An update that may create.
    pub creates: bool,
    /// An operation that takes what it is told: 202 and an outcome.
    pub tells_only: bool,
    /// Refused where numbers are not traced, and not promised there.
    pub traces: bool,
    handled: Handled,
}

const CLINICAL: &[Role] = &[Role::Clinical];
const AUTHORITY: &[Role] = &[Role::LocalAuthority];
const ADMINISTRATOR: &[Role] = &[Role::Administrator];
const AUTHORITY_OR_ADMINISTRATOR: &[Role] = &[Role::LocalAuthority, Role::Administrator];
const CLINICAL_OR_AUTHORITY: &[Role] = &[Role::Clinical, Role::LocalAuthority];
const EVERYBODY: &[Role] = &Role::ALL;
const AUDITED: &[Role] = &[Role::Clinical, Role::LocalAuthority, Role::Auditor];

macro_rules! by {
    ($handler:path) => {
        Handled::By(|call| Box::pin($handler(call)))
    };
}

macro_rules! route {
    ($method:literal, $path:expr, $resource:expr, $interaction:ident, $callers:expr, $parameters:expr, $body:expr, $handled:expr, $about:literal) => {
        Route {
            method: $method,
            path: $path,
            resource: $resource,
            interaction: Interaction::$interaction,
            callers: $callers,
            parameters: $parameters,
            body: $body,
            about: $about,
            honours: &[],
            creates: false,
            tells_only: false,
            traces: false,
            handled: $handled,
        }
    };
}

/// What is published, read only: search and read, without a token.
macro_rules! published {
    ($type:literal, $parameters:expr) => {
        [
            route!(
                "GET",
                concat!("/", $type),
                Some($type),
                SearchType,
                &[],
                $parameters,
                Body::None,
                Handled::Open(definitions::search),
                "What this server publishes of this type."
            ),
            route!(
                "POST",
                concat!("/", $type, "/_search"),
                Some($type),
                SearchType,
                &[],
                $parameters,
                Body::Form,
                Handled::Open(definitions::search),
                "The same; the parameters as a form."
            ),
            route!(
                "GET",
                concat!("/", $type, "/{id}"),
                Some($type),
                Read,
                &[],
                OF_ONE,
                Body::None,
                Handled::Open(definitions::read),
                "One of them by id."
            ),
        ]
        .map(|route| route.honours(&["If-None-Match"]))
    };
}

/// `$validate` on a resource type.
macro_rules! validated {
    ($type:literal, $path:literal) => {
        route!(
            "POST",
            concat!("/", $type, $path, "/$validate"),
            Some($type),
            Operation,
            EVERYBODY,
            validate::PARAMETERS,
            Body::Resource($type),
            by!(validate::validate),
            "Judges a resource without storing it."
        )
    };
}

/// A search by GET and by `POST _search`.
macro_rules! search {
    ($type:literal, $callers:expr, $parameters:expr, $handler:path, $about:literal) => {
        [
            route!(
                "GET",
                concat!("/", $type),
                Some($type),
                SearchType,
                $callers,
                $parameters,
                Body::None,
                by!($handler),
                $about
            ),
            route!(
                "POST",
                concat!("/", $type, "/_search"),
                Some($type),
                SearchType,
                $callers,
                $parameters,
                Body::Form,
                by!($handler),
                $about
            ),
        ]
    };
}

/// A version, the history of a resource, and that of its type.
macro_rules! history {
    ($type:literal, $callers:expr, $version:literal, $instance:literal, $all:literal) => {
        [
            route!(
                "GET",
                concat!("/", $type, "/{id}/_history/{vid}"),
                Some($type),
                Vread,
                $callers,
                OF_ONE,
                Body::None,
                by!(history::vread),
                $version
            ),
            route!(
                "GET",
                concat!("/", $type, "/{id}/_history"),
                Some($type),
                HistoryInstance,
                $callers,
                history::PARAMETERS,
                Body::None,
                by!(history::of_instance),
                $instance
            ),
            route!(
                "GET",
                concat!("/", $type, "/_history"),
                Some($type),
                HistoryType,
                $callers,
                history::PARAMETERS,
                Body::None,
                by!(history::of_type),
                $all
            ),
        ]
    };
}

/// Every route.
pub struct Routes(Vec<Route>);

// One row a line, so that the table reads as one.
#[rustfmt::skip]
impl Default for Routes {
    fn default() -> Self {
        let searches = [
            search!("CareTeam", CLINICAL, care_team::PARAMETERS, care_team::search, "The plans of a child with the responsible authorities and their phone numbers: the national CP-IS call."),
            search!("CarePlan", CLINICAL, care_plan::PARAMETERS, care_plan::search, "The plans of a child as CarePlans."),
            search!("Flag", CLINICAL_OR_AUTHORITY, flag::PARAMETERS, flag::search, "The child protection flags of a child; for an authority its own."),
            search!("Patient", CLINICAL_OR_AUTHORITY, patient::PARAMETERS, patient::search, "A child by NHS number; for an authority its own row."),
            search!("Organization", EVERYBODY, organization::PARAMETERS, organization::search, "Organisations: public facts."),
            search!("AuditEvent", AUDITED, audit_event::PARAMETERS, audit_event::search, "Clinical: the 25 most recent accesses of a child. Authority: the accesses listed for it. Auditor: the security audit."),
            search!("Subscription", AUTHORITY, subscription::PARAMETERS, subscription::search, "The authority's own subscriptions."),
        ];
        let others = [
            route!("GET", "/metadata", None, Operation, &[], metadata::PARAMETERS, Body::None, Handled::Open(metadata::metadata), "The CapabilityStatement of this server.").honours(&["If-None-Match"]),
            route!("POST", "", None, Batch, AUTHORITY, &[], Body::Resource("Bundle"), by!(bundle::upload), "An upload: a batch or transaction Bundle of an authority's records."),
            route!("GET", "/upload-status/{id}", None, Operation, AUTHORITY, &[], Body::None, by!(upload_status::read), "How an own upload stands that was answered 202; its answer once it has one."),
            route!("DELETE", "/upload-status/{id}", None, Operation, AUTHORITY, &[], Body::None, by!(upload_status::cancel), "Takes back an own upload that is not applied yet; of one that is, its answer is given no more."),
            route!("GET", "/$refused-records", None, Operation, AUTHORITY, refused_records::PARAMETERS, Body::None, by!(refused_records::list), "The authority's refused records that no later upload has loaded."),
            route!("GET", "/CareTeam/{id}", Some("CareTeam"), Read, CLINICAL, OF_ONE, Body::None, by!(care_team::read), "One plan's care team."),
            route!("GET", "/CarePlan/{id}", Some("CarePlan"), Read, CLINICAL, OF_ONE, Body::None, by!(care_plan::read), "One plan."),
            route!("GET", "/PatientFlag", None, SearchType, CLINICAL, patient_flag::PARAMETERS, Body::None, by!(patient_flag::search), "The Patient Flag API's call: Flag, CarePlan and CareTeam of each plan."),
            route!("POST", "/PatientFlag/_search", None, SearchType, CLINICAL, patient_flag::PARAMETERS, Body::Form, by!(patient_flag::search), "The Patient Flag API's call: Flag, CarePlan and CareTeam of each plan."),
            route!("GET", "/Flag/{id}", Some("Flag"), Read, CLINICAL_OR_AUTHORITY, OF_ONE, Body::None, by!(flag::read), "One plan's flag.").honours(&["If-None-Match", "If-Modified-Since"]),
            route!("POST", "/Flag", Some("Flag"), Create, AUTHORITY, &[], Body::Resource("Flag"), by!(flag::create), "Registers a plan, or corrects the one that is meant.").honours(&["If-None-Exist"]),
            route!("PUT", "/Flag/{id}", Some("Flag"), Update, AUTHORITY, &[], Body::Resource("Flag"), by!(flag::update), "Corrects an own plan."),
            route!("PUT", "/Flag", Some("Flag"), Update, AUTHORITY, flag::CRITERIA, Body::Resource("Flag"), by!(flag::update_by_criteria), "Corrects the own plan that the criteria find, or registers one."),
            route!("DELETE", "/Flag/{id}", Some("Flag"), Delete, AUTHORITY, &[], Body::None, by!(flag::delete), "Takes away an own plan that was registered in error."),
            route!("DELETE", "/Flag", Some("Flag"), Delete, AUTHORITY, flag::CRITERIA, Body::None, by!(flag::delete_by_criteria), "Takes away the one own plan that the criteria find."),
            route!("GET", "/Patient/{id}", Some("Patient"), Read, CLINICAL_OR_AUTHORITY, OF_ONE, Body::None, by!(patient::read), "A child by NHS number.").honours(&["If-None-Match", "If-Modified-Since"]),
            route!("PUT", "/Patient/{id}", Some("Patient"), Update, AUTHORITY, &[], Body::Resource("Patient"), by!(patient::update), "Replaces an authority's own data of a child.").may_create(),
            route!("PUT", "/Patient", Some("Patient"), Update, AUTHORITY, patient::CRITERIA, Body::Resource("Patient"), by!(patient::update_by_criteria), "Replaces an authority's own data of the child that the criteria name."),
            route!("GET", "/Patient/{id}/$everything", Some("Patient"), Operation, CLINICAL, &[], Body::None, by!(everything::get), "All that is held of a child: plans, authorities, accesses."),
            route!("POST", "/Patient/{id}/$everything", Some("Patient"), Operation, CLINICAL, &[], Body::Resource("Parameters"), by!(everything::post), "The same; for clients that keep numbers out of GET."),
            route!("POST", "/Patient/$match", Some("Patient"), Operation, CLINICAL, &[], Body::Resource("Parameters"), by!(patient_match::confirm), "Confirms that an NHS number and a birth date (and names, if sent) belong together: that number or nothing. It says nothing of any record, and is no access.").tracing(),
            route!("POST", "/Patient/{id}/$inactive", Some("Patient"), Operation, ADMINISTRATOR, &[], Body::Resource("Parameters"), by!(inactive::inactive), "Says that an NHS number is superseded, invalidated or retired; the answer is the same whatever is held.").told_only(),
            route!("GET", "/Organization/{id}", Some("Organization"), Read, EVERYBODY, OF_ONE, Body::None, by!(organization::read), "An organisation by ODS code.").honours(&["If-None-Match", "If-Modified-Since"]),
            route!("POST", "/Organization", Some("Organization"), Create, ADMINISTRATOR, &[], Body::Resource("Organization"), by!(organization::create), "Registers an organisation under its ODS code."),
            route!("PUT", "/Organization/{id}", Some("Organization"), Update, AUTHORITY_OR_ADMINISTRATOR, &[], Body::Resource("Organization"), by!(organization::update), "Replaces an authority's own name and phone numbers; for an administrator any organisation, or registers it.").may_create(),
            route!("GET", "/AuditEvent/{id}", Some("AuditEvent"), Read, &[Role::LocalAuthority, Role::Auditor], OF_ONE, Body::None, by!(audit_event::read), "One event: auditors any, an authority the accesses that its notifications name."),
            route!("GET", "/PractitionerRole/{id}", Some("PractitionerRole"), Read, &[Role::LocalAuthority, Role::Auditor], OF_ONE, Body::None, by!(practitioner_role::read), "Who made an access that the caller may see."),
            route!("POST", "/Subscription", Some("Subscription"), Create, AUTHORITY, &[], Body::Resource("Subscription"), by!(subscription::create), "Asks to be told of accesses, inactive numbers or ended records by a rest-hook."),
            route!("GET", "/Subscription/{id}", Some("Subscription"), Read, AUTHORITY, OF_ONE, Body::None, by!(subscription::read), "An own subscription.").honours(&["If-None-Match", "If-Modified-Since"]),
            route!("PUT", "/Subscription/{id}", Some("Subscription"), Update, AUTHORITY, &[], Body::Resource("Subscription"), by!(subscription::update), "Replaces an own subscription, or switches it off; a changed channel needs a new handshake. Headers are to be sent again."),
            route!("GET", "/Subscription/$status", Some("Subscription"), Operation, AUTHORITY, subscription::STATUS, Body::None, by!(subscription::own_statuses), "How the authority's subscriptions stand."),
            route!("POST", "/Subscription/$status", Some("Subscription"), Operation, AUTHORITY, &[], Body::Resource("Parameters"), by!(subscription::post_own_statuses), "The same; parameters in the body."),
            route!("GET", "/Subscription/{id}/$status", Some("Subscription"), Operation, AUTHORITY, &[], Body::None, by!(subscription::status), "How an own subscription stands."),
            route!("POST", "/Subscription/{id}/$status", Some("Subscription"), Operation, AUTHORITY, &[], Body::Resource("Parameters"), by!(subscription::post_status), "The same; Parameters without a parameter."),
            route!("GET", "/Subscription/{id}/$events", Some("Subscription"), Operation, AUTHORITY, subscription::EVENTS, Body::None, by!(subscription::events), "Events of an own subscription once more, delivered or not."),
            route!("POST", "/Subscription/{id}/$events", Some("Subscription"), Operation, AUTHORITY, &[], Body::Resource("Parameters"), by!(subscription::post_events), "The same; parameters in the body."),
            route!("DELETE", "/Subscription/{id}", Some("Subscription"), Delete, AUTHORITY, &[], Body::None, by!(subscription::delete), "Ends an own subscription."),
        ];
        let histories = [
            history!("Flag", AUTHORITY, "One version of an own plan's flag, with the status of its own day.", "The versions of an own plan's flag, newest first; also of a deleted one.", "The versions of all own flags in the order of recording, newest first."),
            history!("Patient", AUTHORITY, "One version of an authority's own data of a child.", "The versions of an authority's own data of a child, newest first.", "The versions of an authority's own data of all children in the order of recording, newest first."),
            history!("Organization", EVERYBODY, "One version of an organisation.", "The versions of an organisation, newest first.", "The versions of all organisations in the order of recording, newest first.")
                .map(|route| if route.interaction == Interaction::Vread { route.honours(&["If-None-Match", "If-Modified-Since"]) } else { route }),
        ];
        let published = [
            published!("CodeSystem", definitions::CODE_SYSTEM),
            published!("ValueSet", definitions::VALUE_SET),
            published!("StructureDefinition", definitions::STRUCTURE_DEFINITION),
            published!("SearchParameter", definitions::SEARCH_PARAMETER),
            published!("OperationDefinition", definitions::OPERATION_DEFINITION),
        ];
        let validated = [
            validated!("AuditEvent", ""),
            validated!("Bundle", ""),
            validated!("CarePlan", ""),
            validated!("CareTeam", ""),
            validated!("CodeSystem", ""),
            validated!("Flag", ""),
            validated!("Flag", "/{id}"),
            validated!("OperationDefinition", ""),
            validated!("OperationOutcome", ""),
            validated!("Organization", ""),
            validated!("Organization", "/{id}"),
            validated!("Parameters", ""),
            validated!("Patient", ""),
            validated!("Patient", "/{id}"),
            validated!("PractitionerRole", ""),
            validated!("Provenance", ""),
            validated!("SearchParameter", ""),
            validated!("StructureDefinition", ""),
            validated!("Subscription", ""),
            validated!("Subscription", "/{id}"),
            validated!("ValueSet", ""),
        ];
        let rows = searches.into_iter().flatten().chain(others).chain(histories.into_iter().flatten());
        Self(rows.chain(published.into_iter().flatten()).chain(validated).collect())
    }
}

impl Routes {
    pub fn all(&self) -> &[Route] {
        &self.0
    }

    /// What a server promises.
    pub fn offered(mode: PdsMode) -> Self {
        let mut routes = Self::default();
        routes.0.retain(|route| !route.traces || mode != PdsMode::Off);
        routes
    }

    /// The row for a request; `None` when there is no such path or method.
    pub fn find(&self, base: &str, request: &HttpRequest) -> Option<&Route> {
        // HEAD is a GET of which the server leaves the body out: as much is disclosed, and audited.
        let method = if request.method() == Method::HEAD { &Method::GET } else { request.method() };
        self.on_path(base, request.path()).find(|route| route.method == method.as_str())
    }

    fn on_path<'a>(&'a self, base: &str, path: &str) -> impl Iterator<Item = &'a Route> {
        let below = path.strip_prefix(base).map(|below| below.strip_suffix('/').unwrap_or(below).to_owned());
        self.0.iter().filter(move |route| below.as_deref().is_some_and(|below| route.fits(below)))
    }

    /// Whether something on the path of a request is for everybody.
    pub fn is_open_at(&self, base: &str, request: &HttpRequest) -> bool {
        self.on_path(base, request.path()).any(Route::is_open)
    }

    /// Whether a resource type takes an interaction from anybody.
    pub fn offers(&self, resource: &str, interaction: Interaction) -> bool {
        self.0.iter().any(|route| route.resource == Some(resource) && route.interaction == interaction)
    }

    /// 405 with `Allow` when the path is known, else 404.
    pub fn refuse_unknown(&self, base: &str, request: &HttpRequest) -> Refusal {
        let mut allowed: Vec<&str> = Vec::new();
        for route in self.on_path(base, request.path()) {
            allowed.extend(if route.method == "GET" {
                &["GET", "HEAD"][..]
            } else {
                std::slice::from_ref(&route.method)
            });
        }
        if allowed.is_empty() {
            return Refusal::new(Case::NotFound, "There is no such path here. GET metadata lists what there is.");
        }
        Refusal::method(&allowed.join(", "))
    }
}

impl Route {
    const fn honours(self, honours: &'static [&'static str]) -> Self {
        Self { honours, ..self }
    }

    /// An update that may create.
    const fn may_create(self) -> Self {
        Self { creates: true, ..self }
    }

    /// An operation that takes what it is told.
    const fn told_only(self) -> Self {
        Self { tells_only: true, ..self }
    }

    /// An operation that asks demographics.
    const fn tracing(self) -> Self {
        Self { traces: true, ..self }
    }

    fn fits(&self, below: &str) -> bool {
        let (mut pattern, mut path) = (self.path.split('/'), below.split('/'));
        loop {
            match (pattern.next(), path.next()) {
                (None, None) => return true,
                (Some("{id}" | "{vid}"), Some(id)) if !id.is_empty() && !id.starts_with(['_', '$']) => {}
                (Some(one), Some(other)) if one == other => {}
                // Some clients encode the dollar sign of an operation.
                (Some(one), Some(other)) if one.starts_with('$') && other.strip_prefix("%24") == one.get(1..) => {}
                _ => return false,
            }
        }
    }

    /// The `{id}` of a path, decoded; empty when the path has none or it is no FHIR id.
    pub fn id_of(&self, base: &str, path: &str) -> String {
        self.segment_of("{id}", base, path)
    }

    /// The `{vid}` of a path, as [`Route::id_of`].
    pub fn vid_of(&self, base: &str, path: &str) -> String {
        self.segment_of("{vid}", base, path)
    }

    fn segment_of(&self, name: &str, base: &str, path: &str) -> String {
        let below = path.strip_prefix(base).unwrap_or_default();
        let id = self.path.split('/').zip(below.split('/')).find(|(pattern, _)| *pattern == name).map(|(_, id)| id);
        let id = percent_decode_str(id.unwrap_or_default()).decode_utf8().unwrap_or_default();
        let fits = id.len() <= 64 && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'.');
        if fits { id.into_owned() } else { String::new() }
    }

    pub fn is_open(&self) -> bool {
        matches!(self.handled, Handled::Open(_))
    }

    /// # Errors
    /// What the handler refuses.
    pub fn open(&self, call: &OpenCall<'_>) -> Result<Answer, Refusal> {
        match self.handled {
            Handled::Open(handler) => handler(call),
            Handled::By(_) => Err(Refusal::not_found()),
        }
    }

    /// # Errors
    /// What the handler refuses.
    pub async fn handle(&self, call: Call) -> Result<Answer, Refusal> {
        match self.handled {
            Handled::By(handler) => handler(call).await,
            Handled::Open(_) => Err(Refusal::not_found()),
        }
    }

    /// # Errors
    /// [`Refusal`] 403 for a role that the row does not name.
    pub fn permit(&self, caller: &Caller) -> Result<(), Refusal> {
        if self.callers.contains(&caller.role) {
            return Ok(());
        }
        Err(Refusal::new(
            Case::Forbidden,
            format!(
                "Access has been denied to process this request: it is not for clients of the role {}.",
                caller.role.code()
            ),
        ))
    }

    /// Whether it tells how an upload stands, or takes one back.
    pub fn is_upload_status(&self) -> bool {
        self.path.starts_with("/upload-status")
    }

    /// Whether it takes an upload of many records, which may be larger than any other body.
    pub fn is_upload(&self) -> bool {
        self.method == "POST" && self.path.is_empty()
    }

    pub fn is_form(&self) -> bool {
        self.body == Body::Form
    }

    /// Media types of the body.
    pub fn content_types(&self) -> &'static [&'static str] {
        match self.body {
            Body::Form => &["application/x-www-form-urlencoded"],
            Body::Resource(_) | Body::None => &["application/fhir+json", "application/json"],
        }
    }
}
