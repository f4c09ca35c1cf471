//! What both sides need to run: model servers, a small web, files.

use std::net::SocketAddr;

use flowfleet_mock_model::Handle;
use tempfile::TempDir;
use tokio::runtime::Runtime;

use crate::case::{Case, Ended};
use crate::ours::{self, Ours};
use crate::reference::Lfx;
use crate::{pages, starters, table};

/// Servers run beside the flows, so that the time that a flow takes is its own.
#[derive(Debug)]
pub(crate) struct Stage {
    pub(crate) servers: Runtime,
    pub(crate) pages: SocketAddr,
    pub(crate) folder: TempDir,
}

impl Stage {
    pub(crate) fn new() -> Self {
        let servers = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let pages = servers.block_on(pages::serve());
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in starters::FILES {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        Self {
            servers,
            pages,
            folder,
        }
    }

    pub(crate) fn lfx(&self) -> Lfx {
        Lfx::start(self.pages, self.folder.path())
    }

    pub(crate) fn model(&self, case: &Case) -> Handle {
        let served = flowfleet_mock_model::spawn(case.model.clone());
        self.servers.block_on(served).expect("a free port")
    }

    pub(crate) fn ours(&self, case: &Case) -> Ours {
        ours::run(case, &self.model(case), self.pages, self.folder.path())
    }

    pub(crate) fn theirs(&self, lfx: &mut Lfx, case: &Case) -> Ended {
        lfx.run(case, &self.model(case))
    }

    /// Natively and in lfx.
    pub(crate) fn compare(&self, lfx: &mut Lfx, case: &Case) -> table::Row {
        let theirs = self.theirs(lfx, case);
        table::Row::of(case, &self.ours(case), &theirs)
    }
}
