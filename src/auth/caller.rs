//! From the `Authorization` header to the [`Caller`]: the token verified, its client looked up, its organisation found.

use chrono::{DateTime, Utc};

use super::{
    claims::Claims,
    token::{TokenFault, Tokens},
};
use crate::cpis::types::{
    OdsCode, Organization,
    audit::AuditAgent,
    caller::{Author, Caller, Client, ResponsiblePerson, Role},
    organization::OrganizationKind,
};

/// How much of the token the audit keeps, from its end (BALP `agent.policy`), in characters.
const TOKEN_TAIL: usize = 32;

/// The registered clients and organisations, as the store has them now.
pub trait Directory {
    /// # Errors
    /// [`DirectoryFault`] when the store can't be asked.
    fn client(&self, client_id: &str) -> Result<Option<Client>, DirectoryFault>;

    /// # Errors
    /// [`DirectoryFault`] when the store can't be asked.
    fn organization(&self, ods: &OdsCode) -> Result<Option<Organization>, DirectoryFault>;
}

/// The store could not be asked: 503, never a refusal. Its cause is for the log.
#[derive(Debug, thiserror::Error)]
#[error("the register of clients and organisations cannot be read at the moment")]
pub struct DirectoryFault(#[source] Box<dyn std::error::Error + Send + Sync>);

impl DirectoryFault {
    pub fn new(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self(cause.into())
    }
}

/// Why a request has no caller. The texts never hold any part of the token.
#[derive(Debug, thiserror::Error)]
pub enum AuthFault {
    /// 401.
    #[error(transparent)]
    Token(#[from] TokenFault),
    /// 403: the token is genuine, but its bearer can't be a caller. `agent` is who it is, for the audit.
    #[error("{reason}")]
    Forbidden { agent: Box<AuditAgent>, reason: &'static str },
    /// 503.
    #[error(transparent)]
    Directory(#[from] DirectoryFault),
}

impl Tokens {
    /// Who calls, from the value of the `Authorization` header (`None` if there is none).
    ///
    /// The client is looked up each time, so that one that is disabled is refused from then on. Asks the directory,
    /// which may block.
    ///
    /// # Errors
    /// [`AuthFault`]: 401, 403 or 503.
    pub fn authenticate(
        &self,
        authorization_header: Option<&str>,
        directory: &dyn Directory,
        now: DateTime<Utc>,
    ) -> Result<Caller, AuthFault> {
        let token = bearer(authorization_header)?;
        let claims = self.verify(token, now)?;
        let client = directory.client(&claims.client_id)?.ok_or(TokenFault::UnknownClient)?;
        if client.disabled {
            return Err(TokenFault::DisabledClient.into());
        }
        let bearer = Bearer { client: &client, token };
        let (author, ods, activities) = bearer.authorship(claims, directory)?;
        let known = directory.organization(&ods)?;
        let is_closed =
            known.as_ref().is_some_and(|o| o.kind == OrganizationKind::LocalAuthority && o.part_of.is_some());
        let Some(organization) = known.filter(|o| o.active) else {
            let reason = if is_closed {
                "The caller's authority is closed: what its Organization is partOf has taken over. Call as a client of that one"
            } else {
                "The caller's organisation is not registered here, or not active"
            };
            return Err(bearer.forbidden(author, ods, reason));
        };
        if client.role == Role::Clinical && organization.kind != OrganizationKind::CareProvider {
            let reason = "The user's role is at an organisation that gives no care";
            return Err(bearer.forbidden(author, ods, reason));
        }
        Ok(Caller {
            role: client.role,
            organization,
            author,
            activities,
            token_tail: tail(token),
            client_id: client.client_id,
            client_name: client.name,
        })
    }
}

/// The token out of the header's value; the scheme's name is case-insensitive (RFC 9110 11.1).
fn bearer(header: Option<&str>) -> Result<&str, TokenFault> {
    let header = header.ok_or(TokenFault::Missing)?.trim();
    let (scheme, token) = header.split_once(' ').unwrap_or((header, ""));
    if header.is_empty() || (scheme.eq_ignore_ascii_case("bearer") && token.trim().is_empty()) {
        return Err(TokenFault::Empty);
    }
    if scheme.eq_ignore_ascii_case("bearer") { Ok(token.trim()) } else { Err(TokenFault::Malformed) }
}

/// A verified token is ASCII and far longer than its tail; from any other nothing is kept.
fn tail(token: &str) -> String {
    let start = token.len().saturating_sub(TOKEN_TAIL);
    if start == 0 { String::new() } else { token.get(start..).unwrap_or_default().to_owned() }
}

/// A registered client and its genuine token.
struct Bearer<'a> {
    client: &'a Client,
    token: &'a str,
}

impl Bearer<'_> {
    fn forbidden(&self, author: Author, organization: OdsCode, reason: &'static str) -> AuthFault {
        let agent = AuditAgent {
            client_id: self.client.client_id.clone(),
            role: self.client.role,
            // The register may have no name for it.
            organization_name: organization.as_str().to_owned(),
            organization,
            author,
            token_tail: tail(self.token),
        };
        AuthFault::Forbidden { agent: Box::new(agent), reason }
    }

    /// Who acts, for which organisation, with which activity codes.
    fn authorship(
        &self,
        claims: Claims,
        directory: &dyn Directory,
    ) -> Result<(Author, OdsCode, Vec<String>), AuthFault> {
        let client = self.client;
        match (claims.user, client.role) {
            (Some(user), Role::Clinical) => Ok((Author::Person(user.user), user.organization, user.activities)),
            // The organisation of any other client is the one it was registered for, whoever sits at it.
            (Some(user), _) => Ok((Author::Person(user.user), client.organization.clone(), user.activities)),
            (None, Role::Clinical) => {
                let author = self.device(claims.responsible, claims.site, directory)?;
                Ok((author, client.organization.clone(), client.activities.clone()))
            }
            (None, _) => Ok((Author::System, client.organization.clone(), client.activities.clone())),
        }
    }

    /// A clinical client without a user: registered as unattended, with somebody who answers for it and a site
    /// (design 10).
    fn device(
        &self,
        responsible: Option<ResponsiblePerson>,
        site: Option<OdsCode>,
        directory: &dyn Directory,
    ) -> Result<Author, AuthFault> {
        let forbidden = |reason| self.forbidden(Author::System, self.client.organization.clone(), reason);
        if !self.client.unattended {
            return Err(forbidden("The access token names no user, and the client may not call without one"));
        }
        let responsible = responsible.ok_or_else(|| {
            forbidden("The access token names no responsible person: add the claim cpis_responsible_person")
        })?;
        let site = site.ok_or_else(|| forbidden("The access token names no site: add the claim cpis_site"))?;
        // The register need not hold every site; but one that it holds must be the client's own.
        if let Some(known) = directory.organization(&site)? {
            let own =
                known.ods == self.client.organization || known.part_of.as_ref() == Some(&self.client.organization);
            if !own || !known.active {
                return Err(forbidden("The claim cpis_site names a site that is not the client's, or not active"));
            }
        }
        Ok(Author::Device { responsible, site: Some(site) })
    }
}
