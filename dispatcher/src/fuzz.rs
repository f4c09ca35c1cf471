//! Fuzz targets of the API: what holds for any body and query. Compiled for tests and for `fuzz/` only.

use std::collections::BTreeMap;

use bytes::Bytes;
use flowfleet_core::{Labels, Limits, RunState, Tenant};
use flowfleet_engine::{CompileLimits, compile};
use jiff::Timestamp;
use serde_json::Value;

use crate::api::body;
use crate::api::langflow::workflows::ask;
use crate::api::langflow::{call, form, webhook};
use crate::api::problem::{ErrorItem, MAX_ERRORS, Problem};
use crate::api::query::{Query, Scope};
use crate::api::runs::cancel::FilterBody;
use crate::api::runs::list;
use crate::submit::many::{Place, parse_all};
use crate::submit::parse::{self, Wanted, digest};

/// A submission is refused with places in the body, or means the same however it is written.
pub fn submit(bytes: &[u8]) {
    let limits = Limits::default();
    let document = serde_json::from_slice::<Value>(bytes).ok();
    match parse::parse(bytes, &limits, Some("key")) {
        Err(refused) => assert_places(&refused.errors, document.as_ref()),
        Ok(wanted) => {
            assert_wanted(&wanted, &limits);
            let written = document
                .as_ref()
                .and_then(|document| serde_json::to_vec(document).ok());
            let again = parse::parse(&written.unwrap_or_default(), &limits, Some("key"));
            assert_eq!(
                again.as_ref(),
                Ok(&wanted),
                "means something else when it is written again"
            );
        }
    }
    if let Some(document) = &document {
        assert_eq!(
            digest(document),
            digest(&reversed(document)),
            "the order of keys counts"
        );
    }
}

/// A call of Langflow's API is refused with places in the body, or means the same however it is written.
pub fn langflow(bytes: &[u8]) {
    let document = serde_json::from_slice::<Value>(bytes).ok();
    match call::parse(bytes) {
        Err(refused) => assert_places(&refused.errors, document.as_ref()),
        Ok(parsed) => {
            let text = document.map_or_else(String::new, |document| document.to_string());
            assert_eq!(
                call::parse(text.as_bytes()),
                Ok(parsed),
                "means something else when it is written again"
            );
        }
    }
}

/// What is sent to a webhook is refused, or reaches the components that wait for it as it is.
pub fn webhook(bytes: &[u8]) {
    let plan = compile(HOOK.as_bytes(), &CompileLimits::default());
    let Ok(plan) = plan else {
        panic!("the flow of this target: {plan:?}")
    };
    match webhook::parse(&plan, bytes) {
        Err(refused) => assert!(
            bytes.is_empty() || std::str::from_utf8(bytes).is_err(),
            "{refused:?}"
        ),
        Ok(call) => {
            let sent = &call.request.tweaks["Webhook-1"]["data"];
            assert_eq!(sent.as_str().map(str::as_bytes), Some(bytes));
            assert!(plan.check(&call.request).is_ok());
        }
    }
}

/// A workflow is refused with what is wrong, or means the same however it is written.
pub fn workflow(bytes: &[u8]) {
    match ask::parse(bytes) {
        Err(refusal) => {
            assert_eq!(refusal.status, 422);
            let fields = refusal.detail.as_array();
            let named = |field: &Value| field["loc"].is_array() && field["msg"].is_string();
            let of_fields = fields.is_some_and(|fields| !fields.is_empty() && fields.iter().all(named));
            assert!(of_fields || refusal.detail["code"].is_string(), "{refusal:?}");
        }
        Ok(asked) => {
            let document = serde_json::from_slice::<Value>(bytes).unwrap_or_default();
            let again = ask::parse(document.to_string().as_bytes());
            assert_eq!(again, Ok(asked), "means something else when it is written again");
        }
    }
}

/// A form has a file that stands in it, or is refused.
pub fn form(bytes: &[u8]) {
    match form::file(bytes, "b", "file") {
        Err(problem) => assert_problem(&problem),
        Ok(file) => {
            let stands =
                |part: &[u8]| part.is_empty() || bytes.windows(part.len()).any(|found| found == part);
            assert!(stands(file.bytes) && stands(file.name.as_bytes()));
        }
    }
}

const HOOK: &str = r#"{"data": {"nodes": [{"id": "Webhook-1", "data": {"id": "Webhook-1", "type": "Webhook", "node": {
    "display_name": "Webhook", "outputs": [{"name": "output_data", "types": ["JSON"]}],
    "template": {"data": {"type": "str", "value": "", "show": true}}}}}], "edges": []}}"#;

/// What was accepted is within the limits and can be computed with.
fn assert_wanted(wanted: &Wanted, limits: &Limits) {
    let settings = &wanted.settings;
    assert!(settings.timeout_s > 0.0 && settings.timeout_s <= limits.timeout_s as f64);
    assert!((1..=limits.max_attempts).contains(&settings.max_attempts));
    assert!(settings.retry.check().is_ok());
    let now = Timestamp::now();
    let (run_at, expires_at) = parse::times(wanted.start, wanted.expires_in, now);
    assert!(run_at.is_none_or(|at| at > now) && expires_at.is_none_or(|at| at > now));
}

/// A batch is refused with the places of all bad runs, or has as many runs as it has elements; lines and array agree.
pub fn batch(bytes: &[u8]) {
    let limits = Limits {
        batch_runs: 20,
        body_bytes: 10_000,
        ..Limits::default()
    };
    let body = Bytes::copy_from_slice(bytes);
    let lines = bytes.split(|byte| *byte == b'\n').count() as u64;
    for ndjson in [true, false] {
        match parse_all(&body, ndjson, &limits, Some("key")) {
            Ok(runs) => {
                assert!((1..=limits.batch_runs).contains(&runs.len()));
                assert!(runs.iter().all(|(_, wanted)| wanted.idempotency.is_some()));
                if !ndjson {
                    assert_lines_agree(bytes, &runs, &limits);
                }
            }
            Err(problem) if ndjson => {
                assert_problem(&problem);
                assert!(
                    problem
                        .errors
                        .iter()
                        .all(|error| error.line.is_none_or(|line| (1..=lines).contains(&line)))
                );
            }
            Err(problem) => {
                assert_problem(&problem);
                assert_places_of(&problem, serde_json::from_slice(bytes).ok().as_ref());
            }
        }
    }
}

fn assert_lines_agree(array: &[u8], runs: &[(Place, Wanted)], limits: &Limits) {
    let elements = serde_json::from_slice::<Vec<Value>>(array).unwrap_or_default();
    assert_eq!(elements.len(), runs.len());
    let lines: String = elements.iter().map(|element| format!("{element}\n")).collect();
    let again = parse_all(&Bytes::from(lines), true, limits, Some("key")).unwrap_or_default();
    assert!(
        again
            .iter()
            .map(|(_, wanted)| wanted)
            .eq(runs.iter().map(|(_, wanted)| wanted))
    );
}

/// A query of a listing is refused, or means the same when it is written again; cursors belong to one listing.
pub fn query(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let Ok(mut query) = Query::parse(text).inspect_err(assert_problem) else {
        return;
    };
    let scope = Scope::new(&["any"]);
    let position = scope.position(text).ok();
    assert!(position.is_none_or(|position| scope.cursor(&position).trim_end_matches('=') == text));
    let Ok(filter) = list::filter(&mut query).inspect_err(assert_problem) else {
        return;
    };
    let labels = BTreeMap::from_iter(filter.labels.clone());
    assert!(Labels::try_from(labels).is_ok(), "no run has such labels");
    let _ = (
        query.limit().inspect_err(assert_problem),
        query.wait(300).inspect_err(assert_problem),
    );
    let written = write(&filter);
    let mut again = Query::parse(&written).unwrap_or_default();
    let same = list::filter(&mut again).map(|again| format!("{again:?}")).ok();
    assert_eq!(same, Some(format!("{filter:?}")), "{written}");
    let tenant = Tenant::default();
    let cursor = list::scope(&tenant, &filter).cursor(&[7; 16]);
    assert_eq!(
        list::scope(&tenant, &filter).position(&cursor).ok(),
        Some(vec![7; 16])
    );
    assert!(scope.position(&cursor).is_err());
}

fn write(filter: &flowfleet_core::port::RunFilter) -> String {
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    for state in &filter.states {
        query.append_pair("state", state.as_str());
    }
    for (key, value) in &filter.labels {
        query.append_pair("label", &format!("{key}:{value}"));
    }
    let pairs = [
        ("flow", filter.flow.as_ref().map(ToString::to_string)),
        ("queue", filter.queue.as_ref().map(ToString::to_string)),
        ("since", filter.since.map(|at| at.to_string())),
        ("until", filter.until.map(|at| at.to_string())),
    ];
    for (name, value) in pairs {
        if let Some(value) = value {
            query.append_pair(name, &value);
        }
    }
    query.finish()
}

/// The body of a call by filter is refused with places in it, or never means everything by accident.
pub fn filter(bytes: &[u8]) {
    let document = serde_json::from_slice::<Value>(bytes).ok();
    let wanted: FilterBody = match body::optional_json(bytes) {
        Ok(wanted) => wanted,
        Err(problem) => return assert_places_of(&problem, document.as_ref()),
    };
    let live = [RunState::Queued, RunState::Running];
    match wanted.filter(&live, &live, "not allowed") {
        Err(problem) => assert_places_of(&problem, Some(&document.unwrap_or_default())),
        Ok(filter) => {
            let narrow = filter.flow.is_some() || filter.queue.is_some() || !filter.labels.is_empty();
            let timed = filter.since.is_some() || filter.until.is_some();
            assert_ne!(wanted.all, narrow || timed || !wanted.state.is_empty());
            assert!(filter.states.iter().all(|state| live.contains(state)));
        }
    }
    let _ = wanted.most().inspect_err(assert_problem);
}

fn assert_problem(problem: &Problem) {
    assert!((400..500).contains(&problem.status), "{problem:?}");
    assert!(
        !problem.detail.is_empty() && problem.detail.len() < 20_000 && problem.errors.len() <= MAX_ERRORS
    );
}

fn assert_places_of(problem: &Problem, document: Option<&Value>) {
    assert_problem(problem);
    if !problem.errors.is_empty() {
        assert_places(&problem.errors, document);
    }
}

/// Each error names a place of the document, or one that is missing there.
fn assert_places(errors: &[ErrorItem], document: Option<&Value>) {
    assert!(!errors.is_empty());
    for error in errors {
        assert!(!error.detail.is_empty());
        let (parent, _) = error.pointer.rsplit_once('/').unwrap_or_default();
        let found = document.is_none_or(|document| document.pointer(parent).is_some());
        assert!(
            found,
            "nothing of the document is at {:?}: {}",
            error.pointer, error.detail
        );
    }
}

/// The same value with the keys of its objects in the opposite order.
fn reversed(value: &Value) -> Value {
    match value {
        Value::Array(items) => items.iter().map(reversed).collect(),
        Value::Object(entries) => Value::Object(
            entries
                .iter()
                .rev()
                .map(|(key, value)| (key.clone(), reversed(value)))
                .collect(),
        ),
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use flowfleet_mutate::Driver;

    use super::*;

    const RUN: &str = r#"{"flow": "hello@3", "input": {"input_value": "x", "n": 1.5}, "tweaks": {"a": {"b": null}}, "variables": {"K": "v"},
        "session_id": "s", "queue": "default", "priority": "high", "run_at": "2026-01-02T03:04:05Z", "timeout_s": 9.5,
        "expires_in_s": 60, "max_attempts": 3, "retry": {"backoff_s": 1, "factor": 2, "max_s": 60}, "labels": {"a": "b"},
        "idempotency_key": "key"}"#;

    #[test]
    fn submissions() {
        let other = r#"{"flow": "a", "delay_s": 0.5, "webhook": {"url": "http://h"}}"#;
        Driver::new("submit")
            .seeds([RUN, other, r#"{"flow": "a", "input": "x"}"#])
            .cases(10_000)
            .run(submit);
    }

    #[test]
    fn calls_of_langflows_api() {
        let seeds = [
            r#"{"input_value": "x", "input_type": "text", "output_type": "debug", "output_component": "C", "stream": true,
                "tweaks": {"a": {"b": null}}, "session_id": "s", "user_id": "u"}"#,
            r#"{"input_request": {"input_value": "x", "tweaks": {}}, "context": null}"#,
            "null",
        ];
        Driver::new("langflow").seeds(seeds).cases(10_000).run(langflow);
    }

    #[test]
    fn payloads_of_webhooks() {
        let seeds = [r#"{"msg": "a\nb"}"#, "x=1&y=2", "", "\u{0}"];
        Driver::new("webhook").seeds(seeds).cases(5_000).run(webhook);
    }

    #[test]
    fn workflows() {
        let seeds = [
            r#"{"flow_id": "00385b0b-2dd1-472c-9c03-70ad54c85f1e", "input_value": "x", "tweaks": {"a": {"b": null}}, "mode": "stream",
                "session_id": "s", "stream_protocol": "langflow", "expose_graph_state": false, "globals": {"A": "b"}}"#,
            r#"{"flow_id": "00385b0b2dd1472c9c0370ad54c85f1e", "output_ids": ["a"], "mode": "sync", "idempotency_key": "k"}"#,
            r#"{"flow_id": "00385b0b-2dd1-472c-9c03-70ad54c85f1e", "files": ["a"], "data": {}}"#,
        ];
        Driver::new("workflow").seeds(seeds).cases(10_000).run(workflow);
    }

    #[test]
    fn forms() {
        let head = "Content-Disposition: form-data; name=";
        let seeds = [
            format!("--b\r\n{head}\"file\"; filename=\"a.txt\"\r\n\r\nbytes\r\n--b--\r\n"),
            format!("--b\r\n{head}other\r\n\r\n1\r\n--b\r\n{head}file; filename=x\r\nA: b\r\n\r\n\r\n--b--"),
        ];
        Driver::new("form").seeds(seeds).cases(10_000).run(form);
    }

    #[test]
    fn batches() {
        let one = RUN.replace(['\n', ' '], "");
        let seeds = [
            format!("[{RUN}, {one}]"),
            format!("{one}\n\n{{\"flow\": \"a\"}}\r\n{{\"flow\": 3}}"),
            "[[], {}]".to_owned(),
        ];
        Driver::new("batch").seeds(seeds).cases(5_000).run(batch);
    }

    #[test]
    fn queries() {
        let cursor = Scope::new(&["any"]).cursor(b"0123456789abcdef");
        let seeds = [
            "state=queued&state=failed&flow=a&queue=b&label=k:v%20w&label=l:&since=2026-01-02T03:04:05Z&limit=5",
            "until=2026-01-02T03:04:05.5%2B01:00&cursor=x&wait_s=1.5",
            &cursor,
        ];
        Driver::new("query").seeds(seeds).cases(20_000).run(query);
    }

    #[test]
    fn filters() {
        let seeds = [
            r#"{"state": ["queued", "running"], "flow": "a", "queue": "b", "labels": {"k": "v"}, "since": "2026-01-02T03:04:05Z"}"#,
            r#"{"all": true, "limit": 5, "dry_run": true}"#,
        ];
        Driver::new("filter").seeds(seeds).cases(10_000).run(filter);
    }
}
