//! What both sides need to run: model servers, a small web, files.

use std::net::SocketAddr;
use std::sync::Arc;

use flowfleet_engine::{InMemory, Memory};
use flowfleet_mock_model::Handle;
use tempfile::TempDir;
use tokio::runtime::Runtime;

use crate::case::{Case, Ended};
use crate::compare::{Verdict, compared};
use crate::host::Python;
use crate::ours::{self, Ours};
use crate::reference::Lfx;
use crate::{pages, starters, table};

/// Starters with several agents at once, in one conversation.
const SIDE_BY_SIDE: [&str; 1] = ["Text Sentiment Analysis"];

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
        Lfx::start(self.pages, self.folder.path(), false)
    }

    /// For many flows of the same components.
    pub(crate) fn quick_lfx(&self) -> Lfx {
        Lfx::start(self.pages, self.folder.path(), true)
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

    /// The same conversation natively and in the Python host: how its first turn that differs went, or its last.
    pub(crate) fn converse(&self, python: &Python, case: &Case, turns: usize) -> Verdict {
        let memories: [Arc<dyn Memory>; 2] = [Arc::new(InMemory::default()), Arc::new(InMemory::default())];
        let mut verdict = Verdict::Same;
        for turn in 0..turns {
            let (run_id, model) = (format!("turn-{turn}"), self.model(case));
            let native = Arc::clone(&memories[0]);
            let ours = ours::in_conversation(case, &model, self.pages, self.folder.path(), &run_id, native);
            let hosted = python.run(self, case, &run_id, Some(Arc::clone(&memories[1])));
            verdict = match hosted {
                // Whether branches side by side hear what the other said is chance: lfx runs them in waves.
                Ok(hosted) if SIDE_BY_SIDE.contains(&case.name.as_str()) => {
                    let (ours, hosted) = (ours.unasked(), hosted.unasked());
                    compared(case, &ours, &hosted)
                }
                Ok(hosted) => compared(case, &ours, &hosted),
                Err(why) => Verdict::Differs(why),
            };
            if !matches!(verdict, Verdict::Same) {
                break;
            }
        }
        verdict
    }
}
