//! Leadership: a session's advisory lock on a connection of its own.

use std::time::Duration;

use async_trait::async_trait;
use flowfleet_core::port::Leadership;
use sqlx::postgres::PgConnectOptions;
use sqlx::{Connection, PgConnection};

use crate::error::Error;

/// A leader whose connection does not answer by then leads no more.
const ANSWER: Duration = Duration::from_secs(5);

/// Makes the server notice within a minute that a leader's machine is gone, instead of after hours.
const KEEPALIVE: [&str; 4] = [
    "SET tcp_keepalives_idle = 15",
    "SET tcp_keepalives_interval = 5",
    "SET tcp_keepalives_count = 4",
    "SET tcp_user_timeout = 30000",
];

const LOCK: &str = "SELECT pg_try_advisory_lock(hashtextextended('flowfleet leader ' || $1, 0))";

/// The connection whose session holds the lock; `None` once it broke.
#[derive(Debug)]
pub(super) struct Leader {
    connection: Option<PgConnection>,
}

impl Leader {
    /// Tries to lead; `None` when another session does.
    pub(super) async fn elect(options: &PgConnectOptions, role: &str) -> Result<Option<Self>, Error> {
        let mut connection = PgConnection::connect_with(options).await?;
        let leads: bool = sqlx::query_scalar(LOCK)
            .bind(role)
            .fetch_one(&mut connection)
            .await?;
        if !leads {
            connection.close().await?;
            return Ok(None);
        }
        for statement in KEEPALIVE {
            sqlx::query(statement).execute(&mut connection).await?;
        }
        Ok(Some(Self {
            connection: Some(connection),
        }))
    }
}

#[async_trait]
impl Leadership for Leader {
    async fn holds(&mut self) -> bool {
        let Some(connection) = &mut self.connection else {
            return false;
        };
        let alive = matches!(tokio::time::timeout(ANSWER, connection.ping()).await, Ok(Ok(())));
        if !alive {
            self.connection = None;
        }
        alive
    }
}
