//! What PostgreSQL counts: by statement, by table, and in its log.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use sqlx::PgPool;

use crate::report::{Cell, Column, Table, Unit};

const STATEMENTS: &str = "
SELECT regexp_replace(query, '\\s+', ' ', 'g'), calls, total_exec_time + total_plan_time, wal_bytes::float8
FROM pg_stat_statements s JOIN pg_database d ON d.oid = s.dbid
WHERE d.datname = current_database() AND query !~ 'pg_stat|EXISTS \\(SELECT FROM runs'
ORDER BY total_exec_time + total_plan_time DESC LIMIT 12";

const TABLES: &str = "
SELECT relname::text, n_tup_ins, n_tup_upd, n_tup_hot_upd, n_tup_del, pg_total_relation_size(relid)
FROM pg_stat_user_tables ORDER BY relname";

const WAL: &str =
    "SELECT wal_bytes::float8, wal_records::float8, wal_fpi::float8, wal_sync::float8 FROM pg_stat_wal";

/// A backend that has become idle keeps what it counted to itself for so long at most.
const REPORTED: Duration = Duration::from_secs(11);

/// Letters of a statement that a table shows.
const SHOWN: usize = 60;

/// The extension `pg_stat_statements`, in our database.
pub(super) struct Statements;

impl Statements {
    pub(super) async fn prepare(pool: &PgPool) -> anyhow::Result<Self> {
        let loaded: String = sqlx::query_scalar("SHOW shared_preload_libraries")
            .fetch_one(pool)
            .await?;
        ensure!(
            loaded.contains("pg_stat_statements"),
            "start PostgreSQL with shared_preload_libraries = 'pg_stat_statements', or name such a server in \
             FLOWFLEET_TEST_POSTGRES"
        );
        sqlx::query("CREATE EXTENSION pg_stat_statements")
            .execute(pool)
            .await
            .context("CREATE EXTENSION pg_stat_statements (Debian: apt-get install postgresql-contrib)")?;
        Ok(Self)
    }

    /// Forgets what was counted in our database, and only there.
    pub(super) async fn reset(&self, pool: &PgPool) -> anyhow::Result<()> {
        sqlx::query(
            "SELECT pg_stat_statements_reset(0, (SELECT oid FROM pg_database WHERE datname = current_database()), 0)",
        )
        .execute(pool)
        .await?;
        Ok(())
    }

    pub(super) async fn table(&self, pool: &PgPool, how: &str, runs: usize) -> anyhow::Result<Table> {
        let mut table = Table::new(
            format!("SQL statements, runs {how}"),
            vec![
                Column::new("a run", Unit::Micros),
                Column::new("a call", Unit::Micros),
                Column::new("calls for 1,000 runs", Unit::Count),
                Column::new("WAL a run", Unit::Bytes),
            ],
        );
        let found: Vec<(String, i64, f64, f64)> = sqlx::query_as(STATEMENTS).fetch_all(pool).await?;
        let runs = runs as f64;
        for (query, calls, millis, wal) in found {
            let calls = calls as f64;
            let cells = vec![
                Cell::from(millis * 1000.0 / runs),
                Cell::from(millis * 1000.0 / calls),
                Cell::from(calls * 1000.0 / runs),
                Cell::from(wal / runs),
            ];
            table.row(query.trim().chars().take(SHOWN).collect::<String>(), cells);
        }
        Ok(table)
    }
}

type TableCounts = (String, i64, i64, i64, i64, i64);

/// Counters at a moment.
pub(super) struct Counts {
    tables: Vec<TableCounts>,
    /// Of the whole server. PostgreSQL 13 has no such view.
    wal: Option<(f64, f64, f64, f64)>,
}

impl Counts {
    /// Once all backends have told theirs.
    pub(super) async fn read_late(pool: &PgPool) -> anyhow::Result<Self> {
        tokio::time::sleep(REPORTED).await;
        Ok(Self {
            tables: sqlx::query_as(TABLES).fetch_all(pool).await?,
            wal: sqlx::query_as(WAL).fetch_one(pool).await.ok(),
        })
    }

    pub(super) fn since(&self, before: &Self, how: &str, runs: usize) -> Vec<Table> {
        let runs = runs as f64;
        let mut table = Table::new(
            format!("Rows written for a run {how}"),
            vec![
                Column::new("inserted", Unit::Count),
                Column::new("updated", Unit::Count),
                Column::new("of them in place (HOT)", Unit::Percent),
                Column::new("deleted", Unit::Count),
                Column::new("grown by", Unit::Bytes),
            ],
        );
        for now in &self.tables {
            let was = before.tables.iter().find(|was| was.0 == now.0);
            let diff = |of: fn(&TableCounts) -> i64| (of(now) - was.map_or(0, of)) as f64;
            let (inserted, updated, hot) = (diff(|t| t.1), diff(|t| t.2), diff(|t| t.3));
            if inserted + updated < runs / 1000.0 {
                continue;
            }
            let cells = vec![
                Cell::from(inserted / runs),
                Cell::from(updated / runs),
                Cell::from((updated > 0.0).then(|| hot * 100.0 / updated)),
                Cell::from(diff(|t| t.4) / runs),
                Cell::from(diff(|t| t.5) / runs),
            ];
            table.row(now.0.clone(), cells);
        }
        let mut tables = vec![table];
        if let (Some(now), Some(was)) = (self.wal, before.wal) {
            let mut table = Table::new(
                format!("PostgreSQL's log for a run {how}, of the whole server"),
                vec![
                    Column::new("written", Unit::Bytes),
                    Column::new("records", Unit::Count),
                    Column::new("full pages", Unit::Count),
                    Column::new("syncs", Unit::Count),
                ],
            );
            let cells = [now.0 - was.0, now.1 - was.1, now.2 - was.2, now.3 - was.3];
            table.row("WAL", cells.map(|all| Cell::from(all / runs)).into());
            tables.push(table);
        }
        tables
    }
}
