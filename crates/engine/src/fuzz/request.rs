//! Any bytes as a request to a flow: input, tweaks, variables, wanted outputs.

use std::sync::{Arc, LazyLock};

use serde_json::Value as Json;

use super::{assert_places, assert_run, calls_models};
use crate::{CompileLimits, EngineKind, MAX_PROBLEMS, Plan, Request, compile};

const FLOWS: [&str; 2] = [
    include_str!("../../../../examples/flows/hello-prompt.json"),
    include_str!("../../../../examples/flows/route-and-ask.json"),
];

#[cfg(test)]
pub(super) const SEEDS: [&str; 6] = [
    r#"{"input": "hi"}"#,
    r#"{"input": {"input_value": "x"}, "input_type": "any", "output_type": "debug"}"#,
    r#"{"tweaks": {"ChatInput-name": {"input_value": "a", "sender": "b"}, "session_id": "s"}}"#,
    r#"{"tweaks": {"Prompt Template": {"template": "{x:>8}"}, "code": "print(1)"}}"#,
    r#"{"tweaks": {"Prompt-greeting": {"template": {"value": "{name!r}", "load_from_db": true}}}, "variables": {"A": "b"}}"#,
    r#"{"input": "x", "output_component": "ChatOutput-greeting", "session_id": "s"}"#,
];

/// A request is refused with places in it, or the flow runs with it.
pub fn request(bytes: &[u8]) {
    static PLANS: LazyLock<Vec<Arc<Plan>>> = LazyLock::new(|| {
        let compiled = FLOWS
            .iter()
            .map(|flow| compile(flow.as_bytes(), &CompileLimits::default()));
        compiled
            .map(|plan| Arc::new(plan.unwrap_or_else(|error| panic!("{error}"))))
            .collect()
    });
    let Ok(request) = serde_json::from_slice::<Request>(bytes) else {
        return;
    };
    let shown = serde_json::to_value(&request).unwrap_or_default();
    let again = serde_json::from_value::<Request>(shown.clone());
    assert_eq!(
        again.ok().as_ref(),
        Some(&request),
        "a request is not read as it was written"
    );
    for plan in PLANS.iter() {
        assert!(plan.request_warnings(&request).len() <= MAX_PROBLEMS);
        match plan.check(&request) {
            Ok(()) if plan.engine() == EngineKind::Native && !calls_models(plan) => {
                assert_run(plan, &request);
            }
            Ok(()) => {}
            // A required field is missing where a tweak for it would stand.
            Err(error) if error.code == "FIELD_REQUIRED" => assert_places(&error.problems, None),
            Err(error) => assert_places(&error.problems, Some(&with_absent(shown.clone()))),
        }
    }
}

/// `input` and `tweaks` stand in every request, if only as null.
fn with_absent(mut shown: Json) -> Json {
    for key in ["input", "tweaks"] {
        if let Some(request) = shown.as_object_mut() {
            request.entry(key).or_insert(Json::Null);
        }
    }
    shown
}
