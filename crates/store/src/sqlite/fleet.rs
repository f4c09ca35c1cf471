//! What workers are wished to do.

use async_trait::async_trait;
use flowfleet_core::WorkerId;
use flowfleet_core::port::{FleetStore, Result as PortResult, Wish};

use super::Sqlite;
use crate::error::{Error, Repeat, attempt};
use crate::fleet::{KEPT, WishRow, from_row, to_columns};
use crate::value::{Id, Time};

const WISH: &str = "
INSERT INTO worker_wishes (worker, state, handoff_ms, wished_at) VALUES (?1, ?2, ?3, ?4)
ON CONFLICT (worker) DO UPDATE SET
    state = excluded.state, handoff_ms = excluded.handoff_ms, wished_at = excluded.wished_at
";

const DROP: &str = "DELETE FROM worker_wishes WHERE wished_at < ?1 - ?2";

const WISHED: &str = "SELECT state, handoff_ms FROM worker_wishes WHERE worker = ?1";

impl Sqlite {
    async fn wish_once(&self, worker: WorkerId, wish: Wish) -> Result<(), Error> {
        let (state, handoff_ms) = to_columns(wish);
        sqlx::query(WISH)
            .bind(Id::from(worker))
            .bind(state)
            .bind(handoff_ms)
            .bind(Time::now())
            .execute(&self.writer)
            .await?;
        sqlx::query(DROP)
            .bind(Time::now())
            .bind(i64::try_from(KEPT.as_micros()).unwrap_or(i64::MAX))
            .execute(&self.writer)
            .await?;
        Ok(())
    }
}

#[async_trait]
impl FleetStore for Sqlite {
    async fn wish(&self, worker: WorkerId, wish: Wish) -> PortResult<()> {
        attempt("wish", Repeat::Idempotent, || self.wish_once(worker, wish)).await
    }

    async fn wished(&self, worker: WorkerId) -> PortResult<Option<Wish>> {
        attempt("wished", Repeat::Idempotent, || async {
            let row: Option<WishRow> = sqlx::query_as(WISHED)
                .bind(Id::from(worker))
                .fetch_optional(&self.readers)
                .await?;
            row.map(from_row).transpose()
        })
        .await
    }
}
