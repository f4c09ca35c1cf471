//! `flowfleet migrate`: brings a store's schema to this version.

use std::path::PathBuf;

use clap::Args as ClapArgs;

use super::Context;
use crate::failure::{Failure, Result};
use crate::text;

const EXAMPLES: &str = "\
Examples:
  FLOWFLEET_STORE_URL=postgres://flowfleet@db/flowfleet flowfleet migrate
  flowfleet migrate --store-url sqlite:.flowfleet/flowfleet.db";

/// Options of `migrate`.
#[derive(Debug, ClapArgs)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The store: postgres://... or sqlite:FILE; else FLOWFLEET_STORE_URL, or the file FLOWFLEET_STORE_URL_FILE names
    #[arg(long, value_name = "URL")]
    store_url: Option<String>,
    /// A configuration file of the services that names it
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// As JSON
    #[arg(long)]
    json: bool,
}

pub(crate) async fn run(args: Args, context: &Context) -> Result {
    let mut flags = toml::Table::new();
    if let Some(url) = args.store_url {
        flags.insert("store_url".to_owned(), url.into());
    }
    let backends = super::backends::load(args.config.as_deref(), flags)?;
    let url = backends.store_url.expose();
    if let Some(path) = sqlite_path(url) {
        crate::embedded::make_parent(&path)?;
    }
    let store = open(url).await?;
    let ran = store
        .migrate()
        .await
        .map_err(|error| Failure::reach(format!("cannot migrate: {error}")))?;
    if args.json {
        context.term.json(&serde_json::json!({"migrations": ran}))?;
    } else if ran == 0 {
        context.term.line("the schema is up to date, no migration ran")?;
    } else {
        context.term.line(&format!(
            "{} ran, the schema is up to date",
            text::plural(ran as usize, "migration")
        ))?;
    }
    Ok(())
}

/// Opens a store for one command.
pub(crate) async fn open(url: &str) -> Result<std::sync::Arc<dyn flowfleet_core::port::Store>> {
    let options = flowfleet_store::Options {
        max_connections: 2,
        ..Default::default()
    };
    flowfleet_store::open(url, options).await.map_err(|error| {
        Failure::reach(error.to_string()).advise("check FLOWFLEET_STORE_URL; `flowfleet doctor` says more")
    })
}

/// The file of a SQLite URL.
pub(crate) fn sqlite_path(url: &str) -> Option<PathBuf> {
    let rest = url.strip_prefix("sqlite:")?;
    let rest = rest.split('?').next().unwrap_or(rest);
    let rest = rest.strip_prefix("//").unwrap_or(rest);
    (!rest.is_empty() && !rest.starts_with(":memory:")).then(|| PathBuf::from(rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_sqlite_urls() {
        for (url, path) in [
            ("sqlite:a/b.db", Some("a/b.db")),
            ("sqlite:///var/b.db", Some("/var/b.db")),
            ("sqlite:b.db?mode=ro", Some("b.db")),
            ("sqlite::memory:", None),
            ("postgres://x/y", None),
        ] {
            assert_eq!(sqlite_path(url), path.map(PathBuf::from), "{url}");
        }
    }
}
