//! Documents that are refused, and why; and that none of them panics.

use std::time::{Duration, Instant};

use flowfleet_engine::{CompileLimits, EngineKind, FlowError, MAX_PROBLEMS, Plan, compile};
use serde_json::{Value as Json, json};

use crate::draw::Draw;
use crate::run::plan;

fn chat() -> Draw {
    Draw::new().node("ChatInput-a").node("ChatOutput-b").edge(
        "ChatInput-a",
        "message",
        "ChatOutput-b",
        "input_value",
    )
}

fn compile_json(document: &Json) -> Result<Plan, FlowError> {
    compile(&serde_json::to_vec(document).unwrap(), &CompileLimits::default())
}

/// `(pointer, detail)` of each problem.
fn problems(result: Result<Plan, FlowError>) -> Vec<(String, String)> {
    result
        .unwrap_err()
        .problems
        .into_iter()
        .map(|problem| (problem.pointer, problem.detail))
        .collect()
}

#[test]
fn what_is_not_a_flow() {
    for (bytes, pointer, detail) in [
        (&b""[..], "", "not valid JSON"),
        (b"\xff\xfe", "", "not valid JSON"),
        (b"{", "", "not valid JSON"),
        (b"[]", "", "expected a JSON object"),
        (b"3", "", "expected a JSON object"),
        (b"{}", "/nodes", "missing"),
        (b"{\"data\": 3}", "/data", "must be an object"),
        (b"{\"data\": {}}", "/data/nodes", "missing"),
        (b"{\"data\": {\"nodes\": 3}}", "/data/nodes", "must be an array"),
        (
            b"{\"data\": {\"nodes\": [], \"edges\": 3}}",
            "/data/edges",
            "must be an array",
        ),
        (b"{\"data\": {\"nodes\": []}}", "/data/nodes", "no nodes"),
        (b"{\"flows\": []}", "/flows", "several flows"),
    ] {
        let found = problems(compile(bytes, &CompileLimits::default()));
        assert!(
            found[0].0 == pointer && found[0].1.contains(detail),
            "{bytes:?}: {found:?}"
        );
    }
}

#[test]
fn each_broken_part_is_named() {
    type Break = fn(&mut Json);
    let cases: [(Break, &str, &str); 16] = [
        (
            |d| d["data"]["nodes"][0] = json!(3),
            "/data/nodes/0",
            "must be an object",
        ),
        (
            |d| d["data"]["nodes"][0]["id"] = json!(7),
            "/data/nodes/0/id",
            "needs an id",
        ),
        (
            |d| d["data"]["nodes"][1]["id"] = json!("ChatInput-a"),
            "/data/nodes/1/id",
            "same id",
        ),
        (
            |d| d["data"]["nodes"][0]["data"] = json!(null),
            "/data/nodes/0/data",
            "missing",
        ),
        (
            |d| d["data"]["nodes"][0]["data"]["type"] = json!(""),
            "/data/nodes/0/data/type",
            "missing",
        ),
        (
            |d| d["data"]["nodes"][0]["data"]["node"] = json!([]),
            "/data/nodes/0/data/node",
            "missing",
        ),
        (
            |d| d["data"]["nodes"][0]["data"]["node"]["template"] = json!("x"),
            "/data/nodes/0/data/node/template",
            "missing",
        ),
        (
            |d| d["data"]["edges"][0] = json!("x"),
            "/data/edges/0",
            "must be an object",
        ),
        (
            |d| d["data"]["edges"][0]["source"] = json!("gone"),
            "/data/edges/0/source",
            "no node gone",
        ),
        (
            |d| d["data"]["edges"][0]["target"] = json!(null),
            "/data/edges/0/target",
            "missing",
        ),
        (
            |d| d["data"]["edges"][0]["data"]["sourceHandle"] = json!("nonsense"),
            "/data/edges/0/data/sourceHandle",
            "no readable handle",
        ),
        (
            |d| d["data"]["edges"][0]["data"]["sourceHandle"]["name"] = json!("nothing"),
            "/data/edges/0/data/sourceHandle/name",
            "no output nothing; it has message",
        ),
        (
            |d| d["data"]["edges"][0]["data"]["targetHandle"]["fieldName"] = json!("nowhere"),
            "/data/edges/0/data/targetHandle/fieldName",
            "no field nowhere",
        ),
        (
            |d| {
                d["data"]["edges"][0]["data"]["targetHandle"] =
                    json!({"name": "item", "output_types": ["Data"]});
            },
            "/data/edges/0/data/targetHandle/name",
            "which takes none",
        ),
        (
            |d| {
                d["data"]["edges"][0]["data"]["targetHandle"]["inputTypes"] = json!(["Table"]);
            },
            "/data/edges/0",
            "gives Message on message, but ChatOutput-b takes Table",
        ),
        (
            |d| d["data"]["edges"][0]["data"] = json!({}),
            "/data/edges/0/sourceHandle",
            "no readable handle",
        ),
    ];
    for (make, pointer, detail) in cases {
        let mut document = chat().document;
        make(&mut document);
        let found = problems(compile_json(&document));
        assert!(
            found[0].0 == pointer && found[0].1.contains(detail),
            "{pointer} {detail}: {found:?}"
        );
    }
}

#[test]
fn all_problems_are_found_up_to_a_limit() {
    let mut document = chat().document;
    document["data"]["nodes"][0]["data"]["type"] = json!(3);
    document["data"]["edges"][0]["source"] = json!("gone");
    let error = compile_json(&document).unwrap_err();
    assert_eq!(error.problems.len(), 2);
    assert!(error.to_string().ends_with("(and 1 more)"), "{error}");
    let many: Vec<Json> = (0..5000).map(Json::from).collect();
    let error = compile_json(&json!({"data": {"nodes": many, "edges": []}})).unwrap_err();
    assert_eq!(error.problems.len(), MAX_PROBLEMS);
}

#[test]
fn a_cycle_is_refused_by_name() {
    let draw = Draw::new()
        .node("Prompt-a")
        .variable("Prompt-a", "x", "")
        .node("Prompt-b")
        .variable("Prompt-b", "x", "")
        .node("Prompt-c")
        .variable("Prompt-c", "x", "")
        .edge("Prompt-a", "prompt", "Prompt-b", "x")
        .edge("Prompt-b", "prompt", "Prompt-a", "x")
        .edge("Prompt-b", "prompt", "Prompt-c", "x");
    let found = problems(compile_json(&draw.document));
    assert_eq!(found.len(), 1);
    assert!(
        found[0].1.contains("cycle") && found[0].1.contains("Prompt-a") && found[0].1.contains("Prompt-b")
    );
    assert!(!found[0].1.contains("Prompt-c"));
}

#[test]
fn large_and_deep_documents_are_refused_quickly() {
    let started = Instant::now();
    let mut large = chat().bytes();
    large.resize(50 << 20, b' ');
    assert!(
        problems(compile(&large, &CompileLimits::default()))[0]
            .1
            .contains("bytes")
    );
    let deep = "[".repeat(1 << 20);
    assert!(
        problems(compile(deep.as_bytes(), &CompileLimits::default()))[0]
            .1
            .contains("nested")
    );
    let deep = format!("{}1{}", "{\"a\":".repeat(100_000), "}".repeat(100_000));
    assert!(
        problems(compile(deep.as_bytes(), &CompileLimits::default()))[0]
            .1
            .contains("nested")
    );
    let mut document = Draw::new().document;
    let node = chat().document["data"]["nodes"][0].clone();
    let nodes = (0..2001).map(|i| {
        let mut node = node.clone();
        node["id"] = json!(format!("ChatInput-{i}"));
        node
    });
    document["data"]["nodes"] = nodes.collect();
    assert!(problems(compile_json(&document))[0].1.contains("too large"));
    assert!(
        started.elapsed() < Duration::from_secs(20),
        "{:?}",
        started.elapsed()
    );
}

#[test]
fn notes_are_skipped_and_bare_flows_and_string_handles_are_understood() {
    let mut document = chat().document;
    let note = json!({"id": "note-1", "type": "noteNode", "data": {}});
    document["data"]["nodes"].as_array_mut().unwrap().push(note);
    let edge = &mut document["data"]["edges"][0];
    for side in ["sourceHandle", "targetHandle"] {
        edge[side] = json!(edge["data"][side].to_string().replace('"', "œ"));
    }
    edge.as_object_mut().unwrap().remove("data");
    assert_eq!(compile_json(&document).unwrap().nodes(), 2);
    assert_eq!(compile_json(&document["data"]).unwrap().nodes(), 2);
    // A refusal points to where the handle stands.
    let mut refused = document.clone();
    refused["data"]["edges"][0]["sourceHandle"] = json!("{œnameœ: œnothingœ}");
    assert_eq!(
        problems(compile_json(&refused))[0].0,
        "/data/edges/0/sourceHandle/name"
    );
    let with_mark = [&b"\xef\xbb\xbf"[..], &serde_json::to_vec(&document).unwrap()].concat();
    assert!(compile(&with_mark, &CompileLimits::default()).is_ok());
}

#[test]
fn what_never_runs_is_a_warning_and_needs_no_engine() {
    let mut draw = chat().node("TextInput-x").node("Prompt-y");
    draw.body("Prompt-y")["template"]["code"] = json!({"type": "code", "value": "print(1)"});
    let plan = plan(&draw);
    assert_eq!(plan.engine(), EngineKind::Native);
    let [warning] = plan.warnings() else {
        panic!("{:?}", plan.warnings())
    };
    assert!(
        warning.contains("TextInput-x, Prompt-y") && warning.contains("ChatInput-a"),
        "{warning}"
    );
    assert_eq!(plan.node_list().len(), 4);
}

#[test]
fn what_only_python_can_run_is_named() {
    type Break = fn(&mut Json);
    let cases: [(Break, &str); 5] = [
        (
            |body| body["template"]["code"] = json!({"type": "code", "value": "x = 1"}),
            "edited code of Prompt",
        ),
        (
            |body| body["template"]["code"] = json!({"type": "code"}),
            "edited code of Prompt",
        ),
        (
            |body| body["metadata"] = json!({"module": "a.b.Own"}),
            "no native implementation",
        ),
        (
            |body| body["metadata"] = json!({"module": "lfx.ChatInput"}),
            "name different components",
        ),
        (|body| body["tool_mode"] = json!(true), "used as a tool"),
    ];
    for (make, reason) in cases {
        let mut draw = Draw::new().node("Prompt-p").node("ChatOutput-o").edge(
            "Prompt-p",
            "prompt",
            "ChatOutput-o",
            "input_value",
        );
        make(draw.body("Prompt-p"));
        let plan = plan(&draw);
        assert_eq!(plan.engine(), EngineKind::Python);
        assert_eq!(serde_json::to_value(plan.engine()).unwrap(), "python");
        let [unsupported] = plan.unsupported() else {
            panic!("{:?}", plan.unsupported())
        };
        assert_eq!(
            (unsupported.node.as_str(), unsupported.component.as_str()),
            ("Prompt-p", "Prompt")
        );
        assert!(unsupported.reason.contains(reason), "{}", unsupported.reason);
    }
}
