//! Agents against a model server that follows a script.

use std::sync::{Arc, Mutex};

use serde_json::{Value as Json, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::super::testing::{call, context, edge, field, text_of};
use super::*;
use crate::component::Param;

/// One answer of the model: text, and calls as `(name, arguments)`.
type Turn = (&'static str, Vec<(&'static str, &'static str)>);

/// Streams the turns, the last one from then on, and keeps what it was asked.
async fn model(turns: Vec<Turn>) -> (String, Arc<Mutex<Vec<Json>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}/v1", listener.local_addr().unwrap());
    let asked = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&asked);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut bytes = Vec::new();
            let body: Json = loop {
                let mut chunk = [0; 8192];
                let read = stream.read(&mut chunk).await.unwrap();
                bytes.extend_from_slice(&chunk[..read]);
                let text = String::from_utf8_lossy(&bytes);
                let body = text.split_once("\r\n\r\n").map(|(_, body)| body);
                if let Some(body) = body.and_then(|body| serde_json::from_str(body).ok()) {
                    break body;
                }
            };
            let number = seen.lock().unwrap().len();
            seen.lock().unwrap().push(body);
            let answer = streamed(&turns[number.min(turns.len() - 1)], number);
            let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n";
            stream
                .write_all(format!("{head}{answer}").as_bytes())
                .await
                .unwrap();
            let _ = stream.shutdown().await;
        }
    });
    (base, asked)
}

/// Calls in pieces, as servers send them: the name first, then the arguments bit by bit.
fn streamed((text, calls): &Turn, number: usize) -> String {
    let mut out = String::new();
    let mut send = |delta: Json, reason: Option<&str>| {
        let piece = json!({"choices": [{"index": 0, "delta": delta, "finish_reason": reason}]});
        out.push_str(&format!("data: {piece}\n\n"));
    };
    for word in text.split_inclusive(' ') {
        send(json!({"content": word}), None);
    }
    for (index, (name, arguments)) in calls.iter().enumerate() {
        let id = format!("call_{number}_{index}");
        let function = json!({"name": name, "arguments": ""});
        send(
            json!({"tool_calls": [{"index": index, "id": id, "type": "function", "function": function}]}),
            None,
        );
        for piece in arguments.split_inclusive(':') {
            send(
                json!({"tool_calls": [{"index": index, "function": {"arguments": piece}}]}),
                None,
            );
        }
    }
    send(
        json!({}),
        Some(if calls.is_empty() { "stop" } else { "tool_calls" }),
    );
    let usage = json!({"choices": [], "usage": {"prompt_tokens": 10, "completion_tokens": 3}});
    out.push_str(&format!("data: {usage}\n\ndata: [DONE]\n\n"));
    out
}

fn agent(more: &[(&str, Param)]) -> NodeCall {
    let mut params = vec![
        (
            "model",
            field(json!([{"name": "gpt-4o-mini", "provider": "OpenAI"}])),
        ),
        ("input_value", edge(Message::of("hello"))),
        (
            "system_prompt",
            field("It is {current_date}, you are {model_name}{optional_user_context} {x}."),
        ),
        ("add_current_date_tool", field(true)),
        ("add_calculator_tool", field(true)),
        ("max_iterations", field(15)),
    ];
    params.retain(|(name, _)| more.iter().all(|(other, _)| other != name));
    params.extend(more.iter().cloned());
    call(Kind::Agent, &params)
}

struct Ran {
    output: NodeOutput,
    asked: Vec<Json>,
    tokens: String,
}

impl Ran {
    fn text(&self) -> String {
        text_of(&self.output, OUTPUT)
    }

    fn tools(&self) -> Vec<&str> {
        let tools = self.asked[0]["tools"]
            .as_array()
            .map(Vec::as_slice)
            .unwrap_or_default();
        tools
            .iter()
            .filter_map(|tool| tool["function"]["name"].as_str())
            .collect()
    }

    /// What the tools said, as the model was told last.
    fn said(&self) -> Vec<&str> {
        let messages = self.asked.last().unwrap()["messages"].as_array().unwrap();
        messages
            .iter()
            .filter(|message| message["role"] == "tool")
            .filter_map(|message| message["content"].as_str())
            .collect()
    }
}

async fn ran(call: &NodeCall, turns: Vec<Turn>) -> Ran {
    let (base, asked) = model(turns).await;
    let (ctx, tokens) = context(&[("OPENAI_API_KEY", "sk"), ("OPENAI_BASE_URL", &base)]);
    let output = run(call, &ctx).await.unwrap();
    let asked = asked.lock().unwrap().clone();
    let tokens = tokens.lock().unwrap().concat();
    Ran {
        output,
        asked,
        tokens,
    }
}

#[tokio::test]
async fn the_first_question_is_langflows() {
    let ran = ran(&agent(&[]), vec![("hi there", vec![])]).await;
    assert_eq!(ran.text(), "hi there");
    assert_eq!(ran.tokens, "hi there");
    let parameter = |name: &str, default: &str, description: &str| json!({"properties": {name: {"default": default, "description": description, "type": "string"}}, "type": "object"});
    let tool = |name: &str, description: &str, parameters: Json| json!({"type": "function", "function": {"name": name, "description": description, "parameters": parameters}});
    let expected = json!({
        "model": "gpt-4o-mini", "stream": true, "stream_options": {"include_usage": true},
        "messages": [
            {"role": "system", "content": "It is 2026-11-21, you are gpt-4o-mini {x}."},
            {"role": "user", "content": "hello"},
        ],
        "tools": [
            tool(
                "get_current_date",
                "Returns the current date and time in the selected timezone.",
                parameter("timezone", "UTC", "Select the timezone for the current date and time."),
            ),
            tool(
                "evaluate_expression",
                "Perform basic arithmetic operations on a given expression.",
                parameter(
                    "expression",
                    "",
                    "The arithmetic expression to evaluate (e.g., '4*4*(33/22)+12-20').",
                ),
            ),
        ],
    });
    assert_eq!(ran.asked, [expected]);
    let Value::Message(message) = &ran.output.values[OUTPUT] else {
        panic!("{:?}", ran.output)
    };
    let properties = &message.extra["properties"];
    assert_eq!(properties["source"]["source"], "gpt-4o-mini");
    assert_eq!(
        (&properties["icon"], &properties["usage"]["total_tokens"]),
        (&json!("Bot"), &json!(13))
    );
    assert_eq!(message.sender.as_deref(), Some("Machine"));
}

#[tokio::test]
async fn the_agent_before_knew_the_time() {
    let mut call = agent(&[]);
    call.kind = Kind::TimedAgent;
    let ran = ran(&call, vec![("hi", vec![])]).await;
    let instructions = &ran.asked[0]["messages"][0]["content"];
    assert_eq!(
        instructions,
        "It is 2026-11-21 20:48:03 UTC, you are gpt-4o-mini {x}."
    );
}

#[tokio::test]
async fn tools_answer_side_by_side_and_in_order() {
    let calls = vec![
        (
            "evaluate_expression",
            r#"{"expression": "4*4*(33/22)+12-20", "ü": [1.0, 1e20]}"#,
        ),
        ("get_current_date", "{}"),
        ("get_current_date", r#"{"timezone": "Europe/Vienna"}"#),
    ];
    let ran = ran(&agent(&[]), vec![("let me see ", calls), ("done", vec![])]).await;
    assert_eq!(ran.text(), "let me see done");
    assert_eq!(
        ran.output.usage,
        Usage {
            input_tokens: 20,
            output_tokens: 6
        }
    );
    assert_eq!(
        ran.said(),
        [
            r#"{"result": "16"}"#,
            "Current date and time in UTC: 2026-11-21 20:48:03 UTC",
            "Current date and time in Europe/Vienna: 2026-11-21 21:48:03 CET",
        ]
    );
    let turn = &ran.asked[1]["messages"][2];
    assert_eq!(turn["content"], "let me see ");
    assert_eq!(turn["tool_calls"][0]["id"], "call_0_0");
    assert_eq!(
        turn["tool_calls"][0]["function"]["arguments"],
        r#"{"expression": "4*4*(33/22)+12-20", "ü": [1.0, 1e+20]}"#
    );
    assert_eq!(ran.asked[1]["messages"][4]["tool_call_id"], "call_0_1");
}

#[tokio::test]
async fn wrong_calls_are_told() {
    for (name, arguments, said) in [
        (
            "nope",
            "{}",
            "Error: nope is not a valid tool, try one of [get_current_date, evaluate_expression].",
        ),
        (
            "evaluate_expression",
            r#"{"expression": {"a": [1.5, "x'y", true, null]}}"#,
            "Error invoking tool 'evaluate_expression' with kwargs {'expression': {'a': [1.5, \"x'y\", True, None]}} with \
             error:\n expression: Input should be a valid string\n Please fix the error and try again.",
        ),
        (
            "evaluate_expression",
            r#"{"expression": "1+1"#,
            r#"{"result": "2"}"#,
        ),
        (
            "evaluate_expression",
            r#"{"x": 1}"#,
            r#"{"error": "Invalid expression: invalid syntax (<unknown>, line 0)", "input": ""}"#,
        ),
    ] {
        let ran = ran(&agent(&[]), vec![("", vec![(name, arguments)]), ("ok", vec![])]).await;
        assert_eq!(ran.said(), [said]);
        assert_eq!(ran.asked[1]["messages"][2]["content"], Json::Null);
        assert_eq!(ran.text(), "ok");
    }
    let ran = ran(&agent(&[]), vec![("", vec![("evaluate_expression", "[1]")])]).await;
    assert_eq!(
        (ran.text().as_str(), ran.asked.len()),
        ("", 1),
        "no object: the turn ends it"
    );
}

#[tokio::test]
async fn rounds_are_limited() {
    for (limit, rounds) in [(2, 2), (0, 1), (-3, 1)] {
        let forever = vec![("round ", vec![("get_current_date", "{}")])];
        let ran = ran(&agent(&[("max_iterations", field(limit))]), forever).await;
        let said = format!(
            "{}Model call limits exceeded: run limit ({rounds}/{rounds})",
            "round ".repeat(rounds)
        );
        assert_eq!((ran.text(), ran.asked.len()), (said.clone(), rounds));
        assert_eq!(ran.tokens, said);
    }
}

#[tokio::test]
async fn fields_change_the_question() {
    let answer = || vec![("x", vec![])];
    let none = [
        ("add_current_date_tool", field(false)),
        ("add_calculator_tool", field(false)),
    ];
    assert_eq!(ran(&agent(&none), answer()).await.asked[0].get("tools"), None);
    let limited = ran(&agent(&[("max_tokens", field(77))]), answer()).await;
    assert_eq!(limited.asked[0]["max_completion_tokens"], 77);
    let empty = ran(
        &agent(&[("input_value", field("  ")), ("system_prompt", field(""))]),
        answer(),
    )
    .await;
    let expected =
        json!([{"role": "system", "content": ""}, {"role": "user", "content": "Continue the conversation."}]);
    assert_eq!(empty.asked[0]["messages"], expected);
    let machine = Message {
        sender: Some("Machine".to_owned()),
        ..Message::of("from another agent")
    };
    let chained = ran(&agent(&[("input_value", edge(machine))]), answer()).await;
    assert_eq!(chained.asked[0]["messages"][1]["role"], "user");
    let old = [
        ("model", field("")),
        ("agent_llm", field("OpenAI")),
        ("model_name", field("o3")),
    ];
    let old = ran(&agent(&old), answer()).await;
    assert_eq!(
        (&old.asked[0]["model"], &old.asked[0]["messages"][0]["role"]),
        (&json!("o3"), &json!("developer"))
    );
}

#[tokio::test]
async fn connected_tools_come_first_under_names_of_their_own() {
    let calculator = |id: &str, actions: Option<Json>| {
        let actions = actions.map(|actions| ("tools_metadata", field(actions)));
        let mut found = call(Kind::Calculator, actions.as_slice());
        Arc::make_mut(&mut found.node).id = id.to_owned();
        found
    };
    let with = async |tools: Vec<NodeCall>, turns| {
        let mut call = agent(&[]);
        call.tools = tools;
        ran(&call, turns).await
    };
    let answer = || vec![("x", vec![])];
    let one = with(vec![calculator("CalculatorComponent-a", None)], answer()).await;
    assert_eq!(one.tools(), ["evaluate_expression", "get_current_date"]);
    let two = vec![
        calculator("CalculatorComponent-0abc", None),
        calculator("Calculator Component-1", None),
    ];
    let expected = [
        "evaluate_expression_CalculatorComponent_0abc",
        "evaluate_expression_Calculator_Component_1",
        "get_current_date",
        "evaluate_expression",
    ];
    assert_eq!(with(two, answer()).await.tools(), expected);
    let action = |status: bool| json!([{"name": "sum", "description": "Adds", "status": status, "tags": ["evaluate_expression"]}]);
    let calls = vec![("", vec![("sum", r#"{"expression": "3*3"}"#)]), ("ok", vec![])];
    let renamed = with(vec![calculator("c", Some(action(true)))], calls).await;
    assert_eq!(
        renamed.tools(),
        ["sum", "get_current_date", "evaluate_expression"]
    );
    assert_eq!(renamed.asked[0]["tools"][0]["function"]["description"], "Adds");
    assert_eq!(renamed.said(), [r#"{"result": "9"}"#]);
    for left_out in [action(false), json!([])] {
        let without = with(vec![calculator("c", Some(left_out))], answer()).await;
        assert_eq!(without.tools(), ["get_current_date", "evaluate_expression"]);
    }
}

#[tokio::test]
async fn what_cannot_be_asked_is_refused_before() {
    let key = [
        ("OPENAI_API_KEY", "sk"),
        ("OPENAI_BASE_URL", "http://127.0.0.1:1/v1"),
    ];
    let file = Message {
        files: vec!["a.png".to_owned()],
        ..Message::of("see")
    };
    for (more, variables, code) in [
        (
            vec![("model", field(json!([{"name": "m", "provider": "Groq"}])))],
            &key[..],
            "provider_unsupported",
        ),
        (vec![("model", field(""))], &key[..], "field_required"),
        (
            vec![("model", field("connect_other_models"))],
            &key[..],
            "output_unsupported",
        ),
        (vec![("input_value", edge(file))], &key[..], "files_unsupported"),
        (vec![], &key[1..], "model_unauthorized"),
    ] {
        let (ctx, _) = context(variables);
        let error = run(&agent(&more), &ctx).await.unwrap_err();
        assert_eq!(error.code, code, "{error}");
    }
}

#[tokio::test]
async fn what_was_said_before_is_told_between_instructions_and_input() {
    use crate::memory::{InMemory, Memory, Remembered};
    use crate::value::Message;
    use std::sync::Arc;

    let said = |id: &str, sender: &str, text: &str| {
        let mut message = Message::of(text);
        message.sender = Some(sender.to_owned());
        message.sender_name = Some("x".to_owned());
        message.session_id = Some("session".to_owned());
        Remembered {
            id: id.to_owned(),
            node: String::new(),
            flow_id: String::new(),
            run_id: String::new(),
            at: jiff::Timestamp::UNIX_EPOCH,
            message,
        }
    };
    let (base, asked) = model(vec![("hello", Vec::new())]).await;
    let memory: Arc<dyn Memory> = Arc::new(InMemory::default());
    for message in [
        said("1", "User", "first"),
        said("2", "Machine", "second"),
        said("3", "Machine", "  "),
        said("4", "User", "now"),
    ] {
        memory.remember(message).await.unwrap();
    }
    let mut input = Message::of("now");
    Arc::make_mut(&mut input.extra).insert("id".to_owned(), "4".into());
    let limits = [
        (None, 3),
        (Some(json!(2)), 1),
        (Some(json!(3)), 2),
        (Some(json!(0)), 1),
    ];
    for (number, (limit, told)) in limits.into_iter().enumerate() {
        let mut ctx = super::super::testing::conversation("run", &memory);
        let base = base.clone();
        let variables = move |name: &str| match name {
            "OPENAI_BASE_URL" => Some(base.clone()),
            "OPENAI_API_KEY" => Some("sk".to_owned()),
            _ => None,
        };
        Arc::make_mut(&mut ctx.run).variables = Arc::new(variables);
        let mut params = vec![
            (
                "model",
                field(json!([{"name": "gpt-4o-mini", "provider": "OpenAI"}])),
            ),
            ("system_prompt", field("Be brief.")),
            ("input_value", edge(input.clone())),
        ];
        params.extend(limit.map(|limit| ("n_messages", field(limit))));
        run(&call(Kind::Agent, &params), &ctx).await.unwrap();
        let asked = asked.lock().unwrap();
        let messages: Vec<_> = asked[number]["messages"]
            .as_array()
            .unwrap()
            .iter()
            .map(|m| {
                format!(
                    "{}: {}",
                    m["role"].as_str().unwrap(),
                    m["content"].as_str().unwrap()
                )
            })
            .collect();
        let all = [
            "system: Be brief.",
            "user: first",
            "assistant: second",
            "user: now",
        ];
        let expected: Vec<&str> = std::iter::once(all[0])
            .chain(all[4 - told..].iter().copied())
            .collect();
        assert_eq!(messages, expected);
    }
}
