//! The programs under test, built as they are shipped.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, ensure};

/// Where the programs lie.
#[derive(Debug, Clone)]
pub(crate) struct Binaries {
    folder: PathBuf,
}

const PROGRAMS: [&str; 3] = ["flowfleet", "flowfleet-dispatcher", "flowfleet-worker"];

impl Binaries {
    /// Those in a folder, built by somebody else.
    pub(crate) fn in_folder(folder: &Path) -> anyhow::Result<Self> {
        let folder = folder
            .canonicalize()
            .with_context(|| format!("{}", folder.display()))?;
        for program in PROGRAMS {
            ensure!(
                folder.join(program).is_file(),
                "{} has no {program}",
                folder.display()
            );
        }
        Ok(Self { folder })
    }

    /// Builds `flowfleet`, `flowfleet-dispatcher` and `flowfleet-worker` into the target directory that this
    /// program was built into.
    pub(crate) fn build() -> anyhow::Result<Self> {
        let mut target = std::env::current_exe()?;
        // target/PROFILE/bench
        ensure!(
            target.pop() && target.pop(),
            "this program lies outside of a target directory"
        );
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let status = Command::new(cargo)
            .args(["build", "--profile", "dist", "--quiet", "--target-dir"])
            .arg(&target)
            .args(PROGRAMS.iter().flat_map(|program| ["-p", program]))
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .stdin(Stdio::null())
            .status()
            .context("cargo does not start")?;
        ensure!(
            status.success(),
            "the programs under test do not build: see above"
        );
        Ok(Self {
            folder: target.join("dist"),
        })
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }
}
