//! What the components that ask a model share: the messages they send and the outputs they make of the answer.

use serde_json::{Value as Json, json};

use super::{from_node, params, properties, wants};
use crate::component::{NodeCall, NodeContext, NodeError, NodeOutput, Usage};
use crate::model::{CallLimits, Chat, Endpoint, Options, Provider, Turn, api_key, chat};
use crate::value::{Message, Value};

const TEXT: &str = "text_output";
const MODEL: &str = "model_output";

/// What is asked, apart from the messages.
#[derive(Debug)]
pub(super) struct Ask {
    pub endpoint: Endpoint,
    pub model: String,
    pub options: Options,
    pub settings: CallLimits,
}

/// Refuses what cannot work before a key is looked up: the model itself as a value for another node.
pub(super) fn check_outputs(call: &NodeCall) -> Result<(), NodeError> {
    if wants(call, MODEL) && !wants(call, TEXT) {
        return Err(NodeError::permanent(
            "output_unsupported",
            format!(
                "{}: the model itself cannot be handed to another node here; connect its response",
                call.node.display_name
            ),
        ));
    }
    Ok(())
}

/// Asks the model and makes the node's outputs of the answer.
pub(super) async fn run(call: &NodeCall, ctx: &NodeContext, ask: Ask) -> Result<NodeOutput, NodeError> {
    let question = Chat {
        turns: turns(call)?,
        endpoint: ask.endpoint,
        model: ask.model,
        options: ask.options,
        stream: true,
    };
    let reply = chat(ctx, &question, &ask.settings).await?;
    let mut message = from_node(call, Message::of(reply.text), Some(&question.model));
    let usage = reply.usage;
    if let Some(noted) = noted(usage) {
        properties(&mut message).insert("usage".to_owned(), noted);
    }
    let mut output = NodeOutput {
        usage,
        ..NodeOutput::default()
    };
    if wants(call, MODEL) {
        output.values.insert(MODEL.to_owned(), Value::Json(json!("")));
    }
    output.values.insert(TEXT.to_owned(), Value::Message(message));
    Ok(output)
}

/// The system message if there is one, then the input: as the user, or as the assistant if the machine sent it.
fn turns(call: &NodeCall) -> Result<Vec<Turn>, NodeError> {
    let system = params::text(call, "system_message", "")?;
    let input = params::message(call, "input_value")?;
    if input.is_none() && system.is_empty() {
        return Err(NodeError::permanent(
            "field_required",
            format!(
                "field input_value of {} has no value: the message for the model is empty",
                call.node.display_name
            ),
        ));
    }
    let mut turns = Vec::with_capacity(2);
    if !system.is_empty() {
        turns.push(Turn::System(system));
    }
    if let Some(input) = input {
        let from_user = input
            .sender
            .as_deref()
            .is_none_or(|sender| sender.is_empty() || sender == "User");
        if from_user && !input.files.is_empty() {
            return Err(files_unsupported(call));
        }
        turns.push(match from_user {
            true => Turn::User(input.text),
            false => Turn::said(input.text),
        });
    }
    Ok(turns)
}

/// A system message if there is one, and the user's if there is one.
pub(super) fn conversation(system: &str, input: &str) -> Vec<Turn> {
    let system = (!system.is_empty()).then(|| Turn::System(system.to_owned()));
    let input = (!input.is_empty()).then(|| Turn::User(input.to_owned()));
    system.into_iter().chain(input).collect()
}

/// Where a provider's models are, with the key that the node or the variables have for it. `base` is the node's.
pub(super) fn endpoint(
    call: &NodeCall,
    ctx: &NodeContext,
    provider: Provider,
    base: Option<&str>,
) -> Result<Endpoint, NodeError> {
    let key = match provider.key_variable() {
        Some(variable) => {
            let field = params::optional_text(call, "api_key")?;
            Some(api_key(ctx, field.as_deref(), variable)?)
        }
        None => None,
    };
    Endpoint::of(ctx, provider, base, key)
}

/// The provider of a name.
pub(super) fn provider(call: &NodeCall, name: &str) -> Result<Provider, NodeError> {
    Provider::named(name).ok_or_else(|| provider_unsupported(call, name))
}

/// Why a node that selects this model needs the Python engine.
pub(super) fn needs_python(model: Option<&Json>) -> Option<String> {
    let entry = match model? {
        Json::Array(entries) => entries.first()?,
        entry => entry,
    };
    let provider = entry.get("provider")?.as_str()?;
    let is_foreign = !provider.trim().is_empty() && Provider::named(provider).is_none();
    is_foreign.then(|| format!("asks a model of {provider}"))
}

/// What a message says of the tokens it cost.
pub(super) fn noted(usage: Usage) -> Option<Json> {
    (!usage.is_zero()).then(|| {
        json!({
            "input_tokens": usage.input_tokens,
            "output_tokens": usage.output_tokens,
            "total_tokens": usage.input_tokens + usage.output_tokens,
        })
    })
}

pub(super) fn files_unsupported(call: &NodeCall) -> NodeError {
    NodeError::permanent(
        "files_unsupported",
        format!(
            "{}: files cannot be passed to a model here yet; send text only",
            call.node.display_name
        ),
    )
}

pub(super) fn connected_model(call: &NodeCall) -> NodeError {
    NodeError::permanent(
        "output_unsupported",
        format!(
            "{}: a connected model cannot be used here; select one in the node",
            call.node.display_name
        ),
    )
}

fn provider_unsupported(call: &NodeCall, provider: &str) -> NodeError {
    NodeError::permanent(
        "provider_unsupported",
        format!(
            "{} asks for provider {provider:?}: only OpenAI, OpenRouter, Anthropic, Ollama and servers that speak their \
             protocols are supported here; choose one of them, or select the provider in the flow itself, not by a \
             tweak, and run it on a worker with Python",
            call.node.display_name
        ),
    )
}

/// The temperature a model takes: the first o models only 1, the gpt-5 ones no other than 1.
pub(super) fn temperature(model: &str, wanted: Option<f64>) -> Option<f64> {
    let model = model.to_lowercase();
    match wanted {
        None if model.starts_with("o1") => Some(1.0),
        Some(wanted) if model.starts_with("gpt-5") && !model.contains("chat") && wanted != 1.0 => None,
        wanted => wanted,
    }
}

/// Names of models that take neither temperature nor seed, where a node says nothing but the name.
pub(super) fn is_reasoning(model: &str) -> bool {
    const REASONING: [&str; 11] = [
        "gpt-5.4",
        "gpt-5.4-mini",
        "gpt-5.4-pro",
        "gpt-5.3-codex",
        "gpt-5.2",
        "gpt-5.1",
        "gpt-5",
        "gpt-5-mini",
        "gpt-5-nano",
        "gpt-5-chat-latest",
        "o1",
    ];
    REASONING.contains(&model)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_providers_are_asked_by_python() {
        let needs = |model: Json| needs_python(Some(&model));
        let of = |provider: &str| json!([{"name": "m", "provider": provider}]);
        assert_eq!(needs(of("Groq")).as_deref(), Some("asks a model of Groq"));
        assert!(needs(json!({"name": "m", "provider": "IBM WatsonX"})).is_some());
        for native in [
            of("anthropic"),
            of("Ollama"),
            of("OpenRouter"),
            of(""),
            json!(""),
            json!([]),
            json!("gpt-4o"),
        ] {
            assert_eq!(needs(native.clone()), None, "{native}");
        }
        assert_eq!(needs_python(None), None);
    }
}
