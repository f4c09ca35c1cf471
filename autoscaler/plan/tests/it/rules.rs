//! Each rule by itself.

use flowfleet_plan::{
    Action, Bound, Budget, Fargate, Freshness, History, Lifecycle, Machines, Policy, Reason, Refusal, Rule,
    Since, SloStaffing, WorkerState,
};

use super::{accepting, drained, launches, seen, tick, worker};

#[test]
fn an_idle_pool_stays_at_zero() {
    let (policy, mut past) = (Policy::default(), History::default());
    for at in 0..100 {
        let plan = tick(&policy, &seen(f64::from(at) * 10.0, vec![]), &mut past);
        assert_eq!(plan.actions, []);
    }
}

#[test]
fn the_first_run_leaves_zero_at_once() {
    let mut now = seen(0.0, vec![]);
    now.queued = 1;
    let plan = tick(&Policy::default(), &now, &mut History::default());
    assert_eq!(launches(&plan, Lifecycle::Spot), 1, "{plan:?}");
}

#[test]
fn a_backlog_of_long_runs_gets_a_slot_each() {
    let (policy, mut past) = (Policy::default(), History::default());
    let mut now = seen(0.0, vec![]);
    now.since_last.durations_s = vec![3_600.0; 50];
    now.queued = 40;
    let plan = tick(&policy, &now, &mut past);
    let machines = launches(&plan, Lifecycle::Spot);
    assert!((10..=13).contains(&machines), "{machines}: {plan:?}");
}

#[test]
fn a_backlog_of_short_runs_is_worked_off_by_few() {
    let (policy, mut past) = (Policy::default(), History::default());
    let mut now = seen(0.0, vec![]);
    now.since_last.durations_s = vec![1.0; 500];
    now.queued = 40;
    let plan = tick(&policy, &now, &mut past);
    assert!(launches(&plan, Lifecycle::Spot) <= 3, "{plan:?}");
}

#[test]
fn limits_hold() {
    let policy = Policy {
        min_slots: 8,
        max_slots: 16,
        ..Policy::default()
    };
    let plan = tick(&policy, &seen(0.0, vec![]), &mut History::default());
    assert_eq!(launches(&plan, Lifecycle::Spot), 2);
    assert!(plan.reasons.contains(&Reason::AtMin { min_slots: 8 }));

    let mut past = History::default();
    let mut now = seen(0.0, vec![]);
    now.queued = 1_000;
    now.since_last.durations_s = vec![600.0; 50];
    let plan = tick(&policy, &now, &mut past);
    assert_eq!(launches(&plan, Lifecycle::Spot), 4);
    assert!(
        plan.reasons
            .iter()
            .any(|reason| matches!(reason, Reason::AtMax { .. }))
    );
}

#[test]
fn draining_workers_come_back_before_any_is_launched() {
    let mut now = seen(
        0.0,
        vec![
            worker("empty", Lifecycle::Spot, WorkerState::Draining, &[]),
            worker("full", Lifecycle::Spot, WorkerState::Draining, &[10.0, 10.0]),
        ],
    );
    now.queued = 1;
    let plan = tick(&Policy::default(), &now, &mut History::default());
    let back = Action::Undrain {
        worker: "full".into(),
    };
    assert_eq!(plan.actions[0], back);
    assert_eq!(launches(&plan, Lifecycle::Spot), 0);
    assert!(plan.actions.contains(&Action::Terminate {
        worker: "empty".into()
    }));
}

#[test]
fn surplus_is_drained_after_the_hold_and_the_least_busy_first() {
    let policy = Policy {
        hold_s: 100.0,
        handoff_s: None,
        ..Policy::default()
    };
    let mut past = History::default();
    let mut now = seen(0.0, vec![]);
    now.queued = 12;
    now.since_last.durations_s = vec![3_600.0; 50];
    tick(&policy, &now, &mut past);
    let fleet = || {
        vec![
            accepting("a", &[50.0, 60.0, 70.0]),
            accepting("b", &[]),
            accepting("c", &[50.0]),
        ]
    };
    let mut drained_at = None;
    for step in 1..100 {
        let at_s = f64::from(step) * 10.0;
        let plan = tick(&policy, &seen(at_s, fleet()), &mut past);
        if let Some(first) = drained(&plan).first() {
            assert_eq!(*first, "b");
            drained_at = Some(at_s);
            break;
        }
    }
    let drained_at = drained_at.expect("surplus is drained in the end");
    assert!(drained_at >= 100.0, "{drained_at}");
}

#[test]
fn what_drained_is_ended_only_when_it_is_empty() {
    let now = seen(
        0.0,
        vec![
            worker("busy", Lifecycle::Spot, WorkerState::Draining, &[1.0]),
            worker("empty", Lifecycle::Spot, WorkerState::Draining, &[]),
        ],
    );
    let plan = tick(&Policy::default(), &now, &mut History::default());
    assert!(plan.actions.contains(&Action::Terminate {
        worker: "empty".into()
    }));
    assert!(!plan.actions.contains(&Action::Terminate {
        worker: "busy".into()
    }));
}

#[test]
fn what_is_not_known_holds_everything() {
    for freshness in [
        Freshness {
            runs_s: None,
            workers_s: Some(0.0),
        },
        Freshness {
            runs_s: Some(0.0),
            workers_s: None,
        },
        Freshness {
            runs_s: Some(61.0),
            workers_s: Some(0.0),
        },
    ] {
        let mut now = seen(
            0.0,
            vec![
                accepting("a", &[]),
                worker("d", Lifecycle::Spot, WorkerState::Draining, &[]),
            ],
        );
        now.freshness = freshness;
        now.queued = 5;
        let plan = tick(&Policy::default(), &now, &mut History::default());
        assert_eq!(plan.actions, [], "{freshness:?}");
        assert!(matches!(plan.reasons[..], [Reason::Stale { .. }]));
    }
}

#[test]
fn refused_spot_is_left_alone_and_on_demand_stands_in() {
    let (policy, mut past) = (Policy::default(), History::default());
    let mut now = seen(0.0, vec![]);
    now.queued = 1;
    now.since_last.refused = vec![Refusal {
        lifecycle: Lifecycle::Spot,
        code: "InsufficientInstanceCapacity".into(),
    }];
    let plan = tick(&policy, &now, &mut past);
    assert_eq!(launches(&plan, Lifecycle::OnDemand), 1);
    assert!(
        plan.rejected
            .iter()
            .any(|reason| matches!(reason, Reason::Cooling { .. }))
    );
    now.since_last = Since::default();
    now.at_s = 61.0;
    let plan = tick(&policy, &now, &mut past);
    assert_eq!(
        launches(&plan, Lifecycle::Spot),
        1,
        "it has cooled down: {plan:?}"
    );

    let alone = Policy {
        machines: Machines {
            on_demand_fallback: false,
            ..Machines::default()
        },
        ..policy
    };
    now.since_last.refused = vec![Refusal {
        lifecycle: Lifecycle::Spot,
        code: "InsufficientInstanceCapacity".into(),
    }];
    let plan = tick(&alone, &now, &mut History::default());
    assert_eq!(plan.actions, []);
}

#[test]
fn a_refusal_right_after_a_refusal_waits_longer() {
    let (policy, mut past) = (Policy::default(), History::default());
    let refused = |at_s: f64| {
        let mut now = seen(at_s, vec![]);
        now.since_last.refused = vec![Refusal {
            lifecycle: Lifecycle::Spot,
            code: "UnfulfillableCapacity".into(),
        }];
        now
    };
    past.observe(&policy, &refused(0.0));
    assert_eq!(past.cooling_until_s(Lifecycle::Spot, 1.0), Some(60.0));
    past.observe(&policy, &refused(70.0));
    assert_eq!(past.cooling_until_s(Lifecycle::Spot, 71.0), Some(190.0));
    past.observe(&policy, &refused(2_000.0));
    assert_eq!(past.cooling_until_s(Lifecycle::Spot, 2_001.0), Some(2_060.0));
}

#[test]
fn runs_that_ask_for_on_demand_get_it() {
    let mut now = seen(0.0, vec![accepting("spot", &[])]);
    now.queued = 3;
    now.queued_on_demand = 3;
    let plan = tick(&Policy::default(), &now, &mut History::default());
    assert_eq!(launches(&plan, Lifecycle::OnDemand), 1);
    let mut now = seen(
        0.0,
        vec![worker("od", Lifecycle::OnDemand, WorkerState::Accepting, &[])],
    );
    now.queued = 3;
    now.queued_on_demand = 3;
    let plan = tick(&Policy::default(), &now, &mut History::default());
    assert_eq!(launches(&plan, Lifecycle::OnDemand), 0, "there is room: {plan:?}");
}

#[test]
fn the_on_demand_base_is_bought_first_and_kept() {
    let policy = Policy {
        min_slots: 8,
        machines: Machines {
            on_demand_base: 4,
            ..Machines::default()
        },
        ..Policy::default()
    };
    let plan = tick(&policy, &seen(0.0, vec![]), &mut History::default());
    assert_eq!(
        (
            launches(&plan, Lifecycle::OnDemand),
            launches(&plan, Lifecycle::Spot)
        ),
        (1, 1)
    );
}

#[test]
fn an_hours_budget_bounds_the_rate() {
    let policy = Policy {
        budget: Budget {
            usd_per_hour: Some(3.0),
            usd_per_day: None,
        },
        ..Policy::default()
    };
    let mut now = seen(0.0, vec![]);
    now.queued = 100;
    now.since_last.durations_s = vec![600.0; 20];
    // A spot machine costs 1.4 an hour.
    let plan = tick(&policy, &now, &mut History::default());
    assert_eq!(launches(&plan, Lifecycle::Spot), 2);
    let said = plan
        .reasons
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join("; ");
    assert!(said.contains("the budget of 3 USD an hour leaves out"), "{said}");
}

#[test]
fn a_days_budget_ends_launches_before_the_money_does() {
    let policy = Policy {
        budget: Budget {
            usd_per_hour: None,
            usd_per_day: Some(10.0),
        },
        ..Policy::default()
    };
    let mut now = seen(0.0, vec![]);
    now.queued = 100;
    now.since_last.durations_s = vec![600.0; 20];
    now.spend.today_usd = 9.0;
    // What is left lasts a quarter of an hour at 4 USD an hour: two machines.
    assert_eq!(
        launches(&tick(&policy, &now, &mut History::default()), Lifecycle::Spot),
        2
    );
    now.spend.today_usd = 10.5;
    assert_eq!(tick(&policy, &now, &mut History::default()).actions, []);
}

#[test]
fn fargate_bridges_what_machines_would_start_late() {
    let policy = Policy {
        fargate: Some(Fargate::default()),
        ..Policy::default()
    };
    let mut now = seen(0.0, vec![]);
    now.queued = 3;
    now.since_last.durations_s = vec![60.0; 20];
    let plan = tick(&policy, &now, &mut History::default());
    assert_eq!(launches(&plan, Lifecycle::Fargate), 3, "{plan:?}");

    now.workers = vec![accepting("a", &[])];
    let plan = tick(&policy, &now, &mut History::default());
    assert_eq!(
        launches(&plan, Lifecycle::Fargate),
        0,
        "there is a free machine: {plan:?}"
    );
}

#[test]
fn idle_tasks_leave() {
    let task = worker("task", Lifecycle::Fargate, WorkerState::Accepting, &[]);
    let plan = tick(
        &Policy::default(),
        &seen(0.0, vec![task]),
        &mut History::default(),
    );
    assert_eq!(drained(&plan), ["task"]);
}

#[test]
fn bounds_from_elsewhere_count() {
    let mut now = seen(0.0, vec![]);
    now.bounds = vec![Bound {
        name: "cloudwatch:database_connections".into(),
        at_least: Some(7.0),
        at_most: None,
    }];
    let plan = tick(&Policy::default(), &now, &mut History::default());
    assert_eq!(launches(&plan, Lifecycle::Spot), 2);
    now.bounds[0].at_least = None;
    now.bounds[0].at_most = Some(4.0);
    now.queued = 50;
    now.since_last.durations_s = vec![600.0; 20];
    let plan = tick(&Policy::default(), &now, &mut History::default());
    assert_eq!(launches(&plan, Lifecycle::Spot), 1);
}

#[test]
fn the_peers_formulas() {
    let busy = || vec![accepting("a", &[1.0; 4]), accepting("b", &[1.0; 4])];
    for (rule, queued, machines) in [
        // ceil((10 + 8) / 4) = 5
        (Rule::KedaHpa { target: 4.0 }, 10, 5),
        // Within ten percent of the target: as it is.
        (Rule::KedaHpa { target: 4.0 }, 0, 2),
        // 5 machines needed, 50 % reserved.
        (Rule::EcsManaged { target: 50.0 }, 10, 10),
        (Rule::EcsManaged { target: 100.0 }, 10, 5),
        // Target tracking waits for three points of a minute.
        (Rule::BacklogPerInstance { target: 2.0 }, 10, 2),
        (Rule::Buildkite { buffer: 4.0 }, 10, 6),
        (
            Rule::Step {
                steps: vec![(1, 3), (10, 7)],
            },
            10,
            7,
        ),
        (
            Rule::Step {
                steps: vec![(1, 3), (10, 7)],
            },
            9,
            3,
        ),
    ] {
        let policy = Policy {
            rule: rule.clone(),
            ..Policy::default()
        };
        let mut now = seen(0.0, busy());
        now.queued = queued;
        let plan = tick(&policy, &now, &mut History::default());
        assert_eq!(plan.machines_wanted, machines, "{rule:?} with {queued} queued");
    }
    let policy = Policy {
        rule: Rule::BacklogPerInstance { target: 2.0 },
        ..Policy::default()
    };
    let mut past = History::default();
    let mut wanted = Vec::new();
    for minute in 0..=3 {
        let mut now = seen(f64::from(minute) * 60.0, busy());
        now.queued = 10;
        wanted.push(tick(&policy, &now, &mut past).machines_wanted);
    }
    assert_eq!(wanted, [2, 2, 2, 5]);
}

#[test]
fn late_starts_raise_the_reserve_and_timely_ones_lower_it() {
    let (policy, rule) = (Policy::default(), SloStaffing::default());
    let reserve_after = |late: u64| {
        let mut past = History::default();
        for step in 0..50 {
            let mut now = seen(f64::from(step) * 10.0, vec![]);
            now.since_last.started = 10;
            now.since_last.started_late = late;
            past.observe(&policy, &now);
        }
        past.reserve(&rule)
    };
    assert_eq!(reserve_after(10), rule.reserve_max);
    assert!(reserve_after(0) < rule.reserve);
}
