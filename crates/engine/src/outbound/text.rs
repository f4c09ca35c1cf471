//! The text of an answer, by what the server says of it.

use encoding_rs::Encoding;

/// Decodes a body; what no encoding explains is read as `otherwise`. Nothing fails: bytes that are no text become
/// replacement characters.
pub(crate) fn decoded(body: &[u8], content_type: &str, otherwise: Charset) -> String {
    match charset(content_type).and_then(|label| Charset::named(&label)) {
        Some(charset) => charset.decode(body),
        None => otherwise.decode(body),
    }
}

/// How bytes are text.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Charset {
    Utf8,
    /// One byte, one character. Browsers take the label for another encoding, Python does not.
    Latin1,
    Ascii,
    Other(&'static Encoding),
}

impl Charset {
    pub(crate) fn named(label: &str) -> Option<Self> {
        Some(match label.to_ascii_lowercase().replace('_', "-").as_str() {
            "utf-8" | "utf8" => Self::Utf8,
            "iso-8859-1" | "iso8859-1" | "latin-1" | "latin1" | "l1" => Self::Latin1,
            "ascii" | "us-ascii" => Self::Ascii,
            other => Self::Other(Encoding::for_label(other.as_bytes())?),
        })
    }

    pub(crate) fn decode(self, body: &[u8]) -> String {
        match self {
            Self::Utf8 => String::from_utf8_lossy(body).into_owned(),
            Self::Latin1 => body.iter().map(|byte| char::from(*byte)).collect(),
            Self::Ascii => body
                .iter()
                .map(|byte| {
                    if byte.is_ascii() {
                        char::from(*byte)
                    } else {
                        char::REPLACEMENT_CHARACTER
                    }
                })
                .collect(),
            Self::Other(encoding) => encoding.decode_without_bom_handling(body).0.into_owned(),
        }
    }
}

/// The `charset` of a content type.
fn charset(content_type: &str) -> Option<String> {
    content_type.split(';').skip(1).find_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        let value = value.trim().trim_matches(['"', '\'']);
        (name.trim().eq_ignore_ascii_case("charset") && !value.is_empty()).then(|| value.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_are_read_as_servers_say() {
        for (body, content_type, expected) in [
            (&b"caf\xc3\xa9"[..], "text/html", "caf\u{e9}"),
            (b"caf\xc3\xa9", "text/html; charset=utf-8", "caf\u{e9}"),
            (
                b"caf\xe9 \x80",
                "text/html;charset=ISO-8859-1",
                "caf\u{e9} \u{80}",
            ),
            (
                b"caf\xe9 \x80",
                "text/html; Charset=\"windows-1252\"",
                "caf\u{e9} \u{20ac}",
            ),
            (b"caf\xe9", "text/html; charset=us-ascii", "caf\u{fffd}"),
            (b"caf\xe9", "text/html; charset=utf-8", "caf\u{fffd}"),
            (b"\x83\x65", "text/html; charset=shift_jis", "\u{30c6}"),
            (b"caf\xc3\xa9", "text/html; charset=no-such", "caf\u{e9}"),
            (b"caf\xc3\xa9", "text/html; charset=", "caf\u{e9}"),
            (b"", "", ""),
        ] {
            assert_eq!(
                decoded(body, content_type, Charset::Utf8),
                expected,
                "{content_type}"
            );
        }
    }
}
