//! Samples of running processes by `perf`, sorted by the kind of code they fell into.

use std::collections::HashMap;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, ensure};

use crate::parts::scale::Bed;
use crate::usage;

/// Not a divisor of anything that happens regularly.
const HERTZ: &str = "499";

/// Kinds of code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Group {
    Own,
    Engine,
    Http,
    Json,
    Sql,
    Amqp,
    Redis,
    Runtime,
    Standard,
    Allocator,
    Copying,
    Kernel,
    Other,
}

impl Group {
    pub(super) const ALL: [Self; 13] = [
        Self::Own,
        Self::Engine,
        Self::Http,
        Self::Json,
        Self::Sql,
        Self::Amqp,
        Self::Redis,
        Self::Runtime,
        Self::Standard,
        Self::Allocator,
        Self::Copying,
        Self::Kernel,
        Self::Other,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Own => "the program's own",
            Self::Engine => "engine",
            Self::Http => "HTTP",
            Self::Json => "JSON",
            Self::Sql => "SQL client and store",
            Self::Amqp => "AMQP client and queue",
            Self::Redis => "Redis client and bus",
            Self::Runtime => "runtime, tracing, metrics",
            Self::Standard => "standard library",
            Self::Allocator => "allocator",
            Self::Copying => "copying and comparing",
            Self::Kernel => "kernel",
            Self::Other => "other libraries",
        }
    }

    /// Of a function in a shared object.
    fn of(symbol: &str, object: &str) -> Self {
        let file = object.rsplit('/').next().unwrap_or(object);
        if file.starts_with("[kernel") || file.starts_with("[guest.kernel") {
            return Self::Kernel;
        }
        let any = |parts: &[&str]| parts.iter().any(|part| symbol.contains(part));
        if any(&[
            "malloc",
            "calloc",
            "realloc",
            "cfree",
            "int_free",
            "unlink_chunk",
            "_mi_",
            "mi_heap",
            "je_",
        ]) || symbol.starts_with("mi_")
        {
            return Self::Allocator;
        }
        if any(&["memmove", "memcpy", "memset", "memcmp", "memchr"]) {
            return Self::Copying;
        }
        let Some(package) = package(symbol) else {
            return if file.starts_with("flowfleet")
                || file == "postgres"
                || file == "beam.smp"
                || file.starts_with("redis")
            {
                Self::Own
            } else {
                Self::Other
            };
        };
        Self::of_package(package)
    }

    fn of_package(package: &str) -> Self {
        let starts = |names: &[&str]| names.iter().any(|name| package.starts_with(name));
        match package {
            "flowfleet_engine" => Self::Engine,
            "flowfleet_store" => Self::Sql,
            "flowfleet_queue" => Self::Amqp,
            "flowfleet_bus" => Self::Redis,
            "core" | "alloc" | "std" | "hashbrown" => Self::Standard,
            "itoa" | "ryu" | "zmij" | "indexmap" => Self::Json,
            "nom" | "lapin" | "cookie_factory" | "executor_trait" => Self::Amqp,
            "bytes" | "slab" | "mio" | "metrics" | "jiff" | "uuid" | "moka" | "tagptr" => Self::Runtime,
            "http" | "h2" | "matchit" | "httparse" | "url" => Self::Http,
            _ if starts(&["flowfleet"]) => Self::Own,
            _ if starts(&["serde"]) => Self::Json,
            _ if starts(&["sqlx"]) => Self::Sql,
            _ if starts(&["amq_", "async_rs", "pinky"]) => Self::Amqp,
            _ if starts(&["fred", "redis_protocol"]) => Self::Redis,
            _ if starts(&["hyper", "axum", "tower", "reqwest", "http_"]) => Self::Http,
            _ if starts(&[
                "tokio",
                "futures",
                "tracing",
                "metrics",
                "parking_lot",
                "crossbeam",
                "opentelemetry",
            ]) =>
            {
                Self::Runtime
            }
            _ => Self::Other,
        }
    }
}

/// The crate that a demangled symbol begins with: `<alloc::vec::Vec<T> as …>::f` is of `alloc`.
fn package(symbol: &str) -> Option<&str> {
    let end = symbol.find("::")?;
    // The newer mangling writes `core[1a2b3c]::`.
    let head = &symbol[..end];
    let head = head
        .strip_suffix(']')
        .map_or(head, |open| open.rsplit_once('[').map_or(open, |(name, _)| name));
    let start = head
        .rfind(|c: char| !(c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_'))
        .map_or(0, |at| at + 1);
    Some(&head[start..]).filter(|name| !name.is_empty())
}

/// What the samples say.
pub(super) struct Profile {
    shares: HashMap<(String, Group), f64>,
}

impl Profile {
    /// Which part of a process's samples fell into a kind of code.
    pub(super) fn share(&self, process: &str, group: Group) -> Option<f64> {
        self.shares.get(&(process.to_owned(), group)).copied()
    }

    fn read(text: &str, processes: &HashMap<u32, &'static str>) -> Self {
        let (mut counts, mut all) = (HashMap::new(), HashMap::<&str, f64>::new());
        for line in text.lines() {
            let Some((process, group)) = sample(line, processes) else {
                continue;
            };
            *counts.entry((process.to_owned(), group)).or_insert(0.0) += 1.0;
            *all.entry(process).or_default() += 1.0;
        }
        for ((process, _), count) in &mut counts {
            *count /= all[process.as_str()];
        }
        Self { shares: counts }
    }
}

/// One line of `perf script -F pid,ip,sym,dso`: `  123     55d0aa tokio::park (/usr/bin/x)`.
fn sample(line: &str, processes: &HashMap<u32, &'static str>) -> Option<(&'static str, Group)> {
    let (pid, rest) = line.trim().split_once(char::is_whitespace)?;
    let (_, rest) = rest.trim().split_once(' ')?;
    let (symbol, object) = rest.rsplit_once(" (")?;
    let process = processes.get(&pid.parse().ok()?)?;
    Some((process, Group::of(symbol, object.trim_end_matches(')'))))
}

/// `perf` at work.
pub(super) struct Recorder {
    child: Child,
    folder: tempfile::TempDir,
    processes: HashMap<u32, &'static str>,
}

impl Recorder {
    pub(super) fn start(bed: &Bed) -> anyhow::Result<Self> {
        let mut processes = HashMap::from([
            (bed.fleet.dispatcher.pid(), "dispatcher"),
            (bed.fleet.workers[0].pid(), "worker"),
        ]);
        let database = bed.fleet.database.url.rsplit('/').next().unwrap_or_default();
        for pid in usage::pids() {
            let Some(line) = usage::command_line(pid) else {
                continue;
            };
            if line.starts_with("postgres: ") && line.contains(database) {
                processes.insert(pid, "postgres");
            } else if line.contains("beam.smp") && line.contains("-s rabbit") {
                processes.insert(pid, "rabbitmq");
            } else if line.starts_with("redis-server") || line.contains("/redis-server") {
                processes.insert(pid, "redis");
            }
        }
        let folder = tempfile::tempdir()?;
        let pids: Vec<String> = processes.keys().map(u32::to_string).collect();
        let mut child = Command::new("perf")
            .args(["record", "-q", "-e", "cpu-clock", "-F", HERTZ, "-o"])
            .arg(folder.path().join("data"))
            .args(["-p", &pids.join(",")])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .context("perf does not start (Debian: apt-get install linux-perf)")?;
        std::thread::sleep(Duration::from_millis(500));
        if child.try_wait()?.is_some() {
            let output = child.wait_with_output()?;
            let text = String::from_utf8_lossy(&output.stderr);
            anyhow::bail!("perf may not look: {}", text.lines().next().unwrap_or_default());
        }
        Ok(Self {
            child,
            folder,
            processes,
        })
    }

    pub(super) async fn stop(mut self) -> anyhow::Result<Profile> {
        let pid = self.child.id().to_string();
        ensure!(
            Command::new("kill").args(["-INT", &pid]).status()?.success(),
            "perf is gone"
        );
        tokio::task::spawn_blocking(move || {
            self.child.wait()?;
            let output = Command::new("perf")
                .args(["script", "-F", "pid,ip,sym,dso", "--no-inline", "-i"])
                .arg(self.folder.path().join("data"))
                .stdin(Stdio::null())
                .output()?;
            let text = String::from_utf8_lossy(&output.stdout);
            let profile = Profile::read(&text, &self.processes);
            ensure!(!profile.shares.is_empty(), "perf took no samples");
            Ok(profile)
        })
        .await?
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn symbols_have_a_kind() {
        let of = |symbol| Group::of(symbol, "/x/flowfleet-worker");
        assert_eq!(of("tokio::runtime::park"), Group::Runtime);
        assert_eq!(
            of("<alloc::vec::Vec<T,A> as core::clone::Clone>::clone"),
            Group::Standard
        );
        assert_eq!(of("<&mut serde_json::ser::Serializer<W> as X>::f"), Group::Json);
        assert_eq!(of("core[1a2b]::ptr::drop"), Group::Standard);
        assert_eq!(of("flowfleet_store::postgres::claim"), Group::Sql);
        assert_eq!(of("_int_malloc"), Group::Allocator);
        assert_eq!(of("__memmove_avx512_unaligned_erms"), Group::Copying);
        assert_eq!(Group::of("do_syscall_64", "[kernel.kallsyms]"), Group::Kernel);
        assert_eq!(
            Group::of("[unknown]", "/usr/lib/postgresql/15/bin/postgres"),
            Group::Own
        );
        assert_eq!(Group::of("[unknown]", "/usr/lib/libz.so.1"), Group::Other);
    }

    #[test]
    fn shares_add_up_by_process() {
        let text =
            "  7   55aa tokio::park (/x/flowfleet-worker)\n  7 55ab malloc (/lib/libc.so.6)\n 9 1 x (/y)\n\n";
        let profile = Profile::read(text, &HashMap::from([(7, "worker")]));
        assert_eq!(profile.share("worker", Group::Runtime), Some(0.5));
        assert_eq!(profile.share("worker", Group::Allocator), Some(0.5));
        assert_eq!(profile.share("worker", Group::Http), None);
    }
}
