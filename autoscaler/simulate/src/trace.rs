//! Traces: arrivals with or without their run times, and when spot was to be had.

use std::io::Read;

use crate::draws::Draws;
use crate::scenario::Scenario;

/// A run of a trace.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Arrival {
    pub at_s: f64,
    pub service_s: f64,
}

/// Why a trace cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    #[error("line {line}: {problem}")]
    Line { line: u64, problem: String },
    #[error(
        "the columns are {found}: use `arrival_s,service_s`, `arrival_s,context_tokens,generated_tokens` or `minute,count`"
    )]
    Columns { found: String },
    #[error("no run arrives between hour {from_h} and hour {to_h} of the trace")]
    Empty { from_h: f64, to_h: f64 },
    #[error(
        "the scenario makes more than {0} runs of this trace: use a smaller trace.scale or fewer trace.hours"
    )]
    TooMany(usize),
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

/// A simulation holds every run in memory.
const MOST_RUNS: usize = 50_000_000;

/// Unpacks gzip where there is some.
fn text(bytes: &[u8]) -> Result<String, TraceError> {
    let mut text = String::new();
    if bytes.starts_with(&[0x1f, 0x8b]) {
        flate2::read::GzDecoder::new(bytes).read_to_string(&mut text)?;
    } else {
        let mut bytes = bytes;
        bytes.read_to_string(&mut text)?;
    }
    Ok(text)
}

enum Columns {
    Service(usize, usize),
    Tokens(usize, usize, usize),
    Counts(usize, usize),
}

/// Reads arrivals, sorted, from zero: CSV with a header, plain or gzip.
///
/// # Errors
/// Names the line and what is wrong with it.
pub fn read_arrivals(bytes: &[u8], scenario: &Scenario) -> Result<Vec<Arrival>, TraceError> {
    let text = text(bytes)?;
    let mut reader = csv::ReaderBuilder::new()
        .trim(csv::Trim::All)
        .from_reader(text.as_bytes());
    let headers = reader.headers().map_err(|error| line_of(&error))?.clone();
    let columns = columns(&headers)?;
    let from_s = scenario.trace.start_h * 3_600.0;
    let to_s = scenario
        .trace
        .hours
        .map_or(f64::INFINITY, |hours| from_s + hours * 3_600.0);
    let mut draws = Draws::new(scenario.seed, 1);
    let mut arrivals = Vec::new();
    let mut first_s = None;
    for record in reader.records() {
        let record = record.map_err(|error| line_of(&error))?;
        let line = record.position().map_or(0, csv::Position::line);
        let number = |column: usize| number(&record, column, line);
        let (at_s, service_s, count, width_s) = match columns {
            Columns::Service(at, service) => (number(at)?, Some(number(service)?), 1.0, None),
            Columns::Tokens(at, prompt, generated) => {
                let [each_prompt, each_generated] = scenario.work.token_s;
                let service = number(prompt)? * each_prompt + number(generated)? * each_generated;
                (number(at)?, Some(service), 1.0, None)
            }
            Columns::Counts(minute, count) => (number(minute)? * 60.0, None, number(count)?, Some(60.0)),
        };
        let at_s = at_s - *first_s.get_or_insert(at_s);
        if at_s < from_s || at_s >= to_s {
            continue;
        }
        let copies = count * scenario.trace.scale;
        let copies = copies.floor() as usize + usize::from(draws.unit() < copies.fract());
        if arrivals.len() + copies > MOST_RUNS {
            return Err(TraceError::TooMany(MOST_RUNS));
        }
        for copy in 0..copies {
            let shift_s = match width_s {
                Some(width) => draws.between([0.0, width]),
                None if copy == 0 => 0.0,
                None => draws.between([0.0, scenario.trace.spread_s]),
            };
            let service_s = service_s.unwrap_or_else(|| {
                let service = &scenario.work.service;
                service.median_s * (service.sigma * draws.normal()).exp()
            });
            arrivals.push(Arrival {
                at_s: at_s - from_s + shift_s,
                service_s: service_s.max(0.001),
            });
        }
    }
    if arrivals.is_empty() {
        return Err(TraceError::Empty {
            from_h: scenario.trace.start_h,
            to_h: to_s / 3_600.0,
        });
    }
    arrivals.sort_by(|a, b| a.at_s.total_cmp(&b.at_s));
    Ok(arrivals)
}

fn columns(headers: &csv::StringRecord) -> Result<Columns, TraceError> {
    let find = |name: &str| headers.iter().position(|header| header == name);
    match (
        find("arrival_s"),
        find("service_s"),
        find("context_tokens"),
        find("generated_tokens"),
    ) {
        (Some(at), Some(service), ..) => return Ok(Columns::Service(at, service)),
        (Some(at), None, Some(prompt), Some(generated)) => return Ok(Columns::Tokens(at, prompt, generated)),
        _ => {}
    }
    if let (Some(minute), Some(count)) = (find("minute"), find("count")) {
        return Ok(Columns::Counts(minute, count));
    }
    Err(TraceError::Columns {
        found: headers.iter().collect::<Vec<_>>().join(","),
    })
}

fn number(record: &csv::StringRecord, column: usize, line: u64) -> Result<f64, TraceError> {
    let field = record.get(column).unwrap_or("");
    field
        .parse::<f64>()
        .ok()
        .filter(|number| number.is_finite() && *number >= 0.0)
        .ok_or_else(|| TraceError::Line {
            line,
            problem: format!("{field:?} is no number of 0 or more"),
        })
}

fn line_of(error: &csv::Error) -> TraceError {
    TraceError::Line {
        line: error.position().map_or(0, csv::Position::line),
        problem: error.to_string(),
    }
}

/// When a zone had spot capacity: run-length coded, in seconds; it repeats after its end.
#[derive(Debug, Clone, PartialEq)]
pub struct Availability {
    /// From when on it is available or not; the first is zero.
    spans: Vec<(f64, bool)>,
    end_s: f64,
}

impl Availability {
    /// Capacity at all times.
    pub fn always() -> Self {
        Self {
            spans: vec![(0.0, true)],
            end_s: f64::INFINITY,
        }
    }

    /// Whether there is capacity.
    pub fn at(&self, now_s: f64) -> bool {
        let now_s = if self.end_s.is_finite() {
            now_s.rem_euclid(self.end_s)
        } else {
            now_s
        };
        let after = self.spans.partition_point(|(start, _)| *start <= now_s);
        self.spans[after.max(1) - 1].1
    }

    /// When capacity ends, the first time round.
    pub(crate) fn ends(&self) -> impl Iterator<Item = f64> {
        self.spans
            .windows(2)
            .filter(|pair| pair[0].1 && !pair[1].1)
            .map(|pair| pair[1].0)
    }
}

/// Reads a zone's availability: `start_s,available`, the last row `-1` at the end.
///
/// # Errors
/// Names the line and what is wrong with it.
pub fn read_availability(bytes: &[u8]) -> Result<Availability, TraceError> {
    let text = text(bytes)?;
    let mut reader = csv::ReaderBuilder::new()
        .trim(csv::Trim::All)
        .from_reader(text.as_bytes());
    let mut spans = Vec::new();
    let mut end_s = f64::INFINITY;
    let mut last_s = f64::NEG_INFINITY;
    for record in reader.records() {
        let record = record.map_err(|error| line_of(&error))?;
        let line = record.position().map_or(0, csv::Position::line);
        let start_s = number(&record, 0, line)?;
        if start_s <= last_s && !spans.is_empty() {
            return Err(TraceError::Line {
                line,
                problem: format!("it starts at {start_s} s, not after the row before"),
            });
        }
        last_s = start_s;
        match record.get(1) {
            Some("-1") => end_s = start_s,
            Some("0") => spans.push((start_s, false)),
            // More than one is how many were to be had at once.
            Some(some) if some.parse::<u32>().is_ok() => spans.push((start_s, true)),
            other => {
                return Err(TraceError::Line {
                    line,
                    problem: format!(
                        "available is {:?}: use 0, 1 or more, and -1 at the end",
                        other.unwrap_or("")
                    ),
                });
            }
        }
    }
    if spans.is_empty() {
        return Err(TraceError::Columns {
            found: "no rows".into(),
        });
    }
    spans[0].0 = 0.0;
    Ok(Availability { spans, end_s })
}
