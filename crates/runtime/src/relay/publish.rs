//! Publishing until the broker confirmed: waits for a broker that is away, and leaves pools alone that it refuses.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use flowfleet_core::Pool;
use flowfleet_core::error::PortError;
use flowfleet_core::port::{Envelope, Queue};

use crate::backoff::Backoff;
use crate::metrics::RELAY_REFUSED_TOTAL;

/// Failures in a row after which it is asked whether only some pools fail. A refusal that is for good is looked into
/// at once.
const PATIENT: u32 = 3;

/// Whether the broker is there at all is answered within this.
const PING: Duration = Duration::from_secs(3);

/// A refused pool is left alone for this long: at first, and at most.
const ALONE: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(60));

/// Publishes one group at a time.
pub(super) struct Publisher<'a> {
    queue: &'a dyn Queue,
    /// Pools that took no messages although the broker answered, and until when they are left alone.
    refused: HashMap<Pool, (Instant, Backoff)>,
}

impl<'a> Publisher<'a> {
    pub(super) fn new(queue: &'a dyn Queue) -> Self {
        Self {
            queue,
            refused: HashMap::new(),
        }
    }

    /// Publishes all messages but those of refused pools: the store knows that their runs are queued, so the
    /// reconciler publishes them again once their queue can be used.
    pub(super) async fn publish(&mut self, mut envelopes: Vec<Envelope>) {
        let mut backoff = Backoff::default();
        let mut tries = 0_u32;
        loop {
            self.leave_refused(&mut envelopes);
            if envelopes.is_empty() {
                return;
            }
            let Err(error) = self.queue.publish(&envelopes).await else {
                if tries > 0 {
                    tracing::info!(tries, "publishing again");
                }
                if !self.refused.is_empty() {
                    for envelope in &envelopes {
                        self.refused.remove(&envelope.pool);
                    }
                }
                return;
            };
            tries += 1;
            if tries.is_power_of_two() {
                tracing::warn!(%error, tries, envelopes = envelopes.len(), "messages are not published yet");
            }
            if (tries >= PATIENT || !error.is_retryable()) && self.broker_answers().await {
                envelopes = self.apart(envelopes).await;
                if envelopes.is_empty() {
                    return;
                }
            }
            backoff.wait().await;
        }
    }

    /// Publishes each pool on its own; answers what is left because the broker went away meanwhile.
    async fn apart(&mut self, envelopes: Vec<Envelope>) -> Vec<Envelope> {
        let mut pools: BTreeMap<Pool, Vec<Envelope>> = BTreeMap::new();
        for envelope in envelopes {
            pools.entry(envelope.pool.clone()).or_default().push(envelope);
        }
        let mut left = Vec::new();
        for (pool, envelopes) in pools {
            match self.queue.publish(&envelopes).await {
                Ok(()) => {
                    self.refused.remove(&pool);
                }
                Err(error) if self.broker_answers().await => self.refuse(pool, &error, envelopes.len()),
                Err(_) => left.extend(envelopes),
            }
        }
        left
    }

    async fn broker_answers(&self) -> bool {
        matches!(
            tokio::time::timeout(PING, self.queue.ping(PING)).await,
            Ok(Ok(()))
        )
    }

    fn refuse(&mut self, pool: Pool, error: &PortError, messages: usize) {
        tracing::error!(
            %error, queue = %pool, messages,
            "the broker takes no messages for this queue: its runs wait in the store and are published again later"
        );
        metrics::counter!(RELAY_REFUSED_TOTAL).increment(messages as u64);
        let now = Instant::now();
        // Names are the callers': those of long ago are forgotten.
        self.refused.retain(|_, (until, _)| *until + ALONE.1 > now);
        let (until, backoff) = self
            .refused
            .entry(pool)
            .or_insert_with(|| (now, Backoff::new(ALONE.0, ALONE.1)));
        *until = now + backoff.next(rand::random());
    }

    fn leave_refused(&self, envelopes: &mut Vec<Envelope>) {
        if self.refused.is_empty() {
            return;
        }
        let (now, before) = (Instant::now(), envelopes.len());
        envelopes.retain(|envelope| {
            let refused = self.refused.get(&envelope.pool);
            refused.is_none_or(|(until, _)| *until <= now)
        });
        metrics::counter!(RELAY_REFUSED_TOTAL).increment((before - envelopes.len()) as u64);
    }
}
