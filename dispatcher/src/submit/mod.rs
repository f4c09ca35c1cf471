//! From a request body to a stored run: parse and check, resolve the flow, commit in groups.

pub(crate) mod group;
pub(crate) mod many;
pub(crate) mod parse;
pub(crate) mod prepare;
pub(crate) mod resolve;
