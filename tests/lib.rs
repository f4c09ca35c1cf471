//! Workspace-wide tests live in `it/`.
