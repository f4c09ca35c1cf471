//! The part `scale`: what a run costs as the history, the backlog, the listeners, the waiting runs and the fleet grow.

mod backlog;
mod cost;
mod crowd;
mod history;
mod idle;
mod listeners;
mod reads;
mod sizes;
mod waiting;

use crate::Bench;
use crate::report::{Part, complain};
pub(super) use cost::{Bed, Meter, PROCESSES};

const ABOUT: &str =
    "cost of a run and of reads as history, backlog, listeners, waiting runs and workers grow";

/// What `--only` may name, in the order in which it is measured.
const WHAT: [&str; 6] = ["idle", "listeners", "waiting", "workers", "backlog", "histories"];

pub(super) async fn run(bench: &Bench) -> anyhow::Result<Part> {
    let mut part = Part::new("scale", ABOUT);
    for what in WHAT {
        // The names after `--only` may be those of contenders of other parts: then everything here is meant.
        let any = WHAT.iter().any(|&what| bench.options.wants(what));
        if any && !bench.options.wants(what) {
            continue;
        }
        complain(&format!("scale: {what} ..."));
        let ended = match what {
            "idle" => idle::measure(bench, &mut part).await,
            "listeners" => listeners::measure(bench, &mut part).await,
            "waiting" => waiting::measure(bench, &mut part).await,
            "workers" => crowd::measure(bench, &mut part).await,
            "backlog" => backlog::measure(bench, &mut part).await,
            _ => sizes::measure(bench, &mut part).await,
        };
        noted(&mut part, what, ended);
    }
    Ok(part)
}

/// What cannot be measured does not take the rest with it: the part takes long. Its goals are missing from the list then,
/// and the note says why.
fn noted(part: &mut Part, what: &str, ended: anyhow::Result<()>) {
    if let Err(error) = ended {
        let note = format!("NOT MEASURED: {what}: {error:#}");
        complain(&format!("scale: {note}"));
        part.notes.push(note);
    }
}
