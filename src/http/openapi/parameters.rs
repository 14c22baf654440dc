//! What a request may carry beside its body: ids in the path, parameters of a search, headers.

use serde_json::{Map, Value, json};
use utoipa::openapi::{
    Object, ObjectBuilder, Ref, RefOr, Required, Schema, SchemaFormat, Type,
    path::{Parameter, ParameterBuilder, ParameterIn},
    schema::ComponentsBuilder,
};

use crate::{
    cpis::types::{audit::Interaction, caller::Role},
    http::{
        query,
        routes::{Body, Route},
        search,
    },
};

/// A child of the sandbox with a plan of its first authority.
const NHS_NUMBER: &str = "9990010005";
const UUID: &str = "6f1d2c3b-0000-4000-8000-000000000001";

fn text() -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::String)
}

fn pattern(pattern: &str) -> Object {
    text().pattern(Some(pattern)).build()
}

fn uuid() -> Object {
    text().format(Some(SchemaFormat::Custom("uuid".to_owned()))).build()
}

/// Everything of a route's request but its body.
pub fn of(route: &Route) -> Vec<RefOr<Parameter>> {
    let in_path = route.path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
    let mut parameters: Vec<RefOr<Parameter>> = in_path.map(|name| RefOr::T(in_path_of(route, name))).collect();
    if route.body != Body::Form {
        parameters.extend(searched(route).map(|known| RefOr::T(known.into_parameter())));
    }
    parameters.extend(HEADERS.iter().filter(|header| (header.sent_to)(route)).map(|header| reference(header.name)));
    parameters
}

fn in_path_of(route: &Route, name: &str) -> Parameter {
    let (about, schema, example) = match (name, route.resource.unwrap_or_default()) {
        ("id", "Patient") => ("NHS number: ten digits with a right check digit", pattern("^[0-9]{10}$"), NHS_NUMBER),
        ("id", "Organization") => ("ODS code", pattern("^[A-Z0-9]{3,10}$"), "Z9A"),
        ("id", "AuditEvent") => (
            "Id of a security event (month and number) or of an access (a UUID)",
            pattern(r"^[A-Za-z0-9\-.]{1,64}$"),
            "202611-1",
        ),
        ("id", "Flag" | "CarePlan" | "CareTeam" | "PractitionerRole" | "Subscription") => {
            ("Id as this server gave it, in small letters", uuid(), UUID)
        }
        ("id", "") => ("Id of the upload, from Content-Location", uuid(), UUID),
        ("id", resource) => {
            let published = match resource {
                "CodeSystem" => "cpis-upload-record-response",
                "ValueSet" => "cpis-plan-type",
                "SearchParameter" => "Flag-status",
                "OperationDefinition" => "cpis-validate",
                _ => "cpis-flag",
            };
            ("Id, from a search", pattern(r"^[A-Za-z0-9\-.]{1,64}$"), published)
        }
        _ => ("Version, from an ETag or a history", pattern("^[0-9]{1,18}$"), "1"),
    };
    let parameter = ParameterBuilder::new().name(name).parameter_in(ParameterIn::Path).required(Required::True);
    parameter.description(Some(about)).schema(Some(Schema::from(schema))).example(Some(json!(example))).build()
}

/// A parameter of a search as it stands in the document.
pub struct Searched {
    pub name: String,
    about: String,
    /// Values of a search have a grammar of their own (prefixes, commas, systems), which a schema can't say: only what is
    /// one of a few words is described as that.
    schema: Object,
}

impl Searched {
    fn of(known: &search::Parameter) -> Self {
        let about = if known.modifiers.is_empty() {
            known.about.to_owned()
        } else {
            format!("{}. Also with {}", known.about, known.modifiers.join(", "))
        };
        let schema = match known.name {
            "_pretty" => text().enum_values(Some(["true", "false"])).build(),
            "_count" => pattern("^[0-9]{1,9}$"),
            _ if !known.selects() && !known.values.is_empty() => {
                text().enum_values(Some(known.values.iter().copied())).build()
            }
            _ => text().build(),
        };
        Self { name: known.name.to_owned(), about, schema }
    }

    /// As a member of a form.
    pub fn into_member(self) -> (String, Schema) {
        let mut schema = self.schema;
        schema.description = Some(self.about);
        (self.name, Schema::from(schema))
    }

    fn into_parameter(self) -> Parameter {
        // A page fills examples in: there are some only of what one search may carry together.
        let example = example_of(&self.name);
        let parameter = ParameterBuilder::new().name(self.name).parameter_in(ParameterIn::Query);
        let parameter = parameter.required(Required::False).description(Some(self.about)).example(example);
        parameter.schema(Some(Schema::from(self.schema))).build()
    }
}

/// The parameters of a search. The patient stands there in two spellings: by value and as the national API has it.
pub fn searched(route: &Route) -> impl Iterator<Item = Searched> {
    route.parameters.iter().chain(query::FORMAT).flat_map(|known| {
        let national = (known.name == "patient" && known.modifiers.contains(&":identifier")).then(|| Searched {
            name: "patient:identifier".to_owned(),
            about: "The same, as the national API spells it".to_owned(),
            schema: text().build(),
        });
        [Searched::of(known)].into_iter().chain(national)
    })
}

fn example_of(name: &str) -> Option<Value> {
    Some(match name {
        "patient:identifier" => json!(format!("https://fhir.nhs.uk/Id/nhs-number|{NHS_NUMBER}")),
        "_format" => json!("application/fhir+json"),
        "_pretty" => json!("true"),
        _ => return None,
    })
}

/// A form as one would send it: the patient, where there is one.
pub fn form_example(route: &Route) -> Value {
    let sent = searched(route).filter(|known| known.name == "patient:identifier");
    sent.filter_map(|known| Some((known.name.clone(), example_of(&known.name)?))).collect::<Map<_, _>>().into()
}

/// A header of requests.
struct Header {
    name: &'static str,
    about: &'static str,
    schema: fn() -> Object,
    /// Filled in by the page; none for a condition, which would fail as often as not.
    example: Option<&'static str>,
    sent_to: fn(&Route) -> bool,
}

const HEADERS: &[Header] = &[
    Header {
        name: "X-Request-ID",
        about: "Id of this request: mirrored, and written in the audit. Made here if it is absent.",
        schema: uuid,
        example: Some("0f7b0f6e-3a51-4a2e-9a54-9e3c5a1d2b10"),
        sent_to: |_| true,
    },
    Header {
        name: "TraceID",
        about: "The national API's name of the request's id; it may not hold an NHS number.",
        schema: || pattern("^[A-Za-z0-9._-]{1,64}$"),
        example: Some("ed-17-0001"),
        sent_to: |_| true,
    },
    Header {
        name: "X-Correlation-ID",
        about: "An id of yours that several requests share: mirrored. It may not hold an NHS number.",
        schema: || pattern("^[A-Za-z0-9._-]{1,64}$"),
        example: Some("visit-20261123-17"),
        sent_to: |_| true,
    },
    Header {
        name: "IsUnscheduledAccessEvent",
        about: "For clinicians. `true`, or absent: unscheduled care. `false`: scheduled care, refused unless silent reads \
                are configured. On `/PatientFlag` it is taken from the organisation if it is absent.",
        schema: || text().enum_values(Some(["true", "false"])).build(),
        example: Some("true"),
        sent_to: |route| route.callers.contains(&Role::Clinical) && route.callers.len() < Role::ALL.len(),
    },
    Header {
        name: "If-Match",
        about: "The version that must be current, such as `W/\"1\"`, or `*` for any; honoured if it is sent, never required. Otherwise 412.",
        schema: || text().build(),
        example: None,
        sent_to: |route| matches!(route.interaction, Interaction::Update | Interaction::Delete),
    },
    Header {
        name: "If-None-Match",
        about: "Of a read: versions that you have, such as `W/\"1\"`, 304 if one is current; not for clinicians, but of an Organization. Of a \
                change: `*`, if there may be nothing yet.",
        schema: || text().build(),
        example: None,
        sent_to: |route| route.honours.contains(&"If-None-Match") || route.interaction == Interaction::Update,
    },
    Header {
        name: "If-Modified-Since",
        about: "As If-None-Match of a read, by date, such as `Mon, 23 Nov 2026 12:00:00 GMT`; it counts only without that header.",
        schema: || text().build(),
        example: None,
        sent_to: |route| route.honours.contains(&"If-Modified-Since"),
    },
    Header {
        name: "If-None-Exist",
        about: "Create only if this search finds nothing, such as \
                `patient=9990010005&identifier=urn:oid:2.16.840.1.113883.2.1.3.2.4.18.24|CPP-1047`.",
        schema: || text().build(),
        example: None,
        sent_to: |route| route.honours.contains(&"If-None-Exist"),
    },
    Header {
        name: "Prefer",
        about: "Of a change: `return=minimal`, `return=representation` (without the header) or `return=OperationOutcome`. \
                Of a search, not for clinicians: `handling=lenient` ignores unknown parameters and says so.",
        schema: || text().build(),
        example: None,
        sent_to: |route| {
            let changed = matches!(route.interaction, Interaction::Create | Interaction::Update | Interaction::Batch);
            changed
                || (route.interaction == Interaction::SearchType
                    && route.callers.iter().any(|role| *role != Role::Clinical))
        },
    },
];

/// Adds the headers, which many operations share.
pub fn shared(components: ComponentsBuilder) -> ComponentsBuilder {
    HEADERS.iter().fold(components, |components, header| {
        let parameter = ParameterBuilder::new()
            .name(header.name)
            .parameter_in(ParameterIn::Header)
            .required(Required::False)
            .description(Some(header.about))
            .schema(Some(Schema::from((header.schema)())));
        let parameter = parameter.example(header.example.map(|example| json!(example)));
        components.parameter(header.name, parameter.build())
    })
}

/// A header that every address takes.
pub fn reference(name: &str) -> RefOr<Parameter> {
    RefOr::Ref(Ref::new(format!("#/components/parameters/{name}")))
}
