//! What earlier releases wrote: their starter flows are native where every node's code is known, and then do what lfx
//! does with that same code, which a flow carries with it.

use std::collections::BTreeSet;
use std::path::PathBuf;

use serde_json::Value as Json;

use crate::reference::Lfx;
use crate::stage::Stage;
use crate::table::Row;
use crate::{ours, starters, wheels};

/// langflow-base, with the Langflow that it belongs to and how many of its starters run natively at least.
pub(crate) const RELEASES: [(&str, &str, usize); 5] = [
    ("0.8.4", "1.8", 7),
    ("0.9.6", "1.9", 9),
    ("0.10.3", "1.10", 13),
    ("0.11.6", "1.11", 2),
    ("1.12.8", "1.12", 18),
];

/// One release's starters.
#[derive(Debug)]
pub(crate) struct Release {
    pub(crate) langflow: &'static str,
    pub(crate) least: usize,
    pub(crate) flows: usize,
    pub(crate) native: usize,
    /// Why the others are not.
    pub(crate) refused: Vec<String>,
    /// Of the native ones that have code which none before it had.
    pub(crate) compared: Vec<Row>,
}

fn wheel(version: &str) -> PathBuf {
    wheels::folder().join(format!("langflow_base-{version}"))
}

fn codes(flow: &Json) -> BTreeSet<String> {
    let nodes = flow["data"]["nodes"].as_array().into_iter().flatten();
    let code = |node: &Json| {
        Some(
            node["data"]["node"]["template"]["code"]["value"]
                .as_str()?
                .to_owned(),
        )
    };
    nodes.filter_map(code).collect()
}

fn remembers(flow: &Json) -> bool {
    let mut nodes = flow["data"]["nodes"].as_array().into_iter().flatten();
    nodes.any(|node| node["data"]["type"] == "Memory")
}

pub(crate) fn all(stage: &Stage, lfx: &mut Lfx) -> Vec<Release> {
    let newest = wheels::starters(&wheel("1.13.0"));
    let mut seen: BTreeSet<String> = newest.iter().flat_map(|(_, flow)| codes(flow)).collect();
    let mut releases = Vec::new();
    for (version, langflow, least) in RELEASES.iter().rev() {
        let mut release = Release {
            langflow,
            least: *least,
            flows: 0,
            native: 0,
            refused: Vec::new(),
            compared: Vec::new(),
        };
        for (name, flow) in wheels::starters(&wheel(version)) {
            release.flows += 1;
            let has = codes(&flow);
            let case = starters::case(format!("{langflow}: {name}"), flow, stage.pages);
            match ours::plan(&case.flow) {
                Err(why) => release.refused.push(format!("{name}: {why}")),
                Ok(_) => {
                    release.native += 1;
                    // lfx alone keeps no conversations.
                    if !has.is_subset(&seen) && !remembers(&case.flow) {
                        seen.extend(has);
                        release.compared.push(stage.compare(lfx, &case));
                    }
                }
            }
        }
        releases.push(release);
    }
    releases
}
