//! The store: runs, leases, flows, keys and events in PostgreSQL or SQLite.
//!
//! Owns the schemas and their forward-only migrations, and every statement. The two dialects share what is not
//! SQL: which transition follows (`change`, built on `flowfleet_core::run::apply`), what rows mean (`row`) and
//! when a failed statement is tried again (`error`). Scheduling, publishing and retention belong to the
//! dispatcher.

mod batch;
mod change;
mod chat;
mod columns;
mod error;
mod events;
mod fleet;
mod history;
mod knowledge;
mod leased;
mod listing;
mod metered;
pub mod metrics;
mod postgres;
mod row;
mod sqlite;
mod submission;
mod value;

use std::sync::Arc;

use flowfleet_core::port::{Page, Store};
use flowfleet_core::{Kind, PortError};
use sqlx::migrate::{Migration, MigrationType, Migrator};

use crate::error::Error;

/// The longest page of a listing.
const LIST_LIMIT: u32 = 1_000;
/// Rows of events read at once.
const EVENTS_LIMIT: u32 = 10_000;
/// Runs one call of upkeep touches at most.
const UPKEEP_LIMIT: u32 = 10_000;
/// Histories read at once.
const HISTORY_LIMIT: u32 = 1_000;
/// Keys of a tenant that are listed.
const KEYS_LIMIT: i64 = 10_000;

/// How to open a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Connections to PostgreSQL, or readers of SQLite (which has one writer). A leader has one more.
    pub max_connections: u32,
    /// How PostgreSQL names this process in `pg_stat_activity`.
    pub application_name: String,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            max_connections: 10,
            application_name: "flowfleet".to_owned(),
        }
    }
}

/// Opens the store a URL names: `postgres://…`, `postgresql://…`, `sqlite:PATH` or `sqlite::memory:`. Does not
/// migrate. SQLite files are created; PostgreSQL is connected to when first used.
pub async fn open(url: &str, options: Options) -> Result<Arc<dyn Store>, PortError> {
    let scheme = url.split(':').next().unwrap_or_default();
    match scheme {
        "postgres" | "postgresql" => {
            let store = postgres::Postgres::open(url, &options).map_err(|e| e.into_port("open"))?;
            Ok(Arc::new(metered::Metered::new(store)))
        }
        "sqlite" => {
            let path = url.strip_prefix("sqlite:").unwrap_or_default();
            let store = sqlite::Sqlite::open(path, &options)
                .await
                .map_err(|e| e.into_port("open"))?;
            Ok(Arc::new(metered::Metered::new(store)))
        }
        // The rest of the URL may hold a password.
        _ => Err(PortError::new(
            Kind::Permanent,
            "open",
            format!(
                "store URL scheme {:?} is not known: use postgres://USER:PASSWORD@HOST/DATABASE or sqlite:PATH",
                scheme.chars().take(32).collect::<String>()
            ),
        )),
    }
}

/// The migrations of a dialect: `(version, description, statements)`, oldest first.
fn migrations(all: &[(i64, &'static str, &'static str)]) -> Migrator {
    let all = all.iter().map(|&(version, description, statements)| {
        Migration::new(
            version,
            description.into(),
            MigrationType::Simple,
            statements.into(),
            false,
        )
    });
    Migrator {
        migrations: all.collect(),
        // A newer program of the fleet may have migrated further.
        ignore_missing: true,
        ..Migrator::DEFAULT
    }
}

/// Whether the newest migration that ran is one this program can work with. A newer one is: migrations only
/// add, so that a fleet is upgraded piece by piece.
fn check_version(found: Option<i64>, migrations: &Migrator) -> Result<(), Error> {
    let needed = migrations.iter().map(|m| m.version).max();
    if found >= needed {
        return Ok(());
    }
    Err(Error::Refused(error::OLD_SCHEMA.to_owned()))
}

/// A page from at most `limit + 1` rows.
fn page<R, T>(rows: Vec<R>, limit: u32, of: impl Fn(R) -> Result<T, Error>) -> Result<Page<T>, Error> {
    let limit = limit as usize;
    let more = rows.len() > limit;
    let items = rows.into_iter().take(limit).map(of).collect::<Result<_, _>>()?;
    Ok(Page { items, more })
}
