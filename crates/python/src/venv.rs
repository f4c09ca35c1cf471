//! The virtual environment with lfx: made, found, looked at.

use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use tokio::process::Command;

/// The release whose components the native engine knows, so that both engines do the same.
pub const LFX: &str = "1.13.0";

const TO_INSTALL: Duration = Duration::from_secs(1_800);
const TO_ANSWER: Duration = Duration::from_secs(60);

/// What is to be installed.
#[derive(Debug, Clone)]
pub struct Install {
    pub folder: PathBuf,
    pub lfx: String,
    /// Further requirements, as pip reads them.
    pub extra: Vec<String>,
    /// What makes the environment, such as `python3.12`.
    pub python: String,
}

/// What an environment has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    pub python: String,
    pub lfx: String,
    /// Whether models of OpenAI can be asked.
    pub openai: bool,
}

/// Why there is no usable environment.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    #[error("{0:?} is not the name of a package: write it as pip does, such as lfx-anthropic or pandas==2.2")]
    BadRequirement(String),
    #[error("{program} cannot be started ({source}); {advice}")]
    Start {
        program: String,
        source: std::io::Error,
        advice: &'static str,
    },
    #[error("{step} failed: {why}")]
    Failed { step: &'static str, why: String },
    #[error("{step} has not ended after {} s", TO_INSTALL.as_secs())]
    Slow { step: &'static str },
    #[error("{0}")]
    Unusable(String),
}

/// The interpreter of an environment, which may be named itself.
pub(crate) fn interpreter(venv: &Path) -> Result<PathBuf, String> {
    if venv.is_file() {
        return Ok(venv.to_owned());
    }
    let python = venv.join("bin/python");
    if python.exists() {
        Ok(python)
    } else {
        Err(format!(
            "there is no {}: `flowfleet python install` makes it, or name another environment with python.venv",
            python.display()
        ))
    }
}

/// Looks at an environment without loading lfx.
pub async fn check(venv: &Path) -> Result<Found, InstallError> {
    const PROGRAM: &str = "import importlib.metadata as m, importlib.util as u, platform\n\
        print(platform.python_version(), m.version('lfx'), bool(u.find_spec('langchain_openai')))";
    let python = interpreter(venv).map_err(InstallError::Unusable)?;
    let mut command = Command::new(&python);
    command.args(["-I", "-c", PROGRAM]);
    let step = "asking the environment for lfx";
    let output = run(step, &mut command, TO_ANSWER, "is it a virtual environment?").await?;
    let text = String::from_utf8_lossy(&output.stdout);
    match text.split_whitespace().collect::<Vec<_>>()[..] {
        [python, lfx, openai] => Ok(Found {
            python: python.to_owned(),
            lfx: lfx.to_owned(),
            openai: openai == "True",
        }),
        _ => Err(InstallError::Unusable(format!("it answers {text:?}"))),
    }
}

/// Makes an environment, or brings one to what is wanted. `tell` hears of each step.
pub async fn install(wanted: &Install, tell: &mut (dyn FnMut(&str) + Send)) -> Result<Found, InstallError> {
    let requirements = requirements(wanted)?;
    let python = wanted.folder.join("bin/python");
    if !python.exists() {
        tell(&format!(
            "making a virtual environment in {}",
            wanted.folder.display()
        ));
        let mut venv = Command::new(&wanted.python);
        venv.args(["-m", "venv", "--clear"]).arg(&wanted.folder);
        let advice = "install Python 3.10 to 3.13 (on Debian: apt-get install python3-venv), or name one with --python";
        run("making the virtual environment", &mut venv, TO_INSTALL, advice).await?;
    }
    let pip = |words: &[&str]| {
        let mut command = Command::new(&python);
        command.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]);
        command.args(words);
        command
    };
    let uv = wanted.folder.join("bin/uv");
    if !uv.exists() {
        tell("installing uv, which finds matching packages in seconds");
        if let Err(error) = run("installing uv", &mut pip(&["uv"]), TO_INSTALL, "").await {
            tell(&format!("{error}; pip does it instead, which takes minutes"));
        }
    }
    tell(&format!("installing {} (about 600 MB)", requirements.join(" ")));
    let mut command = if uv.exists() {
        let mut command = Command::new(&uv);
        command
            .args(["pip", "install", "--quiet", "--compile-bytecode", "--python"])
            .arg(&python);
        command.args(&requirements);
        command
    } else {
        let words: Vec<&str> = requirements.iter().map(String::as_str).collect();
        pip(&words)
    };
    run("installing lfx", &mut command, TO_INSTALL, "").await?;
    check(&wanted.folder).await
}

fn requirements(wanted: &Install) -> Result<Vec<String>, InstallError> {
    let own = [format!("lfx=={}", wanted.lfx), "lfx-openai".to_owned()];
    let all: Vec<String> = own.into_iter().chain(wanted.extra.iter().cloned()).collect();
    // Neither an option of the installer nor anything with a space.
    let is_one = |text: &String| {
        text.starts_with(|c: char| c.is_ascii_alphanumeric())
            && text.chars().all(|c| c.is_ascii_graphic())
            && text.len() <= 200
    };
    match all.iter().find(|text| !is_one(text)) {
        Some(bad) => Err(InstallError::BadRequirement(bad.clone())),
        None => Ok(all),
    }
}

async fn run(
    step: &'static str,
    command: &mut Command,
    patience: Duration,
    advice: &'static str,
) -> Result<Output, InstallError> {
    let program = command.as_std().get_program().to_string_lossy().into_owned();
    let running = command.stdin(Stdio::null()).kill_on_drop(true).output();
    let Ok(ended) = tokio::time::timeout(patience, running).await else {
        return Err(InstallError::Slow { step });
    };
    let output = ended.map_err(|source| InstallError::Start {
        program,
        source,
        advice,
    })?;
    if output.status.success() {
        return Ok(output);
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let lines: Vec<&str> = said
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect();
    let last = &lines[lines.len().saturating_sub(3)..];
    let why = if last.is_empty() {
        output.status.to_string()
    } else {
        last.join(" ")
    };
    Err(InstallError::Failed { step, why })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requirements_are_no_options() {
        let wanted = |extra: &str| Install {
            folder: PathBuf::new(),
            lfx: LFX.to_owned(),
            extra: vec![extra.to_owned()],
            python: "python3".to_owned(),
        };
        for fine in ["pandas", "pandas==2.2", "lfx-anthropic", "a[b]>=1"] {
            assert!(requirements(&wanted(fine)).is_ok(), "{fine}");
        }
        for bad in ["--index-url=http://x", "", "a b", "-r"] {
            assert!(requirements(&wanted(bad)).is_err(), "{bad}");
        }
    }

    #[tokio::test]
    async fn a_missing_environment_says_what_to_do() {
        let error = check(Path::new("/nowhere")).await.unwrap_err().to_string();
        assert!(error.contains("flowfleet python install"), "{error}");
    }
}
