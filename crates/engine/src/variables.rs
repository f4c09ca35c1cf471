//! Variables: what `load_from_db` fields and credentials name. The request's own come first, then the environment.
//!
//! The name stands in the flow, so its author chooses it. A flow must not read the fleet's own secrets out of the
//! environment by naming them: such names are looked up in the request only. `FLOWFLEET_` names are not even looked up
//! there: they are the operator's settings, and a submitter must not be able to pass for the operator.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::run::Environment;

const OWN_PREFIX: &str = "FLOWFLEET_";

/// Prefixes of configuration that belongs to programs, not to flows.
const RESERVED_PREFIXES: [&str; 6] = [OWN_PREFIX, "LANGFLOW_", "LFX_", "OTEL_", "AWS_", "ECS_"];

/// Names without such a prefix whose value opens something of the operator's.
const RESERVED: [&str; 27] = [
    "AMQP_URL",
    "AZURE_CLIENT_SECRET",
    "CLIENT_SECRET",
    "DATABASE_URL",
    "EMAIL_HOST_PASSWORD",
    "ENCRYPTION_KEY",
    "GCP_SA_KEY",
    "GH_TOKEN",
    "GITHUB_TOKEN",
    "GITLAB_TOKEN",
    "GOOGLE_APPLICATION_CREDENTIALS",
    "JWT_SECRET",
    "JWT_SECRET_KEY",
    "KUBECONFIG",
    "MONGODB_URI",
    "MYSQL_PWD",
    "MYSQL_ROOT_PASSWORD",
    "PGPASSWORD",
    "POSTGRES_PASSWORD",
    "RABBITMQ_DEFAULT_PASS",
    "REDIS_PASSWORD",
    "REDIS_URL",
    "SECRET_KEY",
    "SESSION_SECRET",
    "SIGNING_KEY",
    "SMTP_PASSWORD",
    "VAULT_TOKEN",
];

/// Whether a flow may not read a name from the environment. Upper and lower case are the same here, as they are on
/// some systems.
pub(crate) fn is_reserved(name: &str) -> bool {
    let name = name.to_ascii_uppercase();
    name.is_empty()
        || name.contains(['=', '\0'])
        || RESERVED.contains(&name.as_str())
        || RESERVED_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

/// Whether a name is one of our own settings.
pub(crate) fn is_setting(name: &str) -> bool {
    name.get(..OWN_PREFIX.len())
        .is_some_and(|prefix| prefix.eq_ignore_ascii_case(OWN_PREFIX))
}

/// The lookup of one run.
pub(crate) fn lookup(request: &BTreeMap<String, String>, environment: &Environment) -> Environment {
    let (request, environment) = (request.clone(), Arc::clone(environment));
    Arc::new(move |name: &str| match request.get(name) {
        _ if is_setting(name) => None,
        Some(value) => Some(value.clone()),
        None if is_reserved(name) => None,
        // A variable set to nothing is what `docker run -e NAME` makes of one that is not set.
        None => environment(name).filter(|value| !value.is_empty()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_first_then_environment_never_our_own() {
        let environment: Environment = Arc::new(|name: &str| Some(format!("env {name}")));
        let request = BTreeMap::from([
            ("A".to_owned(), "1".to_owned()),
            ("AWS_SECRET_ACCESS_KEY".into(), "2".into()),
            ("FLOWFLEET_MODEL_HOSTS".into(), "3".into()),
            ("flowfleet_model_hosts".into(), "4".into()),
        ]);
        let lookup = lookup(&request, &environment);
        for (name, expected) in [
            ("A", Some("1")),
            ("OPENAI_API_KEY", Some("env OPENAI_API_KEY")),
            ("AWS_SECRET_ACCESS_KEY", Some("2")),
            ("AWS_SESSION_TOKEN", None),
            ("FLOWFLEET_STORE_URL", None),
            ("FLOWFLEET_MODEL_HOSTS", None),
            ("flowfleet_model_hosts", None),
            ("FLOWFLEET", Some("env FLOWFLEET")),
            ("flowfleet_store_url", None),
            ("langflow_secret_key", None),
            ("DATABASE_URL", None),
            ("", None),
            ("A=B", None),
        ] {
            assert_eq!(lookup(name).as_deref(), expected, "{name}");
        }
    }
}
