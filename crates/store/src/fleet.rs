//! Wishes for workers as columns.

use std::time::Duration;

use flowfleet_core::port::Wish;

use crate::error::Error;

/// A wish lives this long: no worker that was told something then is still the one it was said to.
pub(crate) const KEPT: Duration = Duration::from_secs(30 * 24 * 3600);

/// State and milliseconds, as [`to_columns`] writes them.
pub(crate) type WishRow = (String, Option<i64>);

/// What [`from_row`] reads.
pub(crate) fn to_columns(wish: Wish) -> (&'static str, Option<i64>) {
    match wish {
        Wish::Accept => ("accepting", None),
        Wish::Drain { handoff } => {
            let millis = handoff.map(|after| i64::try_from(after.as_millis()).unwrap_or(i64::MAX));
            ("draining", millis)
        }
    }
}

pub(crate) fn from_row((state, handoff_ms): WishRow) -> Result<Wish, Error> {
    match state.as_str() {
        "accepting" => Ok(Wish::Accept),
        "draining" => {
            let handoff = handoff_ms.map(|millis| crate::row::unsigned("handoff_ms", millis));
            Ok(Wish::Drain {
                handoff: handoff.transpose()?.map(Duration::from_millis),
            })
        }
        other => Err(Error::Data(format!("a wish for a worker is {other:?}"))),
    }
}
