//! Fuzz target: any bytes as what a model server answers.

use std::sync::{Mutex, PoisonError};

use super::sse::Decoder;
use super::stream::{Answer, Framing};
use super::{anthropic, ollama, openai};

#[cfg(test)]
pub(crate) const SEEDS: [&str; 8] = [
    "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"a\"}}]}\n\ndata: [DONE]\n\n",
    "\u{feff}: ping\r\n\r\ndata: {\"choices\":[{\"delta\":{\"content\":[{\"text\":\"a\"},\"b\"]},\"finish_reason\":\"stop\"}]}\r\n\r\n",
    "data: {\"error\":{\"message\":\"no\",\"type\":\"x\",\"code\":\"rate_limit_exceeded\"}}\n\n",
    "{\"choices\":[{\"index\":0,\"message\":{\"content\":\"a\"}}],\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":2}}",
    "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":1}}\n\ndata: a\ndata: b\n\n",
    "data: {\"type\":\"content_block_start\",\"content_block\":{\"type\":\"tool_use\",\"id\":\"a\",\"name\":\"b\",\"input\":{}}}\n\ndata: {\"type\":\"content_block_delta\",\"delta\":{\"type\":\"input_json_delta\",\"partial_json\":\"{}\"}}\n\n",
    "{\"content\":[{\"type\":\"text\",\"text\":\"a\"},{\"type\":\"thinking\",\"thinking\":\"b\"}],\"usage\":{\"input_tokens\":1}}",
    "{\"message\":{\"content\":\"a\",\"tool_calls\":[{\"function\":{\"name\":\"b\",\"arguments\":{\"c\":\"[1]\"}}}]},\"done\":true}\n",
];

/// Where the network cuts an answer does not matter, tokens add up to the text, and nothing is invented.
pub fn stream(bytes: &[u8]) {
    let events = pieces(Framing::Events, &[bytes]);
    let lines = pieces(Framing::Lines, &[bytes]);
    for (framing, whole) in [(Framing::Events, &events), (Framing::Lines, &lines)] {
        // A byte that is no UTF-8 is shown as a character of three.
        assert!(whole.iter().map(String::len).sum::<usize>() <= bytes.len() * 3);
        for size in [1, 2, 7] {
            let chunks: Vec<&[u8]> = bytes.chunks(size).collect();
            assert_eq!(pieces(framing, &chunks), *whole);
        }
    }
    answer::<openai::Answer>(&events);
    answer::<anthropic::Answer>(&events);
    answer::<ollama::Answer>(&lines);
    for reply in [openai::whole(bytes), anthropic::whole(bytes)]
        .into_iter()
        .flatten()
    {
        assert!(reply.text.len() <= bytes.len());
    }
}

/// Tokens add up to the text.
fn answer<A: Answer>(pieces: &[String]) {
    let tokens = Mutex::new(Vec::new());
    let heard = |token: &str| {
        tokens
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(token.to_owned());
    };
    let mut answer = A::default();
    for piece in pieces
        .iter()
        .map(|piece| piece.trim())
        .filter(|piece| !piece.is_empty())
    {
        match answer.take(piece, &heard) {
            Ok(false) => {}
            Ok(true) | Err(_) => break,
        }
    }
    let tokens = tokens.into_inner().unwrap_or_else(PoisonError::into_inner);
    assert_eq!(tokens.concat(), answer.reply().text);
    assert!(tokens.iter().all(|token| !token.is_empty()));
}

fn pieces(framing: Framing, chunks: &[&[u8]]) -> Vec<String> {
    let mut decoder = Decoder::of(framing);
    let mut pieces = Vec::new();
    for chunk in chunks {
        decoder.push(chunk, &mut pieces);
    }
    pieces
}
