//! A host of its own for commands as a user types them: namespaces for network, processes and
//! mounts, with nothing of this machine to lose.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::Scratch;
use super::process::{Output, Process, run};

/// Setting up takes a fraction of a second on a quiet machine.
const SET_UP: Duration = Duration::from_secs(120);

/// Made once: empty places where ringboot keeps things, a copy of /etc, a clone of what a user has
/// of the repository.
const PREPARE: &str = r#"
set -e
# $1 becomes a directory of its own with the same entries, so that new ones are made in memory.
over() {
    mkdir -p "/mnt/over$1"
    mount -t tmpfs none "/mnt/over$1"
    for entry in "$1"/*; do
        [ -L "$entry" ] && { cp -P "$entry" "/mnt/over$1/"; continue; }
        [ -d "$entry" ] && mkdir "/mnt/over$entry" || : >"/mnt/over$entry"
        mount --rbind "$entry" "/mnt/over$entry"
    done
    mount --rbind "/mnt/over$1" "$1"
}
mount -t tmpfs none /mnt
over /etc
over /var/lib
over /var
mkdir -p /etc/ringboot /var/lib/ringboot /var/backups
for place in /etc/ringboot /var/lib/ringboot /var/backups /srv /run /tmp; do
    mount -t tmpfs -o mode=0755 none $place
done
chmod 0700 /var/lib/ringboot
mkdir -p /srv/netboot /tmp/clone/target/release
cp -r "$REPOSITORY"/README.md "$REPOSITORY"/config "$REPOSITORY"/docs /tmp/clone/
cp -r "$SHIMS" /tmp/clone/target/bin
ln -s /tmp/clone/target/bin/ringboot /tmp/clone/target/bin/loadtest /tmp/clone/target/release/
touch /run/ready
ip link set lo up
echo PREPARED
# The first process of the namespace takes leave of all that end.
tail -f /dev/null &
wait
"#;

/// Stand-ins that are found first: the programs under test, and what would install, build or need
/// systemd.
const SHIMS: &[(&str, &str)] = &[
    // A server tells when it serves, so that the next line of a block need not guess.
    (
        "ringboot",
        r#"#!/bin/bash
[[ $1 == serve ]] && exec "$RINGBOOT" "$@" > >(tee -a /run/ready)
exec "$RINGBOOT" "$@"
"#,
    ),
    ("loadtest", "#!/bin/sh\nexec \"$LOADTEST\" \"$@\"\n"),
    // `cargo run --release [-p loadtest] -- ARGUMENT...`: what it would build has been built by
    // whoever runs the tests.
    (
        "cargo",
        r#"#!/bin/bash
program=ringboot
while [[ $# -gt 0 && $1 != -- ]]; do [[ $1 == loadtest ]] && program=loadtest; shift; done
shift
# Of a debug build beside other tests, 500 machines are too many.
[[ $1 == demo ]] && set -- "$@" --clients 60
[[ $# -eq 0 ]] || exec "$program" "$@"
"#,
    ),
    // Packages that this distribution does not know are a fault of the page; nothing is installed.
    (
        "apt-get",
        r#"#!/bin/bash
shift
for package; do
    [[ $package == -* ]] || dpkg-query --show "$package" >/dev/null 2>&1 ||
        apt-cache show "$package" >/dev/null ||
        { echo "no package $package" >&2; exit 100; }
done
"#,
    ),
    // The unit of the service, as far as starting and stopping go.
    (
        "systemctl",
        r#"#!/bin/bash
case $1 in
stop) read pid </run/service && kill "$pid" && tail --pid="$pid" -f /dev/null ;;
start) "$RINGBOOT" serve >/run/started 2>>/run/log & echo $! >/run/service
    timeout 30 sh -c 'until grep -q READY /run/started; do sleep 0.02; done' ;;
*) exit 1 ;;
esac
"#,
    ),
];

/// The load generator, which `cargo test --workspace` builds beside the server.
fn loadtest() -> PathBuf {
    let program = Path::new(env!("CARGO_BIN_EXE_ringboot")).with_file_name("loadtest");
    assert!(program.exists(), "{} is missing: cargo build --workspace", program.display());
    program
}

/// A host of its own; gone with all its processes when dropped.
pub struct World {
    keeper: Process,
    scratch: Scratch,
}

impl World {
    pub fn new(name: &str) -> Self {
        super::need(&[("unshare", "util-linux"), ("nsenter", "util-linux"), ("ip", "iproute2")]);
        let scratch = Scratch::new(name);
        let shims = scratch.path().join("bin");
        fs::create_dir(&shims).unwrap();
        for (program, text) in SHIMS {
            super::root::write(&shims.join(program), text.as_bytes());
            fs::set_permissions(
                shims.join(program),
                std::os::unix::fs::PermissionsExt::from_mode(0o755),
            )
            .unwrap();
        }
        let mut command = Command::new("unshare");
        command
            .args(["--net", "--mount", "--pid", "--kill-child", "--mount-proc", "bash", "-c"])
            .arg(PREPARE);
        command.env("REPOSITORY", env!("CARGO_MANIFEST_DIR")).env("SHIMS", &shims);
        let keeper = Process::start(command);
        let world = Self { keeper, scratch };
        world.keeper.stdout.wait_line("PREPARED", SET_UP);
        world
    }

    /// The process that holds the namespaces: the child of `unshare`.
    fn pid(&self) -> String {
        let of_unshare = format!("/proc/{0}/task/{0}/children", self.keeper.pid());
        fs::read_to_string(of_unshare)
            .unwrap()
            .split_whitespace()
            .next()
            .expect("the shell of unshare")
            .to_owned()
    }

    /// A shell script inside, in a user's clone of the repository.
    pub fn command(&self, script: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.pid(), "--net", "--mount", "--pid", "bash", "-c"]);
        command.arg(format!("cd /tmp/clone\n{script}"));
        let inherited = std::env::var("PATH").unwrap_or_default();
        command.env("PATH", format!("/tmp/clone/target/bin:{inherited}"));
        command.env("RINGBOOT", env!("CARGO_BIN_EXE_ringboot")).env("LOADTEST", loadtest());
        command
    }

    /// The script's end and what it printed.
    pub fn run(&self, script: &str, limit: Duration) -> Output {
        run(self.command(script), limit)
    }

    /// What a test puts there beforehand must succeed.
    pub fn prepare(&self, script: &str) {
        self.run(&format!("set -e\n{script}"), SET_UP).ok();
    }

    /// A file inside, with its directories.
    pub fn write(&self, path: &str, content: &[u8]) {
        let outside: PathBuf = self.scratch.path().join("handed-over");
        fs::write(&outside, content).unwrap();
        let (from, dir) = (outside.display(), Path::new(path).parent().unwrap().display());
        self.prepare(&format!("mkdir -p '{dir}' && cp '{from}' '{path}'"));
    }

    /// An interface with a carrier and, where given, an address.
    pub fn interface(&self, name: &str, address: &str) {
        self.prepare(&format!(
            "ip link show {name} >/dev/null 2>&1 || ip link add {name} type veth peer name to-{name}
             ip link set {name} up; ip link set to-{name} up; ip addr replace {address} dev {name}"
        ));
    }

    /// A script that runs on; it ends with the world at the latest.
    pub fn start(&self, script: &str) -> Process {
        Process::start(self.command(script))
    }
}
