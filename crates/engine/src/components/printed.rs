//! Tables as pandas prints them on a terminal of 80 columns: what a model reads when a tool gives it a table.
//!
//! No cell is cut, but columns in the middle make way until the rest fits, and so do the rows in the middle of a long
//! table. That is what Langflow's agents tell their models, so it is what ours tell them.

use serde_json::{Map, Value as Json};

use super::table;
use crate::component::NodeError;
use crate::template::{MAX_RENDERED_BYTES, python_repr, to_text};

/// Columns of characters.
const WIDTH: usize = 80;
/// Longer tables are shown by their first and last rows.
const MOST_ROWS: usize = 60;
const ROWS_EACH_SIDE: usize = 5;
const DIGITS: usize = 6;
/// Items of a list that are shown, and lists in lists.
const MOST_ITEMS: usize = 100;
const DEEPEST: usize = 3;

/// The text of a table.
pub(super) fn printed(table: &[Map<String, Json>]) -> Result<String, NodeError> {
    let mut columns: Vec<&str> = Vec::new();
    let mut known = std::collections::HashSet::new();
    for name in table.iter().flat_map(Map::keys) {
        if known.insert(name.as_str()) {
            columns.push(name);
        }
    }
    if table.is_empty() || columns.is_empty() {
        let names: Vec<String> = columns.iter().map(|name| escaped(name)).collect();
        let rows: Vec<String> = (0..table.len()).map(|row| row.to_string()).collect();
        return Ok(format!(
            "Empty Table\nColumns: [{}]\nIndex: [{}]",
            names.join(", "),
            rows.join(", ")
        ));
    }
    let view = View {
        table,
        columns: &columns,
        long: table.len() > MOST_ROWS,
    };
    view.check_size()?;
    let mut sheet = view.sheet(columns.len());
    let fitting = fitting(&sheet);
    let cut = fitting < columns.len();
    if cut {
        sheet = view.sheet(fitting);
    }
    let mut text = adjoined(&sheet);
    if cut || view.long {
        text.push_str(&format!("\n\n[{} rows x {} columns]", table.len(), columns.len()));
    }
    Ok(text)
}

/// One printed column: a header and the cells, all of one width but for the index.
type Column = Vec<String>;

#[derive(Clone, Copy)]
struct View<'t> {
    table: &'t [Map<String, Json>],
    columns: &'t [&'t str],
    /// Only some rows are shown.
    long: bool,
}

impl View<'_> {
    fn rows(&self) -> Vec<usize> {
        let all = self.table.len();
        match self.long {
            true => (0..ROWS_EACH_SIDE).chain(all - ROWS_EACH_SIDE..all).collect(),
            false => (0..all).collect(),
        }
    }

    /// Every cell is as wide as the widest of its column: refuses what would not fit into memory.
    fn check_size(&self) -> Result<(), NodeError> {
        let rows = self.rows();
        let mut total = 0_usize;
        for name in self.columns {
            let cells = rows.iter().filter_map(|row| self.table[*row].get(*name));
            let widest = cells.map(|cell| to_text(cell).len()).max().unwrap_or(0);
            total = total.saturating_add(widest.max(name.len()).saturating_mul(rows.len() + 1));
        }
        match total > MAX_RENDERED_BYTES {
            true => Err(table::too_large()),
            false => Ok(()),
        }
    }

    /// The index and the columns that are shown if there is room for this many.
    fn sheet(&self, room: usize) -> Vec<Column> {
        let rows = self.rows();
        let index = rows.iter().map(usize::to_string);
        let mut sheet = vec![padded(
            std::iter::once(String::new()).chain(index).collect(),
            false,
        )];
        let half = room / 2;
        let cut = room < self.columns.len();
        let shown: Vec<&str> = match cut {
            true => {
                let right = self.columns.len() - half;
                self.columns[..half]
                    .iter()
                    .chain(&self.columns[right..])
                    .copied()
                    .collect()
            }
            false => self.columns.to_vec(),
        };
        for (place, name) in shown.into_iter().enumerate() {
            // Where columns are cut out, pandas looks at the types of the first ones, whichever are shown.
            let looked_at = self.type_of(self.columns[place]);
            sheet.push(self.column(name, looked_at, &rows));
        }
        let dots = cut.then_some(half + 1);
        if let Some(place) = dots {
            sheet.insert(place, vec![" ...".to_owned(); rows.len() + 1]);
        }
        if self.long {
            for (place, column) in sheet.iter_mut().enumerate() {
                let width = length(&column[ROWS_EACH_SIDE]);
                let is_dots = dots == Some(place);
                let mark = if width > 3 || is_dots { "..." } else { ".." };
                let width = if is_dots { 4 } else { width };
                let cell = match place {
                    0 => format!("{mark:<width$}"),
                    _ => format!("{mark:>width$}"),
                };
                column.insert(ROWS_EACH_SIDE + 1, cell);
            }
        }
        sheet
    }

    /// The type of all of the column, also where not all rows are shown.
    fn type_of(&self, name: &str) -> Type {
        let cells: Vec<Option<&Json>> = self.table.iter().map(|row| row.get(name)).collect();
        Type::of(&cells)
    }

    fn column(&self, name: &str, header: Type, rows: &[usize]) -> Column {
        let cells: Vec<Option<&Json>> = rows.iter().map(|row| self.table[*row].get(name)).collect();
        let mut column = vec![match header {
            Type::Objects => escaped(name),
            Type::Whole | Type::Fractions | Type::Truths => format!(" {}", escaped(name)),
        }];
        column.extend(match self.type_of(name) {
            Type::Whole => cells
                .iter()
                .map(|cell| signed(&cell.map(Json::to_string).unwrap_or_default()))
                .collect(),
            Type::Fractions => fractions(&cells),
            Type::Truths | Type::Objects => objects(&cells),
        });
        padded(column, true)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Type {
    Whole,
    Fractions,
    Truths,
    Objects,
}

impl Type {
    fn of(cells: &[Option<&Json>]) -> Self {
        let present: Vec<&Json> = cells
            .iter()
            .flatten()
            .copied()
            .filter(|cell| !cell.is_null())
            .collect();
        let all = present.len() == cells.len();
        if present.is_empty() {
            // Nothing but gaps is numbers without values, unless a null stands in all of them.
            return match cells.iter().all(Option::is_some) {
                true => Self::Objects,
                false => Self::Fractions,
            };
        }
        if present.iter().all(|cell| cell.is_number()) {
            return match all && present.iter().all(|cell| !cell.is_f64()) {
                true => Self::Whole,
                false => Self::Fractions,
            };
        }
        match all && present.iter().all(|cell| cell.is_boolean()) {
            true => Self::Truths,
            false => Self::Objects,
        }
    }
}

/// A space where a minus could be.
fn signed(number: &str) -> String {
    match number.starts_with('-') {
        true => number.to_owned(),
        false => format!(" {number}"),
    }
}

fn fractions(cells: &[Option<&Json>]) -> Vec<String> {
    let values: Vec<Option<f64>> = cells.iter().map(|cell| cell.and_then(Json::as_f64)).collect();
    let write = |format: &dyn Fn(f64) -> String| -> Vec<String> {
        let mut texts: Vec<String> = values
            .iter()
            .map(|value| value.map_or_else(|| "NaN".to_owned(), |value| signed(&format(value))))
            .collect();
        trim_zeros(&mut texts);
        texts
    };
    let fixed = write(&|value| format!("{value:.DIGITS$}"));
    let longest = fixed.iter().map(String::len).max().unwrap_or(0);
    let present = || values.iter().flatten().map(|value| value.abs());
    let large = present().any(|value| value > 1e6);
    let small = present().any(|value| value > 0.0 && value < 1e-6);
    if small || (longest > DIGITS + 6 && large) {
        return write(&scientific);
    }
    fixed
}

/// As C writes it: an exponent of two digits at least.
fn scientific(value: f64) -> String {
    let text = format!("{value:.DIGITS$e}");
    match text.split_once('e') {
        Some((digits, exponent)) => {
            let exponent: i32 = exponent.parse().unwrap_or(0);
            let sign = if exponent < 0 { '-' } else { '+' };
            format!("{digits}e{sign}{:02}", exponent.abs())
        }
        None => text,
    }
}

/// Cuts zeros from the end of all numbers as long as all have one; one stays after the point.
fn trim_zeros(texts: &mut [String]) {
    let is_number = |text: &str| {
        let digits = text.trim_start().trim_start_matches(['+', '-']);
        digits.split_once('.').is_some_and(|(whole, rest)| {
            !whole.is_empty() && (whole.to_owned() + rest).bytes().all(|b| b.is_ascii_digit())
        })
    };
    while texts.iter().any(|text| is_number(text))
        && texts
            .iter()
            .filter(|text| is_number(text))
            .all(|text| text.ends_with('0'))
    {
        for text in texts.iter_mut().filter(|text| is_number(text)) {
            text.pop();
        }
    }
    for text in texts
        .iter_mut()
        .filter(|text| is_number(text) && text.ends_with('.'))
    {
        text.push('0');
    }
}

fn objects(cells: &[Option<&Json>]) -> Vec<String> {
    cells
        .iter()
        .map(|cell| match cell {
            Some(cell) if cell.is_f64() => {
                let mut text = [signed(&format!("{:.DIGITS$}", cell.as_f64().unwrap_or_default()))];
                trim_zeros(&mut text);
                let [text] = text;
                text
            }
            cell => {
                let text = cell.map_or_else(|| "NaN".to_owned(), |cell| thing(cell, 0, false));
                format!(" {text}")
            }
        })
        .collect()
}

/// A value in a cell. Texts in objects are quoted and keep their line ends, those in lists are neither.
fn thing(value: &Json, depth: usize, quoted: bool) -> String {
    match value {
        Json::Null => "None".to_owned(),
        Json::Bool(true) => "True".to_owned(),
        Json::Bool(false) => "False".to_owned(),
        Json::Number(_) => to_text(value),
        Json::String(text) if quoted => format!("'{text}'"),
        Json::String(text) => escaped(text),
        Json::Array(_) | Json::Object(_) if depth >= DEEPEST => python_repr(value),
        Json::Array(items) => {
            let mut shown: Vec<String> = items
                .iter()
                .take(MOST_ITEMS)
                .map(|item| thing(item, depth + 1, quoted))
                .collect();
            if items.len() > MOST_ITEMS {
                shown.push("...".to_owned());
            }
            format!("[{}]", shown.join(", "))
        }
        Json::Object(object) => {
            let mut shown: Vec<String> = object
                .iter()
                .take(MOST_ITEMS)
                .map(|(key, item)| format!("'{key}': {}", thing(item, depth + 1, true)))
                .collect();
            if object.len() > MOST_ITEMS {
                shown.push("...".to_owned());
            }
            format!("{{{}}}", shown.join(", "))
        }
    }
}

fn escaped(text: &str) -> String {
    text.replace('\t', "\\t")
        .replace('\r', "\\r")
        .replace('\n', "\\n")
}

fn length(text: &str) -> usize {
    text.chars().count()
}

/// Cells of one width.
fn padded(mut cells: Column, to_the_right: bool) -> Column {
    let width = cells.iter().map(|cell| length(cell)).max().unwrap_or(0);
    for cell in &mut cells {
        let space = " ".repeat(width - length(cell));
        match to_the_right {
            true => cell.insert_str(0, &space),
            false => cell.push_str(&space),
        }
    }
    cells
}

/// The columns side by side, a space between.
fn adjoined(sheet: &[Column]) -> String {
    let rows = sheet.first().map_or(0, Vec::len);
    let lines: Vec<String> = (0..rows)
        .map(|row| {
            let cells: Vec<&str> = sheet.iter().map(|column| column[row].as_str()).collect();
            cells.join(" ")
        })
        .collect();
    lines.join("\n")
}

/// How many columns have room: the middle one goes until the rest fits, but two stay.
fn fitting(sheet: &[Column]) -> usize {
    let mut widths: Vec<usize> = sheet
        .iter()
        .map(|column| column.iter().map(|cell| length(cell)).max().unwrap_or(0))
        .collect();
    let text = adjoined(sheet);
    let line = text.split('\n').map(length).max().unwrap_or(0);
    let mut over = (line + 1).saturating_sub(WIDTH);
    while over > 0 && widths.len() > 1 {
        // Half, rounded to even as Python does.
        let half = widths.len() / 2;
        let middle = match widths.len() % 4 {
            3 => half + 1,
            _ => half,
        };
        over = over.saturating_sub(widths.remove(middle) + 1);
    }
    (widths.len() - 1).max(2)
}

#[cfg(test)]
#[path = "printed_tests.rs"]
mod tests;
