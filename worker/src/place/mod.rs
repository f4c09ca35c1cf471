//! Where this worker runs: on which machine or task, of which kind, in which pool, at which price, and what its provider
//! says is to become of it.
//!
//! Asks the instance metadata of EC2 (version 2) and the task metadata of ECS (version 4) over plain HTTP. Whoever runs
//! elsewhere is not kept waiting: see [`find`]. Completing the lifecycle hook of an instance that goes takes AWS's API
//! and credentials, and is the autoscaler's.

mod ecs;
mod imds;
mod notices;
mod settings;

use std::time::Duration;

use flowfleet_core::port::Place;
use flowfleet_engine::Environment;
use jiff::{SignedDuration, Timestamp};

pub(crate) use ecs::Protection;
pub(crate) use imds::Imds;
pub(crate) use notices::run as watch_notices;
pub use settings::{Lifecycle, Rebalance, Settings};

use ecs::Task;

/// How long one question may take: both services are on the machine.
const PATIENCE: Duration = Duration::from_secs(1);

/// A process that starts later than this after its machine was launched is not what the machine was launched for.
const FRESH: SignedDuration = SignedDuration::from_mins(15);

/// What a worker knows of where it runs.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) lifecycle: &'static str,
    pub(crate) place: Place,
    /// Where notices appear, on EC2.
    pub(crate) imds: Option<Imds>,
    /// In a task of ECS.
    pub(crate) protection: Option<Protection>,
    /// From which moment on the time to accept runs counts.
    pub(crate) booted_from: Timestamp,
}

/// Finds out where this is. On a machine that is neither ECS's nor says that it is Amazon's, nothing is asked, unless a
/// setting names where.
pub(crate) async fn find(lifecycle: Lifecycle, settings: &Settings, environment: &Environment) -> Found {
    let now = Timestamp::now();
    let client = reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .timeout(PATIENCE)
        .build();
    let http = client.unwrap_or_else(|error| {
        tracing::warn!(%error, "no client of its own to ask where this worker runs");
        reqwest::Client::new()
    });
    let mut found = Found {
        lifecycle: lifecycle.named().unwrap_or("local"),
        place: Place {
            launched_at: Some(now),
            ..Place::default()
        },
        imds: None,
        protection: None,
        booted_from: now,
    };
    if lifecycle != Lifecycle::Local {
        let task = ecs::task(&http, environment).await;
        found.protection = environment("ECS_AGENT_URI").map(|uri| Protection::new(http.clone(), &uri));
        let fargate = task.as_ref().is_some_and(Task::is_fargate);
        let asked = settings.metadata_url.clone().filter(|_| !fargate);
        let base = asked.or_else(|| (!fargate && imds::is_ec2()).then(|| imds::ADDRESS.to_owned()));
        if let Some(base) = base {
            found.instance(Imds::new(http, &base), lifecycle).await;
        }
        if let Some(task) = task {
            found.task(task, lifecycle);
        }
    }
    if let Some(launched) = found.place.launched_at
        && now.duration_since(launched) < FRESH
    {
        found.booted_from = launched.min(now);
    }
    found.place.pool = settings.pool.clone().or(found.place.pool);
    found.place.usd_per_hour = settings.usd_per_hour;
    found
}

impl Found {
    async fn instance(&mut self, imds: Imds, lifecycle: Lifecycle) {
        match imds.instance().await {
            Ok(instance) => {
                if lifecycle == Lifecycle::Auto {
                    self.lifecycle = instance.lifecycle;
                }
                self.place = Place {
                    launched_at: instance.place.launched_at.or(self.place.launched_at),
                    ..instance.place
                };
                self.imds = Some(imds);
            }
            Err(error) => tracing::warn!(%error, "the instance does not say what it is"),
        }
    }

    fn task(&mut self, task: Task, lifecycle: Lifecycle) {
        if lifecycle == Lifecycle::Auto {
            match task.is_fargate() {
                true => self.lifecycle = "fargate",
                false if self.imds.is_none() => self.lifecycle = "on_demand",
                false => {}
            }
        }
        let place = &mut self.place;
        place.provider_id = task.arn.or(place.provider_id.take());
        place.zone = task.zone.or(place.zone.take());
        place.launched_at = task.pull_started_at.or(place.launched_at);
        place.pool = task.capacity_provider.or(place.pool.take());
    }
}
