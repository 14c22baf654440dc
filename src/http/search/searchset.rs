//! The Bundle of a search: matches of one page, what comes along with them, what the server has to say, the links.

use std::collections::HashSet;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Deserialize, Serialize};

use super::{
    page::{self, Row},
    result::{Search, Total},
};
use crate::{
    cpis::types::access::Found,
    fhir::{
        outcome::{Issue, IssueCode, Severity, SpineCode, operation_outcome},
        render,
        resource::{Bundle, BundleEntry, BundleLink, Resource},
    },
    http::{
        dispatch::{Call, OpenCall},
        query::Query,
        refusal::Refusal,
        service::Service,
    },
};

/// The request that is answered, as far as links need it.
#[derive(Clone)]
pub struct Request<'a> {
    pub(super) service: &'a Service,
    path_and_query: &'a str,
    pub(super) query: &'a Query,
    /// Whose cursors, and of which search or history: no other may use them.
    pub(super) purpose: String,
}

/// Collects what a search found.
pub struct Searchset<'a> {
    request: Request<'a>,
    matches: Vec<Row>,
    pool: Vec<Row>,
    outcomes: Vec<Issue>,
}

impl<'a> From<&'a Call> for Request<'a> {
    fn from(call: &'a Call) -> Self {
        let (role, ods) = (call.caller.role.code(), call.caller.organization.ods.as_str());
        let purpose = format!("{role} {ods} {} {} {}", call.interaction.code(), call.resource, call.id);
        Self { service: &call.service, path_and_query: &call.path_and_query, query: &call.query, purpose }
    }
}

impl Request<'_> {
    fn link(&self, query: &Query) -> String {
        self_link(self.service, self.path_and_query, query)
    }
}

/// Where a page of few rows begins: at the resource with this id.
#[derive(Serialize, Deserialize)]
struct At {
    at: String,
}

impl<'a> Searchset<'a> {
    pub fn new(call: &'a Call) -> Self {
        Self { request: call.into(), matches: Vec::new(), pool: Vec::new(), outcomes: call.ignored.clone() }
    }

    /// Of what is published to everybody.
    pub fn of_open(call: &'a OpenCall<'a>) -> Self {
        let purpose = format!("anybody {}", call.resource);
        let request =
            Request { service: call.service, path_and_query: &call.path_and_query, query: &call.query, purpose };
        Self { request, matches: Vec::new(), pool: Vec::new(), outcomes: Vec::new() }
    }

    pub fn matched(&mut self, row: Row) {
        self.matches.push(row);
    }

    /// What may come along, if an include asks for it.
    pub fn beside(&mut self, row: Row) {
        self.pool.push(row);
    }

    /// Says that the number asked for was superseded (design 9).
    pub fn superseded(&mut self, found: &Found) {
        if found.superseded_by.is_some() {
            self.outcomes.push(Issue {
                severity: Severity::Information,
                ..Issue::error(
                    IssueCode::Informational,
                    SpineCode::InvalidatedResource,
                    "The NHS number asked for has been superseded. The plans under all numbers of this child are shown; \
                     please trace the child and use the new number.",
                )
            });
        }
    }

    /// All that was found, in the order in which it came: an operation's answer.
    ///
    /// # Errors
    /// When a resource can't be written as JSON.
    pub fn all(mut self) -> Result<Bundle, Refusal> {
        let matches = std::mem::take(&mut self.matches);
        let total = matches.len();
        self.bundle(matches, None, Some(total), Vec::new())
    }

    /// The page of a search all of whose rows were found and whose audit is stored: filtered, sorted, counted and cut here.
    ///
    /// # Errors
    /// [`Refusal`] 400 for a cursor that points at nothing here any more.
    pub fn whole(mut self, search: &Search) -> Result<Bundle, Refusal> {
        let mut rows = Vec::with_capacity(self.matches.len());
        for row in std::mem::take(&mut self.matches) {
            if search.matches(&row.resource)? {
                rows.push(row);
            }
        }
        search.sort(&mut rows, |row| &row.resource)?;
        let total = rows.len();
        if search.only_count() {
            return self.bundle(Vec::new(), None, Some(total), Vec::new());
        }
        let id_at = |at: usize| rows.get(at).and_then(|row| row.resource.id()).map(|id| At { at: id.to_owned() });
        let start = match start(self.request.clone())? {
            None => 0,
            Some(at) => {
                let found = rows.iter().position(|row| row.resource.id() == Some(at.as_str()));
                found.ok_or_else(|| page::foreign_cursor().audited())?
            }
        };
        let end = rows.len().min(start + search.count());
        let next = id_at(end);
        let previous = (start > 0).then(|| id_at(start.saturating_sub(search.count()))).flatten();
        let links = links(&self.request, previous.as_ref(), next.as_ref())?;
        let page = rows.drain(start..end).collect();
        self.bundle(page, Some(search), Some(total), links)
    }

    /// A page that was read by keyset, whose rows are the matches here.
    ///
    /// # Errors
    /// When a resource or cursor can't be written as JSON.
    pub fn page<C: Serialize>(
        mut self,
        search: &Search,
        previous: Option<C>,
        next: Option<C>,
        total: Option<i64>,
    ) -> Result<Bundle, Refusal> {
        let links = links(&self.request, previous.as_ref(), next.as_ref())?;
        let total = total.filter(|_| search.total != Total::None).and_then(|total| usize::try_from(total).ok());
        let rows = std::mem::take(&mut self.matches);
        self.bundle(rows, Some(search), total, links)
    }

    fn bundle(
        self,
        matches: Vec<Row>,
        search: Option<&Search>,
        total: Option<usize>,
        links: Vec<BundleLink>,
    ) -> Result<Bundle, Refusal> {
        let included = match search.filter(|search| !search.includes.is_empty()) {
            Some(search) => search.includes.follow(&matches, self.pool)?,
            None => Vec::new(),
        };
        let base_url = &self.request.service.settings.base_url;
        let mut there: HashSet<(String, String)> = HashSet::new();
        let mut entries = Vec::new();
        let mut add = |resource: Resource, mode: &str| {
            let key = resource.id().map(|id| (resource.type_name().to_owned(), id.to_owned()));
            if key.is_none_or(|key| there.insert(key)) {
                entries.push(BundleEntry::found(base_url, resource, mode));
            }
        };
        for row in matches {
            add(row.resource, "match");
            row.with.into_iter().for_each(|with| add(with, "include"));
        }
        for row in included {
            add(row.resource, "include");
            row.with.into_iter().for_each(|with| add(with, "include"));
        }
        if !self.outcomes.is_empty() {
            entries.push(BundleEntry::found(base_url, operation_outcome(&self.outcomes).into(), "outcome"));
        }
        let link = self.request.link(self.request.query);
        let total = total.and_then(|total| u64::try_from(total).ok());
        let mut bundle = Bundle::searchset(&link, total, entries);
        bundle.link.extend(links);
        Ok(bundle)
    }
}

/// The id of the resource at which a page of few rows begins; none for the first page.
///
/// # Errors
/// [`Refusal`] 400 for what is no cursor of ours.
pub fn start<'a>(request: impl Into<Request<'a>>) -> Result<Option<String>, Refusal> {
    Ok(page::cursor::<At>(request)?.map(|start| start.at))
}

/// The accesses of what a look-up found, each with who made it.
pub fn history_of(found: &Found) -> impl Iterator<Item = Row> {
    found.history.iter().map(|access| {
        let (event, role) = render::access_event(access, false);
        Row::of(event).with(role)
    })
}

/// `first`, `previous` and `next`, when there is more than one page.
///
/// # Errors
/// When a cursor can't be written as JSON.
pub fn links<C: Serialize>(
    request: &Request<'_>,
    previous: Option<&C>,
    next: Option<&C>,
) -> Result<Vec<BundleLink>, Refusal> {
    let mut plain = request.query.clone();
    plain.0.retain(|sent| sent.name != "_cursor");
    let paged = plain.0.len() < request.query.0.len();
    let first = request.link(&plain);
    let mark = if first.contains('?') { '&' } else { '?' };
    let to = |relation: &str, cursor: &C| -> Result<BundleLink, Refusal> {
        let url = format!("{first}{mark}_cursor={}", page::encoded(request, cursor)?);
        Ok(BundleLink { relation: relation.to_owned(), url })
    };
    let mut links = Vec::new();
    if previous.is_some() || next.is_some() || paged {
        links.push(BundleLink { relation: "first".to_owned(), url: first.clone() });
    }
    links.extend(previous.map(|cursor| to("previous", cursor)).transpose()?);
    links.extend(next.map(|cursor| to("next", cursor)).transpose()?);
    Ok(links)
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
