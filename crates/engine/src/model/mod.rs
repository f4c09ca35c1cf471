//! The client of OpenAI-compatible model servers: chat completions, streamed.
//!
//! Owns the wire, timeouts, retries within one call, which addresses a flow may connect to, and what an error tells
//! the user. It neither logs nor returns keys. Which model is asked and with which messages is the components' business.

mod endpoint;
mod fault;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod retry;
mod settings;
mod sse;
mod stream;
mod wire;

use std::time::Duration;

use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use serde_json::{Map, Value as Json};

use crate::component::{NodeContext, NodeError, Usage};
use crate::metrics as names;

pub(crate) use endpoint::{Endpoint, api_key};
use fault::Fault;
pub use settings::{CallLimits, ModelSettings};

/// One question to a model.
#[derive(Debug, Clone)]
pub(crate) struct Chat {
    pub endpoint: Endpoint,
    pub model: String,
    pub messages: Vec<Json>,
    /// Everything else of the request's body: temperature, limits, response format.
    pub options: Map<String, Json>,
    /// Whether the answer is wanted piece by piece.
    pub stream: bool,
}

/// The whole answer.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Reply {
    pub text: String,
    /// What the model wants to be called, in its order.
    pub tool_calls: Vec<ToolCall>,
    pub usage: Usage,
}

/// A tool the model asks for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct ToolCall {
    pub id: String,
    pub name: String,
    /// JSON, as the model wrote it.
    pub arguments: String,
}

/// Asks, and asks again while that can help. Text is passed to `ctx.token` as it arrives.
pub(crate) async fn chat(ctx: &NodeContext, chat: &Chat, settings: &CallLimits) -> Result<Reply, NodeError> {
    let asked = async {
        tokio::select! {
            biased;
            () = ctx.cancel.cancelled() => Err(NodeError::permanent("cancelled", "the run was cancelled")),
            reply = ask(ctx, chat, settings) => reply,
        }
    };
    let reply = Box::pin(asked).await;
    let outcome = reply.as_ref().map_or_else(|error| error.code, |_| "ok");
    metrics::counter!(names::LLM_REQUESTS, "outcome" => outcome).increment(1);
    if let Ok(reply) = &reply {
        metrics::counter!(names::LLM_TOKENS, "kind" => "input").increment(reply.usage.input_tokens);
        metrics::counter!(names::LLM_TOKENS, "kind" => "output").increment(reply.usage.output_tokens);
    }
    reply
}

async fn ask(ctx: &NodeContext, chat: &Chat, settings: &CallLimits) -> Result<Reply, NodeError> {
    let mut dialect = wire::Dialect::of(chat);
    // One key for all tries of one call, so that a gateway that knows it does not charge twice.
    let idempotency = uuid::Uuid::now_v7().to_string();
    let mut tries = 0;
    loop {
        let fault = match attempt(ctx, chat, settings, dialect, &idempotency).await {
            Ok(reply) => return Ok(reply),
            Err(fault) => fault,
        };
        if let Some(simpler) = fault.simpler(dialect) {
            tracing::debug!(
                parameter = fault.refused.as_deref(),
                "the model server refuses a parameter; asking without it"
            );
            dialect = simpler;
            continue;
        }
        let Some(wait) = retry::wait(&fault, tries, settings, rand::random()) else {
            return Err(fault.into_error(chat, tries));
        };
        tries += 1;
        tracing::debug!(
            code = fault.code,
            tries,
            wait_s = wait.as_secs_f64(),
            "asking the model again"
        );
        tokio::time::sleep(wait).await;
    }
}

async fn attempt(
    ctx: &NodeContext,
    chat: &Chat,
    settings: &CallLimits,
    dialect: wire::Dialect,
    idempotency: &str,
) -> Result<Reply, Fault> {
    let asked = Box::pin(exchange(ctx, chat, settings, dialect, idempotency));
    match tokio::time::timeout(settings.total, asked).await {
        Ok(reply) => reply,
        Err(_) => Err(Fault::timeout("the whole answer", settings.total)),
    }
}

async fn exchange(
    ctx: &NodeContext,
    chat: &Chat,
    settings: &CallLimits,
    dialect: wire::Dialect,
    idempotency: &str,
) -> Result<Reply, Fault> {
    let body = wire::body(chat, dialect);
    let mut request = ctx
        .http
        .client(chat.endpoint.trusted)
        .post(chat.endpoint.url.clone())
        .header(CONTENT_TYPE, "application/json")
        .header(
            ACCEPT,
            if dialect.stream {
                "text/event-stream, application/json"
            } else {
                "application/json"
            },
        )
        .header("idempotency-key", idempotency)
        .body(body);
    if let Some(key) = &chat.endpoint.key {
        let mut value =
            HeaderValue::from_str(&format!("Bearer {}", key.reveal())).map_err(|_| Fault::bad_key())?;
        value.set_sensitive(true);
        request = request.header(AUTHORIZATION, value);
    }
    // Without streaming the first byte comes with the last one.
    let first = if dialect.stream {
        settings.first_byte
    } else {
        settings.total
    };
    let response = match tokio::time::timeout(first, request.send()).await {
        Ok(Ok(response)) => response,
        Ok(Err(error)) => return Err(Fault::unreachable(&error)),
        Err(_) => return Err(Fault::timeout("the first byte", first)),
    };
    if !response.status().is_success() {
        return Err(fault::of_response(response, settings.idle.min(Duration::from_secs(10))).await);
    }
    let streamed = response
        .headers()
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|kind| {
            kind.trim_start()
                .to_ascii_lowercase()
                .starts_with("text/event-stream")
        });
    if streamed {
        stream::read(response, settings, &|text| ctx.token(text)).await
    } else {
        let bytes = stream::read_all(response, settings.idle, stream::MAX_RESPONSE_BYTES).await?;
        let reply = wire::whole(&bytes)?;
        if chat.stream && !reply.text.is_empty() {
            ctx.token(&reply.text);
        }
        Ok(reply)
    }
}

#[cfg(test)]
pub(crate) mod tests;
