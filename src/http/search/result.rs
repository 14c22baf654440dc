//! A whole search as it was asked: its criteria, and the parameters that shape the result.
//! <https://hl7.org/fhir/R4/search.html#modifyingresults>

use serde_json::Value;

use super::{
    criterion::{Criterion, Reading, split},
    include::Includes,
    matching::{self, SortValue},
    parameter::Parameter,
};
use crate::{
    cpis::calendar::Calendar,
    fhir::{
        outcome::Issue,
        resource::Resource,
        subset::{self, Subset},
    },
    http::{
        dispatch::Call,
        query::{Query, bad_value},
        refusal::{Case, Refusal},
        service::Service,
    },
};

pub const COUNT: Parameter =
    Parameter::special("_count", "Rows of a page, up to 200; 50 without it; 0: the total alone");
/// Our own: where the page begins. Opaque; taken from a link.
pub const CURSOR: Parameter = Parameter::special("_cursor", "Where the page begins, from a link of the page before");
pub const SORT: Parameter =
    Parameter::special("_sort", "Names of search parameters, separated by commas; with - before it: descending");
pub const TOTAL: Parameter =
    Parameter::special("_total", "accurate: count the rows of all pages; none or estimate: leave it out if it costs")
        .one_of(&["none", "estimate", "accurate"]);
pub const SUMMARY: Parameter =
    Parameter::special("_summary", "true, text, data or false: parts of each resource; count: the total alone")
        .one_of(&["true", "text", "data", "count", "false"]);
/// `_summary` of a request that has no total.
const SUMMARY_OF_ONE: Parameter = Parameter::special("_summary", "true, text, data or false: parts of the resource")
    .one_of(&["true", "text", "data", "false"]);
pub const ELEMENTS: Parameter =
    Parameter::special("_elements", "Elements to give, separated by commas; what is mandatory comes too");

/// The table of a search: these rows, then what shapes the result of every search.
macro_rules! searched_by {
    ($($row:expr),* $(,)?) => {
        &[
            $($row,)*
            $crate::http::search::result::SORT,
            $crate::http::search::result::COUNT,
            $crate::http::search::result::TOTAL,
            $crate::http::search::result::SUMMARY,
            $crate::http::search::result::ELEMENTS,
            $crate::http::search::result::CURSOR,
        ]
    };
}
pub(in crate::http) use searched_by;

/// What shapes the answer of a read.
pub const OF_ONE: &[Parameter] = &[SUMMARY_OF_ONE, ELEMENTS];

/// Rows of a page without `_count`, and at most.
const DEFAULT_COUNT: usize = 50;
const MOST_COUNT: usize = 200;

/// How the total is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Total {
    /// Not asked: given when it costs nothing.
    Unasked,
    None,
    Accurate,
}

/// One search.
pub struct Search {
    pub criteria: Vec<Criterion>,
    pub total: Total,
    pub includes: Includes,
    count: usize,
    sort: Vec<(&'static Parameter, bool)>,
    calendar: Calendar,
}

impl Search {
    /// Reads what the call asks of resources of this type. The patient is not among the criteria: it says whose
    /// resources are looked up at all.
    ///
    /// # Errors
    /// [`Refusal`] 400 with an issue for every problem.
    pub fn of(call: &Call, resource: &'static str, parameters: &'static [Parameter]) -> Result<Self, Refusal> {
        Self::read(&call.service, &call.query, resource, parameters)
    }

    /// The same of a query.
    ///
    /// # Errors
    /// As [`Search::of`].
    pub fn read(
        service: &Service,
        query: &Query,
        resource: &'static str,
        parameters: &'static [Parameter],
    ) -> Result<Self, Refusal> {
        let gateway = &service.gateway;
        let base_url = &service.settings.base_url;
        let reading = Reading { calendar: &gateway.calendar, now: gateway.clock.now(), base_url };
        let mut faults = Faults::default();
        let row = |name: &str| parameters.iter().find(|parameter| parameter.name == name);
        let criteria: Vec<Criterion> = query
            .0
            .iter()
            .filter_map(|sent| row(&sent.name).filter(|parameter| parameter.selects()).map(|row| (row, sent)))
            .filter(|(parameter, _)| !matches!(parameter.name, "patient" | "subject"))
            .filter_map(|(parameter, sent)| faults.kept(Criterion::read(parameter, sent, reading)))
            .collect();
        let count = faults.kept(count(query)).flatten();
        let only_count = faults.kept(one_of(query, &SUMMARY)).flatten() == Some("count");
        let total = match faults.kept(one_of(query, &TOTAL)).flatten() {
            None | Some("estimate") => Total::Unasked,
            Some("none") => Total::None,
            Some(_) => Total::Accurate,
        };
        let sort = faults.kept(sort(query, parameters)).unwrap_or_default();
        let includes = faults.kept(Includes::of(query, resource, parameters)).unwrap_or_default();
        faults.kept(asked_subset(query, resource, parameters));
        faults.none()?;
        let count = if only_count { 0 } else { count.unwrap_or(DEFAULT_COUNT) };
        Ok(Self { criteria, total, includes, count, sort, calendar: gateway.calendar })
    }

    /// Rows of a page.
    pub fn count(&self) -> usize {
        self.count
    }

    /// True if only the total is asked for (`_summary=count`, or `_count=0`).
    pub fn only_count(&self) -> bool {
        self.count == 0
    }

    /// True if every row is a match.
    pub fn selects_all(&self) -> bool {
        self.criteria.is_empty()
    }

    /// Whether a resource meets every criterion.
    ///
    /// # Errors
    /// When it can't be written as JSON.
    pub fn matches(&self, resource: &Resource) -> Result<bool, Refusal> {
        if self.criteria.is_empty() {
            return Ok(true);
        }
        let value = serde_json::to_value(resource)?;
        Ok(self.criteria.iter().all(|criterion| matching::holds(criterion, &value, &self.calendar)))
    }

    /// The names in `_sort`, each with whether it descends.
    pub fn sorted_by(&self) -> Vec<(&'static str, bool)> {
        self.sort.iter().map(|(parameter, descending)| (parameter.name, *descending)).collect()
    }

    /// Sorts as `_sort` says; without it nothing moves. What has no value comes last, equals stay as they were.
    ///
    /// # Errors
    /// When a resource can't be written as JSON.
    pub fn sort<T>(&self, rows: &mut [T], resource: impl Fn(&T) -> &Resource) -> Result<(), Refusal> {
        if self.sort.is_empty() {
            return Ok(());
        }
        let mut keyed = Vec::with_capacity(rows.len());
        for (at, row) in rows.iter().enumerate() {
            let value = serde_json::to_value(resource(row))?;
            keyed.push((self.sort_key(&value), at));
        }
        keyed.sort_by(|(one, _), (other, _)| self.order(one, other));
        let mut places = vec![0; rows.len()];
        for (place, (_, at)) in keyed.into_iter().enumerate() {
            places[at] = place;
        }
        for at in 0..rows.len() {
            while places[at] != at {
                let to = places[at];
                rows.swap(at, to);
                places.swap(at, to);
            }
        }
        Ok(())
    }

    fn sort_key(&self, value: &Value) -> Vec<Option<SortValue>> {
        let of = |(parameter, descending): &(&Parameter, bool)| {
            matching::sort_value(value, parameter, *descending, &self.calendar)
        };
        self.sort.iter().map(of).collect()
    }

    fn order(&self, one: &[Option<SortValue>], other: &[Option<SortValue>]) -> std::cmp::Ordering {
        let pairs = one.iter().zip(other).zip(&self.sort);
        pairs.fold(std::cmp::Ordering::Equal, |order, ((one, other), (_, descending))| {
            order.then_with(|| match (one, other) {
                (Some(one), Some(other)) if *descending => other.cmp(one),
                (Some(one), Some(other)) => one.cmp(other),
                (one, other) => other.is_some().cmp(&one.is_some()),
            })
        })
    }

    /// Refuses `_sort` where the rows are too many to be sorted.
    ///
    /// # Errors
    /// [`Refusal`] 400 unless it is one of `orders` alone.
    pub fn sorts_only_by(&self, orders: &[&str]) -> Result<(), Refusal> {
        if self.sort.is_empty() || (self.sort.len() == 1 && orders.contains(&self.sort[0].0.name)) {
            return Ok(());
        }
        let why = match orders {
            [] => "needs the patient here: name one, or leave the order as it is".to_owned(),
            orders => format!("may be only {} here", orders.join(" or ")),
        };
        Err(Refusal::new(Case::Parameter, format!("Parameter '_sort' {why}.")).at("http._sort"))
    }
}

/// Collects the issues of several refusals, so that the caller learns of all at once.
#[derive(Default)]
struct Faults(Vec<Issue>);

impl Faults {
    fn kept<T>(&mut self, read: Result<T, Refusal>) -> Option<T> {
        match read {
            Ok(value) => Some(value),
            Err(refusal) => {
                self.0.extend(refusal.issues);
                None
            }
        }
    }

    fn none(self) -> Result<(), Refusal> {
        if self.0.is_empty() { Ok(()) } else { Err(Refusal::with_issues(Case::Parameter, self.0)) }
    }
}

/// Rows of a page, as a history counts them.
///
/// # Errors
/// [`Refusal`] 400 for anything but a whole number.
pub fn page_count(query: &Query) -> Result<usize, Refusal> {
    Ok(count(query)?.unwrap_or(DEFAULT_COUNT))
}

/// Rows of a page; more than the most is cut, as FHIR allows.
fn count(query: &Query) -> Result<Option<usize>, Refusal> {
    let Some(text) = query.single("_count")? else { return Ok(None) };
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    // More digits than a number holds is still more than the most.
    let count = digits.then(|| text.parse().unwrap_or(MOST_COUNT));
    count.map(|count| Some(count.min(MOST_COUNT))).ok_or_else(|| bad_value("_count", "must be a whole number from 0"))
}

fn one_of<'a>(query: &'a Query, parameter: &Parameter) -> Result<Option<&'a str>, Refusal> {
    let Some(value) = query.single(parameter.name)? else { return Ok(None) };
    if parameter.values.contains(&value) {
        return Ok(Some(value));
    }
    Err(bad_value(parameter.name, &format!("must be one of {}", parameter.values.join(", "))))
}

fn sort(query: &Query, parameters: &'static [Parameter]) -> Result<Vec<(&'static Parameter, bool)>, Refusal> {
    let Some(text) = query.single("_sort")? else { return Ok(Vec::new()) };
    let sortable = || parameters.iter().filter(|parameter| parameter.selects());
    let keys: Option<Vec<_>> = split(text, ',')
        .map(|name| {
            let (name, descending) = name.strip_prefix('-').map_or((name, false), |name| (name, true));
            sortable().find(|parameter| parameter.name == name).map(|parameter| (parameter, descending))
        })
        .collect();
    keys.ok_or_else(|| {
        let known: Vec<&str> = sortable().map(|parameter| parameter.name).collect();
        Refusal::new(Case::Parameter, format!("Parameter '_sort' takes these names here: {}.", known.join(", ")))
            .at("http._sort")
    })
}

/// The part of each resource that `_summary` or `_elements` asks for. `_elements` without a type means `resource`.
///
/// # Errors
/// [`Refusal`] 400 for an unknown value or element, for both at once, and for `_summary=text` with an include (R4).
pub fn asked_subset(query: &Query, resource: &str, parameters: &[Parameter]) -> Result<Option<Subset>, Refusal> {
    let row = parameters.iter().find(|parameter| parameter.name == SUMMARY.name).unwrap_or(&SUMMARY);
    let summary = match one_of(query, row)? {
        None | Some("false" | "count") => None,
        Some("true") => Some(Subset::Summary),
        Some("text") if ["_include", "_revinclude"].iter().any(|name| query.values(name).next().is_some()) => {
            return Err(bad_value("_summary", "can't be text when resources are included"));
        }
        Some("text") => Some(Subset::Text),
        Some(_) => Some(Subset::Data),
    };
    let Some(text) = query.single("_elements")? else { return Ok(summary) };
    if summary.is_some() {
        return Err(bad_value("_elements", "can't be combined with _summary: please give one of them"));
    }
    let mut elements = Vec::new();
    for name in text.split(',') {
        let (of, name) = name.split_once('.').map_or((None, name), |(of, name)| (Some(of), name));
        let served = of.is_none_or(|of| of == resource || subset::is_of_a_record(of));
        let known = served && !name.is_empty() && subset::has_element(of.unwrap_or(resource), name);
        if !known {
            return Err(bad_value("_elements", "must name top-level elements of the resource, separated by commas"));
        }
        elements.push((of.map(str::to_owned), name.to_owned()));
    }
    Ok(Some(Subset::Elements(elements)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subset_of(query: &str) -> Result<Option<Subset>, Case> {
        asked_subset(&Query::parse(query).map_err(|r| r.case)?, "Flag", &[SUMMARY, ELEMENTS])
            .map_err(|refusal| refusal.case)
    }

    #[test]
    fn subsets_are_read_or_refused() {
        assert_eq!(subset_of("_summary=false"), Ok(None));
        assert_eq!(subset_of("_summary=true"), Ok(Some(Subset::Summary)));
        let elements = vec![(None, "status".to_owned()), (Some("Patient".to_owned()), "name".to_owned())];
        assert_eq!(subset_of("_elements=status,Patient.name"), Ok(Some(Subset::Elements(elements))));
        for query in [
            "_summary=yes",
            "_summary=true&_summary=true",
            "_summary=text&_include=Flag:patient",
            "_summary=true&_elements=status",
            "_elements=",
            "_elements=stauts",
            "_elements=Bogus.status",
            "_elements=status,,code",
        ] {
            assert_eq!(subset_of(query), Err(Case::Parameter), "{query}");
        }
    }

    #[test]
    fn counts_are_read_or_refused() {
        let count = |text: &str| count(&Query::parse(text).unwrap()).map_err(|refusal| refusal.case);
        assert_eq!(count("_count=0"), Ok(Some(0)));
        assert_eq!(count("_count=99999999999999999999999999"), Ok(Some(MOST_COUNT)));
        assert_eq!(count(""), Ok(None));
        for text in ["_count=", "_count=-1", "_count=1.5", "_count=x", "_count=+1"] {
            assert_eq!(count(text), Err(Case::Parameter), "{text}");
        }
    }
}
