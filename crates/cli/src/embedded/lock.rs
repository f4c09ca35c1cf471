//! One process a data directory: a lock that dies with its process, whatever kills it.

use std::fs::{File, TryLockError};
use std::io::{Read as _, Seek as _, Write as _};
use std::path::Path;

use crate::failure::{Failure, Result};

const NAME: &str = "lock";

/// A data directory that belongs to this process while the value lives.
#[derive(Debug)]
pub(crate) struct DataLock {
    _file: File,
}

impl DataLock {
    /// Makes the directory where it is missing, and takes it.
    pub(crate) fn take(data: &Path) -> Result<Self> {
        let failed = |error: std::io::Error| {
            Failure::reach(format!(
                "cannot use the data directory {}: {error}",
                data.display()
            ))
            .advise("name another with --data DIR")
        };
        std::fs::create_dir_all(data).map_err(failed)?;
        let mut options = File::options();
        let mut file = options
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(data.join(NAME))
            .map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                // Whoever holds it may be writing this very moment: then it stays unnamed.
                let _ = file.read_to_string(&mut holder);
                let holder = holder.trim();
                let by = if holder.is_empty() {
                    String::new()
                } else {
                    format!(" ({holder})")
                };
                return Err(Failure::reach(format!(
                    "another flowfleet{by} is running on the data directory {}",
                    data.display()
                ))
                .advise("stop that one, or give this one a directory of its own with --data DIR"));
            }
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
        file.set_len(0).and_then(|()| file.rewind()).map_err(failed)?;
        write!(file, "process {}", std::process::id()).map_err(failed)?;
        Ok(Self { _file: file })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_has_one_holder() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("a/b");
        let held = DataLock::take(&data).unwrap();
        let refused = DataLock::take(&data).unwrap_err();
        assert!(
            refused
                .message
                .contains(&format!("process {}", std::process::id())),
            "{refused:?}"
        );
        drop(held);
        DataLock::take(&data).unwrap();
    }
}
