//! `flowfleet runs cancel` and `replay`: the same thing done to several runs, by id or by filter.

use reqwest::Method;
use serde_json::{Map, Value, json};

use super::Many;
use crate::client::Client;
use crate::commands::Context;
use crate::failure::{Failure, Result};
use crate::term::state_paint;
use crate::text;

pub(super) async fn run(what: &'static str, args: &Many, client: &Client, context: &Context) -> Result {
    if !args.ids.is_empty() {
        return each(what, args, client, context).await;
    }
    let filter = &args.filter;
    let query = filter.query();
    if query.is_empty() {
        return Err(Failure::usage(format!(
            "which runs should {what} take: ids, or a filter such as --state"
        )));
    }
    let mut body = Map::new();
    let texts = |values: Vec<String>| Value::from(values);
    if !filter.states.is_empty() {
        let states = filter
            .states
            .iter()
            .map(|state| state.as_str().to_owned())
            .collect();
        body.insert("state".to_owned(), texts(states));
    }
    for (name, value) in query {
        match name {
            "state" => {}
            "label" => {
                let labels = body.entry("labels").or_insert_with(|| Map::new().into());
                if let (Value::Object(labels), Some((key, value))) = (labels, value.split_once(':')) {
                    labels.insert(key.to_owned(), value.into());
                }
            }
            name => {
                body.insert(name.to_owned(), value.into());
            }
        }
    }
    body.insert("dry_run".to_owned(), args.dry_run.into());
    let call = client
        .call(Method::POST, &["v1", "runs", what])
        .json(&body.into());
    let answer: Value = call.timeout(std::time::Duration::from_secs(300)).send().await?;
    if args.json {
        context.term.json(&answer)?;
        return Ok(());
    }
    context.term.line(&counts(&answer, args.dry_run))?;
    if answer.get("more").and_then(Value::as_bool) == Some(true) {
        context.term.note("there are more: repeat the command");
    }
    Ok(())
}

/// `12 matched: 10 cancelled, 2 requested`
fn counts(answer: &Value, dry_run: bool) -> String {
    let matched = answer.get("matched").and_then(Value::as_u64).unwrap_or_default();
    let matched_words = text::plural(usize::try_from(matched).unwrap_or(usize::MAX), "run");
    if dry_run || matched == 0 {
        return format!("{matched_words} matched");
    }
    let counts = answer
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(name, _)| *name != "matched");
    let counts = counts.filter_map(|(name, value)| Some((name, value.as_u64().filter(|n| *n > 0)?)));
    let words: Vec<String> = counts
        .map(|(name, n)| format!("{} {}", text::count(n), name.replace('_', " ")))
        .collect();
    format!("{matched_words} matched: {}", words.join(", "))
}

async fn each(what: &'static str, args: &Many, client: &Client, context: &Context) -> Result {
    let mut answers = Vec::new();
    for id in &args.ids {
        let id = id.to_string();
        let mut call = client.call(Method::POST, &["v1", "runs", &id, what]);
        call = match what {
            "cancel" => call.repeatable().tries(3),
            _ => call
                .idempotency_key(format!("cli-{}", uuid::Uuid::now_v7().simple()))
                .tries(3),
        };
        let answer: Value = call.send().await?;
        if !args.json {
            let state = answer.get("state").and_then(Value::as_str).unwrap_or("asked");
            let new = answer.get("id").and_then(Value::as_str).filter(|new| *new != id);
            match new {
                Some(new) => context.term.line(new)?,
                None => context
                    .term
                    .line(&format!("{id} {}", cancel_words(state, context)))?,
            }
        }
        answers.push(answer);
    }
    if args.json {
        context
            .term
            .json(&json!({"items": answers, "next_cursor": null}))?;
    }
    Ok(())
}

fn cancel_words(state: &str, context: &Context) -> String {
    if state == "running" {
        return "is running: its worker has been told to stop".to_owned();
    }
    context.term.paint(state, state_paint(state))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_in_words() {
        let answer =
            json!({"dry_run": false, "matched": 12, "cancelled": 10, "requested": 2, "already_final": 0});
        assert_eq!(
            counts(&answer, false),
            "12 runs matched: 10 cancelled, 2 requested"
        );
        assert_eq!(counts(&answer, true), "12 runs matched");
        assert_eq!(
            counts(&json!({"matched": 0, "created": 0}), false),
            "0 runs matched"
        );
    }
}
