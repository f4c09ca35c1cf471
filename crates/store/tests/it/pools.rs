//! Runs that not every worker can execute.

use std::time::Duration;

use flowfleet_core::port::{Claim, OutboxRow, RunFilter};
use flowfleet_core::run::EndedBecause;
use flowfleet_core::{Capabilities, Capability, Pool, RunId, RunState};

use crate::bed::{Bed, OVER, TTL, filter, release};

fn python() -> Pool {
    "default:python".parse().unwrap()
}

impl Bed {
    async fn submit_python(&self) -> (RunId, OutboxRow) {
        let mut run = self.new_run();
        run.needs = Capability::python();
        let submission = self.store.submit(&[run.clone()]).await.unwrap();
        (run.id, submission.outbox.unwrap())
    }

    async fn claim_with(&self, can: &[Capability], runs: &[RunId], ttl: Duration) -> Vec<bool> {
        let can = Capabilities::from_iter(can.iter().cloned());
        let claims = self.store.claim(self.worker, &can, runs, ttl).await.unwrap();
        claims
            .iter()
            .map(|claim| matches!(claim, Claim::Claimed(_)))
            .collect()
    }
}

fn pools(row: &OutboxRow) -> Vec<String> {
    row.envelopes
        .iter()
        .map(|envelope| envelope.pool.to_string())
        .collect()
}

pub(crate) async fn a_run_is_claimed_by_who_can_execute_it(bed: Bed) {
    let native = bed.submit_one().await;
    let (run, _) = bed.submit_python().await;
    let view = bed.get(run).await;
    assert_eq!(
        (view.queue.as_str(), view.needs),
        ("default", Capability::python())
    );
    assert_eq!(bed.get(native).await.needs, Capability::native());
    let both = [native, run];
    assert_eq!(bed.claim_with(&[], &both, TTL).await, [false, false]);
    let torch = "torch".parse().unwrap();
    assert_eq!(bed.claim_with(&[torch], &both, TTL).await, [false, false]);
    assert_eq!(
        bed.claim_with(&[Capability::native()], &both, TTL).await,
        [true, false]
    );
    assert_eq!(bed.get(run).await.state, RunState::Queued);
    let can = [Capability::native(), Capability::python()];
    assert_eq!(bed.claim_with(&can, &both, TTL).await, [false, true]);
}

pub(crate) async fn its_messages_go_to_its_pool(bed: Bed) {
    let (run, outbox) = bed.submit_python().await;
    assert_eq!(pools(&outbox), ["default:python"]);
    let left = bed.store.outbox_leftover(OVER, 10).await.unwrap();
    assert_eq!(pools(&left[0]), ["default:python"]);
    // A worker that vanished, one that hands it back, a retry that falls due.
    assert_eq!(
        bed.claim_with(&[Capability::python()], &[run], OVER).await,
        [true]
    );
    let reaped = crate::bed::until("the run is reaped", || async {
        bed.store.reap(10).await.unwrap().1
    })
    .await;
    assert_eq!(pools(&reaped), ["default:python"]);
    for (retry, because) in [
        (None, EndedBecause::Interrupted),
        (Some(Duration::ZERO), EndedBecause::Failed),
    ] {
        let can = Capabilities::from_iter([Capability::python()]);
        let claims = bed.store.claim(bed.worker, &can, &[run], TTL).await.unwrap();
        let Claim::Claimed(claimed) = &claims[0] else {
            panic!("{claims:?}")
        };
        assert_eq!(claimed.queue.as_str(), "default");
        let given = release(claimed.lease, because, retry);
        let (_, outbox) = bed.store.release(&[given]).await.unwrap();
        let row = match outbox {
            Some(row) => row,
            None => {
                crate::bed::until("the retry is due", || async {
                    bed.store.promote_due(10).await.unwrap().1
                })
                .await
            }
        };
        assert_eq!(pools(&row), ["default:python"]);
    }
}

pub(crate) async fn pools_of_one_queue_are_apart(bed: Bed) {
    let native = bed.submit_one().await;
    let (run, _) = bed.submit_python().await;
    let (later, _) = bed.submit_python().await;
    assert_eq!(bed.store.ahead_of(native, 10).await.unwrap(), 0);
    assert_eq!(bed.store.ahead_of(run, 10).await.unwrap(), 0);
    assert_eq!(bed.store.ahead_of(later, 10).await.unwrap(), 1);
    let backlog = bed.store.backlog().await.unwrap();
    let lines: Vec<_> = backlog
        .iter()
        .map(|line| (line.pool().to_string(), line.queued))
        .collect();
    assert_eq!(
        lines,
        [("default".to_owned(), 1), ("default:python".to_owned(), 2)]
    );
    let row = bed.store.republish(&python(), OVER, 10).await.unwrap().unwrap();
    assert_eq!(pools(&row), ["default:python"; 2]);
    let row = bed.store.republish(&Pool::default(), OVER, 10).await.unwrap();
    assert_eq!(pools(&row.unwrap()), ["default"]);
    let of_queue = |queue: &str| RunFilter {
        queue: Some(queue.parse().unwrap()),
        ..filter(10)
    };
    let found = bed.store.list(&bed.tenant, &of_queue("default")).await.unwrap();
    assert_eq!(found.items.len(), 3, "a queue is all of its pools");
    assert!(found.items.iter().all(|run| run.queue.as_str() == "default"));
    let none = bed.store.list(&bed.tenant, &of_queue("python")).await.unwrap();
    assert!(none.items.is_empty());
}
