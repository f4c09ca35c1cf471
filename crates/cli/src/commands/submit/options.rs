//! The options of a run, as the API spells them.

use std::time::Duration;

use clap::Args as ClapArgs;
use flowfleet_core::{Priority, QueueName};
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::commands::read_json;
use crate::failure::{Failure, Result};
use crate::text::{parse_duration, parse_future, parse_label, parse_pair};

/// How to run it.
#[derive(Debug, ClapArgs)]
#[command(next_help_heading = "How to run it")]
pub(super) struct Options {
    /// Values for fields of components: JSON, or @FILE
    #[arg(long, value_name = "JSON")]
    tweaks: Option<String>,
    /// A variable or credential of this run; may be repeated
    #[arg(long = "var", value_name = "NAME=VALUE", value_parser = parse_pair)]
    variables: Vec<(String, String)>,
    /// The chat session it belongs to
    #[arg(long, value_name = "ID")]
    session: Option<String>,
    /// Which workers: the queue they consume
    #[arg(long)]
    queue: Option<QueueName>,
    /// high, normal or low
    #[arg(long)]
    priority: Option<Priority>,
    /// Start not before this long from now: 90s, 10m, 2h
    #[arg(long, value_name = "TIME", value_parser = parse_duration, conflicts_with = "run_at")]
    delay: Option<Duration>,
    /// Start not before this time: RFC 3339
    #[arg(long, value_name = "TIME", value_parser = parse_future)]
    run_at: Option<Timestamp>,
    /// The longest time one attempt may take
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    timeout: Option<Duration>,
    /// Give up if it has not started by then
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    expires_in: Option<Duration>,
    /// How often a failing run is tried
    #[arg(long, value_name = "N")]
    max_attempts: Option<u32>,
    /// Before the second attempt wait about this long; later ones wait twice as long each
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    backoff: Option<Duration>,
    /// A label to find it by; may be repeated
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = parse_label)]
    labels: Vec<(String, String)>,
    /// A key of yours: a second submission with it answers the same run
    #[arg(long, value_name = "KEY")]
    pub idempotency_key: Option<String>,
}

impl Options {
    /// The fields of `POST /v1/runs` that were given; the idempotency key is the caller's business.
    pub(super) async fn to_fields(&self) -> Result<Map<String, Value>> {
        let mut fields = Map::new();
        let mut set = |name: &str, value: Option<Value>| {
            if let Some(value) = value {
                fields.insert(name.to_owned(), value);
            }
        };
        if let Some(tweaks) = &self.tweaks {
            let tweaks = read_json("--tweaks", tweaks).await?;
            if !tweaks.is_object() {
                return Err(Failure::usage(
                    "--tweaks must be a JSON object: {\"component id or name\": {\"field\": value}}",
                ));
            }
            set("tweaks", Some(tweaks));
        }
        let map = |pairs: &[(String, String)]| {
            (!pairs.is_empty()).then(|| {
                pairs
                    .iter()
                    .map(|(key, value)| (key.clone(), Value::from(value.clone())))
                    .collect::<Map<_, _>>()
                    .into()
            })
        };
        let seconds = |duration: Option<Duration>| duration.map(|duration| json!(duration.as_secs_f64()));
        set("variables", map(&self.variables));
        set("session_id", self.session.clone().map(Value::from));
        set("queue", self.queue.as_ref().map(|queue| queue.as_str().into()));
        set("priority", self.priority.map(|priority| priority.as_str().into()));
        set("delay_s", seconds(self.delay));
        set("run_at", self.run_at.map(|at| at.to_string().into()));
        set("timeout_s", seconds(self.timeout));
        set("expires_in_s", seconds(self.expires_in));
        set("max_attempts", self.max_attempts.map(Value::from));
        set(
            "retry",
            self.backoff
                .map(|backoff| json!({"backoff_s": backoff.as_secs_f64()})),
        );
        set("labels", map(&self.labels));
        Ok(fields)
    }
}
