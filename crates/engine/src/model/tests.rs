//! The client against the mock model, and against servers that misbehave byte by byte.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use flowfleet_mock_model as mock;
use serde_json::{Map, Value as Json, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::components::testing::context;

/// A server that answers its n-th request with the n-th bytes, the last ones from then on.
struct Scripted {
    base: String,
    bodies: Arc<Mutex<Vec<Json>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Scripted {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[derive(Clone)]
enum Answer {
    /// Sends this and closes.
    Close(String),
    /// Sends this and stays silent.
    Hang(String),
}

impl Scripted {
    async fn start(answers: Vec<Answer>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}/v1", listener.local_addr().unwrap());
        let bodies = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&bodies);
        let task = tokio::spawn(async move {
            let mut silent = Vec::new();
            for number in 0.. {
                let (mut stream, _) = listener.accept().await.unwrap();
                let Some(body) = request_body(&mut stream).await else { continue };
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

    fn bodies(&self) -> Vec<Json> {
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

fn response(status: u16, headers: &str, body: &str) -> Answer {
    let length = body.len();
    Answer::Close(format!(
        "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {length}\r\nconnection: close\r\n{headers}\r\n{body}"
    ))
}

fn piece(text: &str) -> String {
    format!("data: {}\n\n", json!({"choices": [{"index": 0, "delta": {"content": text}}]}))
}

const END: &str =
    "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\ndata: {\"choices\":[],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":2}}\n\ndata: [DONE]\n\n";

fn quick() -> Settings {
    Settings {
        total: Duration::from_secs(20),
        first_byte: Duration::from_secs(10),
        idle: Duration::from_secs(10),
        max_retries: 2,
        max_wait: Duration::from_secs(5),
    }
}

fn question(ctx: &NodeContext, base: &str) -> Chat {
    Chat {
        endpoint: Endpoint::of(ctx, Some(base), "sk-very-secret".to_owned()).unwrap(),
        model: "m".to_owned(),
        messages: vec![json!({"role": "user", "content": "hi"})],
        options: Map::from_iter([
            ("temperature".to_owned(), json!(0.1)),
            ("max_completion_tokens".to_owned(), json!(9)),
        ]),
    }
}

async fn asked(base: &str, settings: &Settings) -> (Result<Reply, NodeError>, Vec<String>) {
    let (ctx, tokens) = context(&[]);
    let reply = chat(&ctx, &question(&ctx, base), settings).await;
    let tokens = tokens.lock().unwrap().clone();
    (reply, tokens)
}

fn reply(text: &str) -> Reply {
    Reply { text: text.to_owned(), usage: Usage { input_tokens: 3, output_tokens: 2 } }
}

#[tokio::test]
async fn a_streamed_answer_arrives_token_by_token() {
    let model = mock::spawn(mock::Config::default()).await.unwrap();
    let (reply, tokens) = asked(&model.base_url(), &quick()).await;
    assert_eq!(reply.unwrap(), Reply { text: "echo: hi".to_owned(), usage: Usage { input_tokens: 1, output_tokens: 2 } });
    assert_eq!(tokens, ["echo:", " hi"]);
    assert_eq!(model.requests(), 1);
}

#[tokio::test]
async fn the_request_is_what_openai_expects() {
    let server = Scripted::start(vec![Answer::Close(events(&format!("{}{END}", piece("x"))))]).await;
    assert_eq!(asked(&server.base, &quick()).await.0.unwrap(), reply("x"));
    assert_eq!(
        server.bodies(),
        [json!({
            "model": "m",
            "messages": [{"role": "user", "content": "hi"}],
            "temperature": 0.1,
            "max_completion_tokens": 9,
            "stream": true,
            "stream_options": {"include_usage": true},
        })]
    );
}

#[tokio::test]
async fn unusual_but_valid_streams_are_read() {
    let blocks = "data: {\"choices\":[{\"delta\":{\"content\":[{\"type\":\"text\",\"text\":\"b\"}]},\"finish_reason\":null}],\"usage\":null}\n\n";
    let cases = [
        format!(": keep-alive\n\n{}{}{END}", piece("a"), piece("b")),
        format!("{}{}", piece("ab"), END.replace("\n\n", "\r\n\r\n")),
        // Without [DONE], but finished.
        format!("{}{}", piece("ab"), END.replace("data: [DONE]\n\n", "")),
        format!("{}{blocks}{END}", piece("a")),
        format!("event: message\nid: 1\n{}{END}", piece("ab")),
        format!("data: {{\"choices\":[{{\"index\":1,\"delta\":{{\"content\":\"other\"}}}}]}}\n\n{}{END}", piece("ab")),
    ];
    for case in cases {
        let server = Scripted::start(vec![Answer::Close(events(&case))]).await;
        assert_eq!(asked(&server.base, &quick()).await.0.unwrap(), reply("ab"), "{case}");
    }
}

#[tokio::test]
async fn a_server_that_does_not_stream_is_understood() {
    let body = json!({"choices": [{"message": {"role": "assistant", "content": "whole"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 3, "completion_tokens": 2}});
    let server = Scripted::start(vec![response(200, "", &body.to_string())]).await;
    let (got, tokens) = asked(&server.base, &quick()).await;
    assert_eq!((got.unwrap(), tokens), (reply("whole"), vec!["whole".to_owned()]));
}

#[tokio::test]
async fn refused_parameters_are_left_out() {
    let refuse = |body: Json| response(400, "", &body.to_string());
    let server = Scripted::start(vec![
        refuse(json!({"error": {"message": "no", "param": "stream_options"}})),
        refuse(json!({"error": {"message": "Unsupported parameter: 'temperature'"}})),
        refuse(json!({"detail": "extra inputs: max_completion_tokens"})),
        refuse(json!({"error": {"message": "verify your organization", "param": "stream"}})),
        response(200, "", &json!({"choices": [{"message": {"content": "x"}}]}).to_string()),
    ])
    .await;
    assert_eq!(asked(&server.base, &quick()).await.0.unwrap().text, "x");
    let bodies = server.bodies();
    assert_eq!(bodies.len(), 5);
    assert_eq!(
        bodies[4],
        json!({"model": "m", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 9, "stream": false})
    );
}

#[tokio::test]
async fn a_parameter_refused_twice_is_an_error() {
    let body = json!({"error": {"message": "no", "param": "temperature"}}).to_string();
    let server = Scripted::start(vec![response(400, "", &body)]).await;
    let error = asked(&server.base, &quick()).await.0.unwrap_err();
    assert_eq!((error.code, error.retryable), ("model_bad_request", false));
    assert_eq!(server.bodies().len(), 2);
}

#[tokio::test]
async fn rate_limits_are_waited_for() {
    let config = mock::Config { fail_first: 2, retry_after_s: Some(0), ..mock::Config::default() };
    let model = mock::spawn(config).await.unwrap();
    assert_eq!(asked(&model.base_url(), &quick()).await.0.unwrap().text, "echo: hi");
    assert_eq!(model.requests(), 3);

    let waiting = mock::spawn(mock::Config { fail_first: 1, retry_after_s: Some(1), ..mock::Config::default() }).await.unwrap();
    let start = Instant::now();
    asked(&waiting.base_url(), &quick()).await.0.unwrap();
    assert!(start.elapsed() >= Duration::from_secs(1), "{:?}", start.elapsed());
}

#[tokio::test]
async fn retries_are_bounded_and_so_are_their_waits() {
    let always = mock::Config { fail_first: u64::MAX, fail_status: 503, retry_after_s: Some(0), ..mock::Config::default() };
    let model = mock::spawn(always).await.unwrap();
    let error = asked(&model.base_url(), &quick()).await.0.unwrap_err();
    assert_eq!((error.code, error.retryable), ("model_error", true));
    assert!(error.message.contains("after 3 tries"), "{error}");
    assert_eq!(model.requests(), 3);

    let long = mock::Config { fail_first: u64::MAX, retry_after_s: Some(3600), ..mock::Config::default() };
    let model = mock::spawn(long).await.unwrap();
    let error = asked(&model.base_url(), &quick()).await.0.unwrap_err();
    assert_eq!((error.code, error.retryable), ("model_rate_limited", true));
    assert!(error.message.contains("asks to wait 3600 s"), "{error}");
    assert_eq!(model.requests(), 1);
}

#[tokio::test]
async fn errors_say_what_to_do_and_never_the_key() {
    let say = |message: &str| json!({"error": {"message": message}}).to_string();
    let cases = [
        (401, say("Incorrect API key provided: sk-very-secret"), "model_unauthorized", false, "OPENAI_API_KEY"),
        (403, say("no"), "model_unauthorized", false, "OPENAI_API_KEY"),
        (404, say("model not found"), "model_bad_request", false, "model's name"),
        (400, "not json sk-very-secret".to_owned(), "model_bad_request", false, "settings"),
        (429, json!({"error": {"message": "quota", "code": "insufficient_quota"}}).to_string(), "model_rate_limited", false, "account"),
    ];
    for (status, body, code, retryable, advice) in cases {
        let server = Scripted::start(vec![response(status, "", &body)]).await;
        let error = asked(&server.base, &quick()).await.0.unwrap_err();
        assert_eq!((error.code, error.retryable), (code, retryable), "{status}: {error}");
        assert!(error.message.contains(advice), "{error}");
        assert!(!error.message.contains("very-secret"), "{error}");
        assert_eq!(server.bodies().len(), 1, "{status}");
    }
}

#[tokio::test]
async fn a_server_that_says_not_to_retry_is_obeyed() {
    let server = Scripted::start(vec![response(500, "x-should-retry: false\r\n", "{}")]).await;
    assert_eq!(asked(&server.base, &quick()).await.0.unwrap_err().code, "model_error");
    assert_eq!(server.bodies().len(), 1);
}

#[tokio::test]
async fn nobody_there() {
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let settings = Settings { max_retries: 1, ..quick() };
    let error = asked(&format!("http://{free}/v1"), &settings).await.0.unwrap_err();
    assert_eq!((error.code, error.retryable), ("model_unreachable", true));
    assert!(error.message.contains("OPENAI_BASE_URL"), "{error}");
}

#[tokio::test]
async fn each_timeout_ends_the_call() {
    let short = Duration::from_millis(200);
    let silent = Answer::Hang(String::new());
    let headers_only = Answer::Hang(events(""));
    let one_piece = Answer::Hang(events(&piece("a")));
    let error_body = Answer::Hang("HTTP/1.1 500 X\r\ncontent-length: 10\r\n\r\n".to_owned());
    let cases = [
        (silent.clone(), Settings { first_byte: short, ..quick() }, "model_timeout"),
        (headers_only, Settings { first_byte: short, ..quick() }, "model_timeout"),
        (one_piece.clone(), Settings { idle: short, ..quick() }, "model_timeout"),
        (one_piece, Settings { total: short, ..quick() }, "model_timeout"),
        (silent, Settings { total: short, ..quick() }, "model_timeout"),
        (error_body, Settings { idle: short, max_retries: 0, ..quick() }, "model_error"),
    ];
    for (answer, settings, code) in cases {
        let server = Scripted::start(vec![answer]).await;
        let start = Instant::now();
        let error = asked(&server.base, &settings).await.0.unwrap_err();
        assert_eq!((error.code, error.retryable), (code, true), "{error}");
        assert!(start.elapsed() < Duration::from_secs(5), "{settings:?}");
        assert_eq!(server.bodies().len(), 1, "a timeout is not tried again");
    }
}

#[tokio::test]
async fn a_stream_that_breaks_before_any_text_is_asked_again() {
    let good = Answer::Close(events(&format!("{}{END}", piece("x"))));
    let broken = [
        events(""),
        events("data: {not json}\n\n"),
        events("data: {\"error\":{\"message\":\"overloaded\"}}\n\n"),
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}".to_owned(),
        String::new(),
    ];
    for bytes in broken {
        let server = Scripted::start(vec![Answer::Close(bytes.clone()), good.clone()]).await;
        assert_eq!(asked(&server.base, &quick()).await.0.unwrap(), reply("x"), "{bytes}");
        assert_eq!(server.bodies().len(), 2);
    }
}

#[tokio::test]
async fn a_stream_that_breaks_after_text_is_not_said_twice() {
    let ends = ["", "data: {not json}\n\n", "data: {\"error\":{\"message\":\"overloaded\"}}\n\n", "data: {\"choi"];
    for end in ends {
        let server = Scripted::start(vec![Answer::Close(events(&format!("{}{end}", piece("half"))))]).await;
        let (got, tokens) = asked(&server.base, &quick()).await;
        let error = got.unwrap_err();
        assert_eq!((error.code, error.retryable), ("model_error", true), "{end}: {error}");
        assert_eq!(tokens, ["half"]);
        assert_eq!(server.bodies().len(), 1);
    }
}

#[tokio::test]
async fn an_endless_answer_is_cut_off() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}/v1", listener.local_addr().unwrap());
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        request_body(&mut stream).await.unwrap();
        stream.write_all(events("data: ").as_bytes()).await.unwrap();
        let block = vec![b'x'; 1 << 20];
        // One line without an end.
        while stream.write_all(&block).await.is_ok() {}
    });
    let error = asked(&base, &quick()).await.0.unwrap_err();
    assert_eq!((error.code, error.retryable), ("model_error", false), "{error}");
    assert!(error.message.contains("more than"), "{error}");
    server.await.unwrap();
}

#[tokio::test]
async fn cancelling_ends_the_call_at_once_wherever_it_is() {
    let answers = [
        Answer::Hang(String::new()),
        Answer::Hang(events(&piece("a"))),
        response(503, "retry-after: 4\r\n", "{}"),
    ];
    for answer in answers {
        let server = Scripted::start(vec![answer]).await;
        let (ctx, _) = context(&[]);
        let chat_of = question(&ctx, &server.base);
        let cancel = ctx.cancel.clone();
        let call = tokio::spawn(async move { chat(&ctx, &chat_of, &quick()).await });
        let deadline = Instant::now() + Duration::from_secs(10);
        while server.bodies().is_empty() {
            assert!(Instant::now() < deadline);
            tokio::task::yield_now().await;
        }
        cancel.cancel();
        let start = Instant::now();
        assert_eq!(call.await.unwrap().unwrap_err().code, "cancelled");
        assert!(start.elapsed() < Duration::from_secs(1));
    }
}
