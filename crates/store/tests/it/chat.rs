//! What was said in conversations.

use flowfleet_core::chat::{ChatMessage, NAME_BYTES, Recall, Remember, Said};
use flowfleet_core::{FlowName, FlowVersion, Kind, Lease, Tenant};
use serde_json::json;
use uuid::Uuid;

use crate::bed::{Bed, OVER, TTL};

const KEEP: u32 = 1_000;

fn message(session: &str, text: &str) -> ChatMessage {
    ChatMessage {
        id: Uuid::new_v4(),
        session_id: session.to_owned(),
        sender: "User".to_owned(),
        sender_name: "Ada".to_owned(),
        context_id: String::new(),
        text: text.to_owned(),
        files: Vec::new(),
        properties: json!({"state": "complete"}),
        content_blocks: json!([]),
        category: "message".to_owned(),
        flow_id: "f".to_owned(),
        node: "ChatInput-1".to_owned(),
    }
}

impl Bed {
    /// Keeps one message: whether it was written.
    async fn say(&self, lease: Lease, message: &ChatMessage, keep: u32) -> bool {
        let message = message.clone();
        let said = self.store.remember(&[Remember { lease, message }], keep).await;
        said.unwrap()[0]
    }

    /// What was said in a session of the bed's flow, newest first.
    async fn heard(&self, session: &str) -> Vec<Said> {
        let wanted = Recall {
            flow: Some(flow("hello")),
            session_id: Some(session.to_owned()),
            limit: 100,
            ..Recall::default()
        };
        self.store.recall(&self.tenant, &wanted).await.unwrap()
    }

    async fn texts(&self, wanted: Recall) -> Vec<String> {
        let said = self.store.recall(&self.tenant, &wanted).await.unwrap();
        said.into_iter().map(|said| said.message.text).collect()
    }
}

fn flow(name: &str) -> FlowName {
    name.parse().unwrap()
}

pub(crate) async fn what_was_said_comes_back_newest_first(bed: Bed) {
    let lease = bed.claim(bed.submit_one().await, TTL).await.lease;
    let mut first = message("s", "one");
    first.text = "\u{0}o\u{e9}\u{1f600}\n\"".to_owned();
    first.properties = json!({"a": "\u{0}\u{1}", "n": [1.5, null]});
    first.content_blocks = json!([{"type": "tool_use", "name": "x"}]);
    first.files = vec!["a/b.png".to_owned()];
    first.context_id = "c".to_owned();
    let second = message("s", "two");
    let both = [first.clone(), second.clone()].map(|message| Remember { lease, message });
    assert_eq!(bed.store.remember(&both, KEEP).await.unwrap(), [true, true]);
    let heard = bed.heard("s").await;
    first.text = first.text.replace('\0', "");
    let found: Vec<_> = heard.iter().map(|said| &said.message).collect();
    assert_eq!(found, [&second, &first]);
    assert_eq!((heard[0].run, &heard[0].flow), (lease.run, &flow("hello")));
    assert!(heard[0].at >= bed.get(lease.run).await.created_at);
    assert!(bed.heard("other").await.is_empty());
    assert_eq!(bed.store.remember(&[], KEEP).await.unwrap(), [] as [bool; 0]);
}

pub(crate) async fn recalling_asks_for_what_it_wants(bed: Bed) {
    let lease = bed.claim(bed.submit_one().await, TTL).await.lease;
    for number in 0..6 {
        let mut said = message("s", &number.to_string());
        if number % 2 == 1 {
            said.sender = "Machine".to_owned();
        }
        if number == 4 {
            said.sender_name = "Bob".to_owned();
            said.context_id = "c".to_owned();
        }
        assert!(bed.say(lease, &said, KEEP).await);
    }
    let wanted = || Recall {
        flow: Some(flow("hello")),
        session_id: Some("s".to_owned()),
        limit: 10,
        ..Recall::default()
    };
    let cases = [
        (wanted(), "543210"),
        (Recall { limit: 2, ..wanted() }, "54"),
        (Recall { limit: 0, ..wanted() }, ""),
        (
            Recall {
                limit: 2,
                offset: 3,
                ..wanted()
            },
            "21",
        ),
        (
            Recall {
                sender: Some("Machine".to_owned()),
                ..wanted()
            },
            "531",
        ),
        (
            Recall {
                sender_name: Some("Bob".to_owned()),
                ..wanted()
            },
            "4",
        ),
        (
            Recall {
                context_id: Some("c".to_owned()),
                session_id: None,
                ..wanted()
            },
            "4",
        ),
        (
            Recall {
                flow: Some(flow("another")),
                ..wanted()
            },
            "",
        ),
        (
            Recall {
                limit: 1,
                ..Recall::default()
            },
            "5",
        ),
    ];
    for (wanted, expected) in cases {
        assert_eq!(bed.texts(wanted.clone()).await.concat(), expected, "{wanted:?}");
    }
}

pub(crate) async fn said_again_is_not_said_once_more(bed: Bed) {
    let run = bed.submit_one().await;
    let old = bed.claim(run, OVER).await.lease;
    let (mut first, second) = (message("s", "draft"), message("s", "after"));
    assert!(bed.say(old, &first, KEEP).await);
    assert!(bed.say(old, &second, KEEP).await);
    let said_at = bed.heard("s").await[1].at;
    first.text = "final".to_owned();
    let twice = [first.clone(), first.clone()].map(|message| Remember { lease: old, message });
    assert_eq!(bed.store.remember(&twice, KEEP).await.unwrap(), [true, true]);
    bed.reap().await;
    let new = bed.claim(run, TTL).await.lease;
    assert!(bed.say(new, &first, KEEP).await);
    let heard = bed.heard("s").await;
    let found: Vec<_> = heard.iter().map(|said| said.message.text.as_str()).collect();
    assert_eq!(found, ["after", "final"], "at its place, as it was said last");
    assert_eq!(heard[1].at, said_at);
}

pub(crate) async fn a_stale_epoch_says_nothing(bed: Bed) {
    let run = bed.submit_one().await;
    let old = bed.claim(run, OVER).await.lease;
    bed.reap().await;
    let mut said = message("s", "old");
    assert!(!bed.say(old, &said, KEEP).await, "nobody holds it");
    let new = bed.claim(run, TTL).await.lease;
    assert!(!bed.say(old, &said, KEEP).await);
    assert!(bed.heard("s").await.is_empty());
    let both = [(old, "of the old"), (new, "of the new")].map(|(lease, text)| Remember {
        lease,
        message: message("s", text),
    });
    assert_eq!(bed.store.remember(&both, KEEP).await.unwrap(), [false, true]);
    bed.finish(new, flowfleet_core::run::Ending::Succeeded).await;
    said.text = "too late".to_owned();
    assert!(!bed.say(new, &said, KEEP).await, "it has ended");
    assert_eq!(bed.heard("s").await.len(), 1);
}

pub(crate) async fn a_tenant_hears_only_its_own(bed: Bed) {
    let mine = bed.claim(bed.submit_one().await, TTL).await.lease;
    let other: Tenant = "globex".parse().unwrap();
    let theirs = bed.submit(&[crate::bed::new_run(&other)]).await[0];
    let theirs = bed.claim(theirs, TTL).await.lease;
    let said = message("s", "mine");
    assert!(bed.say(mine, &said, KEEP).await);
    // The same id: it is theirs then, and takes nothing away.
    let same = ChatMessage {
        text: "theirs".to_owned(),
        ..said.clone()
    };
    assert!(bed.say(theirs, &same, KEEP).await);
    let everything = Recall {
        limit: 10,
        ..Recall::default()
    };
    for (tenant, expected) in [(&bed.tenant, "mine"), (&other, "theirs")] {
        let heard = bed.store.recall(tenant, &everything).await.unwrap();
        let texts: Vec<_> = heard.iter().map(|said| said.message.text.as_str()).collect();
        assert_eq!(texts, [expected]);
        let sessions = bed.store.sessions(tenant, None, 0, 10).await.unwrap();
        assert_eq!(sessions, ["s"]);
    }
    assert_eq!(bed.store.forget(&other, "s").await.unwrap(), 1);
    assert_eq!(bed.heard("s").await.len(), 1);
}

pub(crate) async fn a_flow_does_not_rewrite_anothers_words(bed: Bed) {
    let mine = bed.claim(bed.submit_one().await, TTL).await.lease;
    let mut run = bed.new_run();
    run.flow = FlowVersion {
        name: flow("another"),
        ..run.flow
    };
    let theirs = bed.claim(bed.submit(&[run]).await[0], TTL).await.lease;
    let mut said = message("s", "mine");
    assert!(bed.say(mine, &said, KEEP).await);
    said.text = "theirs".to_owned();
    assert!(!bed.say(theirs, &said, KEEP).await);
    assert_eq!(bed.heard("s").await[0].message.text, "mine");
}

pub(crate) async fn long_conversations_lose_their_beginning(bed: Bed) {
    let lease = bed.claim(bed.submit_one().await, TTL).await.lease;
    for number in 0..9 {
        assert!(bed.say(lease, &message("s", &number.to_string()), 4).await);
        assert!(bed.say(lease, &message("other", "x"), KEEP).await);
    }
    let found: Vec<_> = bed.heard("s").await;
    let texts: Vec<_> = found.iter().map(|said| said.message.text.as_str()).collect();
    assert_eq!(texts.concat(), "8765");
    assert_eq!(bed.heard("other").await.len(), 9);
    // One in some thirty trims where many may stay.
    for batch in 0..10 {
        let many: Vec<_> = (0..100)
            .map(|n| Remember {
                lease,
                message: message("long", &(batch * 100 + n).to_string()),
            })
            .collect();
        assert!(
            bed.store
                .remember(&many, 50)
                .await
                .unwrap()
                .iter()
                .all(|said| *said)
        );
    }
    let left = bed
        .texts(Recall {
            session_id: Some("long".to_owned()),
            limit: 1_000,
            ..Recall::default()
        })
        .await;
    assert!((50..400).contains(&left.len()), "{}", left.len());
    assert_eq!(left[0], "999");
}

pub(crate) async fn sessions_are_listed_and_forgotten(bed: Bed) {
    let lease = bed.claim(bed.submit_one().await, TTL).await.lease;
    for session in ["a", "b", "c", "a"] {
        assert!(bed.say(lease, &message(session, "x"), KEEP).await);
    }
    let list = async |flow: Option<&FlowName>, offset, limit| {
        let sessions = bed.store.sessions(&bed.tenant, flow, offset, limit).await;
        sessions.unwrap().concat()
    };
    assert_eq!(list(None, 0, 10).await, "acb");
    assert_eq!(list(Some(&flow("hello")), 1, 1).await, "c");
    assert_eq!(list(Some(&flow("another")), 0, 10).await, "");
    assert_eq!(bed.store.forget(&bed.tenant, "a").await.unwrap(), 2);
    assert_eq!(bed.store.forget(&bed.tenant, "a").await.unwrap(), 0);
    assert_eq!(list(None, 0, 10).await, "cb");
    for session in [String::new(), "s".repeat(NAME_BYTES + 1)] {
        let message = message(&session, "x");
        let refused = bed.store.remember(&[Remember { lease, message }], KEEP).await;
        assert_eq!(refused.unwrap_err().kind, Kind::Permanent);
    }
}
