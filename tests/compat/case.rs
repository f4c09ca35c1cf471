//! A flow with what it is asked, and how it ended, wherever it ran.

use std::collections::BTreeMap;

use flowfleet_mock_model::Config;
use serde_json::{Value as Json, json};

use crate::draw::Draw;

/// One flow with one input.
#[derive(Debug, Clone)]
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) flow: Json,
    pub(crate) input: String,
    /// `chat`, `text` or `any`.
    pub(crate) input_type: &'static str,
    pub(crate) tweaks: Json,
    /// What all nodes give is compared; else what chat outputs say.
    pub(crate) nodes: bool,
    /// How its model behaves.
    pub(crate) model: Config,
    pub(crate) fails: Option<Fails>,
}

/// How a flow is to fail, natively and in lfx.
#[derive(Debug, Clone)]
pub(crate) struct Fails {
    pub(crate) node: &'static str,
    /// Words that both messages have, whatever the rest.
    pub(crate) words: &'static [&'static str],
}

/// How a flow ended.
#[derive(Debug)]
pub(crate) struct Ended {
    /// By component.
    pub(crate) outputs: Result<Json, Failed>,
    /// What each node gave, by output, with its type. Only of cases that ask for it.
    pub(crate) nodes: BTreeMap<String, Json>,
    /// Nodes as they began.
    pub(crate) order: Vec<String>,
    /// Bodies of the requests that the model got.
    pub(crate) asked: Vec<Json>,
    pub(crate) cpu_ms: f64,
}

impl Ended {
    /// The same, whatever models were asked.
    pub(crate) fn unasked(self) -> Self {
        Self {
            asked: Vec::new(),
            ..self
        }
    }
}

/// Why a flow did not end well.
#[derive(Debug, Clone)]
pub(crate) struct Failed {
    /// Several, if they ran side by side.
    pub(crate) nodes: Vec<String>,
    pub(crate) text: String,
}

/// A model server that keeps what it is asked.
pub(crate) fn quick_model() -> Config {
    Config {
        keep: 1000,
        ..Config::default()
    }
}

impl Case {
    pub(crate) fn new(name: impl Into<String>, flow: Json) -> Self {
        Self {
            name: name.into(),
            flow,
            input: "hello".to_owned(),
            input_type: "chat",
            tweaks: json!({}),
            nodes: true,
            model: quick_model(),
            fails: None,
        }
    }

    pub(crate) fn of(name: &str, draw: Draw) -> Self {
        Self::new(name, draw.flow)
    }

    pub(crate) fn input(mut self, input: &str) -> Self {
        input.clone_into(&mut self.input);
        self
    }

    pub(crate) fn input_type(mut self, input_type: &'static str) -> Self {
        self.input_type = input_type;
        self
    }

    pub(crate) fn tweaks(mut self, tweaks: Json) -> Self {
        self.tweaks = tweaks;
        self
    }

    pub(crate) fn model(mut self, change: impl FnOnce(&mut Config)) -> Self {
        change(&mut self.model);
        self
    }

    /// It fails at this node, and messages have these words.
    pub(crate) fn fails(mut self, node: &'static str, words: &'static [&'static str]) -> Self {
        self.fails = Some(Fails { node, words });
        self
    }
}
