//! Pages: opaque cursors, the rows of one page by keyset, and the links between pages.

use serde::{Serialize, de::DeserializeOwned};

use super::{result::Search, searchset::Request};
pub use crate::cpis::types::page::Place;
use crate::{
    fhir::resource::Resource,
    http::{query::bad_value, refusal::Refusal},
};

/// Most rows that are read for one page when few of them meet the criteria: then the page is short, and its `next` link
/// goes on from there.
const MOST_READ: usize = 2_000;
/// Rows that are read at a time when not every row is a match.
const BATCH: usize = 200;

/// A resource that may be a match, with those that always come along with it.
pub struct Row {
    pub resource: Resource,
    pub with: Vec<Resource>,
}

impl Row {
    pub fn of(resource: impl Into<Resource>) -> Self {
        Self { resource: resource.into(), with: Vec::new() }
    }

    #[must_use]
    pub fn with(mut self, resource: impl Into<Resource>) -> Self {
        self.with.push(resource.into());
        self
    }
}

/// One page of a search whose rows are many, each with its key.
pub struct Page<K, T> {
    pub rows: Vec<(K, T)>,
    pub previous: Option<Place<K>>,
    pub next: Option<Place<K>>,
}

impl<K: Clone, T> Page<K, T> {
    /// Reads until the page is full. `fetch` gives at most so many rows, the nearest first, after a key, before a key,
    /// or (`None`) from the first row; fewer only when there are no more.
    ///
    /// # Errors
    /// What `fetch` refuses, or [`Refusal`] 500 when a row can't be written as JSON.
    pub async fn read(
        search: &Search,
        start: Option<Place<K>>,
        fetch: impl AsyncFn(Option<Place<K>>, usize) -> Result<Vec<(K, T)>, Refusal>,
        render: impl Fn(&T) -> Resource,
    ) -> Result<Self, Refusal> {
        let backwards = matches!(start, Some(Place::Before(_)));
        let towards = |key: K| if backwards { Place::Before(key) } else { Place::After(key) };
        let wanted = search.count();
        let (mut rows, mut from, mut read, mut more) = (Vec::new(), start.clone(), 0, None);
        'page: while wanted > 0 && more.is_none() {
            let limit = if search.selects_all() { wanted + 1 } else { BATCH };
            let batch = fetch(from.clone(), limit).await?;
            let exhausted = batch.len() < limit;
            for (key, row) in batch {
                read += 1;
                if search.selects_all() || search.matches(&render(&row))? {
                    if rows.len() == wanted {
                        more = rows.last().map(|(last, _): &(K, T)| towards(last.clone()));
                        break 'page;
                    }
                    rows.push((key.clone(), row));
                }
                from = Some(towards(key));
            }
            if exhausted {
                break;
            }
            if read >= MOST_READ {
                more = from.clone();
            }
        }
        if backwards {
            rows.reverse();
        }
        let first = || rows.first().map(|(key, _)| Place::Before(key.clone()));
        let last = || rows.last().map(|(key, _)| Place::After(key.clone()));
        let (previous, next) = match (backwards, start.is_some()) {
            (true, _) => (more, last()),
            (false, true) => (first(), more),
            (false, false) => (None, more),
        };
        Ok(Self { rows, previous, next })
    }
}

/// How many rows meet the criteria, by reading every one of them.
///
/// # Errors
/// As [`Page::read`].
pub async fn count<K, T>(
    search: &Search,
    fetch: impl AsyncFn(Option<Place<K>>, usize) -> Result<Vec<(K, T)>, Refusal>,
    render: impl Fn(&T) -> Resource,
) -> Result<i64, Refusal> {
    let (mut total, mut from) = (0, None);
    loop {
        let batch = fetch(from.take(), BATCH).await?;
        let exhausted = batch.len() < BATCH;
        for (key, row) in batch {
            if search.selects_all() || search.matches(&render(&row))? {
                total += 1;
            }
            from = Some(Place::After(key));
        }
        if exhausted {
            return Ok(total);
        }
    }
}

/// The cursor that a link of ours carried.
///
/// # Errors
/// [`Refusal`] 400 for one that this search did not make.
pub fn cursor<'a, T: DeserializeOwned>(request: impl Into<Request<'a>>) -> Result<Option<T>, Refusal> {
    let request = request.into();
    let Some(text) = request.query.single("_cursor")? else { return Ok(None) };
    let opened = request.service.seal.opened(&request.purpose, text);
    let value = opened.and_then(|content| serde_json::from_slice(&content).ok());
    value.map(Some).ok_or_else(foreign_cursor)
}

/// 400 for a cursor that no link of ours carried.
pub fn foreign_cursor() -> Refusal {
    bad_value(
        "_cursor",
        "is not from a link of this search, or what it points at is gone: please start at the first page",
    )
}

/// A cursor that only the same caller's organisation can use, in the same search or history.
///
/// # Errors
/// When the cursor can't be written.
pub fn encoded(request: &Request<'_>, cursor: &impl Serialize) -> Result<String, Refusal> {
    let content = serde_json::to_vec(cursor)?;
    request.service.seal.sealed(&request.purpose, content).map_err(|_| {
        tracing::error!("a cursor could not be sealed");
        Refusal::fault()
    })
}
