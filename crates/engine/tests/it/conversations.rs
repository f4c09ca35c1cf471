//! Flows that remember, run after run, against what Langflow 1.13 was seen to keep and to read.

use std::sync::Arc;

use flowfleet_engine::{EngineKind, InMemory, Memory, Plan, Recall, Remembered};
use flowfleet_mock_model::Config;
use serde_json::json;

use crate::draw::Draw;
use crate::run::{Runner, plan};

/// One session of one flow.
struct Conversation {
    plan: Arc<Plan>,
    memory: Arc<dyn Memory>,
    model: flowfleet_mock_model::Handle,
    turns: u32,
}

impl Conversation {
    async fn of(draw: &Draw) -> Self {
        let plan = plan(draw);
        assert_eq!(plan.engine(), EngineKind::Native, "{:?}", plan.unsupported());
        Self {
            plan,
            memory: Arc::new(InMemory::default()),
            model: flowfleet_mock_model::spawn(Config::default()).await.unwrap(),
            turns: 0,
        }
    }

    /// The answer of the next run, which is a run of its own.
    async fn say(&mut self, text: &str) -> String {
        self.turns += 1;
        self.again(text).await
    }

    /// The answer of the last run, once more.
    async fn again(&self, text: &str) -> String {
        let mut runner = Runner::new(text).model(&self.model.base_url());
        runner.memory = Some(Arc::clone(&self.memory));
        runner.run_id = format!("run-{}", self.turns);
        runner.request.session_id = Some("s".to_owned());
        let ran = runner.run(&self.plan).await;
        let outcome = ran.result.unwrap();
        outcome.output.as_str().unwrap_or_default().to_owned()
    }

    /// Everything that was kept, oldest first.
    async fn kept(&self) -> Vec<Remembered> {
        let everything = Recall {
            limit: 100,
            ..Recall::default()
        };
        let mut kept = self.memory.recall(&everything).await.unwrap();
        kept.reverse();
        kept
    }

    async fn lines(&self) -> Vec<String> {
        let line = |said: &Remembered| {
            let message = &said.message;
            let sender = message.sender_name.as_deref().unwrap_or_default();
            format!("{sender}: {}", message.text)
        };
        self.kept().await.iter().map(line).collect()
    }
}

fn chat() -> Draw {
    Draw::new()
        .released("ChatInput-a", "ChatInput")
        .released("ChatOutput-o", "ChatOutput")
}

/// What was said so far, told by a prompt.
fn history() -> Draw {
    chat()
        .released("Memory-m", "Memory")
        .released("Prompt-p", "Prompt Template")
        .set("Prompt-p", "template", "{memory}/{question}")
        .variable("Prompt-p", "memory", "")
        .variable("Prompt-p", "question", "")
        .edge("ChatInput-a", "message", "Prompt-p", "question")
        .edge("Memory-m", "messages_text", "Prompt-p", "memory")
        .edge("Prompt-p", "prompt", "ChatOutput-o", "input_value")
}

fn visible(mut draw: Draw, id: &str, field: &str, value: serde_json::Value) -> Draw {
    let field = &mut draw.body(id)["template"][field];
    field["value"] = value;
    field["show"] = true.into();
    draw
}

#[tokio::test]
async fn a_message_history_reads_what_the_chat_said() {
    let mut talk = Conversation::of(&history()).await;
    assert_eq!(talk.say("one").await, "User: one/one");
    assert_eq!(
        talk.say("two").await,
        "User: one\nAI: User: one/one\nUser: two/two"
    );
    let kept = talk.kept().await;
    let facts: Vec<_> = kept
        .iter()
        .map(|said| {
            (
                said.node.as_str(),
                said.message.sender.as_deref(),
                said.run_id.as_str(),
            )
        })
        .collect();
    assert_eq!(
        facts,
        [
            ("ChatInput-a", Some("User"), "run-1"),
            ("ChatOutput-o", Some("Machine"), "run-1"),
            ("ChatInput-a", Some("User"), "run-2"),
            ("ChatOutput-o", Some("Machine"), "run-2"),
        ]
    );
    assert!(
        kept.iter()
            .all(|said| said.message.session_id.as_deref() == Some("s"))
    );
    assert_eq!(kept[0].flow_id, "flow-1");
}

#[tokio::test]
async fn a_run_that_goes_on_elsewhere_says_nothing_twice() {
    let mut talk = Conversation::of(&history()).await;
    talk.say("one").await;
    let before = talk.kept().await;
    talk.again("one").await;
    let after = talk.kept().await;
    let ids = |kept: &[Remembered]| kept.iter().map(|said| said.id.clone()).collect::<Vec<_>>();
    assert_eq!(ids(&before), ids(&after));
}

#[tokio::test]
async fn a_message_history_reads_as_it_is_told() {
    let cases = [
        (vec![("n_messages", json!(2))], "AI: c/User: d"),
        (vec![("n_messages", json!(0))], ""),
        (
            vec![("n_messages", json!(2)), ("order", json!("Descending"))],
            "User: d/AI: c",
        ),
        (vec![("sender_type", json!("Machine"))], "AI: a/AI: b/AI: c"),
        (
            vec![("sender_type", json!("User")), ("n_messages", json!(1))],
            "User: d",
        ),
        (vec![("sender_name", json!("Nobody"))], ""),
        (vec![("context_id", json!("elsewhere"))], ""),
        (
            vec![
                (
                    "template",
                    json!("{sender}|{text!r:>5}|{session_id}|{nothing}|{error}|{category}"),
                ),
                ("n_messages", json!(1)),
            ],
            "User|  'd'|s||False|message",
        ),
    ];
    for (fields, expected) in cases {
        // What the chat says is the last question, so that it does not grow.
        let mut draw = chat()
            .released("Memory-m", "Memory")
            .released("Prompt-p", "Prompt Template")
            .set("Prompt-p", "template", "{question}")
            .variable("Prompt-p", "memory", "")
            .variable("Prompt-p", "question", "")
            .edge("ChatInput-a", "message", "Prompt-p", "question")
            .edge("Memory-m", "messages_text", "Prompt-p", "memory")
            .edge("Prompt-p", "prompt", "ChatOutput-o", "input_value");
        for (field, value) in fields {
            draw = visible(draw, "Memory-m", field, value);
        }
        let mut talk = Conversation::of(&draw).await;
        for text in ["a", "b", "c"] {
            talk.say(text).await;
        }
        let mut last = Conversation::of(&draw.clone().set("Prompt-p", "template", "{memory}")).await;
        (last.memory, last.turns) = (Arc::clone(&talk.memory), talk.turns);
        assert_eq!(last.say("d").await.replace('\n', "/"), expected);
    }
}

#[tokio::test]
async fn a_table_of_messages_has_langflows_columns() {
    let draw = chat()
        .released("Memory-m", "Memory")
        .released("ParserComponent-p", "ParserComponent")
        .released("Prompt-p", "Prompt Template")
        .set("ParserComponent-p", "pattern", "{sender}:{text}:{properties}")
        .set("Prompt-p", "template", "{table}{question}")
        .variable("Prompt-p", "table", "")
        .variable("Prompt-p", "question", "")
        .edge("ChatInput-a", "message", "Prompt-p", "question")
        .edge("Memory-m", "dataframe", "ParserComponent-p", "input_data")
        .edge("ParserComponent-p", "parsed_text", "Prompt-p", "table")
        .edge("Prompt-p", "prompt", "ChatOutput-o", "input_value");
    let mut talk = Conversation::of(&draw).await;
    let said = talk.say("one").await;
    assert!(said.starts_with("User:one:{'text_color': None,"), "{said}");
    assert!(said.ends_with("one"), "{said}");
}

/// A Message History that keeps what it is given.
fn storing() -> Draw {
    let mut draw = chat().released("Memory-m", "Memory");
    draw.body("Memory-m")["outputs"] =
        json!([{"name": "stored_messages", "types": ["Message"], "method": "store_message"}]);
    visible(draw, "Memory-m", "message", json!(""))
}

#[tokio::test]
async fn a_message_history_keeps_what_it_is_given() {
    let draw = storing()
        .set("Memory-m", "mode", "Store")
        .edge("ChatInput-a", "message", "Memory-m", "message")
        .edge("Memory-m", "stored_messages", "ChatOutput-o", "input_value");
    let draw = visible(draw, "Memory-m", "sender_name", json!("Robo"));
    let mut talk = Conversation::of(&draw).await;
    assert_eq!(talk.say("one").await, "one");
    // The chat output says the same message, under its own name: still one.
    assert_eq!(talk.lines().await, ["User: one", "AI: one"]);
    assert_eq!(talk.kept().await[1].node, "ChatOutput-o");
    let silent = draw.set("ChatOutput-o", "should_store_message", false);
    let mut talk = Conversation::of(&silent).await;
    talk.say("one").await;
    assert_eq!(talk.lines().await, ["User: one", "Robo: one"]);
}

#[tokio::test]
async fn who_should_not_store_does_not() {
    let draw = chat()
        .edge("ChatInput-a", "message", "ChatOutput-o", "input_value")
        .set("ChatInput-a", "should_store_message", false);
    let mut talk = Conversation::of(&draw).await;
    talk.say("one").await;
    assert_eq!(talk.lines().await, ["AI: one"]);
}

#[tokio::test]
async fn chat_outputs_that_say_the_same_are_heard_each() {
    let draw = chat()
        .released("ChatOutput-q", "ChatOutput")
        .released("Agent-g", "Agent")
        .set(
            "Agent-g",
            "model",
            json!([{"name": "gpt-4o-mini", "provider": "OpenAI"}]),
        )
        .edge("ChatInput-a", "message", "ChatOutput-o", "input_value")
        .edge("ChatInput-a", "message", "ChatOutput-q", "input_value");
    let mut talk = Conversation::of(&draw).await;
    talk.say("one").await;
    talk.again("one").await;
    assert_eq!(talk.lines().await, ["User: one", "AI: one", "AI: one"]);
}

#[tokio::test]
async fn an_agent_and_its_chat_output_say_one_message() {
    let draw = chat()
        .released("Agent-g", "Agent")
        .set(
            "Agent-g",
            "model",
            json!([{"name": "gpt-4o-mini", "provider": "OpenAI"}]),
        )
        .edge("ChatInput-a", "message", "Agent-g", "input_value")
        .edge("Agent-g", "response", "ChatOutput-o", "input_value");
    let mut talk = Conversation::of(&draw).await;
    assert_eq!(talk.say("one").await, "echo: one");
    let sum = r#"two [call evaluate_expression {"expression": "2+2"}]"#;
    let answer = talk.say(sum).await;
    assert_eq!(
        talk.lines().await,
        [
            "User: one".to_owned(),
            "AI: echo: one".to_owned(),
            format!("User: {sum}"),
            format!("AI: {answer}"),
        ]
    );
    let kept = talk.kept().await;
    assert_eq!(kept[1].message.extra["properties"]["source"]["id"], "Agent-g");
    let blocks = &kept[3].message.extra["content_blocks"];
    assert_eq!(blocks[0]["name"], "evaluate_expression");
    assert_eq!(blocks[0]["tool_input"], json!({"expression": "2+2"}));
    assert_eq!(blocks[1]["text"], json!(answer));
    assert_eq!(blocks.as_array().unwrap().len(), 2);
}

/// The tools of an agent, with one that reads the conversation.
fn with_tool() -> Draw {
    let mut draw = chat()
        .released("Agent-g", "Agent")
        .set(
            "Agent-g",
            "model",
            json!([{"name": "gpt-4o-mini", "provider": "OpenAI"}]),
        )
        .released("Memory-m", "Memory");
    let memory = draw.body("Memory-m");
    memory["tool_mode"] = true.into();
    memory["outputs"] = json!([{"name": "component_as_tool", "types": ["Tool"], "method": "to_toolkit"}]);
    draw.edge("ChatInput-a", "message", "Agent-g", "input_value")
        .edge("Memory-m", "component_as_tool", "Agent-g", "tools")
        .edge("Agent-g", "response", "ChatOutput-o", "input_value")
}

#[tokio::test]
async fn an_agents_tool_reads_the_conversation_with_the_agents_own_place_in_it() {
    let mut talk = Conversation::of(&with_tool()).await;
    talk.say("one").await;
    let ask = r#"two [call retrieve_messages_as_text {"order": "Descending"}]"#;
    let answer = talk.say(ask).await;
    assert_eq!(
        answer,
        format!("echo: {ask}\nAI: \nUser: {ask}\nAI: echo: one\nUser: one")
    );
    assert_eq!(talk.lines().await.len(), 4, "the place is taken by the answer");
    let answer = talk.say("three [call retrieve_messages_dataframe {}]").await;
    let complaint = "Error invoking tool 'retrieve_messages_dataframe' with kwargs {} with error:\n order: Field \
                     required\n Please fix the error and try again.";
    assert!(answer.ends_with(complaint), "{answer}");
    let answer = talk
        .say(r#"[call retrieve_messages_as_text {"order": "Up"}]"#)
        .await;
    assert!(
        answer.contains(" order: Input should be 'Ascending' or 'Descending'\n"),
        "{answer}"
    );
    let answer = talk
        .say(r#"[call retrieve_messages_dataframe {"order": "Ascending"}]"#)
        .await;
    assert!(answer.contains("  ... duration\n0  "), "{answer}");
    assert!(answer.ends_with("\n\n[10 rows x 17 columns]"), "{answer}");
}

#[tokio::test]
async fn a_memory_base_says_that_there_is_none() {
    let mut draw = chat()
        .released("Agent-g", "Agent")
        .set(
            "Agent-g",
            "model",
            json!([{"name": "gpt-4o-mini", "provider": "OpenAI"}]),
        )
        .released("MemoryBase-m", "MemoryBase");
    let memory = draw.body("MemoryBase-m");
    memory["tool_mode"] = true.into();
    memory["outputs"] = json!([{"name": "component_as_tool", "types": ["Tool"], "method": "to_toolkit"}]);
    let draw = draw
        .edge("ChatInput-a", "message", "Agent-g", "input_value")
        .edge("MemoryBase-m", "component_as_tool", "Agent-g", "tools")
        .edge("Agent-g", "response", "ChatOutput-o", "input_value");
    let mut talk = Conversation::of(&draw).await;
    let answer = talk.say(r#"[call retrieve_memory {"search_query": "x"}]"#).await;
    assert!(answer.ends_with("\nNo Memory Base is selected."), "{answer}");
    let chosen = plan(&draw.set("MemoryBase-m", "memory_base", "notes"));
    assert_eq!(chosen.engine(), EngineKind::Python);
    assert!(
        chosen.unsupported()[0].reason.contains("\"notes\""),
        "{:?}",
        chosen.unsupported()
    );
}

#[test]
fn only_conversations_remember() {
    let echo = chat().edge("ChatInput-a", "message", "ChatOutput-o", "input_value");
    let texts = Draw::new()
        .released("TextInput-a", "TextInput")
        .released("TextOutput-o", "TextOutput")
        .edge("TextInput-a", "text", "TextOutput-o", "input_value");
    for (draw, asked, unasked) in [
        (echo, true, false),
        (texts, false, false),
        (history(), true, true),
    ] {
        let plan = plan(&draw);
        assert_eq!((plan.converses(true), plan.converses(false)), (asked, unasked));
    }
}

#[test]
fn an_external_memory_is_refused_by_name() {
    let mut draw = history();
    let source = draw.body("Prompt-p")["outputs"].as_array_mut().unwrap();
    source.push(json!({"name": "memory", "types": ["Memory"]}));
    let draw = draw.edge("Prompt-p", "memory", "Memory-m", "memory");
    let plan = plan_refusing_cycles(&draw);
    assert!(
        plan.unsupported()
            .iter()
            .any(|node| node.node == "Memory-m" && node.reason.contains("external memory")),
        "{:?}",
        plan.unsupported()
    );
}

/// The same without the edge that would close a circle.
fn plan_refusing_cycles(draw: &Draw) -> Arc<Plan> {
    let mut draw = draw.clone();
    let edges = draw.document["data"]["edges"].as_array_mut().unwrap();
    edges.retain(|edge| edge["source"] != "Memory-m");
    plan(&draw)
}
