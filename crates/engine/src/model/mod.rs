//! The client of model servers: chats, streamed, in the protocols of OpenAI, Anthropic and Ollama, and
//! embeddings.
//!
//! Owns the wire, timeouts, retries within one call, which addresses a flow may connect to, and what an error tells
//! the user. It neither logs nor returns keys. Which model is asked and with which messages is the components' business.

mod anthropic;
pub(crate) mod embed;
mod endpoint;
mod fault;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod ollama;
mod openai;
mod provider;
mod question;
mod retry;
mod settings;
mod sse;
mod stream;

use std::time::Duration;

use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderName, HeaderValue};

use crate::component::{NodeContext, NodeError};
use crate::metrics as names;

pub(crate) use endpoint::{Endpoint, api_key};
use fault::Fault;
use openai::Dialect;
pub(crate) use provider::{Protocol, Provider};
pub(crate) use question::{Chat, Options, Reply, Shape, ToolCall, ToolSpec, Turn};
pub use settings::{CallLimits, ModelSettings};

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
    let mut dialect = Dialect::of(chat);
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
    dialect: Dialect,
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
    dialect: Dialect,
    idempotency: &str,
) -> Result<Reply, Fault> {
    let request = request(ctx, chat, dialect)?.header("idempotency-key", idempotency);
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
    let protocol = chat.endpoint.provider.protocol();
    if !response.status().is_success() {
        let patience = settings.idle.min(Duration::from_secs(10));
        return Err(fault::of_response(response, patience, protocol).await);
    }
    let token = |text: &str| ctx.token(text);
    let heard: Option<stream::Heard<'_>> = if chat.stream { Some(&token) } else { None };
    let reply = match protocol {
        // One object a line, also where there is only one.
        Protocol::Ollama => stream::read::<ollama::Answer>(response, settings, heard).await?,
        Protocol::OpenAi if is_event_stream(&response) => {
            stream::read::<openai::Answer>(response, settings, heard).await?
        }
        Protocol::Anthropic if is_event_stream(&response) => {
            stream::read::<anthropic::Answer>(response, settings, heard).await?
        }
        Protocol::OpenAi | Protocol::Anthropic => {
            let bytes = stream::read_all(response, settings.idle, stream::MAX_RESPONSE_BYTES).await?;
            let reply = match protocol {
                Protocol::Anthropic => anthropic::whole(&bytes)?,
                _ => openai::whole(&bytes)?,
            };
            if let Some(heard) = heard.filter(|_| !reply.text.is_empty()) {
                heard(&reply.text);
            }
            reply
        }
    };
    Ok(match protocol {
        Protocol::Anthropic => anthropic::shaped(chat, reply),
        _ => reply,
    })
}

/// What is sent, apart from what is the same for each try.
fn request(ctx: &NodeContext, chat: &Chat, dialect: Dialect) -> Result<reqwest::RequestBuilder, Fault> {
    let endpoint = &chat.endpoint;
    let protocol = endpoint.provider.protocol();
    let (body, accept) = match protocol {
        Protocol::OpenAi if dialect.stream => {
            (openai::body(chat, dialect), "text/event-stream, application/json")
        }
        Protocol::OpenAi => (openai::body(chat, dialect), "application/json"),
        Protocol::Anthropic => (anthropic::body(chat, dialect), "application/json"),
        Protocol::Ollama => (ollama::body(chat), "application/json"),
    };
    let mut request = ctx
        .http
        .client(endpoint.trusted)
        .post(endpoint.url.clone())
        .header(CONTENT_TYPE, "application/json")
        .header(ACCEPT, accept)
        .body(body);
    for (name, value) in &endpoint.headers {
        let value = HeaderValue::from_str(value).map_err(|_| Fault::bad_key())?;
        request = request.header(*name, value);
    }
    if protocol == Protocol::Anthropic {
        request = request.header("anthropic-version", anthropic::VERSION);
    }
    if let Some(key) = &endpoint.key {
        let (name, value) = match protocol {
            Protocol::Anthropic => (HeaderName::from_static("x-api-key"), key.reveal().to_owned()),
            Protocol::OpenAi | Protocol::Ollama => (AUTHORIZATION, format!("Bearer {}", key.reveal())),
        };
        let mut value = HeaderValue::from_str(&value).map_err(|_| Fault::bad_key())?;
        value.set_sensitive(true);
        request = request.header(name, value);
    }
    Ok(request)
}

fn is_event_stream(response: &reqwest::Response) -> bool {
    let kind = response.headers().get(CONTENT_TYPE);
    kind.and_then(|value| value.to_str().ok()).is_some_and(|kind| {
        kind.trim_start()
            .to_ascii_lowercase()
            .starts_with("text/event-stream")
    })
}

#[cfg(test)]
pub(crate) mod tests;
