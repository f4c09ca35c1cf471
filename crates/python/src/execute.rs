//! One run: a request settled by the engine's rules, a place in a child, progress as the engine tells it, an outcome.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use flowfleet_engine::{
    HostError, Message, NodeError, NodeInfo, NodeOutput, Outcome, Plan, Progress, Request, RunError,
    Services, Usage, Value,
};
use serde_json::value::RawValue;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::child::{Command, Told};
use crate::conversation::Conversation;
use crate::failure::End;
use crate::protocol::{Call, What};
use crate::{Host, State, environment};

/// Things a run has said and nobody has taken yet; the child waits then.
const WAITING: usize = 256;

/// One run of a flow.
#[derive(Debug, Clone, Copy)]
pub struct Work<'a> {
    pub plan: &'a Plan,
    /// The export that the plan was made of.
    pub document: &'a [u8],
    pub request: &'a Request,
    pub run_id: &'a str,
    /// Runs of different realms never share a process, not even one after the other.
    pub realm: &'a str,
    /// With the memory of the run's conversation, if it is part of one.
    pub services: &'a Services,
}

type Report = Arc<dyn Fn(Progress) + Send + Sync>;

impl Host {
    /// Runs a whole flow. Everything that happens is reported in order. Cancelling, or dropping this, ends the run in
    /// its process, by force after a while. There is no resuming: another attempt begins at the start.
    pub async fn execute(
        &self,
        work: Work<'_>,
        on_progress: Report,
        cancel: CancellationToken,
    ) -> Result<Outcome, RunError> {
        let execution = self.run(work, on_progress);
        match cancel.run_until_cancelled(execution).await {
            Some(ended) => ended,
            None => Err(RunError::Cancelled),
        }
    }

    async fn run(&self, work: Work<'_>, on_progress: Report) -> Result<Outcome, RunError> {
        let hosted = work.plan.hosted(work.request, work.run_id, work.services)?;
        if let State::Broken(why) = self.started().await {
            return Err(unavailable(&why).into());
        }
        let conversation = || Conversation::new(work.services, work.run_id, hosted.flow_id.as_deref());
        let history = conversation().history(&hosted.session_id).await;
        let history = history.map_err(RunError::from)?;
        let mut alone = false;
        loop {
            let call = Call {
                run: work.run_id.to_owned(),
                flow: one_line(work.document)?,
                flow_id: hosted.flow_id.clone(),
                input_value: hosted.input.clone(),
                input_type: hosted.input_type,
                output_type: hosted.output_type,
                output_component: hosted.output_component.clone(),
                tweaks: hosted.tweaks.clone(),
                session_id: hosted.session_id.clone(),
                environment: environment::of_run(&hosted.variables),
                variables: hosted.variables.clone(),
                history: history.clone(),
                stream: true,
            };
            let attempt = Attempt::new(work, &on_progress, conversation());
            match self.attempt(call, work.realm, alone, attempt).await {
                // Somebody's run has ended the process that others shared: by itself each shows whose it was.
                Err(Ended::Shared(end)) if !alone => {
                    tracing::info!(
                        run = work.run_id,
                        ?end,
                        "the process of several runs ended: running again alone"
                    );
                    alone = true;
                }
                Err(Ended::Shared(end)) => return Err(end.explain(&self.inner.settings, "").into()),
                Err(Ended::Run(error)) => return Err(error),
                Ok(outcome) => return Ok(outcome),
            }
        }
    }

    async fn attempt(
        &self,
        call: Call,
        realm: &str,
        alone: bool,
        mut attempt: Attempt<'_>,
    ) -> Result<Outcome, Ended> {
        let settings = &self.inner.settings;
        let place = self
            .inner
            .pool
            .place(realm, alone)
            .await
            .map_err(RunError::from)?;
        let (sender, mut told) = mpsc::channel(WAITING);
        let guard = Stop {
            run: call.run.clone(),
            told: sender.downgrade(),
            commands: place.commands,
        };
        let command = Command::Run {
            call: Box::new(call),
            told: sender,
        };
        // If the child has just ended, the channel says so.
        let _ = guard.commands.send(command);
        let mut late = false;
        let mut time = std::pin::pin!(tokio::time::sleep(settings.run_timeout()));
        loop {
            tokio::select! {
                said = told.recv() => match said {
                    Some(Told::Said(What::Cancelled)) if late => {
                        return Err(Ended::Run(End::TimedOut.explain(settings, "").into()));
                    }
                    Some(Told::Said(what)) => {
                        if let Some(ended) = attempt.hear(what).await {
                            return ended.map_err(Ended::Run);
                        }
                    }
                    Some(Told::Ended { end, alone: false, .. }) if end != End::Lost => return Err(Ended::Shared(end)),
                    Some(Told::Ended { end, last_words, .. }) => {
                        return Err(Ended::Run(end.explain(settings, &last_words).into()));
                    }
                    None => return Err(Ended::Run(End::Lost.explain(settings, "").into())),
                },
                () = &mut time, if !late => {
                    late = true;
                    guard.stop(End::TimedOut);
                }
            }
        }
    }
}

/// How an attempt failed.
enum Ended {
    Run(RunError),
    /// With the process that it shared with others.
    Shared(End),
}

impl From<RunError> for Ended {
    fn from(error: RunError) -> Self {
        Self::Run(error)
    }
}

/// Ends the run in its process when nobody waits for it any more. A run that has ended is not known there.
struct Stop {
    run: String,
    told: mpsc::WeakSender<Told>,
    commands: mpsc::UnboundedSender<Command>,
}

impl Stop {
    fn stop(&self, why: End) {
        let _ = self.commands.send(Command::Stop {
            run: self.run.clone(),
            told: self.told.clone(),
            why,
        });
    }
}

impl Drop for Stop {
    fn drop(&mut self) {
        self.stop(End::Cancelled);
    }
}

/// What is known of a run while it says things.
struct Attempt<'a> {
    work: Work<'a>,
    on_progress: &'a Report,
    nodes: HashMap<String, Arc<NodeInfo>>,
    usage: Usage,
    finished: u32,
    conversation: Conversation<'a>,
}

impl<'a> Attempt<'a> {
    fn new(work: Work<'a>, on_progress: &'a Report, conversation: Conversation<'a>) -> Self {
        let nodes = work.plan.node_list().into_iter();
        Self {
            work,
            on_progress,
            nodes: nodes.map(|info| (info.id.clone(), Arc::new(info))).collect(),
            usage: Usage::default(),
            finished: 0,
            conversation,
        }
    }

    fn node(&self, id: String) -> Arc<NodeInfo> {
        self.nodes.get(&id).cloned().unwrap_or_else(|| {
            Arc::new(NodeInfo {
                display_name: id.clone(),
                component: String::new(),
                id,
            })
        })
    }

    /// Answers when the run has ended.
    async fn hear(&mut self, what: What) -> Option<Result<Outcome, RunError>> {
        let progress = match what {
            What::NodeStarted { node } => Progress::NodeStarted {
                node: self.node(node),
            },
            What::Token { node, text } => Progress::Token {
                node: self.node(node),
                text,
            },
            What::NodeFinished {
                node,
                elapsed_s,
                preview,
                usage,
            } => {
                let usage = usage.unwrap_or_default();
                self.usage += usage;
                self.finished += 1;
                Progress::NodeFinished {
                    node: self.node(node),
                    output: Arc::new(shown(preview, usage)),
                    reused: false,
                    elapsed: Duration::try_from_secs_f64(elapsed_s).unwrap_or_default(),
                }
            }
            What::NodeFailed { node, message } => Progress::NodeFailed {
                node: self.node(node),
                error: NodeError {
                    code: "python_component_failed",
                    message,
                    retryable: false,
                },
            },
            What::Message { node, message } => {
                let kept = self.conversation.keep(node, message).await;
                return kept.err().map(|error| Err(error.into()));
            }
            What::Cancelled => {
                let message = "a component cancelled the run from within".to_owned();
                return Some(Err(self.failed("", message, None, false)));
            }
            What::Error {
                code,
                message,
                node,
                retryable,
            } => return Some(Err(self.failed(&code, message, node, retryable))),
            What::Result {
                outputs,
                langflow,
                session_id,
            } => {
                let langflow = self.work.request.langflow_id.is_some().then_some(langflow);
                let mut outcome = Outcome::of_hosted(outputs, langflow, session_id);
                outcome.usage = self.usage;
                outcome.nodes_run = self.finished;
                return Some(Ok(outcome));
            }
        };
        (self.on_progress)(progress);
        None
    }

    fn failed(&self, code: &str, message: String, node: Option<String>, retryable: bool) -> RunError {
        const CODES: [&str; 4] = [
            "TWEAKS_REFUSED",
            "python_component_failed",
            "python_memory",
            "python_output_too_large",
        ];
        let known = CODES.into_iter().find(|known| *known == code);
        let code = known.unwrap_or("python_flow_failed");
        match node {
            Some(node) => RunError::Node {
                node: self.node(node),
                error: NodeError {
                    code,
                    message,
                    retryable,
                },
            },
            None => RunError::Host(HostError {
                code,
                message,
                retryable,
                interrupted: false,
            }),
        }
    }
}

/// What is shown of a node: its values stay in the process.
fn shown(preview: String, usage: Usage) -> NodeOutput {
    NodeOutput {
        values: BTreeMap::from([("output".to_owned(), Value::Message(Message::of(preview)))]),
        usage,
        ..NodeOutput::default()
    }
}

fn unavailable(why: &str) -> HostError {
    HostError {
        code: "python_unavailable",
        message: format!("this worker cannot run flows in Python: {why}"),
        retryable: true,
        interrupted: false,
    }
}

/// The document without line feeds: JSON has them only between its tokens.
fn one_line(document: &[u8]) -> Result<Box<RawValue>, RunError> {
    let flat = document.iter().map(|byte| match byte {
        b'\n' | b'\r' => b' ',
        byte => *byte,
    });
    let text = String::from_utf8(flat.collect()).map_err(|error| error.to_string());
    let raw = text.and_then(|text| RawValue::from_string(text).map_err(|error| error.to_string()));
    raw.map_err(|error| {
        RunError::Host(HostError {
            code: "python_flow_failed",
            message: format!("the flow is not JSON: {error}"),
            retryable: false,
            interrupted: false,
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_becomes_one_line() {
        let line = one_line(b"{\r\n  \"a\": \"b\\n\"\n}").unwrap();
        assert!(!line.get().contains('\n'));
        assert_eq!(
            serde_json::from_str::<serde_json::Value>(line.get()).unwrap(),
            serde_json::json!({"a": "b\n"})
        );
        assert!(one_line(b"{").is_err());
    }
}
