//! `$refused-records`: an authority is shown its refused records once more, until they are loaded (design 7).

use super::{
    answer::Answer,
    dispatch::Call,
    refusal::Refusal,
    search::{
        Parameter,
        page::{self, Request},
        result::{COUNT, CURSOR, page_count},
    },
};
use crate::{
    cpis::types::audit::QueryResult,
    fhir::{
        render,
        resource::{Bundle, BundleEntry, BundleLink},
    },
    http::query::{Query, Sent},
};

pub const PARAMETERS: &[Parameter] = &[COUNT, CURSOR];

/// # Errors
/// [`Refusal`] by design 4.
pub async fn list(call: Call) -> Result<Answer, Refusal> {
    let (gateway, after) = (&call.service.gateway, page::cursor(&call)?);
    let wanted = page_count(&call.query)?;
    let mut found = gateway.open_refusals(&call.caller.organization, after, wanted + 1).await?;
    let more = found.len() > wanted;
    found.truncate(wanted);
    let mut event = call.event();
    event.result = Some(QueryResult::of(&found, |one| format!("{}-{}", one.upload, one.position + 1)));
    gateway.audit(event).await?;
    let request = Request::from(&call);
    let link = |relation: &str, query: &Query| BundleLink { relation: relation.to_owned(), url: request.link(query) };
    let mut links = vec![link("self", &call.query)];
    if let Some(last) = found.last().filter(|_| more) {
        let mut query = call.query.clone();
        query.0.retain(|sent| sent.name != "_cursor");
        let value = page::encoded(&request, &(last.upload_key, last.position))?;
        query.0.push(Sent { name: "_cursor".to_owned(), modifier: String::new(), value });
        links.push(link("next", &query));
    }
    let entry = found
        .iter()
        .map(|one| BundleEntry { resource: Some(render::refused_record(one).into()), ..BundleEntry::default() });
    let bundle = Bundle { kind: "collection".to_owned(), link: links, entry: entry.collect(), ..Bundle::default() };
    Ok(Answer::ok(bundle))
}
