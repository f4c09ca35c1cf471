//! Latency at low load: ten runs a second, from the client's clock before the submit until the run's code begins,
//! and until its end is stored. One contender after the other, each alone on the machine.

use std::time::Duration;

use crate::Bench;
use crate::contender::LatencySamples;
use crate::parts::lineup::{FLOOR, Lineup, OURS};
use crate::report::{Bars, Better, Bound, Cell, Column, Goal, Part, Table, Unit, complain, quantile};

const RATE: f64 = 10.0;
/// Before anything counts: connections open, statements are prepared.
const WARM_UP_S: u64 = 3;
const STARTED_MS: f64 = 10.0;

const SHARES: [(&str, f64); 3] = [("p50", 0.5), ("p95", 0.95), ("p99", 0.99)];

pub(super) async fn run(bench: &Bench) -> anyhow::Result<Part> {
    let seconds = if bench.options.quick { 15 } else { 60 };
    let about = format!("{RATE} runs a second for {seconds} s, by single submits");
    let mut part = Part::new("latency", about);
    let mut lineup = Lineup::of(bench);
    let mut found = Vec::new();
    for mut contender in std::mem::take(&mut lineup.contenders) {
        complain(&format!("preparing {} ...", contender.name()));
        let measured = async {
            contender.prepare(bench).await?;
            contender.latency(RATE, WARM_UP_S).await?;
            bench.services.settle().await;
            contender.latency(RATE, seconds).await
        };
        match measured.await {
            Ok(samples) => {
                part.notes
                    .push(format!("{}: {}", contender.name(), contender.about()));
                found.push((contender.name().to_owned(), samples));
                contender.finish().await?;
            }
            Err(error) => lineup.left_out(contender, "failed", error).await?,
        }
    }
    report(&mut part, &found)?;
    lineup.finish(&mut part).await?;
    Ok(part)
}

fn millis(samples: &[Duration]) -> Vec<f64> {
    samples.iter().map(|sample| sample.as_secs_f64() * 1e3).collect()
}

fn report(part: &mut Part, found: &[(String, LatencySamples)]) -> anyhow::Result<()> {
    let mut columns = Vec::new();
    for what in ["started", "finished"] {
        columns.extend(SHARES.map(|(name, _)| Column::new(format!("{what} {name}"), Unit::Millis)));
    }
    let mut table = Table::new("from before the submit", columns);
    for (name, samples) in found {
        let mut cells: Vec<Cell> = Vec::new();
        for samples in [&samples.started, &samples.finished] {
            let samples = millis(samples);
            cells.extend(SHARES.map(|(_, share)| quantile(&samples, share).into()));
        }
        table.row(name.clone(), cells);
    }
    let p95 = |samples: &LatencySamples| quantile(&millis(&samples.started), 0.95);
    let of = |wanted: &dyn Fn(&str) -> bool| {
        let values = found.iter().filter(|(name, _)| wanted(name));
        values
            .filter_map(|(_, samples)| p95(samples))
            .min_by(f64::total_cmp)
    };
    let ours = of(&|name| name == OURS);
    let fastest_peer = of(&|name| name != OURS && name != FLOOR);
    part.goals.push(Goal {
        what: "p95 from submit to started".to_owned(),
        bound: Bound::Below,
        wanted: STARTED_MS,
        found: ours,
        unit: Unit::Millis,
    });
    part.goals.push(Goal {
        what: "p95 from submit to started, beside the fastest peer".to_owned(),
        bound: Bound::Below,
        wanted: 1.0,
        found: ours.zip(fastest_peer).map(|(ours, peer)| ours / peer),
        unit: Unit::Ratio,
    });
    part.bars.push(Bars {
        title: format!("p95 from submit to started, {RATE} runs a second"),
        unit: Unit::Millis,
        better: Better::Lower,
        bars: found
            .iter()
            .filter_map(|(name, samples)| Some((name.clone(), p95(samples)?)))
            .collect(),
    });
    part.tables.push(table);
    part.raw
        .insert("samples".to_owned(), serde_json::to_value(found)?);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(started_ms: u64) -> LatencySamples {
        LatencySamples {
            started: vec![Duration::from_millis(started_ms); 20],
            finished: vec![Duration::from_millis(started_ms + 5); 20],
        }
    }

    #[test]
    fn the_floor_is_no_peer() {
        let found = [
            ("flowfleet", 8),
            ("floor", 4),
            ("celery prefork", 32),
            ("pg-boss", 16),
        ]
        .map(|(name, ms)| (name.to_owned(), samples(ms)));
        let mut part = Part::default();
        report(&mut part, &found).unwrap();
        assert_eq!(part.goals[0].found, Some(8.0));
        assert_eq!(part.goals[1].found, Some(0.5));
        assert_eq!(part.tables[0].rows[1].cells[5].value, Some(9.0));
        let mut alone = Part::default();
        report(&mut alone, &found[..2]).unwrap();
        assert_eq!(alone.goals[1].reached(), None);
    }
}
