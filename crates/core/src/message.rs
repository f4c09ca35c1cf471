//! What travels through the broker: ids and trace context, never the payload (invariant I1: a hint).

use serde::{Deserialize, Serialize};

use crate::id::RunId;

/// The version of [`RunMessage`] this program writes.
pub const VERSION: u8 = 1;

/// W3C trace context, carried from the submitting request to the worker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TraceContext {
    pub traceparent: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tracestate: Option<String>,
}

/// "Run R wants a worker."
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunMessage {
    pub v: u8,
    pub run: RunId,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace: Option<TraceContext>,
}

/// Why bytes from the broker are no message of ours.
#[derive(Debug, thiserror::Error)]
pub enum BadMessage {
    #[error("not a run message: {0}")]
    Json(#[from] serde_json::Error),
    #[error(
        "message version {0} is not known to this worker (it knows {VERSION}): upgrade workers before dispatchers"
    )]
    Version(u8),
}

impl RunMessage {
    pub fn new(run: RunId, trace: Option<TraceContext>) -> Self {
        Self {
            v: VERSION,
            run,
            trace,
        }
    }

    pub fn encode(&self) -> Vec<u8> {
        // A struct of strings and numbers always serialises.
        serde_json::to_vec(self).unwrap_or_default()
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, BadMessage> {
        let message: Self = serde_json::from_slice(bytes)?;
        if message.v != VERSION {
            return Err(BadMessage::Version(message.v));
        }
        Ok(message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn decoding_garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = RunMessage::decode(&bytes);
        }

        #[test]
        fn round_trip(id in any::<u128>(), trace in proptest::option::of("[0-9a-f-]{1,55}")) {
            let trace = trace.map(|traceparent| TraceContext { traceparent, tracestate: None });
            let message = RunMessage::new(RunId(uuid::Uuid::from_u128(id)), trace);
            prop_assert_eq!(RunMessage::decode(&message.encode()).unwrap(), message);
        }
    }

    #[test]
    fn a_newer_version_is_refused_by_name() {
        let json = format!(r#"{{"v":2,"run":"{}"}}"#, RunId::generate());
        assert!(matches!(
            RunMessage::decode(json.as_bytes()),
            Err(BadMessage::Version(2))
        ));
    }
}
