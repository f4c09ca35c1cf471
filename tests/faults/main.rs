//! The short form of the fault suite: every kind of fault once.

use flowfleet_tests::faults::fault::Kind;
use flowfleet_tests::faults::plan::Form;
use flowfleet_tests::faults::report::say;
use flowfleet_tests::faults::{self, Options, disk};

/// Another seed for each day of a machine's life finds more than the same one every time; `just faults --short --seed N`
/// replays it.
fn seed() -> u64 {
    std::env::var("FLOWFLEET_TEST_FAULTS_SEED")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or_else(|| rand::random_range(0..1_000_000))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_fleet_survives_every_kind_of_fault() -> anyhow::Result<()> {
    let logs = tempfile::Builder::new()
        .prefix("flowfleet-faults-")
        .tempdir()?
        .keep();
    let options = Options {
        seed: seed(),
        form: Form::Short,
        only: None,
        rate: 12.0,
        logs,
    };
    let report = faults::run(&options).await?;
    say(&format!("{report}"));
    for kind in Kind::all().filter(|kind| !kind.is_slow()) {
        assert_eq!(report.count(kind), 1, "{}", kind.0);
    }
    assert!(
        report.accepted > 500,
        "only {} runs were accepted",
        report.accepted
    );
    assert_eq!(report.checked, report.accepted);
    // Faults that nobody notices prove nothing.
    for because in ["succeeded", "failed", "cancelled", "worker_lost", "interrupted"] {
        assert!(
            report.attempts.contains_key(because),
            "no attempt {because}: {:?}",
            report.attempts
        );
    }
    assert!(
        report.violations.is_empty(),
        "{} violations; logs in {}; again: just faults --short --seed {}",
        report.violations.len(),
        options.logs.display(),
        options.seed
    );
    std::fs::remove_dir_all(&options.logs)?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_refuses_and_loses_nothing() -> anyhow::Result<()> {
    if let Some(outcome) = disk::run().await? {
        say(&format!("{outcome:?}"));
        assert!(outcome.refused > 0 && outcome.accepted > 0);
    }
    Ok(())
}
