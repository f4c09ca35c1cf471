//! Which peers there are, and the settings that were found to be their best.
//!
//! All figures that led here were taken on two cores; `bench/README.md` tells what was tried and dropped.

use super::install::Install;

/// Where a peer keeps its work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Keeps {
    /// Messages in RabbitMQ, results in PostgreSQL.
    RabbitmqAndPostgres,
    Postgres,
    /// A server of its own: the shared one keeps nothing on disk.
    OwnRedis,
}

/// A peer and how it is run.
#[derive(Debug)]
pub(super) struct Recipe {
    pub(super) name: &'static str,
    pub(super) about: &'static str,
    pub(super) install: Install,
    pub(super) keeps: Keeps,
    pub(super) workers: usize,
    /// Arguments of a worker's interpreter.
    pub(super) worker: &'static [&'static str],
    /// Arguments of the client's interpreter.
    pub(super) client: &'static [&'static str],
    /// Environment of client and workers.
    pub(super) env: &'static [(&'static str, &'static str)],
}

const CELERY_SETTINGS: &str = "quorum queue, confirmed publishes, acks_late, results in PostgreSQL over kept \
     connections, no gossip, mingle, heartbeat or events; a group is sent over 8 connections. Chunks are not used: \
     they store one result for many runs";

const PREFORK: [&str; 17] = celery("prefork", "2", "64");
const THREADS: [&str; 17] = celery("threads", "8", "16");

pub(super) fn all() -> Vec<Recipe> {
    vec![
        Recipe {
            name: "celery prefork",
            about: "Celery 5.7.0, 2 processes, prefetch 64 each",
            install: Install::Python { folder: "celery" },
            keeps: Keeps::RabbitmqAndPostgres,
            workers: 1,
            worker: &PREFORK,
            client: &["-B", "client.py"],
            env: &[("PEER_POOL", "prefork"), ("PEER_CONCURRENCY", "2")],
        },
        Recipe {
            name: "celery threads",
            about: "Celery 5.7.0, one process of 8 threads, prefetch 16 each",
            install: Install::Python { folder: "celery" },
            keeps: Keeps::RabbitmqAndPostgres,
            workers: 1,
            worker: &THREADS,
            client: &["-B", "client.py"],
            env: &[("PEER_POOL", "threads"), ("PEER_CONCURRENCY", "8")],
        },
        Recipe {
            name: "graphile-worker",
            about: "graphile-worker 0.17.3, one process, 64 jobs at once, fetched 500 at a time, completions batched. It \
                 keeps no results: its task inserts them, those of jobs that end together in one statement of ours",
            install: Install::Node {
                folder: "graphile-worker",
            },
            keeps: Keeps::Postgres,
            workers: 1,
            worker: &["worker.mjs"],
            client: &["client.mjs"],
            env: &[("PEER_CONCURRENCY", "64"), ("PEER_LOCAL_QUEUE", "500")],
        },
        Recipe {
            name: "bullmq",
            about: "BullMQ 6.7.0, one process, 100 jobs at once, on a Redis of its own with an append-only file that is \
                 synced before each answer; jobs and results are in that Redis, not in PostgreSQL",
            install: Install::Node { folder: "bullmq" },
            keeps: Keeps::OwnRedis,
            workers: 1,
            worker: &["worker.mjs"],
            client: &["client.mjs"],
            env: &[("PEER_CONCURRENCY", "100")],
        },
    ]
}

/// What all peers have in common and Flowfleet has not; part of every description.
pub(super) const NO_HTTP: &str = "called through its own client library, with no HTTP between";

impl Recipe {
    pub(super) fn describe(&self) -> String {
        match self.install {
            Install::Python { .. } => format!("{}; {CELERY_SETTINGS}; {NO_HTTP}", self.about),
            Install::Node { .. } => format!("{}; {NO_HTTP}", self.about),
        }
    }
}

const fn celery(pool: &'static str, concurrency: &'static str, prefetch: &'static str) -> [&'static str; 17] {
    [
        "-B",
        "-W",
        "ignore",
        "-m",
        "celery",
        "-A",
        "hello",
        "worker",
        "--pool",
        pool,
        "--concurrency",
        concurrency,
        "--prefetch-multiplier",
        prefetch,
        "--without-gossip",
        "--without-mingle",
        "--without-heartbeat",
    ]
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn versions_told_are_those_installed() {
        for recipe in all() {
            let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
                .join("peers")
                .join(recipe.install.folder());
            let (file, separator) = match recipe.install {
                Install::Python { .. } => ("requirements.txt", "celery=="),
                Install::Node { .. } => ("package.json", "\": \""),
            };
            let text = std::fs::read_to_string(folder.join(file)).unwrap();
            let version = recipe.about.split([' ', ',']).nth(1).unwrap();
            assert!(
                text.contains(&format!("{separator}{version}")),
                "{file} of {}",
                recipe.name
            );
        }
    }
}
