//! System calls of the server under test: when its state was synced to the disk.

use std::time::Duration;

use super::process::Process;

const ATTACH_LIMIT: Duration = Duration::from_secs(20);

/// strace, attached to all threads of a process until dropped.
pub struct SyncTrace {
    strace: Process,
}

/// One fsync or fdatasync that succeeded, by the same clock as a capture's packets.
#[derive(Clone, Copy, Debug)]
pub struct Sync {
    pub began: Duration,
    pub ended: Duration,
}

impl SyncTrace {
    pub fn attach(pid: u32) -> Self {
        super::need(&[("strace", "strace")]);
        let mut command = std::process::Command::new("strace");
        command.args(["-f", "-ttt", "-T", "-e", "trace=fsync,fdatasync", "-p", &pid.to_string()]);
        let strace = Process::start(command);
        strace.stderr.wait_line("attached", ATTACH_LIMIT);
        Self { strace }
    }

    /// Waits for a sync that `wanted` accepts; fails the test where none comes.
    pub fn wait_sync(&self, limit: Duration, wanted: impl Fn(&Sync) -> bool) -> Sync {
        let found = self.strace.stderr.wait_for(limit, |text| text.lines().filter_map(parse).find(&wanted));
        found.unwrap_or_else(|missing| panic!("{missing:?}: no such sync; strace said:\n{}", self.strace.stderr.text()))
    }
}

/// `[pid 7] 1700000000.100000 fdatasync(9) = 0 <0.002>`; where another thread spoke in between, the end comes on a line of its
/// own as `1700000000.102000 <... fdatasync resumed>) = 0 <0.002>`, whose time is that end.
fn parse(line: &str) -> Option<Sync> {
    let (call, took) = line.strip_suffix('>')?.rsplit_once(" = 0 <")?;
    let took = Duration::from_secs_f64(took.parse().ok()?);
    let stamp = call.split_whitespace().find(|word| word.contains('.') && word.parse::<f64>().is_ok())?;
    let (seconds, micros) = stamp.split_once('.')?;
    let at = Duration::from_secs(seconds.parse().ok()?) + Duration::from_micros(micros.parse().ok()?);
    let ended = if call.contains("resumed") { at } else { at + took };
    Some(Sync { began: ended.saturating_sub(took), ended })
}
