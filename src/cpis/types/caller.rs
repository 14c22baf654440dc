//! Who calls, and for what: clients, users, roles, activity codes (design 10), the request's context.

use std::net::IpAddr;

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::organization::{OdsCode, Organization};

/// What a registered client may be (design 10).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    Clinical,
    LocalAuthority,
    Auditor,
    Administrator,
}

impl Role {
    pub const ALL: [Self; 4] = [Self::Clinical, Self::LocalAuthority, Self::Auditor, Self::Administrator];

    pub fn code(self) -> &'static str {
        match self {
            Self::Clinical => "clinical",
            Self::LocalAuthority => "local-authority",
            Self::Auditor => "auditor",
            Self::Administrator => "administrator",
        }
    }

    pub fn from_code(code: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|r| r.code() == code)
    }
}

/// B0107 "View CP-IS Flag": unscheduled access, the local authority is told.
pub const VIEW_FLAG: &str = "B0107";
/// B0170 "View CP-IS Flag (without sending an ASN)": silent read in scheduled care.
pub const VIEW_FLAG_SILENTLY: &str = "B0170";

/// A client registered with the gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Client {
    /// The token's `client_id` (or `azp`) claim.
    pub client_id: String,
    pub name: String,
    pub role: Role,
    pub organization: OdsCode,
    /// May call without a user (device author).
    pub unattended: bool,
    /// Activity codes of an unattended client; a user's come from the token.
    pub activities: Vec<String>,
    pub disabled: bool,
}

/// A clinician as CIS2 names them in the token.
#[derive(Clone, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct User {
    /// SDS user id.
    pub sds_user_id: String,
    /// SDS role profile id.
    pub role_profile_id: Option<String>,
    pub name: String,
    /// Job role code, R followed by digits, and its display.
    pub job_role_code: Option<String>,
    pub job_role_name: Option<String>,
}

/// The person whom an unattended client names as responsible (claim `cpis_responsible_person`).
#[derive(Clone, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct ResponsiblePerson {
    pub name: String,
    pub role_code: Option<String>,
    pub role_name: String,
    pub phone: Option<String>,
}

/// Who is behind a request: a person, or a device with a responsible person.
#[derive(Clone, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Author {
    Person(User),
    Device {
        responsible: ResponsiblePerson,
        site: Option<OdsCode>,
    },
    /// A system of an authority, auditor or administrator acting for its organisation.
    System,
}

/// An authenticated caller. Everything in it comes from the verified token and the registered client.
#[derive(Clone, PartialEq, Eq)]
pub struct Caller {
    pub client_id: String,
    pub client_name: String,
    pub role: Role,
    pub organization: Organization,
    pub author: Author,
    pub activities: Vec<String>,
    /// The last 32 characters of the token (BALP `agent.policy`), never more.
    pub token_tail: String,
}

impl Caller {
    pub fn has_activity(&self, code: &str) -> bool {
        self.activities.iter().any(|a| a == code)
    }

    /// What "the same author" means for the listing rule (design 5): (user, organisation) for a person,
    /// (client, organisation or site, responsible person) for a device. Opaque; compared for equality only.
    pub fn author_key(&self) -> String {
        let ods = self.organization.ods.as_str();
        match &self.author {
            Author::Person(user) => format!("person|{}|{ods}", user.sds_user_id),
            Author::Device { responsible, site } => {
                let site = site.as_ref().map_or(ods, OdsCode::as_str);
                format!("device|{}|{site}|{}|{}", self.client_id, responsible.name, responsible.role_name)
            }
            Author::System => format!("system|{}|{ods}", self.client_id),
        }
    }
}

/// One request as audit and history name it.
#[derive(Clone)]
pub struct RequestContext {
    /// `X-Request-ID` or `TraceID`, made if absent.
    pub request_id: String,
    /// When the request was received; milliseconds.
    pub at: DateTime<Utc>,
    /// Where it came from.
    pub address: Option<IpAddr>,
    /// The request line without headers, e.g. `GET /CareTeam?patient=...`; goes into the audit, never into a log.
    pub request_line: String,
}

impl RequestContext {
    /// A context for work that the gateway does by itself.
    pub fn internal(what: &str, at: DateTime<Utc>) -> Self {
        Self { request_id: Uuid::new_v4().to_string(), at, address: None, request_line: what.to_owned() }
    }
}

masked_debug!(User, ResponsiblePerson, Caller, RequestContext);
