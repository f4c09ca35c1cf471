//! Keeping secrets out of logs, errors and `--print-config`.

use std::fmt;

use serde::{Deserialize, Serialize, Serializer};
use url::Url;

/// What a secret is shown as.
pub const MASK: &str = "***";

/// A value that is never shown: not by `Debug`, not by `Display`, not by serialisation.
#[derive(Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    pub fn new(value: impl Into<String>) -> Self {
        Self(value.into())
    }

    /// The value itself, for the one place that needs it.
    pub fn expose(&self) -> &str {
        &self.0
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn mask(&self) -> &'static str {
        if self.0.is_empty() { "" } else { MASK }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secret({})", self.mask())
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.mask())
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.mask())
    }
}

/// A backend's URL: shown without its password.
#[derive(Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(transparent)]
pub struct SecretUrl(String);

impl SecretUrl {
    pub fn new(url: impl Into<String>) -> Self {
        Self(url.into())
    }

    /// The URL with its password.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl From<&str> for SecretUrl {
    fn from(url: &str) -> Self {
        Self(url.to_owned())
    }
}

impl From<String> for SecretUrl {
    fn from(url: String) -> Self {
        Self(url)
    }
}

impl fmt::Debug for SecretUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretUrl({})", url(&self.0))
    }
}

impl fmt::Display for SecretUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&url(&self.0))
    }
}

impl Serialize for SecretUrl {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&url(&self.0))
    }
}

/// Whether a key of this name holds a secret.
pub fn is_secret_name(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    ["key", "secret", "password", "token"]
        .iter()
        .any(|end| name.ends_with(end))
}

/// `text` without the password of the URL it may be, nor secrets among its query parameters.
pub fn url(text: &str) -> String {
    let Ok(mut parsed) = Url::parse(text) else {
        return unparsed(text);
    };
    let mut changed = false;
    if parsed.password().is_some_and(|password| !password.is_empty()) {
        changed = true;
        if parsed.set_password(Some(MASK)).is_err() {
            return unparsed(text);
        }
    }
    let secret = |name: &str| is_secret_name(name) || name.eq_ignore_ascii_case("pass");
    if parsed.query_pairs().any(|(name, _)| secret(&name)) {
        changed = true;
        let pairs: Vec<(String, String)> = parsed
            .query_pairs()
            .map(|(name, value)| {
                let shown = if secret(&name) {
                    MASK.to_owned()
                } else {
                    value.into_owned()
                };
                (name.into_owned(), shown)
            })
            .collect();
        parsed.query_pairs_mut().clear().extend_pairs(pairs);
    }
    // What holds no secret is shown as it was written.
    if changed {
        parsed.to_string()
    } else {
        text.to_owned()
    }
}

/// Something like `scheme://user:password@...` that is no URL: whatever stands before the last `@` is hidden.
fn unparsed(text: &str) -> String {
    match (text.find("://"), text.rfind('@')) {
        (Some(scheme), Some(at)) if scheme + 3 <= at => {
            format!("{}{MASK}{}", &text[..scheme + 3], &text[at..])
        }
        _ => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn urls_table() {
        for (given, shown) in [
            ("memory:", "memory:"),
            ("sqlite:.flowfleet/flowfleet.db", "sqlite:.flowfleet/flowfleet.db"),
            ("postgres://u@h/db", "postgres://u@h/db"),
            ("postgres://u:p%40x@h:5432/db", "postgres://u:***@h:5432/db"),
            ("amqp://guest:guest@h:5672/%2f", "amqp://guest:***@h:5672/%2f"),
            (
                "postgres://h/db?user=u&password=p&sslmode=require",
                "postgres://h/db?user=u&password=***&sslmode=require",
            ),
            ("redis://:secret@h", "redis://:***@h"),
            ("postgres://u:p@ss@[bad/db", "postgres://***@[bad/db"),
        ] {
            assert_eq!(url(given), shown, "{given}");
        }
    }

    #[test]
    fn secrets_are_never_shown() {
        let secret = Secret::new("hunter2");
        assert_eq!(format!("{secret:?} {secret}"), "Secret(***) ***");
        assert_eq!(serde_json::to_string(&secret).unwrap(), "\"***\"");
        let url = SecretUrl::from("amqp://a:hunter2@h");
        assert!(!format!("{url:?} {url} {}", serde_json::to_string(&url).unwrap()).contains("hunter2"));
        assert_eq!(url.expose(), "amqp://a:hunter2@h");
    }

    proptest! {
        #[test]
        fn no_password_survives(
            user in "[a-z]{0,8}", password in "[A-Z]{4,12}[!$&+.~]{0,2}", host in "[a-z]{1,8}|\\[x", path in "[a-z/]{0,9}",
        ) {
            let shown = url(&format!("amqp://{user}:{password}@{host}/{path}"));
            prop_assert!(!shown.contains(&password), "{}", shown);
        }

        #[test]
        fn any_text_is_survived(text in ".{0,80}") {
            let _ = url(&text);
        }
    }
}
