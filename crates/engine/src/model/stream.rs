//! Reading answers: streamed as Server-Sent Events or lines, or whole; all with limits on time and size.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::{Stream, StreamExt};

use super::fault::Fault;
use super::sse::Decoder;
use super::{CallLimits, Reply};

/// Who is told of text as it comes.
pub(super) type Heard<'h> = &'h (dyn Fn(&str) + Send + Sync);

/// How a stream is cut into pieces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Framing {
    /// Server-Sent Events.
    Events,
    Lines,
}

/// A streamed answer so far.
pub(super) trait Answer: Default + Send {
    const FRAMING: Framing;

    /// Takes one piece, which is never empty; true if it says that nothing follows.
    fn take(&mut self, data: &str, heard: Heard<'_>) -> Result<bool, Fault>;

    /// Whether the answer would be whole if nothing followed.
    fn is_finished(&self) -> bool;

    fn reply(self) -> Reply;
}

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
                return Err(Fault::broken(format!("broke off: {error}")));
            }
            Ok(None) => return Ok(body),
            Err(_) => return Err(Fault::timeout("the next piece of its answer", idle)),
        }
    }
}

/// A streamed answer: each piece of text is passed on as it comes. What was passed on cannot be taken back, so then a
/// stream that breaks is not asked for again.
pub(super) async fn read<A: Answer>(
    response: reqwest::Response,
    settings: &CallLimits,
    heard: Option<Heard<'_>>,
) -> Result<Reply, Fault> {
    let passed_on = AtomicBool::new(false);
    let tell = |text: &str| {
        if let Some(heard) = heard {
            passed_on.store(true, Ordering::Relaxed);
            heard(text);
        }
    };
    let read = pieces::<A>(response, settings, &tell).await;
    read.map_err(|fault| fault.after(passed_on.load(Ordering::Relaxed)))
}

async fn pieces<A: Answer>(
    response: reqwest::Response,
    settings: &CallLimits,
    heard: Heard<'_>,
) -> Result<Reply, Fault> {
    let mut chunks = std::pin::pin!(limited(response, MAX_RESPONSE_BYTES));
    let mut decoder = Decoder::of(A::FRAMING);
    let mut events = Vec::new();
    let mut answer = A::default();
    let mut patience = settings.first_byte;
    loop {
        let chunk = match tokio::time::timeout(patience, chunks.next()).await {
            Err(_) => return Err(Fault::timeout("the next piece of its answer", patience)),
            Ok(None) => break,
            Ok(Some(Ok(chunk))) => chunk,
            // Whatever happens to the connection after the last piece, the answer is whole.
            Ok(Some(Err(BodyError::Broken(_)))) if answer.is_finished() => break,
            Ok(Some(Err(BodyError::TooLarge))) => return Err(Fault::too_large(MAX_RESPONSE_BYTES)),
            Ok(Some(Err(BodyError::Broken(error)))) => {
                return Err(Fault::broken(format!("broke off: {error}")));
            }
        };
        patience = settings.idle;
        decoder.push(&chunk, &mut events);
        for event in events.drain(..) {
            let piece = event.trim();
            if !piece.is_empty() && answer.take(piece, heard)? {
                return Ok(answer.reply());
            }
        }
    }
    // A last line may come without an end.
    if let Some(rest) = decoder.end() {
        let piece = rest.trim();
        if !piece.is_empty() {
            answer.take(piece, heard)?;
        }
    }
    if answer.is_finished() {
        return Ok(answer.reply());
    }
    Err(Fault::broken("broke off before the answer was complete"))
}
