//! The same tables through pandas itself.

use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use serde_json::json;

use super::*;
use crate::reference;

/// How lfx's table prints.
const REFERENCE: &str = r#"
import json, sys
from lfx.schema.dataframe import DataFrame
json.dump([str(DataFrame(rows)) for rows in json.load(sys.stdin)], sys.stdout)
"#;

fn cell(random: &mut impl Rng, kind: usize) -> Json {
    const TEXTS: [&str; 9] = [
        "",
        "a",
        "two words",
        "line\nline",
        "tab\tend\r",
        "é你好",
        "a longer text, as pages have them, with some more words so that it does not fit",
        "'quoted' \\ \"twice\"",
        "…",
    ];
    let text = |random: &mut _| json!(TEXTS.choose(random).unwrap());
    match kind {
        0 | 1 => text(random),
        2 => json!(random.random_range(-1000..100_000)),
        3 => json!(random.random_range(-10.0..10.0)),
        4 => json!(f64::from(random.random_range(-4000..4000)) / 8.0),
        5 => json!(random.random_bool(0.5)),
        6 => json!([text(random), 1, 2.5, null, [true, {"a": [1]}]]),
        7 => json!({"key": text(random), "n": [1, text(random)], "x": {"y": {"z": [1, 2]}}}),
        8 => json!(random.random_range(-1e9..1e9)),
        9 => json!(random.random_range(-1e-7..1e-7)),
        10 => Json::Null,
        _ => cell_of_any(random),
    }
}

fn cell_of_any(random: &mut impl Rng) -> Json {
    let kind = random.random_range(0..11);
    cell(random, kind)
}

fn table(random: &mut impl Rng) -> Vec<Map<String, Json>> {
    const NAMES: [&str; 8] = [
        "text",
        "url",
        "n",
        "content_type",
        "é",
        "a b",
        "new\nline",
        "score",
    ];
    let columns: Vec<(&str, usize, f64)> = (0..random.random_range(1..8))
        .map(|n| {
            let gaps = if random.random_bool(0.3) { 0.3 } else { 0.0 };
            (NAMES[n], random.random_range(0..12), gaps)
        })
        .collect();
    let rows = match random.random_range(0..8) {
        0 => random.random_range(55..70),
        _ => random.random_range(0..6),
    };
    (0..rows)
        .map(|_| {
            let mut row = Map::new();
            for (name, kind, gaps) in &columns {
                if !random.random_bool(*gaps) {
                    row.insert((*name).to_owned(), cell(random, *kind));
                }
            }
            row
        })
        .collect()
}

#[test]
fn tables_print_as_pandas_prints_them() {
    let seed = rand::random();
    let mut random = rand::rngs::StdRng::seed_from_u64(seed);
    let tables: Vec<_> = (0..400).map(|_| table(&mut random)).collect();
    let expected: Vec<String> = reference::ask(REFERENCE, &tables);
    let mut different: Vec<String> = tables
        .iter()
        .zip(&expected)
        .filter(|(table, expected)| printed(table).unwrap() != **expected)
        .map(|(table, expected)| {
            format!(
                "{}\n{expected}\n-- ours --\n{}",
                json!(table),
                printed(table).unwrap()
            )
        })
        .collect();
    let all = different.len();
    different.sort_by_key(String::len);
    different.truncate(4);
    assert!(
        different.is_empty(),
        "seed {seed}: {all}\n{}",
        different.join("\n=====\n")
    );
}

#[test]
fn a_table_that_would_fill_the_memory_is_refused() {
    let long = "x".repeat(1 << 20);
    let mut rows = vec![Map::from_iter([("text".to_owned(), json!(long))])];
    rows.extend((0..59).map(|_| Map::from_iter([("text".to_owned(), json!("short"))])));
    assert_eq!(printed(&rows).unwrap_err().code, "table_too_large");
    assert!(printed(&rows[..3]).is_ok());
}
