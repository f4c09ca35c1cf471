//! Knowledge: brings the rows of a table into a knowledge base, or finds the texts that are nearest to a question.

mod bring;
mod find;
mod rows;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::Value as Json;

use super::params;
use crate::component::{Kind, NodeCall, NodeContext, NodeError, NodeOutput};
use crate::knowledge::{Knowledge, KnowledgeBase, KnowledgeError, Tags};
use crate::model::embed::{AT_ONCE, Embedder, knows};
use crate::model::{Endpoint, Provider, api_key};
use crate::template::to_text;
use crate::value::Value;

/// What was brought.
pub(crate) const KEPT: &str = "dataframe_output";
/// What was found.
pub(crate) const FOUND: &str = "retrieve_data";
pub(crate) const BRING: &str = "Ingest";
pub(crate) const FIND: &str = "Retrieve";
const UNAVAILABLE: &str = "knowledge_unavailable";
const MISSING: &str = "knowledge_missing";
/// The key of a chunk's metadata that holds its tags.
const SOURCE: &str = "source_metadata";

/// What the node does is done once, and both outputs give it.
pub(super) async fn run(call: &NodeCall, ctx: &NodeContext) -> Result<NodeOutput, NodeError> {
    let default = if call.kind == Kind::KnowledgeBase {
        FIND
    } else {
        BRING
    };
    let value = if params::text(call, "mode", default)?.contains(FIND) {
        Value::Table(find::run(call, ctx).await?)
    } else {
        let kept = bring::run(call, ctx).await;
        Value::Data(kept.map_err(|error| NodeError {
            message: format!("Error during KB ingestion: {}", error.message),
            ..error
        })?)
    };
    let mut output = NodeOutput::default();
    for name in crate::node::native_outputs(call.kind) {
        if super::wants(call, name) {
            output.values.insert((*name).to_owned(), value.clone());
        }
    }
    Ok(output)
}

/// Where the knowledge is.
fn port(call: &NodeCall, ctx: &NodeContext) -> Result<Arc<dyn Knowledge>, NodeError> {
    ctx.run.knowledge.clone().ok_or_else(|| {
        let name = &call.node.display_name;
        NodeError::permanent(UNAVAILABLE, format!("{name}: nothing here keeps knowledge"))
    })
}

fn invalid(call: &NodeCall, field: &str, detail: &str) -> NodeError {
    let name = &call.node.display_name;
    NodeError::permanent("field_invalid", format!("field {field} of {name} {detail}"))
}

fn failed(base: &str, error: &KnowledgeError) -> NodeError {
    NodeError {
        code: UNAVAILABLE,
        message: format!("knowledge base {base:?}: {error}"),
        retryable: error.retryable,
    }
}

/// The base that the node names.
async fn base(
    call: &NodeCall,
    knowledge: &dyn Knowledge,
    missing: impl Fn(&str) -> String,
) -> Result<KnowledgeBase, NodeError> {
    let name = params::text(call, "knowledge_base", "")?;
    let found = match name.is_empty() {
        true => None,
        false => knowledge
            .base(&name)
            .await
            .map_err(|error| failed(&name, &error))?,
    };
    found.ok_or_else(|| NodeError::permanent(MISSING, missing(&name)))
}

/// What asks the base's model.
fn embedder(
    call: &NodeCall,
    ctx: &NodeContext,
    base: &KnowledgeBase,
    at_once: usize,
) -> Result<Embedder, NodeError> {
    let KnowledgeBase {
        name,
        provider,
        model,
        ..
    } = base;
    if !provider.eq_ignore_ascii_case("OpenAI") || !knows(model) {
        return Err(NodeError::permanent(
            "model_provider_unsupported",
            format!(
                "knowledge base {name:?} is embedded by {model:?} of {provider:?}, which cannot be asked: make a base \
                 with a text-embedding model of OpenAI"
            ),
        ));
    }
    let key = params::optional_text(call, "api_key")?;
    let key = api_key(ctx, key.as_deref(), "OPENAI_API_KEY")?;
    Ok(Embedder {
        endpoint: Endpoint::of(ctx, Provider::OpenAi, None, Some(key))?.for_embeddings(),
        model: model.clone(),
        at_once,
    })
}

/// A vector as it is kept.
fn narrow(vector: &[f64]) -> Result<Vec<f32>, NodeError> {
    let narrow: Vec<f32> = vector.iter().map(|number| *number as f32).collect();
    if narrow.is_empty() || narrow.iter().any(|number| !number.is_finite()) {
        let detail = "the model server sent a vector that is empty or has numbers beyond 32 bits";
        return Err(NodeError::permanent("model_error", detail));
    }
    Ok(narrow)
}

/// The tags in a chunk's metadata.
fn tags(source: Option<&Json>) -> Tags {
    let parsed;
    let source = match source {
        Some(Json::String(text)) => {
            parsed = serde_json::from_str(text).unwrap_or_default();
            &parsed
        }
        Some(source) => source,
        None => return Tags::new(),
    };
    let entries = source.as_object().into_iter().flatten();
    let entries = entries.filter(|(_, value)| !value.is_null());
    let of = |value: &Json| -> Vec<String> {
        let texts: BTreeSet<String> = match value {
            Json::Array(items) => items.iter().map(to_text).collect(),
            value => BTreeSet::from([to_text(value)]),
        };
        texts.into_iter().collect()
    };
    entries.map(|(key, value)| (key.clone(), of(value))).collect()
}
