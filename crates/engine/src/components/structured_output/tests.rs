//! What is asked, and what is made of answers, on a server that answers from a list.

use std::sync::Arc;

use super::super::testing::{call, context, edge, field};
use super::*;
use crate::component::{Kind, Param};
use crate::model::tests::{Answer, Scripted, response};
use crate::value::Message;

/// A call of the tool with these arguments.
fn calls(name: &str, arguments: &str) -> Answer {
    let call =
        json!({"id": "call_0", "type": "function", "function": {"name": name, "arguments": arguments}});
    let message = json!({"role": "assistant", "content": null, "tool_calls": [call]});
    answered(&message)
}

fn says(text: &str) -> Answer {
    answered(&json!({"role": "assistant", "content": text}))
}

fn answered(message: &Json) -> Answer {
    let body = json!({
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 5, "completion_tokens": 3},
    });
    response(200, "", &body.to_string())
}

async fn ran(
    answers: Vec<Answer>,
    params: &[(&str, Param)],
) -> (Result<NodeOutput, &'static str>, Vec<Json>) {
    let server = Scripted::start(answers).await;
    let (mut ctx, _) = context(&[("OPENAI_API_KEY", "sk"), ("OPENAI_BASE_URL", &server.base)]);
    let run_context = Arc::make_mut(&mut ctx.run);
    Arc::make_mut(&mut run_context.model).limits.max_retries = 0;
    let schema = json!([{"name": "n", "description": "how many", "type": "int", "multiple": "False"}]);
    let mut all = vec![
        (
            "model",
            field(json!([{"name": "gpt-4o-mini", "provider": "OpenAI"}])),
        ),
        ("input_value", edge(Message::of("five"))),
        ("system_prompt", field("extract")),
        ("output_schema", field(schema)),
    ];
    all.extend_from_slice(params);
    let made = run(&call(Kind::StructuredOutput, &all), &ctx).await;
    (made.map_err(|error| error.code), server.bodies())
}

fn values(made: Result<NodeOutput, &'static str>) -> (Json, Json) {
    let values = made.unwrap().values;
    match (&values[DATA], &values[TABLE]) {
        (Value::Data(data), Value::Table(rows)) => (json!(data), json!(rows)),
        other => panic!("{other:?}"),
    }
}

/// The request is the one that lfx 1.13 was seen to send.
#[tokio::test]
async fn one_object_is_data_and_a_row() {
    let (made, asked) = ran(
        vec![calls("OutputModel", r#"{"objects": [{"n": "5", "m": 1}]}"#)],
        &[],
    )
    .await;
    let usage = made.as_ref().unwrap().usage;
    assert_eq!((usage.input_tokens, usage.output_tokens), (5, 3));
    assert_eq!(values(made), (json!({"n": 5}), json!([{"n": 5}])));
    let list = Schema::of(&[json!({"name": "n", "description": "how many", "type": "int"})]).unwrap();
    let function = json!({
        "name": "OutputModel", "description": "A list of OutputModel.", "parameters": list.list("OutputModel", false),
    });
    let expected = json!({
        "messages": [{"content": "extract", "role": "system"}, {"content": "five", "role": "user"}],
        "model": "gpt-4o-mini",
        "stream": false,
        "tool_choice": {"type": "function", "function": {"name": "OutputModel"}},
        "tools": [{"type": "function", "function": function}],
    });
    assert_eq!(asked, [expected]);
}

#[tokio::test]
async fn several_objects_are_results() {
    let both = r#"{"objects": [{"n": 5}, {"n": 6.0}]}"#;
    let (made, _) = ran(vec![calls("Count", both)], &[("schema_name", field("Count"))]).await;
    let rows = json!([{"n": 5}, {"n": 6}]);
    assert_eq!(values(made), (json!({"results": rows}), rows));
}

#[tokio::test]
async fn a_wrong_call_is_corrected() {
    let wrong = calls("OutputModel", r#"{"objects": [{}]}"#);
    let right = calls("OutputModel", r#"{"objects": [{"n": 1}]}"#);
    let (made, asked) = ran(vec![wrong.clone(), right], &[]).await;
    assert_eq!(made.as_ref().unwrap().usage.input_tokens, 10);
    assert_eq!(values(made).0, json!({"n": 1}));
    let told = &asked[1]["messages"][3];
    assert_eq!(told["tool_call_id"], "call_0");
    assert!(
        told["content"]
            .as_str()
            .unwrap()
            .contains("objects.0.n: is missing"),
        "{told}"
    );
    let (made, asked) = ran(vec![wrong], &[]).await;
    assert_eq!((made, asked.len()), (Err("model_answer_unfit"), 1 + CORRECTIONS));
}

#[tokio::test]
async fn without_a_call_there_is_nothing() {
    for answer in [
        says("five"),
        calls("OutputModel", "nonsense"),
        calls("OutputModel", "[]"),
    ] {
        let (made, asked) = ran(vec![answer], &[]).await;
        assert_eq!((made, asked.len()), (Err("model_answer_unfit"), 1));
    }
}

#[tokio::test]
async fn a_server_without_tools_is_asked_for_json() {
    let refused = response(400, "", r#"{"error": {"message": "no tools here"}}"#);
    let (made, asked) = ran(vec![refused.clone(), says(r#"{"objects": [{"n": 7}]}"#)], &[]).await;
    assert_eq!(values(made).0, json!({"n": 7}));
    assert_eq!(asked[1]["response_format"]["json_schema"]["strict"], true);
    assert_eq!(
        (&asked[1]["tools"], &asked[1]["messages"]),
        (&Json::Null, &asked[0]["messages"])
    );
    let (made, asked) = ran(vec![refused], &[]).await;
    assert_eq!((made, asked.len()), (Err("model_bad_request"), 2));
}

#[tokio::test]
async fn what_cannot_be_asked() {
    for (params, code) in [
        (vec![("output_schema", field(json!([])))], "field_invalid"),
        (
            vec![("output_schema", field(json!([{"name": "d", "type": "date"}])))],
            "field_invalid",
        ),
        (
            vec![("input_value", field("")), ("system_prompt", field(""))],
            "field_required",
        ),
        (vec![("model", field(json!([])))], "field_required"),
    ] {
        let (made, asked) = ran(vec![says("x")], &params).await;
        assert_eq!((made.err(), asked.len()), (Some(code), 0));
    }
}
