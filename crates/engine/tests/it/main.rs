//! Flows from documents to outcomes, through the crate's public interface.

mod documents;
mod draw;
mod examples;
mod golden;
mod groups;
mod hostile;
mod random;
mod requests;
mod resume;
mod run;
