//! Combine Text: two texts with something between them.

use super::{params, single};
use crate::component::{NodeCall, NodeError, NodeOutput};
use crate::value::Message;

pub(super) fn run(call: &NodeCall) -> Result<NodeOutput, NodeError> {
    let text = |field: &str| params::text(call, field, "");
    let combined = [text("text1")?, text("text2")?].join(&params::text(call, "delimiter", " ")?);
    Ok(single(call, "combined_text", Message::of(combined)))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{call, edge, field, text_of};
    use super::*;
    use crate::component::Kind;

    #[test]
    fn two_texts() {
        let both = [("text1", edge(Message::of("a"))), ("text2", field("b"))];
        let combined =
            |params: &[_]| text_of(&run(&call(Kind::CombineText, params)).unwrap(), "combined_text");
        assert_eq!(combined(&both), "a b");
        let [a, b] = both;
        assert_eq!(combined(&[a, b, ("delimiter", field(""))]), "ab");
        assert_eq!(combined(&[("delimiter", field("-"))]), "-");
    }
}
