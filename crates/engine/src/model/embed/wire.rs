//! The bodies of requests and answers.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::{Value as Json, json};

pub(super) fn body(model: &str, input: &Json) -> String {
    json!({"input": input, "model": model, "encoding_format": "base64"}).to_string()
}

#[derive(Debug, Deserialize)]
struct Answer {
    data: Vec<Entry>,
    #[serde(default)]
    usage: Option<Usage>,
}

#[derive(Debug, Deserialize)]
struct Entry {
    embedding: Embedding,
}

/// Servers that do not know the format that is asked for send numbers.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Embedding {
    Base64(String),
    Numbers(Vec<f64>),
}

#[derive(Debug, Deserialize)]
struct Usage {
    #[serde(default)]
    prompt_tokens: u64,
}

/// The vectors, in the order of what was sent, and the tokens they cost.
pub(super) fn vectors(bytes: &[u8], count: usize) -> Result<(Vec<Vec<f64>>, u64), String> {
    let answer: Answer =
        serde_json::from_slice(bytes).map_err(|error| format!("sent no embeddings: {error}"))?;
    if answer.data.len() != count {
        return Err(format!("sent {} embeddings for {count} texts", answer.data.len()));
    }
    let vectors = answer.data.into_iter().map(|entry| match entry.embedding {
        Embedding::Numbers(numbers) => Ok(numbers),
        Embedding::Base64(text) => decoded(&text),
    });
    let vectors: Vec<Vec<f64>> = vectors.collect::<Result<_, String>>()?;
    let tokens = answer.usage.map_or(0, |usage| usage.prompt_tokens);
    Ok((vectors, tokens))
}

/// 32-bit floats, little-endian.
fn decoded(text: &str) -> Result<Vec<f64>, String> {
    let bytes = STANDARD
        .decode(text)
        .map_err(|error| format!("sent an embedding that is not base64: {error}"))?;
    let (numbers, rest) = bytes.as_chunks::<4>();
    if !rest.is_empty() {
        return Err("sent an embedding that is not a list of 32-bit numbers".to_owned());
    }
    Ok(numbers
        .iter()
        .map(|number| f64::from(f32::from_le_bytes(*number)))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers() {
        let read = |body: Json, count| vectors(body.to_string().as_bytes(), count);
        let base64 = STANDARD.encode([1.5_f32, -0.1].map(f32::to_le_bytes).concat());
        let body =
            json!({"data": [{"embedding": base64}, {"embedding": [0.5, 2]}], "usage": {"prompt_tokens": 7}});
        let expected = vec![vec![1.5, f64::from(-0.1_f32)], vec![0.5, 2.0]];
        assert_eq!(read(body.clone(), 2), Ok((expected, 7)));
        assert!(read(body, 3).unwrap_err().contains("2 embeddings for 3"));
        for bad in [
            json!({}),
            json!({"data": [{"embedding": "%"}]}),
            json!({"data": [{"embedding": "AAA="}]}),
        ] {
            assert!(read(bad.clone(), 1).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_request() {
        let body: Json = serde_json::from_str(&body("m", &json!([[1, 2]]))).unwrap();
        assert_eq!(
            body,
            json!({"input": [[1, 2]], "model": "m", "encoding_format": "base64"})
        );
    }
}
