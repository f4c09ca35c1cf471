//! SQLite: one file, one writer connection, a pool of readers beside it (WAL).
//!
//! Batches travel as JSON texts that the statements take apart, so that each statement is prepared once however
//! large the batch is.

mod chat;
mod fleet;
mod flows;
#[cfg(test)]
mod full_tests;
mod history;
mod keys;
mod knowledge;
mod leader;
mod leases;
#[cfg(test)]
mod plans;
mod runs;
mod upkeep;
mod write;

use std::path::Path;
use std::sync::LazyLock;
use std::time::Duration;

use sqlx::migrate::{Migrate, Migrator};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{Connection, SqliteConnection, SqlitePool, Transaction};

use crate::Options;
use crate::error::Error;

static MIGRATIONS: LazyLock<Migrator> = LazyLock::new(|| {
    crate::migrations(&[
        (1, "init", include_str!("../../migrations/sqlite/0001_init.sql")),
        (
            2,
            "messages",
            include_str!("../../migrations/sqlite/0002_messages.sql"),
        ),
        (
            3,
            "knowledge",
            include_str!("../../migrations/sqlite/0003_knowledge.sql"),
        ),
        (
            4,
            "worker_wishes",
            include_str!("../../migrations/sqlite/0004_worker_wishes.sql"),
        ),
    ])
});

const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(20);
/// How long a writer waits for one of another process.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// The store on SQLite.
#[derive(Debug)]
pub(crate) struct Sqlite {
    writer: SqlitePool,
    readers: SqlitePool,
    leaders: leader::Registry,
}

/// Whether a connection is good for another transaction. SQLite rolls back by itself when the disk is full or fails;
/// the driver's own rollback is refused then, and it believes in an open transaction for ever.
async fn sound(connection: &mut SqliteConnection) -> sqlx::Result<bool> {
    if connection.is_in_transaction() {
        // Answered after a rollback that is still under way.
        connection.ping().await?;
    }
    Ok(!connection.is_in_transaction())
}

impl Sqlite {
    pub(crate) async fn open(path: &str, options: &Options) -> Result<Self, Error> {
        let path = path.strip_prefix("//").unwrap_or(path);
        if path.is_empty() {
            return Err(Error::Refused(
                "the store URL names no file: use sqlite:PATH or sqlite::memory:".to_owned(),
            ));
        }
        let connect = SqliteConnectOptions::new()
            .busy_timeout(BUSY_TIMEOUT)
            // The store was promised a run once `submit` answered: that holds through a power cut.
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(false);
        // A connection that is closed would take a database in memory with it.
        let one = SqlitePoolOptions::new()
            .max_connections(1)
            .min_connections(1)
            .idle_timeout(None)
            .max_lifetime(None)
            .test_before_acquire(false)
            .acquire_timeout(ACQUIRE_TIMEOUT);
        if path == ":memory:" {
            let writer = one.connect_with(connect.in_memory(true)).await?;
            return Ok(Self {
                readers: writer.clone(),
                writer,
                leaders: leader::Registry::default(),
            });
        }
        if let Some(folder) = Path::new(path).parent().filter(|f| !f.as_os_str().is_empty()) {
            tokio::fs::create_dir_all(folder).await.map_err(sqlx::Error::Io)?;
        }
        let connect = connect.filename(path);
        let writer = one
            .before_acquire(|connection, _| Box::pin(sound(connection)))
            .connect_with(
                connect
                    .clone()
                    .create_if_missing(true)
                    .journal_mode(SqliteJournalMode::Wal),
            )
            .await?;
        let readers = SqlitePoolOptions::new()
            .max_connections(options.max_connections.max(1))
            .test_before_acquire(false)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .connect_lazy_with(connect.read_only(true));
        Ok(Self {
            writer,
            readers,
            leaders: leader::Registry::default(),
        })
    }

    /// Begins a transaction that is the writer from its first moment, so that it never has to give way.
    async fn begin(&self) -> Result<Transaction<'static, sqlx::Sqlite>, Error> {
        Ok(self.writer.begin_with("BEGIN IMMEDIATE").await?)
    }

    async fn migrate_once(&self) -> Result<u32, Error> {
        let mut connection = self.writer.acquire().await?;
        connection.ensure_migrations_table().await?;
        let before = connection.list_applied_migrations().await?.len();
        MIGRATIONS.run_direct(&mut *connection).await?;
        let after = connection.list_applied_migrations().await?.len();
        Ok(u32::try_from(after.saturating_sub(before)).unwrap_or(u32::MAX))
    }

    async fn check_schema(&self) -> Result<(), Error> {
        let newest: Option<i64> =
            sqlx::query_scalar("SELECT max(version) FROM _sqlx_migrations WHERE success")
                .fetch_one(&self.readers)
                .await?;
        crate::check_version(newest, &MIGRATIONS)
    }
}
