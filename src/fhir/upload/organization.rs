//! Reads an `Organization` as an administrator sends it: any kind, with what decides how its accesses count and are shown.
//!
//! `type` says what it is: R4's organization-type (`prov` a care provider, `govt` a local authority), and codes of the
//! gateway's own system `{base}/CodeSystem/cpis-organization`: the kind (`local-authority`, `care-provider`,
//! `oversight`), the setting of a care provider (`unscheduled`, `scheduled`), and `sensitive` for one whose details are
//! withheld in the access history. Without any of its own codes the gateway keeps what it has: a client that doesn't know
//! them can't make a sensitive organisation an open one.

use serde_json::Value;

use super::{
    Reading,
    content::{add_unless_told, phone, typed},
    request::same_id,
    rule,
};
use crate::{
    cpis::types::{
        OdsCode,
        organization::{CareSetting, OrganizationKind, OrganizationSent, OwnCodes},
    },
    fhir::{
        outcome::Issue,
        resource::Organization,
        system::{self, is_cpis_organization},
    },
};

/// Reads the body of a create, or of an update of the organisation with this `id`.
///
/// # Errors
/// Every issue; those without a record code make it invalid R4 (400), the others are CP-IS rules (422).
pub fn read_any_organization(
    value: &Value,
    id: Option<&OdsCode>,
    reading: &Reading<'_>,
) -> Result<OrganizationSent, Vec<Issue>> {
    let (organization, mut issues) = typed::<Organization>(value, "Organization", reading)?;
    let mut found: Vec<Issue> = Vec::new();
    let codes = organization.identifier.iter().find_map(|identifier| identifier.value_of(system::ODS_CODE));
    let ods = codes.and_then(|code| OdsCode::parse(code).ok());
    if let Some(id) = id {
        found.extend(same_id(organization.id.as_deref() == Some(id.as_str()), "Organization"));
        if ods.as_ref().is_some_and(|ods| ods != id) {
            let words = "The identifier names another organisation than the URL. Make the two agree.";
            found.push(rule("Organization.identifier", words));
        }
    }
    let (kind, own) = classes(&organization, &mut found);
    let mut phone = |usage| phone(&organization.telecom, usage).map_err(|issue| found.push(issue)).ok().flatten();
    let (office_phone, duty_phone) = (phone("work"), phone("mobile"));
    let part_of = organization.part_of.as_ref().map(|whole| {
        let named = whole.identifier.as_ref().and_then(|identifier| identifier.value_of(system::ODS_CODE));
        whole.id_of("Organization").or(named).and_then(|code| OdsCode::parse(code).ok())
    });
    if part_of == Some(None) {
        let words = "Name the whole by Organization/ and its ODS code, or by its identifier.";
        found.push(rule("Organization.partOf", words));
    }
    add_unless_told(&mut issues, found);
    match (ods, organization.name) {
        (Some(ods), Some(name)) if issues.is_empty() => Ok(OrganizationSent {
            ods,
            name,
            active: organization.active,
            kind,
            own,
            office_phone,
            duty_phone,
            part_of: part_of.flatten(),
        }),
        _ => Err(issues),
    }
}

/// What `type` says; a fault where it contradicts itself or has a code that is not known.
fn classes(organization: &Organization, found: &mut Vec<Issue>) -> (Option<OrganizationKind>, Option<OwnCodes>) {
    let (mut kinds, mut settings, mut sensitive, mut any) = (Vec::new(), Vec::new(), false, false);
    for coding in organization.kind.iter().flat_map(|kind| &kind.coding) {
        let (system, code) = (coding.system.as_deref().unwrap_or_default(), coding.code.as_deref().unwrap_or_default());
        if is_cpis_organization(system) {
            any = true;
            let (kind, setting) = (OrganizationKind::from_code(code), CareSetting::from_code(code));
            if kind.is_none() && setting.is_none() && code != SENSITIVE {
                let words = "The code is none of local-authority, care-provider, oversight, unscheduled, scheduled and \
                             sensitive.";
                found.push(rule("Organization.type", words));
            }
            kinds.extend(kind);
            settings.extend(setting);
            sensitive |= code == SENSITIVE;
        }
    }
    let general = organization.kind.iter().find_map(|kind| kind.code_of(system::ORGANIZATION_TYPE));
    let general = match general {
        Some("prov") => Some(OrganizationKind::CareProvider),
        // Of the others in government the own codes say which.
        Some("govt") if kinds.is_empty() => Some(OrganizationKind::LocalAuthority),
        _ => None,
    };
    let mut all = kinds.into_iter().chain(general);
    let kind = all.next();
    if all.any(|other| Some(other) != kind) || settings.windows(2).any(|two| two.first() != two.last()) {
        found.push(rule("Organization.type", "The types contradict each other. Give one kind and one setting."));
    }
    (kind, any.then(|| OwnCodes { care_setting: settings.first().copied(), sensitive }))
}

/// Code of an organisation whose details are withheld in the access history.
pub const SENSITIVE: &str = "sensitive";
