//! An upload as every door delivers it: records of one child each, and the codes that answer them (design 6).

use chrono::NaiveDate;

use super::{
    NhsNumber, Phone,
    child::Demographics,
    plan::{LocalPlanId, PlanType},
    precondition::Precondition,
};

/// CP-ISUploadRecordResponse v3.0 (OID 2.16.840.1.113883.2.1.3.2.4.17.473).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub enum RecordCode {
    /// No such number.
    Cpr01,
    /// Sensitive record: cannot hold CP-IS data.
    Cpr02,
    /// Number not verified: demographics do not match.
    Cpr03,
    /// Format of the number wrong.
    Cpr04,
    /// Number superseded.
    Cpr05,
    /// Success.
    Cpr06,
    /// Unsuccessful for another reason, said in words.
    Cpr07,
}

impl RecordCode {
    pub fn code(self) -> &'static str {
        match self {
            Self::Cpr01 => "CPR01",
            Self::Cpr02 => "CPR02",
            Self::Cpr03 => "CPR03",
            Self::Cpr04 => "CPR04",
            Self::Cpr05 => "CPR05",
            Self::Cpr06 => "CPR06",
            Self::Cpr07 => "CPR07",
        }
    }

    pub fn from_code(code: &str) -> Option<Self> {
        [Self::Cpr01, Self::Cpr02, Self::Cpr03, Self::Cpr04, Self::Cpr05, Self::Cpr06, Self::Cpr07]
            .into_iter()
            .find(|known| known.code() == code)
    }

    /// The code that stands for a record which is refused for several reasons, whatever their order: a sensitive record
    /// before everything else, then what is wrong with the number, then CPR07.
    pub fn standing_for(codes: impl IntoIterator<Item = Self>) -> Option<Self> {
        codes.into_iter().min_by_key(|code| match code {
            Self::Cpr02 => (0, code.code()),
            Self::Cpr06 | Self::Cpr07 => (2, code.code()),
            number => (1, number.code()),
        })
    }

    pub fn display(self) -> &'static str {
        match self {
            Self::Cpr01 => "PDS error - no match for the NHS number",
            Self::Cpr02 => "PDS error - sensitive record",
            Self::Cpr03 => "PDS error - NHS number not verified",
            Self::Cpr04 => "NHS number format error",
            Self::Cpr05 => "NHS number superseded - new number required",
            Self::Cpr06 => "Record loaded",
            Self::Cpr07 => "Record not loaded",
        }
    }
}

/// CP-ISUploadFileResponse v2.0 (OID 2.16.840.1.113883.2.1.3.2.4.17.474).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FileCode {
    /// File-level error.
    Cpf01,
    /// All records loaded.
    Cpf02,
    /// Some loaded.
    Cpf03,
    /// None loaded.
    Cpf04,
    /// Demographics service unavailable: resubmit.
    Cpf05,
}

impl FileCode {
    pub fn code(self) -> &'static str {
        match self {
            Self::Cpf01 => "CPF01",
            Self::Cpf02 => "CPF02",
            Self::Cpf03 => "CPF03",
            Self::Cpf04 => "CPF04",
            Self::Cpf05 => "CPF05",
        }
    }

    pub fn from_code(code: &str) -> Option<Self> {
        [Self::Cpf01, Self::Cpf02, Self::Cpf03, Self::Cpf04, Self::Cpf05].into_iter().find(|known| known.code() == code)
    }

    pub fn display(self) -> &'static str {
        match self {
            Self::Cpf01 => "File level error",
            Self::Cpf02 => "All records loaded",
            Self::Cpf03 => "Partial file upload",
            Self::Cpf04 => "No record loaded",
            Self::Cpf05 => "PDS unavailable",
        }
    }
}

/// By which door a change came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    /// A FHIR Bundle.
    Bundle,
    /// A single FHIR interaction.
    Interaction,
    /// A file that came over MESH.
    Mesh,
}

impl Door {
    /// The short code that the database holds.
    pub fn code(self) -> &'static str {
        match self {
            Self::Bundle => "bundle",
            Self::Interaction => "interaction",
            Self::Mesh => "mesh",
        }
    }
}

/// How a change names the plan it means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PlanKey {
    /// By its FHIR id (`PUT Flag/{id}`, `DELETE Flag/{id}`).
    Id { id: uuid::Uuid, precondition: Precondition },
    /// By content: local id, else start (design 6 "which plan is meant").
    Content,
    /// By a search (conditional create, update and delete); by content when the search finds nothing.
    Criteria(PlanCriteria),
}

/// A search among the authority's own plans of the child that are not deleted (R4 http.html, conditional interactions).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PlanCriteria {
    pub plan_type: Option<PlanType>,
    pub local_id: Option<LocalPlanId>,
    /// The FHIR id that the body names; it must be that of the plan found.
    pub body_id: Option<String>,
    pub precondition: Precondition,
    /// `If-None-Exist`: a plan that is there already stays as it is.
    pub keeps: bool,
}

impl PlanCriteria {
    /// Whether a plan of this type and local id is found.
    pub fn find(&self, plan_type: PlanType, local_id: Option<&LocalPlanId>) -> bool {
        self.plan_type.is_none_or(|wanted| wanted == plan_type)
            && self.local_id.as_ref().is_none_or(|wanted| Some(wanted) == local_id)
    }
}

/// What is to happen to one plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PlanAction {
    /// Register or correct: the start and end as sent.
    Put { start: NaiveDate, end: Option<NaiveDate> },
    /// Registered in error: gone from every view. `start` finds it when there is no id.
    Delete { start: Option<NaiveDate> },
}

/// One change of one plan within a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlanChange {
    /// Position of the entry in the file, from 0: answers and problems point at it.
    pub entry: usize,
    pub key: PlanKey,
    /// `None` only for a delete by id.
    pub plan_type: Option<PlanType>,
    pub local_id: Option<LocalPlanId>,
    pub action: PlanAction,
}

/// The child's own data as sent in the record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChildChange {
    pub entry: usize,
    pub demographics: Demographics,
    pub local_id: Option<String>,
    /// About the row of exactly this number.
    pub precondition: Precondition,
}

/// All that an upload says about one NHS number, judged together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordChange {
    pub nhs_number: NhsNumber,
    pub child: Option<ChildChange>,
    pub plans: Vec<PlanChange>,
}

/// One thing wrong with a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Position of the entry that it lies in.
    pub entry: usize,
    pub code: RecordCode,
    /// What kind of refusal: decides the HTTP status.
    pub kind: ProblemKind,
    /// Plain English, what to do; never a value that was sent.
    pub reason: String,
    /// Element below the resource, e.g. `period.end`; empty for the whole entry.
    pub element: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProblemKind {
    /// Against a CP-IS rule: 422.
    Rule,
    /// A [`Precondition`] does not hold: 412.
    Version,
    /// Criteria find several plans: 412.
    Several,
    /// The body names another id than that of the plan that the criteria find: 400.
    OtherId,
    /// The named plan isn't there, or not this authority's: 404.
    NotFound,
    /// The named plan was deleted: 410.
    Gone,
}

/// Something to tell the authority about an accepted entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    pub entry: usize,
    /// Plain English, never a value that was sent.
    pub reason: String,
    /// Element below the resource, e.g. `period.end`; empty for the whole entry.
    pub element: &'static str,
}

/// The authority's own details as it sends them; applied before the records of the same upload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OrganizationChange {
    pub entry: usize,
    pub name: Option<String>,
    pub office_phone: Option<Phone>,
    pub duty_phone: Phone,
    pub precondition: Precondition,
}

/// One record of a file as it was read: what it asks for, or why it can't be read. The same for every door.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReadRecord {
    Change(RecordChange),
    Unreadable(UnreadableRecord),
}

/// A record that never became one. It counts for the file's code and is answered with its problems.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnreadableRecord {
    /// `None` when it can't be read.
    pub nhs_number: Option<NhsNumber>,
    /// At least one; their words never hold a value that was sent.
    pub problems: Vec<Problem>,
    /// SHA-256 of what was sent, in a form that does not depend on white space: files are compared by it.
    pub digest: [u8; 32],
}

/// A record of an upload that was not loaded, as its authority is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefusedRecord {
    /// In the order of the file, from 0.
    pub position: usize,
    /// `None` when it could not be read, for a sensitive record, and once its time is over.
    pub nhs_number: Option<NhsNumber>,
    pub code: RecordCode,
    /// Empty for a sensitive record, and once its time is over.
    pub problems: Vec<Problem>,
}

/// The place of an entry within a record of an HL7 v3 file, as [`PlanChange::entry`] and [`Problem::entry`] have it
/// there: the subject is 0, the n-th plan (`pertinentInformation[n]`) is n.
pub const SUBJECT_ENTRY: usize = 0;
