//! What is served beside the FHIR base: whether the service works, these documents, and the sandbox's tokens.

use serde_json::json;
use utoipa::openapi::{
    ArrayBuilder, ContentBuilder, HttpMethod, ObjectBuilder, Required, ResponseBuilder, ResponsesBuilder, Schema, Type,
    path::{Operation, OperationBuilder},
    request_body::{RequestBody, RequestBodyBuilder},
    response::Response,
};

use crate::cpis::types::caller::Role;

const SERVICE: &str = "Service";
const SANDBOX: &str = "Sandbox";

pub fn tags(sandbox: bool) -> Vec<(String, String)> {
    let mut tags =
        vec![(SERVICE.to_owned(), "Whether the service works, and this description of it. Open.".to_owned())];
    if sandbox {
        let about = "Tokens to try things out with. Only in the sandbox, whose data is synthetic.";
        tags.push((SANDBOX.to_owned(), about.to_owned()));
    }
    tags
}

fn text(about: &str) -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::String).description(Some(about))
}

fn answer(about: &str, media: &str, content: ContentBuilder) -> Response {
    ResponseBuilder::new().description(about).content(media, content.build()).build()
}

/// Path, method and operation of each.
pub fn operations(sandbox: bool) -> Vec<(&'static str, HttpMethod, Operation)> {
    let mut operations = vec![
        ("/_ping", HttpMethod::Get, ping()),
        ("/_status", HttpMethod::Get, status()),
        ("/.well-known/jwks.json", HttpMethod::Get, keys()),
        ("/openapi.json", HttpMethod::Get, description()),
        ("/docs/", HttpMethod::Get, page()),
    ];
    if sandbox {
        operations.push(("/sandbox/token", HttpMethod::Post, token()));
    }
    operations
}

fn operation(id: &str, about: &str, responses: ResponsesBuilder) -> OperationBuilder {
    let tag = if id == "sandboxToken" { SANDBOX } else { SERVICE };
    OperationBuilder::new().tag(tag).operation_id(Some(id)).summary(Some(about)).responses(responses.build())
}

fn release() -> ObjectBuilder {
    ["version", "revision", "releaseId", "commitId"]
        .into_iter()
        .fold(ObjectBuilder::new(), |release, name| release.property(name, text("Which build answers.")).required(name))
}

fn released() -> serde_json::Value {
    let version = env!("CARGO_PKG_VERSION");
    json!({"version": format!("v{version}"), "revision": version, "releaseId": version, "commitId": "unknown"})
}

fn ping() -> Operation {
    let content = ContentBuilder::new().schema(Some(Schema::from(release()))).example(Some(released()));
    let responses = ResponsesBuilder::new().response("200", answer("It answers.", "application/json", content));
    operation("ping", "Whether the process answers, and which build it is.", responses).build()
}

fn status() -> Operation {
    let content = |word: &str| {
        let word_of = |about| text(about).enum_values(Some(["pass", "warn", "fail"]));
        let check = || {
            ObjectBuilder::new()
                .property("status", word_of("Of one dependency."))
                .property("output", text("What was seen; to an administrator's token."))
                .required("status")
        };
        let checks = ObjectBuilder::new().property("store", check()).required("store");
        let checks = checks.additional_properties(Some(Schema::from(check())));
        let schema = release().property("status", word_of("Of the whole.")).property("checks", checks);
        let mut example = released();
        if let Some(members) = example.as_object_mut() {
            members.insert("status".to_owned(), json!(word));
            let others = json!({"status": "pass"});
            let checks =
                json!({"store": {"status": word}, "audit": others, "notifications": others, "authorities": others});
            members.insert("checks".to_owned(), checks);
        }
        let schema = Schema::from(schema.required("status").required("checks"));
        ContentBuilder::new().schema(Some(schema)).example(Some(example))
    };
    let responses = ResponsesBuilder::new()
        .response("200", answer("It works, and what it depends on does too.", "application/json", content("pass")))
        .response("503", answer("Something that it depends on fails.", "application/json", content("fail")));
    operation("status", "Whether the service and what it depends on work.", responses).build()
}

fn keys() -> Operation {
    let key = ["kty", "crv", "use", "alg", "kid", "x"]
        .into_iter()
        .fold(ObjectBuilder::new(), |key, name| key.property(name, text("As RFC 7517 and RFC 8037")).required(name));
    let keys = ObjectBuilder::new().property("keys", ArrayBuilder::new().items(key)).required("keys");
    let example = json!({"keys": [{
        "kty": "OKP", "crv": "Ed25519", "use": "sig", "alg": "EdDSA",
        "kid": "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo",
    }]});
    let content = ContentBuilder::new().schema(Some(Schema::from(keys))).example(Some(example));
    let responses =
        ResponsesBuilder::new().response("200", answer("A JSON Web Key Set.", "application/jwk-set+json", content));
    operation("notificationKeys", "The public key that checks the signatures of notifications.", responses).build()
}

fn description() -> Operation {
    let content = ContentBuilder::new().schema(Some(Schema::from(ObjectBuilder::new().schema_type(Type::Object))));
    let responses = ResponsesBuilder::new().response("200", answer("OpenAPI 3.1.", "application/json", content));
    operation("openapi", "This description.", responses).build()
}

fn page() -> Operation {
    let content = ContentBuilder::new().schema(Some(Schema::from(ObjectBuilder::new().schema_type(Type::String))));
    let responses = ResponsesBuilder::new().response("200", answer("The page.", "text/html", content));
    operation("docs", "This description as a page, to try things out.", responses).build()
}

/// `POST /sandbox/token`. Its form is close to RFC 6749, but asks for a role and takes no client's secret, so that it is
/// described as what it is and not as a flow of OAuth 2.
fn token() -> Operation {
    let roles = text("Whose token").enum_values(Some(Role::ALL.map(Role::code)));
    let form = ObjectBuilder::new()
        .property("role", roles)
        .property("organization", text("ODS code; the role's first organisation without it"))
        .property("user", text("SDS user id; the organisation's first user without it"))
        .property("activity", text("For clinicians: activity codes separated by commas, such as B0107"))
        .required("role");
    let form = ContentBuilder::new().schema(Some(Schema::from(form))).example(Some(json!({"role": "clinical"})));
    let body: RequestBody = RequestBodyBuilder::new()
        .content("application/x-www-form-urlencoded", form.build())
        .required(Some(Required::True))
        .build();
    let given = ObjectBuilder::new()
        .property("access_token", text("The token"))
        .property("token_type", text("Bearer"))
        .property("expires_in", ObjectBuilder::new().schema_type(Type::Integer).description(Some("Seconds")))
        .required("access_token")
        .required("token_type")
        .required("expires_in");
    let example = json!({"access_token": "eyJ...", "token_type": "Bearer", "expires_in": 3600});
    let given = ContentBuilder::new().schema(Some(Schema::from(given))).example(Some(example));
    let refused = ObjectBuilder::new()
        .property("error", text("As RFC 6749 5.2"))
        .property("error_description", text("What to do"))
        .required("error")
        .required("error_description");
    let example = json!({
        "error": "invalid_request",
        "error_description": "give a role: clinical, local-authority, auditor or administrator",
    });
    let refused = ContentBuilder::new().schema(Some(Schema::from(refused))).example(Some(example));
    let responses = ResponsesBuilder::new()
        .response("200", answer("A token, valid for an hour.", "application/json", given))
        .response("400", answer("There is no such role, organisation or user.", "application/json", refused));
    let built = operation("sandboxToken", "A token of the sandbox's own issuer.", responses);
    built.request_body(Some(body)).build()
}
