//! Whether and when to ask again: a pure function of the fault, the number of tries and a random number.

use std::time::Duration;

use reqwest::header::{HeaderMap, RETRY_AFTER};

use super::CallLimits;
use super::fault::Fault;

const FIRST_WAIT: Duration = Duration::from_millis(500);
const LONGEST_BACKOFF: Duration = Duration::from_secs(8);

/// How long to wait before the next try, or none if there must not be one. `chance` is in 0..1.
pub(super) fn wait(fault: &Fault, tries: u32, settings: &CallLimits, chance: f64) -> Option<Duration> {
    if !fault.again || tries >= settings.max_retries {
        return None;
    }
    match fault.retry_after {
        Some(asked) if asked > settings.max_wait => None,
        // A little later than asked, and not everybody at once.
        Some(asked) => Some(asked + FIRST_WAIT.mul_f64(chance)),
        None => {
            let backoff = FIRST_WAIT.saturating_mul(1 << tries.min(10)).min(LONGEST_BACKOFF);
            Some(backoff.mul_f64(0.5 + chance / 2.0).min(settings.max_wait))
        }
    }
}

/// What the server asks for: `retry-after-ms`, or `Retry-After` in seconds or as a date.
pub(super) fn asked(headers: &HeaderMap, now: jiff::Timestamp) -> Option<Duration> {
    let text = |name: &str| {
        headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .map(str::trim)
    };
    let seconds = |seconds: f64| match seconds.is_nan() {
        true => None,
        false => Duration::try_from_secs_f64(seconds.max(0.0)).ok(),
    };
    if let Some(wait) = text("retry-after-ms")
        .and_then(|ms| ms.parse::<f64>().ok())
        .and_then(|ms| seconds(ms / 1e3))
    {
        return Some(wait);
    }
    let value = text(RETRY_AFTER.as_str())?;
    if let Ok(number) = value.parse::<f64>() {
        return seconds(number);
    }
    let date = jiff::fmt::rfc2822::parse(value).ok()?.timestamp();
    seconds(date.duration_since(now).as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(again: bool, retry_after: Option<u64>) -> Fault {
        let mut fault = Fault::timeout("x", Duration::ZERO);
        fault.again = again;
        fault.retry_after = retry_after.map(Duration::from_secs);
        fault
    }

    #[test]
    fn waits_grow_are_spread_and_bounded() {
        let settings = CallLimits::default();
        let millis =
            |fault: &Fault, tries, chance| wait(fault, tries, &settings, chance).map(|d| d.as_millis());
        assert_eq!(millis(&fault(false, None), 0, 0.5), None);
        assert_eq!(millis(&fault(true, None), 0, 0.0), Some(250));
        assert_eq!(millis(&fault(true, None), 0, 1.0), Some(500));
        assert_eq!(millis(&fault(true, None), 2, 1.0), Some(2000));
        assert_eq!(millis(&fault(true, None), 3, 1.0), None);
        assert_eq!(millis(&fault(true, Some(7)), 0, 0.0), Some(7000));
        assert_eq!(millis(&fault(true, Some(60)), 0, 1.0), Some(60_500));
        assert_eq!(millis(&fault(true, Some(61)), 0, 0.0), None);
        let many = CallLimits {
            max_retries: 100,
            ..CallLimits::default()
        };
        assert_eq!(wait(&fault(true, None), 50, &many, 1.0), Some(LONGEST_BACKOFF));
    }

    #[test]
    fn what_the_server_asks_for() {
        let now: jiff::Timestamp = "2015-10-21T07:27:00Z".parse().unwrap();
        let asked = |pairs: &[(&'static str, &'static str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in pairs {
                headers.insert(*name, reqwest::header::HeaderValue::from_static(value));
            }
            asked(&headers, now).map(|wait| wait.as_millis())
        };
        assert_eq!(asked(&[]), None);
        assert_eq!(asked(&[("retry-after", "3")]), Some(3000));
        assert_eq!(asked(&[("retry-after", " 0.5 ")]), Some(500));
        assert_eq!(asked(&[("retry-after", "-1")]), Some(0));
        assert_eq!(
            asked(&[("retry-after-ms", "250"), ("retry-after", "9")]),
            Some(250)
        );
        assert_eq!(
            asked(&[("retry-after-ms", "x"), ("retry-after", "9")]),
            Some(9000)
        );
        assert_eq!(
            asked(&[("retry-after", "Wed, 21 Oct 2015 07:28:00 GMT")]),
            Some(60_000)
        );
        assert_eq!(
            asked(&[("retry-after", "Wed, 21 Oct 2015 07:20:00 GMT")]),
            Some(0)
        );
        for bad in ["soon", "", "nan", "inf", "1e400"] {
            assert_eq!(asked(&[("retry-after", bad)]), None, "{bad}");
        }
    }
}
