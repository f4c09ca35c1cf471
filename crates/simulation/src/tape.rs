//! The choices of one history: a tape of bytes. Played from a seed it is written while it is read; played again it
//! gives the same history. Whatever lies behind its end is zero, and zero is always the undramatic choice, so that a
//! shorter tape or one with more zeros is a simpler history.

use std::fmt;

/// Lengths of the troubled part of a history, in choices.
const LENGTHS: [usize; 4] = [48, 96, 192, 384];

/// The longest tape that is read from text.
pub const LONGEST: usize = 4096;

/// A source of choices.
#[derive(Debug, Clone)]
pub struct Tape {
    bytes: Vec<u8>,
    at: usize,
    limit: usize,
    state: u64,
}

impl fmt::Display for Tape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for run in self.bytes.chunk_by(|a, b| (*a, *b) == (0, 0)) {
            match run {
                [0, 0, 0, ..] => write!(f, "_{}_", run.len())?,
                bytes => bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?,
            }
        }
        Ok(())
    }
}

/// Why text is no tape.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadTape {
    #[error(
        "a tape is pairs of hexadecimal digits, and _N_ for N zeros, found {0:?}: copy it whole from the report"
    )]
    Text(String),
    #[error("a tape has at most {LONGEST} bytes")]
    Long,
}

impl Tape {
    /// A tape that is written while it is read.
    pub fn seeded(seed: u64) -> Self {
        let mut tape = Self {
            bytes: Vec::new(),
            at: 0,
            limit: 0,
            state: seed,
        };
        let length = LENGTHS[(tape.random() % LENGTHS.len() as u64) as usize];
        tape.limit = length + (tape.random() % length as u64) as usize;
        tape.bytes.reserve(tape.limit + 8);
        tape
    }

    /// A tape that is there already.
    pub fn written(bytes: Vec<u8>) -> Self {
        Self {
            limit: bytes.len(),
            bytes,
            at: 0,
            state: 0,
        }
    }

    /// Reads what [`Tape`] shows.
    pub fn parse(text: &str) -> Result<Self, BadTape> {
        let bad = || BadTape::Text(text.chars().take(40).collect());
        let mut bytes = Vec::new();
        // Between two underscores stands a number of zeros.
        for (at, part) in text.trim().split('_').enumerate() {
            if at % 2 == 1 {
                let zeros: usize = part.parse().map_err(|_| bad())?;
                bytes.resize((bytes.len() + zeros.min(LONGEST + 1)).min(LONGEST + 1), 0);
                continue;
            }
            let digits: Option<Vec<u32>> = part.chars().map(|digit| digit.to_digit(16)).collect();
            let digits = digits.filter(|digits| digits.len() % 2 == 0).ok_or_else(bad)?;
            let pairs = digits.chunks_exact(2).map(|pair| pair[0] * 16 + pair[1]);
            bytes.extend(pairs.filter_map(|byte| u8::try_from(byte).ok()));
        }
        if text.matches('_').count() % 2 == 1 {
            return Err(bad());
        }
        if bytes.len() > LONGEST {
            return Err(BadTape::Long);
        }
        Ok(Self::written(bytes))
    }

    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// From the start again.
    pub(crate) fn rewound(mut self) -> Self {
        self.at = 0;
        self.limit = self.bytes.len();
        self
    }

    /// splitmix64.
    fn random(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn byte(&mut self) -> u8 {
        if self.at >= self.limit {
            return 0;
        }
        if self.at == self.bytes.len() {
            let byte = self.random().to_le_bytes()[0];
            self.bytes.push(byte);
        }
        self.at += 1;
        self.bytes[self.at - 1]
    }

    /// One of `n`; the first once the tape is over.
    pub(crate) fn pick(&mut self, n: usize) -> usize {
        if n <= 1 { 0 } else { usize::from(self.byte()) % n }
    }

    /// True `of_256` times in 256; never once the tape is over.
    pub(crate) fn chance(&mut self, of_256: u8) -> bool {
        u16::from(self.byte()) >= 256 - u16::from(of_256)
    }

    /// Whether only zeros are left.
    pub(crate) fn is_over(&self) -> bool {
        self.at >= self.limit
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_shown_can_be_read(bytes in proptest::collection::vec(prop_oneof![Just(0), any::<u8>()], 0..64)) {
            let tape = Tape::written(bytes.clone());
            let again = Tape::parse(&tape.to_string()).unwrap();
            prop_assert_eq!(again.bytes(), &bytes);
        }

        #[test]
        fn reading_garbage_never_panics(text in "[0-9a-g_ é]{0,40}") {
            if let Ok(tape) = Tape::parse(&text) {
                prop_assert!(tape.bytes().len() <= LONGEST);
            }
        }
    }

    #[test]
    fn texts_table() {
        let read = |text: &str| Tape::parse(text).map(|tape| tape.bytes().to_vec());
        assert_eq!(read(" 01_3_ff\n"), Ok(vec![1, 0, 0, 0, 255]));
        assert_eq!(read(""), Ok(vec![]));
        for bad in ["0", "0g", "_3", "_x_", "01_", "+1"] {
            assert_eq!(read(bad), Err(BadTape::Text(bad.to_owned())));
        }
        assert_eq!(read("_4097_"), Err(BadTape::Long));
        assert_eq!(read("_99999999999999999_"), Err(BadTape::Long));
    }

    #[test]
    fn the_same_seed_gives_the_same_choices_and_the_end_is_zero() {
        let (mut a, mut b) = (Tape::seeded(7), Tape::seeded(7));
        let mut read = 0;
        while !a.is_over() {
            assert_eq!(a.byte(), b.byte());
            read += 1;
        }
        assert!(read >= LENGTHS[0]);
        assert_eq!((a.byte(), a.pick(9), a.chance(255)), (0, 0, false));
        let mut again = a.clone().rewound();
        assert_eq!(again.byte(), a.bytes()[0]);
        assert_ne!(Tape::seeded(8).byte(), 0);
    }
}
