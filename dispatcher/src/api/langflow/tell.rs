//! From a run's events to Langflow's: what a client is told while a run goes on. No I/O.

use std::collections::BTreeSet;

use flowfleet_core::{EventKind, RunId};
use flowfleet_engine::Request;
use flowfleet_engine::langflow::{self, Made, Streaming};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::api::runs::follow::Followed;
use crate::submit::resolve::Resolved;

/// Tells one run.
#[derive(Debug)]
pub(super) struct Teller {
    flow_id: String,
    session_id: String,
    /// The chat input's id and what the user says there, until it was told.
    user: Option<(String, String)>,
    /// Nodes whose tokens are told.
    streams: Vec<Streaming>,
    /// Those of them that this attempt has begun.
    begun: BTreeSet<String>,
    /// Those that any attempt has begun.
    streamed: BTreeSet<String>,
    at: Timestamp,
}

impl Teller {
    pub(super) fn new(flow: &Resolved, request: &Request) -> Self {
        let user = flow.plan.chat_input(request.input_type).map(|(node, default)| {
            let said = request.input.as_str().unwrap_or(default);
            (node.to_owned(), said.to_owned())
        });
        Self {
            flow_id: flow.id.to_string(),
            session_id: request.session_id.clone().unwrap_or_default(),
            user,
            streams: flow.plan.streams(),
            begun: BTreeSet::new(),
            streamed: BTreeSet::new(),
            at: Timestamp::now(),
        }
    }

    fn with<T>(&self, run: RunId, make: impl FnOnce(&Made<'_>) -> T) -> T {
        make(&Made {
            run_id: &run.to_string(),
            flow_id: &self.flow_id,
            session_id: &self.session_id,
            at: self.at,
        })
    }

    /// What is to be said of something that happened.
    pub(super) fn hear(&mut self, run: RunId, what: &Followed) -> Vec<Value> {
        let mut said = Vec::new();
        match what {
            Followed::Token { node, text } => {
                self.greet(run, &mut said);
                if self.begin(run, node, &mut said) && !text.is_empty() {
                    let id = langflow::message_id(&run.to_string(), "Machine", node);
                    said.push(event("token", json!({"chunk": text, "id": id})));
                }
            }
            Followed::Event(happened) => match happened.kind {
                EventKind::RunStarted => self.greet(run, &mut said),
                EventKind::NodeStarted => {
                    self.greet(run, &mut said);
                    if let Some(Value::String(node)) = happened.data.get("node") {
                        self.begin(run, &node, &mut said);
                    }
                }
                // The next attempt says it all again, into the same messages.
                EventKind::RunRetrying | EventKind::RunInterrupted => self.begun.clear(),
                _ => {}
            },
        }
        said
    }

    fn greet(&mut self, run: RunId, said: &mut Vec<Value>) {
        if let Some((node, text)) = self.user.take() {
            let message = self.with(run, |made| langflow::user_message(&text, &node, made));
            said.push(event("add_message", message));
        }
    }

    /// Opens the message that a node's tokens belong to; false when it does not stream.
    fn begin(&mut self, run: RunId, node: &str, said: &mut Vec<Value>) -> bool {
        let Some(from) = self.streams.iter().find(|from| from.node == node) else {
            return false;
        };
        if !self.begun.contains(node) {
            let message = self.with(run, |made| langflow::streaming(from, made));
            said.push(event("add_message", message));
            self.begun.insert(node.to_owned());
            self.streamed.insert(node.to_owned());
        }
        true
    }

    /// The end of a run that gave something: its messages, whole, and the answer.
    pub(super) fn end(&self, session_id: &str, mut outputs: Value) -> Vec<Value> {
        let mut said = Vec::new();
        for message in messages(&mut outputs) {
            let source = message.pointer("/properties/source/id").and_then(Value::as_str);
            let from = self
                .streams
                .iter()
                .find(|from| Some(from.node.as_str()) == source && self.streamed.contains(&from.node));
            if let Some(from) = from {
                // Langflow says a streamed message three times: as the model ends it, with the model's name, and as
                // the chat output passes it on.
                set(message, "/properties/icon", &json!(from.icon));
                let mut first = langflow::announced(message.clone());
                set(&mut first, "/properties/source/source", &json!(""));
                said.push(event("add_message", first));
                said.push(event("add_message", langflow::announced(message.clone())));
            }
            said.push(event("add_message", langflow::announced(message.clone())));
        }
        let result = json!({"session_id": session_id, "outputs": outputs});
        said.push(event("end", json!({"result": result})));
        said
    }
}

/// The messages in an answer's outputs, in their order.
fn messages(outputs: &mut Value) -> impl Iterator<Item = &mut Value> {
    let runs = outputs.as_array_mut().into_iter().flatten();
    let components = runs.filter_map(|run| run.get_mut("outputs")?.as_array_mut());
    components
        .flatten()
        .filter_map(|component| component.pointer_mut("/results/message"))
}

/// Says something in both places where a message says it.
fn set(message: &mut Value, pointer: &str, value: &Value) {
    for place in [pointer.to_owned(), format!("/data{pointer}")] {
        if let Some(found) = message.pointer_mut(&place) {
            *found = value.clone();
        }
    }
}

/// The end of a run that gave nothing.
pub(super) fn failed(message: &str) -> Value {
    event("error", json!({"error": message}))
}

fn event(name: &str, data: Value) -> Value {
    Value::from_iter([("event", Value::from(name)), ("data", data)])
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use flowfleet_core::{FlowId, FlowVersion, RunEvent};
    use flowfleet_engine::{CompileLimits, compile};

    use super::*;

    const ASK: &str = include_str!("../../../../examples/flows/ask-model.json");

    fn teller() -> (Teller, RunId, String) {
        let plan = Arc::new(compile(ASK.as_bytes(), &CompileLimits::default()).unwrap());
        let model = plan.streams()[0].node.clone();
        let flow = Resolved {
            id: FlowId::generate(),
            version: FlowVersion {
                name: "ask".parse().unwrap(),
                version: 1,
                digest: String::new(),
            },
            plan,
        };
        let request = Request {
            input: json!("hi"),
            session_id: Some("s".to_owned()),
            ..Request::default()
        };
        (Teller::new(&flow, &request), RunId::generate(), model)
    }

    fn happened(run: RunId, kind: EventKind, node: &str) -> Followed {
        Followed::Event(RunEvent {
            run,
            seq: 1,
            kind,
            at: Timestamp::UNIX_EPOCH,
            data: json!({"node": node}).into(),
        })
    }

    fn token(node: &str, text: &str) -> Followed {
        Followed::Token {
            node: node.to_owned(),
            text: text.to_owned(),
        }
    }

    fn kinds(said: &[Value]) -> Vec<String> {
        let kind = |event: &Value| match event["data"].pointer("/properties/state") {
            Some(state) => format!("{} {}", event["data"]["sender"], state),
            None => event["event"].to_string(),
        };
        said.iter().map(|event| kind(event).replace('"', "")).collect()
    }

    #[test]
    fn tokens_belong_to_a_message_whatever_comes_first() {
        let (mut teller, run, model) = teller();
        let mut said = teller.hear(run, &happened(run, EventKind::RunQueued, ""));
        assert!(said.is_empty());
        // Live tokens may overtake the event that is stored first.
        said.extend(teller.hear(run, &token(&model, "ec")));
        for kind in [EventKind::RunStarted, EventKind::NodeStarted] {
            said.extend(teller.hear(run, &happened(run, kind, &model)));
        }
        said.extend(teller.hear(run, &token(&model, "ho")));
        said.extend(teller.hear(run, &token("Prompt-1", "not shown")));
        assert_eq!(
            kinds(&said),
            ["User complete", "Machine partial", "token", "token"]
        );
        assert_eq!(
            said[2]["data"],
            json!({"chunk": "ec", "id": said[1]["data"]["id"]})
        );

        // The next attempt begins the message anew.
        teller.hear(run, &happened(run, EventKind::RunRetrying, ""));
        let again = teller.hear(run, &happened(run, EventKind::NodeStarted, &model));
        assert_eq!(kinds(&again), ["Machine partial"]);
        assert_eq!(again[0]["data"]["id"], said[1]["data"]["id"]);
    }

    #[test]
    fn a_streamed_message_is_said_three_times_at_the_end() {
        let (mut teller, run, model) = teller();
        let properties = json!({"source": {"id": model, "source": "gpt"}, "icon": null, "state": "complete"});
        let message = json!({"sender": "Machine", "text": "x", "properties": properties,
            "data": {"id": "m", "properties": properties}});
        let outputs = json!([{"outputs": [{"results": {"message": message}}, {"results": {"text": 1}}]}]);
        assert_eq!(
            kinds(&teller.end("s", outputs.clone())),
            ["Machine complete", "end"]
        );
        teller.hear(run, &token(&model, "x"));
        let said = teller.end("s", outputs);
        let expected = ["Machine complete", "Machine complete", "Machine complete", "end"];
        assert_eq!(kinds(&said), expected);
        let name = |n: usize| said[n]["data"]["data"]["properties"]["source"]["source"].clone();
        assert_eq!(
            (name(0), name(1), name(2)),
            (json!(""), json!("gpt"), json!("gpt"))
        );
        assert!(said[..3].iter().all(|event| event["data"]["id"] == "m"));
        assert_eq!(failed("no"), json!({"event": "error", "data": {"error": "no"}}));
    }
}
