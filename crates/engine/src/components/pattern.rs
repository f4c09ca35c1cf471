//! Python's regular expressions on a linear-time engine: the common ground is translated, the rest refused by name.
//!
//! Look-around and back-references need backtracking, which lets one message occupy a worker for ever.

use regex::RegexBuilder;
use regex_syntax::ast::{self, ErrorKind};

/// Compiled size a pattern may reach.
const MAX_COMPILED_BYTES: usize = 1 << 20;
const MAX_PATTERN_BYTES: usize = 64 << 10;

/// What came of matching.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Match {
    Yes,
    No,
    /// No regular expression in Python either.
    Invalid,
    /// Fine in Python, not here.
    Unsupported(String),
}

/// Whether the pattern matches at the start of the text, as Python's `re.match` does.
pub(crate) fn matches_start(pattern: &str, text: &str) -> Match {
    if pattern.len() > MAX_PATTERN_BYTES {
        return Match::Unsupported(format!("it is longer than {MAX_PATTERN_BYTES} bytes"));
    }
    let translated = format!(r"\A(?:{})", translate(pattern));
    if let Err(error) = ast::parse::ParserBuilder::new()
        .nest_limit(100)
        .build()
        .parse(&translate(pattern))
    {
        return if invalid_everywhere(error.kind()) {
            Match::Invalid
        } else {
            Match::Unsupported(format!(
                "{}; look-around and back-references need the Python engine",
                error.kind()
            ))
        };
    }
    match RegexBuilder::new(&translated)
        .size_limit(MAX_COMPILED_BYTES)
        .dfa_size_limit(MAX_COMPILED_BYTES)
        .build()
    {
        Ok(regex) if regex.is_match(text) => Match::Yes,
        Ok(_) => Match::No,
        Err(regex::Error::CompiledTooBig(_)) => {
            Match::Unsupported("it is too large when compiled".to_owned())
        }
        Err(error) => Match::Unsupported(error.to_string()),
    }
}

/// Mistakes that Python refuses too, and Langflow then takes for "does not match".
fn invalid_everywhere(kind: &ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::GroupUnclosed
            | ErrorKind::GroupUnopened
            | ErrorKind::ClassUnclosed
            | ErrorKind::ClassRangeInvalid
            | ErrorKind::RepetitionMissing
            | ErrorKind::RepetitionCountInvalid
            | ErrorKind::EscapeUnexpectedEof
            | ErrorKind::GroupNameDuplicate { .. }
            | ErrorKind::GroupNameEmpty
            | ErrorKind::GroupNameInvalid
            | ErrorKind::GroupNameUnexpectedEof
    )
}

/// Where the two languages spell things differently: `\Z`, `$` before a last newline, brackets in classes.
fn translate(pattern: &str) -> String {
    let multi_line = pattern.contains("(?")
        && pattern.split("(?").skip(1).any(|rest| {
            rest.chars()
                .take_while(char::is_ascii_alphabetic)
                .any(|flag| flag == 'm')
        });
    let mut out = String::with_capacity(pattern.len() + 8);
    let mut chars = pattern.chars().peekable();
    let mut in_class = false;
    let mut class_start = false;
    while let Some(c) = chars.next() {
        let first_in_class = std::mem::take(&mut class_start);
        match c {
            '\\' => match chars.next() {
                Some('Z') if !in_class => out.push_str(r"\z"),
                Some(next) => {
                    out.push('\\');
                    out.push(next);
                }
                None => out.push('\\'),
            },
            '[' if in_class => out.push_str(r"\["),
            '[' => {
                in_class = true;
                class_start = true;
                out.push('[');
                if chars.next_if_eq(&'^').is_some() {
                    out.push('^');
                }
            }
            // First in a class, the bracket is itself.
            ']' if in_class && first_in_class => out.push_str(r"\]"),
            ']' if in_class => {
                in_class = false;
                out.push(']');
            }
            '&' | '~' if in_class => {
                out.push('\\');
                out.push(c);
            }
            '-' if in_class && chars.peek() == Some(&'-') => out.push_str(r"\-"),
            '{' if !in_class => match repetition(chars.clone()) {
                Some((times, length)) => {
                    out.push_str(&times);
                    chars.nth(length);
                }
                None => out.push_str(r"\{"),
            },
            '$' if !in_class && !multi_line => out.push_str(r"(?:\n?\z)"),
            c => out.push(c),
        }
    }
    out
}

/// How often, after an opening brace, and the characters before the closing one. Other braces are themselves.
fn repetition(rest: impl Iterator<Item = char>) -> Option<(String, usize)> {
    // Longer numbers are too large in either language.
    const LONGEST: usize = 24;
    let inside: String = rest.take(LONGEST).collect();
    let (inside, _) = inside.split_once('}')?;
    let (least, most) = inside
        .split_once(',')
        .map_or((inside, None), |(least, most)| (least, Some(most)));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if inside.is_empty() || !digits(least) || !most.is_none_or(digits) {
        return None;
    }
    let least = if least.is_empty() { "0" } else { least };
    let times = most.map_or_else(|| format!("{{{least}}}"), |most| format!("{{{least},{most}}}"));
    Some((times, inside.len()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Each answer is that of Python's `re.match`, but for what is unsupported.
    #[test]
    fn table() {
        let cases = [
            ("b", "abc", Match::No),
            ("a", "abc", Match::Yes),
            ("", "abc", Match::Yes),
            ("(", "abc", Match::Invalid),
            ("[a", "abc", Match::Invalid),
            ("*a", "abc", Match::Invalid),
            ("a\\", "abc", Match::Invalid),
            ("a)", "abc", Match::Invalid),
            ("(?i)A", "abc", Match::Yes),
            ("a.b", "a\nb", Match::No),
            ("a$", "a\n", Match::Yes),
            ("a$", "a\nb", Match::No),
            ("(?m)a$", "a\nb", Match::Yes),
            (r"\w+$", "héé", Match::Yes),
            (r"x\d\Z", "x1", Match::Yes),
            (r"x\d\Z", "x1\n", Match::No),
            (r"(?P<n>\d+)", "12", Match::Yes),
            ("a|b", "b", Match::Yes),
            ("[[]x", "[x", Match::Yes),
            ("[]]x", "]x", Match::Yes),
            ("[^]]x", "ax", Match::Yes),
            ("[a&&b]", "&", Match::Yes),
            ("[$]", "$", Match::Yes),
            ("{x}", "{x}", Match::Yes),
            ("a{}", "a{}", Match::Yes),
            ("a{1,x}", "a{1,x}", Match::Yes),
            ("{", "{", Match::Yes),
            ("a{2}b", "aab", Match::Yes),
            ("a{,2}b", "aab", Match::Yes),
            ("a{,}b", "aaab", Match::Yes),
            ("a{2,}b", "ab", Match::No),
            ("{2}", "a", Match::Invalid),
            ("a{2,1}", "a", Match::Invalid),
        ];
        for (pattern, text, expected) in cases {
            assert_eq!(matches_start(pattern, text), expected, "{pattern} {text:?}");
        }
        for pattern in ["a(?=b)", r"(a)\1", "(?<!x)a", "a{1000}{1000}"] {
            assert!(
                matches!(matches_start(pattern, "aab"), Match::Unsupported(_)),
                "{pattern}"
            );
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        #[test]
        fn no_pattern_panics(pattern in "([\\[\\]{}()*+?|^$.\\\\a-c0-9,&~-]|\\PC){0,16}", text in "[a-c\\n]{0,8}") {
            let _ = matches_start(&pattern, &text);
        }
    }
}
