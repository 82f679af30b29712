//! Child processes: started with their output collected, waited for with a time limit, gone when
//! dropped.

use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::time::Duration;

use super::watched::Transcript;

/// Fails with the name of the package to install where a program or file is missing: a test never
/// skips by itself.
pub fn need(wanted: &[(&str, &str)]) {
    for (program, package) in wanted {
        // Joining an absolute path gives that path.
        let found = ["/usr/sbin", "/usr/bin", "/sbin", "/bin"]
            .iter()
            .any(|dir| Path::new(dir).join(program).exists());
        assert!(
            found,
            "{program} is missing: install the Debian package {package}, or run tests/run.sh, \
             which does"
        );
    }
}

/// A script of `tests/common/clients`, which a DHCP client runs at each event. It stands in the
/// repository: a script that a test writes cannot be written or run (ETXTBSY) while a client before
/// it still starts it, or while a child of another thread still holds it open.
pub fn client_script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/common/clients").join(name)
}

/// A process of the test's own, killed when dropped.
pub struct Process {
    name: String,
    child: Child,
    pub stdout: Transcript,
    pub stderr: Transcript,
}

impl Process {
    /// Starts the command with no input. The command must be one process (`ip netns exec` becomes
    /// what it starts).
    pub fn start(command: Command) -> Self {
        let (mut process, output) = Self::start_with_raw_output(command);
        process.stdout = Transcript::of(output);
        process
    }

    /// For tcpdump, whose standard output is packets: the caller reads it.
    pub fn start_with_raw_output(mut command: Command) -> (Self, ChildStdout) {
        let name = format!("{command:?}");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child =
            command.spawn().unwrap_or_else(|error| panic!("{name} did not start: {error}"));
        let output = child.stdout.take().expect("piped above");
        let stderr = Transcript::of(child.stderr.take().expect("piped above"));
        (Self { name, child, stdout: Transcript::default(), stderr }, output)
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal by name, such as `TERM` or `KILL`.
    pub fn signal(&self, signal: &str) {
        let sent =
            Command::new("sh").arg("-c").arg(format!("kill -{signal} {}", self.pid())).status();
        assert!(
            sent.is_ok_and(|status| status.success()),
            "kill -{signal} {}: {}",
            self.pid(),
            self.name
        );
    }

    /// The exit status, once the error output has ended; None after `limit`.
    pub fn wait(&mut self, limit: Duration) -> Option<ExitStatus> {
        let ended = self.stderr.wait_end(limit);
        ended.then(|| self.child.wait().expect("a child of ours"))
    }

    /// SIGTERM, then the exit status; fails the test where the process is still there after
    /// `limit`.
    pub fn stop(&mut self, limit: Duration) -> ExitStatus {
        self.signal("TERM");
        self.wait(limit)
            .unwrap_or_else(|| panic!("{} did not stop within {limit:?} of SIGTERM", self.name))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a finished command said.
#[derive(Debug)]
pub struct Output {
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
}

impl Output {
    /// Fails the test unless the command succeeded.
    pub fn ok(self) -> Self {
        assert!(self.status.success(), "{self:#?}");
        self
    }

    /// Fails the test unless the command failed.
    pub fn failed(self) -> Self {
        assert!(!self.status.success(), "{self:#?}");
        self
    }
}

/// Runs a command to its end; fails the test where it takes longer than `limit`.
pub fn run(command: Command, limit: Duration) -> Output {
    let mut process = Process::start(command);
    let status = process.wait(limit).unwrap_or_else(|| {
        panic!(
            "{} took more than {limit:?}:\n{}{}",
            process.name,
            process.stdout.text(),
            process.stderr.text()
        )
    });
    process.stdout.wait_end(limit);
    Output { status, stdout: process.stdout.text(), stderr: process.stderr.text() }
}
