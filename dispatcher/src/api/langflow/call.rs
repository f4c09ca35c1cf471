//! The body and headers of a call of `/api/v1/run`, checked without I/O.
//!
//! Langflow ignores fields it does not know, and so is done here: its clients send some. What would change the run and
//! cannot be done here is refused.

use std::collections::BTreeMap;

use axum::http::HeaderMap;
use flowfleet_engine::{InputType, OutputType, Request};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::api::body;
use crate::api::problem::{Code, ErrorItem};
use crate::submit::parse::{MAX_SESSION, MAX_VARIABLES, Refused};

/// Headers that set a variable of the run, its name in capitals.
const VARIABLE: &str = "x-langflow-global-var-";

/// What is asked of a flow. All of it may be left out, also the body; fields that are not known are ignored.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub(crate) struct LangflowRun {
    pub input_value: Option<String>,
    /// `chat`, `text` or `any`: which input components take the input; `chat` when absent.
    #[schema(pattern = "^(chat|text|any)$")]
    pub input_type: Option<String>,
    /// `chat`, `text`, `any` or `debug`: which components' results are the answer; `chat` when absent.
    #[schema(pattern = "^(chat|text|any|debug)$")]
    pub output_type: Option<String>,
    /// Only this component's result, by id or display name.
    pub output_component: Option<String>,
    /// Values for fields of nodes, by node id or display name.
    #[schema(value_type = Option<Object>)]
    pub tweaks: Option<Map<String, Value>>,
    /// The flow's id when absent or empty.
    pub session_id: Option<String>,
    /// As the parameter `stream`.
    pub stream: Option<bool>,
}

/// A call that is well-formed.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Call {
    pub request: Request,
    pub stream: bool,
    /// What the idempotency key stands for.
    pub asked: Value,
}

/// One thing that is wrong.
pub(super) fn refused(code: Code, pointer: &str, detail: impl Into<String>) -> Refused {
    Refused {
        code,
        errors: vec![ErrorItem::new(pointer, detail)],
    }
}

fn invalid(errors: Vec<ErrorItem>) -> Refused {
    Refused {
        code: Code::Invalid,
        errors,
    }
}

/// Parses a body; the empty one asks for nothing in particular.
pub(crate) fn parse(bytes: &[u8]) -> Result<Call, Refused> {
    if bytes.trim_ascii().is_empty() {
        return LangflowRun::default().check();
    }
    let asked: Option<Map<String, Value>> = body::json(bytes).map_err(|error| invalid(vec![error]))?;
    let mut asked = asked.unwrap_or_default();
    if asked.get("context").is_some_and(|context| !context.is_null()) {
        let detail = "a context cannot be given here: use tweaks, or headers X-LANGFLOW-GLOBAL-VAR-NAME";
        return Err(Refused {
            code: Code::NotAvailable,
            errors: vec![ErrorItem::new("/context", detail)],
        });
    }
    // Langflow takes the fields either way.
    let (place, inner) = match asked.remove("input_request") {
        None | Some(Value::Null) => ("", Value::Object(asked)),
        Some(inner) => ("/input_request", inner),
    };
    let run = serde_path_to_error::deserialize::<_, LangflowRun>(inner).map_err(|error| {
        let pointer = body::pointer(error.path());
        invalid(vec![ErrorItem::new(pointer, error.inner().to_string())])
    });
    run.and_then(LangflowRun::check).map_err(|mut refused| {
        for error in &mut refused.errors {
            error.pointer.insert_str(0, place);
        }
        refused
    })
}

impl LangflowRun {
    pub(super) fn check(self) -> Result<Call, Refused> {
        let mut errors = Vec::new();
        let asked = serde_json::to_value(&self).unwrap_or_default();
        let input_type = match self.input_type.as_deref() {
            None | Some("chat") => InputType::Chat,
            Some("text") => InputType::Text,
            Some("any") => InputType::Any,
            Some(_) => {
                errors.push(ErrorItem::new("/input_type", "must be chat, text or any"));
                InputType::Chat
            }
        };
        let output_type = match self.output_type.as_deref() {
            None | Some("chat") => OutputType::Chat,
            Some("text") => OutputType::Text,
            Some("any") => OutputType::Any,
            Some("debug") => OutputType::Debug,
            Some(_) => {
                errors.push(ErrorItem::new("/output_type", "must be chat, text, any or debug"));
                OutputType::Chat
            }
        };
        let session_id = self.session_id.filter(|session| !session.is_empty());
        if session_id
            .as_ref()
            .is_some_and(|id| id.len() > MAX_SESSION || id.chars().any(char::is_control))
        {
            let detail = format!("must have at most {MAX_SESSION} bytes, without control characters");
            errors.push(ErrorItem::new("/session_id", detail));
        }
        if !errors.is_empty() {
            return Err(invalid(errors));
        }
        Ok(Call {
            request: Request {
                input: self.input_value.map_or(Value::Null, Value::String),
                input_type,
                output_type,
                output_component: self.output_component.filter(|wanted| !wanted.is_empty()),
                tweaks: self.tweaks.map_or(Value::Null, Value::Object),
                session_id,
                ..Request::default()
            },
            stream: self.stream == Some(true),
            asked,
        })
    }
}

/// The variables in the headers. They travel with the run's input, are looked up by its nodes only, and are never shown.
pub(crate) fn variables(headers: &HeaderMap) -> Result<BTreeMap<String, String>, Refused> {
    let mut variables = BTreeMap::new();
    for (name, value) in headers {
        let Some(name) = name.as_str().strip_prefix(VARIABLE) else {
            continue;
        };
        let name = name.to_uppercase();
        let refuse = |detail: &str| {
            let detail = format!("header X-LANGFLOW-GLOBAL-VAR-{name:.64}: {detail}");
            invalid(vec![ErrorItem::new("", detail)])
        };
        let text = std::str::from_utf8(value.as_bytes()).map_err(|_| refuse("is not text"))?;
        if name.is_empty() {
            return Err(refuse("the name of the variable is missing"));
        }
        if variables.insert(name.clone(), text.to_owned()).is_some() {
            return Err(refuse("is given twice"));
        }
    }
    if variables.len() > MAX_VARIABLES {
        let detail = format!("at most {MAX_VARIABLES} variables are allowed");
        return Err(invalid(vec![ErrorItem::new("", detail)]));
    }
    Ok(variables)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn parsed(body: &Value) -> Result<Call, Refused> {
        parse(body.to_string().as_bytes())
    }

    #[test]
    fn everything_may_be_left_out() {
        let empty = parse(b" ").unwrap();
        assert_eq!(empty.request, Request::default());
        assert!(!empty.stream);
        assert_eq!(parse(b"null").unwrap(), empty);
        for body in [
            json!({}),
            json!({"input_value": null, "tweaks": null, "session_id": "", "output_component": ""}),
            json!({"input_request": null, "context": null, "user_id": "u", "colour": 1}),
            json!({"input_request": {}}),
        ] {
            assert_eq!(parsed(&body).unwrap().request, empty.request, "{body}");
        }
    }

    #[test]
    fn fields_stand_bare_or_in_input_request() {
        let fields = json!({"input_value": "hi", "input_type": "text", "output_type": "debug", "stream": true,
            "tweaks": {"A": {"b": 1}}, "session_id": "s", "output_component": "c"});
        let bare = parsed(&fields).unwrap();
        assert_eq!(bare.request.input, json!("hi"));
        assert_eq!(bare.request.input_type, InputType::Text);
        assert_eq!(bare.request.output_type, OutputType::Debug);
        assert_eq!(bare.request.session_id.as_deref(), Some("s"));
        assert!(bare.stream);
        assert_eq!(parsed(&json!({"input_request": fields})).unwrap(), bare);
    }

    #[test]
    fn each_bad_field_is_named() {
        for (body, pointer) in [
            (json!({"input_value": 3}), "/input_value"),
            (json!({"input_type": "voice"}), "/input_type"),
            (json!({"output_type": "x"}), "/output_type"),
            (json!({"tweaks": []}), "/tweaks"),
            (json!({"session_id": "a\u{0}"}), "/session_id"),
            (json!({"stream": "yes"}), "/stream"),
            (json!({"context": {}}), "/context"),
            (json!({"input_request": 3}), "/input_request"),
            (
                json!({"input_request": {"input_type": "x"}}),
                "/input_request/input_type",
            ),
            (json!({"input_request": {"stream": 1}}), "/input_request/stream"),
            (json!([]), ""),
        ] {
            assert_eq!(parsed(&body).unwrap_err().errors[0].pointer, pointer, "{body}");
        }
    }

    #[test]
    fn headers_set_variables() {
        let headers = |pairs: &[(&'static str, &str)]| -> HeaderMap {
            let pair = |(name, value): &(&'static str, &str)| (name.parse().unwrap(), value.parse().unwrap());
            pairs.iter().map(pair).collect()
        };
        let found = variables(&headers(&[
            ("x-langflow-global-var-openai_api_key", "sk-1"),
            ("x-langflow-global-var-a-b", ""),
            ("x-api-key", "ff_secret"),
        ]));
        let expected = [("OPENAI_API_KEY", "sk-1"), ("A-B", "")].map(|(k, v)| (k.to_owned(), v.to_owned()));
        assert_eq!(found.unwrap(), BTreeMap::from(expected));
        assert!(variables(&headers(&[("x-langflow-global-var-", "x")])).is_err());
        let mut twice = headers(&[("x-langflow-global-var-a", "1")]);
        twice.append("x-langflow-global-var-a", "2".parse().unwrap());
        assert!(variables(&twice).is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]

        #[test]
        fn any_text_is_sent_as_it_is(text in "\\PC{0,40}") {
            let call = parsed(&json!({"input_value": text})).unwrap();
            prop_assert_eq!(call.request.input, json!(text));
        }
    }
}
