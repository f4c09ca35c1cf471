//! Current Date: the date and the time in a time zone, as a sentence.

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::{params, single};
use crate::component::{NodeCall, NodeContext, NodeError, NodeOutput};
use crate::value::Message;

pub(super) const OUTPUT: &str = "current_date";

pub(super) fn run(call: &NodeCall, ctx: &NodeContext) -> Result<NodeOutput, NodeError> {
    let zone = params::text(call, "timezone", "UTC")?;
    Ok(single(call, OUTPUT, Message::of(sentence(&zone, (ctx.clock)()))))
}

fn sentence(zone: &str, now: Timestamp) -> String {
    if zone.starts_with('/') {
        return format!("Error: ZoneInfo keys may not be absolute paths, got: {zone}");
    }
    let inner = zone.trim_start_matches("../");
    if zone.is_empty() || inner.split('/').any(|part| matches!(part, "" | "." | "..")) {
        return format!("Error: ZoneInfo keys must be normalized relative paths, got: {zone}");
    }
    if inner != zone {
        return format!("Error: ZoneInfo keys must refer to subdirectories of TZPATH, got: {zone}");
    }
    // Names are looked up without regard to case here, but not in Langflow.
    let found = TimeZone::get(zone)
        .ok()
        .filter(|found| found.iana_name() == Some(zone));
    match found {
        Some(found) => {
            let now = now.to_zoned(found).strftime("%Y-%m-%d %H:%M:%S %Z");
            format!("Current date and time in {zone}: {now}")
        }
        None => format!("Error: 'No time zone found with key {zone}'"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sentences() {
        let now: Timestamp = "2026-11-21T20:48:03.9Z".parse().unwrap();
        for (zone, expected) in [
            ("UTC", "Current date and time in UTC: 2026-11-21 20:48:03 UTC"),
            (
                "Europe/Vienna",
                "Current date and time in Europe/Vienna: 2026-11-21 21:48:03 CET",
            ),
            (
                "Asia/Kathmandu",
                "Current date and time in Asia/Kathmandu: 2026-11-22 02:33:03 +0545",
            ),
            (
                "America/New_York",
                "Current date and time in America/New_York: 2026-11-21 15:48:03 EST",
            ),
            ("Nowhere/Bad", "Error: 'No time zone found with key Nowhere/Bad'"),
            (
                "europe/vienna",
                "Error: 'No time zone found with key europe/vienna'",
            ),
            (
                "",
                "Error: ZoneInfo keys must be normalized relative paths, got: ",
            ),
            (
                "../UTC",
                "Error: ZoneInfo keys must refer to subdirectories of TZPATH, got: ../UTC",
            ),
            (
                "a//b",
                "Error: ZoneInfo keys must be normalized relative paths, got: a//b",
            ),
            (
                "/etc",
                "Error: ZoneInfo keys may not be absolute paths, got: /etc",
            ),
        ] {
            assert_eq!(sentence(zone, now), expected);
        }
    }
}
