//! What a part found: typed figures, printed as tables, written as JSON, drawn as one picture.

mod figures;
mod machine;
mod picture;
mod table;

use std::io::Write as _;
use std::path::Path;

use anyhow::Context as _;
use serde::Serialize;

pub(crate) use figures::{Bars, Better, Bound, Cell, Column, Goal, Part, Table, Unit, median, quantile};
pub(crate) use machine::Machine;

/// Says something on standard error while a part runs.
pub(crate) fn complain(text: &str) {
    // Nobody is left to be told when standard error is closed.
    let _ = writeln!(std::io::stderr(), "{text}");
}

fn say(text: &str) {
    let _ = write!(std::io::stdout(), "{text}");
}

/// Prints a part as soon as it is there.
pub(crate) fn print(part: &Part) {
    say(&table::part(part));
}

#[derive(Serialize)]
struct Raw<'a> {
    machine: &'a Machine,
    parts: &'a [Part],
}

/// Writes `figures.json` and `figures.svg`, and prints all goals once more.
pub(crate) fn write(out: &Path, machine: &Machine, parts: &[Part]) -> anyhow::Result<()> {
    std::fs::create_dir_all(out).with_context(|| format!("{} cannot be made", out.display()))?;
    let (json, svg) = (out.join("figures.json"), out.join("figures.svg"));
    std::fs::write(&json, serde_json::to_vec_pretty(&Raw { machine, parts })?)?;
    std::fs::write(&svg, picture::draw(machine, parts))?;
    say(&table::goals(parts));
    say(&format!(
        "\n{}\nfigures: {}\npicture: {}\n",
        machine.sentence(),
        json.display(),
        svg.display()
    ));
    Ok(())
}
