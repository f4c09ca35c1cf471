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

/// A leader that asks nothing for this long is stuck or stopped although its machine answers: the server ends its
/// session, and another may lead. Far longer than leaders wait between two calls of `holds`.
pub(super) const SILENT: Duration = Duration::from_secs(45);

const SILENCE: &str = "SELECT set_config('idle_session_timeout', $1, false)";

const LOCK: &str = "SELECT pg_try_advisory_lock(hashtextextended('flowfleet leader ' || $1, 0))";

/// The connection whose session holds the lock; `None` once it broke.
#[derive(Debug)]
pub(super) struct Leader {
    connection: Option<PgConnection>,
}

impl Leader {
    /// Tries to lead; `None` when another session does.
    pub(super) async fn elect(
        options: &PgConnectOptions,
        role: &str,
        silent: Duration,
    ) -> Result<Option<Self>, Error> {
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
        sqlx::query(SILENCE)
            .bind(silent.as_millis().to_string())
            .execute(&mut connection)
            .await?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_leader_that_falls_silent_is_followed_by_another() {
        let url = std::env::var("FLOWFLEET_TEST_POSTGRES")
            .unwrap_or_else(|_| "postgres://postgres@127.0.0.1:5432/postgres".to_owned());
        let options: PgConnectOptions = url.parse().unwrap();
        let role = format!("silence {}", uuid::Uuid::now_v7());
        let silent = Duration::from_secs(1);
        let elect = async || Leader::elect(&options, &role, silent).await.unwrap();
        let mut first = elect().await.unwrap();
        let begun = tokio::time::Instant::now();
        // One that asks keeps the leadership for longer than it may be silent.
        while begun.elapsed() < silent * 2 {
            assert!(first.holds().await);
            assert!(elect().await.is_none());
            tokio::time::sleep(silent / 5).await;
        }
        let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
        let _second = loop {
            if let Some(second) = elect().await {
                break second;
            }
            assert!(tokio::time::Instant::now() < deadline, "nobody follows");
            tokio::time::sleep(silent / 5).await;
        };
        assert!(!first.holds().await, "the silent one finds out");
    }
}
