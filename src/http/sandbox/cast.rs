//! Who acts in the sandbox: its organisations, clients, users and the one device. All of them are made up. The seed
//! stores them and the token endpoint issues tokens for them, so they stand here once.

use crate::cpis::types::{
    OdsCode, Phone,
    caller::{Client, ResponsiblePerson, Role, User, VIEW_FLAG, VIEW_FLAG_SILENTLY},
    organization::{CareSetting, InvalidOdsCode, InvalidPhone, OrganizationKind},
};

/// An organisation; everybody in it has its role.
#[derive(Debug, PartialEq, Eq)]
pub struct Member {
    pub ods: &'static str,
    pub name: &'static str,
    pub role: Role,
    pub care_setting: Option<CareSetting>,
    pub sensitive: bool,
    /// Office hours and emergency duty number; authorities only. From the range that is kept for fiction.
    pub phones: Option<(&'static str, &'static str)>,
    pub part_of: Option<&'static str>,
}

/// A user as an identity provider would name them.
#[derive(Debug, PartialEq, Eq)]
pub struct Actor {
    /// SDS user id.
    pub id: &'static str,
    pub role_profile_id: &'static str,
    pub name: &'static str,
    /// Job role code and its display.
    pub job_role: (&'static str, &'static str),
    /// ODS code.
    pub organization: &'static str,
}

/// A system that looks up without a user; somebody answers for it.
#[derive(Debug, PartialEq, Eq)]
pub struct Device {
    /// Its client id, also the `user` of a token request.
    pub id: &'static str,
    pub name: &'static str,
    pub organization: &'static str,
    pub site: &'static str,
    pub responsible: (&'static str, &'static str),
    pub phone: &'static str,
}

const fn provider(ods: &'static str, name: &'static str, setting: CareSetting) -> Member {
    let role = Role::Clinical;
    Member { ods, name, role, care_setting: Some(setting), sensitive: false, phones: None, part_of: None }
}

const fn authority(ods: &'static str, name: &'static str, office: &'static str, duty: &'static str) -> Member {
    let role = Role::LocalAuthority;
    Member { ods, name, role, care_setting: None, sensitive: false, phones: Some((office, duty)), part_of: None }
}

const fn overseer(ods: &'static str, name: &'static str, role: Role) -> Member {
    Member { ods, name, role, care_setting: None, sensitive: false, phones: None, part_of: None }
}

/// The organisations; the first that fits is the one that a token request without an organisation gets.
pub const MEMBERS: &[Member] = &[
    authority("Z9A", "WESTMARCH COUNTY COUNCIL", "01632960100", "01632960199"),
    authority("Z9B", "EXAMPLEFORD CITY COUNCIL", "01632960200", "01632960299"),
    authority("Z9C", "NORTH SAMPLESHIRE COUNCIL", "01632960300", "01632960399"),
    provider("ZZ101", "EASTVALE GENERAL HOSPITAL", CareSetting::Unscheduled),
    Member {
        part_of: Some("ZZ101"),
        ..provider("ZZ10101", "EASTVALE GENERAL HOSPITAL EMERGENCY DEPARTMENT", CareSetting::Unscheduled)
    },
    Member {
        part_of: Some("ZZ101"),
        ..provider("ZZ10102", "EASTVALE CHILDREN'S ASSESSMENT UNIT", CareSetting::Unscheduled)
    },
    provider("ZZ111", "NORTHERN 111 SERVICE", CareSetting::Unscheduled),
    provider("ZZ121", "WESTBROOK WALK-IN CENTRE", CareSetting::Unscheduled),
    Member { sensitive: true, ..provider("ZZ131", "ROWAN SEXUAL ASSAULT REFERRAL CENTRE", CareSetting::Unscheduled) },
    provider("ZZ141", "LAKESIDE COMMUNITY PAEDIATRICS", CareSetting::Scheduled),
    overseer("ZZ801", "SAMPLE CALDICOTT AUDIT OFFICE", Role::Auditor),
    overseer("ZZ901", "SAMPLE GATEWAY OPERATIONS", Role::Administrator),
];

const STAFF_NURSE: (&str, &str) = ("R0620", "Staff Nurse");
const SISTER: (&str, &str) = ("R0610", "Sister/Charge Nurse");
const PRACTITIONER: (&str, &str) = ("R8000", "Clinical Practitioner Access Role");
const NURSE: (&str, &str) = ("R8001", "Nurse Access Role");
const PARAMEDIC: (&str, &str) = ("R1070", "Paramedic");
const MIDWIFE: (&str, &str) = ("R0680", "Midwife");
const CLERK: (&str, &str) = ("R8010", "Clerical Access Role");
const OFFICER: (&str, &str) = ("R8015", "Systems Support Access Role");

const fn actor(
    id: &'static str,
    role_profile_id: &'static str,
    name: &'static str,
    job_role: (&'static str, &'static str),
    organization: &'static str,
) -> Actor {
    Actor { id, role_profile_id, name, job_role, organization }
}

/// The users; the first of an organisation is the one that a token request without a user gets.
pub const ACTORS: &[Actor] = &[
    actor("555000000101", "555100000101", "EXAMPLE, Dana (Ms)", STAFF_NURSE, "ZZ101"),
    actor("555000000102", "555100000102", "SAMPLE, Kit (Dr)", PRACTITIONER, "ZZ101"),
    actor("555000000103", "555100000103", "SPECIMEN, Noor (Ms)", SISTER, "ZZ10101"),
    actor("555000000104", "555100000104", "TESTCASE, Ira (Dr)", PRACTITIONER, "ZZ10101"),
    actor("555000000105", "555100000105", "PATTERN, Lee (Mr)", NURSE, "ZZ10102"),
    actor("555000000201", "555100000201", "INSTANCE, Remy (Ms)", NURSE, "ZZ111"),
    actor("555000000202", "555100000202", "EXAMPLE, Toni (Mr)", PARAMEDIC, "ZZ111"),
    actor("555000000301", "555100000301", "SAMPLE, Ashley (Ms)", STAFF_NURSE, "ZZ121"),
    actor("555000000302", "555100000302", "TEMPLATE, Val (Dr)", PRACTITIONER, "ZZ121"),
    actor("555000000401", "555100000401", "SPECIMEN, Kim (Ms)", NURSE, "ZZ131"),
    actor("555000000402", "555100000402", "PATTERN, Jules (Dr)", PRACTITIONER, "ZZ131"),
    actor("555000000501", "555100000501", "INSTANCE, Lou (Dr)", PRACTITIONER, "ZZ141"),
    actor("555000000502", "555100000502", "TESTCASE, Sasha (Ms)", MIDWIFE, "ZZ141"),
    actor("555000000601", "555100000601", "EXAMPLE, Pat (Ms)", CLERK, "Z9A"),
    actor("555000000602", "555100000602", "SAMPLE, Billie (Mr)", CLERK, "Z9B"),
    actor("555000000603", "555100000603", "SPECIMEN, Rene (Ms)", CLERK, "Z9C"),
    actor("555000000801", "555100000801", "TEMPLATE, Hollis (Ms)", OFFICER, "ZZ801"),
    actor("555000000901", "555100000901", "PATTERN, Marley (Mr)", OFFICER, "ZZ901"),
];

/// The triage system of the hospital's second site.
pub const DEVICE: Device = Device {
    id: "sandbox-device-zz101",
    name: "EASTVALE TRIAGE SYSTEM",
    organization: "ZZ101",
    site: "ZZ10102",
    responsible: ("EXAMPLE, Robin (Dr)", "Named Doctor for Safeguarding"),
    phone: "01632960555",
};

impl Member {
    pub fn find(ods: &str) -> Option<&'static Self> {
        MEMBERS.iter().find(|member| member.ods == ods)
    }

    pub fn kind(&self) -> OrganizationKind {
        match self.role {
            Role::Clinical => OrganizationKind::CareProvider,
            Role::LocalAuthority => OrganizationKind::LocalAuthority,
            Role::Auditor | Role::Administrator => OrganizationKind::Oversight,
        }
    }

    pub fn is_unscheduled(&self) -> bool {
        self.care_setting == Some(CareSetting::Unscheduled)
    }

    /// What its clinicians may do: look up in unscheduled care, or silently in scheduled care.
    pub fn activities(&self) -> Vec<String> {
        let code = match self.care_setting {
            Some(CareSetting::Unscheduled) => VIEW_FLAG,
            Some(CareSetting::Scheduled) => VIEW_FLAG_SILENTLY,
            None => return Vec::new(),
        };
        vec![code.to_owned()]
    }

    /// # Errors
    /// Never for a row of [`MEMBERS`] (a test holds that).
    pub fn ods_code(&self) -> Result<OdsCode, InvalidOdsCode> {
        OdsCode::parse(self.ods)
    }

    /// Office and duty number.
    ///
    /// # Errors
    /// Never for a row of [`MEMBERS`] (a test holds that).
    pub fn parsed_phones(&self) -> Result<(Option<Phone>, Option<Phone>), InvalidPhone> {
        let Some((office, duty)) = self.phones else { return Ok((None, None)) };
        Ok((Some(Phone::parse(office)?), Some(Phone::parse(duty)?)))
    }

    /// The client that its users and systems call through, `sandbox-ROLE-ODS`.
    ///
    /// # Errors
    /// Never for a row of [`MEMBERS`] (a test holds that).
    pub fn client(&self) -> Result<Client, InvalidOdsCode> {
        Ok(Client {
            client_id: format!("sandbox-{}-{}", self.role.code(), self.ods.to_lowercase()),
            name: format!("{} (sandbox)", self.name),
            role: self.role,
            organization: self.ods_code()?,
            unattended: false,
            activities: Vec::new(),
            disabled: false,
        })
    }
}

impl Actor {
    pub fn find(id: &str) -> Option<&'static Self> {
        ACTORS.iter().find(|actor| actor.id == id)
    }

    /// The first user of an organisation.
    pub fn first_of(member: &Member) -> Option<&'static Self> {
        ACTORS.iter().find(|actor| actor.organization == member.ods)
    }

    pub fn user(&self) -> User {
        User {
            sds_user_id: self.id.to_owned(),
            role_profile_id: Some(self.role_profile_id.to_owned()),
            name: self.name.to_owned(),
            job_role_code: Some(self.job_role.0.to_owned()),
            job_role_name: Some(self.job_role.1.to_owned()),
        }
    }
}

impl Device {
    pub fn person(&self) -> ResponsiblePerson {
        ResponsiblePerson {
            name: self.responsible.0.to_owned(),
            role_code: None,
            role_name: self.responsible.1.to_owned(),
            phone: Some(self.phone.to_owned()),
        }
    }

    /// # Errors
    /// Never for [`DEVICE`] (a test holds that).
    pub fn client(&self) -> Result<Client, InvalidOdsCode> {
        Ok(Client {
            client_id: self.id.to_owned(),
            name: self.name.to_owned(),
            role: Role::Clinical,
            organization: OdsCode::parse(self.organization)?,
            unattended: true,
            activities: vec![VIEW_FLAG.to_owned()],
            disabled: false,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_row_is_valid_and_unique() {
        let mut seen = HashSet::new();
        for member in MEMBERS {
            assert!(member.client().is_ok() && member.parsed_phones().is_ok(), "{}", member.ods);
            assert!(seen.insert(member.ods), "{}", member.ods);
            assert!(Actor::first_of(member).is_some(), "{} has no user", member.ods);
            assert!(member.part_of.is_none_or(|whole| Member::find(whole).is_some()), "{}", member.ods);
            assert_eq!(member.phones.is_some(), member.role == Role::LocalAuthority, "{}", member.ods);
            assert_eq!(member.care_setting.is_some(), member.role == Role::Clinical, "{}", member.ods);
        }
        for actor in ACTORS {
            assert!(Member::find(actor.organization).is_some(), "{}", actor.id);
            assert!(seen.insert(actor.id) && seen.insert(actor.role_profile_id), "{}", actor.id);
        }
        assert!(DEVICE.client().is_ok());
        assert_eq!(Member::find(DEVICE.site).and_then(|site| site.part_of), Some(DEVICE.organization));
    }

    #[test]
    fn there_are_three_authorities_and_five_providers_one_with_two_sites() {
        let of = |role| MEMBERS.iter().filter(move |m| m.role == role && m.part_of.is_none()).count();
        assert_eq!((of(Role::LocalAuthority), of(Role::Clinical)), (3, 5));
        assert_eq!(MEMBERS.iter().filter(|m| m.part_of == Some("ZZ101")).count(), 2);
        assert_eq!(MEMBERS.iter().filter(|m| m.sensitive).count(), 1);
    }
}
