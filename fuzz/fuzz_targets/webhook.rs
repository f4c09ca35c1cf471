//! See [`flowfleet_dispatcher::fuzz::webhook`].

#![no_main]

use libfuzzer_sys::{fuzz_mutator, fuzz_target};

fuzz_target!(|bytes: &[u8]| flowfleet_dispatcher::fuzz::webhook(bytes));
fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    flowfleet_fuzz::mutate(data, size, max_size, seed)
});
