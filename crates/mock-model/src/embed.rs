//! Embeddings: a vector is the sum of one for each token, so that what shares tokens is near, at length 1.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::{Value, json};

/// Numbers of a vector, when the request does not say.
const DIMENSIONS: usize = 64;
const MAX_DIMENSIONS: usize = 4_096;
/// Inputs of one request, as OpenAI has it.
const MAX_INPUTS: usize = 2_048;

/// The part of a request the server looks at.
#[derive(Debug, Deserialize)]
pub(crate) struct Request {
    model: String,
    input: Input,
    #[serde(default)]
    dimensions: Option<usize>,
    #[serde(default)]
    encoding_format: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Input {
    Text(String),
    Tokens(Vec<u64>),
    Texts(Vec<String>),
    TokenLists(Vec<Vec<u64>>),
}

impl Request {
    /// The answer and what it costs, or why there is none.
    pub(crate) fn answer(self) -> Result<(Value, u64), &'static str> {
        if self.model.is_empty() {
            return Err("you must provide a model parameter");
        }
        let dimensions = self.dimensions.unwrap_or(DIMENSIONS);
        if dimensions == 0 || dimensions > MAX_DIMENSIONS {
            return Err("dimensions must be from 1 to 4096");
        }
        let inputs: Vec<Vec<u64>> = match self.input {
            Input::Text(text) => vec![of_text(&text)],
            // An empty list is one of nothing.
            Input::Tokens(tokens) if tokens.is_empty() => Vec::new(),
            Input::Tokens(tokens) => vec![tokens],
            Input::Texts(texts) => texts.iter().map(|text| of_text(text)).collect(),
            Input::TokenLists(lists) => lists,
        };
        if inputs.is_empty() || inputs.len() > MAX_INPUTS {
            return Err("input must have 1 to 2048 entries");
        }
        let tokens = inputs.iter().map(|tokens| tokens.len() as u64).sum();
        let data = inputs.iter().enumerate().map(|(index, tokens)| {
            let vector = vector(tokens, dimensions);
            let embedding = match self.encoding_format.as_deref() {
                Some("base64") => STANDARD
                    .encode(vector.iter().flat_map(|n| n.to_le_bytes()).collect::<Vec<u8>>())
                    .into(),
                _ => json!(vector),
            };
            json!({"object": "embedding", "index": index, "embedding": embedding})
        });
        let answer = json!({
            "object": "list",
            "data": data.collect::<Vec<_>>(),
            "model": self.model,
            "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
        });
        Ok((answer, tokens))
    }
}

/// Words count as tokens.
fn of_text(text: &str) -> Vec<u64> {
    let word = |word: &str| word.bytes().fold(7, |hash, byte| mixed(hash ^ u64::from(byte)));
    text.split_whitespace().map(word).collect()
}

/// splitmix64.
fn mixed(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn vector(tokens: &[u64], dimensions: usize) -> Vec<f32> {
    let mut sum = vec![0_f64; dimensions];
    // Nothing lies somewhere, too.
    for token in tokens.iter().copied().chain([u64::MAX]) {
        let weight = if token == u64::MAX { 0.1 } else { 1.0 };
        let mut state = mixed(token);
        for number in &mut sum {
            state = mixed(state);
            *number += weight * ((state >> 11) as f64 / (1_u64 << 53) as f64 - 0.5);
        }
    }
    let length = sum.iter().map(|number| number * number).sum::<f64>().sqrt();
    sum.into_iter().map(|number| (number / length) as f32).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(body: Value) -> Result<(Value, u64), &'static str> {
        serde_json::from_value::<Request>(body).unwrap().answer()
    }

    #[test]
    fn what_shares_words_is_near() {
        let (answer, tokens) =
            asked(json!({"model": "m", "input": ["the red cat", "a red cat", "ships sail", ""]})).unwrap();
        assert_eq!(tokens, 8);
        let vector = |at: usize| -> Vec<f64> {
            serde_json::from_value(answer["data"][at]["embedding"].clone()).unwrap()
        };
        let apart = |a: usize, b: usize| -> f64 {
            let pairs = vector(a).into_iter().zip(vector(b));
            pairs.map(|(a, b)| (a - b) * (a - b)).sum()
        };
        assert!(apart(0, 1) < apart(0, 2), "{} {}", apart(0, 1), apart(0, 2));
        let length: f64 = vector(3).iter().map(|number| number * number).sum();
        assert!((length - 1.0).abs() < 1e-6);
    }

    #[test]
    fn a_vector_as_it_is_asked_for() {
        let tokens = json!({"model": "m", "input": [[1, 2]], "dimensions": 3});
        let (plain, _) = asked(tokens.clone()).unwrap();
        let mut tokens = tokens;
        tokens["encoding_format"] = "base64".into();
        let (packed, _) = asked(tokens).unwrap();
        let bytes = STANDARD
            .decode(packed["data"][0]["embedding"].as_str().unwrap())
            .unwrap();
        let numbers: Vec<f32> = serde_json::from_value(plain["data"][0]["embedding"].clone()).unwrap();
        assert_eq!(
            bytes,
            numbers.iter().flat_map(|n| n.to_le_bytes()).collect::<Vec<u8>>()
        );
        for bad in [
            json!({"model": "", "input": "x"}),
            json!({"model": "m", "input": []}),
            json!({"model": "m", "input": "x", "dimensions": 0}),
        ] {
            assert!(asked(bad.clone()).is_err(), "{bad}");
        }
    }
}
