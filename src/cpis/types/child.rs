//! A child as an authority sent it, and demographics as traced.

use chrono::{DateTime, NaiveDate, Utc};

use super::{NhsNumber, notice::InactiveReason};

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
    /// What the authority was told of its number having become inactive; not known of a version of the past.
    pub inactive: Option<Inactive>,
}

/// That a number of an authority's is not valid any more (design 9).
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Inactive {
    pub reason: InactiveReason,
    /// Only of a superseded number.
    pub replaced_by: Option<NhsNumber>,
    /// When the authority was told.
    pub since: DateTime<Utc>,
    /// It is so still: false of a number that was found valid again, or is restricted.
    pub holds: bool,
}

impl AuthorityChild {
    /// The number's state, if it is inactive.
    pub fn inactive_number(&self) -> Option<&Inactive> {
        self.inactive.as_ref().filter(|inactive| inactive.holds)
    }

    /// When what is shown of it last changed.
    pub fn modified(&self) -> DateTime<Utc> {
        self.inactive_number().map_or(self.recorded, |inactive| self.recorded.max(inactive.since))
    }
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

/// What is said of a number: by an administrator, by demographics, or by the register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NumberChange {
    /// Valid and in use, whatever was said before: takes an alias, a restriction, a retirement back.
    Current,
    Superseded(NhsNumber),
    /// Not a valid number any more, without a replacement.
    Invalidated,
    /// Given up, at an adoption for instance: joined to no other number, ever.
    Retired,
    /// The record is sensitive: nothing of it is shown to clinicians.
    Restricted,
    /// The restriction alone is taken back.
    Unrestricted,
    Deceased,
    /// The death was recorded in error.
    Alive,
}

impl NumberChange {
    /// As the audit has it.
    pub fn code(self) -> &'static str {
        match self {
            Self::Current => "current",
            Self::Superseded(_) => "superseded",
            Self::Invalidated => "invalidated",
            Self::Retired => "retired",
            Self::Restricted => "restricted",
            Self::Unrestricted => "unrestricted",
            Self::Deceased => "deceased",
            Self::Alive => "alive",
        }
    }
}

/// What the local register says of a number. `Debug` is masked.
#[derive(Clone, PartialEq, Eq)]
pub struct RegisterEntry {
    pub nhs_number: NhsNumber,
    pub demographics: Demographics,
    pub status: NumberStatus,
    /// Of a superseded number, and of no other.
    pub replaced_by: Option<NhsNumber>,
    pub deceased: bool,
}

impl RegisterEntry {
    /// What it says of the number itself.
    pub fn statement(&self) -> Statement {
        Statement { status: self.status, replaced_by: self.replaced_by, deceased: self.deceased }
    }
}

/// What demographics say of a number itself; kept, to tell whether what they say next is new. `Debug` is masked.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Statement {
    pub status: NumberStatus,
    /// Of a superseded number; none even so where the replacement may not be kept.
    pub replaced_by: Option<NhsNumber>,
    pub deceased: bool,
}

impl Statement {
    /// Of a number about which there is nothing to say; what was never asked for counts so.
    pub const NOTHING_TO_SAY: Self = Self { status: NumberStatus::Current, replaced_by: None, deceased: false };

    /// As it is kept: three words with a space between them, the last two of which may be empty.
    pub fn text(&self) -> String {
        let replaced_by = self.replaced_by.as_ref().map_or("", NhsNumber::as_str);
        format!("{} {replaced_by} {}", self.status.code(), if self.deceased { "deceased" } else { "" })
    }

    /// What [`Statement::text`] has written.
    pub fn parse(text: &str) -> Option<Self> {
        let mut words = text.split(' ');
        let status = NumberStatus::from_code(words.next()?)?;
        let replaced_by = match words.next()? {
            "" => None,
            number => Some(NhsNumber::parse(number).ok()?),
        };
        let deceased = match words.next()? {
            "" => false,
            "deceased" => true,
            _ => return None,
        };
        words.next().is_none().then_some(Self { status, replaced_by, deceased })
    }
}

/// What demographics hold of a person; a source may lack any of it. `Debug` is masked.
#[derive(Clone, PartialEq, Eq)]
pub struct Traced {
    /// Of the usual name, not of one that the person prefers or had.
    pub family: Option<String>,
    /// The first given name, then the others.
    pub given: Vec<String>,
    pub birth_date: Option<NaiveDate>,
    pub deceased: bool,
}

/// How soon the answer to a trace is needed: what is asked for less urgently waits for the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Urgency {
    /// Nobody waits: stored numbers that are traced again.
    Background,
    /// A file of many records.
    File,
    /// A caller waits for the answer.
    Caller,
}

/// What demographics know of a number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trace {
    Unknown,
    Found(Traced),
    Superseded(NhsNumber),
    Invalid,
    /// Restricted or very restricted: nothing may be stored.
    Restricted,
    /// `pds.mode = "off"`: nobody was asked; the birth date as sent counts.
    NotTraced,
}

masked_debug!(AuthorityChild, Inactive, RegisterEntry, Statement, Traced);
