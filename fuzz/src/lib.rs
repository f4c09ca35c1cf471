//! What the fuzz targets share: JSON is mutated as JSON half of the time, so that libFuzzer gets past the parser.

use std::sync::LazyLock;

use flowfleet_mutate::Random;

/// The signature that `fuzz_mutator!` asks for.
pub fn mutate(data: &mut [u8], size: usize, max_size: usize, seed: u32) -> usize {
    static OTHERS: LazyLock<Vec<Vec<u8>>> = LazyLock::new(flowfleet_mutate::example_flows);
    if seed % 2 == 0 {
        return libfuzzer_sys::fuzzer_mutate(data, size, max_size);
    }
    let damaged = flowfleet_mutate::mutate(&data[..size], &OTHERS, &mut Random::new(seed.into()));
    let kept = damaged.len().min(max_size);
    data[..kept].copy_from_slice(&damaged[..kept]);
    kept
}
