//! Language Model: asks the model a node selected, of any provider the engine can speak to.

use serde_json::{Map, Value as Json};

use super::ask::{self, Ask};
use super::params;
use crate::component::{NodeCall, NodeContext, NodeError, NodeOutput};
use crate::model::{Endpoint, Options, Protocol, Provider};

pub(super) async fn run(call: &NodeCall, ctx: &NodeContext) -> Result<NodeOutput, NodeError> {
    ask::check_outputs(call)?;
    let selection = Selection::of(call)?;
    let wanted = match (selection.reasoning, call.params.contains_key("temperature")) {
        (true, _) => None,
        (false, true) => params::number(call, "temperature"),
        (false, false) => Some(0.1),
    };
    let base = params::optional_text(call, "ollama_base_url")?;
    let mut selected = select(call, ctx, selection, (wanted, base.as_deref()))?;
    selected.options.limit = params::integer(call, "max_tokens").filter(|limit| *limit >= 1);
    let ask = Ask {
        endpoint: selected.endpoint,
        model: selected.model,
        options: selected.options,
        settings: ctx.model.limits,
    };
    ask::run(call, ctx, ask).await
}

/// A model that can be asked.
#[derive(Debug)]
pub(super) struct Selected {
    pub(super) model: String,
    pub(super) endpoint: Endpoint,
    pub(super) options: Options,
}

/// The model of a node that says nothing else of it.
pub(super) fn selected(call: &NodeCall, ctx: &NodeContext) -> Result<Selected, NodeError> {
    select(call, ctx, Selection::of(call)?, (None, None))
}

fn select(
    call: &NodeCall,
    ctx: &NodeContext,
    selection: Selection,
    (temperature, ollama): (Option<f64>, Option<&str>),
) -> Result<Selected, NodeError> {
    let provider = ask::provider(call, &selection.provider)?;
    let base = ollama.filter(|_| provider == Provider::Ollama);
    let temperature = match provider.protocol() {
        Protocol::OpenAi => ask::temperature(&selection.model, temperature),
        Protocol::Anthropic | Protocol::Ollama => temperature,
    };
    Ok(Selected {
        endpoint: ask::endpoint(call, ctx, provider, base)?,
        model: selection.model,
        options: Options {
            temperature,
            ..Options::default()
        },
    })
}

/// The chosen model: from the model field, with the name and provider fields over it.
#[derive(Debug, PartialEq, Eq)]
struct Selection {
    model: String,
    provider: String,
    reasoning: bool,
}

impl Selection {
    fn of(call: &NodeCall) -> Result<Self, NodeError> {
        let missing = |what: &str| {
            NodeError::permanent(
                "field_required",
                format!(
                    "field model of {} {what}: select a model and its provider",
                    call.node.display_name
                ),
            )
        };
        let entry = match params::json(call, "model") {
            Some(Json::Array(entries)) => entries.first().cloned(),
            Some(Json::String(name)) if name == "connect_other_models" => {
                return Err(ask::connected_model(call));
            }
            Some(Json::Null) | None => None,
            Some(other) => Some(other.clone()),
        };
        // A bare name is taken for a model of OpenAI's, where most names come from.
        let entry = match entry {
            Some(Json::Object(entry)) => entry,
            Some(Json::String(name)) if !name.trim().is_empty() => [
                ("name".to_owned(), name.trim().into()),
                ("provider".to_owned(), "OpenAI".into()),
            ]
            .into_iter()
            .collect(),
            _ => Map::new(),
        };
        let member = |name: &str| {
            entry
                .get(name)
                .and_then(Json::as_str)
                .map(str::trim)
                .filter(|text| !text.is_empty())
                .map(str::to_owned)
        };
        let field = |name: &str| -> Result<Option<String>, NodeError> {
            Ok(params::optional_text(call, name)?
                .map(|text| text.trim().to_owned())
                .filter(|text| !text.is_empty()))
        };
        let (override_model, override_provider) = (field("model_name")?, field("provider")?);
        let same = override_provider.is_none() || override_provider == member("provider");
        let model = override_model
            .or_else(|| member("name"))
            .ok_or_else(|| missing("has no value"))?;
        let provider = override_provider
            .or_else(|| member("provider"))
            .ok_or_else(|| missing("names no provider"))?;
        let metadata = entry.get("metadata").filter(|_| same);
        let flagged = metadata.and_then(|data| data.get("reasoning")) == Some(&Json::Bool(true));
        let listed = metadata
            .and_then(|data| data.get("reasoning_models"))
            .and_then(Json::as_array)
            .is_some_and(|names| names.iter().any(|name| name.as_str() == Some(&model)));
        Ok(Self {
            model,
            provider,
            reasoning: flagged || listed,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{call, context, edge, field, text_of};
    use super::*;
    use crate::component::{Kind, Param};
    use crate::value::Message;
    use flowfleet_mock_model as mock;
    use serde_json::json;

    fn selected(params: &[(&str, Param)]) -> Result<(String, String, bool), &'static str> {
        Selection::of(&call(Kind::LanguageModel, params))
            .map(|selection| (selection.model, selection.provider, selection.reasoning))
            .map_err(|error| error.code)
    }

    #[test]
    fn selections() {
        let is =
            |model: &str, provider: &str, reasoning| Ok((model.to_owned(), provider.to_owned(), reasoning));
        let mini = || {
            (
                "model",
                field(json!([{"name": "gpt-4o-mini", "provider": "OpenAI"}])),
            )
        };
        assert_eq!(selected(&[mini()]), is("gpt-4o-mini", "OpenAI", false));
        assert_eq!(
            selected(&[mini(), ("model_name", field("gpt-4.1"))]),
            is("gpt-4.1", "OpenAI", false)
        );
        assert_eq!(
            selected(&[
                mini(),
                ("model_name", edge(Message::of("m"))),
                ("provider", field("Anthropic"))
            ]),
            is("m", "Anthropic", false)
        );
        assert_eq!(
            selected(&[("provider", field("OpenAI")), ("model_name", field("m"))]),
            is("m", "OpenAI", false)
        );
        assert_eq!(
            selected(&[("model", field("gpt-4o"))]),
            is("gpt-4o", "OpenAI", false)
        );
        assert_eq!(
            selected(&[("model", field(json!(["gpt-4o"])))]),
            is("gpt-4o", "OpenAI", false)
        );
        let reasoning = json!([{"name": "m", "provider": "OpenAI", "metadata": {"reasoning": true}}]);
        assert_eq!(selected(&[("model", field(reasoning))]), is("m", "OpenAI", true));
        let listed = json!([{"name": "m", "provider": "OpenAI", "metadata": {"reasoning_models": ["m"]}}]);
        assert_eq!(selected(&[("model", field(listed))]), is("m", "OpenAI", true));
        assert_eq!(selected(&[("model", field(""))]), Err("field_required"));
        assert_eq!(selected(&[("model", field(json!([])))]), Err("field_required"));
        assert_eq!(selected(&[]), Err("field_required"));
        assert_eq!(
            selected(&[("model", field(json!([{"name": "m"}])))]),
            Err("field_required")
        );
        assert_eq!(
            selected(&[("model", field("connect_other_models"))]),
            Err("output_unsupported")
        );
    }

    #[tokio::test]
    async fn asks_and_reports_text_tokens_and_usage() {
        let server = mock::spawn(mock::Config::default()).await.unwrap();
        let (ctx, tokens) = context(&[("OPENAI_API_KEY", "sk"), ("OPENAI_BASE_URL", &server.base_url())]);
        let params = [
            (
                "model",
                field(json!([{"name": "gpt-4o-mini", "provider": "OpenAI"}])),
            ),
            ("input_value", edge(Message::of("hello there"))),
            ("system_message", field("be brief")),
        ];
        let mut call = call(Kind::LanguageModel, &params);
        call.wanted = vec!["text_output".to_owned()].into();
        let output = run(&call, &ctx).await.unwrap();
        assert_eq!(text_of(&output, "text_output"), "echo: hello there");
        assert_eq!(output.values.len(), 1);
        assert_eq!(tokens.lock().unwrap().concat(), "echo: hello there");
        assert!(tokens.lock().unwrap().len() > 1, "streamed");
        assert!(output.usage.input_tokens > 0 && output.usage.output_tokens > 0);
        let crate::value::Value::Message(message) = &output.values["text_output"] else {
            panic!()
        };
        assert_eq!(message.extra["properties"]["source"]["source"], "gpt-4o-mini");
        assert_eq!(
            message.extra["properties"]["usage"]["output_tokens"],
            output.usage.output_tokens
        );
    }

    #[tokio::test]
    async fn refuses_what_it_cannot_do_without_asking() {
        let server = mock::spawn(mock::Config::default()).await.unwrap();
        let model = |provider: &str| ("model", field(json!([{"name": "m", "provider": provider}])));
        let url = server.base_url();
        let key = [("OPENAI_API_KEY", "sk"), ("OPENAI_BASE_URL", &*url)];
        let with_files = Message {
            text: "x".to_owned(),
            files: vec!["a.png".to_owned()],
            ..Message::default()
        };
        let cases = [
            (
                &key[..],
                vec![model("Groq"), ("input_value", field("x"))],
                "provider_unsupported",
            ),
            (
                &key[1..],
                vec![model("OpenAI"), ("input_value", field("x"))],
                "model_unauthorized",
            ),
            (&key[..], vec![model("OpenAI")], "field_required"),
            (
                &key[..],
                vec![model("OpenAI"), ("input_value", edge(with_files))],
                "files_unsupported",
            ),
            (
                &key[..],
                vec![
                    model("OpenAI"),
                    ("input_value", edge(crate::value::Value::Table(Vec::new()))),
                ],
                "field_invalid",
            ),
        ];
        for (variables, params, code) in cases {
            let (ctx, _) = context(variables);
            let error = run(&call(Kind::LanguageModel, &params), &ctx).await.unwrap_err();
            assert_eq!(error.code, code, "{error}");
            assert!(!error.retryable);
        }
        let (ctx, _) = context(&key);
        let mut only_model = call(
            Kind::LanguageModel,
            &[model("OpenAI"), ("input_value", field("x"))],
        );
        only_model.wanted = vec!["model_output".to_owned()].into();
        assert_eq!(
            run(&only_model, &ctx).await.unwrap_err().code,
            "output_unsupported"
        );
        assert_eq!(server.requests(), 0);
    }
}
