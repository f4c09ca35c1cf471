//! Several runs in one process.

use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use crate::draw::custom;
use crate::rig::{Kept, Ran, Rig, request};

async fn run(rig: &Rig, id: &str, body: &str) -> Ran {
    let kept = Kept::default();
    rig.run_in(
        "default",
        id,
        &custom(body),
        &request(id),
        &kept,
        CancellationToken::new(),
    )
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_share_a_process() {
    let rig = Rig::new(|settings| {
        settings.children = 1;
        settings.runs_per_child = 2;
        settings.run_timeout_s = 60.0;
    })
    .await;

    // Side by side, and each with what is its own.
    let began = Instant::now();
    let body = "await asyncio.sleep(2)\ntext = f'{text} {os.getpid()}'";
    let (one, two) = tokio::join!(run(&rig, "one", body), run(&rig, "two", body));
    let took = began.elapsed();
    let words = |ran: &Ran| -> Vec<String> {
        ran.output()
            .as_str()
            .unwrap()
            .split(' ')
            .map(str::to_owned)
            .collect()
    };
    let (one, two) = (words(&one), words(&two));
    assert_eq!((one[0].as_str(), two[0].as_str()), ("one", "two"));
    assert_eq!(one[1], two[1], "one process");
    assert!(took < Duration::from_millis(3_900), "{took:?}");

    // A crash takes the process; the neighbour runs again by itself and succeeds.
    let (good, bad) = tokio::join!(
        run(&rig, "good", "await asyncio.sleep(1.5)"),
        run(&rig, "bad", "await asyncio.sleep(0.5)\nos._exit(3)"),
    );
    assert_eq!(good.output(), "good");
    let (code, message) = bad.error();
    assert_eq!(code, "python_crashed");
    assert!(message.contains("exit code 3"), "{message}");

    // A third one waits for its turn.
    let three = ["a", "b", "c"].map(|id| run(&rig, id, "await asyncio.sleep(0.3)"));
    for ran in futures::future::join_all(three).await {
        ran.output();
    }
}
