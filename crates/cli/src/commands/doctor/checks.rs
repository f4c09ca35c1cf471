//! The checks themselves: each looks at one thing a fleet needs.

use std::time::Duration;

use bytes::Bytes;
use flowfleet_core::Pool;
use flowfleet_core::knowledge::SearchBy;
use serde_json::Value;

use super::Status;
use crate::commands::{Context, migrate};
use crate::failure::Failure;
use crate::text;

/// What a check found: a sentence, or a sentence and what to do.
pub(super) type Found = Result<String, (Status, String, String)>;

pub(super) fn broken(detail: impl std::fmt::Display, advice: impl Into<String>) -> (Status, String, String) {
    (Status::Fail, detail.to_string(), advice.into())
}

pub(super) async fn store(url: &str) -> Found {
    if let Some(path) = migrate::sqlite_path(url)
        && !path.exists()
    {
        return Err(broken(
            format!("there is no {}", path.display()),
            "`flowfleet up` makes it, or `flowfleet migrate`; or name a PostgreSQL with FLOWFLEET_STORE_URL",
        ));
    }
    let advice = "check FLOWFLEET_STORE_URL: is the database there, reachable, and is the password right?";
    let options = flowfleet_store::Options {
        max_connections: 2,
        ..Default::default()
    };
    let store = flowfleet_store::open(url, options)
        .await
        .map_err(|error| broken(error, advice))?;
    if let Err(error) = store.ping().await {
        let detail = error.to_string();
        let advice = if detail.contains("migrate") {
            "flowfleet migrate"
        } else {
            advice
        };
        return Err(broken(detail, advice));
    }
    let backlog = store
        .backlog()
        .await
        .map_err(|error| broken(error, "flowfleet migrate"))?;
    let sum = |count: fn(&flowfleet_core::port::Backlog) -> u64| backlog.iter().map(count).sum::<u64>();
    let (queued, running) = (sum(|b| b.queued), sum(|b| b.running));
    let searches = store.searches_by().await;
    let searches = match searches.map_err(|error| broken(error, "flowfleet migrate"))? {
        SearchBy::Extension => "knowledge is searched by pgvector",
        SearchBy::Scan if migrate::sqlite_path(url).is_some() => "knowledge is searched by reading it",
        SearchBy::Scan => {
            "knowledge is searched by reading it: install pgvector and `CREATE EXTENSION vector` for large bases"
        }
    };
    Ok(format!(
        "answers, schema is up to date, {} queued, {} running, {searches}",
        text::count(queued),
        text::count(running)
    ))
}

pub(super) async fn queue(url: &str) -> Found {
    let advice =
        "check FLOWFLEET_QUEUE_URL: is RabbitMQ there, and are user, password and virtual host right?";
    let queue = flowfleet_queue::open(url, flowfleet_queue::Options::default())
        .await
        .map_err(|error| broken(error, advice))?;
    if url.starts_with("memory:") {
        return Ok("in memory: for `flowfleet up`, where one process is the fleet".to_owned());
    }
    queue
        .ping(Duration::from_secs(5))
        .await
        .map_err(|error| broken(error, advice))?;
    let depth = queue.depth(&Pool::default()).await.map_err(|error| {
        broken(
            error,
            "the user needs the permissions configure, write and read on queues named flowfleet.*",
        )
    })?;
    Ok(format!(
        "answers, {} ready in the queue `default`",
        text::count(depth.total())
    ))
}

pub(super) async fn bus(url: &str) -> Found {
    let advice =
        "check FLOWFLEET_BUS_URL: is Redis there, and is the password right? Without it live events are late";
    let bus = flowfleet_bus::open(url)
        .await
        .map_err(|error| broken(error, advice))?;
    if url.starts_with("memory:") {
        return Ok("in memory: for `flowfleet up`, where one process is the fleet".to_owned());
    }
    bus.ping().await.map_err(|error| broken(error, advice))?;
    let workers = bus.workers().await.map_err(|error| broken(error, advice))?;
    Ok(format!(
        "answers, {} there",
        text::plural(workers.len(), "worker")
    ))
}

pub(super) async fn blob(url: &str) -> Found {
    let advice =
        "check FLOWFLEET_BLOB_URL: does the directory exist, is it writable, do all processes share it?";
    let blob = flowfleet_blob::open(url)
        .await
        .map_err(|error| broken(error, advice))?;
    let key = format!("doctor/{}", uuid::Uuid::now_v7().simple());
    let bytes = Bytes::from_static(b"flowfleet doctor was here");
    let probe = async {
        blob.ping().await?;
        blob.put(&key, bytes.clone()).await?;
        let read = blob.get(&key).await?;
        blob.delete(&key).await?;
        Ok::<_, flowfleet_core::PortError>(read)
    };
    let read = probe.await.map_err(|error| broken(error, advice))?;
    if read.as_ref() != Some(&bytes) {
        return Err(broken("what was written does not read back", advice));
    }
    Ok("writes, reads and deletes".to_owned())
}

pub(super) async fn dispatcher(context: &Context) -> Found {
    let start =
        "start one with `flowfleet up` or `flowfleet-dispatcher`, or name it with --url or FLOWFLEET_URL";
    let client = context
        .client()
        .map_err(|failure| broken(failure.message, start))?;
    let ready: Value = match client.get(&["health", "ready"]).tries(1).send().await {
        Ok(ready) => ready,
        Err(error) => {
            let failure = Failure::from(error);
            return Err(broken(failure.message, start));
        }
    };
    if let Err(error) = client
        .get(&["v1", "runs"])
        .query("limit", "1")
        .tries(1)
        .send::<Value>()
        .await
    {
        let failure = Failure::from(error);
        return Err(broken(
            failure.message,
            failure.advice.unwrap_or_else(|| start.to_owned()),
        ));
    }
    let missing: Vec<String> = ready
        .get("checks")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
        .filter(|(_, check)| check.get("ok").and_then(Value::as_bool) == Some(false))
        .map(|(name, _)| name.clone())
        .collect();
    let workers: Value = client
        .get(&["v1", "fleet", "workers"])
        .tries(1)
        .send()
        .await
        .unwrap_or_default();
    let workers = workers.get("items").and_then(Value::as_array).map_or(0, Vec::len);
    if !missing.is_empty() {
        let advice = "it works, but worse: see its log".to_owned();
        return Err((
            Status::Warn,
            format!("answers, but misses {}", missing.join(", ")),
            advice,
        ));
    }
    if workers == 0 {
        let advice = "start `flowfleet-worker`: without one, runs wait".to_owned();
        return Err((Status::Warn, "answers, but there is no worker".to_owned(), advice));
    }
    Ok(format!("ready, {} there", text::plural(workers, "worker")))
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.trim().is_empty())
}

pub(super) fn model_url() -> String {
    variable("OPENAI_BASE_URL")
        .or_else(|| variable("OPENAI_API_BASE"))
        .unwrap_or_else(|| "https://api.openai.com/v1".to_owned())
}

pub(super) async fn model() -> Found {
    let Some(key) = variable("OPENAI_API_KEY") else {
        return Err((
            Status::Warn,
            "OPENAI_API_KEY is not set here: only flows without a model will work".to_owned(),
            "set it where workers run, pass it with `--var OPENAI_API_KEY=...`, or try `flowfleet mock-model`".to_owned(),
        ));
    };
    let url = format!("{}/models", model_url().trim_end_matches('/'));
    let answer = reqwest::Client::new()
        .get(&url)
        .bearer_auth(key)
        .timeout(Duration::from_secs(8))
        .send()
        .await;
    match answer {
        Ok(answer) if answer.status().is_success() => Ok("answers, and takes the key".to_owned()),
        Ok(answer) if matches!(answer.status().as_u16(), 401 | 403) => Err(broken(
            format!("refuses the key ({})", answer.status()),
            "check OPENAI_API_KEY",
        )),
        Ok(answer) => Err((
            Status::Warn,
            format!("answered {} when asked for its models", answer.status()),
            "check OPENAI_BASE_URL; some servers do not list models and work all the same".to_owned(),
        )),
        Err(error) => Err(broken(
            format!("cannot be reached: {}", root(&error)),
            "check OPENAI_BASE_URL and the network",
        )),
    }
}

/// Looks, without loading lfx: that takes many seconds.
pub(super) async fn python(settings: &flowfleet_python::Settings) -> Found {
    match flowfleet_python::check(&settings.venv()).await {
        Ok(found) => {
            let on = if settings.enabled {
                ""
            } else {
                "; not enabled here"
            };
            let openai = if found.openai {
                ""
            } else {
                ", without a client for OpenAI"
            };
            Ok(format!(
                "lfx {} on Python {}{openai}{on}",
                found.lfx, found.python
            ))
        }
        Err(_) if !settings.enabled => {
            Ok("not installed, not enabled: flows run natively or not at all".to_owned())
        }
        Err(error) => Err(broken(
            error,
            "flowfleet python install, then flowfleet python check",
        )),
    }
}

fn root(error: &dyn std::error::Error) -> String {
    let mut deepest = error;
    while let Some(source) = deepest.source() {
        deepest = source;
    }
    deepest.to_string()
}
