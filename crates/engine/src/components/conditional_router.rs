//! If-Else: compares two texts and sends a message down one of two branches.

use std::collections::BTreeMap;

use super::pattern::{self, Match};
use super::{from_node, params, wants};
use crate::component::{NodeCall, NodeError, NodeOutput};
use crate::value::{Message, Value};

const TRUE: &str = "true_result";
const FALSE: &str = "false_result";

pub(super) fn run(call: &NodeCall) -> Result<NodeOutput, NodeError> {
    let input = params::text(call, "input_text", "")?;
    let matched = params::text(call, "match_text", "")?;
    let operator = params::text(call, "operator", "equals")?;
    let case_sensitive = params::boolean(call, "case_sensitive", true);
    let holds = evaluate(call, &input, &matched, &operator, case_sensitive)?;

    let default_route = params::text(call, "default_route", FALSE)?;
    let mut branches = Branches {
        limit: params::integer(call, "max_iterations").unwrap_or(10),
        default_is_true: default_route == TRUE,
        default_is_false: default_route == FALSE,
        stopped: None,
    };
    let mut values = BTreeMap::new();
    if wants(call, TRUE) {
        let forced = branches.forces_true();
        if !forced {
            branches.stop(if holds { FALSE } else { TRUE });
        }
        let message = if holds || forced {
            case_message(call, "true_case_message", &input)?
        } else {
            Message::of("")
        };
        values.insert(TRUE.to_owned(), Value::Message(from_node(call, message, None)));
    }
    if wants(call, FALSE) {
        branches.stop(if holds { FALSE } else { TRUE });
        let message = if holds {
            Message::of("")
        } else {
            case_message(call, "false_case_message", &input)?
        };
        values.insert(FALSE.to_owned(), Value::Message(from_node(call, message, None)));
    }
    Ok(NodeOutput {
        values,
        stopped: branches.stopped.map(str::to_owned).into_iter().collect(),
        ..NodeOutput::default()
    })
}

/// Which branch stops. Outside a loop this is the first iteration, so the limit matters only where it is one or less:
/// then the default route is let through and the other one stops.
struct Branches {
    limit: i64,
    default_is_true: bool,
    default_is_false: bool,
    stopped: Option<&'static str>,
}

impl Branches {
    /// Before any iteration was counted.
    fn forces_true(&self) -> bool {
        self.stopped.is_none() && self.limit <= 0 && self.default_is_true
    }

    /// The first call decides; later ones change nothing.
    fn stop(&mut self, route: &'static str) {
        if self.stopped.is_some() {
            return;
        }
        let is_default = if route == TRUE {
            self.default_is_true
        } else {
            self.default_is_false
        };
        self.stopped = Some(match (self.limit <= 1 && is_default, route) {
            (true, FALSE) => TRUE,
            (true, _) => FALSE,
            (false, route) => route,
        });
    }
}

/// The override if it says anything, else the input.
fn case_message(call: &NodeCall, field: &str, input: &str) -> Result<Message, NodeError> {
    let message = params::message(call, field)?;
    Ok(message
        .filter(|message| !message.text.is_empty() || !message.files.is_empty())
        .unwrap_or_else(|| Message::of(input)))
}

fn evaluate(
    call: &NodeCall,
    input: &str,
    matched: &str,
    operator: &str,
    case_sensitive: bool,
) -> Result<bool, NodeError> {
    if operator == "regex" {
        return match pattern::matches_start(matched, input) {
            Match::Yes => Ok(true),
            Match::No | Match::Invalid => Ok(false),
            Match::Unsupported(detail) => Err(NodeError::permanent(
                "regex_unsupported",
                format!(
                    "the regular expression of {} cannot be used here: {detail}",
                    call.node.display_name
                ),
            )),
        };
    }
    let fold = |text: &str| {
        if case_sensitive {
            text.to_owned()
        } else {
            text.to_lowercase()
        }
    };
    let (input, matched) = (fold(input), fold(matched));
    let numbers = || Some((number(&input)?, number(&matched)?));
    Ok(match operator {
        "equals" => input == matched,
        "not equals" => input != matched,
        "contains" => input.contains(&matched),
        "starts with" => input.starts_with(&matched),
        "ends with" => input.ends_with(&matched),
        "less than" => numbers().is_some_and(|(a, b)| a < b),
        "less than or equal" => numbers().is_some_and(|(a, b)| a <= b),
        "greater than" => numbers().is_some_and(|(a, b)| a > b),
        "greater than or equal" => numbers().is_some_and(|(a, b)| a >= b),
        // An operator nobody knows compares nothing.
        _ => false,
    })
}

/// A number as Python's `float` reads it: white space around it, and single underscores between digits.
fn number(text: &str) -> Option<f64> {
    let text = text.trim();
    let bytes = text.as_bytes();
    let digit = |at: usize| bytes.get(at).is_some_and(u8::is_ascii_digit);
    let misplaced = |at: usize| at == 0 || !digit(at - 1) || !digit(at + 1);
    if bytes
        .iter()
        .enumerate()
        .any(|(at, byte)| *byte == b'_' && misplaced(at))
    {
        return None;
    }
    text.replace('_', "").parse().ok()
}

#[cfg(test)]
mod tests {
    use super::super::testing::{call, edge, field, text_of};
    use super::*;
    use crate::component::{Kind, Param};
    use serde_json::json;

    /// Each expectation was observed with the real component.
    #[test]
    fn operators() {
        let cases = [
            ("equals", "a", "A", true, false),
            ("equals", "a", "A", false, true),
            ("equals", "ß", "SS", false, false),
            ("not equals", "a", "b", true, true),
            ("not equals", "a", "A", false, false),
            ("contains", "abc", "", true, true),
            ("contains", "abc", "BC", false, true),
            ("starts with", "abc", "ab", true, true),
            ("starts with", "abc", "bc", true, false),
            ("ends with", "abc", "BC", true, false),
            ("ends with", "abc", "BC", false, true),
            ("regex", "abc", "b", true, false),
            ("regex", "abc", "a", true, true),
            ("regex", "ABC", "a", false, false),
            ("regex", "abc", "(", true, false),
            ("regex", "abc", "(?i)A", true, true),
            ("less than", "1", "2", true, true),
            ("less than", " 1 ", "2_0", true, true),
            ("less than", "abc", "2", true, false),
            ("less than", "nan", "2", true, false),
            ("greater than", "inf", "2", true, true),
            ("greater than", "1e3", "999.5", true, true),
            ("less than or equal", "2", "2.0", true, true),
            ("greater than or equal", "2", "2.0", true, true),
            ("greater than or equal", "1", "2", true, false),
            ("less than", "0x1", "5", true, false),
            ("less than", "1.", "5", true, true),
            ("less than", ".5", "5", true, true),
            ("less than", "-Infinity", "5", true, true),
            ("less than", "1_", "5", true, false),
            ("less than", "1__0", "50", true, false),
            ("less than", "+1", "5", true, true),
            ("less than", "", "5", true, false),
            ("unknown", "a", "a", true, false),
        ];
        for (operator, input, matched, case_sensitive, expected) in cases {
            let params = [
                ("input_text", edge(Message::of(input))),
                ("match_text", field(matched)),
                ("operator", field(operator)),
                ("case_sensitive", field(case_sensitive)),
            ];
            let output = run(&call(Kind::ConditionalRouter, &params)).unwrap();
            let (taken, stopped) = if expected { (TRUE, FALSE) } else { (FALSE, TRUE) };
            assert_eq!(output.stopped, [stopped], "{operator} {input:?} {matched:?}");
            assert_eq!(text_of(&output, taken), input, "{operator}");
            assert_eq!(text_of(&output, stopped), "", "{operator}");
        }
    }

    #[test]
    fn a_pattern_we_cannot_run_is_an_error_not_a_branch() {
        let params = [
            ("input_text", field("abc")),
            ("match_text", field("a(?=b)")),
            ("operator", field("regex")),
        ];
        let error = run(&call(Kind::ConditionalRouter, &params)).unwrap_err();
        assert_eq!(error.code, "regex_unsupported");
    }

    #[test]
    fn case_messages_replace_the_input_unless_blank() {
        let cases: [(&str, Param, &str, &str); 4] = [
            ("yes", field("T"), TRUE, "T"),
            ("no", field(""), FALSE, "no"),
            ("no", field("F"), FALSE, "F"),
            (
                "no",
                edge(Message {
                    files: vec!["a".to_owned()],
                    ..Message::default()
                }),
                FALSE,
                "",
            ),
        ];
        for (input, message, output_name, expected) in cases {
            let name = if output_name == TRUE {
                "true_case_message"
            } else {
                "false_case_message"
            };
            let params = [
                ("input_text", field(input)),
                ("match_text", field("yes")),
                (name, message),
            ];
            let output = run(&call(Kind::ConditionalRouter, &params)).unwrap();
            assert_eq!(text_of(&output, output_name), expected);
        }
    }

    #[test]
    fn only_wanted_outputs_are_computed_and_the_other_branch_still_stops() {
        for (wanted, input, stopped) in [
            (TRUE, "no", TRUE),
            (TRUE, "yes", FALSE),
            (FALSE, "yes", FALSE),
            (FALSE, "no", TRUE),
        ] {
            let params = [("input_text", field(input)), ("match_text", field("yes"))];
            let mut call = call(Kind::ConditionalRouter, &params);
            call.wanted = vec![wanted.to_owned()].into();
            let output = run(&call).unwrap();
            assert_eq!(output.values.keys().collect::<Vec<_>>(), [wanted]);
            assert_eq!(output.stopped, [stopped], "{wanted} {input}");
        }
    }

    #[test]
    fn a_limit_of_one_lets_the_default_route_through() {
        let cases = [
            (1, FALSE, "yes", TRUE),
            (1, FALSE, "no", TRUE),
            (1, TRUE, "yes", FALSE),
            (1, TRUE, "no", FALSE),
            (2, TRUE, "no", TRUE),
            (0, TRUE, "no", FALSE),
        ];
        for (limit, route, input, stopped) in cases {
            let params = [
                ("input_text", field(input)),
                ("match_text", field("yes")),
                ("max_iterations", field(json!(limit))),
                ("default_route", field(route)),
            ];
            let output = run(&call(Kind::ConditionalRouter, &params)).unwrap();
            assert_eq!(output.stopped, [stopped], "{limit} {route} {input}");
        }
    }
}
