//! Finished runs in any number: copies of real ones, row by row in every table, with ids and times of the past.
//!
//! Nothing here knows the schema: the columns are asked from the database, so that a copy is what a real run leaves
//! behind, whatever that becomes.

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};
use sqlx::PgPool;

use super::cost::Bed;

/// Real runs that are copied.
const SAMPLE: usize = 1_000;
/// Copies by one statement.
const CHUNK: usize = 50_000;
/// How far back the history goes.
const DAYS: usize = 30;

/// Every n-th run of the sample has this label.
const LABELLED: usize = 100;

const TABLES: &str = "
SELECT c.table_name::text, c.column_name::text, c.data_type::text
FROM information_schema.columns c
JOIN information_schema.tables t USING (table_schema, table_name)
WHERE c.table_schema = 'public' AND t.table_type = 'BASE TABLE' AND c.is_identity = 'NO' AND c.is_generated = 'NEVER'
  AND NOT EXISTS (SELECT FROM pg_inherits i WHERE i.inhrelid = format('%I', t.table_name)::regclass)
  AND (c.table_name = 'runs' OR EXISTS (
    SELECT FROM information_schema.columns k
    WHERE k.table_schema = 'public' AND k.table_name = c.table_name AND k.column_name = 'run_id'))
ORDER BY c.table_name, c.ordinal_position";

/// A table whose rows belong to runs.
struct Table {
    name: String,
    key: &'static str,
    /// Name and whether it holds a time.
    columns: Vec<(String, bool)>,
}

impl Table {
    fn copy(&self) -> String {
        let names: Vec<String> = self
            .columns
            .iter()
            .map(|(name, _)| format!("\"{name}\""))
            .collect();
        let values: Vec<String> = self
            .columns
            .iter()
            .map(|(name, time)| match (name.as_str(), time) {
                (name, _) if name == self.key => "c.new".to_owned(),
                (name, true) => format!("t.\"{name}\" + c.shift"),
                (name, false) => format!("t.\"{name}\""),
            })
            .collect();
        format!(
            "INSERT INTO {0} ({1}) SELECT {2} FROM bench_copies c JOIN {0} t ON t.{3} = c.old ORDER BY c.n",
            self.name,
            names.join(", "),
            values.join(", "),
            self.key
        )
    }

    /// Rows of copies that differ from their originals in more than id and times.
    fn differing(&self) -> String {
        let kept: Vec<String> = self
            .columns
            .iter()
            .filter(|(name, time)| !time && name != self.key)
            .map(|(name, _)| format!("t.\"{name}\"::text"))
            .collect();
        let rows = |of: &str| {
            format!(
                "SELECT c.n, {} FROM bench_copies c JOIN {} t ON t.{} = c.{of} WHERE c.n % 97 = 0",
                kept.join(", "),
                self.name,
                self.key
            )
        };
        let (copies, originals) = (rows("new"), rows("old"));
        format!(
            "SELECT count(*) FROM (({copies} EXCEPT ALL {originals}) UNION ALL ({originals} EXCEPT ALL {copies})) d"
        )
    }
}

async fn tables(pool: &PgPool) -> anyhow::Result<Vec<Table>> {
    let found: Vec<(String, String, String)> = sqlx::query_as(TABLES).fetch_all(pool).await?;
    let mut tables: Vec<Table> = Vec::new();
    for (table, column, kind) in found {
        if tables.last().is_none_or(|last| last.name != table) {
            let key = if table == "runs" { "id" } else { "run_id" };
            tables.push(Table {
                name: table.clone(),
                key,
                columns: Vec::new(),
            });
        }
        let time = kind.starts_with("timestamp");
        tables
            .last_mut()
            .context("just pushed")?
            .columns
            .push((column, time));
    }
    Ok(tables)
}

/// Executes real runs, among them some with a label and one that was cancelled, and copies them `runs` times in all.
pub(super) async fn fill(bed: &Bed, runs: usize) -> anyhow::Result<()> {
    sample(bed).await?;
    if runs == 0 {
        return Ok(());
    }
    let pool = &bed.pool;
    sqlx::raw_sql(
        "CREATE UNLOGGED TABLE bench_sample AS SELECT row_number() OVER (ORDER BY id) - 1 AS n, id, created_at FROM runs;
         ALTER TABLE bench_sample ADD PRIMARY KEY (n)",
    )
    .execute(pool)
    .await?;
    let tables = tables(pool).await?;
    for first in (0..runs).step_by(CHUNK) {
        let last = runs.min(first + CHUNK) - 1;
        sqlx::raw_sql(&copies(first, last, runs)).execute(pool).await?;
        for table in &tables {
            sqlx::raw_sql(&table.copy())
                .execute(pool)
                .await
                .with_context(|| format!("copying into {}", table.name))?;
        }
        if first == 0 {
            for table in &tables {
                let differing: i64 = sqlx::query_scalar(&table.differing()).fetch_one(pool).await?;
                ensure!(differing == 0, "{differing} copies in {} differ", table.name);
            }
        }
    }
    check(bed).await?;
    sqlx::raw_sql("DROP TABLE bench_copies, bench_sample")
        .execute(pool)
        .await?;
    sqlx::raw_sql("VACUUM (ANALYZE)").execute(pool).await?;
    Ok(())
}

/// Which copies come next, their ids as the dispatcher would have made them at that time.
fn copies(first: usize, last: usize, runs: usize) -> String {
    format!(
        "DROP TABLE IF EXISTS bench_copies;
         CREATE UNLOGGED TABLE bench_copies AS
         SELECT g.n, s.id AS old, to_timestamp(ms / 1000.0) - s.created_at AS shift,
             (lpad(to_hex(ms), 12, '0') || '7' || substr(md5(g.n::text), 1, 3) || '8' || substr(md5(g.n::text), 4, 15))::uuid AS new
         FROM (
             SELECT n, (extract(epoch FROM now()) * 1000)::bigint - {DAYS}::bigint * 86400000
                 + n * ({DAYS}::bigint * 86400000 - 3600000) / {runs} AS ms
             FROM generate_series({first}::bigint, {last}) n
         ) g JOIN bench_sample s ON s.n = g.n % (SELECT count(*) FROM bench_sample);
         ANALYZE bench_copies"
    )
}

async fn sample(bed: &Bed) -> anyhow::Result<()> {
    let runs: Vec<Value> = (0..SAMPLE - 1)
        .map(|number| {
            let mut run = json!({"flow": crate::client::FLOW, "input": format!("Ada {number}")});
            if number % LABELLED == 0 {
                run["labels"] = json!({"team": "history"});
            }
            run
        })
        .collect();
    let api = &bed.fleet.dispatcher.url;
    let client = &bed.fleet.client;
    let post = |path: String, body: Value| async move {
        let answer = client.post(format!("{api}{path}")).json(&body).send().await?;
        anyhow::Ok(answer.error_for_status()?.json::<Value>().await?)
    };
    post("/v1/runs/batch".to_owned(), Value::Array(runs)).await?;
    let later = json!({"flow": crate::client::FLOW, "input": "x", "delay_s": 3600});
    let later = post("/v1/runs".to_owned(), later).await?;
    let id = later["id"].as_str().context("an id")?;
    post(format!("/v1/runs/{id}/cancel"), json!({})).await?;
    bed.until_all_ended().await
}

/// The API must not tell a copy from a real run.
async fn check(bed: &Bed) -> anyhow::Result<()> {
    let pair = "SELECT c.old::text, c.new::text FROM bench_copies c JOIN runs r ON r.id = c.old
                WHERE r.state = 'succeeded' LIMIT 1";
    let (old, new): (String, String) = sqlx::query_as(pair).fetch_one(&bed.pool).await?;
    let get = |id: String, rest: &'static str| async move {
        let url = format!("{}/v1/runs/{id}{rest}", bed.fleet.dispatcher.url);
        let answer = bed.fleet.client.get(url).send().await?.error_for_status()?;
        anyhow::Ok(answer.text().await?)
    };
    let shape = |text: &str| -> anyhow::Result<Value> {
        let mut run: Value = serde_json::from_str(text)?;
        run["attempts"][0]["started_at"].take();
        run["attempts"][0]["ended_at"].take();
        let fields = run.as_object_mut().context("a run")?;
        fields.retain(|key, _| key != "id" && !key.ends_with("_at"));
        Ok(run)
    };
    let (original, copy) = (get(old.clone(), "").await?, get(new.clone(), "").await?);
    ensure!(
        shape(&original)? == shape(&copy)?,
        "a copy is not as the original:\n{original}\n{copy}"
    );
    let (original, copy) = (
        get(old.clone(), "/events").await?,
        get(new.clone(), "/events").await?,
    );
    // Some of their times are those of the run's own row, and a copy is from another hour.
    let told = |text: &str| -> anyhow::Result<Vec<Value>> {
        let data = text.lines().filter_map(|line| line.strip_prefix("data: "));
        data.map(|event| {
            let mut event: Value = serde_json::from_str(event)?;
            event["at"].take();
            Ok(event)
        })
        .collect()
    };
    ensure!(
        told(&original.replace(&old, &new))? == told(&copy)? && copy.contains("run.succeeded"),
        "the events of a copy are not those of the original:\n{original}\n{copy}"
    );
    Ok(())
}
