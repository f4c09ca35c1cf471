//! Our rule beside the peers' on real traces: one table a trace, and pictures.
//!
//!     cargo run --release -p flowfleet-simulate --example policies -- [PICTURES]
//!
//! Ours runs with its defaults. Each peer gets the cheapest setting that meets the goal on that very trace, with
//! hindsight; one without such a setting is marked with `!`.

#![expect(clippy::print_stdout, reason = "it is what it is for")]

use std::error::Error;
use std::path::Path;
use std::time::Instant;

use flowfleet_plan::{Policy, Rule};
use flowfleet_simulate::{Scenario, clairvoyant, picture, read_arrivals, simulate, table, tune};

const CASES: [(&str, &str, &str); 4] = [
    (
        "azure_llm_code_2023",
        "an hour, five calls for each",
        "[trace]\nscale = 5",
    ),
    (
        "wc98_days00_61",
        "two days with a match, 3 of 1,000",
        "[trace]\nstart_h = 960\nhours = 48\nscale = 0.003",
    ),
    (
        "wc98_days00_61",
        "a quiet week, 3 of 10,000",
        "[trace]\nstart_h = 240\nhours = 168\nscale = 0.0003",
    ),
    (
        "philly_oct",
        "four days",
        "[trace]\nhours = 96\n[policy]\nmax_slots = 8000",
    ),
];

fn main() -> Result<(), Box<dyn Error>> {
    let pictures = std::env::args().nth(1);
    let traces = Path::new(env!("CARGO_MANIFEST_DIR")).join("../traces");
    for (index, (trace, what, scenario)) in CASES.into_iter().enumerate() {
        let mut scenario = Scenario::parse(scenario)?;
        let arrivals = read_arrivals(&std::fs::read(traces.join(format!("{trace}.csv.gz")))?, &scenario)?;
        let bound = clairvoyant(&scenario, &arrivals);
        let began = Instant::now();
        let ours = simulate(&scenario, &arrivals, &[]);
        let took = began.elapsed();
        if let Some(folder) = &pictures {
            let file = Path::new(folder).join(format!("{trace}-{index}.svg"));
            std::fs::write(file, picture(&ours, scenario.policy.slo_s))?;
        }
        let mut reports = vec![ours];
        scenario.policy.handoff_s = None;
        let mut without = simulate(&scenario, &arrivals, &[]);
        without.policy.push_str(", no hand-off");
        reports.push(without);
        for rule in [
            Rule::KedaHpa { target: 4.0 },
            Rule::EcsManaged { target: 100.0 },
            Rule::BacklogPerInstance { target: 4.0 },
            Rule::Buildkite { buffer: 0.0 },
        ] {
            scenario.policy = Policy {
                rule,
                ..scenario.policy.clone()
            };
            let mut tuned = tune(&scenario, &arrivals, &[]);
            if !tuned.meets_goal {
                tuned.report.policy.insert(0, '!');
            }
            reports.push(tuned.report);
        }
        println!(
            "{trace}: {what}; {} runs, ours in {:.2} s",
            arrivals.len(),
            took.as_secs_f64()
        );
        println!("{}", table(&reports, &bound, scenario.policy.slo_s));
    }
    Ok(())
}
