//! Tables and properties of the submission parser.

use super::*;
use proptest::prelude::*;
use serde_json::json;

fn parsed(body: &Value) -> Result<Wanted, Refused> {
    parse(body.to_string().as_bytes(), &Limits::default(), None)
}

fn pointers(body: &Value) -> Vec<String> {
    parsed(body)
        .unwrap_err()
        .errors
        .into_iter()
        .map(|e| e.pointer)
        .collect()
}

#[test]
fn a_minimal_run_gets_every_default() {
    let wanted = parsed(&json!({"flow": "a", "input": "hi"})).unwrap();
    assert_eq!(wanted.queue, QueueName::default());
    assert_eq!(wanted.priority, Priority::Normal);
    assert_eq!(wanted.settings, RunSettings::default());
    assert_eq!(wanted.start, Start::Now);
    assert_eq!(wanted.idempotency, None);
}

#[test]
fn each_bad_field_is_named() {
    let table = [
        (json!({"flow": "a b"}), "/flow"),
        (json!({"flow": "a@0"}), "/flow"),
        (json!({"flow": "a", "input": 3}), "/input"),
        (json!({"flow": "a", "input": ["x"]}), "/input"),
        (json!({"flow": "a", "tweaks": "x"}), "/tweaks"),
        (json!({"flow": "a", "session_id": ""}), "/session_id"),
        (json!({"flow": "a", "queue": "-"}), "/queue"),
        (json!({"flow": "a", "priority": "urgent"}), "/priority"),
        (json!({"flow": "a", "run_at": "tomorrow"}), "/run_at"),
        (json!({"flow": "a", "run_at": "9000-01-01T00:00:00Z"}), "/run_at"),
        (json!({"flow": "a", "delay_s": -1}), "/delay_s"),
        (
            json!({"flow": "a", "delay_s": 1, "run_at": "2030-01-01T00:00:00Z"}),
            "/delay_s",
        ),
        (json!({"flow": "a", "timeout_s": 0}), "/timeout_s"),
        (json!({"flow": "a", "timeout_s": 1e12}), "/timeout_s"),
        (json!({"flow": "a", "expires_in_s": 0}), "/expires_in_s"),
        (json!({"flow": "a", "max_attempts": 0}), "/max_attempts"),
        (json!({"flow": "a", "max_attempts": -3}), "/max_attempts"),
        (json!({"flow": "a", "retry": {"factor": 0.5}}), "/retry"),
        (json!({"flow": "a", "retry": {"jitter": 1}}), "/retry/jitter"),
        (json!({"flow": "a", "labels": {"a b": "x"}}), "/labels"),
        (json!({"flow": "a", "labels": {"a": 1}}), "/labels/a"),
        (json!({"flow": "a", "idempotency_key": ""}), "/idempotency_key"),
        (json!({"flow": "a", "colour": "red"}), "/colour"),
        (json!({"flow": 3}), "/flow"),
        (json!({}), ""),
        (json!([]), ""),
    ];
    for (body, pointer) in table {
        assert_eq!(pointers(&body), [pointer], "{body}");
    }
}

#[test]
fn all_that_is_wrong_is_said_at_once() {
    let body = json!({"flow": "?", "priority": "urgent", "timeout_s": -1});
    assert_eq!(pointers(&body), ["/flow", "/priority", "/timeout_s"]);
}

#[test]
fn fields_that_are_not_built_are_refused_not_ignored() {
    for (field, value) in [
        ("concurrency_key", json!("k")),
        ("after", json!([])),
        ("webhook", json!({"url": "http://x"})),
    ] {
        let refused = parsed(&json!({"flow": "a", field: value})).unwrap_err();
        assert_eq!(refused.code, Code::NotAvailable, "{field}");
        assert_eq!(refused.errors[0].pointer, format!("/{field}"));
    }
}

#[test]
fn times_table() {
    let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
    let minute = Duration::from_secs(60);
    let (past, future) = (now - minute, now + minute);
    assert_eq!(times(Start::Now, None, now), (None, None));
    assert_eq!(times(Start::At(past), Some(minute), now), (None, Some(future)));
    assert_eq!(
        times(Start::At(future), Some(minute), now),
        (Some(future), Some(future + minute))
    );
    assert_eq!(times(Start::In(minute), None, now), (Some(future), None));
    let relative =
        [Start::Now, Start::In(minute), Start::At(past), Start::At(future)].map(|s| s.is_relative(now));
    assert_eq!(relative, [true, true, true, false]);
}

#[test]
fn the_header_and_the_field_must_agree() {
    let body = json!({"flow": "a", "idempotency_key": "one"}).to_string();
    let limits = Limits::default();
    let same = parse(body.as_bytes(), &limits, Some("one")).unwrap();
    assert_eq!(same.idempotency.unwrap().key, "one");
    let refused = parse(body.as_bytes(), &limits, Some("two")).unwrap_err();
    assert_eq!(refused.errors[0].pointer, "/idempotency_key");
    let body = json!({"flow": "a"}).to_string();
    let by_header = parse(body.as_bytes(), &limits, Some("two")).unwrap();
    assert_eq!(by_header.idempotency.unwrap().key, "two");
}

#[test]
fn digests_do_not_depend_on_order_or_on_the_key() {
    let one = parsed(&json!({"flow": "a", "input": {"x": 1, "y": 2}, "idempotency_key": "k"})).unwrap();
    let two = parsed(&json!({"idempotency_key": "l", "input": {"y": 2, "x": 1}, "flow": "a"})).unwrap();
    let other = parsed(&json!({"flow": "a", "input": {"x": 2, "y": 1}, "idempotency_key": "k"})).unwrap();
    let digest = |wanted: &Wanted| wanted.idempotency.clone().unwrap().digest;
    assert_eq!(digest(&one), digest(&two));
    assert_ne!(digest(&one), digest(&other));
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 6, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::btree_map("[a-z_]{1,6}", inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

const FIELDS: [&str; 17] = [
    "flow",
    "input",
    "tweaks",
    "variables",
    "session_id",
    "queue",
    "priority",
    "run_at",
    "delay_s",
    "timeout_s",
    "expires_in_s",
    "max_attempts",
    "retry",
    "idempotency_key",
    "labels",
    "after",
    "webhook",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = parse(&bytes, &Limits::default(), Some("k"));
    }

    /// Known fields with any value: parsed, or refused with at least one place.
    #[test]
    fn any_values_of_known_fields_are_taken_or_refused_with_a_place(
        fields in proptest::collection::vec((0usize..FIELDS.len(), any_json()), 0..6),
    ) {
        let map: serde_json::Map<_, _> =
            fields.into_iter().map(|(index, value)| (FIELDS[index].to_owned(), value)).collect();
        let body = Value::Object(map);
        match parsed(&body) {
            Ok(wanted) => {
                prop_assert!(wanted.settings.timeout_s > 0.0);
                prop_assert!(wanted.settings.max_attempts >= 1);
                let _ = times(wanted.start, wanted.expires_in, Timestamp::UNIX_EPOCH);
            }
            Err(refused) => prop_assert!(!refused.errors.is_empty()),
        }
    }

    #[test]
    fn distinct_values_have_distinct_digests(one in any_json(), two in any_json()) {
        prop_assert_eq!(digest(&one) == digest(&two), one == two);
    }
}
