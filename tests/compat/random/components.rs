//! The components that flows are drawn of. **One more is one more entry.**

use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use serde_json::Value as Json;

use super::texts::{template, text};

/// What goes over an edge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Type {
    Message,
    Data,
    Table,
}

use Type::{Data, Message, Table};

const TEXT: &[Type] = &[Message];
const ANY: &[Type] = &[Message, Data, Table];

/// An input that an edge may feed.
#[derive(Debug)]
pub(super) struct Input {
    pub(super) field: &'static str,
    pub(super) takes: &'static [Type],
    /// How often it is fed, of a hundred.
    pub(super) often: u32,
}

const fn input(field: &'static str, takes: &'static [Type], often: u32) -> Input {
    Input { field, takes, often }
}

pub(super) type Fields = Vec<(&'static str, Json)>;

pub(super) struct Component {
    /// As nodes of it are called.
    pub(super) name: &'static str,
    /// How often it is drawn.
    pub(super) weight: u32,
    pub(super) outputs: &'static [(&'static str, Type)],
    pub(super) inputs: &'static [Input],
    pub(super) fields: fn(&mut StdRng) -> Fields,
}

impl std::fmt::Debug for Component {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

pub(super) const COMPONENTS: &[Component] = &[
    Component {
        name: "ChatInput",
        weight: 2,
        outputs: &[("message", Message)],
        inputs: &[],
        fields: |rng| vec![("input_value", text(rng).into())],
    },
    Component {
        name: "TextInput",
        weight: 4,
        outputs: &[("text", Message)],
        inputs: &[input("input_value", TEXT, 15)],
        fields: |rng| vec![("input_value", text(rng).into())],
    },
    Component {
        name: "Prompt",
        weight: 4,
        outputs: &[("prompt", Message)],
        inputs: &[input("x", TEXT, 70), input("y", TEXT, 40)],
        fields: |rng| {
            let double = rng.random_bool(0.2);
            let names: &[&str] = if rng.random_bool(0.03) {
                &["x", "z"]
            } else {
                &["x", "y"]
            };
            let template = template(rng, names, double);
            let template = if template.is_empty() && rng.random_bool(0.9) {
                "{x}".to_owned()
            } else {
                template
            };
            vec![
                ("x", text(rng).into()),
                ("y", text(rng).into()),
                ("template", template.into()),
                ("use_double_brackets", double.into()),
            ]
        },
    },
    Component {
        name: "Parser",
        weight: 4,
        outputs: &[("parsed_text", Message)],
        inputs: &[
            input("input_data", &[Data, Table], 99),
            input("sep", TEXT, 10),
            input("pattern", TEXT, 4),
        ],
        fields: |rng| {
            let mode = if rng.random_bool(0.3) {
                "Stringify"
            } else {
                "Parser"
            };
            let pattern = template(rng, &["text", "a", "b", "n", "result"], false);
            vec![
                ("mode", mode.into()),
                ("pattern", pattern.into()),
                ("sep", text(rng).into()),
            ]
        },
    },
    Component {
        name: "CombineText",
        weight: 3,
        outputs: &[("combined_text", Message)],
        inputs: &[
            input("text1", TEXT, 80),
            input("text2", TEXT, 60),
            input("delimiter", TEXT, 10),
        ],
        fields: |rng| {
            vec![
                ("text1", text(rng).into()),
                ("text2", text(rng).into()),
                ("delimiter", text(rng).into()),
            ]
        },
    },
    Component {
        name: "TypeConverter",
        weight: 4,
        outputs: &[
            ("message_output", Message),
            ("data_output", Data),
            ("dataframe_output", Table),
        ],
        inputs: &[input("input_data", ANY, 99)],
        fields: |rng| vec![("auto_parse", rng.random_bool(0.5).into())],
    },
    Component {
        name: "SplitText",
        weight: 3,
        outputs: &[("dataframe", Table)],
        inputs: &[input("data_inputs", ANY, 99), input("separator", TEXT, 5)],
        fields: |rng| {
            let size = rng.random_range(1..40);
            let keep = ["False", "True", "Start", "End"]
                .choose(rng)
                .copied()
                .unwrap_or_default();
            vec![
                (
                    "separator",
                    [" ", ",", "\n", "\\n", "", "e", "\t"]
                        .choose(rng)
                        .copied()
                        .unwrap_or_default()
                        .into(),
                ),
                ("chunk_size", size.into()),
                ("chunk_overlap", rng.random_range(0..=size.min(9)).into()),
                ("keep_separator", keep.into()),
                // Without it rows carry when and in which run a message was made.
                ("clean_output", true.into()),
                (
                    "text_key",
                    ["text", "text", "text", "a"]
                        .choose(rng)
                        .copied()
                        .unwrap_or_default()
                        .into(),
                ),
            ]
        },
    },
    Component {
        name: "ConditionalRouter",
        weight: 3,
        outputs: &[("true_result", Message), ("false_result", Message)],
        inputs: &[
            input("input_text", TEXT, 99),
            input("match_text", TEXT, 10),
            input("true_case_message", TEXT, 10),
            input("false_case_message", TEXT, 10),
        ],
        fields: |rng| {
            let operators = [
                "equals",
                "not equals",
                "contains",
                "starts with",
                "ends with",
                "regex",
                "less than",
                "less than or equal",
                "greater than",
                "greater than or equal",
            ];
            vec![
                (
                    "operator",
                    operators.choose(rng).copied().unwrap_or_default().into(),
                ),
                ("match_text", text(rng).into()),
                ("case_sensitive", rng.random_bool(0.5).into()),
            ]
        },
    },
    Component {
        name: "Calculator",
        weight: 1,
        outputs: &[("result", Data)],
        inputs: &[input("expression", TEXT, 50)],
        fields: |rng| vec![("expression", text(rng).into())],
    },
    Component {
        name: "Webhook",
        weight: 1,
        outputs: &[("output_data", Data)],
        inputs: &[],
        fields: |rng| {
            let object = r#"{"text": "t", "a": [1, 2.50, null], "b": {"n": true}}"#;
            let data = if rng.random_bool(0.8) {
                object.to_owned()
            } else {
                text(rng)
            };
            vec![("data", data.into())]
        },
    },
    Component {
        name: "LanguageModel",
        weight: 1,
        outputs: &[("text_output", Message)],
        inputs: &[input("input_value", TEXT, 99), input("system_message", TEXT, 40)],
        fields: |rng| {
            vec![
                ("system_message", text(rng).into()),
                (
                    "temperature",
                    [0.0, 0.5, 1.0].choose(rng).copied().unwrap_or_default().into(),
                ),
            ]
        },
    },
    Component {
        name: "ChatOutput",
        weight: 3,
        outputs: &[("message", Message)],
        inputs: &[input("input_value", ANY, 99)],
        fields: |rng| vec![("clean_data", rng.random_bool(0.8).into())],
    },
    Component {
        name: "TextOutput",
        weight: 2,
        outputs: &[("text", Message)],
        inputs: &[input("input_value", TEXT, 90)],
        fields: |_| Vec::new(),
    },
];
