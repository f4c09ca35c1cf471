//! Words for numbers, times and values, and numbers from words.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;

/// A duration as people say it: `0.4 ms`, `83 ms`, `1.25 s`, `3 m 05 s`, `2 h 10 m`.
pub(crate) fn seconds(seconds: f64) -> String {
    let s = seconds.max(0.0);
    if s < 0.001 {
        format!("{:.1} ms", s * 1e3)
    } else if s < 0.9995 {
        format!("{:.0} ms", s * 1e3)
    } else if s < 9.995 {
        format!("{s:.2} s")
    } else if s < 99.95 {
        format!("{s:.1} s")
    } else if s < 3600.0 {
        format!("{} m {:02} s", (s / 60.0).floor(), (s % 60.0).floor())
    } else if s < 172_800.0 {
        format!(
            "{} h {:02} m",
            (s / 3600.0).floor(),
            ((s % 3600.0) / 60.0).floor()
        )
    } else {
        format!(
            "{} d {} h",
            (s / 86_400.0).floor(),
            ((s % 86_400.0) / 3600.0).floor()
        )
    }
}

/// How long ago, in one unit.
pub(crate) fn ago(at: Timestamp, now: Timestamp) -> String {
    let s = now.duration_since(at).as_secs();
    match s {
        ..=-2 => format!("in {}", coarse(-s)),
        -1..=1 => "now".to_owned(),
        _ => format!("{} ago", coarse(s)),
    }
}

fn coarse(s: i64) -> String {
    match s {
        ..=119 => format!("{s} s"),
        120..=7199 => format!("{} m", s / 60),
        7200..=172_799 => format!("{} h", s / 3600),
        _ => format!("{} d", s / 86_400),
    }
}

/// `1234567` as `1,234,567`.
pub(crate) fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(c);
    }
    out
}

/// A rate per second.
pub(crate) fn rate(n: u64, elapsed: f64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
    let rate = n as f64 / elapsed.max(1e-6);
    if rate < 10.0 {
        format!("{rate:.1}/s")
    } else {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a rate for people"
        )]
        let whole = rate.round() as u64;
        format!("{}/s", count(whole))
    }
}

/// A count and its noun.
pub(crate) fn plural(n: usize, one: &str) -> String {
    if n == 1 {
        format!("1 {one}")
    } else {
        format!("{} {one}s", count(n as u64))
    }
}

/// One line of at most `max` characters.
pub(crate) fn preview(text: &str, max: usize) -> String {
    let mut line = String::new();
    let mut space = false;
    let mut length = 0;
    for c in text.trim().chars() {
        if c.is_whitespace() || c.is_control() {
            space = true;
            continue;
        }
        if length + 2 > max {
            line.push('…');
            return line;
        }
        if space {
            line.push(' ');
            length += 1;
            space = false;
        }
        line.push(c);
        length += 1;
    }
    line
}

/// A value as text: strings as they are, the rest as JSON.
pub(crate) fn of(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// The value at quantile `q` of sorted numbers.
pub(crate) fn quantile(sorted: &[f64], q: f64) -> Option<f64> {
    let last = sorted.len().checked_sub(1)?;
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "an index within a slice in memory"
    )]
    let index = (last as f64 * q.clamp(0.0, 1.0)).round() as usize;
    sorted.get(index).copied()
}

/// `90`, `1.5`, `30s`, `5m`, `1h30m`, `2 days`.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    let refused = || format!("{text:?} is no duration: write seconds, or 30s, 5m, 1h30m, 2d");
    if let Ok(seconds) = text.trim().parse::<f64>() {
        return Duration::try_from_secs_f64(seconds).map_err(|_| refused());
    }
    let span: jiff::Span = text.trim().parse().map_err(|_| refused())?;
    span.to_duration(jiff::SpanRelativeTo::days_are_24_hours())
        .ok()
        .and_then(|signed| Duration::try_from(signed).ok())
        .ok_or_else(refused)
}

/// A time: RFC 3339, or a duration before now.
pub(crate) fn parse_past(text: &str) -> Result<Timestamp, String> {
    parse_time(text, |now, ago| now.checked_sub(ago))
}

/// A time: RFC 3339, or a duration from now.
pub(crate) fn parse_future(text: &str) -> Result<Timestamp, String> {
    parse_time(text, |now, later| now.checked_add(later))
}

fn parse_time(
    text: &str,
    shift: impl Fn(Timestamp, Duration) -> Result<Timestamp, jiff::Error>,
) -> Result<Timestamp, String> {
    let refused =
        || format!("{text:?} is no time: write 2026-01-31T08:00:00Z, or a duration such as 90s, 2h or 3d");
    if let Ok(at) = text.parse::<Timestamp>() {
        return Ok(at);
    }
    let duration = parse_duration(text).map_err(|_| refused())?;
    shift(Timestamp::now(), duration).map_err(|_| refused())
}

/// `key=value`.
pub(crate) fn parse_pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err(format!("{text:?} is not KEY=VALUE")),
    }
}

/// `key=value` or `key:value`, as the API spells label filters.
pub(crate) fn parse_label(text: &str) -> Result<(String, String), String> {
    match text.split_once(['=', ':']) {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err(format!("{text:?} is not KEY=VALUE")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_table() {
        for (value, text) in [
            (0.0, "0.0 ms"),
            (0.0004, "0.4 ms"),
            (0.083, "83 ms"),
            (1.25, "1.25 s"),
            (12.34, "12.3 s"),
            (185.0, "3 m 05 s"),
            (7800.0, "2 h 10 m"),
            (200_000.0, "2 d 7 h"),
            (-3.0, "0.0 ms"),
        ] {
            assert_eq!(seconds(value), text);
        }
    }

    #[test]
    fn durations_table() {
        for (text, expected) in [
            ("90", 90.0),
            ("1.5", 1.5),
            ("30s", 30.0),
            ("5m", 300.0),
            ("1h30m", 5400.0),
            ("2d", 172_800.0),
            ("250ms", 0.25),
        ] {
            assert_eq!(parse_duration(text).unwrap().as_secs_f64(), expected, "{text}");
        }
        for bad in ["", "x", "-5", "-5s", "5 parsecs", "inf", "NaN", "1e300"] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn times_are_absolute_or_relative() {
        assert_eq!(
            parse_past("2026-01-31T08:00:00Z").unwrap().to_string(),
            "2026-01-31T08:00:00Z"
        );
        assert!(parse_past("1h").unwrap() < Timestamp::now());
        assert!(parse_future("1h").unwrap() > Timestamp::now());
        assert!(parse_past("yesterday").is_err());
    }

    #[test]
    fn previews_are_one_bounded_line() {
        assert_eq!(preview("  a\n\n b\tc ", 20), "a b c");
        assert_eq!(preview("abcdefghij", 5), "abcd…");
        assert_eq!(preview("äöü", 80), "äöü");
        assert_eq!(preview("", 3), "");
    }

    #[test]
    fn counts_and_rates() {
        assert_eq!(count(0), "0");
        assert_eq!(count(999), "999");
        assert_eq!(count(1_234_567), "1,234,567");
        assert_eq!(rate(3, 2.0), "1.5/s");
        assert_eq!(rate(12_345, 1.0), "12,345/s");
        assert_eq!(plural(1, "run"), "1 run");
        assert_eq!(plural(2000, "run"), "2,000 runs");
    }

    #[test]
    fn quantiles() {
        assert_eq!(quantile(&[], 0.5), None);
        assert_eq!(quantile(&[1.0, 2.0, 3.0], 0.5), Some(2.0));
        assert_eq!(quantile(&[1.0, 2.0, 3.0], 1.0), Some(3.0));
    }

    #[test]
    fn ago_table() {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let at = |s: i64| now.checked_add(jiff::SignedDuration::from_secs(s)).unwrap();
        assert_eq!(ago(at(0), now), "now");
        assert_eq!(ago(at(-90), now), "90 s ago");
        assert_eq!(ago(at(-7200), now), "2 h ago");
        assert_eq!(ago(at(600), now), "in 10 m");
    }
}
