//! Rows as texts, tags, and a place without knowledge.

use serde_json::{Map, Value as Json, json};

use super::super::testing::{call, context, edge, field};
use super::*;
use crate::value::Message;
use rows::{Cells, columns};

fn object(value: &Json) -> Map<String, Json> {
    value.as_object().cloned().unwrap()
}

/// Each expectation is what lfx makes of the rows: text, the start of the hash, metadata.
#[test]
fn rows_become_texts() {
    let on = |name: &str, vectorize: Json, identifier: Json| json!({"column_name": name, "vectorize": vectorize, "identifier": identifier});
    let (yes, no) = (json!(true), json!(false));
    for (rows, config, expected) in [
        (
            json!([{"text": "a", "n": 1, "m": 2.5, "z": null}]),
            json!([on("text", yes.clone(), yes.clone())]),
            json!([["a", "ca978112ca1b", {"n": "1", "m": "2.5"}]]),
        ),
        (
            json!([{"n": 1, "m": 2.5}, {"n": 2}]),
            json!([on("n", json!("true"), Json::Null)]),
            json!([["1.0", "d0ff5974b6aa", {"m": "2.5"}], ["2.0", "d84bdb34d4ee", {}]]),
        ),
        (
            json!([{"n": 1, "b": true}, {"n": 2, "b": false}]),
            json!([
                on("n", yes.clone(), Json::Null),
                on("b", Json::Null, json!("Yes "))
            ]),
            json!([["1", "3cbc87c7681f", {"b": "True"}], ["2", "60a33e6cf515", {"b": "False"}]]),
        ),
        (
            json!([{"text": "t", "t": "x", "l": [1, "a"], "e": [], "d": {"k": [null, 1.0]}, "_id": "q"}]),
            json!([on("t", json!(1), json!(0))]),
            json!([["t", "2d711642b726", {"l": "[1, 'a']", "d": "{'k': [None, 1.0]}"}]]),
        ),
        (
            json!([{"a": "x", "n": 3}, {"b": "y", "n": null}]),
            json!([
                on("a", yes.clone(), no.clone()),
                on("b", yes.clone(), no.clone()),
                on("n", no.clone(), yes.clone())
            ]),
            json!([["x", "a416ea84421f", {"n": "3.0"}], ["y", "e3b0c44298fc", {}]]),
        ),
        (
            json!([{"a": "x", "l": [null, 1]}]),
            json!([on("a", no.clone(), no.clone())]),
            json!([["", "e3b0c44298fc", {"a": "x"}]]),
        ),
        (
            json!([{"n": 1, "m": 2}, {"n": 2, "m": 3}]),
            json!([on("m", yes.clone(), no.clone())]),
            json!([["2", "d4735e3a265e", {"n": "1"}], ["3", "4e07408562be", {"n": "2"}]]),
        ),
        (
            json!([{"f": 1e20, "s": "é"}, {"f": 0.1, "s": ""}]),
            json!([on("f", yes.clone(), no.clone()), on("s", yes, no)]),
            json!([["1e+20 é", "aa3ad764c8b5", {}], ["0.1 ", "e168bcedd016", {}]]),
        ),
    ] {
        let rows: Vec<_> = rows.as_array().unwrap().iter().map(object).collect();
        let cells = Cells::of(&rows);
        let columns = columns(config.as_array().unwrap(), cells.names()).unwrap();
        let texts = cells.texts(&columns).into_iter().map(|mut text| {
            text.metadata.shift_remove("_id");
            json!([text.content, text.hash[..12], text.metadata])
        });
        assert_eq!(Json::from_iter(texts), expected);
    }
}

#[test]
fn tags_are_what_python_prints() {
    let tags = tags(Some(&json!(
        "{\"y\": 2026, \"k\": [\"a\", true, null], \"n\": null, \"o\": {\"b\": 1}}"
    )));
    let found = json!(tags);
    assert_eq!(
        found,
        json!({"k": ["None", "True", "a"], "o": ["{'b': 1}"], "y": ["2026"]})
    );
    for none in [
        None,
        Some(&json!("[1]")),
        Some(&json!("no JSON")),
        Some(&json!(5)),
    ] {
        assert!(super::tags(none).is_empty(), "{none:?}");
    }
}

#[tokio::test]
async fn without_a_place_for_knowledge_it_says_so() {
    let (ctx, _) = context(&[]);
    for mode in [BRING, FIND] {
        let params = [
            ("mode", field(mode)),
            ("knowledge_base", field("docs")),
            ("input_df", edge(Message::of("x"))),
        ];
        let error = run(&call(Kind::Knowledge, &params), &ctx).await.unwrap_err();
        assert_eq!(error.code, UNAVAILABLE, "{error}");
    }
}
