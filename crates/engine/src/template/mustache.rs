//! `{{name}}` and nothing else of mustache: Langflow refuses sections, partials and the rest, and so do we.
//! Values are inserted once: braces inside a value stay text.

use serde_json::Value as Json;

use super::text::to_text;
use super::{MAX_RENDERED_BYTES, TemplateError};

/// What may follow `{{` in full mustache but not here.
const REFUSED: [char; 8] = ['{', '#', '/', '^', '&', '>', '!', '.'];

/// Renders a template. A variable without a value becomes empty text.
pub(crate) fn render(template: &str, lookup: &dyn Fn(&str) -> Option<Json>) -> Result<String, TemplateError> {
    let refused = |open: usize| template[open + 2..].starts_with(REFUSED);
    if template.match_indices("{{").any(|(open, _)| refused(open)) || template.contains("{{{") {
        return Err(TemplateError::Syntax(
            "only plain variables such as {{name}} are allowed in a template with double brackets".to_owned(),
        ));
    }
    let mut out = String::with_capacity(template.len());
    let mut rest = template;
    while let Some(open) = rest.find("{{") {
        let Some(length) = rest[open + 2..].find("}}") else {
            break;
        };
        let name = &rest[open + 2..open + 2 + length];
        if !is_name(name) {
            return Err(TemplateError::Syntax(format!(
                "{{{{{name}}}}} is not a variable: write letters, digits and underscores without spaces"
            )));
        }
        out.push_str(&rest[..open]);
        match lookup(name) {
            None | Some(Json::Null) => {}
            Some(value) => out.push_str(&to_text(&value)),
        }
        if out.len() > MAX_RENDERED_BYTES {
            return Err(TemplateError::TooLong);
        }
        rest = &rest[open + 2 + length + 2..];
    }
    out.push_str(rest);
    Ok(out)
}

fn is_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes
        .next()
        .is_some_and(|first| first.is_ascii_alphabetic() || first == b'_')
        && bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn rendered(template: &str, values: &Json) -> Option<String> {
        render(template, &|name| values.get(name).cloned()).ok()
    }

    #[test]
    fn table() {
        let cases = [
            (
                "{{x}} {y} {{z}}",
                json!({"x": "{{z}}", "z": "Z", "y": "y"}),
                Some("{{z}} {y} Z"),
            ),
            ("{{x", json!({}), Some("{{x")),
            ("a }} b {{x}}", json!({"x": 1}), Some("a }} b 1")),
            ("{{x}}", json!({"x": null}), Some("")),
            ("{{x}}", json!({"x": true}), Some("True")),
            ("{{x}}y}}", json!({"x": "1"}), Some("1y}}")),
            ("{{x}}{{ ", json!({"x": "1"}), Some("1{{ ")),
            ("{{gone}}", json!({}), Some("")),
            ("", json!({}), Some("")),
            ("{{ x }}", json!({"x": 1}), None),
            ("{{{x}}}", json!({"x": 1}), None),
            ("{{#x}}", json!({}), None),
            ("{{/x}}", json!({}), None),
            ("{{>x}}", json!({}), None),
            ("{{x.y}}", json!({}), None),
            ("{{1x}}", json!({}), None),
            ("{{x\n}}", json!({}), None),
        ];
        for (template, values, expected) in cases {
            assert_eq!(rendered(template, &values).as_deref(), expected, "{template}");
        }
    }
}
