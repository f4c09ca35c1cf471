//! API keys: made here, stored only as hashes.

use std::fmt::Write as _;

use sha2::{Digest, Sha256};

/// What every key starts with, so that scanners and people recognise one.
pub const PREFIX: &str = "ff_";

/// A new key with 256 random bits: the text to hand out once, and the hash to store.
pub fn generate() -> (String, String) {
    let bytes: [u8; 32] = rand::random();
    let plaintext = format!("{PREFIX}{}", hex(&bytes));
    let hash = hash(&plaintext);
    (plaintext, hash)
}

/// The lower-case hex sha256 of a key. A fast hash is right for a key of 256 random bits.
pub fn hash(plaintext: &str) -> String {
    hex(&Sha256::digest(plaintext.as_bytes()))
}

/// Lower-case hex.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
            // Writing to a string cannot fail.
            let _ = write!(text, "{byte:02x}");
            text
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_long_distinct_and_hash_to_what_is_stored() {
        let (one, one_hash) = generate();
        let (two, _) = generate();
        assert_ne!(one, two);
        assert!(one.starts_with(PREFIX) && one.len() == 67);
        assert_eq!(hash(&one), one_hash);
        assert_eq!(one_hash.len(), 64);
    }
}
