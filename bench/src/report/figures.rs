//! The types of what was measured.

use serde::Serialize;
use serde_json::{Map, Value};

/// What a number counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Unit {
    PerSecond,
    Micros,
    Millis,
    Seconds,
    Bytes,
    MiB,
    Percent,
    Ratio,
    Count,
}

impl Unit {
    /// As the head of a column shows it.
    pub(crate) fn sign(self) -> &'static str {
        match self {
            Self::PerSecond => "/s",
            Self::Micros => "µs",
            Self::Millis => "ms",
            Self::Seconds => "s",
            Self::Bytes => "bytes",
            Self::MiB => "MiB",
            Self::Percent => "%",
            Self::Ratio => "×",
            Self::Count => "",
        }
    }
}

/// One measured value, with every round of it.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Cell {
    /// The median of the rounds; none where nothing was measured.
    pub(crate) value: Option<f64>,
    pub(crate) rounds: Vec<f64>,
}

impl Cell {
    pub(crate) fn none() -> Self {
        Self::default()
    }

    pub(crate) fn rounds(rounds: Vec<f64>) -> Self {
        Self {
            value: median(&rounds),
            rounds,
        }
    }
}

impl From<f64> for Cell {
    fn from(value: f64) -> Self {
        Self::rounds(vec![value])
    }
}

impl From<Option<f64>> for Cell {
    fn from(value: Option<f64>) -> Self {
        value.map_or_else(Self::none, Self::from)
    }
}

#[derive(Debug, Clone, Serialize)]
pub(crate) struct Column {
    pub(crate) name: String,
    pub(crate) unit: Unit,
}

impl Column {
    pub(crate) fn new(name: impl Into<String>, unit: Unit) -> Self {
        Self {
            name: name.into(),
            unit,
        }
    }
}

#[derive(Debug, Clone, Serialize)]
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) cells: Vec<Cell>,
}

#[derive(Debug, Clone, Serialize)]
pub(crate) struct Table {
    pub(crate) title: String,
    pub(crate) columns: Vec<Column>,
    pub(crate) rows: Vec<Row>,
}

impl Table {
    pub(crate) fn new(title: impl Into<String>, columns: Vec<Column>) -> Self {
        Self {
            title: title.into(),
            columns,
            rows: Vec::new(),
        }
    }

    pub(crate) fn row(&mut self, name: impl Into<String>, cells: Vec<Cell>) {
        self.rows.push(Row {
            name: name.into(),
            cells,
        });
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Bound {
    AtLeast,
    Below,
}

/// What a figure was meant to reach.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Goal {
    pub(crate) what: String,
    pub(crate) bound: Bound,
    pub(crate) wanted: f64,
    /// None where it was not measured.
    pub(crate) found: Option<f64>,
    pub(crate) unit: Unit,
}

impl Goal {
    /// None where it was not measured.
    pub(crate) fn reached(&self) -> Option<bool> {
        self.found.map(|found| match self.bound {
            Bound::AtLeast => found >= self.wanted,
            Bound::Below => found < self.wanted,
        })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Better {
    Higher,
    Lower,
}

/// One group of bars in the picture. The first is ours, the ratios are to it.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Bars {
    pub(crate) title: String,
    pub(crate) unit: Unit,
    pub(crate) better: Better,
    pub(crate) bars: Vec<(String, f64)>,
}

/// All that one part found.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Part {
    pub(crate) name: String,
    pub(crate) about: String,
    pub(crate) tables: Vec<Table>,
    pub(crate) goals: Vec<Goal>,
    pub(crate) bars: Vec<Bars>,
    /// Sentences a reader of the tables needs: settings, what was left out and why.
    pub(crate) notes: Vec<String>,
    /// Whatever else is worth keeping; goes into the JSON only.
    pub(crate) raw: Map<String, Value>,
}

impl Part {
    pub(crate) fn new(name: impl Into<String>, about: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            about: about.into(),
            ..Self::default()
        }
    }
}

/// The middle value; of an even number of values, the mean of the two in the middle.
pub(crate) fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => None,
        n if n % 2 == 1 => Some(sorted[middle]),
        _ => Some(f64::midpoint(sorted[middle - 1], sorted[middle])),
    }
}

/// The smallest value that at least this share of all values does not exceed.
pub(crate) fn quantile(values: &[f64], share: f64) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = (share * sorted.len() as f64).ceil().max(1.0) as usize;
    sorted.get(rank - 1).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_and_quantiles() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), Some(2.5));
        let hundred: Vec<f64> = (1..=100).rev().map(f64::from).collect();
        assert_eq!(quantile(&hundred, 0.95), Some(95.0));
        assert_eq!(quantile(&hundred, 1.0), Some(100.0));
        assert_eq!(quantile(&[7.0], 0.5), Some(7.0));
        assert_eq!(quantile(&[], 0.5), None);
    }

    #[test]
    fn goals_have_three_answers() {
        let goal = |bound, found| Goal {
            what: String::new(),
            bound,
            wanted: 10.0,
            found,
            unit: Unit::Millis,
        };
        assert_eq!(goal(Bound::AtLeast, Some(10.0)).reached(), Some(true));
        assert_eq!(goal(Bound::Below, Some(10.0)).reached(), Some(false));
        assert_eq!(goal(Bound::Below, None).reached(), None);
    }
}
