//! What came out of it: a row a flow.

use serde_json::Value as Json;

use crate::cases::Case;
use crate::ours::Ours;
use crate::reference::Ended;

/// One flow, compared.
#[derive(Debug)]
pub(crate) struct Row {
    name: String,
    verdict: Verdict,
    requests: usize,
    cpu_ms: (Option<f64>, f64),
}

#[derive(Debug)]
enum Verdict {
    Same,
    SameError(String),
    Differs(String),
    /// lfx itself cannot run it here.
    NotComparable(String),
    NotNative(String),
}

impl Row {
    pub(crate) fn of(case: &Case, ours: &Ours, theirs: &Ended) -> Self {
        let (verdict, cpu) = match ours {
            Ours::NotNative(reason) => (Verdict::NotNative(reason.clone()), None),
            Ours::Ran(ours) => (compared(ours, theirs), Some(ours.cpu_ms)),
        };
        Self {
            name: case.name.clone(),
            verdict,
            requests: theirs.asked.len(),
            cpu_ms: (cpu, theirs.cpu_ms),
        }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn differs(&self) -> bool {
        matches!(self.verdict, Verdict::Differs(_))
    }

    pub(crate) fn is_native(&self) -> bool {
        !matches!(self.verdict, Verdict::NotNative(_))
    }
}

fn compared(ours: &Ended, theirs: &Ended) -> Verdict {
    match (&ours.outputs, &theirs.outputs) {
        (Ok(ours), Ok(theirs)) if ours != theirs => {
            return Verdict::Differs(format!("outputs {}", difference(ours, theirs)));
        }
        (Ok(_), Ok(_)) => {}
        (Err(ours), Err(theirs)) => {
            return Verdict::SameError(format!("ours: {} / lfx: {}", clip(ours), clip(theirs)));
        }
        (Err(ours), Ok(_)) => return Verdict::Differs(format!("ours fails: {}", clip(ours))),
        // It writes files by asking a Langflow server.
        (Ok(_), Err(theirs)) if theirs.contains("No module named 'langflow'") => {
            return Verdict::NotComparable(clip(theirs));
        }
        (Ok(_), Err(theirs)) => return Verdict::Differs(format!("lfx fails: {}", clip(theirs))),
    }
    let (ours, theirs) = (normal(&ours.asked), normal(&theirs.asked));
    if ours.len() != theirs.len() {
        return Verdict::Differs(format!(
            "{} requests to the model, lfx makes {}",
            ours.len(),
            theirs.len()
        ));
    }
    match ours.iter().zip(&theirs).position(|(ours, theirs)| ours != theirs) {
        Some(place) => {
            let what = difference(&ours[place], &theirs[place]);
            Verdict::Differs(format!("request {} {what}", place + 1))
        }
        None => Verdict::Same,
    }
}

/// Requests without what is chance: lfx keeps an agent's tools in a set, and what runs at once is asked in any order.
fn normal(asked: &[Json]) -> Vec<Json> {
    let mut asked = asked.to_vec();
    for body in asked.iter_mut().filter_map(Json::as_object_mut) {
        // A language model streams only when its caller does; here it always does, so that a run's tokens can be followed.
        body.shift_remove("stream");
        body.shift_remove("stream_options");
        if let Some(tools) = body.get_mut("tools").and_then(Json::as_array_mut) {
            tools.sort_by_key(|tool| tool["function"]["name"].to_string());
        }
    }
    asked.sort_by_key(|body| body["messages"].to_string());
    asked
}

/// Where two values differ first.
fn difference(ours: &Json, theirs: &Json) -> String {
    fn walk(ours: &Json, theirs: &Json, path: &str) -> Option<String> {
        match (ours, theirs) {
            _ if ours == theirs => None,
            (Json::Object(a), Json::Object(b)) => {
                let keys = a.keys().chain(b.keys());
                keys.filter_map(|key| walk(&ours[key], &theirs[key], &format!("{path}/{key}")))
                    .next()
            }
            (Json::Array(a), Json::Array(b)) if a.len() == b.len() => {
                let pairs = a.iter().zip(b).enumerate();
                pairs
                    .filter_map(|(n, (a, b))| walk(a, b, &format!("{path}/{n}")))
                    .next()
            }
            (Json::String(a), Json::String(b)) => {
                let same = a.chars().zip(b.chars()).take_while(|(a, b)| a == b).count();
                let from = same.saturating_sub(40);
                let part = |text: &str| text.chars().skip(from).take(160).collect::<String>();
                Some(format!("{path} at {same}: {:?} / lfx {:?}", part(a), part(b)))
            }
            _ => Some(format!(
                "{path}: {} / lfx {}",
                clip(&ours.to_string()),
                clip(&theirs.to_string())
            )),
        }
    }
    walk(ours, theirs, "").unwrap_or_default()
}

fn clip(text: &str) -> String {
    text.chars().take(400).collect::<String>().replace('\n', " ")
}

pub(crate) fn print(rows: &[Row]) -> String {
    let mut text = format!(
        "{:<34} {:<7} {:>8} {:>9} {:>9} {:>6}  result\n",
        "flow", "engine", "requests", "ours ms", "lfx ms", "ratio"
    );
    for row in rows {
        let engine = if row.is_native() { "native" } else { "python" };
        let (ours, theirs) = row.cpu_ms;
        let (ours, ratio) = match ours {
            Some(ours) => (format!("{ours:.2}"), format!("{:.0}", theirs / ours)),
            None => ("-".to_owned(), "-".to_owned()),
        };
        let result = match &row.verdict {
            Verdict::Same => "same".to_owned(),
            Verdict::SameError(detail) => format!("both fail: {detail}"),
            Verdict::Differs(detail) => format!("DIFFERS: {detail}"),
            Verdict::NotComparable(detail) => format!("not compared, lfx fails: {detail}"),
            Verdict::NotNative(detail) => clip(detail),
        };
        text.push_str(&format!(
            "{:<34} {engine:<7} {:>8} {ours:>9} {theirs:>9.1} {ratio:>6}  {result}\n",
            row.name, row.requests
        ));
    }
    text
}
