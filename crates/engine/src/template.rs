//! Templates as Langflow's components render them: Python's format strings, and mustache with plain variables only.
//!
//! Pure and total: any template and any values give text or a [`TemplateError`], never a panic.

mod fstring;
mod mustache;
mod spec;
mod text;

pub(crate) use fstring::{Access, render};
pub(crate) use mustache::render as render_mustache;
pub(crate) use text::{json as python_json, repr as python_repr, to_text};

/// A number with six significant digits at most, as tables show it.
pub(crate) fn general(value: f64) -> String {
    if value.is_finite() {
        spec::general(value, 6)
    } else {
        text::float_text(value)
    }
}

/// Longest text a template may render to: fields can name a large value many times, and ask for padding.
pub(crate) const MAX_RENDERED_BYTES: usize = 16 << 20;

/// Why a template cannot be rendered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TemplateError {
    #[error("{0}")]
    Syntax(String),
    #[error("variable {{{0}}} has no value")]
    Missing(String),
    #[error("{{{field}}}: {detail}")]
    Value { field: String, detail: String },
    #[error("the rendered text is longer than {MAX_RENDERED_BYTES} bytes")]
    TooLong,
}
