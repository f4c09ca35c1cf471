//! The warm parent: started, heard, and started again when it is lost.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::json;
use tokio::io::AsyncReadExt as _;
use tokio::net::UnixStream;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use crate::State;
use crate::environment;
use crate::lines::Lines;
use crate::pool::Pool;
use crate::protocol::{Exit, News, Order, Ready};
use crate::settings::Settings;
use crate::venv;

/// The package that runs at the other end.
const SHIM: [(&str, &str); 5] = [
    ("__init__.py", include_str!("../shim/flowfleet_host/__init__.py")),
    ("child.py", include_str!("../shim/flowfleet_host/child.py")),
    ("flow.py", include_str!("../shim/flowfleet_host/flow.py")),
    ("memory.py", include_str!("../shim/flowfleet_host/memory.py")),
    ("process.py", include_str!("../shim/flowfleet_host/process.py")),
];

const PROGRAM: &str =
    "import sys; sys.path.insert(0, sys.argv[1]); from flowfleet_host.process import main; main()";

/// What it says is short.
const MAX_LINE: usize = 64 << 10;
/// Of what it printed, the end that is kept: a crash lists every module that is loaded.
const KEPT: usize = 32 << 10;
const TO_END: Duration = Duration::from_secs(5);
/// Pauses between attempts to start it.
const BACKOFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// What the pool wants of the parent.
#[derive(Debug)]
pub(crate) enum Wanted {
    Fork {
        child: u64,
        dir: PathBuf,
        channel: OwnedFd,
        output: OwnedFd,
        exit: oneshot::Sender<Exit>,
    },
    Kill {
        child: u64,
    },
}

/// The way to the parent, while there is one.
#[derive(Debug, Clone)]
pub(crate) struct Parent {
    pub(crate) orders: mpsc::UnboundedSender<Wanted>,
    pub(crate) scratch: PathBuf,
    pub(crate) owner: Option<(u32, u32)>,
}

/// Keeps a parent until `ending`.
pub(crate) async fn keep(
    settings: Settings,
    pool: Arc<Pool>,
    state: watch::Sender<State>,
    ending: CancellationToken,
) {
    let mut pause = BACKOFF.0;
    loop {
        let life = live(&settings, &pool, &state);
        let Some(ended) = ending.run_until_cancelled(life).await else {
            break;
        };
        pool.set_parent(None);
        let was_ready = matches!(*state.borrow(), State::Ready(_));
        let why = ended.unwrap_or_else(|error| error);
        tracing::error!(error = why, retry_in_s = pause.as_secs(), "no Python host");
        state.send_replace(State::Broken(why));
        pause = if was_ready {
            BACKOFF.0
        } else {
            (pause * 2).min(BACKOFF.1)
        };
        if ending
            .run_until_cancelled(tokio::time::sleep(pause))
            .await
            .is_none()
        {
            break;
        }
        state.send_replace(State::Starting);
    }
    pool.set_parent(None);
}

/// One parent from its start to its end; answers why it ended.
async fn live(settings: &Settings, pool: &Arc<Pool>, state: &watch::Sender<State>) -> Result<String, String> {
    let began = Started::new(settings).map_err(|error| format!("cannot start Python: {error}"))?;
    let mut parent = began;
    let ready = tokio::time::timeout(settings.start_timeout(), parent.ready()).await;
    let ready = ready.map_err(|_| {
        format!(
            "lfx was not loaded within python.start_timeout_s = {} s",
            settings.start_timeout_s
        )
    })??;
    if !ready.threads.is_empty() {
        tracing::warn!(threads = ?ready.threads, "loading lfx left threads behind, which forked processes do not have");
    }
    tracing::info!(
        lfx = ready.lfx,
        python = ready.python,
        took_ms = ready.took_ms,
        rss = ready.resident_bytes,
        "Python host ready"
    );
    let (orders, mut wanted) = mpsc::unbounded_channel();
    pool.set_parent(Some(Parent {
        orders,
        scratch: parent.scratch.path().to_owned(),
        owner: parent.owner,
    }));
    state.send_replace(State::Ready(ready));
    let mut exits = HashMap::new();
    loop {
        tokio::select! {
            news = parent.news() => match news? {
                Some(News::Exited { child, exit }) => {
                    if let Some(told) = exits.remove(&child) {
                        let _: Result<(), Exit> = oneshot::Sender::send(told, exit);
                    }
                }
                Some(News::Forked { child, pid }) => tracing::debug!(child, pid, "forked"),
                Some(News::Ready(_) | News::Broken { .. }) => {}
                None => return Ok(parent.ended().await),
            },
            Some(order) = wanted.recv() => parent.order(order, &mut exits).await.map_err(|error| error.to_string())?,
        }
    }
}

struct Started {
    control: UnixStream,
    lines: Lines,
    buffer: Box<[u8]>,
    output: Arc<Mutex<Vec<u8>>>,
    exit: oneshot::Receiver<io::Result<ExitStatus>>,
    scratch: tempfile::TempDir,
    owner: Option<(u32, u32)>,
}

impl Started {
    fn new(settings: &Settings) -> io::Result<Self> {
        let python = venv::interpreter(&settings.venv()).map_err(io::Error::other)?;
        let scratch = tempfile::Builder::new().prefix("flowfleet-python-").tempdir()?;
        let owner = owner(&settings.user)?;
        write_shim(scratch.path(), owner)?;
        let (ours, theirs) = pair()?;
        let (output, printed) = pair()?;
        let further = &settings.environment;
        let bin = python.parent().unwrap_or(Path::new("/"));
        let environment = environment::of_parent(bin, scratch.path(), further, |name| std::env::var_os(name));
        let command = command(
            settings,
            &python,
            scratch.path(),
            owner,
            environment,
            theirs,
            printed,
        )?;
        let exit = spawn(command)?;
        Ok(Self {
            control: ours,
            lines: Lines::new(MAX_LINE),
            buffer: vec![0; 4 << 10].into(),
            output: listen(output),
            exit,
            scratch,
            owner,
        })
    }

    async fn ready(&mut self) -> Result<Ready, String> {
        loop {
            match self.news().await? {
                Some(News::Ready(ready)) => return Ok(ready),
                Some(News::Broken { message }) => return Err(format!("lfx does not load: {message}")),
                Some(_) => {}
                None => return Err(self.ended().await),
            }
        }
    }

    /// The next thing it says; nothing when it is gone. Cancel-safe.
    async fn news(&mut self) -> Result<Option<News>, String> {
        loop {
            match self.lines.next() {
                Ok(Some(line)) => {
                    let news = serde_json::from_slice(&line);
                    return news.map(Some).map_err(|error| format!("the parent sent {error}"));
                }
                Ok(None) => {}
                Err(_) => return Err("the parent sent a line without an end".to_owned()),
            }
            match self.control.read(&mut self.buffer).await {
                Ok(0) | Err(_) => return Ok(None),
                Ok(read) => self.lines.push(&self.buffer[..read]),
            }
        }
    }

    async fn order(
        &mut self,
        wanted: Wanted,
        exits: &mut HashMap<u64, oneshot::Sender<Exit>>,
    ) -> io::Result<()> {
        match wanted {
            Wanted::Fork {
                child,
                dir,
                channel,
                output,
                exit,
            } => {
                let line = line(&Order::Fork { child, dir: &dir });
                crate::descriptors::send(&self.control, &line, [channel.as_fd(), output.as_fd()]).await?;
                exits.insert(child, exit);
                Ok(())
            }
            Wanted::Kill { child } => {
                use tokio::io::AsyncWriteExt as _;
                self.control.write_all(&line(&Order::Kill { child })).await
            }
        }
    }

    /// Why it is gone.
    async fn ended(&mut self) -> String {
        let how = match tokio::time::timeout(TO_END, &mut self.exit).await {
            Ok(Ok(Ok(status))) => format!("the Python host ended: {status}"),
            _ => "the Python host is gone".to_owned(),
        };
        let output = self.output.lock().unwrap_or_else(PoisonError::into_inner);
        let text = String::from_utf8_lossy(&output);
        match text.trim().lines().next_back() {
            Some(last) => format!("{how}; it last said: {last}"),
            None => how,
        }
    }
}

fn line(order: &Order<'_>) -> Vec<u8> {
    // Numbers and a path of our own can always be written.
    let mut line = serde_json::to_vec(order).unwrap_or_default();
    line.push(b'\n');
    line
}

/// A connected pair: ours for Tokio, theirs to be inherited.
pub(crate) fn pair() -> io::Result<(UnixStream, OwnedFd)> {
    let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
    ours.set_nonblocking(true)?;
    Ok((UnixStream::from_std(ours)?, OwnedFd::from(theirs)))
}

/// Keeps the end of what a process prints.
pub(crate) fn listen(mut from: UnixStream) -> Arc<Mutex<Vec<u8>>> {
    let kept = Arc::new(Mutex::new(Vec::new()));
    let into = Arc::clone(&kept);
    tokio::spawn(async move {
        let mut buffer = [0; 4 << 10];
        while let Ok(read @ 1..) = from.read(&mut buffer).await {
            tracing::trace!(target: "flowfleet_python::output", "{}", String::from_utf8_lossy(&buffer[..read]));
            let mut kept = into.lock().unwrap_or_else(PoisonError::into_inner);
            kept.extend_from_slice(&buffer[..read]);
            let excess = kept.len().saturating_sub(KEPT);
            kept.drain(..excess);
        }
    });
    kept
}

fn write_shim(scratch: &Path, owner: Option<(u32, u32)>) -> io::Result<()> {
    let package = scratch.join("flowfleet_host");
    std::fs::create_dir(&package)?;
    for (name, text) in SHIM {
        std::fs::write(package.join(name), text)?;
    }
    if let Some((user, group)) = owner {
        let files = SHIM.iter().map(|(name, _)| package.join(name));
        for path in [scratch.to_owned(), package.clone()].into_iter().chain(files) {
            std::os::unix::fs::chown(path, Some(user), Some(group))?;
        }
    }
    Ok(())
}

/// The user and group that `user` names; nothing if it is empty.
fn owner(user: &str) -> io::Result<Option<(u32, u32)>> {
    if user.is_empty() {
        return Ok(None);
    }
    let passwd = std::fs::read_to_string("/etc/passwd")?;
    let found = passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        let (id, group) = (fields.nth(1)?, fields.next()?);
        let ids = (id.parse().ok()?, group.parse().ok()?);
        (name == user || id == user).then_some(ids)
    });
    let unknown = || io::Error::other(format!("python.user: there is no user {user:?}"));
    found.map(Some).ok_or_else(unknown)
}

fn command(
    settings: &Settings,
    python: &Path,
    scratch: &Path,
    owner: Option<(u32, u32)>,
    environment: BTreeMap<std::ffi::OsString, std::ffi::OsString>,
    control: OwnedFd,
    printed: OwnedFd,
) -> io::Result<Command> {
    let told = json!({
        "memory_bytes": u64::from(settings.memory_mib) << 20,
        "runs_per_child": settings.runs_per_child,
        "max_line_bytes": settings.line_bytes(),
        "die_with_parent": settings.wrapper.is_empty(),
    });
    let mut words = settings.wrapper.iter().map(std::ffi::OsString::from);
    let mut command = match words.next() {
        Some(program) => {
            let mut command = Command::new(program);
            command.args(words).arg(python);
            command
        }
        None => Command::new(python),
    };
    command
        .args(["-I", "-B", "-c", PROGRAM])
        .arg(scratch)
        .arg(told.to_string())
        .env_clear()
        .envs(environment)
        .current_dir(scratch)
        .stdin(Stdio::from(control))
        .stdout(Stdio::from(printed.try_clone()?))
        .stderr(Stdio::from(printed))
        .process_group(0);
    if let Some((user, group)) = owner {
        command.uid(user).gid(group);
    }
    Ok(command)
}

/// Starts it on a thread that lives as long as it does: the kernel ends the process with the thread that made it.
fn spawn(mut command: Command) -> io::Result<oneshot::Receiver<io::Result<ExitStatus>>> {
    let (sender, exit) = oneshot::channel();
    std::thread::Builder::new()
        .name("python-host".to_owned())
        .spawn(move || {
            let ended = match command.spawn() {
                Ok(mut child) => {
                    // Our copies of its descriptors go: then the end of the process is seen on them.
                    drop(command);
                    child.wait()
                }
                Err(error) => Err(error),
            };
            let _ = sender.send(ended);
        })?;
    Ok(exit)
}
