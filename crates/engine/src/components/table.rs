//! Tables as Langflow's data frames show them: one type a column, and a Markdown rendering.
//!
//! A column of numbers with a gap is a column of fractions with `nan` in the gap; anything else keeps its values.

use serde_json::{Map, Value as Json};

use crate::component::NodeError;
use crate::template::{self, MAX_RENDERED_BYTES};

/// Cells of a table that is worked on at most. Rows of different columns multiply: a small document can ask for many.
const MAX_CELLS: usize = 4_000_000;

/// What a missing number prints as.
pub(super) const GAP: &str = "nan";

/// Column names in order of appearance, and the cells by row.
#[derive(Debug)]
pub(super) struct Frame {
    columns: Vec<String>,
    rows: Vec<Vec<Json>>,
}

impl Frame {
    pub(super) fn of(table: &[Map<String, Json>]) -> Result<Self, NodeError> {
        let mut places: Map<String, Json> = Map::new();
        for row in table {
            for name in row.keys() {
                if !places.contains_key(name) {
                    places.insert(name.clone(), places.len().into());
                }
            }
        }
        let columns: Vec<String> = places.into_iter().map(|(name, _)| name).collect();
        if columns.len().saturating_mul(table.len()) > MAX_CELLS {
            return Err(too_large());
        }
        let mut rows = vec![Vec::with_capacity(columns.len()); table.len()];
        for name in &columns {
            let column: Vec<Option<&Json>> = table.iter().map(|row| row.get(name)).collect();
            for (cells, cell) in rows.iter_mut().zip(typed(&column)) {
                cells.push(cell);
            }
        }
        Ok(Self { columns, rows })
    }

    pub(super) fn columns(&self) -> &[String] {
        &self.columns
    }

    /// The cells with the types of their columns.
    pub(super) fn typed_rows(&self) -> impl Iterator<Item = Vec<(&str, &Json)>> {
        let names = || self.columns.iter().map(String::as_str);
        self.rows.iter().map(move |cells| names().zip(cells).collect())
    }

    /// The rows to make another table of: with the types of their columns, and with gaps that stay gaps.
    pub(super) fn kept(&self) -> impl Iterator<Item = Map<String, Json>> {
        let numeric = |index: usize| self.rows.iter().any(|cells| cells[index].is_number());
        let numeric: Vec<bool> = (0..self.columns.len()).map(numeric).collect();
        self.rows.iter().map(move |cells| {
            let cell = |(index, cell): (usize, &Json)| match cell.as_str() {
                Some(GAP) if numeric[index] => Json::Null,
                _ => cell.clone(),
            };
            let cells = cells.iter().enumerate().map(cell);
            self.columns.iter().cloned().zip(cells).collect()
        })
    }

    /// The rows as a template sees them: where every column is numbers and one has fractions, all are fractions.
    pub(super) fn records(&self) -> impl Iterator<Item = Map<String, Json>> {
        let numeric = |cell: &Json| cell.is_number() || cell.as_str() == Some(GAP);
        let all_numbers = self.rows.iter().flatten().all(numeric);
        let fractions = self
            .rows
            .iter()
            .flatten()
            .any(|cell| !cell.is_i64() && !cell.is_u64());
        self.rows.iter().map(move |cells| {
            let cell = |cell: &Json| match cell.as_f64() {
                Some(number) if all_numbers && fractions => Json::from(number),
                _ => cell.clone(),
            };
            self.columns.iter().cloned().zip(cells.iter().map(cell)).collect()
        })
    }
}

pub(super) fn too_large() -> NodeError {
    NodeError::permanent(
        "table_too_large",
        format!(
            "the table has more than {MAX_CELLS} cells or {MAX_RENDERED_BYTES} bytes as text: filter it first"
        ),
    )
}

/// One column's cells with the type the whole column has.
fn typed(column: &[Option<&Json>]) -> Vec<Json> {
    let absent = |cell: &Option<&Json>| cell.is_none_or(Json::is_null);
    let present: Vec<&Json> = column
        .iter()
        .flatten()
        .copied()
        .filter(|cell| !cell.is_null())
        .collect();
    let numbers = !present.is_empty() && present.iter().all(|cell| cell.is_number());
    let fractions = column.iter().any(absent) || present.iter().any(|cell| cell.is_f64());
    column
        .iter()
        .map(|cell| match cell {
            Some(cell) if numbers && fractions && !cell.is_null() => {
                cell.as_f64().map_or_else(|| (*cell).clone(), Json::from)
            }
            Some(cell) if !(numbers && cell.is_null()) => (*cell).clone(),
            _ => Json::from(GAP),
        })
        .collect()
}

/// A Markdown table; numbers are aligned by their decimal point.
pub(super) fn markdown(table: &[Map<String, Json>], clean: bool) -> Result<String, NodeError> {
    let mut frame = Frame::of(table)?;
    if clean {
        let missing = |cell: &Json| cell.is_null() || cell.as_str() == Some(GAP);
        frame.rows.retain(|row| !row.iter().all(missing));
    }
    if frame.columns.is_empty() {
        return Ok(String::new());
    }
    let mut headers = Vec::new();
    let mut rulers = Vec::new();
    let mut columns = Vec::new();
    let mut line = 0_usize;
    for (index, name) in frame.columns.iter().enumerate() {
        let cells: Vec<Json> = frame
            .rows
            .iter()
            .map(|row| one_line(&row[index], clean))
            .collect();
        let column = Column::of(&cells);
        let width = column
            .cells
            .iter()
            .map(|cell| width(cell))
            .max()
            .unwrap_or(0)
            .max(width(name) + 2);
        // One long cell widens its whole column.
        line = line.saturating_add(width + 3);
        if line.saturating_mul(frame.rows.len() + 2) > MAX_RENDERED_BYTES {
            return Err(too_large());
        }
        headers.push(aligned(name, width, column.numeric));
        let dashes = "-".repeat(width + 1);
        rulers.push(if column.numeric {
            format!("{dashes}:")
        } else {
            format!(":{dashes}")
        });
        columns.push((column, width));
    }
    let mut lines = vec![
        format!("| {} |", headers.join(" | ")),
        format!("|{}|", rulers.join("|")),
    ];
    for row in 0..frame.rows.len() {
        let cells: Vec<String> = columns
            .iter()
            .map(|(column, width)| aligned(&column.cells[row], *width, column.numeric))
            .collect();
        lines.push(format!("| {} |", cells.join(" | ")));
    }
    Ok(lines.join("\n"))
}

/// Text that must not break the table: line breaks and bars are escaped.
fn one_line(cell: &Json, clean: bool) -> Json {
    let Json::String(text) = cell else {
        return cell.clone();
    };
    let mut text = text.replace("\r\n", "\n").replace('\r', "\n");
    if clean {
        if text.trim().is_empty() {
            text.clear();
        }
        while text.contains("\n\n") {
            text = text.replace("\n\n", "\n");
        }
    }
    Json::String(text.trim_matches('\n').replace('\n', "<br/>").replace('|', "\\|"))
}

/// A column's cells as text, right-aligned if they are numbers.
struct Column {
    cells: Vec<String>,
    numeric: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Type {
    Nothing,
    Boolean,
    Integer,
    Fraction,
    Text,
}

impl Column {
    fn of(cells: &[Json]) -> Self {
        let kind = cells.iter().map(type_of).max().unwrap_or(Type::Text);
        let numeric = matches!(kind, Type::Integer | Type::Fraction);
        let mut texts: Vec<String> = cells.iter().map(|cell| shown(cell, kind)).collect();
        if numeric {
            align_points(&mut texts);
        }
        Self {
            cells: texts,
            numeric,
        }
    }
}

fn type_of(cell: &Json) -> Type {
    match cell {
        Json::Null => Type::Nothing,
        Json::Bool(_) => Type::Boolean,
        Json::Number(number) if number.is_f64() => Type::Fraction,
        Json::Number(_) => Type::Integer,
        Json::String(text) => {
            let plain = text.trim().replace([',', '_'], "");
            match (plain.parse::<i64>(), plain.parse::<f64>()) {
                (Ok(_), _) => Type::Integer,
                (_, Ok(_)) => Type::Fraction,
                _ => Type::Text,
            }
        }
        Json::Array(_) | Json::Object(_) => Type::Text,
    }
}

fn shown(cell: &Json, kind: Type) -> String {
    let text = template::to_text(cell);
    match (cell, kind) {
        (Json::Null, _) => String::new(),
        (_, Type::Fraction) => match cell.as_f64().or_else(|| text.trim().parse().ok()) {
            Some(number) => template::general(number),
            None => text,
        },
        (_, Type::Text) => text.trim().to_owned(),
        _ => text,
    }
}

/// Pads on the right so that decimal points stand below each other.
fn align_points(texts: &mut [String]) {
    let after = |text: &String| match (text.find('.'), text.find(['e', 'E'])) {
        (Some(point), _) => text.len() - point - 1,
        (None, Some(exponent)) => text.len() - exponent - 1,
        (None, None) => usize::MAX,
    };
    let decimals: Vec<Option<usize>> = texts
        .iter()
        .map(|text| {
            if text.trim().parse::<f64>().is_ok() {
                Some(after(text)).filter(|n| *n != usize::MAX)
            } else {
                None
            }
        })
        .collect();
    let most = decimals.iter().flatten().max().copied();
    let Some(most) = most else { return };
    for (text, decimals) in texts.iter_mut().zip(decimals) {
        let missing = match decimals {
            Some(decimals) => most - decimals,
            None => most + 1,
        };
        text.push_str(&" ".repeat(missing));
    }
}

fn width(text: &str) -> usize {
    text.chars().count()
}

fn aligned(text: &str, to: usize, right: bool) -> String {
    let padding = " ".repeat(to.saturating_sub(width(text)));
    if right {
        format!("{padding}{text}")
    } else {
        format!("{text}{padding}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn rows(value: &Json) -> Vec<Map<String, Json>> {
        value
            .as_array()
            .unwrap()
            .iter()
            .map(|row| row.as_object().cloned().unwrap())
            .collect()
    }

    /// Each expectation was printed by pandas and tabulate under Langflow's own conversion.
    #[test]
    fn markdown_table() {
        let cases = [
            (
                json!([{"a": 1, "b": "x|y"}, {"a": 22, "b": "multi\nline"}]),
                false,
                "|   a | b              |\n|----:|:---------------|\n|   1 | x\\|y           |\n|  22 | multi<br/>line |",
            ),
            (
                json!([{"a": 1, "b": null}, {"a": null, "b": null}]),
                true,
                "|   a | b   |\n|----:|:----|\n|   1 |     |",
            ),
            (
                json!([{"a": 1, "b": null}, {"a": null, "b": null}]),
                false,
                "|   a | b   |\n|----:|:----|\n|   1 |     |\n| nan |     |",
            ),
            (
                json!([{"a": 1.5, "b": true, "c": "long text"}, {"a": 10.25, "b": false, "c": ""}]),
                false,
                "|     a | b     | c         |\n|------:|:------|:----------|\n|  1.5  | True  | long text |\n| 10.25 | False |           |",
            ),
            (json!([]), false, ""),
            (
                json!([{"a": [1, 2], "b": {"k": "v"}}]),
                false,
                "| a      | b          |\n|:-------|:-----------|\n| [1, 2] | {'k': 'v'} |",
            ),
            (
                json!([{"a": 1e10, "b": 123_456.789}, {"a": 1.0, "b": 2}]),
                false,
                "|     a |      b |\n|------:|-------:|\n| 1e+10 | 123457 |\n| 1     |      2 |",
            ),
            (
                json!([{"n": "1"}, {"n": "22"}]),
                false,
                "|   n |\n|----:|\n|   1 |\n|  22 |",
            ),
            (
                json!([{"text": "héllo", "z": "日本"}]),
                false,
                "| text   | z   |\n|:-------|:----|\n| héllo  | 日本  |",
            ),
            (
                json!([{"a": "1.5"}, {"a": "10"}]),
                false,
                "|    a |\n|-----:|\n|  1.5 |\n| 10   |",
            ),
            (
                json!([{"a": "x"}, {"b": 2}]),
                false,
                "| a   |   b |\n|:----|----:|\n| x   | nan |\n| nan |   2 |",
            ),
            (
                json!([{"a": 1}, {"a": "x"}]),
                false,
                "| a   |\n|:----|\n| 1   |\n| x   |",
            ),
            (
                json!([{"a": "\n\nx\n\n\ny\n"}]),
                true,
                "| a       |\n|:--------|\n| x<br/>y |",
            ),
            (
                json!([{"a": true}, {"a": null}]),
                false,
                "| a    |\n|:-----|\n| True |\n|      |",
            ),
            (
                json!([{"a": 1e-7}, {"a": 123_456_789.123}]),
                false,
                "|           a |\n|------------:|\n| 1e-07       |\n| 1.23457e+08 |",
            ),
            (
                json!([{"longheader": 1}]),
                false,
                "|   longheader |\n|-------------:|\n|            1 |",
            ),
            (
                json!([{"a": "12"}, {"a": "1.5"}, {"a": null}]),
                false,
                "|    a |\n|-----:|\n| 12   |\n|  1.5 |\n|      |",
            ),
            (json!([{"a": "1e5"}]), false, "|      a |\n|-------:|\n| 100000 |"),
            (
                json!([{"a": true}, {"a": 2}]),
                false,
                "|    a |\n|-----:|\n| True |\n|    2 |",
            ),
        ];
        for (table, clean, expected) in cases {
            assert_eq!(
                markdown(&rows(&table), clean).unwrap(),
                expected,
                "{table} {clean}"
            );
        }
    }

    #[test]
    fn records_have_their_columns_types() {
        let cases = [
            (
                json!([{"a": 1, "b": "x"}, {"b": "y"}]),
                json!([{"a": 1.0, "b": "x"}, {"a": "nan", "b": "y"}]),
            ),
            (
                json!([{"a": 1, "b": 2.5}, {"a": 2, "b": 3}]),
                json!([{"a": 1.0, "b": 2.5}, {"a": 2.0, "b": 3.0}]),
            ),
            (
                json!([{"a": 1, "b": 2.5, "c": "x"}]),
                json!([{"a": 1, "b": 2.5, "c": "x"}]),
            ),
            (
                json!([{"a": null}, {"a": null}]),
                json!([{"a": null}, {"a": null}]),
            ),
            (
                json!([{"a": true}, {"a": null}]),
                json!([{"a": true}, {"a": null}]),
            ),
            (json!([{"a": "s"}, {}]), json!([{"a": "s"}, {"a": "nan"}])),
        ];
        for (table, expected) in cases {
            let records: Vec<Json> = Frame::of(&rows(&table))
                .unwrap()
                .records()
                .map(Json::Object)
                .collect();
            assert_eq!(Json::Array(records), expected, "{table}");
        }
    }

    #[test]
    fn tables_that_explode_are_refused() {
        let diagonal: Vec<Map<String, Json>> = (0..3_000)
            .map(|n| Map::from_iter([(format!("c{n}"), json!(n))]))
            .collect();
        assert_eq!(Frame::of(&diagonal).unwrap_err().code, "table_too_large");
        let mut wide = rows(&json!([{"a": "x".repeat(1 << 20)}]));
        wide.extend((0..100).map(|n| Map::from_iter([("a".to_owned(), json!(n))])));
        assert_eq!(markdown(&wide, false).unwrap_err().code, "table_too_large");
    }
}
