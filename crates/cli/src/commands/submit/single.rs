//! One run: submitted, and waited for or followed where that was asked for.

use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::Value;

use super::{Args, What};
use crate::client::{Client, Run};
use crate::commands::{Context, read_file, runs};
use crate::failure::{Failure, Result};
use crate::term::Paint;

/// How long one call waits for the end; then it asks again.
const WAIT: Duration = Duration::from_secs(30);

pub(super) async fn run(args: &Args, client: &Client, context: &Context) -> Result {
    let mut body = args.options.to_fields().await?;
    let flow = args.flow.as_ref().ok_or_else(|| Failure::usage("which flow?"))?;
    body.insert("flow".to_owned(), flow.to_string().into());
    if let Some(input) = input(&args.what).await? {
        body.insert("input".to_owned(), input);
    }
    // A key of our own makes the call safe to repeat when the answer gets lost.
    let key = args.options.idempotency_key.clone();
    let key = key.unwrap_or_else(|| format!("cli-{}", uuid::Uuid::now_v7().simple()));
    let deadline = args.then.wait_timeout.map(|timeout| Instant::now() + timeout);
    let mut call = client
        .call(Method::POST, &["v1", "runs"])
        .json(&body.into())
        .idempotency_key(key)
        .tries(4);
    if args.then.wait {
        let wait = left(deadline).max(Duration::from_secs(1));
        call = call
            .query("wait_s", &wait.as_secs().to_string())
            .timeout(wait + Duration::from_secs(30));
    }
    let answer: Value = call.send().await?;
    let id = answer.get("id").and_then(Value::as_str);
    let id = id
        .ok_or_else(|| Failure::reach("the server took the run but did not name it"))?
        .to_owned();

    if args.then.follow {
        context.term.note(&format!("run {id}"));
        let to = if args.then.json {
            runs::Follow::Json
        } else {
            runs::Follow::Aside
        };
        runs::follow(client, &id, None, to, context).await?;
        let run = client.run(&id, None).await?;
        return if args.then.json {
            runs::exit(&run)
        } else {
            runs::outcome(&run, context)
        };
    }
    if !args.then.wait {
        if args.then.json {
            context.term.json(&answer)?;
        } else {
            context.term.line(&id)?;
            let state = answer.get("state").and_then(Value::as_str).unwrap_or("accepted");
            let follow = context
                .term
                .paint_err(&format!("flowfleet runs events {id}"), Paint::Accent);
            context.term.note(&format!("{state}; follow it with {follow}"));
        }
        return Ok(());
    }
    let run = finished(client, &id, answer, deadline).await?;
    if args.then.json {
        context.term.json(&run)?;
        return runs::exit(&run);
    }
    runs::outcome(&run, context)
}

/// Waits for the end of a run, from an answer that may be it already.
async fn finished(client: &Client, id: &str, mut answer: Value, deadline: Option<Instant>) -> Result<Value> {
    loop {
        let run: Run = runs::parse(&answer)?;
        if run.ended() {
            // The answer to a submission may be short: the whole run has its output.
            let whole = answer.get("output").is_some() && answer.get("finished_at").is_some();
            return if whole {
                Ok(answer)
            } else {
                Ok(client.run(id, None).await?)
            };
        }
        if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            return Err(
                Failure::reach(format!("run {id} is still {} and goes on without us", run.state))
                    .advise(format!("flowfleet runs explain {id}")),
            );
        }
        answer = client
            .run(id, Some(left(deadline).max(Duration::from_secs(1))))
            .await?;
    }
}

fn left(deadline: Option<Instant>) -> Duration {
    deadline.map_or(WAIT, |deadline| {
        deadline.saturating_duration_since(Instant::now()).min(WAIT)
    })
}

async fn input(what: &What) -> Result<Option<Value>> {
    if let Some(text) = &what.input {
        return Ok(Some(text.clone().into()));
    }
    let Some(path) = &what.input_file else {
        return Ok(None);
    };
    let bytes = read_file(path).await?;
    let is_json = std::path::Path::new(path)
        .extension()
        .is_some_and(|extension| extension.eq_ignore_ascii_case("json"));
    if is_json {
        let value = serde_json::from_slice(&bytes);
        return value
            .map(Some)
            .map_err(|error| Failure::usage(format!("{path} is not JSON: {error}")));
    }
    let text = String::from_utf8(bytes).map_err(|_| Failure::usage(format!("{path} is not UTF-8 text")))?;
    // A file's last line end is the editor's, not the author's.
    Ok(Some(text.strip_suffix('\n').unwrap_or(&text).into()))
}
