//! W3C trace context: read from requests, carried through the queue, given to the spans of workers.

use std::collections::HashMap;

use flowfleet_core::TraceContext;
use opentelemetry::propagation::TextMapPropagator;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use tracing_opentelemetry::OpenTelemetrySpanExt;

const TRACEPARENT: &str = "traceparent";
const TRACESTATE: &str = "tracestate";

/// The longest `tracestate` that is carried on; the standard asks for at least this much.
const TRACESTATE_LIMIT: usize = 512;

/// The context of the current span, when traces are exported; `None` otherwise: no context is invented.
pub fn current() -> Option<TraceContext> {
    let span = tracing::Span::current();
    if span.is_disabled() {
        return None;
    }
    let mut carrier = HashMap::new();
    TraceContextPropagator::new().inject_context(&span.context(), &mut carrier);
    let tracestate = carrier.remove(TRACESTATE).filter(|state| !state.is_empty());
    carrier.remove(TRACEPARENT).map(|traceparent| TraceContext {
        traceparent,
        tracestate,
    })
}

/// The context a client sent, if it is a valid one.
pub fn parse(headers: &http::HeaderMap) -> Option<TraceContext> {
    let mut parents = headers.get_all(TRACEPARENT).iter();
    let traceparent = parents.next()?.to_str().ok()?.trim().to_owned();
    if parents.next().is_some() || !valid(&traceparent) {
        return None;
    }
    let states: Option<Vec<&str>> = headers
        .get_all(TRACESTATE)
        .iter()
        .map(|value| value.to_str().ok())
        .collect();
    let tracestate = states
        .map(|states| states.join(","))
        .filter(|state| !state.is_empty() && state.len() <= TRACESTATE_LIMIT);
    Some(TraceContext {
        traceparent,
        tracestate,
    })
}

/// Makes `span` a child of `context` where traces are exported; without an exporter nothing happens.
pub fn set_parent(span: &tracing::Span, context: &TraceContext) {
    if span.is_disabled() {
        return;
    }
    let mut carrier = HashMap::from([(TRACEPARENT.to_owned(), context.traceparent.clone())]);
    if let Some(state) = &context.tracestate {
        carrier.insert(TRACESTATE.to_owned(), state.clone());
    }
    let parent = TraceContextPropagator::new().extract(&carrier);
    // An error means that no exporter listens.
    let _ = span.set_parent(parent);
}

/// `version-trace-parent-flags` in lower-case hex, neither id all zeros; later versions may append fields.
fn valid(traceparent: &str) -> bool {
    let hex = |text: &str, digits: usize| {
        text.len() == digits
            && text
                .bytes()
                .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
    };
    let some = |text: &str| text.bytes().any(|b| b != b'0');
    let mut parts = traceparent.split('-');
    let (Some(version), Some(trace), Some(parent), Some(flags)) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return false;
    };
    let tail = parts.next().is_none() || version != "00";
    hex(version, 2)
        && version != "ff"
        && hex(trace, 32)
        && some(trace)
        && hex(parent, 16)
        && some(parent)
        && hex(flags, 2)
        && tail
        && traceparent.len() <= 256
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn headers(parents: &[&str], states: &[&str]) -> http::HeaderMap {
        let mut map = http::HeaderMap::new();
        for parent in parents {
            map.append(TRACEPARENT, parent.parse().unwrap());
        }
        for state in states {
            map.append(TRACESTATE, state.parse().unwrap());
        }
        map
    }

    #[test]
    fn table() {
        let future = format!("cc-{}-later", &GOOD[3..]);
        assert_eq!(parse(&headers(&[GOOD], &[])).unwrap().traceparent, GOOD);
        assert!(parse(&headers(&[&future], &[])).is_some());
        let both = parse(&headers(&[GOOD], &["a=1", "b=2"])).unwrap();
        assert_eq!(both.tracestate.as_deref(), Some("a=1,b=2"));
        let long = "x".repeat(TRACESTATE_LIMIT + 1);
        assert_eq!(parse(&headers(&[GOOD], &[&long])).unwrap().tracestate, None);
        for bad in [
            "",
            "00",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
        ] {
            assert!(parse(&headers(&[bad], &[])).is_none(), "{bad}");
        }
        assert!(parse(&headers(&[GOOD, GOOD], &[])).is_none());
    }

    #[test]
    fn no_exporter_means_no_context() {
        assert_eq!(current(), None);
        set_parent(
            &tracing::info_span!("run"),
            &TraceContext {
                traceparent: GOOD.to_owned(),
                tracestate: None,
            },
        );
    }
}
