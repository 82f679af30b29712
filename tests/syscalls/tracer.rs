//! strace on a running server: which thread made which system calls.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::common::process::Process;
use super::counts::CallCounts;

/// strace attaches and leaves in milliseconds; this is for a machine under full load.
const LIMIT: Duration = Duration::from_secs(30);

/// Follows every thread of a process until it is finished or dropped.
pub(crate) struct CallTracer {
    strace: Process,
    server: u32,
    folder: PathBuf,
}

impl CallTracer {
    /// Returns once every thread is traced. Each gets a file in `folder`, which must be new.
    pub(crate) fn attach(server: u32, folder: &Path) -> Self {
        fs::create_dir(folder).unwrap();
        let mut command = Command::new("strace");
        // Only the names count: without taking the arguments apart strace is faster.
        command.args(["-f", "-ff", "-e", "raw=all", "-e", "signal=none", "-o"]);
        command.arg(folder.join("calls")).args(["-p", &server.to_string()]);
        let strace = Process::start(command);
        strace.stderr.wait_line("attached", LIMIT);
        Self { strace, server, folder: folder.to_owned() }
    }

    /// The calls of each thread since, by the threads' names.
    pub(crate) fn finish(mut self) -> BTreeMap<String, CallCounts> {
        // strace ends by the signal with which it was asked to; its files are whole then.
        self.strace.signal("INT");
        self.strace.wait(LIMIT).expect("the end of strace");
        let mut by_thread = BTreeMap::<String, CallCounts>::new();
        for file in fs::read_dir(&self.folder).unwrap().map(|entry| entry.unwrap().path()) {
            let id = file.extension().unwrap().to_string_lossy().into_owned();
            let calls = by_thread.entry(self.name_of(&id)).or_default();
            for call in fs::read_to_string(&file).unwrap().lines().filter_map(name_call) {
                *calls.entry(call.to_owned()).or_default() += 1;
            }
        }
        by_thread
    }

    /// A thread or process that has ended meanwhile has no name any more.
    fn name_of(&self, id: &str) -> String {
        let file = format!("/proc/{}/task/{id}/comm", self.server);
        fs::read_to_string(file).map_or("ended".to_owned(), |name| name.trim().to_owned())
    }
}

/// `read` of `read(0x3, 0x7f, 0x10) = 0x10`; None of `+++ exited with 0 +++`.
fn name_call(line: &str) -> Option<&str> {
    let (name, _) = line.split_once('(')?;
    name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_').then_some(name)
}
