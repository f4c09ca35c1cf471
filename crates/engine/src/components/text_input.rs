//! Text Input: its text as a message without a sender.

use super::{params, single};
use crate::component::{NodeCall, NodeError, NodeOutput};
use crate::value::Message;

pub(super) fn run(call: &NodeCall) -> Result<NodeOutput, NodeError> {
    Ok(single(
        call,
        "text",
        Message::of(params::text(call, "input_value", "")?),
    ))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{call, edge, field, text_of};
    use super::*;
    use crate::component::Kind;
    use crate::value::Value;
    use serde_json::json;

    #[test]
    fn text_comes_from_a_field_or_an_edge() {
        let data = json!({"text": "data"}).as_object().cloned().unwrap();
        let cases = [
            (field("typed"), Some("typed")),
            (field(json!(null)), Some("")),
            (field(json!({"text": "object"})), Some("object")),
            (edge(Message::of("message")), Some("message")),
            (edge(Value::Data(data)), Some("data")),
            (
                edge(Value::Data(json!({"a": 1}).as_object().cloned().unwrap())),
                None,
            ),
            (edge(Value::Table(Vec::new())), None),
            (field(true), None),
        ];
        for (param, expected) in cases {
            let result = run(&call(Kind::TextInput, &[("input_value", param.clone())]));
            assert_eq!(
                result.ok().map(|output| text_of(&output, "text")).as_deref(),
                expected,
                "{param:?}"
            );
        }
    }
}
