//! The same flows through Langflow's lfx and through this engine: outputs, what models were asked, and errors.
//!
//! Prints a table. `tests/wheels.sh` fetches the flows, `tests/lfx.sh` the lfx.

#![expect(clippy::unwrap_used, reason = "a test")]

mod cases;
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
    assert!(native >= 20, "only {native} of {} run natively", ran.len());
}
