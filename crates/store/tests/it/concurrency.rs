//! Many at once.

use std::collections::HashSet;

use flowfleet_core::port::{Claim, Fenced, Renewal, SubmitOutcome};
use flowfleet_core::run::{Ending, NewRun};
use flowfleet_core::{Capabilities, EventKind, Lease, RunId, RunState, WorkerId};
use serde_json::json;

use crate::bed::{Bed, OVER, TTL, checkpoint, finish, key, node_event, progress, until};

async fn batch(bed: &Bed, count: usize) -> Vec<RunId> {
    let runs: Vec<NewRun> = (0..count).map(|_| bed.new_run()).collect();
    bed.submit(&runs).await
}

async fn claim_all(bed: &Bed, runs: &[RunId]) -> Vec<Lease> {
    let claims = bed
        .store
        .claim(bed.worker, &Capabilities::default(), runs, TTL)
        .await
        .unwrap();
    claims
        .into_iter()
        .map(|claim| match claim {
            Claim::Claimed(run) => run.lease,
            Claim::NotClaimable => panic!("the run is claimable"),
        })
        .collect()
}

pub(crate) async fn eight_claimers_share_the_runs(bed: Bed) {
    let runs = batch(&bed, 200).await;
    let claimers: Vec<_> = (0..8)
        .map(|turn| {
            let (bed, mut runs) = (bed.clone(), runs.clone());
            tokio::spawn(async move {
                // Each in an order of its own.
                runs.rotate_left(turn * 25);
                if turn % 2 == 1 {
                    runs.reverse();
                }
                let worker = WorkerId::generate();
                let mut mine = Vec::new();
                for part in runs.chunks(20) {
                    for claim in bed
                        .store
                        .claim(worker, &Capabilities::default(), part, TTL)
                        .await
                        .unwrap()
                    {
                        if let Claim::Claimed(run) = claim {
                            mine.push(run.lease.run);
                        }
                    }
                }
                mine
            })
        })
        .collect();
    let mut all = Vec::new();
    for claimer in claimers {
        all.extend(claimer.await.unwrap());
    }
    assert_eq!(all.len(), 200);
    assert_eq!(
        all.into_iter().collect::<HashSet<_>>(),
        runs.iter().copied().collect()
    );
    for run in &runs[..5] {
        assert_eq!(bed.get(*run).await.last_seq, 2);
    }
}

pub(crate) async fn opposite_orders_do_not_block(bed: Bed) {
    let runs = batch(&bed, 120).await;
    let leases = claim_all(&bed, &runs).await;
    let writers: Vec<_> = (0..6)
        .map(|turn| {
            let (bed, mut leases) = (bed.clone(), leases.clone());
            tokio::spawn(async move {
                if turn % 2 == 1 {
                    leases.reverse();
                }
                for step in 0..10 {
                    if turn < 3 {
                        let renewed = bed.store.renew(bed.worker, &leases, TTL).await.unwrap();
                        assert!(renewed.iter().all(|r| *r == Renewal::Held { cancel: false }));
                    } else {
                        let steps: Vec<_> = leases
                            .iter()
                            .map(|&l| {
                                let event = node_event(EventKind::NodeStarted, "n");
                                progress(l, 2 + step, vec![checkpoint("n", json!(step))], vec![event])
                            })
                            .collect();
                        let answers = bed.store.checkpoint(&steps).await.unwrap();
                        assert!(answers.iter().all(|a| matches!(a, Fenced::Applied { .. })));
                    }
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }
    assert_eq!(bed.events(runs[0]).await.len(), 12, "three wrote the same");
    let mut backwards = leases.clone();
    backwards.reverse();
    let ends = |leases: &[Lease]| {
        leases
            .iter()
            .map(|&l| finish(l, Ending::Succeeded))
            .collect::<Vec<_>>()
    };
    let (forth, back) = (ends(&leases), ends(&backwards));
    let (one, other) = tokio::join!(bed.store.finish(&forth), bed.store.finish(&back));
    let applied = |answers: Vec<Fenced>| {
        answers
            .iter()
            .filter(|a| matches!(a, Fenced::Applied { .. }))
            .count()
    };
    assert_eq!(applied(one.unwrap()) + applied(other.unwrap()), 120);
}

/// Nobody does so on purpose: eight tries of the same progress are under way, and some are carried out late.
pub(crate) async fn interleaved_writers_leave_no_hole(bed: Bed) {
    let run = bed.submit_one().await;
    let lease = bed.claim(run, TTL).await.lease;
    let writers: Vec<_> = (0..8)
        .map(|_| {
            let bed = bed.clone();
            tokio::spawn(async move {
                let mut after = 2;
                for step in 0..10 {
                    let name = format!("{step}");
                    let events = (0..=step % 3)
                        .map(|_| node_event(EventKind::NodeFinished, &name))
                        .collect();
                    let answers = bed
                        .store
                        .checkpoint(&[progress(lease, after, vec![], events)])
                        .await
                        .unwrap();
                    let [Fenced::Applied { events }] = &answers[..] else {
                        panic!("{answers:?}")
                    };
                    assert_eq!(events[0].seq, after + 1);
                    after += events.len() as u64;
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }
    // Ten steps of 1, 2, 3, 1, ... events, each written by one of eight, after `run.queued` and `run.started`.
    assert_eq!(bed.events(run).await.len(), 2 + 19);
}

pub(crate) async fn opposite_submissions_do_not_block(bed: Bed) {
    let submits: Vec<_> = (0..8)
        .map(|turn| {
            let bed = bed.clone();
            tokio::spawn(async move {
                let mut runs: Vec<NewRun> = (0..100)
                    .map(|number| {
                        let mut run = bed.new_run();
                        run.idempotency = key(&format!("k{number}"), "same");
                        run
                    })
                    .collect();
                if turn % 2 == 1 {
                    runs.reverse();
                }
                bed.store.submit(&runs).await.unwrap().outcomes
            })
        })
        .collect();
    let mut created = 0;
    for submit in submits {
        for outcome in submit.await.unwrap() {
            match outcome {
                SubmitOutcome::Created { .. } => created += 1,
                SubmitOutcome::Existing { .. } => {}
                SubmitOutcome::Conflict { .. } => panic!("equal bodies do not conflict"),
            }
        }
    }
    assert_eq!(created, 100);
}

pub(crate) async fn two_reapers_do_no_harm(bed: Bed) {
    let runs = batch(&bed, 60).await;
    bed.store
        .claim(bed.worker, &Capabilities::default(), &runs, OVER)
        .await
        .unwrap();
    let reap = async || {
        let (events, outbox) = bed.store.reap(20).await.unwrap();
        (events.len(), outbox.map_or(0, |row| row.envelopes.len()))
    };
    let total = std::sync::atomic::AtomicUsize::new(0);
    until("all leases to be reaped", || async {
        let (one, other) = tokio::join!(reap(), reap());
        assert_eq!((one.0, other.0), (2 * one.1, 2 * other.1));
        let sum = total.fetch_add(one.1 + other.1, std::sync::atomic::Ordering::Relaxed) + one.1 + other.1;
        (sum >= 60).then_some(())
    })
    .await;
    assert_eq!(total.load(std::sync::atomic::Ordering::Relaxed), 60);
    for run in runs {
        let view = bed.get(run).await;
        assert_eq!((view.state, view.interruptions), (RunState::Queued, 1));
    }
}
