//! Blobs as files below one directory.
//!
//! A put writes a temporary file, syncs it, renames it into place and syncs the directories it changed, so a
//! blob is there whole or not at all, also after a power cut. Temporary files lie in `~tmp`, a name no key can
//! have; what a crash left there is removed at the next start.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use flowfleet_core::error::{Kind, PortError};
use flowfleet_core::port::{BlobInfo, BlobStore, Result};
use jiff::Timestamp;

use crate::key;

const TEMPORARY: &str = "~tmp";
/// Another process may be writing a younger one.
const ABANDONED: Duration = Duration::from_secs(3600);
/// A delete may remove the empty directory a put is about to use; more than a few times in a row is no race.
const TRIES: u32 = 8;

#[derive(Debug, Clone)]
pub(crate) struct FileStore {
    root: Arc<PathBuf>,
}

impl FileStore {
    pub(crate) async fn open(root: PathBuf) -> Result<Self> {
        let store = Self { root: Arc::new(root) };
        store
            .blocking("blob.open", |root| {
                fs::create_dir_all(root.join(TEMPORARY))?;
                sweep(&root.join(TEMPORARY), SystemTime::now());
                Ok(())
            })
            .await?;
        Ok(store)
    }

    /// Runs file work where it may block.
    async fn blocking<R: Send + 'static>(
        &self,
        operation: &'static str,
        work: impl FnOnce(&Path) -> io::Result<R> + Send + 'static,
    ) -> Result<R> {
        let root = Arc::clone(&self.root);
        let result = tokio::task::spawn_blocking(move || work(&root))
            .await
            .map_err(|error| PortError::from_source(Kind::Bug, operation, error))?;
        result.map_err(|error| explain(operation, &self.root, error))
    }
}

fn explain(operation: &'static str, root: &Path, error: io::Error) -> PortError {
    let kind = match error.kind() {
        ErrorKind::PermissionDenied
        | ErrorKind::ReadOnlyFilesystem
        | ErrorKind::NotADirectory
        | ErrorKind::IsADirectory
        | ErrorKind::AlreadyExists
        | ErrorKind::InvalidInput => Kind::Permanent,
        _ => Kind::Retryable,
    };
    PortError {
        kind,
        operation,
        detail: format!("blob directory {}: {error}", root.display()),
        source: Some(Box::new(error)),
    }
}

fn checked(operation: &'static str, key: &str) -> Result<String> {
    key::check(key).map_err(|error| PortError::permanent(operation, error))?;
    Ok(key.to_owned())
}

#[async_trait]
impl BlobStore for FileStore {
    async fn put(&self, key: &str, bytes: Bytes) -> Result<()> {
        let key = checked("blob.put", key)?;
        self.blocking("blob.put", move |root| put(root, &key, &bytes))
            .await
    }

    async fn get(&self, key: &str) -> Result<Option<Bytes>> {
        let key = checked("blob.get", key)?;
        self.blocking("blob.get", move |root| match fs::read(root.join(&key)) {
            Ok(bytes) => Ok(Some(Bytes::from(bytes))),
            Err(error) if absent(&error) => Ok(None),
            Err(error) => Err(error),
        })
        .await
    }

    async fn delete(&self, key: &str) -> Result<()> {
        let key = checked("blob.delete", key)?;
        self.blocking("blob.delete", move |root| delete(root, &key)).await
    }

    async fn list(&self, folder: &str, limit: usize) -> Result<Vec<BlobInfo>> {
        let folder = checked("blob.list", folder)?;
        self.blocking("blob.list", move |root| list(root, &folder, limit))
            .await
    }

    async fn ping(&self) -> Result<()> {
        self.blocking("blob.ping", |root| {
            let path = temporary(root);
            write(&path, b"ping")?;
            fs::remove_file(path)
        })
        .await
    }
}

fn list(root: &Path, folder: &str, limit: usize) -> io::Result<Vec<BlobInfo>> {
    let entries = match fs::read_dir(root.join(folder)) {
        Ok(entries) => entries,
        Err(error) if absent(&error) => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut names: Vec<String> = Vec::new();
    for entry in entries {
        let name = entry?.file_name().into_string();
        names.extend(name.ok().filter(|name| key::check(name).is_ok()));
    }
    names.sort_unstable();
    let mut found = Vec::new();
    for name in names {
        if found.len() == limit {
            break;
        }
        let key = format!("{folder}/{name}");
        match fs::metadata(root.join(&key)) {
            Ok(data) if data.is_file() => found.push(BlobInfo {
                key,
                size: data.len(),
                stored_at: Timestamp::try_from(data.modified()?).unwrap_or_default(),
            }),
            Ok(_) => {}
            // Deleted meanwhile.
            Err(error) if absent(&error) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}

/// Whether an error says that there is no blob under that key (a directory is none).
fn absent(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::NotFound | ErrorKind::NotADirectory | ErrorKind::IsADirectory
    )
}

fn temporary(root: &Path) -> PathBuf {
    root.join(TEMPORARY).join(uuid::Uuid::now_v7().to_string())
}

/// Writes a file and syncs it; leaves nothing behind when it fails.
fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let result = File::create_new(path).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()
    });
    if result.is_err() {
        // The first error is the one to report.
        let _ = fs::remove_file(path);
    }
    result
}

fn put(root: &Path, key: &str, bytes: &[u8]) -> io::Result<()> {
    let from = temporary(root);
    match write(&from, bytes) {
        // Somebody tidied the whole directory away: make it again once.
        Err(error) if error.kind() == ErrorKind::NotFound => {
            fs::create_dir_all(root.join(TEMPORARY))?;
            write(&from, bytes)?;
        }
        other => other?,
    }
    let result = place(root, key, &from);
    if result.is_err() {
        let _ = fs::remove_file(&from);
    }
    result
}

/// Renames a written file to its key.
fn place(root: &Path, key: &str, from: &Path) -> io::Result<()> {
    let target = root.join(key);
    let Some(parent) = target.parent() else {
        return Err(ErrorKind::InvalidInput.into());
    };
    let mut tries = 0;
    loop {
        fs::create_dir_all(parent)?;
        match fs::rename(from, &target) {
            Ok(()) => break,
            Err(error) if error.kind() == ErrorKind::NotFound && tries < TRIES => tries += 1,
            Err(error) => return Err(error),
        }
    }
    // Each directory on the way may be new, and only a synced parent keeps a new entry.
    let mut directory = Some(parent);
    while let Some(path) = directory {
        match File::open(path).and_then(|file| file.sync_all()) {
            Ok(()) => {}
            // Deleted again already.
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        directory = if path == root { None } else { path.parent() };
    }
    Ok(())
}

fn delete(root: &Path, key: &str) -> io::Result<()> {
    let target = root.join(key);
    match fs::remove_file(&target) {
        Ok(()) => {}
        Err(error) if absent(&error) => return Ok(()),
        // Some systems answer this for a directory.
        Err(error) if error.kind() == ErrorKind::PermissionDenied && target.is_dir() => return Ok(()),
        Err(error) => return Err(error),
    }
    // Empty directories would pile up; one in use refuses to go.
    let mut directory = target.parent();
    while let Some(path) = directory {
        if path == root || fs::remove_dir(path).is_err() {
            break;
        }
        directory = path.parent();
    }
    Ok(())
}

/// Removes what a crash left behind.
fn sweep(directory: &Path, now: SystemTime) {
    let Ok(entries) = fs::read_dir(directory) else {
        return;
    };
    for entry in entries.flatten() {
        let age = entry
            .metadata()
            .and_then(|m| m.modified())
            .ok()
            .and_then(|at| now.duration_since(at).ok());
        if age.is_some_and(|age| age > ABANDONED) {
            tracing::info!(file = %entry.path().display(), "removing an abandoned temporary file");
            if let Err(error) = fs::remove_file(entry.path()) {
                tracing::warn!(%error, "an abandoned temporary file could not be removed");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sweep_takes_only_the_abandoned() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("x"), b"1").unwrap();
        sweep(directory.path(), SystemTime::now());
        assert!(directory.path().join("x").exists());
        sweep(directory.path(), SystemTime::now() + ABANDONED * 2);
        assert!(!directory.path().join("x").exists());
    }
}
