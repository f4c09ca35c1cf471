//! Tables in CSV, with the types that pandas gives their columns.
//!
//! A column is of whole numbers, of numbers, of truth values, or of text: whatever all its cells are. Cells that say
//! "nothing" in one of the usual ways are gaps; a column of numbers with gaps is one of fractions.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value as Json};

use crate::components::table::GAP;

/// Cells of a file at most.
const MOST_CELLS: usize = 2_000_000;
const NOTHING: [&str; 19] = [
    "", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>", "N/A",
    "NA", "NULL", "NaN", "None", "n/a", "nan", "null",
];

/// The rows below the header.
pub(crate) fn read(text: &str) -> Result<Vec<Map<String, Json>>, String> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut records = records(text)?.into_iter();
    let head = names(
        records
            .next()
            .ok_or("is empty: a table needs a line of column names")?,
    );
    let records: Vec<Vec<String>> = records.collect();
    // A first row that is longer has cells before the first column: names of rows, which are left out.
    let unnamed = records
        .first()
        .map_or(0, |first| first.len().saturating_sub(head.len()));
    let width = head.len() + unnamed;
    if let Some(line) = records.iter().position(|record| record.len() > width) {
        return Err(format!(
            "row {} has more cells than the first ({width})",
            line + 1
        ));
    }
    let mut rows = vec![Map::new(); records.len()];
    for (index, name) in head.iter().enumerate() {
        let cells: Vec<&str> = records
            .iter()
            .map(|record| record.get(unnamed + index).map_or("", String::as_str))
            .collect();
        for (row, cell) in rows.iter_mut().zip(column(&cells)) {
            row.insert(name.clone(), cell);
        }
    }
    Ok(rows)
}

/// Cells by line. A quote opens only at the beginning of a cell; lines of nothing are none.
fn records(text: &str) -> Result<Vec<Vec<String>>, String> {
    let (mut records, mut record, mut cell) = (Vec::new(), Vec::new(), String::new());
    let (mut quoted, mut was_quoted, mut cells) = (false, false, 0_usize);
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '"' if quoted && chars.peek() == Some(&'"') => {
                chars.next();
                cell.push('"');
            }
            '"' if quoted => quoted = false,
            c if quoted => cell.push(c),
            '"' if cell.is_empty() && !was_quoted => (quoted, was_quoted) = (true, true),
            ',' => {
                record.push(std::mem::take(&mut cell));
                was_quoted = false;
                cells += 1;
            }
            '\n' | '\r' => {
                if c == '\r' && chars.peek() == Some(&'\n') {
                    chars.next();
                }
                let blank = record.is_empty() && !was_quoted && cell.trim_matches([' ', '\t']).is_empty();
                if blank {
                    cell.clear();
                } else {
                    record.push(std::mem::take(&mut cell));
                    records.push(std::mem::take(&mut record));
                    cells += 1;
                }
                was_quoted = false;
            }
            c => cell.push(c),
        }
        if cells > MOST_CELLS {
            return Err(format!("has more than {MOST_CELLS} cells: split it"));
        }
    }
    if quoted {
        return Err("ends inside of a quoted cell: close its quote".to_owned());
    }
    if !record.is_empty() || was_quoted || !cell.trim_matches([' ', '\t']).is_empty() {
        record.push(cell);
        records.push(record);
    }
    Ok(records)
}

/// Column names: those without one are numbered, and so is one that is there already.
fn names(head: Vec<String>) -> Vec<String> {
    let named = |(index, name): (usize, String)| match name.as_str() {
        "" => format!("Unnamed: {index}"),
        _ => name,
    };
    let head: Vec<String> = head.into_iter().enumerate().map(named).collect();
    let all: BTreeSet<String> = head.iter().cloned().collect();
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    let mut names = Vec::with_capacity(head.len());
    for old in head {
        let mut name = old.clone();
        let mut count = counts.get(&name).copied().unwrap_or_default();
        while count > 0 {
            counts.insert(old.clone(), count + 1);
            name = format!("{old}.{count}");
            count = match all.contains(&name) {
                true => count + 1,
                false => counts.get(&name).copied().unwrap_or_default(),
            };
        }
        counts.insert(name.clone(), count + 1);
        names.push(name);
    }
    names
}

fn column(cells: &[&str]) -> Vec<Json> {
    let is_gap = |cell: &str| NOTHING.contains(&cell);
    let present: Vec<&str> = cells.iter().copied().filter(|cell| !is_gap(cell)).collect();
    let gaps = present.len() < cells.len();
    let all = |test: &dyn Fn(&str) -> bool| !present.is_empty() && present.iter().all(|cell| test(cell));
    let convert = |of: &dyn Fn(&str) -> Json, gap: Json| {
        let cell = |cell: &&str| if is_gap(cell) { gap.clone() } else { of(cell) };
        cells.iter().map(cell).collect()
    };
    let whole = || -> Option<Vec<Json>> { present.iter().map(|cell| integer(cell)).collect() };
    let of_one_sign = |cells: &Vec<Json>| cells.iter().all(Json::is_i64) || cells.iter().all(Json::is_u64);
    let whole = whole().filter(|cells| !cells.is_empty());
    let mixed = whole.as_ref().is_some_and(|cells| !of_one_sign(cells));
    if !gaps && !mixed && whole.is_some() {
        return convert(&|cell| integer(cell).unwrap_or_default(), Json::Null);
    }
    // A whole number too large for 64 bits makes its column one of text.
    let is_number = |cell: &str| number(cell).is_some() && !(digits_only(cell) && integer(cell).is_none());
    if !mixed && all(&is_number) {
        return convert(&|cell| number(cell).map(fraction).unwrap_or_default(), Json::Null);
    }
    if all(&|cell| truth(cell).is_some()) {
        return convert(&|cell| truth(cell).into(), GAP.into());
    }
    convert(&|cell| cell.into(), GAP.into())
}

/// White space around a number, as C sees it.
const SPACE: [char; 6] = [' ', '\t', '\n', '\r', '\u{b}', '\u{c}'];

fn digits_only(cell: &str) -> bool {
    let cell = cell.trim_matches(SPACE);
    let digits = cell.strip_prefix(['+', '-']).unwrap_or(cell);
    !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
}

fn integer(cell: &str) -> Option<Json> {
    if !digits_only(cell) {
        return None;
    }
    let cell = cell.trim_matches(SPACE);
    let cell = cell.strip_prefix('+').unwrap_or(cell);
    let signed = cell.parse::<i64>().map(Json::from);
    signed.or_else(|_| cell.parse::<u64>().map(Json::from)).ok()
}

fn truth(cell: &str) -> Option<bool> {
    match cell.to_ascii_lowercase().as_str() {
        "true" => Some(true),
        "false" => Some(false),
        _ => None,
    }
}

/// JSON has no infinities: they stay what they are called.
fn fraction(number: f64) -> Json {
    match serde_json::Number::from_f64(number) {
        Some(number) => Json::Number(number),
        None if number < 0.0 => "-inf".into(),
        None => "inf".into(),
    }
}

/// Digits that count; more would not change a double.
const DIGITS: usize = 17;

/// A number to within the last bit or two: digits are gathered and scaled once, as pandas does by default.
fn number(cell: &str) -> Option<f64> {
    let cell = cell.trim_matches(SPACE);
    let (negative, rest) = match cell.as_bytes().first()? {
        b'-' => (true, &cell[1..]),
        b'+' => (false, &cell[1..]),
        _ => (false, cell),
    };
    let sign = if negative { -1.0 } else { 1.0 };
    if matches!(rest.to_ascii_lowercase().as_str(), "inf" | "infinity") {
        return Some(sign * f64::INFINITY);
    }
    let (mut value, mut exponent, mut count) = (0.0_f64, 0_i32, 0_usize);
    let bytes = rest.as_bytes();
    let mut place = 0;
    let digit = |place: usize| {
        bytes
            .get(place)
            .filter(|byte| byte.is_ascii_digit())
            .map(|byte| f64::from(byte - b'0'))
    };
    while let Some(next) = digit(place) {
        match count < DIGITS {
            true => (value, count) = (value * 10.0 + next, count + 1),
            false => exponent = exponent.saturating_add(1),
        }
        place += 1;
    }
    if bytes.get(place) == Some(&b'.') {
        place += 1;
        while let Some(next) = digit(place) {
            if count < DIGITS {
                (value, count, exponent) = (value * 10.0 + next, count + 1, exponent.saturating_sub(1));
            }
            place += 1;
        }
    }
    if count == 0 {
        return None;
    }
    if matches!(bytes.get(place), Some(b'e' | b'E')) {
        let power = &rest[place + 1..];
        let digits = power.strip_prefix(['+', '-']).unwrap_or(power);
        if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let size: i32 = digits.parse().unwrap_or(i32::MAX / 2);
        exponent = exponent.saturating_add(if power.starts_with('-') { -size } else { size });
        place = bytes.len();
    }
    (place == bytes.len()).then(|| sign * scaled(value, exponent))
}

fn scaled(value: f64, exponent: i32) -> f64 {
    let power = |n: i32| format!("1e{n}").parse::<f64>().unwrap_or(f64::INFINITY);
    match exponent {
        309.. => f64::INFINITY,
        1..=308 => value * power(exponent),
        -308..=0 => value / power(-exponent),
        _ => value / power((-308 - exponent).min(308)) / power(308),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn rows(text: &str) -> Result<Json, String> {
        read(text).map(|rows| json!(rows))
    }

    /// Each expectation is what pandas 2.3 reads.
    #[test]
    fn types_of_columns() {
        for (text, expected) in [
            ("a,b\n1,x\n2,y\n", json!([{"a": 1, "b": "x"}, {"a": 2, "b": "y"}])),
            (
                "a,b\n1,\n,y\n",
                json!([{"a": 1.0, "b": "nan"}, {"a": null, "b": "y"}]),
            ),
            ("a\n1\n2.5\n", json!([{"a": 1.0}, {"a": 2.5}])),
            ("a\ntrue\nFalse\n", json!([{"a": true}, {"a": false}])),
            ("a\nTrUe\nNA\n", json!([{"a": true}, {"a": "nan"}])),
            (
                "a,b\ntrue,1\nNA,2\n",
                json!([{"a": true, "b": 1}, {"a": "nan", "b": 2}]),
            ),
            ("a\n1\nx\n", json!([{"a": "1"}, {"a": "x"}])),
            (
                "a\n18446744073709551615\n1\n",
                json!([{"a": 18_446_744_073_709_551_615_u64}, {"a": 1}]),
            ),
            (
                "a\n123456789012345678901234567890\n",
                json!([{"a": "123456789012345678901234567890"}]),
            ),
            (
                "a\n-5\n18446744073709551615\n",
                json!([{"a": "-5"}, {"a": "18446744073709551615"}]),
            ),
            ("a\n\" 1 \"\n+2\n", json!([{"a": 1}, {"a": 2}])),
            (
                "a,a,a.1,\n1,2,3,4\n",
                json!([{"a": 1, "a.2": 2, "a.1": 3, "Unnamed: 3": 4}]),
            ),
            (
                "a,b\r\n1,\"x\r\ny\"\r\n\r\n  \n2\r\n",
                json!([{"a": 1, "b": "x\r\ny"}, {"a": 2, "b": "nan"}]),
            ),
            ("a\n\"q\"\"q\"\nx\"y\"\n", json!([{"a": "q\"q"}, {"a": "x\"y\""}])),
            (
                "a\n1e5\n.5\n-inf\n",
                json!([{"a": 100_000.0}, {"a": 0.5}, {"a": "-inf"}]),
            ),
            ("a\n1,2\n3\n", json!([{"a": 2.0}, {"a": null}])),
            ("a,b\n", json!([])),
        ] {
            assert_eq!(rows(text).unwrap(), expected, "{text:?}");
        }
        for bad in ["", "\n\n", "a\n1\n1,2\n", "a\n\"x"] {
            assert!(rows(bad).is_err(), "{bad:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "[a,\"\n\r 1.e+-]{0,60}") {
            if let Ok(rows) = read(&text) {
                let columns: BTreeSet<Vec<&String>> = rows.iter().map(|row| row.keys().collect()).collect();
                proptest::prop_assert!(columns.len() <= 1, "every row has every column");
            }
        }

        #[test]
        fn numbers_are_close(number in proptest::num::f64::NORMAL) {
            let read = super::number(&format!("{number:e}")).unwrap();
            proptest::prop_assert!((read / number - 1.0).abs() < 1e-14 || read.is_infinite(), "{number} {read}");
        }
    }
}
