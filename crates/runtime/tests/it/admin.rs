//! The admin server over a real socket: health answers what readiness says, metrics come with buckets.

use std::time::Duration;

use flowfleet_runtime::{Readiness, admin, prometheus};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

#[tokio::test]
async fn health_and_metrics() {
    let handle = prometheus::install().unwrap();
    prometheus::install().expect("installing twice is harmless");
    flowfleet_runtime::metrics::build_info("test", "1.2.3");
    metrics::histogram!("flowfleet_test_seconds").record(0.3);

    let readiness = Readiness::default();
    readiness.set("store", Err("connection refused".to_owned()));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let stop = CancellationToken::new();
    let server = tokio::spawn(admin::serve(
        listener,
        admin::router(handle, readiness.clone()),
        stop.clone(),
    ));

    assert_eq!(
        reqwest::get(format!("{base}/health/live"))
            .await
            .unwrap()
            .status(),
        200
    );
    let answer = reqwest::get(format!("{base}/health/ready")).await.unwrap();
    assert_eq!(answer.status(), 503);
    let body: Value = serde_json::from_str(&answer.text().await.unwrap()).unwrap();
    assert_eq!(body["checks"]["store"]["detail"], "connection refused");
    readiness.set("store", Ok(()));
    assert_eq!(
        reqwest::get(format!("{base}/health/ready"))
            .await
            .unwrap()
            .status(),
        200
    );

    let text = reqwest::get(format!("{base}/metrics"))
        .await
        .unwrap()
        .text()
        .await
        .unwrap();
    assert!(
        text.contains("flowfleet_build_info{service=\"test\",version=\"1.2.3\"} 1"),
        "{text}"
    );
    assert!(
        text.contains("flowfleet_test_seconds_bucket{le=\"0.5\"} 1"),
        "a histogram, not a summary: {text}"
    );

    stop.cancel();
    tokio::time::timeout(Duration::from_secs(10), server)
        .await
        .unwrap()
        .unwrap()
        .unwrap();
}
