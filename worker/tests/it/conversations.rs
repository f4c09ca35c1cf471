//! Runs that are part of a conversation, and runs that are not.

use std::sync::atomic::Ordering;

use flowfleet_core::RunState;
use flowfleet_core::chat::{Recall, Said};
use flowfleet_core::flow::FlowVersion;
use flowfleet_core::port::ChatStore as _;
use flowfleet_mock_model as mock;
use serde_json::json;

use crate::flows::{answer, chain};
use crate::rig::Rig;

impl Rig {
    async fn say(&self, flow: &FlowVersion, session: Option<&str>, text: &str) {
        let mut run = self.run(flow, text);
        run.session_id = session.map(str::to_owned);
        let id = self.submit_one(run).await;
        self.state(id, RunState::Succeeded).await;
    }

    /// Everything that was said, oldest first.
    async fn said(&self) -> Vec<Said> {
        let everything = Recall {
            limit: 1_000,
            ..Recall::default()
        };
        let mut said = self.store.recall(&self.tenant, &everything).await.unwrap();
        said.reverse();
        said
    }
}

fn texts(said: &[Said]) -> Vec<&str> {
    said.iter().map(|said| said.message.text.as_str()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_named_session_is_remembered() {
    let rig = Rig::new(mock::Config::default()).await;
    let _worker = rig.worker(|_| {}).await;
    let flow = rig.flow(&chain(1)).await;
    rig.say(&flow, None, "nobody hears").await;
    assert!(rig.said().await.is_empty());
    rig.say(&flow, Some("s"), "one").await;
    rig.say(&flow, Some("t"), "two").await;
    let said = rig.said().await;
    assert_eq!(texts(&said), ["one", &answer(1, "one"), "two", &answer(1, "two")]);
    let facts: Vec<_> = said
        .iter()
        .map(|said| {
            let message = &said.message;
            (
                message.session_id.as_str(),
                message.sender.as_str(),
                message.node.as_str(),
            )
        })
        .collect();
    assert_eq!(
        facts,
        [
            ("s", "User", "ChatInput-1"),
            ("s", "Machine", "ChatOutput-1"),
            ("t", "User", "ChatInput-1"),
            ("t", "Machine", "ChatOutput-1"),
        ]
    );
    assert_eq!(
        said[1].message.properties["source"]["id"],
        "LanguageModelComponent-1"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn langflows_api_always_has_a_session() {
    let rig = Rig::new(mock::Config::default()).await;
    let _worker = rig.worker(|_| {}).await;
    let mut document = chain(0);
    document["id"] = json!("0f1ee700-0000-4000-8000-000000000002");
    let flow = rig.flow(&document).await;
    let mut run = rig.run(&flow, "hi");
    let input = json!({"input": "hi", "langflow": {"flow_id": "0f1ee700-0000-4000-8000-000000000002"}});
    run.input = flowfleet_core::Payload::Inline(input);
    let id = rig.submit_one(run).await;
    rig.state(id, RunState::Succeeded).await;
    let said = rig.said().await;
    assert_eq!(texts(&said), ["hi", "hi"]);
    for said in said {
        assert_eq!(said.message.session_id, "0f1ee700-0000-4000-8000-000000000002");
        assert_eq!(said.message.flow_id, said.message.session_id);
        assert_eq!(said.run, id);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_said_twice_when_answers_of_the_store_are_lost() {
    let rig = Rig::new(mock::Config::default()).await;
    let _worker = rig.worker(|_| {}).await;
    let flow = rig.flow(&chain(1)).await;
    rig.store.unheard.store(true, Ordering::SeqCst);
    for text in ["one", "two", "three"] {
        rig.say(&flow, Some("s"), text).await;
    }
    rig.store.unheard.store(false, Ordering::SeqCst);
    let said = rig.said().await;
    let expected = ["one", "two", "three"].map(|text| [text.to_owned(), answer(1, text)]);
    assert_eq!(texts(&said), expected.concat());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_says_it_again_at_its_place() {
    let rig = Rig::new(mock::Config {
        fail_first: 1,
        fail_status: 503,
        ..mock::Config::default()
    })
    .await;
    let _upkeep = rig.upkeep();
    let _worker = rig.worker(|_| {}).await;
    let flow = rig.flow(&chain(1)).await;
    let mut run = rig.run(&flow, "one");
    run.settings.max_attempts = 3;
    run.settings.retry.backoff_s = 0.01;
    run.session_id = Some("s".to_owned());
    let id = rig.submit_one(run).await;
    let view = rig.state(id, RunState::Succeeded).await;
    assert_eq!(view.attempts.len(), 2);
    let said = rig.said().await;
    assert_eq!(texts(&said), ["one", &answer(1, "one")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_conversation_loses_its_beginning() {
    let rig = Rig::new(mock::Config::default()).await;
    let _worker = rig.worker(|config| config.session_messages = 4).await;
    let flow = rig.flow(&chain(0)).await;
    for text in ["one", "two", "three"] {
        rig.say(&flow, Some("s"), text).await;
    }
    assert_eq!(texts(&rig.said().await), ["two", "two", "three", "three"]);
}
