//! What workers are wished to do.

use std::time::Duration;

use flowfleet_core::WorkerId;
use flowfleet_core::port::Wish;

use crate::bed::Bed;

pub(crate) async fn the_last_wish_counts(bed: Bed) {
    let (worker, other) = (WorkerId::generate(), WorkerId::generate());
    assert_eq!(bed.store.wished(worker).await.unwrap(), None);
    let soon = Wish::Drain {
        handoff: Some(Duration::from_millis(30_500)),
    };
    for wish in [Wish::Drain { handoff: None }, soon, soon, Wish::Accept, soon] {
        bed.store.wish(worker, wish).await.unwrap();
        assert_eq!(bed.store.wished(worker).await.unwrap(), Some(wish));
    }
    assert_eq!(bed.store.wished(other).await.unwrap(), None, "each has its own");
    bed.store.wish(other, Wish::Accept).await.unwrap();
    assert_eq!(bed.store.wished(worker).await.unwrap(), Some(soon));
}
