//! Rows as chunks: which columns are embedded, which identify a row, and what the others become.

use std::collections::HashSet;

use serde_json::{Map, Value as Json};
use sha2::{Digest as _, Sha256};

use super::super::table::GAP;
use crate::known::hex;
use crate::template::{python_repr, to_text};

type Row = Map<String, Json>;

/// What a column is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Column {
    pub(super) name: String,
    pub(super) vectorize: bool,
    pub(super) identifier: bool,
}

/// The columns that a node names, or what is wrong with them.
pub(super) fn columns(config: &[Json], known: &[&str]) -> Result<Vec<Column>, String> {
    if config.is_empty() {
        return Err("Column configuration cannot be empty".to_owned());
    }
    let column = |row: &Json| {
        let name = row.get("column_name");
        match name.and_then(Json::as_str).filter(|name| known.contains(name)) {
            Some(name) => Ok(Column {
                name: name.to_owned(),
                vectorize: flag(row.get("vectorize")),
                identifier: flag(row.get("identifier")),
            }),
            None => {
                let name = name.map_or_else(|| "None".to_owned(), to_text);
                let mut known = known.to_vec();
                known.sort_unstable();
                let known = python_repr(&Json::from(known));
                Err(format!(
                    "Column '{name}' not found in DataFrame. Available columns: {known}"
                ))
            }
        }
    };
    config.iter().map(column).collect()
}

/// A cell of the editor: truth, or what somebody typed.
fn flag(cell: Option<&Json>) -> bool {
    match cell {
        Some(Json::Bool(flag)) => *flag,
        Some(Json::String(text)) => {
            let text = text.trim().to_lowercase();
            ["true", "1", "t", "y", "yes"].contains(&text.as_str())
        }
        Some(Json::Number(number)) => number.is_i64() && number.as_i64() != Some(0),
        _ => false,
    }
}

/// A row as it is kept.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Text {
    pub(super) hash: String,
    pub(super) content: String,
    pub(super) metadata: Row,
}

/// The names of a table's columns, in order of appearance.
pub(super) fn names(rows: &[Row]) -> Vec<&str> {
    let mut seen = HashSet::new();
    rows.iter()
        .flat_map(Row::keys)
        .map(String::as_str)
        .filter(|name| seen.insert(*name))
        .collect()
}

/// Cells as Python prints those of a data frame's rows. What is missing is none.
#[derive(Debug)]
pub(super) struct Cells<'t> {
    rows: &'t [Row],
    names: Vec<&'t str>,
    /// Columns of numbers with a fraction or a gap among them; all columns of numbers, if nothing else is in the table.
    fractions: Vec<bool>,
}

impl<'t> Cells<'t> {
    pub(super) fn of(rows: &'t [Row]) -> Self {
        let names = names(rows);
        let mut numeric = Vec::with_capacity(names.len());
        let mut fractions = Vec::with_capacity(names.len());
        for name in &names {
            let cells = || {
                rows.iter()
                    .map(|row| row.get(*name).filter(|cell| !cell.is_null()))
            };
            let numbers = cells().flatten().all(Json::is_number) && cells().flatten().next().is_some();
            numeric.push(numbers);
            fractions.push(numbers && cells().any(|cell| cell.is_none_or(Json::is_f64)));
        }
        // A row of nothing but numbers has one type.
        if numeric.iter().all(|numeric| *numeric) && fractions.contains(&true) {
            fractions.fill(true);
        }
        Self {
            rows,
            names,
            fractions,
        }
    }

    pub(super) fn names(&self) -> &[&'t str] {
        &self.names
    }

    /// The cells that are there, by column.
    fn row(&self, row: &'t Row) -> Vec<(&'t str, String)> {
        let cell = |(name, fractions): (&&'t str, &bool)| {
            let cell = row.get(*name)?;
            let text = match cell {
                Json::Null => return None,
                // A gap in a column of text, as other components hand it on.
                Json::String(text) if text == GAP => return None,
                Json::Array(items) if items.is_empty() || items.iter().any(Json::is_null) => return None,
                Json::Number(number) if *fractions => to_text(&number.as_f64()?.into()),
                cell => to_text(cell),
            };
            Some((*name, text))
        };
        self.names.iter().zip(&self.fractions).filter_map(cell).collect()
    }

    /// Each row as a text.
    pub(super) fn texts(&self, columns: &[Column]) -> Vec<Text> {
        let chosen = |is: fn(&Column) -> bool| -> Vec<&str> {
            let chosen = columns.iter().filter(|column| is(column));
            chosen.map(|column| column.name.as_str()).collect()
        };
        let (contents, identifiers) = (chosen(|c| c.vectorize), chosen(|c| c.identifier));
        let text = |row: &'t Row| {
            let cells = self.row(row);
            let joined = |wanted: &[&str]| -> String {
                let of = |name: &&str| cells.iter().find(|(known, _)| known == name);
                let texts: Vec<&str> = wanted
                    .iter()
                    .filter_map(of)
                    .map(|(_, text)| text.as_str())
                    .collect();
                texts.join(" ")
            };
            let content = joined(&contents);
            let identity = if identifiers.is_empty() {
                content.clone()
            } else {
                joined(&identifiers)
            };
            let hash = hex(&Sha256::digest(identity.as_bytes()));
            let mut metadata = Row::new();
            metadata.insert("text".to_owned(), content.into());
            for (name, text) in cells {
                if !contents.contains(&name) {
                    metadata.insert(name.to_owned(), text.into());
                }
            }
            metadata.insert("_id".to_owned(), hash.clone().into());
            let content = metadata.shift_remove("text");
            let content = content.as_ref().map(to_text).unwrap_or_default();
            Text {
                hash,
                content,
                metadata,
            }
        };
        self.rows.iter().map(text).collect()
    }
}
