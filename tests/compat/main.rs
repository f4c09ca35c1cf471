//! The same flows through Langflow's lfx and through this engine: outputs, what models were asked, and errors.
//!
//! Prints a table. `tests/wheels.sh` fetches the flows, `tests/lfx.sh` the lfx.

#![expect(clippy::unwrap_used, reason = "a test")]

mod cases;
mod loops;
mod ours;
mod pages;
mod reference;
mod table;

use flowfleet_mock_model::{Config, Handle};

/// A model server that keeps what it is asked.
async fn model() -> Handle {
    let config = Config {
        keep: 1000,
        ..Config::default()
    };
    flowfleet_mock_model::spawn(config).await.expect("a free port")
}

/// All starter flows of a release, with tools called where a flow has some.
#[test]
fn starters_do_the_same() {
    // Servers run beside, so that the time that a flow takes is its own.
    let servers = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let pages = servers.block_on(pages::serve());
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in cases::FILES {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    let cases = cases::starters(pages);
    let asked: Vec<Handle> = cases.iter().map(|_| servers.block_on(model())).collect();
    let theirs = reference::run(&cases, &asked, pages, folder.path());
    let ran: Vec<_> = cases
        .iter()
        .zip(&theirs)
        .map(|(case, theirs)| {
            let model = servers.block_on(model());
            let ours = ours::run(case, &model, pages, folder.path());
            table::Row::of(case, &ours, theirs)
        })
        .collect();
    println!("{}", table::print(&ran));
    let different: Vec<&str> = ran
        .iter()
        .filter(|row| row.differs())
        .map(table::Row::name)
        .collect();
    assert!(different.is_empty(), "these differ: {different:?}");
    let native = ran.iter().filter(|row| row.is_native()).count();
    assert!(native >= 21, "only {native} of {} run natively", ran.len());
}

/// Random flows with loops, loops in loops among them.
#[test]
fn loops_do_the_same() {
    let number = |name: &str, default: u64| {
        let text = std::env::var(name).ok();
        text.map_or(default, |text| text.parse().expect("a number"))
    };
    let seed = number("FLOWFLEET_COMPAT_SEED", 1);
    let count = number("FLOWFLEET_COMPAT_LOOPS", 40);
    let servers = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let pages = servers.block_on(pages::serve());
    let folder = tempfile::tempdir().unwrap();
    let cases = loops::random(seed, usize::try_from(count).unwrap());
    let asked: Vec<Handle> = cases.iter().map(|_| servers.block_on(model())).collect();
    let theirs = reference::run(&cases, &asked, pages, folder.path());
    let ran: Vec<_> = cases
        .iter()
        .zip(&theirs)
        .map(|(case, theirs)| {
            let model = servers.block_on(model());
            let ours = ours::run(case, &model, pages, folder.path());
            table::Row::of(case, &ours, theirs)
        })
        .collect();
    println!("{}", table::print(&ran));
    let different: Vec<&str> = ran
        .iter()
        .filter(|row| row.differs())
        .map(table::Row::name)
        .collect();
    assert!(different.is_empty(), "these differ (seed {seed}): {different:?}");
    let native = ran.iter().filter(|row| row.is_native()).count();
    assert!(
        native * 2 > ran.len(),
        "only {native} of {} run natively",
        ran.len()
    );
}
