//! Puts a peer's program and the exact libraries it was measured with into the cache, never into the checkout.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use tokio::process::Command;

const PATIENCE: Duration = Duration::from_secs(600);
/// The text of what is installed, written last: without it an installation is not complete.
const MARK: &str = ".installed";
/// What the Node programs share.
const SHARED: &str = "node";

/// How a peer is installed; the folder is one of `bench/peers`.
#[derive(Debug, Clone, Copy)]
pub(super) enum Install {
    Python { folder: &'static str },
    Node { folder: &'static str },
}

/// Where an installed peer is, and what runs it.
#[derive(Debug, Clone)]
pub(super) struct Installed {
    pub(super) folder: PathBuf,
    pub(super) interpreter: PathBuf,
}

impl Install {
    pub(super) fn folder(self) -> &'static str {
        match self {
            Self::Python { folder } | Self::Node { folder } => folder,
        }
    }

    /// Installs what is not yet there.
    pub(super) async fn run(self) -> anyhow::Result<Installed> {
        let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers");
        let target = cache()?.join(self.folder());
        fs::create_dir_all(&target).with_context(|| format!("creating {}", target.display()))?;
        copy(&sources.join(self.folder()), &target)?;
        let (pins, interpreter) = match self {
            Self::Python { .. } => ("requirements.txt", target.join("venv/bin/python")),
            Self::Node { .. } => {
                copy(&sources.join(SHARED), &target)?;
                ("package-lock.json", PathBuf::from("node"))
            }
        };
        let wanted = fs::read_to_string(target.join(pins))?;
        if fs::read_to_string(target.join(MARK)).ok().as_ref() != Some(&wanted) {
            match self {
                Self::Python { .. } => python(&target).await?,
                Self::Node { .. } => npm(&target).await?,
            }
            fs::write(target.join(MARK), wanted)?;
        }
        Ok(Installed {
            folder: target,
            interpreter,
        })
    }
}

async fn python(target: &Path) -> anyhow::Result<()> {
    let hint = "needs Python 3.10 or later with venv, and pip must reach its index";
    run(target, "python3", ["-m", "venv", "--clear", "venv"], hint).await?;
    let pip = [
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-input",
        "-r",
        "requirements.txt",
    ];
    run(target, target.join("venv/bin/python"), pip, hint).await
}

async fn npm(target: &Path) -> anyhow::Result<()> {
    let hint = "needs Node.js 20 or later, and npm must reach its registry";
    // With the lock file beside it, `install` takes what that names. `ci` would refuse a lock without the optional
    // packages of platforms that are not published. Scripts of packages are not run: nothing here needs one.
    let install = [
        "install",
        "--ignore-scripts",
        "--no-audit",
        "--no-fund",
        "--loglevel=error",
    ];
    run(target, "npm", install, hint).await
}

async fn run(
    folder: &Path,
    program: impl AsRef<OsStr>,
    arguments: impl IntoIterator<Item = &str>,
    hint: &str,
) -> anyhow::Result<()> {
    let shown = program.as_ref().to_string_lossy().into_owned();
    let running = Command::new(&program)
        .args(arguments)
        .current_dir(folder)
        .kill_on_drop(true)
        .output();
    let Ok(ended) = tokio::time::timeout(PATIENCE, running).await else {
        bail!("{shown} has not ended after {} s ({hint})", PATIENCE.as_secs());
    };
    let output = ended.with_context(|| format!("{shown} does not start ({hint})"))?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "{shown} cannot install it ({hint}): {}",
        reason(&errors)
    );
    Ok(())
}

/// The line that says most of what a package client complained about.
fn reason(errors: &str) -> &str {
    let mut lines = errors.lines().filter(|line| !line.trim().is_empty());
    lines
        .clone()
        .find(|line| line.contains("error") || line.contains("ERROR"))
        .or_else(|| lines.next_back())
        .unwrap_or("no reason given")
}

/// `$XDG_CACHE_HOME/flowfleet/peers`, or under `~/.cache`.
fn cache() -> anyhow::Result<PathBuf> {
    let folder = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    let base = folder("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(folder("HOME")?).join(".cache")))
        .context("neither XDG_CACHE_HOME nor HOME says where peers can be installed")?;
    Ok(base.join("flowfleet").join("peers"))
}

fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    let entries = fs::read_dir(from).with_context(|| format!("reading {}", from.display()))?;
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            fs::copy(entry.path(), to.join(entry.file_name()))?;
        }
    }
    Ok(())
}
