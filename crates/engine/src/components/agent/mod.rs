//! Agent: asks a model, runs the tools it asks for, and asks again with what they said, until it answers.

mod arguments;

use std::collections::{BTreeMap, BTreeSet};

use futures::future::join_all;
use serde_json::{Map, Value as Json, json};

use super::tool::{Complaint, Tool};
use super::{ask, from_node, params, properties, wants};
use crate::component::{Kind, NodeCall, NodeContext, NodeError, NodeOutput, Params, Usage};
use crate::model::{Chat, Endpoint, Reply, ToolCall, api_key, chat};
use crate::value::{Message, Value};

const OUTPUT: &str = "response";
/// What is said when nothing is.
const CONTINUE: &str = "Continue the conversation.";
const MOST_CALLS: i64 = 15;

pub(super) async fn run(call: &NodeCall, ctx: &NodeContext) -> Result<NodeOutput, NodeError> {
    let model = selected(call)?;
    let key = api_key(
        ctx,
        params::optional_text(call, "api_key")?.as_deref(),
        "OPENAI_API_KEY",
    )?;
    let tools = tools(call);
    let mut options = Map::new();
    if let Some(limit) = params::integer(call, "max_tokens").filter(|limit| *limit != 0) {
        options.insert("max_completion_tokens".to_owned(), limit.into());
    }
    if !tools.is_empty() {
        options.insert("tools".to_owned(), tools.iter().map(Tool::schema).collect());
    }
    let mut question = Chat {
        endpoint: Endpoint::of(ctx, None, key)?,
        messages: messages(call, ctx, &model)?,
        model,
        options,
        stream: true,
    };
    let (text, usage) = converse(call, ctx, &tools, &mut question).await?;
    Ok(answer(call, ctx, &question.model, text, usage))
}

/// Everything the model said, and what it cost.
async fn converse(
    call: &NodeCall,
    ctx: &NodeContext,
    tools: &[Tool],
    question: &mut Chat,
) -> Result<(String, Usage), NodeError> {
    let limit = params::integer(call, "max_iterations")
        .unwrap_or(MOST_CALLS)
        .max(1);
    let (mut said, mut usage) = (String::new(), Usage::default());
    for _ in 0..limit {
        let reply = chat(ctx, question, &ctx.model.limits).await?;
        said.push_str(&reply.text);
        usage += reply.usage;
        let Some(calls) = wanted(&reply) else {
            return Ok((said, usage));
        };
        question.messages.push(turn(&reply, &calls));
        let answers = join_all(calls.iter().map(|wanted| answer_of(tools, wanted, ctx))).await;
        for (wanted, content) in calls.iter().zip(answers) {
            question
                .messages
                .push(json!({"content": content, "role": "tool", "tool_call_id": wanted.id}));
        }
    }
    let over = format!("Model call limits exceeded: run limit ({limit}/{limit})");
    ctx.token(&over);
    said.push_str(&over);
    Ok((said, usage))
}

/// A call with arguments that could be read.
#[derive(Debug)]
struct Wanted<'r> {
    id: &'r str,
    name: &'r str,
    arguments: Map<String, Json>,
}

/// The calls of a turn; `None` if it is the last one. Calls whose arguments are no object count for nothing.
fn wanted(reply: &Reply) -> Option<Vec<Wanted<'_>>> {
    let readable = |call: &'_ ToolCall| arguments::read(&call.arguments);
    let calls: Vec<_> = reply
        .tool_calls
        .iter()
        .filter_map(|call| {
            Some(Wanted {
                id: &call.id,
                name: &call.name,
                arguments: readable(call)?,
            })
        })
        .collect();
    (!calls.is_empty()).then_some(calls)
}

/// The model's turn, as it is told to it again.
fn turn(reply: &Reply, calls: &[Wanted<'_>]) -> Json {
    let content = match reply.text.as_str() {
        "" => Json::Null,
        text => text.into(),
    };
    let calls: Vec<Json> = calls
        .iter()
        .map(|call| {
            let arguments = crate::template::python_json(&Json::Object(call.arguments.clone()));
            json!({"type": "function", "id": call.id, "function": {"name": call.name, "arguments": arguments}})
        })
        .collect();
    json!({"content": content, "role": "assistant", "tool_calls": calls})
}

async fn answer_of(tools: &[Tool], wanted: &Wanted<'_>, ctx: &NodeContext) -> String {
    let Some(tool) = tools.iter().find(|tool| tool.name == wanted.name) else {
        let names: Vec<&str> = tools.iter().map(|tool| tool.name.as_str()).collect();
        return format!(
            "Error: {} is not a valid tool, try one of [{}].",
            wanted.name,
            names.join(", ")
        );
    };
    match tool.run(&wanted.arguments, ctx).await {
        Ok(content) | Err(Complaint(content)) => content,
    }
}

/// The tools of connected nodes, then the date and the calculator unless others have their names.
fn tools(call: &NodeCall) -> Vec<Tool> {
    let mut tools: Vec<Tool> = call.tools.iter().flat_map(Tool::of).collect();
    let mut count = BTreeMap::<String, usize>::new();
    for tool in &tools {
        *count.entry(tool.name.clone()).or_default() += 1;
    }
    let mut taken: BTreeSet<String> = count.keys().cloned().collect();
    for tool in &mut tools {
        if count.get(&tool.name).is_some_and(|count| *count > 1) {
            tool.renamed(&mut taken);
        }
    }
    for (field, kind) in [
        ("add_current_date_tool", Kind::CurrentDate),
        ("add_calculator_tool", Kind::Calculator),
    ] {
        if !params::boolean(call, field, false) {
            continue;
        }
        let built_in = NodeCall {
            kind,
            params: Params::default(),
            tools: Vec::new(),
            ..call.clone()
        };
        for tool in Tool::of(&built_in) {
            if tools.iter().all(|other| other.name != tool.name) {
                tools.push(tool);
            }
        }
    }
    tools
}

/// The instructions, then the input: always as the user, also from another agent.
fn messages(call: &NodeCall, ctx: &NodeContext, model: &str) -> Result<Vec<Json>, NodeError> {
    let precision = if call.kind == Kind::TimedAgent {
        "%Y-%m-%d %H:%M:%S UTC"
    } else {
        "%Y-%m-%d"
    };
    let today = (ctx.clock)()
        .to_zoned(jiff::tz::TimeZone::UTC)
        .strftime(precision);
    let instructions = params::text(call, "system_prompt", "")?
        .replace("{current_date}", &today.to_string())
        .replace("{model_name}", model)
        .replace("{optional_user_context}", "");
    let input = params::message(call, "input_value")?.unwrap_or_default();
    if !input.files.is_empty() {
        return Err(ask::files_unsupported(call));
    }
    let input = match input.text.trim() {
        "" => CONTINUE.to_owned(),
        _ => input.text,
    };
    Ok(vec![
        json!({"content": instructions, "role": ask::system_role(model)}),
        json!({"content": input, "role": "user"}),
    ])
}

/// The model's name: of the model field, or of the fields that older exports have instead.
fn selected(call: &NodeCall) -> Result<String, NodeError> {
    let entry = match params::json(call, "model") {
        Some(Json::Array(entries)) => entries.first().cloned(),
        Some(Json::String(name)) if name == "connect_other_models" => return Err(ask::connected_model(call)),
        _ => None,
    };
    let (name, provider) = match entry {
        Some(entry) => {
            let text = |name: &str| entry.get(name).and_then(Json::as_str).map(str::to_owned);
            (text("name"), text("provider"))
        }
        None => (
            params::optional_text(call, "model_name")?,
            params::optional_text(call, "agent_llm")?,
        ),
    };
    match (name.filter(|name| !name.is_empty()), provider) {
        (Some(name), Some(provider)) if provider.eq_ignore_ascii_case("OpenAI") => Ok(name),
        (Some(_), Some(provider)) => Err(ask::provider_unsupported(call, &provider)),
        _ => Err(NodeError::permanent(
            "field_required",
            format!(
                "field model of {} has no value: select a model and its provider",
                call.node.display_name
            ),
        )),
    }
}

fn answer(call: &NodeCall, ctx: &NodeContext, model: &str, text: String, usage: Usage) -> NodeOutput {
    let mut message = from_node(call, Message::of(text), Some(model));
    message.sender = Some("Machine".to_owned());
    message.sender_name = Some("AI".to_owned());
    message.session_id = Some(ctx.session_id.clone());
    let noted = properties(&mut message);
    noted.insert("icon".to_owned(), "Bot".into());
    noted.insert("state".to_owned(), "complete".into());
    if let Some(usage) = ask::noted(usage) {
        noted.insert("usage".to_owned(), usage);
    }
    let mut output = NodeOutput {
        usage,
        ..NodeOutput::default()
    };
    if wants(call, OUTPUT) {
        output.values.insert(OUTPUT.to_owned(), Value::Message(message));
    }
    output
}

#[cfg(test)]
mod tests;
