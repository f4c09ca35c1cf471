//! How the end of a process reads to the one whose run it was.

use flowfleet_engine::HostError;

use crate::protocol::Exit;
use crate::settings::Settings;

/// Characters of what a process said last.
const LAST_WORDS: usize = 300;

/// Why a child ended while it ran something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum End {
    /// By itself, or by someone else's signal.
    Exited(Exit),
    /// The run was over its time.
    TimedOut,
    /// It was cancelled and did not end in time.
    Cancelled,
    /// It said more than it may.
    TooMuch,
    /// It said something that is no message.
    Garbled,
    /// The parent is gone, and with it all children.
    Lost,
}

impl End {
    /// As metrics call it.
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            Self::Exited(exit) if exit.memory_bytes.is_some() => "memory",
            Self::Exited(exit) if exit.signal.is_some() => "signal",
            Self::Exited(_) => "exit",
            Self::TimedOut => "timeout",
            Self::Cancelled => "cancel",
            Self::TooMuch | Self::Garbled => "output",
            Self::Lost => "lost",
        }
    }

    pub(crate) fn explain(&self, settings: &Settings, last_words: &str) -> HostError {
        let error = |code, message: String, retryable| HostError {
            code,
            message,
            retryable,
            interrupted: false,
        };
        match self {
            Self::Exited(exit) => exited(exit, settings, last_words),
            Self::TimedOut => error(
                "python_timeout",
                format!(
                    "the run took longer than python.run_timeout_s = {} s",
                    settings.run_timeout_s
                ),
                true,
            ),
            Self::Cancelled => error("cancelled", "cancelled".to_owned(), false),
            Self::TooMuch => error(
                "python_output_too_large",
                format!("the run said more than python.output_mib = {} MiB", settings.output_mib),
                false,
            ),
            Self::Garbled => error(
                "python_crashed",
                "the process of this run sent something that is no message: a component wrote to a descriptor that \
                 is not its own"
                    .to_owned(),
                false,
            ),
            Self::Lost => HostError {
                code: "python_host_lost",
                message: "the Python host was lost while the run ran".to_owned(),
                retryable: true,
                interrupted: true,
            },
        }
    }
}

fn exited(exit: &Exit, settings: &Settings, last_words: &str) -> HostError {
    if let Some(bytes) = exit.memory_bytes {
        return HostError {
            code: "python_memory",
            message: format!(
                "the run was ended at {} MiB of memory: python.memory_mib is {}",
                bytes >> 20,
                settings.memory_mib
            ),
            retryable: false,
            interrupted: false,
        };
    }
    let words = match last_words.trim() {
        "" => String::new(),
        words => format!("; it last said: {}", clip(words)),
    };
    let (how, retryable) = match (exit.signal, exit.code, &exit.reason) {
        (Some(9), ..) => (
            "was killed by signal 9 (SIGKILL): perhaps the machine is out of memory".to_owned(),
            true,
        ),
        (Some(signal), ..) => (format!("was ended by signal {signal}{}", named(signal)), false),
        (None, _, Some(reason)) => (format!("did not start: {reason}"), true),
        (None, Some(code), None) => (
            format!("ended with exit code {code}, as a component does that calls os._exit"),
            false,
        ),
        (None, None, None) => ("ended".to_owned(), true),
    };
    HostError {
        code: "python_crashed",
        message: format!("the process of this run {how}{words}"),
        retryable,
        interrupted: false,
    }
}

fn named(signal: i32) -> &'static str {
    match signal {
        4 => " (SIGILL)",
        6 => " (SIGABRT)",
        7 => " (SIGBUS)",
        8 => " (SIGFPE)",
        11 => " (SIGSEGV)",
        15 => " (SIGTERM)",
        _ => "",
    }
}

/// The line that says most, cut to size.
fn clip(words: &str) -> String {
    let lines = words.lines().map(str::trim).filter(|line| !line.is_empty());
    let fatal = lines.clone().find(|line| line.starts_with("Fatal Python error"));
    let line = fatal.or_else(|| lines.clone().next_back()).unwrap_or_default();
    line.chars()
        .filter(|c| !c.is_control())
        .take(LAST_WORDS)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_are_explained() {
        let settings = Settings::default();
        let exit = |change: fn(&mut Exit)| {
            let mut exit = Exit::default();
            change(&mut exit);
            End::Exited(exit)
        };
        for (end, words, code, said) in [
            (exit(|e| e.code = Some(3)), "", "python_crashed", "exit code 3"),
            (
                exit(|e| e.signal = Some(11)),
                "x\nFatal Python error: Segmentation fault\nCurrent thread\n",
                "python_crashed",
                "signal 11 (SIGSEGV); it last said: Fatal Python error: Segmentation fault",
            ),
            (
                exit(|e| {
                    e.signal = Some(9);
                    e.memory_bytes = Some(2 << 30);
                }),
                "",
                "python_memory",
                "at 2048 MiB",
            ),
            (
                exit(|e| e.signal = Some(9)),
                "",
                "python_crashed",
                "out of memory",
            ),
            (End::TimedOut, "", "python_timeout", "3600"),
            (End::TooMuch, "", "python_output_too_large", "32 MiB"),
        ] {
            let error = end.explain(&settings, words);
            assert_eq!(error.code, code);
            assert!(error.message.contains(said), "{}", error.message);
            assert!(!error.interrupted);
        }
        assert!(End::Lost.explain(&settings, "").interrupted);
    }
}
