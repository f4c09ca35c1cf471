//! Request bodies: read up to a limit, and parsed so that every refusal names its place.

use std::time::Duration;

use axum::body::{Body, BodyDataStream};
use axum::http::{HeaderMap, header};
use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use serde::de::DeserializeOwned;
use serde_path_to_error::Segment;

use super::problem::{Code, ErrorItem, Problem};

/// The longest silence of a client in the middle of its body.
const SILENCE: Duration = Duration::from_secs(20);

/// Reads a whole body of at most `limit` bytes.
pub(crate) async fn read(
    headers: &HeaderMap,
    body: Body,
    limit: usize,
    what: &str,
) -> Result<Bytes, Problem> {
    let too_large = || {
        Problem::new(
            Code::TooLarge,
            format!("{what} may have at most {limit} bytes: ask the operator to raise it"),
        )
    };
    let announced = headers
        .get(header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok())
        .and_then(|text| text.parse::<u64>().ok());
    if announced.is_some_and(|length| length > limit as u64) {
        return Err(too_large());
    }
    let mut stream = body.into_data_stream();
    let Some(first) = chunk(&mut stream).await? else {
        return Ok(Bytes::new());
    };
    if first.len() > limit {
        return Err(too_large());
    }
    // Most bodies arrive whole: nothing is copied then.
    let Some(mut next) = chunk(&mut stream).await? else {
        return Ok(first);
    };
    let mut collected = BytesMut::from(first);
    loop {
        if collected.len() + next.len() > limit {
            return Err(too_large());
        }
        collected.extend_from_slice(&next);
        match chunk(&mut stream).await? {
            Some(more) => next = more,
            None => return Ok(collected.freeze()),
        }
    }
}

async fn chunk(stream: &mut BodyDataStream) -> Result<Option<Bytes>, Problem> {
    match tokio::time::timeout(SILENCE, stream.next()).await {
        Ok(chunk) => chunk
            .transpose()
            .map_err(|error| Problem::new(Code::Invalid, format!("the body broke off: {error}"))),
        Err(_) => Err(Problem::new(Code::Invalid, "the body stopped before its end")),
    }
}

/// Parses JSON; a refusal has the pointer to the place, unknown fields included.
pub(crate) fn json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ErrorItem> {
    // The fast path keeps no track of where it is; a refused body is parsed again by one that does.
    if let Ok(value) = serde_json::from_slice(bytes) {
        return Ok(value);
    }
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let parsed = serde_path_to_error::deserialize(&mut deserializer)
        .map_err(|error| ErrorItem::new(pointer(error.path()), reason(error.inner())))
        .and_then(|value| {
            deserializer
                .end()
                .map_err(|error| ErrorItem::new("", reason(&error)))?;
            Ok(value)
        });
    if bytes.trim_ascii().is_empty() {
        return Err(ErrorItem::new("", "the body is empty: send a JSON object"));
    }
    parsed
}

/// Parses a body that may be left out: the empty one is the default.
pub(crate) fn optional_json<T: DeserializeOwned + Default>(bytes: &[u8]) -> Result<T, Problem> {
    if bytes.trim_ascii().is_empty() {
        return Ok(T::default());
    }
    json(bytes).map_err(|error| Problem::of(Code::Invalid, vec![error]))
}

fn reason(error: &serde_json::Error) -> String {
    let text = error.to_string();
    if error.is_syntax() || error.is_eof() {
        format!("not valid JSON: {text}")
    } else {
        text
    }
}

pub(crate) fn pointer(path: &serde_path_to_error::Path) -> String {
    let mut pointer = String::new();
    for segment in path {
        match segment {
            Segment::Seq { index } => pointer.push_str(&format!("/{index}")),
            Segment::Map { key } => {
                pointer.push('/');
                pointer.push_str(&escape(key));
            }
            Segment::Enum { .. } | Segment::Unknown => {}
        }
    }
    pointer
}

/// A key as one segment of a JSON pointer.
pub(crate) fn escape(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Debug, Default, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only parsed")]
    struct Outer {
        name: String,
        inner: Option<Inner>,
        list: Option<Vec<u8>>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only parsed")]
    struct Inner {
        n: u32,
    }

    #[test]
    fn refusals_point_to_their_place() {
        for (text, expected) in [
            (r#"{"name": 3}"#, "/name"),
            (r#"{"name": "a", "inner": {"n": -1}}"#, "/inner/n"),
            (r#"{"name": "a", "inner": {"n": 1, "m/x": 2}}"#, "/inner/m~1x"),
            (r#"{"name": "a", "list": [1, 2, 900]}"#, "/list/2"),
            (r#"{"name": "a", "colour": 1}"#, "/colour"),
            (r#"{"inner": null}"#, ""),
            ("{", ""),
            ("", ""),
            (r#"{"name": "a"} x"#, ""),
        ] {
            let error = json::<Outer>(text.as_bytes()).unwrap_err();
            assert_eq!(error.pointer, expected, "{text}: {error:?}");
            assert!(!error.detail.is_empty());
        }
        assert!(
            json::<Outer>(br#"{"name": "a"} x"#)
                .unwrap_err()
                .detail
                .contains("not valid JSON")
        );
        assert!(optional_json::<Outer>(b"  ").is_ok());
    }
}
