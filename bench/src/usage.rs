//! CPU and memory of processes, read from `/proc`: of our own, and of whole services.

use std::collections::HashMap;
use std::fs;

use anyhow::Context as _;
use serde::Serialize;

/// The kernel reports times in units of a hundredth of a second on every platform we build for.
const TICKS_PER_SECOND: f64 = 100.0;

/// What one process, or all processes of a service, used since they started.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub(crate) struct Usage {
    pub(crate) cpu_s: f64,
    /// Resident memory. Of a service: pages that its processes share are counted once where the kernel says.
    pub(crate) memory_bytes: u64,
}

#[derive(Debug, Clone, Copy)]
struct Stat {
    parent: u32,
    own_s: f64,
    reaped_s: f64,
}

/// `/proc/PID/stat`. The name in brackets may hold anything, so fields are counted from its last bracket.
fn parse_stat(text: &str) -> Option<Stat> {
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    let seconds = |at: usize| Some(fields.get(at)?.parse::<f64>().ok()? / TICKS_PER_SECOND);
    Some(Stat {
        parent: fields.get(1)?.parse().ok()?,
        own_s: seconds(11)? + seconds(12)?,
        reaped_s: seconds(13)? + seconds(14)?,
    })
}

fn stat(pid: u32) -> Option<Stat> {
    parse_stat(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

fn kilobytes(file: &str, key: &str) -> Option<u64> {
    let text = fs::read_to_string(file).ok()?;
    let line = text.lines().find(|line| line.starts_with(key))?;
    Some(line.split_whitespace().nth(1)?.parse::<u64>().ok()? * 1024)
}

/// One process.
pub(crate) fn process(pid: u32) -> anyhow::Result<Usage> {
    let stat = stat(pid).with_context(|| format!("process {pid} has ended"))?;
    Ok(Usage {
        cpu_s: stat.own_s,
        memory_bytes: kilobytes(&format!("/proc/{pid}/status"), "VmRSS:").unwrap_or(0),
    })
}

pub(crate) fn parent(pid: u32) -> Option<u32> {
    stat(pid).map(|stat| stat.parent)
}

/// A process with all its descendants, those among them that have ended and were waited for included.
pub(crate) fn tree(root: u32) -> anyhow::Result<Usage> {
    let stats: HashMap<u32, Stat> = pids().filter_map(|pid| Some((pid, stat(pid)?))).collect();
    anyhow::ensure!(stats.contains_key(&root), "process {root} has ended");
    let mut usage = Usage::default();
    for (&pid, stat) in &stats {
        if !descends(pid, root, &stats) {
            continue;
        }
        usage.cpu_s += stat.own_s + stat.reaped_s;
        usage.memory_bytes += kilobytes(&format!("/proc/{pid}/smaps_rollup"), "Pss:")
            .or_else(|| kilobytes(&format!("/proc/{pid}/status"), "VmRSS:"))
            .unwrap_or(0);
    }
    Ok(usage)
}

fn descends(mut pid: u32, root: u32, stats: &HashMap<u32, Stat>) -> bool {
    // Parents that change while we read could make a circle: stop at a depth no service has.
    for _ in 0..64 {
        if pid == root {
            return true;
        }
        let Some(stat) = stats.get(&pid) else { return false };
        pid = stat.parent;
    }
    false
}

pub(crate) fn pids() -> impl Iterator<Item = u32> {
    fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
}

/// The command line of a process, its arguments separated by blanks.
pub(crate) fn command_line(pid: u32) -> Option<String> {
    let bytes = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    Some(String::from_utf8_lossy(&bytes).replace('\0', " "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_may_hold_brackets() {
        let stat =
            parse_stat("42 (a) b) S 7 42 42 0 -1 4194304 1 2 3 4 150 50 30 20 20 0 1 0 9 9 9").unwrap();
        assert_eq!((stat.parent, stat.own_s, stat.reaped_s), (7, 2.0, 0.5));
    }

    #[test]
    fn this_process_is_part_of_its_parents_tree() {
        let me = std::process::id();
        assert!(process(me).unwrap().memory_bytes > 0);
        let all: HashMap<u32, Stat> = pids().filter_map(|pid| Some((pid, stat(pid)?))).collect();
        assert!(descends(me, parent(me).unwrap(), &all));
        assert!(!descends(parent(me).unwrap(), me, &all));
    }
}
