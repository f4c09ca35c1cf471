//! Who takes part in what is measured side by side, and who had to be left out.

use crate::Bench;
use crate::contender::Contender;
use crate::floor::Floor;
use crate::flowfleet::Flowfleet;
use crate::peers;
use crate::report::{Part, complain};

pub(super) const OURS: &str = "flowfleet";
pub(super) const FLOOR: &str = "floor";
pub(super) const CELERY: &str = "celery";

/// Contenders that can still be measured, Flowfleet first.
pub(super) struct Lineup {
    pub(super) contenders: Vec<Box<dyn Contender>>,
    pub(super) notes: Vec<String>,
}

impl Lineup {
    /// Flowfleet and whoever else was asked for, not prepared yet.
    pub(super) fn of(bench: &Bench) -> Self {
        let mut contenders: Vec<Box<dyn Contender>> = vec![Box::new(Flowfleet::default())];
        let others =
            std::iter::once(Box::new(Floor::default()) as Box<dyn Contender>).chain(peers::contenders());
        contenders.extend(others.filter(|other| bench.options.wants(other.name())));
        Self {
            contenders,
            notes: Vec::new(),
        }
    }

    /// Prepares all. Only Flowfleet must be there.
    pub(super) async fn prepare(&mut self, bench: &Bench) -> anyhow::Result<()> {
        let mut ready = Vec::new();
        for mut contender in std::mem::take(&mut self.contenders) {
            complain(&format!("preparing {} ...", contender.name()));
            match contender.prepare(bench).await {
                Ok(()) => ready.push(contender),
                Err(error) => self.left_out(contender, "cannot be prepared", error).await?,
            }
        }
        self.contenders = ready;
        Ok(())
    }

    /// Notes why a contender is not in the tables. Without Flowfleet there is nothing to compare.
    pub(super) async fn left_out(
        &mut self,
        mut contender: Box<dyn Contender>,
        why: &str,
        error: anyhow::Error,
    ) -> anyhow::Result<()> {
        if contender.name() == OURS {
            return Err(error);
        }
        let note = format!("{} is left out: it {why}: {error:#}", contender.name());
        complain(&note);
        self.notes.push(note);
        if let Err(error) = contender.finish().await {
            complain(&format!("{}: {error:#}", contender.name()));
        }
        Ok(())
    }

    /// Stops all and puts what a reader must know into the part.
    pub(super) async fn finish(mut self, part: &mut Part) -> anyhow::Result<()> {
        for contender in &mut self.contenders {
            part.notes
                .push(format!("{}: {}", contender.name(), contender.about()));
            contender.finish().await?;
        }
        part.notes.append(&mut self.notes);
        Ok(())
    }
}
