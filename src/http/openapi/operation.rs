//! One row of the table as an operation, and the names that follow from a row.

use utoipa::openapi::{
    ContentBuilder, ObjectBuilder, Ref, Required, SecurityRequirement,
    extensions::ExtensionsBuilder,
    path::{Operation, OperationBuilder},
    request_body::{RequestBody, RequestBodyBuilder},
    schema::Schema,
};

use super::{
    examples::Examples,
    parameters,
    responses::{self, FHIR_JSON},
    schemas::{RESOURCE, Schemas},
};
use crate::{
    cpis::types::audit::Interaction,
    http::routes::{Body, Route, Routes},
};

pub const BEARER: &str = "bearer";
const SYSTEM: &str = "System";

/// What the tags mean; resource types without a word here are said to be what they are.
const TAGS: &[(&str, &str)] = &[
    (SYSTEM, "The server as a whole: what it can do, and uploads of many records."),
    (
        "CareTeam",
        "A plan as the national CP-IS call shows it: the responsible authority and whom to phone. For clinicians.",
    ),
    ("CarePlan", "A plan with its kind and dates. For clinicians."),
    ("Flag", "A plan as a flag on the child: what authorities register and clinicians see."),
    ("Patient", "A child (or the mother of an unborn child) by NHS number."),
    (
        "PatientFlag",
        "The shape of the national Patient Flag API. `PatientFlag` is no FHIR resource type: the answers are Bundles of Flag, CarePlan and CareTeam.",
    ),
    ("Organization", "Local authorities and care providers: public facts."),
    (
        "AuditEvent",
        "Who looked, when and from where: the access history for clinicians and authorities, the security audit for auditors.",
    ),
    ("PractitionerRole", "Who made an access, as it was then."),
    ("Subscription", "How an authority is told of accesses."),
    ("CodeSystem", "Codes that this gateway defines, or takes from elsewhere and shows. Open."),
    ("ValueSet", "Which codes an element may have. Open."),
    ("StructureDefinition", "What CP-IS asks of a resource beyond R4, and what the gateway shows. Open."),
    ("SearchParameter", "Search parameters that R4 lacks. Open."),
    ("OperationDefinition", "The operations, as FHIR describes them. Open."),
];

/// Tags in the order of the table above, then the others in the order of the routes.
pub fn tags(routes: &Routes) -> Vec<(String, String)> {
    let used: Vec<String> = routes.all().iter().map(tag).collect();
    let known = TAGS.iter().filter(|(name, _)| used.iter().any(|used| used == name));
    let mut tags: Vec<(String, String)> =
        known.map(|(name, about)| ((*name).to_owned(), (*about).to_owned())).collect();
    for name in used {
        if !tags.iter().any(|(known, _)| *known == name) {
            let about = format!("What may be done with a resource of type {name}.");
            tags.push((name, about));
        }
    }
    tags
}

fn first_segment(route: &Route) -> &'static str {
    route.path.trim_start_matches(['/', '$']).split('/').next().unwrap_or_default()
}

fn tag(route: &Route) -> String {
    let first = first_segment(route);
    let of_a_type = first.starts_with(char::is_uppercase);
    if of_a_type { first.to_owned() } else { SYSTEM.to_owned() }
}

/// What the route does, in one word: that of its operation, else of its interaction.
fn verb(route: &Route) -> &'static str {
    match route.interaction {
        Interaction::Operation if route.method == "DELETE" => "cancel-upload",
        Interaction::Operation => route.path.rsplit(['/', '$']).find(|part| !part.starts_with('{')).unwrap_or_default(),
        Interaction::SearchType => "search",
        Interaction::Batch | Interaction::Transaction => "upload",
        other => other.code().split('-').next().unwrap_or_default(),
    }
}

/// Names the examples of a route; those that do the same share them, such as a search by GET and by POST.
pub fn key(route: &Route) -> String {
    match first_segment(route) {
        "" => format!("{}-Bundle", verb(route)),
        system if system.starts_with(char::is_lowercase) => verb(route).to_owned(),
        of => format!("{}-{of}", verb(route)),
    }
}

/// A name that generators make functions of, such as `searchCareTeamByPost`.
fn id(route: &Route, routes: &Routes) -> String {
    let by_id = |route: &Route| route.path.contains("{id}");
    let same = |other: &&Route| key(other) == key(route) && other.interaction == route.interaction;
    let is_also_of_type = routes.all().iter().filter(same).any(|other| !by_id(other));
    let is_also_by_get = routes.all().iter().filter(same).any(|other| other.method == "GET");
    let place = match route.interaction {
        Interaction::Operation if by_id(route) && is_also_of_type => "ById",
        Interaction::Update | Interaction::Delete if !by_id(route) => "Conditionally",
        Interaction::HistoryType => "OfType",
        _ => "",
    };
    let method = if route.method == "POST" && is_also_by_get { "ByPost" } else { "" };
    format!("{}{place}{method}", key(route).replace('-', ""))
}

pub fn of(route: &Route, routes: &Routes, schemas: &Schemas, examples: &Examples) -> Operation {
    let mut operation = OperationBuilder::new()
        .tag(tag(route))
        .summary(Some(route.about))
        .operation_id(Some(id(route, routes)))
        .responses(responses::of(route, routes, schemas, examples))
        .request_body(body(route, schemas, examples));
    if !route.is_open() {
        let roles: Vec<&str> = route.callers.iter().map(|role| role.code()).collect();
        operation = operation
            .description(Some(format!("For: {}.", roles.join(", "))))
            .extensions(Some(ExtensionsBuilder::new().add("x-callers", roles).build()))
            .security(SecurityRequirement::new::<_, _, String>(BEARER, []));
    }
    let mut operation = operation.build();
    operation.parameters = Some(parameters::of(route));
    operation
}

fn body(route: &Route, schemas: &Schemas, examples: &Examples) -> Option<RequestBody> {
    match route.body {
        Body::None => None,
        Body::Resource(resource) => {
            // What is to be judged need not be valid.
            let judged = responses::is_validation(route);
            let schema = if judged { RESOURCE } else { schemas.name(resource) };
            let about = if judged { format!("A {resource}, valid or not.") } else { format!("A {resource}.") };
            let content = ContentBuilder::new().schema(Some(Ref::from_schema_name(schema)));
            let body = RequestBodyBuilder::new().description(Some(about));
            Some(body.content(FHIR_JSON, examples.request(&key(route), content)).required(Some(Required::True)).build())
        }
        Body::Form => {
            let form = parameters::searched(route).fold(ObjectBuilder::new(), |form, known| {
                let (name, schema) = known.into_member();
                form.property(name, schema)
            });
            let content = ContentBuilder::new().schema(Some(Schema::from(form)));
            let content = content.example(Some(parameters::form_example(route)));
            let body = RequestBodyBuilder::new().description(Some("The parameters as a form."));
            Some(body.content("application/x-www-form-urlencoded", content.build()).build())
        }
    }
}
