//! Canonical URIs of the identifier and code systems that CP-IS resources use (domain.md 1.5, 2, 6 and 9).

pub const NHS_NUMBER: &str = "https://fhir.nhs.uk/Id/nhs-number";
pub const ODS_CODE: &str = "https://fhir.nhs.uk/Id/ods-organization-code";
pub const ODS_SITE_CODE: &str = "https://fhir.nhs.uk/Id/ods-site-code";
pub const SDS_USER_ID: &str = "https://fhir.nhs.uk/Id/sds-user-id";
pub const SDS_ROLE_PROFILE_ID: &str = "https://fhir.nhs.uk/Id/sds-role-profile-id";
/// An authority's own id of a child or of a plan: the root that the HL7 v3 upload uses for both.
pub const LOCAL_ID: &str = "urn:oid:2.16.840.1.113883.2.1.3.2.4.18.24";
/// The end of the canonical of our own code system of organisations, which begins with the FHIR base.
const CPIS_ORGANIZATION: &str = "/CodeSystem/cpis-organization";

/// Our own code system of organisations on a server with this FHIR base, without a last slash.
pub fn cpis_organization(base_url: &str) -> String {
    format!("{base_url}{CPIS_ORGANIZATION}")
}

/// Whether a system is ours of organisations, whatever the address is under which its server was reached.
pub fn is_cpis_organization(system: &str) -> bool {
    system.ends_with(CPIS_ORGANIZATION)
}

/// Sequence number of an upload file (`Bundle.identifier`).
pub const UPLOAD_FILE: &str = "urn:oid:2.16.840.1.113883.2.1.3.2.4.18.46";

pub const SNOMED_CT: &str = "http://snomed.info/sct";
pub const FLAG_CATEGORY_PATIENT: &str = "https://fhir.nhs.uk/England/CodeSystem/England-FlagCategoryPatient";
pub const CPIS_FLAG: &str = "child-protection-information-system-flag";
pub const CPIS_FLAG_DISPLAY: &str = "Child Protection Information System Flag";
pub const FLAG_STATUS: &str = "http://hl7.org/fhir/flag-status";
pub const FLAG_CATEGORY: &str = "http://terminology.hl7.org/CodeSystem/flag-category";
pub const ORGANIZATION_TYPE: &str = "http://terminology.hl7.org/CodeSystem/organization-type";
pub const SDS_JOB_ROLE: &str = "https://fhir.hl7.org.uk/CodeSystem/UKCore-SDSJobRoleName";
pub const NUMBER_VERIFICATION: &str = "https://fhir.hl7.org.uk/CodeSystem/UKCore-NHSNumberVerificationStatusEngland";
pub const SPINE_CODE: &str = "https://fhir.nhs.uk/R4/CodeSystem/Spine-ErrorOrWarningCode";
pub const RECORD_RESPONSE: &str = "urn:oid:2.16.840.1.113883.2.1.3.2.4.17.473";
pub const FILE_RESPONSE: &str = "urn:oid:2.16.840.1.113883.2.1.3.2.4.17.474";

pub const FLAG_DETAIL: &str = "http://hl7.org/fhir/StructureDefinition/flag-detail";
pub const NUMBER_VERIFICATION_EXTENSION: &str =
    "https://fhir.hl7.org.uk/StructureDefinition/Extension-UKCore-NHSNumberVerificationStatus";

pub const AUDIT_EVENT_TYPE: &str = "http://terminology.hl7.org/CodeSystem/audit-event-type";
pub const AUDIT_ENTITY_TYPE: &str = "http://terminology.hl7.org/CodeSystem/audit-entity-type";
pub const OBJECT_ROLE: &str = "http://terminology.hl7.org/CodeSystem/object-role";
pub const SECURITY_SOURCE_TYPE: &str = "http://terminology.hl7.org/CodeSystem/security-source-type";
pub const LIFECYCLE: &str = "http://terminology.hl7.org/CodeSystem/iso-21089-lifecycle";
pub const PARTICIPATION_TYPE: &str = "http://terminology.hl7.org/CodeSystem/v3-ParticipationType";
pub const ROLE_CLASS: &str = "http://terminology.hl7.org/CodeSystem/v3-RoleClass";
pub const DATA_OPERATION: &str = "http://terminology.hl7.org/CodeSystem/v3-DataOperation";
pub const PARTICIPANT_TYPE: &str = "http://terminology.hl7.org/CodeSystem/provenance-participant-type";
pub const RESTFUL_INTERACTION: &str = "http://hl7.org/fhir/restful-interaction";
pub const DICOM: &str = "http://dicom.nema.org/resources/ontology/DCM";
pub const BALP_ENTITY_TYPE: &str = "https://profiles.ihe.net/ITI/BALP/CodeSystem/BasicAuditEntityType";
pub const BALP_PROFILE: &str = "https://profiles.ihe.net/ITI/BALP/StructureDefinition/IHE.BasicAudit.";

pub const ENGLAND_PROFILE: &str = "https://fhir.nhs.uk/England/StructureDefinition/";
pub const PAYLOAD_CONTENT: &str =
    "http://hl7.org/fhir/uv/subscriptions-backport/StructureDefinition/backport-payload-content";
pub const HEARTBEAT_PERIOD: &str =
    "http://hl7.org/fhir/uv/subscriptions-backport/StructureDefinition/backport-heartbeat-period";
pub const TIMEOUT: &str = "http://hl7.org/fhir/uv/subscriptions-backport/StructureDefinition/backport-timeout";
pub const MAX_COUNT: &str = "http://hl7.org/fhir/uv/subscriptions-backport/StructureDefinition/backport-max-count";
/// How the extensions of the backport begin.
pub const SUBSCRIPTIONS_BACKPORT: &str = "http://hl7.org/fhir/uv/subscriptions-backport/";
pub const SUBSCRIPTION_STATUS_PROFILE: &str =
    "http://hl7.org/fhir/uv/subscriptions-backport/StructureDefinition/backport-subscription-status-r4";
pub const SUBSCRIPTION_NOTIFICATION_PROFILE: &str =
    "http://hl7.org/fhir/uv/subscriptions-backport/StructureDefinition/backport-subscription-notification-r4";
