//! The R4 resources that CP-IS reads or writes, one file each, and [`Resource`], any one of them.

mod audit_event;
mod bundle;
mod care_plan;
mod care_team;
mod flag;
mod operation_outcome;
mod organization;
mod parameters;
mod patient;
mod practitioner_role;
mod provenance;
mod subscription;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

pub use audit_event::{
    AuditEvent, AuditEventAgent, AuditEventAgentNetwork, AuditEventEntity, AuditEventEntityDetail, AuditEventSource,
};
pub use bundle::{Bundle, BundleEntry, BundleEntryRequest, BundleEntryResponse, BundleEntrySearch, BundleLink};
pub use care_plan::CarePlan;
pub use care_team::CareTeam;
pub use flag::Flag;
pub use operation_outcome::{OperationOutcome, OperationOutcomeIssue};
pub use organization::Organization;
pub use parameters::{Parameters, ParametersParameter};
pub use patient::{Patient, PatientLink};
pub use practitioner_role::PractitionerRole;
pub use provenance::{Provenance, ProvenanceAgent};
pub use subscription::{Subscription, SubscriptionChannel};

/// Why JSON could not be read as a resource. Says nothing of its content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the JSON is not a readable FHIR resource")]
pub struct UnreadableResource;

/// Any resource. Written with `resourceType` first and the elements in R4's order.
#[derive(Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Resource {
    AuditEvent(Box<AuditEvent>),
    Bundle(Box<Bundle>),
    CarePlan(Box<CarePlan>),
    CareTeam(Box<CareTeam>),
    Flag(Box<Flag>),
    OperationOutcome(Box<OperationOutcome>),
    Organization(Box<Organization>),
    Parameters(Box<Parameters>),
    Patient(Box<Patient>),
    PractitionerRole(Box<PractitionerRole>),
    Provenance(Box<Provenance>),
    Subscription(Box<Subscription>),
    /// A type that has no struct of its own here; kept as it came.
    Other(Value),
}

/// Implements what follows from the list of types: reading by `resourceType`, `From`, type name and id.
macro_rules! known_types {
    ($($name:ident),*) => {
        impl Resource {
            /// Reads a resource by its `resourceType`.
            ///
            /// # Errors
            /// [`UnreadableResource`] when there is no `resourceType` or an element has another JSON type than R4 says.
            pub fn read(value: Value) -> Result<Self, UnreadableResource> {
                let name = value.get("resourceType").and_then(Value::as_str).ok_or(UnreadableResource)?;
                match name {
                    $(stringify!($name) => {
                        let read = serde_json::from_value(value).map_err(|_| UnreadableResource)?;
                        Ok(Self::$name(Box::new(read)))
                    })*
                    _ => Ok(Self::Other(value)),
                }
            }

            /// `resourceType`.
            pub fn type_name(&self) -> &str {
                match self {
                    $(Self::$name(_) => stringify!($name),)*
                    Self::Other(value) => value.get("resourceType").and_then(Value::as_str).unwrap_or_default(),
                }
            }

            /// The logical id, if it has one.
            pub fn id(&self) -> Option<&str> {
                match self {
                    $(Self::$name(resource) => resource.id.as_deref(),)*
                    Self::Other(value) => value.get("id").and_then(Value::as_str),
                }
            }
        }

        $(impl From<$name> for Resource {
            fn from(resource: $name) -> Self {
                Self::$name(Box::new(resource))
            }
        })*
    };
}
known_types!(
    AuditEvent,
    Bundle,
    CarePlan,
    CareTeam,
    Flag,
    OperationOutcome,
    Organization,
    Parameters,
    Patient,
    PractitionerRole,
    Provenance,
    Subscription
);

impl<'de> Deserialize<'de> for Resource {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::read(Value::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

impl std::fmt::Debug for Resource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}(..)", self.type_name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn resource_type_comes_first_and_absent_elements_are_left_out() {
        let flag = Flag { id: Some("f1".to_owned()), status: "active".to_owned(), ..Flag::default() };
        let text = serde_json::to_string(&Resource::from(flag)).unwrap();
        assert_eq!(text, r#"{"resourceType":"Flag","id":"f1","status":"active"}"#);
    }

    #[test]
    fn resources_are_read_by_their_type() {
        let read =
            Resource::read(json!({"resourceType": "Flag", "id": "f1", "status": "active", "unknown": 1})).unwrap();
        assert_eq!((read.type_name(), read.id()), ("Flag", Some("f1")));
        let other = Resource::read(json!({"resourceType": "Device", "id": "d1"})).unwrap();
        assert_eq!((other.type_name(), other.id()), ("Device", Some("d1")));
        assert_eq!(Resource::read(json!({"id": "f1"})), Err(UnreadableResource));
        assert_eq!(Resource::read(json!({"resourceType": "Flag", "status": 1})), Err(UnreadableResource));
    }
}
