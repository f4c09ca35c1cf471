//! The part `growth`: where a run's CPU goes, so that the next thing to improve can be read off.

mod database;
mod samples;

use crate::Bench;
use crate::client::{self, Load};
use crate::parts::scale::{Bed, Meter, PROCESSES};
use crate::report::{Cell, Column, Part, Table, Unit, complain};
use database::{Counts, Statements};
use samples::{Group, Profile, Recorder};

const ABOUT: &str = "where a run's CPU goes: by process, by kind of code, by SQL statement, by table";

pub(super) async fn run(bench: &Bench) -> anyhow::Result<Part> {
    let mut part = Part::new("growth", ABOUT);
    let bed = Bed::start(bench, "growth", 1).await?;
    bed.warm_up(2_000).await?;
    let statements = match Statements::prepare(&bed.pool).await {
        Ok(statements) => Some(statements),
        Err(error) => {
            part.notes
                .push(format!("SQL statements were not measured: {error:#}"));
            None
        }
    };
    let runs = bench.options.runs();
    let loads = [
        ("by batch", Load::Batch { runs }),
        (
            "by single submits, 64 at once",
            Load::Single {
                runs,
                concurrency: 64,
            },
        ),
    ];
    for (how, load) in loads {
        complain(&format!("growth: {runs} runs {how} ..."));
        bench.services.settle().await;
        if let Some(statements) = &statements {
            statements.reset(&bed.pool).await?;
        }
        let before = Counts::read_late(&bed.pool).await?;
        let recorder = match Recorder::start(&bed) {
            Ok(recorder) => Some(recorder),
            Err(error) => {
                let note = format!("Kinds of code were not measured: {error:#}");
                if !part.notes.contains(&note) {
                    part.notes.push(note);
                }
                None
            }
        };
        let meter = Meter::start(bench, &bed.fleet)?;
        client::spawn(bed.fleet.dispatcher.host(), &load).await?;
        bed.until_all_ended().await?;
        let cpu = meter.stop(bench, &bed.fleet, runs)?;
        let profile = match recorder {
            Some(recorder) => Some(recorder.stop().await?),
            None => None,
        };
        code(&mut part, how, &cpu, profile.as_ref());
        if let Some(statements) = &statements {
            part.tables.push(statements.table(&bed.pool, how, runs).await?);
        }
        let tables = Counts::read_late(&bed.pool).await?.since(&before, how, runs);
        part.tables.extend(tables);
    }
    part.notes.push(
        "Kinds of code are the crates of the functions that samples fell into: work that a crate asks of the standard \
         library, the allocator or the kernel is counted there. With perf at work, times are a few percent longer."
            .to_owned(),
    );
    bed.stop().await?;
    Ok(part)
}

/// CPU by process and, of each, by kind of code.
fn code(part: &mut Part, how: &str, cpu_us: &[Option<f64>], profile: Option<&Profile>) {
    let columns = PROCESSES.map(|name| Column::new(name, Unit::Micros)).into();
    let mut table = Table::new(format!("CPU of a run {how}"), columns);
    table.row("all", cpu_us.iter().copied().map(Cell::from).collect());
    for group in Group::ALL {
        let Some(profile) = profile else { break };
        let cells: Vec<Cell> = PROCESSES
            .iter()
            .zip(cpu_us)
            .map(|(process, &all)| {
                Cell::from(
                    all.zip(profile.share(process, group))
                        .map(|(all, share)| all * share),
                )
            })
            .collect();
        if cells.iter().any(|cell| cell.value.is_some()) {
            table.row(group.name(), cells);
        }
    }
    part.tables.push(table);
}
