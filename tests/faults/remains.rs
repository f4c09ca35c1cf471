//! What is left at the very end, when nothing runs any more: the store against what clients were told, and against
//! itself.

use std::collections::HashMap;
use std::time::Instant;

use anyhow::{Context, ensure};
use serde_json::Value;

use super::audit::{Audit, End, LIVE, LOOK, REST};
use super::check::{Rule, Violation};
use crate::process::binary;

/// Of what `flowfleet doctor` finds.
const SHOWN: usize = 20;

impl Audit<'_> {
    /// The store holds what clients were told, what had ended is as it was, nothing is left over.
    pub async fn remains(&self) -> anyhow::Result<Vec<Violation>> {
        let mut violations = self.accepted().await?;
        violations.extend(self.left_over().await?);
        violations.extend(self.doctor().await?);
        let panics = self.fleet.members.iter().flat_map(|member| member.panics());
        violations.extend(panics.map(|line| Violation::new(Rule::Process, line)));
        Ok(violations)
    }

    async fn accepted(&self) -> anyhow::Result<Vec<Violation>> {
        let mut violations = Vec::new();
        let mut wrong = |rule, detail: String| violations.push(Violation::new(rule, detail));
        let rows = self
            .sql("select id, state, last_seq, coalesce(idempotency_key, '') from runs")
            .await?;
        let mut stored = HashMap::new();
        for row in rows.lines() {
            let fields: Vec<&str> = row.split('|').collect();
            ensure!(fields.len() == 4, "a row of runs: {row:?}");
            let end = End {
                state: fields[1].to_owned(),
                last_event: fields[2].parse()?,
            };
            stored.insert(fields[0].to_owned(), (fields[3].to_owned(), end));
        }
        let entries = self.ledger.all();
        for entry in &entries {
            match stored.remove(&entry.id) {
                None => wrong(
                    Rule::Accepted,
                    format!("{} was accepted as {} and is not there", entry.key, entry.id),
                ),
                Some((key, _)) if key != entry.key => {
                    wrong(
                        Rule::Accepted,
                        format!("{} was accepted for {} and has {key}", entry.id, entry.key),
                    );
                }
                Some((_, end)) => {
                    let before = self.ends.get(&entry.id);
                    if before.is_some_and(|before| *before != end) {
                        wrong(
                            Rule::EndsOnce,
                            format!("{} was {before:?} and became {end:?}", entry.id),
                        );
                    }
                }
            }
        }
        for (id, (key, _)) in stored {
            wrong(Rule::Accepted, format!("nobody was told of run {id} ({key})"));
        }
        Ok(violations)
    }

    async fn left_over(&self) -> anyhow::Result<Vec<Violation>> {
        let mut violations = Vec::new();
        let mut wrong = |detail: String| violations.push(Violation::new(Rule::Remains, detail));
        let began = Instant::now();
        let mut outbox = self.sql("select count(*) from outbox").await?;
        while outbox != "0" && began.elapsed() < REST {
            tokio::time::sleep(LOOK).await;
            outbox = self.sql("select count(*) from outbox").await?;
        }
        if outbox != "0" {
            wrong(format!("{outbox} rows are left in the outbox"));
        }
        let checkpoints =
            format!("select count(*) from checkpoints c join runs r on r.id = c.run_id where not {LIVE}");
        let checkpoints = self.sql(&checkpoints).await?;
        if checkpoints != "0" {
            wrong(format!("{checkpoints} checkpoints of runs that have ended"));
        }
        Ok(violations)
    }

    /// What operators would be told.
    async fn doctor(&self) -> anyhow::Result<Vec<Violation>> {
        let done = tokio::process::Command::new(binary("flowfleet"))
            .args([
                "doctor",
                "--deep",
                "--json",
                "--since",
                "all",
                "--store",
                &self.fleet.store_url,
            ])
            .output()
            .await?;
        let said = String::from_utf8_lossy(&done.stderr);
        let found: Value =
            serde_json::from_slice(&done.stdout).with_context(|| format!("flowfleet doctor: {said}"))?;
        let looked_at = found["runs"].as_u64();
        let mut violations = Vec::new();
        if looked_at != Some(self.ledger.len() as u64) {
            let what = format!("looked at {looked_at:?} of {} runs: {said}", self.ledger.len());
            violations.push(Violation::new(Rule::Doctor, what));
        }
        if !done.status.success() {
            violations.push(Violation::new(
                Rule::Doctor,
                format!("{}: {}", done.status, found["invariants"]),
            ));
        }
        for violation in found["found"].as_array().into_iter().flatten().take(SHOWN) {
            violations.push(Violation::new(Rule::Doctor, violation.to_string()));
        }
        Ok(violations)
    }
}
