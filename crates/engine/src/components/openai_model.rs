//! OpenAI: the model component with the name, the key and the server in fields of its own.

use serde_json::{Map, json};

use super::ask::{self, Ask};
use super::params;
use crate::component::{NodeCall, NodeContext, NodeError, NodeOutput};
use crate::model::{Options, Provider};

/// What this component's model name is before anybody chooses one.
const DEFAULT_MODEL: &str = "gpt-4o-mini";

/// Members of a request that come from elsewhere; `model_kwargs` must not replace them.
const RESERVED: [&str; 5] = ["api_key", "model", "messages", "stream", "stream_options"];

pub(super) async fn run(call: &NodeCall, ctx: &NodeContext) -> Result<NodeOutput, NodeError> {
    ask::check_outputs(call)?;
    let model = params::text(call, "model_name", DEFAULT_MODEL)?;
    let base = params::optional_text(call, "openai_api_base")?;
    let ask = Ask {
        endpoint: ask::endpoint(call, ctx, Provider::OpenAi, base.as_deref())?,
        options: options(call, &model),
        model,
        settings: ctx.model.limits.with_node(
            params::number(call, "timeout"),
            params::integer(call, "max_retries"),
        ),
    };
    ask::run(call, ctx, ask).await
}

fn options(call: &NodeCall, model: &str) -> Options {
    let mut more = Map::new();
    let reasoning = ask::is_reasoning(model);
    let wanted = (!reasoning).then(|| params::number(call, "temperature").unwrap_or(0.1));
    if !reasoning {
        more.insert(
            "seed".to_owned(),
            params::integer(call, "seed").unwrap_or(1).into(),
        );
    }
    if params::boolean(call, "json_mode", false) {
        more.insert("response_format".to_owned(), json!({"type": "json_object"}));
    }
    for (name, value) in params::dictionary(call, "model_kwargs") {
        if !RESERVED.contains(&name.as_str()) && !name.is_empty() {
            more.insert(name, value);
        }
    }
    Options {
        temperature: ask::temperature(model, wanted),
        limit: params::integer(call, "max_tokens").filter(|limit| *limit != 0),
        more,
        ..Options::default()
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{call, context, field, text_of};
    use super::*;
    use crate::component::{Kind, Param};
    use flowfleet_mock_model as mock;
    use serde_json::Value as Json;

    fn options_of(model: &str, params: &[(&str, Param)]) -> Json {
        let options = options(&call(Kind::OpenAiModel, params), model);
        let mut all = options.more;
        all.extend(
            options
                .temperature
                .map(|value| ("temperature".to_owned(), value.into())),
        );
        all.extend(
            options
                .limit
                .map(|value| ("max_completion_tokens".to_owned(), value.into())),
        );
        Json::Object(all)
    }

    /// Each body was observed with the real component.
    #[test]
    fn options_table() {
        assert_eq!(
            options_of("gpt-4o-mini", &[]),
            json!({"temperature": 0.1, "seed": 1})
        );
        let all = [
            ("temperature", field(0.2)),
            ("seed", field(3)),
            ("max_tokens", field(7)),
            ("json_mode", field(true)),
            (
                "model_kwargs",
                field(json!({"top_p": 0.5, "api_key": "x", "model": "y"})),
            ),
        ];
        assert_eq!(
            options_of("gpt-4o-mini", &all),
            json!({
                "temperature": 0.2, "seed": 3, "max_completion_tokens": 7,
                "response_format": {"type": "json_object"}, "top_p": 0.5
            })
        );
        assert_eq!(
            options_of("o1", &[("max_tokens", field(7))]),
            json!({"temperature": 1.0, "max_completion_tokens": 7})
        );
        assert_eq!(options_of("gpt-5.4", &[]), json!({}));
        let pairs = field(json!([{"key": "top_p", "value": 0.2}]));
        assert_eq!(options_of("m", &[("model_kwargs", pairs)])["top_p"], json!(0.2));
        assert_eq!(
            options_of("m", &[("max_tokens", field(""))]).get("max_completion_tokens"),
            None
        );
    }

    #[tokio::test]
    async fn the_nodes_own_server_and_key_are_used() {
        let server = mock::spawn(mock::Config::default()).await.unwrap();
        let (ctx, _) = context(&[("OPENAI_BASE_URL", "http://127.0.0.1:1/v1")]);
        let params = [
            ("openai_api_base", field(server.base_url())),
            ("api_key", field("sk-own")),
            ("input_value", field("hi")),
        ];
        let output = run(&call(Kind::OpenAiModel, &params), &ctx).await.unwrap();
        assert_eq!(text_of(&output, "text_output"), "echo: hi");
        assert_eq!(
            output.values["model_output"],
            crate::value::Value::Json(json!(""))
        );
    }
}
