//! Services that speak otherwise than OpenAI. Each body is one that lfx 1.13 was seen to send for the same question.

use super::*;

fn chat_of(ctx: &NodeContext, provider: Provider, base: &str, model: &str) -> Chat {
    Chat {
        endpoint: endpoint(ctx, provider, base),
        model: model.to_owned(),
        turns: vec![
            Turn::System("be brief".to_owned()),
            Turn::User("hello there".to_owned()),
        ],
        options: Options::default(),
        stream: true,
    }
}

fn call(name: &str, arguments: &str) -> ToolCall {
    ToolCall {
        id: format!("id_{name}"),
        name: name.to_owned(),
        arguments: arguments.to_owned(),
    }
}

fn tool() -> ToolSpec {
    ToolSpec {
        name: "add".to_owned(),
        description: "Adds.".to_owned(),
        parameters: json!({
            "properties": {"e": {"default": "", "description": "what", "type": "string"}}, "type": "object",
        }),
    }
}

/// The conversation of an agent whose two calls were answered.
fn after_tools() -> Vec<Turn> {
    vec![
        Turn::System(String::new()),
        Turn::User("first".to_owned()),
        Turn::User(" ".to_owned()),
        Turn::Assistant {
            text: "let me see ".to_owned(),
            calls: vec![call("add", r#"{"e": "1+1"}"#), call("nope", "{}")],
            blocks: Vec::new(),
        },
        Turn::Tool {
            id: "id_add".to_owned(),
            content: "2".to_owned(),
            failed: false,
        },
        Turn::Tool {
            id: "id_nope".to_owned(),
            content: "no such tool".to_owned(),
            failed: true,
        },
    ]
}

fn body(chat: &Chat) -> Json {
    let body = match chat.endpoint.provider.protocol() {
        Protocol::Anthropic => anthropic::body(chat, Dialect::of(chat)),
        Protocol::Ollama => ollama::body(chat),
        Protocol::OpenAi => openai::body(chat, Dialect::of(chat)),
    };
    serde_json::from_str(&body).unwrap()
}

#[tokio::test]
async fn the_same_answer_from_each() {
    let model = mock::spawn(mock::Config {
        keep: 10,
        ..mock::Config::default()
    })
    .await
    .unwrap();
    for (provider, tokens) in [(Provider::Anthropic, 4), (Provider::Ollama, 4)] {
        for stream in [true, false] {
            let (ctx, heard) = context(&[]);
            let mut question = chat_of(&ctx, provider, &model.root_url(), "m");
            question.stream = stream;
            let reply = chat(&ctx, &question, &quick()).await.unwrap();
            assert_eq!(reply.text, "echo: hello there", "{provider:?}");
            let usage = reply.usage;
            assert_eq!(
                (usage.input_tokens, usage.output_tokens),
                (tokens, 3),
                "{provider:?}"
            );
            let heard = heard.lock().unwrap().clone();
            let expected = if stream {
                vec!["echo:", " hello", " there"]
            } else {
                vec![]
            };
            assert_eq!(heard, expected, "{provider:?}");
        }
    }
    let bodies = model.bodies();
    let messages = json!([{"role": "user", "content": "hello there"}]);
    assert_eq!(
        bodies[0],
        json!({"model": "m", "max_tokens": 4096, "messages": messages, "system": "be brief", "stream": true})
    );
    assert_eq!(bodies[1].get("stream"), None);
    let messages =
        json!([{"role": "system", "content": "be brief"}, {"role": "user", "content": "hello there"}]);
    let expected = json!({"model": "m", "stream": true, "options": {}, "messages": messages, "tools": []});
    assert_eq!(bodies[2..], [expected.clone(), expected]);
}

#[tokio::test]
async fn calls_come_from_each_and_go_back() {
    let model = mock::spawn(mock::Config::default()).await.unwrap();
    for provider in [Provider::Anthropic, Provider::Ollama] {
        for stream in [true, false] {
            let (ctx, _) = context(&[]);
            let mut question = chat_of(&ctx, provider, &model.root_url(), "m");
            question.stream = stream;
            question.options.tools = vec![tool()];
            question.turns = vec![Turn::User(r#"[call add {"e": "1+1"}] [call nope {}]"#.to_owned())];
            let reply = chat(&ctx, &question, &quick()).await.unwrap();
            let said: Vec<_> = reply
                .tool_calls
                .iter()
                .map(|call| (call.name.as_str(), call.object()))
                .collect();
            let arguments = json!({"e": "1+1"}).as_object().cloned().unwrap();
            assert_eq!(said, [("add", arguments), ("nope", serde_json::Map::new())]);
            assert_ne!(reply.tool_calls[0].id, reply.tool_calls[1].id);
            question.turns.push(Turn::Assistant {
                text: reply.text,
                calls: reply.tool_calls,
                blocks: reply.blocks,
            });
            question.turns.push(Turn::Tool {
                id: "x".to_owned(),
                content: "2".to_owned(),
                failed: false,
            });
            let reply = chat(&ctx, &question, &quick()).await.unwrap();
            assert!(reply.text.ends_with("\n2"), "{provider:?}: {}", reply.text);
        }
    }
}

#[test]
fn what_anthropic_is_told() {
    let (ctx, _) = context(&[]);
    let mut question = chat_of(&ctx, Provider::Anthropic, "http://h/x/", "claude-sonnet-4-5");
    assert_eq!(question.endpoint.url.as_str(), "http://h/x/v1/messages");
    question.turns = after_tools();
    question.options.temperature = Some(0.1);
    question.options.tools = vec![tool()];
    question.options.must_call = Some("add".to_owned());
    let use_of = |name: &str, input: Json| json!({"type": "tool_use", "name": name, "input": input, "id": format!("id_{name}")});
    let result = |name: &str, content: &str, failed: bool| json!({"type": "tool_result", "content": content, "tool_use_id": format!("id_{name}"), "is_error": failed});
    let expected = json!({
        "model": "claude-sonnet-4-5", "max_tokens": 64000, "system": "", "temperature": 0.1, "stream": true,
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "first"}]},
            {"role": "assistant", "content": [
                {"type": "text", "text": "let me see "}, use_of("add", json!({"e": "1+1"})), use_of("nope", json!({})),
            ]},
            {"role": "user", "content": [result("add", "2", false), result("nope", "no such tool", true)]},
        ],
        "tools": [{"name": "add", "input_schema": tool().parameters, "description": "Adds."}],
        "tool_choice": {"type": "tool", "name": "add"},
    });
    assert_eq!(body(&question), expected);
    question.turns = vec![Turn::said("a \n".to_owned())];
    question.options.limit = Some(77);
    let body = body(&question);
    assert_eq!(body["messages"], json!([{"role": "assistant", "content": "a"}]));
    assert_eq!((&body["max_tokens"], body.get("system")), (&json!(77), None));
}

#[test]
fn a_shape_is_a_call_to_anthropic() {
    let (ctx, _) = context(&[]);
    let mut question = chat_of(&ctx, Provider::Anthropic, "http://h", "m");
    let item = json!({"properties": {"title": {"description": "how", "title": "Title", "type": "integer"}},
        "required": ["title"], "title": "O", "type": "object"});
    question.options.shape = Some(Shape {
        name: "O".to_owned(),
        schema: json!({"$defs": {"O": item}, "description": "All.", "title": "O", "type": "object",
            "properties": {"objects": {"items": {"$ref": "#/$defs/O"}, "minItems": 1, "title": "Objects", "type": "array"}}}),
        strict: Json::Null,
    });
    let schema = json!({"type": "object", "properties": {"objects": {"type": "array", "minItems": 1, "items": {
        "properties": {"title": {"description": "how", "type": "integer"}}, "required": ["title"], "type": "object",
    }}}});
    let asked = body(&question);
    assert_eq!(
        asked["tools"],
        json!([{"name": "O", "input_schema": schema, "description": "All."}])
    );
    assert_eq!(asked["tool_choice"], json!({"type": "tool", "name": "O"}));
    let reply = Reply {
        tool_calls: vec![call("O", "{\"objects\": []}")],
        ..Reply::default()
    };
    let shaped = anthropic::shaped(&question, reply);
    assert_eq!(
        (shaped.text.as_str(), shaped.tool_calls.len()),
        ("{\"objects\": []}", 0)
    );
}

#[test]
fn what_ollama_is_told() {
    let (ctx, _) = context(&[]);
    let mut question = chat_of(&ctx, Provider::Ollama, "http://h", "m");
    question.turns = after_tools();
    question.options.temperature = Some(0.0);
    question.options.limit = Some(77);
    question.options.must_call = Some("add".to_owned());
    question.options.tools = vec![tool()];
    let call = |name: &str, arguments: Json| json!({"function": {"name": name, "arguments": arguments}});
    let function = json!({"name": "add", "description": "Adds.", "parameters": {
        "type": "object", "properties": {"e": {"type": "string", "description": "what"}},
    }});
    let expected = json!({
        "model": "m", "stream": true, "options": {"temperature": 0.0},
        "messages": [
            {"role": "system"},
            {"role": "user", "content": "first"},
            {"role": "user", "content": " "},
            {"role": "assistant", "content": "let me see ", "tool_calls": [
                call("add", json!({"e": "1+1"})), call("nope", json!({})),
            ]},
            {"role": "tool", "content": "2"},
            {"role": "tool", "content": "no such tool"},
        ],
        "tools": [{"type": "function", "function": function}],
    });
    assert_eq!(body(&question), expected);
}

#[test]
fn openrouter_is_openai_with_its_own_headers() {
    let (ctx, _) = context(&[("OPENROUTER_APP_NAME", "app")]);
    let key = Some("sk".to_owned());
    let endpoint = Endpoint::of(&ctx, Provider::OpenRouter, None, key).unwrap();
    assert_eq!(
        endpoint.url.as_str(),
        "https://openrouter.ai/api/v1/chat/completions"
    );
    assert_eq!(endpoint.headers, [("x-title", "app".to_owned())]);
    let mut question = chat_of(&ctx, Provider::OpenAi, "http://h", "m");
    question.endpoint = endpoint;
    assert_eq!(body(&question).get("stream_options"), None);
    assert_eq!(body(&question)["stream"], true);
}

fn event(data: &Json) -> String {
    format!("event: {}\ndata: {data}\n\n", data["type"].as_str().unwrap())
}

#[tokio::test]
async fn thoughts_go_back_as_they_came() {
    let block = |index: u64, block: Json, deltas: &[Json]| {
        let mut text = event(&json!({"type": "content_block_start", "index": index, "content_block": block}));
        for delta in deltas {
            text.push_str(&event(
                &json!({"type": "content_block_delta", "index": index, "delta": delta}),
            ));
        }
        text + &event(&json!({"type": "content_block_stop", "index": index}))
    };
    let cached = json!({"input_tokens": 3, "cache_read_input_tokens": 2, "cache_creation_input_tokens": 1, "output_tokens": 1});
    let stream = [
        event(&json!({"type": "message_start", "message": {"usage": cached}})),
        event(&json!({"type": "ping"})),
        block(
            0,
            json!({"type": "thinking", "thinking": "", "signature": ""}),
            &[
                json!({"type": "thinking_delta", "thinking": "hm"}),
                json!({"type": "signature_delta", "signature": "s"}),
            ],
        ),
        block(
            1,
            json!({"type": "text", "text": ""}),
            &[json!({"type": "text_delta", "text": "a"})],
        ),
        block(
            2,
            json!({"type": "tool_use", "id": "t", "name": "add", "input": {}}),
            &[
                json!({"type": "input_json_delta", "partial_json": "{\"e\""}),
                json!({"type": "input_json_delta", "partial_json": ": 1}"}),
            ],
        ),
        block(
            3,
            json!({"type": "text", "text": ""}),
            &[json!({"type": "text_delta", "text": "b"})],
        ),
        event(
            &json!({"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 9}}),
        ),
        event(&json!({"type": "message_stop"})),
    ];
    let server = Scripted::start(vec![Answer::Close(events(&stream.concat()))]).await;
    let (ctx, _) = context(&[]);
    let mut question = chat_of(&ctx, Provider::Anthropic, &server.base, "m");
    let reply = chat(&ctx, &question, &quick()).await.unwrap();
    assert_eq!(
        (reply.text.as_str(), reply.tool_calls[0].arguments.as_str()),
        ("ab", "{\"e\": 1}")
    );
    assert_eq!((reply.usage.input_tokens, reply.usage.output_tokens), (6, 9));
    question.turns.push(Turn::Assistant {
        text: reply.text,
        calls: reply.tool_calls,
        blocks: reply.blocks,
    });
    let expected = json!([
        {"type": "thinking", "thinking": "hm", "signature": "s"},
        {"type": "text", "text": "a"},
        {"type": "tool_use", "name": "add", "input": {"e": 1}, "id": "t"},
        {"type": "text", "text": "b"},
    ]);
    assert_eq!(body(&question)["messages"][1]["content"], expected);
}

#[tokio::test]
async fn faults_of_each() {
    let anthropic = |kind: &str, message: &str| {
        json!({"type": "error", "error": {"type": kind, "message": message}}).to_string()
    };
    let whole =
        json!({"content": [{"type": "text", "text": "x"}], "usage": {"input_tokens": 3, "output_tokens": 2}});
    let good = response(200, "", &whole.to_string());
    let overloaded = response(
        529,
        "retry-after: 0\r\n",
        &anthropic("overloaded_error", "Overloaded"),
    );
    let late = Answer::Close(events(&event(
        &json!({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}),
    )));
    let (ctx, _) = context(&[]);
    for first in [overloaded, late] {
        let server = Scripted::start(vec![first, good.clone()]).await;
        let question = chat_of(&ctx, Provider::Anthropic, &server.base, "m");
        assert_eq!(chat(&ctx, &question, &quick()).await.unwrap(), reply("x"));
        assert_eq!(server.bodies().len(), 2);
    }
    // A model without a say in its temperature is asked again without one; a wrong temperature is the user's.
    let deprecated = anthropic(
        "invalid_request_error",
        "`temperature` is deprecated for this model.",
    );
    let server = Scripted::start(vec![response(400, "", &deprecated), good.clone()]).await;
    let mut question = chat_of(&ctx, Provider::Anthropic, &server.base, "m");
    question.options.temperature = Some(0.5);
    assert_eq!(chat(&ctx, &question, &quick()).await.unwrap(), reply("x"));
    assert_eq!(server.bodies()[1].get("temperature"), None);
    let range = anthropic("invalid_request_error", "temperature: range: 0..1");
    let server = Scripted::start(vec![response(400, "", &range), good]).await;
    question.endpoint = endpoint(&ctx, Provider::Anthropic, &server.base);
    let error = chat(&ctx, &question, &quick()).await.unwrap_err();
    assert_eq!((error.code, server.bodies().len()), ("model_bad_request", 1));
    let server = Scripted::start(vec![response(
        401,
        "",
        &anthropic("authentication_error", "invalid x-api-key: sk-very-secret"),
    )])
    .await;
    let question = chat_of(&ctx, Provider::Anthropic, &server.base, "m");
    let error = chat(&ctx, &question, &quick()).await.unwrap_err();
    assert!(
        error.message.contains("ANTHROPIC_API_KEY") && !error.message.contains("very-secret"),
        "{error}"
    );
    let unknown = json!({"error": "model \"m\" not found"}).to_string();
    let server = Scripted::start(vec![response(404, "", &unknown)]).await;
    let question = chat_of(&ctx, Provider::Ollama, &server.base, "m");
    let error = chat(&ctx, &question, &quick()).await.unwrap_err();
    assert_eq!(error.code, "model_bad_request");
    assert!(error.message.contains("not found"), "{error}");
    let cut = "HTTP/1.1 200 OK\r\ncontent-type: application/x-ndjson\r\n\r\n{\"message\": {\"content\": \"a\"}}\n{\"error\": \"out of memory\"}";
    let server = Scripted::start(vec![Answer::Close(cut.to_owned())]).await;
    let question = chat_of(&ctx, Provider::Ollama, &server.base, "m");
    let error = chat(&ctx, &question, &quick()).await.unwrap_err();
    assert!(error.message.contains("out of memory"), "{error}");
    assert_eq!((error.code, server.bodies().len()), ("model_error", 1));
}
