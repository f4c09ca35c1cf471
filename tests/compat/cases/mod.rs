//! The table of flows: one for each native component, each rule of routing and each way to fail.

mod errors;
mod models;
mod routing;
mod values;

use crate::case::Case;

pub(crate) fn all() -> Vec<Case> {
    let all = [
        routing::cases(),
        values::cases(),
        models::cases(),
        errors::cases(),
    ];
    all.into_iter().flatten().collect()
}
