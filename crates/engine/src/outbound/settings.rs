//! The operator's settings of the way out, from the process's environment alone: a run's variables have no say in them.

use super::hosts::Host;
use crate::settings::{InvalidSettings, Reader};

/// Hosts that pages may be fetched from although they are private.
pub(crate) const HOSTS: &str = "FLOWFLEET_FETCH_HOSTS";
const WEB_SEARCH: &str = "FLOWFLEET_WEB_SEARCH_URL";
const NEWS_SEARCH: &str = "FLOWFLEET_NEWS_SEARCH_URL";
const ARXIV: &str = "FLOWFLEET_ARXIV_URL";

/// What the operator says about fetching.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutboundSettings {
    /// Hosts that may have any address.
    pub hosts: Vec<Host>,
    /// Where DuckDuckGo's HTML search is asked, or what answers like it.
    pub web_search: String,
    /// Where Google News' feeds are asked, or what answers like them: `/search`, `/headlines/section/...` below it.
    pub news_search: String,
    /// Where arXiv's API is asked, or what answers like it.
    pub arxiv: String,
}

impl Default for OutboundSettings {
    fn default() -> Self {
        Self {
            hosts: Vec::new(),
            web_search: "https://html.duckduckgo.com/html/".to_owned(),
            news_search: "https://news.google.com/rss".to_owned(),
            arxiv: "http://export.arxiv.org/api/query".to_owned(),
        }
    }
}

impl OutboundSettings {
    /// The defaults, changed by the environment of this process.
    pub fn from_env() -> Result<Self, InvalidSettings> {
        Self::read(&|name| std::env::var_os(name).map(|value| value.to_string_lossy().into_owned()))
    }

    pub(crate) fn read(environment: &dyn Fn(&str) -> Option<String>) -> Result<Self, InvalidSettings> {
        let mut reader = Reader::of(environment);
        let defaults = Self::default();
        let settings = Self {
            hosts: reader.hosts(HOSTS),
            web_search: reader.url(WEB_SEARCH, defaults.web_search),
            news_search: reader.url(NEWS_SEARCH, defaults.news_search),
            arxiv: reader.url(ARXIV, defaults.arxiv),
        };
        reader.end(settings)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&str, &str)]) -> Result<OutboundSettings, InvalidSettings> {
        let find = |name: &str| pairs.iter().find(|(known, _)| *known == name);
        OutboundSettings::read(&|name| find(name).map(|(_, value)| (*value).to_owned()))
    }

    #[test]
    fn the_environment_changes_the_defaults() {
        assert_eq!(read(&[]), Ok(OutboundSettings::default()));
        let settings = read(&[
            (HOSTS, "wiki.internal, 10.0.0.7:8080"),
            (WEB_SEARCH, "http://search.internal/html/"),
        ])
        .unwrap();
        let hosts = ["wiki.internal", "10.0.0.7:8080"].map(|host| host.parse().unwrap());
        assert_eq!(settings.hosts, hosts);
        assert_eq!(settings.web_search, "http://search.internal/html/");
        assert_eq!(settings.news_search, OutboundSettings::default().news_search);
    }

    #[test]
    fn everything_wrong_is_said_at_once() {
        let error = read(&[
            (HOSTS, "*"),
            (WEB_SEARCH, "duckduckgo"),
            (NEWS_SEARCH, "ftp://news"),
        ]);
        let problems = error.unwrap_err().0;
        assert_eq!(problems.len(), 3, "{problems:?}");
        assert!(problems[2].contains("ftp://news"), "{problems:?}");
    }
}
