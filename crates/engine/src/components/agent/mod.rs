//! Agent: asks a model, runs the tools it asks for, and asks again with what they said, until it answers.

mod arguments;
mod structured;

use std::collections::{BTreeMap, BTreeSet};

use futures::future::join_all;
use serde_json::{Map, Value as Json, json};

use super::conversation::{self, blocks_with_text, id_of, keep, recall};
use super::tool::{Complaint, Tool};
use super::{ask, from_node, params, properties, wants};
use crate::component::{Kind, NodeCall, NodeContext, NodeError, NodeOutput, Params, Usage};
use crate::memory::Recall;
use crate::model::{Chat, Options, Provider, Reply, ToolCall, Turn, chat};
use crate::value::{Message, Value};

const OUTPUT: &str = "response";
/// What is said when nothing is.
const CONTINUE: &str = "Continue the conversation.";
const MOST_CALLS: i64 = 15;

pub(super) async fn run(call: &NodeCall, ctx: &NodeContext) -> Result<NodeOutput, NodeError> {
    let (model, provider) = selected(call)?;
    let tools = tools(call);
    let question = Chat {
        endpoint: ask::endpoint(call, ctx, provider, None)?,
        turns: Vec::new(),
        model,
        options: Options {
            limit: params::integer(call, "max_tokens").filter(|limit| *limit >= 1),
            tools: tools.iter().map(Tool::spec).collect(),
            ..Options::default()
        },
        stream: true,
    };
    let mut output = NodeOutput::default();
    if wants(call, structured::OUTPUT) && call.kind == Kind::Agent {
        let (data, usage) = structured::respond(call, ctx, &tools, question.clone()).await?;
        output.usage += usage;
        output
            .values
            .insert(structured::OUTPUT.to_owned(), Value::Data(data));
    }
    if wants(call, OUTPUT) {
        let (message, usage) = respond(call, ctx, &tools, question).await?;
        output.usage += usage;
        output.values.insert(OUTPUT.to_owned(), Value::Message(message));
    }
    Ok(output)
}

/// The answer as a message, and what it cost.
async fn respond(
    call: &NodeCall,
    ctx: &NodeContext,
    tools: &[Tool],
    mut question: Chat,
) -> Result<(Message, Usage), NodeError> {
    let instructions = instructions(call, ctx, &question.model)?;
    question.turns = turns(call, ctx, instructions).await?;
    let is_heard = call.near_chat.output && ctx.run.memory.is_some();
    let draft = match is_heard && tools.iter().any(Tool::listens) {
        true => Some(draft(call, ctx).await?),
        false => None,
    };
    let (said, usage) = converse(call, ctx, tools, &mut question).await?;
    let mut message = answer(call, ctx, &question.model, said.text, usage);
    if is_heard {
        let extra = std::sync::Arc::make_mut(&mut message.extra);
        extra.insert("content_blocks".to_owned(), said.steps.into());
        extra.extend(draft.map(|id| ("id".to_owned(), id.into())));
        let text = message.text.clone();
        blocks_with_text(&mut message, &text);
        keep(call, ctx, &mut message, &call.node.id).await?;
    }
    Ok((message, usage))
}

/// An agent's message stands in the conversation, empty, while its tools read it. Its id.
async fn draft(call: &NodeCall, ctx: &NodeContext) -> Result<String, NodeError> {
    let mut message = answer(call, ctx, "", String::new(), Usage::default());
    properties(&mut message).insert("state".to_owned(), "partial".into());
    keep(call, ctx, &mut message, &call.node.id).await?;
    Ok(id_of(&message).unwrap_or_default().to_owned())
}

/// What came of asking.
#[derive(Debug, Default)]
struct Said {
    text: String,
    /// The tools that ran, as a conversation shows them.
    steps: Vec<Json>,
}

/// Everything the model said, and what it cost.
async fn converse(
    call: &NodeCall,
    ctx: &NodeContext,
    tools: &[Tool],
    question: &mut Chat,
) -> Result<(Said, Usage), NodeError> {
    let limit = params::integer(call, "max_iterations")
        .unwrap_or(MOST_CALLS)
        .max(1);
    let (mut said, mut usage) = (Said::default(), Usage::default());
    for _ in 0..limit {
        let reply = chat(ctx, question, &ctx.model.limits).await?;
        said.text.push_str(&reply.text);
        usage += reply.usage;
        let Some(calls) = wanted(&reply) else {
            return Ok((said, usage));
        };
        question.turns.push(turn(&reply, &calls));
        let answers = join_all(calls.iter().map(|wanted| answer_of(tools, wanted, ctx))).await;
        for (wanted, answer) in calls.iter().zip(answers) {
            if ctx.run.memory.is_some() {
                said.steps.push(step(wanted, &answer));
            }
            let failed = answer.is_err();
            let (Ok(content) | Err(Complaint(content))) = answer;
            question.turns.push(Turn::Tool {
                id: wanted.id.to_owned(),
                content,
                failed,
            });
        }
    }
    let over = format!("Model call limits exceeded: run limit ({limit}/{limit})");
    ctx.token(&over);
    said.text.push_str(&over);
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
fn turn(reply: &Reply, calls: &[Wanted<'_>]) -> Turn {
    let call = |wanted: &Wanted<'_>| ToolCall {
        id: wanted.id.to_owned(),
        name: wanted.name.to_owned(),
        arguments: crate::template::python_json(&Json::Object(wanted.arguments.clone())),
    };
    Turn::Assistant {
        text: reply.text.clone(),
        calls: calls.iter().map(call).collect(),
        blocks: reply.blocks.clone(),
    }
}

/// A tool that ran, as a conversation shows it.
fn step(wanted: &Wanted<'_>, answer: &Result<String, Complaint>) -> Json {
    let (status, content) = match answer {
        Ok(content) => ("success", content),
        Err(Complaint(content)) => ("error", content),
    };
    json!({
        "type": "tool_use",
        "header": {"title": format!("Executed **{}**", wanted.name), "icon": "Hammer"},
        "contents": [],
        "name": wanted.name,
        "tool_input": wanted.arguments,
        "output": {"type": "tool", "name": wanted.name, "tool_call_id": wanted.id, "content": content, "status": status},
    })
}

async fn answer_of(tools: &[Tool], wanted: &Wanted<'_>, ctx: &NodeContext) -> Result<String, Complaint> {
    let Some(tool) = tools.iter().find(|tool| tool.name == wanted.name) else {
        let names: Vec<&str> = tools.iter().map(|tool| tool.name.as_str()).collect();
        return Err(Complaint(format!(
            "Error: {} is not a valid tool, try one of [{}].",
            wanted.name,
            names.join(", ")
        )));
    };
    tool.run(&wanted.arguments, ctx).await
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

/// The instructions with what they name filled in.
fn instructions(call: &NodeCall, ctx: &NodeContext, model: &str) -> Result<String, NodeError> {
    let precision = if call.kind == Kind::TimedAgent {
        "%Y-%m-%d %H:%M:%S UTC"
    } else {
        "%Y-%m-%d"
    };
    let today = (ctx.clock)()
        .to_zoned(jiff::tz::TimeZone::UTC)
        .strftime(precision);
    Ok(params::text(call, "system_prompt", "")?
        .replace("{current_date}", &today.to_string())
        .replace("{model_name}", model)
        .replace("{optional_user_context}", ""))
}

/// The instructions, what was said before, then the input: always as the user, also from another agent.
async fn turns(call: &NodeCall, ctx: &NodeContext, instructions: String) -> Result<Vec<Turn>, NodeError> {
    let input = params::message(call, "input_value")?.unwrap_or_default();
    if !input.files.is_empty() {
        return Err(ask::files_unsupported(call));
    }
    let mut turns = vec![Turn::System(instructions)];
    turns.extend(history(call, ctx, &input).await?);
    turns.push(Turn::User(match input.text.trim() {
        "" => CONTINUE.to_owned(),
        _ => input.text,
    }));
    Ok(turns)
}

/// What was said before, oldest first, without the input itself.
async fn history(call: &NodeCall, ctx: &NodeContext, input: &Message) -> Result<Vec<Turn>, NodeError> {
    let limit = if call.params.contains_key("n_messages") {
        params::integer(call, "n_messages")
    } else {
        Some(100)
    };
    let context = params::text(call, "context_id", "")?;
    let wanted = Recall {
        session_id: Some(ctx.session_id.clone()),
        context_id: (!context.is_empty()).then_some(context),
        limit: conversation::limit(limit),
        ..Recall::default()
    };
    let mut turns = Vec::new();
    for said in recall(call, ctx, &wanted).await?.into_iter().rev() {
        let message = said.message;
        if id_of(input) == Some(said.id.as_str())
            || (message.text.trim().is_empty() && message.files.is_empty())
        {
            continue;
        }
        let from_user = message
            .sender
            .as_deref()
            .is_none_or(|sender| sender.is_empty() || sender == "User");
        if from_user && !message.files.is_empty() {
            return Err(ask::files_unsupported(call));
        }
        turns.push(match from_user {
            true => Turn::User(message.text),
            false => Turn::said(message.text),
        });
    }
    Ok(turns)
}

/// The model's name and provider: of the model field, or of the fields that older exports have instead.
fn selected(call: &NodeCall) -> Result<(String, Provider), NodeError> {
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
        (Some(name), Some(provider)) => Ok((name, ask::provider(call, &provider)?)),
        _ => Err(NodeError::permanent(
            "field_required",
            format!(
                "field model of {} has no value: select a model and its provider",
                call.node.display_name
            ),
        )),
    }
}

fn answer(call: &NodeCall, ctx: &NodeContext, model: &str, text: String, usage: Usage) -> Message {
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
    message
}

#[cfg(test)]
mod tests;
