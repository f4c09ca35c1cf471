//! The client against the mock model, and against servers that misbehave byte by byte.

mod addresses;
mod answers;
mod failures;
mod providers;

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use flowfleet_mock_model as mock;
use serde_json::{Value as Json, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::component::Usage;
use crate::components::testing::context;

/// A server that answers its n-th request with the n-th bytes, the last ones from then on.
#[derive(Debug)]
pub(crate) struct Scripted {
    pub(crate) base: String,
    bodies: Arc<Mutex<Vec<Json>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Scripted {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[derive(Debug, Clone)]
pub(crate) enum Answer {
    /// Sends this and closes.
    Close(String),
    /// Sends this and stays silent.
    Hang(String),
}

impl Scripted {
    pub(crate) async fn start(answers: Vec<Answer>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}/v1", listener.local_addr().unwrap());
        let bodies = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&bodies);
        let task = tokio::spawn(async move {
            let mut silent = Vec::new();
            for number in 0.. {
                let (mut stream, _) = listener.accept().await.unwrap();
                let Some(body) = request_body(&mut stream).await else {
                    continue;
                };
                seen.lock().unwrap().push(body);
                match &answers[number.min(answers.len() - 1)] {
                    Answer::Close(bytes) => {
                        let _ = stream.write_all(bytes.as_bytes()).await;
                        let _ = stream.shutdown().await;
                    }
                    Answer::Hang(bytes) => {
                        let _ = stream.write_all(bytes.as_bytes()).await;
                        silent.push(stream);
                    }
                }
            }
        });
        Self { base, bodies, task }
    }

    pub(crate) fn bodies(&self) -> Vec<Json> {
        self.bodies.lock().unwrap().clone()
    }
}

async fn request_body(stream: &mut TcpStream) -> Option<Json> {
    let mut bytes = Vec::new();
    loop {
        let mut chunk = [0; 4096];
        let read = stream.read(&mut chunk).await.ok().filter(|read| *read > 0)?;
        bytes.extend_from_slice(&chunk[..read]);
        let text = String::from_utf8_lossy(&bytes);
        if let Some((_, body)) = text.split_once("\r\n\r\n")
            && let Ok(body) = serde_json::from_str(body)
        {
            return Some(body);
        }
    }
}

fn events(text: &str) -> String {
    format!("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n{text}")
}

pub(crate) fn response(status: u16, headers: &str, body: &str) -> Answer {
    let length = body.len();
    Answer::Close(format!(
        "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {length}\r\nconnection: close\r\n{headers}\r\n{body}"
    ))
}

fn piece(text: &str) -> String {
    format!(
        "data: {}\n\n",
        json!({"choices": [{"index": 0, "delta": {"content": text}}]})
    )
}

const END: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\ndata: {\"choices\":[],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":2}}\n\ndata: [DONE]\n\n";

fn quick() -> CallLimits {
    CallLimits {
        total: Duration::from_secs(20),
        first_byte: Duration::from_secs(10),
        idle: Duration::from_secs(10),
        max_retries: 2,
        max_wait: Duration::from_secs(5),
    }
}

fn endpoint(ctx: &NodeContext, provider: Provider, base: &str) -> Endpoint {
    let key = provider.key_variable().map(|_| "sk-very-secret".to_owned());
    Endpoint::of(ctx, provider, Some(base), key).unwrap()
}

fn question(ctx: &NodeContext, base: &str) -> Chat {
    Chat {
        endpoint: endpoint(ctx, Provider::OpenAi, base),
        model: "m".to_owned(),
        stream: true,
        turns: vec![Turn::User("hi".to_owned())],
        options: Options {
            temperature: Some(0.1),
            limit: Some(9),
            ..Options::default()
        },
    }
}

async fn asked(base: &str, settings: &CallLimits) -> (Result<Reply, NodeError>, Vec<String>) {
    let (ctx, tokens) = context(&[]);
    let reply = chat(&ctx, &question(&ctx, base), settings).await;
    let tokens = tokens.lock().unwrap().clone();
    (reply, tokens)
}

fn reply(text: &str) -> Reply {
    Reply {
        text: text.to_owned(),
        tool_calls: Vec::new(),
        usage: Usage {
            input_tokens: 3,
            output_tokens: 2,
        },
        blocks: Vec::new(),
    }
}
