//! `loadtest tune` as an operator has it: what it refuses, what it finds in a short run over
//! loopback and over a link, what it writes, and nothing after Ctrl-C. The tests of links make
//! network namespaces: run them as root.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// One machine, block by block or in windows, on a slow way: there a knob has an effect that no
/// busy processor hides.
const SCENARIO: &str = r#"
clients = 1
[files]
"vmlinuz" = "12KiB"
[[machine]]
steps = [{ tftp = "vmlinuz", windowsize = 64 }]
"#;

const CONFIG: &str =
    "root = \"/srv\" # ours\n\n[tftp]\n# one by one\nwindowsize-max = 0x1   # old switch\n";

/// Of anything that takes milliseconds, on a machine whose cores are busy.
const LIMIT: Duration = Duration::from_secs(60);

struct Lab {
    scratch: tempfile::TempDir,
}

impl Lab {
    fn new() -> Self {
        let lab = Self { scratch: tempfile::tempdir().unwrap() };
        fs::write(lab.path("lone.toml"), SCENARIO).unwrap();
        fs::write(lab.path("ringboot.toml"), CONFIG).unwrap();
        lab
    }

    fn path(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    fn shown(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    fn tune(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_loadtest"));
        command.args(["tune", "--scenario", &self.shown("lone.toml")]).args(arguments);
        command
    }

    fn loadtest(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_loadtest"));
        command.args(["--scenario", &self.shown("lone.toml")]).args(arguments);
        command
    }

    fn refused(&self, arguments: &[&str]) -> String {
        let output = self.tune(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        said(&output.stderr)
    }
}

#[test]
fn what_a_search_cannot_do_is_refused_before_anything_runs() {
    let lab = Lab::new();
    let (config, out) = (lab.shown("ringboot.toml"), lab.shown("new.toml"));
    for arguments in [["--write", &config], ["--out", &out]] {
        let said = lab.refused(&arguments);
        assert!(
            said.contains("not written to")
                && said.contains("over loopback")
                && said.contains("--force"),
            "{said}"
        );
    }
    for arguments in [&["--server", "10.0.0.1"][..], &["--", "--server=10.0.0.1"]] {
        let said = lab.refused(arguments);
        assert!(
            said.contains("loadtest cannot tune a running server")
                && said.contains("loadtest compare")
        );
    }
    assert!(
        lab.refused(&["--link", "1gbit"]).contains("for each run, which end with it: add --yes")
    );
    assert!(lab.refused(&["--", "--link=1gbit"]).contains("write --link before the --"));
    assert!(lab.refused(&["--link", "fast", "--yes"]).contains("\"fast\" is no rate: 1gbit"));
    assert!(
        lab.refused(&["--force", "--out", &config]).contains("exists; --write writes values into")
    );
    assert!(
        lab.refused(&["--knob", "spin-us=20000"])
            .contains("spin-us = 20000 is out of bounds: write a number from 0 to 10000")
    );
    fs::write(&config, "root = \"/srv\"\n[tuning]\nspin = 3\n").unwrap();
    let said = lab.refused(&["--force", "--write", &config]);
    assert!(said.contains("ringboot.toml:3:1: unknown key `spin`"), "{said}");
    assert!(lab.refused(&["--ringboot", "/bin/false"]).contains("the server did not become ready"));
}

#[test]
fn what_is_better_beyond_the_noise_is_written_and_the_rest_left_alone() {
    let lab = Lab::new();
    let (config, report) = (lab.shown("ringboot.toml"), lab.shown("report.json"));
    let knobs = ["--knob", "windowsize-max=1,32", "--knob", "receive-buffers=1024,2048"];
    let files = ["--write", &config, "--json", &report, "--force"];
    let small = ["--", "--kernel-mib", "1", "--initrd-mib", "1", "--delay", "5"];
    let output = lab.tune(&[&knobs[..], &files, &small].concat()).output().unwrap();
    let told = said(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{told}{}", said(&output.stderr));
    for words in [
        "! Over loopback",
        "[tftp] windowsize-max: blocks in one window",
        "windowsize-max = 32 is taken",
        "-> 32\n",
    ] {
        assert!(told.contains(words), "no {words:?} in\n{told}");
    }
    assert!(told.contains("[tuning] receive-buffers"), "{told}");

    let written = fs::read_to_string(&config).unwrap();
    assert!(written.starts_with(&CONFIG.replace("0x1", "32")), "{written}");
    let others = lab.scratch.path().read_dir().unwrap().map(|entry| entry.unwrap().path());
    let backups: Vec<PathBuf> =
        others.filter(|path| path.to_string_lossy().contains(".before-tune-")).collect();
    let [backup] = &backups[..] else { panic!("{backups:?}") };
    assert_eq!(fs::read_to_string(backup).unwrap(), CONFIG);

    let report: Value = serde_json::from_str(&fs::read_to_string(&report).unwrap()).unwrap();
    assert_eq!(
        (&report["version"], &report["goal"], &report["best"]["windowsize-max"]),
        (&1.into(), &"wall".into(), &32.into())
    );
    assert_eq!(report["tried"][0]["values"][0]["runs"].as_array().unwrap().len(), 3);
    assert!(report["together"].as_array().unwrap().len() >= 6);
}

/// Over a link nothing is forced: the load is a network's, and the written lines name it.
#[test]
fn over_a_link_a_result_is_written_with_its_link_and_nothing_is_left_of_it() {
    let lab = Lab::new();
    let (out, report) = (lab.shown("new.toml"), lab.shown("report.json"));
    let before = interfaces();
    let knob = ["--knob", "windowsize-max=32,1", "--link", "100mbit", "--yes"];
    let files = ["--out", &out, "--json", &report];
    fs::write(lab.path("ringboot.toml"), CONFIG).unwrap();
    let small = ["--", "--kernel-mib", "1", "--initrd-mib", "1", "--delay", "5"];
    // The default is as good as any other window for twelve blocks, so nothing is written.
    let output = lab.tune(&[&knob[..], &files, &small].concat()).output().unwrap();
    let told = said(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{told}{}", said(&output.stderr));
    assert!(told.contains("Over a link between two network namespaces (100mbit)"), "{told}");
    assert!(told.contains("No value beats the defaults") && !told.contains("oopback"), "{told}");
    assert!(told.contains("nothing is written") && !lab.path("new.toml").exists(), "{told}");
    let report: Value = serde_json::from_str(&fs::read_to_string(&report).unwrap()).unwrap();
    assert_eq!(report["run"]["server"], "private, over a link (100mbit)");

    // From windows of one block it finds what it finds over loopback.
    let config = lab.shown("ringboot.toml");
    let knob = ["--knob", "windowsize-max=1,32", "--link", "100mbit", "--yes"];
    let output = lab.tune(&[&knob[..], &["--write", &config], &small].concat()).output().unwrap();
    let told = said(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{told}{}", said(&output.stderr));
    for words in [
        "over a link between two network namespaces of this host (100mbit).",
        "1 changed: wall beside the values of the file is ",
        " % less (",
    ] {
        assert!(told.contains(words), "no {words:?} in\n{told}");
    }
    assert!(fs::read_to_string(&config).unwrap().starts_with(&CONFIG.replace("0x1", "32")));
    assert_eq!(interfaces(), before, "interfaces of this host");
}

/// No destructor runs after SIGKILL: the kernel removes the namespaces, since nobody is inside.
#[test]
fn a_killed_run_leaves_nobody_in_its_namespaces() {
    let lab = Lab::new();
    for of_search in [false, true] {
        // The machine would take minutes.
        let slow = ["--kernel-mib", "1", "--initrd-mib", "1", "--delay", "10000"];
        let mut command = match of_search {
            true => lab.tune(&[&["--link", "unshaped", "--yes", "--"][..], &slow].concat()),
            false => lab.loadtest(&[&["--link", "unshaped", "--yes"][..], &slow].concat()),
        };
        let mut run = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let inside = wait_for(|| Some(inside_link(run.id())).filter(|found| found.is_complete()));
        run.kill().unwrap();
        run.wait().unwrap();
        wait_for(|| {
            let left = list_processes().into_iter().any(|pid| inside.holds(pid));
            (!left).then_some(())
        });
    }
}

/// The namespaces of a run over a link, as /proc names them.
struct LinkNamespaces(Vec<PathBuf>);

impl LinkNamespaces {
    /// The machines' and the server's.
    fn is_complete(&self) -> bool {
        self.0.len() == 2
    }

    fn holds(&self, pid: u32) -> bool {
        namespace_of(pid).is_some_and(|namespace| self.0.contains(&namespace))
    }
}

/// Those of a process and all that descend from it, without this test's own.
fn inside_link(pid: u32) -> LinkNamespaces {
    let mut family = vec![pid];
    // A child has a greater number than its parent, unless the numbers have begun again.
    for other in list_processes() {
        let parent = fs::read_to_string(format!("/proc/{other}/stat")).ok().and_then(|stat| {
            stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse::<u32>().ok()
        });
        if parent.is_some_and(|parent| family.contains(&parent)) {
            family.push(other);
        }
    }
    let own = namespace_of(std::process::id());
    let mut found: Vec<PathBuf> = family.into_iter().filter_map(namespace_of).collect();
    found.retain(|namespace| Some(namespace) != own.as_ref());
    found.sort();
    found.dedup();
    LinkNamespaces(found)
}

fn namespace_of(pid: u32) -> Option<PathBuf> {
    fs::read_link(format!("/proc/{pid}/ns/net")).ok()
}

fn list_processes() -> Vec<u32> {
    let names = fs::read_dir("/proc").unwrap().map(|entry| entry.unwrap().file_name());
    let mut all: Vec<u32> = names.filter_map(|name| name.to_str()?.parse().ok()).collect();
    all.sort_unstable();
    all
}

fn interfaces() -> Vec<String> {
    let names = fs::read_dir("/sys/class/net").unwrap();
    let mut all: Vec<String> =
        names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    all.sort();
    all
}

/// Looks again until there is something, for [`LIMIT`] at most.
fn wait_for<T>(find: impl Fn() -> Option<T>) -> T {
    let until = Instant::now() + LIMIT;
    loop {
        if let Some(found) = find() {
            return found;
        }
        assert!(Instant::now() < until, "not found within {LIMIT:?}");
        std::thread::yield_now();
    }
}

#[test]
fn an_interrupted_search_writes_nothing() {
    let lab = Lab::new();
    let config = lab.shown("ringboot.toml");
    let mut command =
        lab.tune(&["--force", "--write", &config, "--", "--kernel-mib", "1", "--initrd-mib", "1"]);
    let mut search = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // Kept to the end: what a search says into a closed pipe ends it with another error.
    let mut lines = BufReader::new(search.stdout.take().unwrap()).lines().map_while(Result::ok);
    assert!(lines.any(|line| line.contains("One run with")));
    assert!(
        Command::new("kill").args(["-INT", &search.id().to_string()]).status().unwrap().success()
    );
    let mut errors = Vec::new();
    search.stderr.take().unwrap().read_to_end(&mut errors).unwrap();
    lines.for_each(drop);
    assert_eq!(search.wait().unwrap().code(), Some(130), "{}", said(&errors));
    assert!(said(&errors).contains("interrupted; nothing is written"), "{}", said(&errors));
    assert_eq!(fs::read_to_string(&config).unwrap(), CONFIG);
    assert_eq!(lab.scratch.path().read_dir().unwrap().count(), 2);
}

/// A setting reaches the server: one that is wrong is told with its place.
#[test]
fn a_private_server_is_given_settings() {
    let output = Command::new(Path::new(env!("CARGO_BIN_EXE_loadtest")))
        .args([
            "--clients",
            "1",
            "--kernel-mib",
            "1",
            "--initrd-mib",
            "1",
            "--set",
            "tuning.spin-us=0",
            "--set",
            "tuning.spin=1",
        ])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(said(&output.stderr).contains("unknown key `spin`"), "{}", said(&output.stderr));
}

fn said(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).split_inclusive('\n').collect()
}
