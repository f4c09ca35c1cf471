//! Progress of many runs: a bar where somebody watches, a line now and then in a log.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use crate::term::Term;
use crate::text;

/// Progress towards a total that may be unknown (zero).
#[derive(Debug)]
pub(crate) struct Progress {
    bar: Option<ProgressBar>,
    term: Term,
    label: &'static str,
    total: u64,
    started: Instant,
    every: Duration,
    said: Option<(Instant, u64)>,
    indent: &'static str,
}

impl Progress {
    /// `every`: how often a log gets a line.
    pub(crate) fn new(
        term: Term,
        label: &'static str,
        total: u64,
        every: Duration,
        indent: &'static str,
    ) -> Self {
        let bar = term.is_live().then(|| {
            let bar = if total == 0 {
                ProgressBar::new_spinner()
            } else {
                ProgressBar::new(total)
            };
            let template = if total == 0 {
                format!("{indent}{{spinner}} {{msg}}")
            } else {
                format!("{indent}{label:<9} {{bar:36.cyan/dim}} {{pos:>7}}/{{len}}  {{msg}}")
            };
            // A template of our own is always valid; the default serves if it were not.
            let style =
                ProgressStyle::with_template(&template).unwrap_or_else(|_| ProgressStyle::default_bar());
            bar.set_style(style.progress_chars("━━─"));
            bar
        });
        Self {
            bar,
            term,
            label,
            total,
            started: Instant::now(),
            every,
            said: None,
            indent,
        }
    }

    /// Counts time from then.
    pub(crate) fn since(mut self, started: Instant) -> Self {
        self.started = started;
        self
    }

    /// Where it is now, and a few words.
    pub(crate) fn update(&mut self, done: u64, words: &str) {
        if let Some(bar) = &self.bar {
            bar.set_position(done);
            bar.set_message(words.to_owned());
            return;
        }
        let due = match self.said {
            None => self.started.elapsed() >= self.every,
            Some((at, before)) => at.elapsed() >= self.every && before != done,
        };
        if due {
            self.say(done, words);
        }
    }

    fn say(&mut self, done: u64, words: &str) {
        self.said = Some((Instant::now(), done));
        let of = if self.total == 0 {
            String::new()
        } else {
            format!(" of {}", text::count(self.total))
        };
        let elapsed = text::seconds(self.started.elapsed().as_secs_f64());
        let words = if words.is_empty() {
            String::new()
        } else {
            format!(", {words}")
        };
        self.term.note(&format!(
            "{}{} {}{of} after {elapsed}{words}",
            self.indent,
            self.label,
            text::count(done)
        ));
    }

    /// Takes the bar away, or says the last state where it was not said.
    pub(crate) fn finish(mut self, done: u64, words: &str) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        } else if self.said.is_some_and(|(_, before)| before != done) {
            self.say(done, words);
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}
