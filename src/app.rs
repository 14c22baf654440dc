//! The program put together: store, keys, rules, HTTP, notifier, checkpoints. Imported by `cli` and the tests only.

mod background;
mod mesh;
mod pds;

use std::{
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    sync::{Arc, atomic::AtomicI64},
    time::Duration,
};

use actix_web::{App as Web, HttpServer, dev::Server, web::Data};
use tokio::sync::watch;
use uuid::Uuid;

use crate::{
    auth::{
        Issuer, KeyFault, Tokens, VerifyingKey,
        checkpoint_key::{self, CheckpointKey, CheckpointKeyFault, PublicKey},
        notification_key::{NotificationKey, NotificationKeyFault},
        sandbox::SandboxFault,
    },
    clock::Clock,
    config::{IssuerSettings, PdsMode, Settings},
    cpis::{Gateway, calendar::Calendar, later::Later, limits::Limits, upload::turn::Uploads},
    demographics::{Demographics, Off, Register},
    fhir::validate::{SchemaFault, Validators},
    http::{
        self,
        definitions::{PublishFault, Published, TokensFrom},
        sandbox::Sandbox,
        service::{HttpSettings, LargeBodies, Service},
    },
    mailbox::Mailbox,
    notify::{Notifier, NotifierSettings},
    outside::{
        hook::{HookClient, HookFault, HookTimeouts},
        mesh::MeshFault,
        pds::PdsFault,
        target::Targets,
    },
    store::{
        Location, Options, Store, StoreError,
        audit::month_of,
        checkpoint::{self, Signer},
    },
    telemetry::metrics::Metrics,
};

/// Why the program can't start. The texts are for the operator.
#[derive(Debug, thiserror::Error)]
pub enum StartFault {
    #[error("the address {0} can't be listened on: {1}")]
    Listen(SocketAddr, std::io::Error),
    #[error("the data directory {} can't be made: {source}", path.display())]
    DataDir { path: PathBuf, source: std::io::Error },
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("there is no database at {}: give the gateway's own --config or --data, or start it first", .0.display())]
    NoDatabase(PathBuf),
    #[error("the database is not migrated: run `cpis-gateway migrate` with database.owner_url first")]
    NotMigrated,
    #[error("audit.signing_key is not set: outside the sandbox the audit's checkpoints need a signing key")]
    NoSigningKey,
    #[error("the audit's signing key: {0}")]
    SigningKey(#[from] CheckpointKeyFault),
    #[error("the key file {} can't be read: {source}", path.display())]
    KeyFile { path: PathBuf, source: std::io::Error },
    #[error("auth.issuers: {0}")]
    Keys(#[from] KeyFault),
    #[error("auth.issuers: the sandbox's issuer and keys are refused outside the sandbox")]
    SandboxIssuer,
    #[error("the sandbox's keys: {0}")]
    Sandbox(#[from] SandboxFault),
    #[error(transparent)]
    Schema(#[from] SchemaFault),
    #[error(transparent)]
    Publish(#[from] PublishFault),
    #[error("the key that signs notifications: {0}")]
    NotificationKey(#[from] NotificationKeyFault),
    #[error("the client of hooks: {0}")]
    Hooks(#[from] HookFault),
    #[error("mesh: {0}")]
    Mesh(#[from] MeshFault),
    #[error("pds: {0}")]
    Pds(#[from] PdsFault),
    #[error("the server stopped: {0}")]
    Server(#[from] std::io::Error),
}

/// Signs checkpoints with the key outside the database.
struct CheckpointSigner(CheckpointKey);

impl Signer for CheckpointSigner {
    fn sign(&self, content: &[u8]) -> Result<Vec<u8>, String> {
        self.0.sign(content).map_err(|fault| fault.to_string())
    }

    fn key_id(&self) -> String {
        self.0.key_id().to_owned()
    }
}

/// A gateway that is open: its database migrated, its address bound, nothing served yet.
pub struct App {
    pub gateway: Gateway,
    pub notifier: Arc<Notifier>,
    /// `None` without a MESH mailbox of its own.
    pub mailbox: Option<Arc<Mailbox>>,
    service: Data<Service>,
    signer: Arc<dyn Signer>,
    process: String,
    /// Up to which person the numbers were compared with the register.
    compared_to: AtomicI64,
    settings: Settings,
    listener: TcpListener,
    address: SocketAddr,
    management: TcpListener,
    management_address: SocketAddr,
}

/// The rules over the store that a gateway has, without HTTP: for commands, which must not take a place where there is none
/// for an empty one.
///
/// # Errors
/// [`StartFault::NoDatabase`] when there is no SQLite file; else as [`open_gateway`].
pub fn open_existing(settings: &Settings, clock: &Clock, process: &str) -> Result<Gateway, StartFault> {
    if let Location::Sqlite(path) = Location::parse(settings.database_url().expose())?
        && !Path::new(&path).exists()
    {
        return Err(StartFault::NoDatabase(path.into()));
    }
    open_gateway(settings, clock, process)
}

/// The rules over a store, made if there is none, without HTTP.
///
/// # Errors
/// [`StartFault::Store`] when the database can't be opened or migrated.
pub fn open_gateway(settings: &Settings, clock: &Clock, process: &str) -> Result<Gateway, StartFault> {
    std::fs::create_dir_all(&settings.data_dir)
        .map_err(|source| StartFault::DataDir { path: settings.data_dir.clone(), source })?;
    let url = settings.database_url();
    let location = Location::parse(url.expose())?;
    // A service on PostgreSQL never migrates itself: its account may not (design 11).
    if settings.sandbox || matches!(location, Location::Sqlite(_)) {
        location.migrate(month_of(clock.now()))?;
    } else if !location.is_migrated()? {
        return Err(StartFault::NotMigrated);
    }
    let options =
        Options { location, readers: settings.database.readers, process: process.to_owned(), clock: clock.clone() };
    let store = Store::open(options)?;
    let metrics = Metrics::default();
    let demographics: Arc<dyn Demographics> = match settings.pds.mode {
        PdsMode::Register => Arc::new(Register(store.clone())),
        PdsMode::Off => Arc::new(Off),
        PdsMode::Fhir => Arc::new(pds::demographics(settings, clock, &metrics)?),
    };
    Ok(Gateway {
        store,
        clock: clock.clone(),
        calendar: Calendar::new(settings.zone),
        limits: Limits {
            visible_days: u32::from(settings.plans.visible_days),
            unborn_visible_days: u32::from(settings.plans.unborn_visible_days),
            unborn_longest_days: u32::from(settings.plans.unborn_longest_days),
            adult_age: u32::from(settings.plans.adult_age),
            history_rows: usize::from(settings.access.history_rows),
            relist_hours: u32::from(settings.access.relist_hours),
            silent_hours: u32::from(settings.lifecycle.silent_hours),
            refused_kept_days: u32::from(settings.upload.refused_kept_days),
            remind_days: u32::from(settings.lifecycle.remind_days),
            retrace_days: u32::from(settings.pds.retrace_days),
            distinct_children: settings.limits.distinct_children_per_hour,
            distinct_children_of_devices: settings.limits.distinct_children_per_hour_of_devices,
            refuse_over_cap: settings.limits.refuse_over_cap,
        },
        demographics,
        disclose_demographics: settings.access.disclose_demographics,
        uploads: Uploads::new(
            usize::from(settings.upload.batch_records),
            Duration::from_secs(u64::from(settings.upload.wait_seconds)),
        ),
        metrics,
        later: Later::default(),
    })
}

/// Names a process in the audit's chains and in leases.
pub fn process_name() -> String {
    format!("cpis-gateway-{}-{}", std::process::id(), Uuid::new_v4().simple())
}

/// The public side of the key that signs this installation's checkpoints.
///
/// # Errors
/// [`StartFault`] when there is no such key.
pub fn checkpoint_public_key(settings: &Settings) -> Result<PublicKey, StartFault> {
    Ok(checkpoint_key(settings)?.public().clone())
}

/// Who signs the checkpoints of a command that writes.
///
/// # Errors
/// [`StartFault`] when there is no such key.
pub fn checkpoint_signer(settings: &Settings) -> Result<Arc<dyn Signer>, StartFault> {
    Ok(Arc::new(CheckpointSigner(checkpoint_key(settings)?)))
}

fn checkpoint_key(settings: &Settings) -> Result<CheckpointKey, StartFault> {
    if let Some(path) = &settings.audit.signing_key {
        return Ok(CheckpointKey::load(path)?);
    }
    if !settings.sandbox {
        return Err(StartFault::NoSigningKey);
    }
    let path = settings.data_dir.join(checkpoint_key::PRIVATE_FILE);
    Ok(if path.exists() { CheckpointKey::load(&path)? } else { CheckpointKey::generate_into(&settings.data_dir)? })
}

fn issuer(settings: &IssuerSettings) -> Result<Issuer, StartFault> {
    let read = |path: &Path| {
        std::fs::read_to_string(path).map_err(|source| StartFault::KeyFile { path: path.to_owned(), source })
    };
    let keys = match (&settings.jwks_file, &settings.pem_file) {
        (Some(path), _) => VerifyingKey::from_jwks(&read(path)?)?,
        (None, Some(path)) => vec![VerifyingKey::from_pem(settings.kid.as_deref().unwrap_or_default(), &read(path)?)?],
        (None, None) => Vec::new(),
    };
    Ok(Issuer::new(&settings.issuer, &settings.audience, keys)?)
}

fn bind(address: SocketAddr) -> Result<(TcpListener, SocketAddr), StartFault> {
    let listener = TcpListener::bind(address).map_err(|error| StartFault::Listen(address, error))?;
    let bound = listener.local_addr().map_err(|error| StartFault::Listen(address, error))?;
    Ok((listener, bound))
}

impl App {
    /// Opens everything and binds the address; serves nothing yet.
    ///
    /// # Errors
    /// [`StartFault`].
    pub fn open(settings: Settings, clock: Clock) -> Result<Self, StartFault> {
        let process = process_name();
        let gateway = open_gateway(&settings, &clock, &process)?;
        let checkpoint_key = checkpoint_key(&settings)?;
        let seal = checkpoint_key.seal()?;
        let notification_key = match &settings.notify.signing_key {
            Some(path) => NotificationKey::load(path)?,
            None => checkpoint_key.notification_key()?,
        };
        let signer = Arc::new(CheckpointSigner(checkpoint_key));
        let mut issuers = settings.auth.issuers.iter().map(issuer).collect::<Result<Vec<_>, _>>()?;
        if issuers.iter().any(Issuer::is_sandbox) {
            return Err(StartFault::SandboxIssuer);
        }
        let sandbox = if settings.sandbox { Some(Sandbox::open(&settings.data_dir)?) } else { None };
        if let Some(sandbox) = &sandbox {
            issuers.push(sandbox.issuer().issuer()?);
        }
        let (listener, address) = bind(settings.listen)?;
        let (management, management_address) = bind(settings.management.listen)?;
        let base_url = settings.fhir_base(address);
        let notify = &settings.notify;
        let hook_timeout = Duration::from_secs(u64::from(notify.hook_timeout_seconds));
        let timeouts = HookTimeouts { connect: hook_timeout.min(Duration::from_secs(5)), total: hook_timeout };
        let allowed = &notify.allow_targets;
        let hook_targets = if settings.sandbox { Targets::sandbox(allowed) } else { Targets::service(allowed) };
        let hooks = HookClient::new(timeouts, hook_targets.clone())?;
        let notification_keys = notification_key.jwks();
        let notifier = Arc::new(Notifier::new(
            gateway.clone(),
            (hooks, notification_key),
            NotifierSettings::from(notify),
            base_url.clone(),
            process.clone(),
        ));
        let http = HttpSettings {
            base_url,
            base_path: settings.base_path.clone(),
            scheduled_care: settings.access.scheduled_care,
            pds_mode: settings.pds.mode,
            body_bytes: usize::try_from(settings.limits.body_bytes).unwrap_or(usize::MAX),
            max_entries: usize::try_from(settings.upload.max_entries).unwrap_or(usize::MAX),
            upload_bytes: usize::try_from(settings.upload.body_bytes).unwrap_or(usize::MAX),
            answer_within: Duration::from_secs(u64::from(settings.upload.answer_within_seconds)),
            hook_targets,
            hook_timeout_seconds: notify.hook_timeout_seconds.into(),
        };
        let tokens_from = TokensFrom {
            sandbox: settings.sandbox,
            issuers: settings.auth.issuers.iter().map(|issuer| issuer.issuer.clone()).collect(),
        };
        let service = Data::new(Service {
            gateway: gateway.clone(),
            tokens: Arc::new(Tokens::new(issuers)?),
            validators: Validators::shared()?,
            published: Published::new(&http, &tokens_from)?,
            dependencies: mesh::dependencies(&settings, &gateway),
            notification_keys,
            settings: http,
            seal,
            large_bodies: LargeBodies::default(),
            sandbox,
        });
        let mailbox = mesh::mailbox(&settings, &gateway, &service, &process)?.map(Arc::new);
        let compared_to = AtomicI64::new(0);
        Ok(Self {
            gateway,
            notifier,
            mailbox,
            service,
            signer,
            process,
            compared_to,
            settings,
            listener,
            address,
            management,
            management_address,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where the operator gets the metrics.
    pub fn management_address(&self) -> SocketAddr {
        self.management_address
    }

    /// Absolute FHIR base as clients see it.
    pub fn base_url(&self) -> &str {
        &self.service.settings.base_url
    }

    /// Writes a checkpoint if anything was audited since the last one.
    ///
    /// # Errors
    /// [`StoreError`]: an alert, no reason to stop answering.
    pub async fn checkpoint(&self) -> Result<Option<i64>, StoreError> {
        let now = self.gateway.clock.now();
        checkpoint::write(&self.gateway.store, self.signer.clone(), self.process.clone(), now).await
    }

    /// The HTTP server, started; it ends when its handle is told to. Background work is not started: see [`App::run`].
    ///
    /// # Errors
    /// [`StartFault::Server`].
    pub fn server(&self) -> Result<Server, StartFault> {
        let service = self.service.clone();
        let listener = self.listener.try_clone()?;
        let server = HttpServer::new(move || Web::new().configure(|config| http::configure(config, service.clone())))
            .listen(listener)?
            .disable_signals()
            .shutdown_timeout(30)
            .run();
        Ok(server)
    }

    /// The server for the operator, started; it ends when its handle is told to.
    ///
    /// # Errors
    /// [`StartFault::Server`].
    pub fn management_server(&self) -> Result<Server, StartFault> {
        let gateway = Data::new(self.gateway.clone());
        let configured = move || {
            let gateway = gateway.clone();
            Web::new().configure(|config| http::management::configure(config, gateway))
        };
        let listener = self.management.try_clone()?;
        Ok(HttpServer::new(configured).workers(1).listen(listener)?.disable_signals().shutdown_timeout(5).run())
    }

    /// Serves until `stop` says so: then what was received is answered, background work ends, and the audit's chain is
    /// closed under a last checkpoint.
    ///
    /// # Errors
    /// [`StartFault::Server`] when the server fails.
    pub async fn run(self, stop: impl Future<Output = ()>) -> Result<(), StartFault> {
        let server = self.server()?;
        let handle = server.handle();
        let management = self.management_server()?;
        let management_handle = management.handle();
        let managing = actix_web::rt::spawn(management);
        let (stopping, stopped) = watch::channel(false);
        let app = Arc::new(self);
        let notifier = app.notifier.clone();
        let notifier = background::spawn("notifier", &stopped, move |stopped| notifier.clone().run(stopped));
        let mailbox = app
            .mailbox
            .clone()
            .map(|mailbox| background::spawn("mailbox", &stopped, move |stopped| mailbox.clone().run(stopped)));
        let task = app.clone();
        let checkpoints = background::spawn("checkpoints", &stopped, move |stopped| task.clone().background(stopped));
        let task = app.clone();
        let retracing = background::spawn("retracing", &stopped, move |stopped| task.clone().retracing(stopped));
        let task = app.clone();
        let lifecycle = background::spawn("lifecycle", &stopped, move |stopped| task.clone().lifecycle(stopped));
        let serving = actix_web::rt::spawn(server);
        tokio::pin!(serving);
        let ended = tokio::select! {
            ended = &mut serving => ended,
            () = stop => {
                tracing::info!("stopping: requests that were received are answered");
                handle.stop(true).await;
                serving.await
            }
        };
        // A failed send means that the tasks have ended already.
        let _ended = stopping.send(true);
        management_handle.stop(false).await;
        let _joined = (notifier.await, checkpoints.await, retracing.await, lifecycle.await, managing.await);
        if let Some(mailbox) = mailbox {
            let _joined = mailbox.await;
        }
        app.gateway.later.done().await;
        let store = app.gateway.store.clone();
        let signer = app.signer.clone();
        let closed = tokio::task::spawn_blocking(move || store.close(Some(signer))).await;
        if closed.is_err() {
            tracing::error!("the audit chain could not be closed");
        }
        match ended {
            Ok(result) => Ok(result?),
            Err(_) => Err(StartFault::Server(std::io::Error::other("the server's task ended early"))),
        }
    }
}
