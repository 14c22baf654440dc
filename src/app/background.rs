//! Background tasks, kept running: one that panics would be gone for good, and nobody would notice.

use std::time::Duration;

use tokio::sync::watch;

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
