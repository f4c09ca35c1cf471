//! Days of a fleet: everything is executed, nothing flaps, and what is promised is kept.

use flowfleet_plan::{Lifecycle, Rule};
use flowfleet_simulate::{
    Arrival, Report, Scenario, Zone, clairvoyant, picture, read_availability, simulate, table, tune,
};
use proptest::prelude::*;

use super::{scenario, steady};

fn all_done(report: &Report, runs: usize) {
    assert_eq!(report.waits.len(), runs, "each run has started");
    let last = report.samples.last().expect("there were ticks");
    assert_eq!(
        (last.queued, last.running, last.slots()),
        (0.0, 0.0, 0.0),
        "it ends at zero"
    );
}

#[test]
fn constant_load_does_not_flap() {
    // Forty slots' worth, for six hours.
    let arrivals = steady(10_800, 2.0, 80.0);
    for handoff in ["", "[policy]\nhandoff_s = 30"] {
        let report = simulate(&scenario(handoff), &arrivals, &[]);
        all_done(&report, 10_800);
        // Once it knows the load, it neither launches nor drains.
        let known = report
            .samples
            .iter()
            .filter(|sample| (7_200.0..21_000.0).contains(&sample.at_s));
        let moving = known
            .filter(|sample| sample.booting > 0.0 || sample.draining > 0.0)
            .count();
        assert!(moving <= 30, "capacity moves in {moving} of 1,380 ticks");
        assert!(report.late_share < 0.05, "{}", report.late_share);
        let bound = clairvoyant(&scenario(handoff), &arrivals);
        assert!(
            report.cost_usd < 1.35 * bound.work_usd,
            "{} {bound:?}",
            report.cost_usd
        );
        assert!(report.cost_usd >= bound.work_usd);
    }
}

#[test]
fn the_same_seed_is_the_same_day() {
    let arrivals = steady(500, 7.0, 30.0);
    let play = |seed: u64| {
        simulate(
            &Scenario {
                seed,
                ..Scenario::default()
            },
            &arrivals,
            &[],
        )
    };
    assert_eq!(play(3), play(3));
    assert_ne!(play(3).cost_usd, play(4).cost_usd);
}

#[test]
fn interruptions_lose_no_run_and_little_work() {
    let arrivals = steady(2_000, 5.0, 300.0);
    let report = simulate(&scenario("[cloud]\ninterruptions_per_hour = 1.0"), &arrivals, &[]);
    all_done(&report, 2_000);
    assert!(report.notices > 30, "{}", report.notices);
    // Two minutes are enough for a checkpoint every ten seconds.
    assert_eq!(report.interrupted_runs, 0);
    assert!(report.handed_off_runs > 30);

    let without = simulate(
        &scenario("[cloud]\ninterruptions_per_hour = 1.0\n[work]\ncheckpoint_s = 400"),
        &arrivals,
        &[],
    );
    all_done(&without, 2_000);
    assert!(without.interrupted_runs > 30);
    assert!(without.waste.lost_share > report.waste.lost_share);
    assert!(
        without.launches[&Lifecycle::OnDemand] > 0,
        "interrupted twice: on-demand"
    );
}

#[test]
fn on_demand_stands_in_while_no_zone_has_spot() {
    let arrivals = steady(1_000, 10.0, 60.0);
    let none = read_availability(b"start_s,available\n0,0\n1000000,-1\n").expect("it reads");
    let zones = [Zone {
        name: "a".into(),
        price: 1.0,
        availability: none,
    }];
    let report = simulate(&Scenario::default(), &arrivals, &zones);
    all_done(&report, 1_000);
    assert!(!report.launches.contains_key(&Lifecycle::Spot));
    assert!(report.launches[&Lifecycle::OnDemand] > 0 && report.refusals > 0);
}

#[test]
fn an_hours_budget_is_never_exceeded() {
    let arrivals = steady(3_000, 1.0, 60.0);
    let report = simulate(&scenario("[policy.budget]\nusd_per_hour = 7.0"), &arrivals, &[]);
    all_done(&report, 3_000);
    // Five machines of 1.4 an hour.
    assert_eq!(report.peak_slots, 20);
}

#[test]
fn fargate_shortens_the_longest_waits() {
    let mut arrivals = steady(400, 30.0, 20.0);
    arrivals.extend((0..60).map(|index| Arrival {
        at_s: 6_000.0 + f64::from(index) * 0.1,
        service_s: 120.0,
    }));
    arrivals.sort_by(|a, b| a.at_s.total_cmp(&b.at_s));
    let machines = simulate(&Scenario::default(), &arrivals, &[]);
    let bridged = simulate(&scenario("[policy.fargate]\nmax_tasks = 60"), &arrivals, &[]);
    all_done(&bridged, 460);
    assert!(bridged.launches[&Lifecycle::Fargate] > 0);
    assert!(
        bridged.wait_p95_s < machines.wait_p95_s,
        "{} {}",
        bridged.wait_p95_s,
        machines.wait_p95_s
    );
}

#[test]
fn the_search_finds_the_cheapest_that_meets_the_goal() {
    let arrivals = steady(2_000, 3.0, 45.0);
    let mut scenario = Scenario::default();
    scenario.policy.rule = Rule::Buildkite { buffer: 3.0 };
    let tuned = tune(&scenario, &arrivals, &[]);
    assert!(tuned.meets_goal && tuned.tried > 5);
    assert_eq!(tuned.report, {
        scenario.policy = tuned.policy.clone();
        simulate(&scenario, &arrivals, &[])
    });
    for buffer in [0.0, 8.0, 64.0] {
        scenario.policy.rule = Rule::Buildkite { buffer };
        let other = simulate(&scenario, &arrivals, &[]);
        assert!(other.late_share > 0.05 || other.cost_usd >= tuned.report.cost_usd);
    }
}

#[test]
fn a_report_is_a_table_and_a_picture() {
    let arrivals = steady(300, 10.0, 60.0);
    let report = simulate(&Scenario::default(), &arrivals, &[]);
    let bound = clairvoyant(&Scenario::default(), &arrivals);
    let text = table(std::slice::from_ref(&report), &bound, 30.0);
    let columns = |line: &str| line.split_whitespace().next().map(str::to_owned);
    let firsts: Vec<_> = text.lines().filter_map(columns).collect();
    assert_eq!(firsts, ["policy", "slo-staffing", "clairvoyant", "work"]);
    let svg = picture(&report, 30.0);
    assert!(svg.starts_with("<svg") && svg.ends_with("</svg>\n"));
    assert!(
        svg.contains("<title>spot</title>") && !svg.contains("NaN"),
        "{svg}"
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn any_small_day_ends_at_zero_with_every_run_done(
        runs in proptest::collection::vec((0.0..7_200.0_f64, 0.01..900.0_f64), 1..150),
        interruptions in 0.0..6.0_f64, fargate: bool, handoff: bool, slots in 1..6_u32, rule in 0..4_usize,
    ) {
        let mut arrivals: Vec<Arrival> = runs.iter().map(|(at_s, service_s)| Arrival { at_s: *at_s, service_s: *service_s }).collect();
        arrivals.sort_by(|a, b| a.at_s.total_cmp(&b.at_s));
        let mut scenario = Scenario::default();
        scenario.cloud.interruptions_per_hour = interruptions;
        scenario.policy.machines.slots = slots;
        scenario.policy.fargate = fargate.then(Default::default);
        scenario.policy.handoff_s = handoff.then_some(30.0);
        scenario.policy.rule = [
            Rule::default(), Rule::KedaHpa { target: 4.0 }, Rule::EcsManaged { target: 80.0 }, Rule::Buildkite { buffer: 0.0 },
        ][rule].clone();
        let report = simulate(&scenario, &arrivals, &[]);
        all_done(&report, arrivals.len());
        // Billed is what was there: at least the work that was done.
        let bound = clairvoyant(&scenario, &arrivals);
        prop_assert!(report.cost_usd >= bound.work_usd * 0.999, "{} {}", report.cost_usd, bound.work_usd);
        prop_assert!(bound.clairvoyant_usd >= bound.work_usd * 0.999);
        let waits = [report.wait_p50_s, report.wait_p95_s, report.wait_p99_s, report.wait_max_s];
        prop_assert!(waits.is_sorted());
    }
}
