//! The flows that are measured.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};

const STARTER: &str = "langflow_base-1.13.0/langflow/initial_setup/starter_projects/Basic Prompting.json";

/// Langflow's starter flow as released, its model filled in as a user would in the editor.
pub(in crate::parts) fn basic_prompting() -> anyhow::Result<Value> {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
    let fetched = Command::new("sh")
        .arg("tests/wheels.sh")
        .current_dir(root)
        .output()
        .context("tests/wheels.sh does not start")?;
    ensure!(
        fetched.status.success(),
        "tests/wheels.sh failed: {}",
        String::from_utf8_lossy(&fetched.stderr).trim()
    );
    let path = wheels()?.join(STARTER);
    let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let mut flow: Value = serde_json::from_str(&text)?;
    for node in flow["data"]["nodes"].as_array_mut().context("nodes")? {
        let template = &mut node["data"]["node"]["template"];
        if template.get("model").is_some() {
            template["model"]["value"] = json!([{"name": "gpt-4o-mini", "provider": "OpenAI"}]);
        }
    }
    Ok(flow)
}

/// Where `tests/wheels.sh` unpacks.
fn wheels() -> anyhow::Result<PathBuf> {
    match std::env::var_os("FLOWFLEET_TEST_WHEELS") {
        Some(folder) => Ok(folder.into()),
        None => Ok(cache()?.join("wheels")),
    }
}

/// What may be fetched again, but better is not.
pub(super) fn cache() -> anyhow::Result<PathBuf> {
    let base = match std::env::var_os("XDG_CACHE_HOME") {
        Some(folder) => PathBuf::from(folder),
        None => PathBuf::from(std::env::var_os("HOME").context("HOME is not set")?).join(".cache"),
    };
    Ok(base.join("flowfleet"))
}

/// ChatInput, Prompt, ChatOutput.
pub(in crate::parts) fn hello() -> anyhow::Result<Value> {
    Ok(serde_json::from_str(include_str!(
        "../../../../examples/flows/hello-prompt.json"
    ))?)
}

/// `hello` with so many prompts in a row.
pub(super) fn chain(prompts: usize) -> anyhow::Result<Value> {
    let mut flow = hello()?;
    let nodes = flow["data"]["nodes"].as_array_mut().context("nodes")?;
    let prompt = nodes
        .iter()
        .position(|node| node["data"]["type"] == "Prompt")
        .context("hello-prompt has a prompt")?;
    let first = nodes[prompt].clone();
    for number in 1..prompts {
        let mut next = first.clone();
        next["id"] = json!(format!("Prompt-{number}"));
        next["data"]["id"] = next["id"].clone();
        nodes.push(next);
    }
    let edges = flow["data"]["edges"].as_array_mut().context("edges")?;
    let into = |edges: &[Value], kind: &str| {
        let found = edges.iter().find(|edge| {
            edge["target"]
                .as_str()
                .is_some_and(|target| target.starts_with(kind))
        });
        found.cloned().context("an edge of hello-prompt")
    };
    let (to_prompt, to_output) = (into(edges, "Prompt")?, into(edges, "ChatOutput")?);
    edges.retain(|edge| *edge != to_output);
    let mut last = first["id"].clone();
    for number in 1..prompts {
        let mut edge = to_prompt.clone();
        let source = to_output["data"]["sourceHandle"].clone();
        join(&mut edge, &last, &source, &json!(format!("Prompt-{number}")));
        last = edge["target"].clone();
        edges.push(edge);
    }
    let mut edge = to_output.clone();
    let source = to_output["data"]["sourceHandle"].clone();
    let target = to_output["target"].clone();
    join(&mut edge, &last, &source, &target);
    edges.push(edge);
    Ok(flow)
}

fn join(edge: &mut Value, from: &Value, source: &Value, to: &Value) {
    edge["id"] = json!(format!("{from}-{to}"));
    edge["source"] = from.clone();
    edge["target"] = to.clone();
    edge["data"]["sourceHandle"] = source.clone();
    edge["data"]["sourceHandle"]["id"] = from.clone();
    edge["data"]["targetHandle"]["id"] = to.clone();
    // The same once more as text, which only the editor reads.
    if let Some(edge) = edge.as_object_mut() {
        edge.remove("sourceHandle");
        edge.remove("targetHandle");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chain_is_a_flow_that_runs_natively() {
        let document = serde_json::to_vec(&chain(5).unwrap()).unwrap();
        let plan = flowfleet_engine::compile(&document, &flowfleet_engine::CompileLimits::default()).unwrap();
        assert_eq!(plan.nodes(), 7);
        assert!(plan.unsupported().is_empty() && plan.warnings().is_empty());
    }
}
