//! A row of a child's access history as `AuditEvent` and `PractitionerRole` (design 5, examples.md 7d).

use super::{job_role, ods_identifier, plan::subject_identifier};
use crate::{
    cpis::types::{
        OdsCode,
        access::{Access, AccessAuthor, WITHHELD},
        caller::Author,
    },
    fhir::{
        datatype::{CodeableConcept, Coding, ContactPoint, Identifier, Reference},
        resource::{
            AuditEvent, AuditEventAgent, AuditEventEntity, AuditEventEntityDetail, AuditEventSource, PractitionerRole,
        },
        system,
    },
};

/// The access and who it was by; both have the access's id. Of a sensitive organisation only the role is shown,
/// unless `for_auditor`.
pub fn access_event(access: &Access, for_auditor: bool) -> (AuditEvent, PractitionerRole) {
    let withheld = access.author.sensitive && !for_auditor;
    (event(access, withheld), practitioner_role(access, withheld))
}

fn event(access: &Access, withheld: bool) -> AuditEvent {
    let id = access.id.to_string();
    let author = Reference::to("PractitionerRole", &id);
    let agent = AuditEventAgent {
        role: vec![Coding::displayed(system::PARTICIPATION_TYPE, "AUT", "author (originator)").into()],
        who: Some(author.clone()),
        requestor: Some(true),
        ..AuditEventAgent::default()
    };
    let device = matches!(access.author.author, Author::Device { .. }) && !withheld;
    let setting = access.author.scheduled_setting.then(|| AuditEventEntityDetail {
        kind: "care-setting".to_owned(),
        value_string: Some("Unscheduled access from an organisation of scheduled care".to_owned()),
    });
    let child = AuditEventEntity {
        what: Some(subject_identifier(&access.nhs_number)),
        detail: setting.into_iter().collect(),
        ..AuditEventEntity::default()
    };
    let role = AuditEventEntity {
        what: Some(author.clone()),
        kind: Some(Coding::new(system::ROLE_CLASS, "ASSIGNED")),
        ..AuditEventEntity::default()
    };
    AuditEvent {
        kind: Coding::displayed(system::LIFECYCLE, "access", "Access/View Record Lifecycle Event"),
        action: Some("R".to_owned()),
        recorded: access.at.into(),
        outcome: Some("0".to_owned()),
        agent: std::iter::once(agent).chain(device.then(|| system_agent(&access.author))).collect(),
        source: AuditEventSource { observer: author, ..AuditEventSource::default() },
        entity: vec![child, role],
        id: Some(id),
        ..AuditEvent::default()
    }
}

/// The unattended system that asked in the name of the responsible person.
fn system_agent(author: &AccessAuthor) -> AuditEventAgent {
    let system = Reference {
        target_type: Some("Device".to_owned()),
        ..Reference::identified(Identifier::local(&author.client_id))
    };
    AuditEventAgent {
        kind: Some(Coding::displayed(system::DICOM, "110150", "Application").into()),
        who: Some(system),
        requestor: Some(false),
        ..AuditEventAgent::default()
    }
}

fn practitioner_role(access: &Access, withheld: bool) -> PractitionerRole {
    let id = Some(access.id.to_string());
    let code: Vec<CodeableConcept> = role_of(&access.author.author).into_iter().collect();
    if withheld {
        let organization = Some(Reference::named(WITHHELD));
        return PractitionerRole { id, organization, code, ..PractitionerRole::default() };
    }
    let author = &access.author;
    let organization =
        Reference::identified(ods_identifier(&author.organization)).with_display(&author.organization_name);
    let role = PractitionerRole { id, organization: Some(organization), code, ..PractitionerRole::default() };
    match &author.author {
        Author::Person(user) => PractitionerRole {
            identifier: user.role_profile_id.iter().map(|i| Identifier::new(system::SDS_ROLE_PROFILE_ID, i)).collect(),
            practitioner: Some(
                Reference::identified(Identifier::new(system::SDS_USER_ID, &user.sds_user_id)).with_display(&user.name),
            ),
            ..role
        },
        Author::Device { responsible, site } => PractitionerRole {
            practitioner: Some(Reference::named(&responsible.name)),
            location: site.iter().map(site_reference).collect(),
            telecom: responsible.phone.iter().map(|phone| ContactPoint::phone(phone, "work")).collect(),
            ..role
        },
        Author::System => role,
    }
}

fn role_of(author: &Author) -> Option<CodeableConcept> {
    match author {
        Author::Person(user) => job_role(user.job_role_code.as_deref(), user.job_role_name.as_deref()),
        Author::Device { responsible, .. } => job_role(responsible.role_code.as_deref(), Some(&responsible.role_name)),
        Author::System => None,
    }
}

pub(super) fn site_reference(site: &OdsCode) -> Reference {
    Reference {
        target_type: Some("Location".to_owned()),
        ..Reference::identified(Identifier::new(system::ODS_SITE_CODE, site.as_str()))
    }
}
