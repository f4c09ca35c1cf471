//! A real export: a process of its own sends spans to a collector here.

use std::process::Command;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::routing::post;
use flowfleet_core::TraceContext;
use flowfleet_runtime::telemetry::{self, LogFormat};
use flowfleet_runtime::trace;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tracing::Instrument as _;

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";

#[tokio::test(flavor = "multi_thread")]
async fn spans_are_exported_as_children_of_the_client_s() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let (sender, mut exported) = mpsc::unbounded_channel();
    let collect = post(move |body: Bytes| async move { drop(sender.send(body)) });
    let server = axum::serve(listener, Router::new().route("/v1/traces", collect));
    tokio::spawn(IntoFuture::into_future(server));

    let child = tokio::task::spawn_blocking(move || {
        Command::new(std::env::current_exe().unwrap())
            .args([
                "otlp::exporting_process",
                "--exact",
                "--include-ignored",
                "--nocapture",
            ])
            .env(ENDPOINT, endpoint)
            .output()
            .unwrap()
    });
    let output = child.await.unwrap();
    assert!(output.status.success(), "{output:?}");
    let body = tokio::time::timeout(Duration::from_secs(10), exported.recv())
        .await
        .unwrap()
        .unwrap();
    let holds = |wanted: &[u8]| body.windows(wanted.len()).any(|window| window == wanted);
    let trace: Vec<u8> = (0..16)
        .map(|i| u8::from_str_radix(&TRACE[2 * i..2 * i + 2], 16).unwrap())
        .collect();
    assert!(holds(&trace), "the client's trace goes on");
    assert!(holds(b"test-service") && holds(b"one run"), "{body:?}");
    assert!(!holds(b"span of a library"), "spans of libraries stay out");
    // The log was off: traces have a filter of their own.
    assert!(
        !String::from_utf8_lossy(&output.stderr).contains("one run"),
        "{output:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "runs in the process that the test above starts"]
async fn exporting_process() {
    if std::env::var_os(ENDPOINT).is_none() {
        return;
    }
    let telemetry = telemetry::init("test-service", "off", LogFormat::Json).unwrap();
    let span = tracing::info_span!(target: "flowfleet_test", "one run");
    let parent = TraceContext {
        traceparent: format!("00-{TRACE}-00f067aa0ba902b7-01"),
        tracestate: None,
    };
    trace::set_parent(&span, &parent);
    let current = async { trace::current() }
        .instrument(span)
        .await
        .expect("a context to carry on");
    assert!(current.traceparent.contains(TRACE), "{current:?}");
    assert!(
        !current.traceparent.contains("00f067aa0ba902b7"),
        "a span of its own: {current:?}"
    );
    drop(tracing::info_span!(target: "hyper", "span of a library").entered());
    tokio::task::spawn_blocking(move || telemetry.shutdown())
        .await
        .unwrap();
}
