//! `flowfleet doctor`: looks at everything a fleet needs and says what to do about what is wrong.

mod checks;
mod deep;

use std::path::PathBuf;
use std::time::Duration;

use clap::Args as ClapArgs;
use flowfleet_runtime::settings::Backends;
use serde_json::{Value, json};

use super::Context;
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

  flowfleet doctor --deep --store postgres://flowfleet@db/flowfleet
  flowfleet doctor --deep --since all --json

Looks at the backends the services would use from here (flags, FLOWFLEET_STORE_URL, ..., --config), at the server of
--url, and at the model credentials in this environment. Exits with 3 when something is broken.

With --deep it reads the store instead, run by run, and checks that what is written there can have happened: every run
ended once or is live, no finished node ran again, no event is missing, nothing is stuck. It only reads, and may be
called while the fleet works. Exits with 1 when an invariant is violated, with 3 when the store cannot be read.";

/// Time for one check: longer than the adapters' own limits, whose errors say more.
const PATIENCE: Duration = Duration::from_secs(15);

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
    #[arg(long, visible_alias = "store", value_name = "URL", help = "The store")]
    store_url: Option<String>,
    #[arg(long, value_name = "URL", help = "The queue")]
    queue_url: Option<String>,
    #[arg(long, value_name = "URL", help = "The bus")]
    bus_url: Option<String>,
    #[arg(long, value_name = "URL", help = "The blob store")]
    blob_url: Option<String>,
    /// Check the history of every run in the store
    #[arg(long)]
    deep: bool,
    /// With --deep, runs submitted since then: a duration, a time, or `all`
    #[arg(long, value_name = "TIME", default_value = "24h", value_parser = deep::Since::parse, requires = "deep")]
    since: deep::Since,
    /// With --deep, how late something may be before it counts as stuck
    #[arg(long, value_name = "DURATION", default_value = "2m", value_parser = text::parse_duration, requires = "deep")]
    slack: Duration,
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

pub(crate) async fn run(args: Args, context: &Context) -> Result {
    let backends = backends(&args)?;
    if args.deep {
        let walk = deep::Walk {
            since: args.since,
            slack: args.slack,
            json: args.json,
        };
        return deep::run(backends.store_url.expose(), walk, context).await;
    }
    let (store, queue) = (backends.store_url.expose(), backends.queue_url.expose());
    let (bus, blob) = (backends.bus_url.expose(), backends.blob_url.expose());
    let shown = flowfleet_runtime::redact::url;
    let python = crate::commands::python::settings(false)?;
    let (store, queue, bus, blob, dispatcher, model, python) = tokio::join!(
        check("store", shown(store), checks::store(store)),
        check("queue", shown(queue), checks::queue(queue)),
        check("bus", shown(bus), checks::bus(bus)),
        check("blob", shown(blob), checks::blob(blob)),
        check(
            "dispatcher",
            context.global.url.clone(),
            checks::dispatcher(context)
        ),
        check("model", checks::model_url(), checks::model()),
        check(
            "python",
            python.venv().display().to_string(),
            checks::python(&python)
        ),
    );
    let checks = [store, queue, bus, blob, dispatcher, model, python];
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
    crate::commands::backends::load(args.config.as_deref(), flags)
}

async fn check(name: &'static str, target: String, found: impl Future<Output = checks::Found>) -> Check {
    let found = tokio::time::timeout(PATIENCE, found).await.unwrap_or_else(|_| {
        Err(checks::broken(
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
