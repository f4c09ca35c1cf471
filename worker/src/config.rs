//! Settings of the worker: its file, its environment and its flags.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;
use flowfleet_core::lease::Term;
use flowfleet_core::{Capabilities, Capability, QueueName};
use flowfleet_runtime::settings::{self, Backends, ConfigError, SecretUrl};
use flowfleet_runtime::telemetry::LogFormat;
use serde::{Deserialize, Serialize};
use toml::{Table, Value};

use crate::place::{self, Lifecycle};

/// Every setting. Each key is also `FLOWFLEET_<KEY>` in the environment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Config {
    pub store_url: SecretUrl,
    pub queue_url: SecretUrl,
    pub bus_url: SecretUrl,
    pub blob_url: SecretUrl,
    /// Queues to take runs from.
    pub queues: Vec<String>,
    /// What this worker can do: `native`, and names of your own. Python comes with its host.
    pub capabilities: Vec<String>,
    /// Runs executed at once. Flows mostly wait for models, so this is far more than there are cores.
    pub slots: u32,
    /// How long a lease lasts, in seconds; it is renewed every third of it.
    pub lease_s: f64,
    /// How long a drain lets runs finish before it hands them back, in seconds.
    pub drain_s: f64,
    /// Messages that a session of a flow remembers at least; older ones are forgotten.
    pub session_messages: u32,
    /// Where health and metrics are served; port 0 picks one.
    pub admin_listen: SocketAddr,
    /// Which lines are logged, such as `info` or `info,flowfleet_worker=debug`.
    pub log: String,
    pub log_format: LogFormat,
    /// What kind of capacity this is.
    pub lifecycle: Lifecycle,
    /// Seconds without a run after which the worker ends; 0: it stays.
    pub idle_exit_s: f64,
    /// Seconds that its queues may have work of which it is given nothing, before its consumer is replaced.
    pub stall_s: f64,
    /// How this machine is called; by default its host name.
    pub name: Option<String>,
    /// Where it runs.
    pub place: place::Settings,
    /// Flows that need Python.
    pub python: flowfleet_python::Settings,
}

impl Default for Config {
    fn default() -> Self {
        let backends = Backends::default();
        Self {
            store_url: backends.store_url,
            queue_url: backends.queue_url,
            bus_url: backends.bus_url,
            blob_url: backends.blob_url,
            queues: vec!["default".to_owned()],
            capabilities: vec![Capability::native().to_string()],
            slots: 64,
            lease_s: 30.0,
            drain_s: 25.0,
            session_messages: 10_000,
            admin_listen: SocketAddr::from(([127, 0, 0, 1], 7701)),
            log: "info".to_owned(),
            log_format: LogFormat::Text,
            lifecycle: Lifecycle::Auto,
            idle_exit_s: 0.0,
            stall_s: 30.0,
            name: None,
            place: place::Settings::default(),
            python: flowfleet_python::Settings::default(),
        }
    }
}

/// Settings that make no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadConfig {
    #[error("{key} must be between {least} and {most}, found {found}")]
    Range {
        key: &'static str,
        least: &'static str,
        most: &'static str,
        found: String,
    },
    #[error("place.metadata_url must begin with http:// or https://, found {0:?}")]
    MetadataUrl(String),
    #[error(transparent)]
    Python(#[from] flowfleet_python::BadSettings),
    #[error("queues must name at least one queue")]
    NoQueue,
    #[error("queues: {0}")]
    Queue(#[from] flowfleet_core::name::BadName),
    #[error("capabilities: {0}")]
    Capability(flowfleet_core::name::BadName),
    #[error(
        "capabilities: python is not a name to give: it is announced by the host for Python once that works"
    )]
    NamesPython,
}

impl Config {
    pub fn check(&self) -> Result<(), BadConfig> {
        let range = |key, fine: bool, least, most, found: String| {
            if fine {
                Ok(())
            } else {
                Err(BadConfig::Range {
                    key,
                    least,
                    most,
                    found,
                })
            }
        };
        range(
            "slots",
            (1..=10_000).contains(&self.slots),
            "1",
            "10000",
            self.slots.to_string(),
        )?;
        range(
            "lease_s",
            (0.2..=3600.0).contains(&self.lease_s),
            "0.2",
            "3600",
            self.lease_s.to_string(),
        )?;
        for name in &self.capabilities {
            let capability: Capability = name.parse().map_err(BadConfig::Capability)?;
            if capability == Capability::python() {
                return Err(BadConfig::NamesPython);
            }
        }
        range(
            "session_messages",
            (1..=1_000_000).contains(&self.session_messages),
            "1",
            "1000000",
            self.session_messages.to_string(),
        )?;
        range(
            "drain_s",
            (0.0..=86_400.0).contains(&self.drain_s),
            "0",
            "86400",
            self.drain_s.to_string(),
        )?;
        range(
            "idle_exit_s",
            (0.0..=604_800.0).contains(&self.idle_exit_s),
            "0",
            "604800",
            self.idle_exit_s.to_string(),
        )?;
        range(
            "stall_s",
            (1.0..=86_400.0).contains(&self.stall_s),
            "1",
            "86400",
            self.stall_s.to_string(),
        )?;
        self.check_place()?;
        self.python.check()?;
        self.queue_names().map(drop)
    }

    fn check_place(&self) -> Result<(), BadConfig> {
        let place = &self.place;
        for (key, fine, least, most, found) in [
            (
                "place.poll_s",
                (0.1..=60.0).contains(&place.poll_s),
                "0.1",
                "60",
                place.poll_s,
            ),
            (
                "place.notice_s",
                (0.0..=110.0).contains(&place.notice_s),
                "0",
                "110",
                place.notice_s,
            ),
            (
                "place.usd_per_hour",
                place
                    .usd_per_hour
                    .is_none_or(|price| (0.0..=10_000.0).contains(&price)),
                "0",
                "10000",
                place.usd_per_hour.unwrap_or_default(),
            ),
        ] {
            if !fine {
                let found = found.to_string();
                return Err(BadConfig::Range {
                    key,
                    least,
                    most,
                    found,
                });
            }
        }
        let http = |url: &&String| !url.starts_with("http://") && !url.starts_with("https://");
        match place.metadata_url.as_ref().filter(http) {
            Some(url) => Err(BadConfig::MetadataUrl(url.clone())),
            None => Ok(()),
        }
    }

    /// What it can do by its settings; names that are wrong were refused before.
    pub(crate) fn capability_set(&self) -> Capabilities {
        self.capabilities
            .iter()
            .filter_map(|name| name.parse().ok())
            .collect()
    }

    pub(crate) fn queue_names(&self) -> Result<Vec<QueueName>, BadConfig> {
        let mut names: Vec<QueueName> = self
            .queues
            .iter()
            .map(|name| name.parse())
            .collect::<Result<_, _>>()?;
        names.sort();
        names.dedup();
        if names.is_empty() {
            Err(BadConfig::NoQueue)
        } else {
            Ok(names)
        }
    }

    pub(crate) fn term(&self) -> Term {
        Term {
            ttl: Duration::from_secs_f64(self.lease_s),
        }
    }

    pub(crate) fn idle_exit(&self) -> Option<Duration> {
        (self.idle_exit_s > 0.0).then(|| Duration::from_secs_f64(self.idle_exit_s))
    }

    pub(crate) fn stall(&self) -> Duration {
        Duration::from_secs_f64(self.stall_s)
    }

    pub(crate) fn drain(&self) -> Duration {
        Duration::from_secs_f64(self.drain_s)
    }
}

const EXAMPLES: &str = "\
Examples:
  # Work for the fleet of this file
  flowfleet-worker --config /etc/flowfleet/worker.toml

  # The same by flags; passwords are better kept in FLOWFLEET_STORE_URL or in the file FLOWFLEET_STORE_URL_FILE names
  flowfleet-worker --store-url postgres://flowfleet@db/flowfleet --queue-url amqp://mq --bus-url redis://cache \\
      --blob-url file:/srv/flowfleet/blobs --queues default,gpu --slots 128

  # See what would be used, secrets masked
  flowfleet-worker --config worker.toml --print-config

  # Drain: stop taking runs, finish short ones, hand the rest back. A second signal stops at once
  kill -TERM \"$(pidof flowfleet-worker)\"

Models are reached as Langflow reaches them: OPENAI_API_KEY, OPENAI_BASE_URL and so on in the environment.
Every key of the file is also FLOWFLEET_<KEY> in the environment. Flags win over the environment, it over the file.";

/// Executes runs of flows.
#[derive(Debug, Parser)]
#[command(name = "flowfleet-worker", version, about, after_help = EXAMPLES)]
pub struct Args {
    /// TOML file with settings
    #[arg(long, value_name = "FILE", env = "FLOWFLEET_CONFIG")]
    pub config: Option<PathBuf>,
    /// Print the settings in use as TOML, secrets masked, and exit
    #[arg(long)]
    pub print_config: bool,
    /// PostgreSQL or SQLite that holds runs and flows
    #[arg(long, value_name = "URL")]
    store_url: Option<String>,
    /// RabbitMQ that announces runs
    #[arg(long, value_name = "URL")]
    queue_url: Option<String>,
    /// Redis for live events and cancels
    #[arg(long, value_name = "URL")]
    bus_url: Option<String>,
    /// Where large payloads lie
    #[arg(long, value_name = "URL")]
    blob_url: Option<String>,
    /// Queues to take runs from [default: default]
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    queues: Option<Vec<String>>,
    /// Runs executed at once [default: 64]
    #[arg(long, value_name = "N")]
    slots: Option<u32>,
    /// Seconds a lease lasts [default: 30]
    #[arg(long, value_name = "SECONDS")]
    lease_s: Option<f64>,
    /// Seconds a drain lets runs finish [default: 25]
    #[arg(long, value_name = "SECONDS")]
    drain_s: Option<f64>,
    /// Address of health and metrics; port 0 picks one [default: 127.0.0.1:7701]
    #[arg(long, value_name = "ADDRESS")]
    admin_listen: Option<SocketAddr>,
    /// Log filter [default: info]
    #[arg(long, value_name = "FILTER")]
    log: Option<String>,
    /// How log lines look [default: text]
    #[arg(long, value_name = "FORMAT")]
    log_format: Option<LogFormat>,
    /// auto, local, spot, on_demand or fargate [default: auto]
    #[arg(long, value_name = "KIND")]
    lifecycle: Option<String>,
    /// Name of this machine [default: its host name]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
}

impl Args {
    /// Defaults, file, environment and flags together, checked.
    pub fn load(self) -> anyhow::Result<Config> {
        let file = self.config.clone();
        let config: Config = settings::load(file.as_deref(), self.flags()?)?;
        config.check()?;
        Ok(config)
    }

    /// The flags that were given, as a layer of settings.
    fn flags(self) -> Result<Table, ConfigError> {
        let mut flags = Table::new();
        let mut set = |key: &str, value: Option<Value>| {
            if let Some(value) = value {
                flags.insert(key.to_owned(), value);
            }
        };
        set("store_url", self.store_url.map(Value::String));
        set("queue_url", self.queue_url.map(Value::String));
        set("bus_url", self.bus_url.map(Value::String));
        set("blob_url", self.blob_url.map(Value::String));
        set(
            "queues",
            self.queues
                .map(|names| Value::Array(names.into_iter().map(Value::String).collect())),
        );
        set("slots", self.slots.map(|n| Value::Integer(n.into())));
        set("lease_s", self.lease_s.map(Value::Float));
        set("drain_s", self.drain_s.map(Value::Float));
        set(
            "admin_listen",
            self.admin_listen
                .map(|address| Value::String(address.to_string())),
        );
        set("log", self.log.map(Value::String));
        let format = self.log_format.map(Value::try_from).transpose();
        set(
            "log_format",
            format.map_err(|error| ConfigError::Defaults(error.to_string()))?,
        );
        set("lifecycle", self.lifecycle.map(Value::String));
        set("name", self.name.map(Value::String));
        Ok(flags)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_valid_and_flags_win() {
        Config::default().check().unwrap();
        let args = [
            "flowfleet-worker",
            "--slots",
            "7",
            "--queues",
            "b,a,b",
            "--lease-s",
            "3",
            "--log-format",
            "json",
        ];
        let config = Args::try_parse_from(args).unwrap().load().unwrap();
        assert_eq!((config.slots, config.lease_s), (7, 3.0));
        assert_eq!(config.log_format, LogFormat::Json);
        let names: Vec<String> = config
            .queue_names()
            .unwrap()
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(names, ["a", "b"]);
    }

    #[test]
    fn refusals_table() {
        let with = |change: fn(&mut Config)| {
            let mut config = Config::default();
            change(&mut config);
            config.check().unwrap_err().to_string()
        };
        for (refused, said) in [
            (
                with(|c| c.slots = 0),
                "slots must be between 1 and 10000, found 0",
            ),
            (with(|c| c.lease_s = 0.0), "lease_s must be"),
            (with(|c| c.lease_s = f64::NAN), "lease_s must be"),
            (with(|c| c.drain_s = -1.0), "drain_s must be"),
            (with(|c| c.session_messages = 0), "session_messages must be"),
            (with(|c| c.idle_exit_s = -1.0), "idle_exit_s must be"),
            (with(|c| c.stall_s = 0.0), "stall_s must be"),
            (with(|c| c.place.poll_s = 0.0), "place.poll_s must be"),
            (with(|c| c.place.notice_s = 120.0), "place.notice_s must be"),
            (
                with(|c| c.place.usd_per_hour = Some(f64::NAN)),
                "place.usd_per_hour must be",
            ),
            (
                with(|c| c.place.metadata_url = Some("here".into())),
                "place.metadata_url must",
            ),
            (with(|c| c.queues.clear()), "at least one queue"),
            (with(|c| c.queues = vec!["a b".into()]), "queues:"),
            (
                with(|c| c.capabilities = vec!["a b".into()]),
                "capabilities: capability",
            ),
            (
                with(|c| c.capabilities = vec!["python".into()]),
                "capabilities: python",
            ),
        ] {
            assert!(refused.contains(said), "{refused}");
        }
    }

    #[test]
    fn the_commented_file_holds_every_key_and_its_default() {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("config.default.toml");
        let config: Config = settings::load_from(Some(&path), &|_| None, Table::new()).unwrap();
        assert_eq!(config, Config::default());
        let text = std::fs::read_to_string(&path).unwrap();
        let keys = serde_json::to_value(Config::default()).unwrap();
        let table = |name: &str| {
            assert!(text.contains(&format!("\n[{name}]\n")));
            keys[name].as_object().unwrap().keys()
        };
        for key in keys
            .as_object()
            .unwrap()
            .keys()
            .chain(table("python"))
            .chain(table("place"))
            .filter(|key| *key != "python" && *key != "place")
        {
            let shown = |line: &str| line.trim_start_matches("# ").starts_with(&format!("{key} = "));
            assert!(text.lines().any(shown), "{key} is not explained");
        }
    }

    #[test]
    fn help_shows_examples() {
        use clap::CommandFactory;
        let help = Args::command().render_long_help().to_string();
        assert!(help.contains("Examples:") && help.contains("--print-config"));
        Args::command().debug_assert();
    }
}
