//! What mutation starts from: the examples, Langflow's starter flows, and the words that parsers know.

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

/// The same file that libFuzzer is given: one quoted word a line.
const DICTIONARY: &str = include_str!("../../../fuzz/words.dict");

/// The words of the dictionary.
pub fn dictionary() -> &'static [&'static str] {
    static WORDS: LazyLock<Vec<&str>> = LazyLock::new(|| {
        let lines = DICTIONARY.lines().map(str::trim);
        let words = lines.filter_map(|line| line.strip_prefix('"')?.strip_suffix('"'));
        // Escapes are libFuzzer's.
        words.filter(|word| !word.contains('\\')).collect()
    });
    &WORDS
}

/// The flows of `examples/`.
pub fn example_flows() -> Vec<Vec<u8>> {
    documents(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/flows"))
}

/// The starter flows of the wheel that `tests/wheels.sh` unpacks.
///
/// # Panics
/// When the wheels are not there: a test without its seeds would test little and say nothing.
pub fn starter_flows() -> Vec<Vec<u8>> {
    let wheels = std::env::var_os("FLOWFLEET_TEST_WHEELS")
        .map(PathBuf::from)
        .unwrap_or_else(|| {
            let home = PathBuf::from(std::env::var_os("HOME").unwrap_or_default());
            let cache = std::env::var_os("XDG_CACHE_HOME").map_or_else(|| home.join(".cache"), PathBuf::from);
            cache.join("flowfleet/wheels")
        });
    documents(&wheels.join("langflow_base-1.13.0/langflow/initial_setup/starter_projects"))
}

fn documents(folder: &Path) -> Vec<Vec<u8>> {
    let entries = std::fs::read_dir(folder)
        .unwrap_or_else(|error| panic!("{}: {error}; run tests/wheels.sh", folder.display()));
    let mut paths: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
    // The order of a folder differs from machine to machine.
    paths.sort();
    assert!(!paths.is_empty(), "{} has no flows", folder.display());
    paths
        .iter()
        .map(|path| std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display())))
        .collect()
}
