//! The HTTP server.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get, post};
use axum::serve::ListenerExt;
use axum::{Json, Router};
use bytes::Bytes;
use futures::stream;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::Config;
use crate::answer::{Answer, Protocol};
use crate::embed;
use crate::stats::Stats;

const MAX_BODY_BYTES: usize = 16 << 20;
/// How long requests may take to end once the server is told to stop.
const GRACE: Duration = Duration::from_secs(2);
/// The one model that is listed; any name is answered.
const MODEL: &str = "mock-1";

#[derive(Debug)]
pub(crate) struct Server {
    pub config: Config,
    pub stats: Stats,
}

/// Serves until told to stop, and returns when the requests that wait are answered or a short grace is over.
pub async fn serve(config: Config, listener: TcpListener, shutdown: CancellationToken) -> io::Result<()> {
    run(
        Arc::new(Server {
            config,
            stats: Stats::default(),
        }),
        listener,
        shutdown,
    )
    .await
}

pub(crate) async fn run(
    server: Arc<Server>,
    listener: TcpListener,
    shutdown: CancellationToken,
) -> io::Result<()> {
    // Tokens are small: without this each would wait for the acknowledgement of the one before.
    let listener = listener.tap_io(|stream| {
        let _ = stream.set_nodelay(true);
    });
    let stop = shutdown.clone();
    let serving = axum::serve(listener, router(server))
        .with_graceful_shutdown(async move { stop.cancelled().await })
        .into_future();
    tokio::select! {
        served = serving => served,
        () = async { shutdown.cancelled().await; tokio::time::sleep(GRACE).await } => Ok(()),
    }
}

fn router(server: Arc<Server>) -> Router {
    Router::new()
        .route("/v1/chat/completions", asked_in(Protocol::OpenAi))
        .route("/v1/messages", asked_in(Protocol::Anthropic))
        .route("/api/chat", asked_in(Protocol::Ollama))
        .route("/v1/embeddings", post(embed))
        .route("/v1/models", get(models))
        .route("/health", get(health))
        .route("/stats", get(stats))
        .route("/reset", post(reset))
        .fallback(|| async {
            failure(
                StatusCode::NOT_FOUND,
                "not_found",
                "no such path: try /v1/chat/completions, /v1/messages or /api/chat",
            )
        })
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .with_state(server)
}

fn asked_in(protocol: Protocol) -> MethodRouter<Arc<Server>> {
    let answer = move |server, headers, body| complete(server, headers, body, protocol);
    post(answer)
}

async fn health() -> Json<Value> {
    Json(json!({"status": "ok"}))
}

async fn models() -> Json<Value> {
    Json(
        json!({"object": "list", "data": [{"id": MODEL, "object": "model", "created": 0, "owned_by": "flowfleet"}]}),
    )
}

async fn stats(State(server): State<Arc<Server>>) -> impl IntoResponse {
    Json(server.stats.snapshot())
}

async fn reset(State(server): State<Arc<Server>>) -> StatusCode {
    server.stats.reset();
    StatusCode::NO_CONTENT
}

async fn complete(
    State(server): State<Arc<Server>>,
    headers: HeaderMap,
    body: Bytes,
    protocol: Protocol,
) -> Response {
    let number = server.stats.request();
    if let Some(refusal) = refusal(&server.config, &headers, number, protocol) {
        server.stats.failed();
        return refusal;
    }
    let answer = protocol
        .read(&body)
        .map_err(|error| error.to_string())
        .and_then(|request| {
            let stream = request.stream;
            Answer::to(request, number, protocol)
                .map(|answer| (answer, stream))
                .map_err(str::to_owned)
        });
    server.stats.keep(&body, server.config.keep);
    // The body may be large, and the request may wait for long.
    drop(body);
    let (answer, streamed) = match answer {
        Ok(answer) => answer,
        Err(detail) => {
            server.stats.failed();
            return failed(
                protocol,
                StatusCode::BAD_REQUEST,
                "invalid_request_error",
                &detail,
            );
        }
    };
    server.stats.asked(&answer.question, answer.input_tokens);
    let kind = answer.streamed_as();
    let latency = server.config.latency(&answer.question);
    if !latency.is_zero() {
        tokio::time::sleep(latency).await;
    }
    let body = match (streamed, server.config.pace()) {
        (true, Some(pace)) => Body::from_stream(paced(server, answer, pace)),
        (true, None) => {
            server.stats.answered(answer.output_tokens());
            let mut text = answer.opening();
            for index in 0..answer.tokens.len() {
                text.push_str(&answer.token(index));
            }
            text.push_str(&answer.closing());
            Body::from(text)
        }
        (false, pace) => {
            if let Some(pace) = pace {
                tokio::time::sleep(
                    pace.saturating_mul(u32::try_from(answer.tokens.len()).unwrap_or(u32::MAX)),
                )
                .await;
            }
            server.stats.answered(answer.output_tokens());
            return Json(answer.whole()).into_response();
        }
    };
    ([(CONTENT_TYPE, kind), (CACHE_CONTROL, "no-cache")], body).into_response()
}

/// Where texts lie: the same text always at the same place, and texts that share words near one another.
async fn embed(State(server): State<Arc<Server>>, headers: HeaderMap, body: Bytes) -> Response {
    let number = server.stats.request();
    if let Some(refusal) = refusal(&server.config, &headers, number, Protocol::OpenAi) {
        server.stats.failed();
        return refusal;
    }
    server.stats.keep(&body, server.config.keep);
    let asked = serde_json::from_slice::<embed::Request>(&body).map_err(|error| error.to_string());
    match asked.and_then(|asked| asked.answer().map_err(str::to_owned)) {
        Ok((answer, tokens)) => {
            server.stats.asked("embeddings", tokens);
            server.stats.answered(0);
            Json(answer).into_response()
        }
        Err(detail) => {
            server.stats.failed();
            failure(StatusCode::BAD_REQUEST, "invalid_request_error", &detail)
        }
    }
}

/// The answer's tokens at their times. Times are reckoned from the start, so that delays do not add up.
fn paced(
    server: Arc<Server>,
    answer: Answer,
    pace: Duration,
) -> impl stream::Stream<Item = Result<Bytes, Infallible>> {
    let start = Instant::now();
    let opening = answer.opening();
    stream::unfold(Some((server, answer, 0_u32, opening)), move |state| async move {
        let (server, answer, index, mut text) = state?;
        let place = index as usize;
        if place < answer.tokens.len() {
            tokio::time::sleep_until(start + pace.saturating_mul(index)).await;
            text.push_str(&answer.token(place));
            return Some((
                Ok(Bytes::from(text)),
                Some((server, answer, index + 1, String::new())),
            ));
        }
        text.push_str(&answer.closing());
        server.stats.answered(answer.output_tokens());
        Some((Ok(Bytes::from(text)), None))
    })
}

fn refusal(config: &Config, headers: &HeaderMap, number: u64, protocol: Protocol) -> Option<Response> {
    if let Some(key) = &config.api_key {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let given = match protocol {
            Protocol::Anthropic => text("x-api-key"),
            Protocol::OpenAi | Protocol::Ollama => {
                text(AUTHORIZATION.as_str()).and_then(|given| given.strip_prefix("Bearer "))
            }
        };
        if given != Some(key.as_str()) {
            let status = StatusCode::UNAUTHORIZED;
            return Some(failed(protocol, status, "invalid_api_key", "incorrect API key"));
        }
    }
    if !config.fails(number) {
        return None;
    }
    let status = StatusCode::from_u16(config.fail_status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = failed(protocol, status, "mock_failure", "this request was told to fail");
    if let Some(seconds) = config.retry_after_s {
        response.headers_mut().insert(RETRY_AFTER, seconds.into());
    }
    Some(response)
}

/// An error as a client of the protocol expects it.
fn failed(protocol: Protocol, status: StatusCode, code: &str, message: &str) -> Response {
    let body = match protocol {
        Protocol::OpenAi => return failure(status, code, message),
        Protocol::Anthropic => json!({"type": "error", "error": {"type": code, "message": message}}),
        Protocol::Ollama => json!({"error": message}),
    };
    (status, Json(body)).into_response()
}

fn failure(status: StatusCode, code: &str, message: &str) -> Response {
    (
        status,
        Json(json!({"error": {"message": message, "type": code, "code": code, "param": null}})),
    )
        .into_response()
}
