//! The MESH mailbox loop: takes the files that authorities send, and sends what they are told (design 6 and 7).
//!
//! - [`Mailbox::pump`] does one round and waits for it; tests drive it. [`Mailbox::run`] is the same in the background.
//! - One process at a time works, under the lease `mesh`. What it does is written down before and after, so that whatever
//!   interrupts it, a file is applied once and acknowledged, and a message goes out at least once under the same id.
//! - A round: the handshake once a day; each message that waits is handled ([`receive`]) and taken out of the inbox when its
//!   effect and its acknowledgement are durable; notifications whose window is over are put into messages; messages that are
//!   due go out ([`send`]); MESH is asked what became of some that were sent.
//! - A message that can't be handled is tried again after a pause and set aside after the last try; the others go on.
//! - While MESH is away nothing is tried but to reach it.

mod back_off;
mod bundle;
mod file;
mod receive;
mod render;
mod send;

use std::{path::PathBuf, sync::Arc, time::Duration};

pub use bundle::{BundleAnswer, Bundles};

use chrono::TimeDelta;
use tokio::sync::watch;

use crate::{
    config::{NotifySettings, Settings},
    cpis::{Error, Gateway, mesh::MeshTerms},
    outside::mesh::{MeshClient, MeshFault},
};

/// How often the background loop looks for something to send.
const TICK: Duration = Duration::from_secs(1);
/// MESH wants to hear of a mailbox's client at least once in 24 hours.
const HANDSHAKE_EVERY: TimeDelta = TimeDelta::hours(20);
/// Tries before a message that came is set aside.
const HANDLING_ATTEMPTS: i64 = 10;

/// Under which workflow what is exchanged.
#[derive(Clone, Debug, Default)]
pub struct Workflows {
    pub upload: String,
    pub acknowledgement: String,
    pub access: String,
    pub inactive: String,
}

/// When, how much and how often.
#[derive(Clone, Debug)]
pub struct MailboxSettings {
    pub workflows: Workflows,
    /// Between two looks into the inbox.
    pub poll: Duration,
    /// Accesses of so long go into one message; zero for a message each.
    pub window: TimeDelta,
    pub max_accesses: usize,
    /// Largest message that is read, in bytes after decompression.
    pub max_message_bytes: u64,
    /// Largest FHIR Bundle among them, in bytes.
    pub max_bundle_bytes: u64,
    /// How long the lease lasts after each renewal.
    pub lease: TimeDelta,
    /// Pause before the second try of a message; doubled after each further one.
    pub retry_first: TimeDelta,
    pub retry_longest: TimeDelta,
    /// Tries before a message is undeliverable.
    pub retry_attempts: i64,
    /// Where messages are kept, without a name, while they are handled.
    pub data_dir: PathBuf,
}

impl MailboxSettings {
    /// The mailbox's part of the whole configuration.
    pub fn of(settings: &Settings) -> Self {
        let (mesh, notify): (_, &NotifySettings) = (&settings.mesh, &settings.notify);
        Self {
            workflows: Workflows {
                upload: mesh.upload_workflow.clone().unwrap_or_default(),
                acknowledgement: mesh.acknowledgement_workflow.clone().unwrap_or_default(),
                access: mesh.access_workflow.clone().unwrap_or_default(),
                inactive: mesh.inactive_workflow.clone().unwrap_or_default(),
            },
            poll: Duration::from_secs(mesh.poll_seconds(settings.sandbox).into()),
            window: TimeDelta::minutes(mesh.access_window_minutes.into()),
            max_accesses: usize::from(mesh.max_accesses),
            max_message_bytes: mesh.max_message_bytes,
            max_bundle_bytes: settings.upload.body_bytes,
            lease: TimeDelta::seconds(mesh.lease_seconds.into()),
            retry_first: TimeDelta::seconds(notify.retry_first_seconds.into()),
            retry_longest: TimeDelta::seconds(notify.retry_longest_seconds.into()),
            retry_attempts: notify.retry_attempts.into(),
            data_dir: settings.data_dir.clone(),
        }
    }
}

/// What a round did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pumped {
    /// Messages that were handled and taken out of the inbox.
    pub handled: usize,
    /// Messages that could not be handled this time.
    pub postponed: usize,
    /// Messages that MESH took.
    pub sent: usize,
    /// Sendings that failed or whose result is not known.
    pub failed: usize,
    /// Messages that authorities were found to have taken.
    pub delivered: usize,
}

/// Why a round broke off.
#[derive(Debug, thiserror::Error)]
enum Stopped {
    /// The store can't answer.
    #[error(transparent)]
    Store(#[from] Error),
    /// MESH can't be worked with at the moment.
    #[error(transparent)]
    Mesh(#[from] MeshFault),
    /// Another process works.
    #[error("another process has taken over")]
    LeaseLost,
}

/// The mailbox loop of one process. Cheap to clone.
#[derive(Clone)]
pub struct Mailbox(Arc<Parts>);

struct Parts {
    gateway: Gateway,
    client: MeshClient,
    bundles: Arc<dyn Bundles>,
    settings: MailboxSettings,
    terms: MeshTerms,
}

impl Mailbox {
    /// `process` names this process among those of the same database.
    pub fn new(
        gateway: Gateway,
        client: MeshClient,
        bundles: Arc<dyn Bundles>,
        settings: MailboxSettings,
        process: String,
    ) -> Self {
        let terms = MeshTerms {
            process,
            lease: settings.lease,
            attempts: settings.retry_attempts,
            handling_attempts: HANDLING_ATTEMPTS,
            window: settings.window,
            max_accesses: settings.max_accesses,
        };
        Self(Arc::new(Parts { gateway, client, bundles, settings, terms }))
    }

    /// One round, until all that was due has been done or has failed. Does nothing while another process has the lease.
    ///
    /// # Errors
    /// [`Error`] when the database fails; nothing is lost, the next round goes on. That MESH is away is no error: it is
    /// written down, and everything waits.
    pub async fn pump(&self) -> Result<Pumped, Error> {
        if !self.0.gateway.hold_mesh(&self.0.terms).await? {
            return Ok(Pumped::default());
        }
        let _renewed = Renewal::start(self.clone());
        let mut done = Pumped::default();
        let exchanged = match self.look(&mut done).await {
            Ok(()) => self.send_and_track(&mut done).await,
            stopped => stopped,
        };
        self.judge(exchanged).await?;
        Ok(done)
    }

    /// Works until `stop` is true or its sender is gone, then gives the lease up.
    pub async fn run(self: Arc<Self>, mut stop: watch::Receiver<bool>) {
        let mut looked: Option<tokio::time::Instant> = None;
        while !*stop.borrow() {
            let look = looked.is_none_or(|at| at.elapsed() >= self.0.settings.poll);
            if look {
                looked = Some(tokio::time::Instant::now());
            }
            let round = async {
                match look {
                    true => self.pump().await.map(drop),
                    false => self.send_only().await,
                }
            };
            // Whatever a stop cuts off is as after a crash: the next process goes on from what is written down.
            tokio::select! {
                done = round => if let Err(error) = done {
                    tracing::warn!(%error, "MESH messages could not be exchanged; they wait");
                },
                changed = stop.changed() => if changed.is_err() || *stop.borrow() { break },
            }
            let tick = tokio::time::timeout(TICK.min(self.0.settings.poll), stop.changed()).await;
            if matches!(tick, Ok(Err(_))) {
                break;
            }
        }
        if let Err(error) = self.0.gateway.release_mesh(&self.0.terms).await {
            tracing::warn!(%error, "the lease of the MESH mailbox could not be given up; it runs out by itself");
        }
    }

    /// A round between two looks into the inbox: sends what is due, if MESH was there at the last call.
    async fn send_only(&self) -> Result<(), Error> {
        let Parts { gateway, client, terms, .. } = &*self.0;
        if !gateway.has_mesh_work(terms).await?
            || gateway.mesh_contact(client.mailbox()).await?.failed.is_some()
            || !gateway.hold_mesh(terms).await?
        {
            return Ok(());
        }
        let _renewed = Renewal::start(self.clone());
        let mut done = Pumped::default();
        let exchanged = self.send_due(&mut done).await;
        self.judge(exchanged).await
    }

    async fn send_and_track(&self, done: &mut Pumped) -> Result<(), Stopped> {
        self.send_due(done).await?;
        self.track(done).await
    }

    /// The handshake if its time has come, and whatever waits in the inbox.
    async fn look(&self, done: &mut Pumped) -> Result<(), Stopped> {
        let Parts { gateway, client, .. } = &*self.0;
        let now = gateway.clock.now();
        let mut stands = gateway.mesh_contact(client.mailbox()).await?;
        if stands.handshake.is_none_or(|at| now - at >= HANDSHAKE_EVERY) {
            client.handshake().await?;
            stands.handshake = Some(now);
        }
        let waiting = self.list().await?;
        if stands.failed.take().is_some() {
            tracing::info!("MESH is there again");
        }
        (stands.reached, stands.error) = (Some(now), None);
        gateway.note_mesh_contact(client.mailbox(), stands).await?;
        self.receive(waiting, done).await
    }

    /// What a round came to: that MESH is away is written down.
    async fn judge(&self, exchanged: Result<(), Stopped>) -> Result<(), Error> {
        match exchanged {
            Ok(()) => Ok(()),
            Err(Stopped::Store(error)) => Err(error),
            Err(Stopped::LeaseLost) => {
                tracing::info!("another process has taken the MESH mailbox over");
                Ok(())
            }
            Err(Stopped::Mesh(fault)) => {
                let Parts { gateway, client, .. } = &*self.0;
                let mut stands = gateway.mesh_contact(client.mailbox()).await?;
                if stands.failed.is_none() {
                    stands.failed = Some(gateway.clock.now());
                    tracing::warn!(alert = "mesh-unreachable", %fault, "MESH can't be worked with; everything waits");
                }
                stands.error = Some(fault.text);
                gateway.note_mesh_contact(client.mailbox(), stands).await
            }
        }
    }
}

/// Renews the lease while a round goes on, until it is dropped: a large file may take longer than the lease.
struct Renewal(tokio::task::JoinHandle<()>);

impl Renewal {
    fn start(mailbox: Mailbox) -> Self {
        let third = mailbox.0.settings.lease.to_std().unwrap_or_default() / 3;
        Self(tokio::spawn(async move {
            loop {
                tokio::time::sleep(third.max(Duration::from_millis(100))).await;
                let Parts { gateway, terms, .. } = &*mailbox.0;
                if let Err(error) = gateway.hold_mesh(terms).await {
                    tracing::warn!(%error, "the lease of the MESH mailbox could not be renewed");
                }
            }
        }))
    }
}

impl Drop for Renewal {
    fn drop(&mut self) {
        self.0.abort();
    }
}
