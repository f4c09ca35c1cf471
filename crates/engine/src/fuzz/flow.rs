//! Any bytes as a flow document.

use std::sync::Arc;

use serde_json::Value as Json;

use super::{assert_places, assert_run, calls_models};
use crate::{CompileLimits, EngineKind, Plan, Request, compile};

/// Flows of more nodes are only compiled.
const MAX_RUN_NODES: usize = 64;

/// A document is refused with places in it, or compiles to the same plan however it is written, and runs.
pub fn flow(bytes: &[u8]) {
    let limits = CompileLimits::default();
    let text = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let document = serde_json::from_slice::<Json>(text).ok();
    let plan = match compile(bytes, &limits) {
        Err(error) => {
            assert_places(&error.problems, document.as_ref());
            assert!(document.is_some() || error.problems[0].pointer.is_empty());
            return;
        }
        Ok(plan) => Arc::new(plan),
    };
    let document = document.unwrap_or_else(|| panic!("compiled, but is not JSON"));
    assert!((1..=limits.nodes).contains(&plan.nodes()));
    assert!(depth(&document) <= limits.depth);
    // Parsed, written and parsed again is the same flow, and so is the bare form without its envelope.
    let again = serde_json::to_vec(&document).unwrap_or_default();
    assert_same(&plan, &again, &limits);
    if let Some(data) = document.get("data") {
        assert_same(&plan, &serde_json::to_vec(data).unwrap_or_default(), &limits);
    }
    // A limit that is just too low refuses it; one that just fits does not.
    let fits = CompileLimits {
        nodes: plan.nodes(),
        bytes: bytes.len(),
        depth: depth(&document),
    };
    assert_same(&plan, bytes, &fits);
    for tight in [
        CompileLimits {
            nodes: fits.nodes - 1,
            ..fits.clone()
        },
        CompileLimits {
            bytes: fits.bytes - 1,
            ..fits.clone()
        },
        CompileLimits {
            depth: fits.depth - 1,
            ..fits
        },
    ] {
        assert!(compile(bytes, &tight).is_err(), "{tight:?}");
    }
    let request = Request {
        input: "hello".into(),
        ..Request::default()
    };
    if let Err(error) = plan.check(&request) {
        assert_places(&error.problems, None);
    } else if plan.engine() == EngineKind::Native && !calls_models(&plan) && plan.nodes() <= MAX_RUN_NODES {
        assert_run(&plan, &request);
    }
}

fn assert_same(plan: &Plan, document: &[u8], limits: &CompileLimits) {
    let again = compile(document, limits).unwrap_or_else(|error| panic!("does not compile again: {error}"));
    assert_eq!(plan.node_list(), again.node_list());
    assert_eq!(
        (plan.engine(), plan.unsupported()),
        (again.engine(), again.unsupported())
    );
    assert_eq!(plan.warnings(), again.warnings());
    assert_eq!(
        (&plan.included, &plan.wanted, &plan.edges),
        (&again.included, &again.wanted, &again.edges)
    );
}

fn depth(value: &Json) -> usize {
    match value {
        Json::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Json::Object(entries) => 1 + entries.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}
