//! `flowfleet simulate` as its user meets it.

use crate::program::call;

fn trace() -> String {
    format!(
        "{}/../../autoscaler/traces/azure_llm_code_2023.csv.gz",
        env!("CARGO_MANIFEST_DIR")
    )
}

#[test]
fn policies_side_by_side() {
    let ended = call(&[
        "simulate",
        "--trace",
        &trace(),
        "--policy",
        "slo-staffing",
        "--policy",
        "keda-hpa",
    ])
    .expect(0);
    let firsts: Vec<_> = ended
        .out
        .lines()
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    assert_eq!(
        firsts,
        ["policy", "slo-staffing", "keda-hpa", "clairvoyant", "work"]
    );
    assert!(ended.err.contains("playing keda-hpa (2 of 2)"), "{}", ended.err);
}

#[test]
fn a_scenario_json_and_a_picture() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name).display().to_string();
    std::fs::write(
        file("s.toml"),
        "[trace]\nhours = 0.5\n[cloud]\nboot_s = [10, 20]\n",
    )
    .unwrap();
    std::fs::write(file("zone.csv"), "start_s,available\n0,0\n600,1\n99999,-1\n").unwrap();
    let ended = call(&[
        "simulate",
        "--trace",
        &trace(),
        "--scenario",
        &file("s.toml"),
        "--spot",
        &file("zone.csv"),
        "--picture",
        &file("p.svg"),
        "--json",
    ])
    .expect(0)
    .json();
    let report = &ended["policies"][0]["report"];
    assert_eq!(report["runs"], ended["runs"]);
    assert!(
        report["launches"]["on_demand"].as_u64().unwrap() > 0,
        "no spot for ten minutes: {report}"
    );
    assert!(report["cost_usd"].as_f64().unwrap() >= ended["bound"]["work_usd"].as_f64().unwrap());
    assert!(
        std::fs::read_to_string(file("p.svg"))
            .unwrap()
            .starts_with("<svg")
    );
}

#[test]
fn a_search_prints_settings_that_can_be_pasted() {
    let ended = call(&["simulate", "--trace", &trace(), "--policy", "buildkite", "--tune"]).expect(0);
    let settings = ended
        .out
        .split_once("[policy]")
        .expect("settings follow the table")
        .1;
    let folder = tempfile::tempdir().unwrap();
    let scenario = folder.path().join("found.toml").display().to_string();
    std::fs::write(&scenario, format!("[policy]{settings}")).unwrap();
    let again = call(&["simulate", "--trace", &trace(), "--scenario", &scenario]).expect(0);
    let cost = |text: &str| {
        text.lines()
            .nth(1)
            .unwrap()
            .split_whitespace()
            .nth(1)
            .unwrap()
            .to_owned()
    };
    assert_eq!(
        cost(&again.out),
        cost(&ended.out),
        "the same world: {}",
        again.out
    );
}

#[test]
fn the_printed_scenario_is_one() {
    let printed = call(&["simulate", "--print-scenario"]).expect(0).out;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s.toml").display().to_string();
    std::fs::write(&path, &printed).unwrap();
    assert_eq!(
        call(&["simulate", "--scenario", &path, "--print-scenario"])
            .expect(0)
            .out,
        printed
    );
}

#[test]
fn what_is_wrong_is_said() {
    for (args, part) in [
        (vec!["simulate"], "--trace"),
        (
            vec!["simulate", "--trace", "no-such-file.csv"],
            "cannot read no-such-file.csv",
        ),
        (vec!["simulate", "--trace", "Cargo.toml"], "Cargo.toml: "),
        (
            vec!["simulate", "--trace", "x", "--policy", "magic"],
            "policy \"magic\" is not known: use slo-staffing",
        ),
    ] {
        let ended = call(&args).expect(2);
        assert!(ended.err.contains(part), "{args:?}: {}", ended.err);
    }
}
