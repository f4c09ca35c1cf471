//! Instance metadata of EC2, version 2: a token first, then questions.

use std::sync::{Mutex, PoisonError};

use flowfleet_core::port::Place;
use jiff::Timestamp;
use reqwest::StatusCode;
use serde::Deserialize;
use serde::de::DeserializeOwned;

/// Where EC2 serves it.
pub(super) const ADDRESS: &str = "http://169.254.169.254";

/// Seconds a token lasts at most.
const TOKEN_TTL: &str = "21600";

/// Bytes of an answer that are believed in.
const ANSWER: usize = 64 << 10;

#[derive(Debug, thiserror::Error)]
pub(super) enum Trouble {
    #[error("instance metadata asks to be asked less often ({0})")]
    Busy(StatusCode),
    #[error(
        "instance metadata answers {0}: see whether version 2 is enabled, with a hop limit of 2 in containers"
    )]
    Refused(StatusCode),
    #[error("instance metadata does not answer: {0}")]
    Away(#[from] reqwest::Error),
    #[error("instance metadata says what is not understood")]
    Odd,
}

#[derive(Debug)]
pub(crate) struct Imds {
    http: reqwest::Client,
    base: String,
    token: Mutex<Option<String>>,
}

/// What an instance says of itself.
#[derive(Debug)]
pub(super) struct Instance {
    pub(super) lifecycle: &'static str,
    pub(super) place: Place,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Identity {
    pending_time: Option<Timestamp>,
}

/// Whether the machine's firmware says that it is an instance of EC2: Nitro names its vendor, Xen begins its id so.
pub(super) fn is_ec2() -> bool {
    let says = |path: &str, start: &str| {
        std::fs::read_to_string(path).is_ok_and(|text| text.trim().to_lowercase().starts_with(start))
    };
    says("/sys/class/dmi/id/sys_vendor", "amazon ec2") || says("/sys/hypervisor/uuid", "ec2")
}

impl Imds {
    pub(super) fn new(http: reqwest::Client, base: &str) -> Self {
        Self {
            http,
            base: base.trim_end_matches('/').to_owned(),
            token: Mutex::new(None),
        }
    }

    /// Asks for the instance. Only without its id it is none.
    pub(super) async fn instance(&self) -> Result<Instance, Trouble> {
        let id = self.text("meta-data/instance-id").await?.ok_or(Trouble::Odd)?;
        let (kind, zone, lifecycle, group, identity) = tokio::join!(
            self.text("meta-data/instance-type"),
            self.text("meta-data/placement/availability-zone"),
            self.text("meta-data/instance-life-cycle"),
            // There only if the launch template lets tags be seen.
            self.text("meta-data/tags/instance/aws:autoscaling:groupName"),
            self.json::<Identity>("dynamic/instance-identity/document"),
        );
        let spot = lifecycle?.as_deref() == Some("spot");
        let launched_at = identity.ok().flatten().and_then(|identity| identity.pending_time);
        Ok(Instance {
            lifecycle: if spot { "spot" } else { "on_demand" },
            place: Place {
                pool: group.ok().flatten(),
                provider_id: Some(id),
                instance_type: kind.ok().flatten(),
                zone: zone.ok().flatten(),
                launched_at,
                ..Place::default()
            },
        })
    }

    /// The document at `path`; `None` when there is none.
    pub(super) async fn json<T: DeserializeOwned>(&self, path: &str) -> Result<Option<T>, Trouble> {
        let text = self.text(path).await?;
        let parse = |text: String| serde_json::from_str(&text).map_err(|_| Trouble::Odd);
        text.map(parse).transpose()
    }

    /// What is at `path`; `None` when nothing is.
    pub(super) async fn text(&self, path: &str) -> Result<Option<String>, Trouble> {
        // A token that is not taken any more is replaced once.
        for _ in 0..2 {
            let token = self.token().await?;
            let url = format!("{}/latest/{path}", self.base);
            let asked = self.http.get(url).header("x-aws-ec2-metadata-token", &token);
            let answer = asked.send().await?;
            match answer.status() {
                StatusCode::NOT_FOUND => return Ok(None),
                StatusCode::UNAUTHORIZED => self.keep(None),
                StatusCode::OK => {
                    let text = answer.text().await?;
                    let fine = text.len() <= ANSWER;
                    return if fine {
                        Ok(Some(text.trim().to_owned()))
                    } else {
                        Err(Trouble::Odd)
                    };
                }
                status => return Err(trouble(status)),
            }
        }
        Err(Trouble::Refused(StatusCode::UNAUTHORIZED))
    }

    async fn token(&self) -> Result<String, Trouble> {
        let known = self.token.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(token) = known {
            return Ok(token);
        }
        let url = format!("{}/latest/api/token", self.base);
        let asked = self
            .http
            .put(url)
            .header("x-aws-ec2-metadata-token-ttl-seconds", TOKEN_TTL);
        let answer = asked.send().await?;
        if answer.status() != StatusCode::OK {
            return Err(trouble(answer.status()));
        }
        let token = answer.text().await?;
        self.keep(Some(token.clone()));
        Ok(token)
    }

    fn keep(&self, token: Option<String>) {
        *self.token.lock().unwrap_or_else(PoisonError::into_inner) = token;
    }
}

fn trouble(status: StatusCode) -> Trouble {
    if status == StatusCode::TOO_MANY_REQUESTS || status.is_server_error() {
        Trouble::Busy(status)
    } else {
        Trouble::Refused(status)
    }
}
