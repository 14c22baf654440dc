//! One request from the socket to the answer: request ids, caller, permission, negotiation, body, handler; and the audit
//! of every refusal of a caller that is known.

use std::{sync::Arc, time::Duration};

use actix_web::{
    HttpRequest, HttpResponse,
    http::{
        Method, StatusCode,
        header::{HeaderMap, HeaderName, HeaderValue},
    },
    web::{Bytes, BytesMut, Payload},
};
use futures_util::StreamExt;
use tokio::sync::OwnedSemaphorePermit;
use uuid::Uuid;

use super::{
    answer::{self, Answer},
    prefer::preference,
    query::{self, FORMAT, Query},
    refusal::{Case, Refusal},
    request_id::RequestIds,
    routes::{Route, Routes},
    search,
    service::Service,
    unscheduled,
};
use crate::{
    auth::AuthFault,
    cpis::types::{
        NhsNumber,
        audit::{AuditAgent, Interaction, Outcome, RequestEvent},
        caller::{Caller, RequestContext, Role},
    },
    fhir::{
        outcome::{Issue, IssueCode},
        subset::Subset,
    },
};

/// How long a body may take to come.
const BODY_TIME: Duration = Duration::from_secs(20);
/// How long one over the limit of ordinary bodies may take.
const LARGE_BODY_TIME: Duration = Duration::from_secs(120);
/// Longest request target, in bytes; what needs more goes into a `POST _search`.
const LONGEST_TARGET: usize = 8192;
/// Longest form of a `_search`, in bytes: all of it is kept in the audit, and no search needs as much.
const LONGEST_FORM: usize = 16 * 1024;

/// What a handler gets: everything of the request, parsed and permitted.
pub struct Call {
    pub service: Arc<Service>,
    pub caller: Caller,
    pub context: RequestContext,
    /// The route's type of resource; empty for what belongs to the system.
    pub resource: &'static str,
    /// `{id}` of the route's path.
    pub id: String,
    /// `{vid}` of the route's path.
    pub vid: String,
    pub query: Query,
    pub headers: HeaderMap,
    /// Empty for methods without one; a `_search` form is in `query` already.
    pub body: Bytes,
    /// Leave to keep a large body; dropped with it.
    pub large_body: Option<OwnedSemaphorePermit>,
    /// What was ignored of the query, as the caller asked for.
    pub ignored: Vec<Issue>,
    /// Path and query as sent, for the `self` link.
    pub path_and_query: String,
    pub interaction: Interaction,
}

/// What the handler of an open route gets: nobody is asked who they are, and what is answered is about no person.
pub struct OpenCall<'a> {
    pub service: &'a Service,
    /// The route's type of resource; empty for what belongs to the system.
    pub resource: &'static str,
    /// Those that the route knows.
    pub parameters: &'static [search::Parameter],
    /// `{id}` of the route's path.
    pub id: String,
    pub query: Query,
    pub headers: &'a HeaderMap,
    /// Path and query as sent, for the `self` link.
    pub path_and_query: String,
}

impl Call {
    /// The UUID in the path, spelled as this server gives it: another spelling is another id.
    ///
    /// # Errors
    /// [`Refusal`] 404.
    pub fn uuid(&self) -> Result<Uuid, Refusal> {
        let id = Uuid::parse_str(&self.id).ok().filter(|id| id.to_string() == self.id);
        id.ok_or_else(Refusal::not_found)
    }

    /// A security event of this call: a success with nothing more to say yet.
    pub fn event(&self) -> RequestEvent {
        RequestEvent::new(self.interaction, &self.caller, &self.context)
    }
}

/// Answers one request below the FHIR base.
pub async fn dispatch(service: Arc<Service>, routes: &Routes, request: HttpRequest, payload: Payload) -> HttpResponse {
    let ids = RequestIds::of(request.headers());
    let known = ids.as_ref().cloned().unwrap_or_default();
    let route = routes.find(&service.settings.base_path, &request);
    let pretty = request.query_string().split('&').any(|part| part == "_pretty=true");
    let context = RequestContext {
        request_id: known.request_id.clone(),
        at: service.gateway.clock.now(),
        address: request.peer_addr().map(|address| address.ip()),
        request_line: request_line(&request),
    };
    let answered = answer_for(&service, routes, route, ids.map(|_| ()), context, &request, payload).await;
    let answer = match &answered {
        Ok(answer) => answer,
        Err(refusal) => &Answer::from(refusal),
    };
    tracing::info!(
        request.id = %known.loggable(),
        http.method = known_method(request.method()),
        http.route = route.map_or("unknown", |route| route.path),
        http.status = answer.status.as_u16(),
        "answered"
    );
    respond(answer, &known, pretty)
}

/// A method for the log: any word can be one, and what a client makes up may be somebody's number.
fn known_method(method: &Method) -> &str {
    match method.as_str() {
        known @ ("GET" | "HEAD" | "POST" | "PUT" | "DELETE" | "PATCH" | "OPTIONS" | "TRACE" | "CONNECT") => known,
        _ => "other",
    }
}

/// The request line for the audit; of a target that is refused for its length only the beginning.
fn request_line(request: &HttpRequest) -> String {
    let target = request.uri().to_string();
    let kept = target.char_indices().nth(LONGEST_TARGET).map_or(target.as_str(), |(end, _)| &target[..end]);
    format!("{} {kept}", request.method())
}

async fn answer_for(
    service: &Arc<Service>,
    routes: &Routes,
    route: Option<&Route>,
    ids: Result<(), Refusal>,
    mut context: RequestContext,
    request: &HttpRequest,
    payload: Payload,
) -> Result<Answer, Refusal> {
    if let Some(route) = route.filter(|route| route.is_open()) {
        ids?;
        return open_answer(service, route, request, payload).await;
    }
    // Two different tokens are no token: which of them counts must not depend on their order.
    let mut tokens = request.headers().get_all("authorization").map(|value| value.to_str().unwrap_or("?").to_owned());
    let header = tokens.next().map(|first| if tokens.next().is_some() { "?".to_owned() } else { first });
    let id = route.map(|route| route.id_of(&service.settings.base_path, request.path())).unwrap_or_default();
    let mut seen = Seen::of(route, &id, request.query_string());
    let caller = match service.authenticate(header).await {
        Ok(caller) => caller,
        Err(AuthFault::Forbidden { agent, reason }) => {
            let refusal = Refusal::new(Case::Forbidden, reason);
            audit_refusal(service, *agent, &context, &seen, &refusal).await?;
            return Err(refusal);
        }
        // A token would not help: the path has no such method for anybody.
        Err(AuthFault::Token(_)) if route.is_none() && routes.is_open_at(&service.settings.base_path, request) => {
            return Err(routes.refuse_unknown(&service.settings.base_path, request));
        }
        Err(fault) => return Err(fault.into()),
    };
    let result = async {
        ids?;
        check_target(request)?;
        let route = route.ok_or_else(|| routes.refuse_unknown(&service.settings.base_path, request))?;
        route.permit(&caller)?;
        // It counts for clinicians alone; but what nobody could mean is never passed over.
        unscheduled::declared(request.headers())?;
        let (body, large_body) = read_body(service, route, request, payload).await?;
        let (query, ignored) = read_query(route, Some(&caller), request, &body, &mut seen)?;
        let subset = subset_of(route, &query)?;
        if route.is_form() {
            // What was searched for is in the audit, whichever way it was sent.
            context.request_line = format!("{}?{}", context.request_line, String::from_utf8_lossy(&body));
        }
        let call = Call {
            service: service.clone(),
            caller: caller.clone(),
            context: context.clone(),
            resource: route.resource.unwrap_or_default(),
            id,
            vid: route.vid_of(&service.settings.base_path, request.path()),
            query,
            ignored,
            headers: request.headers().clone(),
            body,
            large_body,
            path_and_query: request.uri().path_and_query().map(ToString::to_string).unwrap_or_default(),
            interaction: route.interaction,
        };
        let answer = route.handle(call).await?;
        answer.cut_to(subset.as_ref())
    }
    .await;
    match result {
        Ok(answer) => Ok(answer),
        Err(refusal) if refusal.already_audited() => Err(refusal),
        Err(refusal) => {
            let audited = audit_refusal(service, AuditAgent::from(&caller), &context, &seen, &refusal).await;
            // That the store can't answer is told whether or not it can keep that; it discloses nothing.
            if refusal.case != Case::Store {
                audited?;
            }
            Err(refusal)
        }
    }
}

fn check_target(request: &HttpRequest) -> Result<(), Refusal> {
    if request.uri().to_string().len() <= LONGEST_TARGET {
        return Ok(());
    }
    let text = format!("The URL is longer than {LONGEST_TARGET} bytes. Please search by POST _search.");
    Err(Refusal::new(Case::Parameter, text).with_code(IssueCode::TooLong))
}

/// The answer of a route that asks nobody who they are; a token that is sent all the same is not looked at.
async fn open_answer(
    service: &Service,
    route: &Route,
    request: &HttpRequest,
    payload: Payload,
) -> Result<Answer, Refusal> {
    check_target(request)?;
    let id = route.id_of(&service.settings.base_path, request.path());
    let (body, _) = read_body(service, route, request, payload).await?;
    let (query, _) = read_query(route, None, request, &body, &mut Seen::of(Some(route), "", ""))?;
    route.open(&OpenCall {
        service,
        resource: route.resource.unwrap_or_default(),
        parameters: route.parameters,
        id,
        query,
        headers: request.headers(),
        path_and_query: request.uri().path_and_query().map(ToString::to_string).unwrap_or_default(),
    })
}

/// What could be read of a request before it was refused.
struct Seen {
    patient: Option<NhsNumber>,
    interaction: Interaction,
}

impl Seen {
    /// The path and the query string, before anything of them is judged: whoever is refused named that patient.
    fn of(route: Option<&Route>, id: &str, query: &str) -> Self {
        let asked = || Query::parse(query).ok()?.patient_for_audit();
        Self {
            patient: NhsNumber::parse(id).ok().or_else(asked),
            interaction: route.map_or(Interaction::Operation, |route| route.interaction),
        }
    }
}

/// Writes the refusal of a known caller into the security audit before it is answered.
async fn audit_refusal(
    service: &Service,
    agent: AuditAgent,
    context: &RequestContext,
    seen: &Seen,
    refusal: &Refusal,
) -> Result<(), Refusal> {
    let mut event = RequestEvent::by(seen.interaction, agent, context);
    event.outcome = if refusal.status().is_server_error() { Outcome::Failed } else { Outcome::Refused };
    event.refusal = Some(refusal.spine_code().to_owned());
    event.patient = seen.patient;
    Ok(service.gateway.audit(event).await?)
}

/// 406 unless FHIR JSON is acceptable; `_format` overrides `Accept`.
fn acceptable(request: &HttpRequest, query: &str) -> Result<(), Refusal> {
    let formats = Query::parse(query)?;
    if formats.values("_format").next().is_some() {
        return acceptable_formats(&formats);
    }
    let mut accepts = request.headers().get_all("accept").peekable();
    if accepts.peek().is_none() {
        return Ok(());
    }
    let fits = |range: &str| is_json(range) && !is_declined(range);
    let fits = accepts.filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(',')).any(fits);
    if fits { Ok(()) } else { Err(not_acceptable()) }
}

/// Each `_format` must be JSON.
fn acceptable_formats(query: &Query) -> Result<(), Refusal> {
    // A plus sign in a query is a space; the media type is meant all the same.
    let fits = query.values("_format").all(|format| is_json(&format.replace(' ', "+")));
    if fits { Ok(()) } else { Err(not_acceptable()) }
}

fn is_json(media: &str) -> bool {
    let media = media.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    matches!(media.as_str(), "application/fhir+json" | "application/json" | "json" | "*/*" | "application/*" | "")
}

/// Whether a media range has the weight 0 (RFC 9110 12.4.2).
fn is_declined(range: &str) -> bool {
    let weight = range.split(';').skip(1).find_map(|part| part.trim().strip_prefix("q="));
    weight.is_some_and(|weight| weight.parse::<f32>().is_ok_and(|weight| weight == 0.0))
}

fn not_acceptable() -> Refusal {
    Refusal::new(Case::Accept, "Only FHIR JSON can be given: accept application/fhir+json or application/json.")
}

/// A body, and leave to keep it if it is large.
type Body = (Bytes, Option<OwnedSemaphorePermit>);

/// The body within its limit; 415 for another type than the route takes.
async fn read_body(
    service: &Service,
    route: &Route,
    request: &HttpRequest,
    mut payload: Payload,
) -> Result<Body, Refusal> {
    acceptable(request, request.query_string())?;
    if !matches!(*request.method(), Method::POST | Method::PUT) {
        return Ok((Bytes::new(), None));
    }
    let kind = request.headers().get("content-type").and_then(|value| value.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    if !route.content_types().contains(&kind.as_str()) {
        let takes = route.content_types().join(" or ");
        return Err(Refusal::new(Case::ContentType, format!("Please send the body as {takes}.")));
    }
    if request.headers().contains_key("content-encoding") {
        return Err(Refusal::new(Case::ContentType, "Please send the body without a content encoding."));
    }
    let declared = request.headers().get("content-length").and_then(|v| v.to_str().ok()?.parse::<usize>().ok());
    let most = service.settings.body_bytes;
    let limit = match route {
        route if route.is_form() => most.min(LONGEST_FORM),
        route if route.is_upload() => service.settings.upload_bytes,
        _ => most,
    };
    let mut collecting = Collecting { service, ordinary: most.min(limit), limit, permit: None };
    collecting.expect(declared.unwrap_or(0))?;
    let time = if collecting.permit.is_some() { LARGE_BODY_TIME } else { BODY_TIME };
    let read = tokio::time::timeout(time, collecting.collect(&mut payload));
    read.await.unwrap_or_else(|_| Err(Refusal::new(Case::Body, "The body did not come to its end in time.")))
}

/// A body that is coming.
struct Collecting<'a> {
    service: &'a Service,
    /// Bytes that any body may have.
    ordinary: usize,
    /// Bytes that this one may have.
    limit: usize,
    permit: Option<OwnedSemaphorePermit>,
}

impl Collecting<'_> {
    /// Makes sure that so many bytes may come.
    fn expect(&mut self, bytes: usize) -> Result<(), Refusal> {
        if bytes > self.limit {
            let text = format!("The body is longer than {} bytes. Please send less at once.", self.limit);
            return Err(Refusal::new(Case::TooLong, text));
        }
        if bytes > self.ordinary && self.permit.is_none() {
            self.permit = Some(self.service.large_bodies.permit().ok_or_else(Refusal::large_bodies)?);
        }
        Ok(())
    }

    async fn collect(mut self, payload: &mut Payload) -> Result<Body, Refusal> {
        let mut body = BytesMut::new();
        while let Some(chunk) = payload.next().await {
            let chunk = chunk.map_err(|_| Refusal::new(Case::Body, "The body could not be read to its end."))?;
            self.expect(body.len() + chunk.len())?;
            body.extend_from_slice(&chunk);
        }
        Ok((body.freeze(), self.permit))
    }
}

/// The parameters of the query string and of a `_search` form, all of them known to the route; and what was left out of
/// them because the caller asked for lenient handling, which a clinical caller can't: it could get another answer than
/// it thinks (design 3).
fn read_query(
    route: &Route,
    caller: Option<&Caller>,
    request: &HttpRequest,
    body: &Bytes,
    seen: &mut Seen,
) -> Result<(Query, Vec<Issue>), Refusal> {
    let mut query = Query::parse(request.query_string())?;
    if route.is_form() {
        let form = std::str::from_utf8(body)
            .map_err(|_| Refusal::new(Case::Parameter, "The form is not valid percent-encoded UTF-8."))?;
        query = query.and(Query::parse(form)?)?;
    }
    seen.patient = seen.patient.or_else(|| query.patient_for_audit());
    let known = [route.parameters, FORMAT];
    let may_be = route.interaction == Interaction::SearchType && caller.is_some_and(|by| by.role != Role::Clinical);
    let lenient = may_be && is_lenient(request)?;
    let ignored = if lenient { query.without_unknown(&known) } else { Vec::new() };
    query.check(&known)?;
    acceptable_formats(&query)?;
    if let Some(pretty) = query.single("_pretty")?
        && !matches!(pretty, "true" | "false")
    {
        return Err(query::bad_value("_pretty", "must be true or false"));
    }
    Ok((query, ignored))
}

/// What `Prefer: handling=` asks for.
fn is_lenient(request: &HttpRequest) -> Result<bool, Refusal> {
    match preference(request.headers(), "handling").as_deref() {
        None | Some("strict") => Ok(false),
        Some("lenient") => Ok(true),
        Some(_) => Err(Refusal::new(
            Case::Header,
            "Missing or invalid header parameter: Prefer handling must be strict or lenient.",
        )),
    }
}

/// The part of the answer that is asked for, if the route knows such parameters.
fn subset_of(route: &Route, query: &Query) -> Result<Option<Subset>, Refusal> {
    // What belongs to no resource type and knows these is the Patient Flag API's search: its matches are Flags.
    search::result::asked_subset(query, route.resource.unwrap_or("Flag"), route.parameters)
}

pub fn respond(answer: &Answer, ids: &RequestIds, pretty: bool) -> HttpResponse {
    let (status, body) = match answer.resource.as_ref().map(|resource| answer::json(resource, pretty)) {
        None => (answer.status, answer.written.clone()),
        Some(Ok(body)) => (answer.status, Some(body.into())),
        Some(Err(error)) => {
            let refusal = Answer::from(&Refusal::from(error));
            (
                refusal.status,
                refusal.resource.as_ref().and_then(|resource| answer::json(resource, false).ok()).map(Bytes::from),
            )
        }
    };
    let mut response = HttpResponse::build(status);
    response.insert_header(("Cache-Control", "no-store"));
    for (name, value) in ids.mirrored().into_iter().chain(answer.headers.iter().map(|(n, v)| (*n, v.as_str()))) {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
            response.insert_header((name, value));
        }
    }
    match body {
        Some(body) => response.content_type("application/fhir+json").body(body),
        // These have no length either.
        None if matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED) => response.finish(),
        None => response.body(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_made_up_method_is_logged() {
        assert_eq!(known_method(&Method::DELETE), "DELETE");
        for made_up in ["9990000018", "get", "JONES"] {
            assert_eq!(known_method(&Method::from_bytes(made_up.as_bytes()).unwrap()), "other");
        }
    }
}
