//! A run as Langflow's server was seen to tell one.

use flowfleet_core::RunEvent;
use flowfleet_engine::{CompileLimits, compile};

use super::*;

const ASK: &str = include_str!("../../../../../examples/flows/ask-model.json");

fn teller(graph_state: bool) -> Teller {
    Teller::new(About {
        run: RunId::generate(),
        flow_id: "f".to_owned(),
        session_id: "s".to_owned(),
        input: "hi".to_owned(),
        graph_state,
        plan: Arc::new(compile(ASK.as_bytes(), &CompileLimits::default()).unwrap()),
    })
}

fn happened(kind: EventKind, data: Value) -> Followed {
    Followed::Event(RunEvent {
        run: RunId::generate(),
        seq: 1,
        kind,
        at: Timestamp::UNIX_EPOCH,
        data: data.into(),
    })
}

fn names(said: &[Said]) -> Vec<&str> {
    said.iter()
        .map(|said| said.event["event"].as_str().unwrap())
        .collect()
}

/// What a worker says of a node that gave a message.
fn given(teller: &Teller, node: &str) -> Value {
    let vertex = teller.about.plan.vertex(node).unwrap();
    let message = json!({"text": "echo", "properties": {"source": {"id": teller.streams[0].node, "source": "m"}},
        "data": {"id": "m", "properties": {"source": {"id": teller.streams[0].node}}}});
    json!({"node": node, "elapsed_s": 0.5, "preview": "echo", "langflow": {"data": {
        "results": {"message": message}, "outputs": {vertex.output: {"message": "echo", "type": "text"}},
        "message": {"message": "echo", "sender": "Machine", "sender_name": "AI", "files": [], "type": "object"},
    }}})
}

fn all(teller: &mut Teller) -> Vec<Said> {
    let mut said = teller.hear(&happened(EventKind::RunStarted, json!({"attempt": 1})));
    let mut waiting = teller.about.plan.first();
    while let Some(node) = waiting.pop() {
        said.extend(teller.hear(&happened(EventKind::NodeStarted, json!({"node": node}))));
        let token = Followed::Token {
            node: node.clone(),
            text: "ec".to_owned(),
        };
        said.extend(teller.hear(&token));
        let told = teller.hear(&happened(EventKind::NodeFinished, given(teller, &node)));
        waiting.extend(teller.about.plan.after(&teller.ended).0);
        said.extend(told);
    }
    said
}

#[test]
fn a_run_is_told_as_langflow_tells_it() {
    let mut teller = teller(true);
    let mut said = all(&mut teller);
    let at = Timestamp::from_second(2).unwrap();
    said.extend(teller.end(&End::Completed(&json!([])), at));
    let names = names(&said);
    assert_eq!(names[..3], ["vertices_sorted", "build_start", "add_message"]);
    assert_eq!(
        names.iter().filter(|name| **name == "end_vertex").count(),
        teller.about.plan.nodes()
    );
    // Partial before its tokens, and then three times as a whole.
    assert_eq!(names.iter().filter(|name| **name == "add_message").count(), 5);
    assert_eq!(names[names.len() - 2..], ["output", "end"]);
    assert!(
        said.iter()
            .all(|said| said.lasting != (said.event["event"] == "token"))
    );
    let output = &said[said.len() - 2].event["data"];
    assert_eq!(
        (&output["content"], &output["status"]),
        (&json!("echo"), &json!("completed"))
    );
    assert_eq!(said.last().unwrap().event["data"]["build_duration"], 2.0);
    let chat = said
        .iter()
        .rfind(|said| said.event["event"] == "end_vertex")
        .unwrap();
    let build = &chat.event["data"]["build_data"];
    assert_eq!(
        build["params"],
        "- Files: []\n  Message: echo\n  Sender: Machine\n  Sender Name: AI\n  Type: object\n"
    );
    assert_eq!(chat.event["data"]["output_meta"]["is_terminal"], true);
}

#[test]
fn without_graph_state_only_the_conversation_is_told() {
    let mut teller = teller(false);
    let said = all(&mut teller);
    for said in &said {
        let name = said.event["event"].as_str().unwrap();
        assert!(
            ["build_start", "add_message", "token", "output"].contains(&name),
            "{name}"
        );
        let source = said.event.pointer("/data/properties/source/id");
        assert!(source.is_none_or(Value::is_null), "{said:?}");
    }
}

#[test]
fn tokens_that_come_early_wait_for_their_message() {
    let mut teller = teller(true);
    let model = teller.streams[0].node.clone();
    let token = |text: &str| Followed::Token {
        node: model.clone(),
        text: text.to_owned(),
    };
    assert!(teller.hear(&token("ec")).is_empty());
    let said = teller.hear(&happened(EventKind::NodeStarted, json!({"node": model})));
    assert_eq!(names(&said), ["add_message", "token"]);
    assert_eq!(said[1].event["data"]["id"], said[0].event["data"]["id"]);
    assert_eq!(names(&teller.hear(&token("ho"))), ["token"]);
}

#[test]
fn a_failure_is_told_when_it_is_final() {
    let mut teller = teller(true);
    let model = teller.streams[0].node.clone();
    let failed = json!({"node": model, "message": "no key"});
    assert!(
        teller
            .hear(&happened(EventKind::NodeFailed, failed.clone()))
            .is_empty()
    );
    teller.hear(&happened(EventKind::RunRetrying, Value::Null));
    let said = teller.end(&End::Failed("worker lost"), Timestamp::UNIX_EPOCH);
    assert_eq!(names(&said), ["error", "end"]);
    assert_eq!(said[0].event["data"], json!({"error": "worker lost"}));

    teller.hear(&happened(EventKind::NodeFailed, failed));
    let said = teller.end(&End::Failed("no key"), Timestamp::UNIX_EPOCH);
    assert_eq!(names(&said), ["error", "end_vertex", "end"]);
    let error = &said[0].event["data"];
    assert_eq!(
        (&error["text"], &error["category"]),
        (&json!("no key"), &json!("error"))
    );
    assert_eq!(error["content_blocks"][0]["contents"][0]["reason"], "no key");
    assert_eq!(said[1].event["data"]["build_data"]["valid"], false);

    let said = teller.end(&End::Cancelled, Timestamp::UNIX_EPOCH);
    assert_eq!(names(&said), ["cancelled"]);
}

#[test]
fn a_value_too_large_is_told_at_the_end() {
    let mut teller = teller(true);
    let chat = teller.about.plan.terminals().pop().unwrap().id;
    let finished = json!({"node": chat, "elapsed_s": 1.0, "preview": "long", "langflow": {}});
    let said = teller.hear(&happened(EventKind::NodeFinished, finished));
    assert_eq!(names(&said), ["end_vertex"]);
    let outputs =
        json!([{"outputs": [{"component_id": chat, "outputs": {"message": {"message": "long, whole"}}}]}]);
    let said = teller.end(&End::Completed(&outputs), Timestamp::UNIX_EPOCH);
    assert_eq!(names(&said), ["output", "end"]);
    assert_eq!(said[0].event["data"]["content"], "long, whole");
}
