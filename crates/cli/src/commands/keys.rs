//! `flowfleet keys`: API keys, through the API or, for the first key, straight in the store.

use std::sync::Arc;

use clap::{Args as ClapArgs, Subcommand};
use comfy_table::Cell;
use flowfleet_core::port::{Actor, KeyRecord, NewKey, Role, Store};
use flowfleet_core::{KeyId, Tenant};
use jiff::Timestamp;
use reqwest::Method;
use serde_json::{Value, json};

use super::{Context, migrate};
use crate::failure::{Failure, Result};
use crate::term::Paint;
use crate::{show, text};

const EXAMPLES: &str = "\
Examples:
  flowfleet keys create --name ops --role admin --store $FLOWFLEET_STORE_URL    the first key
  flowfleet keys create --name ci --role submit
  flowfleet keys list
  flowfleet keys revoke 019a9d0c-5f0e-7d2c-b1f5-6c1f5a6d7e8f";

/// Options of `keys`.
#[derive(Debug, ClapArgs)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Make a key; it is shown once
    Create(Create),
    /// All keys, revoked ones included
    List(List),
    /// Revoke a key at once
    Revoke(Revoke),
}

/// Where keys are changed without a server.
#[derive(Debug, ClapArgs)]
struct Direct {
    /// Work on this store instead of a server: for the first key
    #[arg(long, value_name = "URL")]
    store: Option<String>,
    /// The tenant, with --store
    #[arg(long, default_value = "default", requires = "store")]
    tenant: Tenant,
}

#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  flowfleet keys create --name ops --role admin --store postgres://flowfleet@db/flowfleet
  flowfleet keys create --name ci --role submit
  FLOWFLEET_API_KEY=$(flowfleet keys create --name ops --role admin --store sqlite:.flowfleet/flowfleet.db --quiet)")]
struct Create {
    /// What it is for
    #[arg(long)]
    name: String,
    /// admin: everything; submit: submit, read and cancel; read: read
    #[arg(long, default_value = "submit", value_name = "admin|submit|read")]
    role: Role,
    #[command(flatten)]
    direct: Direct,
    /// Print nothing but the key
    #[arg(long, short)]
    quiet: bool,
    /// As JSON
    #[arg(long, conflicts_with = "quiet")]
    json: bool,
}

#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  flowfleet keys list
  flowfleet keys list --store sqlite:.flowfleet/flowfleet.db --json")]
struct List {
    #[command(flatten)]
    direct: Direct,
    /// As JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  flowfleet keys revoke 019a9d0c-5f0e-7d2c-b1f5-6c1f5a6d7e8f")]
struct Revoke {
    /// The key's id, as `keys list` shows it
    id: KeyId,
    #[command(flatten)]
    direct: Direct,
}

pub(crate) async fn run(args: Args, context: &Context) -> Result {
    match args.action {
        Action::Create(args) => create(args, context).await,
        Action::List(args) => list(args, context).await,
        Action::Revoke(args) => revoke(args, context).await,
    }
}

async fn create(args: Create, context: &Context) -> Result {
    let answer = match &args.direct.store {
        Some(url) => {
            let store = open(url).await?;
            let (plaintext, hash) = flowfleet_dispatcher::keys::generate();
            let key = NewKey {
                id: KeyId::generate(),
                tenant: args.direct.tenant.clone(),
                name: args.name.clone(),
                role: args.role,
                hash,
            };
            let record = store.create_key(key).await?;
            audit(&store, &args.direct.tenant, "key.create", &record.id.to_string()).await?;
            let mut answer = to_json(&record);
            answer["key"] = plaintext.into();
            answer
        }
        None => {
            let body = json!({"name": args.name, "role": args.role.as_str()});
            context
                .client()?
                .call(Method::POST, &["v1", "keys"])
                .json(&body)
                .send::<Value>()
                .await?
        }
    };
    let term = &context.term;
    if args.json {
        term.json(&answer)?;
        return Ok(());
    }
    let key = answer.get("key").and_then(Value::as_str);
    let key = key.ok_or_else(|| Failure::reach("the server made a key but did not show it"))?;
    term.line(key)?;
    if !args.quiet {
        let id = answer.get("id").map(text::of).unwrap_or_default();
        term.note(&format!(
            "key {id} ({}, {}) is shown only this once",
            args.name,
            args.role.as_str()
        ));
        term.note(&format!(
            "use it: {}",
            term.paint_err("export FLOWFLEET_API_KEY=<the key>", Paint::Accent)
        ));
    }
    Ok(())
}

async fn list(args: List, context: &Context) -> Result {
    let page = match &args.direct.store {
        Some(url) => {
            let keys = open(url).await?.keys(&args.direct.tenant).await?;
            json!({"items": keys.iter().map(to_json).collect::<Vec<_>>(), "next_cursor": null})
        }
        None => context.client()?.get(&["v1", "keys"]).send::<Value>().await?,
    };
    if args.json {
        context.term.json(&page)?;
        return Ok(());
    }
    let items = page
        .get("items")
        .and_then(Value::as_array)
        .cloned()
        .unwrap_or_default();
    if items.is_empty() {
        context
            .term
            .note("no keys: the server serves this machine only, and everybody on it is admin");
        return Ok(());
    }
    let now = Timestamp::now();
    let mut table = show::table(&context.term, &["KEY", "NAME", "ROLE", "CREATED", "REVOKED"]);
    for item in &items {
        let word = |name: &str| item.get(name).map(text::of).unwrap_or_default();
        let when = |name: &str| word(name).parse::<Timestamp>().ok().map(|at| text::ago(at, now));
        table.add_row(vec![
            Cell::new(word("id")),
            Cell::new(word("name")),
            Cell::new(word("role")),
            Cell::new(show::or_dash(when("created_at"))),
            Cell::new(show::or_dash(when("revoked_at"))),
        ]);
    }
    context.term.line(&show::lines(&table, ""))?;
    Ok(())
}

async fn revoke(args: Revoke, context: &Context) -> Result {
    let id = args.id.to_string();
    match &args.direct.store {
        Some(url) => {
            let store = open(url).await?;
            if !store.revoke_key(&args.direct.tenant, args.id).await? {
                return Err(
                    Failure::usage(format!("there is no live key {id}")).advise("`flowfleet keys list`")
                );
            }
            audit(&store, &args.direct.tenant, "key.revoke", &id).await?;
        }
        None => {
            context
                .client()?
                .call(Method::DELETE, &["v1", "keys", &id])
                .send::<Value>()
                .await?;
        }
    }
    context.term.line(&format!("key {id} is revoked"))?;
    Ok(())
}

async fn open(url: &str) -> Result<Arc<dyn Store>> {
    let store = migrate::open(url).await?;
    store.ping().await.map_err(|error| {
        Failure::reach(error.to_string()).advise(format!(
            "flowfleet migrate --store-url {}",
            flowfleet_runtime::redact::url(url)
        ))
    })?;
    Ok(store)
}

async fn audit(store: &Arc<dyn Store>, tenant: &Tenant, action: &str, target: &str) -> Result {
    let actor = Actor {
        tenant: tenant.clone(),
        name: "cli".to_owned(),
    };
    store.audit(&actor, action, target).await?;
    Ok(())
}

fn to_json(key: &KeyRecord) -> Value {
    json!({
        "id": key.id,
        "tenant": key.tenant,
        "name": key.name,
        "role": key.role,
        "created_at": key.created_at,
        "revoked_at": key.revoked_at,
    })
}
