//! One child from its fork to its end: runs go in, what they say comes out, and whatever ends it is explained.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use crate::failure::End;
use crate::lines::Lines;
use crate::metrics::CRASHES_TOTAL;
use crate::parent::{self, Parent, Wanted};
use crate::pool::Pool;
use crate::protocol::{Ask, Call, Exit, Said, What};
use crate::settings::Settings;

/// How long the parent may take to say how a child ended.
const TO_EXPLAIN: Duration = Duration::from_secs(5);
/// How long the last words of a process that has ended may take to be read.
const TO_DRAIN: Duration = Duration::from_secs(1);
/// Bytes taken from the socket at once.
const READ: usize = 16 << 10;
/// Of all a run says, how many longest lines.
const LINES: usize = 4;

/// What a child is told.
#[derive(Debug)]
pub(crate) enum Command {
    Run {
        call: Box<Call>,
        told: mpsc::Sender<Told>,
    },
    /// Ends a run, by force if it must be. Another attempt of it, which tells somebody else, is left alone.
    Stop {
        run: String,
        told: mpsc::WeakSender<Told>,
        why: End,
    },
    /// It has nothing to do and gets nothing more.
    Retire,
}

/// What a run's caller hears.
#[derive(Debug)]
pub(crate) enum Told {
    Said(What),
    /// The process has ended.
    Ended {
        end: End,
        last_words: String,
        /// Nobody else's run was in it.
        alone: bool,
    },
}

#[derive(Debug)]
struct Running {
    told: mpsc::Sender<Told>,
    said: usize,
    /// It was told to stop.
    stopped: bool,
}

struct Child {
    id: u64,
    pool: Arc<Pool>,
    parent: Parent,
    settings: Settings,
    runs: HashMap<String, Running>,
    lines: Lines,
    buffer: Box<[u8]>,
    /// When it is killed, and why.
    doom: Option<(Instant, End)>,
    killed: Option<End>,
    asks: mpsc::UnboundedSender<Vec<u8>>,
    output: Arc<Mutex<Vec<u8>>>,
}

/// Forks a child and lives with it.
pub(crate) async fn live(
    id: u64,
    pool: Arc<Pool>,
    parent: Parent,
    settings: Settings,
    mut commands: mpsc::UnboundedReceiver<Command>,
) {
    let dir = parent.scratch.join(format!("child-{id}"));
    let forked = fork(id, &parent, &dir);
    let (channel, output, mut exit) = match forked {
        Ok(forked) => forked,
        Err(error) => {
            let reason = Some(format!("cannot fork: {error}"));
            let end = End::Exited(Exit {
                reason,
                ..Exit::default()
            });
            return refuse(&pool, id, commands, end).await;
        }
    };
    let (read, write) = channel.into_split();
    let (asks, asked) = mpsc::unbounded_channel();
    tokio::spawn(speak(write, asked));
    let mut child = Child {
        id,
        pool: Arc::clone(&pool),
        parent,
        lines: Lines::new(settings.line_bytes()),
        buffer: vec![0; READ].into(),
        settings,
        runs: HashMap::new(),
        doom: None,
        killed: None,
        asks,
        output: parent::listen(output),
    };
    let end = child.serve(&read, &mut commands, &mut exit).await;
    pool.gone(id);
    child.conclude(end).await;
    refuse(&pool, id, commands, End::Lost).await;
    // Half a second is enough for the kernel to let go of what the process had open.
    let _ = tokio::task::spawn_blocking(move || std::fs::remove_dir_all(dir)).await;
}

type Forked = (UnixStream, UnixStream, oneshot::Receiver<Exit>);

fn fork(id: u64, parent: &Parent, dir: &Path) -> std::io::Result<Forked> {
    std::fs::create_dir(dir)?;
    if let Some((user, group)) = parent.owner {
        std::os::unix::fs::chown(dir, Some(user), Some(group))?;
    }
    let (channel, theirs) = parent::pair()?;
    let (output, printed) = parent::pair()?;
    let (exit, exited) = oneshot::channel();
    let wanted = Wanted::Fork {
        child: id,
        dir: PathBuf::from(dir),
        channel: theirs,
        output: printed,
        exit,
    };
    let gone = |_| std::io::Error::other("the Python host is gone");
    parent.orders.send(wanted).map_err(gone)?;
    Ok((channel, output, exited))
}

/// Runs that were sent to a child that is no more.
async fn refuse(pool: &Pool, id: u64, mut commands: mpsc::UnboundedReceiver<Command>, end: End) {
    pool.gone(id);
    commands.close();
    while let Some(command) = commands.recv().await {
        if let Command::Run { told, .. } = command {
            let ended = Told::Ended {
                end: end.clone(),
                last_words: String::new(),
                alone: true,
            };
            let _ = told.send(ended).await;
        }
    }
}

/// Writes what the child is asked. A child that does not read holds up nobody else.
async fn speak(mut to: OwnedWriteHalf, mut asked: mpsc::UnboundedReceiver<Vec<u8>>) {
    while let Some(line) = asked.recv().await {
        if to.write_all(&line).await.is_err() {
            return;
        }
    }
}

impl Child {
    /// Until the process has ended, or the parent has.
    async fn serve(
        &mut self,
        read: &OwnedReadHalf,
        commands: &mut mpsc::UnboundedReceiver<Command>,
        exit: &mut oneshot::Receiver<Exit>,
    ) -> End {
        let mut wanted = true;
        loop {
            let doom = self.doom.as_ref().map_or_else(far, |(when, _)| *when);
            tokio::select! {
                command = commands.recv(), if wanted => match command {
                    Some(command) => self.told(command),
                    None => {
                        wanted = false;
                        self.kill(End::Lost);
                    }
                },
                ready = read.readable() => {
                    let open = ready.is_ok() && self.hear(read).await;
                    if !open {
                        let exit = tokio::time::timeout(TO_EXPLAIN, &mut *exit).await;
                        return self.ended(exit.ok().and_then(Result::ok));
                    }
                }
                found = &mut *exit => {
                    // What it said before it ended is in the socket still.
                    let rest = async { while read.readable().await.is_ok() && self.hear(read).await {} };
                    let _ = tokio::time::timeout(TO_DRAIN, rest).await;
                    return self.ended(found.ok());
                }
                () = tokio::time::sleep_until(doom), if self.doom.is_some() => {
                    if let Some((_, why)) = self.doom.take() {
                        self.kill(why);
                    }
                }
            }
        }
    }

    fn ended(&mut self, exit: Option<Exit>) -> End {
        match (self.killed.take(), exit) {
            (Some(why), _) => why,
            (None, Some(exit)) => End::Exited(exit),
            (None, None) => End::Lost,
        }
    }

    fn told(&mut self, command: Command) {
        match command {
            Command::Run { call, told } if self.runs.contains_key(&call.run) => {
                // An attempt of this run is still being ended here: what it says could not be told from the new one's.
                let ended = Told::Ended {
                    end: End::Lost,
                    last_words: String::new(),
                    alone: true,
                };
                let _ = told.try_send(ended);
                self.pool.done(self.id, false);
            }
            Command::Run { call, told } => {
                self.ask(&Ask::Run(&call));
                let running = Running {
                    told,
                    said: 0,
                    stopped: false,
                };
                self.runs.insert(call.run, running);
            }
            Command::Stop { run, told, why } => {
                let theirs = |running: &Running| {
                    told.upgrade()
                        .is_some_and(|told| told.same_channel(&running.told))
                };
                let Some(running) = self.runs.get_mut(&run).filter(|running| theirs(running)) else {
                    return;
                };
                running.stopped = true;
                self.ask(&Ask::Cancel { run: &run });
                let when = Instant::now() + self.settings.cancel_grace();
                if self.doom.as_ref().is_none_or(|(doom, _)| when < *doom) {
                    self.doom = Some((when, why));
                }
            }
            Command::Retire => self.kill(End::Lost),
        }
    }

    fn ask(&self, ask: &Ask<'_>) {
        match serde_json::to_vec(ask) {
            Ok(mut line) => {
                line.push(b'\n');
                // If it is gone, its exit says so.
                let _ = self.asks.send(line);
            }
            Err(error) => tracing::error!(%error, "a run cannot be written down"),
        }
    }

    fn kill(&mut self, why: End) {
        self.killed.get_or_insert(why);
        let _ = self.parent.orders.send(Wanted::Kill { child: self.id });
    }

    /// Takes what is there; false when there will be nothing more.
    async fn hear(&mut self, read: &OwnedReadHalf) -> bool {
        match read.try_read(&mut self.buffer) {
            Ok(0) => return false,
            Ok(bytes) => self.lines.push(&self.buffer[..bytes]),
            Err(error) => return error.kind() == std::io::ErrorKind::WouldBlock,
        }
        loop {
            match self.lines.next() {
                Ok(Some(line)) => self.line(&line).await,
                Ok(None) => return true,
                Err(_) => {
                    self.kill(End::TooMuch);
                    return true;
                }
            }
        }
    }

    async fn line(&mut self, line: &[u8]) {
        let Ok(said) = serde_json::from_slice::<Said>(line) else {
            return self.kill(End::Garbled);
        };
        let Some(running) = self.runs.get_mut(&said.run) else {
            return;
        };
        running.said += line.len();
        let ended = said.what.is_end();
        if running.said > LINES * self.settings.line_bytes() && !ended {
            return self.kill(End::TooMuch);
        }
        // A caller that has gone away has also said that its run is to stop.
        let _ = running.told.send(Told::Said(said.what)).await;
        if ended {
            let stopped = running.stopped;
            self.runs.remove(&said.run);
            if self.runs.values().all(|running| !running.stopped) {
                self.doom = None;
            }
            let large = said.resident_bytes > u64::from(self.settings.recycle_mib) << 20;
            // A run that was stopped may have left threads that still work.
            self.pool.done(self.id, stopped || large);
        }
    }

    /// Tells all whose runs it still had.
    async fn conclude(&mut self, end: End) {
        let alone = self.runs.len() == 1;
        if !self.runs.is_empty() {
            metrics::counter!(CRASHES_TOTAL, "reason" => end.reason()).increment(1);
            // What it printed last may be on its way.
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let output = self.output.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let last_words = String::from_utf8_lossy(&output).into_owned();
        for (run, running) in self.runs.drain() {
            tracing::debug!(run, ?end, "the process of a run has ended");
            let ended = Told::Ended {
                end: end.clone(),
                last_words: last_words.clone(),
                alone,
            };
            let _ = running.told.send(ended).await;
        }
    }
}

fn far() -> Instant {
    Instant::now() + Duration::from_secs(86_400)
}
