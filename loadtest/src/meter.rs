//! Processor time and memory of a process and its child processes, read from /proc before and after
//! a run.

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::Context;

/// Measures a process from its creation on.
#[derive(Debug)]
pub(crate) struct ProcessMeter {
    pid: u32,
    children: bool,
    before: Duration,
    threads: HashMap<u32, Duration>,
}

/// The cost of a process since then, with its child processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ProcessCost {
    /// utime + stime of all threads, in steps of 10 ms.
    pub(crate) processor: Duration,
    /// The same of the busiest thread. Threads that ended before the run did do not count.
    pub(crate) busiest_thread: Duration,
    /// VmRSS at the end, bytes. Pages that processes share count for each.
    pub(crate) resident: u64,
    /// VmHWM, bytes: the greatest memory of each process, before the run too.
    pub(crate) resident_max: u64,
}

impl ProcessMeter {
    pub(crate) fn begin(pid: u32) -> anyhow::Result<Self> {
        Self::new(pid, true)
    }

    /// This process, without the private server that it may have started.
    pub(crate) fn begin_own() -> anyhow::Result<Self> {
        Self::new(std::process::id(), false)
    }

    fn new(pid: u32, children: bool) -> anyhow::Result<Self> {
        let family = ProcessTree::read(pid, children)
            .with_context(|| format!("there is no process {pid}"))?;
        Ok(Self { pid, children, before: family.processor, threads: family.threads() })
    }

    /// None if the process has ended meanwhile.
    pub(crate) fn end(&self) -> Option<ProcessCost> {
        let family = ProcessTree::read(self.pid, self.children)?;
        let memory =
            |field| family.pids.iter().filter_map(|pid| read_status_bytes(*pid, field)).sum();
        let threads = family.threads().into_iter().map(|(thread, now)| {
            let before = self.threads.get(&thread).copied().unwrap_or_default();
            now.saturating_sub(before)
        });
        Some(ProcessCost {
            processor: family.processor.saturating_sub(self.before),
            busiest_thread: threads.max().unwrap_or_default(),
            resident: memory("VmRSS:"),
            resident_max: memory("VmHWM:"),
        })
    }
}

/// A process and its descendants.
struct ProcessTree {
    pids: Vec<u32>,
    /// Of the living processes, and of the child processes for which they have waited.
    processor: Duration,
}

impl ProcessTree {
    fn read(pid: u32, children: bool) -> Option<Self> {
        if !children {
            return Some(Self { pids: vec![pid], processor: ProcessStat::read(pid)?.processor });
        }

        // A process that ends meanwhile has no stat and is left out.
        let stats: HashMap<u32, ProcessStat> = fs::read_dir("/proc")
            .ok()?
            .filter_map(|entry| {
                let pid = entry.ok()?.file_name().to_str()?.parse().ok()?;
                Some((pid, ProcessStat::read(pid)?))
            })
            .collect();
        let mut family = Self { pids: vec![pid], processor: stats.get(&pid)?.processor };

        // `pids` is the queue of the search as well: each child that it gets is searched for
        // children in its turn.
        let mut looked_at = 0;
        while let Some(&parent) = family.pids.get(looked_at) {
            looked_at += 1;
            for (child, stat) in stats.iter().filter(|(_, stat)| stat.parent == parent) {
                family.pids.push(*child);
                family.processor += stat.processor;
            }
        }
        Some(family)
    }

    /// Processor time of each living thread.
    fn threads(&self) -> HashMap<u32, Duration> {
        let mut threads = HashMap::new();
        for pid in &self.pids {
            let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else { continue };
            threads.extend(tasks.flatten().filter_map(|task| read_thread_time(&task.path())));
        }
        threads
    }
}

/// The thread of a folder of /proc/PID/task, with its processor time.
fn read_thread_time(task: &Path) -> Option<(u32, Duration)> {
    let stat = ProcessStat::parse(&fs::read_to_string(task.join("stat")).ok()?)?;
    Some((task.file_name()?.to_str()?.parse().ok()?, stat.own))
}

/// A process and its descendants, as they are now.
pub(crate) fn list_process_tree(pid: u32) -> Vec<u32> {
    ProcessTree::read(pid, true).map(|family| family.pids).unwrap_or_default()
}

struct ProcessStat {
    parent: u32,
    processor: Duration,
    /// Without child processes that have ended.
    own: Duration,
}

impl ProcessStat {
    /// Fields 4 and 14 to 17 of proc(5), counted after the name in parentheses: ppid, utime, stime,
    /// cutime, cstime.
    fn read(pid: u32) -> Option<Self> {
        Self::parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
    }

    fn parse(line: &str) -> Option<Self> {
        let fields: Vec<&str> = line.rsplit_once(')')?.1.split_whitespace().collect();
        let (processor, own) = (sum_ticks(fields.get(11..15)?), sum_ticks(fields.get(11..13)?));
        Some(Self { parent: fields.get(1)?.parse().ok()?, processor, own })
    }
}

fn sum_ticks(fields: &[&str]) -> Duration {
    let ticks: u64 = fields.iter().map(|field| field.parse::<u64>().unwrap_or(0)).sum();
    Duration::from_millis(ticks * MILLISECONDS_PER_TICK)
}

/// USER_HZ is 100 on every architecture that ringboot supports.
const MILLISECONDS_PER_TICK: u64 = 10;

fn read_status_bytes(pid: u32, field: &str) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(field))?;
    Some(line.split_whitespace().next()?.parse::<u64>().ok()? * 1024)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::io::{BufRead, BufReader, Write};
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn the_numbers_of_a_stat_line_are_found_after_a_hostile_name() {
        let line = "77 (a) b (c)) S 5 77 77 0 -1 4194560 1 2 3 4 100 20 3 4 20 0 1 0 55 1 1";
        let stat = ProcessStat::parse(line).unwrap();
        assert_eq!((stat.parent, stat.processor), (5, Duration::from_millis(1270)));
        assert_eq!(stat.own, Duration::from_millis(1200));
    }

    #[test]
    fn the_work_of_children_counts_living_or_ended() {
        let work = "i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done";
        let script =
            format!("read x; sh -c '{work}'; echo one; read x; sh -c '{work}; echo two; read x'");
        let mut command = Command::new("sh");
        command.arg("-c").arg(script).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut parent = command.spawn().unwrap();
        let mut input = parent.stdin.take().unwrap();
        let mut lines = BufReader::new(parent.stdout.take().unwrap()).lines();
        let meter = ProcessMeter::begin(parent.id()).unwrap();
        let mut after_a_line = || {
            input.write_all(b"\n").unwrap();
            lines.next().unwrap().unwrap();
            meter.end().unwrap().processor
        };
        let waited_for = after_a_line();
        let living = after_a_line();
        assert!(waited_for > Duration::ZERO && living > waited_for, "{waited_for:?} {living:?}");
        drop(input);
        parent.wait().unwrap();
        assert_eq!(meter.end(), None);
    }

    #[test]
    fn the_busiest_thread_is_told_from_the_others() {
        const WORK: Duration = Duration::from_millis(60);
        let meter = ProcessMeter::begin(std::process::id()).unwrap();
        let (done, worked) = std::sync::mpsc::channel();
        let (looked, go) = std::sync::mpsc::channel::<()>();
        let busy = std::thread::spawn(move || {
            let own = || {
                ProcessStat::parse(&fs::read_to_string("/proc/thread-self/stat").unwrap())
                    .unwrap()
                    .own
            };
            while own() < WORK {}
            done.send(()).unwrap();
            // It lives until somebody has looked.
            let _ = go.recv();
        });
        worked.recv().unwrap();
        let spent = meter.end().unwrap();
        drop(looked);
        busy.join().unwrap();
        assert!(
            spent.busiest_thread >= WORK && spent.busiest_thread <= spent.processor,
            "{spent:?}"
        );
    }

    #[test]
    fn our_own_process_has_memory_and_a_missing_one_is_refused() {
        let spent = ProcessMeter::begin(std::process::id()).unwrap().end().unwrap();
        assert!(spent.resident > 1 << 20 && spent.resident_max >= spent.resident, "{spent:?}");
        assert!(ProcessMeter::begin(u32::MAX).is_err());
    }
}
