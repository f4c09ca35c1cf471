//! The same runs on stores with histories of different lengths, each with a fleet of its own, in turns.

use serde_json::json;

use super::cost::{self, Bed, Cost};
use super::history;
use super::reads::{self, Reader};
use crate::Bench;
use crate::report::{Bars, Better, Bound, Cell, Column, Goal, Part, Table, Unit, complain};

/// Runs in the store before anything is measured, and the names of what belongs to it.
const SIZES: [(usize, &str, &str); 4] = [
    (0, "history_0", "no history"),
    (100_000, "history_100k", "100 thousand"),
    (1_000_000, "history_1m", "1 million"),
    (5_000_000, "history_5m", "5 million"),
];
/// How many of them with `--quick`.
const QUICK: usize = 2;

/// By how many percent a run may cost more on the longest history than on none.
const FLAT: f64 = 15.0;

/// Of no history, an id a thousand runs back is a real run all the same.
const OLD_RUN: &str = "SELECT id::text FROM runs WHERE state = 'succeeded' ORDER BY id LIMIT 1 OFFSET 100";

struct Size {
    name: &'static str,
    bed: Bed,
    reader: Reader,
    rounds: Vec<Cost>,
    reads: Vec<Vec<f64>>,
    bytes: i64,
}

pub(super) async fn measure(bench: &Bench, part: &mut Part) -> anyhow::Result<()> {
    let quick = bench.options.quick;
    let (runs, seconds, reads) = if quick { (2_000, 3, 5) } else { (10_000, 10, 20) };
    let mut sizes = Vec::new();
    for (history, purpose, name) in &SIZES[..if quick { QUICK } else { SIZES.len() }] {
        complain(&format!("scale: a store with {name} ..."));
        let bed = Bed::start(bench, purpose, 1).await?;
        history::fill(&bed, *history).await?;
        bed.warm_up(500).await?;
        let bytes = sqlx::query_scalar("SELECT pg_database_size(current_database())")
            .fetch_one(&bed.pool)
            .await?;
        sizes.push(Size {
            name,
            reader: Reader::open(&bed, reads).await?,
            bed,
            rounds: Vec::new(),
            reads: Vec::new(),
            bytes,
        });
    }
    for round in 1..=bench.options.rounds() {
        complain(&format!("scale: histories, round {round} ..."));
        for size in &mut sizes {
            bench.services.settle().await;
            size.rounds.push(size.bed.measure(bench, runs, seconds).await?);
            let old: String = sqlx::query_scalar(OLD_RUN).fetch_one(&size.bed.pool).await?;
            size.reads.push(size.reader.measure(&size.bed, &old).await?);
        }
    }
    tables(part, &sizes);
    part.raw.insert(
        "histories".into(),
        json!(
            sizes
                .iter()
                .map(|size| (size.name, &size.rounds))
                .collect::<Vec<_>>()
        ),
    );
    for size in sizes {
        size.bed.stop().await?;
    }
    Ok(())
}

fn tables(part: &mut Part, sizes: &[Size]) {
    let mut columns = cost::columns();
    columns.push(Column::new("database", Unit::MiB));
    let mut table = Table::new("CPU of a run on stores with finished runs", columns);
    for size in sizes {
        let mut cells = cost::cells(&size.rounds);
        cells.push(Cell::from(size.bytes as f64 / f64::from(1 << 20)));
        table.row(size.name, cells);
    }
    part.tables.push(table);

    let columns = sizes
        .iter()
        .map(|size| Column::new(size.name, Unit::Millis))
        .collect();
    let mut table = Table::new("Reads on stores with finished runs", columns);
    for (at, name) in reads::names().enumerate() {
        let cells = sizes
            .iter()
            .map(|size| Cell::rounds(size.reads.iter().map(|round| round[at]).collect()))
            .collect();
        table.row(name, cells);
    }
    part.tables.push(table);

    let costs: Vec<(&str, f64)> = sizes
        .iter()
        .filter_map(|size| Some((size.name, cost::core(&size.rounds)?)))
        .collect();
    // Only the whole way counts; a short one says nothing about the long one.
    let whole = (costs.len() == SIZES.len()).then(|| (costs[0].1, costs[SIZES.len() - 1].1));
    part.goals.push(Goal {
        what: "more CPU a run (Postgres, dispatcher, worker) with 5 million finished runs than with none"
            .into(),
        bound: Bound::Below,
        wanted: FLAT,
        found: whole.map(|(none, most)| (most / none - 1.0) * 100.0),
        unit: Unit::Percent,
    });
    part.bars.push(Bars {
        title: "CPU of a run by finished runs in the store".into(),
        unit: Unit::Micros,
        better: Better::Lower,
        bars: costs
            .into_iter()
            .map(|(name, cost)| (name.to_owned(), cost))
            .collect(),
    });
    part.notes.push(
        "Histories are copies of real runs with other ids and times, vacuumed; each store has a dispatcher and a worker of \
         its own, and they are measured in turns."
            .to_owned(),
    );
}
