//! What a bus URL says: where Redis is, and what our keys and channels are called there.

use fred::types::RespVersion;
use fred::types::config::Config;

use crate::shard::Shard;

const DEFAULT_PREFIX: &str = "flowfleet";
const MAX_PREFIX: usize = 64;

/// Names keys and channels for one fleet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Names {
    prefix: String,
}

impl Names {
    /// The channel of a shard.
    pub(super) fn shard(&self, shard: Shard) -> String {
        format!("{}:live:{}", self.prefix, shard.number())
    }

    /// Whether a channel is one of our shards'.
    pub(super) fn is_shard(&self, channel: &str) -> bool {
        channel
            .strip_prefix(self.prefix.as_str())
            .is_some_and(|rest| rest.starts_with(":live:"))
    }

    /// The channel of cancels.
    pub(super) fn cancel(&self) -> String {
        format!("{}:cancel", self.prefix)
    }

    /// The hash of workers.
    pub(super) fn workers(&self) -> String {
        format!("{}:workers", self.prefix)
    }
}

/// A parsed bus URL.
#[derive(Debug, Clone)]
pub(super) struct Target {
    pub(super) config: Config,
    pub(super) names: Names,
    /// Host and port, for logs.
    pub(super) place: String,
}

/// Parses a URL. The error never repeats it: it may hold a password.
pub(super) fn parse(url: &str) -> Result<Target, &'static str> {
    const SHAPE: &str = "not a Redis URL: use redis://[USER:PASSWORD@]HOST[:6379][/DATABASE][?prefix=NAME]";
    let mut parsed = url::Url::parse(url).map_err(|_| SHAPE)?;
    let host = parsed.host_str().filter(|host| !host.is_empty()).ok_or(SHAPE)?;
    let place = format!("{host}:{}", parsed.port().unwrap_or(6379));
    let mut prefix = DEFAULT_PREFIX.to_owned();
    let mut nodes = Vec::new();
    for (key, value) in parsed.query_pairs() {
        match &*key {
            "prefix" => prefix = value.into_owned(),
            "node" => nodes.push(value.into_owned()),
            _ => return Err("a Redis URL may have the parameters prefix and node only"),
        }
    }
    let fine = (1..=MAX_PREFIX).contains(&prefix.len())
        && prefix
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b':'));
    if !fine {
        return Err("the prefix of a Redis URL is 1 to 64 of a-z, A-Z, 0-9, '-', '_', '.' and ':'");
    }
    parsed.set_query(None);
    if !nodes.is_empty() {
        parsed
            .query_pairs_mut()
            .extend_pairs(nodes.iter().map(|node| ("node", node)));
    }
    let mut config = Config::from_url(parsed.as_str()).map_err(|_| SHAPE)?;
    // Version 3 answers pings on a subscribing connection as on any other.
    config.version = RespVersion::RESP3;
    Ok(Target {
        config,
        names: Names { prefix },
        place,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_table() {
        for (url, prefix, place, database) in [
            ("redis://127.0.0.1:6379", "flowfleet", "127.0.0.1:6379", None),
            ("redis://h", "flowfleet", "h:6379", None),
            (
                "redis://:pass@h:7000/3?prefix=team-a",
                "team-a",
                "h:7000",
                Some(3),
            ),
        ] {
            let target = parse(url).unwrap();
            assert_eq!(target.names.prefix, prefix);
            assert_eq!(target.place, place);
            assert_eq!(target.config.database, database);
        }
        assert_eq!(
            parse("redis://:pass@h").unwrap().config.password.as_deref(),
            Some("pass")
        );
        assert!(parse("rediss://h").unwrap().config.uses_tls());
        assert!(!parse("redis://h").unwrap().config.uses_tls());
        for bad in [
            "redis://h?prefix=",
            "redis://h?prefix=a%20b",
            "redis://h?ttl=1",
            "redis://",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn channels_table() {
        let names = Names {
            prefix: "a:b".to_owned(),
        };
        let mut channels: Vec<String> = Shard::all().map(|shard| names.shard(shard)).collect();
        assert!(channels.iter().all(|channel| names.is_shard(channel)));
        channels.sort();
        channels.dedup();
        assert_eq!(channels.len(), crate::shard::SHARDS);
        assert!(!names.is_shard(&names.cancel()));
        assert!(!names.is_shard("other:live:1"));
    }
}
