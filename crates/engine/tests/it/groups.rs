//! Group nodes: drawn as one node, run as what is inside.

use serde_json::{Value as Json, json};

use crate::draw::Draw;
use crate::run::{Runner, plan};

/// Puts a flow into a group node: `fields` are `(group field, inner id, inner field)`, `outputs` `(name, proxy)`.
fn group(id: &str, inner: Draw, fields: &[(&str, &str, &str)], outputs: &Json) -> Json {
    let mut inner = inner;
    let mut template = json!({});
    for (name, node, field) in fields {
        let mut proxied = inner.body(node)["template"][*field].clone();
        proxied["proxy"] = json!({"id": node, "field": field});
        template[*name] = proxied;
    }
    let body = json!({
        "display_name": "My Group",
        "template": template,
        "outputs": outputs,
        "flow": {"data": inner.document["data"]},
    });
    json!({"id": id, "type": "genericNode", "data": {"id": id, "type": "GroupNode", "node": body}})
}

fn inner() -> Draw {
    Draw::new()
        .node("Prompt-one")
        .set("Prompt-one", "template", "[{x}|{tone}]")
        .variable("Prompt-one", "x", "")
        .variable("Prompt-one", "tone", "calm")
        .node("Prompt-two")
        .set("Prompt-two", "template", "<{y}>")
        .variable("Prompt-two", "y", "")
        .edge("Prompt-one", "prompt", "Prompt-two", "y")
}

fn around(group: Json, output: &str) -> Draw {
    let mut draw = Draw::new().node("ChatInput-a").node("ChatOutput-b");
    draw.document["data"]["nodes"].as_array_mut().unwrap().push(group);
    let edges = json!([
        {
            "source": "ChatInput-a", "target": "Group-g",
            "data": {
                "sourceHandle": {"dataType": "ChatInput", "id": "ChatInput-a", "name": "message", "output_types": ["Message"]},
                "targetHandle": {
                    "fieldName": "x_Prompt-one", "id": "Group-g", "inputTypes": ["Message"], "type": "str",
                    "proxy": {"id": "Prompt-one", "field": "x"},
                },
            },
        },
        {
            "source": "Group-g", "target": "ChatOutput-b",
            "data": {
                "sourceHandle": {"dataType": "GroupNode", "id": "Group-g", "name": output, "output_types": ["Message"]},
                "targetHandle": {"fieldName": "input_value", "id": "ChatOutput-b", "inputTypes": ["Message"], "type": "str"},
            },
        },
    ]);
    draw.document["data"]["edges"] = edges;
    draw
}

pub(crate) fn grouped() -> Draw {
    let fields = [
        ("x_Prompt-one", "Prompt-one", "x"),
        ("tone", "Prompt-one", "tone"),
    ];
    let outputs =
        json!([{"name": "out", "types": ["Message"], "proxy": {"id": "Prompt-two", "name": "prompt"}}]);
    around(group("Group-g", inner(), &fields, &outputs), "out")
}

#[tokio::test]
async fn a_group_runs_as_what_it_holds() {
    let plan = plan(&grouped());
    assert_eq!(plan.nodes(), 4);
    let ran = Runner::new("hi").run(&plan).await;
    assert_eq!(
        ran.started,
        ["ChatInput-a", "Prompt-one", "Prompt-two", "ChatOutput-b"]
    );
    assert_eq!(ran.text(), "<[hi|calm]>");
}

#[tokio::test]
async fn values_and_tweaks_of_the_group_reach_the_inner_node() {
    let draw = grouped().set("Group-g", "tone", "loud");
    let plan = plan(&draw);
    let mut runner = Runner::new("hi");
    assert_eq!(runner.run(&plan).await.text(), "<[hi|loud]>");
    for (key, field) in [("Group-g", "tone"), ("My Group", "tone"), ("Prompt-one", "tone")] {
        runner.request.tweaks = json!({key: {field: "soft"}});
        assert_eq!(runner.run(&plan).await.text(), "<[hi|soft]>", "{key}");
        assert!(plan.request_warnings(&runner.request).is_empty());
    }
}

#[tokio::test]
async fn outputs_by_prefixed_name_or_by_the_last_node() {
    let fields = [("x_Prompt-one", "Prompt-one", "x")];
    for output in ["Prompt-two_prompt", "Elsewhere-x_prompt"] {
        let plan = plan(&around(group("Group-g", inner(), &fields, &json!([])), output));
        assert_eq!(
            Runner::new("hi").run(&plan).await.text(),
            "<[hi|calm]>",
            "{output}"
        );
    }
}

#[tokio::test]
async fn a_group_in_a_group() {
    let fields = [("x", "Prompt-one", "x"), ("tone", "Prompt-one", "tone")];
    let outputs =
        json!([{"name": "out", "types": ["Message"], "proxy": {"id": "Prompt-two", "name": "prompt"}}]);
    let mut middle = Draw::new();
    let nested = group("Group-inner", inner(), &fields, &outputs);
    middle.document["data"]["nodes"]
        .as_array_mut()
        .unwrap()
        .push(nested);
    let fields = [
        ("x_Prompt-one", "Group-inner", "x"),
        ("tone", "Group-inner", "tone"),
    ];
    let outputs =
        json!([{"name": "out", "types": ["Message"], "proxy": {"id": "Group-inner", "name": "out"}}]);
    let mut draw = around(group("Group-g", middle, &fields, &outputs), "out");
    let handle = &mut draw.document["data"]["edges"][0]["data"]["targetHandle"];
    handle["proxy"] = json!({"id": "Group-inner", "field": "x"});
    let plan = plan(&draw.set("Group-g", "tone", "loud"));
    let mut runner = Runner::new("hi");
    assert_eq!(runner.run(&plan).await.text(), "<[hi|loud]>");
    runner.request.tweaks = json!({"Group-g": {"tone": "soft"}});
    assert_eq!(runner.run(&plan).await.text(), "<[hi|soft]>");
}

#[test]
fn a_group_cannot_replace_inner_code() {
    let mut inside = inner();
    inside.body("Prompt-one")["template"]["code"] = json!({"type": "code", "value": "own", "show": true});
    let fields = [("x_Prompt-one", "Prompt-one", "x"), ("c", "Prompt-one", "code")];
    let mut outer = group("Group-g", inside, &fields, &json!([]));
    outer["data"]["node"]["template"]["c"]["value"] = json!("other");
    let plan = plan(&around(outer, "Prompt-two_prompt"));
    let [unsupported] = plan.unsupported() else {
        panic!("{:?}", plan.unsupported())
    };
    assert!(
        unsupported.reason.contains("edited code"),
        "{}",
        unsupported.reason
    );
    let mut runner = Runner::new("hi");
    runner.request.tweaks = json!({"Group-g": {"c": "evil"}});
    assert_eq!(plan.check(&runner.request).unwrap_err().code, "TWEAKS_REFUSED");
}
