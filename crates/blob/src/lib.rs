//! Payloads too large for a row of the store.
//!
//! Owns where blobs lie and how a URL names that place. What a key looks like is the caller's choice within
//! [`key`]'s rules, and so is when a blob is deleted: nothing here expires.

mod file;
pub mod key;
mod metered;
pub mod metrics;

use std::path::PathBuf;
use std::sync::Arc;

use flowfleet_core::error::{Kind, PortError};
use flowfleet_core::port::{BlobStore, Result};

/// Opens the blob store a URL names: `file:DIR` (relative to the working directory) or `file:///DIR`. The
/// directory is made when it is missing.
pub async fn open(url: &str) -> Result<Arc<dyn BlobStore>> {
    let directory = directory(url)?;
    let store = file::FileStore::open(directory).await?;
    Ok(Arc::new(metered::Metered::new(store)))
}

/// The directory of a `file:` URL.
fn directory(url: &str) -> Result<PathBuf> {
    let refuse = |detail: String| Err(PortError::new(Kind::Permanent, "blob.open", detail));
    if url.starts_with("s3:") {
        return refuse("this build has no S3: use file:DIR on a volume all processes share".to_owned());
    }
    let Some(rest) = url.strip_prefix("file:") else {
        let scheme = url.split(':').next().unwrap_or_default();
        return refuse(format!(
            "blob URL scheme {scheme:?} is not known: use file:DIR or file:///DIR"
        ));
    };
    if rest.starts_with("//") {
        return match url::Url::parse(url).map(|url| url.to_file_path()) {
            Ok(Ok(path)) => Ok(path),
            _ => refuse("a blob URL with // needs an absolute path and no host: file:///DIR".to_owned()),
        };
    }
    if rest.is_empty() {
        return refuse("a blob URL needs a directory: file:DIR or file:///DIR".to_owned());
    }
    Ok(PathBuf::from(rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_table() {
        for (url, want) in [
            ("file:data", "data"),
            ("file:./data/blobs", "./data/blobs"),
            ("file:/var/lib/x", "/var/lib/x"),
            ("file:///var/lib/x", "/var/lib/x"),
            ("file:///a%20b", "/a b"),
        ] {
            assert_eq!(directory(url).unwrap(), PathBuf::from(want), "{url}");
        }
        for url in [
            "",
            "file:",
            "file://host/x",
            "s3://bucket/prefix",
            "ftp://x",
            "data",
        ] {
            let error = directory(url).unwrap_err();
            assert!(!error.is_retryable(), "{url}");
        }
        assert!(directory("s3://b").unwrap_err().to_string().contains("no S3"));
    }
}
