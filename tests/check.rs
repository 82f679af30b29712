//! `check`, `loader list`, and a server that starts only on what `check` finds right: loaders of
//! packages, private files, modes.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

mod common;

use common::Scratch;
use common::process::{Output, Process, run};
use ringboot::images::clean_path_name;

const LIMIT: Duration = Duration::from_secs(20);
const BINARY: &str = env!("CARGO_BIN_EXE_ringboot");
const PORTS: [&str; 4] = ["--tftp", "127.0.0.1:0", "--http", "127.0.0.1:0"];
/// The menu of the classic set-up, which wipes the disk of whoever waits a minute.
const CLASSIC: &str = include_str!("classic/pxelinux.cfg-default");

fn ringboot(arguments: &[&str]) -> Command {
    let mut command = Command::new(BINARY);
    command.args(arguments);
    command
}

/// A configuration beside its root.
fn configured(scratch: &Scratch, more: &str) -> PathBuf {
    configured_in(scratch.path(), more)
}

fn configured_in(directory: &Path, more: &str) -> PathBuf {
    fs::create_dir_all(directory.join("root")).unwrap();
    let file = directory.join("ringboot.toml");
    let ports = "[tftp]\nlisten = []\n[http]\nlisten = [\"127.0.0.1:0\"]\n";
    fs::write(&file, format!("root = \"root\"\nstate = \"state\"\n{ports}{more}")).unwrap();
    file
}

fn check(file: &Path, more: &[&str]) -> Output {
    let mut command = ringboot(&["check", "--config"]);
    command.arg(file).args(more);
    run(command, LIMIT)
}

/// A running server: its process, its TFTP and its HTTP address.
fn serve(mut command: Command) -> (Process, SocketAddr, SocketAddr) {
    command.args(PORTS);
    let process = Process::start(command);
    let find =
        |text: &String| text.lines().find(|line| line.starts_with("READY")).map(str::to_owned);
    let ready = process
        .stdout
        .wait_for(LIMIT, find)
        .unwrap_or_else(|why| panic!("{why:?}: {}", process.stderr.text()));
    let address = |key: &str| {
        ready
            .split_whitespace()
            .find_map(|word| word.strip_prefix(key)?.parse().ok())
            .expect("an address")
    };
    (process, address("tftp="), address("http="))
}

fn get(http: SocketAddr, path: &str) -> Vec<u8> {
    let mut stream = TcpStream::connect(http).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    stream.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes()).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    answer
}

/// The first answer to a read request.
fn read_request(tftp: SocketAddr, name: &str) -> Vec<u8> {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(LIMIT)).unwrap();
    socket.send_to(&[b"\0\x01", name.as_bytes(), b"\0octet\0"].concat(), tftp).unwrap();
    let mut bytes = [0; 600];
    let (len, _) = socket.recv_from(&mut bytes).unwrap();
    bytes[..len].to_vec()
}

#[test]
fn check_exits_with_0_1_and_2_and_says_why() {
    let scratch = Scratch::new("check");
    let file = configured(&scratch, "");
    let output = check(&file, &[]).ok();
    assert!(output.stdout.contains("0 errors, "), "{}", output.stdout);
    let file = configured(&scratch, "[boot]\nbios = \"nothing.0\"\n");
    let output = check(&file, &[]);
    assert_eq!(output.status.code(), Some(1));
    let place = format!("error: {}:8:8: ", file.display());
    let sentence = "[boot] bios = \"nothing.0\" names no file under the root";
    assert!(
        output.stdout.starts_with(&format!("{place}{sentence}\n  hint: ")),
        "{}",
        output.stdout
    );
    assert!(output.stdout.contains("\n1 error, "), "{}", output.stdout);
    let json = check(&file, &["--json"]);
    assert_eq!(json.status.code(), Some(1));
    let json: serde_json::Value = serde_json::from_str(&json.stdout).unwrap();
    let place = |finding: &serde_json::Value| {
        let file = finding["file"].as_str().unwrap().to_owned();
        (file, finding["line"].as_u64(), finding["column"].as_u64())
    };
    let (found, shown) = (&json["findings"][0], file.display().to_string());
    assert_eq!(place(found), (shown.clone(), Some(8), Some(8)));
    assert_eq!(
        (&found["severity"], &found["text"], &json["errors"]),
        (&"error".into(), &sentence.into(), &1.into())
    );
    for (bytes, at, text) in [
        (&b"[menu]\ntimeout = \"soon\"\n"[..], (8, 11), "timeout cannot be the text \"soon\""),
        (b"[menu]\ntitle = \"S\xfcd\"\n", (8, 11), "the byte 0xfc is not UTF-8"),
    ] {
        let file = configured(&scratch, "");
        fs::write(&file, [&fs::read(&file).unwrap(), bytes].concat()).unwrap();
        let output = check(&file, &[]);
        assert_eq!(output.status.code(), Some(2));
        let place_of_it = format!("ringboot.toml:{}:{}: {text}", at.0, at.1);
        assert!(
            output.stderr.contains(&place_of_it) && output.stdout.is_empty(),
            "{}",
            output.stderr
        );
        let output = check(&file, &["--json"]);
        assert_eq!((output.status.code(), output.stderr.as_str()), (Some(2), ""));
        let json: serde_json::Value = serde_json::from_str(&output.stdout).unwrap();
        assert_eq!(place(&json["findings"][0]), (shown.clone(), Some(at.0), Some(at.1)), "{json}");
        assert_eq!((&json["findings"][0]["text"], &json["errors"]), (&text.into(), &1.into()));
    }
    let missing = check(&scratch.path().join("none.toml"), &["--json"]);
    assert_eq!(missing.status.code(), Some(2));
    assert!(missing.stdout.contains("none.toml: No such file or directory"), "{}", missing.stdout);
}

#[test]
fn a_busy_port_is_named_by_check() {
    let scratch = Scratch::new("check-busy");
    let holder = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = holder.local_addr().unwrap();
    let file = configured(&scratch, "");
    let text = fs::read_to_string(&file).unwrap().replace("127.0.0.1:0", &address.to_string());
    fs::write(&file, text).unwrap();
    let output = check(&file, &[]).failed();
    let pid = format!("(pid {}) holds this port", std::process::id());
    assert!(
        output.stdout.contains(&format!("HTTP cannot listen on {address}")),
        "{}",
        output.stdout
    );
    assert!(output.stdout.contains(&pid), "{}", output.stdout);
}

#[test]
fn serve_binds_nothing_where_nothing_could_be_served() {
    common::need(&[("strace", "strace")]);
    let scratch = Scratch::new("serve-refuses");
    let link = scratch.path().join("link");
    std::os::unix::fs::symlink("/home", &link).unwrap();
    let roots = [
        "/",
        "/etc",
        "/root",
        "/home",
        "/var",
        "/etc/",
        "/var/../etc",
        "//",
        "/root/.",
        link.to_str().unwrap(),
    ];
    for root in roots {
        let mut command = ringboot(&["serve", "--root", root]);
        command.args(PORTS);
        let output = run(command, LIMIT);
        assert_eq!(output.status.code(), Some(2));
        let words = "would expose this machine";
        assert!(
            output.stderr.contains(words) && !output.stdout.contains("READY"),
            "{root}: {}",
            output.stderr
        );
    }
    let file = configured(&scratch, "");
    let text = fs::read_to_string(&file).unwrap().replace("root = \"root\"", "root = \"none\"");
    fs::write(&file, text).unwrap();
    let bound = || {
        let trace = scratch.path().join("trace");
        let mut command = Command::new("strace");
        command
            .args(["-f", "-qq", "-e", "trace=bind", "-o"])
            .arg(&trace)
            .args([BINARY, "serve", "--config"]);
        let output = run(
            {
                command.arg(&file).args(PORTS);
                command
            },
            LIMIT,
        );
        // Netlink is how the kernel is asked for its interfaces: nobody else hears of it.
        let is_port = |line: &str| line.contains("bind(") && !line.contains("AF_NETLINK");
        (output, fs::read_to_string(&trace).unwrap().lines().any(is_port))
    };
    let (output, has_bound) = bound();
    assert!(!has_bound && output.status.code() == Some(2), "{}", output.stderr);
    assert!(output.stderr.contains("ringboot.toml:1:8: opening the root "), "{}", output.stderr);
    // What is wrong in the file itself comes before that.
    fs::write(&file, "root = \"root\"\n[menu]\ntimeout = \"soon\"\n").unwrap();
    let (output, has_bound) = bound();
    assert!(!has_bound && output.status.code() == Some(2), "{}", output.stderr);
}

/// What one entry, one loader, one template or the state directory lacks keeps nobody from the
/// rest.
#[test]
fn one_thing_that_is_wrong_takes_nothing_else_with_it() {
    let scratch = Scratch::new("serve-all-the-same");
    let root = scratch.path().join("root");
    let entry = "[[menu.entry]]\nlabel = \"a\"\ntitle = \"a\"\nkernel = \"kernel\"\n";
    let page = entry.replace("\"kernel\"", "\"page.efi\"");
    let wrongs = [
        (
            "[boot]\nbios = \"nothing.0\"\n",
            "[boot] bios = \"nothing.0\" names no file under the root",
        ),
        ("[boot]\nuefi-x64 = \"page.efi\"\n", "[boot] uefi-x64 = \"page.efi\" is a text file"),
        (
            "[boot]\nipxe = \"boot.ipxe\"\n",
            "[boot] ipxe = \"boot.ipxe\" names no file under the root",
        ),
        ("[menu]\nbackground = \"none.png\"\n", "[menu] background: there is no none.png under "),
        (entry, "kernel of the entry `a`: there is no kernel under "),
        (&page, "kernel of the entry `a` is an HTML page ("),
    ];
    for (text, sentence) in wrongs {
        let file = configured(&scratch, text);
        fs::write(root.join("page.efi"), "<html>not found</html>").unwrap();
        fs::write(root.join("other"), "right").unwrap();
        let checked = check(&file, &[]);
        assert_eq!(checked.status.code(), Some(1));
        let placed = checked.stdout.starts_with("error: ")
            && checked.stdout.contains(&format!(": {sentence}"));
        assert!(placed, "{}", checked.stdout);
        let mut command = ringboot(&["serve", "--config"]);
        command.arg(&file);
        let (mut server, tftp, http) = serve(command);
        assert!(get(http, "/other").ends_with(b"right"), "{sentence}");
        assert_eq!(read_request(tftp, "other"), b"\0\x03\0\x01right", "{sentence}");
        let log = server.stderr.text();
        let line = log
            .lines()
            .find(|line| line.contains(sentence))
            .unwrap_or_else(|| panic!("{sentence}: {log}"));
        assert!(line.contains("ERROR ") && line.contains("ringboot.toml:"), "{line}");
        assert!(server.stop(LIMIT).success());
    }
}

/// For a file that is not served here, CI has nothing of the target; with the root at hand the
/// files are looked at.
#[test]
fn a_configuration_for_another_host_is_judged_without_anything_of_this_one() {
    let scratch = Scratch::new("check-no-host");
    let subnet =
        "[[dhcp.subnet]]\nsubnet = \"10.0.0.0/24\"\ninterface = \"eth9\"\nmode = \"server\"\n";
    let file = configured(
        &scratch,
        &format!("[server]\nuser = \"nobody-here\"\n{subnet}[boot]\nbios = \"nothing.0\"\n"),
    );
    assert!(check(&file, &[]).failed().stdout.contains("there is no such user"));
    let output = check(&file, &["--no-host"]);
    assert_eq!(output.status.code(), Some(1));
    let lines: Vec<&str> =
        output.stdout.lines().filter(|line| !line.starts_with("  hint")).collect();
    assert!(lines.len() == 3 && lines[0].contains("names no file under the root"), "{lines:#?}");
    assert!(
        lines[1].starts_with("note: for another host (--no-host): not checked are interfaces, "),
        "{lines:#?}"
    );
    let text = fs::read_to_string(&file)
        .unwrap()
        .replace("root = \"root\"", "root = \"/srv/of-another-host\"");
    fs::write(&file, text).unwrap();
    let output = check(&file, &["--no-host"]).ok();
    assert!(
        output.stdout.contains("the root /srv/of-another-host")
            && output.stdout.contains("\n0 errors, "),
        "{output:?}"
    );
    let root = scratch.path().join("root");
    let output = check(&file, &["--no-host", "--root", root.to_str().unwrap()]).failed();
    assert!(output.stdout.contains("names no file under the root"), "{output:?}");
}

#[test]
fn a_warning_is_an_exit_code_where_it_is_asked_for() {
    let scratch = Scratch::new("check-strict");
    let file = configured(&scratch, "");
    let menu = scratch.path().join("root/pxelinux.cfg/default");
    fs::create_dir_all(menu.parent().unwrap()).unwrap();
    fs::write(&menu, CLASSIC).unwrap();
    check(&file, &["--no-host"]).ok();
    assert_eq!(check(&file, &["--no-host", "--strict"]).status.code(), Some(1));
}

/// Somebody who may not pass to the root learns so, whether it is he who serves or another user.
#[test]
fn a_root_that_is_closed_is_named_to_every_user() {
    common::need(&[("setpriv", "util-linux")]);
    let scratch = tempfile::tempdir().unwrap();
    let file = configured_in(scratch.path(), "[server]\nadmin-socket = \"\"\n");
    let mode =
        |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    mode(scratch.path(), 0o755);
    let root = scratch.path().join("root");
    mode(&root, 0o700);
    let asked_by = |user: &str| {
        let mut command = Command::new("setpriv");
        command.args(["--reuid", user, "--clear-groups", BINARY, "check", "--config"]).arg(&file);
        run(command, LIMIT).failed().stdout
    };
    let words = format!("may not be read by the service: {} is closed to it", root.display());
    assert!(asked_by("nobody").contains(&words));
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, format!("{text}user = \"nobody\"\n")).unwrap();
    assert!(asked_by("daemon").contains(&words), "nobody serves, and daemon asks");
}

/// The error comes first, what to do about it has its own line, and every command ends with the
/// same code.
#[test]
fn a_configuration_that_is_not_there_is_told_in_one_form_by_every_command() {
    let scratch = Scratch::new("check-none");
    let missing = scratch.path().join("none.toml");
    let config = ["--config", missing.to_str().unwrap()];
    let mac = "52:54:00:00:00:01";
    let copy = scratch.path().join("copy");
    let copy = copy.to_str().unwrap();
    let commands: [&[&str]; 10] = [
        &["status"],
        &["reload"],
        &["look"],
        &["why", mac],
        &["lease", "list"],
        &["lease", "free", "--declined"],
        &["quirk", "list"],
        &["quirk", "forget", mac],
        &["backup", copy],
        &["restore", copy],
    ];
    for command in commands {
        let output = run(ringboot(&[command, &config].concat()), LIMIT);
        assert_eq!(
            (output.status.code(), output.stdout.as_str()),
            (Some(2), ""),
            "{command:?}: {}",
            output.stderr
        );
        let lines: Vec<&str> = output.stderr.lines().collect();
        let [error, hint] = &lines[..] else { panic!("{command:?}: {lines:?}") };
        let wanted =
            format!("reading {}: No such file or directory (os error 2)", missing.display());
        assert!(error.starts_with("ringboot") && error.ends_with(&wanted), "{command:?}: {error}");
        assert!(
            hint.starts_with("  hint: --config FILE names another file, --"),
            "{command:?}: {hint}"
        );
    }
}

/// A script that keeps the output on a full disk must not go on as if it had it; a reader that has
/// seen enough is fine.
#[test]
fn output_that_cannot_be_written_is_a_failure_and_a_closed_pipe_is_none() {
    let scratch = Scratch::new("check-full");
    let file = configured(&scratch, "");
    let config = file.to_str().unwrap();
    let commands: [&[&str]; 8] = [
        &["--version"],
        &["--help"],
        &["serve", "--help"],
        &["completions", "bash"],
        &["man"],
        &["loader", "list", "--config", config],
        &["check", "--config", config],
        &["check", "--config", config, "--json"],
    ];
    for arguments in commands {
        let ended = |to: std::process::Stdio| ringboot(arguments).stdout(to).output().unwrap();
        let full = ended(fs::File::options().write(true).open("/dev/full").unwrap().into());
        assert_eq!(full.status.code(), Some(1), "{arguments:?}");
        let said = String::from_utf8_lossy(&full.stderr).into_owned();
        assert!(
            said.contains("writing to standard output: No space left on device"),
            "{arguments:?}: {said}"
        );
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let closed = ended(writer.into());
        assert_eq!((closed.status.code(), closed.stderr), (Some(0), Vec::new()), "{arguments:?}");
    }
}

/// An operator searches the manual for the words that he reads. Each of these is a part of one
/// finding.
#[test]
fn every_finding_is_in_the_manual_by_its_words() {
    const MANUAL: &str = include_str!("../docs/troubleshooting.md");
    const SOURCES: [&str; 9] = [
        include_str!("../src/control/check/mod.rs"),
        include_str!("../src/control/check/files.rs"),
        include_str!("../src/control/check/firewall.rs"),
        include_str!("../src/control/check/surroundings.rs"),
        include_str!("../src/control/check/state.rs"),
        include_str!("../src/control/check/interfaces.rs"),
        include_str!("../src/protocol/template/mod.rs"),
        include_str!("../src/protocol/boot/pe.rs"),
        include_str!("../src/guard/mod.rs"),
    ];
    for words in [
        "opening the root",
        "is not a directory",
        "would expose this machine",
        "is the state directory too",
        "may not be read by the service",
        "is closed to it",
        "is open to others",
        "names no file under the root",
        "is not served: ",
        "a text file",
        "an empty file",
        "an ELF file",
        "a UEFI program for",
        "no UEFI program",
        "from its own directory, which does not have it",
        "there is no ",
        "lies inside the pool",
        "of this menu INSTALLS BY ITSELF",
        "every machine that boots on ",
        "not every menu under the root was read",
        "holds this port",
        "no interface of this machine has that address",
        "the firewall drops unknown packets, and no rule seems to accept",
        "net.core.rmem_max = ",
        "there is no such user",
        "runs here, and this command cannot ask it",
        "is not on interface",
        "there is no interface",
        "has no IPv4 address",
        "has no carrier",
        "has no address for any machine",
        "a router of the subnet",
        "may not be written to by the service",
        "cannot be made",
        "no lease can be kept",
        "no DHCP can be answered",
        "FULL: a further machine gets no address",
        "was not checked",
        "an HTML page",
        "there is no variable",
        "take effect after a restart",
        "gives no new leases",
        "the firewall was not checked",
        "not checked, ports below 1024 need root",
    ] {
        assert!(
            SOURCES.iter().any(|source| source.contains(words)),
            "no finding says {words:?} any more"
        );
        assert!(MANUAL.contains(words), "docs/troubleshooting.md knows nothing of {words:?}");
    }
}

/// Pools and hosts are looked at when the file is read, so `serve`, `check` and a reload all refuse
/// them.
#[test]
fn s24_s28_pools_that_overlap_and_machines_that_are_named_twice_are_errors_with_their_line() {
    let scratch = Scratch::new("check-pools");
    let subnet =
        "[[dhcp.subnet]]\nsubnet = \"10.0.0.0/24\"\ninterface = \"eth9\"\nmode = \"server\"\n";
    let pools = |pools: &str| format!("{subnet}pools = [{pools}]\n");
    let host = |mac: &str, address: &str| {
        format!("[[dhcp.subnet.host]]\nmac = \"{mac}\"\naddress = \"{address}\"\n")
    };
    let twice = host("52:54:00:00:00:01", "10.0.0.5") + &host("52-54-00-00-00-01", "10.0.0.6");
    for (text, line, words) in [
        (pools("\"10.0.0.10-10.0.0.20\", \"10.0.0.20-10.0.0.30\""), 11, "overlap"),
        (format!("{}{twice}", pools("")), 16, "52:54:00:00:00:01"),
    ] {
        let file = configured(&scratch, &text);
        let output = check(&file, &[]);
        assert_eq!(output.status.code(), Some(2), "{}", output.stdout);
        let place = format!("ringboot.toml:{line}:");
        assert!(
            output.stderr.contains(&place) && output.stderr.contains(words),
            "{}",
            output.stderr
        );
    }
    let inside = host("52:54:00:00:00:01", "10.0.0.15");
    let output =
        check(&configured(&scratch, &format!("{}{inside}", pools("\"10.0.0.10-10.0.0.20\""))), &[])
            .ok();
    assert!(
        output.stdout.contains("10.0.0.15 of 52:54:00:00:00:01 lies inside the pool"),
        "{}",
        output.stdout
    );
}

/// The real listing of the real firewall, in a network of its own.
#[test]
fn a_firewall_that_keeps_clients_away_is_seen() {
    common::need(&[("unshare", "util-linux"), ("nft", "nftables"), ("iptables-save", "iptables")]);
    let scratch = Scratch::new("check-firewall");
    let file = configured(
        &scratch,
        "[server]\nuser = \"root\"\n[[dhcp.subnet]]\nsubnet = \"10.0.0.0/24\"\ninterface = \
         \"eth9\"\nmode = \"server\"\n",
    );
    let text = fs::read_to_string(&file)
        .unwrap()
        .replace("listen = []", "")
        .replace("listen = [\"127.0.0.1:0\"]", "");
    fs::write(&file, text).unwrap();
    let shut = |rules: &str| {
        let script = format!("ip link set lo up; {rules}; exec \"$@\"");
        let mut command = Command::new("unshare");
        command
            .args(["--net", "sh", "-e", "-c", &script, "sh", BINARY, "check", "--config"])
            .arg(&file);
        let said = run(command, LIMIT).ok().stdout;
        let ports = ["udp port 67", "udp port 69", "tcp port 80", "udp port 4011"];
        ports
            .into_iter()
            .filter(|port| said.contains(&format!("no rule seems to accept {port}")))
            .collect::<Vec<_>>()
    };
    let all = ["udp port 67", "udp port 69", "tcp port 80", "udp port 4011"];
    let nft = "nft add table inet f; nft 'add chain inet f input { type filter hook input priority \
               0; policy drop; }'";
    assert_eq!(shut("true"), [""; 0]);
    assert_eq!(shut(nft), all);
    assert_eq!(
        shut(&format!("{nft}; nft add rule inet f input udp dport '{{ 67, 69, 4011 }}' accept")),
        all[2..3]
    );
    assert_eq!(
        shut("iptables -P INPUT DROP; iptables -A INPUT -p tcp --dport 80 -j ACCEPT"),
        [all[0], all[1], all[3]]
    );
}

/// As another user than root nobody may go past the kernel's limit, so it is named there, and only
/// there.
#[test]
fn a_receive_buffer_that_is_too_small_is_named_with_the_sysctl() {
    common::need(&[("setpriv", "util-linux")]);
    let scratch = tempfile::tempdir().unwrap();
    let file = configured_in(scratch.path(), "");
    fs::set_permissions(scratch.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let maximum: usize =
        fs::read_to_string("/proc/sys/net/core/rmem_max").unwrap().trim().parse().unwrap();
    let words = format!("net.core.rmem_max = {maximum} is less than the 8388608 bytes");
    let mut command = Command::new("setpriv");
    command
        .args([
            "--reuid",
            "nobody",
            "--regid",
            "nogroup",
            "--clear-groups",
            BINARY,
            "check",
            "--config",
        ])
        .arg(&file);
    let said = run(command, LIMIT).ok().stdout;
    assert_eq!(said.contains(&words), maximum < 8 << 20, "{said}");
    assert_eq!(said.contains("sysctl net.core.rmem_max=8388608"), maximum < 8 << 20, "{said}");
}

/// A file that everybody may read is out of reach where a directory above it is not.
#[test]
fn a_directory_that_the_service_user_may_not_pass_is_named() {
    let scratch = Scratch::new("check-closed");
    let file = configured(
        &scratch,
        "[server]\nuser = \"nobody\"\n[menu]\n[[menu.entry]]\nlabel = \"x\"\nkernel = \"d/k\"\n",
    );
    let (root, inner) = (scratch.path().join("root"), scratch.path().join("root/d"));
    fs::create_dir(&inner).unwrap();
    fs::write(inner.join("k"), "\0").unwrap();
    let mode =
        |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    for path in [scratch.path(), &root, &inner] {
        mode(path, 0o755);
    }
    check(&file, &[]).ok();
    for closed in [&inner, &root] {
        mode(closed, 0o750);
        let output = check(&file, &[]);
        let words = format!("chmod o+x {}", closed.display());
        assert_eq!(output.status.code(), Some(1), "{}", output.stdout);
        assert!(
            output.stdout.contains("may not be read by the service")
                && output.stdout.contains(&words),
            "{}",
            output.stdout
        );
        mode(closed, 0o755);
    }
}

#[test]
fn b10_loaders_of_packages_are_served_under_the_names_that_clients_ask_for() {
    common::need(&[
        ("/usr/lib/PXELINUX/pxelinux.0", "pxelinux"),
        ("/usr/lib/syslinux/modules/bios/ldlinux.c32", "syslinux-common"),
        ("/usr/lib/shim/shimx64.efi.signed", "shim-signed"),
        ("/usr/lib/grub/x86_64-efi-signed/grubnetx64.efi.signed", "grub-efi-amd64-signed"),
    ]);
    let scratch = Scratch::new("serve-loaders");
    let file =
        configured(&scratch, "[boot]\nbios = \"boot/pxelinux.0\"\nuefi-x64 = \"shimx64.efi\"\n");
    let mut command = ringboot(&["serve", "--config"]);
    command.arg(&file);
    let (mut server, tftp, http) = serve(command);
    for (name, path) in [
        ("boot/pxelinux.0", "/usr/lib/PXELINUX/pxelinux.0"),
        ("boot/ldlinux.c32", "/usr/lib/syslinux/modules/bios/ldlinux.c32"),
        ("boot/libcom32.c32", "/usr/lib/syslinux/modules/bios/libcom32.c32"),
        ("boot/libutil.c32", "/usr/lib/syslinux/modules/bios/libutil.c32"),
        ("shimx64.efi", "/usr/lib/shim/shimx64.efi.signed"),
        ("grubx64.efi", "/usr/lib/grub/x86_64-efi-signed/grubnetx64.efi.signed"),
    ] {
        let real = fs::read(path).unwrap();
        assert!(get(http, &format!("/{name}")).ends_with(&real), "{name} by HTTP");
        let data = read_request(tftp, name);
        assert_eq!((&data[..4], &data[4..]), (&[0, 3, 0, 1][..], &real[..512]), "{name} by TFTP");
    }
    for name in
        ["pxelinux.0", "boot/hdt.c32", "boot/lpxelinux.0", "usr/lib/shim/shimx64.efi.signed"]
    {
        assert_eq!(read_request(tftp, name)[..4], [0, 5, 0, 1], "{name} is not on the list");
    }
    assert!(server.stop(LIMIT).success());
    let log = server.stderr.text();
    assert!(log.contains("boot/pxelinux.0 is served from /usr/lib/PXELINUX/pxelinux.0"), "{log}");
}

/// Trees with links of all kinds, made by chance: for each name the verdict of `check` is the
/// answer of the server, by HTTP and by TFTP.
#[test]
fn k4_what_check_says_of_a_name_is_what_the_server_does() {
    let (mut served, mut refused) = (0, 0);
    for seed in 1..=4 {
        let mut random = TreeRandom(seed);
        let scratch = Scratch::new(&format!("verdict-{seed}"));
        let names = make_random_tree(&mut random, scratch.path());
        let mut more = String::from("[links]\nallow = [\"OUTSIDE\"]\n[menu]\n")
            .replace("OUTSIDE", &scratch.path().join("allowed").to_string_lossy());
        for (number, name) in names.iter().enumerate() {
            // A hidden name has no clean spelling: the configuration names it as it is.
            let clean = clean_path_name(name.as_bytes());
            let clean = clean.map_or(name.clone(), |clean| clean.display().into_owned());
            more += &format!("[[menu.entry]]\nlabel = \"e{number}.\"\nkernel = \"{clean}\"\n");
        }
        let file = configured(&scratch, &more);
        let said = check(&file, &[]).stdout;
        let mut command = ringboot(&["serve", "--config"]);
        command.arg(&file);
        let (server, tftp, http) = serve(command);
        for (number, name) in names.iter().enumerate() {
            let finding = said.lines().find(|line| line.contains(&format!("`e{number}.`")));
            let by_http = get(http, &format!("/{name}")).starts_with(b"HTTP/1.0 200 ");
            let by_tftp = read_request(tftp, name)[..2] == [0, 3];
            assert_eq!(by_http, by_tftp, "seed {seed}: {name}");
            assert_eq!(by_http, finding.is_none(), "seed {seed}: {name}: {finding:?}\n{said}");
            (served, refused) = if by_http { (served + 1, refused) } else { (served, refused + 1) };
        }
        server.signal("TERM");
    }
    assert!(served > 100 && refused > 100, "{served} served, {refused} refused");
}

/// xorshift, 64 bits.
struct TreeRandom(u64);

impl TreeRandom {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % bound as u64).unwrap()
    }

    fn choose<'a, T>(&mut self, among: &'a [T]) -> &'a T {
        &among[self.below(among.len())]
    }
}

/// Fills `root`, `allowed` and `outside` in a directory. Returns names under the root to ask for.
fn make_random_tree(random: &mut TreeRandom, directory: &Path) -> Vec<String> {
    const PARTS: [&str; 8] =
        ["images", "el9", ".treeinfo", ".disk", ".git", "k", "pxelinux.cfg", ".ks.cfg.swp"];
    let mut directories: Vec<PathBuf> =
        ["root", "allowed", "outside", "root"].map(|name| directory.join(name)).into();
    directories.iter().for_each(|path| fs::create_dir_all(path).unwrap());
    let mut made = directories.clone();
    for _ in 0..60 {
        let path = random.choose(&directories).join(random.choose(&PARTS));
        if fs::symlink_metadata(&path).is_ok() {
            continue;
        }
        match random.below(6) {
            0 | 1 => fs::create_dir(&path).unwrap(),
            // Small files and mapped ones.
            2 => fs::write(&path, [b"MZ", &[0; 100][..]].concat()).unwrap(),
            3 => fs::write(&path, [b"MZ", &[0; 100_000][..]].concat()).unwrap(),
            kind => {
                let target = random.choose(&made).clone();
                let up =
                    "../".repeat(path.strip_prefix(directory).unwrap().components().count() - 1);
                let relative = Path::new(&up).join(target.strip_prefix(directory).unwrap());
                let target = if kind == 4 { target } else { relative };
                std::os::unix::fs::symlink(target, &path).unwrap();
            }
        }
        if path.is_dir() {
            directories.push(path.clone());
        }
        made.push(path);
    }

    let mut names = Vec::new();
    while names.len() < 100 {
        // From the tree, or any; some with `.` and `..` between their parts.
        let below: Vec<&str> = made
            .iter()
            .filter_map(|path| path.strip_prefix(directory.join("root")).ok()?.to_str())
            .collect();
        let mut name = random.choose(&below).trim_matches('/').to_owned();
        for _ in 0..random.below(3) {
            name = match random.below(4) {
                0 => format!("{name}/{}", random.choose(&PARTS)),
                1 => format!("{}/../{name}", random.choose(&PARTS)),
                2 => format!("./{name}"),
                _ => format!("{name}/../{}", random.choose(&PARTS)),
            };
        }
        // A configuration names neither the root nor anything with `..` in it.
        let is_nameable = match clean_path_name(name.as_bytes()) {
            Ok(clean) => !clean.as_bytes().is_empty(),
            Err(_) => !name.contains(".."),
        };
        if is_nameable {
            names.push(name);
        }
    }
    names
}

#[test]
fn the_configuration_the_state_and_what_only_its_owner_may_read_stay_private() {
    let scratch = Scratch::new("serve-private");
    let root = scratch.path();
    fs::write(root.join("ringboot.toml"), "root = \".\"\nstate = \"state\"\n").unwrap();
    fs::create_dir(root.join("state")).unwrap();
    fs::write(root.join("state/ringboot.db"), "leases").unwrap();
    std::os::unix::fs::symlink("state", root.join("alias")).unwrap();
    fs::write(root.join("plain"), "plain").unwrap();
    fs::hard_link(root.join("plain"), root.join("plain-too")).unwrap();
    fs::hard_link(root.join("ringboot.toml"), root.join("second-name")).unwrap();
    fs::hard_link(root.join("state/ringboot.db"), root.join("leases")).unwrap();
    fs::write(root.join("owner"), "owner").unwrap();
    fs::set_permissions(root.join("owner"), fs::Permissions::from_mode(0o600)).unwrap();
    let mut command = ringboot(&["serve", "--config"]);
    command.arg(root.join("ringboot.toml"));
    let (mut server, tftp, http) = serve(command);
    assert_eq!(read_request(tftp, "plain"), b"\0\x03\0\x01plain");
    assert_eq!(read_request(tftp, "plain-too"), b"\0\x03\0\x01plain");
    let is_root =
        fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0);
    // First: the log has so many lines of one machine in a second, and no more.
    if is_root {
        assert_eq!(read_request(tftp, "owner")[..4], [0, 5, 0, 2]);
        assert!(get(http, "/owner").starts_with(b"HTTP/1.0 403 "));
    }
    for name in ["ringboot.toml", "state/ringboot.db", "alias/ringboot.db", "second-name", "leases"]
    {
        assert_eq!(read_request(tftp, name)[..4], [0, 5, 0, 2], "{name}");
        assert!(get(http, &format!("/{name}")).starts_with(b"HTTP/1.0 404 "), "{name}");
    }
    assert!(server.stop(LIMIT).success());
    let log = server.stderr.text();
    assert!(
        !is_root || log.contains("owner: not every user may read the file: `chmod o+r`"),
        "{log}"
    );
}

/// The configuration lies outside the root, where its path alone would need no guard.
#[test]
fn a_hard_link_from_the_root_to_the_configuration_beside_it_is_not_served() {
    let scratch = Scratch::new("serve-hard-link");
    let file = configured(&scratch, "");
    let link = scratch.path().join("root/link");
    fs::hard_link(&file, &link).unwrap();
    let mut command = ringboot(&["serve", "--config"]);
    command.arg(&file);
    let (mut server, tftp, http) = serve(command);
    assert_eq!(read_request(tftp, "link")[..4], [0, 5, 0, 2]);
    assert!(get(http, "/link").starts_with(b"HTTP/1.0 404 "));
    // An editor writes a new file: now the old one is anybody's.
    fs::write(scratch.path().join("new"), fs::read(&file).unwrap()).unwrap();
    fs::rename(scratch.path().join("new"), &file).unwrap();
    assert_eq!(read_request(tftp, "link")[..4], [0, 3, 0, 1]);
    assert!(server.stop(LIMIT).success());
}

#[test]
fn a_state_directory_that_is_mounted_under_the_root_too_is_not_served() {
    let scratch = Scratch::new("mounted-state");
    let file = configured(&scratch, "");
    for (name, content) in [("state/l.db", "secret"), ("root/bind/none", ""), ("root/k", "kernel")]
    {
        let path = scratch.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-c"]);
    command.arg("mount --bind \"$1/state\" \"$1/root/bind\" && shift && exec \"$@\"").arg("sh");
    command.arg(scratch.path()).arg(BINARY).args(["serve", "--config"]).arg(&file);
    let (server, tftp, http) = serve(command);
    assert!(get(http, "/bind/l.db").starts_with(b"HTTP/1.0 404 "));
    assert_eq!(read_request(tftp, "bind/l.db")[..4], [0, 5, 0, 2]);
    assert!(get(http, "/bind/none").starts_with(b"HTTP/1.0 404 "), "covered by the mount");
    assert!(get(http, "/k").starts_with(b"HTTP/1.0 200 "));
    server.signal("TERM");
}

#[test]
fn state_and_database_are_the_owners_alone_whatever_the_umask() {
    let scratch = Scratch::new("serve-umask");
    let port = common::free_port().port();
    let file = configured(
        &scratch,
        &format!(
            "[dhcp]\nlisten-address = \"127.0.0.1\"\nlisten-port = {port}\n[[dhcp.subnet]]\nsubnet \
             = \"127.77.0.0/16\"\n\
             relay = true\nmode = \"server\"\npools = [\"127.77.1.1-127.77.1.9\"]\n"
        ),
    );
    let mut command = Command::new("sh");
    command.args(["-c", "umask 000; exec \"$@\"", "sh", BINARY, "serve", "--config"]).arg(&file);
    let (mut server, ..) = serve(command);
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let state = scratch.path().join("state");
    assert_eq!(mode(&state), 0o700);
    let names: Vec<PathBuf> =
        fs::read_dir(&state).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(names.iter().any(|name| name.ends_with("ringboot.db-wal")), "{names:?}");
    for name in &names {
        assert_eq!(mode(name), 0o600, "{}", name.display());
    }
    assert!(server.stop(LIMIT).success());
}

#[test]
fn the_start_log_and_check_name_a_menu_by_hand_that_wipes_disks() {
    let scratch = Scratch::new("check-classic");
    let file = configured(&scratch, "");
    let menu = scratch.path().join("root/pxelinux.cfg/default");
    fs::create_dir_all(menu.parent().unwrap()).unwrap();
    fs::write(&menu, CLASSIC).unwrap();
    let words =
        "pxelinux.cfg/default:11: the default entry `linux` of this menu INSTALLS BY ITSELF";
    let output = check(&file, &[]).ok();
    assert!(
        output.stdout.contains("warning: ") && output.stdout.contains(words),
        "{}",
        output.stdout
    );
    let mut command = ringboot(&["serve", "--config"]);
    command.arg(&file);
    let (mut server, _, http) = serve(command);
    assert!(get(http, "/pxelinux.cfg/default").ends_with(CLASSIC.as_bytes()), "served as it is");
    assert!(server.stop(LIMIT).success());
    let log = server.stderr.text();
    assert!(log.contains("WARN") && log.contains(words), "{log}");
}

#[test]
fn loader_list_knows_versions_signatures_and_packages() {
    common::need(&[
        ("/usr/lib/PXELINUX/pxelinux.0", "pxelinux"),
        ("/usr/lib/shim/shimx64.efi.signed", "shim-signed"),
        ("/usr/lib/ipxe/ipxe.efi", "ipxe"),
    ]);
    let table = run(ringboot(&["loader", "list"]), LIMIT).ok().stdout;
    let line = |path: &str| {
        table.lines().find(|line| line.ends_with(path)).unwrap_or_else(|| panic!("{path}: {table}"))
    };
    assert!(line("/usr/lib/PXELINUX/pxelinux.0").contains("PXELINUX 6."));
    let shim: Vec<&str> = line("/usr/lib/shim/shimx64.efi.signed").split_whitespace().collect();
    assert!(
        shim.contains(&"uefi-x64")
            && shim.contains(&"signed")
            && shim[2..4].join(" ").contains("shim 1"),
        "{shim:?}"
    );
    assert!(
        line("/usr/lib/ipxe/ipxe.efi").contains("iPXE 1.")
            && line("/usr/lib/ipxe/ipxe.efi").contains("unsigned")
    );
    assert!(table.contains("uefi-ia32   none found; packages: "), "{table}");
    let json = run(ringboot(&["loader", "list", "--json"]), LIMIT).ok().stdout;
    assert!(
        json.contains("\"name\": \"pxelinux.0\"") && json.contains("\"signed\": true"),
        "{json}"
    );
    assert!(json.contains("\"key\": \"uefi-ia32\",\n      \"packages\":"), "{json}");
}
