//! The commands, one module each: options with examples, and what they do.

mod backends;
pub(crate) mod completions;
pub(crate) mod demo;
pub(crate) mod doctor;
pub(crate) mod fleet;
pub(crate) mod flows;
pub(crate) mod keys;
pub(crate) mod migrate;
pub(crate) mod mock_model;
pub(crate) mod python;
pub(crate) mod run;
pub(crate) mod runs;
pub(crate) mod simulate;
pub(crate) mod submit;
pub(crate) mod up;
pub(crate) mod version;

use crate::args::Global;
use crate::client::Client;
use crate::failure::{Failure, Result};
use crate::term::Term;

/// What every command is given.
#[derive(Debug)]
pub(crate) struct Context {
    pub term: Term,
    pub global: Global,
}

impl Context {
    pub(crate) fn new(global: &Global) -> Self {
        Self {
            term: Term::new(global.color),
            global: global.clone(),
        }
    }

    /// The server named by `--url`.
    pub(crate) fn client(&self) -> Result<Client> {
        Client::new(&self.global.url, self.global.api_key.clone())
    }
}

/// A file's bytes, or those of stdin for `-`.
pub(crate) async fn read_file(path: &str) -> Result<Vec<u8>> {
    let path = path.to_owned();
    let read = tokio::task::spawn_blocking(move || {
        if path == "-" {
            let mut bytes = Vec::new();
            std::io::Read::read_to_end(&mut std::io::stdin().lock(), &mut bytes).map(|_| bytes)
        } else {
            std::fs::read(&path)
        }
        .map_err(|error| Failure::usage(format!("cannot read {path}: {error}")))
    });
    read.await
        .map_err(|error| Failure::reach(format!("reading stopped: {error}")))?
}

/// JSON given on the command line, or `@FILE`.
pub(crate) async fn read_json(what: &str, text: &str) -> Result<serde_json::Value> {
    let bytes = match text.strip_prefix('@') {
        Some(path) => read_file(path).await?,
        None => text.as_bytes().to_vec(),
    };
    serde_json::from_slice(&bytes).map_err(|error| Failure::usage(format!("{what} is not JSON: {error}")))
}
