//! What released wheels have: components and starter flows. `tests/wheels.sh` fetches them.

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use serde_json::Value as Json;

pub(crate) fn cache() -> PathBuf {
    std::env::var_os("XDG_CACHE_HOME").map_or_else(
        || PathBuf::from(std::env::var_os("HOME").expect("HOME")).join(".cache"),
        PathBuf::from,
    )
}

pub(crate) fn folder() -> PathBuf {
    std::env::var_os("FLOWFLEET_TEST_WHEELS").map_or_else(|| cache().join("flowfleet/wheels"), PathBuf::from)
}

/// Where the lfx is that everything is compared with.
pub(crate) fn lfx() -> PathBuf {
    let named = std::env::var_os("FLOWFLEET_TEST_LFX").map(PathBuf::from);
    named.unwrap_or_else(|| cache().join("flowfleet/bench/lfx-1.13.0"))
}

pub(crate) fn read(path: &Path) -> Json {
    let bytes = std::fs::read(path)
        .unwrap_or_else(|error| panic!("{}: {error}; run tests/wheels.sh", path.display()));
    serde_json::from_slice(&bytes).unwrap()
}

/// The starter flows of an unpacked langflow-base, in order of their names.
pub(crate) fn starters(wheel: &Path) -> Vec<(String, Json)> {
    let folder = wheel.join("langflow/initial_setup/starter_projects");
    let mut found: Vec<(String, Json)> = std::fs::read_dir(folder)
        .expect("run tests/wheels.sh")
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
        .map(|path| {
            (
                path.file_stem().unwrap().to_string_lossy().into_owned(),
                read(&path),
            )
        })
        .collect();
    found.sort_by(|a, b| a.0.cmp(&b.0));
    found
}

static INDEX: LazyLock<Json> =
    LazyLock::new(|| read(&folder().join("lfx-1.13.0/lfx/_assets/component_index.json")));

/// A component of the newest release, as the editor would put it on the canvas.
pub(crate) fn component(name: &str) -> &'static Json {
    let categories = INDEX["entries"].as_array().unwrap();
    let found = categories.iter().find_map(|category| category[1].get(name));
    found.unwrap_or_else(|| panic!("no component {name}"))
}
