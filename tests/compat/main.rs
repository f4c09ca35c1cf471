//! The same flows through Langflow's lfx and through this engine: outputs of every node, what models were asked, and
//! errors. Prints tables.
//!
//! - [`starters`]: the flows of a release, and through the Python host as well;
//! - [`cases`]: a table of flows, one for each component and each rule of routing. **A new component gets its rows there**;
//! - [`random`]: flows that a seed draws;
//! - [`releases`]: what earlier releases wrote.
//!
//! `tests/wheels.sh` fetches components and flows, `tests/lfx.sh` the lfx.

#![expect(clippy::unwrap_used, reason = "a test")]

mod case;
mod cases;
mod compare;
mod draw;
mod ours;
mod pages;
mod random;
mod reference;
mod stage;
mod starters;
mod table;
mod wheels;

use stage::Stage;

/// All starter flows of a release, with tools called where a flow has some.
#[test]
fn starters_do_the_same() {
    let stage = Stage::new();
    let mut lfx = stage.lfx();
    let cases = starters::all(stage.pages);
    let rows: Vec<_> = cases.iter().map(|case| stage.compare(&mut lfx, case)).collect();
    println!("{}", table::print(&rows));
}

/// A flow for each component and each rule.
#[test]
fn drawn_flows_do_the_same() {
    let stage = Stage::new();
    let mut lfx = stage.lfx();
    let only = std::env::var("FLOWFLEET_COMPAT_ONLY").unwrap_or_default();
    let cases = cases::all().into_iter().filter(|case| case.name.contains(&only));
    let rows: Vec<_> = cases.map(|case| stage.compare(&mut lfx, &case)).collect();
    println!("{}", table::print(&rows));
    assert_eq!(table::different(&rows), [""; 0]);
}

/// Flows that nobody thought of.
#[test]
fn random_flows_do_the_same() {
    let stage = Stage::new();
    let tally = random::explore(&stage, &mut stage.lfx());
    println!("{}", tally.print());
    assert!(tally.different.is_empty(), "{} differ", tally.different.len());
    assert!(!tally.says_little(), "too few flows run to their end to say much");
}
