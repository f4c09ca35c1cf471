//! Reading answers: streamed as Server-Sent Events, or whole; both with limits on time and size.

use std::time::Duration;

use bytes::Bytes;
use futures::{Stream, StreamExt};

use super::fault::Fault;
use super::sse::Decoder;
use super::wire::{Completion, ToolDelta};
use super::{CallLimits, Reply, ToolCall};

/// No answer of a model is longer; a server that sends more is broken or hostile.
pub(super) const MAX_RESPONSE_BYTES: usize = 32 << 20;

/// Why a body could not be read to its end.
#[derive(Debug, thiserror::Error)]
enum BodyError {
    #[error("the connection broke: {0}")]
    Broken(#[from] reqwest::Error),
    #[error("too large")]
    TooLarge,
}

/// The bytes of a body, up to a limit.
fn limited(response: reqwest::Response, limit: usize) -> impl Stream<Item = Result<Bytes, BodyError>> {
    let mut read = 0_usize;
    response.bytes_stream().map(move |chunk| {
        let chunk = chunk?;
        read = read.saturating_add(chunk.len());
        if read > limit {
            Err(BodyError::TooLarge)
        } else {
            Ok(chunk)
        }
    })
}

/// The whole body.
pub(super) async fn read_all(
    response: reqwest::Response,
    idle: Duration,
    limit: usize,
) -> Result<Vec<u8>, Fault> {
    let mut chunks = std::pin::pin!(limited(response, limit));
    let mut body = Vec::new();
    loop {
        match tokio::time::timeout(idle, chunks.next()).await {
            Ok(Some(Ok(chunk))) => body.extend_from_slice(&chunk),
            Ok(Some(Err(BodyError::TooLarge))) => return Err(Fault::too_large(limit)),
            Ok(Some(Err(BodyError::Broken(error)))) => {
                return Err(Fault::broken(format!("broke off: {error}"), false));
            }
            Ok(None) => return Ok(body),
            Err(_) => return Err(Fault::timeout("the next piece of its answer", idle)),
        }
    }
}

/// A streamed answer: each piece of text is passed on as it comes.
pub(super) async fn read(
    response: reqwest::Response,
    settings: &CallLimits,
    on_token: &(dyn Fn(&str) + Send + Sync),
) -> Result<Reply, Fault> {
    let mut chunks = std::pin::pin!(limited(response, MAX_RESPONSE_BYTES));
    let mut decoder = Decoder::default();
    let mut events = Vec::new();
    let mut answer = Answer::default();
    let mut patience = settings.first_byte;
    loop {
        let passed_on = !answer.reply.text.is_empty();
        let chunk = match tokio::time::timeout(patience, chunks.next()).await {
            Err(_) => return Err(Fault::timeout("the next piece of its answer", patience)),
            Ok(None) => break,
            Ok(Some(Ok(chunk))) => chunk,
            // Whatever happens to the connection after the last piece, the answer is whole.
            Ok(Some(Err(BodyError::Broken(_)))) if answer.finished => break,
            Ok(Some(Err(BodyError::TooLarge))) => return Err(Fault::too_large(MAX_RESPONSE_BYTES)),
            Ok(Some(Err(BodyError::Broken(error)))) => {
                return Err(Fault::broken(format!("broke off: {error}"), passed_on));
            }
        };
        patience = settings.idle;
        decoder.push(&chunk, &mut events);
        for event in events.drain(..) {
            if answer.take(event.trim(), on_token)? {
                return Ok(answer.reply);
            }
        }
    }
    if answer.finished {
        return Ok(answer.reply);
    }
    let passed_on = !answer.reply.text.is_empty();
    Err(Fault::broken(
        "broke off before the answer was complete",
        passed_on,
    ))
}

/// A streamed answer so far.
#[derive(Debug, Default)]
pub(super) struct Answer {
    pub(super) reply: Reply,
    /// The index of the tool call that grows last.
    growing: Option<u64>,
    finished: bool,
}

impl Answer {
    /// Takes one event; true if it says that nothing follows.
    pub(super) fn take(
        &mut self,
        data: &str,
        on_token: &(dyn Fn(&str) + Send + Sync),
    ) -> Result<bool, Fault> {
        if data.is_empty() || data == "[DONE]" {
            return Ok(!data.is_empty());
        }
        let passed_on = !self.reply.text.is_empty();
        let mut piece: Completion = serde_json::from_str(data).map_err(|error| {
            Fault::broken(
                format!("sent a piece that is not a chat completion ({error})"),
                passed_on,
            )
        })?;
        if let Some(error) = piece.error.as_ref().filter(|error| !error.is_null()) {
            return Err(Fault::in_stream(error, passed_on));
        }
        let text = piece.text();
        if !text.is_empty() {
            on_token(&text);
            self.reply.text.push_str(&text);
        }
        for delta in piece.take_tool_calls() {
            self.take_tool_call(delta);
        }
        self.finished |= piece.finished();
        if let Some(usage) = piece.usage() {
            self.reply.usage = usage;
        }
        Ok(false)
    }

    /// Calls come one after the other; one without an index belongs to the last.
    fn take_tool_call(&mut self, delta: ToolDelta) {
        let calls = &mut self.reply.tool_calls;
        if calls.is_empty() || delta.index.is_some_and(|index| self.growing != Some(index)) {
            calls.push(ToolCall::default());
        }
        self.growing = delta.index.or(self.growing);
        if let Some(call) = calls.last_mut() {
            delta.add_to(call);
        }
    }
}
