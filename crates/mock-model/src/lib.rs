//! A model server that costs nothing: the chats of OpenAI, Anthropic and Ollama, answered the same way every time.
//!
//! It echoes the last message of the user, after a latency and at a rate that can be set, asks for the tools that the
//! message names, and fails when told to.
//! For demos, tests and load tests. It owns the wire and the counts; what is asked is the clients' business.

mod answer;
mod args;
mod calls;
mod chat;
mod config;
mod embed;
mod handle;
mod messages;
mod server;
mod stats;

pub use args::Args;
pub use config::Config;
pub use handle::{Handle, spawn};
pub use server::serve;
