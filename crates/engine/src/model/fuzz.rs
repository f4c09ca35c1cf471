//! Fuzz target: any bytes as what a model server answers.

use std::sync::{Mutex, PoisonError};

use super::sse::Decoder;
use super::stream::Answer;
use super::wire;

#[cfg(test)]
pub(crate) const SEEDS: [&str; 5] = [
    "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"a\"}}]}\n\ndata: [DONE]\n\n",
    "\u{feff}: ping\r\n\r\ndata: {\"choices\":[{\"delta\":{\"content\":[{\"text\":\"a\"},\"b\"]},\"finish_reason\":\"stop\"}]}\r\n\r\n",
    "data: {\"error\":{\"message\":\"no\",\"type\":\"x\",\"code\":\"rate_limit_exceeded\"}}\n\n",
    "{\"choices\":[{\"index\":0,\"message\":{\"content\":\"a\"}}],\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":2}}",
    "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":1}}\n\ndata: a\ndata: b\n\n",
];

/// Where the network cuts an answer does not matter, tokens add up to the text, and nothing is invented.
pub fn stream(bytes: &[u8]) {
    let whole = events(&[bytes]);
    // A byte that is no UTF-8 is shown as a character of three.
    assert!(whole.iter().map(String::len).sum::<usize>() <= bytes.len() * 3);
    for size in [1, 2, 7] {
        let chunks: Vec<&[u8]> = bytes.chunks(size).collect();
        assert_eq!(events(&chunks), whole);
    }
    let tokens = Mutex::new(Vec::new());
    let heard = |token: &str| {
        tokens
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(token.to_owned());
    };
    let mut answer = Answer::default();
    for event in &whole {
        match answer.take(event.trim(), &heard) {
            Ok(false) => {}
            Ok(true) | Err(_) => break,
        }
    }
    let tokens = tokens.into_inner().unwrap_or_else(PoisonError::into_inner);
    assert_eq!(tokens.concat(), answer.reply.text);
    assert!(tokens.iter().all(|token| !token.is_empty()));
    if let Ok(reply) = wire::whole(bytes) {
        assert!(reply.text.len() <= bytes.len());
    }
}

fn events(chunks: &[&[u8]]) -> Vec<String> {
    let mut decoder = Decoder::default();
    let mut events = Vec::new();
    for chunk in chunks {
        decoder.push(chunk, &mut events);
    }
    events
}
