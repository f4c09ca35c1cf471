//! Damage that knows nothing of structure: bits, ranges, words, and the halves of two inputs joined.

use crate::Random;
use crate::seeds::dictionary;

/// Bytes inserted or removed at once at most.
const RANGE: usize = 64;
/// An input never grows beyond this: the targets' own limits are tested with large inputs elsewhere.
const LONGEST: usize = 1 << 20;

/// Text that parsers trip over.
const AWKWARD: [&str; 17] = [
    "œ",
    "\0",
    "\u{feff}",
    "\u{2028}",
    "é",
    "😀",
    "\\u0000",
    "\\ud800",
    "-0",
    "1e999",
    "NaN",
    "18446744073709551616",
    "{{{{",
    "}}",
    "[[[[[[[[",
    "\r\n",
    "\"",
];

pub(crate) fn damage(mut input: Vec<u8>, others: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    let at = random.below(input.len() + 1);
    let range = at..(at + random.below(RANGE)).min(input.len());
    match random.below(8) {
        0 if at < input.len() => input[at] ^= 1 << random.below(8),
        1 if at < input.len() => input[at] = random.next() as u8,
        2 => drop(input.drain(range)),
        3 => {
            let piece = input[range].to_vec();
            let place = random.below(input.len() + 1);
            input.splice(place..place, piece);
        }
        4 => {
            let word = random.pick(dictionary()).copied().unwrap_or_default();
            input.splice(at..at, word.bytes());
        }
        5 => {
            let word = random.pick(&AWKWARD).copied().unwrap_or_default();
            input.splice(range, word.bytes());
        }
        6 => input.truncate(at),
        _ => {
            let other = random.pick(others).map(Vec::as_slice).unwrap_or_default();
            let from = random.below(other.len() + 1);
            input.truncate(at);
            input.extend_from_slice(&other[from..]);
        }
    }
    input.truncate(LONGEST);
    input
}
