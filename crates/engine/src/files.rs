//! The port to files: what nodes read, and what they write for later.
//!
//! A path is what stands in a flow or comes with a run, so it is never trusted: it is relative, made of plain names,
//! and leads to nothing outside of the place its adapter owns. Whose files those are is the adapter's business.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use futures::FutureExt as _;
use futures::future::BoxFuture;

/// The largest file a node reads or writes.
pub const MAX_FILE_BYTES: usize = 32 << 20;
/// The longest path.
const MAX_PATH: usize = 1024;

/// Files by path.
pub trait Files: Send + Sync + fmt::Debug {
    /// The whole file, if it has `limit` bytes at most. Idempotent.
    fn read<'f>(&'f self, path: &'f str, limit: usize) -> BoxFuture<'f, Result<Bytes, FileError>>;

    /// Writes the whole file, over one that is there, and says where it lies. Idempotent; of two writers at a time one
    /// is last.
    fn write<'f>(&'f self, path: &'f str, bytes: Bytes) -> BoxFuture<'f, Result<String, FileError>>;
}

/// Why a file was not read or written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FileError {
    #[error("there is no such file")]
    Missing,
    #[error("it has more than {0} bytes")]
    TooLarge(usize),
    #[error("{0}")]
    Refused(String),
    /// Another attempt may succeed.
    #[error("{0}")]
    Away(String),
}

/// Where there are no files at all.
#[derive(Debug, Clone, Copy)]
pub struct NoFiles;

impl NoFiles {
    fn refuse<T>() -> Result<T, FileError> {
        Err(FileError::Refused("nothing here holds files".to_owned()))
    }
}

impl Files for NoFiles {
    fn read<'f>(&'f self, _: &'f str, _: usize) -> BoxFuture<'f, Result<Bytes, FileError>> {
        async { Self::refuse() }.boxed()
    }

    fn write<'f>(&'f self, _: &'f str, _: Bytes) -> BoxFuture<'f, Result<String, FileError>> {
        async { Self::refuse() }.boxed()
    }
}

/// Nothing to read and nowhere to write.
pub fn none() -> Arc<dyn Files> {
    Arc::new(NoFiles)
}

/// The plain names a path is made of; refused if it could lead elsewhere.
pub fn segments(path: &str) -> Result<Vec<&str>, FileError> {
    let refuse = |why: &str| Err(FileError::Refused(format!("its path {why}")));
    if path.is_empty() || path.len() > MAX_PATH {
        return refuse(&format!("must have 1 to {MAX_PATH} bytes"));
    }
    if path.contains(['\\', '\0', ':']) {
        return refuse("may not have a backslash, a colon or a zero byte");
    }
    let segments: Vec<&str> = path.split('/').collect();
    if segments.iter().any(|segment| matches!(*segment, "" | "." | "..")) {
        return refuse("must be relative and may not have empty parts, \".\" or \"..\"");
    }
    Ok(segments)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_lead_nowhere_else() {
        for good in ["a", "a/b.txt", "flow/2026-11-21_x y.csv", "...", ".hidden", "é/ü"] {
            assert_eq!(
                segments(good).map(|found| found.join("/")),
                Ok(good.to_owned()),
                "{good}"
            );
        }
        let long = "x".repeat(MAX_PATH + 1);
        for bad in [
            "",
            "/",
            "/etc/passwd",
            "..",
            "a/../b",
            "a/..",
            "./a",
            "a//b",
            "a/",
            "..\\a",
            "C:/a",
            "a\0b",
            &long,
        ] {
            assert!(matches!(segments(bad), Err(FileError::Refused(_))), "{bad:?}");
        }
    }
}
