//! What a key may look like: `a/b/c` of `[A-Za-z0-9._-]` segments. Parsed before any backend sees it, so that
//! no key leaves the place blobs lie in.

/// Longest key.
pub const MAX: usize = 1024;
/// Longest segment: what common file systems take as one name.
pub const MAX_SEGMENT: usize = 200;

/// Why a key was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BadKey {
    Empty,
    Long,
    /// A segment is empty, `.`, `..`, too long, or has a character outside the set.
    Segment,
}

impl std::fmt::Display for BadKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Empty => f.write_str("a blob key may not be empty"),
            Self::Long => write!(f, "a blob key may have {MAX} bytes at most"),
            Self::Segment => write!(
                f,
                "a blob key is segments of 1 to {MAX_SEGMENT} of a-z, A-Z, 0-9, '.', '_', '-' joined by '/', none of them '.' or '..'"
            ),
        }
    }
}

impl std::error::Error for BadKey {}

/// Checks a key.
pub fn check(key: &str) -> Result<(), BadKey> {
    if key.is_empty() {
        return Err(BadKey::Empty);
    }
    if key.len() > MAX {
        return Err(BadKey::Long);
    }
    if key.split('/').all(segment) {
        Ok(())
    } else {
        Err(BadKey::Segment)
    }
}

fn segment(text: &str) -> bool {
    (1..=MAX_SEGMENT).contains(&text.len())
        && text != "."
        && text != ".."
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
}

#[cfg(test)]
mod tests {
    use std::path::{Component, Path};

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn keys_table() {
        for good in ["a", "a/b/c", "runs/0192-x/in.json", "...", ".hidden", "a..b/c"] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        let wide = "x".repeat(MAX_SEGMENT + 1);
        for (bad, why) in [
            ("", BadKey::Empty),
            ("/", BadKey::Segment),
            ("/a", BadKey::Segment),
            ("a/", BadKey::Segment),
            ("a//b", BadKey::Segment),
            ("..", BadKey::Segment),
            ("a/../b", BadKey::Segment),
            ("a/./b", BadKey::Segment),
            ("a\\b", BadKey::Segment),
            ("a\0b", BadKey::Segment),
            ("~tmp/x", BadKey::Segment),
            ("ä", BadKey::Segment),
            (wide.as_str(), BadKey::Segment),
        ] {
            assert_eq!(check(bad), Err(why), "{bad:?}");
        }
        assert_eq!(check(&"a/".repeat(MAX)), Err(BadKey::Long));
    }

    proptest! {
        #[test]
        fn an_accepted_key_stays_below_its_root(key in "[a-c./~\\\\ -]{0,12}") {
            if check(&key).is_ok() {
                let path = Path::new("/root").join(&key);
                prop_assert!(path.starts_with("/root"));
                prop_assert!(Path::new(&key).components().all(|c| matches!(c, Component::Normal(_))));
                prop_assert_eq!(Path::new(&key).components().count(), key.split('/').count());
            }
        }

        #[test]
        fn every_well_formed_key_is_accepted(
            key in proptest::collection::vec("[A-Za-z0-9_-][A-Za-z0-9._-]{0,20}", 1..5)
        ) {
            prop_assert_eq!(check(&key.join("/")), Ok(()));
        }
    }
}
