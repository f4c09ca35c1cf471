//! Langflow's own HTTP API, as far as its clients need it to run flows: they change their base URL and nothing else.
//!
//! Owns paths, bodies and answers in Langflow's shapes. A call becomes a run like any other: stored, queued, executed
//! by a worker. Errors are problem details, whose `detail` is where Langflow's clients look for the reason.

pub(crate) mod about;
mod archive;
pub(crate) mod bundle;
pub(crate) mod call;
mod document;
pub(crate) mod files;
pub(crate) mod flows;
pub(crate) mod form;
pub(crate) mod knowledge;
pub(crate) mod monitor;
pub(crate) mod projects;
pub(crate) mod run;
mod stream;
mod submit;
mod tell;
pub(crate) mod webhook;
pub(crate) mod workflows;
