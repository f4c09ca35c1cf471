//! Addresses of requests: which ones Langflow takes, and what of them is sent.
//!
//! Langflow asks the library `validators`, httpx then writes the address. Both have their own idea of an address; what
//! they and the URL standard read differently is refused.

use std::net::{Ipv4Addr, Ipv6Addr};

use reqwest::Url;
use serde_json::{Map, Value as Json};

use crate::component::NodeError;
use crate::components::quoted::quoted;
use crate::template::to_text;

/// httpx takes no longer one.
const LONGEST: usize = 65_536;

/// What was asked for, in the words of the flow and as it is sent.
#[derive(Debug)]
pub(super) struct Address {
    pub(super) text: String,
    pub(super) url: Url,
}

/// An address in parts.
#[derive(Debug)]
struct Parts<'t> {
    scheme: &'t str,
    authority: &'t str,
    path: &'t str,
    query: &'t str,
    fragment: &'t str,
}

impl Address {
    /// What the field says, without the parameters that are added to it.
    pub(super) fn checked(text: &str) -> Result<String, NodeError> {
        let text = text.trim_matches(is_space);
        if text.is_empty() {
            return Err(NodeError::permanent("url_invalid", "URL cannot be empty"));
        }
        let text = match text.starts_with("http://") || text.starts_with("https://") {
            true => text.to_owned(),
            false => format!("https://{text}"),
        };
        match parts(&text).is_some_and(|parts| parts.is_valid()) && !text.contains(is_space) {
            true => Ok(text),
            false => Err(NodeError::permanent(
                "url_invalid",
                format!("Invalid URL provided: {text}"),
            )),
        }
    }

    /// A checked address with parameters.
    pub(super) fn of(checked: &str, parameters: &Map<String, Json>) -> Result<Self, NodeError> {
        let text = match parameters.is_empty() {
            true => checked.to_owned(),
            false => extended(checked, parameters),
        };
        let url = sent(&text).ok_or_else(|| {
            let detail = format!(
                "the address {text} is read in different ways: write its host in ASCII and its path without encoded dots"
            );
            NodeError::permanent("url_unsupported", detail)
        })?;
        Ok(Self { text, url })
    }
}

fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\x1c'..='\x1f').contains(&c)
}

fn parts(text: &str) -> Option<Parts<'_>> {
    let (scheme, rest) = text.split_once("://")?;
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, rest) = rest.split_at(end);
    let (rest, fragment) = rest.split_once('#').unwrap_or((rest, ""));
    let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
    Some(Parts {
        scheme,
        authority,
        path,
        query,
        fragment,
    })
}

impl Parts<'_> {
    fn is_valid(&self) -> bool {
        let fragment = |c: char| c.is_ascii_alphanumeric() || "?/:@-._~%!$&'()*+,;=#".contains(c);
        let (user, host) = self.authority.rsplit_once('@').unwrap_or(("", self.authority));
        is_host(host)
            && is_user(user)
            && self.path.chars().all(is_of_path)
            && is_query(self.query)
            && self.fragment.chars().all(fragment)
    }
}

fn is_of_path(c: char) -> bool {
    c.is_ascii_alphanumeric()
        || "/-._~!$&'()*+,;=:@%".contains(c)
        || matches!(c, '\u{a0}'..='\u{d7ff}' | '\u{f900}'..='\u{fdcf}' | '\u{fdf0}'..='\u{ffef}')
        || matches!(c, '\u{1f300}'..='\u{1f5ff}' | '\u{1f600}'..='\u{1f64f}')
}

/// A name or an address, and a port.
fn is_host(host: &str) -> bool {
    if let Some(rest) = host.strip_prefix('[') {
        return rest.split_once(']').is_some_and(|(address, port)| {
            address.parse::<Ipv6Addr>().is_ok()
                && (port.is_empty() || port.strip_prefix(':').is_some_and(is_port))
        });
    }
    let name = match host.split_once(':') {
        Some((name, port)) if is_port(port) => name,
        Some(_) => return false,
        None => host,
    };
    is_domain(name) || name.parse::<Ipv4Addr>().is_ok()
}

fn is_port(port: &str) -> bool {
    !port.starts_with(['0', '+']) && port.parse::<u16>().is_ok()
}

/// Labels with dots between them, the last of which ends in a letter. Names in other scripts are told apart later.
fn is_domain(name: &str) -> bool {
    let labels: Vec<&str> = name.split('.').collect();
    let is_label = |label: &&str| {
        let inner = |c: char| c.is_alphanumeric() || c == '-';
        !label.is_empty()
            && label.len() <= 63
            && label.chars().all(inner)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let ends = |label: &&str| label.chars().count() > 1 && label.ends_with(char::is_alphabetic);
    name.len() <= 253 && labels.len() > 1 && labels.iter().all(is_label) && labels.last().is_some_and(ends)
}

fn is_user(user: &str) -> bool {
    user.chars()
        .all(|c| c.is_ascii_alphanumeric() || "-._~!$&'*+=%:".contains(c))
        && user.matches(':').count() < 2
}

/// Every parameter has a value, whether they are written with `&` or with `;`.
fn is_query(query: &str) -> bool {
    let pairs = |mark: char| query.is_empty() || query.split(mark).all(|pair| pair.contains('='));
    let value = |pair: &str| pair.split_once('=').is_some_and(|(_, value)| !value.is_empty());
    pairs('&') && (pairs(';') || !query.split('&').any(value))
}

/// The address with parameters over those it has: in the order they first came, without empty ones.
fn extended(checked: &str, parameters: &Map<String, Json>) -> String {
    let Some(parts) = parts(checked) else {
        return checked.to_owned();
    };
    let mut query: Map<String, Json> = Map::new();
    for pair in parts.query.split('&') {
        if let Some((name, value)) = pair.split_once('=').filter(|(_, value)| !value.is_empty()) {
            query.insert(unquoted(name), unquoted(value).into());
        }
    }
    for (name, value) in parameters {
        query.insert(name.clone(), value.clone());
    }
    let pair = |(name, value): (&String, &Json)| format!("{}={}", quoted(name), quoted(&to_text(value)));
    let query: Vec<String> = query.iter().map(pair).collect();
    // A mark of parameters of the path that has none is lost.
    let last = parts.path.rfind('/').map_or(0, |at| at + 1);
    let path = match parts.path[last..].split_once(';') {
        Some((name, "")) => &parts.path[..last + name.len()],
        _ => parts.path,
    };
    let mut text = format!("{}://{}{path}?{}", parts.scheme, parts.authority, query.join("&"));
    if !parts.fragment.is_empty() {
        text.push('#');
        text.push_str(parts.fragment);
    }
    text
}

/// As httpx sends it.
fn sent(text: &str) -> Option<Url> {
    let parts = parts(text).filter(|parts| parts.authority.is_ascii() && text.len() <= LONGEST)?;
    let dots = |part: &str| matches!(part.to_ascii_lowercase().replace("%2e", ".").as_str(), "." | "..");
    let mut path: Vec<&str> = Vec::new();
    for part in parts.path.split('/') {
        match part {
            "." => {}
            ".." if path == [""] => {}
            ".." => drop(path.pop()),
            part if dots(part) => return None,
            part => path.push(part),
        }
    }
    let path = path.join("/");
    let mark = if parts.query.is_empty() { "" } else { "?" };
    let url = format!(
        "{}://{}{path}{mark}{}",
        parts.scheme, parts.authority, parts.query
    );
    let url = Url::parse(&url).ok()?;
    let host = parts
        .authority
        .rsplit_once('@')
        .map_or(parts.authority, |(_, host)| host);
    let host = host.to_ascii_lowercase();
    // A name that ends in a number is an address to some.
    let is_same = host.starts_with('[') || url.host_str() == host.split(':').next();
    is_same.then_some(url)
}

fn unquoted(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let digits = after.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        let digits = digits.filter(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
        match digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) if *first == b'%' => {
                bytes.push(byte);
                rest = &after[2..];
            }
            _ => {
                bytes.push(if *first == b'+' { b' ' } else { *first });
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// Each expectation was given by validators 0.36 and httpx 0.28.
    #[test]
    fn which_addresses_are_taken_and_what_is_sent() {
        for (text, expected) in [
            ("http://a.example", Some("http://a.example/")),
            (" a.example/x ", Some("https://a.example/x")),
            (
                "http://10.0.0.7:8080/a/b/../c?x=1",
                Some("http://10.0.0.7:8080/a/c?x=1"),
            ),
            ("http://a.example/a/..", Some("http://a.example/")),
            ("http://a.example/a/b/..", Some("http://a.example/a")),
            ("http://[::1]:80/", Some("http://[::1]/")),
            ("http://u:p@a.example/", Some("http://u:p@a.example/")),
            ("http://a.example/ü/100%", Some("http://a.example/%C3%BC/100%")),
            (
                "http://a.example/?q=\"<ü>\"#f",
                Some("http://a.example/?q=%22%3C%C3%BC%3E%22"),
            ),
            ("http://a.example/?a=", Some("http://a.example/?a=")),
            ("http://a.example/?a", None),
            ("http://a.example/?a=1;b", None),
            ("http://a.example/?a=1&&b=1", None),
            ("http://localhost/", None),
            ("http://a.example:0/", None),
            ("http://a.example:80800/", None),
            ("http://a_b.example/", None),
            ("http://a.1/", None),
            ("http://a.example/a b", None),
            ("http://a.example/a\\b", None),
            ("http://a.example/{x}", None),
            ("ftp://a.example/", None),
            ("HTTP://a.example/", None),
        ] {
            let sent = Address::checked(text)
                .and_then(|text| Address::of(&text, &Map::new()))
                .ok();
            assert_eq!(sent.as_ref().map(|sent| sent.url.as_str()), expected, "{text}");
        }
        for text in ["http://1.0x7f/", "http://a.example/%2e%2E/x", "http://ü.example/"] {
            let checked = Address::checked(text).unwrap();
            assert_eq!(
                Address::of(&checked, &Map::new()).unwrap_err().code,
                "url_unsupported"
            );
        }
        assert_eq!(Address::checked(" ").unwrap_err().message, "URL cannot be empty");
    }

    #[test]
    fn parameters_go_over_those_of_the_address() {
        let parameters = json!({"b": [1, true], "a": "é &", "n": null});
        for (text, expected) in [
            (
                "http://a.example?a=1&c=%C3%A9+x&d=&a=2",
                "http://a.example?a=%C3%A9+%26&c=%C3%A9+x&b=%5B1%2C+True%5D&n=None",
            ),
            (
                "http://a.example/x;#f",
                "http://a.example/x?b=%5B1%2C+True%5D&a=%C3%A9+%26&n=None#f",
            ),
        ] {
            let address = Address::of(text, parameters.as_object().unwrap()).unwrap();
            assert_eq!(address.text, expected);
        }
    }
}
