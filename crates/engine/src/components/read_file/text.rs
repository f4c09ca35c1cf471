//! Bytes as text: by the encoding that a node names, or as UTF-8.
//!
//! Which of the many one-byte encodings a file has can only be guessed from its words, and a wrong guess is read
//! without an error. Nothing is guessed here: a file that is not UTF-8 is refused, with the advice to name its encoding.

/// The characters of Windows-1252 from 0x80 to 0x9f; none where nothing is defined.
const WINDOWS_1252: [Option<char>; 32] = [
    Some('€'),
    None,
    Some('‚'),
    Some('ƒ'),
    Some('„'),
    Some('…'),
    Some('†'),
    Some('‡'),
    Some('ˆ'),
    Some('‰'),
    Some('Š'),
    Some('‹'),
    Some('Œ'),
    None,
    Some('Ž'),
    None,
    None,
    Some('‘'),
    Some('’'),
    Some('“'),
    Some('”'),
    Some('•'),
    Some('–'),
    Some('—'),
    Some('˜'),
    Some('™'),
    Some('š'),
    Some('›'),
    Some('œ'),
    None,
    Some('ž'),
    Some('Ÿ'),
];

/// The text, and what its encoding is called. `named` is empty where nobody said.
pub(super) fn decode(bytes: &[u8], named: &str) -> Result<(String, &'static str), String> {
    if named.is_empty() {
        return detect(bytes);
    }
    let wrong =
        |name: &str| format!("is no {name} text: name another encoding in Text Encoding, or leave it empty");
    let utf8 = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).ok();
    let (text, name) = match spelled(named).as_str() {
        "utf8" | "u8" | "utf" | "cp65001" => (utf8(bytes), "utf-8"),
        "utf8sig" => (utf8(bytes.strip_prefix(BOM).unwrap_or(bytes)), "utf-8-sig"),
        "ascii" | "usascii" | "646" => (utf8(bytes).filter(|text| text.is_ascii()), "ascii"),
        "latin1" | "iso88591" | "l1" | "latin" | "8859" | "cp819" => (
            Some(bytes.iter().map(|byte| char::from(*byte)).collect()),
            "iso8859-1",
        ),
        "cp1252" | "windows1252" | "1252" => {
            (bytes.iter().map(|byte| windows_1252(*byte)).collect(), "cp1252")
        }
        "utf16" | "u16" => (utf16(bytes), "utf-16"),
        "utf16le" | "utf16be" => {
            let big = spelled(named).ends_with("be");
            (units(bytes, big), if big { "utf-16-be" } else { "utf-16-le" })
        }
        _ => {
            return Err(format!(
                "Text Encoding is {named:?}, which is not read here: utf-8, utf-16, latin-1, cp1252 and ascii are"
            ));
        }
    };
    text.map(|text| (text, name)).ok_or_else(|| wrong(name))
}

const BOM: &[u8] = b"\xef\xbb\xbf";

/// Encodings are the same with or without hyphens, underscores and capitals.
fn spelled(name: &str) -> String {
    let plain = name.chars().filter(char::is_ascii_alphanumeric);
    plain.map(|c| c.to_ascii_lowercase()).collect()
}

fn detect(bytes: &[u8]) -> Result<(String, &'static str), String> {
    if bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff") {
        return utf16(bytes)
            .map(|text| (text, "utf-16"))
            .ok_or_else(|| "begins like UTF-16, but is not".to_owned());
    }
    let (bytes, name) = match bytes.strip_prefix(BOM) {
        Some(rest) => (rest, "utf-8-sig"),
        None if bytes.is_ascii() && !bytes.is_empty() => (bytes, "ascii"),
        None => (bytes, "utf-8"),
    };
    // Escape sequences and zero bytes are of other encodings, or no text at all.
    let text = std::str::from_utf8(bytes)
        .ok()
        .filter(|text| !text.contains(['\0', '\u{1b}']));
    let text =
        text.ok_or("is no UTF-8 text: name its encoding in Text Encoding, such as cp1252 or latin-1")?;
    Ok((text.to_owned(), name))
}

fn windows_1252(byte: u8) -> Option<char> {
    match byte {
        0x80..=0x9f => WINDOWS_1252[usize::from(byte - 0x80)],
        byte => Some(char::from(byte)),
    }
}

/// With a mark of its byte order, or little-endian.
fn utf16(bytes: &[u8]) -> Option<String> {
    match bytes {
        [0xfe, 0xff, rest @ ..] => units(rest, true),
        [0xff, 0xfe, rest @ ..] => units(rest, false),
        bytes => units(bytes, false),
    }
}

fn units(bytes: &[u8], big: bool) -> Option<String> {
    let (pairs, rest) = bytes.as_chunks::<2>();
    let unit = |pair: &[u8; 2]| {
        if big {
            u16::from_be_bytes(*pair)
        } else {
            u16::from_le_bytes(*pair)
        }
    };
    let text: Result<String, _> = char::decode_utf16(pairs.iter().map(unit)).collect();
    text.ok().filter(|_| rest.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As Python and chardet read the same bytes.
    #[test]
    fn encodings() {
        for (bytes, named, expected) in [
            (&b""[..], "", Some(("", "utf-8"))),
            (b"abc", "", Some(("abc", "ascii"))),
            ("é".as_bytes(), "", Some(("é", "utf-8"))),
            (b"\xef\xbb\xbfabc", "", Some(("abc", "utf-8-sig"))),
            (b"\xff\xfea\0", "", Some(("a", "utf-16"))),
            (b"\xfe\xff\0a", "", Some(("a", "utf-16"))),
            (b"\xff\xfea", "", None),
            (b"caf\xe9", "", None),
            (b"a\x1b(B", "", None),
            (b"caf\xe9", "latin-1", Some(("café", "iso8859-1"))),
            (b"\x80 5", "CP1252", Some(("€ 5", "cp1252"))),
            (b"\x81", "windows-1252", None),
            (b"\xef\xbb\xbfa", "utf-8", Some(("\u{feff}a", "utf-8"))),
            (b"\xef\xbb\xbfa", "UTF_8_SIG", Some(("a", "utf-8-sig"))),
            (b"\xe9", "utf8", None),
            ("é".as_bytes(), "ascii", None),
            (b"a\0", "utf-16-le", Some(("a", "utf-16-le"))),
            (b"\0a", "utf-16-be", Some(("a", "utf-16-be"))),
            (b"a", "koi8-r", None),
        ] {
            let read = decode(bytes, named).ok();
            let expected = expected.map(|(text, name)| (text.to_owned(), name));
            assert_eq!(read, expected, "{bytes:?} {named}");
        }
    }
}
