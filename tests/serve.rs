//! `ringboot serve` as an operator starts it: on loopback ports, without root, from READY to the
//! exit code.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

mod common;

use common::Scratch;
use common::process::{Process, run};

const LIMIT: Duration = Duration::from_secs(20);

/// A server on free loopback ports, and where it answers.
struct Served {
    process: Process,
    tftp: Vec<SocketAddr>,
    http: Vec<SocketAddr>,
}

impl Served {
    fn root(root: &Path, more: &[&str]) -> Self {
        let mut command = ringboot(&["serve", "--root"]);
        command.arg(root).args(["--tftp", "127.0.0.1:0", "--tftp", "[::1]:0"]);
        command.args(["--http", "127.0.0.1:0", "--http", "[::1]:0"]).args(more);
        Self::of(command)
    }

    fn of(command: Command) -> Self {
        let process = Process::start(command);
        let find =
            |text: &String| text.lines().find(|line| line.starts_with("READY")).map(str::to_owned);
        let ready = process
            .stdout
            .wait_for(LIMIT, find)
            .unwrap_or_else(|why| panic!("{why:?}: {}", process.stderr.text()));
        let addresses = |key: &str| {
            let word = ready
                .split_whitespace()
                .find_map(|word| word.strip_prefix(key))
                .unwrap_or_default();
            word.split(',').filter_map(|address| address.parse().ok()).collect::<Vec<SocketAddr>>()
        };
        Self { tftp: addresses("tftp="), http: addresses("http="), process }
    }

    fn stop(mut self) -> String {
        let status = self.process.stop(LIMIT);
        let log = self.process.stderr.text();
        assert!(status.success(), "{status}: {log}");
        log
    }
}

fn ringboot(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringboot"));
    command.args(arguments);
    command
}

/// One datagram to the server and its answer.
fn ask(socket: &UdpSocket, to: SocketAddr, request: &[u8]) -> (Vec<u8>, SocketAddr) {
    socket.set_read_timeout(Some(LIMIT)).unwrap();
    socket.send_to(request, to).unwrap();
    let mut bytes = [0; 2000];
    let (len, from) = socket.recv_from(&mut bytes).unwrap();
    (bytes[..len].to_vec(), from)
}

fn client_for(server: SocketAddr) -> UdpSocket {
    UdpSocket::bind(if server.is_ipv4() { "127.0.0.1:0" } else { "[::1]:0" }).unwrap()
}

#[test]
fn a_root_is_served_over_both_protocols_and_both_families() {
    let scratch = Scratch::new("serve-root");
    fs::write(scratch.path().join("hello.txt"), b"hello\n").unwrap();
    let served = Served::root(scratch.path(), &["--no-dhcp"]);
    assert_eq!((served.tftp.len(), served.http.len()), (2, 2));
    for &address in &served.tftp {
        let client = client_for(address);
        let (data, tid) = ask(&client, address, b"\0\x01hello.txt\0octet\0");
        assert_eq!(data, b"\0\x03\0\x01hello\n");
        assert_ne!(tid.port(), address.port());
        assert_eq!(tid.ip(), address.ip(), "answered from the address that was asked");
        client.send_to(b"\0\x04\0\x01", tid).unwrap();
    }
    for &address in &served.http {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        stream.write_all(b"GET /hello.txt HTTP/1.0\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(
            answer.starts_with("HTTP/1.")
                && answer.contains(" 200 ")
                && answer.ends_with("\r\n\r\nhello\n"),
            "{answer}"
        );
    }
    let log = served.stop();
    assert!(log.contains("this server answers no DHCP"), "{log}");
}

/// A mapping and a connection hold a descriptor each: 1,024, the usual soft limit, are fewer than
/// one server may need.
#[test]
fn the_limit_of_open_files_is_raised_to_what_is_allowed() {
    let scratch = Scratch::new("serve-files");
    let mut command = Command::new("sh");
    command.args([
        "-c",
        "ulimit -S -n 256; exec \"$@\"",
        "sh",
        env!("CARGO_BIN_EXE_ringboot"),
        "serve",
        "--root",
    ]);
    command.arg(scratch.path()).args(["--tftp", "127.0.0.1:0", "--http", "127.0.0.1:0"]);
    let served = Served::of(command);
    let limits = fs::read_to_string(format!("/proc/{}/limits", served.process.pid())).unwrap();
    let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    let numbers: Vec<&str> = line.split_whitespace().skip(3).take(2).collect();
    assert_eq!(numbers[0], numbers[1], "{line}");
    served.stop();
}

#[test]
fn t46_successive_transfers_of_one_endpoint_come_from_different_ports() {
    let scratch = Scratch::new("serve-tids");
    fs::write(scratch.path().join("a"), b"a").unwrap();
    let served = Served::root(scratch.path(), &[]);
    let client = client_for(served.tftp[0]);
    let mut last = None;
    for _ in 0..8 {
        let (data, tid) = ask(&client, served.tftp[0], b"\0\x01a\0octet\0");
        assert_eq!(data, b"\0\x03\0\x01a");
        assert_ne!(Some(tid.port()), last);
        client.send_to(b"\0\x04\0\x01", tid).unwrap();
        last = Some(tid.port());
    }
    served.stop();
}

#[test]
fn h9_a_kept_connection_answers_request_after_request() {
    let scratch = Scratch::new("serve-kept");
    fs::write(scratch.path().join("a"), b"a\n").unwrap();
    let served = Served::root(scratch.path(), &[]);
    let mut stream = TcpStream::connect(served.http[0]).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    for request in 1..=4 {
        stream.write_all(b"GET /a HTTP/1.1\r\nHost: a\r\nConnection: keep-alive\r\n\r\n").unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\na\n") {
            let mut octet = [0];
            stream
                .read_exact(&mut octet)
                .unwrap_or_else(|error| panic!("request {request}: {error}"));
            answer.extend_from_slice(&octet);
        }
    }
    let log = served.stop();
    assert!(!log.contains("panicked"), "{log}");
}

#[test]
fn sigterm_lets_a_running_transfer_finish_and_takes_no_new_one() {
    let scratch = Scratch::new("serve-drain");
    fs::write(scratch.path().join("two"), vec![7; 700]).unwrap();
    let mut served = Served::root(scratch.path(), &[]);
    let client = client_for(served.tftp[0]);
    let (first, tid) = ask(&client, served.tftp[0], b"\0\x01two\0octet\0");
    assert_eq!(first.len(), 516);
    served.process.signal("TERM");
    served.process.stderr.wait_line("stopping", LIMIT);
    let late = client_for(served.tftp[0]);
    late.send_to(b"\0\x01two\0octet\0", served.tftp[0]).unwrap();
    let (last, _) = ask(&client, tid, b"\0\x04\0\x01");
    assert_eq!(last.len(), 4 + 188);
    client.send_to(b"\0\x04\0\x02", tid).unwrap();
    let status = served.process.wait(LIMIT).expect("it drains");
    assert!(status.success(), "{status}");
    late.set_nonblocking(true).unwrap();
    assert!(late.recv_from(&mut [0; 600]).is_err(), "nothing new is begun");
}

#[test]
fn threads_stay_inside_the_inherited_affinity_mask() {
    common::need(&[("taskset", "util-linux")]);
    let scratch = Scratch::new("serve-mask");
    let mut command = Command::new("taskset");
    command
        .args(["-c", "0", env!("CARGO_BIN_EXE_ringboot"), "serve", "--root"])
        .arg(scratch.path());
    command.args(["--tftp", "127.0.0.1:0", "--http", "127.0.0.1:0"]);
    let served = Served::of(command);
    let tasks = fs::read_dir(format!("/proc/{}/task", served.process.pid())).unwrap();
    let mut seen = 0;
    for task in tasks {
        let status = fs::read_to_string(task.unwrap().path().join("status")).unwrap();
        let mask = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).unwrap();
        assert_eq!(mask.trim(), "0", "{status}");
        seen += 1;
    }
    assert!(seen >= 4, "{seen} threads");
    served.stop();
}

#[test]
fn a_busy_port_is_named_with_its_holder_and_nothing_is_served() {
    let scratch = Scratch::new("serve-busy");
    let holder = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = holder.local_addr().unwrap().to_string();
    let mut command = ringboot(&["serve", "--tftp", "127.0.0.1:0", "--http", &address, "--root"]);
    command.arg(scratch.path());
    let output = run(command, LIMIT).failed();
    assert_eq!(output.status.code(), Some(1));
    let pid = format!("(pid {})", std::process::id());
    assert!(output.stderr.contains(&format!("cannot bind HTTP to {address}")), "{}", output.stderr);
    assert!(output.stderr.contains(&pid), "{}", output.stderr);
    assert!(!output.stdout.contains("READY"));
}

#[test]
fn a_kernel_that_refuses_a_ring_that_must_be_gets_a_clear_sentence_and_nothing_is_bound() {
    common::need(&[("strace", "strace")]);
    let scratch = Scratch::new("serve-no-ring");
    fs::create_dir(scratch.path().join("root")).unwrap();
    let file = scratch.path().join("ringboot.toml");
    fs::write(
        &file,
        "root = \"root\"\n[server]\nuser = \"root\"\n[tuning]\ndatapath = \"io_uring\"\n",
    )
    .unwrap();
    for (error, words) in [
        ("EPERM", "kernel.io_uring_disabled"),
        ("ENOSYS", "needs Linux 6.0"),
        ("ENOMEM", "RLIMIT_MEMLOCK"),
    ] {
        let mut command = Command::new("strace");
        command.args(["-f", "-o"]).arg(scratch.path().join("trace"));
        command.args([
            "-e",
            "trace=io_uring_setup,bind",
            "-e",
            &format!("inject=io_uring_setup:error={error}"),
        ]);
        command.args([
            env!("CARGO_BIN_EXE_ringboot"),
            "serve",
            "--tftp",
            "127.0.0.1:0",
            "--http",
            "127.0.0.1:0",
            "--config",
        ]);
        command.arg(&file);
        let output = run(command, LIMIT).failed();
        assert!(output.stderr.contains(words), "{error}: {}", output.stderr);
        let trace = fs::read_to_string(scratch.path().join("trace")).unwrap();
        assert!(!trace.contains("AF_INET"), "{trace}");
    }
}

/// dnsmasq tells what it knows on SIGUSR1, and nginx opens its logs anew: whoever comes from there
/// must not end this server.
#[test]
fn signals_of_other_servers_end_nothing() {
    let scratch = Scratch::new("serve-signals");
    fs::write(scratch.path().join("x"), "x").unwrap();
    let served = Served::root(scratch.path(), &[]);
    for signal in ["USR1", "USR2", "PIPE"] {
        served.process.signal(signal);
        assert_eq!(fetch(&served, "x").unwrap(), "x", "{signal}");
    }
    served.process.stderr.wait_line("`ringboot status` tells what runs", LIMIT);
    served.stop();
}

#[test]
fn usage_and_configuration_errors_exit_with_2() {
    let scratch = Scratch::new("serve-usage");
    let missing = scratch.path().join("missing.toml");
    let mut command = ringboot(&["serve", "--config"]);
    command.arg(&missing);
    assert_eq!(run(command, LIMIT).status.code(), Some(2));
    let wrong = scratch.path().join("wrong.toml");
    fs::write(&wrong, "root = \"/srv\"\nrooot = 1\n[tftp]\nlisten = [\"nowhere\"]\n").unwrap();
    let mut command = ringboot(&["serve", "--config"]);
    command.arg(&wrong);
    let output = run(command, LIMIT);
    assert_eq!(output.status.code(), Some(2));
    for words in ["wrong.toml:2:1:", "wrong.toml:4:11:", "hint:"] {
        assert!(output.stderr.contains(words), "{words}: {}", output.stderr);
    }
    assert_eq!(run(ringboot(&["serve", "--workers", "0"]), LIMIT).status.code(), Some(2));
    let no_root = run(
        ringboot(&[
            "serve",
            "--root",
            "/nonexistent-root",
            "--tftp",
            "127.0.0.1:0",
            "--http",
            "127.0.0.1:0",
        ]),
        LIMIT,
    );
    assert!(no_root.stderr.contains("/nonexistent-root"), "{}", no_root.stderr);
}

#[test]
fn t31_a_file_cut_short_under_a_transfer_ends_that_transfer_and_not_the_server() {
    let scratch = Scratch::new("serve-truncate");
    let file = scratch.path().join("image");
    fs::write(&file, vec![7; 300_000]).unwrap();
    fs::write(scratch.path().join("other"), b"x").unwrap();
    let served = Served::root(scratch.path(), &[]);
    let client = client_for(served.tftp[0]);
    let (first, tid) = ask(&client, served.tftp[0], b"\0\x01image\0octet\0");
    assert_eq!(first.len(), 516);
    fs::OpenOptions::new().write(true).open(&file).unwrap().set_len(10).unwrap();
    // The rest of the page that is left reads as zeros; the next page is gone. Either way the
    // transfer never completes.
    let mut answer = first;
    for block in 1..=600u16 {
        (answer, _) = ask(&client, tid, &[&[0, 4][..], &block.to_be_bytes()].concat());
        if answer[1] == 5 {
            break;
        }
        assert_eq!(answer.len(), 516, "a whole block, so the client goes on");
    }
    assert_eq!(answer[..4], [0, 5, 0, 0]);
    let other = client_for(served.tftp[0]);
    assert_eq!(ask(&other, served.tftp[0], b"\0\x01other\0octet\0").0, b"\0\x03\0\x01x");
    let log = served.stop();
    assert!(log.contains("changed in place"), "{log}");
}

#[test]
fn t54_a_missing_file_gets_error_1_at_once_and_path_tricks_get_error_2() {
    let scratch = Scratch::new("serve-paths");
    fs::create_dir(scratch.path().join("root")).unwrap();
    fs::write(scratch.path().join("secret"), b"secret").unwrap();
    fs::write(scratch.path().join("root/.netrc"), b"secret").unwrap();
    std::os::unix::fs::symlink("../secret", scratch.path().join("root/link")).unwrap();
    run(command("mkfifo", &[scratch.path().join("root/fifo").to_str().unwrap()]), LIMIT).ok();
    let served = Served::root(&scratch.path().join("root"), &[]);
    for (name, code) in [
        ("nothing", 1u8),
        ("../secret", 2),
        ("a/../../secret", 2),
        ("..\\secret", 2),
        ("link", 2),
        ("fifo", 2),
        (".netrc", 2),
        ("", 1),
        ("/", 2),
        ("a\nb", 2),
        ("%2e%2e/secret", 1),
    ] {
        let client = client_for(served.tftp[0]);
        let started = Instant::now();
        let request = [b"\0\x01", name.as_bytes(), b"\0octet\0"].concat();
        let (answer, _) = ask(&client, served.tftp[0], &request);
        assert_eq!(answer[..4], [0, 5, 0, code], "{name:?}");
        assert!(started.elapsed() < Duration::from_secs(2));
        let text = String::from_utf8_lossy(&answer[4..]).into_owned();
        assert!(text.ends_with('\0') && !text.contains("secret") && !text.contains('/'), "{text}");
    }
    served.stop();
}

fn command(program: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(arguments);
    command
}

/// A server with a configuration of its own: a root directory, free ports, and these lines.
fn configured(scratch: &Scratch, more: &str) -> Served {
    let root = scratch.path().join("root");
    fs::create_dir_all(&root).unwrap();
    // What the menu below names: a configuration that names what is not there does not start.
    for name in ["linux", "initrd.gz"] {
        fs::write(root.join(name), name).unwrap();
    }
    let file = scratch.path().join("ringboot.toml");
    fs::write(
        &file,
        format!(
            "root = \"root\"\nstate = \"state\"\n[server]\nadmin-socket = \"\"\nuser = \
                 \"root\"\n{more}"
        ),
    )
    .unwrap();
    let mut command =
        ringboot(&["serve", "--tftp", "127.0.0.1:0", "--http", "127.0.0.1:0", "--config"]);
    command.arg(&file);
    Served::of(command)
}

/// A whole small file by TFTP; Err = the code of the ERROR.
fn fetch(served: &Served, name: &str) -> Result<String, u8> {
    let client = client_for(served.tftp[0]);
    let request = [b"\0\x01", name.as_bytes(), b"\0octet\0blksize\x001400\0"].concat();
    let (first, tid) = ask(&client, served.tftp[0], &request);
    if first[1] == 5 {
        return Err(first[3]);
    }
    let mut text = Vec::new();
    for block in 0..=u16::MAX {
        let (data, _) = ask(&client, tid, &[&[0, 4][..], &block.to_be_bytes()].concat());
        text.extend_from_slice(&data[4..]);
        if data.len() < 1404 {
            client.send_to(&[&[0, 4][..], &(block + 1).to_be_bytes()].concat(), tid).unwrap();
            break;
        }
    }
    Ok(String::from_utf8(text).unwrap())
}

const MENU: &str = "[menu]\ntitle = \"Rack\"\ndefault = \"install\"\n[[menu.entry]]\nlabel = \
                    \"install\"\n\
                    title = \"Install\"\nkernel = \"linux\"\ninitrd = \"initrd.gz\"\narguments = \
                    \"inst.ks=http://192.0.2.1/ks.cfg\"\n";

#[test]
fn b1_menus_are_rendered_under_the_names_that_loaders_search_and_boot_the_disk_by_default() {
    let scratch = Scratch::new("serve-menus");
    let served = configured(&scratch, MENU);
    for name in [
        "pxelinux.cfg/01-52-54-00-12-34-10",
        "pxelinux.cfg/default",
        "//sub\\pxelinux.cfg\\default",
    ] {
        let menu = fetch(&served, name).unwrap();
        assert!(menu.contains("DEFAULT local") && menu.contains("LABEL install"), "{menu}");
    }
    for name in ["grub.cfg-01-52-54-00-12-34-10", "/debian-installer/amd64/grub/grub.cfg"] {
        let menu = fetch(&served, name).unwrap();
        assert!(menu.contains("set default=0") && menu.contains("--id install"), "{menu}");
    }
    assert!(fetch(&served, "boot.ipxe").unwrap().starts_with("#!ipxe\n"));
    for missing in [
        "pxelinux.cfg/33221100-5544-7766-8899-aabbccddee00",
        "pxelinux.cfg/C0A8041A",
        "pxelinux.cfg/C",
        "x.cfg",
    ] {
        assert_eq!(fetch(&served, missing), Err(1), "{missing}");
    }
    served.stop();
}

#[test]
fn a_file_of_that_name_wins_over_the_rendered_menu_and_a_general_one_governs_its_directory() {
    let scratch = Scratch::new("serve-static-menus");
    let old = scratch.path().join("root/old/pxelinux.cfg");
    fs::create_dir_all(&old).unwrap();
    fs::write(old.join("default"), "DEFAULT old\n").unwrap();
    fs::create_dir_all(scratch.path().join("root/pxelinux.cfg")).unwrap();
    fs::write(scratch.path().join("root/pxelinux.cfg/01-52-54-00-12-34-10"), "DEFAULT mine\n")
        .unwrap();
    let served = configured(&scratch, MENU);
    assert_eq!(fetch(&served, "pxelinux.cfg/01-52-54-00-12-34-10").unwrap(), "DEFAULT mine\n");
    assert!(
        fetch(&served, "pxelinux.cfg/01-52-54-00-12-34-11")
            .unwrap()
            .contains("rendered by ringboot")
    );
    assert_eq!(fetch(&served, "old/pxelinux.cfg/default").unwrap(), "DEFAULT old\n");
    assert_eq!(
        fetch(&served, "old/pxelinux.cfg/01-52-54-00-12-34-11"),
        Err(1),
        "so that PXELINUX comes to `default`"
    );
    fs::remove_file(old.join("default")).unwrap();
    assert!(
        fetch(&served, "old/pxelinux.cfg/default").unwrap().contains("rendered by ringboot"),
        "seen by the next request"
    );
    served.stop();
}

#[test]
fn a_template_is_served_as_what_it_renders_to_and_never_as_it_is() {
    let scratch = Scratch::new("serve-templates");
    fs::create_dir_all(scratch.path().join("root")).unwrap();
    fs::write(scratch.path().join("root/anybody.cfg.j2"), "server {{ server }}\n").unwrap();
    fs::write(scratch.path().join("root/machine.cfg.j2"), "first line\nmac {{ mac }}\n").unwrap();
    fs::write(scratch.path().join("root/wrong.cfg.j2"), "{{ nonsense }}\n").unwrap();
    let served = configured(&scratch, "");
    assert_eq!(fetch(&served, "anybody.cfg").unwrap(), "server 127.0.0.1\n");
    assert_eq!(fetch(&served, "anybody.cfg.j2"), Err(1));
    assert_eq!(fetch(&served, "machine.cfg"), Err(0));
    assert_eq!(fetch(&served, "wrong.cfg"), Err(0));
    let log = served.stop();
    for words in ["machine.cfg.j2:2:", "127.0.0.1 holds no lease", "wrong.cfg.j2:1:"] {
        assert!(log.contains(words), "{words}: {log}");
    }
}

#[test]
fn the_start_log_warns_of_a_subnet_whose_machines_install_by_themselves() {
    let scratch = Scratch::new("serve-warning");
    let port = client_for(([127, 0, 0, 1], 0).into()).local_addr().unwrap().port();
    let subnet = |install: bool| {
        format!(
            "[dhcp]\nlisten-address = \"127.0.0.1\"\nlisten-port = {port}\n[[dhcp.subnet]]\nsubnet \
             = \"127.77.0.0/16\"\n\
             relay = true\nmode = \"server\"\npools = \
             [\"127.77.1.1-127.77.1.9\"]\ninstall-by-default = {install}\n{MENU}"
        )
    };
    let log = configured(&scratch, &subnet(true)).stop();
    assert!(log.contains("WARN") && log.contains("127.77.0.0/16 INSTALLS BY ITSELF"), "{log}");
    let log = configured(&scratch, &subnet(false)).stop();
    assert!(!log.contains("INSTALLS BY ITSELF") && log.contains("DHCP on 127.77.0.0/16"), "{log}");
}

#[test]
fn systemd_is_told_when_every_socket_answers_and_when_it_ends() {
    let scratch = Scratch::new("serve-notify");
    let socket = std::os::unix::net::UnixDatagram::bind(scratch.path().join("notify")).unwrap();
    socket.set_read_timeout(Some(LIMIT)).unwrap();
    let mut command =
        ringboot(&["serve", "--tftp", "127.0.0.1:0", "--http", "127.0.0.1:0", "--root"]);
    command.arg(scratch.path()).env("NOTIFY_SOCKET", scratch.path().join("notify"));
    let served = Served::of(command);
    let hear = || {
        let mut bytes = [0; 200];
        let len = socket.recv(&mut bytes).unwrap();
        String::from_utf8_lossy(&bytes[..len]).into_owned()
    };
    assert!(hear().contains("READY=1"));
    served.stop();
    assert!(hear().contains("STOPPING=1"));
}
