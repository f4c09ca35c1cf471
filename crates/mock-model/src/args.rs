//! The command line of `flowfleet mock-model`.

use std::net::SocketAddr;

use crate::Config;

/// Options of the mock model.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Address to serve on; port 0 picks a free one
    #[arg(
        long,
        value_name = "ADDR",
        default_value = "127.0.0.1:7780",
        env = "FLOWFLEET_MOCK_MODEL_LISTEN"
    )]
    pub listen: SocketAddr,
    /// Milliseconds before the first token
    #[arg(long, value_name = "MS", default_value_t = 0)]
    pub latency_ms: u64,
    /// At most this many milliseconds more, by seed and message: the same message always waits the same
    #[arg(long, value_name = "MS", default_value_t = 0)]
    pub jitter_ms: u64,
    /// Tokens a second after the first one; 0 sends them at once
    #[arg(long, value_name = "N", default_value_t = 0.0)]
    pub tokens_per_s: f64,
    /// Changes jitter and which requests fail
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,
    /// Let every n-th request fail; 0 for none
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub fail_every: u64,
    /// HTTP status of failures
    #[arg(long, value_name = "STATUS", default_value_t = 429, value_parser = clap::value_parser!(u16).range(400..=599))]
    pub fail_status: u16,
    /// Retry-After of failures, in seconds
    #[arg(long, value_name = "S")]
    pub retry_after_s: Option<u64>,
    /// Refuse requests that do not carry this bearer token
    #[arg(long, value_name = "KEY")]
    pub require_key: Option<String>,
}

impl Args {
    /// The settings these options ask for.
    pub fn config(&self) -> Config {
        Config {
            latency_ms: self.latency_ms,
            jitter_ms: self.jitter_ms,
            tokens_per_s: self.tokens_per_s,
            seed: self.seed,
            fail_every: self.fail_every,
            fail_first: 0,
            fail_status: self.fail_status,
            retry_after_s: self.retry_after_s,
            api_key: self.require_key.clone(),
            keep: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Program {
        #[command(flatten)]
        args: Args,
    }

    #[test]
    fn options_become_settings() {
        let args = |line: &str| Program::try_parse_from(line.split(' ')).map(|program| program.args);
        assert_eq!(args("p").unwrap().config(), Config::default());
        let given = args(
            "p --latency-ms 5 --tokens-per-s 2.5 --fail-every 3 --fail-status 503 --retry-after-s 1 --require-key k",
        );
        assert_eq!(
            given.unwrap().config(),
            Config {
                latency_ms: 5,
                tokens_per_s: 2.5,
                fail_every: 3,
                fail_status: 503,
                retry_after_s: Some(1),
                api_key: Some("k".to_owned()),
                keep: 0,
                ..Config::default()
            }
        );
        for bad in ["p --fail-status 200", "p --listen nowhere", "p --latency-ms -1"] {
            assert!(args(bad).is_err(), "{bad}");
        }
    }
}
