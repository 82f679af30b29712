//! The system tests' world: namespaces, processes, captures, machines, file trees; each test binary uses its part.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

use std::path::Path;

pub mod capture;
pub mod net;
pub mod process;
pub mod root;
pub mod server;
pub mod vm;
pub mod watched;

/// Fails with the name of the package to install where a program or file is missing: a test never skips by itself.
pub fn need(wanted: &[(&str, &str)]) {
    for (program, package) in wanted {
        // Joining an absolute path gives that path.
        let found = ["/usr/sbin", "/usr/bin", "/sbin", "/bin"].iter().any(|dir| Path::new(dir).join(program).exists());
        assert!(found, "{program} is missing: install the Debian package {package}, or run tests/run.sh, which does");
    }
}

/// A directory of this test's own under the target directory; it outlives a failed test, so that its files can be read.
pub struct Scratch {
    dir: Option<tempfile::TempDir>,
}

impl Scratch {
    pub fn new(name: &str) -> Self {
        let builder = tempfile::Builder::new().prefix(&format!("{name}-")).tempdir_in(env!("CARGO_TARGET_TMPDIR"));
        Self { dir: Some(builder.expect("a scratch directory under target/tmp")) }
    }

    pub fn path(&self) -> &Path {
        self.dir.as_ref().unwrap().path()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if std::thread::panicking()
            && let Some(dir) = self.dir.take()
        {
            eprintln!("the files of the failed test are in {}", dir.keep().display());
        }
    }
}
