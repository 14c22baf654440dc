//! A child as an authority sent it, and demographics as traced.

use chrono::{DateTime, NaiveDate, Utc};

use super::NhsNumber;

/// Name and birth date. `Debug` is masked.
#[derive(Clone, PartialEq, Eq)]
pub struct Demographics {
    pub family: String,
    pub given: Vec<String>,
    pub birth_date: NaiveDate,
}

impl std::fmt::Debug for Demographics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Demographics(..)")
    }
}

/// An authority's own child (design 2 `authority_child`): the newest version that counts.
#[derive(Clone, PartialEq, Eq)]
pub struct AuthorityChild {
    /// Surrogate key.
    pub id: i64,
    /// Surrogate key of the person that the number as sent belongs to.
    pub person_id: i64,
    /// The number as that authority sent it.
    pub nhs_number: NhsNumber,
    pub demographics: Demographics,
    /// The authority's own id of the child.
    pub local_id: Option<String>,
    pub version: i64,
    pub recorded: DateTime<Utc>,
}

/// State of a number (design 9).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NumberStatus {
    Current,
    Superseded,
    Invalid,
    Retired,
    Restricted,
}

impl NumberStatus {
    pub const ALL: [Self; 5] = [Self::Current, Self::Superseded, Self::Invalid, Self::Retired, Self::Restricted];

    pub fn code(self) -> &'static str {
        match self {
            Self::Current => "current",
            Self::Superseded => "superseded",
            Self::Invalid => "invalid",
            Self::Retired => "retired",
            Self::Restricted => "restricted",
        }
    }

    pub fn from_code(code: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|s| s.code() == code)
    }
}

/// What demographics know of a number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trace {
    Unknown,
    Found(Demographics),
    Superseded(NhsNumber),
    Invalid,
    /// Restricted or very restricted: nothing may be stored.
    Restricted,
    /// `pds.mode = "off"`: nobody was asked; the birth date as sent counts.
    NotTraced,
}

masked_debug!(AuthorityChild);
