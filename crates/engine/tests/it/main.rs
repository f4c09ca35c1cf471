//! Flows from documents to outcomes, through the crate's public interface.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

mod api_request;
mod conversations;
mod data_operations;
mod documents;
mod draw;
mod examples;
mod golden;
mod groups;
mod hostile;
mod langflow;
mod lfx;
mod loops;
mod operator;
mod providers;
mod random;
mod requests;
mod resume;
mod run;
