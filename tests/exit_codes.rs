//! Every exit code of docs/exit-codes.md is one that the program really ends with.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

mod common;

use common::process::{Output, Process, run};
use common::relayed::{BINARY, LIMIT, Relayed};

/// `COMMAND`, code.
type Row = (String, i32);

/// The rows of the page.
fn page() -> BTreeSet<Row> {
    let page = fs::read_to_string("docs/exit-codes.md").unwrap();
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `"));
    rows.map(|row| {
        let (command, rest) = row.split_once("` | ").unwrap();
        (command.to_owned(), rest.split(' ').next().unwrap().parse().unwrap())
    })
    .collect()
}

/// Commands that are run, and the rows that they were run for.
struct Runs {
    world: Relayed,
    seen: BTreeSet<Row>,
}

impl Runs {
    fn new(name: &str) -> Self {
        Self { world: Relayed::new(name, "127.77.1.1-127.77.1.4"), seen: BTreeSet::new() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.world.scratch.path().join(name)
    }

    /// The command with this world's configuration.
    #[track_caller]
    fn ends(&mut self, row: &str, code: i32, arguments: &[&str]) -> Output {
        let file = self.path("ringboot.toml");
        self.ends_with(row, code, arguments, file.to_str().unwrap())
    }

    #[track_caller]
    fn ends_with(&mut self, row: &str, code: i32, arguments: &[&str], file: &str) -> Output {
        let said = self.runs(row, code, &[arguments, &["--config", file]].concat());
        assert!(
            code != 2 || row == "status --exit-code" || said.stderr.contains("ringboot: "),
            "{}",
            said.stderr
        );
        said
    }

    /// The command as it stands.
    #[track_caller]
    fn runs(&mut self, row: &str, code: i32, arguments: &[&str]) -> Output {
        let mut command = Command::new(BINARY);
        command.args(arguments);
        let said = run(command, LIMIT);
        assert_eq!(said.status.code(), Some(code), "{arguments:?}: {}{}", said.stdout, said.stderr);
        self.seen.insert((row.to_owned(), code));
        said
    }

    /// Without a configuration no command goes on that wants one.
    fn unreadable(&mut self) {
        let nowhere = self.path("nowhere.toml");
        let nowhere = nowhere.to_str().unwrap();
        let copy = self.path("copy.db");
        let copy = copy.to_str().unwrap();
        for (row, arguments) in [
            ("serve", &["serve"][..]),
            ("check", &["check"]),
            ("loader list", &["loader", "list"]),
            ("machines", &["machines"]),
            ("lease list", &["lease", "list"]),
            ("lease free", &["lease", "free", "127.77.1.1"]),
            ("why", &["why", "127.77.1.1"]),
            ("quirk list", &["quirk", "list"]),
            ("quirk pin", &["quirk", "pin", "52:54:00", "--window", "1"]),
            ("quirk forget", &["quirk", "forget", "52:54:00"]),
            ("backup", &["backup", copy]),
            ("restore", &["restore", copy]),
        ] {
            self.ends_with(row, 2, arguments, nowhere);
        }
        // Those may find the usual socket of a server of this machine, whatever the file is.
        let broken = self.path("broken.toml");
        fs::write(&broken, "root = \"root\"\n[server]\nadmin-socket = \"\"\n").unwrap();
        let broken = broken.to_str().unwrap();
        for (row, arguments) in
            [("status", &["status"][..]), ("look", &["look"]), ("reload", &["reload"])]
        {
            self.ends_with(row, 2, arguments, broken);
        }
        self.ends_with("status --exit-code", 3, &["status", "--exit-code"], broken);
    }

    /// No server, and no state directory.
    fn nothing_there(&mut self) {
        let copy = self.path("copy.db");
        let copy = copy.to_str().unwrap();
        for (row, arguments) in [
            ("status", &["status"][..]),
            ("machines", &["machines"]),
            ("lease list", &["lease", "list"]),
            ("lease free", &["lease", "free", "127.77.1.1"]),
            ("look", &["look"]),
            ("reload", &["reload"]),
            ("why", &["why", "127.77.1.1"]),
            ("quirk pin", &["quirk", "pin", "52:54:00", "--window", "1"]),
            ("quirk forget", &["quirk", "forget", "52:54:00"]),
            ("backup", &["backup", copy]),
            ("restore", &["restore", copy]),
        ] {
            self.ends(row, 1, arguments);
        }
        self.ends("status --exit-code", 2, &["status", "--exit-code"]);
    }

    fn with_a_server(&mut self) {
        self.world.lease(1);
        let copy = self.path("copy.db");
        let copy = copy.to_str().unwrap();
        self.ends("check", 0, &["check"]);
        self.ends("loader list", 0, &["loader", "list"]);
        self.ends("status", 0, &["status"]);
        self.ends("status --exit-code", 0, &["status", "--exit-code"]);
        self.ends("machines", 0, &["machines"]);
        self.ends("lease list", 0, &["lease", "list"]);
        self.ends("lease free", 1, &["lease", "free", "127.77.3.1"]);
        self.ends("look", 0, &["look"]);
        self.ends("reload", 0, &["reload"]);
        self.ends("why", 0, &["why", "52:54:00:00:00:01"]);
        self.ends("why", 1, &["why", "52:54:00:00:00:09"]);
        self.ends("quirk pin", 0, &["quirk", "pin", "52:54:00", "--window", "1"]);
        self.ends("quirk list", 0, &["quirk", "list"]);
        self.ends("quirk forget", 0, &["quirk", "forget", "52:54:00"]);
        self.ends("quirk forget", 1, &["quirk", "forget", "52:54:00"]);
        self.ends("backup", 0, &["backup", copy]);
        self.ends("backup", 1, &["backup", copy]);
        self.ends("restore", 1, &["restore", copy]);
        // Another server of the same state.
        self.ends("serve", 1, &["serve"]);
        self.ends("lease free", 0, &["lease", "free", "52:54:00:00:00:01", "--force"]);
        // Four of five addresses are nearly all; one more machine is one too many.
        let file = self.path("ringboot.toml");
        let text = fs::read_to_string(&file).unwrap();
        fs::write(&file, text.replace("127.77.1.4", "127.77.1.5")).unwrap();
        self.ends("reload", 0, &["reload", "--json"]);
        (1..=4).for_each(|machine| assert!(self.world.lease(machine).is_loopback()));
        self.world.until(&["status"], "4 of 5 addresses given");
        self.ends("status --exit-code", 1, &["status", "--exit-code"]);
        self.world.lease(5);
        self.world.until(&["status"], "FULL since");
        self.ends("status --exit-code", 2, &["status", "--exit-code"]);
        self.world.say(common::relayed::DISCOVER, 6, None);
        self.world.until(&["machines", "--failed"], "52:54:00:00:00:06");
        self.ends("machines", 1, &["machines", "--failed"]);
        fs::write(&file, format!("{text}[tuning]\nspin-us = 7\n")).unwrap();
        self.ends("reload", 3, &["reload"]);
        fs::write(&file, "root = 7\n").unwrap();
        let socket = self.path("admin.sock");
        self.runs("reload", 1, &["reload", "--socket", socket.to_str().unwrap()]);
        self.ends("check", 2, &["check"]);
        fs::write(&file, text).unwrap();
    }

    /// What no server has to do with.
    fn by_itself(&mut self) {
        let copy = self.path("copy.db");
        self.ends("restore", 0, &["restore", copy.to_str().unwrap()]);
        let file = self.path("ringboot.toml");
        let text = fs::read_to_string(&file).unwrap();
        fs::write(&file, format!("{text}[boot]\nbios = \"no-such-loader.0\"\n")).unwrap();
        self.ends("check", 1, &["check"]);
        fs::write(&file, text).unwrap();
        self.ends("status", 1, &["status"]);
        // A store that is none.
        let state = self.path("none");
        fs::create_dir(&state).unwrap();
        fs::write(state.join("ringboot.db"), "not a database").unwrap();
        self.runs("quirk list", 1, &["quirk", "list", "--state", state.to_str().unwrap()]);
        self.runs("completions", 0, &["completions", "bash"]);
        self.runs("man", 0, &["man"]);
        self.runs("man", 1, &["man", "/proc/no-directory"]);
        self.runs("any", 2, &["no-such-command"]);
        let demo = ["demo", "--clients", "2", "--once"];
        self.runs("demo", 0, &demo);
        let mut command = Command::new(BINARY);
        command.args(["demo", "--clients", "1"]);
        let mut interrupted = Process::start(command);
        interrupted.stdout.wait_line("ringboot", LIMIT);
        interrupted.signal("INT");
        let status = interrupted.wait(LIMIT).unwrap();
        assert_eq!(status.code(), Some(1), "{}", interrupted.stderr.text());
        self.seen.insert(("demo".to_owned(), 1));
    }

    /// A disk that is full, and a reader that has gone.
    fn with_no_output(&mut self) {
        for arguments in
            [&["loader", "list"][..], &["--version"], &["man"], &["status", "--help"], &["check"]]
        {
            let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
            let mut command = Command::new(BINARY);
            command.args(arguments).stdout(full).stderr(Stdio::piped());
            let said = command.output().unwrap();
            assert_eq!(
                said.status.code(),
                Some(if arguments == ["check"] { 2 } else { 1 }),
                "{arguments:?}"
            );
        }
        self.seen.insert(("any".to_owned(), 1));
        // Standard error is full as well: no panic.
        let full = || fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let nowhere = self.path("nowhere.toml");
        for name in ["status", "check", "machines", "serve"] {
            let mut command = Command::new(BINARY);
            command.arg(name).arg("--config").arg(&nowhere).stdout(full()).stderr(full());
            let status = command.status().unwrap();
            assert!(matches!(status.code(), Some(1 | 2)), "{name}: {status:?}");
        }
        // A reader that wants one line.
        let mut piped = Command::new(BINARY);
        piped.args(["man"]).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut piped = piped.spawn().unwrap();
        drop(piped.stdout.take());
        let said = piped.wait_with_output().unwrap();
        assert!(said.status.success() && said.stderr.is_empty(), "{said:?}");
    }
}

#[test]
fn every_code_of_the_page_is_one_that_a_command_ends_with() {
    let mut runs = Runs::new("exit-codes");
    runs.unreadable();
    runs.nothing_there();
    let mut server = runs.world.start();
    runs.with_a_server();
    let status = server.stop(LIMIT);
    assert_eq!((status.code(), status.signal()), (Some(0), None), "{}", server.stderr.text());
    runs.seen.insert(("serve".to_owned(), 0));
    runs.by_itself();
    runs.with_no_output();
    assert_eq!(runs.seen, page(), "left: what commands ended with, right: what the page says");
}
