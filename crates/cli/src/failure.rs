//! How a command ends badly: a sentence, what to do about it, and one of the documented exit codes.

use std::process::ExitCode;

use flowfleet_core::PortError;

use crate::term::{Paint, Term};

/// What every command answers.
pub(crate) type Result<T = ()> = std::result::Result<T, Failure>;

/// The exit codes of the contract, besides 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Code {
    /// Whoever read our output has seen enough: no failure at all.
    ReaderGone = 0,
    RunFailed = 1,
    Usage = 2,
    Reach = 3,
}

/// Why a command failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    pub code: Code,
    /// Empty when the command has said it already.
    pub message: String,
    pub details: Vec<String>,
    pub advice: Option<String>,
}

impl Failure {
    fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            details: Vec::new(),
            advice: None,
        }
    }

    /// The run itself failed.
    pub(crate) fn run(message: impl Into<String>) -> Self {
        Self::new(Code::RunFailed, message)
    }

    /// What was asked for makes no sense: another command line or file is needed.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(Code::Usage, message)
    }

    /// A server or backend cannot be reached, or does not allow it.
    pub(crate) fn reach(message: impl Into<String>) -> Self {
        Self::new(Code::Reach, message)
    }

    /// The command has reported everything itself.
    pub(crate) fn said(code: Code) -> Self {
        Self::new(code, "")
    }

    pub(crate) fn advise(mut self, advice: impl Into<String>) -> Self {
        self.advice = Some(advice.into());
        self
    }

    pub(crate) fn detail(mut self, detail: impl Into<String>) -> Self {
        self.details.push(detail.into());
        self
    }

    /// Says it on stderr and gives the exit code.
    pub(crate) fn report(&self, term: &Term) -> ExitCode {
        if !self.message.is_empty() {
            term.note(&format!(
                "{} {}",
                term.paint_err("error:", Paint::Error),
                self.message
            ));
        }
        for detail in &self.details {
            term.note(&format!("  - {detail}"));
        }
        if let Some(advice) = &self.advice {
            term.note(&format!("{} {advice}", term.paint_err("try:", Paint::Accent)));
        }
        ExitCode::from(self.code as u8)
    }
}

impl From<std::io::Error> for Failure {
    /// Only printing is converted with `?`; reading files names them.
    fn from(error: std::io::Error) -> Self {
        if error.kind() == std::io::ErrorKind::BrokenPipe {
            return Self::said(Code::ReaderGone);
        }
        Self::reach(format!("cannot print: {error}"))
    }
}

impl From<PortError> for Failure {
    fn from(error: PortError) -> Self {
        Self::reach(error.to_string())
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::reach(flowfleet_runtime::exit::sentence(&*error))
    }
}
