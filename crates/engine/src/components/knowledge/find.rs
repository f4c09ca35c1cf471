//! Finding: the chunks whose vectors are nearest to that of a question.

use serde_json::{Map, Value as Json};

use super::super::params;
use super::{AT_ONCE, base, embedder, failed, invalid, narrow, port};
use crate::component::{NodeCall, NodeContext, NodeError, Param};
use crate::knowledge::{Look, Seen, Tags};
use crate::template::to_text;

type Row = Map<String, Json>;

/// Chunks that are given at most.
const MOST: u32 = 1_000;

pub(super) async fn run(call: &NodeCall, ctx: &NodeContext) -> Result<Vec<Row>, NodeError> {
    let knowledge = port(call, ctx)?;
    let missing =
        |name: &str| format!("Metadata not found for knowledge base: {name}. Ensure it has been indexed.");
    let base = base(call, &*knowledge, missing).await?;
    let embedder = embedder(call, ctx, &base, AT_ONCE)?;
    let limit = match call.params.contains_key("top_k") {
        true => params::integer(call, "top_k"),
        false => Some(5),
    };
    let limit = limit.and_then(|limit| u32::try_from(limit).ok());
    let limit = limit
        .filter(|limit| *limit <= MOST)
        .ok_or_else(|| invalid(call, "top_k", &format!("must be a whole number from 0 to {MOST}")))?;
    if limit == 0 {
        return Ok(Vec::new());
    }
    let tags = wanted(call)?;
    let question = params::text(call, "search_query", "")?;
    let vectors = embedder.embed(ctx, std::slice::from_ref(&question)).await?;
    let look = Look {
        vector: narrow(vectors.first().map_or(&[], Vec::as_slice))?,
        limit,
        tags,
    };
    let seen = knowledge.look(&base, look).await;
    let seen = seen.map_err(|error| failed(&base.name, &error))?;
    let shows = Shows {
        scores: !question.is_empty(),
        metadata: params::boolean(call, "include_metadata", true),
        vectors: params::boolean(call, "include_embeddings", false),
    };
    seen.into_iter().map(|seen| shows.row(seen)).collect()
}

/// What a row has beside its text.
#[derive(Debug)]
struct Shows {
    scores: bool,
    metadata: bool,
    vectors: bool,
}

impl Shows {
    fn row(&self, seen: Seen) -> Result<Row, NodeError> {
        let mut row = Row::new();
        row.insert("content".to_owned(), seen.content.into());
        if self.scores {
            row.insert("_score".to_owned(), (-(seen.distance * seen.distance)).into());
        }
        if self.metadata {
            row.extend(seen.metadata);
        }
        if self.vectors {
            let numbers = seen.vector.into_iter().map(f64::from);
            row.insert("_embeddings".to_owned(), numbers.map(Json::from).collect());
        }
        // These are the names of what holds the others.
        if row.contains_key("data") {
            let detail = "a text was brought with a column named \"data\", which a row cannot have: leave metadata out";
            return Err(NodeError::permanent("field_invalid", detail));
        }
        row.shift_remove("text_key");
        row.shift_remove("default_value");
        Ok(row)
    }
}

/// The filter: a JSON object; anything else is none.
fn wanted(call: &NodeCall) -> Result<Tags, NodeError> {
    let text = match call.params.get("metadata_filter") {
        Some(Param::Field(Json::Array(_))) | None => return Ok(Tags::new()),
        Some(_) => params::text(call, "metadata_filter", "")?,
    };
    let Ok(Json::Object(filter)) = serde_json::from_str(&text) else {
        return Ok(Tags::new());
    };
    let values = |value: &Json| match value {
        Json::Array(items) => items.iter().map(to_text).collect(),
        value => vec![to_text(value)],
    };
    Ok(filter
        .iter()
        .map(|(key, value)| (key.clone(), values(value)))
        .collect())
}
