//! The files of a run: what its tenant uploaded, and what earlier runs of the tenant wrote, in the blob store.

use std::sync::Arc;

use bytes::Bytes;
use flowfleet_core::Tenant;
use flowfleet_core::port::BlobStore;
use flowfleet_engine::{FileError, Files, path_segments};
use futures::FutureExt as _;
use futures::future::BoxFuture;

/// Where files lie among the blobs. Langflow's API puts uploads there.
const PREFIX: &str = "langflow-files";
/// What blob stores take as one name.
const LONGEST_NAME: usize = 200;

/// Files of one tenant; no path leads to another's.
#[derive(Debug)]
pub(crate) struct TenantFiles {
    blob: Arc<dyn BlobStore>,
    tenant: Tenant,
}

impl TenantFiles {
    pub(crate) fn new(blob: Arc<dyn BlobStore>, tenant: Tenant) -> Arc<Self> {
        Arc::new(Self { blob, tenant })
    }

    fn key(&self, path: &str) -> Result<String, FileError> {
        let segments = path_segments(path)?;
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        if segments
            .iter()
            .any(|name| name.len() > LONGEST_NAME || !name.chars().all(plain))
        {
            return Err(FileError::Refused(format!(
                "its name may only have letters of A to Z, digits, '.', '_' and '-', {LONGEST_NAME} at most: rename it"
            )));
        }
        Ok(format!("{PREFIX}/{}/{}", self.tenant, segments.join("/")))
    }
}

fn away(error: &flowfleet_core::PortError) -> FileError {
    tracing::warn!(%error, "the files are away");
    if error.is_retryable() {
        FileError::Away("the files cannot be reached".to_owned())
    } else {
        FileError::Refused("the file store refuses it".to_owned())
    }
}

impl Files for TenantFiles {
    fn read<'f>(&'f self, path: &'f str, limit: usize) -> BoxFuture<'f, Result<Bytes, FileError>> {
        async move {
            let key = self.key(path)?;
            match self.blob.get(&key).await {
                Ok(Some(bytes)) if bytes.len() > limit => Err(FileError::TooLarge(limit)),
                Ok(Some(bytes)) => Ok(bytes),
                Ok(None) => Err(FileError::Missing),
                Err(error) => Err(away(&error)),
            }
        }
        .boxed()
    }

    fn write<'f>(&'f self, path: &'f str, bytes: Bytes) -> BoxFuture<'f, Result<String, FileError>> {
        async move {
            let key = self.key(path)?;
            self.blob.put(&key, bytes).await.map_err(|error| away(&error))?;
            Ok(path.to_owned())
        }
        .boxed()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::sync::Mutex;

    use super::*;

    #[derive(Debug, Default)]
    struct Memory(Mutex<HashMap<String, Bytes>>);

    #[async_trait::async_trait]
    impl BlobStore for Memory {
        async fn put(&self, key: &str, bytes: Bytes) -> flowfleet_core::port::Result<()> {
            self.0.lock().unwrap().insert(key.to_owned(), bytes);
            Ok(())
        }

        async fn get(&self, key: &str) -> flowfleet_core::port::Result<Option<Bytes>> {
            Ok(self.0.lock().unwrap().get(key).cloned())
        }

        async fn delete(&self, key: &str) -> flowfleet_core::port::Result<()> {
            self.0.lock().unwrap().remove(key);
            Ok(())
        }

        async fn ping(&self) -> flowfleet_core::port::Result<()> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn tenants_have_their_own_files() {
        let blob: Arc<dyn BlobStore> = Arc::new(Memory::default());
        let of = |tenant: &str| TenantFiles::new(Arc::clone(&blob), tenant.parse().unwrap());
        let (a, b) = (of("a"), of("b"));
        let text = Bytes::from_static(b"hello");
        assert_eq!(a.write("flow/x.txt", text.clone()).await.unwrap(), "flow/x.txt");
        assert_eq!(a.read("flow/x.txt", 5).await.unwrap(), text);
        assert_eq!(a.read("flow/x.txt", 4).await, Err(FileError::TooLarge(4)));
        assert_eq!(b.read("flow/x.txt", 5).await, Err(FileError::Missing));
        for path in [
            "../a/flow/x.txt",
            "/flow/x.txt",
            "flow/../x",
            "flow/x y.txt",
            "é.txt",
            "",
        ] {
            let refused = |result: Result<(), FileError>| matches!(result, Err(FileError::Refused(_)));
            assert!(refused(b.read(path, 5).await.map(drop)), "{path}");
            assert!(refused(b.write(path, text.clone()).await.map(drop)), "{path}");
        }
        a.write("flow/x.txt", Bytes::from_static(b"other")).await.unwrap();
        assert_eq!(a.read("flow/x.txt", 5).await.unwrap(), "other");
    }
}
