//! Texts as tokens, cut to what a model takes, and how many go into one request.

/// Tokens that a model takes at once.
const LONGEST: usize = 8_191;
/// Tokens of one request.
const MOST: usize = 300_000;

/// A text, or a part of one that is too long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Piece {
    /// The place of its text.
    pub(super) text: usize,
    pub(super) tokens: Vec<u32>,
}

/// All embedding models of OpenAI's that can be chosen have the same tokens.
pub(super) fn knows(model: &str) -> bool {
    matches!(
        model,
        "text-embedding-ada-002" | "text-embedding-3-small" | "text-embedding-3-large"
    )
}

/// How many texts there are, and their pieces. An empty text has none.
pub(super) fn pieces(texts: &[String]) -> (usize, Vec<Piece>) {
    let encoding = bpe_openai::cl100k_base();
    let mut pieces = Vec::with_capacity(texts.len());
    for (text, content) in texts.iter().enumerate() {
        let tokens = encoding.encode(content.as_str());
        let parts = tokens.chunks(LONGEST).map(|tokens| Piece {
            text,
            tokens: tokens.to_vec(),
        });
        pieces.extend(parts);
    }
    (texts.len(), pieces)
}

/// The pieces by request.
pub(super) fn batches(pieces: &[Piece], at_once: usize) -> Vec<&[Piece]> {
    let mut batches = Vec::new();
    let mut rest = pieces;
    while !rest.is_empty() {
        let mut tokens = 0;
        let fits = |piece: &&Piece| {
            tokens += piece.tokens.len();
            tokens <= MOST
        };
        let fitting = rest.iter().take(at_once.max(1)).take_while(fits).count().max(1);
        let (batch, after) = rest.split_at(fitting);
        batches.push(batch);
        rest = after;
    }
    batches
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What tiktoken makes of them.
    #[test]
    fn tokens_of_texts() {
        let texts = [
            "hello world",
            "",
            "naïve café 日本語 \u{1f600}\n\n  x  ",
            "<|endoftext|>",
        ]
        .map(str::to_owned);
        let (count, pieces) = pieces(&texts);
        assert_eq!(count, 4);
        let expected: [(usize, &[u32]); 3] = [
            (0, &[15339, 1917]),
            (
                2,
                &[
                    3458, 38672, 588, 53050, 76502, 22656, 45918, 252, 91416, 271, 220, 865, 256,
                ],
            ),
            (3, &[27, 91, 8862, 728, 428, 91, 29]),
        ];
        let found: Vec<(usize, &[u32])> = pieces.iter().map(|p| (p.text, p.tokens.as_slice())).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn long_texts_are_cut_and_requests_bounded() {
        let (_, parts) = pieces(&["a ".repeat(10_000), "b".to_owned()]);
        let lengths: Vec<(usize, usize)> = parts.iter().map(|p| (p.text, p.tokens.len())).collect();
        assert_eq!(lengths[0], (0, LONGEST));
        assert_eq!(lengths.last(), Some(&(1, 1)));
        let piece = |length: usize| Piece {
            text: 0,
            tokens: vec![0; length],
        };
        let sizes = |lengths: &[usize], at_once| -> Vec<usize> {
            let pieces: Vec<Piece> = lengths.iter().map(|length| piece(*length)).collect();
            batches(&pieces, at_once)
                .into_iter()
                .map(<[Piece]>::len)
                .collect()
        };
        assert_eq!(sizes(&[1; 5], 2), [2, 2, 1]);
        assert_eq!(sizes(&[], 2), [] as [usize; 0]);
        assert_eq!(sizes(&[150_000, 150_000, 1], 9), [2, 1]);
        assert_eq!(sizes(&[MOST + 1, 1], 9), [1, 1]);
    }

    /// A word without an end takes no longer than other texts.
    #[test]
    fn a_long_word_is_no_burden() {
        let (_, pieces) = pieces(&["a".repeat(1 << 20)]);
        assert!(pieces.len() > 1);
    }
}
