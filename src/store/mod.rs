//! The store: Diesel over SQLite or PostgreSQL, and the only SQL of the program.
//!
//! Reading goes through a pool ([`Store::read`]); every change goes through one writer ([`Store::write`]), which
//! appends the security audit's chain and shares a commit among the changes that wait (design 5).

pub mod access;
pub mod asked;
pub mod audit;
pub mod checkpoint;
pub mod child;
pub mod connection;
pub mod delivery;
pub mod history;
mod lanes;
pub mod lease;
pub mod mesh;
pub mod organization;
pub mod outbox;
pub mod person;
pub mod plan;
pub mod refusal;
pub mod register;
mod schema;
pub mod staged;
pub mod subscription;
pub mod succession;
pub mod trace;
pub mod undelivered;
pub mod upload;
mod writer;

use std::time::Duration;

pub use connection::{Conn, Location};
use writer::Lane;
pub use writer::{Tx, Writer};

use crate::{clock::Clock, cpis::types::NhsNumber};

/// Why the store could not do something. `Debug` and `Display` are for logs; no value of a row is ever in them.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("the database URL must start with sqlite: or postgres:")]
    BadUrl,
    #[error("the database is not available: {0}")]
    Unavailable(String),
    #[error("the store is busy")]
    Busy,
    /// Another writer was there first; trying again may help.
    #[error("lost a race with another writer")]
    Race,
    /// Another process has taken over this work: nothing of it may be written here any more.
    #[error("the lease was lost to another process")]
    LeaseLost,
    #[error("the change could not be made durable")]
    NotDurable,
    #[error("the checkpoint could not be signed: {0}")]
    Unsigned(String),
    #[error("a stored value is not valid: {0}")]
    Corrupt(&'static str),
    #[error("a migration failed: {0}")]
    Migration(String),
    #[error("the database refused a statement: {0}")]
    Database(&'static str),
}

impl StoreError {
    fn unavailable(error: impl std::fmt::Display) -> Self {
        // Connection errors name hosts and files, never rows.
        Self::Unavailable(error.to_string())
    }
}

impl From<diesel::result::Error> for StoreError {
    fn from(error: diesel::result::Error) -> Self {
        use diesel::result::{DatabaseErrorKind as Kind, Error};
        match error {
            Error::DatabaseError(Kind::UniqueViolation, _) => Self::Race,
            Error::DatabaseError(Kind::SerializationFailure, _) => Self::Race,
            Error::DatabaseError(Kind::ClosedConnection, _) | Error::BrokenTransactionManager => {
                Self::Unavailable("the connection was lost".to_owned())
            }
            Error::DatabaseError(_, info) => {
                // The message of a constraint may echo a row; only its known beginnings are told apart.
                let text = info.message();
                if text.contains("locked") || text.contains("busy") {
                    Self::Busy
                } else if text.contains("deadlock") || text.contains("could not serialize") {
                    Self::Race
                } else if text.contains("disk") || text.contains("No space") {
                    Self::NotDurable
                } else if text.contains("no such table") || text.contains("does not exist") {
                    Self::Database("a table or column is missing: has it been migrated?")
                } else if text.contains("append only") {
                    Self::Database("an append-only table was to be changed")
                } else if text.contains("server closed the connection") || text.contains("no connection") {
                    Self::Unavailable("the connection was lost".to_owned())
                } else {
                    Self::Database("a statement failed")
                }
            }
            Error::NotFound => Self::Corrupt("a row that must be there"),
            Error::QueryBuilderError(_) | Error::SerializationError(_) => Self::Database("a query could not be built"),
            Error::DeserializationError(_) => Self::Corrupt("a column"),
            _ => Self::Database("a transaction failed"),
        }
    }
}

/// Asks the database for nothing: whether it answers.
///
/// # Errors
/// [`StoreError`] when it does not.
pub fn ping(conn: &mut Conn) -> Result<(), StoreError> {
    diesel::RunQueryDsl::execute(diesel::sql_query("select 1"), conn)?;
    Ok(())
}

/// The open store; cheap to clone.
#[derive(Clone)]
pub struct Store {
    pool: connection::ReadPool,
    writer: Writer,
    location: Location,
}

/// How to open a store.
pub struct Options {
    pub location: Location,
    /// Connections that read.
    pub readers: u32,
    /// Names this process in the audit's chains.
    pub process: String,
    pub clock: Clock,
}

impl Store {
    /// Opens pool and writer; the writer opens its audit chain with its first change.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] when the database can't be reached.
    pub fn open(options: Options) -> Result<Self, StoreError> {
        let writer = Writer::start(options.location.clone(), options.process, options.clock)?;
        let pool = connection::ReadPool::builder()
            .max_size(options.readers)
            .min_idle(Some(1))
            .connection_timeout(Duration::from_secs(5))
            .build(connection::Manager(options.location.clone()))
            .map_err(StoreError::unavailable)?;
        Ok(Self { pool, writer, location: options.location })
    }

    /// Runs a query that changes nothing on a pooled connection, off the async threads.
    ///
    /// # Errors
    /// [`StoreError::Busy`] when no connection is free within 5 s, else what `query` returns.
    pub async fn read<T: Send + 'static>(
        &self,
        query: impl FnOnce(&mut Conn) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let store = self.clone();
        tokio::task::spawn_blocking(move || store.read_blocking(query)).await.map_err(|_| StoreError::Busy)?
    }

    /// [`Store::read`] on the calling thread.
    ///
    /// # Errors
    /// As [`Store::read`].
    pub fn read_blocking<T>(&self, query: impl FnOnce(&mut Conn) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let mut conn = self.pool.get().map_err(|_| StoreError::Busy)?;
        query(&mut conn)
    }

    /// Runs `change` in the writer's next transaction, with the persons of `children` locked; returns when it is durable.
    /// `change` may run again after a lost race, so it must not keep anything between runs. An `Err` undoes it alone.
    ///
    /// # Errors
    /// What `change` returns, [`StoreError::Busy`] when too much waits, [`StoreError::NotDurable`] when the commit failed.
    pub async fn write<T: Send + 'static>(
        &self,
        children: Vec<NhsNumber>,
        change: impl FnMut(&mut Tx<'_>) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.writer.submit(Lane::First, children, change)?.await.map_err(|_| StoreError::NotDurable)?
    }

    /// [`Store::write`] for a part of long work: everything else goes first, and it has a commit of its own.
    ///
    /// # Errors
    /// As [`Store::write`].
    pub async fn write_behind<T: Send + 'static>(
        &self,
        children: Vec<NhsNumber>,
        change: impl FnMut(&mut Tx<'_>) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.writer.submit(Lane::Behind, children, change)?.await.map_err(|_| StoreError::NotDurable)?
    }

    /// [`Store::write`] for threads without a runtime.
    ///
    /// # Errors
    /// As [`Store::write`].
    pub fn write_blocking<T: Send + 'static>(
        &self,
        children: Vec<NhsNumber>,
        change: impl FnMut(&mut Tx<'_>) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.writer.submit(Lane::First, children, change)?.blocking_recv().map_err(|_| StoreError::NotDurable)?
    }

    /// Closes the audit chain, writes the last checkpoint if somebody signs it, and stops the writer; later changes are
    /// refused.
    pub fn close(&self, signer: Option<std::sync::Arc<dyn checkpoint::Signer>>) {
        self.writer.close(signer);
    }

    /// Changes that wait for the writer.
    pub fn waiting_changes(&self) -> usize {
        self.writer.waiting()
    }

    pub fn location(&self) -> &Location {
        &self.location
    }
}
