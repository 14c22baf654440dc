//! Background tasks: checkpoints and sweeps, the rounds over records, tracing again. They are kept running: one that panics
//! would be gone for good, and nobody would notice.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tokio::sync::watch;

use super::App;
use crate::{
    cpis::{
        self,
        lifecycle::{LifecycleTerms, LookedAfter},
    },
    store::StoreError,
};

/// How often what dead processes left of uploads is looked for.
const SWEEP_EVERY: Duration = Duration::from_secs(60);
/// How long after a panic a task is begun again.
const PAUSE: Duration = Duration::from_secs(5);

/// Runs a task to its end, and begins it again if it panics, unless the program is stopping by then.
pub(super) async fn kept_running<T: Future<Output = ()> + 'static>(
    name: &'static str,
    mut stopped: watch::Receiver<bool>,
    pause: Duration,
    task: impl Fn() -> T,
) {
    while actix_web::rt::spawn(task()).await.is_err_and(|ended| ended.is_panic()) {
        tracing::error!(alert = "background-task", task = name, "a background task broke down; it is begun again");
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            _ = stopped.changed() => return,
        }
    }
}

/// [`kept_running`], begun at once.
pub(super) fn spawn<T: Future<Output = ()> + 'static>(
    name: &'static str,
    stopped: &watch::Receiver<bool>,
    task: impl Fn(watch::Receiver<bool>) -> T + 'static,
) -> actix_web::rt::task::JoinHandle<()> {
    let (stopped, for_task) = (stopped.clone(), stopped.clone());
    actix_web::rt::spawn(kept_running(name, stopped, PAUSE, move || task(for_task.clone())))
}

impl App {
    /// Checkpoints while there is traffic; refused records are forgotten when their time is over.
    pub(super) async fn background(self: Arc<Self>, mut stopped: watch::Receiver<bool>) {
        let mut checkpoints =
            tokio::time::interval(Duration::from_secs(u64::from(self.settings.audit.checkpoint_seconds)));
        let mut days = tokio::time::interval(Duration::from_secs(24 * 3600));
        let mut sweeps = tokio::time::interval(SWEEP_EVERY);
        loop {
            tokio::select! {
                _ = checkpoints.tick() => {
                    if let Err(error) = self.checkpoint().await {
                        tracing::error!(alert = "audit-checkpoint", %error, "the audit's checkpoint could not be written");
                    }
                }
                _ = days.tick() => {
                    if let Err(error) = self.forget_refused().await {
                        tracing::warn!(%error, "refused records could not be cleared");
                    }
                }
                _ = sweeps.tick() => {
                    if let Err(error) = self.gateway.sweep_uploads().await {
                        tracing::warn!(%error, "what dead processes left of uploads could not be discarded");
                    }
                    if let Err(error) = self.gateway.forget_old_traces().await {
                        tracing::warn!(%error, "traces that were kept for a day could not be forgotten");
                    }
                }
                _ = stopped.changed() => return,
            }
        }
    }

    /// Round after round until `stopped`, then the lease is given up.
    pub(super) async fn lifecycle(self: Arc<Self>, mut stopped: watch::Receiver<bool>) {
        let seconds = u64::from(self.settings.lifecycle.round_seconds);
        let mut rounds = tokio::time::interval(Duration::from_secs(seconds));
        rounds.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = rounds.tick() => {
                    if let Err(error) = self.look_after_records().await {
                        tracing::warn!(%error, "a round over the records broke off; the next one goes on");
                    }
                }
                _ = stopped.changed() => break,
            }
        }
        if let Err(error) = self.gateway.release_lifecycle(&self.lifecycle_terms()).await {
            tracing::warn!(%error, "the lease could not be given up; it runs out by itself");
        }
    }

    /// Stored numbers are traced again, round after round until `stopped`. A round that is broken off leaves nothing half
    /// done: what it had claimed another may have a little later.
    pub(super) async fn retracing(self: Arc<Self>, mut stopped: watch::Receiver<bool>) {
        let mut rounds = tokio::time::interval(Duration::from_secs(u64::from(self.settings.lifecycle.round_seconds)));
        rounds.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let round = async {
                rounds.tick().await;
                self.gateway.retrace().await
            };
            tokio::select! {
                done = round => match done {
                    Ok(done) if done.unavailable => {
                        tracing::info!("stored numbers are traced again when demographics answer");
                    }
                    Ok(_) => {}
                    Err(error) => tracing::warn!(%error, "a round of tracing again broke off; the next one goes on"),
                },
                _ = stopped.changed() => return,
            }
        }
    }

    fn lifecycle_terms(&self) -> LifecycleTerms {
        let settings = &self.settings.lifecycle;
        LifecycleTerms {
            process: self.process.clone(),
            lease: chrono::TimeDelta::seconds(i64::from(settings.round_seconds) + 60),
            compared_at_once: usize::from(settings.compared_at_once),
        }
    }

    /// One round of what becomes of records after they were sent: ends by the system, the register, silence.
    ///
    /// # Errors
    /// [`cpis::Error`]; what was done before it stays done.
    pub async fn look_after_records(&self) -> Result<LookedAfter, cpis::Error> {
        let from = self.compared_to.load(Ordering::SeqCst);
        let done = self.gateway.look_after_records(&self.lifecycle_terms(), from).await?;
        self.compared_to.store(done.compared_to, Ordering::SeqCst);
        Ok(done)
    }

    /// Takes number and reason off refused records that were kept long enough (design 6).
    ///
    /// # Errors
    /// [`StoreError`] when the database fails.
    pub async fn forget_refused(&self) -> Result<usize, StoreError> {
        let kept = chrono::TimeDelta::days(i64::from(self.settings.upload.refused_kept_days));
        let before_ms = (self.gateway.clock.now() - kept).timestamp_millis();
        self.gateway.store.write(Vec::new(), move |tx| crate::store::upload::forget_refused(tx.conn, before_ms)).await
    }
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, rc::Rc};

    use super::*;

    #[actix_web::test]
    async fn a_task_that_panics_is_begun_again_and_one_that_ends_is_not() {
        let (_stopping, stopped) = watch::channel(false);
        let begun = Rc::new(Cell::new(0));
        let counted = begun.clone();
        kept_running("test", stopped, Duration::ZERO, move || {
            let counted = counted.clone();
            async move {
                counted.set(counted.get() + 1);
                assert_eq!(counted.get(), 3, "it breaks down twice");
            }
        })
        .await;
        assert_eq!(begun.get(), 3);
    }

    #[actix_web::test]
    async fn a_program_that_stops_begins_nothing_again() {
        let (stopping, stopped) = watch::channel(false);
        stopping.send(true).unwrap();
        kept_running("test", stopped, Duration::from_secs(3600), || async { panic!("it breaks down") }).await;
    }
}
