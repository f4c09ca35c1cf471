//! The flows, and what they are asked.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde_json::{Value as Json, json};

/// One flow with one input.
#[derive(Debug)]
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) flow: Json,
    pub(crate) input: String,
}

fn folder() -> PathBuf {
    let wheels = std::env::var_os("FLOWFLEET_TEST_WHEELS").map_or_else(
        || {
            let cache = std::env::var_os("XDG_CACHE_HOME").map_or_else(
                || PathBuf::from(std::env::var_os("HOME").expect("HOME")).join(".cache"),
                PathBuf::from,
            );
            cache.join("flowfleet/wheels")
        },
        PathBuf::from,
    );
    wheels.join("langflow_base-1.13.0/langflow/initial_setup/starter_projects")
}

/// The starter flows, their models chosen, in order of their names. Tools are called with pages of `pages`.
pub(crate) fn starters(pages: SocketAddr) -> Vec<Case> {
    let mut cases: Vec<Case> = std::fs::read_dir(folder())
        .expect("run tests/wheels.sh")
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
        .map(|path| {
            let text = std::fs::read_to_string(&path).unwrap();
            let mut flow: Json = serde_json::from_str(&text).unwrap();
            choose_models(&mut flow);
            Case {
                name: path.file_stem().unwrap().to_string_lossy().into_owned(),
                input: question(&flow, pages),
                flow,
            }
        })
        .collect();
    cases.sort_by(|a, b| a.name.cmp(&b.name));
    cases
}

fn nodes(flow: &Json) -> impl Iterator<Item = &Json> {
    flow["data"]["nodes"].as_array().into_iter().flatten()
}

/// Exports leave the model open; everybody picks one.
fn choose_models(flow: &mut Json) {
    for node in flow["data"]["nodes"].as_array_mut().into_iter().flatten() {
        let model = &mut node["data"]["node"]["template"]["model"];
        if model.get("value").is_some() {
            model["value"] = json!([{"name": "gpt-4o-mini", "provider": "OpenAI"}]);
        }
    }
}

/// Something to say, with a call of each tool that the flow has: well, badly, and in vain.
fn question(flow: &Json, pages: SocketAddr) -> String {
    let mut question = "What is new, and what does it cost?".to_owned();
    let is_tool = |node: &&Json| node["data"]["node"]["tool_mode"] == json!(true);
    for node in nodes(flow).filter(is_tool) {
        let calls: Vec<(&str, Json)> = match node["data"]["type"].as_str().unwrap_or_default() {
            "URLComponent" => vec![
                (
                    "fetch_content",
                    json!({"urls": [format!("http://{pages}/"), format!("http://{pages}/moved")]}),
                ),
                ("fetch_content", json!({"urls": [format!("http://{pages}/long")]})),
                ("fetch_content", json!({"urls": [" "]})),
                ("fetch_content", json!({"urls": ["no address"]})),
                ("fetch_content", json!({"urls": format!("http://{pages}/")})),
                ("fetch_content", json!({"urls": [1]})),
                ("fetch_content", json!({})),
            ],
            "UnifiedWebSearch" => vec![
                ("perform_search", json!({"query": "spot prices <now>"})),
                (
                    "perform_search",
                    json!({"query": "prices & more", "search_mode": "News"}),
                ),
                (
                    "perform_search",
                    json!({"query": format!("http://{pages}/feed"), "search_mode": "RSS"}),
                ),
                (
                    "perform_search",
                    json!({"query": format!("http://{pages}/gone"), "search_mode": "RSS"}),
                ),
                ("perform_search", json!({"query": "", "search_mode": "News"})),
                ("perform_search", json!({"query": " "})),
                ("perform_search", json!({"search_mode": "Images"})),
            ],
            "CalculatorComponent" => vec![("evaluate_expression", json!({"expression": "2**10/3"}))],
            _ => Vec::new(),
        };
        for (tool, arguments) in calls {
            question.push_str(&format!(" [call {tool} {arguments}]"));
        }
    }
    question
}
