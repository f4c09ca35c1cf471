//! PostgreSQL: its version and first process, and databases of our own.

use anyhow::Context as _;
use sqlx::{Connection as _, Executor as _, PgConnection, PgPool};
use url::Url;

use crate::usage;

/// Version and, when it runs on this machine, the first process.
pub(super) async fn probe(url: &str) -> anyhow::Result<(String, Option<u32>)> {
    let mut connection = PgConnection::connect(url).await?;
    let version: String = sqlx::query_scalar("SHOW server_version")
        .fetch_one(&mut connection)
        .await?;
    let backend: i32 = sqlx::query_scalar("SELECT pg_backend_pid()")
        .fetch_one(&mut connection)
        .await?;
    let first = u32::try_from(backend).ok().and_then(local_parent);
    connection.close().await?;
    Ok((version, first))
}

/// The parent of a backend, unless the number names something else on this machine.
fn local_parent(backend: u32) -> Option<u32> {
    usage::command_line(backend)
        .filter(|line| line.contains("postgres"))
        .and_then(|_| usage::parent(backend))
}

pub(super) async fn checkpoint(url: &str) -> anyhow::Result<()> {
    let pool = PgPool::connect(url).await?;
    sqlx::raw_sql("CHECKPOINT").execute(&pool).await?;
    pool.close().await;
    Ok(())
}

/// A database, dropped with the value.
#[derive(Debug)]
pub(crate) struct Database {
    server: Url,
    name: String,
    pub(crate) url: String,
}

impl Database {
    pub(super) async fn create(server: &Url, name: &str) -> anyhow::Result<Self> {
        let mut url = server.clone();
        url.set_path(name);
        let database = Self {
            server: server.clone(),
            name: name.to_owned(),
            url: url.into(),
        };
        let mut connection = PgConnection::connect(server.as_str()).await?;
        connection
            .execute(format!("CREATE DATABASE {name}").as_str())
            .await
            .with_context(|| format!("creating the database {name}"))?;
        Ok(database)
    }

    pub(crate) async fn pool(&self, connections: u32) -> anyhow::Result<PgPool> {
        sqlx::postgres::PgPoolOptions::new()
            .max_connections(connections)
            .connect(&self.url)
            .await
            .with_context(|| format!("connecting to {}", self.name))
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let (server, name) = (self.server.clone(), self.name.clone());
        // Not on the runtime, which may be the one that is going away.
        let dropped = std::thread::spawn(move || {
            tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?
                .block_on(async {
                    let mut connection = PgConnection::connect(server.as_str()).await?;
                    let statement = format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)");
                    connection.execute(statement.as_str()).await?;
                    anyhow::Ok(())
                })
        })
        .join();
        if !matches!(dropped, Ok(Ok(()))) {
            crate::report::complain(&format!("the database {} is left behind", self.name));
        }
    }
}
