//! The starter flows, and what they are asked.

use std::net::SocketAddr;

use serde_json::{Value as Json, json};

use crate::case::Case;
use crate::wheels;

/// What flows read.
pub(crate) const FILES: [(&str, &str); 1] = [(
    "report.txt",
    "Revenue 12,400 million.\n\nThe café did well; \u{201c}very\u{201d} well.\n\n\n\n{\"objects\": [{\"EBITDA\": \"3,100\", \
     \"NET_INCOME\": \"1\", \"GROSS_PROFIT\": \"\", \"REVENUE\": \"12,400\", \"EBIT\": \"2\", \"NET_MARGIN\": \"\", \"COMPANY\": \"Café\"}]}",
)];

/// The starter flows, their models chosen, in order of their names. Tools are called with pages of `pages`.
pub(crate) fn all(pages: SocketAddr) -> Vec<Case> {
    let wheel = wheels::folder().join("langflow_base-1.13.0");
    let ready = |(name, flow): (String, Json)| case(name, flow, pages);
    wheels::starters(&wheel).into_iter().map(ready).collect()
}

/// One starter flow of some release.
pub(crate) fn case(name: String, mut flow: Json, pages: SocketAddr) -> Case {
    choose_models(&mut flow);
    choose_files(&mut flow);
    let question = question(&flow, pages);
    Case {
        nodes: false,
        ..Case::new(name, flow).input(&question)
    }
}

/// The same without what would ask a search engine.
pub(crate) fn without_searches(case: &Case) -> Case {
    let input = match case.input.split_once(" [call perform_search") {
        Some((before, _)) => before.to_owned(),
        None => case.input.clone(),
    };
    Case {
        input,
        ..case.clone()
    }
}

/// Whether the flow itself asks a service that only the reference has nearby.
pub(crate) fn looks_things_up(case: &Case) -> bool {
    nodes(&case.flow).any(|node| {
        node["data"]["type"] == "ArXivComponent" && node["data"]["node"]["tool_mode"] != json!(true)
    })
}

fn nodes(flow: &Json) -> impl Iterator<Item = &Json> {
    flow["data"]["nodes"].as_array().into_iter().flatten()
}

/// Exports leave the model open; everybody picks one.
pub(crate) fn choose_models(flow: &mut Json) {
    for node in flow["data"]["nodes"].as_array_mut().into_iter().flatten() {
        let model = &mut node["data"]["node"]["template"]["model"];
        if model.get("value").is_some() {
            model["value"] = json!([{"name": "gpt-4o-mini", "provider": "OpenAI"}]);
        }
    }
}

/// Nor is there a file.
fn choose_files(flow: &mut Json) {
    for node in flow["data"]["nodes"].as_array_mut().into_iter().flatten() {
        if node["data"]["type"] == "File" {
            node["data"]["node"]["template"]["path"]["file_path"] = json!([FILES[0].0]);
        }
    }
}

/// An object as the flow's schema wants it.
fn sample(flow: &Json) -> Json {
    let mut sample = json!({});
    let schemas = nodes(flow).filter_map(|node| {
        let rows = node["data"]["node"]["template"]["output_schema"]["value"].as_array();
        rows.filter(|rows| !rows.is_empty())
    });
    for row in schemas.flatten() {
        let value = match row["type"].as_str() {
            Some("bool") => json!(true),
            Some("int" | "float") => json!(7),
            _ => json!("some text"),
        };
        let many = row["multiple"] == json!(true) || row["multiple"] == json!("True");
        sample[row["name"].as_str().unwrap()] = if many { json!([value]) } else { value };
    }
    sample
}

/// Something to say, with a call of each tool that the flow has: well, badly, and in vain.
fn question(flow: &Json, pages: SocketAddr) -> String {
    let objects = json!({"objects": [sample(flow), sample(flow)]});
    let mut question = match sample(flow).as_object().is_some_and(|sample| !sample.is_empty()) {
        true => format!("{objects} What is new?"),
        false => "What is new, and what does it cost?".to_owned(),
    };
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
