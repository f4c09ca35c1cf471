//! Other queues that do the same work, each a [`Contender`].
//!
//! Their programs are under `bench/peers/`, in their own languages. Here they are installed ([`install`]), started
//! and asked ([`program`]), and measured ([`peer`]); [`recipes`] says which there are and how each is tuned.

mod install;
mod peer;
mod program;
mod recipes;
mod redis;

use crate::contender::Contender;

/// Every peer, in the order of the tables.
pub(crate) fn contenders() -> Vec<Box<dyn Contender>> {
    recipes::all()
        .into_iter()
        .map(|recipe| Box::new(peer::Peer::new(recipe)) as Box<dyn Contender>)
        .collect()
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::Bench;
    use crate::args::Args;
    use crate::contender::Mode;
    use crate::fleet::Binaries;
    use crate::services::Services;

    /// Every peer does every part, small; `--nocapture` shows what it took.
    #[tokio::test]
    #[ignore = "installs the peers with pip and npm: cargo test -p bench -- --ignored peers"]
    async fn every_peer_finishes_what_it_is_given() {
        const RUNS: usize = 1_000;
        let folder = tempfile::tempdir().unwrap();
        for program in ["flowfleet", "flowfleet-dispatcher", "flowfleet-worker"] {
            std::fs::write(folder.path().join(program), "not started here").unwrap();
        }
        let bench = Bench {
            options: Args::parse_from(["bench", "throughput"]).options,
            services: Services::find().await.unwrap(),
            binaries: Binaries::in_folder(folder.path()).unwrap(),
        };
        for mut peer in contenders() {
            peer.prepare(&bench).await.unwrap();
            for mode in [Mode::Batch, Mode::Single { concurrency: 64 }] {
                let found = peer.throughput(mode, RUNS).await.unwrap();
                eprintln!("{}, {}: {found:?}", peer.name(), mode.name());
                assert_eq!(found.runs, RUNS);
                assert!(0.0 < found.submit_s && found.submit_s <= found.total_s);
                assert!(found.total_s <= found.seen_s.unwrap());
                let cpu = |wanted: &str| found.cpu.iter().find(|(process, _)| process == wanted);
                assert!(cpu("client").unwrap().1 > 0.0 && cpu("worker").unwrap().1 > 0.0);
                assert!(cpu("postgres").is_some() && cpu("redis").is_some());
            }
            let samples = peer.latency(10.0, 2).await.unwrap();
            eprintln!("{}: {samples:?}", peer.name());
            assert_eq!((samples.started.len(), samples.finished.len()), (20, 20));
            peer.finish().await.unwrap();
        }
    }
}
