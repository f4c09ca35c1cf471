//! What an operator can set, with defaults that work on one machine.

use std::net::SocketAddr;

use flowfleet_core::Limits;
use flowfleet_runtime::settings::SecretUrl;
use flowfleet_runtime::telemetry::LogFormat;
use serde::{Deserialize, Serialize};

/// Every key of the dispatcher. Each is also `FLOWFLEET_<KEY>` in the environment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where the API listens. Other addresses than loopback need an API key in the store.
    pub listen: SocketAddr,
    pub store_url: SecretUrl,
    pub queue_url: SecretUrl,
    pub bus_url: SecretUrl,
    pub blob_url: SecretUrl,
    /// A filter as `tracing` reads it.
    pub log: String,
    /// `text` or `json`.
    pub log_format: LogFormat,
    /// Seconds that requests in flight may take once the process was asked to stop.
    pub drain_s: f64,
    pub limits: Limits,
    pub upkeep: Intervals,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 7700)),
            store_url: "sqlite:.flowfleet/flowfleet.db".into(),
            queue_url: "memory:".into(),
            bus_url: "memory:".into(),
            blob_url: "file:.flowfleet/blobs".into(),
            log: "info".to_owned(),
            log_format: LogFormat::default(),
            drain_s: 20.0,
            limits: Limits::default(),
            upkeep: Intervals::default(),
        }
    }
}

/// How often the leader looks, in seconds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Intervals {
    /// Between two tries to become the leader, and two checks that it still is.
    pub lead_s: f64,
    /// Between two looks for leases that ran out.
    pub reap_s: f64,
    /// The longest sleep of the scheduler; it wakes earlier for a run it knows to be due.
    pub schedule_s: f64,
    /// Between two looks for outbox rows that nobody published.
    pub sweep_s: f64,
    /// How old such a row must be.
    pub sweep_age_s: f64,
    /// Between two comparisons of the store's backlog with the broker's depth.
    pub reconcile_s: f64,
    /// How old a run's last message must be before it is published again.
    pub reconcile_age_s: f64,
    /// Between two updates of the gauges.
    pub gauges_s: f64,
    /// Between two checks of the histories of runs; 0 switches them off.
    pub audit_s: f64,
    /// How many runs one check reads at most, about.
    pub audit_runs: u32,
}

impl Default for Intervals {
    fn default() -> Self {
        Self {
            lead_s: 3.0,
            reap_s: 1.0,
            schedule_s: 1.0,
            sweep_s: 5.0,
            sweep_age_s: 5.0,
            reconcile_s: 5.0,
            reconcile_age_s: 10.0,
            gauges_s: 5.0,
            audit_s: 60.0,
            audit_runs: 20_000,
        }
    }
}

impl Config {
    /// Refuses values that could not work, naming the key.
    pub fn check(&self) -> anyhow::Result<()> {
        let upkeep = &self.upkeep;
        let seconds = [
            ("drain_s", self.drain_s),
            ("upkeep.lead_s", upkeep.lead_s),
            ("upkeep.reap_s", upkeep.reap_s),
            ("upkeep.schedule_s", upkeep.schedule_s),
            ("upkeep.sweep_s", upkeep.sweep_s),
            ("upkeep.sweep_age_s", upkeep.sweep_age_s),
            ("upkeep.reconcile_s", upkeep.reconcile_s),
            ("upkeep.reconcile_age_s", upkeep.reconcile_age_s),
            ("upkeep.gauges_s", upkeep.gauges_s),
        ];
        for (key, value) in seconds {
            anyhow::ensure!(
                (0.001..=3600.0).contains(&value),
                "{key} must be between 0.001 and 3600 seconds"
            );
        }
        anyhow::ensure!(
            upkeep.audit_s == 0.0 || (0.001..=3600.0).contains(&upkeep.audit_s),
            "upkeep.audit_s must be between 0.001 and 3600 seconds, or 0 for no checks"
        );
        anyhow::ensure!(
            (1..=1_000_000).contains(&upkeep.audit_runs),
            "upkeep.audit_runs must be between 1 and 1000000"
        );
        // A store may take the leadership from a process that asks nothing for much longer than this.
        anyhow::ensure!(upkeep.lead_s <= 15.0, "upkeep.lead_s must be at most 15 seconds");
        let limits = &self.limits;
        let counts = [
            ("limits.body_bytes", limits.body_bytes),
            ("limits.flow_bytes", limits.flow_bytes),
            ("limits.file_bytes", limits.file_bytes),
            ("limits.batch_bytes", limits.batch_bytes),
            ("limits.batch_runs", limits.batch_runs),
            ("limits.flow_nodes", limits.flow_nodes),
            ("limits.concurrent_requests", limits.concurrent_requests),
            ("limits.listeners", limits.listeners),
        ];
        for (key, value) in counts {
            anyhow::ensure!(value > 0, "{key} must be at least 1");
        }
        anyhow::ensure!(limits.max_attempts > 0, "limits.max_attempts must be at least 1");
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_valid_and_survive_toml() {
        let config = Config::default();
        config.check().unwrap();
        let text = toml::to_string(&config).unwrap();
        assert_eq!(toml::from_str::<Config>(&text).unwrap(), config);
        assert!(toml::from_str::<Config>("lissten = 1").is_err());
    }

    #[test]
    fn the_commented_file_holds_every_key_and_its_default() {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("config.default.toml");
        let config: Config =
            flowfleet_runtime::settings::load_from(Some(&path), &|_| None, toml::Table::new()).unwrap();
        assert_eq!(config, Config::default());
        let text = std::fs::read_to_string(&path).unwrap();
        let keys = serde_json::to_value(Config::default()).unwrap();
        let tables = keys
            .as_object()
            .unwrap()
            .values()
            .filter_map(|value| value.as_object());
        for key in tables.chain(keys.as_object()).flat_map(|table| table.keys()) {
            let shown = |line: &str| {
                let line = line.trim_start_matches("# ");
                line.starts_with(&format!("{key} = ")) || line == format!("[{key}]")
            };
            assert!(text.lines().any(shown), "{key} is not explained");
        }
    }

    #[test]
    fn values_that_cannot_work_are_named() {
        let mut config = Config::default();
        config.upkeep.reap_s = 0.0;
        assert!(config.check().unwrap_err().to_string().contains("upkeep.reap_s"));
        let mut config = Config::default();
        config.upkeep.audit_s = 0.0;
        config.check().unwrap();
        config.upkeep.audit_s = -1.0;
        assert!(config.check().unwrap_err().to_string().contains("upkeep.audit_s"));
        let mut config = Config::default();
        config.upkeep.lead_s = 60.0;
        assert!(config.check().unwrap_err().to_string().contains("at most 15"));
        let mut config = Config::default();
        config.limits.batch_runs = 0;
        assert!(
            config
                .check()
                .unwrap_err()
                .to_string()
                .contains("limits.batch_runs")
        );
    }
}
