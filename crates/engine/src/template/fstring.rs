//! Python's format strings: `{name}`, `{name!r}`, `{name:>8.2f}`, `{{` and `}}`.

use serde_json::Value as Json;

use super::text::{ascii, repr, to_text};
use super::{MAX_RENDERED_BYTES, TemplateError, spec};

/// What a field may reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// Plain variable names: prompts.
    Names,
    /// Names, and `name[key]` or `name[0]` into them: the Parser.
    Items,
}

/// A piece of a parsed template, borrowed from it.
#[derive(Debug, PartialEq, Eq)]
enum Piece<'a> {
    Literal(&'a str),
    Field {
        name: &'a str,
        conversion: Option<char>,
        spec: &'a str,
    },
}

/// Renders a template with the values `lookup` knows.
pub(crate) fn render(
    template: &str,
    access: Access,
    lookup: &dyn Fn(&str) -> Option<Json>,
) -> Result<String, TemplateError> {
    let mut out = String::with_capacity(template.len());
    for piece in parse(template)? {
        match piece {
            Piece::Literal(text) => out.push_str(text),
            Piece::Field {
                name,
                conversion,
                spec,
            } => {
                out.push_str(&field(name, conversion, spec, access, lookup)?);
            }
        }
        if out.len() > MAX_RENDERED_BYTES {
            return Err(TemplateError::TooLong);
        }
    }
    Ok(out)
}

fn field(
    name: &str,
    conversion: Option<char>,
    spec_text: &str,
    access: Access,
    lookup: &dyn Fn(&str) -> Option<Json>,
) -> Result<String, TemplateError> {
    if spec_text.contains(['{', '}']) {
        return Err(syntax(format!("{{{name}}}: a format must not contain braces")));
    }
    let value = resolve(name, access, lookup)?;
    let value = match conversion {
        None => value,
        Some('s') => Json::String(to_text(&value)),
        Some('r') => Json::String(repr(&value)),
        Some('a') => Json::String(ascii(&value)),
        Some(other) => return Err(syntax(format!("{{{name}}}: unknown conversion !{other}"))),
    };
    spec::format(&value, spec_text).map_err(|detail| TemplateError::Value {
        field: name.to_owned(),
        detail,
    })
}

fn resolve(name: &str, access: Access, lookup: &dyn Fn(&str) -> Option<Json>) -> Result<Json, TemplateError> {
    let (root, path) = name.split_at(name.find(['[', '.']).unwrap_or(name.len()));
    if root.is_empty() || root.bytes().all(|b| b.is_ascii_digit()) {
        return Err(syntax(format!(
            "{{{name}}}: a variable needs a name; write {{{{ and }}}} for literal braces"
        )));
    }
    if path.is_empty() {
        return lookup(root).ok_or_else(|| TemplateError::Missing(root.to_owned()));
    }
    if access == Access::Names {
        return Err(syntax(format!(
            "{{{name}}}: a variable name must not contain . or [ ]"
        )));
    }
    let root_value = lookup(root).ok_or_else(|| TemplateError::Missing(root.to_owned()))?;
    let failed = |detail: String| TemplateError::Value {
        field: name.to_owned(),
        detail,
    };
    let mut value = &root_value;
    let mut rest = path;
    while let Some(open) = rest.strip_prefix('[') {
        let close = open
            .find(']')
            .ok_or_else(|| syntax(format!("{{{name}}}: missing ]")))?;
        let key = &open[..close];
        let next = match value {
            Json::Object(object) => object.get(key),
            Json::Array(items) => key.parse::<usize>().ok().and_then(|index| items.get(index)),
            _ => None,
        };
        value = next.ok_or_else(|| failed(format!("there is no [{key}]")))?;
        rest = &open[close + 1..];
    }
    if rest.is_empty() {
        return Ok(value.clone());
    }
    Err(failed("attributes cannot be read; use [key]".to_owned()))
}

fn syntax(detail: String) -> TemplateError {
    TemplateError::Syntax(detail)
}

fn parse(template: &str) -> Result<Vec<Piece<'_>>, TemplateError> {
    let mut pieces = Vec::new();
    let mut rest = template;
    while let Some(at) = rest.find(['{', '}']) {
        let brace = rest.as_bytes()[at];
        let after = &rest[at + 1..];
        if after.as_bytes().first() == Some(&brace) {
            pieces.push(Piece::Literal(&rest[..=at]));
            rest = &after[1..];
            continue;
        }
        if brace == b'}' {
            return Err(syntax(
                "single } in the template: write }} for a literal brace".to_owned(),
            ));
        }
        pieces.push(Piece::Literal(&rest[..at]));
        let (piece, remaining) = parse_field(after)?;
        pieces.push(piece);
        rest = remaining;
    }
    pieces.push(Piece::Literal(rest));
    Ok(pieces)
}

/// `text` starts after the opening brace.
fn parse_field(text: &str) -> Result<(Piece<'_>, &str), TemplateError> {
    let unclosed = || syntax("{ without its } in the template: write {{ for a literal brace".to_owned());
    let mut in_brackets = false;
    let end = text.char_indices().find_map(|(at, c)| match c {
        '[' => {
            in_brackets = true;
            None
        }
        ']' => {
            in_brackets = false;
            None
        }
        '{' | '}' | '!' | ':' if !in_brackets => Some((at, c)),
        _ => None,
    });
    let (end, stop) = end.ok_or_else(unclosed)?;
    let name = &text[..end];
    let rest = &text[end + 1..];
    match stop {
        '}' => Ok((
            Piece::Field {
                name,
                conversion: None,
                spec: "",
            },
            rest,
        )),
        '{' => Err(syntax(
            "{ inside a field: write {{ for a literal brace".to_owned(),
        )),
        ':' => {
            let (spec, rest) = parse_spec(rest).ok_or_else(unclosed)?;
            Ok((
                Piece::Field {
                    name,
                    conversion: None,
                    spec,
                },
                rest,
            ))
        }
        _ => {
            let mut chars = rest.chars();
            let conversion = chars
                .next()
                .filter(|c| !matches!(c, '{' | '}'))
                .ok_or_else(unclosed)?;
            match chars.next() {
                Some('}') => Ok((
                    Piece::Field {
                        name,
                        conversion: Some(conversion),
                        spec: "",
                    },
                    chars.as_str(),
                )),
                Some(':') => {
                    let (spec, rest) = parse_spec(chars.as_str()).ok_or_else(unclosed)?;
                    Ok((
                        Piece::Field {
                            name,
                            conversion: Some(conversion),
                            spec,
                        },
                        rest,
                    ))
                }
                Some(_) => Err(syntax(format!(
                    "{{{name}!{conversion}: expected : or }} after the conversion"
                ))),
                None => Err(unclosed()),
            }
        }
    }
}

/// Up to the brace that closes the field; nested fields are kept so that they can be refused.
fn parse_spec(text: &str) -> Option<(&str, &str)> {
    let mut depth = 1_usize;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'{' => depth += 1,
            b'}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Some((&text[..at], &text[at + 1..]));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn prompt(template: &str, values: &Json) -> Option<String> {
        render(template, Access::Names, &|name| values.get(name).cloned()).ok()
    }

    fn items(template: &str, values: &Json) -> Option<String> {
        render(template, Access::Items, &|name| values.get(name).cloned()).ok()
    }

    #[test]
    fn prompts() {
        let x = |value: Json| json!({ "x": value });
        let cases = [
            (
                "Say: {x} {{literal}}",
                x(json!("dflt")),
                Some("Say: dflt {literal}"),
            ),
            ("{x!r}", x(json!("it's")), Some("\"it's\"")),
            ("{x:>5}|", x(json!("ab")), Some("   ab|")),
            ("{x!s:^7}", x(json!("abc")), Some("  abc  ")),
            ("{x:>5s}|", x(json!("ab")), Some("   ab|")),
            ("{x:.2f}", x(json!(1.5)), Some("1.50")),
            ("{x}", x(json!(null)), Some("None")),
            ("{x}", x(json!(true)), Some("True")),
            ("{x}", x(json!({"a": "b"})), Some("{'a': 'b'}")),
            ("{{{x}}}", x(json!("q")), Some("{q}")),
            ("{{x}}", x(json!("q")), Some("{x}")),
            ("}} {{", json!({}), Some("} {")),
            ("{x y}", json!({"x y": "1"}), Some("1")),
            ("{ x}", json!({"x": "1", " x": "2"}), Some("2")),
            ("{x!a}", x(json!("é")), Some("'\\xe9'")),
            ("{x:}", x(json!("é")), Some("é")),
            ("", json!({}), Some("")),
            ("{x}", json!({}), None),
            ("{", json!({}), None),
            ("}", json!({}), None),
            ("a {b", json!({}), None),
            ("{x.y}", x(json!("a")), None),
            ("{x[0]}", x(json!(["a"])), None),
            ("{0}", json!({"0": 1}), None),
            ("{}", json!({}), None),
            ("{x:{x}}", x(json!("q")), None),
            ("{x!z}", x(json!("")), None),
            ("{x!rr}", x(json!("")), None),
            ("{x!}", x(json!("")), None),
            ("{x!r", x(json!("")), None),
            ("{x:d}", x(json!("abc")), None),
            ("{{ {x}} }}", x(json!("e")), None),
            ("{x}}", x(json!("e")), None),
        ];
        for (template, values, expected) in cases {
            assert_eq!(prompt(template, &values).as_deref(), expected, "{template}");
        }
    }

    #[test]
    fn items_of_values() {
        let values = json!({"a": {"b": [1, 2], "1": 5, "x:y}": 7}, "l": [1]});
        let cases = [
            (
                "{a} {a[b]} {a[b][0]}",
                Some("{'b': [1, 2], '1': 5, 'x:y}': 7} [1, 2] 1"),
            ),
            ("{a[x:y}]}", Some("7")),
            ("{l[0]}", Some("1")),
            ("{l[5]}", None),
            ("{l[x]}", None),
            ("{a.b}", None),
            ("{a[nope]}", None),
            ("{a[b}", None),
            ("{}", None),
            ("{0}", None),
        ];
        for (template, expected) in cases {
            assert_eq!(items(template, &values).as_deref(), expected, "{template}");
        }
    }

    #[test]
    fn a_template_cannot_render_to_more_than_the_limit() {
        let big = json!({"x": "y".repeat(1 << 20)});
        let result = render(&"{x}".repeat(64), Access::Names, &|name| big.get(name).cloned());
        assert_eq!(result, Err(TemplateError::TooLong));
        assert_eq!(prompt("{x:999999999999}", &json!({"x": "a"})), None);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        #[test]
        fn escaped_text_renders_to_itself(text in "\\PC*") {
            let template = text.replace('{', "{{").replace('}', "}}");
            prop_assert_eq!(prompt(&template, &json!({})), Some(text));
        }

        #[test]
        fn text_around_a_variable_is_kept(before in "[^{}]*", value in "\\PC*", after in "[^{}]*") {
            let template = format!("{before}{{x}}{after}");
            prop_assert_eq!(prompt(&template, &json!({"x": value})), Some(format!("{before}{value}{after}")));
        }

        #[test]
        fn no_template_panics(template in "([{}\\[\\]!:.<>^=+#0-9a-gx ]|\\PC){0,24}", number in any::<f64>(), int in any::<i64>()) {
            let values = json!({"x": number, "a": int, "b": [int], "c": {"d": null}, "e": "é"});
            let _ = prompt(&template, &values);
            let _ = items(&template, &values);
            let _ = super::super::mustache::render(&template, &|name| values.get(name).cloned());
        }

        #[test]
        fn no_format_panics(spec in "[<>=^]?[+ -]?z?#?0?[0-9]{0,3}[,_]?(\\.[0-9]{0,3})?[a-zA-Z%]?", number in any::<f64>(), int in any::<i64>()) {
            let values = json!({"x": number, "a": int, "e": "é", "t": true});
            for name in ["x", "a", "e", "t"] {
                let _ = prompt(&format!("{{{name}:{spec}}}"), &values);
            }
        }
    }
}
