//! The client of the MESH REST API (domain.md 5.2): one mailbox, over mutual TLS.
//!
//! - [`MeshClient::new`] with [`MeshSettings`]; [`MeshClient::handshake`] at least once every 24 hours.
//! - In: [`MeshClient::list`], [`MeshClient::head`], [`MeshClient::download`], [`MeshClient::acknowledge`].
//! - Out: [`MeshClient::send`], [`MeshClient::track`]; [`MeshClient::find_sent`] when the result of a send is not known.
//! - [`MeshFault`] has a text fit for a log: never a password, a key, or anything of a message.
//!
//! Calls that can be repeated without harm are tried again after a short pause when MESH is busy or away. The first
//! `POST outbox` of a message is not: that could send it twice.

mod call;
mod fault;
mod inbox;
mod outbox;
#[cfg(test)]
mod tests;
mod token;

use std::time::Duration;

use reqwest::{Certificate, Identity, Url, redirect, tls};
use secrecy::{ExposeSecret, SecretSlice, SecretString};

pub use fault::{FaultKind, MeshFault, meaning};
pub use inbox::{Inbox, MessageHeaders, MessageType};
pub use outbox::{Outgoing, SentMessage, SentStatus};

/// Longest time until TCP and TLS are up.
const CONNECT: Duration = Duration::from_secs(10);
/// Longest time of a call that carries no message.
const SHORT_CALL: Duration = Duration::from_secs(60);
/// Longest time of a call that carries up to 100 MB.
const TRANSFER: Duration = Duration::from_secs(900);

/// Client certificate and private key, both PEM.
pub struct ClientIdentity {
    pub certificate: Vec<u8>,
    pub key: SecretSlice<u8>,
}

/// Whose mailbox, where, and how.
pub struct MeshSettings {
    /// Scheme and host, e.g. `https://msg.intspineservices.nhs.uk`, without a last slash.
    pub url: String,
    /// Mailbox id in capitals.
    pub mailbox: String,
    pub password: SecretString,
    /// The shared key of the environment.
    pub shared_key: SecretString,
    pub identity: Option<ClientIdentity>,
    /// CA certificates in PEM that MESH's own certificate is judged by; the machine's when absent.
    pub authorities: Option<Vec<u8>>,
    /// Bytes of a message, before compression, that one request carries; under 100 MB.
    pub chunk_bytes: usize,
    /// Pause before a harmless call is tried again, doubled each time.
    pub retry_pause: Duration,
}

/// The client of one mailbox. Cheap to clone; clones share their connections.
#[derive(Clone)]
pub struct MeshClient {
    client: reqwest::Client,
    base: Url,
    mailbox: String,
    password: SecretString,
    shared_key: SecretString,
    chunk_bytes: usize,
    retry_pause: Duration,
}

impl std::fmt::Debug for MeshClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MeshClient").field("mailbox", &self.mailbox).finish_non_exhaustive()
    }
}

impl MeshClient {
    /// # Errors
    /// [`MeshFault`] when the URL, the certificates or the key can't be used.
    pub fn new(settings: MeshSettings) -> Result<Self, MeshFault> {
        let unusable = |text: &str| MeshFault::new(FaultKind::Refused, text);
        let mut base = Url::parse(&settings.url).map_err(|_| unusable("the URL of MESH is not a URL"))?;
        base.path_segments_mut()
            .map_err(|()| unusable("the URL of MESH is not a URL"))?
            .pop_if_empty()
            .push("messageexchange");
        let mut builder = reqwest::Client::builder()
            .user_agent(concat!("cpis-gateway/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT)
            .redirect(redirect::Policy::none())
            .retry(reqwest::retry::never())
            .referer(false)
            .tls_version_min(tls::Version::TLS_1_2);
        if let Some(identity) = &settings.identity {
            let identity = Identity::from_pkcs8_pem(&identity.certificate, identity.key.expose_secret());
            builder = builder.identity(identity.map_err(|_| {
                unusable(
                    "the client certificate and key of MESH can't be used: give both in PEM, the key as PKCS #8 \
                     (BEGIN PRIVATE KEY), and belonging together",
                )
            })?);
        }
        if let Some(authorities) = &settings.authorities {
            let authorities = Certificate::from_pem_bundle(authorities)
                .map_err(|_| unusable("the CA certificates of MESH can't be read: give them in PEM"))?;
            builder = builder.tls_certs_only(authorities);
        }
        let client = builder.build().map_err(|_| unusable(
                "TLS with MESH can't be set up: the client certificate and key must belong together, and all certificates be \
                 in PEM",
            ))?;
        Ok(Self {
            client,
            base,
            mailbox: settings.mailbox,
            password: settings.password,
            shared_key: settings.shared_key,
            chunk_bytes: settings.chunk_bytes.max(1),
            retry_pause: settings.retry_pause,
        })
    }

    /// The mailbox that this client is of.
    pub fn mailbox(&self) -> &str {
        &self.mailbox
    }

    /// Tells MESH that this mailbox's client is there, and checks its credentials.
    ///
    /// # Errors
    /// [`MeshFault`].
    pub async fn handshake(&self) -> Result<(), MeshFault> {
        let url = self.url(&[]);
        let make = || {
            self.client
                .post(url.clone())
                .header("Mex-ClientVersion", concat!("cpis-gateway==", env!("CARGO_PKG_VERSION")))
                .header("Mex-OSName", std::env::consts::OS)
                .header("Mex-OSVersion", "unspecified")
                .header("Mex-OSArchitecture", std::env::consts::ARCH)
                .timeout(SHORT_CALL)
        };
        self.call_again(make).await.map(drop)
    }
}
