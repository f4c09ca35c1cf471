//! Which component a node's code is, by the sha256 of that code.

use crate::component::Kind;

/// The component this code is, if it is one whose behaviour the native implementation reproduces.
pub fn kind_of(code: &str) -> Option<Kind> {
    let _ = code;
    None
}
