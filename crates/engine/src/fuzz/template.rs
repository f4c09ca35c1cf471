//! Any text as a template, and as a pattern of the If-Else component.

use serde_json::{Value as Json, json};

use crate::components::pattern::matches_start;
use crate::template::{Access, MAX_RENDERED_BYTES, TemplateError, render, render_mustache};

#[cfg(test)]
pub(super) const SEEDS: [&str; 9] = [
    "Say: {x} {{literal}}",
    "{a!r:>8} {n:08.3f} {i:,} {i:#x} {b!s:^7}",
    "{l[0]} {o[k]} {o[k][0]!a}",
    "{n:e} {n:%} {n:.3g} {i:c} {t:=+9}",
    "{{x}} and {{ y }} {y}",
    "{{#x}}{{/x}} {{{x}}}",
    "{x:{i}} {",
    "}} {{ é {z}",
    "{none:>5} {l} {o} {t:d}",
];

#[cfg(test)]
pub(super) const PATTERNS: [&str; 8] = [
    "a+b",
    r"(?i)^x\d{1,9}$",
    r"(?P<n>\w+)\Z",
    "[[]a&&b~-]",
    "(a|b)*c",
    "a{1000}{1000}",
    "(?=x)",
    r"\p{L}[^]a]",
];

/// Values by short names; nothing else has one.
fn value(name: &str) -> Option<Json> {
    Some(match name {
        "x" => json!("text, {y} and {{z}}"),
        "a" => json!("it's"),
        "n" => json!(-1234.5678),
        "i" => json!(1_234_567),
        "b" | "t" => json!(true),
        "l" => json!([1, "two", null]),
        "o" => json!({"k": ["v"], "1": 2.0}),
        "none" => Json::Null,
        "y" => json!(""),
        _ => return None,
    })
}

/// Rendering is bounded and repeatable, says what is wrong, and what was rendered renders to itself once escaped.
pub fn template(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let names = render(text, Access::Names, &value);
    let items = render(text, Access::Items, &value);
    for result in [&names, &items] {
        check(result);
        if let Ok(rendered) = result {
            let escaped = rendered.replace('{', "{{").replace('}', "}}");
            assert_eq!(render(&escaped, Access::Names, &|_| None).as_ref(), Ok(rendered));
        }
    }
    // Items are names and more.
    if let Ok(rendered) = &names {
        assert_eq!(items.as_ref(), Ok(rendered));
    }
    if !text.contains(['{', '}']) {
        assert_eq!(names.as_deref(), Ok(text));
    }
    // Text before and after is kept.
    if let Ok(rendered) = &names {
        let around = format!("a{text}z");
        assert_eq!(
            render(&around, Access::Names, &value),
            Ok(format!("a{rendered}z"))
        );
    }
}

/// The same for double brackets; values are put in once.
pub fn mustache(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let result = render_mustache(text, &value);
    check(&result);
    if !text.contains("{{") {
        assert_eq!(result.as_deref(), Ok(text));
    }
    // A variable nobody knows is empty text: a template of such variables only gets shorter.
    if let Ok(rendered) = render_mustache(text, &|_| None) {
        assert!(rendered.len() <= text.len());
    }
}

/// A pattern is matched in time, or refused; the same answer every time.
pub fn pattern(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let (pattern, subject) = text.split_once('\n').unwrap_or((text, "aab_x12\n"));
    assert_eq!(matches_start(pattern, subject), matches_start(pattern, subject));
}

fn check(result: &Result<String, TemplateError>) {
    match result {
        Ok(rendered) => assert!(rendered.len() <= MAX_RENDERED_BYTES),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}
