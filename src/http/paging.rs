//! Pages: `_count`, opaque keyset cursors, and the `next` link.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Serialize, de::DeserializeOwned};

use super::{
    clinical::self_link,
    dispatch::Call,
    query::{Parameter, Query, bad_value},
    refusal::Refusal,
};
use crate::fhir::resource::{Bundle, BundleLink};

pub const COUNT: Parameter = Parameter::new("_count", "special", "Rows of a page, 1 to 200; 50 without it");
/// Our own: where the next page begins. Opaque; taken from a `next` link.
pub const CURSOR: Parameter = Parameter::new("_cursor", "special", "Where the page begins, from a next link");
pub const SUMMARY: Parameter = Parameter::new("_summary", "special", "count: the total alone");
pub const TOTAL: Parameter =
    Parameter::new("_total", "special", "accurate: count all rows; none or estimate: leave the total out");

const DEFAULT: i64 = 50;
const MOST: i64 = 200;

/// Rows of a page.
///
/// # Errors
/// [`Refusal`] 400 for anything but a number from 1; more than the most is cut, as FHIR allows.
pub fn count(query: &Query) -> Result<i64, Refusal> {
    match query.single("_count")? {
        None => Ok(DEFAULT),
        Some(text) => match text.parse::<u32>() {
            Ok(count) if count >= 1 => Ok(i64::from(count).min(MOST)),
            _ => Err(bad_value("_count", "must be a whole number from 1")),
        },
    }
}

/// True if only the total is asked for.
///
/// # Errors
/// [`Refusal`] 400 for another summary.
pub fn only_count(query: &Query) -> Result<bool, Refusal> {
    match query.single("_summary")? {
        None => Ok(false),
        Some("count") => Ok(true),
        Some(_) => Err(bad_value("_summary", "may only be count here")),
    }
}

/// True if the total is to be counted although the search does not name a patient.
///
/// # Errors
/// [`Refusal`] 400 for another value than R4's.
pub fn accurate_total(query: &Query) -> Result<bool, Refusal> {
    match query.single("_total")? {
        None | Some("none" | "estimate") => Ok(false),
        Some("accurate") => Ok(true),
        Some(_) => Err(bad_value("_total", "must be accurate, estimate or none")),
    }
}

/// Cuts what was read with one row too many; true if there are more rows than the page.
pub fn cut<T>(rows: &mut Vec<T>, limit: i64) -> bool {
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let more = rows.len() > limit;
    rows.truncate(limit);
    more
}

/// The cursor that a `next` link of ours carried.
///
/// # Errors
/// [`Refusal`] 400 for one that this search did not make.
pub fn cursor<T: DeserializeOwned>(query: &Query) -> Result<Option<T>, Refusal> {
    let Some(text) = query.single("_cursor")? else { return Ok(None) };
    let value = URL_SAFE_NO_PAD.decode(text).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
    value.map(Some).ok_or_else(foreign_cursor)
}

/// 400 for a cursor that no link of ours carried.
pub fn foreign_cursor() -> Refusal {
    bad_value("_cursor", "is not from a link of this search: please start at the first page")
}

/// Adds the `next` link.
///
/// # Errors
/// When the cursor can't be written.
pub fn link_next(bundle: &mut Bundle, call: &Call, cursor: &impl Serialize) -> Result<(), Refusal> {
    let text = URL_SAFE_NO_PAD.encode(serde_json::to_vec(cursor)?);
    let mut next = call.query.clone();
    next.0.retain(|sent| sent.name != "_cursor");
    let link = self_link(&call.service, &call.path_and_query, &next);
    let mark = if link.contains('?') { '&' } else { '?' };
    bundle.link.push(BundleLink { relation: "next".to_owned(), url: format!("{link}{mark}_cursor={text}") });
    Ok(())
}
