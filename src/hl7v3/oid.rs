//! The object identifiers of CP-IS messages (domain.md 1.5).

pub const NHS_NUMBER: &str = "2.16.840.1.113883.2.1.4.1";
/// The authority's own id of a child, or of a plan.
pub const LOCAL_ID: &str = "2.16.840.1.113883.2.1.3.2.4.18.24";
pub const UPLOAD_FILE: &str = "2.16.840.1.113883.2.1.3.2.4.18.46";
/// Of `npfitlc:contentId`, which names the template that follows.
pub const CONTENT_ID: &str = "2.16.840.1.113883.2.1.3.2.4.18.16";
pub const ORGANISATION: &str = "2.16.840.1.113883.2.1.3.2.4.19.1";
/// CP-ISUploadRecordResponse.
pub const RECORD_RESPONSE: &str = "2.16.840.1.113883.2.1.3.2.4.17.473";
/// CP-ISUploadFileResponse.
pub const FILE_RESPONSE: &str = "2.16.840.1.113883.2.1.3.2.4.17.474";
/// Job roles of an author.
pub const JOB_ROLE: &str = "2.16.840.1.113883.2.1.3.2.4.17.196";
pub const SDS_USER: &str = "1.2.826.0.1285.0.2.0.65";
pub const SDS_ROLE_PROFILE: &str = "1.2.826.0.1285.0.2.0.67";
/// ASID of a system.
pub const SYSTEM: &str = "1.2.826.0.1285.0.2.0.107";
