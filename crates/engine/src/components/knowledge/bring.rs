//! Bringing: the rows of a table as texts with their vectors. A text that is there is not embedded again.

use serde_json::{Map, Value as Json, json};

use super::super::{dumps, params, type_converter};
use super::rows::{Cells, Column, Text, columns};
use super::{AT_ONCE, SOURCE, base, embedder, failed, invalid, narrow, port, tags};
use crate::component::{NodeCall, NodeContext, NodeError, Param};
use crate::knowledge::{Bring, Knowledge, KnowledgeBase, MOST_AT_ONCE};
use crate::langflow::message_id;
use crate::value::Value;

type Row = Map<String, Json>;

const MOST_ROWS: usize = 100_000;

pub(super) async fn run(call: &NodeCall, ctx: &NodeContext) -> Result<Row, NodeError> {
    let table = table(call)?;
    let cells = Cells::of(&table);
    let config = match params::json(call, "column_config") {
        Some(Json::Array(rows)) => rows.clone(),
        Some(_) => Vec::new(),
        None => vec![json!({"column_name": "text", "vectorize": true, "identifier": true})],
    };
    let columns =
        columns(&config, cells.names()).map_err(|detail| NodeError::permanent("field_invalid", detail))?;
    let knowledge = port(call, ctx)?;
    let missing = |_: &str| {
        "No embedding model configuration found. Please create the knowledge base first.".to_owned()
    };
    let base = base(call, &*knowledge, missing).await?;
    let at_once = match params::integer(call, "chunk_size").unwrap_or_default() {
        0 => AT_ONCE,
        size => usize::try_from(size).map_err(|_| invalid(call, "chunk_size", "must not be negative"))?,
    };
    let embedder = embedder(call, ctx, &base, at_once)?;
    let source = source(call)?;
    let unique = !params::boolean(call, "allow_duplicates", false);
    let mut texts = named(call, ctx, cells.texts(&columns));
    if let Some(source) = source {
        for (_, text) in &mut texts {
            text.metadata.insert(SOURCE.to_owned(), source.clone().into());
        }
    }
    if unique {
        texts = unknown(&*knowledge, &base, texts).await?;
    }
    let mut kept = 0;
    if !texts.is_empty() {
        let contents: Vec<String> = texts.iter().map(|(_, text)| text.content.clone()).collect();
        let vectors = embedder.embed(ctx, &contents).await?;
        let mut chunks = Vec::with_capacity(texts.len());
        for ((id, text), vector) in texts.into_iter().zip(vectors) {
            chunks.push(Bring {
                id,
                hash: text.hash,
                tags: tags(text.metadata.get(SOURCE)),
                content: text.content,
                metadata: text.metadata,
                vector: narrow(&vector)?,
            });
        }
        while !chunks.is_empty() {
            let rest = chunks.split_off(chunks.len().min(MOST_AT_ONCE));
            let brought = knowledge
                .bring(&base, std::mem::replace(&mut chunks, rest), unique)
                .await;
            let brought = brought.map_err(|error| failed(&base.name, &error))?;
            kept += brought.into_iter().filter(|kept| *kept).count();
        }
    }
    Ok(told(ctx, &base, table.len(), kept, &columns, cells.names().len()))
}

/// What is given, as the rows of a table.
fn table(call: &NodeCall) -> Result<Vec<Row>, NodeError> {
    let value = match call.params.get("input_df") {
        Some(Param::Edge(value)) => Some(value),
        Some(Param::Edges(values)) => values.first(),
        _ => None,
    };
    let rows = match value {
        Some(Value::Message(message)) => {
            vec![Row::from_iter([("text".to_owned(), message.text.clone().into())])]
        }
        Some(Value::Data(data)) => type_converter::rows(data.clone()),
        Some(Value::Json(Json::Object(object))) => vec![object.clone()],
        Some(Value::Table(rows)) => rows.clone(),
        Some(Value::Json(_)) | None => {
            return Err(invalid(
                call,
                "input_df",
                "must be connected to a message, data or a table",
            ));
        }
    };
    if rows.len() > MOST_ROWS {
        let detail = format!("has more than {MOST_ROWS} rows: bring them in parts");
        return Err(invalid(call, "input_df", &detail));
    }
    Ok(rows)
}

/// The texts with ids of their own: the same when the run goes on elsewhere.
fn named(call: &NodeCall, ctx: &NodeContext, texts: Vec<Text>) -> Vec<(String, Text)> {
    const WHO: &str = "knowledge";
    let node = format!("{}{}", call.node.id, ctx.run.place);
    let voice = ctx.run.voices.next(WHO, &node);
    let id = |place: usize| message_id(&ctx.run.run_id, WHO, &format!("{voice}/{place}"));
    texts
        .into_iter()
        .enumerate()
        .map(|(place, text)| (id(place), text))
        .collect()
}

/// Those that the base does not know.
async fn unknown(
    knowledge: &dyn Knowledge,
    base: &KnowledgeBase,
    texts: Vec<(String, Text)>,
) -> Result<Vec<(String, Text)>, NodeError> {
    let mut fresh = Vec::with_capacity(texts.len());
    for part in texts.chunks(MOST_AT_ONCE) {
        let asked = part
            .iter()
            .map(|(id, text)| (id.clone(), text.hash.clone()))
            .collect();
        let answer = knowledge.unknown(base, asked).await;
        fresh.extend(answer.map_err(|error| failed(&base.name, &error))?);
    }
    let mut fresh = fresh.into_iter();
    let is_fresh = |_: &(String, Text)| fresh.next().unwrap_or_default();
    Ok(texts.into_iter().filter(is_fresh).collect())
}

/// What every text of this call is tagged with: a JSON object; anything else is nothing.
fn source(call: &NodeCall) -> Result<Option<String>, NodeError> {
    let text = params::text(call, "metadata_json", "")?;
    Ok(match serde_json::from_str(&text) {
        Ok(Json::Object(object)) => Some(dumps::sorted(&Json::Object(object))),
        _ => None,
    })
}

fn told(
    ctx: &NodeContext,
    base: &KnowledgeBase,
    rows: usize,
    kept: usize,
    columns: &[Column],
    total: usize,
) -> Row {
    let chosen = |is: fn(&Column) -> bool| -> Vec<&str> {
        let chosen = columns.iter().filter(|column| is(column));
        chosen.map(|column| column.name.as_str()).collect()
    };
    let each: Vec<Json> = columns
        .iter()
        .map(|column| json!({"name": column.name, "vectorize": column.vectorize, "identifier": column.identifier}))
        .collect();
    let unmapped =
        i64::try_from(total).unwrap_or(i64::MAX) - i64::try_from(columns.len()).unwrap_or(i64::MAX);
    let told = json!({
        "kb_id": base.id,
        "kb_name": base.name,
        "rows": rows,
        "chunks_created": kept,
        "skipped": rows - kept,
        "column_metadata": {
            "total_columns": total,
            "mapped_columns": columns.len(),
            "unmapped_columns": unmapped,
            "columns": each,
            "summary": {
                "vectorized_columns": chosen(|column| column.vectorize),
                "identifier_columns": chosen(|column| column.identifier),
            },
        },
        // Langflow tells where its files are; there are none.
        "path": "None",
        "config_columns": columns.len(),
        "timestamp": iso((ctx.run.clock)()),
    });
    match told {
        Json::Object(told) => told,
        _ => Row::new(),
    }
}

/// As Python writes a time in UTC.
fn iso(at: jiff::Timestamp) -> String {
    let micros = at.subsec_microsecond() + at.subsec_millisecond() * 1_000;
    let seconds = at.strftime("%Y-%m-%dT%H:%M:%S");
    match micros {
        0 => format!("{seconds}+00:00"),
        micros => format!("{seconds}.{micros:06}+00:00"),
    }
}
