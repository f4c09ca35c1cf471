//! How a program ends badly: one line on standard error and an exit code, never a backtrace.
//!
//! The codes are those of the `flowfleet` program: 1 it broke, 2 it was asked for something that makes no sense, 3 it
//! cannot reach, or may not have, what it needs.

use std::error::Error;
use std::io::Write as _;
use std::process::ExitCode;

/// It ran and broke.
pub fn broke(error: impl Into<Box<dyn Error + Send + Sync>>) -> ExitCode {
    report(1, error)
}

/// Its settings or flags make no sense.
pub fn usage(error: impl Into<Box<dyn Error + Send + Sync>>) -> ExitCode {
    report(2, error)
}

/// A backend or an address is not to be had.
pub fn reach(error: impl Into<Box<dyn Error + Send + Sync>>) -> ExitCode {
    report(3, error)
}

fn report(code: u8, error: impl Into<Box<dyn Error + Send + Sync>>) -> ExitCode {
    let error = error.into();
    // Nobody to tell if standard error is closed.
    let _ = writeln!(std::io::stderr(), "error: {}", sentence(&*error));
    ExitCode::from(code)
}

/// An error and its causes in one line. A cause that was quoted already is not said twice.
pub fn sentence(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        let said = next.to_string();
        if !text.contains(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        cause = next.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{said}")]
    struct Layer {
        said: &'static str,
        #[source]
        cause: Option<Box<Layer>>,
    }

    #[test]
    fn causes_are_said_once() {
        let layers = |said: &[&'static str]| {
            said.iter()
                .rev()
                .fold(None, |cause, said| Some(Box::new(Layer { said, cause })))
        };
        for (said, expected) in [
            (&["cannot start"][..], "cannot start"),
            (
                &["store_url", "refused", "os error 111"],
                "store_url: refused: os error 111",
            ),
            (&["store.open: refused", "refused"], "store.open: refused"),
        ] {
            assert_eq!(sentence(&*layers(said).unwrap()), expected);
        }
    }
}
