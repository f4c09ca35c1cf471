//! What SQLite's planner makes of the statements, so that none of them walks the history.
//!
//! A database that grew for a year must answer like one of yesterday: every access to a table that keeps ended runs
//! is a search by key, and a batch drives the join (it is never walked once for each row of a table).

use super::{chat, history, leases, runs, upkeep, write};
use crate::Options;

const STATEMENTS: [(&str, &str); 24] = [
    ("EXISTING", runs::EXISTING),
    ("USED_KEYS", runs::USED_KEYS),
    ("GET", runs::GET),
    ("EVENTS", runs::EVENTS),
    ("AHEAD", runs::AHEAD),
    ("LOCK_ONE", runs::LOCK_ONE),
    ("CLAIM", leases::CLAIM),
    ("CLAIMED", leases::CLAIMED),
    ("RENEW", leases::RENEW),
    ("LOCK", write::LOCK),
    ("UPDATE", write::UPDATE),
    ("APPEND", write::APPEND),
    ("ENDED", write::ENDED),
    ("LOCK_DUE", upkeep::LOCK_DUE),
    ("LOCK_LOST", upkeep::LOCK_LOST),
    ("LOCK_LATE", upkeep::LOCK_LATE),
    ("LOCK_UNPUBLISHED", upkeep::LOCK_UNPUBLISHED),
    ("BACKLOG", upkeep::BACKLOG),
    ("histories AFTER", history::AFTER),
    ("histories OF", history::OF),
    ("UNFINISHED", history::UNFINISHED),
    ("STRAYS", history::STRAYS),
    ("REMEMBER", chat::REMEMBER),
    ("TRIM", chat::TRIM),
];

/// Indexes that hold live runs only: walking one costs what is alive.
const LIVE: [&str; 4] = ["runs_queued", "runs_running", "runs_scheduled", "runs_expiring"];

/// One line of `EXPLAIN QUERY PLAN`. Lines with the same parent are nested loops, outermost first.
#[derive(Debug)]
struct Line {
    parent: i64,
    detail: String,
}

/// What is wrong with a plan, if anything.
fn complaint(plan: &[Line]) -> Option<String> {
    for (at, line) in plan.iter().enumerate() {
        let Some(table) = line.detail.strip_prefix("SCAN ") else {
            continue;
        };
        if table.contains("VIRTUAL TABLE") {
            let outer = plan[..at]
                .iter()
                .find(|l| l.parent == line.parent && l.detail.starts_with("SEARCH "));
            if let Some(outer) = outer {
                return Some(format!("walks the batch once for each row of: {}", outer.detail));
            }
        } else if ["runs", "r ", "o ", "c ", "d ", "run_", "checkpoints", "messages"]
            .iter()
            .any(|name| format!("{table} ").starts_with(name))
            && !LIVE.iter().any(|index| table.contains(index))
        {
            return Some(format!("walks the history: {}", line.detail));
        }
    }
    None
}

async fn plan(store: &super::Sqlite, statement: &str) -> Vec<Line> {
    let explain = format!("EXPLAIN QUERY PLAN {statement}");
    let mut query = sqlx::query_as(&explain);
    // The planner does not look at the values; every batch is JSON, and so is every number.
    for parameter in 1..=9 {
        if statement.contains(&format!("?{parameter}")) {
            query = query.bind("0");
        }
    }
    let lines: Vec<(i64, i64, i64, String)> = query
        .fetch_all(&store.readers)
        .await
        .expect("the statement is valid");
    lines
        .into_iter()
        .map(|(_, parent, _, detail)| Line { parent, detail })
        .collect()
}

async fn empty() -> super::Sqlite {
    let store = super::Sqlite::open(":memory:", &Options::default())
        .await
        .expect("a database in memory");
    store.migrate_once().await.expect("the schema");
    store
}

#[tokio::test]
async fn no_statement_walks_the_history() {
    let store = empty().await;
    for (name, statement) in STATEMENTS {
        let plan = plan(&store, statement).await;
        assert!(!plan.is_empty(), "{name} has no plan");
        assert_eq!(complaint(&plan), None, "{name}: {plan:#?}");
    }
}

#[tokio::test]
async fn plans_that_walk_are_found() {
    let store = empty().await;
    for statement in [
        "SELECT count(*) FROM runs",
        "SELECT 1 FROM runs r JOIN run_data d ON d.run_id = r.id WHERE r.finished_at > ?1",
        "SELECT 1 FROM runs r CROSS JOIN json_each(?1) k ON r.idempotency_key = k.value WHERE r.tenant = ?2",
        "DELETE FROM checkpoints WHERE output = ?1",
    ] {
        let plan = plan(&store, statement).await;
        assert!(complaint(&plan).is_some(), "{statement}: {plan:#?}");
    }
}

#[tokio::test]
async fn unsuccessful_runs_are_listed_by_their_own_index() {
    let store = empty().await;
    for states in [
        &[flowfleet_core::RunState::Failed][..],
        &[
            flowfleet_core::RunState::Expired,
            flowfleet_core::RunState::Failed,
        ],
    ] {
        let statement = format!(
            "SELECT r.id FROM runs r JOIN run_data d ON d.run_id = r.id WHERE r.tenant = ?1{} ORDER BY r.id DESC LIMIT 51",
            crate::listing::states(states)
        );
        let plan = plan(&store, &statement).await;
        assert!(plan[0].detail.contains("runs_unsuccessful"), "{plan:#?}");
        assert!(
            plan.iter().all(|line| !line.detail.contains("TEMP B-TREE")),
            "{plan:#?}"
        );
    }
}
