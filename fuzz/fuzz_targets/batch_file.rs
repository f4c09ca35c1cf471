//! Batch files of `flowfleet submit`. Its reader lives in a program, which cannot be linked: its source is compiled here.

#![no_main]

use libfuzzer_sys::{fuzz_mutator, fuzz_target};

#[path = "../../crates/cli/src/commands/submit/lines.rs"]
mod lines;

/// As much of the program's errors as the reader uses.
mod failure {
    pub(crate) type Result<T = ()> = std::result::Result<T, Failure>;

    pub(crate) struct Failure {
        pub message: String,
    }

    impl Failure {
        pub(crate) fn usage(message: impl Into<String>) -> Self {
            Self {
                message: message.into(),
            }
        }

        pub(crate) fn advise(self, _: &str) -> Self {
            self
        }
    }
}

fuzz_target!(|bytes: &[u8]| lines::fuzz::batch_file(bytes));
fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    flowfleet_fuzz::mutate(data, size, max_size, seed)
});
