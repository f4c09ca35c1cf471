//! The lines that go to the Python processes and come back. The other end is `shim/flowfleet_host`.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use serde_json::value::RawValue;

/// To the parent.
#[derive(Debug, Serialize)]
#[serde(tag = "op", rename_all = "snake_case")]
pub(crate) enum Order<'a> {
    Fork { child: u64, dir: &'a Path },
    Kill { child: u64 },
}

/// From the parent.
#[derive(Debug, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(crate) enum News {
    Ready(Ready),
    Broken {
        message: String,
    },
    Forked {
        child: u64,
        pid: u32,
    },
    Exited {
        child: u64,
        #[serde(flatten)]
        exit: Exit,
    },
}

/// What the parent has loaded.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Ready {
    pub lfx: String,
    pub python: String,
    /// Threads that loading left behind; children are forked without them.
    #[serde(default)]
    pub threads: Vec<String>,
    pub resident_bytes: u64,
    pub took_ms: u64,
}

/// How a child ended.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct Exit {
    pub(crate) code: Option<i32>,
    pub(crate) signal: Option<i32>,
    /// It had this much when it was killed for that.
    pub(crate) memory_bytes: Option<u64>,
    pub(crate) peak_bytes: u64,
    /// It never began.
    pub(crate) reason: Option<String>,
}

/// To a child.
#[derive(Debug, Serialize)]
#[serde(tag = "op", rename_all = "snake_case")]
pub(crate) enum Ask<'a> {
    Run(&'a Call),
    Cancel { run: &'a str },
}

/// One run.
#[derive(Debug, Serialize)]
pub(crate) struct Call {
    pub(crate) run: String,
    pub(crate) flow: Box<RawValue>,
    pub(crate) flow_id: Option<String>,
    pub(crate) input_value: Option<String>,
    pub(crate) input_type: flowfleet_engine::InputType,
    pub(crate) output_type: flowfleet_engine::OutputType,
    pub(crate) output_component: Option<String>,
    pub(crate) tweaks: Json,
    pub(crate) session_id: String,
    /// What fields and components may look up by name.
    pub(crate) variables: BTreeMap<String, String>,
    /// What of it is the environment of the process.
    pub(crate) environment: BTreeMap<String, String>,
    pub(crate) history: Vec<Json>,
    /// Whether models answer token by token.
    pub(crate) stream: bool,
}

/// From a child: every line names its run.
#[derive(Debug, Deserialize)]
pub(crate) struct Said {
    pub(crate) run: String,
    /// The memory of the process, said with the end of a run.
    #[serde(default)]
    pub(crate) resident_bytes: u64,
    #[serde(flatten)]
    pub(crate) what: What,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(crate) enum What {
    NodeStarted {
        node: String,
    },
    NodeFinished {
        node: String,
        elapsed_s: f64,
        preview: String,
        usage: Option<flowfleet_engine::Usage>,
    },
    NodeFailed {
        node: String,
        message: String,
    },
    Token {
        node: String,
        text: String,
    },
    Message {
        message: Json,
    },
    MessagesDeleted {
        ids: Vec<String>,
    },
    Result {
        outputs: Vec<(String, Json)>,
        langflow: Json,
        session_id: String,
    },
    Error {
        code: String,
        message: String,
        #[serde(default)]
        node: Option<String>,
        #[serde(default)]
        retryable: bool,
    },
    Cancelled,
}

impl What {
    /// Whether nothing of this run follows.
    pub(crate) fn is_end(&self) -> bool {
        matches!(self, Self::Result { .. } | Self::Error { .. } | Self::Cancelled)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn lines_of_a_child_are_read() {
        let read = |line: Json| serde_json::from_value::<Said>(line).unwrap();
        let said = read(json!({"event": "token", "run": "r", "node": "n", "text": "t", "later": 1}));
        assert_eq!(said.run, "r");
        assert_eq!(
            said.what,
            What::Token {
                node: "n".into(),
                text: "t".into()
            }
        );
        assert!(read(json!({"event": "cancelled", "run": "r"})).what.is_end());
        let error = read(json!({"event": "error", "run": "r", "code": "c", "message": "m"}));
        assert!(error.what.is_end());
    }

    #[test]
    fn ends_of_a_child_are_read() {
        let line = r#"{"event": "exited", "child": 3, "peak_bytes": 5, "signal": 11}"#;
        let News::Exited { child: 3, exit } = serde_json::from_str(line).unwrap() else {
            panic!("an exit");
        };
        assert_eq!((exit.signal, exit.code), (Some(11), None));
    }

    proptest! {
        /// A component may write to the socket of its own process: whatever it writes is refused or read, never more.
        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = serde_json::from_slice::<Said>(&bytes);
            let _ = serde_json::from_slice::<News>(&bytes);
        }

        /// Text of any kind comes through a line as it was.
        #[test]
        fn text_comes_through(run in ".*", node in ".*", text in ".*") {
            let line = serde_json::to_vec(&json!({"event": "token", "run": run, "node": node, "text": text})).unwrap();
            prop_assert!(!line.contains(&b'\n'));
            let said: Said = serde_json::from_slice(&line).unwrap();
            prop_assert_eq!(said.run, run);
            prop_assert_eq!(said.what, What::Token { node, text });
        }
    }
}
