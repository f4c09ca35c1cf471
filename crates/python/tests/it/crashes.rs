//! Runs that take their process with them, or would: each fails alone, with the reason.

use std::time::{Duration, Instant};

use flowfleet_engine::RunError;
use tokio_util::sync::CancellationToken;

use crate::draw::custom;
use crate::rig::{DEADLINE, Kept, Rig, request};

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_fails_one_run_with_the_reason() {
    let rig = Rig::new(|settings| {
        settings.memory_mib = 600;
        settings.run_timeout_s = 8.0;
        settings.recycle_after_runs = 3;
    })
    .await;
    an_exit(&rig).await;
    a_segmentation_fault(&rig).await;
    a_hog(&rig).await;
    an_endless_loop(&rig).await;
    a_cancel(&rig).await;
    garbage_on_every_descriptor(&rig).await;
    a_process_is_replaced_in_time(&rig).await;
    realms_share_nothing(&rig).await;
    a_lost_parent_interrupts_and_comes_back(&rig).await;
    the_processes_end_with_the_host(rig).await;
}

async fn fine(rig: &Rig) {
    assert_eq!(rig.run(&custom("pass"), &request("fine")).await.output(), "fine");
}

async fn an_exit(rig: &Rig) {
    let ran = rig.run(&custom("os._exit(3)"), &request("x")).await;
    let (code, message) = ran.error();
    assert_eq!(code, "python_crashed");
    assert!(message.contains("exit code 3"), "{message}");
    fine(rig).await;
}

async fn a_segmentation_fault(rig: &Rig) {
    let ran = rig.run(&custom("ctypes.string_at(0)"), &request("x")).await;
    let (code, message) = ran.error();
    assert_eq!(code, "python_crashed");
    assert!(
        message.contains("SIGSEGV") && message.contains("Fatal Python error"),
        "{message}"
    );
    assert!(!ran.outcome.unwrap_err().retryable());
    fine(rig).await;
}

async fn a_hog(rig: &Rig) {
    let slow = custom(
        "hoard = []\nwhile True:\n  hoard.append(bytearray(os.urandom(1 << 20)) * 20)\n  await asyncio.sleep(0.02)",
    );
    let (code, message) = rig.run(&slow, &request("x")).await.error();
    assert_eq!(code, "python_memory", "{message}");
    assert!(message.contains("python.memory_mib is 600"), "{message}");
    let sudden = custom("hoard = bytearray(1 << 42)");
    assert_eq!(rig.run(&sudden, &request("x")).await.error().0, "python_memory");
    fine(rig).await;
}

async fn an_endless_loop(rig: &Rig) {
    for body in ["while True: pass", "await asyncio.sleep(3600)"] {
        let began = Instant::now();
        let (code, message) = rig.run(&custom(body), &request("x")).await.error();
        assert_eq!(code, "python_timeout", "{message}");
        assert!(message.contains("run_timeout_s = 8"), "{message}");
        assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    }
    fine(rig).await;
}

async fn a_cancel(rig: &Rig) {
    for body in ["while True: pass", "await asyncio.sleep(3600)"] {
        let (flow, asked, kept) = (custom(body), request("x"), Kept::default());
        let cancel = CancellationToken::new();
        let run = rig.run_in("default", "run", &flow, &asked, &kept, cancel.clone());
        let stop = async {
            tokio::time::sleep(Duration::from_millis(700)).await;
            cancel.cancel();
        };
        let (ran, ()) = tokio::join!(run, stop);
        assert_eq!(ran.error().0, "cancelled");
    }
    // Both processes are free again.
    tokio::join!(fine(rig), fine(rig));
}

async fn garbage_on_every_descriptor(rig: &Rig) {
    let flow = custom(
        "for fd in range(1, 40):\n  try: os.write(fd, b'garbage\\n')\n  except OSError: pass\nawait asyncio.sleep(5)",
    );
    let (code, message) = rig.run(&flow, &request("x")).await.error();
    assert_eq!(code, "python_crashed", "{message}");
    assert!(message.contains("no message"), "{message}");
    fine(rig).await;
}

async fn a_process_is_replaced_in_time(rig: &Rig) {
    let flow = custom("text = os.getpid()");
    let mut seen = Vec::new();
    for _ in 0..9 {
        seen.push(
            rig.run(&flow, &request("x"))
                .await
                .output()
                .as_str()
                .unwrap()
                .to_owned(),
        );
    }
    for pid in &seen {
        let runs = seen.iter().filter(|other| *other == pid).count();
        assert!(runs <= 3, "{seen:?}");
    }
}

async fn realms_share_nothing(rig: &Rig) {
    let leave = custom("sys.left_behind = text\nopen('file', 'w').write(text)");
    let look = custom("text = getattr(sys, 'left_behind', 'nothing') + str(os.path.exists('file'))");
    let (kept, asked) = (Kept::default(), request("secret"));
    for _ in 0..2 {
        let token = CancellationToken::new();
        rig.run_in("one", "run", &leave, &asked, &kept, token)
            .await
            .output();
    }
    for _ in 0..3 {
        let token = CancellationToken::new();
        let ran = rig.run_in("two", "run", &look, &asked, &kept, token).await;
        assert_eq!(ran.output(), "nothingFalse");
    }
}

async fn a_lost_parent_interrupts_and_comes_back(rig: &Rig) {
    let flow = custom("import signal\nos.kill(os.getppid(), signal.SIGKILL)\nawait asyncio.sleep(30)");
    let ran = rig.run(&flow, &request("x")).await;
    let Err(RunError::Host(error)) = &ran.outcome else {
        panic!("{ran:?}");
    };
    assert_eq!(error.code, "python_host_lost");
    assert!(error.interrupted && error.retryable);
    let until = Instant::now() + DEADLINE;
    while !rig.host.is_ready() {
        assert!(Instant::now() < until, "{:?}", rig.host.state());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    fine(rig).await;
}

async fn the_processes_end_with_the_host(rig: Rig) {
    let flow = custom("text = f'{os.getpid()} {os.getppid()}'");
    let ran = rig.run(&flow, &request("x")).await;
    let pids: Vec<u32> = ran
        .output()
        .as_str()
        .unwrap()
        .split(' ')
        .map(|pid| pid.parse().unwrap())
        .collect();
    drop(rig);
    let alive = |pid: &&u32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        !stat.is_empty() && !stat.contains(") Z ")
    };
    let until = Instant::now() + Duration::from_secs(10);
    while pids.iter().any(|pid| alive(&pid)) {
        assert!(Instant::now() < until, "{pids:?} are alive");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
