//! What a verified token says. Nothing here decides whether the token is genuine (`token.rs`) or what its bearer may do.
//!
//! | Claim | Meaning |
//! |---|---|
//! | `client_id`, else `azp` | the registered client; if both are there they must agree |
//! | `nhsid_nrbac_roles` | `[{person_roleid, org_code, role_code, role_name, activity_codes}]`: there is a user (CIS2) |
//! | `selected_roleid` | which of these roles is used; needed when there is more than one |
//! | `uid`, else `sub` | the user's SDS user id |
//! | `name` | the user's name |
//! | `cpis_responsible_person` | `{name, role_code, role_name, phone}`: who answers for an unattended client |
//! | `cpis_site` | ODS code of the site that an unattended client calls from |
//!
//! The role (clinical, local authority, ...) is never a claim: it comes from the registered client.

use chrono::{DateTime, Utc};
use serde::Deserialize;

use super::TokenFault;
use crate::cpis::types::{
    OdsCode,
    caller::{ResponsiblePerson, User},
};

/// Longest text taken from a claim, in characters.
const LONGEST_TEXT: usize = 255;
/// Most activity codes taken from a role.
const MOST_ACTIVITIES: usize = 500;

/// The content of a verified token. `Debug` is masked: it names people.
#[derive(Clone, PartialEq, Eq)]
pub struct Claims {
    pub issuer: String,
    pub client_id: String,
    pub subject: Option<String>,
    pub expires: DateTime<Utc>,
    /// Present when the token carries CIS2 roles.
    pub user: Option<UserClaims>,
    pub responsible: Option<ResponsiblePerson>,
    pub site: Option<OdsCode>,
}

/// A user in the one role that the token selects.
#[derive(Clone, PartialEq, Eq)]
pub struct UserClaims {
    pub user: User,
    /// The role's organisation.
    pub organization: OdsCode,
    /// The role's activity codes, e.g. `B0107`.
    pub activities: Vec<String>,
}

impl std::fmt::Debug for Claims {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Claims")
            .field("issuer", &self.issuer)
            .field("client_id", &self.client_id)
            .field("expires", &self.expires)
            .finish_non_exhaustive()
    }
}

impl std::fmt::Debug for UserClaims {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("UserClaims").field("organization", &self.organization).finish_non_exhaustive()
    }
}

/// The payload as JSON has it. Not trusted before its signature has been checked.
#[derive(Deserialize)]
pub(super) struct Payload {
    pub iss: Option<String>,
    pub aud: Option<Audience>,
    /// Seconds since 1970, possibly with a fraction (RFC 7519 `NumericDate`).
    pub exp: Option<f64>,
    pub nbf: Option<f64>,
    client_id: Option<String>,
    azp: Option<String>,
    sub: Option<String>,
    uid: Option<String>,
    name: Option<String>,
    nhsid_nrbac_roles: Option<Vec<RoleClaim>>,
    selected_roleid: Option<String>,
    cpis_responsible_person: Option<ResponsibleClaim>,
    cpis_site: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
pub(super) enum Audience {
    One(String),
    Many(Vec<String>),
}

impl Audience {
    pub fn names(&self, audience: &str) -> bool {
        match self {
            Self::One(one) => one == audience,
            Self::Many(many) => many.iter().any(|a| a == audience),
        }
    }
}

#[derive(Deserialize)]
struct RoleClaim {
    person_roleid: Option<String>,
    org_code: Option<String>,
    role_code: Option<String>,
    role_name: Option<String>,
    #[serde(default)]
    activity_codes: Vec<String>,
}

#[derive(Deserialize)]
struct ResponsibleClaim {
    name: Option<String>,
    role_code: Option<String>,
    role_name: Option<String>,
    phone: Option<String>,
}

impl Payload {
    /// # Errors
    /// [`TokenFault::IncompleteClaims`] naming the claim that is missing or unusable.
    pub fn into_claims(self, expires: DateTime<Utc>) -> Result<Claims, TokenFault> {
        let user = self.user()?;
        if self.client_id.is_some() && self.azp.is_some() && self.client_id != self.azp {
            return Err(TokenFault::IncompleteClaims("client_id"));
        }
        let site = match self.cpis_site {
            None => None,
            Some(code) => Some(OdsCode::parse(&code).map_err(|_| TokenFault::IncompleteClaims("cpis_site"))?),
        };
        Ok(Claims {
            issuer: self.iss.ok_or(TokenFault::UnknownIssuer)?,
            client_id: required(self.client_id.or(self.azp), "client_id")?,
            subject: optional(self.sub, "sub")?,
            expires,
            user,
            responsible: self.cpis_responsible_person.map(ResponsibleClaim::into_person).transpose()?,
            site,
        })
    }

    fn user(&self) -> Result<Option<UserClaims>, TokenFault> {
        let Some(roles) = &self.nhsid_nrbac_roles else { return Ok(None) };
        let role = match (&self.selected_roleid, roles.as_slice()) {
            (_, []) => return Err(TokenFault::IncompleteClaims("nhsid_nrbac_roles")),
            (None, [only]) => only,
            (None, _) => return Err(TokenFault::IncompleteClaims("selected_roleid")),
            (Some(selected), roles) => {
                let mut named = roles.iter().filter(|r| r.person_roleid.as_ref() == Some(selected));
                match (named.next(), named.next()) {
                    (Some(role), None) => role,
                    _ => return Err(TokenFault::IncompleteClaims("selected_roleid")),
                }
            }
        };
        let organization = role.org_code.as_deref().and_then(|code| OdsCode::parse(code).ok());
        if role.activity_codes.len() > MOST_ACTIVITIES {
            return Err(TokenFault::IncompleteClaims("nhsid_nrbac_roles.activity_codes"));
        }
        Ok(Some(UserClaims {
            user: User {
                sds_user_id: required(self.uid.clone().or_else(|| self.sub.clone()), "uid")?,
                role_profile_id: optional(role.person_roleid.clone(), "nhsid_nrbac_roles.person_roleid")?,
                name: required(self.name.clone(), "name")?,
                job_role_code: optional(role.role_code.as_deref().map(job_role), "nhsid_nrbac_roles.role_code")?,
                job_role_name: optional(role.role_name.as_deref().map(job_role), "nhsid_nrbac_roles.role_name")?,
            },
            organization: organization.ok_or(TokenFault::IncompleteClaims("nhsid_nrbac_roles.org_code"))?,
            activities: role.activity_codes.clone(),
        }))
    }
}

impl ResponsibleClaim {
    fn into_person(self) -> Result<ResponsiblePerson, TokenFault> {
        Ok(ResponsiblePerson {
            name: required(self.name, "cpis_responsible_person.name")?,
            role_code: optional(self.role_code, "cpis_responsible_person.role_code")?,
            role_name: required(self.role_name, "cpis_responsible_person.role_name")?,
            phone: optional(self.phone, "cpis_responsible_person.phone")?,
        })
    }
}

/// The job role out of CIS2's `S8000:G8000:R8000` and `"Clinical":"Clinical Provision":"Practitioner"`;
/// a plain value stays as it is.
fn job_role(text: &str) -> String {
    let quoted = text.starts_with('"') && text.ends_with('"');
    let path = text.starts_with('S') && !text.contains(char::is_whitespace);
    let last = if quoted || path { text.rsplit(':').next().unwrap_or(text) } else { text };
    last.trim_matches('"').to_owned()
}

fn required(text: Option<String>, claim: &'static str) -> Result<String, TokenFault> {
    optional(text, claim)?.ok_or(TokenFault::IncompleteClaims(claim))
}

/// Without spaces around it; empty counts as absent. Control characters would break records further on.
fn optional(text: Option<String>, claim: &'static str) -> Result<Option<String>, TokenFault> {
    let Some(text) = text.map(|t| t.trim().to_owned()).filter(|t| !t.is_empty()) else { return Ok(None) };
    if text.chars().count() > LONGEST_TEXT || text.chars().any(char::is_control) {
        return Err(TokenFault::IncompleteClaims(claim));
    }
    Ok(Some(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claims(json: serde_json::Value) -> Result<Claims, TokenFault> {
        let mut payload = serde_json::json!({"iss": "urn:a", "client_id": "c", "sub": "u"});
        payload.as_object_mut().unwrap().extend(json.as_object().unwrap().clone());
        serde_json::from_value::<Payload>(payload).unwrap().into_claims(DateTime::UNIX_EPOCH)
    }

    fn role(id: &str, org: &str) -> serde_json::Value {
        serde_json::json!({"person_roleid": id, "org_code": org, "role_code": "S0010:G0020:R8003",
            "role_name": "\"Clinical\":\"Provision\":\"Nurse Access Role\"", "activity_codes": ["B0107"]})
    }

    #[test]
    fn one_role_needs_no_selection() {
        let user = claims(serde_json::json!({"name": "Ada Test", "nhsid_nrbac_roles": [role("1", "ZZ101")]}))
            .unwrap()
            .user
            .unwrap();
        assert_eq!(user.organization.as_str(), "ZZ101");
        assert_eq!(user.activities, ["B0107"]);
        assert_eq!(user.user.sds_user_id, "u");
        assert_eq!(user.user.job_role_code.as_deref(), Some("R8003"));
        assert_eq!(user.user.job_role_name.as_deref(), Some("Nurse Access Role"));
    }

    #[test]
    fn of_two_roles_the_selected_one_counts() {
        let two = |selected: serde_json::Value| {
            claims(serde_json::json!({"name": "Ada Test", "uid": "555", "selected_roleid": selected,
                "nhsid_nrbac_roles": [role("1", "ZZ101"), role("2", "ZZ202")]}))
        };
        let user = two("2".into()).unwrap().user.unwrap();
        assert_eq!((user.organization.as_str(), user.user.sds_user_id.as_str()), ("ZZ202", "555"));
        assert_eq!(user.user.role_profile_id.as_deref(), Some("2"));
        for unusable in [serde_json::Value::Null, "3".into()] {
            assert_eq!(two(unusable), Err(TokenFault::IncompleteClaims("selected_roleid")));
        }
        let twice = serde_json::json!({"name": "Ada Test", "selected_roleid": "1",
            "nhsid_nrbac_roles": [role("1", "ZZ101"), role("1", "ZZ202")]});
        assert_eq!(claims(twice), Err(TokenFault::IncompleteClaims("selected_roleid")));
    }

    #[test]
    fn the_unusable_claim_is_named() {
        for (json, claim) in [
            (serde_json::json!({"client_id": null}), "client_id"),
            (serde_json::json!({"client_id": " "}), "client_id"),
            (serde_json::json!({"azp": "other"}), "client_id"),
            (serde_json::json!({"cpis_site": "not ods"}), "cpis_site"),
            (serde_json::json!({"nhsid_nrbac_roles": []}), "nhsid_nrbac_roles"),
            (serde_json::json!({"nhsid_nrbac_roles": [role("1", "ZZ101")]}), "name"),
            (serde_json::json!({"nhsid_nrbac_roles": [role("1", "ZZ101")], "name": "a\nb"}), "name"),
            (serde_json::json!({"nhsid_nrbac_roles": [role("1", "ZZ101")], "name": "a".repeat(256)}), "name"),
            (serde_json::json!({"nhsid_nrbac_roles": [role("1", "ZZ101")], "name": "a", "sub": null}), "uid"),
            (serde_json::json!({"nhsid_nrbac_roles": [role("1", "?")], "name": "a"}), "nhsid_nrbac_roles.org_code"),
            (serde_json::json!({"cpis_responsible_person": {"role_name": "Lead"}}), "cpis_responsible_person.name"),
            (serde_json::json!({"cpis_responsible_person": {"name": "A"}}), "cpis_responsible_person.role_name"),
        ] {
            assert_eq!(claims(json), Err(TokenFault::IncompleteClaims(claim)), "{claim}");
        }
    }

    #[test]
    fn azp_names_the_client_too() {
        assert_eq!(claims(serde_json::json!({"client_id": null, "azp": "z"})).unwrap().client_id, "z");
        assert_eq!(claims(serde_json::json!({"azp": "c"})).unwrap().client_id, "c");
    }

    #[test]
    fn debug_names_nobody() {
        let claims = claims(serde_json::json!({"name": "Ada Test", "nhsid_nrbac_roles": [role("1", "ZZ101")],
            "cpis_responsible_person": {"name": "Grace Test", "role_name": "Lead", "phone": "01632960100"}}))
        .unwrap();
        let text = format!("{claims:?} {:?}", claims.user.as_ref().unwrap());
        assert!(!text.contains("Ada") && !text.contains("Grace") && !text.contains("01632"), "{text}");
    }

    #[test]
    fn a_plain_job_role_stays() {
        for plain in ["R8000", "Nurse: paediatric", "Staff nurse"] {
            assert_eq!(job_role(plain), plain);
        }
    }
}
