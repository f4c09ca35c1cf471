//! Documents that mean harm or make no sense: refused, quickly, and never with a panic.

use std::time::{Duration, Instant};

use flowfleet_engine::{CompileLimits, FlowError, MAX_PROBLEMS, Plan, compile};
use proptest::prelude::*;
use serde_json::{Value as Json, json};

fn compile_json(document: &Json) -> Result<Plan, FlowError> {
    compile(&serde_json::to_vec(document).unwrap(), &CompileLimits::default())
}

/// Documents within the limits that would make a naive compiler work for minutes or report gigabytes.
#[test]
fn the_work_and_the_report_are_bounded() {
    let handles = |types: &Json| {
        json!({
            "sourceHandle": {"id": "a", "name": "o", "output_types": types},
            "targetHandle": {"id": "b", "fieldName": "f", "inputTypes": ["none"], "type": "str"},
        })
    };
    let node = |id: &str, outputs: Json| {
        let body = json!({"template": {"f": {"type": "str", "input_types": ["none"]}}, "outputs": outputs});
        json!({"id": id, "data": {"type": "X", "node": body}})
    };
    let types: Vec<Json> = (0..200_000).map(|i| json!(format!("t{i}"))).collect();
    let many_types = json!(types);
    let nodes = json!([
        node("a", json!([{"name": "o", "types": many_types}])),
        node("b", json!([]))
    ]);
    let edge = json!({"source": "a", "target": "b", "data": handles(&many_types)});
    let long_id = "x".repeat(8 << 20);
    let short = json!({"source": "a", "target": "b", "data": handles(&json!([]))});
    let group = |inner: Json| json!({"id": "g", "data": {"type": "G", "node": {"template": {}, "flow": {"data": {"nodes": inner}}}}});
    for document in [
        json!({"nodes": nodes, "edges": [edge]}),
        json!({"nodes": nodes, "edges": vec![short; 30_000]}),
        json!({"nodes": [node("a", json!([])), node(&long_id, json!([]))]}),
        json!({"nodes": vec![group(json!([])); 50_000]}),
        json!({"nodes": [group(json!(vec![group(json!([])); 50_000]))]}),
        json!({"nodes": [node("a", json!([]))], "edges": vec![json!({"source": "y".repeat(1000), "target": "a"}); 10_000]}),
    ] {
        let document = serde_json::to_vec(&document).unwrap();
        assert!(
            document.len() <= CompileLimits::default().bytes,
            "{}",
            document.len()
        );
        let started = Instant::now();
        let error = compile(&document, &CompileLimits::default()).unwrap_err();
        assert!(
            started.elapsed() < Duration::from_secs(20),
            "{:?}: {error}",
            started.elapsed()
        );
        assert!(format!("{error:?}").len() < 500_000);
    }
}

/// Any JSON, with the keys of flows more often than others.
fn any_json() -> impl Strategy<Value = Json> {
    let key = prop_oneof![
        proptest::sample::select(vec![
            "data",
            "nodes",
            "edges",
            "id",
            "type",
            "node",
            "template",
            "outputs",
            "flow",
            "source",
            "target",
            "name",
            "sourceHandle",
            "targetHandle",
            "fieldName",
            "proxy",
            "field",
            "types",
            "value",
            "show",
            "code",
        ])
        .prop_map(str::to_owned),
        ".{0,4}",
    ];
    let leaf = prop_oneof![
        Just(Json::Null),
        any::<bool>().prop_map(Json::from),
        any::<i64>().prop_map(Json::from),
        proptest::sample::select(vec!["a", "b", "ChatInput", "Prompt", "{œnameœ:œaœ}"]).prop_map(Json::from),
        ".{0,8}".prop_map(Json::from),
    ];
    leaf.prop_recursive(6, 96, 8, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..6).prop_map(Json::from),
            proptest::collection::btree_map(key.clone(), inner, 0..6)
                .prop_map(|m| Json::Object(m.into_iter().collect())),
        ]
    })
}

/// Pointers to everything in a document.
fn pointers(value: &Json, at: String, found: &mut Vec<String>) {
    match value {
        Json::Object(object) => object
            .iter()
            .for_each(|(key, value)| pointers(value, format!("{at}/{key}"), found)),
        Json::Array(items) => {
            items
                .iter()
                .enumerate()
                .for_each(|(i, value)| pointers(value, format!("{at}/{i}"), found));
        }
        _ => {}
    }
    found.push(at);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
        let _ = compile(&bytes, &CompileLimits::default());
    }

    #[test]
    fn no_json_panics(nodes in any_json(), edges in any_json(), whole in any_json()) {
        for document in [whole, json!({"data": {"nodes": [nodes], "edges": [edges]}}), json!({"nodes": nodes, "edges": edges})] {
            if let Err(error) = compile_json(&document) {
                prop_assert!(!error.problems.is_empty() && error.problems.len() <= MAX_PROBLEMS);
            }
        }
    }

    /// A good flow with one part replaced by anything either compiles or is refused with a reason.
    #[test]
    fn no_damaged_flow_panics(part in any::<prop::sample::Index>(), damage in any_json()) {
        let mut document = crate::groups::grouped().document;
        let mut places = Vec::new();
        pointers(&document, String::new(), &mut places);
        *document.pointer_mut(part.get::<String>(&places)).unwrap() = damage;
        if let Err(error) = compile_json(&document) {
            prop_assert!(!error.problems.is_empty());
        }
    }
}
