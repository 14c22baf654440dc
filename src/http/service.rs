//! What every handler works with: the CP-IS use cases, tokens, validators and the few settings that HTTP needs.

use std::{sync::Arc, time::Duration};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use serde_json::Value;

use super::definitions::Published;
use crate::{
    auth::{self, AuthFault, Seal, Tokens},
    config::{PdsMode, ScheduledCare},
    cpis::{
        Gateway,
        types::{caller::Caller, health::Dependency},
    },
    fhir::{render::Verification, validate::Validators},
    outside::target::Targets,
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
    /// Largest upload, bytes.
    pub upload_bytes: usize,
    /// An upload that takes longer is answered 202.
    pub answer_within: Duration,
    /// Where hooks may be.
    pub hook_targets: Targets,
    /// Seconds that a hook may take to answer.
    pub hook_timeout_seconds: u32,
}

/// Bodies over the limit of ordinary ones that may be in memory at the same time.
const LARGE_BODIES: usize = 4;

/// Who may have a large body in memory.
#[derive(Clone)]
pub struct LargeBodies(Arc<Semaphore>);

impl Default for LargeBodies {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(LARGE_BODIES)))
    }
}

impl LargeBodies {
    /// Leave to keep one until the permit is dropped; `None` when there are as many as may be.
    pub fn permit(&self) -> Option<OwnedSemaphorePermit> {
        self.0.clone().try_acquire_owned().ok()
    }
}

/// The HTTP side of one gateway.
pub struct Service {
    pub gateway: Gateway,
    pub tokens: Arc<Tokens>,
    pub validators: &'static Validators,
    pub settings: HttpSettings,
    /// Of the cursors: what numbers the store gives rows tells how many rows others have.
    pub seal: Seal,
    pub large_bodies: LargeBodies,
    /// What `/_status` asks.
    pub dependencies: Vec<Dependency>,
    /// The public key that checks notifications, as a JSON Web Key Set.
    pub notification_keys: Value,
    /// What the gateway says of itself, made once.
    pub published: Published,
    /// `None` outside the sandbox.
    pub sandbox: Option<super::sandbox::Sandbox>,
}

impl Service {
    /// Who calls, from the `Authorization` header.
    ///
    /// # Errors
    /// [`AuthFault`]: 401, 403 or 503.
    pub async fn authenticate(&self, header: Option<String>) -> Result<Caller, AuthFault> {
        let gateway = &self.gateway;
        auth::authenticate(self.tokens.clone(), &gateway.store, header, gateway.clock.now()).await
    }

    /// Whether numbers are traced here.
    pub fn verification(&self) -> Verification {
        match self.settings.pds_mode {
            PdsMode::Register | PdsMode::Fhir => Verification::Verified,
            PdsMode::Off => Verification::NotTraced,
        }
    }
}
