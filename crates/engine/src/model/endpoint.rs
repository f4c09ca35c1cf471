//! Where a model is asked and with which key, and which keys may go where.

use std::fmt;

use super::Provider;
use super::fault::refused_address;
use super::settings::HOSTS;
use crate::component::{NodeContext, NodeError};
use crate::outbound::{Reach, literal};

/// A credential: it prints as nothing.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Key(String);

impl Key {
    pub(super) fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(..)")
    }
}

/// A server and the key for it.
#[derive(Debug, Clone)]
pub(crate) struct Endpoint {
    pub provider: Provider,
    pub url: reqwest::Url,
    pub key: Option<Key>,
    /// The operator named this server, so it may have any address.
    pub trusted: bool,
    /// What else is said of the caller.
    pub headers: Vec<(&'static str, String)>,
}

impl Endpoint {
    /// `base` comes from the node; without it the variables say, then it is the provider's own.
    pub(crate) fn of(
        ctx: &NodeContext,
        provider: Provider,
        base: Option<&str>,
        key: Option<String>,
    ) -> Result<Self, NodeError> {
        let base = base
            .map(|base| base.trim().to_owned())
            .filter(|base| !base.is_empty())
            .or_else(|| {
                let mut names = provider.base_variables().iter();
                names.find_map(|name| variable(ctx, name))
            })
            .unwrap_or_else(|| provider.default_base().to_owned());
        let url = chat_url(&base, provider)?;
        let trusted = is_trusted(&url, ctx, provider);
        if !trusted && literal(&url).is_some_and(|address| Reach::Models.refuses(address)) {
            return Err(refused_address(&host(&url)));
        }
        let is_ours = |key: &String| std::env::vars_os().any(|(_, value)| value.to_str() == Some(key));
        if !trusted && key.as_ref().is_some_and(is_ours) {
            return Err(NodeError::permanent(
                "model_unauthorized",
                format!(
                    "the API key of this worker's environment may not be sent to {}: give the flow a key of its own, \
                     or let the operator add the host to {HOSTS}",
                    host(&url)
                ),
            ));
        }
        let headers = provider.attribution().iter();
        let headers = headers.filter_map(|(header, name)| Some((*header, variable(ctx, name)?)));
        Ok(Self {
            provider,
            url,
            key: key.map(Key),
            trusted,
            headers: headers.collect(),
        })
    }

    /// Where the same server embeds texts.
    pub(crate) fn for_embeddings(mut self) -> Self {
        let base = self
            .url
            .path()
            .trim_end_matches(self.provider.path())
            .trim_end_matches('/');
        let path = format!("{base}/embeddings");
        self.url.set_path(&path);
        self
    }

    /// The host and port, for messages.
    pub(crate) fn host(&self) -> String {
        host(&self.url)
    }
}

/// The key a field asks for: the variable it names, or itself. `name` is the provider's usual variable.
pub(crate) fn api_key(ctx: &NodeContext, field: Option<&str>, name: &str) -> Result<String, NodeError> {
    let field = field.map(str::trim).filter(|field| !field.is_empty());
    let found = match field {
        None => variable(ctx, name),
        Some(field) => match variable(ctx, field).filter(|_| is_variable_name(field)) {
            Some(value) => Some(value),
            None if is_variable_name(field) => None,
            None => Some(field.to_owned()),
        },
    };
    found.ok_or_else(|| {
        let asked = field.unwrap_or(name);
        NodeError::permanent(
            "model_unauthorized",
            format!(
                "no API key: variable {asked} has no value; set it in the worker's environment or in the request's variables"
            ),
        )
    })
}

fn variable(ctx: &NodeContext, name: &str) -> Option<String> {
    (ctx.variables)(name)
        .map(|value| value.trim().to_owned())
        .filter(|value| !value.is_empty())
}

/// Keys never look like this; names of variables do.
fn is_variable_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_uppercase())
        && text
            .bytes()
            .all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_')
}

fn chat_url(base: &str, provider: Provider) -> Result<reqwest::Url, NodeError> {
    let invalid = |detail: String| {
        NodeError::permanent(
            "model_bad_request",
            format!(
                "the base URL of the model server {detail}; write it like {}",
                provider.default_base()
            ),
        )
    };
    let url = reqwest::Url::parse(&format!("{}/{}", base.trim_end_matches('/'), provider.path()))
        .map_err(|error| invalid(format!("is not a URL ({error})")))?;
    match url.scheme() {
        "http" | "https" if url.has_host() => Ok(url),
        scheme => Err(invalid(format!("has the scheme {scheme:?}"))),
    }
}

fn host(url: &reqwest::Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port()
        .map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

/// Whether the operator named this server, so that the environment's keys may go there: the provider itself, its base
/// URLs of the environment, and listed hosts.
fn is_trusted(url: &reqwest::Url, ctx: &NodeContext, provider: Provider) -> bool {
    let same = |base: &str| {
        reqwest::Url::parse(base.trim()).is_ok_and(|base| {
            base.scheme() == url.scheme()
                && base.host_str() == url.host_str()
                && base.port_or_known_default() == url.port_or_known_default()
        })
    };
    same(provider.default_base())
        || provider
            .base_variables()
            .iter()
            .filter_map(|name| (ctx.environment)(name))
            .any(|base| same(&base))
        || ctx.model.hosts.iter().any(|host| host.matches(url))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    use crate::components::testing::context;
    use crate::model::ModelSettings;

    #[test]
    fn keys_come_from_the_variable_a_field_names_or_the_field_itself() {
        let (ctx, _) = context(&[("OPENAI_API_KEY", "sk-env"), ("MY_KEY", " sk-mine \n")]);
        let key = |field| api_key(&ctx, field, "OPENAI_API_KEY");
        assert_eq!(key(None).unwrap(), "sk-env");
        assert_eq!(key(Some("")).unwrap(), "sk-env");
        assert_eq!(key(Some("MY_KEY")).unwrap(), "sk-mine");
        assert_eq!(key(Some("sk-literal")).unwrap(), "sk-literal");
        let error = key(Some("NOT_SET")).unwrap_err();
        assert_eq!(error.code, "model_unauthorized");
        assert!(error.message.contains("NOT_SET"), "{error}");
    }

    #[test]
    fn the_base_comes_from_the_node_then_the_variables_then_openai() {
        let (with, _) = context(&[
            ("OPENAI_BASE_URL", "http://gateway:8080/v1/"),
            ("OPENAI_API_BASE", "http://old/v1"),
        ]);
        let (without, _) = context(&[]);
        let url = |ctx, base| {
            Endpoint::of(ctx, Provider::OpenAi, base, Some("sk".to_owned()))
                .map(|endpoint| endpoint.url.to_string())
        };
        assert_eq!(
            url(&with, Some("http://node/v1")).unwrap(),
            "http://node/v1/chat/completions"
        );
        assert_eq!(
            url(&with, Some(" ")).unwrap(),
            "http://gateway:8080/v1/chat/completions"
        );
        assert_eq!(
            url(&without, None).unwrap(),
            "https://api.openai.com/v1/chat/completions"
        );
        for bad in ["file:///etc/passwd", "nonsense", "ftp://host/v1"] {
            assert_eq!(
                url(&without, Some(bad)).unwrap_err().code,
                "model_bad_request",
                "{bad}"
            );
        }
    }

    /// An operator who set a base URL and listed these hosts.
    fn operated(base: &'static str, hosts: &[&str], variables: &[(&str, &str)]) -> NodeContext {
        let (mut ctx, _) = context(variables);
        let run = Arc::make_mut(&mut ctx.run);
        run.environment = Arc::new(move |name| (name == "OPENAI_BASE_URL").then(|| base.to_owned()));
        run.model = Arc::new(ModelSettings {
            hosts: hosts.iter().map(|host| host.parse().unwrap()).collect(),
            ..ModelSettings::default()
        });
        ctx
    }

    #[test]
    fn the_environments_keys_go_only_where_the_operator_said() {
        let hosts = ["models.example.com", "other:9000"];
        // What the run says about itself counts for nothing.
        let variables = [
            (HOSTS, "evil.example.com"),
            ("OPENAI_API_BASE", "http://evil.example.com/v1"),
        ];
        let ctx = operated("http://gateway:8080/v1", &hosts, &variables);
        let cases = [
            ("https://api.openai.com/v1", true),
            ("http://api.openai.com/v1", false),
            ("http://gateway:8080/v1", true),
            ("http://gateway:8081/v1", false),
            ("https://models.example.com/v1", true),
            ("https://other:9000/v1", true),
            ("https://other/v1", false),
            ("https://evil.example.com/v1", false),
            ("http://evil.example.com/v1", false),
        ];
        for (base, expected) in cases {
            let endpoint = Endpoint::of(
                &ctx,
                Provider::OpenAi,
                Some(base),
                Some("sk-of-the-flow".to_owned()),
            )
            .unwrap();
            assert_eq!(endpoint.trusted, expected, "{base}");
        }
    }

    #[test]
    fn metadata_addresses_are_for_the_operator_only() {
        const METADATA: &str = "http://169.254.169.254/v1";
        let of = |ctx: &NodeContext, base| {
            Endpoint::of(ctx, Provider::OpenAi, base, Some("sk-of-the-flow".to_owned()))
        };
        let run = [
            ("OPENAI_BASE_URL", "http://0xa9fea9fe/v1"),
            (HOSTS, "169.254.169.254"),
        ];
        let ctx = operated("http://gateway/v1", &["169.254.1.1", "169.254.2.2:8000"], &run);
        for base in [
            None,
            Some(METADATA),
            Some("http://[::ffff:169.254.170.2]/v1"),
            Some("http://169.254.2.2/v1"),
        ] {
            let error = of(&ctx, base).unwrap_err();
            assert_eq!(
                (error.code, error.retryable),
                ("model_address_refused", false),
                "{base:?}"
            );
            assert!(error.message.contains(HOSTS), "{error}");
        }
        for base in [
            "http://169.254.1.1/v1",
            "http://169.254.2.2:8000/v1",
            "http://10.0.0.1/v1",
        ] {
            assert!(of(&ctx, Some(base)).is_ok(), "{base}");
        }
        assert!(of(&operated(METADATA, &[], &[]), Some(METADATA)).is_ok());
    }

    #[test]
    fn a_key_of_the_environment_is_kept_from_other_hosts() {
        let (name, value) = std::env::vars().find(|(_, value)| value.len() > 3).unwrap();
        let (ctx, _) = context(&[]);
        let error = Endpoint::of(
            &ctx,
            Provider::OpenAi,
            Some("https://evil.example.com/v1"),
            Some(value.clone()),
        )
        .unwrap_err();
        assert_eq!(error.code, "model_unauthorized", "{name}");
        assert!(
            !error.message.contains(&value) || value.contains("example"),
            "{error}"
        );
        assert!(Endpoint::of(&ctx, Provider::OpenAi, None, Some(value)).is_ok());
    }

    #[test]
    fn each_provider_has_its_place() {
        let (with, _) = context(&[
            ("ANTHROPIC_BASE_URL", "http://gateway/anthropic/"),
            ("OLLAMA_BASE_URL", "http://box:11434"),
        ]);
        let (without, _) = context(&[]);
        for (provider, expected, default) in [
            (
                Provider::Anthropic,
                "http://gateway/anthropic/v1/messages",
                "https://api.anthropic.com/v1/messages",
            ),
            (
                Provider::Ollama,
                "http://box:11434/api/chat",
                "http://localhost:11434/api/chat",
            ),
        ] {
            let at = |ctx| Endpoint::of(ctx, provider, None, None).unwrap();
            assert_eq!(at(&with).url.as_str(), expected);
            assert_eq!(at(&without).url.as_str(), default);
            // Only the operator makes a place trusted, and only for this provider.
            assert!(!at(&with).trusted && at(&without).trusted);
            let other = Endpoint::of(&without, Provider::OpenAi, Some(default), None).unwrap();
            assert!(!other.trusted);
        }
    }

    #[test]
    fn keys_do_not_print() {
        let (ctx, _) = context(&[]);
        let endpoint = Endpoint::of(&ctx, Provider::OpenAi, None, Some("sk-secret".to_owned())).unwrap();
        assert!(!format!("{endpoint:?}").contains("secret"));
    }
}
