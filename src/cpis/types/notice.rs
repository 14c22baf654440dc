//! What a local authority is told of: the topics of design 7, each with what it says.

use uuid::Uuid;

use super::{NhsNumber, PlanType, access::Access};

/// What a notification is about; also the topic that a subscription asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Topic {
    /// An unscheduled access that is listed for the authority.
    Access,
    /// A number under which the authority holds a child became inactive.
    InactiveNumber,
    /// The system ended a record of the authority, or takes it back.
    RecordEnded,
}

impl Topic {
    pub const ALL: [Self; 3] = [Self::Access, Self::InactiveNumber, Self::RecordEnded];

    /// As stored.
    pub fn code(self) -> &'static str {
        match self {
            Self::Access => "access",
            Self::InactiveNumber => "inactive-number",
            Self::RecordEnded => "record-ended",
        }
    }

    pub fn from_code(code: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|topic| topic.code() == code)
    }

    /// Last part of the topic's canonical URL, `{base}/SubscriptionTopic/...` (design 7).
    pub fn name(self) -> &'static str {
        match self {
            Self::Access => "cpis-access",
            Self::InactiveNumber => "cpis-inactive-nhs-number",
            Self::RecordEnded => "cpis-record-ended",
        }
    }
}

/// Why a number is inactive (design 9).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InactiveReason {
    /// Merged into another number.
    Superseded,
    /// Not a valid number any more, without a replacement.
    Invalidated,
    /// Given up, at an adoption for instance. No replacement is ever told.
    Retired,
}

impl InactiveReason {
    pub const ALL: [Self; 3] = [Self::Superseded, Self::Invalidated, Self::Retired];

    pub fn code(self) -> &'static str {
        match self {
            Self::Superseded => "superseded",
            Self::Invalidated => "invalidated",
            Self::Retired => "retired",
        }
    }

    pub fn from_code(code: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.code() == code)
    }

    /// In a few words.
    pub fn display(self) -> &'static str {
        match self {
            Self::Superseded => "Superseded",
            Self::Invalidated => "Invalidated",
            Self::Retired => "Retired",
        }
    }
}

/// Why the system ended a record, or takes that back (design 2, 7 and 9).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndedReason {
    /// The child is of age.
    Adult,
    /// The plan of an unborn child has run for as long as one can.
    UnbornLimit,
    /// The birth date was corrected: the end that the system had written is taken back.
    Reopened,
    /// The number is restricted: the record is shown to no clinician.
    Withheld,
    /// It is restricted no longer.
    Unwithheld,
    /// The person has died.
    Deceased,
}

impl EndedReason {
    pub const ALL: [Self; 6] =
        [Self::Adult, Self::UnbornLimit, Self::Reopened, Self::Withheld, Self::Unwithheld, Self::Deceased];

    pub fn code(self) -> &'static str {
        match self {
            Self::Adult => "adult",
            Self::UnbornLimit => "unborn-limit",
            Self::Reopened => "reopened",
            Self::Withheld => "withheld",
            Self::Unwithheld => "unwithheld",
            Self::Deceased => "deceased",
        }
    }

    pub fn from_code(code: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.code() == code)
    }

    /// In a few words.
    pub fn display(self) -> &'static str {
        match self {
            Self::Adult => "Child came of age",
            Self::UnbornLimit => "Unborn child's plan reached its limit",
            Self::Reopened => "End taken back",
            Self::Withheld => "Record withheld",
            Self::Unwithheld => "Record no longer withheld",
            Self::Deceased => "Person deceased",
        }
    }
}

/// One thing that one authority is told. The numbers are those under which it sent the child itself.
#[derive(Clone)]
pub enum Notice {
    Access(Box<Access>),
    InactiveNumber {
        nhs_number: NhsNumber,
        reason: InactiveReason,
        /// Only of a superseded number.
        replaced_by: Option<NhsNumber>,
    },
    RecordEnded {
        nhs_number: NhsNumber,
        reason: EndedReason,
        /// The plan that it is about, where it is about one: FHIR id and type.
        plan: Option<(Uuid, PlanType)>,
    },
}

masked_debug!(Notice);

impl Notice {
    pub fn topic(&self) -> Topic {
        match self {
            Self::Access(_) => Topic::Access,
            Self::InactiveNumber { .. } => Topic::InactiveNumber,
            Self::RecordEnded { .. } => Topic::RecordEnded,
        }
    }
}
