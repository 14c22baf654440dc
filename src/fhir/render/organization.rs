//! An organisation as `Organization`: public facts, the same for every caller; with its classes for administrators.

use super::{ods_identifier, plan::telecom};
use crate::{
    cpis::types::{self, organization::OrganizationKind},
    fhir::{
        datatype::{Coding, Meta, Reference},
        resource::Organization,
        system,
        upload::SENSITIVE,
    },
};

/// The organisation with its version; telephone numbers `work` (office hours) and `mobile` (emergency duty).
pub fn organization(organization: &types::Organization) -> Organization {
    let (code, display) = match organization.kind {
        OrganizationKind::CareProvider => ("prov", "Healthcare Provider"),
        OrganizationKind::LocalAuthority | OrganizationKind::Oversight => ("govt", "Government"),
    };
    let part_of = organization.part_of.as_ref();
    Organization {
        id: Some(organization.ods.as_str().to_owned()),
        meta: Some(Meta {
            version_id: Some(organization.version.to_string()),
            last_updated: Some(organization.updated.into()),
            ..Meta::default()
        }),
        identifier: vec![ods_identifier(&organization.ods)],
        active: Some(organization.active),
        kind: vec![Coding::displayed(system::ORGANIZATION_TYPE, code, display).into()],
        name: Some(organization.name.clone()),
        telecom: telecom(organization),
        part_of: part_of.map(|ods| Reference::to("Organization", ods.as_str()).with_identifier(ods_identifier(ods))),
    }
}

/// The organisation as an administrator gets it, and may send it back: `type` also holds the codes of our own system at
/// this FHIR base (kind, setting, sensitive).
pub fn classified_organization(stored: &types::Organization, base_url: &str) -> Organization {
    let own = system::cpis_organization(base_url);
    let setting = stored.care_setting.map(|setting| setting.code());
    let codes = [Some(stored.kind.code()), setting, stored.sensitive.then_some(SENSITIVE)];
    let mut rendered = organization(stored);
    rendered.kind.extend(codes.into_iter().flatten().map(|code| Coding::new(&own, code).into()));
    rendered
}
