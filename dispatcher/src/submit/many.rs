//! The body of a batch: split into runs, each parsed and checked, with every bad one named by its place.

use std::collections::HashMap;
use std::fmt;

use axum::http::{HeaderMap, header};
use bytes::Bytes;
use flowfleet_core::Limits;
use flowfleet_core::run::Idempotency;
use serde::de::{Deserializer, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::parse::{self, Refused, Wanted};
use crate::api::problem::{Code, ErrorItem, MAX_ERRORS, Problem};

/// Whether a batch is one run a line: by its content type, or else by its first byte.
pub(crate) fn is_ndjson(headers: &HeaderMap, bytes: &[u8]) -> bool {
    let kind = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    let kind = kind
        .split(';')
        .next()
        .unwrap_or_default()
        .trim()
        .to_ascii_lowercase();
    match kind.as_str() {
        "application/x-ndjson" | "application/ndjson" | "application/jsonl" | "application/x-jsonlines" => {
            true
        }
        _ => bytes.trim_ascii_start().first() != Some(&b'['),
    }
}

/// Where a run stands in the batch.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Place {
    /// Of NDJSON, from 1.
    Line(u64),
    /// In an array.
    Index(usize),
}

impl Place {
    pub(crate) fn error(self, error: ErrorItem) -> ErrorItem {
        match self {
            Self::Line(line) => ErrorItem {
                line: Some(line),
                ..error
            },
            Self::Index(index) => ErrorItem {
                pointer: format!("/{index}{}", error.pointer),
                ..error
            },
        }
    }
}

/// Collects what is wrong, up to the bound of a problem.
#[derive(Debug, Default)]
pub(crate) struct Wrong {
    errors: Vec<ErrorItem>,
    code: Option<Code>,
}

impl Wrong {
    pub(crate) fn add(&mut self, place: Place, code: Code, errors: impl IntoIterator<Item = ErrorItem>) {
        self.code.get_or_insert(code);
        for error in errors {
            if self.errors.len() < MAX_ERRORS {
                self.errors.push(place.error(error));
            }
        }
    }

    pub(crate) fn verdict(self) -> Result<(), Problem> {
        match self.code {
            None => Ok(()),
            Some(code) => Err(Problem::of(code, self.errors)),
        }
    }
}

/// Parses and checks all runs of a batch, or says what is wrong with each.
pub(crate) fn parse_all(
    bytes: &Bytes,
    lines: bool,
    limits: &Limits,
    key: Option<&str>,
) -> Result<Vec<(Place, Wanted)>, Problem> {
    let bodies = if lines {
        split_lines(bytes, limits.batch_runs)
    } else {
        split_array(bytes, limits.batch_runs)
    }?;
    if bodies.is_empty() {
        return Err(Problem::invalid(
            "",
            "the batch is empty: send a JSON array of runs, or one run a line",
        ));
    }
    let mut wrong = Wrong::default();
    let mut parsed = Vec::with_capacity(bodies.len());
    let mut keys: HashMap<String, String> = HashMap::new();
    for (index, (place, body)) in bodies.into_iter().enumerate() {
        if body.len() > limits.body_bytes {
            let error = ErrorItem::new("", format!("a run may have at most {} bytes", limits.body_bytes));
            wrong.add(place, Code::Invalid, [error]);
            continue;
        }
        match parse::parse(body, limits, None).map(|wanted| with_key(wanted, body, key, index)) {
            Err(Refused { code, errors }) => wrong.add(place, code, errors),
            Ok(wanted) => {
                if let Some(Idempotency { key, digest }) = &wanted.idempotency
                    && keys
                        .insert(key.clone(), digest.clone())
                        .is_some_and(|other| other != *digest)
                {
                    let error = ErrorItem::new("/idempotency_key", "is used twice, for different runs");
                    wrong.add(place, Code::Invalid, [error]);
                }
                parsed.push((place, wanted));
            }
        }
    }
    wrong.verdict()?;
    Ok(parsed)
}

/// Gives a run of a batch with a key its own, by position.
fn with_key(mut wanted: Wanted, body: &[u8], key: Option<&str>, index: usize) -> Wanted {
    if let (None, Some(key)) = (&wanted.idempotency, key) {
        let asked: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
        wanted.idempotency = Some(Idempotency {
            key: format!("{key}/{index}"),
            digest: parse::digest(&asked),
        });
    }
    wanted
}

fn too_many(most: usize) -> Problem {
    Problem::new(
        Code::TooLarge,
        format!("a batch may have at most {most} runs: send several"),
    )
}

fn split_lines(bytes: &[u8], most: usize) -> Result<Vec<(Place, &[u8])>, Problem> {
    let mut bodies = Vec::new();
    for (index, line) in bytes.split(|b| *b == b'\n').enumerate() {
        let line = line.trim_ascii();
        if line.is_empty() {
            continue;
        }
        if bodies.len() == most {
            return Err(too_many(most));
        }
        bodies.push((Place::Line(index as u64 + 1), line));
    }
    Ok(bodies)
}

/// The elements of an array, unparsed and counted as they come: a hostile array of millions is not gathered.
fn split_array(bytes: &[u8], most: usize) -> Result<Vec<(Place, &[u8])>, Problem> {
    struct Elements(usize);
    impl<'de> Visitor<'de> for Elements {
        type Value = Option<Vec<&'de RawValue>>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an array of runs")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
            let mut found = Vec::new();
            while let Some(element) = seq.next_element::<&'de RawValue>()? {
                if found.len() == self.0 {
                    while seq.next_element::<serde::de::IgnoredAny>()?.is_some() {}
                    return Ok(None);
                }
                found.push(element);
            }
            Ok(Some(found))
        }
    }
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let elements = deserializer
        .deserialize_seq(Elements(most))
        .and_then(|elements| deserializer.end().map(|()| elements))
        .map_err(|error| Problem::invalid("", format!("not a JSON array of runs: {error}")))?;
    let elements = elements.ok_or_else(|| too_many(most))?;
    let bodies = elements.into_iter().enumerate();
    Ok(bodies
        .map(|(index, raw)| (Place::Index(index), raw.get().as_bytes()))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn parsed(text: &str, lines: bool) -> Result<Vec<(Place, Wanted)>, Problem> {
        parse_all(
            &Bytes::copy_from_slice(text.as_bytes()),
            lines,
            &Limits::default(),
            None,
        )
    }

    #[test]
    fn bad_lines_are_named_even_after_empty_ones() {
        let good = json!({"flow": "a", "input": "x"}).to_string();
        let problem = parsed(&format!("{good}\n\n{{\"flow\": 3}}\r\nnonsense\n{good}\n"), true).unwrap_err();
        let places: Vec<_> = problem
            .errors
            .iter()
            .map(|e| (e.line, e.pointer.as_str()))
            .collect();
        assert_eq!(places, [(Some(3), "/flow"), (Some(4), "")]);
        assert!(
            problem.detail.starts_with("line 3: /flow: "),
            "{}",
            problem.detail
        );
        let problem = parsed(&format!("[{good}, {{\"flow\": 3}}]"), false).unwrap_err();
        assert_eq!(problem.errors[0].pointer, "/1/flow");
    }

    #[test]
    fn a_batch_has_a_bound() {
        let limits = Limits {
            batch_runs: 2,
            ..Limits::default()
        };
        let line = json!({"flow": "a"}).to_string();
        let three = format!("{line}\n{line}\n{line}\n");
        let refused = |text: &str, lines| {
            parse_all(&Bytes::copy_from_slice(text.as_bytes()), lines, &limits, None)
                .unwrap_err()
                .status
        };
        assert_eq!(refused(&three, true), 413);
        assert_eq!(refused("[1,1,1,1]", false), 413);
        assert_eq!(refused("", true), 422);
        assert_eq!(refused("[]", false), 422);
        assert_eq!(refused("[1] x", false), 422);
        assert_eq!(refused("[1", false), 422);
    }

    #[test]
    fn one_key_for_two_different_runs_is_refused_before_anything_is_stored() {
        let one = json!({"flow": "a", "input": "x", "idempotency_key": "k"}).to_string();
        let two = json!({"flow": "a", "input": "y", "idempotency_key": "k"}).to_string();
        assert_eq!(parsed(&format!("{one}\n{one}"), true).unwrap().len(), 2);
        assert_eq!(
            parsed(&format!("{one}\n{two}"), true).unwrap_err().errors[0].line,
            Some(2)
        );
    }

    #[test]
    fn the_key_of_the_batch_makes_keys_by_position() {
        let body = Bytes::from_static(b"{\"flow\":\"a\"}\n{\"flow\":\"a\",\"idempotency_key\":\"own\"}");
        let wanted = parse_all(&body, true, &Limits::default(), Some("batch-7")).unwrap();
        let keys: Vec<_> = wanted
            .into_iter()
            .map(|(_, w)| w.idempotency.unwrap().key)
            .collect();
        assert_eq!(keys, ["batch-7/0", "own"]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]

        #[test]
        fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200), lines in any::<bool>()) {
            let _ = parse_all(&Bytes::from(bytes), lines, &Limits::default(), Some("k"));
        }
    }
}
