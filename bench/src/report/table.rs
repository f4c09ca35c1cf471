//! Figures as text: aligned tables, goals reached or missed.

use std::fmt::Write as _;

use super::figures::{Bars, Bound, Cell, Goal, Part, Table, Unit};

/// Three significant digits, thousands grouped.
pub(super) fn number(value: f64) -> String {
    let size = value.abs();
    if size >= 1000.0 {
        let digits = format!("{size:.0}");
        let mut grouped = String::new();
        for (at, digit) in digits.chars().enumerate() {
            if at > 0 && (digits.len() - at) % 3 == 0 {
                grouped.push(' ');
            }
            grouped.push(digit);
        }
        return if value < 0.0 {
            format!("-{grouped}")
        } else {
            grouped
        };
    }
    let decimals = if size >= 100.0 || size == 0.0 {
        0
    } else if size >= 10.0 {
        1
    } else if size >= 0.1 {
        2
    } else if size >= 0.01 {
        3
    } else {
        4
    };
    format!("{value:.decimals$}")
}

pub(super) fn with_unit(value: f64, unit: Unit) -> String {
    match unit {
        Unit::Count => number(value),
        Unit::PerSecond | Unit::Percent => format!("{}{}", number(value), unit.sign()),
        _ => format!("{} {}", number(value), unit.sign()),
    }
}

fn cell(cell: &Cell) -> String {
    cell.value.map_or_else(|| "-".to_owned(), number)
}

/// Columns as wide as their widest cell, numbers to the right.
fn aligned(lines: &[Vec<String>]) -> String {
    let columns = lines.iter().map(Vec::len).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns)
        .map(|at| {
            let cells = lines.iter().filter_map(|line| line.get(at));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        })
        .collect();
    let mut text = String::new();
    for (row, line) in lines.iter().enumerate() {
        let mut printed = String::from(" ");
        for (at, cell) in line.iter().enumerate() {
            let pad = " ".repeat(widths[at] - cell.chars().count());
            let _ = if at == 0 {
                write!(printed, " {cell}{pad}")
            } else {
                write!(printed, "  {pad}{cell}")
            };
        }
        let _ = writeln!(text, "{}", printed.trim_end());
        if row == 0 {
            let all = widths.iter().sum::<usize>() + 2 * columns.saturating_sub(1);
            let _ = writeln!(text, "  {}", "-".repeat(all));
        }
    }
    text
}

fn table(table: &Table) -> String {
    let head = table.columns.iter().map(|column| match column.unit.sign() {
        "" => column.name.clone(),
        sign => format!("{} {sign}", column.name),
    });
    let mut lines = vec![std::iter::once(String::new()).chain(head).collect::<Vec<_>>()];
    for row in &table.rows {
        lines.push(
            std::iter::once(row.name.clone())
                .chain(row.cells.iter().map(cell))
                .collect(),
        );
    }
    format!("\n  {}\n{}", table.title, aligned(&lines))
}

fn ratios(bars: &Bars) -> String {
    let Some((ours, base)) = bars.bars.first() else {
        return String::new();
    };
    let others = bars.bars[1..]
        .iter()
        .filter(|(_, value)| *value > 0.0)
        .map(|(name, value)| format!("{} × {name}", number(base / value)));
    let others: Vec<String> = others.collect();
    if others.is_empty() {
        return String::new();
    }
    format!("  {}: {ours} = {}\n", bars.title, others.join(", "))
}

fn goal(goal: &Goal) -> Vec<String> {
    let bound = match goal.bound {
        Bound::AtLeast => "at least",
        Bound::Below => "below",
    };
    vec![
        goal.what.clone(),
        format!("{bound} {}", with_unit(goal.wanted, goal.unit)),
        goal.found
            .map_or_else(|| "-".to_owned(), |found| with_unit(found, goal.unit)),
        match goal.reached() {
            Some(true) => "reached",
            Some(false) => "MISSED",
            None => "not measured",
        }
        .to_owned(),
    ]
}

/// One part, as it is printed when it has ended.
pub(super) fn part(part: &Part) -> String {
    let mut text = format!("\n== {}: {}\n", part.name, part.about);
    for one in &part.tables {
        text.push_str(&table(one));
    }
    let ratios: String = part.bars.iter().map(ratios).collect();
    if !ratios.is_empty() {
        let _ = write!(text, "\n{ratios}");
    }
    if !part.notes.is_empty() {
        text.push('\n');
    }
    for note in &part.notes {
        let _ = writeln!(text, "  * {note}");
    }
    text
}

/// The goals of all parts.
pub(super) fn goals(parts: &[Part]) -> String {
    let mut lines = vec![["goal", "wanted", "found", ""].map(str::to_owned).to_vec()];
    for part in parts {
        lines.extend(part.goals.iter().map(goal));
    }
    if lines.len() == 1 {
        return String::new();
    }
    format!("\n== goals\n\n{}", aligned(&lines))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{Better, Column};

    #[test]
    fn numbers_table() {
        for (value, text) in [
            (0.0, "0"),
            (0.123, "0.12"),
            (0.0234, "0.023"),
            (0.00234, "0.0023"),
            (9.999, "10.00"),
            (12.34, "12.3"),
            (999.4, "999"),
            (1234.5, "1 234"),
            (1_234_567.0, "1 234 567"),
            (-4321.0, "-4 321"),
        ] {
            assert_eq!(number(value), text, "{value}");
        }
    }

    #[test]
    fn a_part_as_text() {
        let mut table = Table::new(
            "by batch",
            vec![
                Column::new("finished", Unit::PerSecond),
                Column::new("dispatcher", Unit::Micros),
            ],
        );
        table.row(
            "flowfleet",
            vec![Cell::rounds(vec![900.0, 5000.0, 1100.0]), 12.34.into()],
        );
        table.row("x", vec![2200.0.into(), Cell::none()]);
        let mut one = Part::new("throughput", "how fast");
        one.tables.push(table);
        one.bars.push(Bars {
            title: "by batch".into(),
            unit: Unit::PerSecond,
            better: Better::Higher,
            bars: vec![("flowfleet".into(), 1100.0), ("x".into(), 2200.0)],
        });
        one.notes.push("quiet".into());
        let expected = "
== throughput: how fast

  by batch
             finished /s  dispatcher µs
  -------------------------------------
  flowfleet        1 100           12.3
  x                2 200              -

  by batch: flowfleet = 0.50 × x

  * quiet
";
        assert_eq!(part(&one), expected);
    }

    #[test]
    fn goals_say_what_became_of_them() {
        let mut one = Part::new("a", "b");
        for (found, bound) in [
            (Some(0.7), Bound::AtLeast),
            (Some(0.7), Bound::Below),
            (None, Bound::Below),
        ] {
            one.goals.push(Goal {
                what: "of the floor".into(),
                bound,
                wanted: 0.6,
                found,
                unit: Unit::Ratio,
            });
        }
        let text = goals(&[one]);
        let ends: Vec<&str> = text.lines().skip(5).collect();
        assert!(
            ends[0].ends_with("at least 0.60 ×  0.70 ×       reached"),
            "{text}"
        );
        assert!(ends[1].ends_with("below 0.60 ×  0.70 ×        MISSED"), "{text}");
        assert!(ends[2].ends_with("-  not measured"), "{text}");
    }
}
