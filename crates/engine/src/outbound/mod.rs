//! The way out: the clients by which flows reach other machines, and where they may not.
//!
//! Owns the connections, the addresses and hosts that are refused or allowed, and fetching pages. What is asked of a
//! model is `model`'s business, what a page says is the components'.

mod address;
mod fetch;
mod hosts;
mod settings;
mod text;

use std::sync::Arc;
use std::time::Duration;

use reqwest::dns::Resolve;

pub(crate) use address::{Reach, Refused, literal};
pub(crate) use fetch::{Answer, Fetch, FetchError, keeps_credentials, shown};
pub use hosts::{Host, InvalidHost};
pub use settings::OutboundSettings;
pub(crate) use text::{Charset, decoded};

/// A server that does not even accept a connection by then is away.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// The clients of a process. They keep connections open and are cheap to clone.
#[derive(Debug, Clone)]
pub struct Http {
    /// For model servers that a flow or a run names.
    models: reqwest::Client,
    /// For pages that a flow, a run or a model names.
    pages: reqwest::Client,
    /// For servers that the operator named; connections are not shared with the others.
    trusted: reqwest::Client,
}

impl Http {
    /// It fails only where no TLS can be set up.
    pub fn new() -> Result<Self, reqwest::Error> {
        Self::build(Arc::new(address::System), |client| client)
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
        let guarded = |reach| {
            let names = Arc::clone(&names);
            client().dns_resolver(address::Guard { names, reach }).build()
        };
        Ok(Self {
            models: guarded(Reach::Models)?,
            pages: guarded(Reach::Public)?,
            trusted: client().dns_resolver(names).build()?,
        })
    }

    /// The client for model servers.
    pub(crate) fn client(&self, trusted: bool) -> &reqwest::Client {
        if trusted { &self.trusted } else { &self.models }
    }

    /// The client for a page, if the page may be fetched. Names are looked at again when they have been resolved.
    pub(crate) fn page_client(
        &self,
        url: &reqwest::Url,
        settings: &OutboundSettings,
    ) -> Result<&reqwest::Client, Refused> {
        if settings.hosts.iter().any(|host| host.matches(url)) {
            return Ok(&self.trusted);
        }
        match literal(url) {
            Some(address) if Reach::Public.refuses(address) => Err(Refused),
            _ => Ok(&self.pages),
        }
    }

    /// Names are resolved by `names`, and no proxy stands between.
    #[cfg(test)]
    pub(crate) fn resolving(names: impl Resolve + 'static) -> Self {
        Self::build(Arc::new(names), reqwest::ClientBuilder::no_proxy).unwrap()
    }
}
