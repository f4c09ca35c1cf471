//! When runs began and ended, as the store says. The table `runs` of Flowfleet and that of the floor both have the
//! columns this needs, and their clock is the client's: everything is on one machine.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use sqlx::PgPool;
use tokio::time::Instant;
use uuid::Uuid;

use crate::contender::LatencySamples;

const ENDS: &str = "
SELECT count(*), count(*) FILTER (WHERE finished_at IS NOT NULL),
    coalesce((extract(epoch FROM max(finished_at)) * 1000000)::bigint, 0)
FROM runs WHERE id >= $1";

const TIMES: &str = "
SELECT id, (extract(epoch FROM started_at) * 1000000)::bigint, (extract(epoch FROM finished_at) * 1000000)::bigint
FROM runs WHERE id = ANY($1) AND finished_at IS NOT NULL";

/// The smallest id that a run submitted now, or later, may have: ids begin with their millisecond.
pub(crate) fn first_id(now_us: u64) -> Uuid {
    Uuid::from_u128(u128::from(now_us / 1000) << 80)
}

/// When the last of exactly so many runs since `first` ended, in microseconds since 1970.
pub(crate) async fn last_end(pool: &PgPool, first: Uuid, runs: usize) -> anyhow::Result<u64> {
    let (all, ended, last): (i64, i64, i64) = sqlx::query_as(ENDS).bind(first).fetch_one(pool).await?;
    ensure!(
        usize::try_from(all) == Ok(runs) && ended == all,
        "{all} runs are stored and {ended} have ended, where {runs} were submitted"
    );
    Ok(u64::try_from(last)?)
}

/// Waits for the ends of runs and answers what each took.
pub(crate) async fn samples(pool: &PgPool, sent: &[(Uuid, u64)]) -> anyhow::Result<LatencySamples> {
    let ids: Vec<Uuid> = sent.iter().map(|(id, _)| *id).collect();
    let deadline = Instant::now() + Duration::from_secs(30);
    let rows = loop {
        let rows: Vec<(Uuid, i64, i64)> = sqlx::query_as(TIMES).bind(&ids).fetch_all(pool).await?;
        if rows.len() == ids.len() {
            break rows;
        }
        ensure!(
            Instant::now() < deadline,
            "{} of {} runs have not ended 30 s after the last submit",
            ids.len() - rows.len(),
            ids.len()
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    let submitted: HashMap<Uuid, u64> = sent.iter().copied().collect();
    let mut samples = LatencySamples::default();
    for (id, started, finished) in rows {
        let sent = submitted.get(&id).context("a run that nobody submitted")?;
        let since = |at: i64| Duration::from_micros(u64::try_from(at).unwrap_or(0).saturating_sub(*sent));
        samples.started.push(since(started));
        samples.finished.push(since(finished));
    }
    Ok(samples)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_a_moment_are_not_smaller() {
        let now = crate::client::now_us();
        assert!(first_id(now) <= Uuid::now_v7());
        assert!(first_id(now + 2_000_000) > Uuid::now_v7());
    }
}
