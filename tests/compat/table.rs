//! What came out of it: a row a flow.

use crate::case::{Case, Ended};
use crate::compare::{Verdict, clip, compared};
use crate::ours::Ours;

/// One flow, compared.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) engine: Engine,
    pub(crate) verdict: Verdict,
    pub(crate) requests: usize,
    pub(crate) cpu_ms: (Option<f64>, Option<f64>),
    /// How it went in the Python host, where that was asked.
    pub(crate) host: Option<Verdict>,
}

/// What runs a flow.
#[derive(Debug, Clone)]
pub(crate) enum Engine {
    Native,
    /// And why.
    Python(String),
    /// Nothing, and what is missing.
    Refused(String),
}

impl Row {
    pub(crate) fn of(case: &Case, ours: &Ours, theirs: &Ended) -> Self {
        let (engine, verdict, cpu) = match ours {
            Ours::NotNative(reason) => (
                Engine::Refused(reason.clone()),
                Verdict::Differs("not native".to_owned()),
                None,
            ),
            Ours::Ran(ours) => (Engine::Native, compared(case, ours, theirs), Some(ours.cpu_ms)),
        };
        Self {
            name: case.name.clone(),
            engine,
            verdict,
            requests: theirs.asked.len(),
            host: None,
            cpu_ms: (cpu.filter(|_| !case.nodes), Some(theirs.cpu_ms)),
        }
    }

    /// With how it went in the Python host. What is not native stands or falls with that.
    pub(crate) fn hosted(mut self, verdict: Verdict) -> Self {
        if let Engine::Refused(why) = &self.engine {
            self.verdict = verdict.clone();
            if matches!(verdict, Verdict::Same) {
                self.engine = Engine::Python(why.clone());
            }
        }
        self.host = Some(verdict);
        self
    }

    pub(crate) fn differs(&self) -> bool {
        let differs = |verdict: &Verdict| matches!(verdict, Verdict::Differs(_));
        differs(&self.verdict) || self.host.as_ref().is_some_and(differs)
    }

    pub(crate) fn is_native(&self) -> bool {
        matches!(self.engine, Engine::Native)
    }
}

/// Names of what is not the same.
pub(crate) fn different(rows: &[Row]) -> Vec<&str> {
    let different = rows.iter().filter(|row| row.differs());
    different.map(|row| row.name.as_str()).collect()
}

pub(crate) fn print(rows: &[Row]) -> String {
    let mut text = format!(
        "{:<44} {:<7} {:>8} {:>9} {:>9} {:>6}  result\n",
        "flow", "engine", "requests", "ours ms", "lfx ms", "ratio"
    );
    for row in rows {
        let (engine, why) = match &row.engine {
            Engine::Native => ("native", ""),
            Engine::Python(why) => ("python", why.as_str()),
            Engine::Refused(why) => ("refused", why.as_str()),
        };
        let time = |ms: Option<f64>| ms.map_or_else(|| "-".to_owned(), |ms| format!("{ms:.2}"));
        let ratio = match row.cpu_ms {
            (Some(ours), Some(theirs)) => format!("{:.0}", theirs / ours),
            _ => "-".to_owned(),
        };
        let mut result = match &row.verdict {
            Verdict::Same => "same".to_owned(),
            Verdict::SameError(detail) => format!("both fail: {detail}"),
            Verdict::Differs(detail) => format!("DIFFERS: {detail}"),
            Verdict::NotComparable(detail) => format!("not compared, lfx fails: {detail}"),
        };
        match &row.host {
            Some(Verdict::Same) => result.push_str("; host: same"),
            Some(Verdict::SameError(_) | Verdict::NotComparable(_)) => {
                result.push_str("; host: fails as lfx does");
            }
            Some(Verdict::Differs(detail)) => result.push_str(&format!("; host DIFFERS: {detail}")),
            None => {}
        }
        if !why.is_empty() {
            result.push_str(&format!(" ({})", clip(why)));
        }
        text.push_str(&format!(
            "{:<44} {engine:<7} {:>8} {:>9} {:>9} {ratio:>6}  {result}\n",
            row.name,
            row.requests,
            time(row.cpu_ms.0),
            time(row.cpu_ms.1),
        ));
    }
    text
}
