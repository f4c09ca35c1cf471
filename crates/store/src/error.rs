//! What can go wrong in a statement, and whether trying it again is right.

use std::future::Future;
use std::time::Duration;

use flowfleet_core::{Kind, PortError};

/// Why an operation failed, before it is known which one it was.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("{0}")]
    Sql(#[from] sqlx::Error),
    #[error("{0}")]
    Migrate(#[from] sqlx::migrate::MigrateError),
    /// A row that this program cannot have written.
    #[error("{0}")]
    Data(String),
    /// Refused by a rule of ours.
    #[error("{0}")]
    Refused(String),
    #[error("no answer within {} s", LONGEST.as_secs())]
    TimedOut,
}

impl From<serde_json::Error> for Error {
    fn from(error: serde_json::Error) -> Self {
        Self::Data(format!("stored JSON does not parse: {error}"))
    }
}

/// What a failed statement means for another try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// The database undid the transaction to resolve a conflict: repeating is always right.
    Aborted,
    /// The connection broke or none was to be had; the statement may have been applied.
    Broken,
    /// The schema lacks a table or column.
    Schema,
    /// The row contradicts the code.
    Data,
    Other,
}

fn database_fault(code: &str) -> Fault {
    // SQLite's codes are decimal and carry their primary code in the low byte; SQLSTATEs have five characters.
    if code.len() != 5 {
        return match code.parse::<i64>().map(|c| c & 0xff) {
            Ok(5 | 6) => Fault::Aborted,
            Ok(10 | 13 | 14) => Fault::Broken,
            _ => Fault::Other,
        };
    }
    match code {
        // The last: the transaction was left alone for too long.
        "40001" | "40P01" | "55P03" | "25P03" => Fault::Aborted,
        "42P01" | "42703" => Fault::Schema,
        // Administrators and failovers: a replica not yet promoted answers 25006.
        "25006" => Fault::Broken,
        _ if ["08", "53", "57"].iter().any(|class| code.starts_with(class)) => Fault::Broken,
        _ => Fault::Other,
    }
}

fn sql_fault(error: &sqlx::Error) -> Fault {
    match error {
        sqlx::Error::Database(database) => {
            if database.message().starts_with("no such table")
                || database.message().starts_with("no such column")
            {
                return Fault::Schema;
            }
            database.code().map_or(Fault::Other, |code| database_fault(&code))
        }
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::Protocol(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed => Fault::Broken,
        sqlx::Error::ColumnDecode { .. }
        | sqlx::Error::Decode(_)
        | sqlx::Error::ColumnNotFound(_)
        | sqlx::Error::ColumnIndexOutOfBounds { .. }
        | sqlx::Error::TypeNotFound { .. }
        | sqlx::Error::RowNotFound => Fault::Data,
        _ => Fault::Other,
    }
}

impl Error {
    fn fault(&self) -> Fault {
        match self {
            Self::Sql(error) => sql_fault(error),
            Self::Migrate(sqlx::migrate::MigrateError::Execute(error)) => sql_fault(error),
            Self::TimedOut => Fault::Broken,
            Self::Data(_) => Fault::Data,
            Self::Refused(_) | Self::Migrate(_) => Fault::Other,
        }
    }

    pub(crate) fn into_port(self, operation: &'static str) -> PortError {
        let kind = match self.fault() {
            Fault::Aborted | Fault::Broken => Kind::Retryable,
            Fault::Data => Kind::Bug,
            Fault::Schema => {
                return PortError {
                    kind: Kind::Permanent,
                    operation,
                    detail: OLD_SCHEMA.to_owned(),
                    source: Some(Box::new(self)),
                };
            }
            Fault::Other => Kind::Permanent,
        };
        PortError::from_source(kind, operation, self)
    }
}

/// What to do about a schema that is missing or old.
pub(crate) const OLD_SCHEMA: &str = "the database lacks the schema of this program: run `flowfleet migrate`";

/// Whether an operation may be repeated when nobody knows if it was applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Repeat {
    /// Applying it twice is applying it once.
    Idempotent,
    /// Repeated only after the database said that it undid it.
    Once,
}

/// No operation takes longer: a connection that hangs must not hang its caller.
const LONGEST: Duration = Duration::from_secs(30);
const TRIES_WHEN_ABORTED: u32 = 8;
const TRIES_WHEN_BROKEN: u32 = 2;

/// Runs one operation, again where that is right.
pub(crate) async fn attempt<T, F, Fut>(
    operation: &'static str,
    repeat: Repeat,
    run: F,
) -> Result<T, PortError>
where
    F: Fn() -> Fut + Send,
    Fut: Future<Output = Result<T, Error>> + Send,
    T: Send,
{
    let mut tried = 0u32;
    loop {
        tried += 1;
        let error = match tokio::time::timeout(LONGEST, run()).await {
            Ok(Ok(done)) => return Ok(done),
            Ok(Err(error)) => error,
            Err(_) => return Err(Error::TimedOut.into_port(operation)),
        };
        let allowed = match (error.fault(), repeat) {
            (Fault::Aborted, _) => TRIES_WHEN_ABORTED,
            (Fault::Broken, Repeat::Idempotent) => TRIES_WHEN_BROKEN,
            _ => 1,
        };
        if tried >= allowed {
            return Err(error.into_port(operation));
        }
        tracing::debug!(operation, tried, %error, "store operation is tried again");
        tokio::time::sleep(Duration::from_millis(5 << tried)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    #[test]
    fn codes_table() {
        for (code, fault) in [
            ("40001", Fault::Aborted),
            ("40P01", Fault::Aborted),
            ("25P03", Fault::Aborted),
            ("5", Fault::Aborted),
            ("517", Fault::Aborted),
            ("08006", Fault::Broken),
            ("57P01", Fault::Broken),
            ("53300", Fault::Broken),
            ("25006", Fault::Broken),
            ("13", Fault::Broken),
            ("42P01", Fault::Schema),
            ("23505", Fault::Other),
            ("2067", Fault::Other),
            ("22021", Fault::Other),
        ] {
            assert_eq!(database_fault(code), fault, "{code}");
        }
    }

    async fn tries(repeat: Repeat, error: fn() -> Error) -> (u32, Kind) {
        let count = AtomicU32::new(0);
        let refused = attempt::<(), _, _>("test", repeat, || async {
            count.fetch_add(1, Ordering::Relaxed);
            Err(error())
        })
        .await
        .unwrap_err();
        (count.load(Ordering::Relaxed), refused.kind)
    }

    #[tokio::test]
    async fn only_what_is_idempotent_is_repeated_after_a_broken_connection() {
        let broken = || Error::Sql(sqlx::Error::PoolTimedOut);
        assert_eq!(tries(Repeat::Idempotent, broken).await, (2, Kind::Retryable));
        assert_eq!(tries(Repeat::Once, broken).await, (1, Kind::Retryable));
        let data = || Error::Sql(sqlx::Error::RowNotFound);
        assert_eq!(tries(Repeat::Idempotent, data).await, (1, Kind::Bug));
        let refused = || Error::Refused("no".to_owned());
        assert_eq!(tries(Repeat::Idempotent, refused).await, (1, Kind::Permanent));
    }
}
