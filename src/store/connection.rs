//! One connection type for SQLite and PostgreSQL, opened by URL scheme, and the migrations of each.

use std::{fs::OpenOptions, os::unix::fs::OpenOptionsExt};

use diesel::{
    Connection, PgConnection, QueryResult, QueryableByName, RunQueryDsl, SqliteConnection,
    connection::SimpleConnection,
    migration::MigrationSource,
    pg::Pg,
    r2d2::{ManageConnection, Pool},
    result::Error::DatabaseError,
    sqlite::Sqlite,
};
use diesel_migrations::{EmbeddedMigrations, MigrationHarness, embed_migrations};

use super::StoreError;

const SQLITE_MIGRATIONS: EmbeddedMigrations = embed_migrations!("migrations/sqlite");
const POSTGRES_MIGRATIONS: EmbeddedMigrations = embed_migrations!("migrations/postgres");

/// The key of PostgreSQL's advisory lock around migrations: several processes may start together.
const MIGRATION_LOCK: i64 = 0x4350_4953;

/// A connection to either store. Queries are written once against it.
#[derive(diesel::MultiConnection)]
pub enum Conn {
    Sqlite(SqliteConnection),
    Postgres(PgConnection),
}

/// The same statement for both backends, where Diesel's multi-backend can't express it (upserts, batch inserts).
macro_rules! on {
    ($conn:expr, $c:ident => $query:expr) => {
        match $conn {
            $crate::store::connection::Conn::Sqlite($c) => $query,
            $crate::store::connection::Conn::Postgres($c) => $query,
        }
    };
}
pub(crate) use on;

/// Where the store is. Parsed from `sqlite:PATH` or `postgres://...`.
#[derive(Clone)]
pub enum Location {
    Sqlite(String),
    Postgres(String),
}

/// Makes the database file, if there is none, readable by its owner alone: SQLite's own would be as open as the umask, and
/// what it keeps beside the file is as open as the file. What can't be made here SQLite can't open either, and says so.
fn keep_private(path: &str) {
    drop(OpenOptions::new().write(true).create_new(true).mode(0o600).open(path));
}

impl Location {
    /// # Errors
    /// [`StoreError::BadUrl`] for another scheme.
    pub fn parse(url: &str) -> Result<Self, StoreError> {
        if let Some(path) = url.strip_prefix("sqlite:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            return if path.is_empty() { Err(StoreError::BadUrl) } else { Ok(Self::Sqlite(path.to_owned())) };
        }
        if url.starts_with("postgres://") || url.starts_with("postgresql://") {
            return Ok(Self::Postgres(url.to_owned()));
        }
        Err(StoreError::BadUrl)
    }

    /// Opens one connection with the settings that an audited store needs.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] when the database can't be reached.
    pub fn connect(&self) -> Result<Conn, StoreError> {
        match self {
            Self::Sqlite(path) => {
                keep_private(path);
                let mut conn = SqliteConnection::establish(path).map_err(StoreError::unavailable)?;
                // FULL: a look-up is answered only when its audit would survive a power cut. Recursive triggers: else
                // `replace` would delete an append-only row unseen.
                conn.batch_execute(
                    "pragma busy_timeout = 5000; pragma journal_mode = WAL; pragma synchronous = FULL; \
                     pragma foreign_keys = ON; pragma recursive_triggers = ON; pragma trusted_schema = OFF; pragma cache_size = -4000;",
                )
                .map_err(StoreError::unavailable)?;
                Ok(Conn::Sqlite(conn))
            }
            Self::Postgres(url) => {
                let mut conn = PgConnection::establish(url).map_err(StoreError::unavailable)?;
                conn.batch_execute("set synchronous_commit = on; set client_min_messages = warning;")
                    .map_err(StoreError::unavailable)?;
                Ok(Conn::Postgres(conn))
            }
        }
    }

    /// Applies every migration that is missing; on PostgreSQL under an advisory lock, with the audit's monthly
    /// partitions 24 months ahead of `month` (`yyyymm`).
    ///
    /// # Errors
    /// [`StoreError::Migration`] when one fails.
    pub fn migrate(&self, month: i32) -> Result<usize, StoreError> {
        let failed = |e: Box<dyn std::error::Error + Send + Sync>| StoreError::Migration(e.to_string());
        match self.connect()? {
            Conn::Sqlite(mut conn) => Ok(conn.run_pending_migrations(SQLITE_MIGRATIONS).map_err(failed)?.len()),
            Conn::Postgres(mut conn) => {
                diesel::sql_query(format!("select pg_advisory_lock({MIGRATION_LOCK})")).execute(&mut conn)?;
                let applied = conn.run_pending_migrations(POSTGRES_MIGRATIONS).map_err(failed)?.len();
                for ahead in 0..=24 {
                    let (from, to) = (months_after(month, ahead), months_after(month, ahead + 1));
                    conn.batch_execute(&format!(
                        "create table if not exists audit_event_{from} partition of audit_event \
                         for values from ({from}) to ({to})"
                    ))?;
                }
                diesel::sql_query(format!("select pg_advisory_unlock({MIGRATION_LOCK})")).execute(&mut conn)?;
                Ok(applied)
            }
        }
    }

    /// How many migrations the database has seen; 0 for one that this program never used.
    ///
    /// # Errors
    /// [`StoreError`] when the database can't be asked.
    pub fn applied_migrations(&self) -> Result<usize, StoreError> {
        let mut conn = self.connect()?;
        let applied = on!(&mut conn, c => c.applied_migrations().map(|versions| versions.len()));
        applied.map_err(|e| StoreError::Migration(e.to_string()))
    }

    /// Takes every migration back: the tables and all that is in them are gone. For a sandbox that starts over.
    ///
    /// # Errors
    /// [`StoreError::Migration`] when one fails.
    pub fn revert(&self) -> Result<(), StoreError> {
        let failed = |e: Box<dyn std::error::Error + Send + Sync>| StoreError::Migration(e.to_string());
        match self.connect()? {
            Conn::Sqlite(mut conn) => conn.revert_all_migrations(SQLITE_MIGRATIONS).map_err(failed)?,
            Conn::Postgres(mut conn) => conn.revert_all_migrations(POSTGRES_MIGRATIONS).map_err(failed)?,
        };
        Ok(())
    }

    /// True if every migration that this program knows is applied. Later ones are tolerated (rolling upgrade).
    /// Only reads: Diesel's own check makes its table where it is missing, which a serving account may not.
    ///
    /// # Errors
    /// [`StoreError`] when the database can't be asked.
    pub fn is_migrated(&self) -> Result<bool, StoreError> {
        let failed = |e: Box<dyn std::error::Error + Send + Sync>| StoreError::Migration(e.to_string());
        let query = diesel::sql_query("select version from __diesel_schema_migrations");
        let (known, applied): (Vec<String>, QueryResult<Vec<Applied>>) = match self.connect()? {
            Conn::Sqlite(mut conn) => {
                let known = MigrationSource::<Sqlite>::migrations(&SQLITE_MIGRATIONS).map_err(failed)?;
                (known.iter().map(|m| m.name().version().to_string()).collect(), query.load(&mut conn))
            }
            Conn::Postgres(mut conn) => {
                let known = MigrationSource::<Pg>::migrations(&POSTGRES_MIGRATIONS).map_err(failed)?;
                (known.iter().map(|m| m.name().version().to_string()).collect(), query.load(&mut conn))
            }
        };
        match applied {
            Ok(applied) => Ok(known.iter().all(|version| applied.iter().any(|row| row.version == *version))),
            // An empty database has no such table.
            Err(DatabaseError(_, info)) if info.message().contains("__diesel_schema_migrations") => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

/// A row of Diesel's own table.
#[derive(QueryableByName)]
struct Applied {
    #[diesel(sql_type = diesel::sql_types::Text)]
    version: String,
}

/// The month `n` months after `yyyymm`.
fn months_after(yyyymm: i32, n: i32) -> i32 {
    let months = yyyymm / 100 * 12 + yyyymm % 100 - 1 + n;
    months / 12 * 100 + months % 12 + 1
}

/// Makes the read pool's connections. Picks the backend from the location, so that a wrong URL fails with its own error.
pub struct Manager(pub Location);

impl ManageConnection for Manager {
    type Connection = Conn;
    type Error = StoreError;

    fn connect(&self) -> Result<Conn, StoreError> {
        self.0.connect()
    }

    fn is_valid(&self, conn: &mut Conn) -> Result<(), StoreError> {
        diesel::sql_query("select 1").execute(conn)?;
        Ok(())
    }

    fn has_broken(&self, conn: &mut Conn) -> bool {
        use diesel::connection::TransactionManager;
        match conn {
            Conn::Sqlite(c) => <SqliteConnection as Connection>::TransactionManager::is_broken_transaction_manager(c),
            Conn::Postgres(c) => <PgConnection as Connection>::TransactionManager::is_broken_transaction_manager(c),
        }
    }
}

pub type ReadPool = Pool<Manager>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn months_roll_over() {
        assert_eq!(months_after(202611, 0), 202611);
        assert_eq!(months_after(202611, 2), 202701);
        assert_eq!(months_after(202612, 24), 202812);
    }

    #[test]
    fn only_the_two_schemes_are_known() {
        assert!(Location::parse("sqlite:data/cpis.db").is_ok());
        assert!(Location::parse("postgres://u@h/db").is_ok());
        for bad in ["", "sqlite:", "mysql://x", "data/cpis.db"] {
            assert!(Location::parse(bad).is_err(), "{bad}");
        }
    }
}
