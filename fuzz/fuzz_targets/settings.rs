//! Files and environments of the dispatcher's settings: see [`flowfleet_runtime::fuzz::settings`].

#![no_main]

use flowfleet_dispatcher::Config;
use libfuzzer_sys::{fuzz_mutator, fuzz_target};

fuzz_target!(|bytes: &[u8]| {
    if let Some(config) = flowfleet_runtime::fuzz::settings::<Config>(bytes)
        && config.check().is_ok()
    {
        // What passes the check can be worked with.
        assert!(std::time::Duration::try_from_secs_f64(config.drain_s).is_ok());
    }
});
fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    flowfleet_fuzz::mutate(data, size, max_size, seed)
});
