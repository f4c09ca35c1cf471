//! What holds for any observation and any past.

use std::collections::BTreeSet;
use std::sync::Arc;

use flowfleet_plan::{
    Action, Budget, Fargate, Freshness, History, Lifecycle, Machines, Observation, Policy, Refusal, Rule,
    Since, SloStaffing, Spend, Worker, WorkerState, plan,
};
use proptest::prelude::*;

use super::{launches, tick};

fn rules() -> impl Strategy<Value = Rule> {
    prop_oneof![
        4 => Just(Rule::SloStaffing(SloStaffing::default())),
        1 => (0.1..20.0).prop_map(|target| Rule::BacklogPerInstance { target }),
        1 => (0.1..20.0).prop_map(|target| Rule::KedaHpa { target }),
        1 => (1.0..100.0).prop_map(|target| Rule::EcsManaged { target }),
        1 => (0.0..50.0).prop_map(|buffer| Rule::Buildkite { buffer }),
        1 => Just(Rule::Step { steps: vec![(1, 1), (20, 5), (500, 40)] }),
    ]
}

prop_compose! {
    fn policies()(
        min in 0..20_u32, more in 0..200_u32, slots in 1..9_u32, base in 0..20_u32, fallback: bool, rule in rules(),
        fargate in proptest::option::of((0..10_u32, 1..3_u32)), hour in proptest::option::of(0.0..50.0),
        day in proptest::option::of(0.0..100.0), handoff: bool,
    ) -> Policy {
        Policy {
            min_slots: min,
            max_slots: min + more,
            machines: Machines { slots, on_demand_base: base, on_demand_fallback: fallback, ..Machines::default() },
            fargate: fargate.map(|(max_tasks, slots)| Fargate { max_tasks, slots, ..Fargate::default() }),
            budget: Budget { usd_per_hour: hour, usd_per_day: day },
            handoff_s: handoff.then_some(30.0),
            rule,
            ..Policy::default()
        }
    }
}

prop_compose! {
    fn workers()(
        fleet in proptest::collection::vec(
            (0..3_usize, 0..4_u32, proptest::collection::vec(0.0..1e6, 0..5), 0.0..200.0_f64), 0..40),
    ) -> Vec<Worker> {
        let lifecycles = [Lifecycle::Spot, Lifecycle::OnDemand, Lifecycle::Fargate];
        fleet.into_iter().enumerate().map(|(index, (lifecycle, state, ages_s, ready_in_s))| {
            let state = match state {
                0 => WorkerState::Booting { ready_in_s },
                1 => WorkerState::Accepting,
                2 => WorkerState::Draining,
                _ => WorkerState::Noticed,
            };
            let ages_s = if matches!(state, WorkerState::Booting { .. }) { vec![] } else { ages_s };
            Worker {
                id: Arc::from(format!("w{index}")),
                lifecycle: lifecycles[lifecycle],
                state, slots: 4, ages_s,
                age_s: ready_in_s,
                usd_per_hour: 1.4,
            }
        }).collect()
    }
}

prop_compose! {
    fn observations()(
        workers in workers(), queued in 0..2_000_u64, on_demand in 0..50_u64, oldest in 0.0..1e5,
        durations in proptest::collection::vec(0.0..1e6, 0..30), arrived in 0..500_u64, late in 0..30_u64,
        today in 0.0..120.0, refused: bool,
    ) -> Observation {
        Observation {
            at_s: 0.0, queued, queued_on_demand: on_demand.min(queued), oldest_wait_s: oldest, workers,
            since_last: Since {
                arrived, started: 30, started_late: late, durations_s: durations,
                refused: refused.then(|| Refusal { lifecycle: Lifecycle::Spot, code: "x".into() }).into_iter().collect(),
                ..Since::default()
            },
            spend: Spend { today_usd: today },
            freshness: Freshness::NOW,
            ..Observation::default()
        }
    }
}

fn slots_of(seen: &Observation, counts: impl Fn(&Worker) -> bool) -> u32 {
    let machines = seen
        .workers
        .iter()
        .filter(|worker| worker.lifecycle != Lifecycle::Fargate);
    machines
        .filter(|worker| counts(worker))
        .map(|worker| worker.slots)
        .sum()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn nothing_unsafe_is_ever_planned(policy in policies(), story in proptest::collection::vec(observations(), 1..6)) {
        let mut past = History::default();
        for (step, mut seen) in story.into_iter().enumerate() {
            seen.at_s = step as f64 * 10.0;
            let plan = tick(&policy, &seen, &mut past);
            let by_id = |id: &Arc<str>| seen.workers.iter().find(|worker| worker.id == *id);
            let mut touched = BTreeSet::new();
            for action in &plan.actions {
                match action {
                    Action::Launch { machines, .. } => prop_assert!(*machines > 0),
                    Action::Undrain { worker } => {
                        prop_assert_eq!(by_id(worker).map(|worker| worker.state), Some(WorkerState::Draining));
                        prop_assert!(touched.insert(worker.clone()));
                    }
                    Action::Drain { worker } => {
                        prop_assert_eq!(by_id(worker).map(|worker| worker.state), Some(WorkerState::Accepting));
                        prop_assert!(touched.insert(worker.clone()));
                    }
                    // No busy worker is ended.
                    Action::Terminate { worker } => {
                        let worker_seen = by_id(worker);
                        prop_assert_eq!(worker_seen.map(|worker| worker.state), Some(WorkerState::Draining));
                        prop_assert_eq!(worker_seen.map(Worker::busy), Some(0));
                        prop_assert!(touched.insert(worker.clone()));
                    }
                }
            }
            // Never beyond the most.
            let have = u64::from(slots_of(&seen, |worker| {
                worker.counts() || plan.actions.contains(&Action::Undrain { worker: worker.id.clone() })
            }) / 4);
            let launched = u64::from(launches(&plan, Lifecycle::Spot) + launches(&plan, Lifecycle::OnDemand));
            let most = u64::from(policy.max_slots / policy.machines.slots);
            prop_assert!(launched == 0 || have + launched <= most, "{} + {} > {}", have, launched, most);
            // Never fewer than the least, where the budget allows them.
            let drained = plan.actions.iter().filter(|action| match action {
                Action::Drain { worker } => by_id(worker).is_some_and(|worker| worker.lifecycle != Lifecycle::Fargate),
                _ => false,
            }).count() as u64;
            if policy.budget == Budget::default() {
                let least = u64::from(policy.min_slots.div_ceil(policy.machines.slots)).min(most);
                prop_assert!(drained == 0 || have - drained >= least);
            }
            // No launch exceeds what an hour may cost.
            if let Some(budget) = policy.budget.usd_per_hour {
                let rate: f64 = seen.workers.iter().map(|worker| worker.usd_per_hour).sum();
                let each = |lifecycle: Lifecycle, slots: u32| {
                    f64::from(launches(&plan, lifecycle)) * f64::from(slots) * seen.prices.of(lifecycle)
                };
                let tasks = policy.fargate.as_ref().map_or(0, |fargate| fargate.slots);
                let added = each(Lifecycle::Spot, policy.machines.slots)
                    + each(Lifecycle::OnDemand, policy.machines.slots) + each(Lifecycle::Fargate, tasks);
                prop_assert!(added == 0.0 || rate + added <= budget + 1e-6, "{} + {} > {}", rate, added, budget);
            }
            prop_assert!(plan.slots_wished.is_finite() && plan.slots_wished >= 0.0);
        }
    }

    #[test]
    fn a_leader_that_reads_the_past_decides_the_same(policy in policies(), seen in observations(), next in observations()) {
        let mut past = History::default();
        tick(&policy, &seen, &mut past);
        let text = serde_json::to_string(&past).unwrap();
        let mut read: History = serde_json::from_str(&text).unwrap();
        let next = Observation { at_s: 10.0, ..next };
        past.observe(&policy, &next);
        read.observe(&policy, &next);
        prop_assert_eq!(plan(&policy, &next, &past), plan(&policy, &next, &read));
    }
}
