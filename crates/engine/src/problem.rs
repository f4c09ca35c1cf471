//! Why a document is refused: every problem found, each with its place in the document.

use std::fmt;

use serde::Serialize;

/// Problems reported for one document or request at most: enough to fix a flow in one go, bounded for hostile ones.
pub const MAX_PROBLEMS: usize = 100;

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// RFC 6901 pointer into the document (or the request).
    pub pointer: String,
    /// The node it is about, by id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    pub detail: String,
}

/// A document that is not a flow this engine can plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FlowError {
    pub problems: Vec<Problem>,
}

impl fmt::Display for FlowError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        display(&self.problems, f)
    }
}

impl std::error::Error for FlowError {}

/// The first problem and how many more there are.
pub(crate) fn display(problems: &[Problem], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let Some(first) = problems.first() else {
        return f.write_str("no problem recorded");
    };
    match &first.node {
        Some(node) => write!(f, "{node}: {}", first.detail)?,
        None => f.write_str(&first.detail)?,
    }
    match problems.len() {
        1 => Ok(()),
        n => write!(f, " (and {} more)", n - 1),
    }
}

/// Names in a document may be as long as the document: what repeats them is cut.
pub(crate) fn clip(mut text: String) -> String {
    if let Some((end, _)) = text.char_indices().nth(MAX_TEXT) {
        text.truncate(end);
        text.push('…');
    }
    text
}

const MAX_TEXT: usize = 500;

/// Collects problems up to the cap.
#[derive(Debug, Default)]
pub(crate) struct Problems(Vec<Problem>);

impl Problems {
    pub(crate) fn push(&mut self, pointer: impl Into<String>, node: Option<&str>, detail: impl Into<String>) {
        if self.0.len() < MAX_PROBLEMS {
            let (pointer, detail) = (clip(pointer.into()), clip(detail.into()));
            self.0.push(Problem {
                pointer,
                node: node.map(|node| clip(node.to_owned())),
                detail,
            });
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn full(&self) -> bool {
        self.0.len() >= MAX_PROBLEMS
    }

    pub(crate) fn into_vec(self) -> Vec<Problem> {
        self.0
    }
}

/// One step deeper into a JSON pointer, escaped as RFC 6901 says.
pub(crate) fn child(pointer: &str, key: &str) -> String {
    format!("{pointer}/{}", key.replace('~', "~0").replace('/', "~1"))
}
