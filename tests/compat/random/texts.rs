//! Texts that like to break things.

use rand::Rng;
use rand::seq::IndexedRandom as _;

const PIECES: [&str; 34] = [
    "yes",
    "no",
    "hello",
    "Hello",
    "one two",
    "42",
    "-7.5",
    "1e3",
    "2*3",
    "(1+2)/4",
    " ",
    "  ",
    "\n",
    "\\n",
    "\\t",
    "\t",
    "é日本",
    "\u{1f600}",
    "\"quoted\"",
    "it's",
    "a,b\n1,2\n3,x",
    "a,b\\n1,2",
    "{\"text\": \"t\", \"n\": 1.50}",
    "{\"a\": [1, null, {\"b\": true}]}",
    "[{\"a\": 1, \"text\": \"x\"}, {\"a\": null, \"b\": 2.5}]",
    "[1, 2]",
    "|x|",
    "<b>&amp;</b>",
    "**bold**",
    "$",
    "%s",
    ".*",
    ",",
    "None",
];

/// Mostly one piece, at times a few or nothing.
pub(super) fn text(rng: &mut impl Rng) -> String {
    let pieces = [0, 1, 1, 1, 1, 2, 2, 3].choose(rng).copied().unwrap_or_default();
    (0..pieces).filter_map(|_| PIECES.choose(rng)).copied().collect()
}

/// A template over some of these variables; now and then one that is broken.
pub(super) fn template(rng: &mut impl Rng, variables: &[&str], double: bool) -> String {
    let mut text = String::new();
    for _ in 0..rng.random_range(0..4) {
        match (rng.random_range(0..12), variables.choose(rng)) {
            (0..7, Some(name)) if double => text.push_str(&format!("{{{{{name}}}}}")),
            (0..7, Some(name)) => text.push_str(&format!("{{{name}}}")),
            (7, _) => text.push_str("{{"),
            (8, _) => text.push_str("}}"),
            (9, _) if rng.random_bool(0.2) => text.push('{'),
            (9, _) => text.push('\n'),
            _ => {
                let plain = self::text(rng).replace(['{', '}'], "");
                text.push_str(&plain);
            }
        }
    }
    text
}
