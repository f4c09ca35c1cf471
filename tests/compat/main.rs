//! The same flows through Langflow's lfx and through this engine: outputs of every node, what models were asked, and
//! errors. Prints tables.
//!
//! - [`starters`]: the flows of a release, and through the Python host as well;
//! - [`cases`]: a table of flows, one for each component and each rule of routing. **A new component gets its rows there**;
//! - [`random`]: flows that a seed draws;
//! - [`knowledge`]: texts that are brought and found, with lfx's own store;
//! - [`loops`]: the same for flows with loops;
//! - [`releases`]: what earlier releases wrote.
//!
//! `tests/wheels.sh` fetches components and flows, `tests/lfx.sh` the lfx.

#![expect(clippy::unwrap_used, reason = "a test")]

mod case;
mod cases;
mod compare;
mod draw;
mod host;
mod knowledge;
mod loops;
mod ours;
mod pages;
mod random;
mod reference;
mod releases;
mod stage;
mod starters;
mod table;
mod wheels;

use stage::Stage;

/// Starters that are asked twice in one conversation.
const TALKS: [&str; 3] = ["Basic Prompting", "Memory Chatbot", "Simple Agent"];

/// All starter flows of a release: natively with tools called where a flow has some, and through the Python host.
#[test]
fn starters_do_the_same() {
    let stage = Stage::new();
    let (mut lfx, python) = (stage.lfx(), host::Python::start(&stage));
    let mut rows = Vec::new();
    for case in starters::all(stage.pages) {
        let theirs = stage.theirs(&mut lfx, &case);
        let row = table::Row::of(&case, &stage.ours(&case), &theirs);
        // Searches of the host would go far away.
        let near = starters::without_searches(&case);
        let verdict = match row.is_native() {
            true if starters::looks_things_up(&near) => {
                compare::Verdict::NotComparable("it asks arXiv".to_owned())
            }
            // lfx alone remembers nothing, and with the host it does: so both are given a conversation.
            true => stage.converse(
                &python,
                &near,
                if TALKS.contains(&near.name.as_str()) { 2 } else { 1 },
            ),
            false => match python.run(&stage, &near, "run", None) {
                Ok(ran) => compare::compared(&near, &ran, &theirs),
                Err(why) => compare::Verdict::NotComparable(why),
            },
        };
        rows.push(row.hosted(verdict));
    }
    println!("{}", table::print(&rows));
    assert_eq!(table::different(&rows), [""; 0]);
    let native = rows.iter().filter(|row| row.is_native()).count();
    assert!(native >= 24, "only {native} of {} run natively", rows.len());
    let hosted = rows
        .iter()
        .filter(|row| matches!(row.host, Some(compare::Verdict::Same)));
    let hosted = hosted.count();
    assert!(
        hosted >= 16,
        "only {hosted} of {} run in the Python host",
        rows.len()
    );
    for row in &rows {
        // Whoever cannot run a flow says what is missing.
        if let table::Engine::Python(why) | table::Engine::Refused(why) = &row.engine {
            assert!(why.contains(' ') && why.len() > 20, "{}: {why:?}", row.name);
        }
    }
}

/// A flow for each component and each rule.
#[test]
fn drawn_flows_do_the_same() {
    let stage = Stage::new();
    let mut lfx = stage.quick_lfx();
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
    let tally = random::explore(&stage, &mut stage.quick_lfx(), |told| println!("differs: {told}"));
    println!("{}", tally.print());
    assert!(tally.different.is_empty(), "{} differ", tally.different.len());
    assert!(!tally.says_little(), "too few flows run to their end to say much");
}

/// Flows of earlier releases.
#[test]
fn starters_of_earlier_releases_do_the_same() {
    let stage = Stage::new();
    let releases = releases::all(&stage, &mut stage.lfx());
    for release in &releases {
        println!(
            "Langflow {}: {} of {} starters run natively; {} of them compared",
            release.langflow,
            release.native,
            release.flows,
            release.compared.len()
        );
        println!("{}", table::print(&release.compared));
        for why in &release.refused {
            println!("  {}", compare::clip(why));
        }
    }
    for release in releases {
        assert_eq!(table::different(&release.compared), [""; 0]);
        assert!(
            release.native >= release.least,
            "Langflow {}: {} native",
            release.langflow,
            release.native
        );
    }
}

/// Random flows with loops, loops in loops among them.
#[test]
fn loops_do_the_same() {
    let (seed, count) = (
        random::number("FLOWFLEET_COMPAT_SEED", 1),
        random::number("FLOWFLEET_COMPAT_LOOPS", 40),
    );
    let stage = Stage::new();
    let mut lfx = stage.lfx();
    let cases = loops::random(seed, usize::try_from(count).unwrap());
    let rows: Vec<_> = cases.iter().map(|case| stage.compare(&mut lfx, case)).collect();
    println!("{}", table::print(&rows));
    // What needs Python is not compared.
    let native: Vec<_> = rows.into_iter().filter(table::Row::is_native).collect();
    assert_eq!(table::different(&native), [""; 0], "seed {seed}");
    assert!(
        native.len() * 2 > cases.len(),
        "only {} of {count} run natively",
        native.len()
    );
}
