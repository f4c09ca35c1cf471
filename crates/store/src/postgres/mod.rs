//! PostgreSQL 14 or later, also through RDS Proxy: no statement relies on the state of a session, aside from
//! the connection a leader keeps for itself.

mod chat;
mod finish;
mod fleet;
mod flows;
mod history;
mod keys;
mod knowledge;
mod leader;
mod leases;
mod progress;
mod runs;
mod upkeep;
mod write;

use std::sync::LazyLock;
use std::time::Duration;

use sqlx::migrate::{Migrate, Migrator};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{Connection, PgConnection, PgPool, Postgres as Pg, Transaction};

use crate::Options;
use crate::error::Error;

static MIGRATIONS: LazyLock<Migrator> = LazyLock::new(|| {
    crate::migrations(&[
        (1, "init", include_str!("../../migrations/postgres/0001_init.sql")),
        (
            2,
            "messages",
            include_str!("../../migrations/postgres/0002_messages.sql"),
        ),
        (
            3,
            "knowledge",
            include_str!("../../migrations/postgres/0003_knowledge.sql"),
        ),
        (
            4,
            "worker_wishes",
            include_str!("../../migrations/postgres/0004_worker_wishes.sql"),
        ),
    ])
});

/// Idle connections older than this are tested before use: a failover or a proxy may have closed them.
const TEST_AFTER_IDLE: Duration = Duration::from_secs(5);
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);

/// How a transaction of several statements begins. A process that is stopped between two of them, or cut off, would
/// keep its rows locked until its connection is found dead, which takes hours; and upkeep passes over locked rows.
const BEGIN: &str = "BEGIN; SET LOCAL idle_in_transaction_session_timeout = '5s'";

/// The store on PostgreSQL.
#[derive(Debug)]
pub(crate) struct Postgres {
    pool: PgPool,
    /// For connections outside the pool: leadership and migrations.
    options: PgConnectOptions,
}

impl Postgres {
    /// Connects when first used: a service starts while its database is still away, and says so when asked.
    pub(crate) fn open(url: &str, options: &Options) -> Result<Self, Error> {
        let connect: PgConnectOptions = url.parse().map_err(Error::Sql)?;
        let connect = connect.application_name(&options.application_name);
        let pool = PgPoolOptions::new()
            .max_connections(options.max_connections.max(1))
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .test_before_acquire(false)
            .before_acquire(|connection, meta| {
                Box::pin(async move {
                    if meta.idle_for > TEST_AFTER_IDLE {
                        connection.ping().await?;
                    }
                    Ok(true)
                })
            })
            .connect_lazy_with(connect.clone());
        Ok(Self {
            pool,
            options: connect,
        })
    }

    async fn begin(&self) -> Result<Transaction<'static, Pg>, Error> {
        Ok(self.pool.begin_with(BEGIN).await?)
    }

    async fn migrate_once(&self) -> Result<u32, Error> {
        let mut connection = PgConnection::connect_with(&self.options).await?;
        // Held until the connection closes; without it two programs would race to create the table.
        connection.lock().await?;
        connection.ensure_migrations_table().await?;
        let before = connection.list_applied_migrations().await?.len();
        MIGRATIONS.run_direct(&mut connection).await?;
        let after = connection.list_applied_migrations().await?.len();
        connection.close().await?;
        Ok(u32::try_from(after.saturating_sub(before)).unwrap_or(u32::MAX))
    }

    async fn check_schema(&self) -> Result<(), Error> {
        let newest: Option<i64> =
            sqlx::query_scalar("SELECT max(version) FROM _sqlx_migrations WHERE success")
                .fetch_one(&self.pool)
                .await?;
        crate::check_version(newest, &MIGRATIONS)
    }
}
