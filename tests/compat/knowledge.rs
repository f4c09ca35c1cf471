//! Knowledge: the same texts brought and looked for, through lfx with its own store and through this engine.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};

use flowfleet_core::knowledge::{Distance, tagged};
use flowfleet_engine::{Bring, Knowledge, KnowledgeBase, KnowledgeError, Look, Seen};
use futures::FutureExt as _;
use futures::future::BoxFuture;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use serde_json::{Value as Json, json};

use crate::case::{Case, Ended};
use crate::compare::Verdict;
use crate::reference::Lfx;
use crate::stage::Stage;
use crate::{ours, starters, table, wheels};

/// What is known, for as long as a test runs.
#[derive(Debug, Default)]
struct Known(Mutex<Vec<(String, Bring)>>);

fn there<T: Send + 'static>(value: T) -> BoxFuture<'static, Result<T, KnowledgeError>> {
    async { Ok(value) }.boxed()
}

impl Knowledge for Known {
    fn base<'k>(&'k self, name: &'k str) -> BoxFuture<'k, Result<Option<KnowledgeBase>, KnowledgeError>> {
        let base = ["docs", "twice"].contains(&name).then(|| KnowledgeBase {
            id: name.to_owned(),
            name: name.to_owned(),
            provider: "OpenAI".to_owned(),
            model: "text-embedding-3-small".to_owned(),
        });
        there(base)
    }

    fn unknown<'k>(
        &'k self,
        base: &'k KnowledgeBase,
        chunks: Vec<(String, String)>,
    ) -> BoxFuture<'k, Result<Vec<bool>, KnowledgeError>> {
        let known = self.0.lock().unwrap();
        let of = |(id, hash): &(String, String)| {
            !known
                .iter()
                .any(|(name, chunk)| *name == base.id && chunk.hash == *hash && chunk.id != *id)
        };
        there(chunks.iter().map(of).collect())
    }

    fn bring<'k>(
        &'k self,
        base: &'k KnowledgeBase,
        chunks: Vec<Bring>,
        unique: bool,
    ) -> BoxFuture<'k, Result<Vec<bool>, KnowledgeError>> {
        let mut known = self.0.lock().unwrap();
        let mut kept = Vec::new();
        for chunk in chunks {
            let of_base = || {
                known
                    .iter()
                    .filter(|(name, _)| *name == base.id)
                    .map(|(_, chunk)| chunk)
            };
            let is_there = of_base().any(|known| known.id == chunk.id);
            let hashes: HashSet<&str> = of_base().map(|known| known.hash.as_str()).collect();
            let kept_now = is_there || !unique || !hashes.contains(chunk.hash.as_str());
            kept.push(kept_now);
            if kept_now && !is_there {
                known.push((base.id.clone(), chunk));
            }
        }
        there(kept)
    }

    fn look<'k>(
        &'k self,
        base: &'k KnowledgeBase,
        look: Look,
    ) -> BoxFuture<'k, Result<Vec<Seen>, KnowledgeError>> {
        let known = self.0.lock().unwrap();
        let distance = Distance::from(&look.vector);
        let of_base = known
            .iter()
            .filter(|(name, chunk)| *name == base.id && tagged(&chunk.tags, &look.tags));
        let mut seen: Vec<Seen> = of_base
            .map(|(_, chunk)| Seen {
                content: chunk.content.clone(),
                metadata: chunk.metadata.clone(),
                distance: distance.to(&chunk.vector),
                vector: chunk.vector.clone(),
            })
            .collect();
        seen.sort_by(|a, b| a.distance.total_cmp(&b.distance));
        seen.truncate(look.limit as usize);
        there(seen)
    }
}

/// One user has them all.
const FLOW_ID: &str = "5b0b1e0e-70f5-4b5c-9c3b-6d1f2f0d8a11";
const NODE: &str = "Knowledge-Y8gm2";

fn starter(name: &str, base: &str, fields: &[(&str, Json)]) -> Json {
    let all = wheels::starters(&wheels::folder().join("langflow_base-1.13.0"));
    let (_, mut flow) = all.into_iter().find(|(known, _)| known == name).unwrap();
    starters::choose_models(&mut flow);
    flow["id"] = FLOW_ID.into();
    for node in flow["data"]["nodes"].as_array_mut().unwrap() {
        if node["data"]["type"] == "Knowledge" {
            let template = &mut node["data"]["node"]["template"];
            template["knowledge_base"]["value"] = base.into();
            for (name, value) in fields {
                template[*name]["value"] = value.clone();
                template[*name]["show"] = true.into();
            }
        }
    }
    flow
}

/// What the chat says is compared.
fn told(name: &str, said: &str, flow: Json) -> Case {
    Case {
        nodes: false,
        ..Case::new(name, flow).input(said)
    }
}

fn find(name: &str, base: &str, question: &str, fields: &[(&str, Json)], printed: bool) -> Case {
    let mut flow = starter("Knowledge Retrieval", base, fields);
    if printed {
        direct(&mut flow, "retrieve_data", "Table");
    }
    told(name, question, flow)
}

fn id_of(flow: &Json, component: &str) -> String {
    let nodes = flow["data"]["nodes"].as_array().unwrap();
    let node = nodes
        .iter()
        .find(|node| node["data"]["type"] == component)
        .unwrap();
    node["id"].as_str().unwrap().to_owned()
}

fn edge(source: (&str, &str, &str, &str), target: (&str, &str, Json)) -> Json {
    let (id, component, output, gives) = source;
    let (to, field, takes) = target;
    let from = json!({"dataType": component, "id": id, "name": output, "output_types": [gives]});
    let into = json!({"fieldName": field, "id": to, "inputTypes": takes, "type": "other"});
    let handle = |handle: &Json| handle.to_string().replace('"', "œ");
    json!({"id": format!("{id}-{to}"), "source": id, "target": to, "sourceHandle": handle(&from),
        "targetHandle": handle(&into), "data": {"sourceHandle": from, "targetHandle": into}})
}

/// The chat shows what the node gives, without a parser between.
fn direct(flow: &mut Json, output: &str, gives: &str) {
    let (parser, chat) = (id_of(flow, "parser"), id_of(flow, "ChatOutput"));
    flow["data"]["nodes"]
        .as_array_mut()
        .unwrap()
        .retain(|node| node["id"] != *parser);
    let edges = flow["data"]["edges"].as_array_mut().unwrap();
    edges.retain(|edge| edge["source"] != *parser && edge["target"] != *parser);
    let takes = json!(["Data", "JSON", "DataFrame", "Table", "Message"]);
    edges.push(edge(
        (NODE, "Knowledge", output, gives),
        (&chat, "input_value", takes),
    ));
}

/// Brings what is said: a table if it is one in JSON.
fn bring(name: &str, base: &str, said: &str, fields: &[(&str, Json)]) -> Case {
    let mut fields = fields.to_vec();
    fields.push(("mode", json!("Ingest")));
    let mut flow = starter("Knowledge Retrieval", base, &fields);
    direct(&mut flow, "dataframe_output", "JSON");
    let chat = id_of(&flow, "ChatInput");
    let edges = flow["data"]["edges"].as_array_mut().unwrap();
    edges.retain(|edge| edge["source"] != *chat);
    let mut converter = wheels::component("TypeConverterComponent").clone();
    converter["template"]["auto_parse"]["value"] = true.into();
    let id = "TypeConverterComponent-t";
    edges.push(edge(
        (&chat, "ChatInput", "message", "Message"),
        (id, "input_data", json!(["Message"])),
    ));
    let takes = json!(["Message", "Data", "JSON", "DataFrame", "Table"]);
    let table = (id, "TypeConverterComponent", "dataframe_output", "Table");
    edges.push(edge(table, (NODE, "input_df", takes)));
    let node = json!({"id": id, "type": "genericNode", "data": {"id": id, "type": "TypeConverterComponent", "node": converter}});
    flow["data"]["nodes"].as_array_mut().unwrap().push(node);
    told(name, said, flow)
}

const WORDS: [&str; 12] = [
    "spot",
    "price",
    "queue",
    "café",
    "日本",
    "\u{1f600}",
    "worker",
    "lease",
    "flow",
    "don't",
    "12345",
    "naïve\n\n ",
];

fn words(random: &mut StdRng, most: usize) -> String {
    let count = random.random_range(1..=most);
    let words: Vec<&str> = (0..count)
        .map(|_| WORDS[random.random_range(0..WORDS.len())])
        .collect();
    words.join(" ")
}

/// Rows of random cells, each with a number of its own, so that no two are equally near to anything.
fn rows(random: &mut StdRng, count: usize) -> Vec<Json> {
    let row = |number: usize| {
        let mut row = json!({"text": format!("{} no{number}", words(random, 9)), "n": number});
        match random.random_range(0..4) {
            0 => row["kind"] = words(random, 1).into(),
            1 => row["kind"] = Json::Null,
            2 => row["more"] = json!({"a": [1, null], "f": 1.5, "t": true}),
            _ => {}
        }
        row
    };
    (0..count).map(row).collect()
}

fn said(rows: &[Json]) -> String {
    json!(rows).to_string()
}

fn all(random: &mut StdRng) -> Vec<Case> {
    let table = rows(random, 40);
    let mut again = rows(random, 12);
    again.extend_from_slice(&table[..5]);
    again.push(again[0].clone());
    let two = json!([{"column_name": "text", "vectorize": true, "identifier": false},
        {"column_name": "n", "vectorize": "true", "identifier": "yes"}]);
    let tag = json!("{\"year\": 2026, \"kind\": [\"é\", true, 1.0], \"a\": {\"b\": null}}");
    let filter = |filter: Json| {
        [
            ("metadata_filter", Json::String(filter.to_string())),
            ("top_k", json!(3)),
        ]
    };
    let long = format!("{} end", "spot prices of workers ".repeat(4_000));
    let mut cases = vec![
        bring("bring a table", "docs", &said(&table), &[]),
        bring(
            "bring some of it again",
            "docs",
            &said(&again),
            &[("metadata_json", tag)],
        ),
        bring(
            "bring a message",
            "docs",
            "Plain text, and no table.",
            &[("metadata_json", json!("[1]"))],
        ),
        bring("bring what is too long", "docs", &long, &[]),
        bring(
            "bring numbers",
            "twice",
            &said(&table[..9]),
            &[("column_config", two), ("chunk_size", json!(4))],
        ),
        bring("bring without a column", "docs", "[{\"b\": 1, \"a\": 2}]", &[]),
        bring("bring into nothing", "nothing", "x", &[]),
        find("find", "docs", "spot price of a queue", &[], false),
        find(
            "find with all",
            "docs",
            "worker lease",
            &[("include_embeddings", json!(true)), ("top_k", json!(2))],
            true,
        ),
        find(
            "find texts alone",
            "docs",
            "café 日本",
            &[("include_metadata", json!(false)), ("top_k", json!(4))],
            true,
        ),
        find(
            "find by a tag",
            "docs",
            "flow",
            &filter(json!({"year": 2026, "kind": ["no", "True"]})),
            true,
        ),
        find(
            "find by no such tag",
            "docs",
            "flow",
            &filter(json!({"year": "2027"})),
            true,
        ),
        find("find numbers", "twice", "no3 3", &[("top_k", json!(20))], true),
        find("find nothing", "docs", "x", &[("top_k", json!(0))], true),
        find("find in nothing", "nothing", "x", &[], true),
    ];
    for number in 0..6 {
        let question = words(random, 6);
        cases.push(find(
            &format!("find {number}"),
            "docs",
            &question,
            &[("top_k", json!(9))],
            true,
        ));
    }
    for name in ["Document Q&A", "Vector Store RAG"] {
        cases.push(told(name, "What of the spot price?", starter(name, "docs", &[])));
    }
    cases
}

/// Without ids and times.
fn settled(ended: &mut Ended) {
    let Ok(outputs) = &mut ended.outputs else { return };
    for output in outputs.as_object_mut().unwrap().values_mut() {
        let Some(text) = output.as_str() else { continue };
        let known = |line: &&str| {
            !line.trim_start().starts_with("\"kb_id\"") && !line.trim_start().starts_with("\"timestamp\"")
        };
        *output = text.lines().filter(known).collect::<Vec<_>>().join("\n").into();
    }
}

#[test]
fn knowledge_does_the_same() {
    let (stage, stores) = (Stage::new(), tempfile::tempdir().unwrap());
    let mut lfx = Lfx::that_knows(stage.pages, stage.folder.path(), stores.path());
    let known: Arc<dyn Knowledge> = Arc::new(Known::default());
    let mut rows = Vec::new();
    for case in all(&mut StdRng::seed_from_u64(11)) {
        let mut theirs = stage.theirs(&mut lfx, &case);
        let (model, knows) = (stage.model(&case), Some(Arc::clone(&known)));
        let mut ours = ours::run_as(&case, &case.name, &model, stage.pages, stage.folder.path(), knows);
        settled(&mut theirs);
        if let ours::Ours::Ran(ours) = &mut ours {
            settled(ours);
        }
        rows.push(table::Row::of(&case, &ours, &theirs));
    }
    println!("{}", table::print(&rows));
    assert_eq!(table::different(&rows), [""; 0]);
    let failed = rows
        .iter()
        .filter(|row| !matches!(row.verdict, Verdict::Same))
        .count();
    assert_eq!(failed, 3, "of the others each has to do something");
}
