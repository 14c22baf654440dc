//! A FHIR Bundle that an authority sent over MESH: answered as `POST [base]` answers it, without HTTP around it (design 6).

use std::sync::Arc;

use actix_web::http::header::HeaderMap;

use super::{answer::Answer, bundle, dispatch::Call, query::Query, refusal::Case, service::Service};
use crate::cpis::types::{
    audit::{AuditAgent, Interaction, Outcome, RequestEvent},
    caller::{Caller, RequestContext},
    upload::FileCode,
};

/// The answer to a Bundle.
pub struct BundleAnswer {
    pub code: FileCode,
    /// The response Bundle, or the `OperationOutcome` that refuses the whole, as JSON.
    pub body: Vec<u8>,
}

/// Applies a Bundle in the name of an authority that MESH vouches for. `None` when the service can't answer at the moment:
/// nothing was applied, and the same Bundle may be tried again. When there is an answer, effect and audit are durable.
pub async fn upload(
    service: Arc<Service>,
    caller: Caller,
    context: RequestContext,
    body: Vec<u8>,
) -> Option<BundleAnswer> {
    let call = Call {
        service: service.clone(),
        caller: caller.clone(),
        context: context.clone(),
        resource: "",
        id: String::new(),
        vid: String::new(),
        query: Query(Vec::new()),
        headers: HeaderMap::new(),
        body: body.into(),
        large_body: None,
        ignored: Vec::new(),
        path_and_query: String::new(),
        interaction: Interaction::Batch,
    };
    let (answer, when_unsaid) = match bundle::upload_within(call, None).await {
        Ok(answer) => (answer, FileCode::Cpf02),
        Err(refusal) => {
            let answer = Answer::from(&refusal);
            let passing = matches!(refusal.case, Case::Store | Case::Race | Case::Fault);
            let told = answer.resource.as_ref().and_then(|resource| serde_json::to_value(resource).ok());
            // That demographics can't be asked is an answer; that the store can't is none.
            if passing && told.as_ref().and_then(code_of) != Some(FileCode::Cpf05) {
                return None;
            }
            if !refusal.already_audited() {
                let mut event = RequestEvent::by(Interaction::Batch, AuditAgent::from(&caller), &context);
                event.outcome = Outcome::Refused;
                event.refusal = Some(refusal.spine_code().to_owned());
                service.gateway.audit(event).await.ok()?;
            }
            (answer, FileCode::Cpf01)
        }
    };
    let body = match (&answer.written, &answer.resource) {
        (Some(written), _) => serde_json::from_slice(written).ok()?,
        (None, Some(resource)) => serde_json::to_value(resource).ok()?,
        (None, None) => return None,
    };
    let code = code_of(&body).unwrap_or(when_unsaid);
    Some(BundleAnswer { code, body: serde_json::to_vec(&body).ok()? })
}

/// The file's code among the tags of an answer.
fn code_of(answer: &serde_json::Value) -> Option<FileCode> {
    let known = [FileCode::Cpf01, FileCode::Cpf02, FileCode::Cpf03, FileCode::Cpf04, FileCode::Cpf05];
    let tags = answer["meta"]["tag"].as_array()?;
    known.into_iter().find(|code| tags.iter().any(|tag| tag["code"] == code.code()))
}
