//! `flowfleet doctor`: looks at everything a fleet needs and says what to do about what is wrong.

use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use clap::Args as ClapArgs;
use flowfleet_core::QueueName;
use flowfleet_runtime::settings::Backends;
use serde_json::{Value, json};

use super::{Context, migrate};
use crate::embedded;
use crate::failure::{Code, Failure, Result};
use crate::term::Paint;
use crate::text;

const EXAMPLES: &str = "\
Examples:
  flowfleet doctor
  flowfleet doctor --data /var/lib/flowfleet
  flowfleet doctor --config /etc/flowfleet/worker.toml
  FLOWFLEET_STORE_URL=postgres://flowfleet@db/flowfleet FLOWFLEET_QUEUE_URL=amqp://mq flowfleet doctor --json

Looks at the backends the services would use from here (flags, FLOWFLEET_STORE_URL, ..., --config), at the server of
--url, and at the model credentials in this environment. Exits with 3 when something is broken.";

/// Time for one check.
const PATIENCE: Duration = Duration::from_secs(10);

/// Options of `doctor`.
#[derive(Debug, ClapArgs)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// A configuration file of the services
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The data directory of `flowfleet up`
    #[arg(long, value_name = "DIR", conflicts_with_all = ["config", "store_url"])]
    data: Option<PathBuf>,
    #[arg(long, value_name = "URL", help = "The store")]
    store_url: Option<String>,
    #[arg(long, value_name = "URL", help = "The queue")]
    queue_url: Option<String>,
    #[arg(long, value_name = "URL", help = "The bus")]
    bus_url: Option<String>,
    #[arg(long, value_name = "URL", help = "The blob store")]
    blob_url: Option<String>,
    /// As JSON
    #[arg(long)]
    json: bool,
}

/// How one check came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Status {
    Ok,
    /// Works, but something is worth knowing.
    Warn,
    Fail,
}

/// One check.
#[derive(Debug, Clone)]
struct Check {
    name: &'static str,
    /// What was looked at, without secrets.
    target: String,
    status: Status,
    detail: String,
    /// What to do.
    advice: Option<String>,
}

/// What a check found: a sentence, or a sentence and what to do.
type Found = std::result::Result<String, (Status, String, String)>;

fn broken(detail: impl std::fmt::Display, advice: impl Into<String>) -> (Status, String, String) {
    (Status::Fail, detail.to_string(), advice.into())
}

pub(crate) async fn run(args: Args, context: &Context) -> Result {
    let backends = backends(&args)?;
    let (store, queue) = (backends.store_url.expose(), backends.queue_url.expose());
    let (bus, blob) = (backends.bus_url.expose(), backends.blob_url.expose());
    let shown = flowfleet_runtime::redact::url;
    let (store, queue, bus, blob, dispatcher, model) = tokio::join!(
        check("store", shown(store), check_store(store)),
        check("queue", shown(queue), check_queue(queue)),
        check("bus", shown(bus), check_bus(bus)),
        check("blob", shown(blob), check_blob(blob)),
        check(
            "dispatcher",
            context.global.url.clone(),
            check_dispatcher(context)
        ),
        check("model", model_url(), check_model()),
    );
    let checks = [store, queue, bus, blob, dispatcher, model];
    let failed = checks.iter().any(|check| check.status == Status::Fail);
    if args.json {
        let items: Vec<Value> = checks.iter().map(Check::to_json).collect();
        context.term.json(&json!({"ok": !failed, "checks": items}))?;
    } else {
        for check in &checks {
            context.term.line(&check.line(context))?;
        }
    }
    if failed {
        Err(Failure::said(Code::Reach))
    } else {
        Ok(())
    }
}

fn backends(args: &Args) -> Result<Backends> {
    let mut flags = toml::Table::new();
    let data = args.data.as_deref();
    for (key, value) in [
        (
            "store_url",
            args.store_url.clone().or_else(|| data.map(embedded::store_url)),
        ),
        (
            "queue_url",
            args.queue_url
                .clone()
                .or_else(|| data.map(|_| "memory:".to_owned())),
        ),
        (
            "bus_url",
            args.bus_url
                .clone()
                .or_else(|| data.map(|_| "memory:".to_owned())),
        ),
        (
            "blob_url",
            args.blob_url.clone().or_else(|| data.map(embedded::blob_url)),
        ),
    ] {
        if let Some(value) = value {
            flags.insert(key.to_owned(), value.into());
        }
    }
    super::backends::load(args.config.as_deref(), flags)
}

async fn check(name: &'static str, target: String, found: impl Future<Output = Found>) -> Check {
    let found = tokio::time::timeout(PATIENCE, found).await.unwrap_or_else(|_| {
        Err(broken(
            format!("no answer within {}", text::seconds(PATIENCE.as_secs_f64())),
            "check the address and the network",
        ))
    });
    match found {
        Ok(detail) => Check {
            name,
            target,
            status: Status::Ok,
            detail,
            advice: None,
        },
        Err((status, detail, advice)) => Check {
            name,
            target,
            status,
            detail,
            advice: Some(advice),
        },
    }
}

async fn check_store(url: &str) -> Found {
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
    Ok(format!(
        "answers, schema is up to date, {} queued, {} running",
        text::count(queued),
        text::count(running)
    ))
}

async fn check_queue(url: &str) -> Found {
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
    let depth = queue.depth(&QueueName::default()).await.map_err(|error| {
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

async fn check_bus(url: &str) -> Found {
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

async fn check_blob(url: &str) -> Found {
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

async fn check_dispatcher(context: &Context) -> Found {
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

fn model_url() -> String {
    variable("OPENAI_BASE_URL")
        .or_else(|| variable("OPENAI_API_BASE"))
        .unwrap_or_else(|| "https://api.openai.com/v1".to_owned())
}

async fn check_model() -> Found {
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

fn root(error: &dyn std::error::Error) -> String {
    let mut deepest = error;
    while let Some(source) = deepest.source() {
        deepest = source;
    }
    deepest.to_string()
}

impl Status {
    fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "fail",
        }
    }
}

impl Check {
    fn to_json(&self) -> Value {
        json!({"check": self.name, "target": self.target, "status": self.status.word(), "detail": self.detail,
            "advice": self.advice})
    }

    fn line(&self, context: &Context) -> String {
        let term = context.term;
        let paint = match self.status {
            Status::Ok => Paint::Good,
            Status::Warn => Paint::Warn,
            Status::Fail => Paint::Error,
        };
        let status = term.paint(&format!("{:<4}", self.status.word()), paint);
        let target = term.paint(&self.target, Paint::Dim);
        let mut line = format!("{status}  {:<10}  {}  {target}", self.name, self.detail);
        if let Some(advice) = &self.advice {
            line.push_str(&format!(
                "\n      {:<10}  {} {advice}",
                "",
                term.paint("try:", Paint::Accent)
            ));
        }
        line
    }
}
