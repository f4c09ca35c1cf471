//! `flowfleet doctor --deep`: a walk over the whole store with the checker of `flowfleet_core::history`.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use flowfleet_core::RunId;
use flowfleet_core::history::{Invariant, Violation, check};
use flowfleet_core::port::Store;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::commands::{Context, migrate};
use crate::failure::{Code, Failure, Result};
use crate::progress::Progress;
use crate::term::Paint;
use crate::text;

/// Runs read at once.
const PAGE: u32 = 250;
/// Strays told of one page, and outbox rows told in all.
const STRAYS: u32 = 1_000;
/// Violations shown to people, and to programs; all are counted.
const SHOWN: usize = 10;
const LISTED: usize = 1_000;
/// How often a log hears of the progress.
const EVERY: Duration = Duration::from_secs(10);

/// Which runs to look at, by when they were submitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Since {
    All,
    Time(Timestamp),
}

impl Since {
    pub(super) fn parse(text: &str) -> std::result::Result<Self, String> {
        match text {
            "all" => Ok(Self::All),
            text => text::parse_past(text)
                .map(Self::Time)
                .map_err(|error| format!("{error}, or all")),
        }
    }

    fn first(self) -> Option<RunId> {
        match self {
            Self::All => None,
            Self::Time(at) => Some(RunId::before(at)),
        }
    }
}

/// What was asked for.
#[derive(Debug)]
pub(super) struct Walk {
    pub(super) since: Since,
    pub(super) slack: Duration,
    pub(super) json: bool,
}

/// What the walk found.
#[derive(Debug, Default)]
struct Report {
    runs: u64,
    counts: BTreeMap<Invariant, u64>,
    /// The first ones.
    listed: Vec<Violation>,
}

impl Report {
    fn add(&mut self, violations: impl IntoIterator<Item = Violation>) {
        for violation in violations {
            let count = self.counts.entry(violation.invariant).or_default();
            *count += 1;
            // A thousand of one must not hide the only one of another.
            if self.listed.len() < LISTED || *count <= SHOWN as u64 {
                self.listed.push(violation);
            }
        }
    }

    fn violations(&self) -> u64 {
        self.counts.values().sum()
    }
}

pub(super) async fn run(url: &str, walk: Walk, context: &Context) -> Result {
    if let Some(path) = migrate::sqlite_path(url)
        && !path.exists()
    {
        return Err(Failure::reach(format!("there is no {}", path.display()))
            .advise("name a store with --store or FLOWFLEET_STORE_URL"));
    }
    let store = migrate::open(url).await?;
    store.ping().await?;
    let began = Instant::now();
    let report = look(&*store, &walk, context).await?;
    let took = began.elapsed();
    if walk.json {
        context.term.json(&report.to_json(&walk, took))?;
    } else {
        report.print(&walk, took, context)?;
    }
    if report.violations() > 0 {
        return Err(Failure::said(Code::RunFailed));
    }
    Ok(())
}

async fn look(store: &dyn Store, walk: &Walk, context: &Context) -> Result<Report> {
    let mut report = Report::default();
    // Runs that are made while this reads are left to the next call, or it might never end.
    let end = RunId::before(Timestamp::now());
    let mut after = walk.since.first();
    let total = store.runs_after(after).await?;
    let mut progress = Progress::new(context.term, "checked", total, EVERY, "");
    loop {
        let page = store.histories(after, PAGE).await?;
        let last = page.runs.last().map(|history| history.run);
        let full = page.runs.len() == PAGE as usize;
        for stray in store.strays(after, last.filter(|_| full), STRAYS).await? {
            report.add([stray.violation()]);
        }
        for history in &page.runs {
            report.add(check(history, page.now, walk.slack));
        }
        report.runs += page.runs.len() as u64;
        let words = match report.violations() {
            0 => String::new(),
            found => text::plural(usize::try_from(found).unwrap_or(usize::MAX), "violation"),
        };
        progress.update(report.runs, &words);
        after = last;
        // A dispatcher whose clock was ahead has given ids of the future: all that was there is read in any case.
        if !full || (report.runs >= total && last.is_some_and(|last| last > end)) {
            break;
        }
    }
    report.add(unsent(store, walk.slack).await?);
    progress.finish(report.runs, "");
    Ok(report)
}

/// Messages that nobody has sent.
async fn unsent(store: &dyn Store, slack: Duration) -> Result<Vec<Violation>> {
    let rows = store.outbox_leftover(slack, STRAYS).await?;
    let violation = |row: &flowfleet_core::port::OutboxRow| Violation {
        invariant: Invariant::NotStuck,
        run: None,
        detail: format!(
            "row {} of the outbox holds {} that nobody has sent for {}",
            row.id,
            text::plural(row.envelopes.len(), "message"),
            text::seconds(slack.as_secs_f64())
        ),
    };
    Ok(rows.iter().map(violation).collect())
}

fn described(violation: &Violation) -> Value {
    let mut value = json!(violation);
    value["advice"] = violation.invariant.advice().into();
    value
}

impl Report {
    fn to_json(&self, walk: &Walk, took: Duration) -> Value {
        let counts: serde_json::Map<String, Value> = Invariant::ALL
            .iter()
            .map(|invariant| {
                let count = self.counts.get(invariant).copied().unwrap_or(0);
                (invariant.as_str().to_owned(), count.into())
            })
            .collect();
        json!({
            "ok": self.violations() == 0,
            "runs": self.runs,
            "since": match walk.since { Since::All => Value::Null, Since::Time(at) => at.to_string().into() },
            "slack_s": walk.slack.as_secs_f64(),
            "elapsed_s": took.as_secs_f64(),
            "violations": self.violations(),
            "invariants": counts,
            "found": self.listed.iter().map(described).collect::<Vec<_>>(),
        })
    }

    fn print(&self, walk: &Walk, took: Duration, context: &Context) -> Result {
        let term = &context.term;
        for invariant in Invariant::ALL {
            let count = self.counts.get(&invariant).copied().unwrap_or(0);
            let (word, paint) = if count == 0 {
                ("ok", Paint::Good)
            } else {
                ("fail", Paint::Error)
            };
            let status = term.paint(&format!("{word:<4}"), paint);
            let count = if count == 0 {
                String::new()
            } else {
                text::count(count)
            };
            let rule = term.paint(invariant.rule(), Paint::Dim);
            term.line(&format!(
                "{status}  {:<16}  {count:>7}  {rule}",
                invariant.as_str()
            ))?;
        }
        // One of each kind first.
        let mut shown: Vec<&Violation> = Vec::new();
        for invariant in self.counts.keys() {
            shown.extend(self.listed.iter().find(|v| v.invariant == *invariant));
        }
        let more: Vec<_> = self.listed.iter().filter(|v| !shown.contains(v)).collect();
        shown.extend(more);
        shown.truncate(SHOWN);
        shown.sort();
        let mut before = None;
        for violation in &shown {
            if before != Some(violation.invariant) {
                before = Some(violation.invariant);
                term.line("")?;
                term.line(&term.paint(violation.invariant.as_str(), Paint::Bold))?;
                let advice = violation.invariant.advice();
                term.line(&format!("  {} {advice}", term.paint("try:", Paint::Accent)))?;
            }
            let run = violation
                .run
                .map_or_else(|| "-".to_owned(), |run| run.to_string());
            term.line(&format!("  {run}  {}", violation.detail))?;
        }
        let found = usize::try_from(self.violations()).unwrap_or(usize::MAX);
        if found > shown.len() {
            let rest = text::count((found - shown.len()) as u64);
            term.line(&format!(
                "  and {rest} more: --json lists up to {}",
                text::count(LISTED as u64)
            ))?;
        }
        let since = match walk.since {
            Since::All => String::new(),
            Since::Time(at) => format!(" submitted since {at:.0}"),
        };
        let runs = usize::try_from(self.runs).unwrap_or(usize::MAX);
        let (runs, took) = (text::plural(runs, "run"), text::seconds(took.as_secs_f64()));
        term.note(&format!(
            "{}{since} in {took}: {}",
            runs,
            text::plural(found, "violation")
        ));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn since_takes_a_duration_a_time_or_all() {
        assert_eq!(Since::parse("all"), Ok(Since::All));
        assert_eq!(
            Since::parse("2026-01-31T08:00:00Z"),
            Ok(Since::Time("2026-01-31T08:00:00Z".parse().unwrap()))
        );
        assert!(matches!(Since::parse("24h"), Ok(Since::Time(at)) if at < Timestamp::now()));
        assert!(Since::parse("yesterday").unwrap_err().contains("or all"));
        assert_eq!(Since::All.first(), None);
    }
}
