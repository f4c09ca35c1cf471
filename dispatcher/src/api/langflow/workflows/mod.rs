//! `/api/v2/workflows`: Langflow's second API for runs, waited for, streamed, or left to go on in the background.
//!
//! Owns its bodies, its answers, its events and its refusals, in the shapes of Langflow's server. A job is a run like
//! any other; what it was asked as travels with its input.

mod answer;
pub(crate) mod ask;
pub(crate) mod execute;
pub(crate) mod jobs;
mod refusal;
mod stream;
mod tell;

pub(crate) use refusal::Refusal;
