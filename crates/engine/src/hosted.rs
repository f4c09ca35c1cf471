//! What a run is for a host that executes the whole flow outside this engine: everything the request and the operator
//! say about it, settled by the rules that hold for native runs.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value as Json;

use crate::outcome;
use crate::plan::Plan;
use crate::prepare::Prepared;
use crate::request::{InputType, OutputType, Request, RequestError};
use crate::run::{Outcome, Services};
use crate::variables;

/// Variables of the operator's environment that components look up without the flow naming them: where models,
/// embeddings and searches are, and the keys for them.
const COMMON: [&str; 39] = [
    "ANTHROPIC_API_KEY",
    "ANTHROPIC_API_URL",
    "ANTHROPIC_BASE_URL",
    "ASTRA_DB_API_ENDPOINT",
    "ASTRA_DB_APPLICATION_TOKEN",
    "AZURE_AI_FOUNDRY_API_KEY",
    "AZURE_AI_FOUNDRY_API_VERSION",
    "AZURE_AI_FOUNDRY_ENDPOINT",
    "AZURE_OPENAI_API_DEPLOYMENT_NAME",
    "AZURE_OPENAI_API_EMBEDDINGS_DEPLOYMENT_NAME",
    "AZURE_OPENAI_API_INSTANCE_NAME",
    "AZURE_OPENAI_API_KEY",
    "AZURE_OPENAI_API_VERSION",
    "COHERE_API_KEY",
    "COMETAPI_KEY",
    "COMPOSIO_API_KEY",
    "GOOGLE_API_KEY",
    "GROQ_API_KEY",
    "HUGGINGFACEHUB_API_TOKEN",
    "MISTRAL_API_KEY",
    "NOVITA_API_KEY",
    "NVIDIA_API_KEY",
    "OLLAMA_BASE_URL",
    "OPENAI_API_BASE",
    "OPENAI_API_KEY",
    "OPENAI_BASE_URL",
    "OPENROUTER_API_KEY",
    "OPENROUTER_APP_NAME",
    "OPENROUTER_SITE_URL",
    "PINECONE_API_KEY",
    "SAMBANOVA_API_KEY",
    "SEARCHAPI_API_KEY",
    "SERPAPI_API_KEY",
    "TAVILY_API_KEY",
    "UPSTASH_VECTOR_REST_TOKEN",
    "UPSTASH_VECTOR_REST_URL",
    "WATSONX_APIKEY",
    "WATSONX_PROJECT_ID",
    "WATSONX_URL",
];

/// One run of a whole flow.
#[derive(Debug, Clone)]
pub struct Hosted {
    pub session_id: String,
    /// What messages call the flow.
    pub flow_id: Option<String>,
    /// `None` leaves the flow's own.
    pub input: Option<String>,
    pub input_type: InputType,
    pub output_type: OutputType,
    pub output_component: Option<String>,
    pub tweaks: Json,
    /// What fields and components may look up, by name: the request's own, then what of the operator's environment
    /// a flow may read.
    pub variables: BTreeMap<String, String>,
}

impl Plan {
    /// Settles a request, or says why this flow does not take it.
    pub fn hosted(
        &self,
        request: &Request,
        run_id: &str,
        services: &Services,
    ) -> Result<Hosted, RequestError> {
        let prepared = Prepared::new(self, request, run_id)?;
        let lookup = variables::lookup(&request.variables, &services.environment);
        let named = prepared.variable_names(self);
        let operators = COMMON
            .iter()
            .map(|name| (*name).to_owned())
            .chain(named)
            .filter(|name| !is_rerouted(name, &request.variables))
            .filter_map(|name| lookup(&name).map(|value| (name, value)));
        let own = request.variables.keys();
        let own = own.filter_map(|name| lookup(name).map(|value| (name.clone(), value)));
        Ok(Hosted {
            variables: operators.chain(own).collect(),
            session_id: prepared.session_id,
            flow_id: request.langflow_id.clone().or_else(|| self.flow_id.clone()),
            input: prepared.input,
            input_type: request.input_type,
            output_type: request.output_type,
            output_component: request.output_component.clone(),
            tweaks: request.tweaks.clone(),
        })
    }
}

/// Whether the request sends a provider's calls elsewhere: then the operator's key for that provider stays here.
fn is_rerouted(name: &str, request: &BTreeMap<String, String>) -> bool {
    let provider = |name: &str| name.split('_').next().map(str::to_ascii_uppercase);
    let is_address = |name: &str| {
        let name = name.to_ascii_uppercase();
        ["BASE", "URL", "ENDPOINT", "HOST"]
            .iter()
            .any(|word| name.contains(word))
    };
    request
        .keys()
        .any(|other| is_address(other) && provider(other) == provider(name))
}

impl Outcome {
    /// The outcome of a flow that a host has executed: what each wanted node gave, in order.
    pub fn of_hosted(values: Vec<(String, Json)>, langflow: Option<Json>, session_id: String) -> Self {
        let outputs: BTreeMap<String, Json> = values.iter().cloned().collect();
        Self {
            output: outcome::only(values.into_iter().map(|(_, value)| value).collect()),
            outputs,
            langflow,
            usage: crate::Usage::default(),
            nodes_run: 0,
            nodes_reused: 0,
            session_id,
        }
    }
}

impl Prepared {
    /// Names that fields of the flow, or tweaks, look up.
    fn variable_names(&self, plan: &Plan) -> BTreeSet<String> {
        let mut names = BTreeSet::new();
        for node in 0..plan.nodes.len() {
            for field in self
                .fields(plan, node)
                .values()
                .filter(|field| field.load_from_db)
            {
                names.extend(field.value.as_str().map(str::to_owned));
            }
        }
        names
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::sync::Arc;

    #[test]
    fn an_address_of_the_requests_own_keeps_the_operators_key_away() {
        let request = |name: &str| BTreeMap::from([(name.to_owned(), "x".to_owned())]);
        for (name, variable, expected) in [
            ("OPENAI_API_KEY", "OPENAI_BASE_URL", true),
            ("OPENAI_API_KEY", "openai_api_base", true),
            ("OPENAI_API_KEY", "OPENAI_API_KEY", false),
            ("ANTHROPIC_API_KEY", "OPENAI_BASE_URL", false),
        ] {
            assert_eq!(
                is_rerouted(name, &request(variable)),
                expected,
                "{name} {variable}"
            );
        }
    }

    #[test]
    fn only_what_a_flow_may_read_goes_to_a_host() {
        let document = json!({"id": "f", "data": {"edges": [], "nodes": [{"id": "X-1", "data": {"id": "X-1", "type": "X",
            "node": {"display_name": "X", "outputs": [], "template": {
                "a": {"type": "str", "value": "MY_TOKEN", "load_from_db": true, "show": true},
                "b": {"type": "str", "value": "FLOWFLEET_STORE_URL", "load_from_db": true, "show": true},
                "c": {"type": "str", "value": "NOT_ASKED", "show": true},
                "code": {"type": "code", "value": "class X: pass"}}}}}]}});
        let plan = crate::compile(document.to_string().as_bytes(), &crate::CompileLimits::default()).unwrap();
        let services = Services {
            environment: Arc::new(|name: &str| Some(format!("operator's {name}"))),
            ..Services::from_env().unwrap()
        };
        let mut request = Request::default();
        request.variables.insert("GROQ_API_KEY".into(), "mine".into());
        request.variables.insert("FLOWFLEET_LOG".into(), "mine".into());
        let hosted = plan.hosted(&request, "run", &services).unwrap();
        let found = |name: &str| hosted.variables.get(name).map(String::as_str);
        assert_eq!(found("MY_TOKEN"), Some("operator's MY_TOKEN"));
        assert_eq!(found("OPENAI_API_KEY"), Some("operator's OPENAI_API_KEY"));
        assert_eq!(found("GROQ_API_KEY"), Some("mine"));
        for hidden in [
            "FLOWFLEET_STORE_URL",
            "FLOWFLEET_LOG",
            "NOT_ASKED",
            "PATH",
            "AWS_SECRET_ACCESS_KEY",
        ] {
            assert_eq!(found(hidden), None, "{hidden}");
        }
        assert_eq!(
            (hosted.session_id.as_str(), hosted.flow_id.as_deref()),
            ("f", Some("f"))
        );
    }
}
