//! Tool calls on demand: a question that says `[call NAME {"argument": "value"}]` is answered by that call, and by text
//! once the tool has said something. All calls of a question come in one turn.

use serde::Serialize;
use serde_json::{Map, Value};

#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Call {
    pub(crate) name: String,
    pub(crate) arguments: Map<String, Value>,
}

const BEGIN: &str = "[call ";

/// What a question says, in its order. What is not quite a call is text.
pub(crate) fn calls(question: &str) -> Vec<Call> {
    let mut found = Vec::new();
    let mut rest = question;
    while let Some((_, after)) = rest.split_once(BEGIN) {
        rest = after;
        if let Some((call, after)) = call(after) {
            found.push(call);
            rest = after;
        }
    }
    found
}

/// The first object in a question: what it is answered with by a tool that must be called, or as JSON of some schema.
pub(crate) fn object_in(question: &str) -> Option<Map<String, Value>> {
    /// Places where an object may begin that are looked at.
    const MOST: usize = 100;
    question.match_indices('{').take(MOST).find_map(|(place, _)| {
        let mut values = serde_json::Deserializer::from_str(&question[place..]).into_iter();
        values.next()?.ok()
    })
}

fn call(text: &str) -> Option<(Call, &str)> {
    let end = text.find([' ', ']'])?;
    let (name, after) = text.split_at(end);
    let after = after.trim_start();
    let (arguments, after) = match after.strip_prefix(']') {
        Some(after) => (Map::new(), after),
        None => {
            let mut values = serde_json::Deserializer::from_str(after).into_iter::<Map<String, Value>>();
            let arguments = values.next()?.ok()?;
            (arguments, after.get(values.byte_offset()..)?.strip_prefix(']')?)
        }
    };
    let name = (!name.is_empty()).then(|| name.to_owned())?;
    Some((Call { name, arguments }, after))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn objects_are_found_in_text() {
        let found = |text| object_in(text).map(Value::Object);
        assert_eq!(
            found("so {x} {\"a\": {\"b\": 1}} {}"),
            Some(json!({"a": {"b": 1}}))
        );
        assert_eq!(found("none [1] {"), None);
    }

    #[test]
    fn calls_are_found_in_text() {
        let named = |text: &str| {
            let found = calls(text).into_iter();
            found
                .map(|call| (call.name, Value::Object(call.arguments)))
                .collect::<Vec<_>>()
        };
        assert_eq!(named("nothing [here]"), []);
        assert_eq!(named("what is it? [call now]"), [("now".to_owned(), json!({}))]);
        assert_eq!(
            named(r#"[call a {"x": "]"}] and [call b {"y": [1]}]."#),
            [
                ("a".to_owned(), json!({"x": "]"})),
                ("b".to_owned(), json!({"y": [1]}))
            ]
        );
        assert_eq!(named("[call a {] [call b {}x] [call  ] [call"), []);
    }
}
