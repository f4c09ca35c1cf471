//! Addresses that a flow may not connect to, and resolvers that hide them.
//!
//! Link-local addresses and the metadata services of clouds hand credentials to whoever can connect from the machine;
//! loopback and private addresses are the operator's own network. An address in a URL is looked at before the request,
//! a name when it has been resolved for this very connection, so that no later answer of the DNS counts. Behind an
//! HTTP proxy it is the proxy that resolves names, and it has to refuse.

use std::error::Error as StdError;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

/// Addresses of metadata services outside the link-local network: Azure, Alibaba Cloud, Oracle Cloud.
const METADATA_V4: [Ipv4Addr; 3] = [
    Ipv4Addr::new(168, 63, 129, 16),
    Ipv4Addr::new(100, 100, 100, 200),
    Ipv4Addr::new(192, 0, 0, 192),
];
/// Google Cloud's. Amazon's are all of fd00:ec2::/32.
const METADATA_V6: Ipv6Addr = Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254);

/// Who connects, and so where it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reach {
    /// A model server that a flow names: it may be self-hosted, but no metadata service.
    Models,
    /// A page that a flow, a run or a model names: only the public Internet.
    Public,
}

impl Reach {
    /// Whether it may not connect there.
    pub(crate) fn refuses(self, address: IpAddr) -> bool {
        match self {
            Self::Models => is_metadata(address),
            Self::Public => is_metadata(address) || !is_public(address),
        }
    }
}

/// Whether an address is one that anybody may have: neither private, loopback, shared, reserved nor multicast.
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => is_public_v4(v4),
        IpAddr::V6(v6) => {
            let [first, second, ..] = v6.segments();
            match embedded(v6) {
                Some(v4) => is_public_v4(v4),
                // Of all IPv6 addresses, 2000::/3 are given out; in it 2001::/23 are protocols' own and 2001:db8::/32
                // and 3fff::/20 stand in documents.
                None => {
                    first & 0xe000 == 0x2000
                        && !(first == 0x2001 && (second < 0x0200 || second == 0x0db8))
                        && !(first == 0x3fff && second < 0x1000)
                }
            }
        }
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    let reserved = a == 0
        || a >= 240
        || (a == 100 && (64..128).contains(&b))
        || (a == 192 && b == 0 && c == 0)
        || (a == 192 && b == 88 && c == 99)
        || (a == 198 && (18..20).contains(&b));
    !(reserved
        || address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_documentation()
        || address.is_multicast())
}

/// Whether an address is link-local or a cloud's metadata service, in any of the ways to write it.
fn is_metadata(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => is_metadata_v4(v4),
        IpAddr::V6(v6) => {
            let [first, second, ..] = v6.segments();
            v6.is_unicast_link_local()
                || (first, second) == (0xfd00, 0x0ec2)
                || v6 == METADATA_V6
                || embedded(v6).is_some_and(is_metadata_v4)
        }
    }
}

fn is_metadata_v4(address: Ipv4Addr) -> bool {
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
pub(crate) fn literal(url: &reqwest::Url) -> Option<IpAddr> {
    let host = url.host_str()?;
    host.trim_start_matches('[').trim_end_matches(']').parse().ok()
}

/// Why a connection was not made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it has an address where flows may not connect")]
pub(crate) struct Refused;

impl Refused {
    /// Whether this is why a request failed.
    pub(crate) fn caused(error: &reqwest::Error) -> bool {
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

/// The system's resolver.
pub(super) struct System;

impl Resolve for System {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            // The client puts the port in.
            let addresses = tokio::net::lookup_host((name.as_str(), 0)).await?;
            Ok(Box::new(addresses.collect::<Vec<_>>().into_iter()) as Addrs)
        })
    }
}

/// Hides the addresses a flow may not connect to. Model servers are asked at their other addresses; a name of a public
/// page that has a refused address is refused altogether.
pub(super) struct Guard {
    pub(super) names: Arc<dyn Resolve>,
    pub(super) reach: Reach,
}

impl Resolve for Guard {
    fn resolve(&self, name: Name) -> Resolving {
        let resolving = self.names.resolve(name);
        let reach = self.reach;
        Box::pin(async move {
            let found: Vec<SocketAddr> = resolving.await?.collect();
            let all = found.len();
            let allowed: Vec<_> = found.into_iter().filter(|a| !reach.refuses(a.ip())).collect();
            let refused = match reach {
                Reach::Models => all > 0 && allowed.is_empty(),
                Reach::Public => allowed.len() < all,
            };
            if refused {
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
        let address = literal(&reqwest::Url::parse(base).unwrap());
        address.is_some_and(|address| {
            let refused = Reach::Models.refuses(address);
            assert!(
                !refused || Reach::Public.refuses(address),
                "{base}: pages reach more than models"
            );
            refused
        })
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

    #[test]
    fn pages_are_on_the_public_internet() {
        for address in [
            "0.0.0.0",
            "0.1.2.3",
            "10.1.2.3",
            "100.64.0.1",
            "127.0.0.1",
            "127.1.2.3",
            "169.254.1.1",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.8",
            "192.0.2.1",
            "192.88.99.1",
            "192.168.1.1",
            "198.18.0.1",
            "198.19.255.255",
            "198.51.100.1",
            "203.0.113.7",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::7f00:1",
            "::ffff:10.0.0.1",
            "64:ff9b::7f00:1",
            "64:ff9b:1::1",
            "100::1",
            "2001::1",
            "2001:db8::1",
            "2002:a00:1::1",
            "3fff::1",
            "fc00::1",
            "fd12:3456::1",
            "fe80::1",
            "fec0::1",
            "ff02::1",
        ] {
            assert!(Reach::Public.refuses(address.parse().unwrap()), "{address}");
        }
        for address in [
            "1.1.1.1",
            "8.8.8.8",
            "100.128.0.1",
            "172.32.0.1",
            "192.0.1.1",
            "198.20.0.1",
            "223.255.255.255",
            "2606:4700::1111",
            "2a00:1450:4001::1",
            "::ffff:8.8.8.8",
            "64:ff9b::808:808",
        ] {
            assert!(!Reach::Public.refuses(address.parse().unwrap()), "{address}");
        }
    }
}
