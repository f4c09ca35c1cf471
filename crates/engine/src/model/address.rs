//! The clients that connect to model servers, and the addresses a flow may not send them to.
//!
//! Link-local addresses and the metadata services of clouds hand credentials to whoever can connect from the machine.
//! A base URL that comes with a flow or a run may therefore not lead there: an address in the URL is looked at before
//! the request, a name when it has been resolved for this very connection, so that no later answer of the DNS
//! counts. Private and loopback addresses are allowed, because self-hosted models live there. Behind an HTTP proxy
//! it is the proxy that resolves names, and it has to refuse.

use std::error::Error as StdError;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

/// A model server that does not even accept a connection by then is away.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Addresses of metadata services outside the link-local network: Azure, Alibaba Cloud, Oracle Cloud.
const METADATA_V4: [Ipv4Addr; 3] = [
    Ipv4Addr::new(168, 63, 129, 16),
    Ipv4Addr::new(100, 100, 100, 200),
    Ipv4Addr::new(192, 0, 0, 192),
];
/// Google Cloud's. Amazon's are all of fd00:ec2::/32.
const METADATA_V6: Ipv6Addr = Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254);

/// Whether an address is link-local or a cloud's metadata service, in any of the ways to write it.
pub(super) fn is_refused(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => is_refused_v4(v4),
        IpAddr::V6(v6) => {
            let [first, second, ..] = v6.segments();
            v6.is_unicast_link_local()
                || (first, second) == (0xfd00, 0x0ec2)
                || v6 == METADATA_V6
                || embedded(v6).is_some_and(is_refused_v4)
        }
    }
}

fn is_refused_v4(address: Ipv4Addr) -> bool {
    address.is_link_local() || METADATA_V4.contains(&address)
}

/// The IPv4 address that an IPv6 address leads to: mapped, compatible, by NAT64 or by 6to4.
fn embedded(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let v4 = |high: u16, low: u16| Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low));
    match address.segments() {
        [0, 0, 0, 0, 0, 0 | 0xffff, high, low]
        | [0, 0, 0, 0, 0xffff, 0, high, low]
        | [0x64, 0xff9b, 0, 0, 0, 0, high, low]
        | [0x2002, high, low, ..] => Some(v4(high, low)),
        _ => None,
    }
}

/// The address a URL names, if it names one; the parser of URLs has read decimal, octal and hexadecimal forms.
pub(super) fn literal(url: &reqwest::Url) -> Option<IpAddr> {
    let host = url.host_str()?;
    host.trim_start_matches('[').trim_end_matches(']').parse().ok()
}

/// Why a connection was not made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it has a link-local or cloud metadata address, where flows may not connect")]
pub(super) struct Refused;

impl Refused {
    /// Whether this is why a request failed.
    pub(super) fn caused(error: &reqwest::Error) -> bool {
        let mut cause: Option<&(dyn StdError + 'static)> = error.source();
        while let Some(error) = cause {
            if error.is::<Self>() {
                return true;
            }
            cause = error.source();
        }
        false
    }
}

/// The clients of a process. They keep connections open and are cheap to clone.
#[derive(Debug, Clone)]
pub struct Http {
    /// For servers that a flow or a run names.
    guarded: reqwest::Client,
    /// For servers that the operator named; connections are not shared with the other one.
    trusted: reqwest::Client,
}

impl Http {
    /// It fails only where no TLS can be set up.
    pub fn new() -> Result<Self, reqwest::Error> {
        Self::build(Arc::new(System), |client| client)
    }

    fn build(
        names: Arc<dyn Resolve>,
        with: impl Fn(reqwest::ClientBuilder) -> reqwest::ClientBuilder,
    ) -> Result<Self, reqwest::Error> {
        // A redirect would take a flow's request, and its key, to a host that nobody checked.
        let client = || {
            with(reqwest::Client::builder())
                .user_agent(concat!("flowfleet/", env!("CARGO_PKG_VERSION")))
                .redirect(reqwest::redirect::Policy::none())
                .connect_timeout(CONNECT_TIMEOUT)
        };
        Ok(Self {
            guarded: client().dns_resolver(Guard(Arc::clone(&names))).build()?,
            trusted: client().dns_resolver(names).build()?,
        })
    }

    pub(super) fn client(&self, trusted: bool) -> &reqwest::Client {
        if trusted { &self.trusted } else { &self.guarded }
    }

    /// Names are resolved by `names`, and no proxy stands between.
    #[cfg(test)]
    pub(super) fn resolving(names: impl Resolve + 'static) -> Self {
        Self::build(Arc::new(names), reqwest::ClientBuilder::no_proxy).unwrap()
    }
}

/// The system's resolver.
struct System;

impl Resolve for System {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            // The client puts the port in.
            let addresses = tokio::net::lookup_host((name.as_str(), 0)).await?;
            Ok(Box::new(addresses.collect::<Vec<_>>().into_iter()) as Addrs)
        })
    }
}

/// Hides the addresses a flow may not connect to; a name without any other is refused.
struct Guard(Arc<dyn Resolve>);

impl Resolve for Guard {
    fn resolve(&self, name: Name) -> Resolving {
        let resolving = self.0.resolve(name);
        Box::pin(async move {
            let found: Vec<SocketAddr> = resolving.await?.collect();
            let some = !found.is_empty();
            let allowed: Vec<_> = found.into_iter().filter(|a| !is_refused(a.ip())).collect();
            if some && allowed.is_empty() {
                return Err(Refused.into());
            }
            Ok(Box::new(allowed.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(base: &str) -> bool {
        literal(&reqwest::Url::parse(base).unwrap()).is_some_and(is_refused)
    }

    #[test]
    fn metadata_addresses_are_refused_however_they_are_written() {
        for base in [
            "http://169.254.169.254/",
            "http://169.254.170.2/v2/credentials",
            "https://169.254.0.1:8443/",
            "http://169.254.169.254./",
            "http://2852039166/",
            "http://0xA9FEA9FE/",
            "http://0xa9.0xfe.0xa9.0xfe/",
            "http://0251.0376.0251.0376/",
            "http://169.254.43518/",
            "http://169.16689662/",
            "http://%31%369.254.169.254/",
            "http://169。254。169。254/",
            "http://[::ffff:169.254.169.254]/",
            "http://[::ffff:a9fe:aa02]/",
            "http://[0:0:0:0:0:ffff:a9fe:a9fe]:80/",
            "http://[::169.254.169.254]/",
            "http://[::ffff:0:169.254.169.254]/",
            "http://[64:ff9b::a9fe:a9fe]/",
            "http://[2002:a9fe:a9fe::1]/",
            "http://[fe80::1]/",
            "http://[febf:ffff::1]/",
            "http://[fd00:ec2::254]/",
            "http://[fd00:0ec2::23]/",
            "http://[fd20:ce::254]/",
            "http://168.63.129.16/",
            "http://100.100.100.200/",
            "http://192.0.0.192/",
        ] {
            assert!(refused(base), "{base}");
        }
    }

    #[test]
    fn self_hosted_models_are_reached() {
        for base in [
            "http://127.0.0.1:7780/v1",
            "http://[::1]:7780/v1",
            "http://10.1.2.3/",
            "http://172.16.0.1/",
            "http://192.168.1.1/",
            "http://[fd12:3456::1]/",
            "http://[::ffff:10.0.0.1]/",
            "http://169.253.255.255/",
            "http://169.255.0.0/",
            "http://[fec0::1]/",
            "https://api.openai.com/v1",
            "http://169.254.169.254.example.com/",
        ] {
            assert!(!refused(base), "{base}");
        }
    }
}
