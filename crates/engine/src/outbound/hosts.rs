//! A host the operator lists: a name or an address, with or without a port.

use std::net::Ipv6Addr;
use std::str::FromStr;

/// One entry of the list. Without a port it means every port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// As URLs spell it: lower case, addresses in their usual form, IPv6 in brackets.
    name: String,
    port: Option<u16>,
}

impl Host {
    pub(crate) fn matches(&self, url: &reqwest::Url) -> bool {
        url.host_str() == Some(&self.name)
            && self
                .port
                .is_none_or(|port| url.port_or_known_default() == Some(port))
    }
}

/// What is no host.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not a host: write a name or an address, with or without a port, such as models.example.com:8443"
)]
pub struct InvalidHost(String);

impl FromStr for Host {
    type Err = InvalidHost;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = || InvalidHost(text.to_owned());
        let (name, port) = match text.rsplit_once(':') {
            _ if text.parse::<Ipv6Addr>().is_ok() => (format!("[{text}]"), None),
            Some((name, port)) if !text.ends_with(']') => {
                let port: u16 = port.parse().map_err(|_| invalid())?;
                (name.to_owned(), Some(port))
            }
            _ => (text.to_owned(), None),
        };
        // A pattern would be taken for a name that no server has.
        if name.is_empty() || name.contains(['/', '?', '#', '@', '\\', '*']) {
            return Err(invalid());
        }
        let url = reqwest::Url::parse(&format!("http://{name}/")).map_err(|_| invalid())?;
        match url.host_str() {
            Some(name) if url.port().is_none() => Ok(Self {
                name: name.to_owned(),
                port,
            }),
            _ => Err(invalid()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn which_urls_an_entry_means() {
        for (entry, url, expected) in [
            ("a.example", "https://a.example/v1", true),
            ("a.example", "http://a.example:8080/v1", true),
            ("A.Example", "http://a.example/v1", true),
            ("a.example", "http://b.a.example/v1", false),
            ("a.example:443", "https://a.example/v1", true),
            ("a.example:80", "https://a.example/v1", false),
            ("a.example:8443", "https://a.example:8443/", true),
            ("10.0.0.7:9000", "http://10.0.0.7:9000/", true),
            ("169.254.169.254", "http://0xa9fea9fe/", true),
            ("::1", "http://[::1]:9000/", true),
            ("[::1]:9000", "http://[0:0::1]:9000/", true),
            ("[::1]:9000", "http://[::1]/", false),
        ] {
            let host: Host = entry.parse().unwrap();
            assert_eq!(
                host.matches(&reqwest::Url::parse(url).unwrap()),
                expected,
                "{entry} {url}"
            );
        }
    }

    #[test]
    fn what_is_no_host_is_refused() {
        for bad in [
            "",
            ":80",
            "a:b",
            "a:70000",
            "a:1:2",
            "https://a",
            "a/v1",
            "user@a",
            "*",
            "*.example.com",
            "a b",
            "[::1",
        ] {
            assert!(bad.parse::<Host>().is_err(), "{bad}");
        }
    }
}
