//! Throughput from submit to finished: Flowfleet, the floor and the peers take turns, and medians of their rounds
//! are compared.

use std::collections::BTreeMap;

use crate::Bench;
use crate::contender::{Mode, Throughput};
use crate::parts::lineup::{CELERY, FLOOR, Lineup, OURS};
use crate::report::{Bars, Better, Bound, Cell, Column, Goal, Part, Table, Unit, complain};

const MODES: [Mode; 2] = [Mode::Batch, Mode::Single { concurrency: 64 }];

/// Processes with a column of their own; what others used is added up.
const PROCESSES: [&str; 6] = ["client", "dispatcher", "worker", "postgres", "rabbitmq", "redis"];

const OF_FLOOR: f64 = 0.6;
const TIMES_CELERY: f64 = 10.0;

/// The rounds of every contender.
type Rounds = BTreeMap<String, Vec<Throughput>>;

pub(super) async fn run(bench: &Bench) -> anyhow::Result<Part> {
    let mut part = Part::new(
        "throughput",
        format!(
            "submit to finished, {} runs of ChatInput -> Prompt -> ChatOutput, medians of {} rounds in turns",
            bench.options.runs(),
            bench.options.rounds()
        ),
    );
    let mut lineup = Lineup::of(bench);
    lineup.prepare(bench).await?;
    for mode in MODES {
        let rounds = rounds(bench, &mut lineup, mode).await?;
        let order: Vec<String> = lineup.contenders.iter().map(|c| c.name().to_owned()).collect();
        report(&mut part, mode, &order, &rounds)?;
    }
    lineup.finish(&mut part).await?;
    Ok(part)
}

async fn rounds(bench: &Bench, lineup: &mut Lineup, mode: Mode) -> anyhow::Result<Rounds> {
    let mut rounds = Rounds::new();
    for round in 1..=bench.options.rounds() {
        let mut ready = Vec::new();
        for mut contender in std::mem::take(&mut lineup.contenders) {
            bench.services.settle().await;
            let before = bench.services.usage();
            match contender.throughput(mode, bench.options.runs()).await {
                Ok(mut found) => {
                    if !found.cpu.iter().any(|(process, _)| process == "postgres") {
                        found.cpu.extend(bench.services.usage().cpu_since(&before));
                    }
                    complain(&format!(
                        "{}, round {round}, {}: {:.0} finished/s",
                        mode.name(),
                        contender.name(),
                        found.runs as f64 / found.total_s
                    ));
                    rounds.entry(contender.name().to_owned()).or_default().push(found);
                    ready.push(contender);
                }
                Err(error) => {
                    rounds.remove(contender.name());
                    lineup
                        .left_out(contender, &format!("failed ({})", mode.name()), error)
                        .await?;
                }
            }
        }
        lineup.contenders = ready;
    }
    Ok(rounds)
}

fn cell(rounds: &[Throughput], of: impl Fn(&Throughput) -> Option<f64>) -> Cell {
    rounds
        .iter()
        .map(of)
        .collect::<Option<Vec<f64>>>()
        .map_or_else(Cell::none, Cell::rounds)
}

/// CPU microseconds a run of the processes that `wanted` picks; none where no process was read.
fn cpu(found: &Throughput, wanted: impl Fn(&str) -> bool) -> Option<f64> {
    let seconds: Vec<f64> = found
        .cpu
        .iter()
        .filter_map(|(process, seconds)| wanted(process).then_some(*seconds))
        .collect();
    (!seconds.is_empty()).then(|| seconds.iter().sum::<f64>() * 1e6 / found.runs as f64)
}

fn cells(rounds: &[Throughput]) -> Vec<Cell> {
    let mut cells = vec![
        cell(rounds, |t| Some(t.runs as f64 / t.submit_s)),
        cell(rounds, |t| Some(t.runs as f64 / t.total_s)),
        cell(rounds, |t| Some(t.runs as f64 / t.seen_s?)),
    ];
    for process in PROCESSES {
        cells.push(cell(rounds, |t| cpu(t, |name| name == process)));
    }
    cells.push(cell(rounds, |t| cpu(t, |name| !PROCESSES.contains(&name))));
    cells.push(cell(rounds, |t| cpu(t, |_| true)));
    cells
}

fn report(part: &mut Part, mode: Mode, order: &[String], rounds: &Rounds) -> anyhow::Result<()> {
    let mut columns = vec![
        Column::new("submitted", Unit::PerSecond),
        Column::new("finished", Unit::PerSecond),
        Column::new("seen", Unit::PerSecond),
    ];
    let processes = PROCESSES.into_iter().chain(["other", "all CPU"]);
    columns.extend(processes.map(|process| Column::new(process, Unit::Micros)));
    let mut table = Table::new(
        format!("{}: runs a second, and CPU a run by process", mode.name()),
        columns,
    );
    let mut bars = Vec::new();
    for name in order {
        let Some(rounds) = rounds.get(name) else { continue };
        let cells = cells(rounds);
        if let Some(finished) = cells[1].value {
            bars.push((name.clone(), finished));
        }
        table.row(name.clone(), cells);
    }
    let ours = bars
        .first()
        .filter(|(name, _)| name == OURS)
        .map(|(_, value)| *value);
    let beside = |prefix: &str| {
        let values = bars
            .iter()
            .filter(|(name, _)| name.to_lowercase().starts_with(prefix));
        let best = values.map(|(_, value)| *value).max_by(f64::total_cmp)?;
        Some(ours? / best)
    };
    for (of, prefix, wanted) in [
        ("the floor", FLOOR, OF_FLOOR),
        ("Celery's best", CELERY, TIMES_CELERY),
    ] {
        part.goals.push(Goal {
            what: format!("finished runs, {}, beside {of}", mode.name()),
            bound: Bound::AtLeast,
            wanted,
            found: beside(prefix),
            unit: Unit::Ratio,
        });
    }
    part.raw.insert(mode.name(), serde_json::to_value(rounds)?);
    part.tables.push(table);
    part.bars.push(Bars {
        title: format!("Finished runs a second, {}", mode.name()),
        unit: Unit::PerSecond,
        better: Better::Higher,
        bars,
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round(total_s: f64, cpu: &[(&str, f64)]) -> Throughput {
        Throughput {
            runs: 1000,
            submit_s: 0.5,
            total_s,
            seen_s: None,
            cpu: cpu.iter().map(|(name, s)| ((*name).to_owned(), *s)).collect(),
        }
    }

    #[test]
    fn ratios_come_from_medians_and_the_best_of_celery() {
        let rounds = Rounds::from([
            (
                "flowfleet".to_owned(),
                vec![round(1.0, &[]), round(2.0, &[]), round(9.0, &[])],
            ),
            (
                "floor".to_owned(),
                vec![round(1.0, &[("worker", 0.1), ("postgres", 0.2)])],
            ),
            ("celery prefork".to_owned(), vec![round(40.0, &[("celery", 3.0)])]),
            ("celery threads".to_owned(), vec![round(20.0, &[])]),
        ]);
        let order: Vec<String> = ["flowfleet", "floor", "celery prefork", "celery threads", "gone"]
            .map(str::to_owned)
            .into();
        let mut part = Part::default();
        report(&mut part, Mode::Batch, &order, &rounds).unwrap();
        assert_eq!(part.goals[0].found, Some(0.5));
        assert_eq!(part.goals[1].found, Some(10.0));
        assert_eq!(
            (part.goals[0].reached(), part.goals[1].reached()),
            (Some(false), Some(true))
        );
        let table = &part.tables[0];
        assert_eq!(table.rows.len(), 4);
        let column = |name: &str| table.columns.iter().position(|c| c.name == name).unwrap();
        assert_eq!(table.rows[0].cells[column("finished")].value, Some(500.0));
        assert_eq!(table.rows[0].cells[column("seen")].value, None);
        assert_eq!(table.rows[1].cells[column("worker")].value, Some(100.0));
        assert_eq!(
            table.rows[1].cells[column("all CPU")].value.map(f64::round),
            Some(300.0)
        );
        assert_eq!(table.rows[2].cells[column("other")].value, Some(3000.0));
    }
}
