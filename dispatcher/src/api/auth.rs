//! Who is calling and what they may do.
//!
//! A key names a tenant and a role. Without any key in the store, a dispatcher that listens on loopback treats every
//! local caller as admin of the default tenant; once a key exists, keys are needed. Answers are cached briefly.

use std::borrow::Cow;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use flowfleet_core::port::{Actor, KeyRecord, Role, Store};
use flowfleet_core::{PortError, Tenant};
use moka::future::Cache;
use tokio::sync::Mutex;

use super::problem::{Code, Problem};
use crate::app::{App, Shared};
use crate::keys;

/// How long a key is believed after it was looked up, and so how long a revoked one may still work elsewhere.
const KNOWN_FOR: Duration = Duration::from_secs(10);
/// How long an unknown key is refused without a look.
const UNKNOWN_FOR: Duration = Duration::from_secs(5);
/// How long the answer to "is there any key" is believed.
const ANY_FOR: Duration = Duration::from_secs(3);
/// The longest key worth hashing.
const MAX_KEY: usize = 256;

/// Whoever made the request.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    pub tenant: Tenant,
    pub role: Role,
    pub name: Cow<'static, str>,
}

impl Caller {
    pub(crate) fn actor(&self) -> Actor {
        Actor {
            tenant: self.tenant.clone(),
            name: self.name.to_string(),
        }
    }
}

/// Looks keys up, with bounded caches: one for keys that exist, a small one for those that do not.
#[derive(Debug)]
pub(crate) struct Keys {
    store: Arc<dyn Store>,
    loopback: bool,
    known: Cache<String, Arc<KeyRecord>>,
    unknown: Cache<String, ()>,
    any: RwLock<Option<(Instant, bool)>>,
    /// Held by whoever looks whether there is any key: the others wait for its answer.
    looking: Mutex<()>,
}

impl Keys {
    pub(crate) fn new(store: Arc<dyn Store>, loopback: bool) -> Self {
        Self {
            store,
            loopback,
            known: Cache::builder()
                .max_capacity(10_000)
                .time_to_live(KNOWN_FOR)
                .build(),
            unknown: Cache::builder()
                .max_capacity(1_000)
                .time_to_live(UNKNOWN_FOR)
                .build(),
            any: RwLock::new(None),
            looking: Mutex::new(()),
        }
    }

    /// Forgets what was looked up: a key was made or revoked here.
    pub(crate) async fn forget(&self) {
        self.known.invalidate_all();
        self.unknown.invalidate_all();
        // After a look that began before.
        let _looking = self.looking.lock().await;
        self.say(None);
    }

    fn say(&self, any: Option<(Instant, bool)>) {
        *self.any.write().unwrap_or_else(PoisonError::into_inner) = any;
    }

    /// The answer to "is there any key", if it is believed.
    fn any(&self) -> Option<bool> {
        let (at, found) = (*self.any.read().unwrap_or_else(PoisonError::into_inner))?;
        (at.elapsed() < ANY_FOR).then_some(found)
    }

    /// Whether keys are not needed.
    pub(crate) async fn open(&self) -> Result<bool, PortError> {
        if !self.loopback {
            return Ok(false);
        }
        if let Some(found) = self.any() {
            return Ok(!found);
        }
        let _looking = self.looking.lock().await;
        if let Some(found) = self.any() {
            return Ok(!found);
        }
        let found = self.store.any_key().await?;
        self.say(Some((Instant::now(), found)));
        Ok(!found)
    }

    async fn look_up(&self, key: &str) -> Result<Option<Arc<KeyRecord>>, PortError> {
        if key.len() > MAX_KEY || !key.starts_with(keys::PREFIX) {
            return Ok(None);
        }
        let hash = keys::hash(key);
        if let Some(record) = self.known.get(&hash).await {
            return Ok(Some(record));
        }
        if self.unknown.contains_key(&hash) {
            return Ok(None);
        }
        let Some(record) = self.store.key_by_hash(&hash).await? else {
            self.unknown.insert(hash, ()).await;
            return Ok(None);
        };
        let record = Arc::new(record);
        self.known.insert(hash, record.clone()).await;
        Ok(Some(record))
    }

    async fn caller(&self, headers: &HeaderMap) -> Result<Caller, Problem> {
        if self.open().await? {
            local_only(headers)?;
            return Ok(Caller {
                tenant: Tenant::default(),
                role: Role::Admin,
                name: Cow::Borrowed("loopback"),
            });
        }
        let Some(key) = presented(headers)? else {
            return Err(Problem::new(
                Code::Unauthorized,
                "send an API key as `Authorization: Bearer ff_...` or `x-api-key`; an admin makes one with \
                 `flowfleet keys create`",
            ));
        };
        match self.look_up(key).await? {
            Some(record) => Ok(Caller {
                tenant: record.tenant.clone(),
                role: record.role,
                name: record.id.to_string().into(),
            }),
            None => Err(Problem::new(
                Code::Unauthorized,
                "this API key is not known or was revoked",
            )),
        }
    }
}

/// The key in the request, if any.
fn presented(headers: &HeaderMap) -> Result<Option<&str>, Problem> {
    let bad = || {
        Problem::new(
            Code::Unauthorized,
            "the header Authorization must look like `Bearer ff_...`",
        )
    };
    if let Some(value) = headers.get(header::AUTHORIZATION) {
        let text = value.to_str().map_err(|_| bad())?;
        let (scheme, key) = text.split_once(' ').ok_or_else(bad)?;
        if !scheme.eq_ignore_ascii_case("bearer") {
            return Err(bad());
        }
        return Ok(Some(key.trim()));
    }
    headers
        .get("x-api-key")
        .map(|value| value.to_str().map(str::trim))
        .transpose()
        .map_err(|_| Problem::new(Code::Unauthorized, "the header x-api-key is not text"))
}

/// Without keys, a web page elsewhere must not reach this server through the browser of its user: neither by a
/// name that resolves to loopback, nor by a request across origins.
fn local_only(headers: &HeaderMap) -> Result<(), Problem> {
    let local = |host: &str| {
        let name = match host.rsplit_once(':') {
            Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
            _ => host,
        };
        let name = name.trim_start_matches('[').trim_end_matches(']');
        name.eq_ignore_ascii_case("localhost")
            || name
                .parse::<std::net::IpAddr>()
                .is_ok_and(|address| address.is_loopback())
    };
    let host_is_fine = headers
        .get(header::HOST)
        .is_none_or(|host| host.to_str().is_ok_and(local));
    let origin_is_fine = headers.get(header::ORIGIN).is_none_or(|origin| {
        origin
            .to_str()
            .ok()
            .and_then(|text| text.split_once("://"))
            .is_some_and(|(_, host)| local(host))
    });
    if host_is_fine && origin_is_fine {
        return Ok(());
    }
    Err(Problem::new(
        Code::Forbidden,
        "without API keys only local callers are served (hosts localhost and 127.0.0.1): make a key with \
         `flowfleet keys create` and send it",
    ))
}

async fn allowed(parts: &Parts, app: &App, needed: Role) -> Result<Caller, Problem> {
    let caller = app.keys.caller(&parts.headers).await?;
    if caller.role.includes(needed) {
        return Ok(caller);
    }
    Err(Problem::new(
        Code::Forbidden,
        format!(
            "this call needs the role {}, the key has {}",
            needed.as_str(),
            caller.role.as_str()
        ),
    ))
}

macro_rules! role {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug)]
        pub(crate) struct $name(pub Caller);

        impl FromRequestParts<Shared> for $name {
            type Rejection = Problem;

            async fn from_request_parts(parts: &mut Parts, app: &Shared) -> Result<Self, Problem> {
                allowed(parts, app, Role::$name).await.map(Self)
            }
        }
    };
}

role!(
    /// A handler with this argument needs the role `read`.
    Read
);
role!(
    /// A handler with this argument needs the role `submit`.
    Submit
);
role!(
    /// A handler with this argument needs the role `admin`.
    Admin
);

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
            .collect()
    }

    #[test]
    fn keys_are_found_in_both_headers() {
        assert_eq!(
            presented(&headers(&[("authorization", "Bearer ff_a")])).unwrap(),
            Some("ff_a")
        );
        assert_eq!(
            presented(&headers(&[("authorization", "bearer  ff_a")])).unwrap(),
            Some("ff_a")
        );
        assert_eq!(
            presented(&headers(&[("x-api-key", "ff_b")])).unwrap(),
            Some("ff_b")
        );
        assert_eq!(presented(&headers(&[])).unwrap(), None);
        assert!(presented(&headers(&[("authorization", "Basic abc")])).is_err());
        assert!(presented(&headers(&[("authorization", "ff_a")])).is_err());
    }

    #[test]
    fn without_keys_only_local_names_are_served() {
        for host in [
            "localhost",
            "localhost:7700",
            "127.0.0.1:7700",
            "[::1]:7700",
            "127.1.2.3",
        ] {
            local_only(&headers(&[("host", host)])).unwrap();
        }
        for host in [
            "evil.example",
            "evil.example:7700",
            "10.0.0.1:7700",
            "localhost.evil.example",
        ] {
            assert!(local_only(&headers(&[("host", host)])).is_err(), "{host}");
        }
        local_only(&headers(&[
            ("host", "localhost:1"),
            ("origin", "http://localhost:7700"),
        ]))
        .unwrap();
        for origin in ["https://evil.example", "null", "http://127.0.0.1.evil.example"] {
            assert!(
                local_only(&headers(&[("host", "localhost"), ("origin", origin)])).is_err(),
                "{origin}"
            );
        }
    }
}
