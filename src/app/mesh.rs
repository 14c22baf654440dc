//! The gateway's own MESH mailbox, put together from its settings: the client, the loop, and the FHIR door for Bundles that
//! come as files.

use std::{
    path::{Path, PathBuf},
    pin::Pin,
    time::Duration,
};

use actix_web::web::Data;
use secrecy::{SecretSlice, SecretString};

use super::StartFault;
use crate::{
    config::{Secret, Settings},
    cpis::{
        Gateway,
        types::{
            caller::{Caller, RequestContext},
            health::Dependency,
        },
    },
    http::{self, service::Service},
    mailbox::{BundleAnswer, Bundles, Mailbox, MailboxSettings},
    outside::mesh::{ClientIdentity, MeshClient, MeshSettings},
};

/// The FHIR door for Bundles that come over MESH.
struct FhirDoor(Data<Service>);

impl Bundles for FhirDoor {
    fn answer(
        &self,
        caller: Caller,
        context: RequestContext,
        bundle: Vec<u8>,
    ) -> Pin<Box<dyn Future<Output = Option<BundleAnswer>> + Send + '_>> {
        Box::pin(async move {
            let answer = http::by_mesh::upload(self.0.clone().into_inner(), caller, context, bundle).await?;
            Some(BundleAnswer { code: answer.code, body: answer.body })
        })
    }
}

/// What `/_status` asks: with a mailbox, how it stands with MESH too.
pub(super) fn dependencies(settings: &Settings, gateway: &Gateway) -> Vec<Dependency> {
    let mut dependencies = gateway.dependencies();
    if let (true, Some(mailbox)) = (settings.mesh.enabled, &settings.mesh.mailbox) {
        let (gateway, mailbox) = (gateway.clone(), mailbox.clone());
        dependencies.push(Dependency::new("mesh", false, move || gateway.clone().check_mesh(mailbox.clone())));
    }
    dependencies
}

/// The mailbox loop, if the gateway has a mailbox.
pub(super) fn mailbox(
    settings: &Settings,
    gateway: &Gateway,
    service: &Data<Service>,
    process: &str,
) -> Result<Option<Mailbox>, StartFault> {
    if !settings.mesh.enabled {
        return Ok(None);
    }
    let client = mesh_client(settings)?;
    let door = std::sync::Arc::new(FhirDoor(service.clone()));
    Ok(Some(Mailbox::new(gateway.clone(), client, door, MailboxSettings::of(settings), process.to_owned())))
}

/// A client of the gateway's own mailbox.
///
/// # Errors
/// [`StartFault`] when a file can't be read, or the certificates can't be used.
fn mesh_client(settings: &Settings) -> Result<MeshClient, StartFault> {
    let mesh = &settings.mesh;
    let read =
        |path: &Path| std::fs::read(path).map_err(|source| StartFault::KeyFile { path: path.to_owned(), source });
    let secret = |given: &Option<Secret>, file: &Option<PathBuf>| match (given, file) {
        (Some(secret), _) => Ok(SecretString::from(secret.expose())),
        (None, Some(path)) => {
            read(path).map(|bytes| SecretString::from(String::from_utf8_lossy(&bytes).trim().to_owned()))
        }
        (None, None) => Ok(SecretString::from("")),
    };
    let identity = match (&mesh.client_certificate, &mesh.client_key) {
        (Some(certificate), Some(key)) => {
            Some(ClientIdentity { certificate: read(certificate)?, key: SecretSlice::from(read(key)?) })
        }
        _ => None,
    };
    Ok(MeshClient::new(MeshSettings {
        url: mesh.url.clone().unwrap_or_default(),
        mailbox: mesh.mailbox.clone().unwrap_or_default(),
        password: secret(&mesh.password, &mesh.password_file)?,
        shared_key: secret(&mesh.shared_key, &mesh.shared_key_file)?,
        identity,
        authorities: mesh.authorities.as_deref().map(read).transpose()?,
        chunk_bytes: usize::try_from(mesh.chunk_bytes).unwrap_or(usize::MAX),
        retry_pause: Duration::from_millis(500),
    })?)
}
