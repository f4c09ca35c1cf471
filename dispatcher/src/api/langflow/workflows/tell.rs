//! From a run's events to those of Langflow's workflows. No I/O.
//!
//! What a stored event makes is told in the same words whenever it is read, so that a client that comes back is told
//! the rest by counting. Tokens are live only and are not counted.

use std::collections::BTreeSet;
use std::sync::Arc;

use flowfleet_core::{EventData, EventKind, RunId};
use flowfleet_engine::langflow::{self, Made, Streaming, Vertex};
use flowfleet_engine::{InputType, Plan};
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::answer::component;
use crate::api::runs::follow::Followed;

/// Tokens kept while the event that opens their message is on its way.
const MAX_EARLY: usize = 10_000;

/// One event to tell.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Said {
    /// Whether it is told again to who comes later.
    pub lasting: bool,
    pub event: Value,
}

/// How a run ended.
#[derive(Debug)]
pub(super) enum End<'a> {
    /// The outputs of Langflow's first API.
    Completed(&'a Value),
    Failed(&'a str),
    Cancelled,
}

/// What a workflow's events are told from.
#[derive(Debug, Clone)]
pub(super) struct About {
    pub run: RunId,
    pub flow_id: String,
    pub session_id: String,
    pub input: String,
    /// Whether each node is told, and not the conversation only.
    pub graph_state: bool,
    pub plan: Arc<Plan>,
}

/// Tells one run.
#[derive(Debug)]
pub(super) struct Teller {
    about: About,
    began: Option<Timestamp>,
    streams: Vec<Streaming>,
    /// Nodes whose message this attempt has opened.
    begun: BTreeSet<String>,
    /// Those that any attempt has opened.
    streamed: BTreeSet<String>,
    early: Vec<(String, String)>,
    /// Nodes that ended, with the outputs they stopped.
    ended: Vec<(String, Vec<String>)>,
    /// A node that failed, until it is known whether the run goes on.
    broken: Option<(String, String, Timestamp)>,
    /// Nothing follows these, and their values were too large for an event.
    owed: Vec<Vertex>,
}

impl Teller {
    pub(super) fn new(about: About) -> Self {
        Self {
            streams: about.plan.streams(),
            about,
            began: None,
            begun: BTreeSet::new(),
            streamed: BTreeSet::new(),
            early: Vec::new(),
            ended: Vec::new(),
            broken: None,
            owed: Vec::new(),
        }
    }

    fn with<T>(&self, at: Timestamp, make: impl FnOnce(&Made<'_>) -> T) -> T {
        make(&Made {
            run_id: &self.about.run.to_string(),
            flow_id: &self.about.flow_id,
            session_id: &self.about.session_id,
            at,
        })
    }

    /// What is to be said of something that happened, but for the end.
    pub(super) fn hear(&mut self, what: &Followed) -> Vec<Said> {
        let mut said = Vec::new();
        match what {
            Followed::Token { node, text } => self.token(node, text, &mut said),
            Followed::Event(happened) => match happened.kind {
                EventKind::RunStarted => self.begin(happened.at, &mut said),
                EventKind::NodeStarted => {
                    if let Some(Value::String(node)) = happened.data.get("node") {
                        self.open(&node, happened.at, &mut said);
                    }
                }
                EventKind::NodeFinished => self.finished(&happened.data, happened.at, &mut said),
                EventKind::NodeFailed => self.broken = broken(&happened.data, happened.at),
                // The next attempt says it all again, into the same messages.
                EventKind::RunRetrying | EventKind::RunInterrupted => {
                    self.begun.clear();
                    self.broken = None;
                }
                _ => {}
            },
        }
        said
    }

    fn begin(&mut self, at: Timestamp, said: &mut Vec<Said>) {
        if self.began.is_some() {
            return;
        }
        self.began = Some(at);
        let plan = Arc::clone(&self.about.plan);
        self.state(
            "vertices_sorted",
            json!({"ids": plan.first(), "to_run": plan.to_run()}),
            said,
        );
        said.push(lasting("build_start", json!({})));
        if let Some((node, default)) = plan.chat_input(InputType::Chat) {
            let text = match self.about.input.as_str() {
                "" => default,
                input => input,
            };
            let message = self.with(at, |made| langflow::user_message(text, node, made));
            self.message("add_message", message, said);
        }
    }

    fn token(&mut self, node: &str, text: &str, said: &mut Vec<Said>) {
        if !self.streams.iter().any(|from| from.node == node) {
            return;
        }
        if self.begun.contains(node) {
            said.push(self.chunk(node, text));
        } else if self.early.len() < MAX_EARLY {
            self.early.push((node.to_owned(), text.to_owned()));
        }
    }

    fn chunk(&self, node: &str, text: &str) -> Said {
        let id = langflow::message_id(&self.about.run.to_string(), "Machine", node);
        Said {
            lasting: false,
            event: event("token", json!({"chunk": text, "id": id})),
        }
    }

    /// Opens the message that a node's tokens belong to, if it streams.
    fn open(&mut self, node: &str, at: Timestamp, said: &mut Vec<Said>) {
        let Some(from) = self.streams.iter().find(|from| from.node == node) else {
            return;
        };
        let message = self.with(at, |made| langflow::streaming(from, made));
        if !self.begun.insert(node.to_owned()) {
            return;
        }
        self.streamed.insert(node.to_owned());
        self.message("add_message", message, said);
        let early = std::mem::take(&mut self.early);
        for (of, text) in early {
            if of == node {
                said.push(self.chunk(&of, &text));
            } else {
                self.early.push((of, text));
            }
        }
    }

    fn finished(&mut self, data: &EventData, at: Timestamp, said: &mut Vec<Said>) {
        let mut data = data.value();
        let Some(id) = data["node"].as_str().map(str::to_owned) else {
            return;
        };
        let Some(vertex) = self.about.plan.vertex(&id) else {
            return;
        };
        let mut told = data["langflow"].take();
        let stopped = serde_json::from_value(told["stopped"].take()).unwrap_or_default();
        let given = told.get_mut("data").map(Value::take);
        if vertex.is_output
            && let Some(message) = given.as_ref().and_then(|given| given.pointer("/results/message"))
        {
            self.machine(message, said);
        }
        self.ended.push((id, stopped));
        let (next, skipped) = self.about.plan.after(&self.ended);
        let shown = match &given {
            Some(given) => given.clone(),
            None => beginning(&vertex, &data),
        };
        let build = build(&vertex, &next, &skipped, &params(&shown), &shown, true, at);
        self.state("end_vertex", build, said);
        // A node that is only connected to nothing is no output of the conversation.
        if vertex.is_terminal && (self.about.graph_state || vertex.is_output) {
            match given {
                Some(given) => said.push(output(&vertex, Some(&given), true)),
                None => self.owed.push(vertex),
            }
        }
    }

    /// A message of an output: twice, and once more when it was streamed.
    fn machine(&self, message: &Value, said: &mut Vec<Said>) {
        let source = message.pointer("/properties/source/id").and_then(Value::as_str);
        let streamed = source.is_some_and(|source| self.streamed.contains(source));
        for _ in 0..if streamed { 3 } else { 2 } {
            self.message("add_message", langflow::announced(message.clone()), said);
        }
    }

    /// The end of a run.
    pub(super) fn end(&mut self, how: &End<'_>, at: Timestamp) -> Vec<Said> {
        let mut said = Vec::new();
        match how {
            End::Cancelled => {
                let mut event = event("cancelled", json!({"reason": "the run was cancelled"}));
                // Told again, Langflow says it in this form.
                event["type"] = "cancelled".into();
                said.push(Said { lasting: true, event });
                return said;
            }
            End::Failed(message) => self.failed(message, &mut said),
            End::Completed(outputs) => {
                let given = super::answer::by_component(outputs);
                for vertex in std::mem::take(&mut self.owed) {
                    said.push(output(&vertex, given.get(vertex.id.as_str()).copied(), true));
                }
            }
        }
        let took = self
            .began
            .map_or(0.0, |began| at.duration_since(began).as_secs_f64());
        said.push(lasting("end", json!({"build_duration": took})));
        said
    }

    fn failed(&mut self, message: &str, said: &mut Vec<Said>) {
        let Some((id, message, at)) = self.broken.take() else {
            said.push(lasting("error", json!({"error": message})));
            return;
        };
        let vertex = self.about.plan.vertex(&id);
        let name = vertex.as_ref().map_or(id.as_str(), |vertex| &vertex.display_name);
        let error = self.with(at, |made| langflow::error_message(&message, &id, name, made));
        self.message("error", error, said);
        if let Some(vertex) = vertex {
            let told = json!({"errorMessage": message, "stackTrace": null});
            let outputs = json!({vertex.output.clone(): {"message": told, "type": "error"}});
            let data = json!({
                "results": {}, "outputs": outputs, "logs": {}, "message": {}, "artifacts": {}, "timedelta": null,
                "duration": null, "used_frozen_result": false, "token_usage": null,
            });
            let text = Value::from(message);
            let build = build(&vertex, &[], &[], &text, &data, false, at);
            self.state("end_vertex", build, said);
            if vertex.is_terminal && (self.about.graph_state || vertex.is_output) {
                said.push(output(&vertex, Some(&data), false));
            }
        }
    }

    /// Says what is of the graph, to who wants it.
    fn state(&self, name: &str, data: Value, said: &mut Vec<Said>) {
        if self.about.graph_state {
            said.push(lasting(name, data));
        }
    }

    /// Says what is of the conversation; which node it is from is of the graph.
    fn message(&self, name: &str, mut message: Value, said: &mut Vec<Said>) {
        if !self.about.graph_state {
            for place in ["/properties/source", "/data/properties/source"] {
                if let Some(Value::Object(source)) = message.pointer_mut(place) {
                    source.values_mut().for_each(|value| *value = Value::Null);
                }
            }
        }
        said.push(lasting(name, message));
    }
}

fn event(name: &str, data: Value) -> Value {
    Value::from_iter([("event", Value::from(name)), ("data", data)])
}

fn lasting(name: &str, data: Value) -> Said {
    Said {
        lasting: true,
        event: event(name, data),
    }
}

fn broken(data: &EventData, at: Timestamp) -> Option<(String, String, Timestamp)> {
    let data = data.value();
    let text = |name: &str| data[name].as_str().map(str::to_owned);
    Some((text("node")?, text("message")?, at))
}

/// What is known of a value that was too large for its event.
fn beginning(vertex: &Vertex, data: &Value) -> Value {
    let outputs = json!({vertex.output.clone(): {"message": data["preview"], "type": "text"}});
    let seconds = data["elapsed_s"].as_f64();
    json!({
        "results": {}, "outputs": outputs, "logs": {}, "message": {}, "artifacts": {}, "timedelta": seconds,
        "duration": seconds.map(|s| format!("{} ms", (s * 1e3).round())), "used_frozen_result": false,
        "token_usage": null,
    })
}

/// What a chat shows, line by line; nothing of other nodes.
fn params(data: &Value) -> Value {
    let Some(Value::Object(shown)) = data.get("message").filter(|shown| shown.get("sender").is_some()) else {
        return "None".into();
    };
    let mut lines = Map::new();
    for (name, value) in shown {
        let title: Vec<String> = name.split('_').map(capital).collect();
        lines.insert(title.join(" "), value.clone());
    }
    let mut names: Vec<&String> = lines.keys().collect();
    names.sort();
    let line = |(n, name): (usize, &&String)| {
        let value = match &lines[name.as_str()] {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        format!("{}{name}: {value}\n", if n == 0 { "- " } else { "  " })
    };
    names.iter().enumerate().map(line).collect::<String>().into()
}

fn capital(word: &str) -> String {
    let mut letters = word.chars();
    let first = letters.next().map(char::to_uppercase);
    first.into_iter().flatten().chain(letters).collect()
}

fn build(
    vertex: &Vertex,
    next: &[String],
    skipped: &[String],
    params: &Value,
    data: &Value,
    valid: bool,
    at: Timestamp,
) -> Value {
    json!({
        "build_data": {
            "id": vertex.id,
            "inactivated_vertices": skipped,
            "next_vertices_ids": next,
            "top_level_vertices": next,
            "valid": valid,
            "params": params,
            "data": data,
            "timestamp": at.to_string(),
        },
        "output_meta": {
            "component_id": vertex.id,
            "display_name": vertex.display_name,
            "vertex_type": vertex.component,
            "is_output": vertex.is_output,
            "is_terminal": vertex.is_terminal,
            "output_types": vertex.output_types,
        },
    })
}

fn output(vertex: &Vertex, data: Option<&Value>, valid: bool) -> Said {
    let mut said = component(vertex, data, valid);
    said["component_id"] = vertex.id.clone().into();
    lasting("output", said)
}

#[cfg(test)]
#[path = "tell_tests.rs"]
mod tests;
