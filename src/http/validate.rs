//! `$validate`: judges a resource as an upload would, without looking anything up and without storing it. What was found
//! is the answer (200); a refusal (400) means that there was nothing to judge.

use serde_json::Value;
use uuid::Uuid;

use super::{
    answer::Answer,
    dispatch::Call,
    query::bad_value,
    refusal::{Case, Refusal},
    routes::Routes,
    search::Parameter,
    subscription,
};
use crate::{
    cpis::types::{
        NhsNumber, Precondition,
        audit::Interaction,
        caller::Role,
        upload::{OrganizationChange, RecordChange, RecordCode},
    },
    fhir::{
        json,
        outcome::{Issue, IssueCode, SpineCode, nothing_wrong, operation_outcome},
        system,
        upload::{FlagRequest, Reading, problem_issue, read_bundle, read_flag, read_organization, read_patient},
        validate::Profile,
    },
};

pub const PARAMETERS: &[Parameter] = &[
    Parameter::special("mode", "create or update: also whether this server takes that; profile: as without"),
    Parameter::special(
        "profile",
        "http://hl7.org/fhir/StructureDefinition/{type}: R4 alone; or the profile of this server for what is sent",
    ),
];

/// `http://hl7.org/fhir/resource-validation-mode`, without `delete`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    General,
    Create,
    Update,
}

/// What is to be judged, and by what.
struct Asked {
    resource: Value,
    resource_type: &'static str,
    mode: Mode,
    profile: Profile,
    /// Of the path; of the resource itself when an update is meant.
    id: Option<String>,
}

/// # Errors
/// [`Refusal`] 400 when there is nothing to judge, or not by what was asked for; 404 for an impossible id; 503.
pub async fn validate(call: Call) -> Result<Answer, Refusal> {
    let asked = asked(&call)?;
    let issues = asked.issues(&call);
    let mut event = call.event();
    // Of the child only what the path says; what the body says was judged, and is kept nowhere.
    event.patient = NhsNumber::parse(&call.id).ok();
    call.service.gateway.audit(event).await?;
    let outcome = if issues.is_empty() { nothing_wrong("No problems were found.") } else { operation_outcome(&issues) };
    Ok(Answer::ok(outcome))
}

/// The resource, mode and profile: in the query and the body, or in a Parameters resource.
fn asked(call: &Call) -> Result<Asked, Refusal> {
    let resource_type = call.resource;
    let in_path = id_in_path(call)?;
    let values = if resource_type == "Bundle" { json::BUNDLE_VALUES } else { json::RESOURCE_VALUES };
    let body = json::parse(&call.body, values).map_err(|fault| Refusal::of_body(vec![fault.issue()]))?;
    let mut mode = call.query.single("mode")?.map(str::to_owned);
    let mut profile = call.query.single("profile")?.map(str::to_owned);
    let resource =
        if is_wrapped(&body, resource_type) { unwrapped(call, body, &mut mode, &mut profile)? } else { body };
    if resource.get("resourceType").and_then(Value::as_str) != Some(resource_type) {
        let text = format!("The resource must be of the type that the path says: {resource_type}.");
        let issue = Issue::error(IssueCode::Value, SpineCode::InvalidValue, text).at("Resource.resourceType");
        return Err(Refusal::of_body(vec![issue]));
    }
    let mode = match mode.as_deref() {
        None | Some("profile") => Mode::General,
        Some("create") if in_path.is_none() => Mode::Create,
        Some("create") => return Err(bad_value("mode", "create is for a resource without an id in the path")),
        Some("update") => Mode::Update,
        Some("delete") => {
            let text = "Whether a resource may be deleted depends on what is stored, and nothing is looked up here.";
            return Err(Refusal::new(Case::Parameter, text));
        }
        Some(_) => return Err(bad_value("mode", "must be create, update or profile")),
    };
    let mode = if in_path.is_some() { Mode::Update } else { mode };
    let profile = wanted_profile(call, resource_type, profile.as_deref())?;
    let id = in_path.or_else(|| text(&resource, "id").map(str::to_owned));
    Ok(Asked { resource, resource_type, mode, profile, id })
}

/// The id of `{type}/{id}/$validate`.
fn id_in_path(call: &Call) -> Result<Option<String>, Refusal> {
    let path = call.path_and_query.split('?').next().unwrap_or_default();
    let below = path.strip_prefix(&call.service.settings.base_path).unwrap_or(path);
    match (below.trim_matches('/').split('/').count(), call.id.is_empty()) {
        (2, _) => Ok(None),
        (_, false) => Ok(Some(call.id.clone())),
        (_, true) => Err(Refusal::not_found()),
    }
}

fn text<'a>(value: &'a Value, element: &str) -> Option<&'a str> {
    value.get(element).and_then(Value::as_str)
}

fn parameters(body: &Value) -> &[Value] {
    body.get("parameter").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

/// Parameters hold the resource; for those that are to be judged themselves, only if they say so.
fn is_wrapped(body: &Value, resource_type: &str) -> bool {
    let holds = || parameters(body).iter().any(|one| text(one, "name") == Some("resource"));
    text(body, "resourceType") == Some("Parameters") && (resource_type != "Parameters" || holds())
}

/// The resource out of Parameters, which may also say mode and profile.
fn unwrapped(
    call: &Call,
    mut body: Value,
    mode: &mut Option<String>,
    profile: &mut Option<String>,
) -> Result<Value, Refusal> {
    let issues = call.service.validators.validate_envelope(&body);
    if !issues.is_empty() {
        return Err(Refusal::of_body(issues));
    }
    let at = |index: usize| format!("Parameters.parameter[{index}]");
    let refuse = |index: usize, words: &str| Err(Refusal::new(Case::Parameter, words).at(&at(index)));
    let mut resource = None;
    for (index, one) in parameters(&body).iter().enumerate() {
        match text(one, "name").unwrap_or_default() {
            "resource" if resource.is_none() && one.get("resource").is_some() => resource = Some(index),
            "mode" if mode.is_none() && one.get("valueCode").is_some() => {
                *mode = text(one, "valueCode").map(str::to_owned);
            }
            "profile" if profile.is_none() => {
                let value = text(one, "valueUri").or_else(|| text(one, "valueCanonical"));
                *profile = value.map(str::to_owned);
                if profile.is_none() {
                    return refuse(index, "Give the profile as valueUri or valueCanonical.");
                }
            }
            "resource" | "mode" | "profile" => {
                return refuse(index, "Give resource (a resource), mode (valueCode) and profile once each.");
            }
            _ => return refuse(index, "The parameters are resource, mode and profile."),
        }
    }
    let held = resource.and_then(|index| body.pointer_mut(&format!("/parameter/{index}/resource")));
    held.map(Value::take).ok_or_else(|| {
        Refusal::new(Case::Body, "Give what is to be judged in the parameter named resource.")
            .at("Parameters.parameter")
    })
}

/// By what to judge: without a profile, R4 and what CP-IS asks of the type.
fn wanted_profile(call: &Call, resource_type: &str, profile: Option<&str>) -> Result<Profile, Refusal> {
    let Some(profile) = profile else { return Ok(Profile::Cpis) };
    let published = &call.service.published;
    if profile.split('|').next() == Some(format!("http://hl7.org/fhir/StructureDefinition/{resource_type}").as_str())
        && matches!(profile.split_once('|'), None | Some((_, "4.0.1")))
    {
        return Ok(Profile::Base);
    }
    if published.judged_profile(resource_type) == Some(profile) {
        return Ok(Profile::Cpis);
    }
    let own = published.judged_profile(resource_type).map(|own| format!(" or {own}")).unwrap_or_default();
    Err(Refusal::new(
        Case::Parameter,
        format!("A {resource_type} can be judged by http://hl7.org/fhir/StructureDefinition/{resource_type}{own}."),
    ))
}

impl Asked {
    /// Everything that is wrong.
    fn issues(&self, call: &Call) -> Vec<Issue> {
        let mut issues = match self.profile {
            Profile::Base => call.service.validators.validate(&self.resource, Profile::Base),
            Profile::Cpis => self.issues_of_cpis(call),
        };
        issues.extend(self.not_offered());
        let at_id = format!("{}.id", self.resource_type);
        let same_id = text(&self.resource, "id").is_some_and(|id| Some(id) == self.id.as_deref());
        if self.mode == Mode::Update && !same_id && !issues.iter().any(|issue| issue.expression.contains(&at_id)) {
            let words = "An update needs the id in the body too, the same as in the URL.";
            issues.push(Issue::error(IssueCode::Invariant, SpineCode::InvalidValue, words).at(at_id));
        }
        issues
    }

    /// What is said of a mode that this server has no such interaction for.
    fn not_offered(&self) -> Option<Issue> {
        let (interaction, words) = match self.mode {
            Mode::General => return None,
            Mode::Create => (Interaction::Create, "This server takes no create of this type."),
            Mode::Update => (Interaction::Update, "This server takes no update of this type."),
        };
        let offered = Routes::default().offers(self.resource_type, interaction);
        let issue = Issue::error(IssueCode::NotSupported, SpineCode::UnsupportedService, words);
        (!offered).then(|| issue.at(self.resource_type))
    }

    fn issues_of_cpis(&self, call: &Call) -> Vec<Issue> {
        let service = &call.service;
        let authority = call.caller.role == Role::LocalAuthority;
        let reading = Reading {
            sender: authority.then_some(&call.caller.organization.ods),
            zone: service.gateway.calendar.zone(),
            validators: service.validators,
            max_entries: service.settings.max_entries,
        };
        let alone = |record: RecordChange| -> Vec<Issue> {
            let problems = service.gateway.judge_alone(&record);
            problems.iter().map(|problem| problem_issue(problem, self.resource_type)).collect()
        };
        match self.resource_type {
            "Flag" => match read_flag(&self.resource, &self.flag_request(), &reading) {
                Ok((nhs_number, plan)) => alone(RecordChange { nhs_number, child: None, plans: vec![plan] }),
                Err(issues) => issues,
            },
            "Patient" => self.of_patient(&reading),
            "Organization" => self.of_organization(&reading),
            "Subscription" => {
                subscription::judged(service, self.resource.clone(), self.updated()).err().unwrap_or_default()
            }
            "Bundle" if matches!(text(&self.resource, "type"), Some("batch" | "transaction")) => {
                self.of_upload(call, &reading)
            }
            // Nothing that an authority sends, so R4 is all there is to say: of a search result's entries too.
            _ => service.validators.validate(&self.resource, Profile::Base),
        }
    }

    /// The id of what an update is for.
    fn updated(&self) -> Option<Uuid> {
        let id = self.id.as_deref().filter(|_| self.mode == Mode::Update);
        id.and_then(|id| Uuid::parse_str(id).ok())
    }

    fn flag_request(&self) -> FlagRequest {
        match self.updated() {
            Some(id) => FlagRequest::Update { id, precondition: Precondition::None },
            None => FlagRequest::Create { if_none_exist: None },
        }
    }

    /// What the identifier of a system says.
    fn identified(&self, system: &str) -> Option<&str> {
        let identifiers = self.resource.get("identifier").and_then(Value::as_array)?;
        identifiers.iter().find(|one| text(one, "system") == Some(system)).and_then(|one| text(one, "value"))
    }

    /// With the id that the resource is put to: one that is only to be judged may leave it out.
    fn with_id(&self, id: &str) -> Value {
        let mut resource = self.resource.clone();
        if self.mode == Mode::General
            && let Some(members) = resource.as_object_mut()
        {
            members.entry("id").or_insert_with(|| Value::String(id.to_owned()));
        }
        resource
    }

    fn of_patient(&self, reading: &Reading<'_>) -> Vec<Issue> {
        let id = self.id.as_deref().or_else(|| self.identified(system::NHS_NUMBER)).unwrap_or_default();
        match NhsNumber::parse(id) {
            Ok(number) => {
                read_patient(&self.with_id(id), number, Precondition::None, reading).err().unwrap_or_default()
            }
            Err(_) => {
                let mut issues = reading.validators.validate(&self.resource, Profile::Cpis);
                if issues.is_empty() {
                    let words = "The id of a Patient is its NHS number: ten digits with a right check digit.";
                    let issue = Issue::error(IssueCode::BusinessRule, SpineCode::InvalidValue, words);
                    issues.push(issue.with_record_code(RecordCode::Cpr04).at("Patient.id"));
                }
                issues
            }
        }
    }

    fn of_organization(&self, reading: &Reading<'_>) -> Vec<Issue> {
        let id = self.id.as_deref().or_else(|| self.identified(system::ODS_CODE));
        let read = |id: &str| -> Result<OrganizationChange, Vec<Issue>> {
            read_organization(&self.with_id(id), id, Precondition::None, reading)
        };
        match (id, reading.sender) {
            (Some(id), Some(_)) => read(id).err().unwrap_or_default(),
            // Nobody else sends one: the profile is all there is.
            _ => reading.validators.validate(&self.resource, Profile::Cpis),
        }
    }

    /// The issues of an upload, in the order of its entries.
    fn of_upload(&self, call: &Call, reading: &Reading<'_>) -> Vec<Issue> {
        let bundle = match read_bundle(&self.resource, reading) {
            Ok(bundle) => bundle,
            Err(issues) => return issues,
        };
        let mut told = bundle.issues();
        for record in bundle.records.iter().filter_map(|record| record.content.as_ref().ok()) {
            told.extend(bundle.frame().problems(&call.service.gateway.judge_alone(record)));
        }
        told.sort_by_key(|one| one.entry);
        told.into_iter().map(|one| one.issue).collect()
    }
}
