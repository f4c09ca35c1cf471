//! Names that lead where flows may not connect.

use std::net::SocketAddr;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use super::*;
use crate::outbound::Http;

/// Resolves each name to these addresses.
struct Names(Vec<(&'static str, Vec<SocketAddr>)>);

impl Resolve for Names {
    fn resolve(&self, name: Name) -> Resolving {
        let known = self.0.iter().find(|(known, _)| *known == name.as_str());
        let addresses = known
            .map(|(_, addresses)| addresses.clone())
            .ok_or("no such name");
        Box::pin(async move { Ok(Box::new(addresses?.into_iter()) as Addrs) })
    }
}

fn at(address: &str) -> SocketAddr {
    SocketAddr::new(address.parse().unwrap(), 0)
}

async fn asked_by_name(name: &str, port: u16, hosts: &[&str]) -> Result<Reply, NodeError> {
    let (mut ctx, _) = context(&[]);
    Arc::make_mut(&mut ctx.run).http = Http::resolving(Names(vec![
        ("metadata.test", vec![at("169.254.169.254"), at("fd00:ec2::254")]),
        ("local.test", vec![at("fe80::1")]),
        ("mapped.test", vec![at("::ffff:169.254.170.2")]),
        ("mixed.test", vec![at("169.254.169.254"), at("127.0.0.1")]),
    ]));
    Arc::make_mut(&mut ctx.run).model = Arc::new(ModelSettings {
        hosts: hosts.iter().map(|host| host.parse().unwrap()).collect(),
        ..ModelSettings::default()
    });
    let limits = CallLimits {
        first_byte: Duration::from_millis(500),
        max_retries: 0,
        ..quick()
    };
    let question = question(&ctx, &format!("http://{name}:{port}/v1"));
    chat(&ctx, &question, &limits).await
}

#[tokio::test]
async fn a_name_of_a_metadata_address_is_refused_when_connecting() {
    for name in ["metadata.test", "local.test", "mapped.test"] {
        let error = asked_by_name(name, 80, &[]).await.unwrap_err();
        assert_eq!(
            (error.code, error.retryable),
            ("model_address_refused", false),
            "{error}"
        );
        assert!(
            error.message.contains(name) && error.message.contains("FLOWFLEET_MODEL_HOSTS"),
            "{error}"
        );
    }
    let error = asked_by_name("unknown.test", 80, &[]).await.unwrap_err();
    assert_eq!(error.code, "model_unreachable", "{error}");
}

#[tokio::test]
async fn only_the_other_addresses_of_a_name_are_tried() {
    let model = mock::spawn(mock::Config::default()).await.unwrap();
    let base = reqwest::Url::parse(&model.base_url()).unwrap();
    let reply = asked_by_name("mixed.test", base.port().unwrap(), &[]).await;
    assert_eq!(reply.unwrap().text, "echo: hi");
    assert_eq!(model.requests(), 1);
}

#[tokio::test]
async fn a_listed_name_may_have_any_address() {
    // Nobody answers there, but it is tried.
    let error = asked_by_name("local.test", 9, &["local.test:9"])
        .await
        .unwrap_err();
    assert!(
        matches!(error.code, "model_unreachable" | "model_timeout"),
        "{error}"
    );
    let error = asked_by_name("local.test", 9, &["local.test:8"])
        .await
        .unwrap_err();
    assert_eq!(error.code, "model_address_refused", "{error}");
}
