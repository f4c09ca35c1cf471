//! Text Output: the text it is given, for the caller of the API.

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
    use super::super::testing::{call, edge, text_of};
    use super::*;
    use crate::component::Kind;

    #[test]
    fn a_message_keeps_only_its_text() {
        let mut given = Message::of("hi");
        given.sender = Some("User".to_owned());
        let output = run(&call(Kind::TextOutput, &[("input_value", edge(given))])).unwrap();
        assert_eq!(text_of(&output, "text"), "hi");
        let crate::value::Value::Message(message) = &output.values["text"] else {
            panic!()
        };
        assert_eq!(message.sender, None);
    }

    #[test]
    fn an_unwanted_output_is_not_computed() {
        let mut call = call(Kind::TextOutput, &[]);
        call.wanted = vec!["other".to_owned()].into();
        assert!(run(&call).unwrap().values.is_empty());
    }
}
