//! The sandbox's tokens: who may be asked for, and `POST /sandbox/token`, which hands them out without any proof. The
//! endpoint exists in the sandbox only; its tokens are refused everywhere else.

pub mod cast;

use std::path::Path;

use actix_web::{
    HttpRequest, HttpResponse,
    http::StatusCode,
    web::{Bytes, Data},
};
use chrono::{DateTime, Utc};
use serde::Serialize;

use self::cast::{Actor, DEVICE, MEMBERS, Member};
use super::{answer::Answer, dispatch, query::Query, refusal::Refusal, request_id::RequestIds, service::Service};
use crate::{
    auth::sandbox::{SandboxFault, SandboxIssuer, TokenRequest},
    cpis::types::{
        OdsCode,
        caller::{Role, VIEW_FLAG},
    },
};

/// How long a token of the endpoint is valid, in seconds.
pub const ENDPOINT_LIFETIME: i64 = 60 * 60;

/// What a token is asked for, as a form or a command line has it. Names that are left out are filled in from the cast.
#[derive(Clone, Debug, Default)]
pub struct TokenForm {
    /// `clinical`, `local-authority`, `auditor` or `administrator`; may be left out when `user` is given.
    pub role: Option<String>,
    /// ODS code.
    pub organization: Option<String>,
    /// SDS user id, or the client id of the sandbox's device.
    pub user: Option<String>,
    /// Activity codes separated by commas or spaces; clinical users only.
    pub activity: Option<String>,
}

/// The answer of RFC 6749 5.1.
#[derive(Serialize)]
pub struct TokenAnswer {
    pub access_token: String,
    pub token_type: &'static str,
    /// Seconds.
    pub expires_in: i64,
}

/// Why there is no token. The texts repeat nothing that was sent.
#[derive(Debug, thiserror::Error)]
pub enum TokenRefusal {
    #[error("give a role: clinical, local-authority, auditor or administrator")]
    Role,
    #[error("there is no such organisation in the sandbox: take an ods code from sandbox.json")]
    UnknownOrganization,
    #[error("there is no such user in the sandbox: take an id from sandbox.json")]
    UnknownUser,
    #[error("the organisation has another role: sandbox.json says which")]
    OrganizationOfOtherRole,
    #[error("the user has another role: sandbox.json says which")]
    UserOfOtherRole,
    #[error("the user belongs to another organisation: leave the organisation out, or take it from sandbox.json")]
    UserOfOtherOrganization,
    #[error("an activity code is a B and four digits, such as B0107; separate several with commas")]
    Activity,
    #[error("only clinical users have activity codes; a device has those that it is registered with")]
    ActivityOfOther,
    #[error("the form can't be read: send each of role, organization, user and activity at most once, percent-encoded")]
    Form,
    #[error("send the form as application/x-www-form-urlencoded")]
    ContentType,
    #[error("the sandbox can't sign tokens")]
    Issuer(#[from] SandboxFault),
    #[error("the sandbox's list of organisations and users is not valid")]
    Cast,
}

impl TokenRefusal {
    /// The error code of RFC 6749 5.2.
    fn code(&self) -> &'static str {
        if self.is_of_the_caller() { "invalid_request" } else { "server_error" }
    }

    fn status(&self) -> StatusCode {
        if self.is_of_the_caller() { StatusCode::BAD_REQUEST } else { StatusCode::INTERNAL_SERVER_ERROR }
    }

    /// True when something else is to be asked for; false for a fault of the sandbox.
    pub fn is_of_the_caller(&self) -> bool {
        !matches!(self, Self::Issuer(_) | Self::Cast)
    }
}

impl TokenForm {
    /// Reads a form body. As RFC 6749 3.2 says, an empty value counts as absent, one that is given twice is refused, and
    /// fields that are not known are ignored.
    ///
    /// # Errors
    /// [`TokenRefusal::Form`].
    pub fn parse(body: &[u8]) -> Result<Self, TokenRefusal> {
        let text = std::str::from_utf8(body).map_err(|_| TokenRefusal::Form)?;
        let sent = Query::parse(text).map_err(|_| TokenRefusal::Form)?;
        let field = |name: &str| match sent.single(name) {
            Ok(value) => Ok(value.filter(|value| !value.is_empty()).map(str::to_owned)),
            Err(_) => Err(TokenRefusal::Form),
        };
        Ok(Self {
            role: field("role")?,
            organization: field("organization")?,
            user: field("user")?,
            activity: field("activity")?,
        })
    }
}

/// Whom a token is for.
#[derive(Debug, PartialEq, Eq)]
enum Holder {
    User { actor: &'static Actor, member: &'static Member, activities: Vec<String> },
    Device,
}

impl Holder {
    fn of(form: &TokenForm) -> Result<Self, TokenRefusal> {
        let asked = form.role.as_deref().map(|code| Role::from_code(code).ok_or(TokenRefusal::Role)).transpose()?;
        let organization = form.organization.as_deref();
        let organization =
            organization.map(|ods| Member::find(ods).ok_or(TokenRefusal::UnknownOrganization)).transpose()?;
        if asked.zip(organization).is_some_and(|(role, member)| role != member.role) {
            return Err(TokenRefusal::OrganizationOfOtherRole);
        }
        if form.user.as_deref() == Some(DEVICE.id) {
            return Self::device(asked, organization, form);
        }
        let actor = match (form.user.as_deref(), organization) {
            (Some(id), _) => Actor::find(id).ok_or(TokenRefusal::UnknownUser)?,
            (None, Some(member)) => Actor::first_of(member).ok_or(TokenRefusal::Cast)?,
            (None, None) => {
                let role = asked.ok_or(TokenRefusal::Role)?;
                let first = MEMBERS.iter().find(|member| member.role == role).ok_or(TokenRefusal::Cast)?;
                Actor::first_of(first).ok_or(TokenRefusal::Cast)?
            }
        };
        let member = Member::find(actor.organization).ok_or(TokenRefusal::Cast)?;
        if asked.is_some_and(|role| role != member.role) {
            return Err(TokenRefusal::UserOfOtherRole);
        }
        if organization.is_some_and(|asked| asked != member) {
            return Err(TokenRefusal::UserOfOtherOrganization);
        }
        let activities = match (&form.activity, member.role) {
            (Some(text), Role::Clinical) => activity_codes(text)?,
            (Some(_), _) => return Err(TokenRefusal::ActivityOfOther),
            (None, _) => member.activities(),
        };
        Ok(Self::User { actor, member, activities })
    }

    fn device(asked: Option<Role>, organization: Option<&Member>, form: &TokenForm) -> Result<Self, TokenRefusal> {
        if asked.is_some_and(|role| role != Role::Clinical) {
            return Err(TokenRefusal::UserOfOtherRole);
        }
        if organization.is_some_and(|member| member.ods != DEVICE.organization) {
            return Err(TokenRefusal::UserOfOtherOrganization);
        }
        if form.activity.is_some() { Err(TokenRefusal::ActivityOfOther) } else { Ok(Self::Device) }
    }
}

fn activity_codes(text: &str) -> Result<Vec<String>, TokenRefusal> {
    let codes: Vec<&str> = text.split([',', ' ']).filter(|code| !code.is_empty()).collect();
    let fits = |code: &&str| {
        code.len() == VIEW_FLAG.len() && code.starts_with('B') && code.bytes().skip(1).all(|b| b.is_ascii_digit())
    };
    if codes.is_empty() || codes.len() > 50 || !codes.iter().all(fits) {
        return Err(TokenRefusal::Activity);
    }
    Ok(codes.into_iter().map(str::to_owned).collect())
}

/// Issues the sandbox's tokens. `Debug` shows no key.
#[derive(Debug)]
pub struct Sandbox {
    issuer: SandboxIssuer,
}

impl Sandbox {
    /// Loads the sandbox's key from its data directory, or makes one.
    ///
    /// # Errors
    /// [`SandboxFault`] when the file can't be written or read, or holds something else.
    pub fn open(data_dir: &Path) -> Result<Self, SandboxFault> {
        Ok(Self { issuer: SandboxIssuer::open(data_dir)? })
    }

    /// The issuer, whose public side the service trusts.
    pub fn issuer(&self) -> &SandboxIssuer {
        &self.issuer
    }

    /// A token for whom the form names, valid from `now` for `lifetime_seconds`.
    ///
    /// # Errors
    /// [`TokenRefusal`].
    pub fn token(
        &self,
        form: &TokenForm,
        lifetime_seconds: i64,
        now: DateTime<Utc>,
    ) -> Result<TokenAnswer, TokenRefusal> {
        let invalid = |_| TokenRefusal::Cast;
        let access_token = match Holder::of(form)? {
            Holder::User { actor, member, activities } => self.issuer.mint(
                &TokenRequest {
                    client: &member.client().map_err(invalid)?,
                    user: Some(&actor.user()),
                    responsible: None,
                    organization: &member.ods_code().map_err(invalid)?,
                    activities: &activities,
                    lifetime_seconds,
                },
                now,
            ),
            Holder::Device => self.issuer.mint(
                &TokenRequest {
                    client: &DEVICE.client().map_err(invalid)?,
                    user: None,
                    responsible: Some(&DEVICE.person()),
                    organization: &OdsCode::parse(DEVICE.site).map_err(invalid)?,
                    activities: &[],
                    lifetime_seconds,
                },
                now,
            ),
        }?;
        Ok(TokenAnswer { access_token, token_type: "Bearer", expires_in: lifetime_seconds })
    }
}

/// `POST /sandbox/token`: a form in, a token out (RFC 6749). 404 outside the sandbox.
pub async fn token(service: Data<Service>, request: HttpRequest, body: Bytes) -> HttpResponse {
    let ids = RequestIds::of(request.headers()).unwrap_or_default();
    // Outside the sandbox there is no such address.
    let Some(sandbox) = &service.sandbox else {
        return dispatch::respond(&Answer::from(&Refusal::not_found()), &ids, false);
    };
    let media = request.headers().get("content-type").and_then(|value| value.to_str().ok()).unwrap_or_default();
    let mut response = respond(answer_to(sandbox, media, &body, service.gateway.clock.now()));
    ids.mirror(&mut response);
    response
}

fn answer_to(sandbox: &Sandbox, media: &str, body: &[u8], now: DateTime<Utc>) -> Result<TokenAnswer, TokenRefusal> {
    let media = media.split(';').next().unwrap_or_default().trim();
    if !media.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
        return Err(TokenRefusal::ContentType);
    }
    sandbox.token(&TokenForm::parse(body)?, ENDPOINT_LIFETIME, now)
}

#[derive(Serialize)]
struct ErrorAnswer {
    error: &'static str,
    error_description: String,
}

fn respond(answer: Result<TokenAnswer, TokenRefusal>) -> HttpResponse {
    let (status, body) = match answer {
        Ok(answer) => (StatusCode::OK, serde_json::to_vec(&answer)),
        Err(refusal) => {
            if refusal.status().is_server_error() {
                tracing::error!(%refusal, "no sandbox token could be issued");
            }
            let answer = ErrorAnswer { error: refusal.code(), error_description: refusal.to_string() };
            (refusal.status(), serde_json::to_vec(&answer))
        }
    };
    let mut response = HttpResponse::build(status);
    response.insert_header(("Cache-Control", "no-store")).insert_header(("Pragma", "no-cache"));
    response.content_type("application/json").body(body.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use actix_web::body::to_bytes;

    use super::*;
    use crate::{
        auth::{Directory, DirectoryFault, Tokens},
        cpis::types::{
            Organization,
            caller::{Author, Caller, Client},
        },
    };

    const FORM: &str = "application/x-www-form-urlencoded";

    /// The cast as the seed stores it.
    struct Cast;

    impl Directory for Cast {
        fn client(&self, client_id: &str) -> Result<Option<Client>, DirectoryFault> {
            let members = MEMBERS.iter().map(|member| member.client().unwrap());
            Ok(members.chain([DEVICE.client().unwrap()]).find(|client| client.client_id == client_id))
        }

        fn organization(&self, ods: &OdsCode) -> Result<Option<Organization>, DirectoryFault> {
            Ok(Member::find(ods.as_str()).map(|member| Organization {
                id: 1,
                ods: ods.clone(),
                name: member.name.to_owned(),
                kind: member.kind(),
                care_setting: member.care_setting,
                sensitive: member.sensitive,
                office_phone: None,
                duty_phone: None,
                part_of: member.part_of.map(|whole| OdsCode::parse(whole).unwrap()),
                active: true,
                version: 1,
                updated: now(),
            }))
        }
    }

    fn now() -> DateTime<Utc> {
        "2026-11-03T21:45:00Z".parse().unwrap()
    }

    fn sandbox() -> (tempfile::TempDir, Sandbox) {
        let directory = tempfile::tempdir().unwrap();
        let sandbox = Sandbox::open(directory.path()).unwrap();
        (directory, sandbox)
    }

    fn caller(sandbox: &Sandbox, body: &str) -> Caller {
        let answer = answer_to(sandbox, FORM, body.as_bytes(), now()).unwrap();
        let tokens = Tokens::new(vec![sandbox.issuer().issuer().unwrap()]).unwrap();
        tokens.authenticate(Some(&format!("Bearer {}", answer.access_token)), &Cast, now()).unwrap()
    }

    fn refusal(body: &str) -> TokenRefusal {
        TokenForm::parse(body.as_bytes()).and_then(|form| Holder::of(&form)).unwrap_err()
    }

    #[test]
    fn every_role_gets_a_token_that_works() {
        let (_directory, sandbox) = sandbox();
        let clinician = caller(&sandbox, "role=clinical");
        assert_eq!((clinician.role, clinician.organization.ods.as_str()), (Role::Clinical, "ZZ101"));
        assert_eq!(clinician.activities, [VIEW_FLAG]);
        assert_eq!(clinician.author, Author::Person(Actor::find("555000000101").unwrap().user()));
        for (body, ods) in [("role=local-authority", "Z9A"), ("role=auditor", "ZZ801"), ("role=administrator", "ZZ901")]
        {
            let caller = caller(&sandbox, body);
            assert_eq!((body.trim_start_matches("role="), caller.organization.ods.as_str()), (caller.role.code(), ods));
            assert!(caller.activities.is_empty());
        }
    }

    #[test]
    fn a_user_brings_organisation_and_activities_along() {
        let (_directory, sandbox) = sandbox();
        let paediatrician = caller(&sandbox, "user=555000000501");
        assert_eq!(paediatrician.organization.ods.as_str(), "ZZ141");
        assert_eq!(paediatrician.activities, ["B0170"]);
        let both = caller(&sandbox, "role=clinical&organization=ZZ141&user=555000000501&activity=B0107%2CB0170");
        assert_eq!(both.activities, ["B0107", "B0170"]);
        assert_eq!(caller(&sandbox, "role=local-authority&organization=Z9C").client_id, "sandbox-local-authority-z9c");
    }

    #[test]
    fn the_device_names_who_answers_for_it() {
        let (_directory, sandbox) = sandbox();
        let device = caller(&sandbox, "role=clinical&user=sandbox-device-zz101");
        let site = OdsCode::parse(DEVICE.site).unwrap();
        assert_eq!(device.author, Author::Device { responsible: DEVICE.person(), site: Some(site) });
        assert_eq!(device.activities, [VIEW_FLAG]);
    }

    #[test]
    fn what_does_not_fit_is_refused_by_its_reason() {
        use TokenRefusal as T;
        assert!(matches!(refusal(""), T::Role));
        assert!(matches!(refusal("role="), T::Role));
        assert!(matches!(refusal("role=nurse"), T::Role));
        assert!(matches!(refusal("role=clinical&organization=ZZ999"), T::UnknownOrganization));
        assert!(matches!(refusal("role=clinical&organization=Z9A"), T::OrganizationOfOtherRole));
        assert!(matches!(refusal("role=clinical&user=555000009999"), T::UnknownUser));
        assert!(matches!(refusal("role=auditor&user=555000000101"), T::UserOfOtherRole));
        assert!(matches!(refusal("organization=ZZ111&user=555000000101"), T::UserOfOtherOrganization));
        assert!(matches!(refusal("role=auditor&user=sandbox-device-zz101"), T::UserOfOtherRole));
        assert!(matches!(refusal("organization=ZZ111&user=sandbox-device-zz101"), T::UserOfOtherOrganization));
        assert!(matches!(refusal("user=sandbox-device-zz101&activity=B0107"), T::ActivityOfOther));
        assert!(matches!(refusal("role=auditor&activity=B0107"), T::ActivityOfOther));
        for codes in ["B107", "b0107", "B01070", "B010x", "%2C"] {
            assert!(matches!(refusal(&format!("role=clinical&activity={codes}")), T::Activity), "{codes}");
        }
        assert!(matches!(refusal("role=clinical&role=auditor"), T::Form));
        assert!(matches!(refusal("role=%zz"), T::Form));
    }

    #[actix_web::test]
    async fn the_endpoint_answers_as_rfc_6749_says() {
        let (_directory, sandbox) = sandbox();
        let response = respond(answer_to(&sandbox, FORM, b"role=clinical&grant_type=x", now()));
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers().get("cache-control").unwrap(), "no-store");
        let body: serde_json::Value = serde_json::from_slice(&to_bytes(response.into_body()).await.unwrap()).unwrap();
        assert_eq!((&body["token_type"], &body["expires_in"]), (&"Bearer".into(), &3600.into()));

        for (media, sent) in [(FORM, &b"role=nobody"[..]), ("application/json", b"{}"), (FORM, b"role=\xff")] {
            let response = respond(answer_to(&sandbox, media, sent, now()));
            assert_eq!(response.status(), 400);
            assert_eq!(response.headers().get("cache-control").unwrap(), "no-store");
            let body: serde_json::Value =
                serde_json::from_slice(&to_bytes(response.into_body()).await.unwrap()).unwrap();
            assert_eq!(body["error"], "invalid_request");
            assert!(!body["error_description"].as_str().unwrap().contains("nobody"));
        }
    }
}
