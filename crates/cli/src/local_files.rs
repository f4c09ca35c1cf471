//! Files beside a flow, for runs without a server: what it reads and writes stays below the folder it lies in.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use flowfleet_engine::{FileError, Files, path_segments};
use futures::FutureExt as _;
use futures::future::BoxFuture;

/// A folder.
#[derive(Debug)]
pub(crate) struct LocalFiles(PathBuf);

impl LocalFiles {
    /// The folder of a flow's document; the working directory if it came on stdin.
    pub(crate) fn beside(flow: &str) -> Arc<Self> {
        let folder = Path::new(flow)
            .parent()
            .filter(|folder| !folder.as_os_str().is_empty());
        Arc::new(Self(folder.unwrap_or(Path::new(".")).to_owned()))
    }

    fn place(&self, path: &str) -> Result<PathBuf, FileError> {
        Ok(path_segments(path)?
            .into_iter()
            .fold(self.0.clone(), |place, segment| place.join(segment)))
    }
}

/// Refuses what a link leads out of the folder. `place` exists.
fn inside(root: &Path, place: &Path) -> Result<PathBuf, FileError> {
    let real = place.canonicalize().map_err(|error| refused(&error))?;
    let root = root.canonicalize().map_err(|error| refused(&error))?;
    match real.starts_with(&root) {
        true => Ok(real),
        false => Err(FileError::Refused(
            "a link leads out of the flow's folder".to_owned(),
        )),
    }
}

fn refused(error: &std::io::Error) -> FileError {
    match error.kind() {
        std::io::ErrorKind::NotFound => FileError::Missing,
        _ => FileError::Refused(format!("it cannot be opened ({error})")),
    }
}

fn read(root: &Path, place: &Path, limit: usize) -> Result<Bytes, FileError> {
    let file = std::fs::File::open(inside(root, place)?).map_err(|error| refused(&error))?;
    if !file.metadata().is_ok_and(|data| data.is_file()) {
        return Err(FileError::Refused("it is no file".to_owned()));
    }
    let mut bytes = Vec::new();
    let limited = file.take(limit as u64 + 1).read_to_end(&mut bytes);
    limited.map_err(|error| refused(&error))?;
    match bytes.len() > limit {
        true => Err(FileError::TooLarge(limit)),
        false => Ok(bytes.into()),
    }
}

fn write(root: &Path, place: &Path, bytes: &[u8]) -> Result<String, FileError> {
    let folder = place.parent().unwrap_or(root);
    let folder = inside(root, folder)?;
    let name = place.file_name().unwrap_or_default();
    // A link that is there already could lead elsewhere: what is written replaces it.
    let place = folder.join(name);
    let half = folder.join(format!(".{}.{}", name.to_string_lossy(), std::process::id()));
    let written = std::fs::write(&half, bytes).and_then(|()| std::fs::rename(&half, &place));
    if let Err(error) = written {
        // Nothing more can be done about a half-written file that cannot be removed.
        let _ = std::fs::remove_file(&half);
        return Err(FileError::Refused(format!("it cannot be written ({error})")));
    }
    Ok(place.display().to_string())
}

impl Files for LocalFiles {
    fn read<'f>(&'f self, path: &'f str, limit: usize) -> BoxFuture<'f, Result<Bytes, FileError>> {
        let (root, place) = (self.0.clone(), self.place(path));
        blocking(move || read(&root, &place?, limit))
    }

    fn write<'f>(&'f self, path: &'f str, bytes: Bytes) -> BoxFuture<'f, Result<String, FileError>> {
        let (root, place) = (self.0.clone(), self.place(path));
        blocking(move || write(&root, &place?, &bytes))
    }
}

fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, FileError> + Send + 'static,
) -> BoxFuture<'static, Result<T, FileError>> {
    async {
        let done = tokio::task::spawn_blocking(work).await;
        done.unwrap_or_else(|error| Err(FileError::Refused(format!("it cannot be opened ({error})"))))
    }
    .boxed()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn nothing_outside_of_the_folder_is_touched() {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("flows");
        std::fs::create_dir(&inner).unwrap();
        std::fs::write(folder.path().join("secret.txt"), "no").unwrap();
        std::fs::write(inner.join("a.txt"), "yes").unwrap();
        std::os::unix::fs::symlink("../secret.txt", inner.join("link.txt")).unwrap();
        let files = LocalFiles::beside(&inner.join("flow.json").display().to_string());
        assert_eq!(files.read("a.txt", 3).await.unwrap(), "yes");
        assert_eq!(files.read("a.txt", 2).await, Err(FileError::TooLarge(2)));
        assert_eq!(files.read("b.txt", 2).await, Err(FileError::Missing));
        let absolute = folder.path().join("secret.txt").display().to_string();
        for path in ["../secret.txt", "link.txt", ".", &absolute] {
            assert!(
                matches!(files.read(path, 9).await, Err(FileError::Refused(_))),
                "{path}"
            );
        }
        let place = files.write("link.txt", Bytes::from_static(b"new")).await.unwrap();
        assert!(place.ends_with("link.txt"), "{place}");
        assert_eq!(
            std::fs::read_to_string(folder.path().join("secret.txt")).unwrap(),
            "no"
        );
        assert_eq!(files.read("link.txt", 9).await.unwrap(), "new");
        assert_eq!(
            std::fs::read_dir(&inner).unwrap().count(),
            2,
            "no half-written file is left"
        );
    }
}
