//! Whether what the service depends on works, as `/_status` tells it.

use std::{future::Future, pin::Pin, sync::Arc};

/// How something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Health {
    Pass,
    /// It works, and somebody should look.
    Warn,
    Fail,
}

impl Health {
    /// The words of the health check format that NHS APIs use.
    pub fn code(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Warn => "warn",
            Self::Fail => "fail",
        }
    }
}

/// What became of one check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// Of the dependency, such as `store`.
    pub name: &'static str,
    pub health: Health,
    /// What was found, in a sentence; for administrators. Nothing of any child, no address, no secret.
    pub detail: String,
}

type Checking = Pin<Box<dyn Future<Output = Check> + Send>>;

/// Something that the service depends on, and how it is asked.
#[derive(Clone)]
pub struct Dependency {
    pub name: &'static str,
    /// Without it the service answers nobody: `/_status` is 503 when it fails.
    pub essential: bool,
    pub check: Arc<dyn Fn() -> Checking + Send + Sync>,
}

impl std::fmt::Debug for Dependency {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Dependency").field(&self.name).finish()
    }
}

impl Dependency {
    /// A dependency that `check` asks: how it is, and what was found.
    pub fn new<F>(name: &'static str, essential: bool, check: impl Fn() -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = (Health, String)> + Send + 'static,
    {
        let checked = move || -> Checking {
            let found = check();
            Box::pin(async move {
                let (health, detail) = found.await;
                Check { name, health, detail }
            })
        };
        Self { name, essential, check: Arc::new(checked) }
    }
}
