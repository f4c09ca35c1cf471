//! The terminal: results on stdout, everything about them on stderr, colours only where somebody sees them.

use std::io::{self, IsTerminal as _, Write as _};

use crate::args::Color;

/// What a piece of text means; the terminal decides how it looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Paint {
    Good,
    Warn,
    Error,
    Accent,
    Dim,
    Bold,
}

impl Paint {
    fn code(self) -> &'static str {
        match self {
            Self::Good => "32",
            Self::Warn => "33",
            Self::Error => "1;31",
            Self::Accent => "36",
            Self::Dim => "2",
            Self::Bold => "1",
        }
    }
}

/// What is known of stdout and stderr.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Term {
    out_colour: bool,
    err_colour: bool,
    err_terminal: bool,
    out_terminal: bool,
}

impl Term {
    pub(crate) fn new(color: Color) -> Self {
        let plain = std::env::var_os("NO_COLOR").is_some_and(|v| !v.is_empty())
            || std::env::var_os("TERM").is_some_and(|v| v == "dumb");
        let (out_terminal, err_terminal) = (io::stdout().is_terminal(), io::stderr().is_terminal());
        let colour = |terminal: bool| match color {
            Color::Always => true,
            Color::Never => false,
            Color::Auto => terminal && !plain,
        };
        Self {
            out_colour: colour(out_terminal),
            err_colour: colour(err_terminal),
            err_terminal,
            out_terminal,
        }
    }

    /// Whether bars and other moving things may be drawn on stderr.
    pub(crate) fn is_live(&self) -> bool {
        self.err_terminal
    }

    /// Whether a person reads stdout.
    pub(crate) fn is_read(&self) -> bool {
        self.out_terminal
    }

    pub(crate) fn colours(&self) -> bool {
        self.out_colour
    }

    pub(crate) fn paint(&self, text: &str, paint: Paint) -> String {
        painted(text, paint, self.out_colour)
    }

    pub(crate) fn paint_err(&self, text: &str, paint: Paint) -> String {
        painted(text, paint, self.err_colour)
    }

    /// One line of the result.
    #[expect(clippy::unused_self, reason = "all printing goes through the terminal")]
    pub(crate) fn line(&self, text: &str) -> io::Result<()> {
        let mut out = io::stdout().lock();
        out.write_all(text.as_bytes())?;
        out.write_all(b"\n")?;
        out.flush()
    }

    /// A JSON document as the result: indented for people, one line for programs.
    pub(crate) fn json(&self, value: &serde_json::Value) -> io::Result<()> {
        if self.out_terminal {
            self.line(&format!("{value:#}"))
        } else {
            self.line(&value.to_string())
        }
    }

    /// Bytes of a result as they are.
    #[expect(clippy::unused_self, reason = "all printing goes through the terminal")]
    pub(crate) fn bytes(&self, bytes: &[u8]) -> io::Result<()> {
        let mut out = io::stdout().lock();
        out.write_all(bytes)?;
        out.flush()
    }

    /// A line about the work, on stderr. Nobody reading it is no reason to stop.
    pub(crate) fn note(&self, text: &str) {
        self.note_raw(&format!("{text}\n"));
    }

    /// The same without a line end.
    #[expect(clippy::unused_self, reason = "all printing goes through the terminal")]
    pub(crate) fn note_raw(&self, text: &str) {
        let mut err = io::stderr().lock();
        let _ = err.write_all(text.as_bytes());
        let _ = err.flush();
    }
}

fn painted(text: &str, paint: Paint, colour: bool) -> String {
    if colour {
        format!("\x1b[{}m{text}\x1b[0m", paint.code())
    } else {
        text.to_owned()
    }
}

/// How a run's state is painted.
pub(crate) fn state_paint(state: &str) -> Paint {
    match state {
        "succeeded" => Paint::Good,
        "failed" | "expired" => Paint::Error,
        "cancelled" | "scheduled" | "blocked" => Paint::Warn,
        "running" => Paint::Accent,
        _ => Paint::Dim,
    }
}
