//! Work that an answer doesn't wait for, because how long it takes would tell something. It may be lost with the process, so
//! only what would be found again is done here.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::task::JoinSet;

/// The tasks of one gateway; clones share them.
#[derive(Clone, Debug, Default)]
pub struct Later(Arc<Mutex<JoinSet<()>>>);

impl Later {
    pub(super) fn run(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Those that are over needn't be kept.
        while tasks.try_join_next().is_some() {}
        tasks.spawn(task);
    }

    /// Waits until everything that was begun is over.
    pub async fn done(&self) {
        let mut tasks = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        while tasks.join_next().await.is_some() {}
    }
}
