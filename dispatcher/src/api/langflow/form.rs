//! `multipart/form-data`, as far as clients upload one file with it. No I/O: bodies are bounded and read whole.

use axum::http::HeaderMap;
use axum::http::header::CONTENT_TYPE;

use crate::api::problem::{Code, Problem};

/// A part of a form that is a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FormFile<'b> {
    /// As the client calls it.
    pub name: &'b str,
    pub bytes: &'b [u8],
}

/// The boundary between the parts of a form, from its content type.
pub(super) fn boundary(headers: &HeaderMap) -> Result<String, Problem> {
    let said = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let found = said.and_then(|text| {
        let (kind, parameters) = text.split_once(';')?;
        let is_form = kind.trim().eq_ignore_ascii_case("multipart/form-data");
        parameter(parameters, "boundary").filter(|_| is_form)
    });
    let fits = |boundary: &String| (1..=70).contains(&boundary.len()) && boundary.is_ascii();
    found.filter(fits).ok_or_else(|| {
        let detail = "send the file as the field \"file\" of a form (multipart/form-data)";
        Problem::new(Code::Invalid, detail)
    })
}

/// The first file in a form's field of this name.
pub(crate) fn file<'b>(body: &'b [u8], boundary: &str, field: &str) -> Result<FormFile<'b>, Problem> {
    let broken = |detail: &str| Problem::new(Code::Invalid, format!("the form is broken: {detail}"));
    let delimiter = [b"--", boundary.as_bytes()].concat();
    let mut at = find(body, &delimiter).ok_or_else(|| broken("its boundary is not in it"))? + delimiter.len();
    let between = [b"\r\n", delimiter.as_slice()].concat();
    loop {
        let rest = &body[at..];
        if rest.starts_with(b"--") {
            break;
        }
        let head = find(rest, b"\r\n\r\n").ok_or_else(|| broken("a part has no head"))?;
        let start = at + head + 4;
        let length = find(&body[start..], &between).ok_or_else(|| broken("a part has no end"))?;
        let part = std::str::from_utf8(&rest[..head]).map_err(|_| broken("a head is not text in UTF-8"))?;
        if let Some(name) = named(part, field) {
            return Ok(FormFile {
                name,
                bytes: &body[start..start + length],
            });
        }
        at = start + length + between.len();
    }
    let detail = format!("the form has no file in a field {field:?}");
    Err(Problem::new(Code::Invalid, detail))
}

/// The file name of a part of the field `field`.
fn named<'h>(head: &'h str, field: &str) -> Option<&'h str> {
    let disposition = head.split("\r\n").find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.trim()
            .eq_ignore_ascii_case("content-disposition")
            .then_some(value)
    })?;
    let (_, parameters) = disposition.split_once(';')?;
    if parameter(parameters, "name")? != field {
        return None;
    }
    quoted(parameters, "filename")
}

fn parameter(parameters: &str, name: &str) -> Option<String> {
    quoted(parameters, name).map(str::to_owned)
}

/// The value of `name=value` or `name="value"`. Clients write quotes in a name as `%22`.
fn quoted<'p>(parameters: &'p str, name: &str) -> Option<&'p str> {
    let mut rest = parameters;
    loop {
        rest = rest.trim_start_matches([' ', '\t', ';']);
        let (key, after) = rest.split_once('=')?;
        let (value, next) = match after.strip_prefix('"') {
            Some(inner) => inner.split_once('"')?,
            None => after.split_once(';').unwrap_or((after, "")),
        };
        if key.trim().eq_ignore_ascii_case(name) {
            return Some(value.trim());
        }
        rest = next;
    }
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    let first = *wanted.first()?;
    let mut from = 0;
    while let Some(step) = bytes[from..].iter().position(|byte| *byte == first) {
        let at = from + step;
        if bytes[at..].starts_with(wanted) {
            return Some(at);
        }
        from = at + 1;
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn form(boundary: &str, name: &str, bytes: &[u8]) -> Vec<u8> {
        let mut form = format!(
            "preamble\r\n--{boundary}\r\ncontent-disposition: form-data; name=\"other\"\r\n\r\nx\r\n--{boundary}\r\n"
        );
        form.push_str(&format!(
            "Content-Disposition: form-data; name=\"file\"; filename=\"{name}\"\r\nContent-Type: text/plain\r\n\r\n"
        ));
        let mut form = form.into_bytes();
        form.extend_from_slice(bytes);
        form.extend_from_slice(format!("\r\n--{boundary}--\r\n").as_bytes());
        form
    }

    #[test]
    fn content_types_have_their_boundary() {
        let of = |text: &str| {
            let headers = HeaderMap::from_iter([(CONTENT_TYPE, text.parse().unwrap())]);
            boundary(&headers).ok()
        };
        assert_eq!(of("multipart/form-data; boundary=abc").as_deref(), Some("abc"));
        assert_eq!(
            of("Multipart/Form-Data;charset=x; boundary=\"a b\"").as_deref(),
            Some("a b")
        );
        for bad in [
            "application/json",
            "multipart/form-data",
            "multipart/form-data; boundary=",
            "text/x; boundary=a",
        ] {
            assert_eq!(of(bad), None, "{bad}");
        }
    }

    #[test]
    fn what_is_no_form_is_refused() {
        for broken in [
            "",
            "x",
            "--b",
            "--b--",
            "--b\r\n\r\nno end",
            "--b\r\nContent-Disposition: form-data; name=\"file\"\r\n\r\nno name\r\n--b--",
            "--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"open\r\n\r\nx\r\n--b--",
        ] {
            let problem = file(broken.as_bytes(), "b", "file").unwrap_err();
            assert_eq!(problem.status, 422, "{broken}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        #[test]
        fn any_bytes_come_out_as_they_went_in(bytes in proptest::collection::vec(any::<u8>(), 0..200), name in "[a-zé ._-]{1,20}") {
            let form = form("boundary123", &name, &bytes);
            let found = file(&form, "boundary123", "file").unwrap();
            prop_assert_eq!(found, FormFile { name: name.trim(), bytes: &bytes });
        }

        #[test]
        fn any_damage_is_refused_or_understood(cut in 0usize..300, bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            let mut form = form("b", "n", &bytes);
            form.truncate(cut);
            let _ = file(&form, "b", "file");
        }
    }
}
