//! What every handler works with: the CP-IS use cases, tokens, validators and the few settings that HTTP needs.

use std::cell::RefCell;

use crate::{
    auth::{AuthFault, Directory, DirectoryFault, Tokens},
    config::{PdsMode, ScheduledCare},
    cpis::{
        Gateway,
        types::{
            OdsCode, Organization,
            caller::{Caller, Client},
        },
    },
    fhir::{render::Verification, validate::Validators},
    store::{Conn, StoreError, organization},
};

/// Settings that shape answers.
#[derive(Clone, Debug)]
pub struct HttpSettings {
    /// Absolute FHIR base as clients see it, without a last slash.
    pub base_url: String,
    /// Its path, such as `/cpis/FHIR/R4`.
    pub base_path: String,
    pub scheduled_care: ScheduledCare,
    pub pds_mode: PdsMode,
    /// Largest body, bytes.
    pub body_bytes: usize,
    /// Most entries of a Bundle.
    pub max_entries: usize,
    /// Hooks may be plain HTTP and on this machine (sandbox).
    pub allow_plain_hooks: bool,
}

/// The HTTP side of one gateway.
pub struct Service {
    pub gateway: Gateway,
    pub tokens: Tokens,
    pub validators: Validators,
    pub settings: HttpSettings,
    /// `None` outside the sandbox.
    pub sandbox: Option<super::sandbox::Sandbox>,
}

impl Service {
    /// Who calls, from the `Authorization` header.
    ///
    /// # Errors
    /// [`AuthFault`]: 401, 403 or 503.
    pub async fn authenticate(self: &std::sync::Arc<Self>, header: Option<String>) -> Result<Caller, AuthFault> {
        let (service, now) = (self.clone(), self.gateway.clock.now());
        let answer = self.gateway.store.read(move |conn| {
            let directory = Registered(RefCell::new(conn));
            Ok(service.tokens.authenticate(header.as_deref(), &directory, now))
        });
        answer.await.map_err(|error| AuthFault::Directory(DirectoryFault::new(error)))?
    }

    /// Whether numbers are traced here.
    pub fn verification(&self) -> Verification {
        match self.settings.pds_mode {
            PdsMode::Register => Verification::Verified,
            PdsMode::Off => Verification::NotTraced,
        }
    }
}

/// Clients and organisations as the store has them.
struct Registered<'a>(RefCell<&'a mut Conn>);

impl Registered<'_> {
    fn ask<T>(&self, query: impl FnOnce(&mut Conn) -> Result<T, StoreError>) -> Result<T, DirectoryFault> {
        query(&mut self.0.borrow_mut()).map_err(DirectoryFault::new)
    }
}

impl Directory for Registered<'_> {
    fn client(&self, client_id: &str) -> Result<Option<Client>, DirectoryFault> {
        self.ask(|conn| organization::find_client(conn, client_id))
    }

    fn organization(&self, ods: &OdsCode) -> Result<Option<Organization>, DirectoryFault> {
        self.ask(|conn| organization::find(conn, ods))
    }
}
