//! What workspace-wide tests share: processes, services and flows, and the fault suite. The tests of single promises
//! live in `it/`.

pub mod embedded;
pub mod faults;
pub mod flows;
pub mod process;
pub mod services;
